"""What is watched: rules over proportions of votes, which may page; over signals, which warn.

And which variants are compared on the requests that they both answered.
"""

from dataclasses import dataclass
from enum import StrEnum

from monitor.domain.events import Intent, Prediction
from monitor.domain.slices import ALL, SliceKey


class Metric(StrEnum):
    """Which outcomes vote, and what a hit is.

    Recall: those whose actual intent is in the group; a hit went to the group. Precision: those
    that went to the group; a hit belongs there. Accuracy: all; a hit went to the very intent.
    """

    RECALL = "recall"
    PRECISION = "precision"
    ACCURACY = "accuracy"


class Severity(StrEnum):
    """Whom an alert wakes: ``page`` somebody, ``warning`` nobody."""

    PAGE = "page"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class AlertRule:
    """The ``metric`` of ``group`` (declared as ``of``) must not fall below ``objective`` (0..1).

    ``where`` keeps only records with these attribute values; ``per`` makes one alert for each value
    of these attributes. A vote counts once its prediction is ``maturity_ms`` old; None estimates
    that from the labels. A firing alert is held for ``hold_ms`` at least. ``evidence`` is the bar
    of the e-detector, None for one false page in 30 days at most; ``is_glance`` takes the
    at-a-glance detector instead. ``baseline`` is the value when all is well, None for no warning.
    ``hindsight_ms`` is the age at which labels are taken for complete, None for no hindsight.
    """

    name: str
    of: str
    group: frozenset[Intent]
    objective: float
    where: tuple[tuple[str, str], ...] = ()
    per: tuple[str, ...] = ("variant",)
    maturity_ms: int | None = 0
    hold_ms: int = 1_800_000
    severity: Severity = Severity.PAGE
    metric: Metric = Metric.RECALL
    baseline: float | None = None
    evidence: float | None = None
    is_glance: bool = False
    hindsight_ms: int | None = None
    runbook: str = ""

    @property
    def floor(self) -> float | None:
        """What a healthy value does not fall below: the objective plus two thirds of the way up."""
        if self.baseline is None:
            return None
        return self.objective + 2 * (self.baseline - self.objective) / 3

    def key_of(self, prediction: Prediction, slice_names: tuple[str, ...]) -> SliceKey | None:
        """Whose alert the prediction speaks to; None when ``where`` leaves it out."""
        return key_of(self.where, self.per, prediction, slice_names)

    def verdict(self, predicted: Intent, actual: Intent) -> bool | None:
        """Whether an outcome is a hit; None when it does not vote."""
        return verdict(self.metric, self.group, predicted, actual)


@dataclass(frozen=True, slots=True)
class PairRule:
    """Variants that answered the same request are compared in the ``metric`` of ``group``.

    The metric is recall or accuracy; ``of`` is how the group is declared, "" for accuracy. An
    answer counts once it is ``maturity_ms`` old and labelled; two answers to a request are a pair
    if the later counts within ``within_ms`` of the earlier.
    """

    name: str
    of: str
    group: frozenset[Intent]
    metric: Metric = Metric.RECALL
    maturity_ms: int = 0
    within_ms: int = 24 * 3_600_000

    def verdict(self, predicted: Intent, actual: Intent) -> bool | None:
        """Whether an outcome is a hit; None when it does not count."""
        return verdict(self.metric, self.group, predicted, actual)


def verdict(
    metric: Metric, group: frozenset[Intent], predicted: Intent, actual: Intent
) -> bool | None:
    """Whether an outcome is a hit in a metric; None when it does not vote."""
    if metric is Metric.ACCURACY:
        return predicted == actual
    if metric is Metric.PRECISION:
        return actual in group if predicted in group else None
    return predicted in group if actual in group else None


class Signal(StrEnum):
    """What a signal rule measures over its window, by log time.

    Shares and coverage are 0..1, delays and latencies milliseconds, volume predictions an hour.
    ``*_drift`` compare hourly values with a change detector, ``estimate`` is the label-free one.
    """

    PREDICTED_SHARE = "predicted_share"
    LABEL_COVERAGE = "label_coverage"
    LABEL_DELAY = "label_delay"
    VOLUME = "volume"
    REJECTED_SHARE = "rejected_share"
    LATENCY_P95 = "latency_p95"
    RELEVANCE = "relevance"
    UNKNOWN_INTENTS = "unknown_intents"
    SHARE_DRIFT = "share_drift"
    SCORE_DRIFT = "score_drift"
    ESTIMATE = "estimate"


@dataclass(frozen=True, slots=True)
class SignalRule:
    """A warning when the signal leaves ``[below, above]``; never a page.

    ``window_ms`` ends at each evaluation; ``reference_ms`` before it is what predicted_share and
    the drift detectors compare with. predicted_share warns at ``z`` standard errors below the
    reference. ``objective`` is for ``estimate`` alone. ``drift`` is ``adwin`` or ``page_hinkley``.
    An alert for each variant; rejected_share speaks of all of them. The warning ends once the
    signal has been good for ``hold_ms``.
    """

    name: str
    signal: Signal
    of: str = ""
    group: frozenset[Intent] = frozenset()
    score_name: str = ""
    variant: str | None = None
    window_ms: int = 3 * 3_600_000
    reference_ms: int = 14 * 86_400_000
    below: float | None = None
    above: float | None = None
    z: float = -4.0
    objective: float | None = None
    drift: str = "page_hinkley"
    known: frozenset[Intent] = frozenset()
    hold_ms: int = 1_800_000
    runbook: str = ""

    @property
    def is_of_pipeline(self) -> bool:
        """Whether it says that the input is broken, so that alerts about the model mean little."""
        return self.signal in {Signal.VOLUME, Signal.REJECTED_SHARE}


def key_of(
    where: tuple[tuple[str, str], ...],
    per: tuple[str, ...],
    prediction: Prediction,
    slice_names: tuple[str, ...],
) -> SliceKey | None:
    """The alert among those ``per`` value that a prediction speaks to; None outside ``where``."""
    if not where and per == ("variant",):
        return SliceKey(prediction.variant)
    values = dict(zip(slice_names, prediction.slices, strict=True))
    values["variant"] = prediction.variant
    if any(values.get(name, "") != value for name, value in where):
        return None
    others = [f"{name}={values.get(name, '')}" for name in per if name != "variant"]
    return SliceKey(prediction.variant if "variant" in per else ALL, ",".join(others) or ALL)
