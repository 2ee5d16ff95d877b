"""One turn of the flow: the order of effects, kept here and nowhere else.

::

    poll -> decode -> dead letters -> split by shard -> load -> engine.step (pure)
         -> ONE atomic compare-and-commit per shard -> commit offsets -> evaluate

A crash at any arrow repeats work, but neither loses nor doubles a count: a shard's cut is committed
together with everything that was counted up to it, records before the cut are skipped, and dead
letters carry their position as key. ``app.live`` and ``app.replay`` both drive this class; they
differ in what is behind the ports.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from monitor.codec.records import RecordCodec
from monitor.domain import alerts, engine
from monitor.domain.alerts import Transition, Vote
from monitor.domain.cut import IDLE, UNREAD, Cut, Progress, watermark
from monitor.domain.engine import Spec
from monitor.domain.errors import CommitConflict, TooManyRejects
from monitor.domain.events import Envelope, Kind, Partition, Record, Rejected
from monitor.ports import Evaluation, OutRecord, RecordLog, RecordSink, StateStore, shard_of


@dataclass(frozen=True, slots=True)
class Limits:
    """``batch_records`` a turn; more than ``max_consecutive_rejects`` in a row stop the worker.

    ``votes_at_once`` bounds what one evaluation holds in memory and saves.
    """

    batch_records: int = 4_000
    max_consecutive_rejects: int = 1_000
    votes_at_once: int = 10_000


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn did: records read, how many of them were rejected, and where they stood."""

    records: int = 0
    rejected: int = 0
    partitions: frozenset[Partition] = frozenset()


class Flow:
    """The flow between one log and one store. Not thread-safe; one for each worker."""

    def __init__(
        self,
        spec: Spec,
        codec: RecordCodec,
        log: RecordLog,
        store: StateStore,
        *,
        dead_letters: RecordSink | None = None,
        dead_letter_topic: str = "recallwatch.dead-letters",
        limits: Limits | None = None,
    ) -> None:
        self._spec, self._codec, self._log, self._store = spec, codec, log, store
        self._dead_letters, self._dead_letter_topic = dead_letters, dead_letter_topic
        self._limits = limits or Limits()
        self._cuts: list[Cut] = []
        self._generation: int | None = None
        self._rejects_in_a_row: Counter[Kind] = Counter()
        self._watermark_ms: int | None = store.evaluation().watermark_ms

    def turn(self) -> Turn:
        """Read one batch and carry it to the end; a turn without records is fine."""
        self._follow_assignment()
        records = self._log.poll(self._limits.batch_records)
        if self._log.generation != self._generation:
            # At once, so that what the log says of its end is true when this turn is over.
            self._follow_assignment()
            return Turn()
        if not records:
            return Turn()
        envelopes = self._codec.decode_all(records)
        rejected = self._divert(records, envelopes)
        reached = _reached(records)
        for shard, share in enumerate(self._split(envelopes)):
            self._commit(shard, share, reached)
        self._log.commit({p: progress.next_offset for p, progress in reached.items()})
        return Turn(len(records), rejected, frozenset(reached))

    def mark_idle(self, partitions: Iterable[Partition], *, only_unread: bool = False) -> None:
        """Say of partitions read to their end that they hold the watermark back no longer.

        ``only_unread`` means those of them in which there never was a record.
        """
        wanted = set(partitions)
        for shard in range(self._store.shards):
            cut = self._cuts[shard]
            idle = {
                p: progress._replace(frontier_ms=IDLE)
                for p, progress in cut.items()
                if p in wanted
                and progress.frontier_ms != IDLE
                and not (only_unread and progress.frontier_ms != UNREAD)
            }
            if idle:
                self._commit_progress(shard, idle)

    def evaluate(self) -> list[Transition]:
        """Release what the watermark allows to the rules, and save; [] when nothing is new.

        A long backlog is released in slices, each saved on its own. When another evaluator was
        faster its result stands and this one is dropped.
        """
        evaluation = self._store.evaluation()
        cuts = self._known(self._store.cuts())
        reached_ms = watermark(cuts)
        transitions: list[Transition] = []
        while reached_ms is not None and reached_ms > (evaluation.watermark_ms or UNREAD):
            try:
                evaluation, found = self._release(evaluation, reached_ms, cuts)
            except CommitConflict:
                return transitions
            transitions += found
        self._watermark_ms = evaluation.watermark_ms
        return transitions

    def _release(
        self, before: Evaluation, reached_ms: int, cuts: list[Cut]
    ) -> tuple[Evaluation, list[Transition]]:
        """One slice of votes to the rules.

        A vote that took the place of one just released, before that one was forgotten, is
        forgotten too: it is not counted again.
        """
        store = self._store
        store.forget(before.releasing)
        waiting, until_ms = self._slice(reached_ms)
        given = {(vote.rule, vote.prediction_id) for vote in before.releasing}
        votes = [vote for vote in waiting if (vote.rule, vote.prediction_id) not in given]
        states, found = alerts.evaluate(self._spec.rules, before.states, votes, until_ms)
        cut = tuple(sorted((str(p), progress.next_offset) for p, progress in _least(cuts).items()))
        transitions = [replace(transition, cut=cut) for transition in found]
        after = Evaluation(before.sequence + 1, until_ms, states, tuple(waiting))
        store.commit_evaluation(after, transitions)
        store.forget(waiting)
        return after, transitions

    def _slice(self, reached_ms: int) -> tuple[list[Vote], int]:
        """Votes before ``reached_ms``, or before an earlier instant if there are too many.

        Votes of one instant are never separated: what was released must be complete.
        """
        waiting = self._store.waiting(reached_ms, self._limits.votes_at_once)
        if len(waiting) < self._limits.votes_at_once:
            return waiting, reached_ms
        last_ms = waiting[-1].release_ms
        earlier = [vote for vote in waiting if vote.release_ms < last_ms]
        return (earlier, last_ms) if earlier else (self._store.waiting(last_ms + 1), last_ms + 1)

    def sweep(self) -> None:
        """Let the store drop some of what can no longer be reached."""
        if self._watermark_ms is not None:
            self._store.sweep(self._watermark_ms, self._spec.windows.horizon_ms)

    def _follow_assignment(self) -> None:
        """After a rebalance: read on from the cuts, which know better than committed offsets."""
        generation = self._log.generation
        if generation == self._generation:
            return
        self._cuts = self._store.cuts()
        self._register(self._log.partitions())
        least = _least(self._cuts)
        assigned = self._log.assigned()
        self._wake(assigned)
        self._log.seek({p: least[p].next_offset for p in assigned if p in least})
        self._generation = generation

    def _register(self, partitions: frozenset[Partition]) -> None:
        """Enter partitions nobody has read yet, so that they hold the watermark back."""
        for shard in range(self._store.shards):
            new = {p: Progress(0) for p in partitions if p not in self._cuts[shard]}
            if new:
                self._commit_progress(shard, new)

    def _wake(self, partitions: frozenset[Partition]) -> None:
        """Let partitions that were idle hold the watermark again: there may be records by now."""
        for shard in range(self._store.shards):
            woken = {
                p: progress._replace(frontier_ms=progress.last_log_ms)
                for p, progress in self._cuts[shard].items()
                if p in partitions and progress.frontier_ms == IDLE
            }
            if woken:
                self._commit_progress(shard, woken)

    def _known(self, cuts: list[Cut]) -> list[Cut]:
        """The cuts without partitions of topics that are not read any more."""
        known = self._log.partitions()
        if not known:
            return cuts
        return [{p: progress for p, progress in cut.items() if p in known} for cut in cuts]

    def _divert(self, records: Sequence[Record], envelopes: Sequence[Envelope]) -> int:
        """Write rejected records to the dead-letter topic before they count as dealt with."""
        rejects = [(e.position, e.fact) for e in envelopes if isinstance(e.fact, Rejected)]
        for kind, position, fact in envelopes:
            in_a_row = self._rejects_in_a_row
            in_a_row[kind] = in_a_row[kind] + 1 if isinstance(fact, Rejected) else 0
            if isinstance(fact, Rejected) and in_a_row[kind] > self._limits.max_consecutive_rejects:
                raise TooManyRejects(
                    f"{position}: {in_a_row[kind]} {kind} in a row were rejected, the last as "
                    f"{fact.reason}; stopped before this batch was counted. Look at `recallwatch "
                    "check` and mend the producer or the mapping; to send those that are in the "
                    "log to the dead-letter topic, raise worker.max_consecutive_rejects"
                )
        if rejects and self._dead_letters is not None:
            by_position = {record.position: record for record in records}
            self._dead_letters.publish(
                dead_letter(by_position[position], fact, self._dead_letter_topic)
                for position, fact in rejects
            )
        return len(rejects)

    def _commit(
        self, shard: int, envelopes: Sequence[Envelope], reached: Mapping[Partition, Progress]
    ) -> None:
        while True:
            cut = self._cuts[shard]
            progress = {
                p: _further(cut.get(p), new)
                for p, new in reached.items()
                if new.next_offset > _next_offset(cut, p)
            }
            if not progress:
                return
            fresh = _not_before(cut, envelopes)
            changes = engine.step(
                self._spec,
                self._store.load(shard, engine.ids_of(fresh)),
                fresh,
                progress=progress,
                watermark_ms=self._watermark_ms,
            )
            try:
                self._store.commit(shard, cut, changes)
            except CommitConflict:
                self._cuts = self._store.cuts()
                continue
            self._cuts[shard] = {**cut, **progress}
            return

    def _commit_progress(self, shard: int, progress: Mapping[Partition, Progress]) -> None:
        """Commit without records. Somebody else's commit in between makes it pointless."""
        cut = self._cuts[shard]
        changes = engine.step(self._spec, {}, [], progress=progress, watermark_ms=None)
        try:
            self._store.commit(shard, cut, changes)
            self._cuts[shard] = {**cut, **progress}
        except CommitConflict:
            self._cuts = self._store.cuts()

    def _split(self, envelopes: list[Envelope]) -> list[list[Envelope]]:
        """One list for each shard. Rejected records have no id; the first keeps their books."""
        shards = self._store.shards
        if shards == 1:
            return [envelopes]
        split: list[list[Envelope]] = [[] for _ in range(shards)]
        for envelope in envelopes:
            fact = envelope.fact
            shard = 0 if isinstance(fact, Rejected) else shard_of(fact.prediction_id, shards)
            split[shard].append(envelope)
        return split


def dead_letter(record: Record, rejected: Rejected, topic: str) -> OutRecord:
    """The original bytes under the original position; key and headers say what and why."""
    key = None if record.key is None else record.key.decode(errors="replace")
    headers = (
        ("reason", str(rejected.reason).encode()),
        ("detail", rejected.detail.encode()),
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
        ("log_ms", str(record.log_ms).encode()),
        ("key", json.dumps(key).encode()),
    )
    return OutRecord(topic, str(record.position).encode(), record.value, headers)


def _reached(records: Iterable[Record]) -> dict[Partition, Progress]:
    last: dict[tuple[str, int], tuple[int, int]] = {}
    for record in records:
        place = record.topic, record.partition
        newest = max(last[place][1], record.log_ms) if place in last else record.log_ms
        last[place] = record.offset, newest
    return {
        Partition(*place): Progress(offset + 1, newest, newest)
        for place, (offset, newest) in last.items()
    }


def _further(known: Progress | None, new: Progress) -> Progress:
    newest = max(known.last_log_ms, new.last_log_ms) if known else new.last_log_ms
    return Progress(new.next_offset, newest, newest)


def _next_offset(cut: Cut, partition: Partition) -> int:
    progress = cut.get(partition)
    return progress.next_offset if progress else 0


def _not_before(cut: Cut, envelopes: Sequence[Envelope]) -> list[Envelope]:
    """Those that the cut has not passed: the others were redelivered."""
    start = {tuple(partition): progress.next_offset for partition, progress in cut.items()}
    return [e for e in envelopes if e.position[2] >= start.get(e.position[:2], 0)]


def _least(cuts: Iterable[Cut]) -> dict[Partition, Progress]:
    """For each partition the progress of the shard that is furthest behind."""
    least: dict[Partition, Progress] = {}
    for cut in cuts:
        for partition, progress in cut.items():
            held = least.get(partition)
            if held is None or progress.next_offset < held.next_offset:
                least[partition] = progress
    return least
