"""Recall before labels come: what the model's own probabilities let one expect (CBPE).

::

    a record's score of the group --bin--> calibrated p(group | bin) --sum--> E[TP], E[FN]

``p(group | bin)`` comes from labels that have come, so that an overconfident model deceives
nobody; with it, each prediction is expected to be a true positive (it went to the group) or a
missed one (it did not). ``estimate = E[TP] / (E[TP] + E[FN])``. See Kivimaeki et al.,
"Confidence-based estimators for predictive performance in model monitoring", 2024.

**It assumes p(group | score) unchanged.** It is right while only the mix of requests moves. A bad
release that shifts the scores looks like an improvement until labels recalibrate it, and a new
kind of urgent request is invisible to it. So it never pages and never resolves anything, it is
shown with its own past error, and it is refused where that error says that the assumption fails.

A bin number is ``40 * (went to the group) + 20 * (kind) + bin``. Kind 0: the sum of the record's
``scores`` over the group. Kind 1: its ``confidence`` in the intent it chose, where it has no
``scores``. Which of both a number is does not matter once it is calibrated, but they are never
mixed.
"""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from monitor.domain.counts import Cells
from monitor.domain.events import Intent

ASSUMPTION = "assumes p({of} | score) unchanged"

EDGES = (
    0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4,
    0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99,
)  # fmt: skip
"""Lower ends of bins 1 to 19; bin 0 begins at 0. Finer at both ends: groups of interest are rare,
and most of what is missed has a score near 0."""

_BINS = len(EDGES) + 1
_WENT_IN = 2 * _BINS
_ENDS = (0.0, *EDGES, 1.0)
MIDDLES = tuple((low + high) / 2 for low, high in pairwise(_ENDS))
"""The score that stands for each bin."""

HALF_LIFE_DAYS = 7
_DAY_POWERS = (
    1.0,
    0.9057236642639067,
    0.820335356007638,
    0.7429971445684742,
    0.6729500963161781,
    0.6095068271022377,
    0.5520447568369062,
)
"""2 ** (-k/7). Written out and halved exactly, since a library's powers differ in the last bit."""

CALIBRATION_DAYS = 28
CHECK_DAYS = 7
"""Days whose labels the past error of the estimate is measured on, at most."""

PRIOR_LABELS = 2.0
"""With so many imagined labels a bin begins at what its score claims."""

LEAST_LABELS = 500
"""Labels that calibrate, before an estimate is made."""

LEAST_GROUP_LABELS = 30
"""Those of them that were of the group."""

MOST_UNSCORED = 0.10
"""Share of predictions without a score, from which on the others speak for too few."""

LEAST_CHECKED = 20
"""Labels of the group that an earlier window needs to count in the past error."""

ERROR_ALLOWED = 0.05
"""Past error that is held against the estimate, beyond twice what chance explains."""


class Truth(NamedTuple):
    """Labels of one bin: how many, and how many of them were of the group. May be decayed."""

    n: float
    hits: float


class Expected(NamedTuple):
    """What a window leads one to expect: the estimate 0..1 and its standard error."""

    value: float
    error: float


class Check(NamedTuple):
    """One earlier window: what was estimated for its labelled predictions, and what was true."""

    expected: Expected
    actual: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """The label-free estimate, or why there is none.

    ``past_error`` is the mean distance from the truth over ``checks`` earlier windows, None
    without any.
    """

    value: float | None
    error: float | None = None
    past_error: float | None = None
    checks: int = 0
    refused: str = ""


def score_name(name: str, members: Iterable[Intent]) -> str:
    """Name of a group's score: with other members it is another score, calibrated afresh.

    >>> score_name("urgent", ["lost_card"])
    'urgent#5f28'
    """
    text = "\x1f".join(sorted(members)).encode()
    return f"{name}#{hashlib.sha256(text).hexdigest()[:4]}"


def bin_of(score: float, is_in: bool, *, is_confidence: bool = False) -> int:
    """Bin number, 0..79, of a score 0..1 of a prediction that went to the group or did not.

    >>> bin_of(0.97, True), bin_of(0.0, False), bin_of(1.0, True, is_confidence=True)
    (57, 0, 79)
    """
    return _WENT_IN * is_in + _BINS * is_confidence + bisect_right(EDGES, score)


def middle_of(number: int) -> float:
    """The score that stands for a bin number."""
    return MIDDLES[number % _BINS]


def weight_of(age_days: int) -> float:
    """What a label counts that is so many days old; halves in a week.

    >>> weight_of(0), weight_of(7), weight_of(14)
    (1.0, 0.5, 0.25)
    """
    return _DAY_POWERS[age_days % HALF_LIFE_DAYS] / 2.0 ** min(age_days // HALF_LIFE_DAYS, 64)


def scores_in(cells: Cells, name: str) -> dict[int, int]:
    """Bin number -> predictions."""
    return {int(c[2]): n for c, n in sorted(cells.items()) if c[:2] == ("score", name) and n}


def truths_in(cells: Cells, name: str) -> dict[int, Truth]:
    """Bin number -> labels."""
    found: dict[int, Truth] = {}
    for cell, n in sorted(cells.items()):
        if cell[:2] == ("truth", name) and n:
            held = found.get(int(cell[2]), Truth(0.0, 0.0))
            found[int(cell[2])] = Truth(held.n + n, held.hits + (n if cell[3] == "1" else 0))
    return found


def added(many: Iterable[tuple[Mapping[int, Truth], float]]) -> dict[int, Truth]:
    """Truths added up, each with its weight, in the order given."""
    total: dict[int, Truth] = {}
    for truths, weight in many:
        for number, truth in truths.items():
            held = total.get(number, Truth(0.0, 0.0))
            total[number] = Truth(held.n + weight * truth.n, held.hits + weight * truth.hits)
    return total


def calibrated(days: Mapping[int, Mapping[int, Truth]], today: int) -> dict[int, Truth]:
    """Labels by day since the epoch -> one table for ``today``, older ones counting less."""
    return added((days[day], weight_of(today - day)) for day in sorted(days) if day <= today)


def expect(scores: Mapping[int, float], table: Mapping[int, Truth]) -> Expected | None:
    """Recall to expect of these predictions; None where nothing of the group is expected.

    The standard error takes in that each prediction falls by chance, and that each bin's
    probability is known from so many labels only.
    """
    hits = missed = 0.0
    spread_in = spread_out = 0.0
    shares = _shares(table)
    for number in sorted(scores):
        n, p = scores[number], shares(number)
        labels = table[number].n if number in table else 0.0
        variance = n * p * (1 - p) + n * n * p * (1 - p) / (labels + PRIOR_LABELS + 1)
        if number >= _WENT_IN:
            hits, spread_in = hits + n * p, spread_in + variance
        else:
            missed, spread_out = missed + n * p, spread_out + variance
    total = hits + missed
    if total <= 0:
        return None
    variance = (missed * missed * spread_in + hits * hits * spread_out) / total**4
    return Expected(hits / total, math.sqrt(variance))


class _shares:  # noqa: N801 - a function with what it needs at hand
    """p(group | bin) as calibrated, for any bin number."""

    def __init__(self, table: Mapping[int, Truth]) -> None:
        self._table = table
        self._sides: dict[int, float] = {}

    def __call__(self, number: int) -> float:
        truth = self._table.get(number, Truth(0.0, 0.0))
        prior = PRIOR_LABELS * self._prior(number)
        return (truth.hits + prior) / (truth.n + PRIOR_LABELS)

    def _prior(self, number: int) -> float:
        """What the score claims; confidence in another intent claims nothing of the group."""
        side = number // _BINS
        if side != 1:
            return middle_of(number)
        if side not in self._sides:
            of_side = [t for at, t in sorted(self._table.items()) if at // _BINS == side]
            n, hits = sum(t.n for t in of_side), sum(t.hits for t in of_side)
            self._sides[side] = hits / n if n else 0.0
        return self._sides[side]


def check(truths: Mapping[int, Truth], table: Mapping[int, Truth]) -> Check | None:
    """What ``table`` would have estimated for labelled predictions, against what was true.

    None with fewer than ``LEAST_CHECKED`` labels of the group.
    """
    hits = sum(t.hits for number, t in truths.items() if number >= _WENT_IN)
    support = sum(t.hits for t in truths.values())
    expected = expect({number: truth.n for number, truth in truths.items()}, table)
    if support < LEAST_CHECKED or expected is None:
        return None
    return Check(expected, hits / support)


def estimate(
    scores: Mapping[int, int],
    predictions: int,
    table: Mapping[int, Truth],
    checks: Sequence[Check],
    *,
    labels: int,
    group_labels: int,
) -> Estimate:
    """The estimate for a window of ``predictions`` with these ``scores``.

    ``labels`` and ``group_labels`` are those behind ``table``, not decayed.
    """
    past = _past_error(checks)
    if reason := _refusal(scores, predictions, checks, labels=labels, group_labels=group_labels):
        return Estimate(None, None, past, len(checks), reason)
    expected = expect(scores, table)
    if expected is None:
        return Estimate(None, None, past, len(checks), "nothing of the group is expected")
    return Estimate(expected.value, expected.error, past, len(checks))


def _past_error(checks: Sequence[Check]) -> float | None:
    if not checks:
        return None
    return sum(abs(c.expected.value - c.actual) for c in checks) / len(checks)


def _refusal(
    scores: Mapping[int, int],
    predictions: int,
    checks: Sequence[Check],
    *,
    labels: int,
    group_labels: int,
) -> str:
    """Why there is no estimate; "" when there is one."""
    if not predictions:
        return "no predictions"
    unscored = (predictions - sum(scores.values())) / predictions
    if unscored > MOST_UNSCORED:
        return f"{unscored:.0%} of the predictions have neither scores nor confidence"
    if labels < LEAST_LABELS:
        return f"{labels} labels to calibrate with, {LEAST_LABELS} needed"
    if group_labels < LEAST_GROUP_LABELS:
        return f"{group_labels} labels of the group to calibrate with, {LEAST_GROUP_LABELS} needed"
    past = _past_error(checks)
    if past is not None:
        chance = sum(c.expected.error for c in checks) / len(checks)
        if past > ERROR_ALLOWED + 2 * chance:
            return f"not calibrated: it was off by {past:.0%} on average"
    return ""
