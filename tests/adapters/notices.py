"""Notices as ``plan`` makes them, for tests of what sends them."""

from monitor.domain.alerts import AlertKey, Event, Missed, Status, Transition, fingerprint
from monitor.domain.detectors import Evidence
from monitor.domain.notices import Mode, Notice, Route, Told, plan
from monitor.domain.overlays import Overlays
from monitor.domain.rules import AlertRule
from monitor.domain.slices import SliceKey
from tests.builders import T0

HOUR_MS = 3_600_000
RULES = {
    name: AlertRule(name, "urgent", frozenset({"lost_card"}), 0.8, runbook=f"https://wiki/{name}")
    for name in ("urgent", "fraud")
}


def transition(
    number: int = 1,
    how: tuple[Status, Status] = (Status.OK, Status.FIRING),
    *,
    rule: str = "urgent",
    variant: str = "fine_tuned",
    at_ms: int = T0,
    event: Event = Event.MOVED,
) -> Transition:
    alert = AlertKey(rule, SliceKey(variant), "2")
    return Transition(
        f"{fingerprint(alert)}-{number}",
        *alert[:2],
        *how,
        at_ms,
        Evidence(12, 30, at_ms - HOUR_MS, 40_000.0, 36_000.0),
        "12 of the last 30 mature urgent labels were hits",
        version="2",
        event=event,
        missed=(Missed("p1", at_ms, "chat", "lost_card"),),
    )


def notice_of(*transitions: Transition, mode: Mode = Mode.TELL, now_ms: int = T0) -> Notice:
    """All of them in one notice."""
    route = Route("r", mode=mode, group_wait_ms=0, dashboard_url="https://monitor.example")
    notice, _ = plan(route, RULES, transitions, Told(), lambda _: Overlays(), now_ms)
    assert notice is not None
    return notice


def level_after(raised: Transition, over: Transition, now_ms: int) -> Notice:
    """What a receiver of levels that holds ``raised`` is told once it is over."""
    route = Route("r", mode=Mode.LEVEL)
    _, told = plan(route, RULES, [raised], Told(), lambda _: Overlays(), now_ms - 1)
    notice, _ = plan(route, RULES, [raised, over], told, lambda _: Overlays(), now_ms)
    assert notice is not None
    return notice
