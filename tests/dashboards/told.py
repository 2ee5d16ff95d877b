"""A store whose evaluator has left alerts in given states, for pages about alerts."""

from collections.abc import Sequence
from dataclasses import replace

from dashboards.source import Source
from monitor.adapters.memory import MemoryStore
from monitor.domain.alerts import AlertKey, AlertState, Event, Status, Transition, fingerprint
from monitor.domain.detectors import Evidence, Glance
from monitor.domain.engine import Spec
from monitor.domain.evaluation import Evaluation
from monitor.domain.slices import SliceKey
from monitor.domain.windows import MINUTE_MS
from tests.dashboards import scenes
from tests.dashboards.scenes import NOON_MS

RULE = replace(
    scenes.RULE, baseline=0.92, hold_ms=5 * MINUTE_MS, runbook="https://wiki.example/urgent"
)
SPEC = Spec(groups=scenes.SPEC.groups, rules=(RULE,))
Moves = Sequence[tuple[Status, int]]
"""Where an alert went, and how many minutes before noon."""

NO_DATA, OK, WARNING = Status.NO_DATA, Status.OK, Status.WARNING
FIRING, RECOVERING = Status.FIRING, Status.RECOVERING
FIRED: Moves = ((OK, 200), (FIRING, 20))
RESOLVED: Moves = ((OK, 200), (FIRING, 60), (OK, 30))
RECOVERS: Moves = (*FIRED, (RECOVERING, 3))
WARNED: Moves = ((OK, 200), (WARNING, 10))
WELL: Moves = ((OK, 200),)
LONG_OVER: Moves = ((OK, 3_000), (FIRING, 2_000), (OK, 1_900))


def key(variant: str) -> AlertKey:
    """The alert of a variant."""
    return AlertKey(RULE.name, SliceKey(variant))


def name(variant: str) -> str:
    """Its id."""
    return fingerprint(key(variant))


def store_of(alerts: dict[str, Moves], *, stalled: str = "", sequence: int = 2) -> MemoryStore:
    """Some records, and for each variant an alert that has gone these ways."""
    chat = scenes.Chat()
    chat.many(3, NOON_MS - 10 * MINUTE_MS, predicted="fees", actual="fees")
    store = scenes.filled(chat, Spec())
    tell(store, alerts, stalled=stalled, sequence=sequence)
    return store


def tell(
    store: MemoryStore, alerts: dict[str, Moves], *, stalled: str = "", sequence: int = 2
) -> None:
    """Another evaluation, after which alerts have gone these ways."""
    lease = store.lead("worker-1", 1)
    assert lease is not None
    states, moved = {}, []
    for variant, moves in alerts.items():
        states[key(variant)] = replace(_state(moves), is_stalled=variant == stalled)
        moved += _transitions(variant, moves)
    known = {move.id for move in store.transitions()}
    fresh = sorted((m for m in moved if m.id not in known), key=lambda move: move.at_ms)
    store.commit_evaluation(Evaluation(sequence, NOON_MS, states), fresh, lease)


def _state(moves: Moves) -> AlertState:
    status, since_min = moves[-1]
    fired = [ago for to, ago in moves if to in {FIRING, WARNING}]
    hits = {FIRING: 9, WARNING: 82}.get(status, 95)
    n = 20 if status is FIRING else 100
    ring = tuple((NOON_MS, number < hits) for number in range(n))
    return AlertState(
        status,
        NOON_MS - since_min * MINUTE_MS,
        fired_ms=NOON_MS - fired[-1] * MINUTE_MS if fired else 0,
        moves=len(moves),
        glance=Glance(ring),
        votes=n,
        last_ms=NOON_MS - MINUTE_MS,
    )


def _transitions(variant: str, moves: Moves) -> list[Transition]:
    found, before = [], NO_DATA
    for number, (to, ago_min) in enumerate(moves, start=1):
        at_ms = NOON_MS - ago_min * MINUTE_MS
        evidence = Evidence(9, 20, at_ms - 10 * MINUTE_MS, 0.79, 0.80)
        reason = "9 of the last 20 mature urgent labels were hits"
        found.append(
            Transition(
                f"{name(variant)}-{number}", RULE.name, SliceKey(variant), before, to, at_ms,
                evidence, reason, event=Event.MOVED,
            )
        )  # fmt: skip
        before = to
    return found


def source_of(store: MemoryStore, *, age_ms: int = 2_000, spec: Spec = SPEC) -> Source:
    """A source on which people may act."""
    return replace(scenes.source_of(store, age_ms=age_ms, spec=spec), act=store.act)
