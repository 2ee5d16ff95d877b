"""The same records give the same digest, however they are read and wherever state is kept."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, cycle
from pathlib import Path

import pytest

from monitor.adapters.files import FilesLog, capture_path, open_capture
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.app.replay import replay_files
from monitor.app.settings import Settings
from monitor.app.wiring import spec_of, topics_of
from monitor.domain.alerts import Event
from monitor.domain.events import Kind, Partition, Record
from monitor.domain.ledger import balance_of
from monitor.ports import RecordLog, StateStore
from tests.app.captures import captured
from tests.replay.scenarios import FOLDER, NAMES, NO_DATA, Scenario, replayed
from tests.replay.streams import (
    SCENARIO,
    SETTINGS,
    SPEC,
    T0_MS,
    Pick,
    PickedLog,
    at_random,
    by_key,
    digest_of,
    digest_of_capture,
    flow_of,
    memory_store,
    read_through,
    simulated,
)

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
MINUTE_MS = 60_000
FAR_MS = 2**50
_namespaces = count()

OpenStore = Callable[..., StateStore]


@pytest.fixture(scope="module")
def stream() -> list[Record]:
    """Two hours with corrections, copies, early labels, malformed records and an incident."""
    return simulated(SCENARIO, end_ms=T0_MS + 30 * MINUTE_MS)


@pytest.fixture(scope="module")
def digest(stream: list[Record], tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a replay of the captured stream gives."""
    return digest_of_capture(captured(tmp_path_factory.mktemp("stream"), stream))


@pytest.fixture
def valkey_store(valkey_url: str) -> Iterator[OpenStore]:
    opened: list[RedisStore] = []

    def open_store(shards: int = 1, settings: Settings = SETTINGS) -> RedisStore:
        keep_ms = spec_of(settings).windows.keep_ms
        namespace = f"digest-{next(_namespaces)}"
        opened.append(
            RedisStore(RedisConnection(valkey_url), namespace, shards=shards, keep_ms=keep_ms)
        )
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


def one_after_another() -> Pick:
    """Labels to their end before the first prediction is read."""
    return lambda behind: (behind[0], 50)


def last_first() -> Pick:
    return lambda behind: (behind[-1], 50)


def round_robin() -> Pick:
    turns = cycle(range(1_000))
    return lambda behind: (behind[next(turns) % len(behind)], 3)


def any_order() -> Pick:
    dice = random.Random(5)
    return lambda behind: (dice.choice(behind), dice.randint(1, 200))


ORDERS: Mapping[str, Callable[[], Pick]] = {
    "one after another": one_after_another,
    "last first": last_first,
    "round robin": round_robin,
    "any order": any_order,
}


def spread(records: Sequence[Record], partitions: int, how: str) -> list[Record]:
    if how == "by key":
        return by_key(records, partitions)
    return at_random(records, partitions, seed=partitions)


def test_the_stream_has_something_of_everything(stream: list[Record]) -> None:
    store = memory_store()
    read_through(PickedLog(stream, any_order()), store, 100)
    books = store.ledger()
    for counter in (
        "predictions.duplicate",
        "predictions.rejected.not_json",
        "labels.duplicate",
        "labels.early",
        "labels.superseded",
        "labels.corrected",
        "labels.rejected.not_json",
    ):
        assert books[counter] > 0, counter
    moves = {
        (move.key.variant, str(move.moved_to))
        for move in store.transitions()
        if move.rule == "urgent-recall" and move.event is Event.MOVED
    }
    assert moves == {("fine_tuned", "ok"), ("fine_tuned", "firing"), ("prompt", "ok")}


@pytest.mark.parametrize("batch", [1, 7, 100, 4_000])
def test_the_batch_size_does_not_show(
    stream: list[Record], digest: str, tmp_path: Path, batch: int
) -> None:
    assert digest_of_capture(captured(tmp_path, stream), batch) == digest


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("partitions", "how"),
    [(1, "by key"), (3, "by key"), (6, "by key"), (3, "at random"), (6, "at random")],
)
def test_neither_partitions_nor_reading_order_show(
    stream: list[Record], digest: str, partitions: int, how: str, order: str
) -> None:
    log = PickedLog(spread(stream, partitions, how), ORDERS[order]())
    assert read_through(log, memory_store(), 100) == digest


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("order", ORDERS)
def test_shards_do_not_show(stream: list[Record], digest: str, shards: int, order: str) -> None:
    log = PickedLog(at_random(stream, 3, seed=1), ORDERS[order]())
    assert read_through(log, memory_store(shards), 100) == digest


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize(("order", "batch"), [("any order", 40), ("one after another", 4_000)])
def test_the_store_does_not_show(
    stream: list[Record],
    digest: str,
    valkey_store: OpenStore,
    shards: int,
    order: str,
    batch: int,
) -> None:
    log = PickedLog(by_key(stream, 6), ORDERS[order]())
    assert read_through(log, valkey_store(shards), batch) == digest


@pytest.mark.parametrize("shards", [1, 4])
def test_a_number_of_workers_does_not_show(stream: list[Record], digest: str, shards: int) -> None:
    """Three flows on one store take turns; each reads its part of the partitions."""
    records, store, dice = at_random(stream, 3, seed=2), memory_store(shards), random.Random(3)
    logs = [PickedLog(records, any_order(), only=number) for number in range(3)]
    flows = [flow_of(log, store, 60) for log in logs]
    while any(any(log.lag().values()) for log in logs):
        flow = dice.choice(flows)
        flow.turn()
        if dice.random() < 0.5:
            flow.evaluate()
            flow.sweep()
    for flow, log in zip(flows, logs, strict=True):
        flow.mark_idle(log.at_end())
    flows[0].evaluate()
    assert digest_of(store) == digest


@pytest.mark.parametrize("shards", [1, 4])
def test_a_restart_does_not_show(stream: list[Record], digest: str, shards: int) -> None:
    """Every few turns the worker is replaced by one that knows only the store."""
    records, store = by_key(stream, 3), memory_store(shards)
    for number in count():
        log = PickedLog(records, any_order())
        flow = flow_of(log, store, 50)
        worked = [flow.turn().records for _ in range(number % 4 + 1)]
        if number % 2:
            flow.evaluate()
        if not any(worked):
            break
    assert read_through(PickedLog(records, any_order()), store, 50) == digest


def test_a_second_reading_of_everything_changes_nothing(stream: list[Record], digest: str) -> None:
    """A log that is read from the start again: what is before the cut is passed over."""

    class Forgetful(PickedLog):
        def seek(self, next_offsets: Mapping[Partition, int]) -> None:
            """Stay at the start, as if nothing had ever been committed."""

    store = memory_store()
    read_through(PickedLog(stream, any_order()), store, 100)
    assert read_through(Forgetful(stream, any_order()), store, 30) == digest


# Books


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shards", [1, 4])
def test_the_ledger_balances_after_every_batch(
    stream: list[Record], order: str, shards: int
) -> None:
    """At the time of the batch, and at times at which some or all of it has expired."""
    log, store = PickedLog(at_random(stream, 2, seed=4), ORDERS[order]()), memory_store(shards)
    flow, seen = flow_of(log, store, 23), 0
    while records := flow.turn().records:
        seen += records
        assert_balanced(store, seen)
        flow.evaluate()
        assert_balanced(store, seen)
    assert seen == len(stream)


def test_the_ledger_balances_after_every_record() -> None:
    log, store = golden_log(), memory_store()
    flow, seen = flow_of(log, store, 1), 0
    while flow.turn().records:
        seen += 1
        assert_balanced(store, seen)
    log.close()
    assert seen == len(golden_records())


def assert_balanced(store: StateStore, records: int) -> None:
    books, horizon_ms = store.ledger(), SPEC.windows.horizon_ms
    received = 0
    for kind in Kind:
        for watermark_ms in (0, T0_MS + horizon_ms, FAR_MS):
            side = balance_of(books, kind, watermark_ms=watermark_ms, horizon_ms=horizon_ms)
            assert side.difference == 0
            assert min(side.accepted, side.duplicate, side.expired, *side.parts.values()) >= 0
        received += side.received
    assert received == records


# Golden


def golden_log() -> RecordLog:
    return FilesLog(GOLDEN, topics_of(SETTINGS))


def golden_records() -> list[bytes]:
    lines: list[bytes] = []
    for kind in Kind:
        with open_capture(capture_path(GOLDEN, kind)) as capture:
            lines += capture
    return lines


def golden_digest() -> str:
    return (GOLDEN / "digest.txt").read_text("ascii").strip()


def test_no_number_has_changed_since_the_golden_digest_was_written() -> None:
    """Write another digest.txt only if you can say why a number had to change.

    The records are simulated, save that by hand some truths were withdrawn and a prediction lost.
    """
    assert digest_of_capture(GOLDEN) == golden_digest()


def test_the_golden_records_have_something_of_everything() -> None:
    store = replay_files(GOLDEN, SETTINGS)
    books = store.ledger()
    for counter in (
        "predictions.duplicate",
        "predictions.labelled",
        "labels.corrected",
        "labels.duplicate",
        "labels.early",
        "labels.superseded",
    ):
        assert books[counter] > 0, counter
    for start in ("predictions.pending@", "predictions.rejected.", "labels.orphan@"):
        assert any(counter.startswith(start) for counter in books), start
    assert b'"withdrawn' in b"".join(golden_records())
    assert "firing" in {str(move.moved_to) for move in store.transitions()}


def test_the_hash_seed_of_the_process_does_not_show() -> None:
    """Four processes at once, as each takes a second to start."""
    program = (
        "import sys, pathlib; from tests.replay.streams import digest_of_capture\n"
        "print(digest_of_capture(pathlib.Path(sys.argv[1]), 50))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(GOLDEN)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    answers = [process.communicate()[0].strip() for process in processes]
    assert answers == [golden_digest()] * 4


def test_one_number_more_is_another_digest(tmp_path: Path) -> None:
    log = golden_log()
    records = log.poll(1_000)
    log.close()
    assert digest_of_capture(captured(tmp_path / "same", records)) == golden_digest()
    assert digest_of_capture(captured(tmp_path / "less", records[:-1])) != golden_digest()


# Real data


@pytest.mark.skipif(not FOLDER.is_dir(), reason=NO_DATA)
@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("name", NAMES)
def test_real_data_gives_the_same_digest_on_valkey(
    valkey_store: OpenStore, name: str, shards: int
) -> None:
    scenario = Scenario(name)
    settings = scenario.settings()
    log = FilesLog(scenario.folder, topics_of(settings))
    try:
        digest = read_through(log, valkey_store(shards, settings), 900 * shards, settings)
    finally:
        log.close()
    assert digest == replayed(scenario).report["digest"]
