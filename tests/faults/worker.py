"""A worker that kills or freezes itself at a chosen step; otherwise ``recallwatch run`` itself.

Runs in a process of its own and writes what happens as lines to a file: a line written before a
SIGKILL stays.
"""

import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from monitor.app import live
from monitor.app.settings import Settings
from monitor.app.telemetry import configure_logging
from monitor.domain.alerts import Transition
from monitor.domain.cut import Cut
from monitor.domain.engine import Changes
from monitor.domain.errors import RecallwatchError
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import NextOffsets, PredictionId, Record
from monitor.domain.join import Entry
from monitor.domain.journal import JournalEntry
from monitor.domain.votes import Vote
from monitor.ports import EVALUATOR, Lease, OutRecord, RecordLog, RecordSink, StateStore
from tests.faults.schedule import Does, Trap

SIGNALS = {Does.KILL: signal.SIGKILL, Does.FREEZE: signal.SIGSTOP}


@dataclass(frozen=True)
class Orders:
    """What one process is to be: picklable, since it is started in a clean process."""

    settings: Mapping[str, object]
    diary: Path
    log: Path
    trap: Trap | None = None
    broken: str | None = None


def run(orders: Orders) -> None:
    """Work until SIGTERM; the process ends with 3 when broker or store cannot be reached."""
    output = orders.log.open("a", encoding="utf-8", buffering=1)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    configure_logging("info", "json")
    if orders.broken is not None:
        from tests.faults import broken  # noqa: PLC0415 - it changes the modules it names

        broken.BREAKS[orders.broken]()
    settings = Settings.model_validate(orders.settings)
    diary = Diary(orders.diary)
    mine = Snare(orders.trap, diary)
    worker = live.Worker(settings, snared(live.world_of(settings), mine))
    worker.on_transition = lambda transition: mine.announce(transition.id)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop.set())
    diary.write("begin")
    try:
        worker.run()
    except RecallwatchError as error:
        structlog.get_logger().error("ended", error=str(error))
        raise SystemExit(3) from error


class Diary:
    """Lines for the rig; each is in the kernel's hands when ``write`` returns."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, line: str) -> None:
        os.write(self._file, f"{os.getpid()} {line}\n".encode())


class Snare:
    """Springs the trap, once."""

    def __init__(self, trap: Trap | None, diary: Diary) -> None:
        self._trap, self._diary = trap, diary
        self._passed = 0

    def pass_(self, step: str) -> None:
        if self._trap is None or step != self._trap.step:
            return
        self._passed += 1
        if self._passed == self._trap.nth:
            self._diary.write(f"sprung {self._trap.does} {step}")
            os.kill(os.getpid(), SIGNALS[self._trap.does])

    def announce(self, transition: str) -> None:
        """What a notifier would do: the outside world has it once the line is written."""
        self.pass_("before announcing")
        self._diary.write(f"announced {transition}")
        self.pass_("after announcing")


def snared(world: live.World, snare: Snare) -> live.World:
    """The same world, with the snare at every step."""
    return live.World(
        log=lambda: SnaredLog(world.log(), snare),
        store=lambda: SnaredStore(world.store(), snare),
        dead_letters=lambda: SnaredSink(world.dead_letters(), snare, "dead_letters"),
        journal=lambda: SnaredSink(world.journal(), snare, "journal"),
        lag=world.lag,
    )


class SnaredLog:
    """A record log with steps around what it does."""

    def __init__(self, log: RecordLog, snare: Snare) -> None:
        self._log, self._snare = log, snare
        self.assigned, self.partitions, self.oldest = log.assigned, log.partitions, log.oldest
        self.seek, self.at_end, self.lag, self.close = log.seek, log.at_end, log.lag, log.close
        self.newest, self.places = log.newest, log.places

    @property
    def generation(self) -> int:
        return self._log.generation

    def poll(self, max_records: int, wait_ms: int | None = None) -> list[Record]:
        self._snare.pass_("before log.poll")
        records = self._log.poll(max_records, wait_ms)
        if records:
            self._snare.pass_("after log.poll")
        return records

    def commit(self, next_offsets: NextOffsets) -> None:
        self._snare.pass_("before log.commit")
        self._log.commit(next_offsets)
        self._snare.pass_("after log.commit")


class SnaredSink:
    """A sink with steps around what it does."""

    def __init__(self, sink: RecordSink, snare: Snare, name: str) -> None:
        self._sink, self._snare, self._name = sink, snare, name
        self.close = sink.close

    def publish(self, records: Iterable[OutRecord]) -> None:
        self._snare.pass_(f"before {self._name}.publish")
        self._sink.publish(records)
        self._snare.pass_(f"after {self._name}.publish")


class SnaredStore:
    """A state store with steps around what it does."""

    def __init__(self, store: StateStore, snare: Snare) -> None:
        self._store, self._snare = store, snare
        self.cuts, self.ledger, self.panes = store.cuts, store.ledger, store.panes
        self.slice_keys, self.pane_keys = store.slice_keys, store.pane_keys
        self.evaluation, self.transitions = store.evaluation, store.transitions
        self.heartbeats, self.beat, self.close = store.heartbeats, store.beat, store.close
        self.waiting, self.resign, self.outbox = store.waiting, store.resign, store.outbox
        self.hold, self.spoken = store.hold, store.spoken
        self.actions, self.act, self.backlog = store.actions, store.act, store.backlog
        self.delivery, self.save_delivery = store.delivery, store.save_delivery
        self.marks, self.journal, self.documents = store.marks, store.journal, store.documents
        self.unpublished, self.known = store.unpublished, store.known
        self.ask_to_forget, self.to_forget = store.ask_to_forget, store.to_forget
        self.erase, self.fulfilled, self.misses = store.erase, store.fulfilled, store.misses
        self.picture = store.picture

    @property
    def shards(self) -> int:
        return self._store.shards

    def load(self, shard: int, ids: Iterable[PredictionId]) -> dict[PredictionId, Entry]:
        return self.begin_load(shard, ids)()

    def begin_load(
        self, shard: int, ids: Iterable[PredictionId]
    ) -> Callable[[], dict[PredictionId, Entry]]:
        self._snare.pass_("before store.load")
        end = self._store.begin_load(shard, ids)
        self._snare.pass_("during store.load")

        def loaded() -> dict[PredictionId, Entry]:
            entries = end()
            self._snare.pass_("after store.load")
            return entries

        return loaded

    def commit(self, shard: int, expected: Cut, changes: Changes) -> None:
        self._snare.pass_("before store.commit")
        self._store.commit(shard, expected, changes)
        self._snare.pass_("after store.commit")

    def begin_commit(self, shard: int, expected: Cut, changes: Changes) -> Callable[[], None]:
        self._snare.pass_("before store.commit")
        end = self._store.begin_commit(shard, expected, changes)
        self._snare.pass_("during store.commit")

        def ended() -> None:
            end()
            self._snare.pass_("after store.commit")

        return ended

    def sweep(self, watermark_ms: int, horizon_ms: int) -> None:
        self._snare.pass_("before store.sweep")
        self._store.sweep(watermark_ms, horizon_ms)

    def forget(self, votes: Iterable[Vote]) -> None:
        self._snare.pass_("before store.forget")
        self._store.forget(votes)

    def lead(self, worker: str, lease_ms: int, office: str = EVALUATOR) -> Lease | None:
        self._snare.pass_("before store.lead")
        return self._store.lead(worker, lease_ms, office)

    def commit_evaluation(
        self,
        evaluation: Evaluation,
        transitions: Sequence[Transition],
        lease: Lease,
        spoken: Mapping[str, int] | None = None,
        entry: JournalEntry | None = None,
    ) -> None:
        if transitions:
            self._snare.pass_("before store.commit_evaluation")
        self._store.commit_evaluation(evaluation, transitions, lease, spoken, entry)
        if transitions:
            self._snare.pass_("after store.commit_evaluation")

    def published(self, sequence: int, lease: Lease) -> None:
        self._snare.pass_("before store.published")
        self._store.published(sequence, lease)

    def delivered(self, transitions: Sequence[Transition], lease: Lease) -> None:
        self._store.delivered(transitions, lease)
        self._snare.pass_("after store.delivered")
