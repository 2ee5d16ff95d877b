"""Fit for production? Fit, not fit, or not enough evidence, with the numbers behind the answer.

A proportion is judged by its 95 % interval: a limit is **met** when the lower bound reaches it,
**missed** when the upper bound stays below it, and **open** in between or on fewer than 30 labels.
One missed limit makes a variant not fit; with none missed, one open limit leaves the question open.
Missing evidence never passes.

Accuracy knows two limits: its interval below ``bad`` is a miss, its lower bound at ``good`` is met.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from monitor.domain.counts import Counts
from monitor.domain.scores import Score, group_scores, headline
from monitor.domain.slices import Groups

LEAST_LABELS = 30
"""Labels below which a proportion is not judged: three misses of three say little."""


class Answer(StrEnum):
    """The verdict."""

    FIT = "fit"
    NOT_FIT = "not_fit"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"


class Finding(StrEnum):
    """How one limit stands."""

    MET = "met"
    MISSED = "missed"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class VerdictLimits:
    """What must be reached: shares 0..1, latency in milliseconds. Group name -> limit."""

    accuracy_good: float = 0.85
    accuracy_bad: float = 0.60
    recall: Mapping[str, float] = field(default_factory=dict)
    precision: Mapping[str, float] = field(default_factory=dict)
    latency_p95_ms: float = 800.0
    relevance: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """One limit with what was found; ``value`` None without data, ``n`` what it stands on."""

    name: str
    finding: Finding
    text: str
    value: float | None
    limit: float
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer and every judgement behind it, missed ones first."""

    answer: Answer
    reasons: tuple[Judgement, ...]


def verdict_of(counts: Counts, groups: Groups, limits: VerdictLimits) -> Verdict:
    """Judge one variant by all its outcomes.

    >>> verdict_of(Counts(), Groups({}), VerdictLimits()).answer
    <Answer.NOT_ENOUGH_EVIDENCE: 'not_enough_evidence'>
    """
    judgements = [_accuracy(headline(counts.confusion).accuracy, limits)]
    for name, limit in limits.recall.items():
        scores = group_scores(counts.confusion, groups.of(name))
        judgements.append(_proportion(f"recall of {name}", scores.recall, limit))
    for name, limit in limits.precision.items():
        scores = group_scores(counts.confusion, groups.of(name))
        judgements.append(_proportion(f"precision of {name}", scores.precision, limit))
    judgements.append(_latency(counts, limits.latency_p95_ms))
    if limits.relevance is not None:
        judgements.append(_relevance(counts, limits.relevance))
    order = list(Finding)
    ranked = sorted(
        judgements,
        key=lambda j: (order.index(j.finding) - order.index(Finding.MISSED)) % len(order),
    )
    return Verdict(_answer({judgement.finding for judgement in judgements}), tuple(ranked))


def _answer(findings: set[Finding]) -> Answer:
    if Finding.MISSED in findings:
        return Answer.NOT_FIT
    return Answer.NOT_ENOUGH_EVIDENCE if Finding.OPEN in findings else Answer.FIT


def _accuracy(score: Score, limits: VerdictLimits) -> Judgement:
    good, bad = limits.accuracy_good, limits.accuracy_bad
    if score.interval is None:
        return _proportion("accuracy", score, good)
    if score.interval[1] < bad:
        return _proportion("accuracy", score, bad)
    return _proportion("accuracy", score, good, missed_below=bad)


def _proportion(
    name: str, score: Score, limit: float, missed_below: float | None = None
) -> Judgement:
    floor = limit if missed_below is None else missed_below
    if score.value is None or score.interval is None:
        return Judgement(name, Finding.OPEN, f"{name}: no labels yet", None, limit, None, 0)
    low, high = score.interval
    finding = _finding(score.support, low, high, limit, floor)
    says = {
        Finding.MET: "reaches",
        Finding.MISSED: "stays below",
        Finding.OPEN: "cannot yet be told from",
    }[finding]
    text = (
        f"{name} {score.value:.1%} (95 % interval {low:.1%} to {high:.1%}, n={score.support}) "
        f"{says} {limit:.1%}"
    )
    return Judgement(name, finding, text, score.value, limit, score.interval, score.support)


def _finding(n: int, low: float, high: float, limit: float, floor: float) -> Finding:
    if n < LEAST_LABELS:
        return Finding.OPEN
    return Finding.MET if low >= limit else Finding.MISSED if high < floor else Finding.OPEN


def _latency(counts: Counts, limit: float) -> Judgement:
    value, n = counts.latency_ms(0.95), sum(c for k, c in counts.cells.items() if k[0] == "latency")
    if value is None:
        return Judgement(
            "latency p95", Finding.OPEN, "latency p95: not reported", None, limit, None, 0
        )
    finding = Finding.MET if value <= limit else Finding.MISSED
    says = "stays within" if finding is Finding.MET else "exceeds"
    text = f"latency p95 {value:.0f} ms (n={n}) {says} {limit:.0f} ms"
    return Judgement("latency p95", finding, text, value, limit, None, n)


def _relevance(counts: Counts, limit: float) -> Judgement:
    value, n = counts.relevance
    if value is None:
        return Judgement("relevance", Finding.OPEN, "relevance: not reported", None, limit, None, 0)
    finding = Finding.MET if value >= limit else Finding.MISSED
    says = "reaches" if finding is Finding.MET else "stays below"
    return Judgement(
        "relevance",
        finding,
        f"mean relevance {value:.2f} (n={n}) {says} {limit:.2f}",
        value,
        limit,
        None,
        n,
    )
