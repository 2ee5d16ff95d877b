"""The comparison as table rows, and as a document to take away."""

import hashlib
from collections.abc import Mapping
from typing import Any

from dashboards import variants_words, words
from dashboards.tables import Row
from dashboards.variants_models import Compared, Measure, Pair, Period, Variant
from monitor import __version__
from monitor.app.report import iso
from monitor.codec.snapshots import canonical
from monitor.domain.comparison import Comparison

DOCUMENT_VERSION = 1


def measures(view: Compared) -> list[Row]:
    """One row for each measure of each variant, then the differences in points."""
    rows = [
        _row(measure, variants_words.name_of(variant))
        for variant in view.variants
        for measure in variant.measures
    ]
    if view.pair is not None:
        rows += [_difference(view.pair, name) for name in view.pair.comparisons]
    return rows


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
    told: dict[str, Any] = {
        "version": DOCUMENT_VERSION,
        "as_of": iso(view.watermark_ms),
        "cut": view.cut,
        "watched": view.of,
        "period": str(view.period),
        "window": [iso(view.window.start_ms), iso(view.window.end_ms)] if is_range else None,
        "windows": {"ms": view.pane_ms, "all": view.panes, "left_out": view.left_out}
        if is_range
        else None,
        "gaps": [str(gap) for gap in view.gaps],
        "comparison": None if view.pair is None else _pair(view.pair),
        "measures": {variant.name: _measures(variant) for variant in view.variants},
        "versions": {variant.name: _versions(variant) for variant in view.variants},
        "variants": {variant.name: variant.section for variant in view.variants},
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
    }


def _difference(pair: Pair, name: str) -> Row:
    found = pair.comparisons[name]
    low, high = found.interval or (None, None)
    names = (variants_words.name_of(variant) for variant in (pair.other, pair.serving))
    return {
        "Measure": name,
        "Unit": "points",
        "Variant": " minus ".join(names),
        "Value": _points(found.difference),
        "95% low": _points(low),
        "95% high": _points(high),
        "n": min(found.n, found.other_n),
        "Finding": str(found.finding),
    }


def _points(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "serving": pair.serving.name,
        "other": pair.other.name,
        "advice": str(pair.advised.advice),
        "ground": str(pair.advised.ground),
        "decisive": pair.decisive,
        "method": f"{variants_words.METHOD}, 95%, unpaired, one look",
        "differences": {name: _compared(found) for name, found in pair.comparisons.items()},
    }


def _compared(found: Comparison) -> dict[str, Any]:
    return {
        "other_minus_serving": found.difference,
        "interval": found.interval,
        "n": found.n,
        "n_serving": found.other_n,
        "finding": str(found.finding),
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
    return [
        {"name": found.name, "in_use": found.is_in_use, "last_label": iso(found.last_ms)}
        for found in variant.versions
    ]
