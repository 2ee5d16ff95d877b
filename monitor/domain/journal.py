"""The journal: what every evaluation found, chained, so that an audit can replay the very same.

Each entry names its predecessor by hash: one that was removed, altered or moved does not fit any
more. When the store has lost what it had acknowledged, the evaluator goes back and writes other
entries under the same numbers; both branches stand in the journal, the later one holds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

Offsets = tuple[tuple[str, int], ...]
"""``topic[partition]`` and next offset, sorted."""


class Forgotten(NamedTuple):
    """What one shard forgot by request, when it stood at ``cut``: hashes of prediction ids.

    ``request`` is the id of the request; it goes into the hashes, see ``codec.journal``.
    """

    request: str
    cut: Offsets
    hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One evaluation. ``tick_ms`` is its watermark: the log was complete before this instant.

    ``cut`` is how far every shard had read at least. ``settings`` is the digest of those that
    decide numbers and alerts, ``document`` these settings themselves, as JSON, in the first entry
    of every evaluator, else "". ``state`` is the digest of all that the evaluator
    knows, ``found`` that of its transitions, whose ids are ``transitions``, ``books`` that of the
    ledger at ``cut``; "" when it was not taken, since shards stood at different places or it was
    taken less than a minute before; ``inputs`` are then the checksums of all that was read, for
    each ``topic[partition]``, so that a difference can be placed. Where ``forgot`` says that
    predictions were forgotten, that is all that was done: no rule was asked. ``hash`` is that of
    the entry itself, "" while it is not sealed, ``previous`` that of the entry before, "" for the
    first one.
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
    forgot: tuple[Forgotten, ...] = ()
    hash: str = ""

    def __str__(self) -> str:
        """As messages name it."""
        return f"journal entry {self.sequence}"


class Fault(StrEnum):
    """What can be wrong with a journal."""

    ALTERED = "altered"
    MISSING = "missing"
    REORDERED = "reordered"


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


def chain_of(
    entries: Iterable[JournalEntry], *, altered: Iterable[int] = (), head: str = ""
) -> Chain:
    """Follow the chain back from the last of ``entries``, which come as they were found.

    Copies of an entry are passed over: the journal is delivered at least once. What the chain does
    not lead to was replaced by another branch; ``head`` is the hash of an entry that the branch
    that holds must lead to, "" for unknown. ``altered`` are the sequence numbers of entries whose
    hash is not that of their content. The first entry may have any predecessor: older ones may
    have been dropped.
    """
    found = {entry.hash: entry for entry in entries}
    place = {key: number for number, key in enumerate(found)}
    breaks = [
        Break(Fault.ALTERED, sequence, f"journal entry {sequence} was altered: its hash differs")
        for sequence in altered
    ]
    breaks += [
        Break(
            Fault.REORDERED,
            entry.sequence,
            f"{entry} stands before entry {found[entry.previous].sequence}, which it follows",
        )
        for entry in found.values()
        if place.get(entry.previous, -1) > place[entry.hash]
    ]
    held, missing = _branch(found, next(reversed(found), ""))
    if head in found and found[head] not in held:
        held, missing = _branch(found, head)
    breaks = sorted([*breaks, *missing], key=lambda b: b.sequence)
    return Chain(tuple(held), tuple(breaks), len(found) - len(held))


def _branch(found: Mapping[str, JournalEntry], last: str) -> tuple[list[JournalEntry], list[Break]]:
    """From the beginning to the entry with the hash ``last``, and what is missing on the way."""
    in_order = list(found.values())
    held: list[JournalEntry] = []
    missing: list[Break] = []
    entry = found.get(last)
    while entry is not None:
        held.append(entry)
        before = found.get(entry.previous)
        if before is None or before.sequence >= entry.sequence:
            before = None
            if entry.previous:
                before = _latest_before(entry, in_order)
            if before is not None:
                text = f"journal entry {entry.sequence - 1}, which {entry} follows, is missing"
                missing.append(Break(Fault.MISSING, entry.sequence - 1, text))
        entry = before
    return held[::-1], missing


def _latest_before(entry: JournalEntry, in_order: Sequence[JournalEntry]) -> JournalEntry | None:
    """The last one found with a lower sequence, from which a broken chain goes on."""
    return next((each for each in reversed(in_order) if each.sequence < entry.sequence), None)
