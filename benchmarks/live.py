"""What does the durable worker cost, beside the loop that one would write by hand?

One stream is written to Apache Kafka. Then the plain loop, which keeps nothing across a crash, and
the worker, which counts exactly once into Redis, read it in turn, each from the start, in a process
and on a core of its own; broker and Redis have the other one. Redis writes an append-only file that
is synchronised each second. All must give the same confusion matrices, cell by cell.

``growth`` runs the worker over streams that are longer, or have more partitions, intents or slices.
``latency`` feeds a worker at a steady rate and looks at the store: how long from the moment
before a record is sent until what it says is counted, and until an alert that it raises is there.

    python -m benchmarks live --events 200000
    python -m benchmarks live --parts growth --most 5000000
    python -m benchmarks live --parts latency --rate 5000

Needs Java 17 and Maven for the broker, and ``redis-server``, as the tests do. Quix Streams is run
beside them where ``quixstreams`` is installed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path

import redis
import yaml

from benchmarks.memory import iso
from benchmarks.replay_runs import CORE, Order, Run
from benchmarks.replay_stream import (
    EVENTS_A_PREDICTION,
    INTENTS,
    PARTITIONS,
    Shape,
    capture,
    settings_of,
    stream,
)
from benchmarks.side_by_side import best, check_same, fill, keep_off_the_measured_core, lines, run
from monitor.adapters.kafka import KafkaConnection, KafkaSink, KafkaTopics
from monitor.app.settings import Settings
from monitor.app.wiring import open_reader, topics_of
from monitor.domain.alerts import Status
from monitor.domain.events import Kind, Partition
from monitor.ports import OutRecord, StateReader
from tests.servers.kafka import ApacheKafka
from tests.servers.redis import RedisServer

SMALL = 200_000
NAMES = {
    "loop": "plain loop: kafka-python, json, dict, river; nothing kept",
    "worker": "worker: exactly once, durable in Redis",
    "fast": "the same worker with kafka.client: confluent-kafka",
    "quix": "Quix Streams with changelog: the join alone, at least once",
}
NEEDED = {"fast": "confluent_kafka", "quix": "quixstreams"}
"""What is measured only where this module is installed."""

GROWN = {
    **{
        f"{events:,} events": (events, Shape())
        for events in (200_000, 1_000_000, 5_000_000, 20_000_000)
    },
    **{f"{n} partitions": (SMALL, Shape(partitions=n)) for n in (1, 16, 64)},
    **{f"{n} intents": (SMALL, Shape(intents=n)) for n in (1, 77, 200)},
    **{
        f"{n} channels, sliced and watched": (SMALL, Shape(channels=n, is_sliced=True))
        for n in (1, 10, 100, 1_000)
    },
}
"""Name of a stream -> about how many events, and what is unusual about it."""

DURABLE = {"appendonly": "yes", "appendfsync": "everysec", "auto-aof-rewrite-min-size": "1gb"}
TICK_S = 0.05
"""Between two sends of the feed, and the grain of what is measured of it."""

LOOK_S = 0.01
LABEL_AFTER_TICKS = 40
PATIENCE_S = 120.0


def main(argv: list[str]) -> None:
    """Write the stream, measure, and print the tables."""
    chosen = _options(argv)
    keep_off_the_measured_core()
    if "growth" in chosen.parts:
        print("\n".join(_growth(chosen.most)), flush=True)
    if set(chosen.parts) <= {"growth"}:
        return
    parts = [part for part in chosen.parts if part in NAMES]
    rate = chosen.rate
    if parts:
        with ExitStack() as stack:
            rate = _side_by_side(parts, chosen, *_servers(stack), stack) / 2
    if "latency" in chosen.parts:
        with ExitStack() as stack:
            print("\n".join(_latency(*_servers(stack), rate, chosen.seconds, stack)), flush=True)


def _servers(stack: ExitStack) -> tuple[str, RedisServer]:
    """Address of a broker, and a store; nothing is in them."""
    kafka = stack.enter_context(ApacheKafka(properties={"log.retention.ms": "-1"}))
    return kafka.bootstrap_servers[0], stack.enter_context(RedisServer(options=DURABLE))


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=int, default=200_000, help="about so many (200,000)")
    parser.add_argument("--rounds", type=int, default=3, help="of all parts in turn (3)")
    parser.add_argument("--parts", nargs="+", choices=[*NAMES, "growth", "latency"])
    parser.add_argument("--most", type=int, default=1_000_000, help="events of growth (1,000,000)")
    parser.add_argument("--rate", type=float, default=5_000, help="events/s, without the worker")
    parser.add_argument("--seconds", type=float, default=30, help="of latency (30)")
    here = [name for name in NAMES if name not in NEEDED or find_spec(NEEDED[name])]
    parser.set_defaults(parts=[*here, "latency"])
    return parser.parse_args(argv)


def _side_by_side(
    parts: Sequence[str],
    chosen: argparse.Namespace,
    bootstrap: str,
    server: RedisServer,
    stack: ExitStack,
) -> float:
    """Print the table; returns the worker's events a second, or the rate asked for."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    capture(stream(round(chosen.events / EVENTS_A_PREDICTION)), folder)
    events = sum(lines(path) for path in (folder / "plain").iterdir())
    fill(bootstrap, folder)
    runs: defaultdict[str, list[Run]] = defaultdict(list)
    of_redis: defaultdict[str, list[float]] = defaultdict(list)
    with closing(server.client()) as client:
        for number in range(chosen.rounds):
            for part in parts:
                before = _cpu_s(client)
                order = Order(
                    part, str(folder), bootstrap, events, server.url, f"bench{number}{part}"
                )
                runs[part].append(run(order))
                if part != "loop":
                    of_redis[part].append(_cpu_s(client) - before)
                print(f"  {part}: {runs[part][-1]}", file=sys.stderr, flush=True)
    check_same(runs)
    print("\n".join(_table(runs, of_redis, events)), flush=True)
    if "worker" not in parts:
        return float(2 * chosen.rate)
    return events / min(found.wall_s for found in runs["worker"])


def _growth(most: int) -> Iterator[str]:
    """What an event costs the worker when there is more of something."""
    yield "| stream | events | CPU us an event | of Redis | evaluation ms | peak MB | Redis MB |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, (events, shape) in GROWN.items():
        if events <= most:
            with ExitStack() as stack:
                yield _grown(name, events, shape, stack)


def _grown(name: str, events: int, shape: Shape, stack: ExitStack) -> str:
    bootstrap, server = _servers(stack)
    client = stack.enter_context(closing(server.client()))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    capture(stream(round(events / EVENTS_A_PREDICTION), shape=shape), folder)
    told = sum(lines(path) for path in (folder / "plain").iterdir())
    fill(bootstrap, folder, shape.partitions)
    before = _cpu_s(client)
    order = Order("worker", str(folder), bootstrap, told, server.url, is_sliced=shape.is_sliced)
    found = run(order)
    of_redis = (_cpu_s(client) - before) / told * 1e6
    held = client.info("memory")["used_memory"] / 1e6
    print(f"  {name}: {found}", file=sys.stderr, flush=True)
    return (
        f"| {name} | {told:,} | {found.cpu_s / told * 1e6:.1f} | {of_redis:.1f} "
        f"| {found.evaluation_s * 1e3:.1f} | {found.peak_mb:,.0f} | {held:,.0f} |"
    )


def _cpu_s(client: "redis.Redis") -> float:
    """Seconds of CPU that the server has used, those of its children included."""
    told = client.info("cpu")
    # Not all that begins with used_cpu: the main thread is told once more by itself.
    names = ("sys", "user", "sys_children", "user_children")
    return float(sum(told[f"used_cpu_{name}"] for name in names))


def _table(
    runs: Mapping[str, Sequence[Run]], of_redis: Mapping[str, Sequence[float]], events: int
) -> Iterator[str]:
    yield f"{events:,} events, {len(next(iter(runs.values())))} runs each: best (median)"
    yield "| | events/s | CPU s per million | of Redis | x plain loop | peak MB |"
    yield "|---|---:|---:|---:|---:|---:|"
    walls = {part: min(r.wall_s for r in found) for part, found in runs.items() if found}
    for part, found in runs.items():
        if not found:
            continue
        median = statistics.median(each.cpu_s for each in found)
        redis_s = f"{min(of_redis[part]) / events * 1e6:.1f}" if part in of_redis else "-"
        ratio = f"{walls['loop'] / walls[part]:.2f}" if "loop" in walls else "-"
        yield (
            f"| {NAMES[part]} | {events / walls[part]:,.0f} "
            f"| {best(found) / events * 1e6:.1f} ({median / events * 1e6:.1f}) | {redis_s} "
            f"| {ratio} | {max(each.peak_mb for each in found):,.0f} |"
        )


class _Feed:
    """Sends predictions and, two seconds later, their labels; knows when each record went.

    ``sent`` holds for each partition the instant before the send of each of its records.
    """

    def __init__(self, settings: Settings) -> None:
        told = settings.kafka
        self._sink = KafkaSink(KafkaConnection(tuple(told.bootstrap_servers)))
        self._topics = topics_of(settings)
        self._asked: list[list[int]] = []
        self._count = 0
        self.sent: defaultdict[Partition, list[float]] = defaultdict(list)

    def tick(self, records: int, *, is_missing: bool) -> None:
        """Send so many, half of them labels once there are predictions to label."""
        numbers = [*range(self._count, self._count + records // 2)]
        self._count += len(numbers)
        self._asked.append(numbers)
        due = self._asked.pop(0) if len(self._asked) > LABEL_AFTER_TICKS else []
        now_ms = time.time_ns() // 1_000_000
        out = [
            self._record(Kind.PREDICTIONS, n, _prediction(n, now_ms, is_missing)) for n in numbers
        ]
        out += [self._record(Kind.LABELS, n, _label(n, now_ms)) for n in due]
        self._sink.publish(out)

    def _record(self, kind: Kind, number: int, value: str) -> OutRecord:
        partition = Partition(self._topics[kind], number % PARTITIONS)
        self.sent[partition].append(time.monotonic())
        return OutRecord(
            partition.topic, str(number).encode(), value.encode(), partition=partition.partition
        )

    def close(self) -> None:
        """Leave the broker."""
        self._sink.close()


def _prediction(number: int, now_ms: int, is_missing: bool) -> str:
    said = number + 5 if is_missing else number
    return (
        f'{{"prediction_id": "p{number:015x}", "event_time": "{iso(now_ms)}", '
        f'"variant": "fine_tuned", "predicted_intent": "{INTENTS[said % 16]}", "latency_ms": 40.5}}'
    )


def _label(number: int, now_ms: int) -> str:
    return (
        f'{{"prediction_id": "p{number:015x}", "true_intent": "{INTENTS[number % 16]}", '
        f'"label_time": "{iso(now_ms)}", "label_id": "l{number:015x}"}}'
    )


def _latency(
    bootstrap: str, server: RedisServer, rate: float, seconds: float, stack: ExitStack
) -> Iterator[str]:
    settings = settings_of(bootstrap, redis_url=server.url, namespace="latency")
    settings = _steady(settings)
    with KafkaTopics(KafkaConnection((bootstrap,))) as admin:
        admin.ensure(dict.fromkeys(topics_of(settings).values(), PARTITIONS), log_append_time=False)
    _start(settings, Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
    feed = stack.enter_context(closing(_Feed(settings)))
    reader = stack.enter_context(closing(open_reader(settings)))
    ended, is_missing = threading.Event(), threading.Event()
    feeding = threading.Thread(target=_feed, args=(feed, rate, ended, is_missing))
    feeding.start()
    stack.callback(feeding.join)
    stack.callback(ended.set)
    _seen(feed, reader, until_s=time.monotonic() + 10)
    found = sorted(_seen(feed, reader, until_s=time.monotonic() + seconds))
    p50, p99 = (found[int(share * (len(found) - 1))] for share in (0.5, 0.99))
    yield f"{rate:,.0f} events/s, {len(found):,} records in {seconds:.0f} s"
    yield "| from the moment before a record is sent | s |"
    yield "|---|---:|"
    yield f"| until it is counted in Redis, p50 | {p50:.2f} |"
    yield f"| p99 | {p99:.2f} |"
    yield f"| greatest | {found[-1]:.2f} |"
    is_missing.set()
    yield f"| until the alert that the last one raised is there | {_alert_s(feed, reader):.2f} |"


def _steady(settings: Settings) -> Settings:
    """The same with topics of their own."""
    document = settings.model_dump(mode="json", exclude_unset=True)
    document["redis"]["url"] = settings.redis.url.get_secret_value()
    document["kafka"] |= {
        "predictions": {"topic": "live.predictions"},
        "labels": {"topic": "live.labels"},
    }
    return Settings.model_validate(document)


def _start(settings: Settings, folder: Path, stack: ExitStack) -> None:
    """A worker on the measured core; asked to stop at the end."""
    document = settings.model_dump(mode="json", exclude_unset=True)
    document["redis"]["url"] = settings.redis.url.get_secret_value()
    document["telemetry"] = {"port": 0}
    path = folder / "recallwatch.yaml"
    path.write_text(yaml.safe_dump(document))
    with (folder / "log").open("wb") as log:
        worker = subprocess.Popen(
            ["taskset", "-c", str(CORE), sys.executable, "-m", "monitor", "run", "--config", path],
            stdout=log,
            stderr=log,
        )
    stack.callback(worker.wait)
    stack.callback(worker.terminate)


def _feed(feed: _Feed, rate: float, ended: threading.Event, is_missing: threading.Event) -> None:
    due_s = time.monotonic()
    while not ended.is_set():
        feed.tick(round(rate * TICK_S), is_missing=is_missing.is_set())
        due_s += TICK_S
        ended.wait(max(0.0, due_s - time.monotonic()))


def _seen(feed: _Feed, reader: StateReader, *, until_s: float) -> list[float]:
    """Seconds that each record took, of all that were counted from now until then."""
    counted: dict[Partition, int] = {}
    found: list[float] = []
    while (now_s := time.monotonic()) < until_s:
        for partition, progress in reader.cuts()[0].items():
            before = counted.get(partition)
            counted[partition] = progress.next_offset
            if before is not None:
                sent = feed.sent[partition][before : progress.next_offset]
                found += [now_s - sent_s for sent_s in sent]
        time.sleep(LOOK_S)
    return found


def _alert_s(feed: _Feed, reader: StateReader) -> float:
    """Seconds from the send of the newest record that an alert knows until it is there."""
    patience_s = time.monotonic() + PATIENCE_S
    while (now_s := time.monotonic()) < patience_s:
        fired = [move for move in reader.transitions() if move.moved_to is Status.FIRING]
        if fired:
            cut = dict(fired[0].cut)
            sent = [found[cut[str(at)] - 1] for at, found in feed.sent.items() if cut.get(str(at))]
            return now_s - max(sent)
        time.sleep(LOOK_S)
    raise SystemExit("no alert was raised")
