"""View models -> table rows: the same numbers as the charts, to read and to download."""

import csv
import io
from collections.abc import Sequence
from datetime import datetime

from dashboards import words
from dashboards.models import Books, IntentRow, LabelsView, Route, Trend
from monitor.domain.ledger import Balance

Row = dict[str, object]


def recall(view: Trend) -> list[Row]:
    """One row for each point of the recall and coverage charts, the newest first."""
    rows: list[Row] = []
    for point in reversed(view.points):
        low, high = point.recall.interval or (None, None)
        rows.append({
            "Time (UTC)": words.instant(point.end_ms),
            "Recall": point.recall.value,
            "95% low": low,
            "95% high": high,
            f"{view.of} labels (n)": point.recall.support,
            "Labels in": point.known,
            "Predictions": point.predictions,
            "Labelled": point.labelled,
        })  # fmt: skip
    return rows


def intents(rows: Sequence[IntentRow]) -> list[Row]:
    """One row for each intent, all of them."""
    table: list[Row] = []
    for row in rows:
        low, high = row.recall.interval or (None, None)
        table.append({
            "True intent": row.intent,
            "Recall": row.recall.value,
            "95% low": low,
            "95% high": high,
            "Labels (n)": row.recall.support,
            "Caught": row.recall.support - row.missed,
            "Missed": row.missed,
        })  # fmt: skip
    return table


def routes(rows: Sequence[Route]) -> list[Row]:
    """One row for each way out of the group."""
    return [
        {"True intent": row.actual, "Sent to": row.predicted, "Missed": row.missed} for row in rows
    ]


def arrivals(view: LabelsView) -> list[Row]:
    """One row for each point of the charts of the Labels page, the newest first."""
    rows: list[Row] = []
    for point in reversed(view.points):
        delays = point.delays
        rows.append({
            "Time (UTC)": words.instant(point.end_ms),
            "Predictions": point.predictions,
            "Labelled": point.labelled,
            "Labels in": point.coverage,
            "Labels arrived": point.arrived,
            "Delay p50 (s)": delays and delays.p50_ms / 1000,
            "Delay p90 (s)": delays and delays.p90_ms / 1000,
            "Delay p99 (s)": delays and delays.p99_ms / 1000,
        })  # fmt: skip
    return rows


def rejected(books: Books) -> list[Row]:
    """One row for each reason, of predictions and of labels."""
    reasons = sorted({*books.predictions.rejected, *books.labels.rejected})
    return [
        {
            "Reason": reason,
            "Predictions": books.predictions.rejected.get(reason, 0),
            "Labels": books.labels.rejected.get(reason, 0),
        }
        for reason in reasons
    ]


def gaps(books: Books) -> list[Row]:
    """One row for each run of offsets that the log dropped before they were counted."""
    return [
        {"Partition": str(gap.partition), "First offset": gap.first, "Last offset": gap.past - 1}
        for gap in books.gaps
    ]


def terms(side: Balance) -> list[tuple[str, int]]:
    """What the records received have become, in the order of the equation."""
    passed_over = [("passed over", side.passed_over)] if side.passed_over else []
    return [
        *side.parts.items(),
        ("expired", side.expired),
        ("duplicate", side.duplicate),
        ("rejected", sum(side.rejected.values())),
        *passed_over,
    ]


def csv_of(rows: Sequence[Row]) -> str:
    """The rows as CSV with a header, instants as ISO 8601 in UTC; "" for no rows."""
    if not rows:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _plain(value) for name, value in row.items()})
    return out.getvalue()


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return _unarmed(value) if isinstance(value, str) else value


def _unarmed(text: str) -> str:
    """A text that no spreadsheet takes for a formula; intents come from outside."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
