"""A store and a log in memory: a second implementation, not a mock. Replay runs on them."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import repeat
from operator import itemgetter
from typing import NamedTuple

from monitor.codec.notices import without_ids
from monitor.domain import ledger as books
from monitor.domain.alerts import Transition, is_silent
from monitor.domain.counts import Cell, Counts, Part, merge
from monitor.domain.cut import Cut, Progress
from monitor.domain.engine import Changes
from monitor.domain.errors import BrokerError, CommitConflict
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import NextOffsets, Partition, Position, PredictionId, Record
from monitor.domain.forgetting import Request, examples_in, masked
from monitor.domain.join import EMPTY, HOUR_MS, RETENTION_SLACK_MS, Entry
from monitor.domain.journal import JournalEntry
from monitor.domain.misses import Miss, MissChange
from monitor.domain.overlays import Action
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.votes import Vote
from monitor.domain.windows import ALL_TIME, PaneKey
from monitor.ports import (
    EVALUATOR,
    MISSES_KEPT,
    MOST_UNPUBLISHED,
    Backlog,
    Heartbeat,
    Lease,
    Mark,
    OutRecord,
    Picture,
    are_level,
    is_forgotten,
    shard_of,
)

JOURNAL_ENTRIES = 10_000
"""Journal entries kept at least."""

SWEEP_ENTRIES = 100_000
"""Entries looked at in one sweep; more than a batch can bring, so that none pile up."""

END_MS = 2**62
"""After everything."""

FOR_EVER = 1 << 62
"""Beyond any instant."""

VOTES_MS = 10 * 60_000
"""Votes are kept together with those released in the same stretch of so many milliseconds."""


class _Shard:
    def __init__(self) -> None:
        self.cut: dict[Partition, Progress] = {}
        self.entries: dict[PredictionId, Entry] = {}
        self.ends: defaultdict[int, list[PredictionId]] = defaultdict(list)
        self.panes: dict[PaneKey, dict[Cell, int]] = {}
        self.drops: list[tuple[int, PaneKey]] = []
        self.keys: set[SliceKey] = set()
        self.ledger: Counter[str] = Counter()
        self.misses: list[Miss] = []
        self._votes: defaultdict[int, set[Vote]] = defaultdict(set)

    def enter(self, entries: Mapping[PredictionId, Entry], new: Sequence[PredictionId]) -> None:
        """Take in entries; those that are ``new`` are to be looked at again when they expire."""
        if new:
            # Any hour will do at which most of them are due: each is looked at again.
            self.ends[_hour_of(entries[new[-1]])] += new
        self.entries.update(entries)

    def count(self, pane: PaneKey, cells: Mapping[Cell, int], keep_ms: int | None) -> None:
        """Add to a pane, which is dropped ``keep_ms`` after its end; None for never."""
        held = self.panes.get(pane)
        if held is not None:
            for cell, count in cells.items():
                held[cell] = held.get(cell, 0) + count
            return
        self.panes[pane] = dict(cells)
        if pane.key.variant != ALL:
            self.keys.add(pane.key)
        if keep_ms is not None and pane.size_ms != ALL_TIME:
            heappush(self.drops, (pane.start_ms + pane.size_ms + keep_ms, pane))

    def drop_panes(self, watermark_ms: int) -> None:
        """Drop the panes whose time has come."""
        while self.drops and self.drops[0][0] <= watermark_ms:
            self.panes.pop(heappop(self.drops)[1], None)

    def drop_entries(self, watermark_ms: int, horizon_ms: int, limit: int) -> None:
        """Drop the entries that nothing can find any more, among ``limit`` whose hour has come."""
        past_ms = watermark_ms - horizon_ms - RETENTION_SLACK_MS
        for hour in [hour for hour in self.ends if (hour + 1) * HOUR_MS <= past_ms]:
            due = self.ends.pop(hour)
            if len(due) > limit:
                self.ends[hour] = due[limit:]
            for key in due[:limit]:
                self._drop_or_wait(key, past_ms)
            limit -= min(limit, len(due))

    def _drop_or_wait(self, key: PredictionId, past_ms: int) -> None:
        """Of an entry that has changed, the end may have moved."""
        entry = self.entries.get(key)
        if entry is None:
            return
        hour = _hour_of(entry)
        if (hour + 1) * HOUR_MS <= past_ms:
            del self.entries[key]
        else:
            self.ends[hour].append(key)

    def vote(self, vote: Vote) -> None:
        """Let a vote wait."""
        self._votes[vote.release_ms // VOTES_MS].add(vote)

    def withdraw(self, vote: Vote) -> bool:
        """Let a vote wait no more; whether it did."""
        at = vote.release_ms // VOTES_MS
        if vote not in self._votes.get(at, ()):
            return False
        self._votes[at].remove(vote)
        if not self._votes[at]:
            del self._votes[at]
        return True

    def votes(self, before_ms: int) -> Iterator[Vote]:
        """The votes that wait for a release before ``before_ms``."""
        for at, votes in self._votes.items():
            if at * VOTES_MS < before_ms:
                yield from (vote for vote in votes if vote.release_ms < before_ms)

    def miss(self, changes: Iterable[MissChange]) -> None:
        """Keep the list of misses sorted, and no longer than it may be."""
        for old, new in changes:
            for each in (old, new):
                if each is not None:
                    self._unmiss(each)
            if new is not None:
                insort(self.misses, new)
        del self.misses[:-MISSES_KEPT]

    def _unmiss(self, miss: Miss) -> None:
        at = bisect_left(self.misses, miss)
        if self.misses[at : at + 1] == [miss]:
            del self.misses[at]

    def drop_misses(self, before_ms: int) -> None:
        """Drop those of predictions made before an instant."""
        del self.misses[: bisect_left(self.misses, before_ms, key=itemgetter(0))]

    def erase(self, ids: Collection[PredictionId]) -> None:
        """Remove entries, waiting votes and misses."""
        for key in ids:
            self.entries.pop(key, None)
        for vote in [vote for votes in self._votes.values() for vote in votes]:
            if vote.prediction_id in ids:
                self.withdraw(vote)
        self.misses = [miss for miss in self.misses if miss.prediction_id not in ids]
        for due in self.ends.values():
            due[:] = [key for key in due if key not in ids]


class Saved(NamedTuple):
    """What one shard holds."""

    cut: Mapping[Partition, Progress]
    ledger: Mapping[str, int]
    entries: Mapping[PredictionId, Entry]
    panes: Mapping[PaneKey, Mapping[Cell, int]]
    waiting: Iterable[Vote]
    misses: Sequence[Miss]


class MemoryStore:
    """State in this process, gone with it. ``keep_ms`` is the panes' retention by size.

    A lease ends only when its worker resigns: the workers are threads, and end together.
    """

    def __init__(self, shards: int = 1, keep_ms: Mapping[int, int] | None = None) -> None:
        self._shards = [_Shard() for _ in range(shards)]
        self._keep_ms = dict(keep_ms or {})
        self._evaluation = Evaluation()
        self._transitions: list[Transition] = []
        self._spoken: dict[str, int] = {}
        self._delivered = 0
        self._journal: list[JournalEntry] = []
        self._documents: dict[str, str] = {}
        self._published = 0
        self._leases: dict[str, Lease] = {}
        self._led: set[str] = set()
        self._actions: dict[str, Action] = {}
        self._deliveries: dict[str, str] = {}
        self._to_forget: dict[str, Request] = {}
        self._erased: dict[int, tuple[str, Cut]] = {}
        self._heartbeats: dict[str, Heartbeat] = {}

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self._shards)

    def saved(self) -> Iterator["Saved"]:
        """What each shard holds, as it stands: not to be changed."""
        for state in self._shards:
            votes = state.votes(FOR_EVER)
            yield Saved(
                state.cut, state.ledger, state.entries, state.panes, votes, tuple(state.misses)
            )

    def voices(self) -> dict[str, int]:
        """All that have spoken, with the release of their latest vote."""
        return dict(self._spoken)

    def restore(
        self,
        evaluation: Evaluation,
        transitions: Iterable[Transition],
        spoken: Mapping[str, int],
    ) -> None:
        """Take over what the evaluator knew when the store was saved."""
        self._evaluation, self._transitions = evaluation, list(transitions)
        self._spoken.update(spoken)

    def restore_shard(
        self,
        shard: int,
        cut: Mapping[Partition, Progress],
        ledger: Mapping[str, int],
        votes: Iterable[Vote],
        misses: Iterable[Miss],
    ) -> None:
        """Take over one shard, without its entries and panes."""
        state = self._shards[shard]
        state.cut.update(cut)
        state.ledger.update(ledger)
        for vote in votes:
            state.vote(vote)
        state.miss(MissChange(None, miss) for miss in misses)

    def restore_entries(self, shard: int, entries: Mapping[PredictionId, Entry]) -> None:
        """Take over entries of one shard."""
        self._shards[shard].enter(entries, list(entries))

    def restore_panes(
        self, shard: int, panes: Iterable[tuple[PaneKey, Mapping[Cell, int]]]
    ) -> None:
        """Take over panes of one shard."""
        for pane, cells in panes:
            self._shards[shard].count(pane, cells, self._keep_ms.get(pane.size_ms))

    def load(self, shard: int, ids: Iterable[PredictionId]) -> dict[PredictionId, Entry]:
        """The entries that exist among ``ids``."""
        entries = self._shards[shard].entries
        return {key: entry for key in ids if (entry := entries.get(key)) is not None}

    def begin_load(
        self, shard: int, ids: Iterable[PredictionId]
    ) -> Callable[[], dict[PredictionId, Entry]]:
        """The entries as they are at the end."""
        return partial(self.load, shard, list(ids))

    def commit(self, shard: int, expected: Cut, changes: Changes) -> None:
        """Apply at once, or raise CommitConflict and apply nothing."""
        state = self._shards[shard]
        for partition in changes.progress:
            if state.cut.get(partition) != expected.get(partition):
                raise CommitConflict(f"shard {shard}: {partition} was moved by another worker")
        held = list(map(state.entries.get, changes.entries, repeat(EMPTY)))
        if held != list(map(changes.loaded.get, changes.entries, repeat(EMPTY))):
            raise CommitConflict(f"shard {shard}: an entry was changed by another worker")
        state.cut.update(changes.progress)
        new = [key for key, entry in zip(changes.entries, held, strict=True) if entry is EMPTY]
        state.enter(changes.entries, new)
        for pane, cells in changes.cells.items():
            state.count(pane, cells, self._keep_ms.get(pane.size_ms))
        state.ledger.update(changes.ledger)
        for change in changes.votes:
            is_open = change.old is None or state.withdraw(change.old)
            if is_open and change.new is not None:
                state.vote(change.new)
        state.miss(changes.misses)

    def begin_commit(self, shard: int, expected: Cut, changes: Changes) -> Callable[[], None]:
        """All of it is done at once; a conflict is told at the end."""
        try:
            self.commit(shard, expected, changes)
        except CommitConflict as error:
            return partial(_refuse, error)
        return _nothing

    def sweep(self, watermark_ms: int, horizon_ms: int) -> None:
        """Drop dropped panes, and expired entries, ``SWEEP_ENTRIES`` of a shard at most."""
        for state in self._shards:
            state.drop_panes(watermark_ms)
            state.drop_entries(watermark_ms, horizon_ms, SWEEP_ENTRIES)
            state.drop_misses(watermark_ms - horizon_ms)
        for voice in [v for v, at_ms in self._spoken.items() if is_silent(at_ms, watermark_ms)]:
            del self._spoken[voice]

    def waiting(self, before_ms: int, limit: int | None = None) -> list[Vote]:
        """Votes of all shards released before ``before_ms``, in release order, the earliest."""
        return sorted(vote for state in self._shards for vote in state.votes(before_ms))[:limit]

    def forget(self, votes: Iterable[Vote]) -> None:
        """Remove released votes."""
        for vote in votes:
            for state in self._shards:
                state.withdraw(vote)

    def hold(self, votes: Iterable[Vote]) -> None:
        """Let votes wait again."""
        for vote in votes:
            self._shards[shard_of(vote.prediction_id, self.shards)].vote(vote)

    def spoken(self, voices: Iterable[str]) -> dict[str, int]:
        """Those that have spoken, with the release of their latest vote."""
        return {voice: self._spoken[voice] for voice in voices if voice in self._spoken}

    def lead(
        self,
        worker: str,
        lease_ms: int,  # noqa: ARG002 - it does not end
        office: str = EVALUATOR,
    ) -> Lease | None:
        """Ask to hold an office; None while another worker does."""
        held = self._leases.get(office)
        if held is None or (held.worker != worker and office not in self._led):
            held = Lease(worker, held.fence + 1 if held else 1, office)
        elif held.worker != worker:
            return None
        self._leases[office] = held
        self._led.add(office)
        return held

    def resign(self, lease: Lease) -> None:
        """Let another worker take over."""
        if lease == self._leases.get(lease.office):
            self._led.discard(lease.office)

    def commit_evaluation(
        self,
        evaluation: Evaluation,
        transitions: Sequence[Transition],
        lease: Lease,
        spoken: Mapping[str, int] | None = None,
        entry: JournalEntry | None = None,
    ) -> None:
        """Save all, or raise CommitConflict."""
        self._refuse_unless_latest(lease)
        if self._evaluation.sequence != evaluation.sequence - 1:
            raise CommitConflict("another evaluator was faster")
        self._evaluation = evaluation
        self._transitions += transitions
        self._spoken.update(spoken or {})
        if entry is not None:
            self._journal.append(entry)
            if len(self._journal) >= 2 * JOURNAL_ENTRIES:
                del self._journal[:-JOURNAL_ENTRIES]
            if entry.document:
                self._documents[entry.settings] = entry.document

    def outbox(self, limit: int = 100) -> list[Transition]:
        """Transitions that are yet to be delivered, oldest first."""
        return self._transitions[self._delivered : self._delivered + limit]

    def delivered(self, transitions: Sequence[Transition], lease: Lease) -> None:
        """Take these out of the outbox, or raise CommitConflict."""
        self._refuse_unless_latest(lease)
        for transition in transitions:
            if [head.id for head in self.outbox(1)] == [transition.id]:
                self._delivered += 1

    def unpublished(self, limit: int = 1_000) -> list[JournalEntry]:
        """Journal entries that are yet to be published, oldest first."""
        return self.journal(self._published, limit)

    def published(self, sequence: int, lease: Lease) -> None:
        """Entries up to ``sequence`` stand in the topic, or raise CommitConflict."""
        self._refuse_unless_latest(lease)
        self._published = max(self._published, sequence)

    def act(self, action: Action) -> None:
        """Enter what somebody did, once."""
        self._actions.setdefault(action.id, action)

    def ask_to_forget(self, request: Request) -> None:
        """Keep a request until it is fulfilled."""
        self._to_forget[request.id] = request

    def to_forget(self) -> list[Request]:
        """The requests that are yet to be carried out."""
        return [self._to_forget[key] for key in sorted(self._to_forget)]

    def misses(self, limit: int = MISSES_KEPT) -> list[Miss]:
        """The newest misses by event time, oldest first."""
        found = sorted(miss for state in self._shards for miss in state.misses)
        return found[max(0, len(found) - limit) :]

    def known(self, ids: Iterable[PredictionId]) -> set[PredictionId]:
        """Those among ``ids`` of which something is held."""
        return set(ids) & (self.held() | examples_in(self._transitions, self._evaluation))

    def erase(self, request: Request) -> dict[int, Cut]:
        """Remove everything but counts; the cuts of the shards concerned, as they were then."""
        ids = frozenset(request.ids)
        concerned = sorted({shard_of(key, self.shards) for key in ids})
        for shard in concerned:
            state = self._shards[shard]
            if self._erased.get(shard, ("", {}))[0] != request.id:
                state.erase({key for key in ids if shard_of(key, self.shards) == shard})
                self._erased[shard] = request.id, dict(state.cut)
        self._transitions = [masked(each, ids.__contains__) for each in self._transitions]
        self._deliveries = {
            receiver: without_ids(told, ids) for receiver, told in self._deliveries.items()
        }
        return {shard: self._erased[shard][1] for shard in concerned}

    def fulfilled(self, request_id: str) -> None:
        """Drop a request, with the ids in it."""
        self._to_forget.pop(request_id, None)

    def held(self) -> set[PredictionId]:
        """Every prediction id that an entry, a miss or a waiting vote has."""
        found = {key for state in self._shards for key in state.entries}
        found |= {miss.prediction_id for state in self._shards for miss in state.misses}
        return found | {PredictionId(vote.prediction_id) for vote in self.waiting(END_MS)}

    def delivery(self, receiver: str) -> str:
        """What was saved for a receiver; "" for nothing."""
        return self._deliveries.get(receiver, "")

    def save_delivery(self, receiver: str, state: str, lease: Lease) -> None:
        """Save how far a receiver has been told, or raise CommitConflict."""
        self._refuse_unless_latest(lease, receiver)
        self._deliveries[receiver] = state

    def _refuse_unless_latest(self, lease: Lease, office: str = EVALUATOR) -> None:
        latest = self._leases.get(office)
        if lease != latest:
            raise CommitConflict(f"another {office} was faster: {latest} was given since")

    def beat(self, heartbeat: Heartbeat) -> None:
        """Replace one worker's sign of life, and drop those that are a day older."""
        self._heartbeats[heartbeat.worker] = heartbeat
        signs = list(self._heartbeats.values())
        for sign in signs:
            if is_forgotten(sign, heartbeat):
                del self._heartbeats[sign.worker]

    def cuts(self) -> list[Cut]:
        """How far each shard has come."""
        return [dict(state.cut) for state in self._shards]

    def marks(self) -> list[Mark]:
        """Cut and books of each shard."""
        return [Mark(dict(state.cut), dict(state.ledger)) for state in self._shards]

    def picture(self, sizes: Collection[int], panes: Sequence[PaneKey]) -> Picture | None:
        """All that a report reads, of one instant; None when shards are at different offsets."""
        marks = self.marks()
        if not are_level(marks):
            return None
        return Picture(
            marks,
            self.evaluation(),
            self.transitions(),
            self.slice_keys(),
            {size_ms: self.pane_keys(size_ms) for size_ms in sizes},
            dict(zip(panes, self.panes(panes), strict=True)),
        )

    def ledger(self) -> Mapping[str, int]:
        """The books of all shards added up."""
        return books.merged([state.ledger for state in self._shards])

    def slice_keys(self) -> list[SliceKey]:
        """Every variant and slice counted so far."""
        return sorted({key for state in self._shards for key in state.keys})

    def panes(self, keys: Sequence[PaneKey], part: Part | None = None) -> list[Counts]:
        """The panes in the order asked for; an unknown pane is empty."""
        found = [self._pane(key) for key in keys]
        return found if part is None else [counts.of_part(part) for counts in found]

    def _pane(self, key: PaneKey) -> Counts:
        held = [state.panes[key] for state in self._shards if key in state.panes]
        cells = held[0] if len(held) == 1 else merge(map(Counts, held)).cells
        return Counts({cell: count for cell, count in cells.items() if count})

    def pane_keys(self, size_ms: int) -> list[PaneKey]:
        """Every stored pane of one size."""
        return sorted({p for s in self._shards for p in s.panes if p.size_ms == size_ms})

    def evaluation(self) -> Evaluation:
        """What the evaluator last committed."""
        return self._evaluation

    def transitions(self) -> list[Transition]:
        """Every transition, oldest first."""
        return list(self._transitions)

    def backlog(self) -> Backlog:
        """What is yet to be handed on."""
        return Backlog(
            len(self._transitions) - self._delivered,
            len(self.unpublished(MOST_UNPUBLISHED)),
            dict(sorted(self._deliveries.items())),
        )

    def actions(self) -> list[Action]:
        """All that people did, oldest first."""
        return list(self._actions.values())

    def journal(self, after: int = 0, limit: int = 1_000) -> list[JournalEntry]:
        """Entries with a sequence above ``after``, oldest first."""
        first = bisect_right(self._journal, after, key=lambda entry: entry.sequence)
        return self._journal[first : first + limit]

    def documents(self) -> dict[str, str]:
        """Settings digest -> document."""
        return dict(self._documents)

    def heartbeats(self) -> list[Heartbeat]:
        """The workers' last signs of life."""
        return [self._heartbeats[name] for name in sorted(self._heartbeats)]

    def close(self) -> None:
        """Nothing to leave."""


def _hour_of(entry: Entry) -> int:
    """The hour from whose end on the entry waits for what is missing."""
    prediction = entry[0]
    since_ms = prediction[1] if prediction else max([label.log_ms for label in entry.labels])
    return since_ms // HOUR_MS


class MemoryLog:
    """Topics in this process. ``append`` is what a broker's producer would do, ``drop`` retention.

    ``generation`` counts the polls that met a dropped record: there is one reader.
    """

    def __init__(self, topics: Mapping[str, int]) -> None:
        self._records: dict[Partition, list[Record]] = {
            Partition(topic, number): []
            for topic, count in topics.items()
            for number in range(count)
        }
        self._oldest = dict.fromkeys(self._records, 0)
        self._next = dict.fromkeys(self._records, 0)
        self._generation = 0
        self.committed: dict[Partition, int] = {}

    def append(self, record: Record) -> Record:
        """Add a record at the end of its partition; its offset is set here."""
        partition = Partition(record.topic, record.partition)
        appended = record._replace(offset=self._end(partition))
        self._records[partition].append(appended)
        return appended

    def drop(self, partition: Partition, before: int) -> None:
        """Drop the records with offsets below ``before``; beyond the end means all of them."""
        reached = min(max(before, self._oldest[partition]), self._end(partition))
        del self._records[partition][: reached - self._oldest[partition]]
        self._oldest[partition] = reached

    def publish(self, records: Iterable[OutRecord]) -> None:
        """Write records as a sink; partition 0 and log time 0 where none is given."""
        for out in records:
            partition = Partition(out.topic, out.partition or 0)
            self._records.setdefault(partition, [])
            self._oldest.setdefault(partition, 0)
            self.append(
                Record(out.topic, out.partition or 0, 0, out.log_ms or 0, out.key, out.value)
            )

    def poll(self, max_records: int, _wait_ms: int | None = None) -> list[Record]:
        """The next records, partition by partition."""
        if any(start < self._oldest[partition] for partition, start in self._next.items()):
            self._generation += 1
            return []
        polled: list[Record] = []
        for partition, start in self._next.items():
            first = start - self._oldest[partition]
            batch = self._records[partition][first : first + max_records - len(polled)]
            self._next[partition] = start + len(batch)
            polled += batch
        return polled

    @property
    def generation(self) -> int:
        """Polls that found the next record of a partition dropped."""
        return self._generation

    def assigned(self) -> frozenset[Partition]:
        """All partitions: there is one reader."""
        return frozenset(self._next)

    def partitions(self) -> frozenset[Partition]:
        """All partitions."""
        return frozenset(self._next)

    def oldest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """Offset of the oldest record that was not dropped."""
        return {partition: self._oldest[partition] for partition in partitions}

    def newest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """One past the record appended last."""
        return {partition: self._end(partition) for partition in partitions}

    def places(self) -> NextOffsets:
        """What the next poll begins with."""
        return dict(self._next)

    def seek(self, next_offsets: NextOffsets) -> None:
        """Read on from these offsets; BrokerError for one beyond the end."""
        wanted = {p: offset for p, offset in next_offsets.items() if p in self._next}
        for partition, offset in wanted.items():
            if offset > (end := self._end(partition)):
                raise BrokerError(
                    f"{Position(*partition, offset)}: was to be read next, but the log ends at "
                    f"offset {end}; it is not the one that was read"
                )
        self._next.update(wanted)

    def at_end(self) -> frozenset[Partition]:
        """Partitions that have been read to their end."""
        return frozenset(p for p, behind in self.lag().items() if not behind)

    def lag(self) -> Mapping[Partition, int]:
        """Records not yet polled."""
        return {p: self._end(p) - start for p, start in self._next.items()}

    def commit(self, next_offsets: NextOffsets) -> None:
        """Remember, for whoever looks."""
        self.committed.update(next_offsets)

    def close(self) -> None:
        """Nothing to leave."""

    def _end(self, partition: Partition) -> int:
        return self._oldest[partition] + len(self._records[partition])


def _refuse(error: CommitConflict) -> None:
    raise error


def _nothing() -> None:
    """What is left to be done."""
