"""Missed messages on the command line, and their texts from the log."""

import json
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition

from monitor.adapters.kafka import KafkaConnection, KafkaSink
from monitor.app.archive import copy
from monitor.app.revealing import found_text, text_of
from monitor.app.settings import Settings, load_settings
from monitor.app.wiring import open_store, spec_of
from monitor.codec.records import RecordCodec
from monitor.domain import engine
from monitor.domain.events import Batch, PredictionId, Record
from monitor.domain.misses import Miss
from monitor.domain.overlays import Action, Deed
from monitor.ports import OutRecord
from tests.app.test_cli import Run, create_topics, live, run, written
from tests.builders import MINUTE_MS, T0, label, prediction, prediction_message, record

__all__ = ["run"]

TEXT = "Somebody has taken my card!"
MISS = Miss(T0, PredictionId("p2"), T0 + 2, T0 + 9, 7, "fine_tuned", "lost_card", "fees")


class Told:
    """A log with these records in it, given out in twos."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._left = list(records)

    def poll(self, max_records: int, _wait_ms: int | None = None) -> list[Record]:
        given, self._left = self._left[:2], self._left[2:]
        return given


def said(name: str, log_ms: int, **fields: object) -> Record:
    return record(prediction_message(prediction_id=name, **fields), log_ms=log_ms)


def text(*records: Record) -> str | None:
    return found_text(Told(records), RecordCodec(), MISS)


def test_the_text_is_that_of_the_record_with_the_id_and_the_log_time() -> None:
    others = [said("p1", T0 + 2, text="another"), said("p2", T0 + 1, text="a copy before")]
    told = said("p2", T0 + 2, text=TEXT)
    assert text(*others, told, said("p2", T0 + 2, text="a copy after")) == TEXT


def test_a_record_without_text_and_no_record_are_told_apart() -> None:
    assert text(said("p1", T0 + 2, text=TEXT), said("p2", T0 + 2)) == ""
    assert text(said("p1", T0 + 2, text=TEXT), said("p2", T0 + 3, text=TEXT)) is None
    assert text() is None


@pytest.mark.parametrize("broken", [b"no JSON", b'{"prediction_id": "p2"}', None])
def test_records_that_cannot_be_read_are_passed_over(broken: bytes | None) -> None:
    assert text(record(broken, log_ms=T0 + 2), said("p2", T0 + 2, text=TEXT)) == TEXT


def settings_in(path: Path) -> Settings:
    return load_settings(path)


def test_a_text_is_read_from_the_topic_at_its_log_time(
    broker: KafkaConnection, valkey_url: str, tmp_path: Path
) -> None:
    told = live(broker, valkey_url)
    create_topics(broker, told)
    topic = told["kafka"]["predictions"]["topic"]
    with closing(KafkaSink(broker)) as sink:
        sink.publish(
            OutRecord(topic, b"k", r.value, log_ms=r.log_ms)
            for r in (
                said("p1", T0 + 1, text="before"),
                said("p9", T0 + 2, text="beside"),
                said("p2", T0 + 2, text=TEXT),
                said("p2", T0 + 2 * MINUTE_MS, text="long after"),
            )
        )
    settings = settings_in(written(tmp_path, told))
    assert text_of(settings, MISS) == TEXT
    assert text_of(settings, MISS._replace(log_ms=T0 + 3)) is None
    assert text_of(settings, MISS._replace(prediction_id=PredictionId("nobody"))) is None


def test_a_text_that_the_log_has_dropped_is_read_from_the_archive(
    broker: KafkaConnection, valkey_url: str, tmp_path: Path
) -> None:
    place = str(tmp_path / "archive")
    told = live(broker, valkey_url)
    create_topics(broker, told)
    topic = told["kafka"]["predictions"]["topic"]
    without = settings_in(written(tmp_path, told))
    settings = settings_in(written(tmp_path, told | {"dashboard": {"archive": place}}))
    with closing(KafkaSink(broker)) as sink:
        told_of = said("p2", T0 + 2, text=TEXT)
        sink.publish([OutRecord(topic, b"k", told_of.value, partition=0, log_ms=told_of.log_ms)])
    copy(settings, place, now_ms=T0 + MINUTE_MS)
    with closing(KafkaAdminClient(**broker.options())) as admin:
        admin.delete_records({TopicPartition(topic, 0): 1})
    assert text_of(without, MISS) is None
    assert text_of(settings, MISS) == TEXT
    assert text_of(settings, MISS._replace(prediction_id=PredictionId("nobody"))) is None


# The command


@pytest.fixture
def config(valkey_url: str, tmp_path: Path) -> Path:
    """Two missed messages, of which one is handled, and one that was caught; no broker is there."""
    path = written(tmp_path, live(None, valkey_url))
    settings = load_settings(path)
    facts = [("p1", "fees"), ("p2", "fees"), ("p3", "lost_card")]
    predictions = [
        prediction(name, went, at_ms=T0 + at, slices=("web",))
        for at, (name, went) in enumerate(facts)
    ]
    labels = [label(name, at_ms=T0 + MINUTE_MS) for name, _ in facts]
    batch = Batch(predictions, labels)
    with closing(open_store(settings)) as store:
        changes = engine.step(spec_of(settings), {}, batch, progress={}, watermark_ms=None)
        store.commit(0, {}, changes)
        first = store.misses()[0]
        done = "a1", Deed.HANDLE, T0 + 5 * MINUTE_MS, "ana", "called back", first.reference
        store.act(Action(*done, ticket="4711"))
    return path


def listed(run: Run, config: Path, *more: str) -> list[dict[str, Any]]:
    ended = run("missed", "--format", "json", "--config", config, *more)
    assert (ended.code, ended.err) == (0, "")
    rows: list[dict[str, Any]] = json.loads(ended.out)
    return rows


def test_open_ones_are_listed_and_handled_ones_with_all(run: Run, config: Path) -> None:
    assert [row["prediction_id"] for row in listed(run, config)] == ["p2"]
    opened, handled = listed(run, config, "--all", "--of", "urgent")
    assert (opened["state"], opened["ticket"], opened["handled"]) == ("open", None, None)
    assert (opened["actual"], opened["predicted"]) == ("lost_card", "fees")
    assert handled["handled"] == {
        "at": "2026-01-15T02:05:00.000Z", "who": "ana", "note": "called back",
    }  # fmt: skip
    assert (handled["state"], handled["ticket"], handled["waiting_s"]) == ("handled", "4711", 300)


def test_each_is_told_in_a_line(run: Run, config: Path) -> None:
    ended = run("missed", "--all", "--config", config)
    opened, handled = ended.out.splitlines()
    begun = "2026-01-15T02:00:00.001Z  p2  lost_card -> fees  fine_tuned  open for "
    assert opened.startswith(begun)
    assert handled.endswith("p1  lost_card -> fees  fine_tuned  handled by ana after 5 min [4711]")


def test_a_group_that_nobody_declared_is_refused(run: Run, config: Path) -> None:
    ended = run("missed", "--of", "urgnet", "--config", config)
    assert ended.code == 2
    assert "urgnet is not declared; declared are: urgent" in " ".join(ended.err.split())


def test_it_is_said_when_none_is_open(run: Run, valkey_url: str, tmp_path: Path) -> None:
    ended = run("missed", "--config", written(tmp_path, live(None, valkey_url)))
    assert (ended.code, ended.out) == (0, "")
    assert "None is open. Handled: 0 (--all lists them)." in ended.err
