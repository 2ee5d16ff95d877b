"""Messages of other systems: where in a foreign shape each of our fields stands.

A path is dotted, list indices are numbers: ``parse_data.intent.name``, ``outputs.0.label``. A
preset is a set of paths with the time unit of that system; single paths can be replaced.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

import msgspec


class TimeUnit(StrEnum):
    """How instants are written: ISO 8601 with zone, or a number since the epoch."""

    ISO = "iso"
    MILLISECONDS = "ms"
    SECONDS = "s"


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """Our field -> path in the message. Without any the message is already in our shape.

    ``by_name`` reads a field without a path from the place of the same name.

    ``only`` names what a message must hold to concern us, as path -> value, and ``skip`` what it
    must not hold: Rasa's event broker sends the bot's events in the same topic, KServe's logger the
    requests. Others are skipped and not counted.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    time_unit: TimeUnit = TimeUnit.ISO
    only: Mapping[str, str] = field(default_factory=dict)
    skip: Mapping[str, str] = field(default_factory=dict)
    by_name: bool = False

    @property
    def is_flat(self) -> bool:
        """Whether messages can be decoded as they are."""
        return not self.paths and not self.only and not self.skip

    def with_paths(self, paths: Mapping[str, str]) -> "FieldMapping":
        """The same mapping with some paths replaced or added."""
        return replace(self, paths={**self.paths, **paths})


_RASA = FieldMapping(
    paths={
        "prediction_id": "message_id",
        "event_time": "timestamp",
        "predicted_intent": "parse_data.intent.name",
        "variant": "metadata.model_id",
        "confidence": "parse_data.intent.confidence",
        "conversation_id": "sender_id",
        "channel": "input_channel",
        "text": "text",
    },
    time_unit=TimeUnit.SECONDS,
    only={"event": "user"},
)
_CLOUDEVENTS = FieldMapping(
    paths={
        "prediction_id": "id",
        "event_time": "time",
        "predicted_intent": "data.predictions.0.intent",
        "confidence": "data.predictions.0.confidence",
        "variant": "inferenceservicename",
    },
    skip={"type": "org.kubeflow.serving.inference.request"},
)
_SAGEMAKER = FieldMapping(
    paths={
        "prediction_id": "eventMetadata.inferenceId",
        "event_time": "eventMetadata.inferenceTime",
        "predicted_intent": "captureData.endpointOutput.data.intent",
        "confidence": "captureData.endpointOutput.data.confidence",
        "variant": "eventMetadata.variantName",
    },
)

PRESETS: Mapping[str, FieldMapping] = MappingProxyType(
    {
        "flat": FieldMapping(by_name=True),
        "rasa": _RASA,
        "cloudevents": _CLOUDEVENTS,
        "sagemaker": _SAGEMAKER,
    }
)
"""Shapes that are known by name; labels have only ``flat``, their shape is everyone's own."""


def flattened(message: Mapping[str, object], mapping: FieldMapping) -> dict[str, object]:
    """Our fields as found in ``message``; what is not there is left out."""
    found = {name: dig(message, path) for name, path in mapping.paths.items()}
    present = {name: value for name, value in found.items() if value is not None}
    return {**message, **present} if mapping.by_name else present


def concerns_us(message: Mapping[str, object], mapping: FieldMapping) -> bool:
    """Whether the message is one of those that ``only`` and ``skip`` ask for."""
    wanted = all(dig(message, path) == value for path, value in mapping.only.items())
    return wanted and all(dig(message, path) != value for path, value in mapping.skip.items())


def dig(message: object, path: str) -> object:
    """What stands at ``path``; None where a step leads nowhere. Steps lead into JSON in a text.

    >>> dig({"outputs": [{"label": "lost_card"}]}, "outputs.0.label")
    'lost_card'
    >>> dig({"data": '{"intent": "lost_card"}'}, "data.intent")
    'lost_card'
    """
    for name in path.split("."):
        if isinstance(message, str):
            message = _opened(message)
        if isinstance(message, Mapping):
            message = message.get(name)
        elif isinstance(message, list) and name.isdecimal() and int(name) < len(message):
            message = message[int(name)]
        else:
            return None
    return message


def _opened(text: str) -> object:
    """The JSON that stands in a text, as SageMaker captures answers; None when it is none."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
