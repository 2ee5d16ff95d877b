"""An audit on real parts: journal, log, archive and store, as far as each of them is there."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from monitor import __version__
from monitor.adapters.archive import open_archive
from monitor.app.audit import (
    Ballot,
    Case,
    Difference,
    Verification,
    entry_of,
    explained,
    lenient,
    offsets_of,
    told_of,
    verify,
)
from monitor.app.audit_forgotten import Names, nameless
from monitor.app.audit_show import Shown, Witness
from monitor.app.brokers import open_journal
from monitor.app.history import Where, opened_history, place_of
from monitor.app.replay import OnProgress, Replay, replay_to
from monitor.app.report import present_report
from monitor.app.settings import Settings
from monitor.app.wiring import codec_of, differences, open_reader, provenance_of, settings_of
from monitor.codec.journal import chain_of_lines, entries_in, pack_journal_entry
from monitor.domain import ledger
from monitor.domain.alerts import Transition, hindsight_of
from monitor.domain.errors import NotVerifiable, StoreError
from monitor.domain.events import Kind, Position, Rejected
from monitor.domain.journal import Chain, JournalEntry
from monitor.domain.votes import Vote
from monitor.ports import RecordLog, StateReader

MOST_LEAVES = 20
"""Differing numbers of a report that are named."""

POLLED = 4_000

STEP_BACK = 1_000
"""Journal entries looked at together when the store has gone back."""

_NOT_COMPARED = {"cut", "audit", "gaps", "prediction_id", "known_then"}


class Scope(NamedTuple):
    """What is to be looked at. ``alert`` None means everything; the range is by tick."""

    archive: str | None = None
    is_offline: bool = False
    alert: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None

    @property
    def where(self) -> Where:
        """The history that it stands on."""
        return Where(archive=self.archive, is_offline=self.is_offline)


@dataclass
class Known:
    """All that is known beside the log. ``head`` is what the store says was journaled last."""

    lines: list[bytes] = field(default_factory=list)
    documents: dict[str, str] = field(default_factory=dict)
    stored: dict[str, Transition] | None = None
    gaps: list[ledger.Gap] = field(default_factory=list)
    head: tuple[int, str] = (0, "")
    redacted: dict[Position, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def verified(settings: Settings, scope: Scope, on_progress: OnProgress) -> Verification:
    """Replay one alert's history, or all, and compare.

    NotVerifiable when there is nothing to compare with; WorldError when the log cannot be read.
    """
    known = gathered(settings, scope)
    chain = chain_of_lines(known.lines, head=known.head[1])
    known.lines.clear()
    _refuse_empty(chain)
    until = None if scope.alert is None else entry_of(chain, scope.alert)[0].sequence
    case = Case(
        chain,
        _Documents(settings, chain, known.documents),
        known.stored,
        until,
        scope.from_ms,
        scope.to_ms,
        known.redacted,
        known.gaps,
    )
    with opened_history(settings, scope.where) as log:
        result = verify(log, case, on_progress=on_progress)
    if scope.alert is not None:
        result.notes[:0] = told_of(result.moved.values(), scope.alert)
    result.notes += known.notes
    result.differences[:0] = [*head_differs(chain, known), *_settings_differ(settings, case)]
    result.notes += _releases(chain.entries)
    return result


def gathered(settings: Settings, scope: Scope) -> Known:
    """Journal, settings and transitions from wherever they are kept.

    A store that cannot be asked is said, and done without: the journal's topic has what it needs.
    """
    known = Known()
    if scope.archive is not None:
        archive = open_archive(scope.archive)
        known.lines += archive.journal_lines(settings.redis.namespace)
        known.documents |= archive.manifest.documents
        known.redacted = archive.redacted()
        if known.redacted:
            known.notes.append(
                f"{len(known.redacted):,} records were redacted by request: only what is counted "
                "is left of them, and the checksums of what they were"
            )
    if scope.is_offline:
        known.notes.append(
            "the store was not asked: its transitions and the end of the journal were not compared"
        )
        return known
    try:
        with closing(open_reader(settings)) as reader:
            _ask(reader, known)
            known.lines += open_journal(settings)
            known.lines += _unpublished(reader, known)
    except StoreError as error:
        known.notes.append(f"the store was not asked: {error}")
        known.lines += open_journal(settings)
    return known


def _ask(reader: StateReader, known: Known) -> None:
    evaluation = reader.evaluation()
    known.head = evaluation.sequence, evaluation.chain
    known.documents |= reader.documents()
    known.stored = {transition.id: transition for transition in reader.transitions()}
    known.gaps = ledger.gaps_of(reader.ledger())
    known.notes += [
        f"{gap}: the log had dropped them before they were counted" for gap in known.gaps
    ]


def _unpublished(reader: StateReader, known: Known) -> list[bytes]:
    """What the store's own journal has beyond the topic's, or in its place."""
    held = {entry.hash: entry for entry in entries_in(known.lines)}
    if not known.head[1] or known.head[1] in held:
        return []
    after = max((entry.sequence for entry in held.values()), default=0)
    while True:
        found = list(_stored_entries(reader, after))
        if not after or (found and found[0].previous in held):
            return [pack_journal_entry(entry) for entry in found]
        # The store may have lost what the topic has, and have gone on from before.
        after = max(0, after - STEP_BACK)


def _stored_entries(reader: StateReader, after: int) -> Iterator[JournalEntry]:
    while found := reader.journal(after):
        yield from found
        after = found[-1].sequence


def _refuse_empty(chain: Chain) -> None:
    if not chain.entries:
        raise NotVerifiable(
            "there is no journal: no worker of this release has evaluated anything yet, or "
            "redis.namespace or kafka.journal.topic is another one"
        )


class _Documents:
    """Settings by their digest, from the journal itself or from what else is kept."""

    def __init__(self, base: Settings, chain: Chain, kept: Mapping[str, str]) -> None:
        self._base, self._kept = base, dict(kept)
        self._kept |= {e.settings: e.document for e in chain.entries if e.document}

    def __call__(self, digest: str) -> Settings:
        return settings_of(self.document(digest), self._base)

    def document(self, digest: str) -> str:
        document = self._kept.get(digest)
        if document is None:
            raise NotVerifiable(
                f"the settings sha256:{digest[:16]} that the journal names are not kept anywhere"
            )
        if hashlib.sha256(document.encode()).hexdigest() != digest:
            raise NotVerifiable(f"the settings kept as sha256:{digest[:16]} were altered")
        return document


def _settings_differ(settings: Settings, case: Case) -> list[Difference]:
    """The settings at hand must be those that the monitor ran with last."""
    last = case.chain.entries[-1]
    present = provenance_of(settings).document
    # As this release writes them: a setting that is new has its default in both.
    then = provenance_of(case.settings_for(last.settings)).document
    found = []
    for line in differences(then, present):
        place, _, what = line.partition(": ")
        was, _, now = what.rpartition(", is ")
        expected = was.removeprefix("was ") or "as the monitor last ran"
        found.append(Difference("setting", place, expected, now if was else what))
    return found


def head_differs(chain: Chain, known: Known) -> list[Difference]:
    """That the journal ends before the entry that the store knows as the last one."""
    sequence, head = known.head
    if not head or any(entry.hash == head for entry in chain.entries):
        return []
    last = chain.entries[-1].sequence
    return [
        Difference(
            "journal",
            f"after entry {last}",
            f"entry {sequence}, which the store evaluated last",
            "the journal's end",
        )
    ]


def _releases(entries: Iterable[JournalEntry]) -> list[str]:
    others = sorted({entry.code for entry in entries} - {__version__})
    if not others:
        return []
    return [f"release {__version__} replayed what release {', '.join(others)} had evaluated"]


def verified_report(
    settings: Settings, scope: Scope, path: Path, on_progress: OnProgress
) -> Verification:
    """Re-derive a report.json from the log up to its cut, under the present settings."""
    told = _report_in(path)
    result = Verification()
    with opened_history(settings, scope.where) as log:
        log.bound(offsets_of(tuple(told["cut"].items())), strict=True)
        replay = Replay(log, lenient(settings))
        replay_to(told["as_of"] and place_of(told["as_of"]).instant_ms, log, replay, on_progress)
        again = json.loads(json.dumps(present_report(replay.store, settings)))
    result.records, result.digests = replay.records, 1
    result.transitions = len(told["transitions"])
    leaves = _leaves(told, again)
    result.differences += [Difference("number", *leaf) for leaf in leaves[:MOST_LEAVES]]
    if len(leaves) > MOST_LEAVES:
        result.notes.append(f"{len(leaves)} numbers differ, of which these are the first")
    return result


def _report_in(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text("utf-8"))
        if not told["digest"]:
            raise NotVerifiable(f"{path}: it was written while counts moved, and has no digest")
        offsets_of(tuple(told["cut"].items()))
        place_of(told["as_of"] or "1970-01-01T00:00Z")
        len(told["transitions"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotVerifiable(f"{path}: not a report ({type(error).__name__}: {error})") from None
    return dict(told)


def _leaves(was: object, now: object, place: str = "") -> list[tuple[str, str, str]]:
    """Every single value that differs, with its path, of those that are numbers of the report.

    Cuts of transitions are provenance, ids of missed requests may be masked, and what was known at
    an earlier instant is another report.
    """
    if isinstance(was, dict) and isinstance(now, dict):
        names = [name for name in {**was, **now} if name not in _NOT_COMPARED]
        inner = [(f"{place}.{n}".lstrip("."), was.get(n), now.get(n)) for n in names]
    elif isinstance(was, list) and isinstance(now, list):
        length = max(len(was), len(now))
        inner = [(f"{place}[{i}]", _at(was, i), _at(now, i)) for i in range(length)]
    else:
        return [] if was == now else [(place, str(was), str(now))]
    return [leaf for name, a, b in inner for leaf in _leaves(a, b, name)]


def _at(values: list[object], place: int) -> object:
    return values[place] if place < len(values) else None


def shown(settings: Settings, scope: Scope, on_progress: OnProgress) -> Shown:
    """One alert's evidence, re-derived from the log; NotVerifiable when there is no such alert."""
    known = gathered(settings, scope)
    chain = chain_of_lines(known.lines, head=known.head[1])
    known.lines.clear()
    _refuse_empty(chain)
    entry, wanted = entry_of(chain, scope.alert or "")
    documents = _Documents(settings, chain, known.documents)
    ballot = Ballot(wanted.rsplit("-", 1)[0])
    case = Case(chain, documents, known.stored, entry.sequence, redacted=known.redacted)
    with opened_history(settings, scope.where) as log:
        result = verify(log, case, on_votes=ballot, on_progress=on_progress)
    transition = explained(result.moved.values(), scope.alert or "")
    if transition is None:
        first = str(result.differences[0]) if result.differences else "the log ended before it"
        raise NotVerifiable(f"{wanted} does not come about again: {first}")
    entry, wanted = entry_of(chain, transition.id)
    votes = ballot.evidence_for(transition)
    then = documents(entry.settings)
    names = Names(each for made in chain.entries for each in made.forgot)
    with opened_history(settings, scope.where) as log:
        log.bound(offsets_of(entry.cut), strict=True)
        places = _positions(log, then, votes)
    return Shown(
        transition,
        next((rule for rule in then.rules if rule.name == transition.rule), None),
        entry,
        [Witness(nameless(vote, names), *places[vote.prediction_id]) for vote in votes],
        hindsight_of((known.stored or result.moved).values()).get(wanted),
        [str(difference) for difference in result.differences],
    )


def _positions(
    log: RecordLog, settings: Settings, votes: Iterable[Vote]
) -> dict[str, tuple[list[str], list[str]]]:
    """Prediction id -> positions of its predictions and labels, over the whole log."""
    places: dict[str, tuple[list[str], list[str]]] = {
        vote.prediction_id: ([], []) for vote in votes
    }
    codec = codec_of(settings)
    while places and (records := log.poll(POLLED)):
        for kind, position, fact, _ in codec.decode_all(records):
            if not isinstance(fact, Rejected) and fact.prediction_id in places:
                places[fact.prediction_id][kind is Kind.LABELS].append(str(position))
    return places
