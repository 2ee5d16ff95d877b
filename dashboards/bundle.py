"""What an auditor takes away from the page "Replay and audit": one ZIP file, hashes within.

Equal views give equal bytes. Ids of requests are masked.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from typing import Any

from dashboards import replay_tables, tables, words
from dashboards.models import Choice
from dashboards.recompute import Answer
from dashboards.replay_models import GroupScore, Numbers, Replayed
from monitor import __version__
from monitor.app.audit import document_of
from monitor.app.console import dump
from monitor.app.report import iso
from monitor.codec.journal import pack_journal_entry
from monitor.domain.scores import Score

_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The date of every file in it: when it was made says nothing of its content."""


def name_of(view: Replayed) -> str:
    """A file name that tells instant and knowledge."""
    at = words.instant(view.at_ms).strftime("%Y%m%dT%H%MZ")
    return f"recallwatch-{at}-{view.known}.zip"


def bundle(view: Replayed, choice: Choice, answer: Answer | None) -> bytes:
    """The ZIP file: numbers, transitions, journal, settings, audit and ``SHA256SUMS``."""
    files = _files(view, choice, answer)
    sums = "".join(f"{hashlib.sha256(files[n]).hexdigest()}  {n}\n" for n in sorted(files))
    files["SHA256SUMS"] = sums.encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, _EARLIEST)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return packed.getvalue()


def _files(view: Replayed, choice: Choice, answer: Answer | None) -> dict[str, bytes]:
    moved = list(replay_tables.transitions(view.moves))
    files = {
        "numbers.json": f"{dump(numbers(view, choice))}\n".encode(),
        "transitions.csv": tables.csv_of(moved).encode(),
    }
    if view.judged:
        judged = list(replay_tables.transitions(view.judged))
        files["hindsight.csv"] = tables.csv_of(judged).encode()
    if view.proof is not None:
        lines = (pack_journal_entry(entry) + b"\n" for entry in view.proof.around)
        files["journal.jsonl"] = b"".join(lines)
        if view.proof.document:
            files["settings.json"] = view.proof.document.encode()
    if answer is not None:
        files["audit.json"] = f"{dump(_audit(answer))}\n".encode()
    return files


def numbers(view: Replayed, choice: Choice) -> dict[str, Any]:
    """The numbers of the page, a null where nothing was looked at."""
    proof = view.proof
    return {
        "as_of": iso(view.at_ms),
        "known": str(view.known),
        "variant": choice.variant,
        "window": [iso(view.window.start_ms), iso(view.window.end_ms)],
        "pane_ms": view.pane_ms,
        "as_known_then": _numbers(view.then),
        "as_known_now": _numbers(view.now),
        "alerts": [
            {
                "rule": standing.alert.rule,
                "variant": standing.alert.key.variant,
                "slice": standing.alert.key.slice,
                "version": standing.alert.version,
                "state": str(standing.status),
                "since": iso(standing.last.at_ms),
                "stalled": standing.is_stalled,
            }
            for standing in view.standings
        ],
        "versions": {variant: list(names) for variant, names in view.versions.items()},
        "journal_entry": None if proof is None else proof.entry.sequence,
        "code": __version__,
    }


def _numbers(found: Numbers | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "messages": found.predictions,
        "labels": found.labelled,
        "labels_about_these_messages": found.of_window,
        "missing": found.missing,
        "coverage": found.coverage,
        "accuracy": _score(found.accuracy),
        "groups": {row.name: _group(row) for row in found.groups},
    }


def _group(row: GroupScore) -> dict[str, Any]:
    return {**_score(row.recall), "hits": row.hits, "objective": row.objective}


def _score(score: Score) -> dict[str, Any]:
    return {"value": score.value, "n": score.support, "interval": score.interval}


def _audit(answer: Answer) -> Mapping[str, Any]:
    asked = {"alert": answer.question.alert, "journal_head": answer.question.head}
    if answer.result is None:
        return {**asked, "fault": answer.fault}
    return {**asked, **document_of(answer.result)}
