"""From settings to the parts that they describe: what determines the numbers, and the store.

Brokers are opened in ``brokers``, receivers of notifications in ``receivers``: whoever only reads
the store, as the dashboard does, loads no client of either.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

import structlog
from pydantic import ValidationError

from monitor import __version__
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.app.flow import Limits, Provenance
from monitor.app.settings import (
    ComparisonSettings,
    RuleSettings,
    Settings,
    SettingsError,
    VariantSettings,
    VerdictSettings,
    format_duration,
)
from monitor.app.settings.faults import describe, faults_of
from monitor.app.settings.signals import ESTIMATE_READS
from monitor.app.settings.values import HOUR, Group
from monitor.codec.mapping import PRESETS, FieldMapping, TimeUnit
from monitor.codec.records import RecordCodec
from monitor.codec.snapshots import canonical
from monitor.domain.engine import Spec
from monitor.domain.estimate import score_name
from monitor.domain.events import Kind
from monitor.domain.notices import Rules
from monitor.domain.rules import AlertRule, Metric, PairRule, Signal, SignalRule
from monitor.domain.sampling import EVERY
from monitor.domain.slices import Groups
from monitor.domain.verdict import VerdictLimits
from monitor.domain.windows import WindowSpec
from monitor.ports import StateStore

_MILLISECOND = timedelta(milliseconds=1)
ESTIMATE_NAME = "estimate:"
"""Begins the names of estimates that nobody asked for; no name in the settings has a colon."""

ESTIMATE_WINDOW_MS = 6 * 3_600_000
DEFAULT_LIMIT = "limit of every group"
"""Where a limit comes from that nobody has declared for the group."""

LONGEST_READ_S = 1.0
"""A person at a dashboard is told after a second that the store does not answer."""


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
        signals=tuple(_signals_of(settings, groups)),
        comparisons=tuple(_pair_rule_of(each, groups) for each in settings.comparisons),
        sampling=settings.sampling,
    )


def _rule_of(rule: RuleSettings, groups: Groups) -> AlertRule:
    return AlertRule(
        name=rule.name,
        of=rule.of or "all intents",
        group=groups.of(rule.of),
        objective=rule.objective,
        where=tuple(sorted(rule.where.items())),
        per=rule.per,
        maturity_ms=None if rule.maturity is None else in_ms(rule.maturity),
        hold_ms=in_ms(rule.hold),
        severity=rule.severity,
        metric=rule.metric,
        baseline=rule.baseline,
        evidence=rule.evidence,
        is_glance=rule.detector == "glance",
        hindsight_ms=None if rule.hindsight is None else in_ms(rule.hindsight),
        runbook=rule.runbook,
    )


def _pair_rule_of(comparison: ComparisonSettings, groups: Groups) -> PairRule:
    of = comparison.of or ""
    return PairRule(
        name=comparison.name,
        of=of,
        group=groups.of(of) if of else frozenset(),
        metric=Metric(comparison.metric),
        maturity_ms=in_ms(comparison.maturity),
        within_ms=in_ms(comparison.within),
    )


def _signals_of(settings: Settings, groups: Groups) -> Iterator[SignalRule]:
    """The signals asked for, and a label-free estimate for the display of every other group."""
    known = frozenset(settings.intents.known)
    estimated = set()
    for signal in settings.signals:
        members = groups.of(signal.of or "")
        if signal.signal is Signal.ESTIMATE and signal.variant is None:
            estimated.add(signal.of)
        yield SignalRule(
            name=signal.name,
            signal=signal.signal,
            of=signal.of or "",
            group=members,
            score_name=score_name(signal.of, members) if signal.of else "",
            variant=signal.variant,
            window_ms=in_ms(signal.window),
            reference_ms=in_ms(signal.reference),
            below=_bound(signal.below),
            above=_bound(signal.above),
            z=signal.z,
            objective=signal.objective,
            drift=signal.drift,
            known=known,
            hold_ms=in_ms(signal.hold),
            runbook=signal.runbook,
        )
    if settings.windows.keep[HOUR] < ESTIMATE_READS:
        return
    for name, members in groups.members.items():
        if name not in estimated:
            yield SignalRule(
                name=f"{ESTIMATE_NAME}{name}",
                signal=Signal.ESTIMATE,
                of=name,
                group=members,
                score_name=score_name(name, members),
                window_ms=ESTIMATE_WINDOW_MS,
            )


def _bound(bound: float | timedelta | None) -> float | None:
    return float(in_ms(bound)) if isinstance(bound, timedelta) else bound


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
        groups=tuple(spec_of(settings).groups.members.items()),
        keeps_requests=bool(settings.comparisons),
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
    """What a variant must reach to be fit for production, and what differs for single variants.

    Every declared group is watched. Its limit is what the verdict says of it, else the lowest
    objective of the rules that watch it, else the one for every group.
    """
    wheres = (rule.where.get("variant") for rule in settings.rules)
    names = sorted({*settings.verdict.variants, *(name for name in wheres if name)})
    variants = {name: _verdict_limits_of(settings, name) for name in names}
    return replace(_verdict_limits_of(settings, None), variants=variants)


def _verdict_limits_of(settings: Settings, variant: str | None) -> VerdictLimits:
    """Those of one variant, or those of every variant that has none of its own."""
    verdict = settings.verdict
    own = verdict.variants.get(variant or "", VariantSettings())
    recall, precision, sources = {}, {}, {}
    for name in sorted(settings.intents.groups):
        told = own.recall.get(name, verdict.recall.get(name))
        limit, source = _recall_limit_of(settings, name, variant, told)
        if limit is not None:
            recall[name], sources[f"recall of {name}"] = limit, source
        least = own.precision.get(name, verdict.precision.get(name))
        if least is None and (least := verdict.every_group.precision) is not None:
            sources[f"precision of {name}"] = DEFAULT_LIMIT
        if least is not None:
            precision[name] = least
    accuracy = own.accuracy or verdict.accuracy
    return VerdictLimits(
        accuracy_good=accuracy.good,
        accuracy_bad=accuracy.bad,
        recall=recall,
        precision=precision,
        latency_p95_ms=(own.latency_ms or verdict.latency_ms).p95,
        relevance=verdict.relevance if own.relevance is None else own.relevance,
        balance=verdict.balance,
        sources={name: source for name, source in sources.items() if source},
    )


def _recall_limit_of(
    settings: Settings, group: str, variant: str | None, told: float | None
) -> tuple[float | None, str]:
    """The least recall of a group, and where that limit comes from; "" where it was told."""
    watching = [r for r in settings.rules if r.of == group and r.metric is Metric.RECALL]
    rules = [rule for rule in watching if rule.where.get("variant") in {None, variant}]
    if variant is None and not rules:
        rules = watching
    lowest = min(rules, key=lambda rule: (rule.objective, rule.name), default=None)
    if lowest is None:
        every = settings.verdict.every_group.recall
        return (every, DEFAULT_LIMIT) if told is None else (told, "")
    if told is not None:
        differs = lowest.objective != told
        return told, f"rule {lowest.name} alerts below {lowest.objective:.1%}" if differs else ""
    among = f", the lowest of {len(rules)}" if len(rules) > 1 else ""
    return lowest.objective, f"objective of rule {lowest.name}{among}"


def rules_of(settings: Settings) -> Rules:
    """What is watched, by name."""
    spec = spec_of(settings)
    watched: tuple[AlertRule | SignalRule, ...] = (*spec.rules, *spec.signals)
    return {rule.name: rule for rule in watched}


def open_store(settings: Settings) -> StateStore:
    """The namespace in Redis, created if it is new."""
    store = _store(settings, read_only=False)
    if store.eviction_policy() is None:
        structlog.get_logger().warning(
            "eviction unknown",
            reason="the user of redis.url may ask neither CONFIG nor INFO",
            remedy="make sure that the server's maxmemory-policy is noeviction",
        )
    return store


def open_reader(settings: Settings) -> RedisStore:
    """The namespace in Redis, never written to; gives up after a second, for somebody waits."""
    return _store(settings, read_only=True)


def _store(settings: Settings, *, read_only: bool) -> RedisStore:
    told = settings.redis
    timeout_s = told.timeout.total_seconds()
    files = (told.ca_file, told.cert_file, told.key_file)
    ca_file, cert_file, key_file = (None if path is None else str(path) for path in files)
    return RedisStore(
        RedisConnection(
            url=told.url.get_secret_value(),
            cluster=told.cluster,
            timeout_s=min(timeout_s, LONGEST_READ_S) if read_only else timeout_s,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
        ),
        told.namespace,
        shards=told.shards,
        buckets=told.buckets,
        keep_ms=spec_of(settings).windows.keep_ms,
        shape=shape_of(settings),
        read_only=read_only,
    )


def shape_of(settings: Settings) -> dict[str, str]:
    """The settings that must not change below a namespace that has counted, as setting -> text."""
    mapping = settings.mapping.model_dump_json()
    return {
        "sampling": str(settings.sampling),
        "slices": ",".join(settings.slices),
        "windows.pane": format_duration(settings.windows.pane),
        "windows.horizon": format_duration(settings.windows.horizon),
        "mapping": hashlib.sha256(mapping.encode()).hexdigest()[:12],
    }


_DECIDING: dict[str, bool | set[str]] = {
    "intents": True,
    "slices": True,
    "windows": True,
    "rules": True,
    "signals": True,
    "comparisons": True,
    "sampling": True,
    "mapping": True,
    "kafka": {"predictions", "labels", "isolation_level"},
    "redis": {"shards"},
    "worker": {"max_record_bytes"},
}
"""The settings that decide numbers and alerts."""

_NO_VALUE = {"maturity": "auto", "evidence": "auto", "hindsight": "off"}
"""How a rule says that it has none; no value at all would mean the default."""


def provenance_of(settings: Settings) -> Provenance:
    """The settings that decide numbers and alerts, as they would stand in a file, and the release.

    Equal ones give equal documents. No address and no secret is among them.
    """
    told = settings.model_dump(mode="json", include=_DECIDING)
    for rule in told["rules"]:
        rule.update({name: word for name, word in _NO_VALUE.items() if rule[name] is None})
        if not rule["of"]:
            # A name must not be empty; without one a rule is about all intents.
            del rule["of"]
    # With nothing of these, the document is what it was before there were such.
    if not told["comparisons"]:
        del told["comparisons"]
    if settings.sampling >= EVERY:
        del told["sampling"]
    return Provenance(canonical(told).decode(), __version__)


def settings_of(document: str, base: Settings) -> Settings:
    """``base`` with the settings of a provenance's document in place of its own.

    Limits of the verdict on groups that the document does not know are left out. SettingsError
    when the document is none, or does not fit ``base``.
    """
    told = _read_document(document)
    groups = _dict_of(_dict_of(told.get("intents")).get("groups"))
    verdict: dict[str, object] = {**_known_limits(base.verdict, groups)}
    verdict["variants"] = {
        name: _laid_over(own, _known_limits(own, groups))
        for name, own in base.verdict.variants.items()
    }
    nested = {
        "kafka": _laid_over(base.kafka, told.get("kafka")),
        "redis": _laid_over(base.redis, told.get("redis")),
        "worker": _laid_over(base.worker, told.get("worker")),
        "verdict": _laid_over(base.verdict, verdict),
    }
    # A document that does not tell of these is of a time, or of settings, without any.
    untold = {"comparisons": (), "sampling": EVERY}
    absent = {name: value for name, value in untold.items() if name not in told}
    whole = {**_laid_over(base, told), **absent, **nested}
    try:
        return Settings.model_validate(whole)
    except ValidationError as error:
        raise SettingsError(describe("settings of the journal", faults_of(error, {}))) from None


def _known_limits(
    told: VerdictSettings | VariantSettings, groups: Mapping[str, object]
) -> dict[str, object]:
    """The limits and offline scores of groups that are known."""
    limits: dict[str, object] = {
        name: {of: limit for of, limit in getattr(told, name).items() if of in groups}
        for name in ("recall", "precision")
    }
    if isinstance(told, VariantSettings):
        limits["offline"] = [
            score for score in told.offline if score.of is None or score.of in groups
        ]
    return limits


def differences(document_a: str, document_b: str) -> list[str]:
    """What the settings of two documents differ in, one line each: where, what was, what is.

    Rules and signals go by their names, other parts of lists by their places.

    >>> differences('{"rules": [{"name": "r", "objective": 0.8}]}', '{"rules": []}')
    ['rules.r: removed']
    """
    return list(_differences("", _read_document(document_a), _read_document(document_b)))


def _differences(where: str, was: object, now: object) -> Iterator[str]:
    old, new = _parts_of(was), _parts_of(now)
    if old is None or new is None:
        if was != now:
            yield f"{where}: was {_text_of(was)}, is {_text_of(now)}"
        return
    for name in dict.fromkeys([*old, *new]):
        place = f"{where}.{name}" if where else name
        if name not in new:
            yield f"{place}: removed"
        elif name not in old:
            yield f"{place}: added"
        else:
            yield from _differences(place, old[name], new[name])
    common = [name for name in old if name in new]
    if isinstance(was, list) and common != [name for name in new if name in old]:
        yield f"{where}: in another order"


def _parts_of(value: object) -> dict[str, object] | None:
    """Parts by name or place; plain text in a list is its own name. None for what has no parts."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        return None
    return {_name_of(part, place): part for place, part in enumerate(value)}


def _name_of(part: object, place: int) -> str:
    if isinstance(part, dict):
        return str(part.get("name", place))
    return part if isinstance(part, str) else str(place)


def _text_of(value: object) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read_document(document: str) -> dict[str, object]:
    try:
        told = json.loads(document)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise SettingsError("settings of the journal: are no settings; the entry was altered")
    return told


def _dict_of(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _laid_over(group: Group, told: object) -> dict[str, object]:
    """The parts of a group, and in place of some of them what is told."""
    return {name: getattr(group, name) for name in type(group).model_fields} | _dict_of(told)
