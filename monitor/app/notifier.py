"""Tells the receivers, each in a thread of its own: none delays another, and none the records.

Each thread has its own connection to the store and asks for the office that is named after its
receiver, so that of all workers one tells it. Then, over and over: what is due is planned, sent,
and only then saved as told. A crash in between sends it again: at least once, and a receiver
that knows transitions by their ids is told once. A failure is followed by a pause that doubles.
"""

import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import cached_property
from typing import Self

import structlog

from monitor.app.telemetry import Metrics
from monitor.codec.notices import pack_told, unpack_told
from monitor.domain.alerts import AlertKey, Transition
from monitor.domain.errors import CommitConflict, WorldError
from monitor.domain.evaluation import Evaluation
from monitor.domain.forgetting import retold
from monitor.domain.notices import Notice, Route, Rules, Told, plan
from monitor.domain.overlays import Action, Overlays, overlays_of, raised_by
from monitor.ports import Clock, Lease, Receiver, StateStore

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
LOOK_S = 2.0
"""How often each thread looks whether there is something to tell."""

OVERTIME_MS = 30_000
"""What an office is held for beyond the time that one request may take."""

GOODBYE_S = 2.0
"""How long ``stop`` waits for threads; one that still waits for a receiver ends with the process.

What it was sending is sent again by whoever comes next."""


class Notifier:
    """All receivers of one worker, told while the context is open."""

    def __init__(
        self,
        receivers: Sequence[tuple[Route, Receiver]],
        rules: Rules,
        open_store: Callable[[], StateStore],
        metrics: Metrics,
        clock: Clock,
        *,
        timeout_ms: int,
        look_s: float = LOOK_S,
    ) -> None:
        self._stop = threading.Event()
        self._threads = []
        for route, receiver in receivers:
            courier = Courier(
                route, receiver, rules, metrics, clock, lease_ms=timeout_ms + OVERTIME_MS
            )
            name = f"notify-{route.name}"
            self._threads.append(
                threading.Thread(
                    target=courier.run,
                    args=(open_store, self._stop, look_s),
                    name=name,
                    daemon=True,
                )
            )

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(GOODBYE_S)


class Courier:
    """Tells one receiver."""

    def __init__(
        self,
        route: Route,
        receiver: Receiver,
        rules: Rules,
        metrics: Metrics,
        clock: Clock,
        *,
        lease_ms: int,
    ) -> None:
        self._route, self._receiver, self._rules = route, receiver, rules
        self._clock, self._lease_ms = clock, lease_ms
        self._office = f"notify:{route.name}"
        self._worker = secrets.token_hex(8)
        # There from the start, so that the first failure shows as an increase.
        self._sent = metrics.notifications.labels(route.name)
        self._failed = metrics.notification_failures.labels(route.name)
        self._pause_s = FIRST_PAUSE_S
        self._say = structlog.get_logger().bind(receiver=route.name)

    def run(
        self, open_store: Callable[[], StateStore], stop: threading.Event, look_s: float
    ) -> None:
        """Work until stopped; whatever fails is tried again after a pause."""
        with closing(self._receiver):
            while not stop.is_set():
                try:
                    with closing(open_store()) as store:
                        self._work(store, stop, look_s)
                except WorldError as error:
                    self._back_off(str(error), stop)
                except Exception as error:  # noqa: BLE001 - a thread that ends tells nobody
                    # The text may quote an address.
                    self._back_off(f"failed with {type(error).__name__}", stop)

    def _work(self, store: StateStore, stop: threading.Event, look_s: float) -> None:
        lease: Lease | None = None
        try:
            while not stop.is_set():
                lease = store.lead(self._worker, self._lease_ms, self._office)
                if lease is None or not self.step(store, lease):
                    stop.wait(look_s)
        finally:
            if lease is not None:
                # The store may be what failed; the lease then runs out by itself.
                with suppress(WorldError):
                    store.resign(lease)

    def step(self, store: StateStore, lease: Lease) -> bool:
        """Send the notice that is due; False when there is none.

        DeliveryError when the receiver did not take it: nothing is saved, so it stays due.
        """
        saved = store.delivery(self._office)
        now_ms = self._clock.now_ms()
        transitions = store.transitions()
        lying = _Lying(store, self._rules, transitions, now_ms)
        known = unpack_told(saved)
        if known is not None:
            known = _as_stored(known, transitions)
        notice, told = plan(self._route, self._rules, transitions, known, lying.over, now_ms)
        if notice is not None:
            self._send(notice)
        packed = pack_told(told)
        if packed != saved:
            # Another worker has taken over, and told the receiver in our place.
            with suppress(CommitConflict):
                store.save_delivery(self._office, packed, lease)
        return notice is not None

    def _send(self, notice: Notice) -> None:
        try:
            self._receiver.send(notice)
        except Exception:
            self._failed.inc()
            raise
        self._sent.inc()
        self._pause_s = FIRST_PAUSE_S
        self._say.info("notified", id=notice.id, transitions=list(notice.transition_ids))

    def _back_off(self, problem: str, stop: threading.Event) -> None:
        self._say.warning("not notified", error=problem, retry_in_s=self._pause_s)
        stop.wait(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)


def _as_stored(told: Told, transitions: Iterable[Transition]) -> Told:
    """What a receiver was told, without the examples that were forgotten by request since."""
    missed = {each.id: each.missed for each in transitions}
    return retold(told, lambda each: replace(each, missed=missed.get(each.id, each.missed)))


class _Lying:
    """What lies over alerts now; read from the store when it is first asked for."""

    def __init__(
        self, store: StateStore, rules: Rules, transitions: Sequence[Transition], now_ms: int
    ) -> None:
        self._store, self._rules, self._now_ms = store, rules, now_ms
        self._transitions = transitions

    def over(self, alert: AlertKey) -> Overlays:
        return overlays_of(
            alert,
            states=self._evaluation.states,
            raised=self._raised,
            rules=self._rules,
            actions=self._actions,
            now_ms=self._now_ms,
        )

    @cached_property
    def _evaluation(self) -> Evaluation:
        return self._store.evaluation()

    @cached_property
    def _raised(self) -> dict[AlertKey, str]:
        return raised_by(self._transitions)

    @cached_property
    def _actions(self) -> list[Action]:
        return self._store.actions()
