"""Missed messages as table rows: to read, and to download. No text of a message is ever in them."""

from collections.abc import Iterator, Sequence

from dashboards import words
from dashboards.tables import Row
from monitor.domain.misses import Case
from monitor.domain.overlays import Action, Deed
from monitor.domain.windows import MINUTE_MS

MASKED = "••••••••"
"""Stands where the text of a message is not shown; its length tells nothing."""

_DONE = {
    Deed.HANDLE: "marked it as handled",
    Deed.REOPEN: "opened it again",
    Deed.REVEAL: "looked at the text",
}


def cases(listed: Sequence[Case], now_ms: int) -> list[Row]:
    """One row for each, in the order given."""
    return [_row(case, now_ms) for case in listed]


def _row(case: Case, now_ms: int) -> Row:
    miss = case.miss
    return {
        "Time (UTC)": words.instant(miss.event_ms),
        "State": state(case),
        "True intent": words.one_line(miss.actual),
        "Sent to": words.one_line(miss.predicted),
        "Waiting": words.duration(case.waited_ms(now_ms)),
        "Ticket": words.one_line(case.handling.ticket),
        "Text": MASKED,
        "Variant": words.one_line(miss.variant),
        "Prediction": words.one_line(miss.prediction_id),
    }


def download(listed: Sequence[Case], now_ms: int) -> list[Row]:
    """The same in full, with who handled it and when the truth was known, without the mask."""
    rows: list[Row] = []
    for case in listed:
        miss, handled = case.miss, case.handling.handled
        rows.append({
            "Time (UTC)": words.instant(miss.event_ms),
            "True intent": miss.actual,
            "Sent to": miss.predicted,
            "Variant": miss.variant,
            "Waiting (min)": case.waited_ms(now_ms) // MINUTE_MS,
            "State": "open" if handled is None else "handled",
            "Ticket": case.handling.ticket,
            "Handled (UTC)": None if handled is None else words.instant(handled.at_ms),
            "Handled by": "" if handled is None else handled.who,
            "Note": "" if handled is None else handled.note,
            "Known (UTC)": words.instant(miss.known_ms),
            "Label delay (s)": miss.delay_ms / 1000,
            "Prediction": miss.prediction_id,
        })  # fmt: skip
    return rows


def state(case: Case) -> str:
    """Its state with a sign, so that it is not told by colour alone."""
    return "▲ open" if case.is_open else "✓ handled"


def trail(case: Case) -> Iterator[str]:
    """What people did about it, oldest first, one line each."""
    for action in case.handling.actions:
        yield _line(action)


def _line(action: Action) -> str:
    ticket = f", ticket {words.one_line(action.ticket)}" if action.ticket else ""
    note = f": {words.one_line(action.note)}" if action.note else ""
    who = words.one_line(action.who)
    return f"{words.moment(action.at_ms)} · {who} {_DONE[action.deed]}{ticket}{note}"
