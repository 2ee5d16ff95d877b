"""The hot path of decoding: records that are in order, many at once.

A reader here either returns exactly what ``RecordCodec.decode`` would of each record, or raises:
whatever is odd in any way is left to that one, which names reasons. So nothing is said here about
what is wrong, and each check may be stricter than the rule. What a record shares with thousands
before it, its traits, is looked up rather than made anew, and shared.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import repeat
from operator import itemgetter
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.codec.wire import FUTURE_MS, MAX_NAME_CHARS, MAX_REVISION, LabelWire, PredictionWire
from monitor.domain.counts import buckets_of
from monitor.domain.estimate import EDGES, bin_of
from monitor.domain.events import Intent, Label, Prediction, Traits
from monitor.domain.slices import ALL

Scores = tuple[tuple[str, int], ...]
Scored = tuple[tuple[str, frozenset[Intent], tuple[Intent, ...]], ...]
"""For each group its score's name, its members, and these sorted."""

Values = Sequence[bytes | None]
Instants = Callable[[Sequence[Any]], NDArray[np.int64]]

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Value = TypeVar("_Value")

MOST_KEPT = 100_000
"""Entries of one table of what came before; a full one is begun anew."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_HEAD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:", re.ASCII)
_HEAD_CHARS = len("2026-01-15T02:00:")

_CHARS = len("2026-01-15T02:00:00.000Z")
_SIGNS = np.array([4, 7, 10, 13, 16, 19, 23])
_SIGNED = np.frombuffer(b"--T::.Z", dtype=np.uint8)
_NINE, _SIXTY = 9, 60
_DATE_DIGITS = np.array([0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15])
_DATE_POWERS = 10 ** np.arange(11, -1, -1, dtype=np.int64)
_REST_DIGITS = np.array([17, 18, 20, 21, 22])
_REST_POWERS = np.array([10_000, 1_000, 100, 10, 1], dtype=np.int64)
"""Of a time in the usual form: where signs stand and which, and what its digits are worth."""

_EDGES = np.array(EDGES)
_LEAST = (0.0, *EDGES)
"""The least score of each bin."""

_make = tuple.__new__  # A NamedTuple's own constructor takes twice as long.


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
    instants: Instants,
    attributes: tuple[str, ...],
    text_of: Callable[[object], str],
    known: frozenset[Intent] | None,
    scored: Scored,
    max_bytes: int,
    *,
    keeps_requests: bool = False,
) -> Callable[[Values, Sequence[int]], list[Prediction]]:
    """(values, log times) -> predictions; raises if any value has to be looked at closely.

    ``attributes`` are those of the wire type that hold slice values. Requests are left out unless
    they are to be kept.
    """
    decode = msgspec.json.Decoder(wire_type).decode
    places = {name: at for at, name in enumerate(wire_type.__struct_fields__)}
    of_slices = [places[name] for name in attributes]
    traits, conversations = _traits_of(known, scored), _Table(hash_of)

    def read(values: Values, log_ms: Sequence[int]) -> list[Prediction]:
        rows = map(msgspec.structs.astuple, map(decode, _in_bounds(values, max_bytes)))
        columns = list(zip(*rows, strict=True))
        ids = _ids(columns[0])
        event_ms = _not_future(instants(columns[1]), log_ms)
        marks = _marks(columns[places["confidence"]], columns[places["scores"]], scored)
        kinds = zip(
            columns[3],
            columns[2],
            columns[places["model_version"]],
            columns[places["prompt_version"]],
            marks,
            *(_texts(columns[at], text_of) for at in of_slices),
            strict=False,
        )
        fields = zip(
            ids,
            event_ms,
            log_ms,
            map(traits.__getitem__, kinds),
            _latencies(columns[places["latency_ms"]]),
            _micros(columns[places["relevance"]]),
            map(conversations.__getitem__, columns[places["conversation_id"]]),
            map(hash_of, columns[places["request_id"]]) if keeps_requests else repeat(""),
            strict=False,
        )
        return list(map(_make, repeat(Prediction), fields))

    return read


def label_reader(
    instants: Instants, known: frozenset[Intent] | None, max_bytes: int
) -> Callable[[Values, Sequence[int]], list[Label]]:
    """(values, log times) -> labels; raises if any value has to be looked at closely."""
    decode = msgspec.json.Decoder(QuickLabelWire).decode
    column = itemgetter(*map(QuickLabelWire.__struct_fields__.index, _OF_LABEL))
    intents = _names(known)

    def read(values: Values, log_ms: Sequence[int]) -> list[Label]:
        rows = map(msgspec.structs.astuple, map(decode, _in_bounds(values, max_bytes)))
        columns = column(list(zip(*rows, strict=True)))
        keys, times, truths, names, revisions, shares, withdrawn = columns
        if any(withdrawn):
            raise ValueError
        label_ms = _not_future(instants(times), log_ms)
        actual = list(map(intents.__getitem__, truths))
        label_keys = [
            f"{name}#{revision}" if name else label_key(None, revision, at_ms, intent)
            for name, revision, at_ms, intent in zip(
                names, revisions, label_ms, actual, strict=True
            )
        ]
        fields = zip(
            *(_ids(keys), actual, label_ms, log_ms, label_keys, revisions),
            *(repeat(False), _micros(shares)),
            strict=False,
        )
        return list(map(_make, repeat(Label), fields))

    return read


_OF_LABEL = (
    "prediction_id",
    "label_time",
    "true_intent",
    "label_id",
    "revision",
    "relevance",
    "withdrawn",
)


def label_key(
    label_id: str | None, revision: int, label_ms: int, actual: Intent, *, withdrawn: bool = False
) -> str:
    """What copies of a label have in common: its id and revision, or its content without an id."""
    if label_id:
        return f"{label_id}#{revision}"
    return f"={label_ms}:{revision}:{withdrawn:d}:{actual}"


def hash_of(name: str | None) -> str:
    """Eight bytes, in hexadecimal digits, tell conversations apart, or requests; "" for none."""
    if not name:
        return ""
    return blake2b(name.encode(), digest_size=8).hexdigest()


def iso_reader() -> Instants:
    """ISO 8601 texts -> milliseconds since the epoch, rounded down; raises for any other value."""
    heads = _Table(_of_minute)

    def read(texts: Sequence[str]) -> NDArray[np.int64]:
        if set(map(len, texts)) == {_CHARS}:
            try:
                return _usual(texts, heads)
            except ValueError:
                pass  # As long, but written in another way.
        return np.array(list(map(_millis, texts)), dtype=np.int64)

    return read


def _usual(texts: Sequence[str], minutes: Mapping[str, int]) -> NDArray[np.int64]:
    """Times that all are written like 2026-01-15T02:00:00.000Z."""
    data = np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8).reshape(-1, _CHARS)
    if not (data[:, _SIGNS] == _SIGNED).all():
        raise ValueError
    digits = data - ord("0")
    rest = digits[:, _REST_DIGITS]
    if (rest > _NINE).any() or (rest[:, 0] >= _SIXTY // 10).any():
        raise ValueError
    _, first, of = np.unique(
        digits[:, _DATE_DIGITS] @ _DATE_POWERS, return_index=True, return_inverse=True
    )
    if (digits[:, _DATE_DIGITS] > _NINE).any():
        raise ValueError
    begins = [minutes[texts[at][:_HEAD_CHARS]] for at in first.tolist()]
    found: NDArray[np.int64] = np.array(begins, dtype=np.int64)[of] + rest @ _REST_POWERS
    return found


def _in_bounds(values: Values, max_bytes: int) -> Sequence[bytes]:
    """The values, of which there are none missing, too long or not UTF-8."""
    found = [value for value in values if value is not None]
    if len(found) < len(values) or max(map(len, found)) > max_bytes:
        raise ValueError
    if not all(map(bytes.isascii, found)):
        for value in found:
            value.decode()
    return found


def _ids(ids: Sequence[str]) -> Sequence[str]:
    if max(map(len, ids)) > MAX_NAME_CHARS or not all(ids) or any(map(str.isspace, ids)):
        raise ValueError
    return ids


def _not_future(found: NDArray[np.int64], log_ms: Sequence[int]) -> list[int]:
    if found.min() < 0 or (found > np.array(log_ms) + FUTURE_MS).any():
        raise ValueError
    instants: list[int] = found.tolist()
    return instants


def _texts(
    values: Sequence[object], text_of: Callable[[object], str]
) -> Sequence[object] | list[str]:
    """Slice values, as texts: ``1``, ``1.0`` and ``true`` are one key, but different values."""
    if set(map(type, values)) == {str}:
        return values
    return list(map(text_of, values))


def _latencies(values: Sequence[float | None]) -> Sequence[int | None]:
    told = np.array([value for value in values if value is not None], dtype=np.float64)
    buckets: list[int] = buckets_of(told).tolist()
    if len(buckets) == len(values):
        return buckets
    following = iter(buckets)
    return [None if value is None else next(following) for value in values]


def _micros(shares: Sequence[float | None]) -> Sequence[int | None]:
    if shares.count(None) == len(shares):
        return [None] * len(shares)
    return [None if share is None else round(share * 1e6) for share in shares]


def _marks(
    confidences: Sequence[float | None],
    scores: Sequence[Mapping[str, float] | None],
    scored: Scored,
) -> Sequence[object]:
    """For each record what its scores follow from: bin of the confidence, sums, or nothing."""
    if not scored:
        return [None] * len(scores)
    found: Sequence[object] = (
        [None if share is None else bisect_right(EDGES, share) for share in confidences]
        if None in confidences
        else np.searchsorted(_EDGES, np.array(confidences), side="right").tolist()
    )
    if not any(scores):
        return found
    return [_bins(told, scored) if told else mark for told, mark in zip(scores, found, strict=True)]


def _bins(told: Mapping[str, float], scored: Scored) -> tuple[int, ...]:
    """For each group the bin of what its members have; sorted, since order shows in a sum."""
    return tuple(
        bisect_right(EDGES, sum([told.get(m, 0.0) for m in members])) for _, _, members in scored
    )


def _traits_of(known: frozenset[Intent] | None, scored: Scored) -> Mapping[Any, Traits]:
    """(variant, predicted, model, prompt, mark, *slice texts) -> traits, made once.

    Raises for names that are not ``known``, or are none.
    """
    intents, variants, versions = _names(known), _names(None), _Table(_version)

    def scores_of(predicted: Intent, mark: int | tuple[int, ...] | None) -> Scores:
        if mark is None:
            return ()
        is_confidence = isinstance(mark, int)
        bins = repeat(mark) if isinstance(mark, int) else mark
        return tuple(
            (name, bin_of(_LEAST[number], predicted in group, is_confidence=is_confidence))
            for number, (name, group, _) in zip(bins, scored, strict=False)
        )

    def made(key: Any) -> Traits:  # noqa: ANN401 - whatever stands in a record
        variant, predicted, model, prompt, mark, *slices = key
        if variant == ALL or (slices and max(map(len, slices)) > MAX_NAME_CHARS):
            raise ValueError
        return Traits(
            variants[variant],
            intents[predicted],
            tuple(slices),
            versions[model, prompt],
            scores_of(predicted, mark),
        )

    return _Table(made)


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


def _millis(text: str) -> int:
    """TypeError without a time zone."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND
