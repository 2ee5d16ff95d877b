"""The hot path of decoding: records that are in order, and shaped like thousands before them.

A reader here either returns exactly what ``RecordCodec.decode`` would, or raises: whatever is odd
in any way is left to that one, which names reasons. So nothing is said here about what is wrong,
and each check may be stricter than the rule. Names, minutes and bins that come again and again are
looked up rather than made anew, which also lets the facts share them.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from operator import attrgetter
from typing import Annotated, Any, TypeVar

import msgspec

from monitor.codec.wire import FUTURE_MS, MAX_NAME_CHARS, MAX_REVISION, LabelWire, PredictionWire
from monitor.domain.counts import bucket_of
from monitor.domain.estimate import EDGES, bin_of
from monitor.domain.events import Intent, Label, Prediction

Scores = tuple[tuple[str, int], ...]
Scored = tuple[tuple[str, frozenset[Intent], tuple[Intent, ...]], ...]
"""For each group its score's name, its members, and these sorted."""

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Value = TypeVar("_Value")

MOST_KEPT = 100_000
"""Entries of one table of what came before; a full one is begun anew."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_HEAD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:", re.ASCII)
_TAIL = re.compile(r"\d\d(\.\d{1,3})?Z", re.ASCII)
_HEAD_CHARS = len("2026-01-15T02:00:")
_MOST_CHARS = len("2026-01-15T02:00:00.000Z")

_new = tuple.__new__  # A NamedTuple's own constructor takes twice as long.


class QuickPredictionWire(PredictionWire, gc=False):
    """With the bounds that the decoder can check by itself."""

    confidence: _Share | None = None
    scores: dict[str, _Share] | None = None
    latency_ms: Annotated[float, msgspec.Meta(ge=0)] | None = None
    relevance: _Share | None = None


class QuickLabelWire(LabelWire, gc=False):
    """With the bounds that the decoder can check by itself."""

    revision: Annotated[int, msgspec.Meta(ge=1, le=MAX_REVISION)] = 1
    relevance: _Share | None = None
    sampling_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None


class _Table(dict[Any, _Value]):
    """What was made of a key, made once."""

    def __init__(self, make: Callable[[Any], _Value]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: Any) -> _Value:  # noqa: ANN401 - whatever stands in a record
        value = self._make(key)
        if len(self) >= MOST_KEPT:
            self.clear()
        self[key] = value
        return value


def prediction_reader(
    wire_type: type[PredictionWire],
    instant: Callable[[Any], int],
    slices: Callable[[Any], tuple[str, ...]] | None,
    known: frozenset[Intent] | None,
    scored: Scored,
    max_bytes: int,
) -> Callable[[bytes | None, int], Prediction]:
    """(value, log time) -> prediction; raises for a value that has to be looked at closely."""
    decode = msgspec.json.Decoder(wire_type).decode
    intents, variants, versions = _names(known), _names(None), _Table(_version)
    scores_of = _score_reader(scored) if scored else None

    def read(value: bytes | None, log_ms: int) -> Prediction:
        if value is None or len(value) > max_bytes:
            raise ValueError
        if not value.isascii():
            value.decode()
        wire = decode(value)
        prediction_id, event_ms = wire.prediction_id, instant(wire.event_time)
        if not 0 < len(prediction_id) <= MAX_NAME_CHARS or prediction_id.isspace():
            raise ValueError
        if event_ms < 0 or event_ms > log_ms + FUTURE_MS:
            raise ValueError
        latency_ms, relevance = wire.latency_ms, wire.relevance
        conversation = wire.conversation_id
        return _new(
            Prediction,
            (
                prediction_id,
                event_ms,
                log_ms,
                variants[wire.variant],
                predicted := intents[wire.predicted_intent],
                slices(wire) if slices else (),
                None if latency_ms is None else bucket_of(latency_ms),
                None if relevance is None else round(relevance * 1e6),
                versions[wire.model_version, wire.prompt_version],
                blake2b(conversation.encode(), digest_size=8).hexdigest() if conversation else "",
                scores_of(wire, predicted) if scores_of else (),
            ),
        )

    return read


def label_reader(
    instant: Callable[[Any], int], known: frozenset[Intent] | None, max_bytes: int
) -> Callable[[bytes | None, int], Label]:
    """(value, log time) -> label; raises for a value that has to be looked at closely."""
    decode = msgspec.json.Decoder(QuickLabelWire).decode
    intents = _names(known)

    def read(value: bytes | None, log_ms: int) -> Label:
        if value is None or len(value) > max_bytes:
            raise ValueError
        if not value.isascii():
            value.decode()
        wire = decode(value)
        prediction_id, label_ms = wire.prediction_id, instant(wire.label_time)
        if not 0 < len(prediction_id) <= MAX_NAME_CHARS or prediction_id.isspace():
            raise ValueError
        label_id, revision, relevance = wire.label_id, wire.revision, wire.relevance
        if wire.withdrawn or label_ms < 0 or label_ms > log_ms + FUTURE_MS:
            raise ValueError
        actual = intents[wire.true_intent]
        return _new(
            Label,
            (
                prediction_id,
                actual,
                label_ms,
                log_ms,
                label_key(label_id, revision, label_ms, actual),
                revision,
                False,
                None if relevance is None else round(relevance * 1e6),
            ),
        )

    return read


def label_key(
    label_id: str | None, revision: int, label_ms: int, actual: Intent, *, withdrawn: bool = False
) -> str:
    """What copies of a label have in common: its id and revision, or its content without an id."""
    if label_id:
        return f"{label_id}#{revision}"
    return f"={label_ms}:{revision}:{withdrawn:d}:{actual}"


def iso_reader() -> Callable[[str], int]:
    """ISO 8601 text -> milliseconds since the epoch, rounded down; raises for any other value."""
    heads, tails = _Table(_of_minute), _Table(_within_minute)

    def read(text: str) -> int:
        if len(text) <= _MOST_CHARS:
            return heads[text[:_HEAD_CHARS]] + tails[text[_HEAD_CHARS:]]
        return _millis(text)

    return read


def slice_reader(
    attributes: tuple[str, ...], text_of: Callable[[object], str]
) -> Callable[[Any], tuple[str, ...]] | None:
    """Wire -> slice values; None when none are declared.

    Only tuples of texts are kept: ``1``, ``1.0`` and ``true`` are one key, but different values.
    """
    if not attributes:
        return None
    get: Callable[[Any], tuple[object, ...]] = attrgetter(*attributes, attributes[0])
    kept: dict[tuple[object, ...], tuple[str, ...]] = {}

    def read(wire: PredictionWire) -> tuple[str, ...]:
        raw = get(wire)
        if (values := kept.get(raw)) is not None:
            return values
        values = tuple(map(text_of, raw[:-1]))
        if max(map(len, values)) > MAX_NAME_CHARS:
            raise ValueError
        if all(value is None or isinstance(value, str) for value in raw):
            if len(kept) >= MOST_KEPT:
                kept.clear()
            kept[raw] = values
        return values

    return read


def _score_reader(scored: Scored) -> Callable[[PredictionWire, Intent], Scores]:
    """(wire, predicted) -> for each group the bin of its probability, where there is one."""

    def bins_of(predicted: Intent) -> tuple[Scores, ...]:
        return tuple(
            tuple((n, bin_of(low, predicted in g, is_confidence=True)) for n, g, _ in scored)
            for low in (0.0, *EDGES)
        )

    by_confidence = _Table(bins_of)

    def read(wire: PredictionWire, predicted: Intent) -> Scores:
        scores, confidence = wire.scores, wire.confidence
        if scores:
            return tuple(
                # Sorted, since the order of a sum shows in its last bit.
                (name, bin_of(sum([scores.get(m, 0.0) for m in members]), predicted in group))
                for name, group, members in scored
            )
        if confidence is None:
            return ()
        return by_confidence[predicted][bisect_right(EDGES, confidence)]

    return read


def _names(known: frozenset[Intent] | None) -> Mapping[str | None, str]:
    """A table of names, each kept once; raises for one that is not ``known``, or is no name."""

    def checked(name: str | None) -> str:
        if not name or name.isspace() or len(name) > MAX_NAME_CHARS:
            raise ValueError
        if known is not None and name not in known:
            raise ValueError
        return name

    return _Table(checked)


def _version(names: tuple[str | None, str | None]) -> str:
    parts = [name for name in names if name]
    if any(len(part) > MAX_NAME_CHARS for part in parts):
        raise ValueError
    return "/".join(parts)


def _of_minute(head: str) -> int:
    if not _HEAD.fullmatch(head):
        raise ValueError
    return _millis(f"{head}00Z")


def _within_minute(tail: str) -> int:
    if not _TAIL.fullmatch(tail):
        raise ValueError
    return _millis(f"1970-01-01T00:00:{tail}")


def _millis(text: str) -> int:
    """TypeError without a time zone."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
