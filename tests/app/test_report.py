"""The report: the keys that were promised, the right numbers, and null where nothing is known."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from monitor.adapters.memory import MemoryStore
from monitor.app.console import dump
from monitor.app.report import iso, present_report
from monitor.app.settings import Settings
from monitor.domain import ledger
from monitor.domain.engine import Changes
from monitor.domain.events import Kind, Partition, Reason
from monitor.domain.ledger import Gap
from tests.app.story import MINUTES, SETTINGS, UNREADABLE, history
from tests.app.test_flow import undisturbed
from tests.builders import MINUTE_MS, T0

SHOWN = Settings.model_validate(
    {**SETTINGS, "verdict": {"recall": {"urgent": 0.8}, "precision": {"urgent": 0.6}}}
)


def report_of(store: MemoryStore) -> dict[str, Any]:
    """As somebody reads it who got the JSON."""
    report: dict[str, Any] = json.loads(dump(present_report(store, SHOWN)))
    return report


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    return report_of(undisturbed())


@pytest.fixture(scope="module")
def empty() -> dict[str, Any]:
    return report_of(MemoryStore())


def lacking(*gaps: Gap) -> MemoryStore:
    """The story's store with these gaps in its books."""
    store = deepcopy(undisturbed())
    store.commit(0, {}, Changes({}, {}, {}, {ledger.gap(gap): 1 for gap in gaps}, [], {}))
    return store


def keys_of(node: Any) -> list[str]:  # noqa: ANN401 - part of a JSON document
    return sorted(node)


def numbers_in(node: Any) -> Iterator[Any]:  # noqa: ANN401 - part of a JSON document
    """Every leaf."""
    if isinstance(node, dict):
        for part in node.values():
            yield from numbers_in(part)
    elif isinstance(node, list):
        for part in node:
            yield from numbers_in(part)
    else:
        yield node


# Shape


def test_the_report_has_the_parts_that_were_promised(full: dict[str, Any]) -> None:
    assert keys_of(full) == sorted(
        [
            "verdicts",
            "version",
            "as_of",
            "sampling",
            "digest",
            "cut",
            "ledger",
            "variants",
            "comparisons",
            "hours",
            "transitions",
        ]
    )
    assert (full["version"], full["sampling"]) == (1, 1.0)
    assert full["digest"].startswith("sha256:")


def test_both_sides_of_the_ledger_have_their_entries(full: dict[str, Any]) -> None:
    common = {"received", "accepted", "duplicate", "expired", "rejected", "passed_over"}
    assert set(full["ledger"]["predictions"]) == common | {"labelled", "pending"}
    assert set(full["ledger"]["labels"]) == common | {
        "applied",
        "superseded",
        "early",
        "orphan",
        "corrected",
    }


def test_each_variant_has_every_score(full: dict[str, Any]) -> None:
    promised = {
        "labelled",
        "coverage",
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "cohen_kappa",
        "mcc",
        "groups",
        "intents",
        "confusion",
        "verdict",
        "latency_ms",
        "relevance",
        "label_delay_s",
    }
    assert list(full["variants"]) == ["ALL", "fine_tuned", "prompt"]
    for section in full["variants"].values():
        assert promised <= set(section)
        assert {"support", "hits", "recall", "interval", "precision", "exact_recall"} <= set(
            section["groups"]["urgent"]
        )
        assert {"support", "recall", "precision", "f1", "interval"} <= set(
            section["intents"]["lost_card"]
        )
        assert {"p50", "p95", "p99"} <= set(section["latency_ms"])
        assert {"p50", "p95"} <= set(section["label_delay_s"])
        assert set(section["relevance"]) == {"mean", "n"}
        for reason in section["verdict"]["reasons"]:
            assert {"name", "text", "value", "limit", "interval", "n"} <= set(reason)


def test_each_hour_and_variant_has_a_line(full: dict[str, Any]) -> None:
    assert [(line["start"], line["variant"]) for line in full["hours"]] == [
        (f"2026-01-15T{hour}:00:00.000Z", variant)
        for hour in ("02", "03")
        for variant in ("ALL", "fine_tuned", "prompt")
    ]
    assert {"accuracy", "groups"} <= set(full["hours"][0])


def test_each_transition_says_what_it_stands_on(full: dict[str, Any]) -> None:
    promised = (
        "id rule variant slice from to at evidence since hits n cut hindsight".split()  # noqa: SIM905 - as it stands in the contract
    )
    assert len(full["transitions"]) == 3
    for line in full["transitions"]:
        assert set(promised) <= set(line)
    fired = full["transitions"][-1]
    assert (fired["variant"], fired["slice"], fired["from"], fired["to"]) == (
        "fine_tuned",
        "ALL",
        "ok",
        "firing",
    )
    assert (fired["hits"], fired["n"], fired["hindsight"]) == (0, 9, None)
    assert fired["evidence"] >= fired["bar"] == 72_000
    assert fired["since"] < fired["at"]


# Numbers


def test_the_ledger_balances(full: dict[str, Any]) -> None:
    predictions, labels = full["ledger"]["predictions"], full["ledger"]["labels"]
    assert predictions["received"] == sum(
        predictions[name] for name in ("labelled", "pending", "expired", "duplicate")
    ) + sum(predictions["rejected"].values())
    assert labels["received"] == sum(
        labels[name] for name in ("applied", "superseded", "orphan", "expired", "duplicate")
    ) + sum(labels["rejected"].values())
    assert predictions["received"] + labels["received"] == len(history())


def test_rejected_records_are_counted_by_reason(full: dict[str, Any]) -> None:
    for kind in Kind:
        rejected = full["ledger"][kind]["rejected"]
        assert sum(rejected.values()) == len(UNREADABLE[kind])
        assert all(Reason(reason) for reason in rejected)


def test_gaps_are_named_beside_books_that_balance(full: dict[str, Any]) -> None:
    store = lacking(Gap(Partition("predictions", 1), 100, 1_000), Gap(Partition("labels", 0), 7, 8))
    report = report_of(store)
    assert report["ledger"].pop("gaps") == [
        {"partition": "labels[0]", "from": 7, "to": 8},
        {"partition": "predictions[1]", "from": 100, "to": 1_000},
    ]
    assert full["ledger"]["gaps"] == []
    assert report["ledger"] == {kind: full["ledger"][kind] for kind in Kind}


def test_the_digest_tells_that_records_were_lost(full: dict[str, Any]) -> None:
    gap = Gap(Partition("labels", 0), 7, 8)
    digests = {report_of(lacking(each))["digest"] for each in (gap, gap._replace(past=9))}
    assert len({*digests, full["digest"]}) == 3


def test_all_is_the_sum_of_the_variants(full: dict[str, Any]) -> None:
    whole, *parts = full["variants"].values()
    for name in ("predictions", "labelled"):
        assert whole[name] == sum(part[name] for part in parts)
    confused = {(a, p) for part in parts for a, row in part["confusion"].items() for p in row}
    for actual, predicted in confused:
        assert whole["confusion"][actual][predicted] == sum(
            part["confusion"].get(actual, {}).get(predicted, 0) for part in parts
        )


def test_hours_add_up_to_the_whole(full: dict[str, Any]) -> None:
    for variant, section in full["variants"].items():
        lines = [line for line in full["hours"] if line["variant"] == variant]
        assert sum(line["labelled"] for line in lines) == section["labelled"]
        assert (
            sum(line["groups"]["urgent"]["hits"] for line in lines)
            == (section["groups"]["urgent"]["hits"])
        )


def test_scores_are_those_of_the_confusion_matrix(full: dict[str, Any]) -> None:
    section = full["variants"]["fine_tuned"]
    right = sum(row.get(actual, 0) for actual, row in section["confusion"].items())
    urgent = section["groups"]["urgent"]
    assert section["accuracy"] == right / section["labelled"]
    assert urgent["recall"] == urgent["hits"] / urgent["support"]
    low, high = urgent["interval"]
    assert low < urgent["recall"] < high


def test_the_cut_names_the_next_offset_of_every_partition(full: dict[str, Any]) -> None:
    assert list(full["cut"]) == ["labels[0]", "labels[1]", "predictions[0]", "predictions[1]"]
    assert sum(full["cut"].values()) == len(history())


def test_the_report_is_as_of_the_watermark(full: dict[str, Any]) -> None:
    assert full["as_of"] == iso(max(each.log_ms for each in history()) + 1)


def test_one_verdict_is_not_fit_and_names_the_missed_limit_first(full: dict[str, Any]) -> None:
    verdict = full["variants"]["fine_tuned"]["verdict"]
    assert verdict["answer"] == "not_fit"
    assert verdict["reasons"][0]["name"] == "recall of urgent"
    assert verdict["reasons"][0]["finding"] == "missed"
    prompt = full["variants"]["prompt"]["verdict"]
    assert prompt["answer"] == "not_enough_evidence"
    open_ones = [reason["name"] for reason in prompt["reasons"] if reason["finding"] == "open"]
    assert open_ones == ["latency p95"]


# Nothing known


def test_an_empty_store_has_a_report_of_nulls(empty: dict[str, Any]) -> None:
    assert empty["as_of"] is None
    assert (empty["cut"], empty["hours"], empty["transitions"]) == ({}, [], [])
    assert list(empty["variants"]) == ["ALL"]
    section = empty["variants"]["ALL"]
    for name in ("coverage", "accuracy", "balanced_accuracy", "macro_f1", "cohen_kappa", "mcc"):
        assert section[name] is None, name
    urgent = section["groups"]["urgent"]
    for name in ("recall", "interval", "precision", "exact_recall"):
        assert urgent[name] is None, name
    assert set(numbers_in([section["latency_ms"], section["label_delay_s"]])) == {None}
    assert section["relevance"] == {"mean": None, "n": 0}
    assert section["verdict"]["answer"] == "not_enough_evidence"
    assert {reason["value"] for reason in section["verdict"]["reasons"]} == {None}


def test_counts_of_an_empty_store_are_zero(empty: dict[str, Any]) -> None:
    for kind in Kind:
        assert set(numbers_in(empty["ledger"][kind])) == {0}
    assert empty["ledger"]["gaps"] == []
    assert (empty["variants"]["ALL"]["predictions"], empty["variants"]["ALL"]["labelled"]) == (0, 0)


def test_predictions_without_a_label_have_no_scores(full: dict[str, Any]) -> None:
    """The prompt variant of the third minute is never labelled; its intent still has a line."""
    assert full["variants"]["prompt"]["labelled"] < full["variants"]["prompt"]["predictions"]
    assert full["variants"]["prompt"]["coverage"] == pytest.approx(0.8)


def test_a_report_is_the_same_text_however_often_it_is_made() -> None:
    store = undisturbed()
    assert dump(present_report(store, SHOWN)) == dump(present_report(store, SHOWN))


def test_instants_are_written_in_utc_with_milliseconds() -> None:
    assert iso(None) is None
    assert iso(T0 + MINUTES * MINUTE_MS + 7) == "2026-01-15T04:00:00.007Z"
