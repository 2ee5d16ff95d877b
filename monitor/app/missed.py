"""Missed messages as ``recallwatch missed`` lists them; what they say is never among it."""

from monitor.app.report import iso
from monitor.domain.engine import Spec
from monitor.domain.misses import Case, cases_of, is_missed
from monitor.domain.slices import Groups
from monitor.domain.windows import MINUTE_MS
from monitor.ports import StateReader


def cases_in(reader: StateReader, spec: Spec, of: str | None) -> list[Case]:
    """The misses that the store keeps, of one declared group or of all: the oldest open first."""
    groups = spec.groups if of is None else Groups({of: spec.groups.of(of)})
    found = [m for m in reader.misses() if is_missed(groups, m.actual, m.predicted)]
    return cases_of(found, reader.actions())


def row_of(case: Case, now_ms: int) -> dict[str, object]:
    """One case as JSON has it; ``waiting_s`` is how long it waits, or waited, by wall time."""
    miss, handled = case.miss, case.handling.handled
    return {
        "reference": miss.reference,
        "prediction_id": miss.prediction_id,
        "event_time": iso(miss.event_ms),
        "variant": miss.variant,
        "actual": miss.actual,
        "predicted": miss.predicted,
        "known_at": iso(miss.known_ms),
        "label_delay_s": miss.delay_ms / 1000,
        "waiting_s": case.waited_ms(now_ms) / 1000,
        "state": "open" if handled is None else "handled",
        "ticket": case.handling.ticket or None,
        "handled": handled
        and {"at": iso(handled.at_ms), "who": handled.who, "note": handled.note or None},
    }


def line_of(case: Case, now_ms: int) -> str:
    """One case in one line."""
    miss, handled = case.miss, case.handling.handled
    waited = f"{case.waited_ms(now_ms) // MINUTE_MS} min"
    state = f"open for {waited}" if handled is None else f"handled by {handled.who} after {waited}"
    ticket = f" [{case.handling.ticket}]" if case.handling.ticket else ""
    way = f"{miss.actual} -> {miss.predicted}"
    return f"{iso(miss.event_ms)}  {miss.prediction_id}  {way}  {miss.variant}  {state}{ticket}"
