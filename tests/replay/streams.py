"""Small simulated streams, ways to read them, and the digest that comes of it."""

import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import takewhile
from pathlib import Path

from monitor.adapters.memory import MemoryStore
from monitor.app.flow import Flow, Limits
from monitor.app.replay import replay_files
from monitor.app.report import report_of
from monitor.app.settings import Settings
from monitor.app.simulate import URGENT, Scenario, simulate
from monitor.app.wiring import codec_of, spec_of, verdict_limits_of
from monitor.domain.events import NextOffsets, Partition, Record
from monitor.ports import RecordLog, StateReader, StateStore

T0_MS = 1_795_341_600_000
"""A full hour; the release that breaks ``fine_tuned`` comes 40 minutes earlier."""

SCENARIO = Scenario(
    seed=11,
    history=timedelta(minutes=90),
    incident_ago=timedelta(minutes=40),
    mean_rate=0.12,
    rhythm=0,
    urgent_share=0.4,
    review_median=timedelta(minutes=15),
    callback_median=timedelta(minutes=10),
    escalation_median=timedelta(minutes=5),
    correction_share=0.05,
    duplicate_share=0.05,
    early_label_share=0.03,
    malformed_share=0.02,
)
SETTINGS = Settings.model_validate(
    {
        "intents": {"groups": {"urgent": sorted(URGENT)}},
        "slices": ["variant", "channel"],
        "rules": [
            {
                "name": "urgent-recall",
                "of": "urgent",
                "per": ["variant"],
                "objective": 0.8,
                "maturity": "15m",
                "hold": "5m",
                "detector": "glance",
                "hindsight": "15m",
            },
            {
                "name": "urgent-evidence",
                "of": "urgent",
                "per": ["variant"],
                "objective": 0.8,
                "baseline": 0.92,
                "evidence": 300,
                "maturity": "10m",
                "hindsight": "20m",
            },
            {"name": "urgent-auto", "of": "urgent", "objective": 0.8, "maturity": "auto"},
            {"name": "accuracy", "metric": "accuracy", "objective": 0.8, "per": ["channel"]},
            {"name": "precision", "metric": "precision", "of": "urgent", "objective": 0.8},
        ],
        "signals": [
            {"name": "share", "signal": "predicted_share", "of": "urgent"},
            {"name": "rejects", "signal": "rejected_share", "above": 0.01, "window": "10m"},
            {"name": "slow", "signal": "latency_p95", "above": "200ms", "window": "10m"},
        ],
        "verdict": {"recall": {"urgent": 0.8}},
    }
)
SPEC = spec_of(SETTINGS)

Pick = Callable[[list[Partition]], tuple[Partition, int]]
"""From the partitions that are not at their end: which to read next, and at most how far."""


def simulated(scenario: Scenario, *, end_ms: int) -> list[Record]:
    """The records before ``end_ms`` in log order, all in partition 0 of their topic."""
    stream = takewhile(lambda record: record.log_ms < end_ms, simulate(scenario, T0_MS))
    return numbered(Record(s.topic, 0, 0, s.log_ms, s.key, s.value) for s in stream)


def numbered(records: Iterable[Record]) -> list[Record]:
    """The records with the offsets that they have in their partitions."""
    ends: Counter[Partition] = Counter()
    placed = []
    for record in records:
        partition = Partition(record.topic, record.partition)
        placed.append(record._replace(offset=ends[partition]))
        ends[partition] += 1
    return placed


def by_key(records: Iterable[Record], partitions: int) -> list[Record]:
    """Spread over partitions by a hash of the key, as a producer does."""
    return numbered(r._replace(partition=zlib.crc32(r.key or b"") % partitions) for r in records)


def at_random(records: Iterable[Record], partitions: int, seed: int) -> list[Record]:
    """Spread over partitions without regard to the key: labels are nowhere near predictions."""
    draw = random.Random(seed).randrange
    return numbered(record._replace(partition=draw(partitions)) for record in records)


class PickedLog:
    """Records read in an order that ``pick`` decides poll by poll.

    ``only`` leaves this reader the partitions of one number, as others of its group have the rest.
    """

    def __init__(self, records: Sequence[Record], pick: Pick, only: int | None = None) -> None:
        self._records: dict[Partition, list[Record]] = {}
        for record in records:
            self._records.setdefault(Partition(record.topic, record.partition), []).append(record)
        self._pick = pick
        self._next = {p: 0 for p in sorted(self._records) if only in {None, p.partition}}

    def poll(self, max_records: int, _wait_ms: int | None = None) -> list[Record]:
        behind = [partition for partition, left in self.lag().items() if left]
        if not behind:
            return []
        partition, most = self._pick(behind)
        start = self._next[partition]
        batch = self._records[partition][start : start + min(most, max_records)]
        self._next[partition] += len(batch)
        return batch

    @property
    def generation(self) -> int:
        return 0

    def assigned(self) -> frozenset[Partition]:
        return frozenset(self._next)

    def partitions(self) -> frozenset[Partition]:
        return frozenset(self._records)

    def oldest(self, partitions: Iterable[Partition]) -> NextOffsets:
        return dict.fromkeys(partitions, 0)

    def newest(self, partitions: Iterable[Partition]) -> NextOffsets:
        return {partition: len(self._records[partition]) for partition in partitions}

    def places(self) -> NextOffsets:
        return dict(self._next)

    def seek(self, next_offsets: NextOffsets) -> None:
        self._next.update(next_offsets)

    def at_end(self) -> frozenset[Partition]:
        return frozenset(p for p, left in self.lag().items() if not left)

    def lag(self) -> Mapping[Partition, int]:
        return {p: len(self._records[p]) - start for p, start in self._next.items()}

    def commit(self, next_offsets: NextOffsets) -> None:
        """Nobody asks for it."""

    def close(self) -> None:
        """Nothing to leave."""


def flow_of(log: RecordLog, store: StateStore, batch: int, settings: Settings = SETTINGS) -> Flow:
    limits = Limits(batch_records=batch)
    return Flow(spec_of(settings), codec_of(settings), log, store, limits=limits)


def read_through(
    log: RecordLog, store: StateStore, batch: int, settings: Settings = SETTINGS
) -> str:
    """Read to the end as a replay does; the digest of what then stands in the store."""
    flow = flow_of(log, store, batch, settings)
    while flow.turn().records:
        flow.evaluate()
        flow.sweep()
    flow.mark_idle(log.at_end())
    flow.evaluate()
    flow.sweep()
    return digest_of(store, settings)


def digest_of(store: StateReader, settings: Settings = SETTINGS) -> str:
    return str(report_of(store, spec_of(settings), verdict_limits_of(settings))["digest"])


def memory_store(shards: int = 1) -> MemoryStore:
    return MemoryStore(shards, SPEC.windows.keep_ms)


def digest_of_capture(folder: Path, batch: int = 4_000) -> str:
    """The digest of a replay of captured files."""
    worker = SETTINGS.worker.model_copy(update={"batch_records": batch})
    settings = SETTINGS.model_copy(update={"worker": worker})
    return digest_of(replay_files(folder, settings))
