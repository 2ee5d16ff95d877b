"""What the flow asks of the world.

Each port has at least two implementations in ``monitor.adapters``, one of them in memory and
shipped, and one contract suite in ``tests/contracts`` that every implementation passes. All of them
raise ``BrokerError`` or ``StoreError`` when the outside fails, and nothing of a client library.
"""

import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from monitor.domain.alerts import Transition
from monitor.domain.counts import Counts, Part
from monitor.domain.cut import Cut
from monitor.domain.engine import Changes
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import NextOffsets, Partition, PredictionId, Record
from monitor.domain.forgetting import Request
from monitor.domain.join import Entry
from monitor.domain.journal import JournalEntry
from monitor.domain.ledger import Ledger
from monitor.domain.misses import Miss
from monitor.domain.notices import Notice
from monitor.domain.overlays import Action
from monitor.domain.slices import SliceKey
from monitor.domain.votes import Vote
from monitor.domain.windows import PaneKey

FORGOTTEN_AFTER_MS = 24 * 3_600_000
"""Workers are named after their process where they have no name; the dead ones must not pile up."""


MISSES_KEPT = 2_000
"""Misses that a shard keeps, the newest by event time: a list to work off, not an archive."""


class RecordLog(Protocol):
    """The two topics as one consumer reads them.

    Offsets here are always *next* offsets: the record to read next, one past the last one read.
    """

    def poll(self, max_records: int, wait_ms: int | None = None, /) -> list[Record]:
        """The next records, each partition in offset order; [] when none came within the wait.

        An empty list is not the end of the log. A log that can wait does so for about ``wait_ms``,
        by default for the time given at construction.
        """

    @property
    def generation(self) -> int:
        """Grows when the reader has to seek before it uses records again.

        That is after every rebalance, also one that gives back the same partitions, and when the
        log has dropped the record that was to be read next.
        """

    def assigned(self) -> frozenset[Partition]:
        """The partitions this reader reads now."""

    def partitions(self) -> frozenset[Partition]:
        """All partitions of both topics, whoever reads them."""

    def oldest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """Offset of the oldest record that each partition still holds; its end if it holds none.

        What lies before it was dropped by retention or deleted.
        """

    def newest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """One past the newest record of each partition, whoever reads it."""

    def places(self) -> NextOffsets:
        """The offset to be read next in each assigned partition; one not yet sought may be absent.

        It may lie beyond the last record read: transactions leave offsets without a record.
        """

    def seek(self, next_offsets: NextOffsets) -> None:
        """Read on from these offsets; partitions not named keep their place.

        An offset that the log does not hold any more is not passed over: ``generation`` grows at
        the next poll. BrokerError for one beyond the end: that is not the log that was read.
        """

    def at_end(self) -> frozenset[Partition]:
        """Assigned partitions of which every record known to exist has been polled."""

    def lag(self) -> Mapping[Partition, int]:
        """Records between the next offset and the end, for each assigned partition."""

    def commit(self, next_offsets: NextOffsets) -> None:
        """Tell the log how far we are. A convenience for others: the store's cut is the truth."""

    def close(self) -> None:
        """Leave; harmless when repeated."""


class RecordSink(Protocol):
    """Where records are written: dead letters, and captured records fed to a broker."""

    def publish(self, records: Iterable["OutRecord"]) -> None:
        """Write the records and return once the log has acknowledged all of them."""

    def close(self) -> None:
        """Leave; harmless when repeated."""


@dataclass(frozen=True, slots=True)
class OutRecord:
    """A record to write. ``partition`` and ``log_ms`` None leave the choice to the log."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None
    log_ms: int | None = None


EVALUATOR = "evaluator"
"""The office of whoever works the rules."""


class Lease(NamedTuple):
    """The right to an office: one worker at a time has it.

    ``fence`` grows whenever another worker takes over, so that one that was held up (a long pause,
    a cut connection) is recognised when it comes back.
    """

    worker: str
    fence: int
    office: str = EVALUATOR


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A worker's last sign of life. ``wall_ms`` is its wall time then.

    ``lags`` are the records that it has yet to read in each partition that it reads, None where it
    does not say, ``lag`` all of them. ``evaluated_ms`` is its wall time when it last asked the
    rules, None while another worker does. No other wall time is stored.
    """

    worker: str
    wall_ms: int
    lag: int
    records: int
    lags: tuple[tuple[Partition, int], ...] | None = None
    evaluated_ms: int | None = None


MOST_UNPUBLISHED = 1_000
"""Journal entries that a backlog counts at most."""


class Backlog(NamedTuple):
    """What the store holds for others.

    ``undelivered`` counts transitions, ``unpublished`` journal entries, ``MOST_UNPUBLISHED`` at
    most. ``deliveries`` is what ``save_delivery`` saved for each receiver that was ever told.
    """

    undelivered: int
    unpublished: int
    deliveries: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ServerVitals:
    """What the servers say of themselves: all of them added up; None for what they do not tell.

    ``limit_bytes`` is ``maxmemory``, 0 for no limit on any of them; ``fullest`` is the share of its
    own limit that the fullest one uses, None without limits. ``evicted`` counts the keys that were
    dropped to make room since the servers started, ``up_s`` is the youngest one's time since.
    """

    servers: int = 1
    used_bytes: int | None = None
    limit_bytes: int | None = None
    fullest: float | None = None
    evicted: int | None = None
    policy: str | None = None
    up_s: int | None = None


class Mark(NamedTuple):
    """How far a shard has come, and its books at that very place."""

    cut: Cut
    ledger: Ledger


class Picture(NamedTuple):
    """What a store held at one instant, of the panes that were asked for."""

    marks: list[Mark]
    evaluation: Evaluation
    transitions: list[Transition]
    slice_keys: list[SliceKey]
    pane_keys: Mapping[int, list[PaneKey]]
    panes: Mapping[PaneKey, Counts]


class StateReader(Protocol):
    """What dashboards and reports may ask; never writes."""

    def cuts(self) -> list[Cut]:
        """How far each shard has come, in shard order."""

    def marks(self) -> list[Mark]:
        """Cut and books of each shard, in shard order; those of one shard are of one instant."""

    def picture(self, sizes: Collection[int], panes: Sequence[PaneKey]) -> Picture | None:
        """All that a report reads, of one instant: pane keys of ``sizes``, counts of ``panes``.

        None when somebody committed meanwhile, and when shards stand at different offsets.
        """

    def ledger(self) -> Mapping[str, int]:
        """The books of all shards added up."""

    def slice_keys(self) -> list[SliceKey]:
        """Every variant and slice that has ever been counted, sorted; never the variant ALL."""

    def panes(self, keys: Sequence[PaneKey], part: Part | None = None) -> list[Counts]:
        """The panes in the order asked for, shards added up; an unknown pane is empty.

        Only the cells of ``part``, unless it is None. Whoever asks for the same again and again
        asks for a part: what did not change may be the same object then. Panes, and parts of one
        pane, may be of different commits; those of a ``picture`` are not.
        """

    def pane_keys(self, size_ms: int) -> list[PaneKey]:
        """Every stored pane of one size, sorted."""

    def evaluation(self) -> Evaluation:
        """What the evaluator last committed; a fresh one if it never did."""

    def transitions(self) -> list[Transition]:
        """Every transition ever committed, oldest first."""

    def journal(self, after: int = 0, limit: int = 1_000) -> list[JournalEntry]:
        """Entries with a sequence above ``after``, oldest first, ``limit`` at most.

        Old ones are dropped in time: the topic keeps them.
        """

    def documents(self) -> dict[str, str]:
        """Settings digest -> document, of all settings that an entry was ever made with."""

    def heartbeats(self) -> list[Heartbeat]:
        """The workers' last signs of life, sorted by name."""

    def backlog(self) -> Backlog:
        """What is yet to be handed on; read in two steps, so a moment's work may be counted."""

    def actions(self) -> list[Action]:
        """All that people ever did, oldest first."""

    def misses(self, limit: int = MISSES_KEPT) -> list[Miss]:
        """The newest misses by event time, ``limit`` at most, oldest first.

        A shard keeps ``MISSES_KEPT`` of them, and none older than the label horizon.
        """

    def to_forget(self) -> list[Request]:
        """The requests that are yet to be carried out, sorted by id."""

    def close(self) -> None:
        """Leave; harmless when repeated."""


class StateStore(StateReader, Protocol):
    """Where state lives between batches. A shard's state changes in one atomic step, or not.

    Shards are numbered from 0; which one a prediction id belongs to is ``shard_of``.
    """

    @property
    def shards(self) -> int:
        """Number of shards, fixed when the namespace was created."""

    def load(self, shard: int, ids: Iterable[PredictionId]) -> dict[PredictionId, Entry]:
        """The entries that exist among ``ids``."""

    def begin_load(
        self, shard: int, ids: Iterable[PredictionId]
    ) -> Callable[[], dict[PredictionId, Entry]]:
        """The same in two steps: call what is returned, at most once, to wait for the entries.

        They are those after every commit of the shard that was begun before. What is committed by
        the same client in between may be in them, or not: whoever commits what he has made of them
        must have laid the entries of his own commits over them, and that is not compared.
        """

    def commit(self, shard: int, expected: Cut, changes: Changes) -> None:
        """Apply ``changes`` at once, or nothing.

        Compares the cut for the partitions in ``changes.progress`` with ``expected`` (a partition
        that is absent there must be absent in the store) and each entry that changes with that
        in ``changes.loaded``; CommitConflict when either differs, and nothing is written.
        """

    def begin_commit(self, shard: int, expected: Cut, changes: Changes) -> Callable[[], None]:
        """The same in two steps, so that other work can be done meanwhile.

        Call what is returned, once, to wait for the end; it raises what ``commit`` does. Before
        that nothing but loads may be begun or waited for, and nobody knows what the store holds.
        """

    def sweep(self, watermark_ms: int, horizon_ms: int) -> None:
        """Drop some of what ``watermark_ms`` has made unreachable: entries, panes. Bounded work.

        Misses go when their predictions are older than the horizon.
        """

    def waiting(self, before_ms: int, limit: int | None = None) -> list[Vote]:
        """Votes of all shards with a release before ``before_ms``, in release order.

        At most ``limit``, the earliest; which of those with one and the same release is open.
        """

    def forget(self, votes: Iterable[Vote]) -> None:
        """Remove released votes; harmless when repeated."""

    def hold(self, votes: Iterable[Vote]) -> None:
        """Let votes wait again, until their new release; harmless when repeated."""

    def spoken(self, voices: Iterable[str]) -> dict[str, int]:
        """Those among ``voices`` that have spoken, with the release of their latest vote."""

    def lead(self, worker: str, lease_ms: int, office: str = EVALUATOR) -> Lease | None:
        """Ask to hold ``office`` for ``lease_ms`` from now; None while another worker does.

        Asking again prolongs. Time is the store's own. ``worker`` must be unique to the process.
        Offices are independent of each other: one evaluates, one delivers to each receiver.
        """

    def resign(self, lease: Lease) -> None:
        """Let another worker take over at once; nothing happens when one already has."""

    def commit_evaluation(
        self,
        evaluation: Evaluation,
        transitions: Sequence[Transition],
        lease: Lease,
        spoken: Mapping[str, int] | None = None,
        entry: JournalEntry | None = None,
    ) -> None:
        """Save all at once: the transitions also enter the outbox, ``spoken`` what voices said.

        ``entry`` is added to the journal, where it waits to be published.

        CommitConflict, and nothing is saved, unless ``lease`` is the latest one given and the
        stored sequence is ``evaluation.sequence - 1``. A lease that has run out still counts as
        long as nobody else has taken over.
        """

    def outbox(self, limit: int = 100) -> list[Transition]:
        """Transitions that are yet to be delivered, oldest first, ``limit`` at most."""

    def delivered(self, transitions: Sequence[Transition], lease: Lease) -> None:
        """Take these, which head the outbox, out of it; those that are out already are passed over.

        They are known by their ids.

        CommitConflict when ``lease`` is not the latest one given.
        """

    def unpublished(self, limit: int = 1_000) -> list[JournalEntry]:
        """Journal entries that are yet to be published, oldest first, ``limit`` at most."""

    def published(self, sequence: int, lease: Lease) -> None:
        """Entries up to ``sequence`` stand in the topic.

        CommitConflict when ``lease`` is not the latest one given.
        """

    def act(self, action: Action) -> None:
        """Enter what somebody did; one that has been entered, by its id, is passed over."""

    def ask_to_forget(self, request: Request) -> None:
        """Keep a request until it is ``fulfilled``; harmless when repeated."""

    def known(self, ids: Iterable[PredictionId]) -> set[PredictionId]:
        """Those among ``ids`` that have an entry, a waiting vote, a miss, or are an example."""

    def erase(self, request: Request) -> dict[int, Cut]:
        """Remove everything but counts; returns each shard that was concerned, with its cut then.

        In each shard at once: the entries of these ids, their waiting votes and their misses, and
        the cut is read.
        In transitions and in what receivers were told their ids become ``FORGOTTEN``; the
        evaluation is the evaluator's, who has to commit it without them. A record of such an id
        that is read later is one of a prediction never heard of.

        Asked again with the same request id, a shard that has done it returns the cut of then and
        touches nothing, unless it has carried out another request since.
        """

    def fulfilled(self, request_id: str) -> None:
        """Drop a request, with the ids in it; harmless when repeated."""

    def delivery(self, receiver: str) -> str:
        """What ``save_delivery`` saved for a receiver; "" when it never did."""

    def save_delivery(self, receiver: str, state: str, lease: Lease) -> None:
        """Save how far a receiver has been told; CommitConflict unless ``lease`` is the latest.

        The lease is that of the office that is named after the receiver.
        """

    def beat(self, heartbeat: Heartbeat) -> None:
        """Replace one worker's sign of life; those that ``is_forgotten`` beside it are dropped."""


class Receiver(Protocol):
    """Somebody, or a system, that is told of alerts; used by one thread."""

    def send(self, notice: Notice) -> None:
        """Return once the receiver has taken the notice over, in bounded time.

        DeliveryError, whose text holds no secret, when it is unknown whether it has: the notice is
        sent again later.
        """

    def close(self) -> None:
        """Leave; harmless when repeated."""


class Clock(Protocol):
    """Wall time; only ``app`` holds one."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""


def are_level(marks: Iterable[Mark]) -> bool:
    """Whether all shards have read exactly the same records.

    >>> are_level([])
    True
    """
    offsets = [
        {partition: progress.next_offset for partition, progress in mark.cut.items()}
        for mark in marks
    ]
    return all(each == offsets[0] for each in offsets)


def is_forgotten(sign: Heartbeat, newest: Heartbeat) -> bool:
    """Whether a worker has been silent for more than a day when another one beats."""
    return newest.wall_ms - sign.wall_ms > FORGOTTEN_AFTER_MS


def shard_of(prediction_id: str, shards: int) -> int:
    """The shard of a prediction id: CRC-32 modulo the number of shards, the same everywhere.

    >>> shard_of("anything", 1)
    0
    """
    return zlib.crc32(prediction_id.encode()) % shards if shards > 1 else 0
