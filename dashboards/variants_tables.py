"""Verdicts and comparison as table rows, and as a document to take away."""

import hashlib
from collections.abc import Mapping
from typing import Any

from dashboards import variants_words, words
from dashboards.tables import Row
from dashboards.variants_models import Compared, Measure, Pair, Period, Unit, Variant
from monitor import __version__
from monitor.app.comparing import Paired, told_evidence
from monitor.app.report import iso
from monitor.codec.snapshots import canonical
from monitor.domain.comparison import Comparison

DOCUMENT_VERSION = 2


def measures(view: Compared) -> list[Row]:
    """One row for each measure of each variant, then the differences, of shares in points."""
    rows = [
        _row(measure, variants_words.name_of(variant))
        for variant in view.variants
        for measure in variant.measures
    ]
    if view.pair is not None:
        rows += [_difference(view.pair, name) for name in view.pair.comparisons]
    return rows


def verdicts(view: Compared) -> list[Row]:
    """One row for each reason, trap and change of each variant's verdict, changes newest first."""
    rows: list[Row] = []
    for variant in view.variants:
        name = variants_words.name_of(variant)
        for reason in variant.verdict.reasons:
            low, high = reason.interval or (None, None)
            rows.append({
                **_part(name, "reason", reason.name, str(reason.finding), reason.text),
                "Value": reason.value, "Limit": reason.limit, "95% low": low, "95% high": high,
                "n": reason.n,
            })  # fmt: skip
        rows += [_part(name, "trap", t.name, str(t.sign), t.text) for t in variant.traps]
        for change in reversed(variant.changes):
            said = variants_words.VERDICTS[change.verdict.answer]
            why = variants_words.why(change.verdict)
            rows.append(_part(name, "change", words.iso(change.at_ms), said, why))
    return rows


def _part(variant: str, part: str, name: str, stands: str, text: str) -> Row:
    return {
        "Variant": variant,
        "Part": part,
        "Name": name,
        "Stands": stands,
        "Evidence": words.in_full(text),
        **dict.fromkeys(("Value", "Limit", "95% low", "95% high", "n")),
    }


def lines(view: Compared) -> list[Row]:
    """One row for each point of each line, the newest first."""
    rows: list[Row] = []
    for variant in view.shown:
        for point in reversed(variant.points):
            low, high = point.recall.interval or (None, None)
            rows.append({
                "Time (UTC)": words.instant(point.end_ms),
                "Variant": variants_words.name_of(variant),
                "Recall": point.recall.value,
                "95% low": low,
                "95% high": high,
                f"{view.of} labels (n)": point.recall.support,
                "Labels in": point.known,
            })  # fmt: skip
    return rows


def document(view: Compared) -> dict[str, Any]:
    """The page as JSON values. ``digest`` is the SHA-256 of the canonical form of all the rest.

    It proves that the file was not changed by accident, not who made it: nothing is signed.
    """
    is_range = view.period is Period.RANGE
    window = view.window if is_range else view.judged.found.window
    told: dict[str, Any] = {
        "version": DOCUMENT_VERSION,
        "as_of": iso(view.as_of_ms),
        "cut": view.cut,
        "watched": view.of,
        "judged": {"as_of": iso(view.judged.as_of_ms), "cut": view.judged.cut},
        "verdicts": view.judged.section,
        "period": str(view.period),
        "window": [iso(window.start_ms), iso(window.end_ms)],
        "windows": {"ms": view.pane_ms, "all": view.panes, "left_out": view.left_out}
        if is_range
        else None,
        "gaps": [str(gap) for gap in view.gaps],
        "comparison": None if view.pair is None else _pair(view.pair),
        "measures": {variant.name: _measures(variant) for variant in view.variants},
        "versions": {variant.name: _versions(variant) for variant in view.variants},
        "code": __version__,
    }
    return {**told, "digest": digest_of(told)}


def digest_of(told: Mapping[str, Any]) -> str:
    """``sha256:...`` of JSON values with sorted keys, without spaces, as UTF-8."""
    return f"sha256:{hashlib.sha256(canonical(told)).hexdigest()}"


def _row(measure: Measure, variant: str) -> Row:
    low, high = measure.interval or (None, None)
    return {
        "Measure": measure.name,
        "Unit": str(measure.unit),
        "Variant": variant,
        "Value": measure.value,
        "95% low": low,
        "95% high": high,
        "n": measure.n,
        "Finding": "",
        "Method": "",
    }


def _difference(pair: Pair, name: str) -> Row:
    found = pair.comparisons[name]
    low, high = found.interval or (None, None)
    names = (variants_words.name_of(variant) for variant in (pair.other, pair.serving))
    return {
        "Measure": name,
        "Unit": _unit(name),
        "Variant": " minus ".join(names),
        "Value": _scaled(found.difference, name),
        "95% low": _scaled(low, name),
        "95% high": _scaled(high, name),
        "n": min(found.n, found.other_n),
        "Finding": str(found.finding),
        "Method": variants_words.basis(found),
    }


def _unit(name: str) -> str:
    unit = variants_words.unit_of(name)
    return "points" if unit is Unit.SHARE else str(unit)


def _scaled(value: float | None, name: str) -> float | None:
    """Shares as points."""
    is_share = variants_words.unit_of(name) is Unit.SHARE
    return None if value is None else 100 * value if is_share else value


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "serving": pair.serving.name,
        "other": pair.other.name,
        "watched": pair.watched,
        "method": f"{variants_words.method(pair.comparison)}, 95%",
        "differences": {name: _compared(found) for name, found in pair.comparisons.items()},
        "pairs": {name: _paired(paired) for name, paired in pair.paired.items()},
    }


def _compared(found: Comparison) -> dict[str, Any]:
    return {
        "other_minus_serving": found.difference,
        "interval": found.interval,
        "n": found.n,
        "n_serving": found.other_n,
        "finding": str(found.finding),
        "is_paired": found.is_paired,
        "holds_at_every_look": found.is_watched,
        "claimed": iso(found.claimed_ms),
    }


def _paired(paired: Paired) -> dict[str, Any]:
    """Names of the sides first: ``only_one`` is of the first."""
    judged = paired.judged
    return {
        "comparison": paired.watch,
        "one": list(paired.key.one),
        "other": list(paired.key.other),
        **judged.counts._asdict(),
        "one_minus_other": judged.difference,
        "interval": judged.interval,
        "evidence": told_evidence(judged.evidence),
        "bar": told_evidence(judged.bar),
        "claimed": iso(judged.claimed_ms),
        "p_value": judged.p_value,
        "one_look_interval": judged.one_look,
        "bootstrap_interval": judged.bootstrap,
    }


def _measures(variant: Variant) -> dict[str, Any]:
    return {
        measure.name: {
            "value": measure.value,
            "unit": str(measure.unit),
            "n": measure.n,
            "interval": measure.interval,
        }
        for measure in variant.measures
    }


def _versions(variant: Variant) -> list[dict[str, Any]]:
    return [{"name": found.name, "last_label": iso(found.last_ms)} for found in variant.versions]
