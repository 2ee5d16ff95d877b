"""Time cut into panes; windows are merges of panes.

A pane of size s is ``[k*s, (k+1)*s)`` in milliseconds since the epoch: half-open, aligned, UTC. A
negative instant belongs to the pane below it, as everywhere else. Each outcome is counted in one
pane of each size, under two clocks: the event time of its prediction (is the model worse?) and the
log time of the label that decided it (what did we learn?). The size 0 stands for all time.

A third clock counts what the log told when: each thing at the log time at which it was first known.
Later labels do not touch it, so that a pane of it is **settled**, and never changes again, once the
watermark has passed its end. Signals read such panes alone.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from math import inf
from typing import NamedTuple

from monitor.domain.slices import SliceKey

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
ALL_TIME = 0


class Clock(StrEnum):
    """Which instant decides the pane."""

    EVENT = "event"
    LABEL = "label"
    LOG = "log"


class PaneKey(NamedTuple):
    """Names one pane of one variant and slice."""

    clock: Clock
    size_ms: int
    start_ms: int
    key: SliceKey


class Window(NamedTuple):
    """``[start_ms, end_ms)``, aligned to panes."""

    start_ms: int
    end_ms: int


class WindowSpec(NamedTuple):
    """Which panes are kept, and for how long after their end, by log time.

    ``keep_ms`` maps pane size to retention; the smallest size is what instants are cut into and
    every other size is a multiple of it.
    """

    pane_ms: int = MINUTE_MS
    horizon_ms: int = 35 * DAY_MS
    keep_ms: Mapping[int, int] = {
        MINUTE_MS: 7 * DAY_MS,
        HOUR_MS: 90 * DAY_MS,
        DAY_MS: 1095 * DAY_MS,
    }

    def is_kept(self, size_ms: int, start_ms: int, watermark_ms: int | None) -> bool:
        """Whether a pane is still stored when the log is complete up to ``watermark_ms``."""
        return start_ms > self.kept_after(size_ms, watermark_ms)

    def kept_after(self, size_ms: int, watermark_ms: int | None) -> float:
        """Panes that start after this are still stored; minus infinity where all are."""
        if size_ms == ALL_TIME or watermark_ms is None:
            return -inf
        return watermark_ms - size_ms - self.keep_ms[size_ms]


def pane_start(instant_ms: int, size_ms: int) -> int:
    """Start of the pane that ``instant_ms`` falls into.

    >>> pane_start(119_999, MINUTE_MS), pane_start(120_000, MINUTE_MS), pane_start(-1, MINUTE_MS)
    (60000, 120000, -60000)
    """
    return 0 if size_ms == ALL_TIME else instant_ms - instant_ms % size_ms


def pane_starts(window: Window, size_ms: int) -> Iterator[int]:
    """Starts of the panes of one size that make up ``window``, oldest first."""
    return iter(range(pane_start(window.start_ms, size_ms), window.end_ms, size_ms))


def is_final(window: Window, *, maturity_ms: int, watermark_ms: int) -> bool:
    """Whether the labels of the window's last prediction have had time to mature.

    Until then its scores are provisional. A label later than that still counts, as a revision.
    """
    return window.end_ms + maturity_ms <= watermark_ms
