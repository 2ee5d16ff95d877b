"""Small builders of domain values: each test names only what it is about."""

import json
from collections.abc import Iterable, Mapping

from monitor.domain.counts import Counts
from monitor.domain.detectors import Glance
from monitor.domain.events import (
    Envelope,
    Intent,
    Kind,
    Label,
    Position,
    Prediction,
    PredictionId,
    Record,
    Rejected,
    Traits,
)
from monitor.domain.join import HOUR_MS, Entry, with_label, with_prediction
from monitor.domain.rules import AlertRule, Metric
from monitor.domain.slices import SliceKey
from monitor.domain.votes import Role, Vote

T0 = 491_234 * HOUR_MS
"""A full hour (2026-01-15T02:00Z) to count from, in milliseconds."""

MINUTE_MS = 60_000
URGENT = frozenset({"lost_card", "report_fraud"})
FINE_TUNED = SliceKey("fine_tuned")


def prediction(
    prediction_id: str = "p1",
    predicted: Intent = "lost_card",
    *,
    at_ms: int = T0,
    log_ms: int | None = None,
    variant: str = "fine_tuned",
    slices: tuple[str, ...] = (),
    latency_bucket: int | None = None,
    relevance_micros: int | None = None,
    version: str = "",
    conversation: str = "",
    scores: tuple[tuple[str, int], ...] = (),
    request: str = "",
) -> Prediction:
    """An answer predicted at ``at_ms`` and in the log 100 ms later, unless said otherwise."""
    return Prediction(
        PredictionId(prediction_id),
        at_ms,
        at_ms + 100 if log_ms is None else log_ms,
        Traits(variant, predicted, slices, version, scores),
        latency_bucket,
        relevance_micros,
        conversation,
        request,
    )


def label(
    prediction_id: str = "p1",
    actual: Intent = "lost_card",
    *,
    at_ms: int = T0 + HOUR_MS,
    log_ms: int | None = None,
    key: str | None = None,
    revision: int = 1,
    withdrawn: bool = False,
    relevance_micros: int | None = None,
) -> Label:
    """A label decided at ``at_ms`` and in the log 100 ms later, unless said otherwise.

    Without ``key`` labels of different revisions are different labels.
    """
    return Label(
        PredictionId(prediction_id),
        actual,
        at_ms,
        at_ms + 100 if log_ms is None else log_ms,
        f"l{revision}" if key is None else key,
        revision,
        withdrawn,
        relevance_micros,
    )


def entry_of(*facts: Prediction | Label) -> Entry:
    """The entry that these facts end in."""
    entry = Entry()
    for fact in facts:
        if isinstance(fact, Prediction):
            entry = with_prediction(entry, fact)
        else:
            entry = with_label(entry, fact)
    return entry


def envelope(
    fact: Prediction | Label | Rejected, offset: int = 0, kind: Kind | None = None
) -> Envelope:
    """``fact`` as it comes from partition 0 of its topic; a rejected one from ``predictions``."""
    if kind is None:
        kind = Kind.LABELS if isinstance(fact, Label) else Kind.PREDICTIONS
    return Envelope(kind, Position(str(kind), 0, offset), fact)


def envelopes(*facts: Prediction | Label | Rejected) -> list[Envelope]:
    """The facts one after the other."""
    return [envelope(fact, offset) for offset, fact in enumerate(facts)]


def record(
    value: bytes | Mapping[str, object] | None,
    *,
    topic: str = "predictions",
    partition: int = 0,
    offset: int = 0,
    log_ms: int = T0 + 1_000,
    key: bytes | None = None,
) -> Record:
    """A record of the log; a mapping is written as JSON."""
    data = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return Record(topic, partition, offset, log_ms, key, data)


def prediction_message(**fields: object) -> dict[str, object]:
    """A complete ``predictions`` message, decided at T0; ``fields`` replace or add."""
    return {
        "prediction_id": "p1",
        "event_time": "2026-01-15T02:00:00Z",
        "predicted_intent": "lost_card",
        "variant": "fine_tuned",
        **fields,
    }


def label_message(**fields: object) -> dict[str, object]:
    """A complete ``labels`` message, decided at T0; ``fields`` replace or add."""
    return {
        "prediction_id": "p1",
        "label_time": "2026-01-15T02:00:00Z",
        "true_intent": "lost_card",
        **fields,
    }


def rule(
    name: str = "urgent-recall",
    *,
    objective: float = 0.80,
    maturity_ms: int | None = 0,
    hold_ms: int = 30 * MINUTE_MS,
    where: tuple[tuple[str, str], ...] = (),
    per: tuple[str, ...] = ("variant",),
    metric: Metric = Metric.RECALL,
    baseline: float | None = None,
    evidence: float | None = None,
    is_glance: bool = False,
    hindsight_ms: int | None = None,
) -> AlertRule:
    """Recall of the urgent intents, for each variant; no warnings unless there is a baseline."""
    return AlertRule(
        name,
        "urgent",
        URGENT,
        objective,
        where,
        per,
        maturity_ms=maturity_ms,
        hold_ms=hold_ms,
        metric=metric,
        baseline=baseline,
        evidence=evidence,
        is_glance=is_glance,
        hindsight_ms=hindsight_ms,
    )


def vote(
    at_ms: int = T0,
    *,
    hit: bool = True,
    prediction_id: str = "p1",
    rule_name: str = "urgent-recall",
    key: SliceKey = FINE_TUNED,
    event_ms: int | None = None,
    role: Role = Role.LIVE,
    version: str = "",
    conversation: str = "",
) -> Vote:
    """A mature outcome released at ``at_ms``."""
    return Vote(
        at_ms,
        prediction_id,
        rule_name,
        key,
        at_ms if event_ms is None else event_ms,
        hit,
        role,
        version,
        conversation,
    )


def votes(
    hits: Iterable[bool],
    *,
    start_ms: int = T0,
    step_ms: int = MINUTE_MS,
    role: Role = Role.LIVE,
    version: str = "",
) -> list[Vote]:
    """One vote every ``step_ms``, in the order of ``hits``."""
    return [
        vote(
            start_ms + number * step_ms,
            hit=hit,
            prediction_id=f"p{number:05}",
            role=role,
            version=version,
        )
        for number, hit in enumerate(hits)
    ]


def ring(hits: int, misses: int, *, misses_last: bool = False) -> Glance:
    """So many hits and misses from T0 on, spread evenly unless all misses come last."""
    size = hits + misses
    found = [True] * hits + [False] * misses
    if not misses_last:
        found = [at * misses // size == (at + 1) * misses // size for at in range(size)]
    return Glance(tuple((T0 + at, hit) for at, hit in enumerate(found)))


def outcomes(cells: Mapping[tuple[Intent, Intent], int]) -> Counts:
    """Counts that hold ``(actual, predicted)`` -> outcomes, and the predictions they came from."""
    held: dict[tuple[str, ...], int] = {}
    for (actual, predicted), count in cells.items():
        held["outcome", actual, predicted] = count
        held["prediction", predicted] = held.get(("prediction", predicted), 0) + count
    return Counts(held)
