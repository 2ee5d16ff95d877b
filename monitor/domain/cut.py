"""How far a state has come: next offsets, and the log time that nothing earlier can still arrive.

A **cut** holds, for each partition, the next offset that a shard has yet to apply and the
partition's **frontier**: the log time of the last record applied. The **watermark** is the least
frontier over the active partitions; every record with a smaller log time has been applied.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from monitor.domain.events import Partition

UNREAD = -1
"""Frontier of a partition of which no record has been applied and whose end is not known."""

IDLE = -2
"""Frontier of a partition that has been read to its end: it holds nobody back."""


class Progress(NamedTuple):
    """Where one shard stands in one partition. ``frontier_ms`` may be UNREAD or IDLE."""

    next_offset: int
    frontier_ms: int = UNREAD
    last_log_ms: int = UNREAD


Cut = Mapping[Partition, Progress]


WAKING_MS = 5_000
"""How far the watermark stays behind while a partition is idle: what it is about to deliver may be
in another worker's hands."""


def watermark(cuts: Iterable[Cut]) -> int | None:
    """Log time before which the input of all ``cuts`` is complete, exclusive; None if unknown.

    Idle partitions are left out, but keep it back by ``WAKING_MS``. When all are idle it is one
    millisecond past the last record seen, so that a log read to its end counts as complete.

    >>> p, q = Partition("predictions", 0), Partition("labels", 0)
    >>> watermark([{p: Progress(5, 1_000, 1_000), q: Progress(3, 400, 400)}])
    400
    >>> watermark([{p: Progress(5, IDLE, 1_000), q: Progress(3, IDLE, 400)}])
    1001
    >>> watermark([{p: Progress(0), q: Progress(3, 400, 400)}]) is None
    True
    """
    active: int | None = None
    last = UNREAD
    is_any_idle = False
    for cut in cuts:
        for progress in cut.values():
            last = max(last, progress.last_log_ms)
            if progress.frontier_ms == UNREAD:
                return None
            if progress.frontier_ms == IDLE:
                is_any_idle = True
            else:
                front = progress.frontier_ms
                active = front if active is None else min(active, front)
    if active is not None:
        return active - WAKING_MS if is_any_idle else active
    return None if last == UNREAD else last + 1
