"""The journal: what every evaluation found, chained, so that an audit can replay the very same.

Each entry names its predecessor by hash: one that was removed, altered or moved does not fit any
more. When the store has lost what it had acknowledged, the evaluator goes back and writes other
entries under the same numbers; both branches stand in the journal, the later one holds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

Offsets = tuple[tuple[str, int], ...]
"""``topic[partition]`` and next offset, sorted."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One evaluation. ``tick_ms`` is its watermark: the log was complete before this instant.

    ``cut`` is how far every shard had read at least. ``settings`` is the digest of those that
    decide numbers and alerts, ``document`` these settings themselves, as JSON, in the first entry
    of every evaluator, else "". ``state`` is the digest of all that the evaluator
    knows, ``found`` that of its transitions, whose ids are ``transitions``, ``books`` that of the
    ledger at ``cut``; "" when it was not taken, since shards stood at different places or it was
    taken less than a minute before; ``inputs`` are then the checksums of all that was read, for
    each ``topic[partition]``, so that a difference can be placed. ``hash`` is that of the entry itself, "" while it is not
    sealed, ``previous`` that of the entry before, "" for the first one.
    """

    sequence: int
    tick_ms: int
    cut: Offsets
    settings: str
    code: str
    state: str
    books: str
    transitions: tuple[str, ...]
    found: str
    previous: str
    document: str = ""
    inputs: Offsets = ()
    hash: str = ""

    def __str__(self) -> str:
        """As messages name it."""
        return f"journal entry {self.sequence}"


class Fault(StrEnum):
    """What can be wrong with a journal."""

    ALTERED = "altered"
    MISSING = "missing"
    REORDERED = "reordered"
    CUT_OFF = "cut_off"


class Break(NamedTuple):
    """Where the chain does not hold, and how."""

    fault: Fault
    sequence: int
    text: str


class Chain(NamedTuple):
    """A journal that was read: the entries that hold, in order, and what is wrong with it.

    ``replaced`` counts entries that the evaluator wrote again, after the store had lost them.
    """

    entries: tuple[JournalEntry, ...]
    breaks: tuple[Break, ...]
    replaced: int


def chain_of(entries: Iterable[JournalEntry], *, altered: Iterable[int] = ()) -> Chain:
    """Follow the chain through ``entries``, which come in the order in which they were found.

    Copies of an entry are passed over: the journal is delivered at least once. ``altered`` are the
    sequence numbers of those whose hash is not that of their content. The first entry may have any
    predecessor: older ones may have been dropped.
    """
    breaks = [
        Break(Fault.ALTERED, sequence, f"journal entry {sequence} was altered: its hash differs")
        for sequence in altered
    ]
    known: dict[str, JournalEntry] = {}
    held: list[JournalEntry] = []
    replaced = 0
    waiting: list[JournalEntry] = []
    for entry in entries:
        if entry.hash in known:
            continue
        if held and entry.previous not in known:
            waiting.append(entry)
        elif held and entry.previous != held[-1].hash:
            replaced += _cut_back(held, entry)
        known[entry.hash] = entry
        held.append(entry)
    breaks += _breaks(waiting, held)
    return Chain(tuple(held), tuple(breaks), replaced)


def _cut_back(held: list[JournalEntry], entry: JournalEntry) -> int:
    """Drop what ``entry`` replaces; how many these are."""
    place = next((i for i, e in enumerate(held) if e.hash == entry.previous), None)
    if place is None:
        return 0
    gone = len(held) - place - 1
    del held[place + 1 :]
    return gone


def _breaks(strays: Iterable[JournalEntry], held: Iterable[JournalEntry]) -> list[Break]:
    """Each stray's predecessor comes later, which is disorder, or not at all: it is missing."""
    later = {entry.hash: entry for entry in held}
    found = []
    for stray in strays:
        before = later.get(stray.previous)
        if before is not None:
            text = f"{stray} stands before entry {before.sequence}, which it follows"
            found.append(Break(Fault.REORDERED, stray.sequence, text))
        else:
            text = f"journal entry {stray.sequence - 1}, which {stray} follows, is missing"
            found.append(Break(Fault.MISSING, stray.sequence - 1, text))
    return found
