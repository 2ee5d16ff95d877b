"""One measured run, in a process and on a core of its own: ``python -m benchmarks.replay_runs``.

Reads its orders as JSON from the command line and writes a ``Run`` as JSON to standard output.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from kafka import KafkaConsumer, TopicPartition
from river.metrics import ConfusionMatrix

from benchmarks.replay_stream import settings_of
from monitor.adapters.files import FilesLog
from monitor.app.flow import uncollected
from monitor.app.history import Where, opened_history
from monitor.app.live import Worker, world_of
from monitor.app.replay import History, Replay
from monitor.app.report import report_of
from monitor.app.settings import Settings
from monitor.app.telemetry import configure_logging
from monitor.app.wiring import open_reader, spec_of, topics_of, verdict_limits_of
from monitor.domain.events import Kind
from monitor.domain.slices import ALL
from monitor.domain.windows import MINUTE_MS, Clock
from monitor.ports import StateReader

CORE = 0
"""Where runs are measured; everything else, the broker too, is kept off it if there are more."""

Result = TypeVar("Result")
Cell = tuple[str, str, str, str, int]
"""Minute, variant, actual, predicted, count."""


class Order(msgspec.Struct):
    """What to run: ``what`` is one of ``RUNS``; ``events`` are all records of the stream."""

    what: str
    folder: str
    bootstrap: str
    events: int
    redis_url: str = ""
    namespace: str = "bench"
    is_sliced: bool = False


class Run(msgspec.Struct):
    """What a run took: seconds of the wall and of CPU, and the greatest memory in MB.

    ``cells`` is a digest of the confusion matrices of each minute, ``digest`` that of the report.
    ``evaluation_s`` is how long a worker's evaluation took on average.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    cells: str
    digest: str = ""
    evaluation_s: float = 0.0


def plain_loop(order: Order) -> list[Cell]:
    """What one writes in an afternoon: kafka-python, json, a dict to join by, and river."""
    consumer = KafkaConsumer(
        bootstrap_servers=order.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    topics = topics_of(settings_of())
    consumer.assign(
        [TopicPartition(t, p) for t in topics.values() for p in consumer.partitions_for_topic(t)]
    )
    predictions: dict[str, tuple[str, str, str]] = {}
    labels: dict[str, str] = {}
    matrices: dict[tuple[str, str], ConfusionMatrix] = {}
    read = 0
    while read < order.events:
        for tp, records in consumer.poll(timeout_ms=1_000, max_records=5_000).items():
            read += len(records)
            for record in records:
                message = json.loads(record.value)
                key = message["prediction_id"]
                if tp.topic == topics[Kind.PREDICTIONS]:
                    prediction = (
                        message["event_time"][:16],
                        message["variant"],
                        message["predicted_intent"],
                    )
                    actual = labels.pop(key, None)
                    if actual is None:
                        predictions[key] = prediction
                        continue
                else:
                    actual = message["true_intent"]
                    met = predictions.pop(key, None)
                    if met is None:
                        labels[key] = actual
                        continue
                    prediction = met
                minute, variant, predicted = prediction
                matrix = matrices.get((minute, variant))
                if matrix is None:
                    matrix = matrices[minute, variant] = ConfusionMatrix()
                matrix.update(actual, predicted)
    consumer.close()
    return sorted(
        (minute, variant, actual, predicted, int(count))
        for (minute, variant), matrix in matrices.items()
        for actual, row in matrix.data.items()
        for predicted, count in row.items()
        if count
    )


@contextmanager
def _opened(order: Order) -> Iterator[History]:
    settings, folder = settings_of(order.bootstrap), Path(order.folder)
    if order.what in {"plain", "packed"}:
        with closing(FilesLog(folder / order.what, topics_of(settings))) as files:
            yield files
        return
    is_archive = order.what == "archive"
    where = Where(str(folder / "archive") if is_archive else None, is_offline=is_archive)
    with opened_history(settings, where) as log:
        yield log


def replay(order: Order) -> StateReader:
    """The product's replay, as ``recallwatch replay`` does it."""
    with uncollected(), _opened(order) as log:
        run = Replay(log, settings_of(order.bootstrap))
        run.run()
        run.finish()
    if run.records != order.events:
        raise SystemExit(f"{order.what}: {run.records} records, not {order.events}")
    return run.store


def worker(order: Order) -> tuple[StateReader, float]:
    """The product's worker, as ``recallwatch run --until-caught-up`` does it; durable in Redis.

    Also returns how long an evaluation took.
    """
    settings = _settings_of(order)
    if order.what == "fast":
        kafka = settings.kafka.model_copy(update={"client": "confluent-kafka"})
        settings = settings.model_copy(update={"kafka": kafka})
    worker = Worker(settings, world_of(settings, in_group=False))
    worker.run(until_caught_up=True)
    (family,) = worker.metrics.evaluation_seconds.collect()
    told = {sample.name.rpartition("_")[2]: sample.value for sample in family.samples}
    return open_reader(settings), told["sum"] / told["count"]


def _settings_of(order: Order) -> Settings:
    return settings_of(
        order.bootstrap,
        redis_url=order.redis_url,
        namespace=order.namespace,
        is_sliced=order.is_sliced,
    )


def measured(order: Order) -> Run:
    """Run and measure; what came of it is digested afterwards."""
    if order.what == "loop":
        counted, wall_s, cpu_s = _timed(lambda: plain_loop(order))
        return Run(wall_s, cpu_s, _peak_mb(), digest_of(counted))
    if order.what == "quix":
        from benchmarks import quix  # noqa: PLC0415 - not everybody has it

        counted, wall_s, cpu_s = _timed(lambda: quix.run(order))
        return Run(wall_s, cpu_s, _peak_mb(), digest_of(counted))
    evaluation_s = 0.0
    if order.what in {"worker", "fast"}:
        (store, evaluation_s), wall_s, cpu_s = _timed(lambda: worker(order))
    else:
        store, wall_s, cpu_s = _timed(lambda: replay(order))
    peak_mb, settings = _peak_mb(), _settings_of(order)
    report = report_of(store, spec_of(settings), verdict_limits_of(settings))
    cells = digest_of(_cells_of(store))
    store.close()
    return Run(wall_s, cpu_s, peak_mb, cells, str(report["digest"]), evaluation_s)


def _timed(run: Callable[[], Result]) -> tuple[Result, float, float]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - wall_s, time.process_time() - cpu_s


def _peak_mb() -> float:
    """Of this program alone: what ``getrusage`` tells is inherited from the one that started it."""
    status = Path("/proc/self/status").read_text()
    return next(
        int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if "VmHWM" in line
    )


def _cells_of(store: StateReader) -> list[Cell]:
    panes = store.pane_keys(MINUTE_MS)
    keys = [key for key in panes if key.clock is Clock.EVENT and key.key.slice == ALL]
    return sorted(
        (_minute(key.start_ms), key.key.variant, actual, predicted, count)
        for key, counts in zip(keys, store.panes(keys), strict=True)
        for (actual, predicted), count in counts.confusion.items()
    )


def _minute(start_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M", time.gmtime(start_ms // 1000))


def digest_of(cells: Iterable[Cell]) -> str:
    """How many cells, and a digest of them all."""
    found = list(cells)
    return f"{len(found)}:{hashlib.sha256(json.dumps(found).encode()).hexdigest()}"


if __name__ == "__main__":
    os.sched_setaffinity(0, {CORE})
    configure_logging("warning", "json")
    print(msgspec.json.encode(measured(msgspec.json.decode(sys.argv[1], type=Order))).decode())
