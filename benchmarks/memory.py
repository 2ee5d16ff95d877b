"""Does the worker stay flat, and what does a prediction that waits cost in Redis?

The whole flow, from record bytes to a real Valkey, over simulated traffic whose labels come hours
later, with a label horizon of a day: state must reach a plateau once the first day is over, and
the worker's own memory must not follow it. The broker is left out (the embedded one would keep ten
million records in memory), so the rate printed is that of the flow, not of a deployment.

    python -m benchmarks memory --predictions 10000000
"""

import argparse
import random
import tempfile
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import msgspec
import redis

from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.app.embedded import embedded_servers
from monitor.app.flow import Flow, Limits
from monitor.codec.records import RecordCodec
from monitor.domain.engine import Spec
from monitor.domain.events import Kind, NextOffsets, Partition, Record
from monitor.domain.ledger import balance_of
from monitor.domain.rules import AlertRule
from monitor.domain.slices import Groups
from monitor.domain.windows import DAY_MS, HOUR_MS, MINUTE_MS, WindowSpec

START_MS = 1_772_409_600_000
DAYS = 3
"""Log time that the predictions are spread over: two days past the first horizon."""

LABELLED = 0.965
MEDIAN_DELAY_MS = 2 * HOUR_MS
INTENTS = tuple(f"intent_{number:02d}" for number in range(16))
URGENT = frozenset(INTENTS[:3])
SAMPLES = 24
"""Lines of the curve."""


class SimulatedLog:
    """Predictions, and labels after a lognormal delay, as one partition each.

    What is still to come is kept as numbers alone, so that the memory measured is the worker's.
    """

    def __init__(self, predictions: int, seed: int, labelled: float = LABELLED) -> None:
        self._labelled = labelled
        self._records = self._simulated(predictions, random.Random(seed))
        self._next = {Partition(str(kind), 0): 0 for kind in Kind}
        self._is_ended = False

    def _simulated(self, predictions: int, dice: random.Random) -> Iterator[Record]:
        step_ms = DAYS * DAY_MS / predictions
        due: dict[int, array[int]] = {}  # minute -> numbers of the labels that arrive in it
        offsets = dict.fromkeys(Kind, 0)
        minute = START_MS // MINUTE_MS

        def record(kind: Kind, log_ms: int, fields: dict[str, object]) -> Record:
            offsets[kind] += 1
            value = msgspec.json.encode(fields)
            return Record(str(kind), 0, offsets[kind] - 1, log_ms, None, value)

        for number in range(predictions):
            now_ms = START_MS + int(number * step_ms)
            while minute < now_ms // MINUTE_MS:
                minute += 1
                for labelled in due.pop(minute, ()):
                    yield record(Kind.LABELS, minute * MINUTE_MS, _label(labelled, minute))
            yield record(Kind.PREDICTIONS, now_ms, _prediction(number, now_ms))
            if dice.random() < self._labelled:
                delay_ms = int(dice.lognormvariate(0, 1) * MEDIAN_DELAY_MS)
                due.setdefault((now_ms + delay_ms) // MINUTE_MS + 1, array("Q")).append(number)

    def poll(self, max_records: int, _wait_ms: int | None = None) -> list[Record]:
        """The next records in log order."""
        batch = list(islice(self._records, max_records))
        self._is_ended = len(batch) < max_records
        for record in batch:
            self._next[Partition(record.topic, record.partition)] = record.offset + 1
        return batch

    @property
    def generation(self) -> int:
        """Always 0."""
        return 0

    def assigned(self) -> frozenset[Partition]:
        """Both partitions."""
        return frozenset(self._next)

    def partitions(self) -> frozenset[Partition]:
        """Both partitions."""
        return frozenset(self._next)

    def oldest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """Nothing is ever dropped."""
        return dict.fromkeys(partitions, 0)

    def newest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """As far as was simulated."""
        return {partition: self._next[partition] for partition in partitions}

    def places(self) -> NextOffsets:
        """As far as was simulated."""
        return dict(self._next)

    def seek(self, next_offsets: NextOffsets) -> None:
        """Simulated once, from the start."""

    def at_end(self) -> frozenset[Partition]:
        """Both partitions, when everything was polled."""
        return frozenset(self._next) if self._is_ended else frozenset()

    def lag(self) -> Mapping[Partition, int]:
        """Not known."""
        return {}

    def commit(self, next_offsets: NextOffsets) -> None:
        """No place is kept."""

    def close(self) -> None:
        """Nothing to leave."""


def _actual(number: int) -> str:
    return INTENTS[number * 2_654_435_761 % 2**32 >> 7 & 15]


def _prediction(number: int, now_ms: int) -> dict[str, object]:
    is_right = number % 20 != 0
    return {
        "prediction_id": f"{number:016x}",
        "event_time": iso(now_ms),
        "variant": "fine_tuned",
        "predicted_intent": _actual(number if is_right else number + 1),
        "confidence": 0.9,
        "latency_ms": 40.0,
    }


def _label(number: int, minute: int) -> dict[str, object]:
    return {
        "prediction_id": f"{number:016x}",
        "true_intent": _actual(number),
        "label_time": iso(minute * MINUTE_MS),
        "label_id": f"L{number:015x}",
    }


def main(options: list[str]) -> None:
    """Print the curve, and bytes for each entry in Redis."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("--predictions", type=int, default=10_000_000)
    parser.add_argument("--buckets", type=int, help="default: one for 100 predictions of a day")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(options)
    buckets = chosen.buckets or max(64, chosen.predictions // DAYS // 100)
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded_servers(Path(folder), broker=False) as endpoints,
    ):
        client = redis.Redis.from_url(endpoints.redis_url)
        _pending_only(endpoints.redis_url, client)
        client.flushall()
        _measure(endpoints.redis_url, client, chosen.predictions, buckets, chosen.seed)


def _pending_only(url: str, client: "redis.Redis") -> None:
    """Bytes for one waiting prediction: 200,000 of them, no labels, 2,000 buckets."""
    count = 200_000
    before = _used(client)
    spec = Spec(windows=WindowSpec(keep_ms={}))
    store = RedisStore(RedisConnection(url), "pending", buckets=count // 100, keep_ms={})
    log = SimulatedLog(count, seed=1, labelled=0.0)
    flow = Flow(spec, RecordCodec(), log, store, limits=Limits(4_000))
    while flow.turn().records:
        pass
    store.close()
    print(
        f"pending prediction (16-character id, one variant): "
        f"{(_used(client) - before) / count:.1f} bytes of Valkey",
        flush=True,
    )


def _measure(url: str, client: "redis.Redis", predictions: int, buckets: int, seed: int) -> None:
    windows = WindowSpec(
        horizon_ms=DAY_MS,
        keep_ms={MINUTE_MS: DAY_MS // 4, HOUR_MS: 90 * DAY_MS, DAY_MS: 1095 * DAY_MS},
    )
    rule = AlertRule("urgent-recall", "urgent", URGENT, 0.80)
    spec = Spec(groups=Groups({"urgent": URGENT}), windows=windows, rules=(rule,))
    store = RedisStore(RedisConnection(url), "bench", buckets=buckets, keep_ms=windows.keep_ms)
    log = SimulatedLog(predictions, seed)
    flow = Flow(spec, RecordCodec(), log, store, limits=Limits(4_000))
    print(
        f"{'predictions':>12} {'events/s':>9} {'worker MB':>10} {'entries':>10} {'pending':>10} "
        f"{'Valkey MB':>10} {'bytes/entry':>12}"
    )
    events, started, shown = 0, time.perf_counter(), 0
    while records := flow.turn().records:
        events += records
        flow.evaluate()
        flow.sweep()
        books = store.ledger() if events - shown >= 2 * predictions / SAMPLES else {}
        if books:
            shown = events
            _line(client, store, books, events / (time.perf_counter() - started), buckets)
    flow.mark_idle(log.at_end())
    flow.evaluate()
    _line(client, store, store.ledger(), events / (time.perf_counter() - started), buckets)
    store.close()


def _line(
    client: "redis.Redis", store: RedisStore, books: Mapping[str, int], rate: float, buckets: int
) -> None:
    watermark_ms = store.evaluation().watermark_ms or 0
    side = balance_of(books, Kind.PREDICTIONS, watermark_ms=watermark_ms, horizon_ms=DAY_MS)
    entries = _entries(client, buckets)
    used = _used(client)
    print(
        f"{side.received:>12,} {rate:>9,.0f} {resident_mb():>10.1f} {entries:>10,} "
        f"{side.parts['pending']:>10,} {used / 1e6:>10.1f} {used / max(1, entries):>12.1f}",
        flush=True,
    )


def _entries(client: "redis.Redis", buckets: int) -> int:
    """Entries in the store, from a sample of one bucket in ten."""
    pipe = client.pipeline(transaction=False)
    sampled = range(0, buckets, 10)
    for bucket in sampled:
        pipe.hlen(f"{{bench:0}}:e:{bucket}")
    return int(sum(pipe.execute()) * buckets / len(sampled))


def _used(client: "redis.Redis") -> int:
    return int(client.info("memory")["used_memory"])


def resident_mb() -> float:
    """Resident memory of this process; Linux counts it in pages of 4 KiB."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096 / 1e6


def iso(instant_ms: int) -> str:
    """ISO 8601 in UTC, with milliseconds."""
    seconds, millis = divmod(instant_ms, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{millis:03d}Z"
