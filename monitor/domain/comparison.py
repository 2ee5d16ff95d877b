"""Which of two variants is better, and which should serve?

Two proportions are compared by Newcombe's hybrid score interval of their difference
(R. G. Newcombe, Statistics in Medicine 17, 1998, 873-890, method 10), made of the Wilson intervals
of both. A difference is **shown** when the interval leaves out zero.

The interval is that of independent messages, each answered by one variant, and of a single look:
somebody who looks again and again until it leaves out zero is wrong more often than one time in 20.
"""

import math
from enum import StrEnum
from typing import NamedTuple

from monitor.domain.scores import Score
from monitor.domain.verdict import LEAST_LABELS, Answer


class Finding(StrEnum):
    """How one variant stands against the other in one measure."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference shown"
    TOO_FEW = "too few labels"


class Comparison(NamedTuple):
    """``difference`` is that of two shares, -1..1; None, like its interval, without a label.

    ``n`` and ``other_n`` are the labels of the one and of the other.
    """

    finding: Finding
    difference: float | None
    interval: tuple[float, float] | None
    n: int
    other_n: int


class Advice(StrEnum):
    """What to do about the variant that serves now, when there is another."""

    PREFER = "prefer"
    KEEP = "keep"
    NO_DIFFERENCE = "no difference shown"
    NOT_ENOUGH_EVIDENCE = "not enough evidence"
    NO_CHOICE = "no clear choice"


class Ground(StrEnum):
    """What an advice stands on."""

    MEASURE = "the difference that is shown"
    LIMITS = "one reaches its limits, the other does not"
    UNFIT = "not fit"
    OPEN = "a limit that is still open"
    ACCURACY = "accuracy speaks against it"
    LABELS = "too few labels"
    NOTHING = "no difference"


class Advised(NamedTuple):
    """The advice and its ground."""

    advice: Advice
    ground: Ground


def compare(one: Score, other: Score) -> Comparison:
    """``one`` minus ``other``, two independent proportions with their 95 % intervals.

    >>> from monitor.domain.scores import proportion
    >>> found = compare(proportion(56, 70), proportion(48, 80))
    >>> str(found.finding), [round(bound, 4) for bound in found.interval]
    ('better', [0.0524, 0.3339])
    """
    n, other_n = one.support, other.support
    if one.value is None or other.value is None or one.interval is None or other.interval is None:
        return Comparison(Finding.TOO_FEW, None, None, n, other_n)
    difference = one.value - other.value
    (low, high), (other_low, other_high) = one.interval, other.interval
    down = math.hypot(one.value - low, other_high - other.value)
    up = math.hypot(high - one.value, other.value - other_low)
    least, most = max(-1.0, difference - down), min(1.0, difference + up)
    return Comparison(_finding(min(n, other_n), least, most), difference, (least, most), n, other_n)


def advise(serving: Answer, other: Answer, measure: Comparison, accuracy: Comparison) -> Advised:
    """Which should serve, by the verdicts on both and by what ``other`` has over ``serving``.

    A variant that is fit goes before one that is not, whatever the difference; none that is not fit
    is ever preferred. Between the rest the measure decides, unless accuracy shows the opposite. To
    stay takes less than to change: what is preferred must be fit.
    """
    verdicts = (serving, other)
    if verdicts == (Answer.FIT, Answer.NOT_FIT):
        is_measured = measure.finding is Finding.WORSE
        return Advised(Advice.KEEP, Ground.MEASURE if is_measured else Ground.LIMITS)
    if verdicts == (Answer.NOT_FIT, Answer.FIT):
        is_measured = measure.finding is Finding.BETTER
        return Advised(Advice.PREFER, Ground.MEASURE if is_measured else Ground.LIMITS)
    if verdicts == (Answer.NOT_FIT, Answer.NOT_FIT):
        return Advised(Advice.NO_CHOICE, Ground.UNFIT)
    if measure.finding is Finding.TOO_FEW:
        return Advised(Advice.NOT_ENOUGH_EVIDENCE, Ground.LABELS)
    if measure.finding is Finding.NO_DIFFERENCE:
        return _alike(serving, other)
    return _different(serving, other, measure.finding, accuracy.finding)


def _alike(serving: Answer, other: Answer) -> Advised:
    if other is Answer.NOT_FIT:
        return Advised(Advice.KEEP, Ground.LIMITS)
    if serving is Answer.NOT_FIT:
        return Advised(Advice.NOT_ENOUGH_EVIDENCE, Ground.OPEN)
    return Advised(Advice.NO_DIFFERENCE, Ground.NOTHING)


def _different(serving: Answer, other: Answer, measure: Finding, accuracy: Finding) -> Advised:
    is_other = measure is Finding.BETTER
    best = other if is_other else serving
    if best is Answer.NOT_FIT:
        return Advised(Advice.NO_CHOICE, Ground.UNFIT)
    is_against = accuracy is (Finding.WORSE if is_other else Finding.BETTER)
    if is_against and Answer.NOT_FIT not in {serving, other}:
        return Advised(Advice.NO_CHOICE, Ground.ACCURACY)
    if not is_other:
        return Advised(Advice.KEEP, Ground.MEASURE)
    if best is Answer.NOT_ENOUGH_EVIDENCE:
        return Advised(Advice.NOT_ENOUGH_EVIDENCE, Ground.OPEN)
    return Advised(Advice.PREFER, Ground.MEASURE)


def _finding(n: int, least: float, most: float) -> Finding:
    if n < LEAST_LABELS:
        return Finding.TOO_FEW
    if least > 0:
        return Finding.BETTER
    return Finding.WORSE if most < 0 else Finding.NO_DIFFERENCE
