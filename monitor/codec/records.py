"""Record bytes -> Prediction, Label or Rejected. Bad data is a value here, never an exception.

Records in order are read by ``codec.quick``; only what it raises on is looked at closely here, to
say what is wrong with it. The order of the checks is fixed, so that a record with several faults
always gets the same reason.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import compress
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, cast

import msgspec
import numpy as np

from monitor.codec import quick
from monitor.codec.mapping import FieldMapping, TimeUnit, concerns_us, flattened
from monitor.codec.wire import (
    FUTURE_MS,
    MAX_NAME_CHARS,
    MAX_RECORD_BYTES,
    MAX_REVISION,
    LabelWire,
    PredictionWire,
    Time,
)
from monitor.domain.counts import bucket_of
from monitor.domain.estimate import bin_of, score_name
from monitor.domain.events import (
    Envelope,
    Fact,
    Kind,
    Label,
    Prediction,
    PredictionId,
    Reason,
    Record,
    Rejected,
    Traits,
)
from monitor.domain.slices import ALL

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_GREATEST_INSTANT = 1e15

AT_ONCE = 512
"""Records that are read together, and again by halves if one of them is odd."""

_Quick = Callable[[quick.Values, Sequence[int]], Sequence[Prediction | Label]]
_Wire = TypeVar("_Wire", bound=msgspec.Struct)


class Words(msgspec.Struct, frozen=True, gc=False):
    """What the user wrote, and its digest as the sender made it; None where not told."""

    text: str | None = None
    text_hash: str | None = None


_read_words = msgspec.json.Decoder(Words).decode


class _RejectedError(Exception):
    """Carries a rejection out of the checks of this module; never leaves it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.rejected = Rejected(reason, detail)


@dataclass(frozen=True)
class RecordCodec:
    """Decodes both topics according to the settings.

    ``known`` is None when any intent is accepted. ``slice_names`` are the declared slice attributes
    without ``variant``; each is read from the field of the same name. ``groups`` are the declared
    groups with their members, for whose probabilities records are searched. Of requests nothing is
    kept unless ``keeps_requests``.
    """

    predictions_topic: str = "predictions"
    labels_topic: str = "labels"
    slice_names: tuple[str, ...] = ()
    known: frozenset[str] | None = None
    max_bytes: int = MAX_RECORD_BYTES
    predictions: FieldMapping = field(default_factory=FieldMapping)
    labels: FieldMapping = field(default_factory=FieldMapping)
    groups: tuple[tuple[str, frozenset[str]], ...] = ()
    keeps_requests: bool = False
    _scored: quick.Scored = field(init=False, repr=False, compare=False)
    _quick: Mapping[Kind, _Quick | None] = field(init=False, repr=False, compare=False)
    _read_prediction: Callable[[bytes], PredictionWire | None] = field(
        init=False, repr=False, compare=False
    )
    _read_label: Callable[[bytes], LabelWire | None] = field(init=False, repr=False, compare=False)
    _slices: Callable[[PredictionWire], tuple[str, ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Prepare the typed decoders once; they are the hot path."""
        wire, attributes = _declared(self.slice_names, PredictionWire)
        put = object.__setattr__
        scored = ((score_name(n, group), group, tuple(sorted(group))) for n, group in self.groups)
        put(self, "_scored", tuple(scored))
        put(self, "_read_prediction", _reader(wire, self.predictions))
        put(self, "_read_label", _reader(LabelWire, self.labels))
        put(self, "_slices", _slice_getter(attributes))
        put(self, "_quick", self._quick_readers(attributes))

    def _quick_readers(self, attributes: tuple[str, ...]) -> dict[Kind, _Quick | None]:
        """Only messages in our own shape are read quickly."""
        prediction = quick.prediction_reader(
            _declared(self.slice_names, quick.QuickPredictionWire)[0],
            _quick_instants(self.predictions.time_unit),
            attributes,
            _text,
            self.known,
            self._scored,
            self.max_bytes,
            keeps_requests=self.keeps_requests,
        )
        label = quick.label_reader(
            _quick_instants(self.labels.time_unit), self.known, self.max_bytes
        )
        return {
            Kind.PREDICTIONS: prediction if self.predictions.is_flat else None,
            Kind.LABELS: label if self.labels.is_flat else None,
        }

    def decode(self, record: Record) -> Envelope | None:
        """The fact in ``record``; None when its mapping says that it does not concern us."""
        kind, fact = self.kind_of(record), self.fact(record)
        return None if fact is None else Envelope(kind, record.position, fact, record.log_ms)

    def decode_all(self, records: Iterable[Record]) -> list[Envelope]:
        """The facts in ``records``, in their order."""
        return [envelope for record in records if (envelope := self.decode(record)) is not None]

    def fact(self, record: Record) -> Fact | None:
        """What ``record`` says, looked at closely; None when it does not concern us."""
        try:
            value = self._value(record)
            if self.kind_of(record) is Kind.PREDICTIONS:
                return self._prediction(value, record.log_ms)
            return self._label(value, record.log_ms)
        except _RejectedError as error:
            return error.rejected

    def facts(self, records: Sequence[Record]) -> list[Fact | None]:
        """``fact`` of each record, in order; those in order are read in a fraction of the time."""
        topic = self.predictions_topic
        is_prediction = [record[0] == topic for record in records]
        predictions = self._of_kind(Kind.PREDICTIONS, list(compress(records, is_prediction)))
        if len(predictions) == len(records):
            return predictions
        labels = self._of_kind(Kind.LABELS, [r for r in records if r[0] != topic])
        if len(labels) == len(records):
            return labels
        by_kind = iter(labels).__next__, iter(predictions).__next__
        return [by_kind[is_one]() for is_one in is_prediction]

    def _of_kind(self, kind: Kind, records: Sequence[Record]) -> list[Fact | None]:
        found = list[Fact | None]()
        for start in range(0, len(records), AT_ONCE):
            found += self._read(self._quick[kind], records[start : start + AT_ONCE])
        return found

    def _read(self, read: _Quick | None, records: Sequence[Record]) -> Sequence[Fact | None]:
        """All at once; if one of them has to be looked at closely, it is found by halving."""
        if read is None:
            return [self.fact(record) for record in records]
        _, _, _, log_ms, _, values, _ = zip(*records, strict=True)
        try:
            return read(values, log_ms)
        except _UNCLEAR:
            if len(records) == 1:
                return [self.fact(records[0])]
            half = len(records) // 2
            first, rest = records[:half], records[half:]
            return [*self._read(read, first), *self._read(read, rest)]

    def spoken(self, record: Record) -> tuple[PredictionId, str] | None:
        """Whose prediction it is, and what the user wrote, "" where the record does not tell.

        None for what is no prediction. Nothing that counts needs a text.
        """
        fact = self.fact(record)
        if not isinstance(fact, Prediction):
            return None
        return fact.prediction_id, self.words(record).text or ""

    def words(self, record: Record) -> Words:
        """Text and digest of what the user wrote, as a record of a prediction tells them."""
        if self.predictions.is_flat:
            try:
                return _read_words(record.value or b"{}")
            except msgspec.ValidationError:
                pass  # One of the two is no text, which leaves the other.
        message = msgspec.json.decode(record.value or b"{}")
        if not self.predictions.is_flat:
            message = flattened(message, self.predictions)
        found = {name: message.get(name) for name in ("text", "text_hash")}
        return Words(**{name: text for name, text in found.items() if isinstance(text, str)})

    def kind_of(self, record: Record) -> Kind:
        """Which of the two logs the record stands in."""
        return Kind.PREDICTIONS if record.topic == self.predictions_topic else Kind.LABELS

    def _value(self, record: Record) -> bytes:
        value = record.value
        if value is None:
            _reject(Reason.NULL_VALUE, "the record has no value (a tombstone)")
        if len(value) > self.max_bytes:
            _reject(Reason.TOO_LARGE, f"{len(value)} bytes, at most {self.max_bytes} are read")
        if not value.isascii():
            try:
                value.decode()
            except UnicodeDecodeError as error:
                _reject(Reason.NOT_UTF8, f"byte {error.start} is not UTF-8")
        return value

    def _prediction(self, value: bytes, log_ms: int) -> Prediction | None:
        wire = self._read_prediction(value)
        if wire is None:
            return None
        _require(wire.prediction_id, "prediction_id", Reason.EMPTY_ID)
        _require(wire.predicted_intent, "predicted_intent", Reason.MISSING_FIELD)
        _require(wire.variant, "variant", Reason.MISSING_FIELD)
        if wire.variant == ALL:
            _reject(Reason.OUT_OF_RANGE, f"variant is {ALL}, which stands for all variants")
        _share(wire.confidence, "confidence")
        _share(wire.relevance, "relevance")
        if wire.scores:
            for probability in wire.scores.values():
                _share(probability, "scores")
        if wire.latency_ms is not None and not 0 <= wire.latency_ms < math.inf:
            _reject(Reason.OUT_OF_RANGE, "latency_ms is below 0")
        event_ms = _instant(wire.event_time, "event_time", self.predictions.time_unit)
        self._intent(wire.predicted_intent, "predicted_intent")
        _not_future(event_ms, log_ms, "event_time")
        traits = Traits(
            wire.variant,
            wire.predicted_intent,
            self._named_slices(wire),
            _version(wire),
            self._scores(wire) if self._scored else (),
        )
        return Prediction(
            PredictionId(wire.prediction_id),
            event_ms,
            log_ms,
            traits,
            None if wire.latency_ms is None else bucket_of(wire.latency_ms),
            _micros(wire.relevance),
            quick.hash_of(wire.conversation_id),
            quick.hash_of(wire.request_id) if self.keeps_requests else "",
        )

    def _scores(self, wire: PredictionWire) -> tuple[tuple[str, int], ...]:
        """For each group the bin of its probability, as far as the record tells one."""
        scores, predicted = wire.scores, wire.predicted_intent
        if scores:
            return tuple(
                # Sorted, since the order of a sum shows in its last bit.
                (name, bin_of(sum([scores.get(m, 0.0) for m in members]), predicted in group))
                for name, group, members in self._scored
            )
        confidence = wire.confidence
        if confidence is None:
            return ()
        return tuple(
            (name, bin_of(confidence, predicted in group, is_confidence=True))
            for name, group, _ in self._scored
        )

    def _named_slices(self, wire: PredictionWire) -> tuple[str, ...]:
        values = self._slices(wire)
        for value in values:
            if len(value) > MAX_NAME_CHARS:
                _reject(
                    Reason.OUT_OF_RANGE, f"a slice value has more than {MAX_NAME_CHARS} characters"
                )
        return values

    def _label(self, value: bytes, log_ms: int) -> Label | None:
        wire = self._read_label(value)
        if wire is None:
            return None
        _require(wire.prediction_id, "prediction_id", Reason.EMPTY_ID)
        actual = wire.true_intent or ""
        if not wire.withdrawn:
            _require(actual, "true_intent", Reason.MISSING_FIELD)
        if not 1 <= wire.revision <= MAX_REVISION:
            _reject(Reason.OUT_OF_RANGE, f"revision is not within 1..{MAX_REVISION}")
        _share(wire.relevance, "relevance")
        if wire.sampling_rate is not None and not 0 < wire.sampling_rate <= 1:
            _reject(Reason.OUT_OF_RANGE, "sampling_rate is not above 0 and at most 1")
        label_ms = _instant(wire.label_time, "label_time", self.labels.time_unit)
        if actual:
            self._intent(actual, "true_intent")
        _not_future(label_ms, log_ms, "label_time")
        revision, withdrawn = wire.revision, wire.withdrawn
        return Label(
            PredictionId(wire.prediction_id),
            actual,
            label_ms,
            log_ms,
            quick.label_key(wire.label_id, revision, label_ms, actual, withdrawn=withdrawn),
            revision,
            withdrawn,
            _micros(wire.relevance),
        )

    def _intent(self, intent: str, name: str) -> None:
        if self.known is not None and intent not in self.known:
            _reject(Reason.UNKNOWN_INTENT, f"{name} is not among the known intents")


_UNCLEAR = (msgspec.MsgspecError, RecursionError, TypeError, ValueError, _RejectedError)
"""What a quick reader raises about a record that has to be looked at closely."""


def _declared(
    slice_names: tuple[str, ...], base: type[PredictionWire]
) -> tuple[type[PredictionWire], tuple[str, ...]]:
    """The wire struct with the declared slice attributes, and where in it each of them stands.

    An attribute may have any name in a record, but in a struct only one that Python allows.
    """
    fixed = base.__struct_fields__
    places = {
        name: name if name in fixed else f"slice_{number}"
        for number, name in enumerate(slice_names)
    }
    wire = msgspec.defstruct(
        "DeclaredPrediction",
        [
            (place, str | int | float | bool | None, None)
            for name, place in places.items()
            if name not in fixed
        ],
        bases=(base,),
        rename={place: name for name, place in places.items()},
    )
    return cast(type[PredictionWire], wire), tuple(places.values())


def _reader(wire: type[_Wire], mapping: FieldMapping) -> Callable[[bytes], _Wire | None]:
    """Bytes -> struct, or None when the message does not concern us; raises _RejectedError."""
    decoder = msgspec.json.Decoder(wire)

    def read(value: bytes) -> _Wire | None:
        try:
            if mapping.is_flat:
                return decoder.decode(value)
            message = msgspec.json.decode(value)
            if not isinstance(message, dict):
                _reject(Reason.NOT_AN_OBJECT, "the value is JSON, but not an object")
            if not concerns_us(message, mapping):
                return None
            return msgspec.convert(flattened(message, mapping), wire)
        except msgspec.ValidationError as error:
            raise _invalid(str(error)) from None
        except (msgspec.DecodeError, RecursionError):
            raise _not_json(value) from None

    return read


def _invalid(message: str) -> _RejectedError:
    if message.startswith("Object missing required field"):
        return _RejectedError(Reason.MISSING_FIELD, message)
    if message.startswith("Expected `object`") and " - at " not in message:
        return _RejectedError(Reason.NOT_AN_OBJECT, "the value is JSON, but not an object")
    if message.startswith("Number out of range"):
        return _RejectedError(Reason.NOT_FINITE, message)
    return _RejectedError(Reason.WRONG_TYPE, message)


def _not_json(value: bytes) -> _RejectedError:
    """NaN and infinities are not JSON, but many writers emit them: they get their own reason."""
    constants: list[str] = []
    try:
        json.loads(value.decode(), parse_constant=constants.append)
    except json.JSONDecodeError as error:
        return _RejectedError(Reason.NOT_JSON, f"{error.msg} at character {error.pos}")
    except (ValueError, RecursionError):
        return _RejectedError(Reason.NOT_JSON, "not JSON that can be read")
    if constants:
        return _RejectedError(Reason.NOT_FINITE, f"{constants[0]} is not a JSON number")
    return _RejectedError(Reason.NOT_JSON, "not JSON that can be read")


def _reject(reason: Reason, detail: str) -> NoReturn:
    raise _RejectedError(reason, detail)


def _require(text: str, name: str, reason: Reason) -> None:
    if not text or text.isspace():
        _reject(reason, f"{name} is empty")
    if len(text) > MAX_NAME_CHARS:
        _reject(Reason.OUT_OF_RANGE, f"{name} has more than {MAX_NAME_CHARS} characters")


def _share(value: float | None, name: str) -> None:
    if value is not None and not 0 <= value <= 1:
        _reject(Reason.OUT_OF_RANGE, f"{name} is not within 0..1")


def _micros(share: float | None) -> int | None:
    return None if share is None else round(share * 1e6)


def _instant(value: Time, name: str, unit: TimeUnit) -> int:
    """Milliseconds since the epoch, rounded down."""
    if unit is TimeUnit.ISO:
        if not isinstance(value, str):
            _reject(Reason.WRONG_TYPE, f"{name} is a number, but ISO 8601 text is declared")
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            _reject(Reason.BAD_TIME, f"{name} is not ISO 8601")
        if instant.tzinfo is None:
            _reject(Reason.BAD_TIME, f"{name} has no time zone")
        millis = (instant - _EPOCH) // _MILLISECOND
    else:
        if isinstance(value, str):
            _reject(Reason.WRONG_TYPE, f"{name} is text, but a number ({unit}) is declared")
        if not -_GREATEST_INSTANT < value < _GREATEST_INSTANT:
            _reject(Reason.BAD_TIME, f"{name} is too great to be an instant")
        # By way of whole microseconds: 1.001 s times 1000 is a little less than 1001.
        millis = round(value * 1e6) // 1000 if unit is TimeUnit.SECONDS else math.floor(value)
    if millis < 0:
        _reject(Reason.BAD_TIME, f"{name} lies before 1970")
    return millis


def _quick_instants(unit: TimeUnit) -> quick.Instants:
    if unit is TimeUnit.ISO:
        return quick.iso_reader()
    return lambda values: np.array([_instant(value, "", unit) for value in values], dtype=np.int64)


def _not_future(instant_ms: int, log_ms: int, name: str) -> None:
    if instant_ms > log_ms + FUTURE_MS:
        _reject(Reason.FUTURE_TIME, f"{name} lies more than a day after the record's log time")


def _slice_getter(names: tuple[str, ...]) -> Callable[[PredictionWire], tuple[str, ...]]:
    if not names:
        return lambda _: ()
    get: Callable[[PredictionWire], Any] = attrgetter(*names)
    if len(names) == 1:
        return lambda wire: (_text(get(wire)),)
    return lambda wire: tuple(map(_text, get(wire)))


def _version(wire: PredictionWire) -> str:
    """Model and prompt template: evidence about the one in use before says nothing of this one."""
    parts = [part for part in (wire.model_version, wire.prompt_version) if part]
    for part in parts:
        if len(part) > MAX_NAME_CHARS:
            _reject(Reason.OUT_OF_RANGE, f"a version has more than {MAX_NAME_CHARS} characters")
    return "/".join(parts)


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
