"""Adapters in memory that fail, or lose their partitions, when a test says so."""

from collections.abc import Callable, Iterable, Sequence

from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.domain.alerts import Transition, Vote
from monitor.domain.cut import Cut
from monitor.domain.engine import Changes
from monitor.domain.errors import BrokerError, StoreError
from monitor.domain.events import NextOffsets, Partition, PredictionId, Record
from monitor.domain.join import Entry
from monitor.ports import Evaluation, OutRecord
from tests.app.story import TOPICS, filled, history


class Trap:
    """Springs once, the ``call``-th time that ``port`` is passed."""

    def __init__(self, port: str = "", call: int = 0) -> None:
        self._port, self._call = port, call
        self.has_sprung = False

    def passed(self, port: str) -> None:
        if port == self._port and not self.has_sprung:
            self._call -= 1
            if self._call == 0:
                self.has_sprung = True
                raise (StoreError if "store." in port else BrokerError)(f"{port} failed")


class TrappedLog(MemoryLog):
    def __init__(self, trap: Trap) -> None:
        super().__init__(TOPICS)
        self.trap = trap

    def poll(self, max_records: int) -> list[Record]:
        self.trap.passed("before log.poll")
        polled = super().poll(max_records)
        self.trap.passed("after log.poll")
        return polled

    def seek(self, next_offsets: NextOffsets) -> None:
        self.trap.passed("before log.seek")
        super().seek(next_offsets)

    def commit(self, next_offsets: NextOffsets) -> None:
        self.trap.passed("before log.commit")
        super().commit(next_offsets)
        self.trap.passed("after log.commit")


class TrappedSink:
    def __init__(self, trap: Trap) -> None:
        self.trap = trap
        self.published: list[OutRecord] = []

    def publish(self, records: Iterable[OutRecord]) -> None:
        self.trap.passed("before dead_letters.publish")
        self.published += records
        self.trap.passed("after dead_letters.publish")

    def close(self) -> None:
        """Nothing to leave."""


class TrappedStore(MemoryStore):
    def __init__(self, shards: int = 1, trap: Trap | None = None) -> None:
        super().__init__(shards)
        self.trap = trap or Trap()

    def cuts(self) -> list[Cut]:
        self.trap.passed("before store.cuts")
        return super().cuts()

    def load(self, shard: int, ids: Iterable[PredictionId]) -> dict[PredictionId, Entry]:
        self.trap.passed("before store.load")
        return super().load(shard, ids)

    def commit(self, shard: int, expected: Cut, changes: Changes) -> None:
        self.trap.passed("before store.commit")
        super().commit(shard, expected, changes)
        self.trap.passed("after store.commit")

    def waiting(self, before_ms: int, limit: int | None = None) -> list[Vote]:
        self.trap.passed("before store.waiting")
        return super().waiting(before_ms, limit)

    def forget(self, votes: Iterable[Vote]) -> None:
        self.trap.passed("before store.forget")
        super().forget(votes)
        self.trap.passed("after store.forget")

    def commit_evaluation(self, evaluation: Evaluation, transitions: Sequence[Transition]) -> None:
        self.trap.passed("before store.commit_evaluation")
        super().commit_evaluation(evaluation, transitions)
        self.trap.passed("after store.commit_evaluation")

    def sweep(self, watermark_ms: int, horizon_ms: int) -> None:
        self.trap.passed("before store.sweep")
        super().sweep(watermark_ms, horizon_ms)


class TeamLog(MemoryLog):
    """One member of a group: it reads what it is assigned, from committed offsets on.

    ``during_poll`` runs once after the next poll has taken its records, as a rebalance may.
    """

    def __init__(self, committed: dict[Partition, int]) -> None:
        super().__init__(TOPICS)
        filled(self, history())
        self.committed = committed
        self._mine: frozenset[Partition] = frozenset()
        self._rebalances = 0
        self.during_poll: Callable[[], None] | None = None

    def assign(self, partitions: Iterable[Partition]) -> None:
        self._mine = frozenset(partitions)
        self._rebalances += 1
        super().seek({p: self.committed.get(p, 0) for p in self._mine})

    @property
    def generation(self) -> int:
        return self._rebalances

    def assigned(self) -> frozenset[Partition]:
        return self._mine

    def at_end(self) -> frozenset[Partition]:
        return super().at_end() & self._mine

    def poll(self, max_records: int) -> list[Record]:
        polled: list[Record] = []
        for partition in sorted(self._mine):
            self._next, everywhere = {partition: self._next[partition]}, self._next
            polled += super().poll(max_records - len(polled))
            self._next = {**everywhere, **self._next}
        if self.during_poll is not None:
            self.during_poll()
            self.during_poll = None
        return polled
