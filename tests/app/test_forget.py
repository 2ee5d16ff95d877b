"""`recallwatch forget`: what was asked for is carried out by whoever evaluates, and said."""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from monitor.adapters.archive import Archive, Folder, copy_topics, open_archive
from monitor.adapters.history import HistoryLog
from monitor.adapters.kafka import KafkaConnection, KafkaTopics
from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.app.archive import forget
from monitor.app.audit import verify
from monitor.app.flow import Flow
from monitor.app.forgetting import Asked, Forgot, archived, await_all, enter, history_of, lines_of
from monitor.app.settings import Settings, load_settings
from monitor.app.wiring import open_reader, open_store, provenance_of
from monitor.codec.journal import forgotten_hash
from monitor.domain.errors import StoreError
from monitor.domain.events import Partition, PredictionId, Record
from monitor.domain.forgetting import MOST_IDS
from tests.adapters.histories import PREDICTIONS, ListSource, record
from tests.adapters.test_archive import archived as in_archive
from tests.app.story import CODEC, SETTINGS, SPEC, TOPICS, filled, history
from tests.app.test_audit import Watched, case_of, usual
from tests.app.test_cli import Run, live, run, written
from tests.app.test_forget_audit import ids_in
from tests.contracts.record_log import by_partition
from tests.replay.streams import SETTINGS as STREAM

__all__ = ["run"]

MEMORY = Settings.model_validate(SETTINGS)
T0_MS = 1_800_000_000_000


class Hand:
    """A clock that waiting moves; something may happen meanwhile."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._now_ms, self._meanwhile = T0_MS, meanwhile

    def now_ms(self) -> int:
        return self._now_ms

    def wait(self, seconds: float) -> None:
        self._now_ms += round(1_000 * seconds)
        self._meanwhile()


def flow_on(store: MemoryStore, records: Sequence[Record]) -> Flow:
    """A worker that has read the records."""
    flow = Flow(SPEC, CODEC, filled(MemoryLog(TOPICS), records), store)
    flow.provenance = provenance_of(MEMORY)
    while flow.turn().records:
        pass
    return flow


def wish(*names: str) -> Asked:
    return Asked([PredictionId(name) for name in names], "kim", "ticket 7")


@pytest.fixture
def store() -> MemoryStore:
    """After the story, with all its records read and evaluated."""
    store = MemoryStore(2)
    flow = flow_on(store, history())
    flow.evaluate()
    flow.resign()
    return store


def awaited(store: MemoryStore, asked: Asked, hand: Hand | None = None) -> list[str]:
    """The ids of the requests, once they are carried out."""
    hand = hand or Hand()
    requests = enter(store, asked, hand.now_ms())
    await_all(store, MEMORY, requests, clock=hand, wait=hand.wait)
    return [request.id for request in requests]


# Whoever evaluates


def test_the_command_carries_it_out_itself_when_nobody_evaluates(store: MemoryStore) -> None:
    before = dict(store.ledger())
    (request,) = awaited(store, wish("p118", "p119"))
    assert store.known(map(PredictionId, ["p117", "p118", "p119"])) == {"p117"}
    assert dict(store.ledger()) == before
    last = store.journal()[-1]
    assert last.sequence == store.evaluation().sequence
    assert last.hash == store.evaluation().chain
    assert {each.request for each in last.forgot} == {request}
    assert {name for each in last.forgot for name in each.hashes} == {
        forgotten_hash(request, name) for name in ("p118", "p119")
    }
    assert store.lead("somebody else", 0) is not None


def test_a_worker_that_evaluates_is_waited_for(store: MemoryStore) -> None:
    worker = flow_on(store, history())
    worker.evaluate()
    awaited(store, wish("p118"), Hand(meanwhile=worker.evaluate))
    assert not store.known([PredictionId("p118")])
    assert store.lead("somebody else", 0) is None


def test_a_worker_that_does_not_know_how_is_given_up_on_with_what_to_do(
    store: MemoryStore,
) -> None:
    store.lead("an older release", 60_000)
    with pytest.raises(StoreError, match="stop the workers, and give the command again"):
        awaited(store, wish("p118"))
    assert [request.ids for request in store.to_forget()] == [("p118",)]
    assert store.known([PredictionId("p118")])


def test_what_is_counted_next_is_counted_under_the_settings_of_the_last_evaluation(
    store: MemoryStore,
) -> None:
    """The command may be given where the settings are others."""
    other = Settings.model_validate({**SETTINGS, "rules": []})
    hand = Hand()
    requests = enter(store, wish("p118"), hand.now_ms())
    await_all(store, other, requests, clock=hand, wait=hand.wait)
    first, *_, last = store.journal()
    assert last.forgot
    assert last.settings == first.settings


def test_many_ids_make_several_requests(store: MemoryStore) -> None:
    asked = wish(*(f"p{number}" for number in range(MOST_IDS + 1)), "p0")
    requests = enter(store, asked, T0_MS)
    assert [len(request.ids) for request in requests] == [MOST_IDS, 1]
    assert len(store.to_forget()) == 2


def test_who_asked_is_history_without_the_ids(store: MemoryStore) -> None:
    (request,) = awaited(store, wish("p118"))
    enter(store, Asked([PredictionId("p7")], "lee", ""), T0_MS)
    first, second = history_of(store)
    assert first == {
        "id": request,
        "at": "2027-01-15T08:00:00.000Z",
        "who": "kim",
        "note": "ticket 7",
        "is_carried_out": True,
        "hashes": [forgotten_hash(request, "p118")],
    }
    assert (second["who"], second["is_carried_out"]) == ("lee", False)


# Archives


@pytest.fixture
def watched() -> Watched:
    return usual()


@pytest.fixture
def archive(tmp_path: Path, watched: Watched) -> Archive:
    return in_archive(tmp_path / "archive", by_partition(list(watched.records)))


def test_an_audit_of_a_redacted_archive_holds(
    tmp_path: Path, watched: Watched, archive: Archive
) -> None:
    place, gone = str(tmp_path / "archive"), set(ids_in(watched.records)[:20])
    texts = archived(STREAM, place, gone)
    done = forget(STREAM, place, gone, now_ms=T0_MS)
    assert len(done.positions) == texts >= len(gone)
    assert archived(STREAM, place, gone) == 0
    left = open_archive(place)
    case = case_of(watched, settings_for=lambda _: STREAM)
    blind = verify(HistoryLog(left.sources()), case)
    assert "checksum" in str(blind.differences[0])
    case = case_of(watched, settings_for=lambda _: STREAM, redacted=left.redacted())
    result = verify(HistoryLog(left.sources()), case)
    assert result.differences == []
    assert result.entries == len(watched.entries)


def test_what_was_done_is_said_with_what_was_left(tmp_path: Path) -> None:
    records = [
        record(PREDICTIONS, 0, 0, b'{"prediction_id": "p1", "text": "hello"}'),
        record(PREDICTIONS, 1, 1, b"p1: no JSON"),
    ]
    in_archive(tmp_path / "archive", {PREDICTIONS: records})
    place = str(tmp_path / "archive")
    done = Forgot(2, 1, ["r1"], {place: forget(MEMORY, place, {"p1", "p2"}, now_ms=T0_MS)})
    store, archive, digest, left = lines_of(done)
    assert store == "store     1 of 2 predictions forgotten, by request r1"
    assert archive == f"archive   {place}: 1 records redacted"
    assert digest == f"digest    {open_archive(place).digest}"
    assert left.startswith("left      predictions[0]@1: mentions an id, but is no JSON")


# The command


@pytest.fixture
def config(tmp_path: Path, valkey_url: str, embedded_broker: KafkaConnection) -> Path:
    """A namespace that holds the story, and topics that drop records after a week, or never."""
    settings = live(embedded_broker, valkey_url)
    names = {role: settings["kafka"][role]["topic"] for role in ("predictions", "labels")}
    with KafkaTopics(embedded_broker) as admin:
        week_ms = 7 * 24 * 3_600_000
        for name, kept_ms in zip(names.values(), (week_ms, -1), strict=True):
            admin.ensure({name: 1}, log_append_time=False, retention_ms=kept_ms)
    path = written(tmp_path, settings)
    with closing(open_store(load_settings(path))) as store:
        log = filled(MemoryLog(TOPICS), history())
        flow = Flow(SPEC, CODEC, log, store)
        while flow.turn().records:
            pass
        flow.evaluate()
        flow.resign()
    return path


def known(config: Path, *names: str) -> set[PredictionId]:
    with closing(open_reader(load_settings(config))) as reader:
        return reader.known(map(PredictionId, names))


def test_the_command_forgets_in_store_and_archive_and_says_how_long_kafka_keeps_records(
    run: Run, config: Path, tmp_path: Path
) -> None:
    topic = Partition(load_settings(config).kafka.predictions.topic, 0)
    names = {"predictions": topic.topic, "labels": "l", "journal": "j"}
    said = record(topic, 0, 0, b'{"prediction_id": "p118", "text": "hello"}')
    place = tmp_path / "archive"
    source = {topic: ListSource([said])}
    copy_topics(Folder.at(str(place)), names, source, now_ms=T0_MS)
    fixed = ("--config", config, "--archive", place)
    looked = run("forget", "p118", "--dry-run", *fixed)
    assert looked.code == 0
    assert looked.out.splitlines() == [
        "store     holds something of 1 of 1 predictions",
        f"archive   {place}: 1 records of theirs have content",
    ]
    more = tmp_path / "more.txt"
    more.write_text("p119\n\n nobody \np119\n")
    done = run("forget", "p118", "--from-file", more, "--who", "kim", "--yes", *fixed)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("store     2 of 3 predictions forgotten, by request ")
    assert lines[1] == f"archive   {place}: 1 records redacted"
    assert lines[3:] == [
        f"kafka     topic {topic.topic}: records are dropped when they are 7d old",
        f"kafka     topic {load_settings(config).kafka.labels.topic}: records are kept for ever "
        "(retention.ms=-1): only deleting the topic removes them",
    ]
    assert known(config, "p117", "p118", "p119") == {"p117"}
    again = run("forget", "p118", "--yes", "--format", "json", *fixed)
    assert (again.code, json.loads(again.out)["forgotten"]) == (1, 0)
    assert run("forget", "p118", "--dry-run", *fixed).code == 1
    told = run("forget", "--history", "--config", config)
    assert (told.code, " 2 by kim" in told.out, "p118" in told.out) == (0, True, False)


def test_nothing_is_forgotten_without_a_yes(run: Run, config: Path) -> None:
    ended = run("forget", "p118", "--config", config)
    assert (ended.code, "--yes" in ended.err) == (2, True)
    assert known(config, "p118")


def test_an_id_has_to_be_named(run: Run) -> None:
    ended = run("forget", "--yes")
    assert (ended.code, "--from-file" in ended.err) == (2, True)
