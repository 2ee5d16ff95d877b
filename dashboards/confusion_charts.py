"""The confusion matrix as a Vega-Lite spec; the colours and shares are those of the view model."""

from collections.abc import Sequence
from itertools import pairwise

from dashboards import words
from dashboards.charts import Row, Spec
from dashboards.confusion_models import By, Cell, Confused
from dashboards.theme import DARK, Palette

ROW_HEIGHT, HEAD_HEIGHT, LEGEND_HEIGHT = 30, 130, 60
LEAST_SPAN = 0.05
"""Changes smaller than this are never drawn in full colour."""

LEAST_SHOWN = 0.005
"""A smaller change would be written as zero points."""

Ramp = tuple[str, ...]

_LIGHT: Ramp = ("#FFFFFF", "#B7D4EA", "#4A90C4", "#08306B")
_DARK: Ramp = ("#10151C", "#1F4E79", "#5BA3E0", "#E6F2FF")
_TITLES = {
    By.ROW: "Share of the true intent",
    By.COLUMN: "Share of the predicted intent",
    By.TOTAL: "Share of all labelled",
}
_FIXED_DOMAIN = {By.ROW, By.COLUMN}

_NARROW = 36
_LETTER = f"(bandwidth('x') < {_NARROW} ? 5 : 7)"
_FITS = f"bandwidth('x') >= {_LETTER} * length(datum.text)"
_FITS_BRIEFLY = f"!({_FITS}) && bandwidth('x') >= {_LETTER} * length(datum.brief)"
"""A number that is wider than its cell would run into the next one: a brief one stands there, and
where that is too wide as well, the table has it."""


def matrix(view: Confused, by: By, palette: Palette) -> Spec:
    """Rows are true intents; shares, or their changes, as colour, and numbers as text."""
    cells = list(view.cells(by))
    most = _span(view, by, cells)
    # What is grey because the store is away has no ramp of its own.
    ramp = _ramp(view, palette)
    rows = [_row(view, cell, ramp, palette, most) for cell in cells]
    x, y = _axes(view)
    place = {"x": x, "y": y}
    grid = {"type": "rect", "fill": None, "stroke": palette.grid, "strokeWidth": 1}
    outline = {"type": "rect", "fill": None, "stroke": palette.critical, "strokeWidth": 2}
    tips = ["True intent", "Predicted intent", "Outcomes", "Share", "95% interval", "Labels"]
    tips += ["Share then", "Labels then", "Change"] if view.is_compared else []
    tooltip = [{"field": name, "type": "nominal"} for name in tips]
    fill = {
        "field": "value",
        "type": "quantitative",
        "scale": _scale(view, ramp, most),
        "legend": _legend(view, by),
    }
    ink = {"field": "ink", "type": "nominal", "scale": None}
    return {
        "height": len(view.shown_rows) * ROW_HEIGHT + HEAD_HEIGHT + LEGEND_HEIGHT,
        "autosize": {"type": "fit", "contains": "padding"},
        "datasets": {
            "cells": rows,
            "painted": [row for row in rows if row["value"] is not None],
            "missed": [row for row in rows if row["missed"]],
        },
        "layer": [
            {"data": {"name": "cells"}, "mark": grid, "encoding": {**place, "tooltip": tooltip}},
            {
                "data": {"name": "painted"},
                "mark": {"type": "rect", "stroke": palette.grid, "strokeWidth": 1},
                "encoding": {**place, "fill": fill, "tooltip": tooltip},
            },
            {"data": {"name": "missed"}, "mark": outline, "encoding": place},
            *(
                {
                    "data": {"name": "cells"},
                    "mark": _text(fits),
                    "encoding": {
                        **place,
                        "text": {"field": field, "type": "nominal"},
                        "color": ink,
                        "tooltip": tooltip,
                    },
                }
                for field, fits in (("text", _FITS), ("brief", _FITS_BRIEFLY))
            ),
        ],
        "config": {"view": {"stroke": None}},
    }


def matrix_alt(view: Confused, by: By) -> str:
    """The matrix in a sentence: how much is in it, and the worst confusions."""
    of = f"{words.count(view.labelled)} labelled outcomes of {len(view.intents)} intents"
    said = [f"{cell.actual} to {cell.predicted}: {_worst(cell)}" for cell in view.pairs(by)[:3]]
    if not said:
        return f"Confusion matrix, {of}: nothing is confused."
    what = "grown most" if view.is_compared else "most often confused"
    return f"Confusion matrix, {of}; {what}: {'; '.join(said)}."


def label(view: Confused, intent: str) -> str:
    """An intent as it stands at its row or column; urgent ones have a triangle."""
    if not intent:
        return f"{len(view.hidden_columns)} others"
    return f"▲ {intent}" if intent in view.group else intent


def points(change: float) -> str:
    """A change of a share in points, with its sign.

    >>> points(0.1234), points(-0.004)
    ('+12.3 points', '-0.4 points')
    """
    return f"{100 * change:+.1f} points"


def ink_on(fill: str, palette: Palette) -> str:
    """Whichever of text and background can be read better on a colour."""
    return max((palette.text, palette.background), key=lambda ink: contrast(ink, fill))


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of two colours, 1..21.

    >>> round(contrast("#000000", "#FFFFFF"))
    21
    """
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def shade(ramp: Ramp, at: float) -> str:
    """The colour of a ramp at 0..1, as Vega mixes it in RGB.

    >>> shade(("#000000", "#FFFFFF"), 0.5)
    '#808080'
    """
    steps = list(pairwise(ramp))
    step = min(int(at * len(steps)), len(steps) - 1)
    part = at * len(steps) - step
    mixed = (
        round(low + part * (high - low))
        for low, high in zip(_rgb(steps[step][0]), _rgb(steps[step][1]), strict=True)
    )
    return "#" + "".join(f"{channel:02X}" for channel in mixed)


def _worst(cell: Cell) -> str:
    if cell.change is not None:
        return f"{points(cell.change)}, now {words.percent(cell.score.value)}"
    return f"{words.count(cell.n)}, {words.percent(cell.score.value)}"


def _ramp(view: Confused, palette: Palette) -> Ramp:
    if view.is_compared:
        return palette.line, palette.background, palette.second
    if palette.line == palette.unknown:
        return palette.background, palette.unknown
    return _DARK if palette.background == DARK.background else _LIGHT


def _span(view: Confused, by: By, cells: Sequence[Cell]) -> float:
    """The greatest value that colours tell apart."""
    if view.is_compared:
        changes = (abs(c.change) for c in cells if c.change is not None and not c.is_few)
        return max(changes, default=LEAST_SPAN) or LEAST_SPAN
    if by in _FIXED_DOMAIN:
        return 1.0
    return max((cell.score.value or 0.0 for cell in cells), default=1.0) or 1.0


def _scale(view: Confused, ramp: Ramp, most: float) -> Spec:
    if view.is_compared:
        most = max(most, LEAST_SPAN)
        return {"domain": [-most, 0, most], "range": list(ramp), "interpolate": "rgb"}
    return {"type": "sqrt", "domain": [0, most], "range": list(ramp), "interpolate": "rgb"}


def _legend(view: Confused, by: By) -> Spec:
    title = f"Change of the {_TITLES[by].lower()}" if view.is_compared else _TITLES[by]
    return {
        "title": title,
        "orient": "bottom",
        "format": "+.0%" if view.is_compared else ".0%",
        "gradientLength": 220,
        "gradientThickness": 10,
        "tickCount": 4,
        "titleLimit": 300,
    }


def _axes(view: Confused) -> tuple[Spec, Spec]:
    columns = [label(view, each) for each in view.shown_columns]
    columns += [label(view, "")] if view.hidden_columns else []
    # Streamlit's theme moves the first and the last label away from their rows otherwise.
    still = {"labelOverlap": False, "labelFlush": False}
    axis = {"ticks": False, "domain": False, "grid": False, **still}
    band = {"paddingInner": 0, "paddingOuter": 0}
    x: Spec = {
        "field": "column",
        "type": "nominal",
        "sort": columns,
        "scale": {**band, "domain": columns},
        "axis": {
            **axis, "orient": "top", "title": "Predicted intent", "labelLimit": 110,
            "labelAngle": _when_narrow(-90, -40), "labelAlign": "left",
            "labelBaseline": "middle",
        },
    }  # fmt: skip
    names = [label(view, each) for each in view.shown_rows]
    y: Spec = {
        "field": "row",
        "type": "nominal",
        "sort": names,
        "scale": {**band, "domain": names},
        "axis": {**axis, "title": "True intent", "labelLimit": 130},
    }
    return x, y


def _when_narrow(then: int, otherwise: int) -> Spec:
    """One number where columns are narrow, as on a phone, and another where they are not."""
    return {"expr": f"bandwidth('x') < {_NARROW} ? {then} : {otherwise}"}


def _text(fits: str) -> Spec:
    opacity = {"expr": f"{fits} ? 1 : 0"}
    return {"type": "text", "fontSize": _when_narrow(9, 12), "opacity": opacity}


def _row(view: Confused, cell: Cell, ramp: Ramp, palette: Palette, most: float) -> Row:
    value, at, text = _painted(view, cell, most)
    fill = palette.background if at is None else shade(ramp, at)
    row: Row = {
        "row": label(view, cell.actual),
        "column": label(view, cell.predicted),
        "value": value,
        "text": text,
        "brief": text if view.is_compared or not text else words.brief(cell.n),
        "ink": palette.unknown if view.is_compared and cell.is_few else ink_on(fill, palette),
        "missed": cell.is_missed and cell.n > 0,
        "True intent": cell.actual,
        "Predicted intent": cell.predicted or label(view, ""),
        "Outcomes": words.count(cell.n),
        "Share": words.percent(cell.score.value),
        "95% interval": words.ends(cell.score),
        "Labels": words.count(cell.score.support),
    }
    if cell.then is not None:
        row["Share then"] = words.percent(cell.then.value)
        row["Labels then"] = words.count(cell.then.support)
        row["Change"] = _said(cell)
    return row


def _said(cell: Cell) -> str:
    if cell.change is None:
        return words.NONE
    return f"{points(cell.change)}{', too few labels' if cell.is_few else ''}"


def _painted(view: Confused, cell: Cell, most: float) -> tuple[float | None, float | None, str]:
    """What is coloured, where on the ramp that is, and what is written; None for no colour."""
    if not view.is_compared:
        if not cell.n or cell.score.value is None:
            return None, None, ""
        share = cell.score.value
        return share, (share / most) ** 0.5, words.count(cell.n)
    if cell.change is None or abs(cell.change) < LEAST_SHOWN:
        return None, None, ""
    text = f"{100 * cell.change:+.0f}"
    if cell.is_few:
        return None, None, text
    return cell.change, 0.5 + cell.change / (2 * max(most, LEAST_SPAN)), text


def _luminance(colour: str) -> float:
    parts = [channel / 255 for channel in _rgb(colour)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]  # noqa: PLR2004 - WCAG's definition
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
