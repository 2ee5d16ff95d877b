"""Detectors: votes in release order -> is the proportion below the objective?

The at-a-glance detector counts. It looks at the last 20 and the last 100 votes and **breaches**
when Wilson's upper bound at z = 3.5 lies below the objective in either; at an objective of 0.80
that is at most 9 hits of 20 or at most 65 of 100. It is **clear** when the last 100 show five
points more than the objective (85 of 100) and the last 20 are not in breach.
"""

import math
from functools import lru_cache
from typing import NamedTuple

from monitor.domain.intervals import wilson

SHORT, LONG = 20, 100
Z_BREACH = 3.5
CLEAR_MARGIN = 0.05


class Glance(NamedTuple):
    """The last votes, oldest first, at most 100: ``(event_ms, hit)``."""

    ring: tuple[tuple[int, bool], ...] = ()


class Evidence(NamedTuple):
    """What a decision stands on: ``hits`` of the last ``n`` votes, released since ``since_ms``.

    ``since_ms`` is the event time of the first of them in release order; a single very late label
    among them would make their least event time misleading. ``upper`` is Wilson's upper bound of
    that proportion at z = 3.5.
    """

    hits: int
    n: int
    since_ms: int
    upper: float


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
            evidence = evidence_of(state, size)
            if evidence.hits <= most:
                return evidence
    return None


def is_clear(state: Glance, objective: float) -> bool:
    """Whether the last votes say that the proportion is good again; never with fewer than 100."""
    if len(state.ring) < LONG:
        return False
    bar = bars(objective)
    enough = evidence_of(state, LONG).hits >= bar.clear_long
    return enough and evidence_of(state, SHORT).hits > bar.breach_short


def evidence_of(state: Glance, size: int) -> Evidence:
    """The last ``size`` votes, or as many as there are (at least one)."""
    votes = state.ring[-size:]
    hits = sum(hit for _, hit in votes)
    return Evidence(hits, len(votes), votes[0][0], wilson(hits, len(votes), Z_BREACH)[1])
