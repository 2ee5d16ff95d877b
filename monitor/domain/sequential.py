"""Evidence that may be looked at again and again: tests and intervals that hold at every look.

Values lie within 0..1 and come one after another; of them only their sum and their number are kept.
Against a mean ``null`` the evidence is the mixture, over all means ``q``, of the likelihood ratios
of ``q`` to ``null``, weighed by Beta(1/2, 1/2)::

    E = B(1/2 + hits, 1/2 + misses) / (B(1/2, 1/2) null**hits (1 - null)**misses)

While each value's mean, given all before it, is ``null``, E is a nonnegative supermartingale that
begins at 1, so that the chance that it *ever* reaches ``1 / alpha`` is at most ``alpha`` (J. Ville,
1939; the mixture is H. Robbins', Ann. Math. Stat. 41, 1970). For shares it is a martingale; for
other values within 0..1 it is enough that the ratio of ``q`` is convex in the value, and so at most
what it is between 0 and 1 (W. Hoeffding, JASA 58, 1963, theorem 1; I. Waudby-Smith and A. Ramdas,
J. R. Stat. Soc. B 86, 2024). The means that E has not excluded are an interval that holds at all
looks at once.
"""

import math
from collections.abc import Callable

_HALVINGS = 60
_HALF = math.lgamma(0.5)


def log_evidence(hits: float, misses: float, null: float) -> float:
    """Natural logarithm of E; ``null`` lies strictly within 0..1. No value at all gives 0.

    >>> round(math.exp(log_evidence(9, 0, 0.5)), 1)
    95.0
    """
    return _log_mixture(hits, misses) - hits * math.log(null) - misses * math.log1p(-null)


def mean_bounds(hits: float, misses: float, alpha: float) -> tuple[float, float]:
    """Between which means the true one lies at all looks, but with a chance of ``alpha``.

    ``hits`` is the sum of the values, ``misses`` how much it falls short of their number. (0, 1)
    for no value.

    >>> [round(bound, 3) for bound in mean_bounds(80, 20, 0.05)]
    [0.648, 0.909]
    """
    n = hits + misses
    if not n:
        return 0.0, 1.0
    bar = math.log(1 / alpha)
    mean, mixture = hits / n, _log_mixture(hits, misses)

    def is_excluded(q: float) -> bool:
        return mixture - hits * math.log(q) - misses * math.log1p(-q) >= bar

    low = _halved(0.0, mean, is_excluded) if hits else 0.0
    return low, _halved(1.0, mean, is_excluded) if misses else 1.0


def rank_bounds(share: float, n: int, alpha: float) -> tuple[int, int] | None:
    """Ranks (1..n) of sorted values between which the quantile ``share`` lies at all looks.

    How many values do not exceed the quantile is counted against the share: nothing is assumed of
    their distribution (S. R. Howard and A. Ramdas, Bernoulli 28, 2022). None while there are too
    few values for both.

    >>> rank_bounds(0.95, 1000, 0.05), rank_bounds(0.95, 50, 0.05)
    ((923, 974), None)
    """
    bar, middle = math.log(1 / alpha), round(share * n)

    def is_excluded(below: int) -> bool:
        return log_evidence(below, n - below, share) >= bar

    if not is_excluded(0) or not is_excluded(n):
        return None
    out, within = 0, middle
    while within - out > 1:
        between = (out + within) // 2
        out, within = (between, within) if is_excluded(between) else (out, between)
    low = within
    out, within = n, middle
    while out - within > 1:
        between = (out + within) // 2
        out, within = (between, within) if is_excluded(between) else (out, between)
    return low, within + 1


def _log_mixture(hits: float, misses: float) -> float:
    """``log(B(1/2 + hits, 1/2 + misses) / B(1/2, 1/2))``."""
    together = math.lgamma(hits + misses + 1.0)
    return math.lgamma(hits + 0.5) + math.lgamma(misses + 0.5) - together - 2 * _HALF


def _halved(outside: float, inside: float, is_excluded: Callable[[float], bool]) -> float:
    """The last point towards ``outside`` that is not excluded; ``outside`` itself is not asked."""
    for _ in range(_HALVINGS):
        between = (outside + inside) / 2
        if between in {outside, inside}:
            break
        if is_excluded(between):
            outside = between
        else:
            inside = between
    return outside
