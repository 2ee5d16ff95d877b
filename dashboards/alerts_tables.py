"""The page "Alerts" -> rows of its trail, to read and to download."""

import json
from collections.abc import Sequence

from dashboards import tables, words
from dashboards.alerts_models import Entry
from monitor.app.handling import act_row
from monitor.domain.overlays import Deed

_DEEDS = {
    Deed.ACKNOWLEDGE: "acknowledged",
    Deed.SILENCE: "silenced",
    Deed.UNSILENCE: "silence ended",
    Deed.FORGET: "forgotten",
    Deed.HANDLE: "missed message handled",
    Deed.REOPEN: "missed message opened again",
    Deed.REVEAL: "text looked at",
}


def trail(entries: Sequence[Entry]) -> list[tables.Row]:
    """One row for each act, as they come."""
    return [
        {
            "Time (UTC)": words.instant(action.at_ms),
            "Who": words.one_line(action.who),
            "Action": _DEEDS.get(action.deed, str(action.deed)),
            "About": about,
            "Reason": words.one_line(action.note),
            "Until (UTC)": words.instant(action.until_ms) if action.until_ms else None,
            "Id": action.id,
        }
        for action, about in entries
    ]


def trail_csv(entries: Sequence[Entry]) -> str:
    """All acts as CSV."""
    return tables.csv_of(trail(entries))


def trail_json(entries: Sequence[Entry]) -> str:
    """All acts as JSON, as ``recallwatch alerts show`` has them."""
    return json.dumps([act_row(action) for action, _ in entries], indent=2, ensure_ascii=False)
