"""Where everything of a time line stands in its drawing; the template does the drawing.

Recall with its interval above, coverage below on the same time axis, and under them a lane for each
firing. Lengths are in the units of the drawing, instants in milliseconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

from monitor.domain.windows import DAY_MS, HOUR_MS

MOST_LANES = 8
"""Firings that get a lane, the latest ones; the table of alerts has all of them."""

_LETTER = 6.6
"""About how wide a letter of a lane is."""

_STEPS = tuple(HOUR_MS * n for n in (1, 2, 3, 6, 12)) + tuple(
    DAY_MS * n for n in (1, 2, 7, 14, 28, 91, 182, 364)
)
_LEFT, _RIGHT, _TOP = 44.0, 10.0, 26.0
_GAP, _COVERAGE, _AXIS, _LANE = 36.0, 46.0, 26.0, 32.0


class Size(NamedTuple):
    """A drawing for one width of the page."""

    name: str
    width: float
    recall: float
    ticks: int


WIDE = Size("wide", 960.0, 220.0, 9)
NARROW = Size("narrow", 360.0, 190.0, 4)


class _Scale(NamedTuple):
    """Instants -> x."""

    from_ms: int
    to_ms: int
    left: float
    right: float

    def __call__(self, at_ms: float) -> float:
        at_ms = min(max(at_ms, self.from_ms), self.to_ms)
        share = (at_ms - self.from_ms) / (self.to_ms - self.from_ms)
        return round(self.left + share * (self.right - self.left), 1)


def chart_of(finding: Mapping[str, Any], size: Size) -> dict[str, Any] | None:
    """Coordinates of one time line; None where there is none."""
    timeline = finding["timeline"]
    if timeline is None:
        return None
    points, pane_ms = timeline["points"], timeline["pane_ms"]
    first_ms, past_ms = points[0]["start_ms"], points[-1]["start_ms"] + pane_ms
    x = _Scale(first_ms, past_ms, _LEFT, size.width - _RIGHT)
    lanes = list(_lanes(finding, x))[-MOST_LANES:]
    floor = _TOP + size.recall
    coverage_top = floor + _GAP
    coverage_floor = coverage_top + _COVERAGE
    axis = coverage_floor + _AXIS
    return {
        "size": size.name,
        "width": size.width,
        "height": axis + 8 + (_LANE * len(lanes) + 4 if lanes else 0),
        "left": _LEFT,
        "right": size.width - _RIGHT,
        "top": _TOP,
        "floor": floor,
        "coverage_top": coverage_top,
        "coverage_floor": coverage_floor,
        "lanes_top": axis + 12,
        "lane": _LANE,
        "y_ticks": [(_y(share / 100, size), share) for share in range(0, 101, 20)],
        "x_ticks": _x_ticks(x, size),
        "objective": _y(finding["objective"], size),
        "lanes": lanes,
        "raised": [x(_instant(r["since"])) for r in finding["raised"] if r["since"]],
        **_recall(points, pane_ms, x, size),
        "coverage": _coverage(points, pane_ms, x, coverage_top),
    }


def _y(share: float, size: Size) -> float:
    return round(_TOP + (1 - share) * size.recall, 1)


def _recall(
    points: Sequence[Mapping[str, Any]], pane_ms: int, x: _Scale, size: Size
) -> dict[str, Any]:
    """Line, band and dots. Panes without a label break the line."""
    dots = [
        {
            "x": x(point["start_ms"] + pane_ms / 2),
            "y": _y(point["value"], size),
            "low": _y(point["interval"][0], size),
            "high": _y(point["interval"][1], size),
            "start_ms": point["start_ms"],
            "is_final": point["is_final"],
        }
        for point in points
        if point["value"] is not None
    ]
    steps = [(a, b) for a, b in pairwise(dots) if b["start_ms"] - a["start_ms"] == pane_ms]
    joined = {dot["start_ms"] for step in steps for dot in step}
    return {
        "dots": dots if len(dots) <= size.width / 5 else [],
        "line": _path(steps, is_final=True),
        "provisional": _path(steps, is_final=False),
        "band": " ".join(
            f"M{a['x']} {a['high']}L{b['x']} {b['high']}L{b['x']} {b['low']}L{a['x']} {a['low']}Z"
            for a, b in steps
        ),
        "bars": [dot for dot in dots if dot["start_ms"] not in joined],
    }


def _path(steps: Sequence[tuple[dict[str, Any], dict[str, Any]]], *, is_final: bool) -> str:
    return " ".join(
        f"M{a['x']} {a['y']}L{b['x']} {b['y']}"
        for a, b in steps
        if (a["is_final"] and b["is_final"]) == is_final
    )


def _coverage(
    points: Sequence[Mapping[str, Any]], pane_ms: int, x: _Scale, top: float
) -> list[dict[str, float]]:
    """A column for each pane with predictions, from the floor up."""
    return [
        {
            "x": x(point["start_ms"]),
            "width": round(x(point["start_ms"] + pane_ms) - x(point["start_ms"]), 1),
            "y": round(top + (1 - point["coverage"]) * _COVERAGE, 1),
            "height": round(point["coverage"] * _COVERAGE, 1),
        }
        for point in points
        if point["coverage"] is not None
    ]


def _lanes(finding: Mapping[str, Any], x: _Scale) -> Iterator[dict[str, Any]]:
    """Firings that touch the axis."""
    for firing in finding["firings"]:
        since_ms, at_ms = _instant(firing["since"]), _instant(firing["at"])
        end_ms = x.to_ms if firing["goes_on"] else _instant(firing["ended"] or firing["at"])
        if since_ms < x.to_ms and end_ms > x.from_ms:
            text = _lane_text(firing, goes_on=firing["goes_on"] or end_ms > x.to_ms)
            yield {
                "text": text,
                "is_right": x(since_ms) + _LETTER * len(text) > x.right,
                "since": x(since_ms),
                "at": x(at_ms),
                "end": x(end_ms),
                "is_at_inside": x.from_ms <= at_ms < x.to_ms,
            }


def _lane_text(firing: Mapping[str, Any], *, goes_on: bool) -> str:
    name = f"version {firing['version']}" if firing["version"] else firing["id"]
    text = f"{name} {'firing' if goes_on else 'fired'}"
    return f"{text}, {firing['hindsight']}" if firing["hindsight"] else text


def _x_ticks(x: _Scale, size: Size) -> list[dict[str, Any]]:
    """Whole hours or days; a date where a day begins, else the time."""
    span_ms = x.to_ms - x.from_ms
    step_ms = next((step for step in _STEPS if span_ms / step <= size.ticks), _STEPS[-1])
    first_ms = -(-x.from_ms // step_ms) * step_ms
    ticks = []
    for at_ms in range(first_ms, x.to_ms + 1, step_ms):
        instant = datetime.fromtimestamp(at_ms / 1000, UTC)
        is_day = at_ms % DAY_MS == 0
        text = f"{instant.day} {instant:%b}" if is_day else f"{instant:%H:%M}"
        ticks.append({"x": x(at_ms), "text": text, "is_day": is_day})
    return ticks


def _instant(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
