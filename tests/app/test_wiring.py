"""From settings to parts: nothing that an operator may set is lost on the way."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from monitor.app.flow import Limits
from monitor.app.settings import Settings
from monitor.app.wiring import (
    codec_of,
    connection_of,
    in_ms,
    limits_of,
    spec_of,
    topics_of,
    verdict_limits_of,
)
from monitor.codec.mapping import PRESETS, TimeUnit
from monitor.domain.engine import Spec
from monitor.domain.events import Kind, Reason, Rejected
from monitor.domain.rules import AlertRule, Severity
from monitor.domain.verdict import VerdictLimits
from monitor.domain.windows import DAY_MS, HOUR_MS, MINUTE_MS, WindowSpec
from tests.app.story import SETTINGS, SPEC
from tests.builders import T0, prediction_message, record


def settings(**parts: Any) -> Settings:  # noqa: ANN401 - as a settings file has them
    return Settings.model_validate(parts)


def test_an_empty_file_means_the_defaults_of_the_core() -> None:
    assert spec_of(settings()) == Spec()
    assert limits_of(settings()) == Limits()
    assert verdict_limits_of(settings()) == VerdictLimits()


def test_the_settings_of_the_story_are_its_spec() -> None:
    made = spec_of(settings(**SETTINGS))
    assert [signal.name for signal in made.signals] == ["estimate:urgent"]
    assert replace(made, signals=()) == SPEC


def test_windows_are_in_milliseconds() -> None:
    windows = {"pane": "5m", "horizon": "2d", "keep": {"5m": "3d", "1h": "9d", "1d": "30d"}}
    assert spec_of(settings(windows=windows)).windows == WindowSpec(
        5 * MINUTE_MS,
        2 * DAY_MS,
        {5 * MINUTE_MS: 3 * DAY_MS, HOUR_MS: 9 * DAY_MS, DAY_MS: 30 * DAY_MS},
    )


def test_a_rule_comes_with_all_that_was_set() -> None:
    rule = {
        "name": "r",
        "of": "urgent",
        "where": {"variant": "fine_tuned", "channel": "web"},
        "per": ["channel"],
        "objective": 0.7,
        "maturity": "6h",
        "hold": "10m",
        "severity": "warning",
    }
    made = settings(
        intents={"groups": {"urgent": ["lost_card"]}}, slices=["variant", "channel"], rules=[rule]
    )
    assert spec_of(made).rules == (
        AlertRule(
            "r",
            "urgent",
            frozenset({"lost_card"}),
            0.7,
            (("channel", "web"), ("variant", "fine_tuned")),
            ("channel",),
            6 * HOUR_MS,
            10 * MINUTE_MS,
            Severity.WARNING,
            hindsight_ms=7 * DAY_MS,
        ),
    )


def test_a_rule_may_be_of_a_single_intent() -> None:
    made = settings(rules=[{"name": "r", "of": "lost_card", "objective": 0.7}])
    assert spec_of(made).rules[0].group == {"lost_card"}


def test_variant_is_not_a_slice_name_of_the_core() -> None:
    assert spec_of(settings(slices=["channel", "locale"])).slice_names == ("channel", "locale")


def test_topics_are_those_of_the_settings() -> None:
    made = settings(kafka={"predictions": {"topic": "p"}, "labels": {"topic": "l"}})
    assert topics_of(made) == {Kind.PREDICTIONS: "p", Kind.LABELS: "l"}
    codec = codec_of(made)
    envelope = codec.decode(record(prediction_message(), topic="p"))
    assert envelope is not None
    assert envelope.kind is Kind.PREDICTIONS


def reason(made: Settings, **fields: object) -> Reason | None:
    envelope = codec_of(made).decode(record(prediction_message(**fields)))
    assert envelope is not None
    return envelope.fact.reason if isinstance(envelope.fact, Rejected) else None


@pytest.mark.parametrize(("closed", "expected"), [(True, Reason.UNKNOWN_INTENT), (False, None)])
def test_an_unknown_intent_is_rejected_only_where_the_intents_are_closed(
    closed: bool, expected: Reason | None
) -> None:
    made = settings(intents={"closed": closed, "known": ["lost_card"]})
    assert reason(made, predicted_intent="teleport") is expected
    assert reason(made) is None


def test_the_greatest_record_is_that_of_the_settings() -> None:
    made = settings(worker={"max_record_bytes": 200})
    assert reason(made) is None
    assert reason(made, text="x" * 200) is Reason.TOO_LARGE


def test_presets_fields_and_time_unit_reach_the_codec() -> None:
    made = settings(
        mapping={
            "predictions": {"preset": "rasa", "fields": {"variant": "metadata.release"}},
            "labels": {"fields": {"true_intent": "answer.intent"}},
            "time_unit": "ms",
        }
    )
    codec = codec_of(made)
    assert codec.predictions.paths == {**PRESETS["rasa"].paths, "variant": "metadata.release"}
    assert codec.predictions.time_unit is TimeUnit.MILLISECONDS
    assert codec.labels.paths == {"true_intent": "answer.intent"}
    assert codec.labels.time_unit is TimeUnit.MILLISECONDS


def test_without_a_time_unit_that_of_the_preset_holds() -> None:
    made = settings(mapping={"predictions": {"preset": "rasa"}})
    assert codec_of(made).predictions.time_unit is PRESETS["rasa"].time_unit
    assert codec_of(made).labels.time_unit is TimeUnit.ISO


def test_limits_are_those_of_the_settings() -> None:
    worker = {"batch_records": 17, "max_consecutive_rejects": 5}
    assert limits_of(settings(worker=worker)) == Limits(17, 5)


def test_verdict_limits_are_those_of_the_settings() -> None:
    made = settings(
        intents={"groups": {"urgent": ["lost_card"]}},
        verdict={
            "accuracy": {"good": 0.9, "bad": 0.5},
            "recall": {"urgent": 0.8},
            "precision": {"urgent": 0.6},
            "latency_ms": {"p95": 300},
            "relevance": 0.7,
        },
    )
    assert verdict_limits_of(made) == VerdictLimits(
        0.9, 0.5, {"urgent": 0.8}, {"urgent": 0.6}, 300.0, 0.7
    )


def test_login_and_certificates_reach_the_client_and_stay_out_of_every_text() -> None:
    security = {
        "protocol": "SASL_SSL",
        "mechanism": "SCRAM-SHA-512",
        "username": "recallwatch",
        "password": "hunter2",
        "ca_file": "/etc/kafka/ca.pem",
        "cert_file": "/etc/kafka/client.pem",
        "key_file": "/etc/kafka/client.key",
    }
    connection = connection_of(
        settings(kafka={"bootstrap_servers": "a:1, b:2", "security": security})
    )
    assert connection.options() == {
        "bootstrap_servers": ["a:1", "b:2"],
        "client_id": "recallwatch",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "recallwatch",
        "sasl_plain_password": "hunter2",
        "ssl_cafile": "/etc/kafka/ca.pem",
        "ssl_certfile": "/etc/kafka/client.pem",
        "ssl_keyfile": "/etc/kafka/client.key",
    }
    assert "hunter2" not in f"{connection} {connection!r}"


def test_no_login_leaves_the_choice_to_the_client() -> None:
    assert connection_of(settings()).options() == {
        "bootstrap_servers": ["localhost:9092"],
        "client_id": "recallwatch",
        "security_protocol": "PLAINTEXT",
    }


def test_durations_are_whole_milliseconds() -> None:
    assert in_ms(timedelta(seconds=1.5)) == 1_500
    assert in_ms(timedelta(microseconds=1_999)) == 1


def test_instants_of_a_codec_are_in_the_unit_that_was_set() -> None:
    made = settings(mapping={"time_unit": "ms"})
    envelope = codec_of(made).decode(record(prediction_message(event_time=T0)))
    assert envelope is not None
    assert getattr(envelope.fact, "event_ms", None) == T0


def test_group_that_a_rule_watches_must_reach_its_objective_for_a_verdict() -> None:
    intents = {"groups": {"urgent": ["lost_card"], "calm": ["balance"]}}
    watching = [{"name": "r", "of": "urgent", "objective": 0.7}]
    assert verdict_limits_of(settings(intents=intents, rules=watching)).recall == {"urgent": 0.7}
    strict = {"recall": {"urgent": 0.9, "calm": 0.5}}
    made = settings(intents=intents, rules=watching, verdict=strict)
    assert verdict_limits_of(made).recall == {"calm": 0.5, "urgent": 0.9}
