"""Detectors: votes in release order -> is the proportion below the objective?

**The e-detector**, the default, is a mixture of Shiryaev-Roberts statistics. Each of four
alternatives ``q < null`` holds a capital ``R``; every vote multiplies ``1 + R`` by the likelihood
ratio of ``q`` to ``null``. While the true proportion is at least ``null``, the expected number of
votes until the mixture reaches a bar ``A`` is at least ``A``, and the chance of reaching it within
``n`` votes is at most ``n / A``: at any traffic, and however often somebody looks. That is optional
stopping on ``M - n``, see Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for
sequential change detection", 2022. It adds, multiplies and compares in a fixed order and does
nothing else, so that a replay has the same bits.

**The at-a-glance detector** counts. It looks at the last 20 and the last 100 votes and *breaches*
when Wilson's upper bound at z = 3.5 lies below the objective in either; at an objective of 0.80
that is at most 9 hits of 20 or at most 65 of 100. It is *clear* when the last 100 show five points
more than the objective (85 of 100) and the last 20 are not in breach.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from monitor.domain.intervals import wilson

CAP = 1e12
"""Capital is held here: far above any bar, and finite."""

DOWN_SHARES = (0.90, 0.75, 0.50, 0.20)
"""The alternatives are these shares of the null."""

DOWN_WEIGHTS = (0.500, 0.250, 0.125, 0.125)
UP_SHARES = (0.50, 0.75)
"""Alternatives of recovery: so much of the way from the null up to 1."""

UP_WEIGHTS = (0.5, 0.5)
CLEAR_BAR = 1000.0
"""Evidence of recovery that ends an alert: about 55 good votes."""

SHORT, LONG = 20, 100
Z_BREACH = 3.5
CLEAR_MARGIN = 0.05


class Evidence(NamedTuple):
    """What a decision stands on: ``hits`` of the last ``n`` votes, released since ``since_ms``.

    ``since_ms`` is the event time of the first of them in release order; a single very late label
    among them would make their least event time misleading. ``value`` is what was compared with
    ``bar``: the mixture with the bar of evidence (it fires from there on), Wilson's upper bound
    with the objective (it fires below it), a signal with its limit.
    """

    hits: int
    n: int
    since_ms: int
    value: float
    bar: float

    @property
    def strength(self) -> float:
        """``ln(1 + value) / ln(1 + bar)``, at most 1: how far the mixture has come. Display only.

        >>> round(Evidence(3, 12, 0, 999.0, 35_999.0).strength, 2)
        0.66
        """
        return min(1.0, math.log1p(self.value) / math.log1p(self.bar))


class Factors(NamedTuple):
    """What a hit and what a miss multiply each capital by."""

    hit: tuple[float, ...]
    miss: tuple[float, ...]


@lru_cache(maxsize=256)
def down_factors(null: float) -> Factors:
    """Of the alternatives below ``null`` (above 0, below 1)."""
    return _factors(null, [null * share for share in DOWN_SHARES])


@lru_cache(maxsize=256)
def up_factors(null: float) -> Factors:
    """Of the alternatives above ``null`` (above 0, below 1)."""
    return _factors(null, [null + share * (1 - null) for share in UP_SHARES])


def _factors(null: float, alternatives: list[float]) -> Factors:
    return Factors(
        tuple(q / null for q in alternatives), tuple((1 - q) / (1 - null) for q in alternatives)
    )


@dataclass(slots=True)
class Mixture:
    """The capitals against one null, changed in place by ``observe``.

    ``growth`` is their companion for the most likely change point: where it starts anew, so do the
    votes that are shown as evidence. ``starts`` holds for each the votes and hits before that
    instant, and the event time of the vote there.
    """

    capital: list[float] = field(default_factory=lambda: [0.0] * len(DOWN_WEIGHTS))
    growth: list[float] = field(default_factory=lambda: [0.0] * len(DOWN_WEIGHTS))
    starts: list[tuple[int, int, int]] = field(
        default_factory=lambda: [(0, 0, 0)] * len(DOWN_WEIGHTS)
    )
    votes: int = 0
    hits: int = 0

    def observe(self, factors: Factors, event_ms: int, *, hit: bool) -> float:
        """Take in one vote; the value of the mixture."""
        # Written out for each of the four: a loop here would double what a vote costs.
        f0, f1, f2, f3 = factors[0] if hit else factors[1]
        r0, r1, r2, r3 = self.capital
        g0, g1, g2, g3 = self.growth
        here, starts = (self.votes, self.hits, event_ms), self.starts
        if g0 <= 1.0:
            g0, starts[0] = 1.0, here
        if g1 <= 1.0:
            g1, starts[1] = 1.0, here
        if g2 <= 1.0:
            g2, starts[2] = 1.0, here
        if g3 <= 1.0:
            g3, starts[3] = 1.0, here
        r0, r1, r2, r3 = (1.0 + r0) * f0, (1.0 + r1) * f1, (1.0 + r2) * f2, (1.0 + r3) * f3
        g0, g1, g2, g3 = g0 * f0, g1 * f1, g2 * f2, g3 * f3
        if not hit:  # A hit only makes them less, so that the cap holds by itself.
            r0, r1, r2, r3 = min(r0, CAP), min(r1, CAP), min(r2, CAP), min(r3, CAP)
            g0, g1, g2, g3 = min(g0, CAP), min(g1, CAP), min(g2, CAP), min(g3, CAP)
        self.capital = [r0, r1, r2, r3]
        self.growth = [g0, g1, g2, g3]
        self.votes += 1
        self.hits += hit
        w0, w1, w2, w3 = DOWN_WEIGHTS
        return w0 * r0 + w1 * r1 + w2 * r2 + w3 * r3

    @property
    def value(self) -> float:
        """What ``observe`` returned last; 0.0 before any vote."""
        value = 0.0
        for weight, capital in zip(DOWN_WEIGHTS, self.capital, strict=True):
            value += weight * capital
        return value

    def evidence(self, bar: float) -> Evidence:
        """The votes since the most likely change point of the capital that weighs most."""
        weighed = [w * r for w, r in zip(DOWN_WEIGHTS, self.capital, strict=True)]
        votes, hits, since_ms = self.starts[weighed.index(max(weighed))]
        return Evidence(self.hits - hits, self.votes - votes, since_ms, self.value, bar)

    def copy(self) -> "Mixture":
        """One of its own that can be changed."""
        return Mixture(
            self.capital.copy(), self.growth.copy(), self.starts.copy(), self.votes, self.hits
        )


@dataclass(slots=True)
class Recovery:
    """The mirror image: evidence that the proportion is above the null again."""

    capital: list[float] = field(default_factory=lambda: [0.0] * len(UP_WEIGHTS))

    def observe(self, factors: Factors, *, hit: bool) -> float:
        """Take in one vote; the value of the mixture."""
        f0, f1 = factors[0] if hit else factors[1]
        r0, r1 = self.capital
        r0, r1 = min((1.0 + r0) * f0, CAP), min((1.0 + r1) * f1, CAP)
        self.capital = [r0, r1]
        return UP_WEIGHTS[0] * r0 + UP_WEIGHTS[1] * r1

    @property
    def is_clear(self) -> bool:
        """Whether there is enough of it to end an alert."""
        r0, r1 = self.capital
        return UP_WEIGHTS[0] * r0 + UP_WEIGHTS[1] * r1 >= CLEAR_BAR

    def copy(self) -> "Recovery":
        """One of its own that can be changed."""
        return Recovery(self.capital.copy())


class Glance(NamedTuple):
    """The last votes, oldest first, at most 100: ``(event_ms, hit)``."""

    ring: tuple[tuple[int, bool], ...] = ()


class Bars(NamedTuple):
    """Hit counts that decide, for one objective."""

    breach_short: int
    breach_long: int
    clear_long: int


@lru_cache(maxsize=256)
def bars(objective: float) -> Bars:
    """The most hits of 20 and of 100 that breach (-1: none does), and the least of 100 that clear.

    >>> bars(0.80)
    Bars(breach_short=9, breach_long=65, clear_long=85)
    """
    short, long = (
        max((h for h in range(n + 1) if wilson(h, n, Z_BREACH)[1] < objective), default=-1)
        for n in (SHORT, LONG)
    )
    clear = math.ceil((objective + CLEAR_MARGIN) * LONG - 1e-9)
    return Bars(short, long, min(clear, LONG))


def observe(state: Glance, event_ms: int, *, hit: bool) -> Glance:
    """``state`` after one more vote."""
    return Glance((*state.ring, (event_ms, hit))[-LONG:])


def breach(state: Glance, objective: float) -> Evidence | None:
    """The window that breaches, the short one first; None when neither does."""
    bar = bars(objective)
    for size, most in ((SHORT, bar.breach_short), (LONG, bar.breach_long)):
        if len(state.ring) >= size:
            evidence = evidence_of(state, size, objective)
            if evidence.hits <= most:
                return evidence
    return None


def is_clear(state: Glance, objective: float) -> bool:
    """Whether the last votes say that the proportion is good again; never with fewer than 100."""
    if len(state.ring) < LONG:
        return False
    bar = bars(objective)
    enough = evidence_of(state, LONG, objective).hits >= bar.clear_long
    return enough and evidence_of(state, SHORT, objective).hits > bar.breach_short


def evidence_of(state: Glance, size: int, objective: float) -> Evidence:
    """The last ``size`` votes, or as many as there are (at least one)."""
    votes = state.ring[-size:]
    hits = sum(hit for _, hit in votes)
    upper = wilson(hits, len(votes), Z_BREACH)[1]
    return Evidence(hits, len(votes), votes[0][0], upper, objective)
