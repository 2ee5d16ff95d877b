"""The report for an auditor: ``report.json``, ``report.html`` and ``transitions.csv`` in a folder.

The JSON is the present report with all that the page shows beside it, under ``audit``; the other
two files say nothing that does not stand in it. The same store gives the same bytes. Ids of
requests are masked in all three, and texts left out, unless somebody asks for them.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor import __version__
from monitor.app.audit_findings import Document, findings_of
from monitor.app.audit_html import render
from monitor.app.console import dump
from monitor.app.report import iso, present_report, report_of
from monitor.app.settings import Settings
from monitor.app.still import Still, still_of
from monitor.app.wiring import spec_of, verdict_limits_of
from monitor.domain.events import Kind
from monitor.ports import StateReader

SHOWN_OF_ID = 4
"""Characters of a masked id; of a short one half, so that it stays masked."""

_SETTINGS = (
    "intents",
    "slices",
    "windows",
    "rules",
    "signals",
    "comparisons",
    "mapping",
    "verdict",
)
_PARTS = {
    Kind.PREDICTIONS: ("labelled", "pending", "expired", "duplicate", "passed_over"),
    Kind.LABELS: ("applied", "superseded", "orphan", "expired", "duplicate", "passed_over"),
}
_COMPARED = ("predictions", "labelled", "coverage", "accuracy", "accuracy_interval", "groups")
_COLUMNS = (
    "id",
    "rule",
    "variant",
    "slice",
    "version",
    "event",
    "from",
    "to",
    "at",
    "reason",
    "evidence",
    "bar",
    "since",
    "hits",
    "n",
    "missed",
    "corrected",
    "judges",
    "cut",
    "hindsight",
)
_STANDING = frozenset({"warning", "firing", "recovering"})


@dataclass(frozen=True, slots=True)
class AsKnown:
    """What was known at an instant: the report of a replay that ended there."""

    as_of_ms: int
    report_then: Mapping[str, Any]


def write_report(
    folder: Path,
    reader: StateReader | Still,
    settings: Settings,
    *,
    question: str,
    as_known: AsKnown | None = None,
    texts: Mapping[str, str] | None = None,
    reveal: bool = False,
) -> None:
    """Write the three files into ``folder``, which is created if it is missing.

    ``texts`` are those of requests by prediction id; like whole ids they are shown only with
    ``reveal``. OSError when the folder cannot be written to.
    """
    document = document_of(
        reader, settings, question=question, as_known=as_known, texts=texts, reveal=reveal
    )
    files = {
        "report.json": f"{dump(document)}\n",
        "report.html": render(document),
        "transitions.csv": transitions_csv(document["transitions"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode())


def document_of(
    reader: StateReader | Still,
    settings: Settings,
    *,
    question: str,
    as_known: AsKnown | None = None,
    texts: Mapping[str, str] | None = None,
    reveal: bool = False,
) -> dict[str, Any]:
    """The content of ``report.json``, as somebody reads it back.

    ``digest`` is None when workers never left time for one picture of the store.
    """
    still = reader if isinstance(reader, Still) else held_still(reader, settings)
    report, findings = present_report(still, settings), findings_of(still, spec_of(settings))
    audit: Document = {
        "question": question,
        "is_masked": not reveal,
        "code": __version__,
        "settings_digest": settings.digest(),
        "settings": {name: settings.masked()[name] for name in _SETTINGS},
        "topics": [settings.kafka.predictions.topic, settings.kafka.labels.topic],
        "journal": _journal(still),
        "balance": _balance(report),
        "rules": findings,
        "as_known": None if as_known is None else _as_known(as_known, report),
    }
    document: dict[str, Any] = json.loads(dump({**report, "audit": audit}))
    for missed in _missed(document):
        _finish(missed, texts or {}, reveal=reveal)
    return document


def held_still(reader: StateReader, settings: Settings) -> Still:
    """One picture of a store with all that the three files show."""
    spec, limits = spec_of(settings), verdict_limits_of(settings)

    def read(still: Still) -> None:
        report_of(still, spec, limits)
        findings_of(still, spec)

    return still_of(reader, read)


def mask(prediction_id: str) -> str:
    """Enough of an id to find it again, not enough to name it.

    >>> mask("p295eeb03c761c5"), mask("p17")
    ('p295…', 'p…')
    """
    return f"{prediction_id[: min(SHOWN_OF_ID, len(prediction_id) // 2)]}…"


def transitions_csv(transitions: Iterable[Mapping[str, Any]]) -> str:
    """One line for each transition, RFC 4180; nothing in it that a spreadsheet takes for a formula.

    ``missed`` are ids, ``cut`` is ``topic[partition]@next offset``, both with semicolons between.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in transitions:
        flat = {
            **row,
            "missed": ";".join(missed["prediction_id"] for missed in row["missed"]),
            "cut": ";".join(f"{place}@{offset}" for place, offset in row["cut"].items()),
        }
        writer.writerow([_cell(flat[name]) for name in _COLUMNS])
    return text.getvalue()


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(value)
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _missed(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every place of the document that names a request."""
    for owner in (*document["transitions"], *document["audit"]["rules"]):
        yield from owner["missed"]


def _finish(missed: dict[str, Any], texts: Mapping[str, str], *, reveal: bool) -> None:
    prediction_id = missed["prediction_id"]
    if not reveal:
        missed["prediction_id"] = mask(prediction_id)
    elif prediction_id in texts:
        missed["text"] = texts[prediction_id]


def _journal(reader: Still) -> Document | None:
    """The latest entry that the store holds; None where no journal was kept."""
    last, after = None, 0
    while entries := reader.journal(after):
        last = entries[-1]
        after = last.sequence
    if last is None:
        return None
    return {
        "sequence": last.sequence,
        "tick": iso(last.tick_ms),
        "settings": last.settings,
        "code": last.code,
        "state": last.state,
        "hash": last.hash,
    }


def _balance(report: Mapping[str, Any]) -> Document:
    """For each side the records received less those accounted for: 0, or something is wrong."""
    balance: Document = {}
    for kind, parts in _PARTS.items():
        side = report["ledger"][kind]
        known = sum(side[part] for part in parts) + sum(side["rejected"].values())
        balance[kind] = {"accounted": known, "difference": side["received"] - known}
    return balance


def _as_known(as_known: AsKnown, now: Mapping[str, Any]) -> Document:
    then = as_known.report_then
    return {
        "as_of": iso(as_known.as_of_ms),
        "then": {
            "digest": then["digest"],
            "variants": {
                variant: {name: section[name] for name in _COMPARED}
                for variant, section in then["variants"].items()
            },
            "alerts": _standing(then["transitions"]),
        },
        "now": {"alerts": _standing(now["transitions"])},
    }


def _standing(transitions: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Variant -> alerts that warned, fired or recovered at the end, in words."""
    last = {
        (row["rule"], row["variant"], row["slice"], row["version"]): row
        for row in transitions
        if row["event"] == "moved"
    }
    standing: dict[str, list[str]] = {}
    for (rule, variant, slice_, version), row in last.items():
        if row["to"] in _STANDING:
            whose = " ".join(name for name in (slice_, version) if name not in {"", "ALL"})
            when = f"{row['at'][:16].replace('T', ' ')} UTC"
            said = f"{row['to']}: {rule}{f' for {whose}' if whose else ''} since {when}"
            standing.setdefault(variant, []).append(said)
    return standing
