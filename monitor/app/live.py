"""The worker: the flow from Kafka into Redis, for as long as it is wanted.

When broker or store fail, everything is closed, and after a pause opened again: the cut says where
to go on, so there is nothing to repair. Only a worker that should end at the end of the log
(``until_caught_up``) lets the failure through.
"""

import math
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from monitor.app.brokers import group_lag, open_dead_letters, open_in_step, open_journal_sink
from monitor.app.flow import Flow, Turn
from monitor.app.notifier import Notifier
from monitor.app.receivers import receivers_of
from monitor.app.settings import Settings
from monitor.app.telemetry import Health, Metrics, SystemClock
from monitor.app.wiring import (
    codec_of,
    in_ms,
    limits_of,
    open_store,
    provenance_of,
    rules_of,
    spec_of,
    topics_of,
)
from monitor.codec.journal import pack_journal_entry
from monitor.domain.alerts import AlertKey, AlertState, Event, Status, Transition
from monitor.domain.errors import TooManyRejects, WorldError
from monitor.domain.events import Partition
from monitor.domain.journal import JournalEntry
from monitor.domain.ledger import Gap
from monitor.domain.notices import Route
from monitor.ports import (
    Clock,
    Heartbeat,
    OutRecord,
    Receiver,
    RecordLog,
    RecordSink,
    StateStore,
)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
BEAT_MS = 2_000
SWEEP_MS = 1_000
TURN_MS = 500
"""For how long a worker with much to catch up reads on before it looks at anything else."""

EVALUATION_MS = 20
"""After so long an evaluation leaves the rest of a backlog for after the next batch."""

LOOK_MS = 2_000
"""How often a busy worker asks where the topics end: the broker may take a while to answer."""

_LEVELS = {
    Status.NO_DATA: 0,
    Status.OK: 0,
    Status.WARNING: 1,
    Status.RECOVERING: 2,
    Status.FIRING: 2,
}


@dataclass(frozen=True)
class World:
    """How to open what the worker needs; each call opens anew.

    ``lag`` asks, without reading, how many records the whole group has yet to read.
    """

    log: Callable[[], RecordLog]
    store: Callable[[], StateStore]
    dead_letters: Callable[[], RecordSink]
    journal: Callable[[], RecordSink]
    lag: Callable[[], float] = lambda: math.nan
    receivers: Callable[[], Sequence[tuple[Route, Receiver]]] = lambda: ()
    clock: Clock = field(default_factory=SystemClock)


def world_of(settings: Settings, *, in_group: bool = True) -> World:
    """Kafka and Redis, as the settings say; outside the group one worker reads all partitions."""
    return World(
        log=lambda: open_in_step(settings, in_group=in_group),
        store=lambda: open_store(settings),
        dead_letters=lambda: open_dead_letters(settings),
        journal=lambda: open_journal_sink(settings),
        lag=lambda: group_lag(settings),
        receivers=lambda: receivers_of(settings),
    )


class _Parts(NamedTuple):
    """What the worker has opened."""

    flow: Flow
    log: RecordLog
    store: StateStore
    journal: RecordSink


class Worker:
    """One worker. ``run`` works in the calling thread until ``stop`` is set.

    ``on_transition`` is told of every transition that this worker delivers, ``on_progress`` now and
    then of the records read so far and those still to come.
    """

    def __init__(self, settings: Settings, world: World) -> None:
        self.metrics, self.health, self.stop = Metrics(), Health(), threading.Event()
        self.on_transition: Callable[[Transition], None] = lambda _: None
        self.on_progress: Callable[[int, int], None] = lambda _records, _lag: None
        self._settings, self._world = settings, world
        self._name = settings.kafka.instance_id or f"{socket.gethostname()}-{os.getpid()}"
        # Not the name alone: the same name may come back while its old process still hangs on.
        self._evaluator = f"{self._name}-{secrets.token_hex(4)}"
        self._records = 0
        self._evaluated_ms: int | None = None
        self._reading: frozenset[Partition] = frozenset()
        self._shown: dict[AlertKey, _Shown] = {}
        self._pause_s = FIRST_PAUSE_S
        self._say = structlog.get_logger().bind(worker=self._name)
        self.metrics.sampling.set(settings.sampling)
        for topic in topics_of(settings).values():
            # There from the start, so that the first loss shows as an increase.
            self.metrics.dropped.labels(topic)

    def run(self, *, until_caught_up: bool = False) -> None:
        """Work until stopped, or until both topics are read to their present end.

        Receivers of alerts are told meanwhile, but not by a worker that only catches up.
        WorldError when the first opening fails, TooManyRejects when the input is beyond use.
        """
        if until_caught_up:
            self._run(until_caught_up=True)
            return
        with self._notifier():
            self._run(until_caught_up=False)

    def _notifier(self) -> Notifier:
        world, timeout = self._world, self._settings.alerting.timeout
        return Notifier(
            world.receivers(),
            rules_of(self._settings),
            world.store,
            self.metrics,
            world.clock,
            timeout_ms=in_ms(timeout),
        )

    def _run(self, *, until_caught_up: bool) -> None:
        has_worked = False
        while not self.stop.is_set():
            try:
                with ExitStack() as opened:
                    parts = self._open(opened)
                    has_worked = True
                    self._work(parts, until_caught_up=until_caught_up)
                return
            except WorldError as error:
                if until_caught_up or not has_worked:
                    raise
                self.metrics.interruptions.inc()
                self.health.failed(error)
                self._reading = frozenset()
                self.metrics.assigned.set(0)
                self.metrics.lag.set(self._lag_meanwhile())
                self._say.warning("interrupted", error=str(error), retry_in_s=self._pause_s)
                self.stop.wait(self._pause_s)
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _open(self, opened: ExitStack) -> _Parts:
        store = opened.enter_context(closing(self._world.store()))
        log = opened.enter_context(closing(self._world.log()))
        flow = Flow(
            spec_of(self._settings),
            codec_of(self._settings),
            log,
            store,
            dead_letters=opened.enter_context(closing(self._world.dead_letters())),
            dead_letter_topic=self._settings.kafka.dead_letters.topic,
            limits=limits_of(self._settings),
            worker=self._evaluator,
        )
        flow.on_gap = self._tell
        flow.provenance = provenance_of(self._settings)
        journal = opened.enter_context(closing(self._world.journal()))
        return _Parts(flow, log, store, journal)

    def _work(self, parts: _Parts, *, until_caught_up: bool) -> None:
        flow, log, store, _ = parts
        worker, clock = self._settings.worker, self._world.clock
        evaluations = _Every(in_ms(worker.evaluate_every))
        beats, sweeps = _Every(BEAT_MS), _Every(SWEEP_MS)
        quiet, looks = _Quiet(in_ms(worker.idle_after)), _Every(LOOK_MS)
        busy, goal = set[Partition](), _Goal(log)
        now_ms = -TURN_MS  # The first turn is short: everything else is due.
        # Before anything is written: a store without memory left may have something to drop.
        flow.sweep()
        flow.take_over()
        while not self.stop.is_set():
            with self.metrics.turn_seconds.time():
                turn = self._turned(flow, now_ms)
            self._say_what_is_read(log.assigned())
            now_ms = clock.now_ms()
            self._note(turn)
            busy |= turn.partitions
            if not turn.records or looks.is_due(now_ms):
                at_end = log.at_end()
                flow.mark_idle(at_end, only_unread=True)
                if not until_caught_up:
                    flow.mark_idle(quiet.partitions(at_end, busy, now_ms))
                busy.clear()
            if until_caught_up and goal.is_reached():
                break
            if evaluations.is_due(now_ms) or flow.is_behind:
                self._evaluate(parts, now_ms)
            if sweeps.is_due(now_ms):
                flow.sweep()
            if beats.is_due(now_ms):
                self._beat(log, store)
        if until_caught_up and not self.stop.is_set():
            flow.mark_idle(log.at_end())
            self._evaluate(parts, now_ms)
            while flow.is_behind and not self.stop.is_set():
                self._evaluate(parts, clock.now_ms())
        self._beat(log, store)
        flow.resign()

    def _turned(self, flow: Flow, begin_ms: int) -> Turn:
        """One turn; a worker that gives up leaves evaluation to the others at once."""
        is_in_time = self._within(TURN_MS, begin_ms)

        def goes_on() -> bool:
            return is_in_time() and not self.stop.is_set()

        try:
            return flow.turn(goes_on)
        except TooManyRejects:
            flow.resign()
            raise

    def _within(self, most_ms: int, begin_ms: int) -> Callable[[], bool]:
        """Whether less than ``most_ms`` of wall time have passed; not after it was set back."""
        return lambda: 0 <= self._world.clock.now_ms() - begin_ms < most_ms

    def _lag_meanwhile(self) -> float:
        """What waits while we do not read; NaN, which is unknown, when the broker is away too."""
        try:
            return self._world.lag()
        except WorldError:
            return math.nan

    def _note(self, turn: Turn) -> None:
        self.health.turned()
        if turn.records:
            self._pause_s = FIRST_PAUSE_S
        self._records += turn.records
        self.metrics.records.inc(turn.records)
        self.metrics.rejected.inc(turn.rejected)

    def _say_what_is_read(self, assigned: frozenset[Partition]) -> None:
        """At the start, and after every rebalance that moved something."""
        if assigned != self._reading:
            self._reading = assigned
            self.metrics.assigned.set(len(assigned))
            self._say.info("working", partitions=sorted(map(str, assigned)))

    def _tell(self, gap: Gap) -> None:
        self.metrics.dropped.labels(gap.partition.topic).inc(gap.past - gap.first)
        self._say.error(
            "records lost",
            offsets=str(gap),
            reason="the log dropped them before they were counted",
            remedy="make the topic's retention longer than the longest outage",
        )

    def _evaluate(self, parts: _Parts, now_ms: int) -> None:
        """Alerts are told before the journal is published: they must not wait for that topic."""
        flow, _, store, journal = parts
        with self.metrics.evaluation_seconds.time():
            flow.evaluate(goes_on=self._within(EVALUATION_MS, self._world.clock.now_ms()))
            flow.deliver(self._announce)
            flow.publish(lambda entries: journal.publish(map(self._line, entries)))
        self._evaluated_ms = now_ms if flow.is_evaluator else None
        if flow.is_evaluator:
            self.metrics.evaluated.set(now_ms / 1000)
        evaluation = store.evaluation()
        if evaluation.watermark_ms is not None:
            self.metrics.watermark.set(evaluation.watermark_ms / 1000)
        for alert, state in evaluation.states.items():
            if alert not in self._shown:
                self._shown[alert] = _Shown(self.metrics, alert)
            self._shown[alert].show(state)

    def _line(self, entry: JournalEntry) -> OutRecord:
        """One key for all, so that the entries stand in one partition, in order."""
        key = self._settings.redis.namespace.encode()
        return OutRecord(self._settings.kafka.journal.topic, key, pack_journal_entry(entry))

    def _announce(self, transition: Transition) -> None:
        say = self._say.warning if transition.moved_to is Status.FIRING else self._say.info
        say(
            f"alert {transition.moved_to}"
            if transition.event is Event.MOVED
            else f"alert {transition.event}",
            id=transition.id,
            rule=transition.rule,
            variant=transition.key.variant,
            slice=transition.key.slice,
            version=transition.version,
            was=transition.moved_from,
            reason=transition.reason,
        )
        self.on_transition(transition)

    def _beat(self, log: RecordLog, store: StateStore) -> None:
        lags = log.lag()
        lag = sum(lags.values())
        self.metrics.lag.set(lag)
        self.on_progress(self._records, lag)
        store.beat(
            Heartbeat(
                self._name,
                self._world.clock.now_ms(),
                lag,
                self._records,
                lags=tuple(sorted(lags.items())),
                evaluated_ms=self._evaluated_ms,
            )
        )


class _Shown:
    """The gauges of one alert; looking them up by their labels takes longer than setting them."""

    def __init__(self, metrics: Metrics, alert: AlertKey) -> None:
        names = (alert.rule, *alert.key, alert.version)
        self._level = metrics.alert_level.labels(*names)
        self._evidence = metrics.evidence.labels(*names)
        self._hits = metrics.alert_hits.labels(*names)
        self._labels = metrics.alert_labels.labels(*names)
        self._state: AlertState | None = None

    def show(self, state: AlertState) -> None:
        """Nothing is done while it is the same one: a state is never changed in place."""
        if state is self._state:
            return
        self._state = state
        self._level.set(_LEVELS[state.status])
        self._evidence.set(state.page.evidence(state.bar).strength if state.votes else 0.0)
        hits, labels = state.recent_votes
        self._hits.set(hits)
        self._labels.set(labels)


class _Goal:
    """Where the partitions of a log ended when they were first looked at."""

    def __init__(self, log: RecordLog) -> None:
        self._log = log
        self._ends: dict[Partition, int] = {}
        self._reached: set[Partition] = set()

    def is_reached(self) -> bool:
        """Whether each partition that is read now has been read so far at some time."""
        assigned = self._log.assigned()
        if unseen := assigned - self._ends.keys():
            self._ends.update(self._log.newest(unseen))
        places = self._log.places()
        self._reached |= {p for p in assigned & places.keys() if places[p] >= self._ends[p]}
        return bool(assigned) and assigned <= self._reached


class _Every:
    """Due at once, then every ``period_ms`` of wall time."""

    def __init__(self, period_ms: int) -> None:
        self._period_ms = period_ms
        self._due_ms = 0

    def is_due(self, now_ms: int) -> bool:
        if now_ms < self._due_ms:
            return False
        self._due_ms = now_ms + self._period_ms
        return True


class _Quiet:
    """Which partitions have stood at their end for ``idle_after_ms`` of wall time."""

    def __init__(self, idle_after_ms: int) -> None:
        self._idle_after_ms = idle_after_ms
        self._since: dict[Partition, int] = {}

    def partitions(
        self, at_end: Iterable[Partition], busy: Iterable[Partition], now_ms: int
    ) -> set[Partition]:
        self._since = {p: self._since.get(p, now_ms) for p in at_end if p not in set(busy)}
        return {p for p, since in self._since.items() if now_ms - since >= self._idle_after_ms}
