"""How fast is a replay, beside the loop that one would write by hand, and does it stay small?

One stream is written once: to Apache Kafka, from there to an archive, and to captured files. Then
the plain loop and the replays are run in turn, again and again, each in a process and on a core of
its own; the broker has the other one. All replays must give the same digest, and the loop the same
confusion matrices, minute by minute and cell by cell.

    python -m benchmarks replay --events 1000000
    python -m benchmarks replay --parts memory

Needs Java 17 and Maven for the broker, as the tests do; ``--parts plain packed archive`` does not
once ``--folder`` holds a stream that was written before.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from benchmarks.memory import resident_mb
from benchmarks.replay_runs import Order, Run
from benchmarks.replay_stream import (
    EVENTS_A_PREDICTION,
    PARTITIONS,
    capture,
    settings_of,
    stream,
)
from benchmarks.side_by_side import best, check_same, fill, keep_off_the_measured_core, lines, run
from monitor.app.archive import copy
from monitor.app.replay import Replay
from monitor.app.wiring import topics_of
from monitor.domain.events import NextOffsets, Partition, Record
from tests.servers.kafka import ApacheKafka

NAMES = {
    "loop": "plain loop: kafka-python, json, dict, river",
    "kafka": "replay from Kafka",
    "archive": "replay from an archive",
    "plain": "replay from captured files",
    "packed": "replay from captured files, gzipped",
    "memory": "",
}
ON_BROKER = {"loop", "kafka"}
NOWHERE = "127.0.0.1:9"
CALM_A_DAY = 200_000
"""Predictions of a day for the curve of memory."""

POINTS = (1_000_000, 2_000_000, 5_000_000, 10_000_000, 15_000_000, 20_000_000)
"""Events after which memory is looked at."""


def main(argv: list[str]) -> None:
    """Write the stream, measure, and print the tables."""
    chosen = _options(argv)
    parts = [part for part in chosen.parts if part != "memory"]
    if parts:
        keep_off_the_measured_core()
        with ExitStack() as stack:
            _measure(parts, chosen, stack)
    if "memory" in chosen.parts:
        _memory(chosen.most)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks replay", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="about so many (default 1 M)")
    parser.add_argument("--rounds", type=int, default=5, help="of all parts in turn (default 5)")
    parser.add_argument("--parts", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--folder", type=Path, help="keep the stream here, and use it again")
    parser.add_argument("--most", type=int, default=POINTS[-1], help="events for memory")
    return parser.parse_args(argv)


def _measure(parts: Sequence[str], chosen: argparse.Namespace, stack: ExitStack) -> None:
    folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if not (folder / "plain").is_dir():
        capture(stream(round(chosen.events / EVENTS_A_PREDICTION)), folder)
    events = sum(lines(path) for path in (folder / "plain").iterdir())
    bootstrap = NOWHERE
    if ON_BROKER & {*parts} or not (folder / "archive").is_dir():
        kafka = stack.enter_context(ApacheKafka(properties={"log.retention.ms": "-1"}))
        bootstrap = kafka.bootstrap_servers[0]
        fill(bootstrap, folder)
    if not (folder / "archive").is_dir():
        copy(settings_of(bootstrap), str(folder / "archive"), now_ms=0)
    runs: defaultdict[str, list[Run]] = defaultdict(list)
    for _ in range(chosen.rounds):
        for part in parts:
            runs[part].append(run(Order(part, str(folder), bootstrap, events)))
            print(f"  {part}: {runs[part][-1]}", file=sys.stderr, flush=True)
    check_same(runs)
    print("\n".join(_table(runs, events)), flush=True)


def _table(runs: Mapping[str, Sequence[Run]], events: int) -> Iterable[str]:
    """Markdown: rates by CPU, since the machine may have other work; best and median."""
    yield f"{events:,} events, {len(next(iter(runs.values())))} runs each"
    yield "| | events/s of one core, best (median) | CPU s per million | x plain loop | peak MB |"
    yield "|---|---:|---:|---:|---:|"
    plain = best(runs["loop"]) if "loop" in runs else None
    for part, found in runs.items():
        least, median = best(found), statistics.median(run.cpu_s for run in found)
        ratio = f"{plain / least:.2f}" if plain else "-"
        yield (
            f"| {NAMES[part]} | {events / least:,.0f} ({events / median:,.0f}) "
            f"| {least / events * 1e6:.2f} ({median / events * 1e6:.2f}) | {ratio} "
            f"| {max(run.peak_mb for run in found):,.0f} |"
        )


class StreamLog:
    """The stream itself as a log, made as it is read."""

    def __init__(self, predictions: int) -> None:
        self._records = stream(predictions, predictions_a_day=CALM_A_DAY)
        self._next: dict[Partition, int] = {
            Partition(topic, number): 0
            for topic in topics_of(settings_of()).values()
            for number in range(PARTITIONS)
        }
        self._is_ended = False

    def poll(self, max_records: int, _wait_ms: int | None = None) -> list[Record]:
        """The next records."""
        batch = list(islice(self._records, max_records))
        self._is_ended = len(batch) < max_records
        self._next.update({Partition(r.topic, r.partition): r.offset + 1 for r in batch})
        return batch

    @property
    def generation(self) -> int:
        """Always 0."""
        return 0

    def assigned(self) -> frozenset[Partition]:
        """All."""
        return frozenset(self._next)

    def partitions(self) -> frozenset[Partition]:
        """All."""
        return frozenset(self._next)

    def oldest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """Nothing is ever dropped."""
        return dict.fromkeys(partitions, 0)

    def newest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """As far as was made."""
        return {partition: self._next[partition] for partition in partitions}

    def places(self) -> NextOffsets:
        """As far as was made."""
        return dict(self._next)

    def seek(self, next_offsets: NextOffsets) -> None:
        """Made once, from the start."""

    def at_end(self) -> frozenset[Partition]:
        """All, when everything was polled."""
        return frozenset(self._next) if self._is_ended else frozenset()

    def lag(self) -> Mapping[Partition, int]:
        """Not known."""
        return {}

    def commit(self, next_offsets: NextOffsets) -> None:
        """No place is kept."""

    def close(self) -> None:
        """Nothing to leave."""


def _memory(most: int) -> None:
    """The curve, at a constant rate, over many times whatever is kept.

    A million events are two and a half days of log, and nothing is kept for longer than a day but
    one pane a day; with the retention that is the default, memory reaches its height after 90 days.
    """
    print("| events | days of log | memory, MB | events/s |\n|---:|---:|---:|---:|")
    due, started = [point for point in POINTS if point <= most], time.perf_counter()

    def tell(done: int, _left: int | None) -> None:
        if due and done >= due[0]:
            days = done / EVENTS_A_PREDICTION / CALM_A_DAY
            rate = done / (time.perf_counter() - started)
            print(
                f"| {due.pop(0):,} | {days:.0f} | {resident_mb():,.0f} | {rate:,.0f} |", flush=True
            )

    replay = Replay(
        StreamLog(round((most + 1_000_000) / EVENTS_A_PREDICTION)), settings_of(is_short=True)
    )
    replay.run(tell)
