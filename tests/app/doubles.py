"""Adapters in memory that fail, or lose their partitions, when a test says so."""

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence

from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.domain.alerts import Transition
from monitor.domain.cut import Cut
from monitor.domain.engine import Changes
from monitor.domain.errors import BrokerError, StoreError
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import NextOffsets, Partition, PredictionId, Record
from monitor.domain.join import Entry
from monitor.domain.journal import JournalEntry
from monitor.domain.votes import Vote
from monitor.ports import EVALUATOR, Lease, Mark, OutRecord
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

    def poll(self, max_records: int, wait_ms: int | None = None) -> list[Record]:
        self.trap.passed("before log.poll")
        polled = super().poll(max_records, wait_ms)
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
    def __init__(self, trap: Trap, name: str = "dead_letters") -> None:
        self.trap, self._name = trap, name
        self.published: list[OutRecord] = []

    def publish(self, records: Iterable[OutRecord]) -> None:
        self.trap.passed(f"before {self._name}.publish")
        self.published += records
        self.trap.passed(f"after {self._name}.publish")

    def close(self) -> None:
        """Nothing to leave."""


class TrappedStore(MemoryStore):
    def __init__(self, shards: int = 1, trap: Trap | None = None) -> None:
        super().__init__(shards)
        self.trap = trap or Trap()

    def cuts(self) -> list[Cut]:
        self.trap.passed("before store.cuts")
        return super().cuts()

    def marks(self) -> list[Mark]:
        self.trap.passed("before store.marks")
        return super().marks()

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

    def hold(self, votes: Iterable[Vote]) -> None:
        self.trap.passed("before store.hold")
        super().hold(votes)
        self.trap.passed("after store.hold")

    def lead(self, worker: str, lease_ms: int, office: str = EVALUATOR) -> Lease | None:
        self.trap.passed("before store.lead")
        return super().lead(worker, lease_ms, office)

    def commit_evaluation(
        self,
        evaluation: Evaluation,
        transitions: Sequence[Transition],
        lease: Lease,
        spoken: Mapping[str, int] | None = None,
        entry: JournalEntry | None = None,
    ) -> None:
        self.trap.passed("before store.commit_evaluation")
        super().commit_evaluation(evaluation, transitions, lease, spoken, entry)
        self.trap.passed("after store.commit_evaluation")

    def outbox(self, limit: int = 100) -> list[Transition]:
        self.trap.passed("before store.outbox")
        return super().outbox(limit)

    def delivered(self, transitions: Sequence[Transition], lease: Lease) -> None:
        self.trap.passed("before store.delivered")
        super().delivered(transitions, lease)
        self.trap.passed("after store.delivered")

    def unpublished(self, limit: int = 1_000) -> list[JournalEntry]:
        self.trap.passed("before store.unpublished")
        return super().unpublished(limit)

    def published(self, sequence: int, lease: Lease) -> None:
        self.trap.passed("before store.published")
        super().published(sequence, lease)
        self.trap.passed("after store.published")

    def sweep(self, watermark_ms: int, horizon_ms: int) -> None:
        self.trap.passed("before store.sweep")
        super().sweep(watermark_ms, horizon_ms)


class ContestedStore(MemoryStore):
    """Lets ``rival`` act once, between what a worker has read and the commit ``of`` this kind."""

    def __init__(self, shards: int = 1, of: str = "evaluation") -> None:
        super().__init__(shards)
        self._of = of
        self.rival: Callable[[], object] | None = None

    def commit(self, shard: int, expected: Cut, changes: Changes) -> None:
        if self._of == "records" or any(name.startswith(self._of) for name in changes.ledger):
            self._meanwhile()
        super().commit(shard, expected, changes)

    def waiting(self, before_ms: int, limit: int | None = None) -> list[Vote]:
        found = super().waiting(before_ms, limit)
        if self._of == "evaluation":
            self._meanwhile()
        return found

    def _meanwhile(self) -> None:
        rival, self.rival = self.rival, None
        if rival is not None:
            rival()


class ForgetfulStore(MemoryStore):
    """Can be put back to what it was, as a server is that lost its last writes."""

    def __init__(self, shards: int = 1) -> None:
        super().__init__(shards)
        self._kept = b""
        self.keep()

    def keep(self) -> None:
        """From here on is what may be lost."""
        self._kept = pickle.dumps({name: v for name, v in vars(self).items() if name != "_kept"})

    def go_back(self, shard: int | None = None) -> None:
        """Lose everything since ``keep``, or what one shard has taken in since."""
        kept = pickle.loads(self._kept)
        if shard is None:
            vars(self).update(kept)
        else:
            self._shards[shard] = kept["_shards"][shard]


class TeamLog(MemoryLog):
    """One member of a group: it reads what it is assigned, from committed offsets on.

    Each poll begins with another partition. ``most`` bounds it; ``during_poll`` runs once after the
    next one has taken its records, as a rebalance may.
    """

    def __init__(
        self, committed: dict[Partition, int], records: Iterable[Record] | None = None
    ) -> None:
        super().__init__(TOPICS)
        filled(self, history() if records is None else records)
        self.committed = committed
        self._mine: frozenset[Partition] = frozenset()
        self._rebalances = self._polls = 0
        self.most = 10_000
        self.during_poll: Callable[[], None] | None = None

    def assign(self, partitions: Iterable[Partition]) -> None:
        self._mine = frozenset(partitions)
        self._rebalances += 1
        super().seek({p: self.committed.get(p, 0) for p in self._mine})

    @property
    def generation(self) -> int:
        return self._rebalances + super().generation

    def assigned(self) -> frozenset[Partition]:
        return self._mine

    def add(self, partition: Partition) -> None:
        """A new partition, in which nothing stands; a rebalance has to tell who reads it."""
        self._records[partition] = []
        self._oldest[partition] = self._next[partition] = 0

    def at_end(self) -> frozenset[Partition]:
        return super().at_end() & self._mine

    def places(self) -> NextOffsets:
        return {p: place for p, place in super().places().items() if p in self._mine}

    def poll(self, max_records: int, wait_ms: int | None = None) -> list[Record]:
        polled, max_records = list[Record](), min(max_records, self.most)
        self._polls += 1
        mine = sorted(self._mine)
        first = self._polls % len(mine) if mine else 0
        for partition in mine[first:] + mine[:first]:
            self._next, everywhere = {partition: self._next[partition]}, self._next
            polled += super().poll(max_records - len(polled), wait_ms)
            self._next = {**everywhere, **self._next}
        if self.during_poll is not None:
            self.during_poll()
            self.during_poll = None
        return polled
