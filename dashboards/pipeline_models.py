"""View models of the Pipeline page: whether the numbers of all other pages can be trusted."""

from dataclasses import dataclass
from enum import StrEnum

from dashboards.banner import Freshness
from dashboards.models import Books
from dashboards.theme import Tone
from monitor.app.vitals import StoreVitals
from monitor.domain.events import Partition


class Reach(StrEnum):
    """How far a partition has been read."""

    READ = "read"
    IDLE = "idle"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker. Ages are of wall time; ``records`` are those that it read since its start.

    ``partitions`` is how many it reads, None where it does not say. ``evaluated_age_ms`` is when it
    last asked the rules, None while another worker does. ``is_gone``: it has been silent for a
    minute while another one beats.
    """

    name: str
    age_ms: int
    lag: int
    records: int
    partitions: int | None
    evaluated_age_ms: int | None
    is_gone: bool


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """One partition, as the shard that is furthest behind has it.

    ``newest_ms`` is the log time of the newest record that was counted, None before any.
    ``frontier_ms`` is how far it holds the watermark, None while it is idle or unread. ``lag`` and
    ``worker`` are those of the live worker that reads it, None and "" where none says so.
    """

    partition: Partition
    reach: Reach
    next_offset: int
    newest_ms: int | None
    frontier_ms: int | None
    lag: int | None
    worker: str
    holds_back: bool


@dataclass(frozen=True, slots=True)
class ReceiverRow:
    """One receiver of alerts. ``behind`` are transitions that it has yet to take in.

    ``waiting`` are those taken in that wait for their group, or for the end of a silence.
    ``is_told`` is false for one that nobody has ever told anything.
    """

    name: str
    behind: int
    waiting: int
    is_told: bool


@dataclass(frozen=True, slots=True)
class Journal:
    """``head`` is the last evaluation, 0 before the first, ``hash`` that of its entry, "" for none.

    ``tick_ms`` is the log time up to which it knew the input, ``unpublished`` how many entries are
    yet to reach ``topic``.
    """

    head: int
    hash: str
    tick_ms: int | None
    unpublished: int
    topic: str


@dataclass(frozen=True, slots=True)
class PipelineView:
    """The Pipeline page. ``watermark_ms`` is the log time before which the input is complete.

    ``transitions`` counts all there ever were, ``undelivered`` those that wait in the outbox.
    ``vitals`` is None where the store has no server.
    """

    freshness: Freshness
    workers: tuple[WorkerRow, ...]
    partitions: tuple[PartitionRow, ...]
    watermark_ms: int | None
    books: Books
    journal: Journal
    transitions: int
    undelivered: int
    receivers: tuple[ReceiverRow, ...]
    dead_letter_topic: str
    vitals: StoreVitals | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nobody has ever read or counted anything."""
        return not self.partitions and not self.workers

    @property
    def alive(self) -> tuple[WorkerRow, ...]:
        """The workers that speak; those of a stale store are the last ones that did."""
        return tuple(worker for worker in self.workers if not worker.is_gone)

    @property
    def evaluated_age_ms(self) -> int | None:
        """How long ago any worker last asked the rules; None where none says so."""
        ages = [w.evaluated_age_ms for w in self.workers if w.evaluated_age_ms is not None]
        return min(ages, default=None)

    @property
    def dead_letters(self) -> int:
        """Records that could not be read; each stands in the dead-letter topic at least once."""
        sides = (self.books.predictions, self.books.labels)
        return sum(sum(side.rejected.values()) for side in sides)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold for the numbers to be right. ``tone`` None: that is not known."""

    name: str
    tone: Tone | None
    said: str
