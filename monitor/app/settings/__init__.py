"""The operator's settings: one YAML file, overridden by the environment, checked as a whole.

    values > references > identity, notify, signals, comparisons > groups > faults > load

`load_settings` reads the file, lays the `RECALLWATCH_…` variables over it (nested names are joined
by two underscores: `RECALLWATCH_KAFKA__GROUP`), and either returns frozen `Settings` or raises one
`SettingsError` that lists every fault with its path, what is wrong and a right value.

Durations are written with their unit (`30s`, `5m`, `35d`) and held as `timedelta`. Secrets are
held in types whose text forms are masked, and no message repeats a value that may hold one.
A name without a value (`password:`) means the default.
"""

from monitor.app.settings.comparisons import ComparisonSettings
from monitor.app.settings.faults import SettingsError
from monitor.app.settings.groups import (
    AccuracyLimits,
    DashboardSettings,
    IntentSettings,
    KafkaSettings,
    LabelMapping,
    LatencyLimits,
    MappingSettings,
    PredictionMapping,
    RedisSettings,
    RuleSettings,
    SecuritySettings,
    Settings,
    TelemetrySettings,
    VariantSettings,
    VerdictSettings,
    WindowSettings,
    WorkerSettings,
)
from monitor.app.settings.identity import IdentitySettings
from monitor.app.settings.load import chosen_file, load_settings
from monitor.app.settings.notify import AlertingSettings, ReceiverSettings
from monitor.app.settings.signals import SignalSettings
from monitor.app.settings.values import RedisUrl, format_duration, parse_duration

__all__ = [
    "AccuracyLimits",
    "AlertingSettings",
    "ComparisonSettings",
    "DashboardSettings",
    "IdentitySettings",
    "IntentSettings",
    "KafkaSettings",
    "LabelMapping",
    "LatencyLimits",
    "MappingSettings",
    "PredictionMapping",
    "ReceiverSettings",
    "RedisSettings",
    "RedisUrl",
    "RuleSettings",
    "SecuritySettings",
    "Settings",
    "SettingsError",
    "SignalSettings",
    "TelemetrySettings",
    "VariantSettings",
    "VerdictSettings",
    "WindowSettings",
    "WorkerSettings",
    "chosen_file",
    "format_duration",
    "load_settings",
    "parse_duration",
]
