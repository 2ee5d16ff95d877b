"""How sure one can be of a proportion: Wilson's score interval (E. B. Wilson, JASA 22, 1927)."""

import math
from statistics import NormalDist

import numpy as np

Z95 = 1.959963984540054
"""Two-sided 95 %, in standard deviations."""


def wilson(hits: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of ``hits`` of ``n`` (> 0); within 0..1.

    >>> [round(bound, 4) for bound in wilson(80, 100)]
    [0.7112, 0.8666]
    """
    p, z2 = hits / n, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def normal_z(alpha: float) -> float:
    """Standard deviations that a normal value exceeds, on either side, ``alpha`` (0..1) of times.

    >>> round(normal_z(0.05), 6)
    1.959964
    """
    return NormalDist().inv_cdf(1 - alpha / 2)


def f1_interval(hits: int, of: int) -> tuple[float, float]:
    """95 % interval of F1, of ``of`` (> 0) outcomes that are in the group on either side.

    Of those, ``hits`` are in it on both: their share J is a proportion, and F1 is 2J / (1 + J),
    which grows with J, so that the bounds of the one are those of the other.

    >>> [round(bound, 4) for bound in f1_interval(80, 100)]
    [0.8312, 0.9286]
    """
    low, high = (2 * bound / (1 + bound) for bound in wilson(hits, of))
    return low, high


def mean_interval(mean: float, n: int) -> tuple[float, float]:
    """Interval of a mean of ``n`` (> 0) values within 0..1, whatever their distribution.

    95 % or more, by W. Hoeffding's inequality (JASA 58, 1963): wide, since of the values nothing
    but their sum is kept.
    """
    half = math.sqrt(math.log(2 / 0.05) / (2 * n))
    return max(0.0, mean - half), min(1.0, mean + half)


def quantile_ranks(share: float, n: int) -> tuple[int, int] | None:
    """Ranks (1..n) of ``n`` sorted values between which the quantile ``share`` (0..1) lies; 95 %.

    How many values do not exceed the quantile is binomial, whatever the values are: each side is
    wrong in 2.5 % at most (H. A. David and H. N. Nagaraja, Order Statistics, 2003, section 7.1).
    None where the least or the greatest of so few values may well lie on the wrong side.

    >>> quantile_ranks(0.95, 100), quantile_ranks(0.95, 71)
    ((90, 100), None)
    """
    if not n:
        return None
    low, above = _rank_below(share, n), _rank_below(1 - share, n)
    return (low, n - above + 1) if low and above else None


def _rank_below(share: float, n: int) -> int:
    """The greatest rank below which ``share`` of ``n`` values are in 2.5 % at most; 0 for none."""
    mean, deviation = share * n, math.sqrt(share * (1 - share) * n)
    first = max(0, int(mean - _FAR * deviation))
    counts = np.arange(first, int(mean) + 1)
    logs = np.log((n - counts[1:] + 1) / counts[1:]) + math.log(share / (1 - share))
    ways = math.lgamma(n + 1) - math.lgamma(first + 1) - math.lgamma(n - first + 1)
    start = ways + first * math.log(share) + (n - first) * math.log1p(-share)
    below = np.cumsum(np.exp(start + np.concatenate([[0.0], np.cumsum(logs)])))
    found = int(np.searchsorted(below, _HALF, side="right"))
    return first + found if found else 0


_HALF = 0.025
"""Half of what 95 % leaves out."""

_FAR = 12.0
"""Standard deviations beyond which nothing is left that could be seen."""
