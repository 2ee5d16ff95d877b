"""When a label counts as evidence: the age at which labels of hits and of misses are in balance.

``G(age)`` is the share of the labels of a class (hits, misses) that have come by that age. While
``G_hit / G_miss`` is not 1, the recall among labels flatters or slanders the model: odds of what
is seen are the true odds times that ratio. The maturity is the least age from which on the ratio
stays where it moves a proportion at the objective by no more than two points. Delays that do not
depend on the outcome give almost none, so nobody waits for nothing.

The pooled 95 % delay is never used: misses are the rare part, and a quantile of all labels does
not see them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
BIAS = 0.02
LEAST_MISSES = 200
"""Labelled misses from which on the shares are believed."""

CAP_MS = 7 * DAY_MS
FIRST_MS = DAY_MS
"""Before the first estimate, and the time until it."""

OFTEN_UNTIL_MS = 7 * DAY_MS
"""Estimated daily for so long, then weekly."""

MATURE_P95 = 4
"""Cohorts count once they are so many 95 % delays old: none of their labels is still to come."""

COHORTS = 28
"""Days of predictions that are remembered."""

EDGES_MS = tuple(accumulate([30_000, *range(65)], lambda edge, _: edge + edge // 6))
"""Upper ends of the delay bins, from 30 s to over a week, each a sixth above the one before."""

Bins = dict[int, int]


class Change(NamedTuple):
    """A new maturity, decided at ``at_ms``."""

    number: int
    at_ms: int
    maturity_ms: int
    reason: str


@dataclass(slots=True)
class MaturityBook:
    """Delays of one rule, by day of the prediction, and the maturity that follows from them.

    ``hits`` and ``misses`` map a day since the epoch to a bin of ``EDGES_MS`` to its labels. The
    maturity is frozen between one ``next_ms`` and the other.
    """

    maturity_ms: int = FIRST_MS
    first_ms: int = -1
    next_ms: int = -1
    changes: int = 0
    hits: dict[int, Bins] = field(default_factory=dict)
    misses: dict[int, Bins] = field(default_factory=dict)

    def copy(self) -> "MaturityBook":
        """One of its own that can be changed."""
        return MaturityBook(
            self.maturity_ms,
            self.first_ms,
            self.next_ms,
            self.changes,
            {day: dict(bins) for day, bins in self.hits.items()},
            {day: dict(bins) for day, bins in self.misses.items()},
        )

    def observe(
        self, known_ms: int, event_ms: int, hit: bool, objective: float
    ) -> Iterator[Change]:
        """Take in a label that came at ``known_ms``; yields the maturity if it has changed."""
        if self.first_ms < 0:
            self.first_ms, self.next_ms = known_ms, known_ms + FIRST_MS
        if known_ms >= self.next_ms:
            yield from self._estimate(self.next_ms, objective)
            period_ms = DAY_MS if known_ms - self.first_ms < OFTEN_UNTIL_MS else 7 * DAY_MS
            self.next_ms += ((known_ms - self.next_ms) // period_ms + 1) * period_ms
        day, number = event_ms // DAY_MS, bin_of(known_ms - event_ms)
        bins = (self.hits if hit else self.misses).setdefault(day, {})
        bins[number] = bins.get(number, 0) + 1
        for days in (self.hits, self.misses):
            for old in [d for d in days if d <= day - COHORTS]:
                del days[old]

    def _estimate(self, at_ms: int, objective: float) -> Iterator[Change]:
        maturity_ms, ground = estimate(self.hits, self.misses, at_ms, objective)
        if maturity_ms != self.maturity_ms:
            before_ms, self.maturity_ms = self.maturity_ms, maturity_ms
            self.changes += 1
            reason = f"maturity is now {_words(maturity_ms)}, was {_words(before_ms)}: {ground}"
            yield Change(self.changes, at_ms, maturity_ms, reason)


def estimate(
    hits: Mapping[int, Bins], misses: Mapping[int, Bins], at_ms: int, objective: float
) -> tuple[int, str]:
    """The maturity in milliseconds, and in words what it stands on."""
    p95_ms = max(_quantile(_sum(hits.values())), _quantile(_sum(misses.values())))
    last_day = (at_ms - MATURE_P95 * p95_ms) // DAY_MS - 1
    hit_bins = _sum(bins for day, bins in hits.items() if day <= last_day)
    miss_bins = _sum(bins for day, bins in misses.items() if day <= last_day)
    labelled = sum(miss_bins.values())
    if not (labelled or hit_bins):
        # Slow labels are still to come, so the delays seen are too short.
        return min(max(p95_ms, FIRST_MS), CAP_MS), "the longer 95% delay so far, a day at least"
    if labelled < LEAST_MISSES or not hit_bins:
        ground = f"the longer 95% delay; {labelled} misses of days whose labels are complete"
        return min(p95_ms, CAP_MS), ground
    balanced_ms = min(balanced(hit_bins, miss_bins, objective), CAP_MS)
    return balanced_ms, f"labels of hits and misses are in balance, by {labelled} misses"


def balanced(hits: Bins, misses: Bins, objective: float) -> int:
    """The least age, as an edge of a bin, from which on ``G_hit / G_miss`` stays in bounds; 0 too.

    Both must hold labels. The bounds are the odds at two points below and above the objective,
    over the odds at the objective.
    """
    least = _odds(objective - BIAS) / _odds(objective)
    most = _odds(min(objective + BIAS, 0.999)) / _odds(objective)
    seen_hits, seen_misses = _shares(hits), _shares(misses)
    age_ms = 0
    for edge_ms, g_hit, g_miss in zip(EDGES_MS, seen_hits, seen_misses, strict=False):
        if (g_hit or g_miss) and not (g_miss and least <= g_hit / g_miss <= most):
            # Out of bounds up to here: what comes next may be in.
            age_ms = edge_ms
    return age_ms and EDGES_MS[min(EDGES_MS.index(age_ms) + 1, len(EDGES_MS) - 1)]


def bin_of(delay_ms: int) -> int:
    """The bin of ``EDGES_MS`` that a delay falls into; the last one takes in the rest."""
    return min(bisect_left(EDGES_MS, delay_ms), len(EDGES_MS) - 1)


def _shares(bins: Bins) -> list[float]:
    total = sum(bins.values())
    return [n / total for n in accumulate(bins.get(k, 0) for k in range(len(EDGES_MS)))]


def _quantile(bins: Bins, share: float = 0.95) -> int:
    total, reached = sum(bins.values()), 0
    for number, count in sorted(bins.items()):
        reached += count
        if reached >= share * total:
            return EDGES_MS[number]
    return 0


def _sum(many: Iterable[Bins]) -> Bins:
    total: Bins = {}
    for bins in many:
        for number, count in bins.items():
            total[number] = total.get(number, 0) + count
    return total


def _odds(share: float) -> float:
    return share / (1 - share)


def _words(length_ms: int) -> str:
    hours, minutes = length_ms // HOUR_MS, length_ms % HOUR_MS // 60_000
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
