"""From settings to the parts that they describe; the only place where adapters are chosen."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from monitor.app.flow import Limits
from monitor.app.settings import RuleSettings, Settings
from monitor.codec.mapping import PRESETS, FieldMapping, TimeUnit
from monitor.codec.records import RecordCodec
from monitor.domain.alerts import AlertRule
from monitor.domain.engine import Spec
from monitor.domain.events import Kind
from monitor.domain.slices import Groups
from monitor.domain.verdict import VerdictLimits
from monitor.domain.windows import WindowSpec

_MILLISECOND = timedelta(milliseconds=1)


def in_ms(duration: timedelta) -> int:
    """A duration in whole milliseconds."""
    return duration // _MILLISECOND


def spec_of(settings: Settings) -> Spec:
    """What determines the numbers."""
    groups = Groups({n: frozenset(m) for n, m in sorted(settings.intents.groups.items())})
    windows = settings.windows
    return Spec(
        groups=groups,
        slice_names=tuple(name for name in settings.slices if name != "variant"),
        windows=WindowSpec(
            pane_ms=in_ms(windows.pane),
            horizon_ms=in_ms(windows.horizon),
            keep_ms={in_ms(size): in_ms(keep) for size, keep in sorted(windows.keep.items())},
        ),
        rules=tuple(_rule_of(rule, groups) for rule in settings.rules),
    )


def _rule_of(rule: RuleSettings, groups: Groups) -> AlertRule:
    return AlertRule(
        name=rule.name,
        of=rule.of,
        group=groups.of(rule.of),
        objective=rule.objective,
        where=tuple(sorted(rule.where.items())),
        per=rule.per,
        maturity_ms=in_ms(rule.maturity),
        hold_ms=in_ms(rule.hold),
        severity=rule.severity,
    )


def topics_of(settings: Settings) -> dict[Kind, str]:
    """The topic of each of the two logs."""
    kafka = settings.kafka
    return {Kind.PREDICTIONS: kafka.predictions.topic, Kind.LABELS: kafka.labels.topic}


def codec_of(settings: Settings) -> RecordCodec:
    """How records are read."""
    topics = topics_of(settings)
    unit = settings.mapping.time_unit
    return RecordCodec(
        predictions_topic=topics[Kind.PREDICTIONS],
        labels_topic=topics[Kind.LABELS],
        slice_names=tuple(name for name in settings.slices if name != "variant"),
        known=frozenset(settings.intents.known) if settings.intents.closed else None,
        max_bytes=settings.worker.max_record_bytes,
        predictions=_mapping(
            settings.mapping.predictions.preset, settings.mapping.predictions.fields, unit
        ),
        labels=_mapping(settings.mapping.labels.preset, settings.mapping.labels.fields, unit),
    )


def _mapping(preset: str, fields: Mapping[str, str], unit: str | None) -> FieldMapping:
    mapping = PRESETS[preset]
    if fields:
        mapping = mapping.with_paths(fields)
    return mapping if unit is None else replace(mapping, time_unit=TimeUnit(unit))


def limits_of(settings: Settings) -> Limits:
    """How much the flow takes at once, and when it gives up."""
    worker = settings.worker
    return Limits(worker.batch_records, worker.max_consecutive_rejects)


def verdict_limits_of(settings: Settings) -> VerdictLimits:
    """What a variant must reach to be fit for production."""
    verdict = settings.verdict
    return VerdictLimits(
        accuracy_good=verdict.accuracy.good,
        accuracy_bad=verdict.accuracy.bad,
        recall=dict(sorted(verdict.recall.items())),
        precision=dict(sorted(verdict.precision.items())),
        latency_p95_ms=verdict.latency_ms.p95,
        relevance=verdict.relevance,
    )
