"""The confusion matrix as table rows: to read, and to download."""

from collections.abc import Iterable

from dashboards.confusion_models import By, Cell, Confused
from dashboards.tables import Row


def pairs(view: Confused, by: By) -> list[Row]:
    """The worst confusions, worst first."""
    return _rows(view, view.pairs(by), by)


def every_cell(view: Confused, by: By) -> list[Row]:
    """Each pair of intents that occurs, urgent ones first."""
    return _rows(view, view.every_cell(by), by)


def _rows(view: Confused, cells: Iterable[Cell], by: By) -> list[Row]:
    rows: list[Row] = []
    for cell in cells:
        low, high = cell.score.interval or (None, None)
        row: Row = {
            "Missed": f"▲ {view.of}" if cell.is_missed else "",
            "True intent": cell.actual,
            "Predicted intent": cell.predicted,
            "Outcomes": cell.n,
            "Share": cell.score.value,
            "95% low": low,
            "95% high": high,
            f"of {by}": cell.score.support,
        }
        if cell.then is not None:
            row["Share then"] = cell.then.value
            row["Labels then"] = cell.then.support
            row["Change (points)"] = None if cell.change is None else 100 * cell.change
            row["Labels"] = "too few" if cell.is_few else "enough"
        rows.append(row)
    return rows
