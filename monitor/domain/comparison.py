"""Which of two variants is better, and in what?

Two proportions are compared by Newcombe's hybrid score interval of their difference
(R. G. Newcombe, Statistics in Medicine 17, 1998, 873-890, method 10), made of the Wilson intervals
of both. A difference is **shown** when the interval leaves out zero.

The interval is that of independent messages, each answered by one variant, and of a single look:
somebody who looks again and again until it leaves out zero is wrong more often than one time in 20.
Where both answered the same requests, ``domain.pairs`` compares them at every look.

Latency and relevance have tests of their own, which also hold at every look, and need no more than
the sketch and the sum that are kept: each variant has an interval that fails with a chance of at
most 2.5 %, and a difference is shown when the two are apart. That takes more than a test of the
difference itself would, for which values would have to be kept.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from monitor.domain.counts import Counts
from monitor.domain.scores import Score, difference_interval
from monitor.domain.sequential import mean_bounds, rank_bounds
from monitor.domain.verdict import LEAST_LABELS


class Finding(StrEnum):
    """How one variant stands against the other in one measure."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference shown"
    TOO_FEW = "too few labels"


class Comparison(NamedTuple):
    """``difference`` is that of two shares, -1..1; None, like its interval, without a label.

    ``n`` and ``other_n`` are the labels of the one and of the other; where ``is_paired``, they are
    the requests that both answered. A difference in latency is one of milliseconds, and there
    lower is better. ``claimed_ms`` is when a difference was claimed, by log time; None if it never
    was, or if nobody watches. What ``is_watched`` holds at every look.
    """

    finding: Finding
    difference: float | None
    interval: tuple[float, float] | None
    n: int
    other_n: int
    is_paired: bool = False
    is_watched: bool = False
    claimed_ms: int | None = None


def compare(one: Score, other: Score) -> Comparison:
    """``one`` minus ``other``, two independent proportions with their 95 % intervals.

    >>> from monitor.domain.scores import proportion
    >>> found = compare(proportion(56, 70), proportion(48, 80))
    >>> str(found.finding), [round(bound, 4) for bound in found.interval]
    ('better', [0.0524, 0.3339])
    """
    n, other_n = one.support, other.support
    interval = difference_interval(one, other)
    if one.value is None or other.value is None or interval is None:
        return Comparison(Finding.TOO_FEW, None, None, n, other_n)
    finding = _finding(min(n, other_n), *interval)
    return Comparison(finding, one.value - other.value, interval, n, other_n)


def compare_latency(one: Counts, other: Counts, share: float) -> Comparison:
    """The latency that ``share`` of the messages do not exceed, in milliseconds.

    Distribution free: see ``sequential.rank_bounds``, and counted in whole buckets of the sketch.
    """
    found, bounds = [], []
    for counts in (one, other):
        n = sum(count for cell, count in counts.cells.items() if cell[0] == "latency")
        ranks = rank_bounds(share, n, _EACH) if n else None
        bounds.append(counts.latency_bounds(*ranks) if ranks else None)
        found.append((counts.latency_ms(share), n))
    return _apart(found, bounds, is_lower_better=True)


def compare_relevance(one: Counts, other: Counts) -> Comparison:
    """The mean relevance. See ``sequential.mean_bounds``: whatever the values within 0..1."""
    found, bounds = [], []
    for counts in (one, other):
        mean, n = counts.relevance
        hits = min(float(n), max(0.0, (mean or 0.0) * n))
        bounds.append(mean_bounds(hits, n - hits, _EACH) if n else None)
        found.append((mean, n))
    return _apart(found, bounds, is_lower_better=False)


_EACH = 0.025
"""Half of what may go wrong, for each of the two intervals."""


def _apart(
    found: Sequence[tuple[float | None, int]],
    bounds: Sequence[tuple[float, float] | None],
    *,
    is_lower_better: bool,
) -> Comparison:
    """Two values with their numbers, and intervals of them, which a difference must part."""
    (value, n), (other, other_n) = found
    mine, theirs = bounds
    if value is None or other is None or mine is None or theirs is None:
        difference = None if value is None or other is None else value - other
        return Comparison(Finding.TOO_FEW, difference, None, n, other_n, is_watched=True)
    least, most = mine[0] - theirs[1], mine[1] - theirs[0]
    finding = Finding.NO_DIFFERENCE
    if least > 0 or most < 0:
        finding = Finding.BETTER if (most < 0) == is_lower_better else Finding.WORSE
    return Comparison(finding, value - other, (least, most), n, other_n, is_watched=True)


def _finding(n: int, least: float, most: float) -> Finding:
    if n < LEAST_LABELS:
        return Finding.TOO_FEW
    if least > 0:
        return Finding.BETTER
    return Finding.WORSE if most < 0 else Finding.NO_DIFFERENCE
