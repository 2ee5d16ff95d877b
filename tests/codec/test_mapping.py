"""Messages as other systems send them, read through the presets."""

import json
from collections.abc import Mapping
from random import Random

import pytest

from monitor.codec.mapping import (
    PRESETS,
    FieldMapping,
    TimeUnit,
    concerns_us,
    dig,
    flattened,
)
from monitor.codec.records import RecordCodec
from monitor.domain.events import Label, Prediction, PredictionId, Reason, Rejected, Traits
from tests.builders import T0, label_message, prediction_message, record

RASA_USER = {
    "sender_id": "b7c9b0c2d4d54a0f9a4d7e31",
    "event": "user",
    "timestamp": T0 / 1000 + 0.391,
    "metadata": {"model_id": "20260112-101500-direct-hue", "assistant_id": "bank"},
    "text": "I lost my card yesterday",
    "parse_data": {
        "intent": {"name": "lost_card", "confidence": 0.9871},
        "entities": [{"entity": "time", "start": 15, "end": 24, "value": "yesterday"}],
        "text": "I lost my card yesterday",
        "intent_ranking": [
            {"name": "lost_card", "confidence": 0.9871},
            {"name": "report_fraud", "confidence": 0.0102},
        ],
    },
    "input_channel": "rest",
    "message_id": "1a2b3c4d5e6f",
}
RASA_BOT = {
    "sender_id": "b7c9b0c2d4d54a0f9a4d7e31",
    "event": "bot",
    "timestamp": T0 / 1000 + 0.5,
    "metadata": {"utter_action": "utter_block_card"},
    "text": "I have blocked your card.",
    "data": {"buttons": None},
}
KSERVE_RESPONSE = {
    "specversion": "1.0",
    "id": "36ecd7a4-5d5b-4b37-9a2a-bd6c2f9b1f11",
    "source": "http://localhost:9081/",
    "type": "org.kubeflow.serving.inference.response",
    "time": "2026-01-15T02:00:00.391234567Z",
    "datacontenttype": "application/json",
    "inferenceservicename": "intent-prompt",
    "namespace": "bank",
    "component": "predictor",
    "data": {"predictions": [{"intent": "lost_card", "confidence": 0.87}]},
}
KSERVE_REQUEST = {
    **KSERVE_RESPONSE,
    "type": "org.kubeflow.serving.inference.request",
    "data": {"instances": ["I lost my card yesterday"]},
}
SAGEMAKER = {
    "captureData": {
        "endpointInput": {
            "observedContentType": "application/json",
            "mode": "INPUT",
            "data": '{"text": "I lost my card yesterday"}',
            "encoding": "JSON",
        },
        "endpointOutput": {
            "observedContentType": "application/json",
            "mode": "OUTPUT",
            "data": '{"intent": "lost_card", "confidence": 0.93}',
            "encoding": "JSON",
        },
    },
    "eventMetadata": {
        "eventId": "1d5f8a8b-8f8e-4f3b-a1d3-58a3f7d3a0f1",
        "inferenceId": "conv-17-turn-3",
        "inferenceTime": "2026-01-15T02:00:00Z",
        # The variant stands in the object key of a capture; who forwards the line adds it.
        "variantName": "AllTraffic",
    },
    "eventVersion": "0",
}


def read(preset: str, message: Mapping[str, object], **more: str) -> object:
    codec = RecordCodec(
        slice_names=("channel", "tier"), predictions=PRESETS[preset].with_paths(more)
    )
    envelope = codec.decode(record(message))
    return None if envelope is None else envelope.fact


def test_rasas_user_event_is_a_prediction() -> None:
    assert read("rasa", RASA_USER) == Prediction(
        PredictionId("1a2b3c4d5e6f"),
        T0 + 391,
        T0 + 1_000,
        Traits("20260112-101500-direct-hue", "lost_card", ("rest", "")),
        conversation="1ef58e3aab237f2f",
    )


def test_rasas_other_events_do_not_concern_us() -> None:
    assert read("rasa", RASA_BOT) is None


def test_kserves_response_is_a_prediction() -> None:
    found = read("cloudevents", KSERVE_RESPONSE)
    assert isinstance(found, Prediction)
    assert found.prediction_id == "36ecd7a4-5d5b-4b37-9a2a-bd6c2f9b1f11"
    assert (found.event_ms, found.variant, found.predicted) == (
        T0 + 391,
        "intent-prompt",
        "lost_card",
    )


def test_kserves_request_does_not_concern_us() -> None:
    assert read("cloudevents", KSERVE_REQUEST) is None


def test_cloud_event_of_another_producer_is_a_prediction() -> None:
    assert isinstance(
        read("cloudevents", {**KSERVE_RESPONSE, "type": "com.bank.intent"}), Prediction
    )


def test_sagemakers_capture_is_read_through_the_json_in_its_text() -> None:
    found = read("sagemaker", SAGEMAKER)
    assert isinstance(found, Prediction)
    assert (found.prediction_id, found.event_ms) == ("conv-17-turn-3", T0)
    assert (found.variant, found.predicted) == ("AllTraffic", "lost_card")


def test_capture_that_is_not_json_lacks_its_intent() -> None:
    message = json.loads(json.dumps(SAGEMAKER))
    message["captureData"]["endpointOutput"] = {"data": "bG9zdF9jYXJk", "encoding": "BASE64"}
    found = read("sagemaker", message)
    assert isinstance(found, Rejected)
    assert found.reason is Reason.MISSING_FIELD


def test_single_path_of_a_preset_can_be_replaced_or_added() -> None:
    message = {**RASA_USER, "metadata": {"release": "r7", "tier": "gold"}}
    found = read("rasa", message, variant="metadata.release", tier="metadata.tier")
    assert isinstance(found, Prediction)
    assert (found.variant, found.slices) == ("r7", ("rest", "gold"))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({**RASA_USER, "message_id": None}, Reason.MISSING_FIELD),
        ({**RASA_USER, "message_id": ""}, Reason.EMPTY_ID),
        ({**RASA_USER, "message_id": 7}, Reason.WRONG_TYPE),
        ({**RASA_USER, "parse_data": {"intent": {"name": None}}}, Reason.MISSING_FIELD),
        ({**RASA_USER, "timestamp": "2026-01-15T02:00:00Z"}, Reason.WRONG_TYPE),
        ({**RASA_USER, "timestamp": 1e306}, Reason.BAD_TIME),
        ({**RASA_USER, "timestamp": -1}, Reason.BAD_TIME),
        ({**RASA_USER, "timestamp": (T0 + 2 * 86_400_000) / 1000}, Reason.FUTURE_TIME),
    ],
)
def test_foreign_message_that_is_broken_is_rejected(
    message: Mapping[str, object], reason: Reason
) -> None:
    found = read("rasa", message)
    assert isinstance(found, Rejected)
    assert found.reason is reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"[]", Reason.NOT_AN_OBJECT),
        (b'"user"', Reason.NOT_AN_OBJECT),
        (b'{"event": "user"', Reason.NOT_JSON),
        (b'{"event": "user", "timestamp": NaN}', Reason.NOT_FINITE),
        (b'{"event": "user", "timestamp": 1e999}', Reason.NOT_FINITE),
        (b'{"event": "\\ud800"}', Reason.NOT_JSON),
        (b'{"event":' * 100_000, Reason.TOO_LARGE),
        (b'{"event":' * 20_000, Reason.NOT_JSON),
    ],
)
def test_mapped_bytes_that_are_no_message_are_rejected(value: bytes, reason: Reason) -> None:
    envelope = RecordCodec(predictions=PRESETS["rasa"]).decode(record(value))
    assert envelope is not None
    assert isinstance(envelope.fact, Rejected)
    assert envelope.fact.reason is reason


def test_flat_mapping_with_a_path_reads_all_other_fields_by_name() -> None:
    codec = RecordCodec(labels=PRESETS["flat"].with_paths({"true_intent": "review.intent"}))
    message = {
        "prediction_id": "p1",
        "label_time": "2026-01-15T02:00:00Z",
        "review": {"intent": "balance"},
        "revision": 3,
    }
    envelope = codec.decode(record(message, topic="labels"))
    assert envelope is not None
    assert isinstance(envelope.fact, Label)
    assert (envelope.fact.actual, envelope.fact.revision) == ("balance", 3)


@pytest.mark.parametrize(
    ("unit", "written"),
    [
        (TimeUnit.MILLISECONDS, T0 + 1),
        (TimeUnit.MILLISECONDS, T0 + 1.9),
        (TimeUnit.SECONDS, (T0 + 1) / 1000),
        (TimeUnit.ISO, "2026-01-15T02:00:00.001Z"),
        (TimeUnit.ISO, "2026-01-15T03:00:00.001999+01:00"),
    ],
)
def test_instants_are_whole_milliseconds_rounded_down(unit: TimeUnit, written: object) -> None:
    codec = RecordCodec(predictions=FieldMapping(time_unit=unit))
    fields = {"prediction_id": "p1", "predicted_intent": "a", "variant": "v", "event_time": written}
    envelope = codec.decode(record(fields))
    assert envelope is not None
    assert isinstance(envelope.fact, Prediction)
    assert envelope.fact.event_ms == T0 + 1


def test_every_millisecond_written_in_seconds_is_read_as_itself() -> None:
    codec = RecordCodec(predictions=FieldMapping(time_unit=TimeUnit.SECONDS))
    draw = Random(1)
    for instant_ms in (draw.randrange(T0) for _ in range(2_000)):
        fields = {
            "prediction_id": "p1",
            "predicted_intent": "a",
            "variant": "v",
            "event_time": instant_ms / 1000,
        }
        envelope = codec.decode(record(fields))
        assert envelope is not None
        assert isinstance(envelope.fact, Prediction)
        assert envelope.fact.event_ms == instant_ms


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", {"b": [10, {"c": "x"}], "t": '{"d": ["y"]}'}),
        ("a.b.0", 10),
        ("a.b.1.c", "x"),
        ("a.b.2", None),
        ("a.b.-1", None),
        ("a.b.²", None),
        ("a.b.c", None),
        ("a.x.y", None),
        ("a.t.d.0", "y"),
        ("a.b.1.c.d", None),
        ("", None),
    ],
)
def test_path_leads_to_a_value_or_to_none(path: str, found: object) -> None:
    message = {"a": {"b": [10, {"c": "x"}], "t": '{"d": ["y"]}'}}
    assert dig(message, path) == found


def test_fields_that_are_not_there_are_left_out() -> None:
    mapping = FieldMapping(paths={"channel": "a.channel", "variant": "model"})
    assert flattened({"model": "m1", "channel": "web"}, mapping) == {"variant": "m1"}


def test_message_concerns_us_when_it_holds_all_of_only_and_nothing_of_skip() -> None:
    mapping = FieldMapping(only={"event": "user", "meta.kind": "text"}, skip={"test": "yes"})
    assert concerns_us({"event": "user", "meta": {"kind": "text"}}, mapping)
    assert not concerns_us({"event": "user"}, mapping)
    assert not concerns_us({"event": "user", "meta": {"kind": "text"}, "test": "yes"}, mapping)


def test_only_the_plain_mapping_is_flat() -> None:
    assert FieldMapping().is_flat
    assert [name for name, mapping in PRESETS.items() if mapping.is_flat] == ["flat"]


def test_replacing_paths_leaves_the_preset_as_it_was() -> None:
    before = dict(PRESETS["rasa"].paths)
    PRESETS["rasa"].with_paths({"variant": "elsewhere"})
    assert PRESETS["rasa"].paths == before


def spoken(preset: str, message: Mapping[str, object], **more: str) -> object:
    return RecordCodec(predictions=PRESETS[preset].with_paths(more)).spoken(record(message))


def test_what_the_user_wrote_is_found_wherever_it_stands() -> None:
    written = "I lost my card yesterday"
    assert spoken("rasa", RASA_USER) == ("1a2b3c4d5e6f", written)
    place = {"text": "captureData.endpointInput.data.text"}
    assert spoken("sagemaker", SAGEMAKER, **place) == ("conv-17-turn-3", written)
    flat = prediction_message(text=written)
    assert spoken("flat", flat) == ("p1", written)
    assert RecordCodec().spoken(record(flat)) == ("p1", written)


def test_a_prediction_without_a_text_says_whose_it_is() -> None:
    assert spoken("cloudevents", KSERVE_RESPONSE) == (KSERVE_RESPONSE["id"], "")
    assert RecordCodec().spoken(record(prediction_message(text=17))) == ("p1", "")


def test_what_is_no_prediction_says_nothing() -> None:
    codec = RecordCodec()
    assert spoken("rasa", RASA_BOT) is None
    assert codec.spoken(record(b"no JSON")) is None
    assert codec.spoken(record(None)) is None
    assert codec.spoken(record(label_message(text="a label"), topic="labels")) is None
