"""From settings to parts: nothing that an operator may set is lost on the way."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from monitor import __version__
from monitor.app.brokers import connection_of
from monitor.app.flow import Limits
from monitor.app.settings import Settings, SettingsError
from monitor.app.wiring import (
    codec_of,
    differences,
    in_ms,
    limits_of,
    provenance_of,
    settings_of,
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


TWO_GROUPS = {"groups": {"urgent": ["lost_card"], "calm": ["balance"]}}


def test_group_that_a_rule_watches_must_reach_its_objective_for_a_verdict() -> None:
    watching = [{"name": "r", "of": "urgent", "objective": 0.7}]
    found = verdict_limits_of(settings(intents=TWO_GROUPS, rules=watching))
    assert found.recall == {"calm": 0.8, "urgent": 0.7}
    assert found.sources["recall of urgent"] == "objective of rule r"
    strict = {"recall": {"urgent": 0.9, "calm": 0.5}}
    found = verdict_limits_of(settings(intents=TWO_GROUPS, rules=watching, verdict=strict))
    assert found.recall == {"calm": 0.5, "urgent": 0.9}
    assert found.sources["recall of urgent"] == "rule r alerts below 70.0%"


def test_of_several_objectives_of_a_group_the_lowest_is_its_limit_and_is_named() -> None:
    watching = [
        {"name": "page", "of": "urgent", "objective": 0.7},
        {"name": "warn", "of": "urgent", "objective": 0.9},
        {"name": "prompt-only", "of": "urgent", "objective": 0.6, "where": {"variant": "prompt"}},
    ]
    found = verdict_limits_of(settings(intents=TWO_GROUPS, rules=watching))
    assert found.of("fine_tuned").recall["urgent"] == 0.7
    assert found.of("prompt").recall["urgent"] == 0.6
    assert (
        found.of("prompt").sources["recall of urgent"]
        == "objective of rule prompt-only, the lowest of 3"
    )


def test_every_declared_group_is_watched_unless_that_is_turned_off() -> None:
    found = verdict_limits_of(settings(intents=TWO_GROUPS))
    assert found.recall == {"calm": 0.8, "urgent": 0.8}
    assert found.precision == {"calm": 0.5, "urgent": 0.5}
    assert set(found.sources.values()) == {"limit of every group"}
    off = {"every_group": {"recall": "off", "precision": False}, "balance": "off"}
    found = verdict_limits_of(settings(intents=TWO_GROUPS, verdict=off))
    assert (found.recall, found.precision, found.balance) == ({}, {}, None)


def test_a_variant_has_its_own_limits_and_else_those_of_all() -> None:
    own = {"latency_ms": {"p95": 2_000}, "recall": {"urgent": 0.6}, "accuracy": {"good": 0.9}}
    told = {"recall": {"urgent": 0.8}, "relevance": 0.7, "variants": {"prompt": own}}
    found = verdict_limits_of(settings(intents=TWO_GROUPS, verdict=told))
    assert found.of("fine_tuned") is found
    prompt = found.of("prompt")
    assert (prompt.latency_p95_ms, prompt.recall["urgent"], prompt.relevance) == (2_000, 0.6, 0.7)
    assert (prompt.accuracy_good, found.accuracy_good, found.latency_p95_ms) == (0.9, 0.85, 800)


# Provenance

RULE = {"name": "urgent-recall", "of": "urgent", "objective": 0.8}
DECIDING = {
    "kafka": {"predictions": {"topic": "said"}, "labels": {"topic": "true"}},
    "redis": {"shards": 3},
    "intents": {"closed": True, "known": ["b", "a"], "groups": {"urgent": ["b"], "calm": ["a"]}},
    "slices": ["variant", "region", "channel"],
    "windows": {
        "pane": "5m",
        "horizon": "2d",
        "recent": "10m",
        "keep": {"5m": "3d", "1h": "90d", "1d": "1y"},
    },
    "rules": [
        {**RULE, "maturity": "auto", "hindsight": "off", "evidence": "auto", "baseline": 0.93},
        {**RULE, "name": "z", "maturity": "6h", "hindsight": "7d", "evidence": 36_000},
        {**RULE, "name": "a", "where": {"region": "eu"}, "per": ["variant"]},
        {**RULE, "name": "m", "metric": "accuracy", "of": "calm", "detector": "glance"},
    ],
    "signals": [
        {"name": "late", "signal": "label_delay", "above": "90m"},
        {"name": "few", "signal": "volume", "below": 20},
    ],
    "mapping": {"predictions": {"preset": "rasa", "fields": {"region": "meta.region"}}},
    "worker": {"max_record_bytes": 4_000},
}
"""Every setting that decides numbers or alerts, as it is not by default."""

PRIVATE: dict[str, Any] = {
    "kafka": {
        "bootstrap_servers": ["kafka.bank:9092"],
        "group": "mine",
        "security": {
            "protocol": "SASL_SSL",
            "mechanism": "PLAIN",
            "username": "somebody",
            "password": "hunter2",
        },
    },
    "redis": {"url": "redis://:hunter3@cache.bank:6379/0", "namespace": "ours"},
    "notify": [{"webhook": "https://hooks.bank/hunter4"}],
    "alerting": {"repeat": "9h"},
    "worker": {"batch_records": 7, "evaluate_every": "7s"},
    "telemetry": {"port": 1234},
    "dashboard": {"port": 1235},
}
"""Settings that decide neither."""


@pytest.mark.parametrize("other", [{}, PRIVATE, {**PRIVATE, "rules": [], "slices": ["channel"]}])
@pytest.mark.parametrize("deciding", [{}, DECIDING, SETTINGS])
def test_settings_come_back_from_their_provenance(
    deciding: dict[str, Any], other: dict[str, Any]
) -> None:
    made, base = settings(**deciding), settings(**other)
    provenance = provenance_of(made)
    back = settings_of(provenance.document, base)
    assert provenance_of(back) == provenance
    assert provenance_of(back).settings == provenance.settings
    assert spec_of(back) == spec_of(made)
    assert topics_of(back) == topics_of(made)
    assert back.mapping == made.mapping
    assert back.worker.max_record_bytes == made.worker.max_record_bytes
    for part in ("notify", "alerting", "telemetry", "dashboard"):
        assert getattr(back, part) == getattr(base, part)
    assert back.redis.url == base.redis.url
    assert back.kafka.security == base.kafka.security
    assert back.worker.batch_records == base.worker.batch_records


def test_provenance_names_the_release_and_holds_no_address_and_no_secret() -> None:
    provenance = provenance_of(settings(**PRIVATE))
    assert provenance.code == __version__
    assert provenance == provenance_of(settings())
    assert not any(word in provenance.document for word in ("hunter", "bank", "somebody", "9h"))


def test_equal_settings_have_one_document_however_they_are_written() -> None:
    spelled = {
        **SETTINGS,
        "intents": {"groups": {"urgent": SETTINGS["intents"]["groups"]["urgent"]}},
    }
    again = settings(**spelled, windows={"horizon": "840h"})
    assert provenance_of(again) == provenance_of(settings(**SETTINGS))


@pytest.mark.parametrize(
    "changed",
    [
        {"intents": {"groups": {"urgent": ["lost_card"]}}},
        {"slices": ["variant"]},
        {"windows": {"horizon": "34d"}},
        {"rules": []},
        {"rules": [{**SETTINGS["rules"][0], "maturity": "auto"}]},
        {"rules": [{**SETTINGS["rules"][0], "hindsight": "7d"}]},
        {"signals": [{"name": "few", "signal": "volume", "below": 20}]},
        {"mapping": {"time_unit": "ms"}},
        {"kafka": {"labels": {"topic": "truth"}}},
        {"worker": {"max_record_bytes": 1}},
        {"redis": {"shards": 2}},
        {"sampling": 0.1},
    ],
    ids=str,
)
def test_a_setting_that_decides_shows_in_the_digest(changed: dict[str, Any]) -> None:
    before, after = (provenance_of(settings(**{**SETTINGS, **more})) for more in ({}, changed))
    assert before.settings != after.settings
    assert differences(before.document, after.document)


def test_without_a_sample_digest_and_document_are_what_they_were_before_there_were_such() -> None:
    whole, tenth = settings(**SETTINGS), settings(**{**SETTINGS, "sampling": 0.1})
    assert "sampling" not in provenance_of(whole).document
    assert whole.digest() == settings(**{**SETTINGS, "sampling": 1}).digest() != tenth.digest()


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_a_document_tells_the_share_whatever_the_settings_are_that_it_is_laid_over(
    share: float,
) -> None:
    document = provenance_of(settings(**{**SETTINGS, "sampling": share})).document
    base = settings(**{**SETTINGS, "sampling": 0.5})
    assert settings_of(document, base).sampling == share
    assert spec_of(settings_of(document, base)).sampling == share


def test_limits_of_groups_that_the_document_does_not_know_are_left_out() -> None:
    intents = {"groups": {"urgent": ["lost_card"], "new": ["balance"]}}
    base = settings(intents=intents, verdict={"recall": {"urgent": 0.9, "new": 0.5}})
    assert settings_of(provenance_of(settings(**SETTINGS)).document, base).verdict.recall == {
        "urgent": 0.9
    }


def test_limits_and_scores_of_a_variant_keep_to_the_groups_of_the_document() -> None:
    intents = {"groups": {"urgent": ["lost_card"], "new": ["balance"]}}
    offline = [
        {"model_version": "m", "metric": "recall", "of": "new", "value": 0.9},
        {"model_version": "m", "metric": "accuracy", "value": 0.9},
    ]
    own = {"approach": "prompt", "recall": {"new": 0.5, "urgent": 0.7}, "offline": offline}
    base = settings(intents=intents, verdict={"variants": {"prompt": own}})
    found = settings_of(provenance_of(settings(**SETTINGS)).document, base)
    prompt = found.verdict.variants["prompt"]
    assert (prompt.approach, prompt.recall) == ("prompt", {"urgent": 0.7})
    assert [score.metric for score in prompt.offline] == ["accuracy"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("", "are no settings"),
        ("[]", "are no settings"),
        ('{"rules": [{"name": "r", "of": "urgent", "objective": 2}]}', "rules[0].objective"),
        ('{"colour": "red"}', "colour"),
        ('{"kafka": {"labels": {"topic": "recallwatch.journal"}}}', "is also the topic of"),
    ],
)
def test_a_document_that_is_none_is_refused(document: str, words: str) -> None:
    with pytest.raises(SettingsError, match="settings of the journal: ") as refused:
        settings_of(document, settings())
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        ({}, []),
        (
            {"rules": [{**RULE, "objective": 0.75, "maturity": "auto", "hindsight": "off"}]},
            [
                "rules.urgent-recall.maturity: was 2m, is auto",
                "rules.urgent-recall.objective: was 0.8, is 0.75",
                "rules.urgent-recall.per.variant: removed",
            ],
        ),
        (
            {"rules": [{**RULE, "name": "first"}, *SETTINGS["rules"]], "slices": ["channel", "x"]},
            ["rules.first: added", "slices.x: added"],
        ),
        ({"rules": []}, ["rules.urgent-recall: removed"]),
        (
            {"intents": {"groups": {"urgent": ["report_fraud", "lost_card"]}}},
            ["intents.groups.urgent: in another order"],
        ),
        (
            {"intents": {"closed": True, "known": ["lost_card", "report_fraud"], "groups": {}}},
            [
                "intents.closed: was false, is true",
                "intents.groups.urgent: removed",
                "intents.known.lost_card: added",
                "intents.known.report_fraud: added",
                "rules.urgent-recall: removed",
            ],
        ),
        ({"mapping": {"time_unit": "ms"}}, ["mapping.time_unit: was not set, is ms"]),
        ({"windows": {"horizon": "34d"}}, ["windows.horizon: was 35d, is 34d"]),
        ({"sampling": 0.1}, ["sampling: added"]),
        ({"worker": {"max_record_bytes": 9}}, ["worker.max_record_bytes: was 262144, is 9"]),
    ],
    ids=str,
)
def test_what_settings_differ_in_is_said_line_by_line(
    changed: dict[str, Any], lines: list[str]
) -> None:
    if "intents" in changed and not changed["intents"]["groups"]:
        changed = {**changed, "rules": []}
    before, after = (provenance_of(settings(**{**SETTINGS, **more})) for more in ({}, changed))
    assert differences(before.document, after.document) == lines


def test_parts_without_a_name_go_by_their_places() -> None:
    assert differences('{"a": [1, 2]}', '{"a": [1, 3, 4]}') == ["a.1: was 2, is 3", "a.2: added"]
    assert differences('{"a": {"b": 1}}', '{"a": 1}') == ['a: was {"b": 1}, is 1']
