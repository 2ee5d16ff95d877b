"""Audit: replay an alert's own history and compare it with what the journal says of it.

The journal tells, for every evaluation, how far the log had been read, to what instant it was
complete, under which settings, and the digests of all that the evaluator then knew and found. A
replay that goes from entry to entry must come to the same digests: the first that differs is where
record, rule or code is not what it was.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from monitor.app.audit_forgotten import Forgetting, Names, notes_of
from monitor.app.replay import OffsetHistory, Replay
from monitor.app.report import iso
from monitor.app.settings import Settings
from monitor.codec.journal import books_digest, found_digest, state_digest
from monitor.domain import ledger
from monitor.domain.alerts import AlertKey, Event, Status, Transition, fingerprint
from monitor.domain.errors import NotVerifiable
from monitor.domain.events import NextOffsets, Partition, Position, Record
from monitor.domain.forgetting import masked
from monitor.domain.journal import Chain, JournalEntry, Offsets
from monitor.domain.votes import Vote

MOST_HOLES = 5


class Difference(NamedTuple):
    """Something is not what it was: ``what`` kind of thing, ``where`` it stands."""

    what: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        """For people."""
        return f"{self.what} {self.where}: expected {self.expected}, found {self.found}"


@dataclass
class Verification:
    """What a verification came to: it holds when there is no difference.

    ``moved`` are the transitions that the replay came to, by id. ``booked`` is the last entry whose
    ledger was compared, and with it the bytes of every record up to there; None without one.
    """

    entries: int = 0
    digests: int = 0
    booked: JournalEntry | None = None
    transitions: int = 0
    records: int = 0
    moved: dict[str, Transition] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether everything was reproduced."""
        return not self.differences


@dataclass(frozen=True)
class Case:
    """What is to be verified, and all that it is compared with.

    ``settings_for`` gives the settings of an entry by their digest. ``stored`` are the transitions
    as the store has them now, None when it was not asked. Entries outside ``from_ms`` to ``to_ms``,
    by tick, are replayed, but not compared. ``until`` is the last sequence that matters.
    ``redacted`` are the checksums that redacted records had, ``gaps`` what the log had dropped
    before it was counted: an archive may have it all the same.
    """

    chain: Chain
    settings_for: Callable[[str], Settings]
    stored: Mapping[str, Transition] | None = None
    until: int | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    redacted: Mapping[Position, int] = field(default_factory=dict)
    gaps: Sequence[ledger.Gap] = ()

    def entries(self) -> list[JournalEntry]:
        """Those that have to be replayed."""
        held = self.chain.entries
        last = self.until if self.until is not None else held[-1].sequence if held else 0
        upto = [entry for entry in held if entry.sequence <= last]
        if self.to_ms is not None:
            upto = [entry for entry in upto if entry.tick_ms <= self.to_ms]
        return upto

    def is_compared(self, entry: JournalEntry) -> bool:
        """Whether the range asked for holds it."""
        return self.from_ms is None or entry.tick_ms >= self.from_ms


def verify(
    log: OffsetHistory,
    case: Case,
    *,
    on_votes: Callable[[Sequence[Vote]], None] = lambda _: None,
    on_progress: Callable[[int, int | None], None] = lambda _done, _left: None,
) -> Verification:
    """Replay the journal entry by entry; ends at the first digest that differs.

    NotVerifiable when the journal is empty or nothing of it lies in the range, the log begins later
    than the history does, or lacks one of its topics.
    """
    result = Verification()
    result.differences += [
        Difference("journal", f"entry {b.sequence}", "an unbroken chain", b.text)
        for b in case.chain.breaks
    ]
    if case.chain.replaced:
        result.notes.append(
            f"{case.chain.replaced} journal entries were written again: the store had lost them"
        )
    entries = case.entries()
    if not entries:
        raise NotVerifiable("the journal holds no entry that could be verified")
    if entries[0].sequence > 1:
        result.notes.append(
            f"the journal begins with entry {entries[0].sequence}: what came before is replayed, "
            "but cannot be compared"
        )
    result.notes += notes_of(entries)
    _Verifier(log, case, result).run(entries, on_votes, on_progress)
    if not result.digests and result.holds:
        raise NotVerifiable("no journal entry lies in the range that was asked for")
    result.differences += _unaccounted(case)
    if result.holds:
        result.notes.append(_how_far(result, entries[-1]))
    return result


def _unaccounted(case: Case) -> list[Difference]:
    """Transitions in the store that no entry of a whole journal has found."""
    if case.stored is None or case.chain.entries[0].sequence > 1:
        return []
    known = {name for entry in case.chain.entries for name in entry.transitions}
    latest_ms = case.chain.entries[-1].tick_ms
    return [
        Difference("stored transition", name, "an entry of the journal that found it", "none")
        for name, transition in case.stored.items()
        if name not in known and transition.at_ms < latest_ms
    ]


def _how_far(result: Verification, last: JournalEntry) -> str:
    booked = result.booked
    if booked is None:
        return (
            "no ledger was compared, and with it no byte that decides nothing: the shards never "
            "stood at one place when the rules were evaluated"
        )
    until = f"{booked}, {iso(booked.tick_ms)}"
    return (
        f"the bytes of all records up to {until} were compared; the last entry is {last.sequence}"
    )


def lenient(settings: Settings) -> Settings:
    """What was counted was not too much: each worker had its own count of rejects in a row."""
    worker = settings.worker.model_copy(update={"max_consecutive_rejects": sys.maxsize})
    return settings.model_copy(update={"worker": worker})


class _Verifier:
    """One run of ``verify``."""

    def __init__(self, log: OffsetHistory, case: Case, result: Verification) -> None:
        self._holes = _Holes(log, case.gaps)
        self._log, self._case, self._result = log, case, result
        self._good: Offsets = ()
        self._forgetting = Forgetting(log, offsets_of)
        self._forgotten = Names(each for entry in case.chain.entries for each in entry.forgot)

    def run(
        self,
        entries: Sequence[JournalEntry],
        on_votes: Callable[[Sequence[Vote]], None],
        on_progress: Callable[[int, int | None], None],
    ) -> None:
        under, tick_ms = entries[0].settings, None
        replay = Replay(self._holes, lenient(self._case.settings_for(under)))
        replay.flow.on_votes = on_votes
        replay.flow.redacted = self._case.redacted
        last = dict(entries[-1].cut)
        for entry in entries:
            self._forgetting.read_to(entry, replay)
            on_progress(replay.records, _left(self._log.places(), last))
            if not self._is_reached(entry):
                break
            if is_anew := entry.settings != under:
                # What had been read by then was counted under those of before.
                under = entry.settings
                replay.follow(lenient(self._case.settings_for(under)))
            # Votes that came behind the watermark are released where it stands.
            is_anew = is_anew or entry.tick_ms == tick_ms
            moved, tick_ms = self._evaluated(entry, replay, is_anew=is_anew), entry.tick_ms
            self._result.moved |= {transition.id: transition for transition in moved}
            replay.flow.sweep()
            self._result.entries += 1
            if entry.sequence > 1 and entry is entries[0]:
                # What the entries before it had found, which are gone, came about as well.
                moved = [each for each in moved if each.id in entry.transitions]
            if self._case.is_compared(entry) and not self._is_same(entry, replay, moved):
                self._refuse_half_a_log()
                break
            if entry.books and self._case.is_compared(entry):
                self._good, self._result.booked = entry.cut, entry
                self._holes.forget()
        self._result.records = replay.records

    def _evaluated(self, entry: JournalEntry, replay: Replay, *, is_anew: bool) -> list[Transition]:
        if entry.forgot:
            self._forgetting.apply(entry, replay)
            return []
        return replay.flow.evaluate(entry.tick_ms, is_anew=is_anew)

    def _refuse_half_a_log(self) -> None:
        """Without the records of the beginning nothing can come out the same."""
        if self._good:
            return
        begins = self._log.oldest(self._log.partitions())
        late = [f"{p}@{offset}" for p, offset in sorted(begins.items()) if offset]
        if late:
            raise NotVerifiable(
                f"the log begins at {', '.join(late)}: what came before has been dropped. Name an "
                "archive that has it (--archive)"
            )

    def _is_reached(self, entry: JournalEntry) -> bool:
        """Whether the log still has all that the entry had read."""
        places, before = self._log.places(), len(self._result.differences)
        topics = {partition.topic for partition in self._log.partitions()}
        if unknown := {p.topic for p in offsets_of(entry.cut)} - topics:
            raise NotVerifiable(
                f"{entry} had read {', '.join(sorted(unknown))}, which the settings at hand do not "
                "name: audit with the kafka topics of then"
            )
        for partition, past in offsets_of(entry.cut).items():
            place = places.get(partition, 0)
            if place < past:
                self._differs(
                    "record", f"{partition}@{place}", f"records up to {past - 1}", "the log's end"
                )
        return len(self._result.differences) == before

    def _is_same(self, entry: JournalEntry, replay: Replay, moved: Sequence[Transition]) -> bool:
        before = len(self._result.differences)
        state = state_digest(replay.store.evaluation())
        self._result.digests += 2 if entry.books else 1
        self._result.transitions += len(entry.transitions)
        if entry.books:
            self._compare_books(entry, ledger.merged([m.ledger for m in replay.store.marks()]))
        self._compare_transitions(entry, moved)
        if state != entry.state and len(self._result.differences) == before:
            self._differs("state", self._range(entry), _short(entry.state), _short(state))
        return len(self._result.differences) == before

    def _compare_books(self, entry: JournalEntry, books: Mapping[str, int]) -> None:
        found = books_digest(books)
        if found == entry.books:
            return
        before = len(self._result.differences)
        inputs = ledger.inputs_of(books)
        for name, checksum in entry.inputs:
            if inputs.get(name, 0) != checksum:
                for hole in self._holes.of(name):
                    self._differs("record", hole, "a record", "none")
                self._differs(
                    "records",
                    self._stretch(entry, name),
                    f"checksum {checksum}",
                    str(inputs.get(name, 0)),
                )
        if len(self._result.differences) == before:
            self._differs("ledger", self._range(entry), _short(entry.books), _short(found))

    def _compare_transitions(self, entry: JournalEntry, moved: Sequence[Transition]) -> None:
        self._compare_stored(entry, moved)
        if found_digest(moved) == entry.found:
            return
        again_ids = tuple(each.id for each in moved)
        if again_ids != entry.transitions:
            self._differs(
                "transitions",
                f"of {entry} at {iso(entry.tick_ms)}",
                ", ".join(entry.transitions) or "none",
                ", ".join(again_ids) or "none",
            )
            return
        before = len(self._result.differences)
        for each in moved:
            if (known := (self._case.stored or {}).get(each.id)) is not None:
                self._compare_facts("transition", known, self._as_stored(each))
        if len(self._result.differences) == before:
            where = f"{', '.join(entry.transitions)} of {entry}"
            self._differs("transition", where, _short(entry.found), _short(found_digest(moved)))

    def _compare_stored(self, entry: JournalEntry, moved: Sequence[Transition]) -> None:
        """What the store says now, where the replay agrees with the journal."""
        stored = self._case.stored
        if stored is None or found_digest(moved) != entry.found:
            return
        for each in moved:
            if (known := stored.get(each.id)) is None:
                self._differs("stored transition", each.id, each.reason, "none in the store")
            elif replace(known, cut=each.cut) != each:
                self._compare_facts("stored transition", self._as_stored(each), known)

    def _as_stored(self, transition: Transition) -> Transition:
        """Without what was forgotten by request, then or later."""
        return masked(transition, self._forgotten.__contains__)

    def _compare_facts(self, what: str, expected: Transition, found: Transition) -> None:
        for name in Transition.__dataclass_fields__:
            was, now = getattr(expected, name), getattr(found, name)
            if name != "cut" and was != now:
                self._differs(what, f"{found.id}, {name}", str(was), str(now))

    def _range(self, entry: JournalEntry) -> str:
        """What was read since the last entry that was known to hold, and where that ended."""
        good = dict(self._good)
        stretches = [
            f"{name}@{good.get(name, 0)}-{past - 1}"
            for name, past in entry.cut
            if past > good.get(name, 0)
        ]
        return f"at {entry}, {iso(entry.tick_ms)}, from records {', '.join(stretches) or 'none'}"

    def _stretch(self, entry: JournalEntry, name: str) -> str:
        first, past = dict(self._good).get(name, 0), dict(entry.cut).get(name, 0)
        return f"{name}@{first}-{past - 1}"

    def _differs(self, what: str, where: str, expected: str, found: str) -> None:
        self._result.differences.append(Difference(what, where, expected, found))


class _Holes:
    """A log that notices offsets without a record; transactions leave some as well.

    Records in ``gaps`` are left out: they had not been counted.
    """

    def __init__(self, log: OffsetHistory, gaps: Iterable[ledger.Gap] = ()) -> None:
        self._log, self._gaps = log, list(gaps)
        self._next: dict[tuple[str, int], int] = {}
        self._found: dict[str, list[str]] = {}

    def poll(self, max_records: int, wait_ms: int | None = None) -> list[Record]:
        """The next records."""
        records = self._polled(max_records, wait_ms)
        expected = self._next
        for record in records:
            place = record.topic, record.partition
            due = expected.get(place)
            if due is not None and record.offset > due:
                past = "" if record.offset == due + 1 else f"-{record.offset - 1}"
                found = self._found.setdefault(str(Partition(*place)), [])
                if len(found) < MOST_HOLES:
                    found.append(f"{Partition(*place)}@{due}{past}")
            expected[place] = record.offset + 1
        return records

    def _polled(self, max_records: int, wait_ms: int | None) -> list[Record]:
        records = self._log.poll(max_records, wait_ms)
        while self._gaps and records:
            kept = [record for record in records if not self._is_in_gap(record)]
            if kept:
                return kept
            records = self._log.poll(max_records, wait_ms)
        return records

    def _is_in_gap(self, record: Record) -> bool:
        place = record.topic, record.partition
        return any(
            gap.partition == place and gap.first <= record.offset < gap.past for gap in self._gaps
        )

    def of(self, partition: str) -> list[str]:
        """Offsets of one partition without a record, since the last ledger that was the same."""
        return self._found.get(partition, [])

    def forget(self) -> None:
        """What was found so far makes no difference."""
        self._found.clear()

    @property
    def generation(self) -> int:
        """That of the log."""
        return self._log.generation

    def assigned(self) -> frozenset[Partition]:
        """All that the log has."""
        return self._log.assigned()

    def partitions(self) -> frozenset[Partition]:
        """All that the log has."""
        return self._log.partitions()

    def oldest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """Where the log begins."""
        return self._log.oldest(partitions)

    def newest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """Where the log ends."""
        return self._log.newest(partitions)

    def places(self) -> NextOffsets:
        """Where reading goes on."""
        return self._log.places()

    def seek(self, next_offsets: NextOffsets) -> None:
        """Read on from these offsets."""
        self._next = {(p.topic, p.partition): offset for p, offset in next_offsets.items()}
        self._log.seek(next_offsets)

    def at_end(self) -> frozenset[Partition]:
        """Partitions read to where the log may be read."""
        return self._log.at_end()

    def lag(self) -> Mapping[Partition, int]:
        """What is still to come."""
        return self._log.lag()

    def commit(self, next_offsets: NextOffsets) -> None:
        """Nobody asks for it."""

    def close(self) -> None:
        """Leave the log."""
        self._log.close()


def offsets_of(cut: Offsets) -> dict[Partition, int]:
    """A cut by partition.

    >>> offsets_of((("labels[2]", 7),))
    {Partition(topic='labels', partition=2): 7}
    """
    return {partition_of(name): offset for name, offset in cut}


def partition_of(name: str) -> Partition:
    """From ``topic[number]``."""
    topic, number = name.removesuffix("]").rsplit("[", 1)
    return Partition(topic, int(number))


def _left(places: NextOffsets, last: Mapping[str, int]) -> int:
    known = {str(partition): place for partition, place in places.items()}
    return sum(max(0, past - known.get(name, 0)) for name, past in last.items())


def _short(digest: str) -> str:
    return f"sha256:{digest[:16]}" if digest else "none"


def entry_of(chain: Chain, name: str) -> tuple[JournalEntry, str]:
    """The entry in which a transition was found, or the last one of an alert, and its id.

    ``name`` is the id of a transition, or of an alert. NotVerifiable names those that are known: of
    the alert that ``name`` speaks of its transitions, else all alerts.
    """
    for entry in reversed(chain.entries):
        for found in reversed(entry.transitions):
            if name in (found, found.rsplit("-", 1)[0]):
                return entry, found
    ids = [found for entry in chain.entries for found in entry.transitions]
    if its := sorted(each for each in ids if each.rsplit("-", 1)[0] == name.rsplit("-", 1)[0]):
        raise NotVerifiable(
            f"the journal knows no transition {name}; those of the alert: {', '.join(its)}"
        )
    known = sorted({i.rsplit("-", 1)[0] for entry in chain.entries for i in entry.transitions})
    raise NotVerifiable(
        f"the journal knows no alert or transition {name}; alerts in it: "
        + (", ".join(known) or "none")
    )


def told_of(moved: Iterable[Transition], name: str) -> list[str]:
    """What was replayed of the transition ``name``, or of all those of the alert, in words."""
    return [
        f"{each.id}: {each.rule}, {each.moved_from} -> {each.moved_to} at {iso(each.at_ms)}"
        if each.event is Event.MOVED
        else f"{each.id}: {each.rule}, {each.event} at {iso(each.at_ms)}"
        for each in moved
        if name in (each.id, each.id.rsplit("-", 1)[0])
    ]


class Ballot:
    """Keeps the last votes of one alert while a history is replayed."""

    def __init__(self, alert: str, most: int = 10_000) -> None:
        self._alert, self._most = alert, most
        self.votes: list[Vote] = []

    def __call__(self, votes: Sequence[Vote]) -> None:
        """Take those that are about the alert."""
        for vote in votes:
            if fingerprint(AlertKey(vote.rule, vote.key, vote.version)) == self._alert:
                self.votes.append(vote)
        del self.votes[: -self._most]

    def evidence_for(self, transition: Transition) -> list[Vote]:
        """The votes that the transition's evidence counts, in the order in which they counted.

        [] when it has none, or it is not about votes as they then were, or they are not all known.
        """
        evidence = transition.evidence
        if transition.event is not Event.MOVED or evidence is None or not evidence.n:
            return []
        votes = [vote for vote in self.votes if vote.release_ms <= transition.at_ms]
        for last in range(len(votes), evidence.n - 1, -1):
            span = votes[last - evidence.n : last]
            is_since = span[0].event_ms == evidence.since_ms or not is_raised(transition)
            if is_since and sum(vote.hit for vote in span) == evidence.hits:
                return span
            if votes[last - 1].release_ms < transition.at_ms:
                break
        return []


def explained(moved: Iterable[Transition], name: str) -> Transition | None:
    """The transition of that id; of an alert its latest alarm, or else what it last did."""
    own = [each for each in moved if name in (each.id, each.id.rsplit("-", 1)[0])]
    exact = [each for each in own if each.id == name]
    return next(reversed(exact or [each for each in own if is_raised(each)] or own), None)


def is_raised(transition: Transition) -> bool:
    """Whether it raised an alarm, rather than went on or ended one."""
    raised = {Status.WARNING, Status.FIRING}
    return (
        transition.event is Event.MOVED
        and transition.moved_to in raised
        and transition.moved_from is not Status.RECOVERING
    )


def document_of(result: Verification) -> dict[str, object]:
    """The verification as JSON."""
    return {
        "holds": result.holds,
        "records": result.records,
        "journal_entries": result.entries,
        "digests": result.digests,
        "transitions": result.transitions,
        "differences": [difference._asdict() for difference in result.differences],
        "notes": result.notes,
    }


def lines_of(result: Verification) -> Iterator[str]:
    """The verification in words."""
    yield (
        f"replayed {result.records:,} records over {result.entries:,} journal entries: "
        f"{result.digests:,} digests and {result.transitions:,} transitions compared"
    )
    yield from result.notes
    if result.holds:
        yield "everything was reproduced bit for bit"
    for number, difference in enumerate(result.differences):
        yield ("FIRST DIFFERENCE  " if not number else "and  ") + str(difference)
