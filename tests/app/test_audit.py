"""An audit reproduces whatever a worker journaled, and names what was tampered with first.

The live side is a flow over records in memory, in any batches and any order, that is asked to
evaluate at moments of its own; the audit reads the same records from other sources, in log order.
"""

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count

import pytest

from monitor.adapters.history import HistoryLog
from monitor.adapters.memory import MemoryStore
from monitor.app.audit import (
    Ballot,
    Case,
    Verification,
    document_of,
    entry_of,
    explained,
    is_raised,
    lines_of,
    told_of,
    verify,
)
from monitor.app.audit_run import Known, head_differs
from monitor.app.flow import Flow, Limits
from monitor.app.settings import Settings
from monitor.app.wiring import codec_of, provenance_of, settings_of, spec_of
from monitor.codec.journal import chain_of_lines, pack_journal_entry, sealed
from monitor.domain.alerts import Status, Transition
from monitor.domain.cut import Cut
from monitor.domain.engine import Changes
from monitor.domain.errors import NotVerifiable
from monitor.domain.events import Partition, Record
from monitor.domain.journal import JournalEntry
from monitor.domain.votes import Vote
from tests.adapters.histories import ListSource
from tests.replay.streams import (
    SCENARIO,
    SETTINGS,
    T0_MS,
    Pick,
    PickedLog,
    at_random,
    by_key,
    simulated,
)

STRICTER = Settings.model_validate(
    {
        **SETTINGS.model_dump(mode="json", include={"intents", "slices", "verdict"}),
        "rules": [
            {
                "name": "urgent-recall",
                "of": "urgent",
                "per": ["variant"],
                "objective": 0.95,
                "maturity": "5m",
            }
        ],
    }
)
END_MS = 2**50
"""After everything."""

CHUNK = 97
"""Records that a source hands out at once: no divisor of anything."""


@dataclass(frozen=True)
class Watched:
    """What a live run leaves: the log, the journal as it was published, the store."""

    records: Sequence[Record]
    lines: tuple[bytes, ...]
    stored: Mapping[str, Transition]
    documents: Mapping[str, str]
    base: Settings = SETTINGS

    @property
    def entries(self) -> list[JournalEntry]:
        """The journal, unpacked."""
        return list(chain_of_lines(self.lines).entries)


class Between(MemoryStore):
    """Lets something happen between two commits, when shards stand at different places."""

    between: Callable[[], object] = staticmethod(lambda: None)

    def commit(self, shard: int, expected: Cut, changes: Changes) -> None:
        super().commit(shard, expected, changes)
        self.between()


@cache
def stream() -> Sequence[Record]:
    return simulated(SCENARIO, end_ms=T0_MS)


def any_order(seed: int) -> Pick:
    dice = random.Random(seed)
    return lambda behind: (dice.choice(behind), dice.randint(1, 200))


def flow_on(
    log: PickedLog, store: MemoryStore, settings: Settings, *, batch: int, worker: str = "worker"
) -> Flow:
    limits = Limits(batch_records=batch, votes_at_once=50)
    flow = Flow(spec_of(settings), codec_of(settings), log, store, limits=limits, worker=worker)
    flow.provenance = provenance_of(settings)
    return flow


def live(
    records: Sequence[Record],
    *,
    seed: int,
    shards: int = 1,
    batch: int = 60,
    often: float = 0.4,
    settings: Settings = SETTINGS,
) -> Watched:
    """One worker reads; ``often`` is how likely it evaluates after a turn, or in the midst of it.

    In the midst of it another worker does, that reads nothing.
    """
    dice, store = random.Random(seed), Between(shards, spec_of(SETTINGS).windows.keep_ms)
    reader = flow_on(log := PickedLog(records, any_order(seed)), store, settings, batch=batch)
    idler = flow_on(PickedLog(records, any_order(0)), store, settings, batch=1, worker="idler")

    def interrupt() -> None:
        if dice.random() < often / (2 * shards):
            idler.evaluate()
            idler.resign()

    store.between = interrupt
    while reader.turn().records:
        if dice.random() < often:
            reader.evaluate()
            reader.sweep()
            reader.resign()
    reader.mark_idle(log.at_end())
    reader.evaluate()
    return left_by(records, store)


def left_by(records: Sequence[Record], store: MemoryStore) -> Watched:
    entries = store.journal(limit=100_000)
    return Watched(
        records,
        tuple(map(pack_journal_entry, entries)),
        {transition.id: transition for transition in store.transitions()},
        store.documents(),
    )


@cache
def usual() -> Watched:
    """The run that is tampered with: nothing in it depends on chance."""
    return live(by_key(stream(), 2), seed=3, shards=4)


def log_of(records: Sequence[Record]) -> HistoryLog:
    found: dict[Partition, list[Record]] = {}
    for record in records:
        found.setdefault(Partition(record.topic, record.partition), []).append(record)
    return HistoryLog({p: ListSource(its, chunk=CHUNK) for p, its in found.items()})


def case_of(watched: Watched, **changed: object) -> Case:
    documents = watched.documents
    case = Case(
        chain_of_lines(watched.lines),
        lambda digest: settings_of(documents[digest], watched.base),
        watched.stored,
    )
    return replace(case, **changed)  # type: ignore[arg-type] # the tests' own choice of fields


def audited(watched: Watched, **changed: object) -> Verification:
    return verify(log_of(watched.records), case_of(watched, **changed))


def named(watched: Watched) -> str:
    """The first difference, in words."""
    result = audited(watched)
    assert not result.holds, "it was not noticed"
    return str(result.differences[0])


# Whatever was journaled is reproduced


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shards", [1, 4])
def test_every_digest_is_reproduced_however_the_log_was_read_and_whenever_it_was_evaluated(
    seed: int, shards: int
) -> None:
    partitions, batch = (1, 2, 3, 6)[seed % 4], (7, 60, 400)[seed % 3]
    spread = at_random(stream(), partitions, seed) if seed % 2 else by_key(stream(), partitions)
    watched = live(spread, seed=seed, shards=shards, batch=batch, often=(0.9, 0.3, 0.05)[seed % 3])
    result = audited(watched)
    assert result.differences == []
    entries = watched.entries
    assert result.records == len(spread)
    assert result.entries == len(entries)
    assert result.digests == len(entries) + sum(bool(entry.books) for entry in entries)
    assert result.moved.keys() == watched.stored.keys()
    assert {m.moved_to for m in result.moved.values()} >= {Status.FIRING}
    assert all(entry.inputs for entry in entries if entry.books)


def last_half_first(records: Sequence[Record]) -> list[Record]:
    """In each partition, as if its producers' clocks had been set back in the middle."""
    runs: dict[tuple[str, int], list[Record]] = {}
    for each in records:
        runs.setdefault((each.topic, each.partition), []).append(each)
    return [
        each._replace(offset=offset)
        for run in runs.values()
        for offset, each in enumerate([*run[len(run) // 2 :], *run[: len(run) // 2]])
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_votes_that_come_behind_the_watermark_are_reproduced(seed: int) -> None:
    # Not whenever it is evaluated: what signals have read of an hour before is not read again.
    watched = live(last_half_first(by_key(stream(), 2)), seed=seed, batch=400, often=0.3)
    ticks = [entry.tick_ms for entry in watched.entries]
    assert ticks == sorted(ticks)
    assert len(set(ticks)) < len(ticks)
    assert audited(watched).differences == []


@pytest.mark.parametrize("asked", [1.0, 0.2])
def test_an_audit_keeps_the_ids_that_were_kept_then_whatever_the_share_is_now(
    asked: float,
) -> None:
    half = SETTINGS.model_copy(update={"sampling": 0.5})
    watched = live(by_key(stream(), 2), seed=3, shards=4, settings=half)
    now = SETTINGS.model_copy(update={"sampling": asked})
    result = audited(replace(watched, base=now))
    assert result.differences == []
    assert result.records == len(stream())
    assert {m.moved_to for m in result.moved.values()} >= {Status.FIRING}


def test_an_audit_notices_that_another_share_was_counted_than_the_journal_says() -> None:
    half = SETTINGS.model_copy(update={"sampling": 0.5})
    watched = live(by_key(stream(), 2), seed=3, settings=half)
    told = {
        name: text.replace('"sampling":0.5', '"sampling":0.4')
        for name, text in watched.documents.items()
    }
    assert told != watched.documents
    assert not audited(replace(watched, documents=told)).holds


def test_what_was_evaluated_while_shards_stood_at_different_places_is_reproduced() -> None:
    """Their books are of no one place, and are left out."""
    store, records = Between(4, spec_of(SETTINGS).windows.keep_ms), by_key(stream(), 3)
    reader = flow_on(PickedLog(records, any_order(8)), store, SETTINGS, batch=30)
    idler = flow_on(PickedLog(records, any_order(0)), store, SETTINGS, batch=1, worker="idler")
    commits = count()
    store.between = lambda: idler.evaluate() if next(commits) % 4 == 1 else None
    while reader.turn().records:
        pass
    watched = left_by(records, store)
    assert any(entry.transitions for entry in watched.entries)
    assert not any(entry.books for entry in watched.entries)
    assert audited(watched).differences == []


def test_many_evaluations_of_one_backlog_are_reproduced() -> None:
    """A backlog is released in slices, of which each is an entry, all at one cut."""
    store, records = MemoryStore(1, spec_of(SETTINGS).windows.keep_ms), by_key(stream(), 2)
    flow = flow_on(log := PickedLog(records, any_order(1)), store, SETTINGS, batch=4_000)
    while flow.turn().records:
        pass
    flow.mark_idle(log.at_end())
    flow.evaluate()
    watched = left_by(records, store)
    assert len(watched.entries) > 3
    assert len({entry.cut for entry in watched.entries}) == 1
    assert audited(watched).holds


def changed_half_way(*, read_on: int) -> Watched:
    """A worker is stopped ``read_on`` turns after it evaluated; one with other rules comes."""
    store, records = MemoryStore(2, spec_of(SETTINGS).windows.keep_ms), by_key(stream(), 2)
    first = flow_on(PickedLog(records, any_order(4)), store, SETTINGS, batch=50)
    while (store.evaluation().watermark_ms or 0) < T0_MS - 45 * 60_000:
        first.turn()
        first.evaluate()
    for _ in range(read_on):
        first.turn()
    first.resign()
    second = flow_on(log := PickedLog(records, any_order(5)), store, STRICTER, batch=50)
    second.take_over()
    while second.turn().records:
        second.evaluate()
    second.mark_idle(log.at_end())
    second.evaluate()
    return left_by(records, store)


@pytest.mark.parametrize("read_on", [0, 1, 5])
def test_each_stretch_is_replayed_under_the_settings_of_then(read_on: int) -> None:
    watched = changed_half_way(read_on=read_on)
    under = [entry.settings for entry in watched.entries]
    assert under == sorted(under, key=[*dict.fromkeys(under)].index)
    assert len(set(under)) == 2
    assert audited(watched).differences == []


def test_a_stretch_under_settings_that_were_not_those_of_then_is_named() -> None:
    watched = changed_half_way(read_on=0)
    others = reversed([*watched.documents.values()])
    swapped = dict(zip(watched.documents, others, strict=True))
    assert not audited(replace(watched, documents=swapped)).holds


# An alert's own history


def test_only_the_history_up_to_an_alert_is_replayed_when_one_is_asked_for() -> None:
    watched = usual()
    chain = chain_of_lines(watched.lines)
    first = next(entry for entry in chain.entries if entry.transitions)
    alert = first.transitions[0]
    found, wanted = entry_of(chain, alert)
    assert (found, wanted) == (first, alert)
    result = audited(watched, until=found.sequence)
    assert result.holds
    assert result.entries < len(chain.entries)
    assert result.records < len(watched.records)
    assert alert in result.moved


def test_an_alert_stands_for_its_latest_transition() -> None:
    chain = chain_of_lines(usual().lines)
    *_, last = (i for entry in chain.entries for i in entry.transitions)
    assert entry_of(chain, last.rsplit("-", 1)[0])[1] == last


def test_an_unknown_alert_is_answered_with_those_that_are_known() -> None:
    chain = chain_of_lines(usual().lines)
    with pytest.raises(NotVerifiable, match=r"knows no alert or transition beef; alerts in it: \w"):
        entry_of(chain, "beef")
    with pytest.raises(NotVerifiable, match="alerts in it: none"):
        entry_of(chain_of_lines([]), "beef")


def test_an_unknown_transition_is_answered_with_those_of_its_own_alert_alone() -> None:
    ids = [i for entry in chain_of_lines(usual().lines).entries for i in entry.transitions]
    alert = ids[0].rsplit("-", 1)[0]
    with pytest.raises(NotVerifiable) as refused:
        entry_of(chain_of_lines(usual().lines), f"{alert}-999")
    own = {each for each in ids if each.rsplit("-", 1)[0] == alert}
    _, _, told = str(refused.value).partition("those of the alert: ")
    assert set(told.split(", ")) == own


def test_only_the_transitions_that_were_asked_for_are_told() -> None:
    moved = audited(usual()).moved
    one = next(iter(moved))
    (line,) = told_of(moved.values(), one)
    assert line.startswith(f"{one}: {moved[one].rule}, ")
    alert = one.rsplit("-", 1)[0]
    of_alert = [each for each in moved if each.rsplit("-", 1)[0] == alert]
    assert [line.partition(":")[0] for line in told_of(moved.values(), alert)] == of_alert
    assert told_of(moved.values(), "beef") == []


def test_only_a_range_is_compared_when_one_is_asked_for() -> None:
    watched = usual()
    ticks = [entry.tick_ms for entry in watched.entries]
    start, end = ticks[len(ticks) // 3], ticks[len(ticks) // 2]
    result = audited(watched, from_ms=start, to_ms=end)
    within = [entry for entry in watched.entries if start <= entry.tick_ms <= end]
    assert result.holds
    assert result.digests == len(within) + sum(bool(entry.books) for entry in within)
    assert result.entries == sum(tick <= end for tick in ticks)


def test_the_votes_that_count_as_evidence_are_found_among_those_replayed() -> None:
    watched = usual()
    names = {rule.name for rule in SETTINGS.rules}
    moved = [each for each in watched.stored.values() if each.rule in names]
    raised = [each for each in moved if is_raised(each) and each.evidence]
    assert {each.rule for each in raised} >= {"urgent-recall", "urgent-evidence"}
    for transition in raised:
        votes, evidence = votes_for(watched, transition), transition.evidence
        assert evidence is not None
        assert (len(votes), sum(vote.hit for vote in votes)) == (evidence.n, evidence.hits)
        assert votes[0].event_ms == evidence.since_ms
        assert votes[-1].release_ms == transition.at_ms
        assert {vote.prediction_id for vote in transition.missed} >= {
            vote.prediction_id for vote in votes[-1:] if not vote.hit
        }


def test_other_votes_of_the_same_number_and_hits_are_not_taken_for_the_evidence() -> None:
    watched = usual()
    alarm = fired(watched)
    assert alarm.evidence is not None
    later = replace(alarm, at_ms=END_MS)
    assert votes_for(watched, later) == []
    earlier = alarm.evidence._replace(since_ms=0)
    assert votes_for(watched, replace(alarm, evidence=earlier)) == []


def test_a_judgement_in_hindsight_stands_on_no_votes_as_they_then_were() -> None:
    judged = [each for each in usual().stored.values() if each.judges]
    assert judged
    assert all(votes_for(usual(), each) == [] for each in judged)


def test_an_alert_is_explained_by_its_latest_alarm_and_not_by_the_judgement_of_it() -> None:
    moved = usual().stored.values()
    judged = next(each for each in moved if each.judges)
    alert = judged.id.rsplit("-", 1)[0]
    assert explained(moved, alert) is not None
    alarm = explained(moved, alert)
    assert alarm is not None
    assert is_raised(alarm)
    assert explained(moved, judged.id) == judged
    assert explained(moved, "beef") is None


def votes_for(watched: Watched, transition: Transition) -> list[Vote]:
    ballot = Ballot(transition.id.rsplit("-", 1)[0])
    verify(log_of(watched.records), case_of(watched), on_votes=ballot)
    return ballot.evidence_for(transition)


# Whatever was tampered with is found, and named


def at(records: Sequence[Record], topic: str, nth: int) -> int:
    """The place in ``records`` of the nth record of a topic that says something."""
    return [i for i, r in enumerate(records) if r.topic == topic and r.value][nth]


def with_value(watched: Watched, place: int, value: bytes | None) -> Watched:
    records = list(watched.records)
    records[place] = records[place]._replace(value=value)
    return replace(watched, records=records)


def other_text(watched: Watched) -> Watched:
    """A record says the same, to us, in other words."""
    place = at(watched.records, "predictions", 200)
    value = watched.records[place].value or b""
    return with_value(watched, place, value.replace(b'"text":', b'"t_xt":', 1))


def one_byte(watched: Watched) -> Watched:
    """One character of one label's time."""
    place = at(watched.records, "labels", 200)
    value = watched.records[place].value or b""
    message = json.loads(value)
    time = message["label_time"].encode()
    moved = time[:-2] + bytes([time[-2] ^ 1]) + time[-1:]
    return with_value(watched, place, value.replace(time, moved))


def emptied(watched: Watched) -> Watched:
    return with_value(watched, at(watched.records, "labels", 100), None)


def dropped(watched: Watched) -> Watched:
    place = at(watched.records, "labels", 150)
    records = [record for number, record in enumerate(watched.records) if number != place]
    return replace(watched, records=records)


def added(watched: Watched) -> Watched:
    """One more in the midst; those behind it move up."""
    place = at(watched.records, "predictions", 150)
    extra = watched.records[place]
    later = [
        r._replace(offset=r.offset + 1) if r[:2] == extra[:2] and r.offset > extra.offset else r
        for r in watched.records
    ]
    later.insert(place + 1, extra._replace(offset=extra.offset + 1))
    return replace(watched, records=later)


def swapped(watched: Watched) -> Watched:
    """Two neighbours of a partition change places, and say the same as before."""
    records = list(watched.records)
    here = at(records, "predictions", 120)
    place = records[here]
    there = next(i for i, r in enumerate(records) if r[:2] == place[:2] and i > here)
    a, b = records[here], records[there]
    records[here], records[there] = (
        a._replace(key=b.key, value=b.value),
        b._replace(key=a.key, value=a.value),
    )
    return replace(watched, records=records)


def cut_short(watched: Watched) -> Watched:
    """The log's last record is gone."""
    last = max(
        (r for r in watched.records if (r.topic, r.partition) == ("labels", 1)),
        key=lambda r: r.offset,
    )
    return replace(watched, records=[r for r in watched.records if r is not last])


def without_entry(watched: Watched) -> Watched:
    return replace(watched, lines=watched.lines[:20] + watched.lines[21:])


def with_entries_swapped(watched: Watched) -> Watched:
    lines = list(watched.lines)
    lines[20], lines[21] = lines[21], lines[20]
    return replace(watched, lines=tuple(lines))


def with_entry(watched: Watched, place: int, *, seal: bool, **changed: object) -> Watched:
    entry = replace(watched.entries[place], **changed)  # type: ignore[arg-type] # as above
    lines = list(watched.lines)
    lines[place] = pack_journal_entry(sealed(entry) if seal else entry)
    return replace(watched, lines=tuple(lines))


def resealed(watched: Watched, place: int, **changed: object) -> Watched:
    """An entry altered by somebody who then made the chain hold again."""
    entries = watched.entries
    entries[place] = replace(entries[place], **changed)  # type: ignore[arg-type] # as above
    for number in range(place, len(entries)):
        before = entries[number - 1].hash if number else ""
        entries[number] = sealed(replace(entries[number], previous=before))
    return replace(watched, lines=tuple(map(pack_journal_entry, entries)))


def fired(watched: Watched) -> Transition:
    return next(t for t in watched.stored.values() if t.moved_to is Status.FIRING)


def with_stored(watched: Watched, **changed: object) -> Watched:
    altered = replace(fired(watched), **changed)  # type: ignore[arg-type] # as above
    return replace(watched, stored={**watched.stored, altered.id: altered})


def with_hits(watched: Watched) -> Watched:
    evidence = fired(watched).evidence
    assert evidence is not None
    return with_stored(watched, evidence=evidence._replace(hits=evidence.hits + 1))


def without_stored(watched: Watched) -> Watched:
    gone = fired(watched).id
    return replace(watched, stored={i: t for i, t in watched.stored.items() if i != gone})


def with_invented(watched: Watched) -> Watched:
    return with_stored(watched, id="cccccccc-1")


def unreadable(watched: Watched) -> Watched:
    lines = list(watched.lines)
    lines[20] = lines[20].replace(b'"code":"', b'"code":"\xff')
    return replace(watched, lines=tuple(lines))


def with_document(watched: Watched) -> Watched:
    """A rule is changed in the journal's own document, under the old digest."""
    documents = {
        digest: document.replace('"objective":0.8,', '"objective":0.5,')
        for digest, document in watched.documents.items()
    }
    assert documents != watched.documents
    return replace(watched, documents=documents)


CHECKSUM = r"expected checksum -?\d+, found -?\d+$"
STRETCH = r"@\d+-\d+: "
TAMPERINGS: Mapping[str, tuple[Callable[[Watched], Watched], str]] = {
    "other text": (other_text, rf"^records predictions\[\d\]{STRETCH}{CHECKSUM}"),
    "one byte": (one_byte, rf"^records labels\[\d\]{STRETCH}{CHECKSUM}"),
    "no value": (emptied, rf"^records labels\[\d\]{STRETCH}{CHECKSUM}"),
    "dropped": (dropped, r"^record labels\[\d\]@\d+: expected a record, found none$"),
    "added": (added, rf"^records predictions\[\d\]{STRETCH}{CHECKSUM}"),
    "swapped": (swapped, rf"^records predictions\[\d\]{STRETCH}{CHECKSUM}"),
    "cut short": (
        cut_short,
        r"^record labels\[1\]@(\d+): expected records up to \1, found the log's end$",
    ),
    "entry missing": (
        without_entry,
        r"^journal entry 21: expected an unbroken chain, found .* is missing$",
    ),
    "entries swapped": (with_entries_swapped, r"^journal entry 2\d: .* stands before entry 21"),
    "entry altered": (
        lambda w: with_entry(w, 20, seal=False, tick_ms=w.entries[20].tick_ms + 1),
        r"^journal entry 21: .* was altered: its hash differs$",
    ),
    "entry exchanged": (
        lambda w: with_entry(w, 20, seal=True, state="0" * 64),
        r"^journal entry 21: .* is missing$",
    ),
    "state resealed": (
        lambda w: resealed(w, 20, state="0" * 64),
        r"^state at journal entry 21, .*Z, from records .*: "
        r"expected sha256:0{16}, found sha256:(?!0{16})",
    ),
    "transition taken out": (
        lambda w: resealed(w, moved_in(w), transitions=(), found=""),
        r"^transitions of journal entry \d+ at .*Z: expected none, found \w+-\d+",
    ),
    "stored hits": (with_hits, r"^stored transition \w+-\d+, evidence: expected .*, found "),
    "stored reason": (
        lambda w: with_stored(w, reason="all is well"),
        r"^stored transition \w+-\d+, reason: expected .*, found all is well$",
    ),
    "stored transition removed": (
        without_stored,
        r"^stored transition \w+-\d+: expected .*, found none in the store$",
    ),
    "stored transition invented": (
        with_invented,
        r"^stored transition cccccccc-1: expected an entry of the journal that found it, found ",
    ),
    "entry unreadable": (unreadable, r"^journal entry 21: .* behind journal entry 20 cannot be"),
    "entry pointing forward": (
        lambda w: with_entry(w, 20, seal=False, previous=w.entries[30].hash),
        r"^journal entry 20: .* which journal entry 21 follows, is missing$",
    ),
    "document": (with_document, r"^(state|ledger|transition) "),
}


def moved_in(watched: Watched) -> int:
    return next(n for n, entry in enumerate(watched.entries) if entry.transitions)


@pytest.mark.parametrize("name", TAMPERINGS)
def test_what_was_tampered_with_is_named(name: str) -> None:
    tamper, expected = TAMPERINGS[name]
    found = named(tamper(usual()))
    assert re.search(expected, found), found


def test_what_differs_is_said_in_words_and_as_json_the_first_difference_first() -> None:
    result = audited(dropped(usual()))
    told, *lines = [line for line in lines_of(result) if "journal entries" not in line[60:]]
    assert told.startswith("replayed ")
    assert lines[0].startswith("FIRST DIFFERENCE  record labels[")
    assert all(line.startswith("and  ") for line in lines[1:])
    document = document_of(result)
    assert document["holds"] is False
    assert document["differences"] == [each._asdict() for each in result.differences]


def test_a_history_that_holds_says_so() -> None:
    assert [*lines_of(audited(usual()))][-1] == "everything was reproduced bit for bit"


def test_a_log_that_begins_too_late_is_not_compared_but_answered_with_what_to_do() -> None:
    watched = usual()
    late = [r for r in watched.records if (r.topic, r.partition) != ("labels", 1) or r.offset > 90]
    with pytest.raises(NotVerifiable, match=r"^the log begins at labels\[1\]@91: .*\(--archive\)$"):
        audited(replace(watched, records=late))


def test_an_empty_journal_is_not_verifiable() -> None:
    with pytest.raises(NotVerifiable, match="holds no entry"):
        audited(replace(usual(), lines=()))


def test_a_journal_that_lost_its_beginning_is_replayed_from_the_start_and_compared_from_there() -> (
    None
):
    watched = usual()
    result = audited(replace(watched, lines=watched.lines[12:]))
    assert result.differences == []
    assert result.records == len(watched.records)
    assert result.notes[0].startswith("the journal begins with entry 13: ")


def test_entries_that_were_published_twice_make_no_difference() -> None:
    watched = usual()
    twice = [*watched.lines[:9], *watched.lines[4:]]
    assert audited(replace(watched, lines=tuple(twice))).holds


def test_a_journal_without_its_last_entries_is_named_as_long_as_the_store_knows_better() -> None:
    watched = usual()
    last = watched.entries[-1]
    known = Known(head=(last.sequence, last.hash))
    whole, short = chain_of_lines(watched.lines), chain_of_lines(watched.lines[:-3])
    assert head_differs(whole, known) == []
    (found,) = head_differs(short, known)
    assert found.where == f"after entry {last.sequence - 3}"
    assert f"entry {last.sequence}, which the store evaluated last" in found.expected


def test_a_range_that_holds_no_entry_is_no_proof() -> None:
    with pytest.raises(NotVerifiable, match="no journal entry lies in the range"):
        audited(usual(), from_ms=10**15)
