"""The page "Replay and audit" -> rows of tables, to read and to download."""

from collections.abc import Callable, Iterable, Iterator

from dashboards import words
from dashboards.replay_models import GroupScore, Known, Numbers, Replayed
from dashboards.tables import Row
from monitor.app.audit_report import mask
from monitor.app.report import iso
from monitor.domain.alerts import Transition


def recall(view: Replayed) -> list[Row]:
    """One row for each point of the chart, the newest first; today's beside it when compared."""
    shown = view.shown
    if shown is None:
        return []
    today = {point.end_ms: point for point in view.now.points} if view.now else {}
    rows: list[Row] = []
    for point in reversed(shown.points):
        low, high = point.recall.interval or (None, None)
        row: Row = {
            "Time (UTC)": words.instant(point.end_ms),
            "Recall": point.recall.value,
            "95% low": low,
            "95% high": high,
            f"{view.of} labels (n)": point.recall.support,
            "Labels" if view.known is Known.NOW else "Labels learned": point.labelled,
            "Messages": point.predictions,
        }
        if view.known is Known.COMPARE and point.end_ms in today:
            row["Recall, as known now"] = today[point.end_ms].recall.value
        rows.append(row)
    return rows


def compared(view: Replayed) -> list[tuple[str, str, str]]:
    """Measure, as known then, as known now; a dash where one is not looked at."""
    names = dict.fromkeys(row.name for n in (view.then, view.now) if n for row in n.groups)
    rows = [(f"{_title(n)} recall", _recall(view.then, n), _recall(view.now, n)) for n in names]
    rows += [(f"Missed {n}", _missed(view.then, n), _missed(view.now, n)) for n in names]
    rows.append(("Accuracy", _accuracy(view.then), _accuracy(view.now)))
    rows += [
        ("Messages of this window", *_both(view, lambda n: n.predictions)),
        ("Labels counted above", *_both(view, lambda n: n.labelled)),
        ("Labels about these messages", *_both(view, lambda n: n.of_window, "about ")),
        ("Labels missing", *_both(view, lambda n: n.missing, "about ")),
    ]
    return rows


def moves(transitions: Iterable[Transition]) -> Iterator[Row]:
    """One row for each transition, as they come: what happened to which alert, and why."""
    for move in transitions:
        yield {
            "Time (UTC)": words.instant(move.at_ms),
            "Rule": move.rule,
            "Variant": move.key.variant,
            "Version": move.version,
            "Event": str(move.event),
            "From": str(move.moved_from),
            "To": str(move.moved_to),
            "Why": words.one_line(move.reason),
        }


def transitions(moved: Iterable[Transition]) -> Iterator[Row]:
    """One row for each transition with all that stands in the journal; ids of requests masked."""
    for move in moved:
        evidence = move.evidence
        yield {
            "id": move.id,
            "rule": move.rule,
            "variant": move.key.variant,
            "slice": move.key.slice,
            "version": move.version,
            "event": str(move.event),
            "from": str(move.moved_from),
            "to": str(move.moved_to),
            "at": iso(move.at_ms),
            "reason": move.reason,
            "evidence": evidence and evidence.value,
            "bar": evidence and evidence.bar,
            "since": evidence and iso(evidence.since_ms),
            "hits": evidence and evidence.hits,
            "n": evidence and evidence.n,
            "missed": ";".join(mask(missed.prediction_id) for missed in move.missed),
            "corrected": move.corrected,
            "judges": move.judges,
            "cut": ";".join(f"{place}@{offset}" for place, offset in move.cut),
        }


def recall_text(row: GroupScore) -> str:
    """Recall with interval and n, and that there are too few labels where it is so."""
    few = f", {words.too_few(row.recall.support)}" if row.recall.support < words.FEW else ""
    return f"{words.percent(row.recall.value)} ({words.interval(row.recall)}){few}"


def _recall(numbers: Numbers | None, name: str) -> str:
    row = numbers and numbers.group(name)
    return recall_text(row) if row else words.NONE


def _both(view: Replayed, read: Callable[[Numbers], int], about: str = "") -> tuple[str, str]:
    """A count as known then, which may be an estimate, and as known now."""
    then = words.NONE if view.then is None else f"{about}{words.count(read(view.then))}"
    return then, words.NONE if view.now is None else words.count(read(view.now))


def _missed(numbers: Numbers | None, name: str) -> str:
    row = numbers and numbers.group(name)
    if not row:
        return words.NONE
    return f"{words.count(row.recall.support - row.hits)} of {words.count(row.recall.support)}"


def _accuracy(numbers: Numbers | None) -> str:
    if numbers is None:
        return words.NONE
    return f"{words.percent(numbers.accuracy.value)} ({words.interval(numbers.accuracy)})"


def _title(name: str) -> str:
    return name[:1].upper() + name[1:]
