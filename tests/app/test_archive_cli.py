"""The commands `recallwatch archive`, on a broker: what they print, and how they end."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monitor.adapters.archive import open_archive
from monitor.adapters.archive_files import MANIFEST
from monitor.adapters.history import HistoryLog
from monitor.adapters.history_sources import LogSources, joined
from monitor.adapters.kafka import KafkaConnection, KafkaSink, KafkaTopics
from monitor.app.archive import archived_topics, forget, kept_by
from monitor.app.archive_cli import archive
from monitor.app.brokers import open_log
from monitor.app.history import Place, Where, opened_history
from monitor.app.report import iso
from monitor.app.settings import Settings, load_settings
from monitor.app.wiring import codec_of
from monitor.codec.journal import pack_journal_entry
from monitor.domain.events import Kind, Record
from monitor.ports import OutRecord
from tests.adapters.test_archive import entry
from tests.app.story import history
from tests.app.test_cli import live, written
from tests.builders import T0
from tests.contracts.record_log import by_partition

FLAT_MS = T0


class Ended:
    def __init__(self, *arguments: object) -> None:
        result = CliRunner().invoke(archive, [str(each) for each in arguments])
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr
        self.error = result.exception


@pytest.fixture
def settings(embedded_broker: KafkaConnection) -> dict[str, Any]:
    """Topics that hold the story, and a journal of two entries; the store is away."""
    made = live(embedded_broker, None)
    names = {role: told["topic"] for role, told in made["kafka"].items() if role in TOPIC_ROLES}
    with KafkaTopics(embedded_broker) as admin:
        admin.ensure(dict.fromkeys(names.values(), 1), log_append_time=False, retention_ms=-1)
    one = entry(1)
    lines = [pack_journal_entry(each) for each in (one, entry(2, one))]
    with closing(KafkaSink(embedded_broker)) as sink:
        sink.publish(
            OutRecord(names[r.topic], r.key, r.value, partition=0, log_ms=FLAT_MS + n)
            for n, r in enumerate(history())
        )
        sink.publish(OutRecord(names["journal"], b"prod", line, partition=0) for line in lines)
    return made


TOPIC_ROLES = ("predictions", "labels", "journal")


@pytest.fixture
def config(settings: dict[str, Any], tmp_path: Path) -> Path:
    return written(tmp_path, settings)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def live_records(settings: Settings) -> list[Record]:
    return drained(HistoryLog(LogSources(open_log(settings)).sources()))


def drained(log: HistoryLog) -> list[Record]:
    found: list[Record] = []
    with closing(log):
        while batch := log.poll(50):
            found += batch
    return found


def test_a_copy_says_what_is_archived_and_its_digest(config: Path, place: Path) -> None:
    ended = Ended("copy", "--to", place, "--config", config)
    assert ended.code == 0
    made = open_archive(str(place))
    assert made.manifest.topics == archived_topics(load_settings(config))
    assert ended.out.startswith(f"records   {len(history()) + 2}\n")
    assert ended.out.endswith(f"digest    {made.digest}\n")
    assert "Settings of the past are not archived this time" in ended.err
    assert len(list(made.journal_lines("prod"))) == 2


def test_the_archive_holds_what_the_log_holds(config: Path, place: Path) -> None:
    Ended("copy", "--to", place, "--config", config)
    settings = load_settings(config)
    archived = drained(HistoryLog(open_archive(str(place)).sources()))
    assert by_partition(archived) == by_partition(live_records(settings))


@pytest.mark.parametrize("back_ms", [0, 86_400_000])
def test_an_archive_read_from_its_first_record_or_before_is_read_whole(
    config: Path, place: Path, back_ms: int
) -> None:
    Ended("copy", "--to", place, "--config", config)
    settings = load_settings(config)
    start = Place(instant_ms=FLAT_MS - back_ms)
    where = Where(archive=str(place), is_offline=True, start=start)
    with opened_history(settings, where) as log:
        found = drained(log)
    assert by_partition(found) == by_partition(live_records(settings))


def test_archive_and_log_are_read_as_the_log_alone(config: Path, place: Path) -> None:
    settings = load_settings(config)
    whole = live_records(settings)
    middle = sorted(record.log_ms for record in whole)[len(whole) // 2]
    ended = Ended("copy", "--to", place, "--until", iso(middle), "--config", config)
    assert ended.code == 0
    found = open_archive(str(place))
    assert 0 < found.manifest.records < len(whole)
    log = LogSources(open_log(settings))
    both = drained(HistoryLog(joined(found.sources(), log.sources())))
    assert by_partition(both) == by_partition(whole)


def test_a_second_copy_adds_nothing_to_the_first(config: Path, place: Path) -> None:
    first = Ended("copy", "--to", place, "--config", config)
    assert Ended("copy", "--to", place, "--config", config).out == first.out


def test_settings_of_the_past_are_archived_when_the_store_can_be_read(
    settings: dict[str, Any], tmp_path: Path, place: Path, valkey_url: str
) -> None:
    settings["redis"]["url"] = valkey_url
    ended = Ended("copy", "--to", place, "--config", written(tmp_path, settings))
    assert ended.code == 0
    assert "not archived" not in ended.err


@pytest.mark.parametrize("more", [(), ("--manifest-only",), ("--against-log",)])
def test_a_whole_archive_is_proved(config: Path, place: Path, more: tuple[str, ...]) -> None:
    Ended("copy", "--to", place, "--config", config)
    digest = open_archive(str(place)).digest
    ended = Ended("verify", place, "--digest", digest, "--config", config, *more)
    assert ended.code == 0
    assert ended.out.endswith(f"digest    {digest}\n")
    number = len(history()) + 2
    lines = {
        (): f"{number} records in 3 files: all are as archived",
        ("--manifest-only",): "3 files: all are as the manifest has them",
        ("--against-log",): f"{number} records compared with the log: all are the same",
    }
    assert lines[more] in ended.out.splitlines()


def test_a_proof_can_be_read_by_a_program(config: Path, place: Path) -> None:
    Ended("copy", "--to", place, "--config", config)
    told = json.loads(Ended("verify", place, "--config", config, "--format", "json").out)
    assert told["faults"] == []
    assert told["records_read"] == told["records"] == len(history()) + 2
    assert told["journal_entries"] == 2


def drop_a_file(place: Path) -> str:
    path = next(place.glob("predictions/*/*.parquet"))
    path.unlink()
    return f"{path}: file_missing"


def change_a_byte(place: Path) -> str:
    path = next(place.glob("labels/*/*.parquet"))
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    return f"{path}: file_altered"


@pytest.mark.parametrize("harm", [drop_a_file, change_a_byte])
def test_what_is_wrong_is_named_and_ends_with_1(
    config: Path, place: Path, harm: Callable[[Path], str]
) -> None:
    Ended("copy", "--to", place, "--config", config)
    says = harm(place)
    ended = Ended("verify", place, "--config", config)
    assert ended.code == 1
    assert any(line.startswith(says) for line in ended.out.splitlines())
    told = Ended("verify", place, "--config", config, "--format", "json")
    assert told.code == 1
    assert f"{json.loads(told.out)['faults'][0]['where']}: " == says[: says.index(": ") + 2]


def test_a_place_without_an_archive_is_named(config: Path, place: Path) -> None:
    ended = Ended("verify", place, "--config", config)
    assert f"{place}/{MANIFEST}: is not there" in str(ended.error)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["copy"], "--to"),
        (["copy", "--to", "there", "--until", "yesterday"], "--until"),
        (["verify"], "DIR_OR_URI"),
        (["verify", "there", "--against-log", "--manifest-only"], "one of"),
    ],
)
def test_a_wrong_call_ends_with_2(arguments: list[str], says: str) -> None:
    ended = Ended(*arguments)
    assert ended.code == 2
    assert says in ended.err


@pytest.mark.parametrize("command", ["copy", "verify"])
def test_help_has_an_example_that_could_be_typed(command: str) -> None:
    ended = Ended(command, "--help")
    assert ended.code == 0
    assert f"Example: recallwatch archive {command}" in ended.out


# Deletion requests


def test_a_forgotten_prediction_counts_as_it_did(config: Path, place: Path) -> None:
    Ended("copy", "--to", place, "--config", config)
    settings = load_settings(config)
    codec = codec_of(settings)
    before = drained(HistoryLog(open_archive(str(place)).sources()))
    done = forget(settings, str(place), {"p3", "p7"}, now_ms=FLAT_MS)
    after = drained(HistoryLog(open_archive(str(place)).sources()))
    assert {record.topic for record in done.positions}
    assert before != after
    assert list(map(codec.decode, after)) == list(map(codec.decode, before))
    ended = Ended("verify", place, "--config", config)
    said = f"{len(done.positions)} records redacted by request: their content is gone"
    assert said in ended.out.splitlines()


MESSAGE = {
    "event": "user",
    "message_id": "p1",
    "sender_id": "c1",
    "timestamp": 1.5,
    "text": "my words",
    "parse_data": {"intent": {"name": "lost_card", "confidence": 0.9}, "entities": ["Ada"]},
    "metadata": {"model_id": "v1", "user": "Ada"},
}


def test_fields_are_kept_where_the_mapping_finds_them(tmp_path: Path) -> None:
    told = {"mapping": {"predictions": {"preset": "rasa"}}}
    kept = kept_by(load_settings(written(tmp_path, told)))[Kind.PREDICTIONS]
    value = json.dumps(MESSAGE).encode()
    assert kept.id_of(value) == "p1"
    assert json.loads(kept.of(value)) == {
        "event": "user",
        "message_id": "p1",
        "sender_id": "c1",
        "timestamp": 1.5,
        "parse_data": {"intent": {"name": "lost_card", "confidence": 0.9}},
        "metadata": {"model_id": "v1"},
    }
