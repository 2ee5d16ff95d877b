"""Every setting, in groups: its name, default, bounds and an example of a right value.

Long because it is one table. Each field carries an example, which the messages of `load` show.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from monitor.app.settings.comparisons import ComparisonSettings
from monitor.app.settings.identity import Hosts, IdentitySettings
from monitor.app.settings.notify import AlertingSettings, Receivers
from monitor.app.settings.references import reference_faults
from monitor.app.settings.signals import ESTIMATE_READS, WITH_REFERENCE, SignalSettings
from monitor.app.settings.values import (
    DAY,
    DEFAULT_TOPICS,
    HOUR,
    MILLISECOND,
    MINUTE,
    NOTHING,
    SECOND,
    YEAR,
    Attributes,
    Duration,
    FieldPath,
    Group,
    Limits,
    Loc,
    Names,
    Port,
    PortOrOff,
    RedisUrl,
    Server,
    Share,
    Text,
    Topic,
    check_redis_url,
    format_duration,
    normal_base_path,
    read_all,
    read_auto,
    read_off,
    refuse,
    spelled,
    split_commas,
    within,
)
from monitor.domain.rules import Metric, Severity, Signal
from monitor.domain.sampling import EVERY

Bar = Annotated[float, Field(ge=10, le=1e9)]


class SecuritySettings(Group):
    """How the worker proves itself to the brokers, and they to it."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", examples=["SASL_SSL"]
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, examples=["SCRAM-SHA-512"]
    )
    username: Text | None = Field(default=None, examples=["recallwatch"])
    password: SecretStr | None = Field(default=None, examples=['"the password, in quotes"'])
    ca_file: Path | None = Field(default=None, examples=["/etc/kafka/ca.pem"])
    cert_file: Path | None = Field(default=None, examples=["/etc/kafka/client.pem"])
    key_file: Path | None = Field(default=None, examples=["/etc/kafka/client.key"])

    @model_validator(mode="after")
    def _parts_belong_together(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[tuple[Loc, str]]:
        sasl, tls = self.protocol.startswith("SASL_"), self.protocol.endswith("SSL")
        for name in ("mechanism", "username", "password"):
            given = getattr(self, name) is not None
            if sasl and not given:
                yield (name,), f"is required by protocol {self.protocol}"
            if given and not sasl:
                yield (name,), "needs protocol SASL_SSL or SASL_PLAINTEXT"
        for name in ("ca_file", "cert_file", "key_file"):
            if getattr(self, name) is not None and not tls:
                yield (name,), "needs protocol SSL or SASL_SSL"
        for name, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
            if getattr(self, name) is None and getattr(self, other) is not None:
                yield (name,), f"is required beside {other}"


class PredictionsTopic(Group):
    """The topic with what the chatbot answered."""

    topic: Topic = Field(default=DEFAULT_TOPICS["predictions"], examples=["predictions"])


class LabelsTopic(Group):
    """The topic with what was true."""

    topic: Topic = Field(default=DEFAULT_TOPICS["labels"], examples=["labels"])


class DeadLettersTopic(Group):
    """The topic for records that could not be read."""

    topic: Topic = Field(
        default=DEFAULT_TOPICS["dead_letters"], examples=["recallwatch.dead-letters"]
    )


class JournalTopic(Group):
    """The topic in which every evaluation is recorded."""

    topic: Topic = Field(default=DEFAULT_TOPICS["journal"], examples=["recallwatch.journal"])


class KafkaSettings(Group):
    """Where records come from. `instance_id` makes the consumer a static member of its group.

    `client` is the library that reads; confluent-kafka is in the extra `fast`.
    """

    bootstrap_servers: Annotated[
        tuple[Server, ...], BeforeValidator(split_commas), Field(min_length=1)
    ] = Field(default=("localhost:9092",), examples=["kafka-1:9092, kafka-2:9092"])
    group: Text = Field(default="recallwatch", examples=["recallwatch"])
    instance_id: Topic | None = Field(default=None, examples=["worker-1"])
    isolation_level: Literal["read_committed", "read_uncommitted"] = Field(
        default="read_committed", examples=["read_committed"]
    )
    client: Literal["kafka-python", "confluent-kafka"] = Field(
        default="kafka-python", examples=["kafka-python"]
    )
    session_timeout: Annotated[Duration, within(6 * SECOND, 30 * MINUTE)] = Field(
        default=45 * SECOND, examples=["45s"]
    )
    assignor: Literal["range", "cooperative-sticky"] = Field(default="range", examples=["range"])
    security: SecuritySettings = Field(default=SecuritySettings(), examples=["{protocol: SSL}"])
    predictions: PredictionsTopic = Field(
        default=PredictionsTopic(), examples=["{topic: predictions}"]
    )
    labels: LabelsTopic = Field(default=LabelsTopic(), examples=["{topic: labels}"])
    dead_letters: DeadLettersTopic = Field(
        default=DeadLettersTopic(), examples=["{topic: recallwatch.dead-letters}"]
    )
    journal: JournalTopic = Field(default=JournalTopic(), examples=["{topic: recallwatch.journal}"])


class RedisSettings(Group):
    """Where state lives. `buckets` is per shard, about one per 100 pending predictions."""

    url: Annotated[RedisUrl, AfterValidator(check_redis_url)] = Field(
        default=RedisUrl("redis://localhost:6379/0"), examples=["redis://localhost:6379/0"]
    )
    namespace: Annotated[
        str, spelled(r"[a-z0-9_-]{1,40}", "a-z, 0-9, '_' and '-' (1 to 40 of them)")
    ] = Field(default="prod", examples=["prod"])
    shards: Annotated[int, Field(ge=1, le=1024)] = Field(default=1, examples=["1"])
    buckets: Annotated[int, Field(ge=1, le=2**20)] = Field(default=4096, examples=["4096"])
    timeout: Annotated[Duration, within(10 * MILLISECOND, 5 * MINUTE)] = Field(
        default=5 * SECOND, examples=["5s"]
    )
    cluster: bool = Field(default=False, examples=["true"])
    ca_file: Path | None = Field(default=None, examples=["/etc/redis/ca.pem"])
    cert_file: Path | None = Field(default=None, examples=["/etc/redis/client.pem"])
    key_file: Path | None = Field(default=None, examples=["/etc/redis/client.key"])

    @model_validator(mode="after")
    def _parts_belong_together(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[tuple[Loc, str]]:
        parts = urlsplit(self.url.get_secret_value())
        files = {name: getattr(self, name) for name in ("ca_file", "cert_file", "key_file")}
        for name, path in files.items():
            if path is not None and parts.scheme != "rediss":
                yield (name,), "needs a redis.url that starts with rediss://"
        for name, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
            if files[name] is None and files[other] is not None:
                yield (name,), f"is required beside {other}"
        if self.cluster and parts.scheme == "unix":
            yield ("cluster",), "needs host and port of a node in redis.url, not a socket file"
        elif self.cluster and parts.path.strip("/0"):
            yield ("cluster",), "has no database but 0: leave the number out of redis.url"


class IntentSettings(Group):
    """Which intents exist. Closed: a record with an intent outside `known` is rejected."""

    closed: bool = Field(default=False, examples=["true"])
    known: Names = Field(default=(), examples=["[report_fraud, lost_card, check_balance]"])
    groups: Mapping[Text, Annotated[Names, Field(min_length=1)]] = Field(
        default={}, examples=["{urgent: [report_fraud, lost_card]}"]
    )

    @model_validator(mode="after")
    def _closed_means_all_known(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[tuple[Loc, str]]:
        if self.closed and not self.known:
            yield ("known",), "must list the intents, since they are closed"
        for name, members in self.groups.items():
            if name in self.known:
                yield ("groups", name), "is also the name of a known intent"
            strangers = [intent for intent in members if intent not in self.known]
            if self.closed and self.known and strangers:
                yield ("groups", name), f"holds intents that are not known: {', '.join(strangers)}"


def _default_keep(validated: Mapping[str, object]) -> dict[timedelta, timedelta]:
    pane = validated.get("pane", MINUTE)
    return {cast(timedelta, pane): 7 * DAY, HOUR: 90 * DAY, DAY: 3 * YEAR}


class WindowSettings(Group):
    """How time is cut. `keep` maps the size of a pane to how long panes of it are kept."""

    pane: Annotated[Duration, within(SECOND)] = Field(default=MINUTE, examples=["1m"])
    horizon: Annotated[Duration, within(SECOND)] = Field(default=35 * DAY, examples=["35d"])
    recent: Annotated[Duration, within(SECOND)] = Field(default=15 * MINUTE, examples=["15m"])
    keep: Mapping[Duration, Annotated[Duration, within(SECOND)]] = Field(
        default_factory=_default_keep, examples=["{1m: 7d, 1h: 90d, 1d: 3y}"]
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[tuple[Loc, str]]:
        pane = format_duration(self.pane)
        if HOUR % self.pane:
            yield ("pane",), "must divide one hour without a rest"
            return
        if self.horizon < self.pane:
            yield ("horizon",), f"must be at least one pane ({pane})"
        if self.recent % self.pane:
            yield ("recent",), f"must be a whole number of panes ({pane})"
        sizes = sorted({self.pane, HOUR, DAY})
        if set(self.keep) != set(sizes):
            yield ("keep",), f"must have exactly {', '.join(map(format_duration, sizes))}"
            return
        least = [max(sizes[1], self.recent), *sizes[2:], self.horizon]
        for size, bound in zip(sizes, least, strict=True):
            if self.keep[size] < bound:
                yield ("keep", format_duration(size)), f"must be at least {format_duration(bound)}"


class RuleSettings(Group):
    """One alert rule. `of` is a group or an intent; `per` opens one alert for each value.

    `maturity` and `evidence` are None for auto, `hindsight` is None for off.
    """

    name: Annotated[
        str, spelled(r"[A-Za-z0-9_.-]{1,64}", "letters, digits, '.', '_' and '-' (1 to 64)")
    ] = Field(examples=["urgent-recall"])
    metric: Metric = Field(default=Metric.RECALL, examples=["recall"])
    of: Text = Field(default="", examples=["urgent"])
    where: Mapping[Text, Text] = Field(default={}, examples=["{variant: fine_tuned}"])
    per: Names = Field(default=(), examples=["[variant]"])
    detector: Literal["evidence", "glance"] = Field(default="evidence", examples=["evidence"])
    evidence: Annotated[Bar | None, BeforeValidator(read_auto)] = Field(
        default=None, examples=["36000"]
    )
    objective: Share = Field(examples=["0.80"])
    baseline: Annotated[float, Field(gt=0, le=1)] | None = Field(default=None, examples=["0.92"])
    maturity: Annotated[Duration | None, BeforeValidator(read_auto)] = Field(
        default=NOTHING, examples=["6h"]
    )
    hindsight: Annotated[Duration | None, BeforeValidator(read_off)] = Field(
        default=7 * DAY, examples=["7d"]
    )
    hold: Duration = Field(default=30 * MINUTE, examples=["30m"])
    severity: Severity = Field(default=Severity.PAGE, examples=["page"])
    runbook: str = Field(default="", examples=["https://wiki.example/urgent-recall"])

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[tuple[Loc, str]]:
        if self.baseline is not None and self.baseline <= self.objective:
            yield ("baseline",), f"must be above the objective ({self.objective})"
        if self.metric is not Metric.ACCURACY and not self.of:
            yield ("of",), f"is required by metric {self.metric}"
        if self.detector == "glance" and self.evidence is not None:
            yield ("evidence",), "is for detector evidence alone"
        if self.hindsight is not None and self.hindsight < (self.maturity or NOTHING):
            yield ("hindsight",), "must be at least the maturity"


class AccuracyLimits(Group):
    """At or above `good` is fit, below `bad` is not; in between the other reasons decide."""

    good: Share = Field(default=0.85, examples=["0.85"])
    bad: Share = Field(default=0.60, examples=["0.60"])

    @model_validator(mode="after")
    def _good_above_bad(self) -> Self:
        if self.good <= self.bad:
            refuse([(("good",), f"must be above bad ({self.bad})")])
        return self


class LatencyLimits(Group):
    """The greatest fit latency, in milliseconds, by percentile."""

    p95: Annotated[float, Field(gt=0)] = Field(default=800.0, examples=["800"])


class EveryGroup(Group):
    """Limits of each declared group that has none of its own; `off` for none."""

    recall: Annotated[Share | None, BeforeValidator(read_off)] = Field(
        default=0.80, examples=["0.80"]
    )
    precision: Annotated[Share | None, BeforeValidator(read_off)] = Field(
        default=0.50, examples=["0.50"]
    )


class OfflineScore(Group):
    """What a model scored before it served: on how many examples, if that is known."""

    model_version: Text = Field(examples=["ft-1.0"])
    metric: Literal["accuracy", "recall", "precision"] = Field(examples=["recall"])
    of: Text | None = Field(default=None, examples=["urgent"])
    value: Annotated[float, Field(ge=0, le=1)] = Field(examples=["0.93"])
    n: Annotated[int, Field(ge=1)] | None = Field(default=None, examples=["1200"])

    @model_validator(mode="after")
    def _group_is_named(self) -> Self:
        if (self.metric == "accuracy") is not (self.of is None):
            words = "is for recall and precision" if self.of else "is required by this metric"
            refuse([(("of",), words)])
        return self


class VariantSettings(Group):
    """What is said about one variant; limits that are left out are those of all."""

    approach: Literal["fine_tuned", "prompt"] | None = Field(default=None, examples=["prompt"])
    cost_per_1000: Annotated[float, Field(ge=0)] | None = Field(default=None, examples=["1.2"])
    accuracy: AccuracyLimits | None = Field(default=None, examples=["{good: 0.9, bad: 0.7}"])
    recall: Limits = Field(default={}, examples=["{urgent: 0.75}"])
    precision: Limits = Field(default={}, examples=["{urgent: 0.50}"])
    latency_ms: LatencyLimits | None = Field(default=None, examples=["{p95: 2000}"])
    relevance: Share | None = Field(default=None, examples=["0.7"])
    offline: tuple[OfflineScore, ...] = Field(
        default=(),
        examples=["[{model_version: ft-1.0, metric: recall, of: urgent, value: 0.93, n: 1200}]"],
    )


class VerdictSettings(Group):
    """What a variant must reach to be fit for production; `latency_ms` in milliseconds."""

    window: Annotated[Annotated[Duration, within(HOUR)] | None, BeforeValidator(read_all)] = Field(
        default=timedelta(days=7), examples=["7d"]
    )
    maturity: Annotated[Duration, within(NOTHING)] = Field(default=NOTHING, examples=["6h"])
    accuracy: AccuracyLimits = Field(default=AccuracyLimits(), examples=["{good: 0.85, bad: 0.60}"])
    recall: Limits = Field(default={}, examples=["{urgent: 0.80}"])
    precision: Limits = Field(default={}, examples=["{urgent: 0.60}"])
    every_group: EveryGroup = Field(
        default=EveryGroup(), examples=["{recall: 0.80, precision: 0.50}"]
    )
    balance: Annotated[Share | None, BeforeValidator(read_off)] = Field(
        default=0.30, examples=["0.30"]
    )
    latency_ms: LatencyLimits = Field(default=LatencyLimits(), examples=["{p95: 800}"])
    relevance: Share | None = Field(default=None, examples=["0.7"])
    variants: Mapping[Text, VariantSettings] = Field(
        default={}, examples=["{prompt: {approach: prompt, cost_per_1000: 1.2}}"]
    )


class RecordMapping(Group):
    """Where our fields stand in one kind of message; list places are numbers: `outputs.0.label`."""

    fields: Mapping[Text, FieldPath] = Field(
        default={}, examples=["{predicted_intent: parse_data.intent.name}"]
    )


class PredictionMapping(RecordMapping):
    """How predictions are read from the messages of another system."""

    preset: Literal["flat", "rasa", "cloudevents", "sagemaker"] = Field(
        default="flat", examples=["rasa"]
    )


class LabelMapping(RecordMapping):
    """How labels are read; no other system has a shape of its own for them."""

    preset: Literal["flat"] = Field(default="flat", examples=["flat"])


class MappingSettings(Group):
    """How messages of other systems are read. No `time_unit` means that of the preset."""

    predictions: PredictionMapping = Field(default=PredictionMapping(), examples=["{preset: rasa}"])
    labels: LabelMapping = Field(default=LabelMapping(), examples=["{preset: flat}"])
    time_unit: Literal["iso", "ms", "s"] | None = Field(default=None, examples=["ms"])


class TelemetrySettings(Group):
    """The worker's own logs and metrics; port 0 turns the metrics server off."""

    host: Text = Field(default="127.0.0.1", examples=["127.0.0.1"])
    port: PortOrOff = Field(default=9464, examples=["9464"])
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", examples=["info"]
    )
    log_format: Literal["auto", "json", "console"] = Field(default="auto", examples=["json"])


class WorkerSettings(Group):
    """How much the worker takes at once, and when it gives up."""

    batch_records: Annotated[int, Field(ge=1, le=100_000)] = Field(default=8000, examples=["8000"])
    poll_timeout: Annotated[Duration, within(MILLISECOND, MINUTE)] = Field(
        default=200 * MILLISECOND, examples=["200ms"]
    )
    evaluate_every: Annotated[Duration, within(100 * MILLISECOND, HOUR)] = Field(
        default=SECOND, examples=["1s"]
    )
    max_consecutive_rejects: Annotated[int, Field(ge=1)] = Field(default=1000, examples=["1000"])
    idle_after: Annotated[Duration, within(100 * MILLISECOND, HOUR)] = Field(
        default=10 * SECOND, examples=["10s"]
    )
    max_record_bytes: Annotated[int, Field(ge=1)] = Field(default=262_144, examples=["262144"])


class DashboardSettings(Group):
    """Where the dashboard listens. `base_path` is held as "" or with its first slash only.

    It is served under any name while `allowed_hosts` is empty. In `archive` it looks for what Kafka
    has dropped, to prove an alert or to show what somebody wrote.
    """

    host: Text = Field(default="127.0.0.1", examples=["127.0.0.1"])
    port: Port = Field(default=8501, examples=["8501"])
    base_path: Annotated[str, AfterValidator(normal_base_path)] = Field(
        default="", examples=["/monitor"]
    )
    allowed_hosts: Hosts = Field(default=(), examples=["[monitor.example.com]"])
    archive: Text | None = Field(default=None, examples=["/var/lib/recallwatch/archive"])
    identity: IdentitySettings = Field(
        default=IdentitySettings(), examples=["{header: X-Forwarded-User}"]
    )


def _variant_first(names: tuple[str, ...]) -> tuple[str, ...]:
    return ("variant", *(name for name in names if name != "variant"))


class Settings(Group):
    """All settings; `Settings()` is what an empty file means."""

    kafka: KafkaSettings = Field(
        default=KafkaSettings(),
        examples=['{bootstrap_servers: "localhost:9092", group: recallwatch}'],
    )
    redis: RedisSettings = Field(
        default=RedisSettings(), examples=['{url: "redis://localhost:6379/0"}']
    )
    intents: IntentSettings = Field(
        default=IntentSettings(), examples=["{groups: {urgent: [report_fraud, lost_card]}}"]
    )
    slices: Annotated[Attributes, AfterValidator(_variant_first)] = Field(
        default=("variant",), examples=["[variant, channel]"]
    )
    windows: WindowSettings = Field(default=WindowSettings(), examples=["{pane: 1m, horizon: 35d}"])
    sampling: Annotated[float, Field(gt=0, le=1)] = Field(default=EVERY, examples=["0.1"])
    rules: tuple[RuleSettings, ...] = Field(
        default=(), examples=["[{name: urgent-recall, of: urgent, objective: 0.80}]"]
    )
    signals: tuple[SignalSettings, ...] = Field(
        default=(), examples=["[{name: fewer-urgent, signal: predicted_share, of: urgent}]"]
    )
    comparisons: tuple[ComparisonSettings, ...] = Field(
        default=(), examples=["[{name: urgent-pairs, of: urgent}]"]
    )
    verdict: VerdictSettings = Field(
        default=VerdictSettings(), examples=["{recall: {urgent: 0.80}}"]
    )
    notify: Receivers = Field(
        default=(), examples=['[{webhook: "https://hooks.example.com/alerts"}]']
    )
    alerting: AlertingSettings = Field(
        default=AlertingSettings(), examples=["{repeat: 4h, timeout: 30s}"]
    )
    mapping: MappingSettings = Field(
        default=MappingSettings(), examples=["{predictions: {preset: rasa}}"]
    )
    telemetry: TelemetrySettings = Field(default=TelemetrySettings(), examples=["{port: 9464}"])
    worker: WorkerSettings = Field(default=WorkerSettings(), examples=["{batch_records: 8000}"])
    dashboard: DashboardSettings = Field(default=DashboardSettings(), examples=["{port: 8501}"])

    @model_validator(mode="after")
    def _names_are_declared(self) -> Self:
        faults = (*self._signal_faults(), *self._window_faults())
        refuse([*reference_faults(self.model_dump()), *faults])
        return self

    def _window_faults(self) -> Iterator[tuple[Loc, str]]:
        """A verdict is given by full hours, as long as they are kept: the default gives way."""
        window, hours = self.verdict.window, self.windows.keep[HOUR]
        if window is not None and window % HOUR:
            yield ("verdict", "window"), "must be a whole number of hours"
        elif window is not None and window > hours and "window" in self.verdict.model_fields_set:
            yield ("verdict", "window"), "is longer than hours are kept (windows.keep)"

    def _signal_faults(self) -> Iterator[tuple[Loc, str]]:
        keep, pane = self.windows.keep, self.windows.pane
        for index, signal in enumerate(self.signals):
            if signal.window % pane:
                loc = "signals", index, "window"
                yield loc, f"must be a whole number of panes ({format_duration(pane)})"
            elif signal.window + HOUR > keep[pane]:
                yield ("signals", index, "window"), "is longer than panes are kept (windows.keep)"
            reached = signal.window + signal.reference + DAY
            if signal.signal in WITH_REFERENCE and reached > keep[HOUR]:
                yield (
                    ("signals", index, "reference"),
                    "is longer than hours are kept (windows.keep)",
                )
            if signal.signal is Signal.ESTIMATE and keep[HOUR] < ESTIMATE_READS:
                least = format_duration(ESTIMATE_READS)
                yield ("signals", index, "signal"), f"needs hours for {least} (windows.keep)"
            if signal.signal is Signal.UNKNOWN_INTENTS and not self.intents.known:
                yield ("signals", index, "signal"), "needs intents.known"

    def masked(self) -> dict[str, object]:
        """All settings as values that JSON can hold, durations as text, secrets masked."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """Name of what determines the numbers: equal settings give equal digests.

        Hosts, ports, secrets, limits of the verdict and the pace of the worker do not count.
        """
        names = {"intents", "slices", "windows", "rules", "signals", "mapping"}
        # With nothing of these, the digest is what it was before there were such.
        if self.comparisons:
            names.add("comparisons")
        if self.sampling < EVERY:
            names.add("sampling")
        counting = self.model_dump(mode="json", include=names)
        text = json.dumps(counting, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
