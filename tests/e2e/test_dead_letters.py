"""Whatever is wrong with a record: it ends in the dead-letter topic, and is counted once.

Through the embedded broker and store, with a captured folder that holds every kind of malformed
record that the public streams have (nan, unknown_class, wrong_type, future_timestamp, missing_id,
nested_wrong, empty_id, wrong_encoding, negative_number, bad_json, huge, tombstone), and more.
"""

import json
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kafka import KafkaConsumer

from monitor.adapters.kafka import KafkaConnection
from monitor.app.feed import feed_files
from monitor.app.live import Worker, world_of
from monitor.app.report import present_report
from monitor.app.settings import Settings
from monitor.app.telemetry import SystemClock
from monitor.app.wiring import open_reader
from monitor.domain.events import Kind, Position, Reason, Record
from tests.app.captures import captured
from tests.builders import T0, label_message, prediction_message

PARTITIONS = 2
HUGE = 300_000
OVERSIZE = 900_000
Message = dict[str, object]
Damage = Callable[[Message, Kind], bytes | None]

INTENT = {Kind.PREDICTIONS: "predicted_intent", Kind.LABELS: "true_intent"}
TIME = {Kind.PREDICTIONS: "event_time", Kind.LABELS: "label_time"}
NUMBER = {Kind.PREDICTIONS: "confidence", Kind.LABELS: "revision"}


def encoded(message: Mapping[str, object]) -> bytes:
    return json.dumps(message).encode()


def padded(message: Message, size: int) -> bytes:
    return encoded({**message, "text": "A" * (size - len(encoded({**message, "text": ""})))})


class Malformed(NamedTuple):
    """One kind of malformed record, and the reason that it must be rejected for."""

    kind: str
    damage: Damage
    reason: Reason


MALFORMED = (
    Malformed("nan", lambda m, k: encoded({**m, NUMBER[k]: float("nan")}), Reason.NOT_FINITE),
    Malformed(
        "unknown_class", lambda m, k: encoded({**m, INTENT[k]: "no_such"}), Reason.UNKNOWN_INTENT
    ),
    Malformed("wrong_type", lambda m, k: encoded({**m, NUMBER[k]: "high"}), Reason.WRONG_TYPE),
    Malformed(
        "future_timestamp",
        lambda m, k: encoded({**m, TIME[k]: "2031-01-01T00:00:00.000Z"}),
        Reason.FUTURE_TIME,
    ),
    Malformed(
        "missing_id",
        lambda m, _: encoded({n: v for n, v in m.items() if n != "prediction_id"}),
        Reason.MISSING_FIELD,
    ),
    Malformed(
        "nested_wrong",
        lambda m, k: encoded({**m, INTENT[k]: {"name": "lost_card", "alternatives": [["x"]]}}),
        Reason.WRONG_TYPE,
    ),
    Malformed("empty_id", lambda m, _: encoded({**m, "prediction_id": ""}), Reason.EMPTY_ID),
    Malformed(
        "wrong_encoding", lambda m, _: encoded(m)[:-1] + b', "text": "caf\xe9"}', Reason.NOT_UTF8
    ),
    Malformed("negative_number", lambda m, k: encoded({**m, NUMBER[k]: -1}), Reason.OUT_OF_RANGE),
    Malformed("bad_json", lambda m, _: encoded(m)[:40], Reason.NOT_JSON),
    Malformed("huge", lambda m, _: padded(m, HUGE), Reason.TOO_LARGE),
    Malformed("oversize", lambda m, _: padded(m, OVERSIZE), Reason.TOO_LARGE),
    Malformed("tombstone", lambda *_: None, Reason.NULL_VALUE),
    Malformed("empty", lambda *_: b"", Reason.NOT_JSON),
    Malformed("array", lambda m, _: b"[" + encoded(m) + b"]", Reason.NOT_AN_OBJECT),
    Malformed("no_zone", lambda m, k: encoded({**m, TIME[k]: "2026-01-15"}), Reason.BAD_TIME),
)


class Story(NamedTuple):
    """What is fed, and what has to become of it: position -> (reason, key, value)."""

    records: list[Record]
    expected: dict[str, tuple[str, bytes | None, bytes | None]]


def good(kind: Kind, number: int) -> Message:
    build = prediction_message if kind is Kind.PREDICTIONS else label_message
    return build(prediction_id=f"p{number}")


def story(topics: Mapping[Kind, str]) -> Story:
    """Each malformed record stands between two good ones, on alternating partitions."""
    records: list[Record] = []
    expected: dict[str, tuple[str, bytes | None, bytes | None]] = {}
    for kind in Kind:
        offsets = [0] * PARTITIONS
        for number, (_, damage, reason) in enumerate(MALFORMED):
            partition = number % PARTITIONS
            key = None if number % 3 == 0 else f"key-{number}".encode()
            broken = damage(good(kind, 1_000 + number), kind)
            for value in (encoded(good(kind, number)), broken):
                place = Position(topics[kind], partition, offsets[partition])
                log_ms = T0 + 60_000 * number
                records.append(Record(kind, partition, place.offset, log_ms, key, value))
                offsets[partition] += 1
            expected[str(place)] = (reason, key, broken)
    return Story(records, expected)


@pytest.fixture
def settings(broker: KafkaConnection, valkey_url: str) -> Settings:
    name = secrets.token_hex(6)
    topics = {
        role: {"topic": f"{role}-{name}"}
        for role in ("predictions", "labels", "dead_letters", "journal")
    }
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": list(broker.bootstrap_servers), "group": name, **topics},
            "redis": {"url": valkey_url, "namespace": f"dead-{name}", "shards": 2},
            "intents": {"closed": True, "known": ["lost_card", "balance"]},
            "worker": {"batch_records": 7},
        }
    )


def fed(folder: Path, settings: Settings) -> Story:
    kafka = settings.kafka
    told = story({Kind.PREDICTIONS: kafka.predictions.topic, Kind.LABELS: kafka.labels.topic})
    feed_files(
        captured(folder, told.records),
        settings,
        speed=None,
        create_partitions=PARTITIONS,
        clock=SystemClock(),
        warn=pytest.fail,
        on_progress=lambda _: None,
    )
    return told


def caught_up(settings: Settings) -> dict[str, Any]:
    """The report after one run to the end of the topics."""
    Worker(settings, world_of(settings)).run(until_caught_up=True)
    reader = open_reader(settings)
    try:
        return present_report(reader, settings)
    finally:
        reader.close()


class DeadLetter(NamedTuple):
    """A record of the dead-letter topic."""

    position: str
    value: bytes | None
    headers: dict[str, str]


def dead_letters(settings: Settings) -> list[DeadLetter]:
    """All of them, in their order."""
    consumer = KafkaConsumer(
        settings.kafka.dead_letters.topic,
        bootstrap_servers=list(settings.kafka.bootstrap_servers),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        group_id=None,
    )
    found: list[DeadLetter] = []
    try:
        while not consumer.assignment():
            consumer.poll(timeout_ms=100)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(list(consumer.assignment()))
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for batch in consumer.poll(timeout_ms=500).values():
                for record in batch:
                    headers = {name: value.decode() for name, value in record.headers}
                    found.append(DeadLetter(record.key.decode(), record.value, headers))
    finally:
        consumer.close()
    return found


def test_every_malformed_record_is_a_dead_letter_and_counted_once_by_its_reason(
    tmp_path: Path, settings: Settings
) -> None:
    told = fed(tmp_path, settings)
    report = caught_up(settings)
    letters = dead_letters(settings)

    assert {each.position: each.value for each in letters} == {
        position: value for position, (_, _, value) in told.expected.items()
    }
    assert len(letters) == len(told.expected), "one dead letter for each"
    for letter in letters:
        reason, key, _ = told.expected[letter.position]
        topic, partition, offset = letter.position.replace("]@", "[").split("[")
        assert letter.headers["reason"] == reason, letter.position
        assert letter.headers["detail"]
        assert (
            letter.headers["topic"],
            letter.headers["partition"],
            letter.headers["offset"],
        ) == (topic, partition, offset)
        assert json.loads(letter.headers["key"]) == (None if key is None else key.decode())

    by_reason = Counter(str(malformed.reason) for malformed in MALFORMED)
    by_message = set(Reason) - {Reason.UNPROCESSABLE}
    assert set(by_reason) == set(map(str, by_message)), "a reason has no record here"
    for kind in Kind:
        side = report["ledger"][kind]
        assert side["rejected"] == by_reason
        assert side["received"] == 2 * len(MALFORMED)
    assert report["ledger"][Kind.PREDICTIONS]["labelled"] == len(MALFORMED)

    again = caught_up(settings)
    assert again["digest"] == report["digest"]
    assert len(dead_letters(settings)) == len(letters)
