"""Shapes of records on the wire, and the bounds of what they may hold."""

import msgspec

MAX_RECORD_BYTES = 256 * 1024
MAX_NAME_CHARS = 256
"""Longest id, intent, variant and slice value: they become keys, and are kept."""

FUTURE_MS = 24 * 3_600_000
"""How far an event may lie after its own log time before its clock is held to be wrong."""

MAX_REVISION = 2**63 - 1
"""Room for an instant in nanoseconds, and the most that a packed entry can hold."""

Time = str | int | float
"""An instant as it is written."""


class PredictionWire(msgspec.Struct):
    """Fields of a ``predictions`` record; unknown ones are ignored."""

    prediction_id: str
    event_time: Time
    predicted_intent: str
    variant: str
    request_id: str | None = None
    conversation_id: str | None = None
    model_version: str | None = None
    prompt_version: str | None = None
    confidence: float | None = None
    scores: dict[str, float] | None = None
    latency_ms: float | None = None
    relevance: float | None = None
    channel: str | None = None


class LabelWire(msgspec.Struct):
    """Fields of a ``labels`` record; ``true_intent`` may be missing when ``withdrawn``."""

    prediction_id: str
    label_time: Time
    true_intent: str | None = None
    label_id: str | None = None
    revision: int = 1
    supersedes: str | None = None
    annotator: str | None = None
    source: str | None = None
    relevance: float | None = None
    sampling_rate: float | None = None
    withdrawn: bool = False
