"""One turn of the flow: the order of effects, kept here and nowhere else.

::

    poll -> decode -> sample -> split by shard -> load -> dead letters -> engine.step (pure)
         -> ONE atomic compare-and-commit per shard -> commit offsets
            (meanwhile the next batch is polled, decoded, loaded and stepped)
    lead -> evaluate -> ONE atomic commit of states, transitions and outbox -> deliver the outbox

A crash at any arrow repeats work, but neither loses nor doubles a count: a shard's cut is committed
together with everything that was counted up to it, records before the cut are skipped, and dead
letters carry their position as key. Reading follows the cut and nothing else: after a rebalance,
after the log has dropped records (a gap, entered in the ledger), and after the store has lost what
it had acknowledged. ``app.live`` and ``app.replay`` both drive this class; they differ in what is
behind the ports.
"""

import gc
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import compress
from pathlib import Path
from traceback import extract_tb
from zlib import crc32

from monitor.codec.journal import (
    books_digest,
    forgotten_hash,
    found_digest,
    sealed,
    state_digest,
)
from monitor.codec.records import RecordCodec
from monitor.domain import alerts, engine, ledger, pairing, signals
from monitor.domain.alerts import Transition
from monitor.domain.cut import IDLE, UNREAD, Cut, Progress, watermark
from monitor.domain.engine import Changes, Spec
from monitor.domain.errors import CommitConflict, TooManyRejects
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import (
    Batch,
    Fact,
    Kind,
    Label,
    NextOffsets,
    Partition,
    PassedOver,
    Position,
    Prediction,
    PredictionId,
    Reason,
    Record,
    Rejected,
)
from monitor.domain.forgetting import Request, without
from monitor.domain.join import Entry
from monitor.domain.journal import Forgotten, JournalEntry, Offsets
from monitor.domain.ledger import Gap
from monitor.domain.measures import Measures, Panes
from monitor.domain.sampling import EVERY, kept
from monitor.domain.slices import ALL
from monitor.domain.votes import Role, Vote
from monitor.domain.windows import HOUR_MS, MINUTE_MS, Clock
from monitor.ports import Lease, OutRecord, RecordLog, RecordSink, StateStore, shard_of

LEASE_MS = 10_000
"""How long the evaluator's silence is waited for before another worker takes over."""

_POISON = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a record raises that our own code does not cope with."""

_CRC_BITS = 0xFFFFFFFF
_CRC_MEAN = 1 << 31

_Runs = Mapping[Partition, Sequence[Record]]
"""What was read of each partition, in offset order, and never nothing."""

Facts = Sequence[Fact | PassedOver | None]
"""What each of the records in hand says; None for those that do not concern us."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``batch_records`` a turn; more than ``max_consecutive_rejects`` in a row stop the worker.

    ``votes_at_once`` bounds what one evaluation holds in memory and saves.
    """

    batch_records: int = 8_000
    max_consecutive_rejects: int = 1_000
    votes_at_once: int = 1_000


@dataclass(frozen=True)
class Provenance:
    """Under what the numbers came about, for the journal.

    ``document`` is the JSON of the settings that decide numbers and alerts, ``code`` the release.
    """

    document: str
    code: str

    @cached_property
    def settings(self) -> str:
        """Digest of the document."""
        return hashlib.sha256(self.document.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn did: records read, how many of them were rejected, and where they stood."""

    records: int = 0
    rejected: int = 0
    partitions: frozenset[Partition] = frozenset()

    def and_then(self, other: "Turn") -> "Turn":
        """Both together."""
        return Turn(
            self.records + other.records,
            self.rejected + other.rejected,
            self.partitions | other.partitions,
        )


@dataclass(frozen=True, slots=True)
class _Share:
    """What a shard has to count of a batch.

    ``loaded`` waits for the entries; ``newer`` are those of commits begun since they were asked
    for, the newest last. ``refused`` is how many commits of the shard had been refused by then.
    """

    records: Sequence[Record]
    facts: Facts
    batch: Batch
    ids: AbstractSet[PredictionId]
    refused: int
    loaded: Callable[[], dict[PredictionId, Entry]]
    newer: list[Mapping[PredictionId, Entry]] = field(default_factory=list)

    def entries(self) -> dict[PredictionId, Entry]:
        """The entries as they will be once all of these commits have ended as they were begun."""
        entries = self.loaded()
        for newer in self.newer:
            entries.update({key: newer[key] for key in self.ids & newer.keys()})
        return entries


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A batch that is ready to be counted, by shard."""

    records: Sequence[Record]
    facts: Facts
    read: _Runs
    reached: Mapping[Partition, Progress]
    shares: Sequence[_Share]

    @property
    def next_offsets(self) -> NextOffsets:
        """Where it ends."""
        return {p: progress.next_offset for p, progress in self.reached.items()}


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A commit that was begun: the cut of its shard once ``end`` has returned.

    ``reached`` is where its batch ends; ``again`` does the same anew, from what the store holds
    then.
    """

    shard: int
    cut: Cut
    reached: NextOffsets
    end: Callable[[], None]
    again: Callable[[], None]


class _WentBack(Exception):  # noqa: N818 - says what happened
    """The store is behind the place where the records in hand begin."""


class Flow:
    """The flow between one log and one store. Not thread-safe; one for each worker.

    ``worker`` must be unique to the process among all that work on the store. ``on_gap`` is told at
    once when the log turns out to have dropped records before they were counted. ``on_votes`` gets
    the votes that alerts were given, in that order. Where ``provenance`` is set, every evaluation
    is entered in the journal. ``redacted`` holds the checksums that records had before texts were
    taken out of them.
    """

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
        worker: str = "worker",
    ) -> None:
        self.on_gap: Callable[[Gap], None] = lambda _: None
        self.on_votes: Callable[[Sequence[Vote]], None] = lambda _: None
        self.provenance: Provenance | None = None
        self.is_behind = False
        self.redacted: Mapping[Position, int] = {}
        self._spec, self._codec, self._log, self._store = spec, codec, log, store
        self._dead_letters, self._dead_letter_topic = dead_letters, dead_letter_topic
        self._limits, self._worker = limits or Limits(), worker
        self._told = ""
        self._booked_minute = -1
        self._cuts: list[Cut] = []
        self._under_way: _UnderWay | None = None
        self._ahead: list[Decoded] = []
        self._refused: Counter[int] = Counter()
        self._brought: dict[Partition, int] = {}
        self._suspected: NextOffsets = {}
        self._generation: int | None = None
        self._place: dict[Partition, int] = {}
        self._rejects_in_a_row: Counter[Kind] = Counter()
        self._lease: Lease | None = None
        self._measures = Measures(Panes(spec.windows, store.panes))
        self._watermark_ms: int | None = store.evaluation().watermark_ms

    def turn(self, goes_on: Callable[[], bool] = lambda: False) -> Turn:
        """Read one batch and carry it to the end; a turn without records is fine.

        As long as batches come in full and it ``goes_on``, more of them: while one is counted and
        committed, the entries of the next are on their way. Not while an evaluation ``is_behind``:
        then it is one batch, and nobody waits for it.
        """
        done = Turn()
        with uncollected():
            self._ahead.clear()
            self._follow_assignment()
            try:
                waiting: Callable[[], Turn] | None = None
                while records := self._polled(0 if waiting or self.is_behind else None):
                    following = self._begun(records)
                    if waiting:
                        done = done.and_then(waiting())
                    waiting = following
                    is_last = self.is_behind or 2 * len(records) < self._limits.batch_records
                    if is_last or not goes_on():
                        break
                if waiting:
                    done = done.and_then(waiting())
                self._settle()
            except TooManyRejects:
                self._abandon()
                self._read_again()
                raise
            except _WentBack:
                self._abandon()
                self._read_again()
            # At once, so that what the log says of its end is true when this turn is over.
            self._follow_assignment()
        return done

    def _polled(self, wait_ms: int | None) -> Sequence[Record]:
        """The next batch; nothing when it is not known any more where to read on."""
        records = self._log.poll(self._limits.batch_records, wait_ms)
        return records if self._log.generation == self._generation else []

    def _begun(self, records: Sequence[Record]) -> Callable[[], Turn]:
        """Decode records, and ask for what is known of them; the rest is done when it is called."""
        try:
            return partial(self._carry, records, self._decoded(records))
        except _POISON:
            return partial(self._carry, records)

    def _settle(self) -> bool:
        """Wait for the end of the commit that is under way; if it lost a race, make it anew.

        Then what it was about has been dealt with. False when something else was committed than
        what was begun.
        """
        under_way, self._under_way = self._under_way, None
        brought, self._brought = self._brought, {}
        is_as_begun = True
        if under_way is not None:
            try:
                is_as_begun = self._has_ended(under_way)
                if not is_as_begun:
                    under_way.again()
            except _POISON as error:
                if self._suspected:
                    raise
                # The batch is read again, and this time the record is looked for.
                self._suspected = under_way.reached
                raise _WentBack from error
        if brought:
            self._place.update(brought)
            self._log.commit(brought)
            if all(self._place.get(p, past) >= past for p, past in self._suspected.items()):
                self._suspected = {}
        return is_as_begun

    def _abandon(self) -> None:
        """Wait for the end of what is under way, whatever comes of it: the cuts will tell."""
        under_way, self._under_way = self._under_way, None
        self._brought = {}
        if under_way is not None:
            with suppress(CommitConflict, *_POISON):
                under_way.end()

    def _has_ended(self, under_way: "_UnderWay") -> bool:
        """Wait; False, and know the cuts better, when somebody else committed in between."""
        try:
            under_way.end()
        except CommitConflict:
            self._refused[under_way.shard] += 1
            self._cuts = self._store.cuts()
            return False
        self._cuts[under_way.shard] = under_way.cut
        return True

    def _carry(self, records: Sequence[Record], decoded: Decoded | None = None) -> Turn:
        """Bring records into the store; the last commit is left under way.

        A record that our code fails on is found by halving, and rejected alone.
        """
        rejects_before = self._rejects_in_a_row.copy()
        try:
            return self._bring(decoded or self._decoded(records))
        except _POISON as error:
            self._rejects_in_a_row = rejects_before
            if len(records) == 1:
                facts, home = [self._poisoned(error)], self._home(records[0])
                return self._bring(self._shared(records, facts, books=home))
            middle = len(records) // 2
            return self._carry(records[:middle]).and_then(self._carry(records[middle:]))

    def _decoded(self, records: Sequence[Record]) -> Decoded:
        return self._shared(records, self._sampled(self._codec.facts(records)))

    def _shared(self, records: Sequence[Record], facts: Facts, *, books: int = 0) -> Decoded:
        """A batch by shard; the entries that it needs are asked for."""
        shares = []
        for shard, (of_shard, told) in enumerate(self._split(records, facts, books)):
            batch = self._batch(of_shard, told)
            ids = engine.ids_of(batch)
            loaded = self._store.begin_load(shard, ids)
            shares.append(_Share(of_shard, told, batch, ids, self._refused[shard], loaded))
        read = _by_partition(records)
        reached = {partition: _reached(run) for partition, run in read.items()}
        decoded = Decoded(records, facts, read, reached, shares)
        self._ahead.append(decoded)
        return decoded

    def _sampled(self, facts: Sequence[Fact | None]) -> Facts:
        """The facts, in which those whose ids are not in the sample are passed over.

        Only what is understood: a rejected record is one whatever the sample.
        """
        share = self._spec.sampling
        if share >= EVERY:
            return facts
        ids = [fact[0] for fact in facts if isinstance(fact, Prediction | Label)]
        answers = iter(kept(ids, share))
        return [
            PassedOver.NOT_SAMPLED
            if isinstance(fact, Prediction | Label) and not next(answers)
            else fact
            for fact in facts
        ]

    def _poisoned(self, error: Exception) -> Rejected:
        """Names the place in the code alone: the text of the error may quote the message."""
        where = extract_tb(error.__traceback__, limit=-1)[-1]
        detail = f"{type(error).__name__} in {where.name}, {Path(where.filename).name}"
        return Rejected(Reason.UNPROCESSABLE, f"{detail}:{where.lineno}")

    def _home(self, record: Record) -> int:
        """The shard that books a record our code fails on: its own one, if it can be decoded.

        Shards before that one may have passed the record already.
        """
        try:
            fact = self._codec.fact(record)
        except _POISON:
            return 0
        if fact is None or isinstance(fact, Rejected):
            return 0
        return shard_of(fact.prediction_id, self._store.shards)

    def _bring(self, decoded: Decoded) -> Turn:
        """Dead letters, then one commit per shard; only then have the records been dealt with."""
        self._ahead.remove(decoded)
        rejected = self._divert(decoded.records, decoded.facts)
        for shard in range(self._store.shards):
            self._commit(shard, decoded)
        self._brought = {**decoded.next_offsets}
        if self._suspected:
            self._settle()
        return Turn(len(decoded.records), rejected, frozenset(decoded.reached))

    def mark_idle(self, partitions: Iterable[Partition], *, only_unread: bool = False) -> None:
        """Say of partitions read to their end that they hold the watermark back no longer.

        ``only_unread`` means those of them in which there never was a record. The cut takes the
        log's place, which may lie beyond the last record: else what a transaction left there would
        look like a record to come, and like a lost one when the log drops it.
        """
        wanted, places = set(partitions), self._log.places()
        for shard in range(self._store.shards):
            idle = {
                p: Progress(max(places.get(p, 0), progress.next_offset), IDLE, progress.last_log_ms)
                for p, progress in self._cuts[shard].items()
                if p in wanted
                and progress.next_offset >= self._place.get(p, 0)
                and (progress.frontier_ms != IDLE or progress.next_offset < places.get(p, 0))
                and not (only_unread and progress.frontier_ms != UNREAD)
            }
            if idle:
                self._commit_progress(shard, idle)

    def take_over(self) -> None:
        """Before the first turn: enter how far was counted under other settings than ours.

        An audit changes settings at that very place. Nothing when they are the same, or another
        worker evaluates.
        """
        if self.provenance is None:
            return
        last = self._store.journal(self._store.evaluation().sequence - 1)
        if last and last[-1].settings != self.provenance.settings:
            self.evaluate(is_anew=True)

    def evaluate(
        self,
        until_ms: int | None = None,
        *,
        is_anew: bool = False,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> list[Transition]:
        """Release what the watermark allows to the rules, and save; [] when nothing is new.

        Only one worker at a time does; for the others there is never anything new. A long backlog
        is released in slices, each saved on its own, as long as it ``goes_on``; ``is_behind`` tells
        whether some of it is left. When another evaluator has taken over, its result stands and
        this one is dropped. ``until_ms`` is the watermark if the caller knows better: an audit goes
        to where the evaluation that it replays had come. With ``is_anew`` something always is: the
        rules are new.
        """
        self.is_behind = False
        with uncollected():
            return self._evaluate(until_ms, is_anew=is_anew, goes_on=goes_on)

    def _evaluate(
        self, until_ms: int | None, *, is_anew: bool, goes_on: Callable[[], bool]
    ) -> list[Transition]:
        self.forget()
        evaluation = self._store.evaluation()
        self._watermark_ms = evaluation.watermark_ms
        marks = self._store.marks()
        cuts = [mark.cut for mark in marks]
        if self._went_back(cuts):
            self._read_again()
            return []
        if self._lease is None:
            return []
        cuts = self._awake(self._known(cuts))
        reached_ms = watermark(cuts) if until_ms is None else until_ms
        transitions: list[Transition] = []
        known_ms = evaluation.watermark_ms
        if is_anew and known_ms is not None:
            reached_ms = max(known_ms, UNREAD if reached_ms is None else reached_ms)
        while reached_ms is not None and (
            is_anew or reached_ms > (evaluation.watermark_ms or UNREAD)
        ):
            is_anew = False
            try:
                read = _Read(reached_ms, cuts, [mark.ledger for mark in marks])
                evaluation, found = self._release(evaluation, read, self._lease)
            except CommitConflict:
                self._lease = None
                return transitions
            transitions += found
            if reached_ms > (evaluation.watermark_ms or UNREAD) and not goes_on():
                self.is_behind = True
                break
        self._watermark_ms = evaluation.watermark_ms
        return transitions

    def forget(self) -> None:
        """Carry out what people asked to be forgotten, if this worker is the evaluator now.

        An entry of its own in the journal says what each shard forgot, and when.
        """
        self._lease = self._store.lead(self._worker, LEASE_MS)
        if self._lease is None:
            return
        for request in self._store.to_forget():
            try:
                self._carry_out(request)
            except CommitConflict:
                self._lease = None
                return

    def _carry_out(self, request: Request) -> None:
        """Whatever is broken off is done again: shards that have done it say when they did."""
        forgot = [
            _forgotten(request, shard, self._store.shards, self._known([cut]))
            for shard, cut in self._store.erase(request).items()
        ]
        self.leave_out(frozenset(request.ids).__contains__, forgot)
        self._store.fulfilled(request.id)

    def leave_out(
        self, is_forgotten: Callable[[str], bool], forgot: Sequence[Forgotten] = ()
    ) -> None:
        """Let the evaluator know nothing more of predictions that are forgotten, and journal it.

        CommitConflict when another worker is the evaluator.
        """
        before, store = self._store.evaluation(), self._store
        lease = store.lead(self._worker, LEASE_MS)
        if lease is None:
            raise CommitConflict("another evaluator has taken over")
        marks = store.marks()
        cuts = self._known([mark.cut for mark in marks])
        read = _Read(before.watermark_ms or 0, cuts, [mark.ledger for mark in marks])
        after = without(before, is_forgotten)
        after = replace(after, sequence=before.sequence + 1)
        entry = self._entered(before, after, [], read, forgot)
        if entry is not None:
            after = replace(after, chain=entry.hash)
        store.commit_evaluation(after, [], lease, entry=entry)

    def deliver(self, to: Callable[[Transition], None]) -> None:
        """Hand over the transitions in the outbox, if this worker is the evaluator.

        At least once: a crash, or a failure of ``to``, leaves them to the next evaluator.
        """
        while self._lease is not None and (waiting := self._store.outbox()):
            for transition in waiting:
                to(transition)
            try:
                self._store.delivered(waiting, self._lease)
            except CommitConflict:
                self._lease = None

    def publish(self, to: Callable[[Sequence[JournalEntry]], None]) -> None:
        """Hand over the journal entries that are yet to be published, if this is the evaluator.

        At least once: a crash, or a failure of ``to``, leaves them to the next evaluator.
        """
        while self._lease is not None and (waiting := self._store.unpublished()):
            to(waiting)
            try:
                self._store.published(waiting[-1].sequence, self._lease)
            except CommitConflict:
                self._lease = None

    @property
    def is_evaluator(self) -> bool:
        """Whether this worker asked the rules last, as far as it knows."""
        return self._lease is not None

    def resign(self) -> None:
        """Leave evaluation to the other workers at once."""
        if self._lease is not None:
            self._store.resign(self._lease)
            self._lease = None

    def _release(
        self, before: Evaluation, read: "_Read", lease: Lease
    ) -> tuple[Evaluation, list[Transition]]:
        """One slice of votes to the rules.

        Votes that were released before, but not forgotten since, are only forgotten now; so are
        those that took the place of one of them meanwhile.
        """
        store = self._store
        store.hold(before.holding)
        known_ms = UNREAD if before.watermark_ms is None else before.watermark_ms
        waiting, until_ms = self._slice(read.until_ms, known_ms)
        signalled = signals.evaluate(
            self._spec.signals,
            before.signals,
            self._measures,
            self._variants,
            from_ms=before.watermark_ms,
            until_ms=until_ms,
            starts=self._hours_told,
        )
        if signalled.until_ms < until_ms:
            until_ms = signalled.until_ms
            waiting = [vote for vote in waiting if vote.release_ms < until_ms]
        given = {_place_of(vote) for vote in before.releasing}
        votes = [
            vote
            for vote in waiting
            if _place_of(vote) not in given and not self._is_past(vote, before)
        ]
        watched, asked = self._spec.comparisons, set[str]()
        if watched:
            asked = pairing.names_asked(watched, before.pairs, votes)
        spoken = store.spoken(asked | {v for vote in votes if (v := alerts.voice_of(vote))})
        judged = alerts.evaluate(
            self._spec.rules,
            before.states,
            votes,
            until_ms,
            books=before.books,
            spoken=spoken,
        )
        paired = pairing.evaluate(watched, before.pairs, votes, until_ms, spoken=spoken)
        found = alerts.in_order([*judged.transitions, *signalled.transitions])
        transitions = [replace(transition, cut=read.cut) for transition in found]
        after = Evaluation(
            before.sequence + 1,
            until_ms,
            judged.states,
            releasing=tuple(waiting),
            holding=tuple(judged.held),
            books=judged.books,
            signals=signalled.states,
            pairs=paired.books,
        )
        entry = self._entered(before, after, transitions, read)
        if entry is not None:
            after = replace(after, chain=entry.hash)
        said = {**judged.spoken, **paired.spoken}
        store.commit_evaluation(after, transitions, lease, said, entry)
        self.on_votes(judged.counted)
        store.hold(judged.held)
        store.forget(waiting)
        return after, transitions

    def _entered(
        self,
        before: Evaluation,
        after: Evaluation,
        transitions: Sequence[Transition],
        read: "_Read",
        forgot: Sequence[Forgotten] = (),
    ) -> JournalEntry | None:
        """The evaluation as the journal has it; None without one.

        The books are digested once a minute of log time, with every transition, and where something
        was forgotten: they are long.
        """
        under = self.provenance
        if under is None:
            return None
        minute = (after.watermark_ms or 0) // MINUTE_MS
        is_news = bool(transitions or forgot) or minute != self._booked_minute
        is_booked = read.is_level and is_news
        if is_booked:
            self._booked_minute = minute
        books = ledger.merged(list(read.ledgers)) if is_booked else {}
        is_told = self._told == before.chain != ""
        entry = JournalEntry(
            after.sequence,
            after.watermark_ms or 0,
            read.cut,
            under.settings,
            under.code,
            state_digest(after),
            books_digest(books) if is_booked else "",
            tuple(transition.id for transition in transitions),
            found_digest(transitions),
            before.chain,
            document="" if is_told else under.document,
            inputs=tuple(ledger.inputs_of(books).items()) if is_booked else (),
            forgot=tuple(forgot),
        )
        entry = sealed(entry)
        self._told = entry.hash
        return entry

    def _variants(self) -> list[str]:
        return [key.variant for key in self._store.slice_keys() if key.slice == ALL]

    def _hours_told(self) -> list[int]:
        """The hours in which the log told anything."""
        panes = self._store.pane_keys(HOUR_MS)
        return sorted({pane.start_ms for pane in panes if pane.clock is Clock.LOG})

    def _is_past(self, vote: Vote, before: Evaluation) -> bool:
        """Whether a held vote was brought back by an evaluator that had been taken over from.

        What was held is released once the watermark passes its release, so none before it is left.
        """
        if vote.role is not Role.LIVE or before.watermark_ms is None:
            return False
        is_held = any(r.name == vote.rule and r.maturity_ms is None for r in self._spec.rules)
        return is_held and vote.release_ms < before.watermark_ms

    def _slice(self, reached_ms: int, known_ms: int) -> tuple[list[Vote], int]:
        """Votes before ``reached_ms``, or before an earlier instant if there are too many.

        Votes of one instant are never separated, nor those before the watermark that is known: what
        was released must be complete.
        """
        waiting = self._store.waiting(reached_ms, self._limits.votes_at_once)
        if len(waiting) < self._limits.votes_at_once:
            return waiting, reached_ms
        last_ms = waiting[-1].release_ms
        if last_ms < known_ms:
            return self._store.waiting(known_ms), known_ms
        earlier = [vote for vote in waiting if vote.release_ms < last_ms]
        return (earlier, last_ms) if earlier else (self._store.waiting(last_ms + 1), last_ms + 1)

    def sweep(self) -> None:
        """Let the store drop some of what can no longer be reached."""
        if self._watermark_ms is not None:
            self._store.sweep(self._watermark_ms, self._spec.windows.horizon_ms)

    def _went_back(self, cuts: Iterable[Cut]) -> bool:
        """Whether the store has lost something of what we had brought into it."""
        place = self._place.items()
        return any(_next_offset(cut, p) < reached for cut in cuts for p, reached in place)

    def _read_again(self) -> None:
        """Let the next turn begin at the cuts; the rejects met since then will be met again."""
        self._generation = None
        self._rejects_in_a_row.clear()

    def _follow_assignment(self) -> None:
        """Where reading has to go on: at the cuts, which know better than committed offsets.

        After a rebalance, or when a place was lost.
        """
        generation = self._log.generation
        if generation == self._generation:
            return
        self._cuts = self._store.cuts()
        assigned = self._log.assigned()
        partitions = self._log.partitions() | assigned
        oldest = self._log.oldest(partitions)
        self._register(partitions, oldest)
        self._wake(assigned)
        self._enter_gaps(assigned, oldest)
        least = _least(self._cuts)
        self._place = {p: least[p].next_offset for p in assigned}
        self._log.seek(self._place)
        self._generation = generation

    def _register(self, partitions: frozenset[Partition], oldest: NextOffsets) -> None:
        """Enter partitions nobody has read yet, so that they hold the watermark back."""
        for shard in range(self._store.shards):
            while missing := partitions - self._cuts[shard].keys():
                new = {p: Progress(self._first_offset(p, oldest[p])) for p in missing}
                self._commit_progress(shard, new)

    def _first_offset(self, partition: Partition, oldest: int) -> int:
        """Where a shard begins that does not know the partition.

        What the log had dropped before anybody read it was never ours to count: that is no gap. But
        a shard that does not know what we or other shards have read has lost its state: it begins
        at 0, so that whatever the log has dropped is named.
        """
        known = [cut[partition] for cut in self._cuts if partition in cut]
        was_read = any(progress != Progress(progress.next_offset) for progress in known)
        if was_read or partition in self._place:
            return 0
        return min([oldest, *(progress.next_offset for progress in known)])

    def _enter_gaps(self, partitions: frozenset[Partition], oldest: NextOffsets) -> None:
        """Move the cuts past records that the log does not hold any more, and say so.

        Said even when it ends in an error: what was entered is not found again.
        """
        entered: dict[str, int] = {}
        try:
            for shard in range(self._store.shards):
                while missing := _missing(self._cuts[shard], partitions, oldest):
                    cut = self._cuts[shard]
                    progress = {
                        g.partition: cut[g.partition]._replace(next_offset=g.past) for g in missing
                    }
                    books = {ledger.gap(gap): 1 for gap in missing}
                    if self._commit_progress(shard, progress, books):
                        entered |= books
        finally:
            for gap in ledger.gaps_of(entered):
                self.on_gap(gap)

    def _wake(self, partitions: frozenset[Partition]) -> None:
        """Let partitions that were idle hold the watermark again: there may be records by now."""
        for shard in range(self._store.shards):
            while woken := {
                p: progress._replace(frontier_ms=progress.last_log_ms)
                for p, progress in self._cuts[shard].items()
                if p in partitions and progress.frontier_ms == IDLE
            }:
                self._commit_progress(shard, woken)

    def _known(self, cuts: list[Cut]) -> list[Cut]:
        """The cuts without partitions of topics that are not read any more.

        Whole topics only: a broker that has just been started may not yet name all partitions, and
        one left out would not hold the watermark back.
        """
        topics = {partition.topic for partition in self._log.partitions()}
        if not topics:
            return cuts
        return [{p: progress for p, progress in cut.items() if p.topic in topics} for cut in cuts]

    def _awake(self, cuts: list[Cut]) -> list[Cut]:
        """The cuts, in which an idle partition that has got records since is idle no more.

        Its reader may be dead, and nobody else have noticed yet.
        """
        idle = {p for cut in cuts for p, progress in cut.items() if progress.frontier_ms == IDLE}
        newest = self._log.newest(idle) if idle else {}
        return [
            {
                p: progress._replace(frontier_ms=progress.last_log_ms)
                if progress.frontier_ms == IDLE and newest[p] > progress.next_offset
                else progress
                for p, progress in cut.items()
            }
            for cut in cuts
        ]

    def _divert(self, records: Sequence[Record], facts: Facts) -> int:
        """Write rejected records to the dead-letter topic before they count as dealt with."""
        rejects = [
            (record, fact)
            for record, fact in zip(records, facts, strict=True)
            if isinstance(fact, Rejected)
        ]
        if rejects or any(self._rejects_in_a_row.values()):
            self._count_in_a_row(records, facts)
        if rejects and self._dead_letters is not None:
            self._dead_letters.publish(
                dead_letter(record, fact, self._dead_letter_topic) for record, fact in rejects
            )
        return len(rejects)

    def _count_in_a_row(self, records: Sequence[Record], facts: Facts) -> None:
        in_a_row = self._rejects_in_a_row
        for record, fact in zip(records, facts, strict=True):
            if fact is None:
                continue
            kind = self._codec.kind_of(record)
            in_a_row[kind] = in_a_row[kind] + 1 if isinstance(fact, Rejected) else 0
            if isinstance(fact, Rejected) and in_a_row[kind] > self._limits.max_consecutive_rejects:
                raise TooManyRejects(
                    f"{record.position}: {in_a_row[kind]} {kind} in a row were rejected, the last "
                    f"as {fact.reason}; stopped before this batch was counted. Look at "
                    "`recallwatch check` and mend the producer or the mapping; to send those that "
                    "are in the log to the dead-letter topic, raise worker.max_consecutive_rejects"
                )

    def _commit(self, shard: int, decoded: Decoded) -> None:
        """Count a shard's share of a batch on top of what is under way, and begin to commit it.

        Every shard passes every record, so that one of them sees each exactly once.
        """
        share, cut = decoded.shares[shard], self._cut_to_be(shard)
        changes = self._changes(shard, decoded, cut, share.entries)
        is_as_begun = self._settle()
        if not is_as_begun or share.refused != self._refused[shard]:
            # Entries that were laid over those that were loaded may never have been written.
            self._commit_at_once(shard, decoded)
        elif changes is not None:
            self._under_way = _UnderWay(
                shard,
                {**cut, **changes.progress},
                decoded.next_offsets,
                self._store.begin_commit(shard, cut, changes),
                partial(self._commit_at_once, shard, decoded),
            )
            self._let_know(shard, changes)

    def _commit_at_once(self, shard: int, decoded: Decoded) -> None:
        share = decoded.shares[shard]
        load = partial(self._store.load, shard, share.ids)
        while (changes := self._changes(shard, decoded, self._cuts[shard], load)) is not None:
            if self._is_committed(shard, changes):
                self._let_know(shard, changes)
                return

    def _let_know(self, shard: int, changes: Changes) -> None:
        """Tell batches whose entries were asked for before about those that have changed since."""
        for decoded in self._ahead:
            decoded.shares[shard].newer.append(changes.entries)

    def _changes(
        self,
        shard: int,
        decoded: Decoded,
        cut: Cut,
        loaded: Callable[[], dict[PredictionId, Entry]],
    ) -> Changes | None:
        """What a shard has to commit; None when its cut has passed all that was read.

        The first shard books the checksums of all records.
        """
        if any(_next_offset(cut, p) < self._place.get(p, 0) for p in decoded.reached):
            raise _WentBack
        progress = {
            p: _further(cut.get(p), new)
            for p, new in decoded.reached.items()
            if new.next_offset > _next_offset(cut, p)
        }
        if not progress:
            return None
        share = decoded.shares[shard]
        batch, entries = share.batch, loaded()
        if any(run[0].offset < _next_offset(cut, p) for p, run in decoded.read.items()):
            batch = self._batch(*_not_before(cut, share.records, share.facts))
        changes = engine.step(
            self._spec, entries, batch, progress=progress, watermark_ms=self._watermark_ms
        )
        if shard == 0:
            inputs = _checksums(decoded.read, cut, self.redacted)
            changes = replace(changes, ledger={**changes.ledger, **inputs})
        return changes

    def _cut_to_be(self, shard: int) -> Cut:
        """The cut of a shard, once the commit that is under way has ended as it was begun."""
        under_way = self._under_way
        is_his = under_way is not None and under_way.shard == shard
        return under_way.cut if under_way and is_his else self._cuts[shard]

    def _batch(self, records: Sequence[Record], facts: Facts) -> Batch:
        predictions = [fact for fact in facts if isinstance(fact, Prediction)]
        labels = [fact for fact in facts if isinstance(fact, Label)]
        if len(predictions) + len(labels) == len(facts):
            return Batch(predictions, labels)
        rejected = [
            (self._codec.kind_of(record), fact.reason, record.log_ms)
            for record, fact in zip(records, facts, strict=True)
            if isinstance(fact, Rejected)
        ]
        passed_over = [
            (self._codec.kind_of(record), record.log_ms)
            for record, fact in zip(records, facts, strict=True)
            if fact is PassedOver.NOT_SAMPLED
        ]
        return Batch(predictions, labels, rejected, passed_over)

    def _commit_progress(
        self,
        shard: int,
        progress: Mapping[Partition, Progress],
        books: Mapping[str, int] | None = None,
    ) -> bool:
        """Commit without records; False when somebody else committed in between."""
        changes = engine.step(self._spec, {}, Batch(), progress=progress, watermark_ms=None)
        return self._is_committed(shard, replace(changes, ledger=books or {}))

    def _is_committed(self, shard: int, changes: Changes) -> bool:
        """Commit on top of the cut as we know it; False, and know it better, when it has moved."""
        cut = self._cuts[shard]
        try:
            self._store.commit(shard, cut, changes)
        except CommitConflict:
            self._cuts = self._store.cuts()
            return False
        self._cuts[shard] = {**cut, **changes.progress}
        return True

    def _split(
        self, records: Sequence[Record], facts: Facts, books: int
    ) -> list[tuple[Sequence[Record], Facts]]:
        """What each shard has to count; shard ``books`` what has no id, or none that is kept."""
        shards = self._store.shards
        if shards == 1:
            return [(records, facts)]
        split: list[tuple[list[Record], list[Fact | PassedOver | None]]] = [
            ([], []) for _ in range(shards)
        ]
        for record, fact in zip(records, facts, strict=True):
            if fact is not None:
                shard = books
                if not isinstance(fact, Rejected | PassedOver):
                    shard = shard_of(fact.prediction_id, shards)
                split[shard][0].append(record)
                split[shard][1].append(fact)
        return list(split)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collection: a batch makes many objects, none of them in a circle.

    Looking for circles among them and all that waits took as long as the work itself.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(frozen=True)
class _Read:
    """How far the log had been read when an evaluation began."""

    until_ms: int
    cuts: Sequence[Cut]
    ledgers: Sequence[ledger.Ledger]

    @cached_property
    def cut(self) -> tuple[tuple[str, int], ...]:
        """Next offsets that every shard has reached."""
        return _passed_by_all(self.cuts)

    @property
    def is_level(self) -> bool:
        """Whether all shards stand at one place."""
        places = [{p: progress.next_offset for p, progress in cut.items()} for cut in self.cuts]
        return all(place == places[0] for place in places)


def _forgotten(request: Request, shard: int, shards: int, cuts: Sequence[Cut]) -> Forgotten:
    """What a shard forgot, as the journal has it; of an id only the hash."""
    hashes = sorted(
        forgotten_hash(request.id, key) for key in request.ids if shard_of(key, shards) == shard
    )
    return Forgotten(request.id, _passed_by_all(cuts), tuple(hashes))


def _place_of(vote: Vote) -> tuple[str, str, Role, int]:
    """What tells the votes of one prediction apart; of corrections there may be several."""
    at_ms = vote.release_ms if vote.role is Role.CORRECTION else 0
    return vote.rule, vote.prediction_id, vote.role, at_ms


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


def _by_partition(records: Iterable[Record]) -> _Runs:
    runs: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in records:
        runs[record[:2]].append(record)
    return {Partition(*place): run for place, run in runs.items()}


def _reached(run: Sequence[Record]) -> Progress:
    """How far the records of a partition go."""
    newest_ms = max([record[3] for record in run])
    return Progress(run[-1].offset + 1, newest_ms, newest_ms)


def _checksums(read: _Runs, cut: Cut, redacted: Mapping[Position, int]) -> dict[str, int]:
    """For each partition the sum of the checksums of the records that ``cut`` has not passed."""
    sums: dict[str, int] = {}
    for partition, run in read.items():
        past = _next_offset(cut, partition)
        if redacted:
            found = [redacted.get(r.position, checksum(r)) for r in run if r.offset >= past]
        else:
            found = [crc32(r[5] or b"", r[2] & _CRC_BITS) for r in run if r[2] >= past]
        # About 0, so that the sum stays within 64 bits for more records than there will ever be.
        sums[ledger.input_of(partition)] = sum(found) - len(found) * _CRC_MEAN
    return sums


def checksum(record: Record) -> int:
    """CRC-32 of the value, which begins with the offset: records that change places are noticed."""
    return crc32(record.value or b"", record.offset & _CRC_BITS)


def _further(known: Progress | None, new: Progress) -> Progress:
    newest = max(known.last_log_ms, new.last_log_ms) if known else new.last_log_ms
    return Progress(new.next_offset, newest, newest)


def _next_offset(cut: Cut, partition: Partition) -> int:
    progress = cut.get(partition)
    return progress.next_offset if progress else 0


def _not_before(cut: Cut, records: Sequence[Record], facts: Facts) -> tuple[list[Record], Facts]:
    """Those that the cut has not passed: the others were redelivered."""
    start = {tuple(partition): progress.next_offset for partition, progress in cut.items()}
    is_new = [record.offset >= start.get(record[:2], 0) for record in records]
    return list(compress(records, is_new)), list(compress(facts, is_new))


def _missing(cut: Cut, partitions: Iterable[Partition], oldest: NextOffsets) -> list[Gap]:
    """What the log has dropped of what ``cut`` has yet to count."""
    return [
        Gap(p, cut[p].next_offset, oldest[p])
        for p in sorted(partitions)
        if p in cut and cut[p].next_offset < oldest[p]
    ]


def _passed_by_all(cuts: Iterable[Cut]) -> Offsets:
    """Next offsets that all of the shards have reached."""
    least = _least(cuts)
    return tuple(sorted((str(p), progress.next_offset) for p, progress in least.items()))


def _least(cuts: Iterable[Cut]) -> dict[Partition, Progress]:
    """For each partition the progress of the shard that is furthest behind."""
    least: dict[Partition, Progress] = {}
    for cut in cuts:
        for partition, progress in cut.items():
            held = least.get(partition)
            if held is None or progress.next_offset < held.next_offset:
                least[partition] = progress
    return least
