"""Fit for production? Fit, not fit, or not enough evidence, with the numbers behind the answer.

Everything is judged by its 95 % interval: a limit is **met** when the whole interval is on its good
side, **missed** when all of it is on the other, and **open** in between or on too little evidence.
One missed limit makes a variant not fit; with none missed, one open limit leaves the question open.
Missing evidence never passes.

Accuracy knows two limits: its interval below ``bad`` is a miss, its lower bound at ``good`` is met.
In between it is neither, which more labels will not change.

Precision and recall of a group are **balanced** when they are shown to differ by less than a limit.
Their difference has Newcombe's interval for independent proportions, which is conservative here:
both have the same hits in them, so they rise and fall together, and their covariance is not
negative (the general form: G. Y. Zou, A. Donner, Statistics in Medicine 27, 2008, 1693-1702).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from monitor.domain.counts import Counts
from monitor.domain.events import Intent
from monitor.domain.intervals import mean_interval, quantile_ranks, wilson
from monitor.domain.scores import Score, difference_interval, proportion
from monitor.domain.slices import Groups

LEAST_LABELS = 30
"""Labels below which a proportion is not judged: three misses of three say little."""

PARADOX = "accuracy paradox"
"""The reason that says: accuracy is good, and hides a group that fails."""

UNWATCHED = "watched groups"
"""The reason that says: none is declared."""

ALERT = "alert "
"""Begins the name of a reason that is an alert which fires."""

MOST_LABELS = 10_000_000
"""So near its limit that more labels than this would be needed, nobody will ever tell."""

_P95 = 0.95
_LEAST_LATENCIES = next(n for n in range(2, 1_000) if quantile_ranks(_P95, n))
"""Latencies from which on the 95th percentile has an interval."""


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


class Lacking(StrEnum):
    """Why a limit is open; reports are what records or settings do not tell."""

    LABELS = "labels"
    REPORTS = "reports"
    NOTHING = "nothing"
    """It is known well enough, and lies between bad and good."""


@dataclass(frozen=True, slots=True)
class VerdictLimits:
    """What must be reached: shares 0..1, latency in milliseconds. Group name -> limit.

    ``balance`` is by how much precision and recall of a group may differ, where both have a limit;
    None for any. ``sources`` says of a limit, by the name of its judgement, where it comes from.
    ``variants`` are those that have limits of their own.
    """

    accuracy_good: float = 0.85
    accuracy_bad: float = 0.60
    recall: Mapping[str, float] = field(default_factory=dict)
    precision: Mapping[str, float] = field(default_factory=dict)
    latency_p95_ms: float = 800.0
    relevance: float | None = None
    balance: float | None = 0.30
    sources: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, "VerdictLimits"] = field(default_factory=dict)

    def of(self, variant: str) -> "VerdictLimits":
        """Those of one variant."""
        return self.variants.get(variant, self)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that have a limit, sorted."""
        return tuple(sorted({*self.recall, *self.precision}))


@dataclass(frozen=True, slots=True)
class Judgement:
    """One limit with what was found; ``value`` None without data, ``n`` what it stands on.

    ``lacking`` says why it is open. ``needed`` are the labels that would tell the value from its
    limit, should the share stay what it is; None where no number of them would, and when not open.
    """

    name: str
    finding: Finding
    text: str
    value: float | None
    limit: float
    interval: tuple[float, float] | None
    n: int
    lacking: Lacking | None = None
    needed: int | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer and every judgement behind it, missed ones first."""

    answer: Answer
    reasons: tuple[Judgement, ...]

    def found(self, finding: Finding) -> tuple[Judgement, ...]:
        """The judgements that stand so."""
        return tuple(reason for reason in self.reasons if reason.finding is finding)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verdict stands on: a bag of cells that adds and subtracts like that of a pane."""

    cells: Counter[tuple[str, ...]]

    @staticmethod
    def empty() -> "Evidence":
        """Nothing is known."""
        return Evidence(Counter())

    def add(self, other: "Evidence", sign: int = 1) -> None:
        """Add what is in another bag, or, with ``sign`` -1, take it out again."""
        for cell, n in other.cells.items():
            self.cells[cell] += sign * n

    @property
    def predictions(self) -> int:
        """Predictions, labelled or not."""
        return self.cells["predictions",]

    @property
    def accuracy(self) -> Score:
        """Share of the outcomes that are right."""
        return proportion(self.cells["right",], self.cells["labelled",])

    def recall(self, group: str) -> Score:
        """Recall of a group."""
        hits, misses, _ = self._of(group)
        return proportion(hits, hits + misses)

    def precision(self, group: str) -> Score:
        """Precision of a group."""
        hits, _, false = self._of(group)
        return proportion(hits, hits + false)

    @property
    def latency(self) -> tuple[float | None, tuple[float, float] | None, int]:
        """The 95th percentile in milliseconds, its interval, and on how many it stands."""
        counts = Counts(self.cells)
        return counts.latency_ms(_P95), counts.latency_interval(_P95), counts.latencies

    @property
    def relevance(self) -> tuple[float | None, int]:
        """Mean relevance 0..1, None for none, and the number of judged answers."""
        return Counts(self.cells).relevance

    @property
    def constant(self) -> tuple[Intent, float] | None:
        """The most frequent true intent, and how often always answering it would be right."""
        found = [(n, cell[1]) for cell, n in self.cells.items() if cell[0] == "actual" and n]
        if not found:
            return None
        most, intent = max(found, key=lambda pair: (pair[0], pair[1]))
        return intent, most / self.cells["labelled",]

    def _of(self, group: str) -> tuple[int, int, int]:
        hits, misses, false = (self.cells["group", group, part] for part in _PARTS)
        return hits, misses, false


_PARTS = ("hits", "misses", "false alarms")


def evidence_of(counts: Counts, groups: Groups, names: Iterable[str]) -> Evidence:
    """What counts say about all outcomes and about the groups ``names``."""
    cells: Counter[tuple[str, ...]] = Counter()
    for cell, n in counts.cells.items():
        if cell[0] in {"latency", "relevance"}:
            cells[cell] += n
        elif cell[0] == "prediction":
            cells["predictions",] += n
    members = [(name, groups.of(name)) for name in names]
    for (actual, predicted), n in counts.confusion.items():
        cells["labelled",] += n
        cells["actual", actual] += n
        cells["right",] += n if actual == predicted else 0
        for name, group in members:
            is_in, is_told = actual in group, predicted in group
            if is_in or is_told:
                part = _PARTS[0] if is_in and is_told else _PARTS[1] if is_in else _PARTS[2]
                cells["group", name, part] += n
    return Evidence(cells)


def verdict_of(counts: Counts, groups: Groups, limits: VerdictLimits) -> Verdict:
    """Judge one variant by all its outcomes.

    >>> verdict_of(Counts(), Groups({}), VerdictLimits()).answer
    <Answer.NOT_ENOUGH_EVIDENCE: 'not_enough_evidence'>
    """
    return judged(evidence_of(counts, groups, limits.groups), limits)


def judged(evidence: Evidence, limits: VerdictLimits) -> Verdict:
    """Judge what is known of one variant."""
    judgements = [_accuracy(evidence.accuracy, limits)]
    for name, limit in limits.recall.items():
        judgements.append(_of_group(f"recall of {name}", evidence.recall(name), limit, limits))
    for name, limit in limits.precision.items():
        said = f"precision of {name}"
        judgements.append(_of_group(said, evidence.precision(name), limit, limits))
    if limits.balance is not None:
        both = [name for name in limits.recall if name in limits.precision]
        judgements += [_balance(name, evidence, limits.balance) for name in both]
    judgements.append(_latency(evidence, limits.latency_p95_ms))
    if limits.relevance is not None:
        judgements.append(_relevance(evidence, limits.relevance))
    judgements += _paradox(evidence, limits, judgements)
    if not limits.groups:
        judgements.append(_unwatched())
    return _verdict(judgements)


def joined(verdict: Verdict, more: Iterable[Judgement]) -> Verdict:
    """A verdict with further reasons, such as alerts that fire."""
    return _verdict([*more, *verdict.reasons])


def _verdict(judgements: Iterable[Judgement]) -> Verdict:
    order = list(Finding)
    ranked = sorted(
        judgements,
        key=lambda j: (order.index(j.finding) - order.index(Finding.MISSED)) % len(order),
    )
    return Verdict(_answer({judgement.finding for judgement in ranked}), tuple(ranked))


def labels_needed(value: float, n: int, limit: float) -> int | None:
    """How many labels more would tell ``value``, a share of ``n``, from ``limit``.

    It is assumed that the share stays what it is. None when value and limit are the same, or as
    good as.

    >>> labels_needed(0.95, 20, 0.80), labels_needed(0.80, 20, 0.80)
    (10, None)
    """

    def tells(count: int) -> bool:
        low, high = wilson(value * count, count)
        return low >= limit if value > limit else high < limit

    return None if math.isclose(value, limit) else _further(tells, n)


def _further(tells: Callable[[int], bool], n: int) -> int | None:
    """How many labels more than ``n`` tell; None when not even a great many do."""
    if not tells(MOST_LABELS):
        return None
    least, most = 0, MOST_LABELS
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if tells(middle) else (middle, most)
    return max(1, most - n, LEAST_LABELS - n)


def _answer(findings: set[Finding]) -> Answer:
    if Finding.MISSED in findings:
        return Answer.NOT_FIT
    return Answer.NOT_ENOUGH_EVIDENCE if Finding.OPEN in findings else Answer.FIT


def _accuracy(score: Score, limits: VerdictLimits) -> Judgement:
    good, bad = limits.accuracy_good, limits.accuracy_bad
    if score.interval is not None and score.interval[1] < bad:
        return _proportion("accuracy", score, bad, floor=bad)
    return _proportion("accuracy", score, good, floor=bad)


def _of_group(name: str, score: Score, limit: float, limits: VerdictLimits) -> Judgement:
    return _proportion(name, score, limit, floor=limit, source=limits.sources.get(name, ""))


def _proportion(
    name: str, score: Score, limit: float, *, floor: float, source: str = ""
) -> Judgement:
    whence = f" ({source})" if source else ""
    n = score.support
    if score.value is None or score.interval is None:
        text = f"{name}: no labels yet, to be compared with {limit:.1%}{whence}"
        return Judgement(
            name, Finding.OPEN, text, None, limit, None, 0, Lacking.LABELS, LEAST_LABELS, source
        )
    low, high = score.interval
    finding = Finding.OPEN
    if n >= LEAST_LABELS:
        finding = Finding.MET if low >= limit else Finding.MISSED if high < floor else finding
    lacking, needed, says = None, None, _SAYS.get(finding, "")
    if finding is Finding.OPEN:
        lacking, needed, says = _open(score.value, n, score.interval, limit, floor)
    said = f"{name} {score.value:.1%} (95 % interval {low:.1%} to {high:.1%}, n={n:,})"
    text = f"{said} {says.format(limit=f'{limit:.1%}{whence}', floor=f'{floor:.1%}')}"
    return Judgement(
        name, finding, text, score.value, limit, score.interval, n, lacking, needed, source
    )


_SAYS = {Finding.MET: "reaches {limit}", Finding.MISSED: "stays below {limit}"}


def _open(
    value: float, n: int, interval: tuple[float, float], limit: float, floor: float
) -> tuple[Lacking, int | None, str]:
    """What is missing to tell a share from its limits, how many labels, and words for it."""
    low, high = interval
    if n >= LEAST_LABELS and floor <= low and high < limit:
        says = "lies between bad ({floor}) and good ({limit}): more labels will not change that"
        return Lacking.NOTHING, None, says
    near = limit if high >= limit else floor
    needed = labels_needed(value, n, near)
    bar = "{limit}" if near == limit else "{floor}"
    if n < LEAST_LABELS:
        least = LEAST_LABELS - n
        says = f"stands on too few labels: at least {least} more are needed to judge it by {bar}"
        return Lacking.LABELS, needed if needed is not None else least, says
    side = "above" if value > near else "below"
    says = f"is not yet shown to be {side} {bar}"
    if needed is not None:
        return Lacking.LABELS, needed, f"{says}: about {needed:,} more labels would, if it stays so"
    return (
        Lacking.LABELS,
        None,
        f"cannot be told from {bar} by any number of labels, if it stays so",
    )


def _balance(group: str, evidence: Evidence, limit: float) -> Judgement:
    """Whether precision and recall of a group are as near to each other as they must be."""
    name = f"balance of {group}"
    precision, recall = evidence.precision(group), evidence.recall(group)
    n = min(precision.support, recall.support)
    interval = difference_interval(precision, recall)
    if precision.value is None or recall.value is None or interval is None:
        text = f"{name}: precision and recall are not both known yet"
        least = max(1, LEAST_LABELS - n)
        return Judgement(name, Finding.OPEN, text, None, limit, None, n, Lacking.LABELS, least)
    value, (low, high) = precision.value - recall.value, interval
    finding = _within(interval, limit) if n >= LEAST_LABELS else Finding.OPEN
    lacking, needed = None, None
    if finding is Finding.OPEN:
        lacking, needed = Lacking.LABELS, _further(_telling(precision, recall, n, limit), n)
    says = {
        Finding.MET: "are balanced: less than {} apart",
        Finding.MISSED: "are not balanced: more than {} apart",
        Finding.OPEN: "are not yet shown to be less than {} apart",
    }[finding].format(f"{limit:.0%}")
    text = (
        f"precision {precision.value:.1%} and recall {recall.value:.1%} of {group} (difference "
        f"{value:+.1%}, 95 % interval {low:+.1%} to {high:+.1%}, n={n:,}) {says}"
    )
    return Judgement(name, finding, text, value, limit, interval, n, lacking, needed)


def _within(interval: tuple[float, float] | None, limit: float) -> Finding:
    """Whether a difference is within plus or minus ``limit``."""
    if interval is None:
        return Finding.OPEN
    low, high = interval
    if -limit <= low <= high <= limit:
        return Finding.MET
    return Finding.MISSED if low > limit or high < -limit else Finding.OPEN


def _telling(precision: Score, recall: Score, n: int, limit: float) -> Callable[[int], bool]:
    """Whether so many labels, in the same proportions, would tell if both are balanced."""

    def tells(count: int) -> bool:
        scaled = []
        for score in (precision, recall):
            of = max(1, round(score.support * count / max(1, n)))
            scaled.append(Score(score.value, of, wilson((score.value or 0.0) * of, of)))
        return _within(difference_interval(*scaled), limit) is not Finding.OPEN

    return tells


def _latency(evidence: Evidence, limit: float) -> Judgement:
    name = "latency p95"
    value, interval, n = evidence.latency
    if value is None:
        text = f"{name}: not reported"
        return Judgement(name, Finding.OPEN, text, None, limit, None, 0, Lacking.REPORTS)
    if interval is None:
        text = f"{name} {value:.0f} ms stands on {n} messages: {_LEAST_LATENCIES} are needed"
        return Judgement(name, Finding.OPEN, text, value, limit, None, n, Lacking.REPORTS)
    low, high = interval
    finding = Finding.MET if high <= limit else Finding.MISSED if low > limit else Finding.OPEN
    says = {
        Finding.MET: "stays within",
        Finding.MISSED: "exceeds",
        Finding.OPEN: "is not yet told from",
    }
    text = (
        f"{name} {value:.0f} ms (95 % interval {low:.0f} to {high:.0f}, n={n:,}) "
        f"{says[finding]} {limit:.0f} ms"
    )
    lacking = Lacking.REPORTS if finding is Finding.OPEN else None
    return Judgement(name, finding, text, value, limit, interval, n, lacking)


def _relevance(evidence: Evidence, limit: float) -> Judgement:
    value, n = evidence.relevance
    if value is None:
        text = "relevance: not reported"
        return Judgement("relevance", Finding.OPEN, text, None, limit, None, 0, Lacking.REPORTS)
    low, high = mean_interval(value, n)
    finding = Finding.MET if low >= limit else Finding.MISSED if high < limit else Finding.OPEN
    says = {
        Finding.MET: "reaches",
        Finding.MISSED: "stays below",
        Finding.OPEN: "is not yet told from",
    }
    text = (
        f"mean relevance {value:.2f} (95 % interval {low:.2f} to {high:.2f}, n={n:,}) "
        f"{says[finding]} {limit:.2f}"
    )
    lacking = Lacking.REPORTS if finding is Finding.OPEN else None
    return Judgement("relevance", finding, text, value, limit, (low, high), n, lacking)


def _unwatched() -> Judgement:
    """No group has a limit: whatever accuracy hides stays hidden, so that nothing is fit."""
    text = (
        "no group is declared (intents.groups), or none has a limit: nobody knows what accuracy "
        "hides"
    )
    return Judgement(UNWATCHED, Finding.OPEN, text, None, 0.0, None, 0, lacking=Lacking.REPORTS)


def _paradox(
    evidence: Evidence, limits: VerdictLimits, judgements: Iterable[Judgement]
) -> list[Judgement]:
    """Good accuracy that hides groups that fail, as a reason of its own."""
    accuracy, constant = evidence.accuracy, evidence.constant
    names = [f"{of} of {group}" for of in ("recall", "precision") for group in limits.groups]
    failing = [j for j in judgements if j.name in names and j.finding is Finding.MISSED]
    if accuracy.value is None or constant is None or not failing:
        return []
    if accuracy.value < limits.accuracy_good or accuracy.support < LEAST_LABELS:
        return []
    hidden = " and ".join(f"{j.name} is {j.value:.1%}" for j in failing)
    intent, share = constant
    text = (
        f"accuracy {accuracy.value:.1%} (n={accuracy.support:,}) looks good and hides that "
        f"{hidden}: always answering {intent} would be right in {share:.1%}"
    )
    return [
        Judgement(
            PARADOX,
            Finding.MISSED,
            text,
            accuracy.value,
            limits.accuracy_good,
            accuracy.interval,
            accuracy.support,
        )
    ]
