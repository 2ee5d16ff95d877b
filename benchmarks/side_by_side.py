"""What benchmarks that run side by side share: a filled broker, a core for the one measured."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks.replay_runs import CORE, Order, Run
from benchmarks.replay_stream import PARTITIONS, settings_of
from monitor.adapters.files import FilesLog
from monitor.adapters.kafka import KafkaConnection, KafkaSink, KafkaTopics
from monitor.app.wiring import topics_of
from monitor.ports import OutRecord


def keep_off_the_measured_core() -> None:
    """For this process and all that it starts; runs go back to it by themselves."""
    os.sched_setaffinity(0, (os.sched_getaffinity(0) - {CORE}) or {CORE})


def fill(bootstrap: str, folder: Path, partitions: int = PARTITIONS) -> None:
    """Write the captured stream to the topics, with its log times and partitions."""
    settings = settings_of(bootstrap)
    connection, topics = KafkaConnection((bootstrap,)), topics_of(settings)
    with KafkaTopics(connection) as admin:
        admin.ensure(dict.fromkeys(topics.values(), partitions), log_append_time=False)
    sink, files = KafkaSink(connection), FilesLog(folder / "plain", topics)
    while records := files.poll(10_000):
        sink.publish(
            OutRecord(r.topic, r.key, r.value, partition=r.partition, log_ms=r.log_ms)
            for r in records
        )
    sink.close()


def lines(path: Path) -> int:
    """Lines of a file."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


def run(order: Order) -> Run:
    """Run it in a process and on a core of its own."""
    command = [sys.executable, "-m", "benchmarks.replay_runs", msgspec.json.encode(order).decode()]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return msgspec.json.decode(done.stdout, type=Run)


def check_same(runs: Mapping[str, Sequence[Run]]) -> None:
    """End when the runs do not agree: in the matrices of each minute, or in digests."""
    cells = {run.cells for found in runs.values() for run in found}
    digests = {run.digest for found in runs.values() for run in found} - {""}
    if len(cells) != 1 or len(digests) > 1:
        raise SystemExit(f"not the same: cells {cells}, digests {digests}")
    print(f"one digest, {digests or '(loop alone)'}; {cells.pop().split(':')[0]} equal cells")


def best(found: Iterable[Run]) -> float:
    """The least CPU seconds: the machine may have other work."""
    return min(run.cpu_s for run in found)
