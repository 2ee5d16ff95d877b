"""Every way in which a record can be broken, and what is said about it."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.adapters.memory import MemoryStore
from monitor.codec.mapping import PRESETS, FieldMapping, TimeUnit
from monitor.codec.records import RecordCodec
from monitor.codec.snapshots import pack_entry
from monitor.codec.wire import MAX_RECORD_BYTES, MAX_REVISION
from monitor.domain.counts import Counts, bucket_of
from monitor.domain.engine import Spec
from monitor.domain.estimate import bin_of, score_name
from monitor.domain.events import Kind, Label, Prediction, PredictionId, Reason, Rejected, Traits
from monitor.domain.windows import DAY_MS
from monitor.ports import shard_of
from tests.builders import T0, URGENT, entry_of, label_message, prediction_message, record
from tests.domain.facts import REPEATABLE, carry

CODEC = RecordCodec()
LOG_MS = T0 + 1_000


def decoded(
    value: bytes | Mapping[str, object] | None,
    topic: str = "predictions",
    *,
    codec: RecordCodec = CODEC,
    log_ms: int = LOG_MS,
) -> Prediction | Label | Rejected:
    envelope = codec.decode(record(value, topic=topic, log_ms=log_ms))
    assert envelope is not None
    return envelope.fact


def rejected(value: bytes | Mapping[str, object] | None, topic: str = "predictions") -> Rejected:
    fact = decoded(value, topic)
    assert isinstance(fact, Rejected), fact
    return fact


def padded(message: Mapping[str, object], size: int) -> bytes:
    """The message in exactly ``size`` bytes."""
    bare = json.dumps({**message, "text": ""}).encode()
    return json.dumps({**message, "text": "x" * (size - len(bare))}).encode()


def with_field(message: Mapping[str, object], name: str, raw: str) -> bytes:
    """The message with one field as it stands in the JSON text, also where that is no JSON."""
    rest = {key: value for key, value in message.items() if key != name}
    return f'{json.dumps(rest)[:-1]}, "{name}": {raw}}}'.encode()


def without(message: Mapping[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in message.items() if key != name}


def test_kind_of_a_record_is_that_of_its_topic() -> None:
    codec = RecordCodec(predictions_topic="answers", labels_topic="truths")
    assert codec.kind_of(record(None, topic="answers")) is Kind.PREDICTIONS
    assert codec.kind_of(record(b"{", topic="truths")) is Kind.LABELS


def test_complete_prediction_is_read() -> None:
    codec = RecordCodec(slice_names=("channel", "tier", "retry", "shop"))
    message = prediction_message(
        latency_ms=120.5,
        relevance=0.75,
        confidence=0.93,
        scores={"lost_card": 0.93, "balance": 0.07},
        channel="web",
        tier=2,
        retry=True,
        text="I lost my card",
    )
    assert decoded(message, codec=codec) == Prediction(
        PredictionId("p1"),
        T0,
        LOG_MS,
        Traits("fine_tuned", "lost_card", ("web", "2", "true", "")),
        bucket_of(120.5),
        750_000,
    )


def test_least_prediction_is_read() -> None:
    fact = decoded(prediction_message())
    assert isinstance(fact, Prediction)
    assert (fact.slices, fact.latency_bucket, fact.relevance_micros) == ((), None, None)


def test_complete_label_is_read() -> None:
    message = label_message(
        label_id="l7", revision=2, supersedes="l6", source="review", relevance=0, sampling_rate=0.1
    )
    assert decoded(message, "labels") == Label(
        PredictionId("p1"),
        "lost_card",
        T0,
        LOG_MS,
        "l7#2",
        2,
        withdrawn=False,
        relevance_micros=0,
    )


def test_correction_that_keeps_the_label_id_is_another_label_than_the_one_it_corrects() -> None:
    first, copy, correction = (
        decoded(label_message(label_id="l7", revision=revision), "labels") for revision in (1, 1, 2)
    )
    assert isinstance(first, Label)
    assert isinstance(correction, Label)
    assert first == copy
    assert first.label_key != correction.label_key


@pytest.mark.parametrize(
    "field", ["prediction_id", "predicted_intent", "variant", "channel"], ids=str
)
def test_name_that_would_become_an_endless_key_is_rejected(field: str) -> None:
    codec = RecordCodec(slice_names=("channel",))
    facts = [
        codec.decode(record(prediction_message(**{field: "x" * length}))) for length in (256, 257)
    ]
    assert [isinstance(f.fact, Rejected) for f in facts if f] == [False, True]
    assert isinstance(facts[1] and facts[1].fact, Rejected)


def test_label_without_an_id_is_known_by_its_content() -> None:
    keys = [
        fact.label_key
        for fields in ({}, {}, {"revision": 2}, {"true_intent": "balance"}, {"withdrawn": True})
        if isinstance(fact := decoded(label_message(**fields), "labels"), Label)
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_withdrawn_label_needs_no_intent() -> None:
    fact = decoded(without(label_message(withdrawn=True, revision=2), "true_intent"), "labels")
    assert isinstance(fact, Label)
    assert (fact.withdrawn, fact.actual) == (True, "")


def test_topic_decides_what_a_record_is() -> None:
    codec = RecordCodec(predictions_topic="bot.answers", labels_topic="bot.truth")
    kinds = [
        envelope.kind
        for topic in ("bot.answers", "bot.truth")
        if (envelope := codec.decode(record(b"", topic=topic))) is not None
    ]
    assert kinds == [Kind.PREDICTIONS, Kind.LABELS]


def test_envelope_carries_the_position_of_its_record() -> None:
    envelope = CODEC.decode(record(None, topic="labels", partition=3, offset=17))
    assert envelope is not None
    assert str(envelope.position) == "labels[3]@17"


def test_records_are_decoded_in_order_and_those_of_others_left_out() -> None:
    codec = RecordCodec(predictions=FieldMapping(only={"event": "user"}))
    values = [b"{}", b'{"event": "user"}', b'{"event": "bot"}', b"["]
    found = codec.decode_all(record(value, offset=at) for at, value in enumerate(values))
    assert [envelope.position.offset for envelope in found] == [1, 3]


PREDICTION, LABEL = prediction_message(), label_message()

BOTH = [
    ("a tombstone", None, Reason.NULL_VALUE),
    ("no bytes at all", b"", Reason.NOT_JSON),
    ("only blanks", b"  \n", Reason.NOT_JSON),
    ("UTF-16 with a byte order mark", '{"a": "b"}'.encode("utf-16"), Reason.NOT_UTF8),
    ("UTF-16 without one", '{"a": "b"}'.encode("utf-16-le"), Reason.NOT_JSON),
    ("Latin-1", '{"prediction_id": "Müller"}'.encode("latin-1"), Reason.NOT_UTF8),
    ("a UTF-8 byte order mark", '\ufeff{"a": 1}'.encode(), Reason.NOT_JSON),
    ("half a character at the end", '{"a": "é"}'.encode()[:-3], Reason.NOT_UTF8),
    ("random bytes", bytes(range(128, 160)), Reason.NOT_UTF8),
    ("text", b"hello", Reason.NOT_JSON),
    ("two objects", b'{"a": 1} {"b": 2}', Reason.MISSING_FIELD),
    ("Python's own notation", b"{'a': None}", Reason.NOT_JSON),
    ("an array", b"[1, 2]", Reason.NOT_AN_OBJECT),
    ("a text in JSON", b'"p1"', Reason.NOT_AN_OBJECT),
    ("a number", b"7", Reason.NOT_AN_OBJECT),
    ("null in JSON", b"null", Reason.NOT_AN_OBJECT),
    ("an empty object", b"{}", Reason.MISSING_FIELD),
    ("NaN alone", b"NaN", Reason.NOT_FINITE),
    ("very deep nesting", b'{"a":' * 20_000, Reason.NOT_JSON),
    ("deep and closed nesting", b'{"a":' + b"[" * 9_000 + b"]" * 9_000 + b"}", Reason.NOT_JSON),
]


@pytest.mark.parametrize("topic", ["predictions", "labels"])
@pytest.mark.parametrize(
    ("value", "reason"), [case[1:] for case in BOTH], ids=[case[0] for case in BOTH]
)
def test_bytes_that_are_no_record_are_rejected_on_both_topics(
    topic: str, value: bytes | None, reason: Reason
) -> None:
    assert rejected(value, topic).reason is reason


TIME = "event_time or label_time"
FIELDS: list[tuple[str, str, str | None, Reason]] = [
    ("no id", "prediction_id", None, Reason.MISSING_FIELD),
    ("a null id", "prediction_id", "null", Reason.WRONG_TYPE),
    ("an empty id", "prediction_id", '""', Reason.EMPTY_ID),
    ("a blank id", "prediction_id", r'" \t"', Reason.EMPTY_ID),
    ("a number as id", "prediction_id", "17", Reason.WRONG_TYPE),
    ("an object as id", "prediction_id", '{"a": 1}', Reason.WRONG_TYPE),
    ("a lone surrogate", "prediction_id", r'"\ud800"', Reason.NOT_JSON),
    ("an unknown escape", "prediction_id", r'"\x41"', Reason.NOT_JSON),
    ("no time", TIME, None, Reason.MISSING_FIELD),
    ("a null time", TIME, "null", Reason.WRONG_TYPE),
    ("a number as time", TIME, str(T0), Reason.WRONG_TYPE),
    ("a time without zone", TIME, '"2026-01-15T02:00:00"', Reason.BAD_TIME),
    ("a date", TIME, '"2026-01-15"', Reason.BAD_TIME),
    ("an empty time", TIME, '""', Reason.BAD_TIME),
    ("a time that does not exist", TIME, '"2026-02-30T00:00:00Z"', Reason.BAD_TIME),
    ("a time before 1970", TIME, '"1969-12-31T23:59:59Z"', Reason.BAD_TIME),
    ("the first instant of all", TIME, '"0001-01-01T00:00:00+23:59"', Reason.BAD_TIME),
    ("the last instant of all", TIME, '"9999-12-31T23:59:59-23:59"', Reason.FUTURE_TIME),
    ("relevance above 1", "relevance", "1.01", Reason.OUT_OF_RANGE),
    ("relevance below 0", "relevance", "-0.01", Reason.OUT_OF_RANGE),
    ("relevance as text", "relevance", '"0.5"', Reason.WRONG_TYPE),
    ("a bool for a number", "relevance", "true", Reason.WRONG_TYPE),
    ("a nested number", "relevance", "[0.5]", Reason.WRONG_TYPE),
    ("NaN", "relevance", "NaN", Reason.NOT_FINITE),
    ("Infinity", "relevance", "Infinity", Reason.NOT_FINITE),
    ("-Infinity", "relevance", "-Infinity", Reason.NOT_FINITE),
    ("1e999", "relevance", "1e999", Reason.NOT_FINITE),
    ("-1e999", "relevance", "-1e999", Reason.NOT_FINITE),
    ("400 digits", "relevance", "9" * 400, Reason.NOT_FINITE),
    ("NaN in an unknown field", "unknown", "NaN", Reason.NOT_FINITE),
    ("NaN deep in an unknown field", "unknown", '[{"y": NaN}]', Reason.NOT_FINITE),
]
TOPICS = [("predictions", PREDICTION, "event_time"), ("labels", LABEL, "label_time")]


@pytest.mark.parametrize(("topic", "good", "time"), TOPICS, ids=["predictions", "labels"])
@pytest.mark.parametrize(
    ("field", "raw", "reason"), [case[1:] for case in FIELDS], ids=[case[0] for case in FIELDS]
)
def test_broken_field_that_both_topics_have_has_the_same_reason_on_both(
    topic: str, good: dict[str, object], time: str, field: str, raw: str | None, reason: Reason
) -> None:
    assert not isinstance(decoded(good, topic), Rejected)
    name = time if field is TIME else field
    broken = without(good, name) if raw is None else with_field(good, name, raw)
    assert rejected(broken, topic).reason is reason


@pytest.mark.parametrize(("topic", "good", "time"), TOPICS, ids=["predictions", "labels"])
def test_record_is_rejected_when_it_is_cut_off_or_too_large(
    topic: str, good: dict[str, object], time: str
) -> None:
    written = json.dumps(good).encode()
    for end in range(len(written)):
        assert rejected(written[:end], topic).reason is Reason.NOT_JSON
    assert rejected(written[:-1] + b",}", topic).reason is Reason.NOT_JSON
    assert rejected(padded(good, MAX_RECORD_BYTES + 1), topic).reason is Reason.TOO_LARGE


PREDICTIONS_ONLY = [
    ("no intent", without(PREDICTION, "predicted_intent"), Reason.MISSING_FIELD),
    ("an empty intent", {**PREDICTION, "predicted_intent": ""}, Reason.MISSING_FIELD),
    ("an intent as array", {**PREDICTION, "predicted_intent": ["lost_card"]}, Reason.WRONG_TYPE),
    ("no variant", without(PREDICTION, "variant"), Reason.MISSING_FIELD),
    ("an empty variant", {**PREDICTION, "variant": ""}, Reason.MISSING_FIELD),
    ("a null variant", {**PREDICTION, "variant": None}, Reason.WRONG_TYPE),
    ("a variant that stands for all", {**PREDICTION, "variant": "ALL"}, Reason.OUT_OF_RANGE),
    ("confidence of 1.01", {**PREDICTION, "confidence": 1.01}, Reason.OUT_OF_RANGE),
    ("confidence below 0", {**PREDICTION, "confidence": -1e-9}, Reason.OUT_OF_RANGE),
    ("confidence as text", {**PREDICTION, "confidence": "0.9"}, Reason.WRONG_TYPE),
    ("latency below 0", {**PREDICTION, "latency_ms": -1}, Reason.OUT_OF_RANGE),
    ("latency in an object", {**PREDICTION, "latency_ms": {"p50": 3}}, Reason.WRONG_TYPE),
    ("scores above 1", {**PREDICTION, "scores": {"a": 1.5}}, Reason.OUT_OF_RANGE),
    ("scores as array", {**PREDICTION, "scores": [0.5, 0.5]}, Reason.WRONG_TYPE),
    ("nested scores", {**PREDICTION, "scores": {"a": {"b": 0.5}}}, Reason.WRONG_TYPE),
    ("channel as number", {**PREDICTION, "channel": 4}, Reason.WRONG_TYPE),
]
LABELS_ONLY = [
    ("no intent", without(LABEL, "true_intent"), Reason.MISSING_FIELD),
    ("a null intent", {**LABEL, "true_intent": None}, Reason.MISSING_FIELD),
    ("a blank intent", {**LABEL, "true_intent": " "}, Reason.MISSING_FIELD),
    ("an intent as number", {**LABEL, "true_intent": 3}, Reason.WRONG_TYPE),
    ("revision 0", {**LABEL, "revision": 0}, Reason.OUT_OF_RANGE),
    ("revision below 0", {**LABEL, "revision": -3}, Reason.OUT_OF_RANGE),
    ("a revision too great", {**LABEL, "revision": MAX_REVISION + 1}, Reason.OUT_OF_RANGE),
    ("revision 1.5", {**LABEL, "revision": 1.5}, Reason.WRONG_TYPE),
    ("revision as text", {**LABEL, "revision": "1"}, Reason.WRONG_TYPE),
    ("revision true", {**LABEL, "revision": True}, Reason.WRONG_TYPE),
    ("sampling rate 0", {**LABEL, "sampling_rate": 0}, Reason.OUT_OF_RANGE),
    ("sampling rate above 1", {**LABEL, "sampling_rate": 1.1}, Reason.OUT_OF_RANGE),
    ("withdrawn as number", {**LABEL, "withdrawn": 1}, Reason.WRONG_TYPE),
    ("a number as label id", {**LABEL, "label_id": 8}, Reason.WRONG_TYPE),
]


@pytest.mark.parametrize(
    ("topic", "message", "reason"),
    [("predictions", *case[1:]) for case in PREDICTIONS_ONLY]
    + [("labels", *case[1:]) for case in LABELS_ONLY],
    ids=[f"prediction with {case[0]}" for case in PREDICTIONS_ONLY]
    + [f"label with {case[0]}" for case in LABELS_ONLY],
)
def test_what_is_wrong_on_one_topic_has_one_reason(
    topic: str, message: dict[str, object], reason: Reason
) -> None:
    assert rejected(message, topic).reason is reason


def test_every_reason_has_a_case_here() -> None:
    cases = [*BOTH, *FIELDS, *PREDICTIONS_ONLY, *LABELS_ONLY]
    elsewhere = {Reason.UNKNOWN_INTENT, Reason.TOO_LARGE, Reason.UNPROCESSABLE}
    assert {case[-1] for case in cases} == set(Reason) - elsewhere


FITS = [
    ("predictions", padded(PREDICTION, MAX_RECORD_BYTES)),
    ("labels", padded(LABEL, MAX_RECORD_BYTES)),
    ("predictions", {**PREDICTION, "confidence": 0, "latency_ms": 0, "relevance": 1}),
    ("predictions", {**PREDICTION, "confidence": None, "scores": None, "channel": None}),
    ("predictions", {**PREDICTION, "scores": {}}),
    ("predictions", {**PREDICTION, "anything": {"else": [1, None]}}),
    ("predictions", with_field(PREDICTION, "prediction_id", r'"\ud83d\ude00"')),
    ("labels", {**LABEL, "revision": MAX_REVISION, "sampling_rate": 1}),
    ("labels", with_field(LABEL, "true_intent", '"out_of_scope"')),
]


@pytest.mark.parametrize(("topic", "value"), FITS)
def test_what_just_fits_is_accepted(topic: str, value: bytes | dict[str, object]) -> None:
    assert not isinstance(decoded(value, topic), Rejected)


def test_last_of_two_equal_keys_counts() -> None:
    twice = with_field(PREDICTION, "", '0, "variant": "other"')
    fact = decoded(twice)
    assert isinstance(fact, Prediction)
    assert fact.variant == "other"


#   log time ------------------ exactly one day ---------| 1 ms more: future_time


@pytest.mark.parametrize(("ahead_ms", "accepted"), [(DAY_MS, True), (DAY_MS + 1, False)])
@pytest.mark.parametrize(("topic", "good"), [("predictions", PREDICTION), ("labels", LABEL)])
def test_time_may_lie_a_day_after_its_log_time_and_not_a_millisecond_more(
    topic: str, good: dict[str, object], ahead_ms: int, accepted: bool
) -> None:
    fact = decoded(good, topic, log_ms=T0 - ahead_ms)
    if accepted:
        assert not isinstance(fact, Rejected)
    else:
        assert isinstance(fact, Rejected)
        assert fact.reason is Reason.FUTURE_TIME


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-15T02:00:00Z",
        "2026-01-15T04:00:00+02:00",
        "2026-01-14T21:00:00.000-05:00",
        "20260115T020000Z",
        "2026-01-15T02:00:00.000999Z",
        "2026-01-15T02:00:00.000999999Z",
    ],
)
def test_iso_times_of_every_zone_are_read_as_utc_rounded_down(written: str) -> None:
    fact = decoded(prediction_message(event_time=written))
    assert isinstance(fact, Prediction)
    assert fact.event_ms == T0


@pytest.mark.parametrize("unit", [TimeUnit.MILLISECONDS, TimeUnit.SECONDS])
def test_text_as_time_is_rejected_where_a_number_is_declared(unit: TimeUnit) -> None:
    codec = RecordCodec(predictions=FieldMapping(time_unit=unit))
    fact = decoded(PREDICTION, codec=codec)
    assert isinstance(fact, Rejected)
    assert fact.reason is Reason.WRONG_TYPE


CLOSED = RecordCodec(known=frozenset({"lost_card", "balance"}))


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("predictions", prediction_message(predicted_intent="weather")),
        ("labels", label_message(true_intent="weather")),
        ("labels", label_message(true_intent="weather", withdrawn=True)),
    ],
)
def test_intent_that_is_not_known_is_rejected_when_intents_are_closed(
    topic: str, message: dict[str, object]
) -> None:
    fact = decoded(message, topic, codec=CLOSED)
    assert isinstance(fact, Rejected)
    assert fact.reason is Reason.UNKNOWN_INTENT
    assert not isinstance(decoded(message, topic), Rejected)


def test_known_intent_and_withdrawal_without_one_pass_when_intents_are_closed() -> None:
    assert isinstance(decoded(PREDICTION, codec=CLOSED), Prediction)
    withdrawal = without(label_message(withdrawn=True), "true_intent")
    assert isinstance(decoded(withdrawal, "labels", codec=CLOSED), Label)


@pytest.mark.parametrize(
    "name", ["channel", "tier", "user-tier", "app.version", "1st", "class", "_x"]
)
def test_slice_attribute_may_have_any_name_that_the_settings_allow(name: str) -> None:
    codec = RecordCodec(slice_names=(name, "locale"))
    fact = decoded(prediction_message(**{name: "gold", "locale": "de"}), codec=codec)
    assert isinstance(fact, Prediction)
    assert fact.slices == ("gold", "de")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("web", "web"),
        (7, "7"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        (None, ""),
        ("", ""),
    ],
)
def test_slice_values_are_read_as_text(value: object, read: str) -> None:
    fact = decoded(prediction_message(tier=value), codec=RecordCodec(slice_names=("tier",)))
    assert isinstance(fact, Prediction)
    assert fact.slices == (read,)


@pytest.mark.parametrize("value", [[], {}, ["web"]])
def test_slice_value_that_is_no_plain_value_is_rejected(value: object) -> None:
    fact = decoded(prediction_message(tier=value), codec=RecordCodec(slice_names=("tier",)))
    assert isinstance(fact, Rejected)
    assert fact.reason is Reason.WRONG_TYPE


def test_codecs_of_equal_settings_are_equal() -> None:
    assert RecordCodec(slice_names=("tier",)) == RecordCodec(slice_names=("tier",))
    assert RecordCodec() != RecordCodec(max_bytes=1)


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (without(PREDICTION, "variant"), "Object missing required field `variant`"),
        (
            {**PREDICTION, "confidence": "x"},
            "Expected `float | null`, got `str` - at `$.confidence`",
        ),
        ({**PREDICTION, "prediction_id": ""}, "prediction_id is empty"),
        (b'{"a": }', "Expecting value at character 6"),
        (b"\xff", "byte 0 is not UTF-8"),
        (with_field(PREDICTION, "confidence", "NaN"), "NaN is not a JSON number"),
    ],
)
def test_detail_names_the_field_or_the_place(value: bytes | dict[str, object], detail: str) -> None:
    assert rejected(value).detail == detail


SECRET = "4111111111111111"
_SECRETS = st.sampled_from(
    [
        SECRET,
        int(SECRET),
        -int(SECRET),
        [SECRET],
        {SECRET: SECRET},
        {"a": {"b": SECRET}},
        f"{SECRET}-02-30T00:00:00Z",
        f"2026-01-15T02:00:00Z{SECRET}",
    ]
)
_FIELDS = st.sampled_from(sorted({*PREDICTION, *LABEL} | {
    "confidence", "scores", "latency_ms", "relevance", "channel", "label_id", "revision",
    "sampling_rate", "withdrawn", "text", SECRET,
}))  # fmt: skip
_RAW = st.sampled_from(
    [
        f"{SECRET}e999",
        f"-{SECRET}e999",
        SECRET * 30,
        f'"{SECRET}',
        f'"{SECRET}\\x"',
        f"[{SECRET}",
        SECRET,
    ]
)


@REPEATABLE
@given(_FIELDS, _SECRETS, _RAW, st.sampled_from(["predictions", "labels"]), st.booleans())
def test_detail_never_quotes_the_record(
    field: str, value: object, raw: str, topic: str, is_raw: bool
) -> None:
    codec = RecordCodec(slice_names=("tier",), known=frozenset({"lost_card"}))
    good = PREDICTION if topic == "predictions" else LABEL
    broken = with_field(good, field, raw if is_raw else json.dumps(value))
    fact = decoded(broken, topic, codec=codec)
    if isinstance(fact, Rejected):
        assert SECRET[:6] not in fact.detail


_CODECS = st.sampled_from(
    [
        CODEC,
        RecordCodec(slice_names=("tier",), known=frozenset({"a"})),
        RecordCodec(predictions=FieldMapping(time_unit=TimeUnit.SECONDS)),
        RecordCodec(predictions=FieldMapping(time_unit=TimeUnit.MILLISECONDS)),
        *(RecordCodec(predictions=preset, labels=preset) for preset in PRESETS.values()),
    ]
)
_TOPICS = st.sampled_from(["predictions", "labels"])
_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from([T0, T0 / 1000, 1e306, 2**70, "2026-01-15T02:00:00Z", "\ud800"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(REPEATABLE, max_examples=200)
@given(_CODECS, _TOPICS, st.one_of(st.none(), st.binary(max_size=40)))
def test_decode_never_raises_on_any_bytes(
    codec: RecordCodec, topic: str, value: bytes | None
) -> None:
    assert codec.decode(record(value, topic=topic)) is not None or value is not None


@REPEATABLE
@given(_CODECS, _TOPICS, st.binary(min_size=1, max_size=3), st.integers(0, 90), st.integers(0, 3))
def test_decode_never_raises_on_a_damaged_record(
    codec: RecordCodec, topic: str, noise: bytes, at: int, cut: int
) -> None:
    good = json.dumps(PREDICTION if topic == "predictions" else LABEL).encode()
    codec.decode(record(good[:at] + noise + good[at + cut :], topic=topic))


@settings(REPEATABLE, max_examples=200)
@given(
    _CODECS,
    _TOPICS,
    st.dictionaries(_FIELDS, _JSON, max_size=3),
    st.sampled_from([-1, 0, LOG_MS, T0 * 1000, 2**63 - 1]),
)
def test_whatever_is_accepted_can_be_counted_and_stored(
    codec: RecordCodec, topic: str, fields: dict[str, object], log_ms: int
) -> None:
    good = PREDICTION if topic == "predictions" else LABEL
    value = json.dumps({**good, **fields}).encode()
    envelope = codec.decode(record(value, topic=topic, log_ms=log_ms))
    if envelope is None or isinstance(envelope.fact, Rejected):
        return
    shard_of(envelope.fact.prediction_id, 8)
    pack_entry(entry_of(envelope.fact))
    carry(MemoryStore(), Spec(slice_names=codec.slice_names), [envelope])


def test_longest_latency_there_is_reads_as_a_number() -> None:
    fact = decoded({**PREDICTION, "latency_ms": 1.7976931348623157e308})
    assert isinstance(fact, Prediction)
    found = Counts({("latency", str(fact.latency_bucket)): 1}).latency_ms(0.5)
    assert found == pytest.approx(1e12, rel=0.02)


# Scores of groups

URGENT_NAME = score_name("urgent", URGENT)
SCORING = RecordCodec(groups=(("urgent", URGENT), ("all", frozenset({"lost_card"}))))


@pytest.mark.parametrize(
    ("told", "number"),
    [
        ({"scores": {"lost_card": 0.5, "report_fraud": 0.47, "balance": 0.03}}, bin_of(0.97, True)),
        ({"scores": {"balance": 0.9}, "predicted_intent": "balance"}, bin_of(0.0, False)),
        ({"confidence": 0.9}, bin_of(0.9, True, is_confidence=True)),
        (
            {"confidence": 0.9, "predicted_intent": "balance"},
            bin_of(0.9, False, is_confidence=True),
        ),
        ({"scores": {"lost_card": 0.2}, "confidence": 0.9}, bin_of(0.2, True)),
        ({"scores": {}, "confidence": 0.9}, bin_of(0.9, True, is_confidence=True)),
        ({"confidence": 0.0}, bin_of(0.0, True, is_confidence=True)),
    ],
)
def test_score_of_a_group_is_the_sum_of_its_scores_or_else_the_confidence(
    told: dict[str, object], number: int
) -> None:
    fact = decoded(prediction_message(**told), codec=SCORING)
    assert isinstance(fact, Prediction)
    assert dict(fact.scores)[URGENT_NAME] == number
    assert [name.partition("#")[0] for name, _ in fact.scores] == ["urgent", "all"]


def test_record_without_any_probability_has_no_score_of_a_group() -> None:
    fact = decoded(prediction_message(), codec=SCORING)
    assert isinstance(fact, Prediction)
    assert fact.scores == ()
