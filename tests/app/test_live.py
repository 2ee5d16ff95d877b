"""The worker: it begins, is interrupted, goes on where it was, and ends when it is told to."""

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from monitor.adapters.memory import MemoryLog
from monitor.app.flow import Limits
from monitor.app.live import FIRST_PAUSE_S, LONGEST_PAUSE_S, Worker, World
from monitor.app.settings import Settings
from monitor.codec.journal import chain_of_lines
from monitor.domain.alerts import Transition
from monitor.domain.cut import IDLE, Progress
from monitor.domain.engine import Changes
from monitor.domain.errors import BrokerError, StoreError, TooManyRejects
from monitor.domain.events import Kind, Partition, Record
from monitor.domain.journal import Chain
from monitor.domain.ledger import gaps_of
from monitor.ports import EVALUATOR, Heartbeat, Lease, StateStore
from tests.app.doubles import TeamLog, Trap, TrappedLog, TrappedSink, TrappedStore
from tests.app.story import (
    LABELS,
    MINUTES,
    PREDICTIONS,
    SETTINGS,
    UNREADABLE,
    ends,
    filled,
    history,
    numbers,
    predicted,
    received,
)
from tests.builders import T0, prediction_message, record

NOW_MS = T0 + 86_400_000
REJECTED = sum(map(len, UNREADABLE.values()))


class SteppingClock:
    """Moves on by ``step_ms`` each time it is read; fails a test that would never end."""

    def __init__(self, step_ms: int = 500, most: int = 5_000) -> None:
        self.ms, self._step_ms, self._left = NOW_MS, step_ms, most

    def now_ms(self) -> int:
        self._left -= 1
        assert self._left, "the worker should have ended by now"
        self.ms += self._step_ms
        return self.ms


class Stop(threading.Event):
    """Notes a pause, in seconds, rather than waiting for its end."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float | None] = []
        self.during_pause: Callable[[], object] = lambda: None

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        self.during_pause()
        return self.is_set()


class Rig:
    """A worker in a world of memory, and what it said."""

    def __init__(
        self,
        records: list[Record] | None = None,
        *,
        trap: Trap | None = None,
        log: MemoryLog | None = None,
        clock: SteppingClock | None = None,
        **changed: object,
    ) -> None:
        trap = trap or Trap()
        self.log = log or filled(TrappedLog(trap), history() if records is None else records)
        self.store, self.sink = TrappedStore(2, trap), TrappedSink(trap)
        self.journal = TrappedSink(trap, "journal")
        self.clock = clock or SteppingClock()
        self.opened: list[str] = []
        self.transitions: list[Transition] = []
        self.progress: list[tuple[int, int]] = []
        world = World(
            *(self.open_log, self.open_store, self.open_sink, self.open_journal),
            self.group_lag,
            clock=self.clock,
        )
        self.worker = Worker(Settings.model_validate({**SETTINGS, **changed}), world)
        self.stop = Stop()
        self.worker.stop = self.stop
        self.worker.on_transition = self.transitions.append
        self.worker.on_progress = lambda records, lag: self.progress.append((records, lag))

    def open_log(self) -> MemoryLog:
        self.opened.append("log")
        return self.log

    def group_lag(self) -> float:
        return sum(self.log.lag().values())

    def open_store(self) -> StateStore:
        self.opened.append("store")
        return self.store

    def open_sink(self) -> TrappedSink:
        self.opened.append("sink")
        return self.sink

    def open_journal(self) -> TrappedSink:
        self.opened.append("journal")
        return self.journal

    def stop_once(self, is_done: Callable[[], bool]) -> None:
        """End the worker at the first sign of life for which ``is_done``."""

        def look(records: int, lag: int) -> None:
            self.progress.append((records, lag))
            if is_done():
                self.stop.set()

        self.worker.on_progress = look

    def run_to_the_end_of_the_log(self) -> None:
        self.stop_once(lambda: not any(self.log.lag().values()))
        self.worker.run()

    def metric(self, name: str, **labels: str) -> float | None:
        return self.worker.metrics.registry.get_sample_value(f"recallwatch_{name}", labels)


def caught_up(rig: Rig) -> dict[str, object]:
    """The numbers once a second worker has read what is left and seen the end."""
    again = Rig(log=rig.log)
    again.store, again.journal = rig.store, rig.journal
    again.worker.on_transition = rig.transitions.append
    again.worker.run(until_caught_up=True)
    return numbers(rig.store)


@pytest.fixture(scope="module")
def expected() -> dict[str, object]:
    rig = Rig()
    rig.worker.run(until_caught_up=True)
    return numbers(rig.store)


# To the end and no further


def test_a_worker_that_should_end_reads_both_topics_to_their_end(
    expected: dict[str, object],
) -> None:
    rig = Rig()
    rig.worker.run(until_caught_up=True)
    assert received(rig.store, Kind.PREDICTIONS) + received(rig.store, Kind.LABELS) == len(
        history()
    )
    assert rig.progress[-1] == (len(history()), 0)
    assert rig.store.evaluation().watermark_ms == max(r.log_ms for r in history()) + 1
    assert [t.moved_to for t in rig.transitions] == ["ok", "ok", "firing"]
    assert numbers(rig.store) == expected


def test_a_worker_that_should_end_also_ends_on_empty_topics() -> None:
    rig = Rig([])
    rig.worker.run(until_caught_up=True)
    assert rig.store.ledger() == {}
    assert rig.store.evaluation().watermark_ms is None


def test_a_second_run_to_the_end_counts_nothing_again(expected: dict[str, object]) -> None:
    rig = Rig()
    rig.worker.run(until_caught_up=True)
    assert caught_up(rig) == expected


def test_offsets_that_others_committed_are_not_taken_for_the_end(
    expected: dict[str, object],
) -> None:
    """The group has read everything before, into another namespace."""
    log = TeamLog(ends())
    log.during_poll = lambda: log.assign(PREDICTIONS + LABELS)
    rig = Rig(log=log)
    rig.worker.run(until_caught_up=True)
    assert numbers(rig.store) == expected


def test_a_worker_without_partitions_waits_for_them_before_it_ends(
    expected: dict[str, object],
) -> None:
    log = TeamLog({})
    rig = Rig(log=log)

    def assigned_late(_records: int, _lag: int) -> None:
        if not log.assigned():
            log.assign(PREDICTIONS + LABELS)

    rig.worker.on_progress = assigned_late
    rig.worker.run(until_caught_up=True)
    assert numbers(rig.store) == expected


def test_a_worker_that_is_stopped_ends_after_its_turn() -> None:
    rig = Rig(worker={"batch_records": 10})
    rig.stop_once(lambda: len(rig.progress) == 3)
    rig.worker.run()
    assert 0 < rig.progress[-1][0] < len(history())
    assert rig.store.heartbeats()[0].records == rig.progress[-1][0]


def test_a_worker_that_is_stopped_before_it_begins_opens_nothing() -> None:
    rig = Rig()
    rig.stop.set()
    rig.worker.run()
    assert rig.opened == []


def test_everything_that_was_opened_is_closed() -> None:
    closed: list[str] = []

    class ClosingLog(TrappedLog):
        def close(self) -> None:
            closed.append("log")

    class ClosingStore(TrappedStore):
        def close(self) -> None:
            closed.append("store")

    trap = Trap("before log.poll", 3)
    rig = Rig(log=filled(ClosingLog(trap), history()))
    rig.store = ClosingStore(2)
    rig.run_to_the_end_of_the_log()
    assert trap.has_sprung
    assert sorted(closed) == ["log", "log", "store", "store"]


# Interruptions


@pytest.mark.parametrize("call", [1, 3])
@pytest.mark.parametrize(
    "port",
    [
        "before log.poll",
        "after log.poll",
        "before dead_letters.publish",
        "before store.commit",
        "after store.commit",
        "before log.commit",
        "before store.lead",
        "after store.commit_evaluation",
    ],
)
def test_nothing_is_lost_when_broker_or_store_fail_in_the_middle(
    port: str, call: int, expected: dict[str, object]
) -> None:
    trap = Trap(port, call)
    rig = Rig(trap=trap, worker={"batch_records": 40, "evaluate_every": "100ms"})
    rig.run_to_the_end_of_the_log()
    assert trap.has_sprung
    assert rig.stop.pauses == [FIRST_PAUSE_S]
    assert rig.metric("interruptions_total") == 1
    assert caught_up(rig) == expected
    assert list(dict.fromkeys(rig.transitions)) == rig.store.transitions()


@pytest.mark.parametrize("port", ["before store.outbox", "before store.delivered"])
def test_alerts_that_were_not_delivered_are_told_after_an_interruption(
    port: str, expected: dict[str, object]
) -> None:
    trap = Trap(port, 1)
    rig = Rig(trap=trap)
    rig.run_to_the_end_of_the_log()
    assert trap.has_sprung
    assert rig.stop.pauses == [FIRST_PAUSE_S]
    assert caught_up(rig) == expected
    assert list(dict.fromkeys(rig.transitions)) == rig.store.transitions()
    assert rig.store.outbox() == []


# The journal


def journaled(rig: Rig) -> Chain:
    """What stands in the journal's topic."""
    assert {out.topic for out in rig.journal.published} == {"recallwatch.journal"}
    assert {out.key for out in rig.journal.published} == {b"prod"}
    return chain_of_lines(out.value or b"" for out in rig.journal.published)


def is_whole(rig: Rig) -> bool:
    """Whether topic and store hold one and the same unbroken chain up to the last evaluation."""
    chain, kept = journaled(rig), rig.store.journal(limit=10_000)
    last = rig.store.evaluation()
    return (
        list(chain.entries) == kept
        and not chain.breaks
        and [entry.sequence for entry in kept] == list(range(1, last.sequence + 1))
        and kept[-1].hash == last.chain
    )


def test_every_evaluation_stands_in_the_journal_with_what_it_found() -> None:
    rig = Rig(worker={"batch_records": 5, "evaluate_every": "500ms"})
    rig.run_to_the_end_of_the_log()
    assert is_whole(rig)
    entries = journaled(rig).entries
    assert len(entries) > 5
    found = [name for entry in entries for name in entry.transitions]
    assert found == [transition.id for transition in rig.store.transitions()] != []
    (settings,) = {entry.settings for entry in entries}
    assert rig.store.documents() == {settings: entries[0].document}


def test_a_worker_that_should_end_journals_too_and_the_next_one_follows_its_chain() -> None:
    rig = Rig()
    rig.worker.run(until_caught_up=True)
    again = Rig([predicted(MINUTES), predicted(MINUTES + 1)])
    again.store, again.journal = rig.store, rig.journal
    again.log = rig.log
    filled(rig.log, [predicted(MINUTES), predicted(MINUTES + 1)])
    before = len(rig.journal.published)
    again.worker.run(until_caught_up=True)
    assert is_whole(again)
    assert len(again.journal.published) > before
    assert [bool(entry.document) for entry in journaled(again).entries].count(True) == 2


@pytest.mark.parametrize("call", [1, 3])
@pytest.mark.parametrize(
    "port",
    [
        *("before store.marks", "before store.commit_evaluation", "after store.commit_evaluation"),
        *("before store.unpublished", "before journal.publish", "after journal.publish"),
        *("before store.published", "after store.published"),
    ],
)
def test_the_journal_is_whole_when_broker_or_store_fail_in_the_middle(port: str, call: int) -> None:
    trap = Trap(port, call)
    rig = Rig(trap=trap, worker={"batch_records": 40, "evaluate_every": "100ms"})
    rig.run_to_the_end_of_the_log()
    rig.worker.run(until_caught_up=True)
    caught_up(rig)
    assert trap.has_sprung
    assert rig.metric("interruptions_total") == 1
    assert is_whole(rig)
    assert rig.store.unpublished() == []


def test_alerts_are_told_while_the_journal_cannot_be_written() -> None:
    class Refusing(TrappedSink):
        def publish(self, records: object) -> None:
            raise BrokerError("broker localhost:9092 does not allow this user what is needed")

    rig = Rig(worker={"batch_records": 1_000})
    rig.journal = Refusing(Trap())
    with pytest.raises(BrokerError):
        rig.worker.run(until_caught_up=True)
    assert [t.moved_to for t in rig.transitions] == ["ok", "ok", "firing"]
    assert len(rig.store.unpublished()) == rig.store.evaluation().sequence


def test_the_pause_doubles_while_opening_fails_up_to_its_bound() -> None:
    rig = Rig(trap=Trap("before log.poll", 1))
    failures = 8

    def store_for_a_while() -> StateStore:
        nonlocal failures
        if rig.stop.pauses and failures:
            failures -= 1
            raise StoreError("redis://localhost: Redis is unreachable")
        return rig.store

    rig.worker = Worker(
        Settings.model_validate(SETTINGS),
        World(rig.open_log, store_for_a_while, rig.open_sink, rig.open_journal, clock=rig.clock),
    )
    rig.worker.stop = rig.stop
    rig.run_to_the_end_of_the_log()
    assert rig.stop.pauses == [0.5, 1, 2, 4, 8, 15, 15, 15, 15]
    assert rig.stop.pauses[-1] == LONGEST_PAUSE_S


def test_the_pause_is_short_again_after_it_has_worked() -> None:
    trap = Trap("before log.poll", 3)
    log = TrappedLog(trap)
    rig = Rig(log=filled(log, history()), worker={"batch_records": 20})

    def set_once_more() -> None:
        if len(rig.stop.pauses) == 1:
            log.trap = Trap("before log.poll", 3)

    rig.stop.during_pause = set_once_more
    rig.run_to_the_end_of_the_log()
    assert rig.stop.pauses == [FIRST_PAUSE_S, FIRST_PAUSE_S]


def test_a_worker_can_be_stopped_while_it_pauses() -> None:
    rig = Rig(trap=Trap("before log.poll", 1))
    rig.stop.during_pause = rig.stop.set
    rig.worker.run()
    assert rig.opened == ["store", "log", "sink", "journal"]


def unreachable() -> NoReturn:
    raise BrokerError("broker localhost:9092 is unreachable")


@pytest.mark.parametrize("missing", ["log", "store", "dead_letters", "journal"])
def test_a_first_opening_that_fails_ends_the_worker(missing: str) -> None:
    rig = Rig()
    world = World(rig.open_log, rig.open_store, rig.open_sink, rig.open_journal, clock=rig.clock)
    worker = Worker(Settings.model_validate(SETTINGS), replace(world, **{missing: unreachable}))  # type: ignore[arg-type] # one of its openers
    with pytest.raises(BrokerError, match="unreachable"):
        worker.run()


def test_a_worker_that_should_end_lets_the_failure_through() -> None:
    rig = Rig(trap=Trap("before store.commit", 4))
    with pytest.raises(StoreError):
        rig.worker.run(until_caught_up=True)
    assert rig.stop.pauses == []


def test_input_beyond_use_ends_the_worker() -> None:
    rig = Rig([record(b"{") for _ in range(5)], worker={"max_consecutive_rejects": 4})
    with pytest.raises(TooManyRejects):
        rig.worker.run()
    assert rig.store.ledger() == {}


def test_a_worker_that_gives_up_leaves_evaluation_to_the_others() -> None:
    records = [record(prediction_message()), *(record(b"{") for _ in range(5))]
    rig = Rig(records, worker={"max_consecutive_rejects": 4, "batch_records": 1})
    with pytest.raises(TooManyRejects):
        rig.worker.run()
    lease = rig.store.lead("another", 1_000)
    assert lease is not None
    assert lease.fence > 1, "the one that gave up never led"


class Outage:
    """A store that is gone from the first failure on, for so many attempts to open it."""

    def __init__(self, rig: Rig, attempts: int = 4, *, broker: bool = False) -> None:
        self.rig, self._left, self._broker = rig, attempts, broker
        self.seen: list[tuple[list[str], float | None]] = []
        rig.stop.during_pause = self.look
        world = World(
            *(rig.open_log, self.open_store, rig.open_sink, rig.open_journal),
            self.lag,
            clock=rig.clock,
        )
        rig.worker = Worker(Settings.model_validate(SETTINGS), world)
        rig.worker.stop = rig.stop

    def open_store(self) -> StateStore:
        if self.rig.stop.pauses and self._left:
            self._left -= 1
            raise StoreError("redis://localhost: Redis is unreachable")
        return self.rig.open_store()

    def lag(self) -> float:
        return unreachable() if self._broker else self.rig.group_lag()

    def look(self) -> None:
        self.seen.append((self.rig.opened[:], self.rig.metric("lag_records")))


def test_nothing_is_read_while_the_store_is_away_and_then_it_goes_on_by_itself(
    expected: dict[str, object],
) -> None:
    polls: list[int] = []

    class CountingLog(TrappedLog):
        def poll(self, max_records: int, wait_ms: int | None = None) -> list[Record]:
            polls.append(len(rig.stop.pauses))
            return super().poll(max_records, wait_ms)

    trap = Trap("before store.commit", 6)
    rig = Rig(trap=trap, log=filled(CountingLog(Trap()), history()))
    outage = Outage(rig)
    rig.run_to_the_end_of_the_log()
    assert rig.stop.pauses == [0.5, 1, 2, 4, 8]
    assert set(polls) == {0, 5}
    assert [opened for opened, _ in outage.seen] == 5 * [["store", "log", "sink", "journal"]]
    assert caught_up(rig) == expected


def test_the_lag_grows_visibly_while_the_store_is_away() -> None:
    rig = Rig(trap=Trap("before store.commit", 6))
    outage = Outage(rig, attempts=1)
    before = outage.look

    def look_and_write() -> None:
        before()
        rig.log.append(record(prediction_message(prediction_id="new")))

    rig.stop.during_pause = look_and_write
    rig.run_to_the_end_of_the_log()
    first, second = (lag for _, lag in outage.seen)
    assert first
    assert second == first + 1
    assert rig.metric("lag_records") == 0


def test_the_lag_is_unknown_while_broker_and_store_are_away() -> None:
    rig = Rig(trap=Trap("before store.commit", 6))
    outage = Outage(rig, attempts=0, broker=True)
    rig.run_to_the_end_of_the_log()
    [(_, lag)] = outage.seen
    assert lag is not None
    assert math.isnan(lag)
    assert rig.metric("lag_records") == 0


# Evaluator


def test_a_worker_that_is_stopped_leaves_evaluation_to_the_others_at_once() -> None:
    rig = Rig()
    rig.run_to_the_end_of_the_log()
    assert rig.store.lead("another", 1) is not None


def test_a_worker_that_came_to_its_end_leaves_evaluation_to_the_others_at_once() -> None:
    rig = Rig()
    rig.worker.run(until_caught_up=True)
    assert rig.store.lead("another", 1) is not None


def test_workers_of_the_same_name_are_different_evaluators() -> None:
    """The old process of a name may hang on while a new one has been started in its place."""
    names: list[str] = []

    class AskedStore(TrappedStore):
        def lead(self, worker: str, lease_ms: int, office: str = EVALUATOR) -> Lease | None:
            names.append(worker)
            return super().lead(worker, lease_ms, office)

    for _ in range(2):
        rig = Rig(kafka={"instance_id": "worker-7"})
        rig.store = AskedStore(2)
        rig.worker.run(until_caught_up=True)
    assert len(set(names)) == 2
    assert all(name.startswith("worker-7-") for name in names)


def test_a_worker_that_does_not_evaluate_shows_what_the_evaluator_found() -> None:
    rig = Rig()
    rig.worker.run(until_caught_up=True)
    other = Rig(log=rig.log)
    other.store = rig.store
    assert rig.store.lead("another", 1) is not None
    other.worker.run(until_caught_up=True)
    assert other.transitions == []
    labels = {"rule": "urgent-recall", "slice": "ALL", "version": ""}
    assert other.metric("alert_level", variant="fine_tuned", **labels) == 2
    assert other.metric("watermark_seconds") == rig.metric("watermark_seconds")


# What it says of itself


def test_health_is_lost_with_a_failure_and_back_with_the_next_turn() -> None:
    rig = Rig(trap=Trap("before store.commit", 4))
    seen: list[tuple[bool, str]] = []
    rig.stop.during_pause = lambda: seen.append(rig.worker.health.report())
    rig.run_to_the_end_of_the_log()
    assert seen == [(False, "before store.commit failed")]
    assert rig.worker.health.report() == (True, "ok")


def test_metrics_say_what_was_read() -> None:
    rig = Rig()
    rig.worker.run(until_caught_up=True)
    assert rig.metric("records_total") == len(history())
    assert rig.metric("rejected_records_total") == REJECTED
    assert rig.metric("lag_records") == 0
    assert rig.metric("interruptions_total") == 0
    assert rig.metric("watermark_seconds") == (max(r.log_ms for r in history()) + 1) / 1000
    assert (rig.metric("turn_seconds_count") or 0) >= len(history()) / 64
    assert (rig.metric("evaluation_seconds_count") or 0) >= 1


def test_the_alert_level_is_that_of_the_state() -> None:
    rig = Rig()
    rig.worker.run(until_caught_up=True)
    levels = {
        variant: rig.metric(
            "alert_level", rule="urgent-recall", variant=variant, slice="ALL", version=""
        )
        for variant in ("fine_tuned", "prompt")
    }
    assert levels == {"fine_tuned": 2, "prompt": 0}


def test_signs_of_life_come_every_two_seconds_of_wall_time() -> None:
    class BeatenStore(TrappedStore):
        def __init__(self) -> None:
            super().__init__(2)
            self.beats: list[Heartbeat] = []

        def beat(self, heartbeat: Heartbeat) -> None:
            self.beats.append(heartbeat)
            super().beat(heartbeat)

    store = BeatenStore()
    rig = Rig([], kafka={"instance_id": "worker-7"}, clock=SteppingClock(step_ms=250))
    rig.store = store
    rig.stop_once(lambda: len(store.beats) == 5)
    rig.worker.run()
    assert {beat.worker for beat in store.beats} == {"worker-7"}
    waits = [b.wall_ms - a.wall_ms for a, b in zip(store.beats, store.beats[1:-1], strict=False)]
    assert all(2_000 <= wait <= 2_500 for wait in waits)
    assert store.beats[-1] == rig.store.heartbeats()[0]


def test_every_transition_is_logged_and_told_once() -> None:
    rig = Rig()
    with capture_logs() as said:
        rig.worker.run(until_caught_up=True)
    alerts = [line for line in said if line["event"].startswith("alert ")]
    assert [line["id"] for line in alerts] == [t.id for t in rig.store.transitions()]
    assert rig.transitions == rig.store.transitions()
    assert alerts[-1]["event"] == "alert firing"
    assert (alerts[-1]["rule"], alerts[-1]["variant"]) == ("urgent-recall", "fine_tuned")
    assert "hits" in alerts[-1]["reason"]


def test_an_interruption_is_logged_with_its_error_and_the_pause() -> None:
    rig = Rig(trap=Trap("before log.poll", 2))
    with capture_logs() as said:
        rig.run_to_the_end_of_the_log()
    lines = [line for line in said if line["event"] == "interrupted"]
    assert [(line["error"], line["retry_in_s"], line["log_level"]) for line in lines] == [
        ("before log.poll failed", FIRST_PAUSE_S, "warning")
    ]


def test_lost_records_are_logged_as_an_error_and_counted() -> None:
    rig = Rig()
    for partition, end in {PREDICTIONS[0]: 20, LABELS[1]: 7}.items():
        rig.store.commit(0, {}, progress_of(partition))
        rig.store.commit(1, {}, progress_of(partition))
        rig.log.drop(partition, end)
    with capture_logs() as said:
        rig.worker.run(until_caught_up=True)
    lines = [line for line in said if line["event"] == "records lost"]
    assert [(line["log_level"], line["offsets"]) for line in lines] == [
        ("error", "labels[1]@0-6"),
        ("error", "predictions[0]@0-19"),
    ]
    assert all("retention" in line["remedy"] for line in lines)
    assert rig.metric("dropped_offsets_total", topic="predictions") == 20
    assert rig.metric("dropped_offsets_total", topic="labels") == 7
    assert [str(gap) for gap in gaps_of(rig.store.ledger())] == [line["offsets"] for line in lines]


def test_losses_are_a_metric_before_there_are_any() -> None:
    """Else an alarm on its increase misses the first one."""
    assert Rig().metric("dropped_offsets_total", topic="predictions") == 0


def test_what_a_worker_reads_is_logged_at_the_start_and_when_it_changes() -> None:
    log, clock = TeamLog({}), SteppingClock()
    log.assign(PREDICTIONS)
    rig = Rig(log=log, clock=clock)
    beats: list[int] = []

    def at_each_beat(records: int, _lag: int) -> None:
        beats.append(records)
        if len(beats) == 1:
            log.assign([*PREDICTIONS, LABELS[0]])
        elif len(beats) == 3:
            rig.stop.set()

    rig.worker.on_progress = at_each_beat
    with capture_logs() as said:
        rig.worker.run()
    reading = [line["partitions"] for line in said if line["event"] == "working"]
    assert reading == [
        ["predictions[0]", "predictions[1]"],
        ["labels[0]", "predictions[0]", "predictions[1]"],
    ]
    assert rig.metric("assigned_partitions") == 3


def progress_of(partition: Partition) -> Changes:
    """The partition is known to the store, and nothing of it was read."""
    return Changes({}, {}, {}, {}, [], {partition: Progress(0)})


# Wall time


def test_a_partition_counts_as_idle_after_standing_at_its_end_for_a_while() -> None:
    predictions = [each for each in history() if each.topic == "predictions"]
    rig = Rig(predictions, worker={"idle_after": "10s", "batch_records": 1_000})
    complete_ms = max(each.log_ms for each in predictions) + 1
    rig.stop_once(lambda: rig.store.evaluation().watermark_ms == complete_ms)
    rig.worker.run()
    assert 10_000 < rig.clock.ms - NOW_MS < 20_000


def test_a_partition_that_is_written_to_now_and_then_does_not_count_as_idle() -> None:
    """It stands at its end most of the time, but never for long."""
    rig = Rig([], clock=SteppingClock(step_ms=1_000), worker={"idle_after": "10s"})
    frontiers: list[int] = []

    def write_one(_records: int, _lag: int) -> None:
        at_ms = T0 + len(frontiers) * 1_000
        rig.log.append(record(prediction_message(prediction_id=f"p{at_ms}"), log_ms=at_ms))
        progress = rig.store.cuts()[0].get(PREDICTIONS[0])
        frontiers.append(progress.frontier_ms if progress else 0)
        if len(frontiers) == 20:
            rig.stop.set()

    rig.worker.on_progress = write_one
    rig.worker.run()
    assert rig.clock.ms - NOW_MS > 30_000
    assert frontiers[0] == IDLE, "nothing was ever written: it need not be waited for"
    assert IDLE not in frontiers[1:]


def test_a_worker_that_ends_at_the_end_need_not_wait_for_idle_partitions() -> None:
    rig = Rig(clock=SteppingClock(step_ms=0))
    rig.worker.run(until_caught_up=True)
    assert rig.store.evaluation().watermark_ms is not None


def test_rules_are_evaluated_at_the_pace_of_the_settings() -> None:
    rig = Rig([], clock=SteppingClock(step_ms=1_000), worker={"evaluate_every": "10s"})
    rig.stop_once(lambda: rig.clock.ms >= NOW_MS + 60_000)
    rig.worker.run()
    evaluations = rig.metric("evaluation_seconds_count") or 0
    assert 4 <= evaluations <= 7


def test_a_long_evaluation_is_done_in_parts_to_its_end(
    expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.app.live.limits_of", lambda _: Limits(votes_at_once=7))
    rig = Rig()
    rig.worker.run(until_caught_up=True)
    assert (rig.metric("evaluation_seconds_count") or 0) > 5
    assert numbers(rig.store) == expected


def test_the_rest_of_an_evaluation_need_not_wait_until_the_next_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("monitor.app.live.limits_of", lambda _: Limits(votes_at_once=7))
    rig = Rig(worker={"evaluate_every": "1h"})
    rig.stop_once(lambda: rig.clock.ms > NOW_MS + 60_000)
    rig.worker.run()
    assert (rig.metric("evaluation_seconds_count") or 0) > 5
    assert rig.store.waiting(rig.store.evaluation().watermark_ms or 0) == []


# A sample


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_worker_tells_the_share_of_ids_that_it_counts(share: float) -> None:
    rig = Rig(sampling=share)
    rig.worker.run(until_caught_up=True)
    assert rig.metric("sampling_ratio") == share
    assert rig.metric("records_total") == len(history())
    assert rig.metric("rejected_records_total") == REJECTED
    assert ("predictions.passed_over" in rig.store.ledger()) == (share < 1)
