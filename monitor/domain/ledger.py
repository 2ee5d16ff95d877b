"""The books: where every record that was received has gone.

``predictions received = labelled + pending + expired + duplicate + rejected + passed over`` and
``labels received = applied + superseded + orphan + expired + duplicate + rejected + passed over``
hold at every commit; what is passed over is not in the sample, and nothing where every id is kept.
Counters are plain names with a count, so that a commit is a handful of additions; those of
things that still can expire carry their hour (``predictions.pending@491234``) and are read as
expired once the watermark has passed the end of that hour plus the label horizon.

Records that the log dropped before they could be read are not received; they stand beside the
balance as named gaps.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from monitor.domain.events import Kind, Partition, Reason
from monitor.domain.join import HOUR_MS, expiry_ms

Ledger = Mapping[str, int]
"""Counter name -> count; absent means 0."""


_GAP = "gap@"
_INPUT = "input@"

RECEIVED: Mapping[Kind, str] = {kind: f"{kind}.received" for kind in Kind}
"""Counter of all records read from one of the two logs."""


@dataclass(frozen=True, slots=True)
class Balance:
    """One side of the ledger as a person reads it. All are counts of records."""

    received: int
    accepted: int
    duplicate: int
    expired: int
    rejected: Mapping[str, int]
    parts: Mapping[str, int]
    passed_over: int = 0

    @property
    def difference(self) -> int:
        """Received less everything accounted for: 0, or records were lost or counted twice."""
        known = sum(self.parts.values()) + self.expired + self.duplicate + self.passed_over
        return self.received - known - sum(self.rejected.values())


def duplicate(kind: Kind) -> str:
    """Counter of redelivered copies."""
    return f"{kind}.duplicate"


def expired(kind: Kind) -> str:
    """Counter of what came past the label horizon."""
    return f"{kind}.expired"


def passed_over(kind: Kind) -> str:
    """Counter of records that are understood, but not in the sample."""
    return f"{kind}.passed_over"


def rejected(kind: Kind, reason: Reason) -> str:
    """Counter of records rejected for one reason."""
    return f"{kind}.rejected.{reason}"


class Gap(NamedTuple):
    """Offsets from ``first`` up to ``past``, exclusive, that the log dropped before they counted.

    How many records that were is unknown: offsets are not dense.
    """

    partition: Partition
    first: int
    past: int

    def __str__(self) -> str:
        """Partition and offsets, as in every message."""
        return f"{self.partition}@{self.first}-{self.past - 1}"


def is_gap(counter: str) -> bool:
    """Whether a counter names records that the log dropped."""
    return counter.startswith(_GAP)


def input_of(partition: Partition) -> str:
    """Counter of the checksums of all records read from one partition."""
    return f"{_INPUT}{partition}"


def is_input(counter: str) -> bool:
    """Whether a counter holds checksums."""
    return counter.startswith(_INPUT)


def inputs_of(ledger: Ledger) -> dict[str, int]:
    """``topic[partition]`` -> sum of the checksums of all its records that were read."""
    found = {name.removeprefix(_INPUT): n for name, n in ledger.items() if name.startswith(_INPUT)}
    return dict(sorted(found.items()))


def gap(found: Gap) -> str:
    """Counter of the shards that miss these records.

    >>> gap(Gap(Partition("labels", 0), 7, 9))
    'gap@labels[0]:7-9'
    """
    return f"{_GAP}{found.partition}:{found.first}-{found.past}"


def gaps_of(ledger: Ledger) -> list[Gap]:
    """What was dropped before every shard had counted it, sorted; what adjoins is one gap.

    >>> gaps_of({"gap@labels[0]:7-9": 1, "gap@labels[0]:8-12": 1, "labels.received": 3})
    [Gap(partition=Partition(topic='labels', partition=0), first=7, past=12)]
    """
    merged: list[Gap] = []
    for found in sorted(_gap_named(name) for name in ledger if name.startswith(_GAP)):
        last = merged[-1] if merged else None
        if last and last.partition == found.partition and found.first <= last.past:
            merged[-1] = last._replace(past=max(last.past, found.past))
        else:
            merged.append(found)
    return merged


def _gap_named(counter: str) -> Gap:
    place, offsets = counter.removeprefix(_GAP).rsplit(":", 1)
    topic, number = place.removesuffix("]").rsplit("[", 1)
    first, past = offsets.split("-")
    return Gap(Partition(topic, int(number)), int(first), int(past))


def balance_of(ledger: Ledger, kind: Kind, *, watermark_ms: int, horizon_ms: int) -> Balance:
    """The side of ``kind`` as of ``watermark_ms``.

    >>> books = {"predictions.received": 3, "predictions.labelled": 1, "predictions.pending@0": 2}
    >>> balance_of(books, Kind.PREDICTIONS, watermark_ms=0, horizon_ms=HOUR_MS).parts
    {'labelled': 1, 'pending': 2}
    >>> balance_of(books, Kind.PREDICTIONS, watermark_ms=9 * HOUR_MS, horizon_ms=HOUR_MS).expired
    2
    """
    names = (
        ("labelled", "pending") if kind is Kind.PREDICTIONS else ("applied", "superseded", "orphan")
    )
    parts = {name: ledger.get(f"{kind}.{name}", 0) for name in names}
    waiting = "pending" if kind is Kind.PREDICTIONS else "orphan"
    gone = ledger.get(expired(kind), 0)
    prefix = f"{kind}.{waiting}@"
    for counter, count in ledger.items():
        if counter.startswith(prefix):
            hour_ms = int(counter.removeprefix(prefix)) * HOUR_MS
            if expiry_ms(hour_ms, horizon_ms) <= watermark_ms:
                gone += count
            else:
                parts[waiting] += count
    prefix = f"{kind}.rejected."
    reasons = {
        counter.removeprefix(prefix): count
        for counter, count in sorted(ledger.items())
        if counter.startswith(prefix) and count
    }
    accepted = sum(parts.values()) + gone
    total, copies = ledger.get(RECEIVED[kind], 0), ledger.get(duplicate(kind), 0)
    left = ledger.get(passed_over(kind), 0)
    return Balance(total, accepted, copies, gone, reasons, parts, left)


def merged(ledgers: list[Ledger]) -> dict[str, int]:
    """The sum of several shards' ledgers, without empty counters."""
    total: Counter[str] = Counter()
    for ledger in ledgers:
        total.update(ledger)
    return {name: count for name, count in sorted(total.items()) if count}
