"""Reading quickly and looking closely are two ways to one answer, for whatever may stand there."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.codec.mapping import PRESETS, FieldMapping, TimeUnit
from monitor.codec.records import RecordCodec
from monitor.codec.wire import MAX_REVISION
from monitor.domain.events import Record, Rejected
from tests.builders import T0, URGENT, label_message, prediction_message, record
from tests.domain.facts import REPEATABLE

KNOWN = frozenset({"lost_card", "report_fraud", "balance", "é"})
GROUPS = (("urgent", URGENT), ("money", frozenset({"balance"})))
CODECS = {
    "plain": RecordCodec(),
    "slices": RecordCodec(slice_names=("channel", "tier"), groups=GROUPS),
    "one slice, known intents": RecordCodec(slice_names=("tier",), known=KNOWN, groups=GROUPS[:1]),
    "seconds": RecordCodec(
        predictions=FieldMapping(time_unit=TimeUnit.SECONDS),
        labels=FieldMapping(time_unit=TimeUnit.MILLISECONDS),
    ),
    "other shapes": RecordCodec(predictions=PRESETS["flat"], labels=FieldMapping({"a": "b"})),
    "small": RecordCodec(max_bytes=150),
}

NAMES = [
    "ALL",
    "p1",
    "lost_card",
    "balance",
    "nobody",
    "é",
    "",
    " ",
    "\u2003",
    "x" * 256,
    "x" * 257,
]
ODD: list[object] = [None, 0, 1, 1.0, True, False, -1, 0.5, 1.5, 1e300, [], {}, "1", "true", ""]
TIMES: list[object] = [
    "2026-01-15T02:00:00Z",
    "2026-01-15T02:00:00.1Z",
    "2026-01-15T02:00:00.123Z",
    "2026-01-15T02:00:00+0000",
    "2026-01-15 02:00:00.123Z",
    "2026-01-15T02:00:59.999Z",
    "2026-01-15T02:00:00.123456Z",
    "2026-01-15T02:00:00.123456789Z",
    "2026-01-15T02:00:00,123Z",
    "2026-01-15T02:00:00+0000",
    "2026-01-15 02:00:00.123Z",
    "2026-01-15T02:00:00z",
    "2026-01-15t02:00:00Z",
    "2026-01-15 02:00:00Z",
    "2026-01-15T02:00:60Z",
    "2026-01-15T02:60:00Z",
    "2026-01-15T24:00:00Z",
    "2026-02-30T02:00:00Z",
    "2026-01-15T02:00Z",
    "2026-01-15T02Z",
    "20260115T020000Z",
    "2026-W03-4T02:00:00Z",
    "2026-01-15T03:00:00+01:00",
    "2026-01-15T02:00:00+00:00",
    "2026-01-15T02:00:00-00:01",
    "2026-01-15T02:00:00",
    "2026-01-15T02:00:00.123",
    "2026-01-15T02:00:0\u0661Z",
    "\u0662026-01-15T02:00:00Z",
    "2026-01-15",
    "1969-12-31T23:59:59.999Z",
    "1970-01-01T00:00:00Z",
    "2026-01-16T02:00:01.000Z",
    "2026-01-16T02:00:01.001Z",
    "9999-12-31T23:59:59Z",
    "",
    "Z",
    T0,
    T0 / 1000,
    0,
    -1,
    1e15,
    1e300,
]
PLAIN_TIMES = [
    f"2026-01-{day}T02:0{minute}:0{minute}.{day}Z" for day in (14, 15) for minute in (0, 1)
]

times = st.one_of(st.sampled_from(PLAIN_TIMES), st.sampled_from(TIMES))
names = st.one_of(st.sampled_from(NAMES[1:6]), st.sampled_from([*NAMES, *ODD]))
shares = st.one_of(st.none(), st.floats(0, 1), st.sampled_from([0, 1, *ODD]))
scores = st.one_of(
    st.none(),
    st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1), max_size=3),
    st.dictionaries(st.sampled_from(NAMES), shares, max_size=3),
    st.sampled_from(ODD),
)
latencies = st.one_of(
    st.none(), st.floats(0, allow_infinity=False, allow_nan=False), st.sampled_from(ODD)
)
versions = st.one_of(st.sampled_from([None, "v1", "v2"]), names)


def optional(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=fields)


predictions = st.builds(
    lambda fields: prediction_message(**fields),
    optional(
        prediction_id=names,
        event_time=times,
        predicted_intent=names,
        variant=names,
        confidence=shares,
        relevance=shares,
        scores=scores,
        latency_ms=latencies,
        channel=names,
        tier=st.sampled_from([*ODD, "gold"]),
        model_version=versions,
        prompt_version=versions,
        conversation_id=names,
        request_id=names,
        unknown=st.sampled_from(ODD),
    ),
)
labels = st.builds(
    lambda fields: label_message(**fields),
    optional(
        prediction_id=names,
        label_time=times,
        true_intent=names,
        label_id=names,
        revision=st.one_of(
            st.integers(1, 3), st.sampled_from([*ODD, MAX_REVISION, MAX_REVISION + 1, 2**70])
        ),
        withdrawn=st.sampled_from([False, True, None, 0]),
        relevance=shares,
        sampling_rate=shares,
        supersedes=names,
        annotator=names,
    ),
)

RAW = [
    None,
    b"",
    b"{",
    b"null",
    b"1,2",
    b"{},{}",
    b'{"a":' * 3_000,
    b'{"a":' + b"[" * 3_000 + b"]" * 3_000 + b"}",
    b"\xff\xfe{}",
]
FIRST = b'{"prediction_id": "p2", "confidence": NaN, '
AGAIN = b'{"prediction_id": "first", "variant": " ", "true_intent": 3, "label_time": "", '
MALFORMED = b'{"unknown": "\xff", '
SWAPS = [
    (b"{", FIRST),
    (b"{", AGAIN),
    (b"{", MALFORMED),
    (b"}", b"}}"),
    (b"}", b"},{}"),
    (b"}", b""),
]


def written(message: dict[str, object], swap: tuple[bytes, bytes] | None, is_ascii: bool) -> bytes:
    data = json.dumps(message, ensure_ascii=is_ascii).encode()
    return data.replace(*swap, 1) if swap else data


values = st.one_of(
    st.builds(
        written,
        st.one_of(predictions, labels),
        st.one_of(st.none(), st.none(), st.none(), st.sampled_from(SWAPS)),
        st.booleans(),
    ),
    st.sampled_from(RAW),
)
records = st.builds(
    lambda value, topic, late: record(value, topic=topic, log_ms=T0 + 1_000 + late),
    values,
    st.sampled_from(["predictions", "labels"]),
    st.sampled_from([0, 86_400_000]),
)


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
@given(batch=st.lists(records, max_size=20))
@REPEATABLE
def test_many_records_are_read_as_each_of_them_is(codec: RecordCodec, batch: list[Record]) -> None:
    """Compared as written, since ``True``, ``1`` and ``1.0`` are equal."""
    one_by_one = [codec.fact(single) for single in batch]
    for found, expected in zip(codec.facts(batch), one_by_one, strict=True):
        assert repr(found) == repr(expected)


@pytest.mark.parametrize("time", TIMES)
def test_instant_is_the_same_however_often_its_minute_was_seen(time: object) -> None:
    codec = CODECS["plain"]
    again = [record(prediction_message(event_time=at)) for at in (*PLAIN_TIMES, time, time)]
    assert codec.facts(again) == [codec.fact(single) for single in again]


def test_what_is_in_order_is_not_looked_at_closely() -> None:
    """Else the property above would compare one way with itself."""

    class Quick(RecordCodec):
        def fact(self, record: Record) -> Rejected:
            raise AssertionError(record)

    message = prediction_message(
        event_time=PLAIN_TIMES[0], channel="web", tier=2, confidence=0.5, latency_ms=3
    )
    truths = [label_message(label_id="l1"), label_message(revision=2, relevance=1)]
    batch = [record(message), *(record(truth, topic="labels") for truth in truths)]
    quick = Quick(slice_names=("channel", "tier"), groups=GROUPS)
    assert quick.facts(batch) == CODECS["slices"].facts(batch)
