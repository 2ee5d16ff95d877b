"""Verdicts as JSON: the part ``verdicts`` of the report, and what ``recallwatch verdict`` prints.

A value without data is null, never 0. Proportions come with what they stand on and their interval.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitor.app.instants import iso
from monitor.app.settings import SettingsError
from monitor.app.verdict_review import Review, Reviews, Sliced
from monitor.domain.events import Intent
from monitor.domain.profile import metrics_of
from monitor.domain.scores import binary_of, group_scores, headline
from monitor.domain.slices import Groups
from monitor.domain.trailing import Change
from monitor.domain.traps import LEAKAGE, Sign, Trap
from monitor.domain.verdict import Finding, Judgement, Verdict
from monitor.domain.windows import HOUR_MS

LEAKAGE_VERSION = 1
"""Of the files of ``recallwatch leakage`` that are understood."""

_LEAKED = {"above": Sign.FOUND, "within": Sign.NOT_FOUND}


def section_of(found: Reviews, groups: Groups) -> dict[str, object]:
    """The window, every variant with metrics, verdict, history and traps, and the advice."""
    return {
        "window": {
            "from": iso(found.window.start_ms),
            "to": iso(found.window.end_ms),
            "hours": None if found.window_ms is None else found.window_ms // HOUR_MS,
        },
        "answer": found.answer(),
        "variants": {name: _variant(one, groups) for name, one in found.reviews.items()},
        "advice": {
            "serve": found.advice.serve,
            "ground": found.advice.ground,
            "text": found.advice.text,
            "steps": [step._asdict() for step in found.advice.steps],
        },
    }


def answer_of(verdict: Verdict) -> dict[str, object]:
    """The answer and every reason, missed ones first."""
    return {
        "answer": verdict.answer,
        "reasons": [_reason(reason) for reason in verdict.reasons],
    }


def binary_document(found: Reviews, of: str, group: frozenset[Intent]) -> dict[str, object]:
    """Group or intent against the rest, for each variant: the plain matrix and its scores."""
    return {"of": of, "variants": {n: _binary(one, group) for n, one in found.reviews.items()}}


def leaks_in(path: Path) -> dict[str, Trap]:
    """Variant -> what ``recallwatch leakage --out`` found; SettingsError when it is none."""
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["version"] != LEAKAGE_VERSION:
            raise SettingsError(
                f"{path}: version {document['version']}, this release reads {LEAKAGE_VERSION}: "
                "write it anew with recallwatch leakage --out"
            )
        return {name: _leak(section) for name, section in document["variants"].items()}
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SettingsError(f"{path}: not written by recallwatch leakage --out") from None


def _leak(section: Mapping[str, Any]) -> Trap:
    """The leaked share, and accuracy and recall with and without the leaked messages."""
    leaked, metrics = section["leaked"], section["metrics"]
    sign = _LEAKED.get(str(section["finding"]), Sign.UNKNOWN)
    numbers = {name: leaked[name] for name in ("n", "exact", "near", "open", "share")}
    numbers["limit"] = section["limit"]
    for part in ("all", "without_leaked"):
        scores = metrics[part]
        numbers[f"accuracy, {part}"] = scores["accuracy"]["value"]
        for group, told in scores["groups"].items():
            numbers[f"recall of {group}, {part}"] = told["recall"]["value"]
    return Trap(LEAKAGE, sign, str(section["text"]), numbers)


def _variant(one: Review, groups: Groups) -> dict[str, object]:
    return {
        "approach": one.approach,
        "approach_is_declared": one.is_told,
        "cost_per_1000": one.cost,
        "is_present": one.is_present,
        "predictions": one.counts.predictions,
        "labelled": one.counts.labelled,
        "coverage": one.counts.coverage,
        **answer_of(one.verdict),
        "history": [_change(change) for change in one.changes],
        "metrics": [metric._asdict() for metric in metrics_of(one.counts, groups)],
        "traps": [_trap(trap) for trap in one.traps],
        "slices": {name: _slice(sliced, groups) for name, sliced in one.slices.items()},
    }


def _trap(trap: Trap) -> dict[str, object]:
    return {**trap._asdict(), "numbers": dict(trap.numbers)}


def _reason(reason: Judgement) -> dict[str, object]:
    return {
        "name": reason.name,
        "finding": reason.finding,
        "text": reason.text,
        "value": reason.value,
        "limit": reason.limit,
        "interval": reason.interval,
        "n": reason.n,
        "lacking": reason.lacking,
        "needed": reason.needed,
        "source": reason.source or None,
    }


def _change(change: Change) -> dict[str, object]:
    """From when on, what, and the reasons that are not met."""
    reasons = [reason for reason in change.verdict.reasons if reason.finding is not Finding.MET]
    return {
        "at": iso(change.at_ms),
        "answer": change.verdict.answer,
        "reasons": [_reason(reason) for reason in reasons],
    }


def _slice(sliced: Sliced, groups: Groups) -> dict[str, object]:
    evidence = sliced.evidence
    return {
        "predictions": evidence.predictions,
        "answer": sliced.verdict.answer,
        "accuracy": evidence.accuracy._asdict(),
        "recall": {name: evidence.recall(name)._asdict() for name in groups.members},
        "precision": {name: evidence.precision(name)._asdict() for name in groups.members},
    }


def _binary(one: Review, group: frozenset[Intent]) -> dict[str, object]:
    matrix = binary_of(one.counts.confusion, group)
    folded = {("in", "in"): matrix.true_positives, ("in", "out"): matrix.false_negatives}
    folded |= {("out", "in"): matrix.false_positives, ("out", "out"): matrix.true_negatives}
    scores = group_scores(folded, frozenset({"in"}))
    return {
        **matrix._asdict(),
        "accuracy": headline(folded).accuracy.value,
        "precision": scores.precision.value,
        "recall": scores.recall.value,
        "f1": scores.f1,
    }
