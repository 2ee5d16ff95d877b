"""The same courses through the whole engine: JSON records, codec, join, store, evaluator."""

import time

import msgspec
import numpy as np

from benchmarks.courses import KEY, Course, Found, course_of
from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.app.flow import Flow, Limits
from monitor.codec.records import RecordCodec
from monitor.domain import alerts
from monitor.domain.alerts import AlertKey, AlertState, Event, Transition
from monitor.domain.engine import Spec
from monitor.domain.events import Kind, Record
from monitor.domain.slices import Groups
from monitor.domain.windows import DAY_MS, WindowSpec

BATCH = 2_000


def compared(name: str, rate: int, seed: int, run: int) -> Found:
    """One run both ways: 1.0 where transitions and the bits of the state are equal."""
    course, _ = course_of(name, rate, seed, run)
    store = carried(course)
    evaluation = store.evaluation()
    alert = AlertKey(course.rule.name, KEY)
    direct = [moved.transition for moved in course.moved]
    alerts.settle(course.rule, alert, course.state, (evaluation.watermark_ms or 0) - 1, direct)
    is_equal = _told(direct) == _told(store.transitions())
    is_equal = is_equal and _bits(course.state) == _bits(evaluation.states[alert])
    return {"equal": [float(is_equal)], "records": [2.0 * course.votes]}


def carried(course: Course) -> MemoryStore:
    """The store after the course's outcomes have come as predictions and labels."""
    log, store = MemoryLog({str(kind): 1 for kind in Kind}), MemoryStore(keep_ms={})
    spec = Spec(
        groups=Groups({course.rule.of: course.rule.group}),
        windows=WindowSpec(horizon_ms=DAY_MS, keep_ms={}),
        rules=(course.rule,),
    )
    flow = Flow(spec, RecordCodec(), log, store, limits=Limits(2 * BATCH))
    ats = np.concatenate([times for times, _ in course.cast]).tolist()
    hits = np.concatenate([found for _, found in course.cast]).tolist()
    for first in range(0, len(ats), BATCH):
        for number in range(first, min(first + BATCH, len(ats))):
            log.append(_prediction(number, ats[number], hit=hits[number]))
            log.append(_label(number, ats[number]))
        flow.turn()
        flow.evaluate()
        flow.sweep()
    flow.mark_idle(log.at_end())
    flow.evaluate()
    return store


def _told(transitions: list[Transition]) -> list[tuple[object, ...]]:
    """What a transition says, without the place in the log and the examples of misses."""
    return [
        (t.id, t.event, t.moved_from, t.moved_to, t.at_ms, t.evidence, t.reason)
        for t in transitions
        if t.event is not Event.MATURITY
    ]


def _bits(state: AlertState) -> bytes:
    return msgspec.json.encode(
        (state.status, state.votes, state.recent, state.page, state.warn, state.up, state.gap_ms)
    )


def _prediction(number: int, at_ms: int, *, hit: bool) -> Record:
    fields = {
        "prediction_id": f"{number:08}",
        "event_time": _iso(at_ms),
        "variant": KEY.variant,
        "predicted_intent": "urgent" if hit else "routine",
    }
    return Record(str(Kind.PREDICTIONS), 0, 0, at_ms, None, msgspec.json.encode(fields))


def _label(number: int, at_ms: int) -> Record:
    fields = {
        "prediction_id": f"{number:08}",
        "true_intent": "urgent",
        "label_time": _iso(at_ms),
        "label_id": f"L{number:08}",
    }
    return Record(str(Kind.LABELS), 0, 0, at_ms, None, msgspec.json.encode(fields))


def _iso(instant_ms: int) -> str:
    seconds, millis = divmod(instant_ms, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{millis:03d}Z"
