"""Two variants that answered the same requests: what the pairs say about which is right more often.

A pair is *both* right, *only one*, *only the other*, or *neither*. Pairs on which the two agree say
nothing about which is better: all tests here look at those on which they differ.

* ``mcnemar``: the exact test, for **one look** at a moment chosen beforehand.
* ``paired_interval`` and ``bootstrap_interval``: the difference, for one look.
* ``evidence_of`` and ``difference_bounds``: **at every look**. Whoever watches claims a difference
  once the evidence has reached the bar, ``1 / alpha``; if there is none, this ever happens with a
  chance of at most ``alpha``. See ``domain.sequential``.

What is assumed: while there is no difference, a pair on which the two differ is as likely to speak
for the one as for the other, whatever came before. So a conversation is one pair, see ``pairing``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from monitor.domain.comparison import Comparison, Finding
from monitor.domain.intervals import wilson
from monitor.domain.sequential import log_evidence, mean_bounds
from monitor.domain.verdict import LEAST_LABELS

ALPHA = 0.05
"""The chance, over all that is watched and all looks, that a difference is claimed and is none."""

_SPREAD = 12
"""Standard deviations from the mean within which a bootstrap's sum lies, but for 1e-30."""

_NOISE = 1e-12
"""What a Fourier transform leaves of a chance that is 0."""


class Side(NamedTuple):
    """Who answered: a variant, and its version ("" where records name none)."""

    variant: str
    version: str = ""


class PairKey(NamedTuple):
    """Whose answers are compared; ``one`` sorts before ``other``, and their variants differ."""

    one: Side
    other: Side


class PairCounts(NamedTuple):
    """Requests that both answered, by who was right."""

    both: int = 0
    only_one: int = 0
    only_other: int = 0
    neither: int = 0

    @property
    def n(self) -> int:
        """How many there are."""
        return sum(self)

    @property
    def hits(self) -> tuple[int, int]:
        """How often each was right."""
        return self.both + self.only_one, self.both + self.only_other

    @property
    def difference(self) -> float | None:
        """The share of the one minus that of the other, -1..1; None without a pair."""
        return (self.only_one - self.only_other) / self.n if self.n else None

    @property
    def swapped(self) -> "PairCounts":
        """As the other has them."""
        return PairCounts(self.both, self.only_other, self.only_one, self.neither)

    def plus(self, *, one: bool, other: bool) -> "PairCounts":
        """With one more pair; each says whether that side was right."""
        both, only_one, only_other, neither = self
        if one == other:
            return PairCounts(both + one, only_one, only_other, neither + (not one))
        return PairCounts(both, only_one + one, only_other + other, neither)


NOTHING = PairCounts()


@dataclass(frozen=True, slots=True)
class PairState:
    """Where the comparison of one pair stands.

    ``number`` says which pair of variants it is in its comparison, in order of appearance from 1
    on. Pairs were released from ``first_ms`` to ``last_ms``. A difference was last claimed at
    ``claimed_ms``, for the one or (``is_for_one`` false) the other; None if it never was. What was
    claimed stands until the opposite is.
    """

    counts: PairCounts = NOTHING
    number: int = 1
    first_ms: int = 0
    last_ms: int = 0
    claimed_ms: int | None = None
    is_for_one: bool = False


class Judged(NamedTuple):
    """All that a pair's counts say of the one against the other.

    ``interval`` of the difference, ``evidence`` (natural logarithm) and ``bar`` hold at every look;
    ``p_value``, ``one_look`` and ``bootstrap`` for one look alone. Without a pair the intervals are
    None.
    """

    finding: Finding
    counts: PairCounts
    difference: float | None
    interval: tuple[float, float] | None
    evidence: float
    bar: float
    claimed_ms: int | None
    p_value: float
    one_look: tuple[float, float] | None
    bootstrap: tuple[float, float] | None


def alpha_of(number: int, comparisons: int) -> float:
    """The part of ``ALPHA`` that the ``number``-th pair of variants has, from 1 on.

    Comparisons share it equally. Within one the parts 1/2, 1/6, 1/12, ... add up to 1, however
    many variants are yet to come: to divide by the number there is would promise too much each time
    that one is added.

    >>> alpha_of(1, 1), round(alpha_of(2, 1), 6)
    (0.025, 0.008333)
    """
    return ALPHA / (comparisons * number * (number + 1))


def bar_of(number: int, comparisons: int) -> float:
    """The evidence, as a logarithm, from which on a difference is claimed."""
    return -math.log(alpha_of(number, comparisons))


def evidence_of(counts: PairCounts) -> float:
    """Natural logarithm of the evidence that the two differ; 0 where no pair told them apart."""
    return log_evidence(counts.only_one, counts.only_other, 0.5)


def with_pair(
    state: PairState, at_ms: int, *, one: bool, other: bool, comparisons: int
) -> PairState:
    """``state`` after one more pair, released at ``at_ms``, among so many comparisons."""
    counts = state.counts.plus(one=one, other=other)
    first_ms = state.first_ms if state.counts.n else at_ms
    claimed_ms, is_for_one = state.claimed_ms, state.is_for_one
    if one != other and evidence_of(counts) >= bar_of(state.number, comparisons):
        leads_one = counts.only_one > counts.only_other
        if claimed_ms is None or leads_one != is_for_one:
            claimed_ms, is_for_one = at_ms, leads_one
    return PairState(counts, state.number, first_ms, at_ms, claimed_ms, is_for_one)


def judge(state: PairState, comparisons: int) -> Judged:
    """What ``state`` says, one of so many comparisons."""
    counts, alpha = state.counts, alpha_of(state.number, comparisons)
    is_told = counts.n > 0
    return Judged(
        _finding(state),
        counts,
        counts.difference,
        difference_bounds(counts, alpha) if is_told else None,
        evidence_of(counts),
        -math.log(alpha),
        state.claimed_ms,
        mcnemar(counts.only_one, counts.only_other),
        paired_interval(counts) if is_told else None,
        bootstrap_interval(counts) if is_told else None,
    )


def compare_pairs(state: PairState, comparisons: int, *, is_swapped: bool = False) -> Comparison:
    """The one minus the other, or (``is_swapped``) the other minus the one, at every look."""
    judged = judge(state, comparisons)
    finding, difference, interval = judged.finding, judged.difference, judged.interval
    if is_swapped:
        finding = _MIRRORED.get(finding, finding)
        difference = None if difference is None else -difference
        interval = None if interval is None else (-interval[1], -interval[0])
    n = state.counts.n
    return Comparison(
        finding, difference, interval, n, n, is_paired=True, is_watched=True,
        claimed_ms=state.claimed_ms,
    )  # fmt: skip


_MIRRORED = {Finding.BETTER: Finding.WORSE, Finding.WORSE: Finding.BETTER}


def present(pairs: Mapping[PairKey, PairState], variant: str, other: str) -> PairKey | None:
    """The versions of two variants that gave the latest pair; None where they gave none."""
    of = {variant, other}
    found = [key for key in pairs if {key.one.variant, key.other.variant} == of]
    return max(found, key=lambda key: (pairs[key].last_ms, key), default=None)


def _finding(state: PairState) -> Finding:
    if state.claimed_ms is not None:
        return Finding.BETTER if state.is_for_one else Finding.WORSE
    return Finding.TOO_FEW if state.counts.n < LEAST_LABELS else Finding.NO_DIFFERENCE


def mcnemar(only_one: int, only_other: int) -> float:
    """Two-sided P of the exact test (Q. McNemar, Psychometrika 12, 1947), 1.0 without a pair.

    Binomial, each side with 1/2: the smaller tail doubled, at most 1. Since the two tails mirror
    each other, that is also the sum of all that is no more likely than what was found.

    >>> mcnemar(12, 2), mcnemar(3, 3)
    (0.012939453125, 1.0)
    """
    n, least = only_one + only_other, min(only_one, only_other)
    if 2 * least == n:
        return 1.0
    term = _half_binomial(least, n)
    total = term
    for k in range(least, 0, -1):
        term *= k / (n - k + 1)
        if term < total * 1e-18:  # The rest is less than the last digit.
            break
        total += term
    return min(1.0, 2 * total)


def paired_interval(counts: PairCounts) -> tuple[float, float]:
    """95 % interval of the difference from at least one pair, for one look.

    Wilson's intervals of both shares, joined by their correlation (R. G. Newcombe, Statistics in
    Medicine 17, 1998, 2635-2650, method 10).

    >>> [round(bound, 4) for bound in paired_interval(PairCounts(36, 12, 2, 0))]
    [0.0569, 0.3404]
    """
    n, (hits, other_hits) = counts.n, counts.hits
    one, other = hits / n, other_hits / n
    (low, high), (other_low, other_high) = wilson(hits, n), wilson(other_hits, n)
    phi = _correlation(counts)
    down = _joined(one - low, other_high - other, phi)
    up = _joined(high - one, other - other_low, phi)
    difference = (counts.only_one - counts.only_other) / n
    return max(-1.0, difference - down), min(1.0, difference + up)


def bootstrap_interval(counts: PairCounts) -> tuple[float, float]:
    """95 % percentile interval of the paired bootstrap, of at least one pair, for one look.

    Pairs are drawn with replacement, as many as there are (B. Efron, Ann. Stat. 7, 1979). The
    distribution of the difference that this ends in is worked out, not drawn: it is that of the sum
    of ``n`` independent steps of +1, -1 and 0, whose Fourier transform is a power. So there is no
    seed. Where no pair tells the two apart, the bootstrap knows of no doubt: both bounds are 0.

    >>> [round(bound, 4) for bound in bootstrap_interval(PairCounts(36, 12, 2, 0))]
    [0.06, 0.34]
    """
    n = counts.n
    up, down = counts.only_one / n, counts.only_other / n
    spread = math.sqrt(n * max(0.0, up + down - (up - down) ** 2))
    width = 2 * min(n, math.ceil(_SPREAD * spread)) + 1
    size = 1 << (width + 1).bit_length()
    steps = np.zeros(size)
    steps[0], steps[1], steps[-1] = 1 - up - down, up, down
    chances = np.fft.ifft(np.fft.fft(steps) ** n).real
    least = counts.only_one - counts.only_other - size // 2
    reached = np.cumsum(np.roll(chances, -(least % size)))
    low, high = (int(np.searchsorted(reached, tail - _NOISE)) for tail in (0.025, 0.975))
    return (least + low) / n, (least + high) / n


def difference_bounds(counts: PairCounts, alpha: float) -> tuple[float, float]:
    """Where the difference lies at all looks, but with a chance of ``2 * alpha``.

    Zero is left out exactly while the evidence is at or above ``1 / alpha``. The difference is the
    share of pairs on which the two differ times how much more often these speak for the one: one
    interval for each of these two, joined.
    """
    differ = counts.only_one + counts.only_other
    least, most = mean_bounds(differ, counts.n - differ, alpha)
    low, high = (2 * bound - 1 for bound in mean_bounds(counts.only_one, counts.only_other, alpha))
    return low * (least if low > 0 else most), high * (most if high > 0 else least)


def _correlation(counts: PairCounts) -> float:
    """Newcombe's estimate, continuity corrected where it is above zero."""
    both, only_one, only_other, neither = counts
    margins = (
        (both + only_one) * (only_other + neither) * (both + only_other) * (only_one + neither)
    )
    if not margins:
        return 0.0
    product = float(both * neither - only_one * only_other)
    if product > 0:
        product = max(0.0, product - counts.n / 2)
    return product / math.sqrt(margins)


def _joined(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def _half_binomial(k: int, n: int) -> float:
    """Chance of ``k`` heads of ``n`` (> 0) coins, to 15 digits at any size.

    C. Loader, Fast and accurate computation of binomial probabilities, 2000.
    """
    if not k or k == n:
        return math.ldexp(1.0, -n)
    if n <= _EXACT:
        return math.comb(n, k) / (1 << n)
    lean = (n - 2 * k) / n
    far = n / 2 * ((1 - lean) * math.log1p(-lean) + (1 + lean) * math.log1p(lean))
    error = _stirling_error(n) - _stirling_error(k) - _stirling_error(n - k)
    return math.exp(error - far) * math.sqrt(2 / (math.pi * n * (1 - lean * lean)))


_EXACT = 500
"""Coins up to which whole numbers are counted."""


def _stirling_error(n: int) -> float:
    """``log n!`` minus Stirling's formula, ``n`` > 0."""
    if n <= _FEW:
        stirling = (n + 0.5) * math.log(n) - n + 0.5 * math.log(2 * math.pi)
        return math.lgamma(n + 1) - stirling
    square = 1.0 / (n * n)
    return (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680))) / n


_FEW = 30
"""From here on four terms of Stirling's series are exact to the last digit."""
