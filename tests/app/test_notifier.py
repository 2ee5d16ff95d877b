"""Receivers are told at least once, each by itself, whoever fails."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count

import pytest
from structlog.testing import capture_logs

from monitor.adapters.memory import MemoryStore
from monitor.adapters.receivers import WebhookReceiver
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.app.live import Worker, World
from monitor.app.notifier import FIRST_PAUSE_S, LONGEST_PAUSE_S, OVERTIME_MS, Courier, Notifier
from monitor.app.settings import Settings
from monitor.app.telemetry import Metrics, SystemClock
from monitor.domain.alerts import Status, Transition
from monitor.domain.errors import CommitConflict, DeliveryError, StoreError
from monitor.domain.evaluation import Evaluation
from monitor.domain.notices import Mode, Notice, Route
from monitor.domain.overlays import silence
from monitor.ports import Lease, Receiver, StateStore
from tests.adapters.notices import RULES, transition
from tests.app.doubles import Trap, TrappedLog, TrappedSink
from tests.app.story import SETTINGS, filled, history
from tests.builders import T0
from tests.servers.hooks import hook

PATIENCE_S = 60.0
TIMEOUT_MS = 30_000
SECRET = "hunter2"
_numbers = count()


class Inbox:
    """Keeps what it is told; ``fails`` so many times before it takes anything."""

    def __init__(self, fails: int = 0) -> None:
        self.notices: list[Notice] = []
        self.fails = fails
        self.is_closed = False
        self.arrived = threading.Semaphore(0)

    def send(self, notice: Notice) -> None:
        if self.fails:
            self.fails -= 1
            raise DeliveryError("out of order")
        self.notices.append(notice)
        self.arrived.release()

    def close(self) -> None:
        self.is_closed = True

    @property
    def ids(self) -> list[str]:
        """Each transition once, as a receiver that knows them by their ids sees it."""
        return list(dict.fromkeys(id_ for each in self.notices for id_ in each.transition_ids))

    def has_heard_of(self, status: Status) -> bool:
        return any(i.transition.moved_to is status for n in self.notices for i in n.items)


class Clock:
    def __init__(self) -> None:
        self.ms = T0

    def now_ms(self) -> int:
        return self.ms


@pytest.fixture(params=["memory", "valkey"])
def open_store(request: pytest.FixtureRequest) -> Iterator[Callable[[], StateStore]]:
    if request.param == "memory":
        store = MemoryStore()
        yield lambda: store
        return
    connection = RedisConnection(request.getfixturevalue("valkey_url"))
    namespace = f"notify-{next(_numbers)}"
    yield lambda: RedisStore(connection, namespace, shards=1, buckets=16)


def enter(store: StateStore, *transitions: Transition) -> None:
    """As the evaluator commits them."""
    lease = store.lead("evaluator", 60_000)
    assert lease is not None
    evaluation = Evaluation(store.evaluation().sequence + 1)
    store.commit_evaluation(evaluation, transitions, lease)


def route(name: str = "r", wait_ms: int = 0) -> Route:
    return Route(name, group_wait_ms=wait_ms, group_interval_ms=0)


def courier(
    receiver: Receiver, clock: Clock, metrics: Metrics | None = None, told: Route | None = None
) -> Courier:
    return Courier(
        told or route(), receiver, RULES, metrics or Metrics(), clock, lease_ms=TIMEOUT_MS
    )


def office(store: StateStore, worker: str = "w") -> Lease:
    lease = store.lead(worker, TIMEOUT_MS, "notify:r")
    assert lease is not None
    return lease


def begin(store: StateStore, clock: Clock) -> Lease:
    """The receiver has been there from before the first alert."""
    lease = office(store)
    assert not courier(Inbox(), clock).step(store, lease)
    return lease


def test_killed_between_commit_and_delivery_a_new_notifier_tells_it(
    open_store: Callable[[], StateStore],
) -> None:
    fired, clock, inbox = transition(), Clock(), Inbox()
    with closing(open_store()) as store:
        store.resign(begin(store, clock))
        enter(store, fired)
    with closing(open_store()) as store:
        lease = office(store, "another")
        assert courier(inbox, clock).step(store, lease)
        assert not courier(inbox, clock).step(store, lease)
    assert inbox.ids == [fired.id]
    assert len(inbox.notices) == 1


def test_killed_between_delivery_and_save_it_is_told_again_under_the_same_ids(
    open_store: Callable[[], StateStore],
) -> None:
    class Killed(Inbox):
        def send(self, notice: Notice) -> None:
            super().send(notice)
            raise StoreError("killed")

    fired, clock, inbox = transition(), Clock(), Killed()
    with closing(open_store()) as store:
        lease = begin(store, clock)
        enter(store, fired)
        with pytest.raises(StoreError):
            courier(inbox, clock).step(store, lease)
        again = Inbox()
        clock.ms += 5_000
        assert courier(again, clock).step(store, lease)
    assert again.ids == inbox.ids == [fired.id]
    assert again.notices[0].id == inbox.notices[0].id


def test_what_was_not_taken_stays_due_and_is_counted() -> None:
    store, clock, inbox, metrics = MemoryStore(), Clock(), Inbox(fails=2), Metrics()
    lease = begin(store, clock)
    enter(store, transition())
    told = courier(inbox, clock, metrics)
    for _ in range(2):
        with pytest.raises(DeliveryError):
            told.step(store, lease)
    assert told.step(store, lease)
    sample = metrics.registry.get_sample_value
    assert sample("recallwatch_notifications_total", {"receiver": "r"}) == 1
    assert sample("recallwatch_notification_failures_total", {"receiver": "r"}) == 2


def test_failure_that_nobody_foresaw_is_tried_again_and_its_text_is_not_logged() -> None:
    class Broken(Inbox):
        def send(self, notice: Notice) -> None:
            if self.fails:
                self.fails -= 1
                raise RuntimeError(SECRET)
            super().send(notice)

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if inbox.notices:
                self.set()
            return self.is_set()

    store, metrics, inbox, stop = MemoryStore(), Metrics(), Broken(fails=2), Stop()
    enter(store, fired := transition())
    with capture_logs() as said:
        courier(inbox, Clock(), metrics).run(lambda: store, stop, 0.25)
    failures = "recallwatch_notification_failures_total"
    assert metrics.registry.get_sample_value(failures, {"receiver": "r"}) == 2
    assert [line["error"] for line in said if "error" in line] == ["failed with RuntimeError"] * 2
    assert SECRET not in str(said)
    assert inbox.ids == [fired.id]


def test_the_pause_doubles_up_to_its_bound_and_is_short_again_after_a_success() -> None:
    class Stop(threading.Event):
        pauses: list[float]

        def wait(self, timeout: float | None = None) -> bool:
            self.pauses.append(timeout or 0.0)
            if not inbox.fails:
                self.set()
            return self.is_set()

    store, clock, inbox, stop = MemoryStore(), Clock(), Inbox(fails=11), Stop()
    stop.pauses = []
    enter(store, transition())
    told = courier(inbox, clock)
    told.run(lambda: store, stop, 0.25)
    assert stop.pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert max(stop.pauses) == LONGEST_PAUSE_S
    assert inbox.is_closed


def test_a_silence_is_respected_until_it_ends(open_store: Callable[[], StateStore]) -> None:
    clock, inbox = Clock(), Inbox()
    with closing(open_store()) as store:
        lease = begin(store, clock)
        store.act(
            silence(
                action_id="s1",
                matchers={"rule": "urgent"},
                until_ms=T0 + 60_000,
                who="ann",
                note="deploy",
                at_ms=T0,
            )
        )
        enter(store, transition())
        told = courier(inbox, clock)
        clock.ms = T0 + 59_999
        assert not told.step(store, lease)
        clock.ms = T0 + 60_000
        assert told.step(store, lease)
    assert inbox.ids == [transition().id]


def test_two_workers_tell_a_receiver_once() -> None:
    store, inbox, metrics = MemoryStore(), Inbox(), Metrics()
    enter(store, transition())
    notifiers = [
        Notifier(
            [(route(), inbox)],
            RULES,
            lambda: store,
            metrics,
            SystemClock(),
            timeout_ms=TIMEOUT_MS,
            look_s=0.01,
        )
        for _ in range(2)
    ]
    with notifiers[0], notifiers[1]:
        assert inbox.arrived.acquire(timeout=PATIENCE_S)
    assert len(inbox.notices) == 1


def test_a_lease_that_was_lost_saves_nothing() -> None:
    store, clock, inbox = MemoryStore(), Clock(), Inbox()
    stale = begin(store, clock)
    enter(store, transition())
    store.resign(stale)
    latest = office(store, "another")
    before = store.delivery("notify:r")
    assert courier(inbox, clock).step(store, stale)
    assert store.delivery("notify:r") == before
    with pytest.raises(CommitConflict):
        store.save_delivery("notify:r", "", stale)
    assert courier(inbox, clock).step(store, latest)
    assert inbox.ids == [transition().id]


def test_a_lease_outlasts_a_request() -> None:
    asked: list[int] = []

    class Store(MemoryStore):
        def lead(self, worker: str, lease_ms: int, office: str = "evaluator") -> Lease | None:
            asked.append(lease_ms)
            return super().lead(worker, lease_ms, office)

    store, inbox = Store(), Inbox()
    enter(store, transition())
    asked.clear()
    with Notifier(
        [(route(), inbox)], RULES, lambda: store, Metrics(), SystemClock(), timeout_ms=TIMEOUT_MS
    ):
        assert inbox.arrived.acquire(timeout=PATIENCE_S)
    assert set(asked) == {TIMEOUT_MS + OVERTIME_MS}


def test_dead_slow_and_failing_receivers_delay_neither_records_nor_others() -> None:
    log = filled(TrappedLog(Trap()), history())
    store, good = MemoryStore(2), Inbox()
    with hook(is_slow=True) as slow, hook(status=500) as failing:
        receivers: list[tuple[Route, Receiver]] = [
            (route("slow"), WebhookReceiver(f"{slow.url}/{SECRET}", PATIENCE_S)),
            (route("failing"), WebhookReceiver(f"{failing.url}/{SECRET}", PATIENCE_S)),
            (route("dead"), WebhookReceiver(f"http://127.0.0.1:9/{SECRET}", PATIENCE_S)),
            (Route("good", mode=Mode.RECORD), good),
        ]
        world = World(
            lambda: log,
            lambda: store,
            lambda: TrappedSink(Trap()),
            lambda: TrappedSink(Trap(), "journal"),
            receivers=lambda: receivers,
        )
        settings = Settings.model_validate(SETTINGS)
        worker, has_read_all = Worker(settings, world), threading.Event()
        worker.on_progress = lambda records, lag: has_read_all.set() if records > lag == 0 else None
        with capture_logs() as said:
            thread = threading.Thread(target=worker.run)
            thread.start()
            slow.wait()
            failing.wait()
            while not good.has_heard_of(Status.FIRING):
                assert good.arrived.acquire(timeout=PATIENCE_S)
            assert has_read_all.wait(PATIENCE_S)
            # The slow one still waits for its answer.
            assert not slow.release.is_set()
            worker.stop.set()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
    assert SECRET not in str(said)


def test_a_worker_that_only_catches_up_tells_nobody() -> None:
    log, inbox = filled(TrappedLog(Trap()), history()), Inbox()
    store = MemoryStore(2)
    world = World(
        lambda: log,
        lambda: store,
        lambda: TrappedSink(Trap()),
        lambda: TrappedSink(Trap(), "journal"),
        receivers=lambda: [(route(), inbox)],
    )
    Worker(Settings.model_validate(SETTINGS), world).run(until_caught_up=True)
    assert store.transitions()
    assert inbox.notices == []
