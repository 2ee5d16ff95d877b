"""View models -> Vega-Lite specs; no store, no score arithmetic.

Specs are plain dictionaries, built in about a millisecond: nothing is gained by caching them. Data
travels in named datasets, which ``datasets`` packs, so that Streamlit sends it in binary and keeps
the chart in place while it changes. Instants are floats, milliseconds since the epoch; every scale
is UTC.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from dashboards import words
from dashboards.models import ArrivalPoint, IntentRow, LabelsView, Point, Span, Trend
from dashboards.replay_models import Known, Replayed
from dashboards.theme import Palette
from dashboards.variants_models import Compared
from monitor.domain.scores import Score
from monitor.domain.windows import DAY_MS, Window

Spec = dict[str, object]
Row = dict[str, object]
Fields = Mapping[str, object]

HALF = 0.5
"""Coverage below which a recall is drawn dashed."""

PALE = 0.45
"""Opacity of a line that has a dash of its own, where its coverage is below that."""

DASHES = [6, 4]
MOST_INTENTS = 8
MOST_NOTES = 4
RECALL_HEIGHT, COVERAGE_HEIGHT, LABELS_HEIGHT, INTENT_HEIGHT = 270, 130, 230, 44

_BLANK = 10
"""The part of a replay's range that is left blank after the instant."""

_Y_EXTENT = 46
_EDGE = 0.3
_ROOM = 0.5
"""The part of the range that the note of an alert may take, on a phone too."""

_LINE_HEIGHT = 16
_UNTIL = {"field": "end", "type": "temporal"}
"""Without a type Vega-Lite takes the other end's domain for a different one, and says so."""

_VERDICTS = ("below", "crosses", "above", "few")
_SHAPES = ("triangle-down", "diamond", "circle", "circle")


def recall(view: Trend, palette: Palette) -> Spec:
    """Rolling recall with its 95 % band, objective, alerts, and where labels are too few."""
    rows = _recall_rows(view.points)
    domain = recall_domain(view.points, view.objective)
    x, y = _time(view.window, labels=False), _share_axis("Recall", domain)
    place = {"x": {"field": "t", **x}}
    layers: list[Spec] = [
        *_alert_layers(x, palette),
        _layer(
            "recall",
            _mark("area", palette.line, opacity=0.18, clip=True),
            {
                **place,
                "y": {"field": "low", **y},
                "y2": {"field": "high"},
                "detail": {"field": "segment"},
            },
        ),
        *_objective_layers(y, palette),
        *[_recall_line(place, y, palette, solid=solid) for solid in (True, False)],
        _layer("under", _mark("rule", palette.unknown, strokeDash=[2, 3]), place),
        *_note("under", place, palette.unknown, palette, dy=10),
        *_note("spans", {"x": {"field": "start", **x}}, palette.critical, palette, foot=True),
        _layer(
            "recall",
            {"type": "point", "opacity": 0, "size": 90},
            {
                **place,
                "y": {"field": "value", **y},
                "tooltip": _tips("Time (UTC)", "Recall", "95% interval", "Labels (n)", "Labels in"),
            },
        ),
    ]
    return _chart(RECALL_HEIGHT, layers, {
        "recall": rows,
        "limit": _objective_rows(view),
        "under": _under_rows(view),
        "spans": _span_rows(view.spans, view.window),
    })  # fmt: skip


def replayed(view: Replayed, palette: Palette) -> Spec:
    """Rolling recall up to an instant, with what lies after it left blank.

    The line with the band is what is asked for; in a comparison the dashed one is today's.
    """
    shown = view.shown
    points = shown.points if shown else ()
    other = view.now.points if view.known is Known.COMPARE and view.now else ()
    blank_ms = (view.at_ms - view.window.start_ms) // _BLANK
    window = Window(view.window.start_ms, view.at_ms + blank_ms)
    x = _time(window, labels=True)
    y = _share_axis("Recall", recall_domain([*points, *other], view.objective))
    place = {"x": {"field": "t", **x}}
    detail = {"detail": {"field": "segment"}}
    line = {**place, "y": {"field": "value", **y}, **detail}
    band = {**place, "y": {"field": "low", **y}, "y2": {"field": "high"}, **detail}
    dashed = _mark("line", palette.second, strokeWidth=2, strokeDash=[4, 3], clip=True)
    layers: list[Spec] = [
        _layer("blank", _mark("rect", palette.unknown, opacity=0.14), {
            "x": {"field": "t", **x}, "x2": _UNTIL,
        }),
        *_alert_layers(x, palette),
        _layer("recall", _mark("area", palette.line, opacity=0.18, clip=True), band),
        *_objective_layers(y, palette),
        _layer("recall", _mark("line", palette.line, strokeWidth=2.2, clip=True), line),
        _layer("other", dashed, line),
        _layer("blank", _mark("rule", palette.text, strokeWidth=2), place),
        *_note("spans", {"x": {"field": "start", **x}}, palette.critical, palette, foot=True),
        *_note("blank", place, palette.text, palette, dy=10),
        _layer("recall", {"type": "point", "opacity": 0, "size": 90}, {
            **place, "y": {"field": "value", **y},
            "tooltip": _tips("Time (UTC)", "Recall", "95% interval", "Labels (n)"),
        }),
    ]  # fmt: skip
    blank = {
        "t": float(view.at_ms),
        "end": float(window.end_ms),
        "side": "left",
        "text": words.clock(view.at_ms).removesuffix(" UTC"),
    }
    limit = view.objective
    return _chart(RECALL_HEIGHT, layers, {
        "recall": _plain_rows(points),
        "other": _plain_rows(other),
        "limit": [] if limit is None else [_limit_row(limit)],
        "blank": [blank],
        "spans": _span_rows(view.spans, view.window),
    })  # fmt: skip


def replayed_alt(view: Replayed) -> str:
    """The chart of a replay in a sentence."""
    told = "as known now" if view.known is Known.NOW else "as known then"
    points = view.shown.points if view.shown else ()
    seen = [point for point in points if point.recall.value is not None]
    until = words.moment(view.at_ms)
    if not seen:
        return f"{view.of} recall up to {until}, {told}: no label in this range."
    last, low = seen[-1].recall, min(seen, key=lambda point: point.recall.value or 0.0)
    return (
        f"{view.of} recall up to {until}, {told}, rolling {words.duration(view.rolling_ms)}: last "
        f"{words.percent(last.value)} ({words.interval(last)}), lowest "
        f"{words.percent(low.recall.value)} at {words.clock(low.end_ms)}. "
        f"{len(view.spans)} alert periods."
    )


def compared(view: Compared, palette: Palette) -> Spec:
    """Rolling recall of the variants that are compared, each with its band: solid and dashed.

    Paler where fewer than half the labels are in.
    """
    points = [point for variant in view.shown for point in variant.points]
    x = _time(view.window, labels=True)
    y = _share_axis("Recall", recall_domain(points, view.objective))
    place = {"x": {"field": "t", **x}}
    layers: list[Spec] = [*_objective_layers(y, palette)]
    datasets: dict[str, list[Row]] = {}
    styles = ((palette.line, [1, 0]), (palette.second, DASHES))
    for number, (variant, (colour, dash)) in enumerate(zip(view.shown, styles, strict=False)):
        name = f"recall-{number}"
        datasets[name] = [{**row, "Variant": variant.name} for row in _recall_rows(variant.points)]
        detail = {"detail": {"field": "segment"}}
        layers.append(_layer(name, _mark("area", colour, opacity=0.14, clip=True), {
            **place, "y": {"field": "low", **y}, "y2": {"field": "high"}, **detail,
        }))  # fmt: skip
        pale = {"condition": {"test": "datum.solid", "value": 1}, "value": PALE}
        line = _mark("line", colour, strokeWidth=2.2, strokeDash=dash, clip=True)
        spot = {**place, "y": {"field": "value", **y}}
        layers.append(_layer(name, line, {**spot, **detail, "opacity": pale}))
    names = ("Variant", "Time (UTC)", "Recall", "95% interval", "Labels (n)", "Labels in")
    tips: Spec = {**place, "y": {"field": "value", **y}, "tooltip": _tips(*names)}
    over = {"type": "point", "opacity": 0, "size": 90}
    layers += [_layer(name, over, tips) for name in datasets]
    limit = [] if view.objective is None else [_limit_row(view.objective)]
    return _chart(RECALL_HEIGHT, layers, {**datasets, "limit": limit})


def compared_alt(view: Compared) -> str:
    """Both lines in a sentence."""
    said = []
    for variant in view.shown:
        seen = [point.recall for point in variant.points if point.recall.value is not None]
        last = f"last {words.percent(seen[-1].value)} ({words.interval(seen[-1])})" if seen else ""
        said.append(f"{variant.name}: {last or 'no label in this range'}")
    rolling = words.duration(view.rolling_ms)
    return f"{view.of} recall by variant, rolling {rolling}; {'; '.join(said)}."


def recall_domain(points: Sequence[Point], objective: float | None) -> tuple[float, float]:
    """The shares that the recall chart spans: down to the lowest bound that means something."""
    lows = [0.9 if objective is None else objective - 0.05]
    for point in points:
        if point.recall.value is not None and point.recall.interval is not None:
            few = point.recall.support < words.FEW
            lows.append(point.recall.value if few else point.recall.interval[0])
    return max(0.0, int(min(lows) * 10) / 10), 1.0


def coverage(view: Trend | LabelsView, palette: Palette, height: int = COVERAGE_HEIGHT) -> Spec:
    """Share of predictions with a label, for each step, by event time."""
    x, y = _time(view.window, labels=True), _share_axis("Labels in", (0.0, 1.0), ticks=[0, 0.5, 1])
    place = {"x": {"field": "t", **x}}
    area = {**_mark("area", palette.unknown, opacity=0.35), "interpolate": "step-after"}
    half = _mark("rule", palette.unknown, strokeDash=[2, 3])
    outline = {**_mark("line", palette.unknown, strokeWidth=1.2), "interpolate": "step-after"}
    cover = {**place, "y": {"field": "value", **y}, "detail": {"field": "segment"}}
    layers = [
        _layer("coverage", area, {**cover, "y2": {"datum": 0}}),
        _layer("coverage", outline, cover),
        _layer("half", half, {"y": {"field": "value", **y}}),
        _layer("coverage", {"type": "point", "opacity": 0, "size": 90}, {
            **place,
            "y": {"field": "value", **y},
            "tooltip": _tips("Time (UTC)", "Labels in", "Labelled", "Predictions"),
        }),
    ]  # fmt: skip
    half_row: Row = {"value": HALF}
    return _chart(height, layers, {"coverage": _coverage_rows(view.points), "half": [half_row]})


def intents(rows: Sequence[IntentRow], objective: float | None, palette: Palette) -> Spec:
    """One dot with its interval for each intent; shape and colour say on which side it is."""
    shown = rows[:MOST_INTENTS]
    known = [row.recall.interval[0] for row in shown if row.recall.interval]
    low = max(0.0, int(min([*known, 0.7]) * 10) / 10)
    scale = {"domain": [low, 1.0], "nice": False, "zero": False}
    x = {
        "type": "quantitative",
        "scale": scale,
        "axis": {"title": "Recall, 95% interval", "format": ".0%", "tickCount": 4},
    }
    y = {
        "field": "intent",
        "type": "nominal",
        "sort": [row.intent for row in shown],
        "axis": {
            "title": None, "labelLimit": 130, "labelFlush": False, "ticks": False, "domain": False,
        },
        "scale": {"paddingInner": 0, "paddingOuter": 0},
    }  # fmt: skip
    tips = _tips("Intent", "Recall", "95% interval", "Labels (n)", "Missed")
    verdict = {"field": "verdict", "type": "nominal", "legend": None}
    colours = [palette.critical, palette.warning, palette.ok, palette.unknown]
    colour = {**verdict, "scale": {"domain": _VERDICTS, "range": colours}}
    shape = {**verdict, "scale": {"domain": _VERDICTS, "range": _SHAPES}}
    text = {"type": "text", "align": "left", "baseline": "bottom", "dy": -7, "fontSize": 12}
    layers = [
        _layer("limit", _mark("rule", palette.critical, strokeDash=[5, 3]), {
            "x": {"field": "value", **x},
        }),
        _layer("intents", {"type": "rule", "strokeWidth": 2.5, "clip": True}, {
            "x": {"field": "low", **x}, "x2": {"field": "high"}, "y": y, "color": colour,
        }),
        _layer("intents", {"type": "point", "filled": True, "size": 95, "opacity": 1}, {
            "x": {"field": "value", **x}, "y": y, "color": colour, "shape": shape, "tooltip": tips,
        }),
        *_haloed("intents", text, {
            "x": {"field": "edge", **x}, "y": y, "text": {"field": "label"},
        }, palette.text, palette),
    ]  # fmt: skip
    data: dict[str, list[Row]] = {
        "intents": [{**_intent_row(row, objective), "edge": low} for row in shown],
        "limit": [] if objective is None else [{"value": objective}],
    }
    return _chart(INTENT_HEIGHT * max(1, len(shown)) + 40, layers, data)


def delays(view: LabelsView, palette: Palette) -> Spec:
    """Verification latency of the labels that arrived, three quantiles on a logarithmic scale."""
    rows = _delay_rows(view.points)
    place = {"x": {"field": "t", **_time(view.window, labels=True)}}
    y = {
        "field": "value",
        "type": "quantitative",
        "scale": {"type": "log", "domain": _delay_domain(view.points), "nice": False},
        "axis": {
            "title": "Label delay",
            "values": [unit for unit, _ in _UNITS],
            "labelExpr": _unit_expression(),
            "minExtent": _Y_EXTENT,
        },
    }
    names, dashes = ["p50", "p90", "p99"], [[1, 0], [6, 3], [2, 3]]
    colour = {
        "field": "quantile",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": names, "range": [palette.line, palette.second, palette.unknown]},
    }
    dash = {**colour, "scale": {"domain": names, "range": dashes}}
    text = {"type": "text", "align": "left", "dx": 5, "fontWeight": "bold", "fontSize": 12}
    spot = {**place, "y": y}
    layers = [
        _layer("delays", _mark("line", None, strokeWidth=2), {
            **spot, "color": colour, "strokeDash": dash, "detail": {"field": "segment"},
        }),
        _layer("ends", text, {**spot, "color": colour, "text": {"field": "quantile"}}),
        _layer("delays", {"type": "point", "opacity": 0, "size": 90}, {
            **spot, "tooltip": _tips("Time (UTC)", "Quantile", "Delay", "Labels (n)"),
        }),
    ]  # fmt: skip
    ends = {row["quantile"]: row for row in rows}
    spec = _chart(LABELS_HEIGHT, layers, {"delays": rows, "ends": list(ends.values())})
    return {**spec, "padding": {"left": 5, "right": 34, "top": 5, "bottom": 5}}


def arrivals(view: LabelsView, palette: Palette) -> Spec:
    """Labels that arrived, per minute, by log time."""
    x = _time(view.window, labels=True)
    y = {
        "field": "value",
        "type": "quantitative",
        "scale": {"domain": [0, max((p.arrived_per_minute for p in view.points), default=0) or 1]},
        "axis": {"title": "Labels per minute", "tickCount": 4, "minExtent": _Y_EXTENT},
    }
    bars = _layer("arrivals", _mark("rect", palette.line, opacity=0.75), {
        "x": {"field": "t", **x}, "x2": _UNTIL, "y": y, "y2": {"datum": 0},
        "tooltip": _tips("Time (UTC)", "Labels per minute", "Labels"),
    })  # fmt: skip
    return _chart(LABELS_HEIGHT, [bars], {"arrivals": [_arrival_row(p) for p in view.points]})


def verdict_of(score: Score, objective: float | None) -> str:
    """On which side of the objective an interval lies; ``few`` when nothing can be said."""
    if score.interval is None or objective is None or score.support < words.FEW:
        return "few"
    low, high = score.interval
    if high < objective:
        return "below"
    return "above" if low >= objective else "crosses"


def recall_alt(view: Trend) -> str:
    """The recall chart in a sentence."""
    seen = [p for p in view.points if p.recall.value is not None]
    if not seen:
        return f"{view.of} recall: no labelled message in this range."
    low = min(seen, key=lambda p: p.recall.value or 0.0)
    last = seen[-1].recall
    alerts = f" {len(view.spans)} alert periods." if view.spans else ""
    return (
        f"{view.of} recall, rolling {words.duration(view.rolling_ms)}: last "
        f"{words.percent(last.value)} ({words.interval(last)}), lowest "
        f"{words.percent(low.recall.value)} at {words.clock(low.end_ms)}.{alerts}"
    )


def coverage_alt(view: Trend | LabelsView) -> str:
    """The coverage chart in a sentence."""
    known, all_of_them = words.count(view.labelled), words.count(view.predictions)
    return f"Labels in: {known} of {all_of_them} predictions of this range are labelled."


def caught(row: IntentRow) -> str:
    """``8 of 13 caught (62%)``, for an intent that has labels."""
    n = row.recall.support
    said = f"{words.count(n - row.missed)} of {words.count(n)} caught"
    return f"{said} ({words.percent(row.recall.value, 0)})"


def intents_alt(rows: Sequence[IntentRow]) -> str:
    """The intents in a sentence."""
    return "; ".join(f"{row.intent} {_caught_of(row)}" for row in rows[:MOST_INTENTS])


def delays_alt(view: LabelsView) -> str:
    """The delay chart in a sentence."""
    if view.now is None:
        return "No label arrived in the last window."
    now = view.now
    return (
        f"Label delay now: half within {words.span(now.p50_ms)}, 90% within "
        f"{words.span(now.p90_ms)}, 99% within {words.span(now.p99_ms)}."
    )


def arrivals_alt(view: LabelsView) -> str:
    """The arrivals in a sentence."""
    total = sum(point.arrived for point in view.points)
    return f"{words.count(total)} labels arrived in this range."


def _chart(height: int, layers: Sequence[Spec], datasets: Mapping[str, Sequence[Fields]]) -> Spec:
    # The height includes the axes, so that charts side by side end on the same line.
    return {
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "datasets": {name: list(rows) for name, rows in datasets.items()},
        "layer": list(layers),
        "config": {"view": {"stroke": None}},
    }


def _layer(data: str, mark: Fields, encoding: Fields) -> Spec:
    """Its marks are not read aloud, nor are empty groups of them: the chart has its own words."""
    return {"data": {"name": data}, "mark": {**mark, "aria": False}, "encoding": encoding}


def _mark(kind: str, colour: str | None, **more: object) -> Spec:
    paint: Spec = {} if colour is None else {"color": colour}
    return {"type": kind, **paint, **more}


def _time(window: Window, *, labels: bool) -> Spec:
    domain = [words.iso(window.start_ms), words.iso(window.end_ms)]
    is_long = window.end_ms - window.start_ms > DAY_MS
    axis: Spec = {"format": "%a %d" if is_long else "%H:%M", "tickCount": 7, "grid": True}
    # Flush labels stay inside, so that charts on top of each other are equally wide.
    axis |= {"labelFlush": True, "labelBound": True}
    axis |= {"title": "Time (UTC)"} if labels else {"title": None, "labels": False, "ticks": False}
    return {"type": "temporal", "scale": {"type": "utc", "domain": domain}, "axis": axis}


def _share_axis(title: str, domain: tuple[float, float], ticks: list[float] | None = None) -> Spec:
    axis: Spec = {"title": title, "format": ".0%", "minExtent": _Y_EXTENT}
    axis |= {"values": ticks} if ticks else {"tickCount": 6}
    return {
        "type": "quantitative",
        "scale": {"domain": list(domain), "nice": False, "zero": False},
        "axis": axis,
    }


def _tips(*names: str) -> list[Spec]:
    # Dots and brackets in a field name are a path to Vega-Lite.
    return [
        {"field": name.replace("(", "\\(").replace(")", "\\)"), "title": name, "type": "nominal"}
        for name in names
    ]


def _alert_layers(x: Spec, palette: Palette) -> list[Spec]:
    start = {"x": {"field": "start", **x}}
    shade = _mark("rect", palette.critical, opacity=0.12, clip=True)
    return [
        _layer("spans", shade, {**start, "x2": _UNTIL}),
        _layer("spans", _mark("rule", palette.critical, strokeWidth=1.5, clip=True), start),
    ]


def _objective_layers(y: Spec, palette: Palette) -> list[Spec]:
    at = {"y": {"field": "value", **y}}
    text = {"type": "text", "align": "left", "x": 4, "dy": 10, "fontSize": 12}
    return [
        _layer("limit", _mark("rule", palette.critical, strokeDash=[6, 4], strokeWidth=1.5), at),
        *_haloed("limit", text, {**at, "text": {"field": "text"}}, palette.critical, palette),
    ]


def _recall_line(place: Fields, y: Spec, palette: Palette, *, solid: bool) -> Spec:
    style: Spec = {} if solid else {"strokeDash": [4, 3]}
    line = _mark("line", palette.line, strokeWidth=2.2, clip=True, **style)
    layer = _layer("recall", line, {
        **place, "y": {"field": "value", **y}, "detail": {"field": "segment"},
    })  # fmt: skip
    return {**layer, "transform": [{"filter": f"datum.solid === {str(solid).lower()}"}]}


def _note(
    data: str, place: Fields, colour: str, palette: Palette, *, foot: bool = False, dy: int = -8
) -> list[Spec]:
    """A haloed text beside a vertical rule, on the side where there is room for it."""
    spot: Spec = {"dy": dy, "fontSize": 12}
    lift = f"height - {_LINE_HEIGHT} * datum.line" if foot else "0"
    layers: list[Spec] = []
    for side, dx in (("left", 6), ("right", -6)):
        text = {"type": "text", "align": side, "dx": dx, "clip": False, **spot}
        text |= {"fontWeight": "bold"} if foot else {}
        encoding = {**place, "y": {"value": {"expr": lift}}, "text": {"field": "text"}}
        kept = {"transform": [{"filter": f"datum.side === '{side}'"}]}
        layers += [{**layer, **kept} for layer in _haloed(data, text, encoding, colour, palette)]
    return layers


def _haloed(data: str, text: Fields, encoding: Fields, colour: str, palette: Palette) -> list[Spec]:
    halo = {**text, "color": palette.background, "stroke": palette.background, "strokeWidth": 4}
    return [_layer(data, halo, encoding), _layer(data, {**text, "color": colour}, encoding)]


def _recall_rows(points: Sequence[Point]) -> list[Row]:
    """Points with the stretch of line they belong to; a change of style repeats its first point."""
    rows: list[Row] = []
    segment = 0
    for before, point in pairwise([None, *points]):
        if point is None or point.recall.value is None:
            continue
        solid = _is_known(point)
        if before is None or before.recall.value is None:
            segment += 1
        elif _is_known(before) != solid:
            segment += 1
            rows.append(_recall_row(before, segment, solid=solid))
        rows.append(_recall_row(point, segment, solid=solid))
    return rows


def _is_known(point: Point) -> bool:
    return point.known is not None and point.known >= HALF


def _recall_row(point: Point, segment: int, *, solid: bool) -> Row:
    low, high = point.recall.interval or (None, None)
    return {
        "t": float(point.end_ms),
        "value": point.recall.value,
        "low": low,
        "high": high,
        "segment": segment,
        "solid": solid,
        "Time (UTC)": words.iso(point.end_ms),
        "Recall": words.percent(point.recall.value),
        "95% interval": words.ends(point.recall),
        "Labels (n)": words.count(point.recall.support),
        "Labels in": words.percent(point.known, 0),
    }


def _objective_rows(view: Trend) -> list[Row]:
    return [] if view.objective is None else [_limit_row(view.objective)]


def _limit_row(objective: float) -> Row:
    return {"value": objective, "text": f"objective {words.limit(objective)}"}


def _plain_rows(points: Sequence[Point]) -> list[Row]:
    """Points with a value, each with the stretch of line it belongs to."""
    rows: list[Row] = []
    segment = 0
    for point in points:
        if point.recall.value is None:
            segment += 1
        else:
            rows.append(_recall_row(point, segment, solid=True))
    return rows


def _under_rows(view: Trend) -> list[Row]:
    """Where the last stretch begins, up to now, in which fewer than half the labels are in."""
    first: Point | None = None
    for point in view.points:
        if point.recall.value is None or _is_known(point):
            first = None
        elif first is None:
            first = point
    if first is None:
        return []
    side = _side(first.end_ms, view.window)
    text = "labels under 50% →"
    return [{"t": float(first.end_ms), "text": text, "side": side}]


def _span_rows(spans: Iterable[Span], window: Window) -> list[Row]:
    rows: list[Row] = []
    for span in spans:
        start = max(span.start_ms, window.start_ms)
        end = window.end_ms if span.end_ms is None else min(span.end_ms, window.end_ms)
        if start < window.end_ms:
            rows.append({
                "start": float(start),
                "end": float(end),
                "side": _side(start, window),
                "text": f"▲ {span.name} fired",
            })  # fmt: skip
    return _stacked(rows, window)


def _stacked(rows: list[Row], window: Window) -> list[Row]:
    """The rows with the line on which each note stands, 0 at the foot, the latest first.

    Notes that could meet stand on different lines; one for which no line is left has no text.
    """
    taken: list[tuple[float, str, int]] = []
    room = _ROOM * (window.end_ms - window.start_ms)
    for row in sorted(rows, key=lambda row: float(str(row["start"])), reverse=True):
        at_ms, side = float(str(row["start"])), str(row["side"])
        met = {line for t, other, line in taken if other != side or abs(t - at_ms) < room}
        line = next((line for line in range(MOST_NOTES) if line not in met), None)
        if line is None:
            row["text"] = ""
        else:
            taken.append((at_ms, side, line))
        row["line"] = line or 0
    return rows


def _side(at_ms: int, window: Window) -> str:
    """Vega's alignment for a note at an instant: to its right unless it is far to the right."""
    reached = (at_ms - window.start_ms) / (window.end_ms - window.start_ms)
    return "right" if reached > _EDGE else "left"


def _coverage_rows(points: Sequence[Point] | Sequence[ArrivalPoint]) -> list[Row]:
    """Steps from their start; each stretch ends with the end of its last step."""
    rows: list[Row] = []
    segment = 0
    for before, point in pairwise([None, *points]):
        if point is None or point.coverage is None:
            continue
        if before is None or before.coverage is None:
            segment += 1
        elif rows:
            rows.pop()
        facts = {
            "value": point.coverage,
            "segment": segment,
            "Time (UTC)": words.iso(point.start_ms),
            "Labels in": words.percent(point.coverage, 0),
            "Labelled": words.count(point.labelled),
            "Predictions": words.count(point.predictions),
        }
        rows += [{"t": float(at_ms), **facts} for at_ms in (point.start_ms, point.end_ms)]
    return rows


def _intent_row(row: IntentRow, objective: float | None) -> Row:
    low, high = row.recall.interval or (None, None)
    return {
        "intent": row.intent,
        "value": row.recall.value,
        "low": low,
        "high": high,
        "verdict": verdict_of(row.recall, objective),
        "label": _caught_of(row),
        "Intent": row.intent,
        "Recall": words.percent(row.recall.value),
        "95% interval": words.ends(row.recall),
        "Labels (n)": words.count(row.recall.support),
        "Missed": words.count(row.missed),
    }


def _caught_of(row: IntentRow) -> str:
    n = row.recall.support
    if not n:
        return "no labels yet"
    few = ", few labels" if n < words.FEW else ""
    return f"{caught(row)}{few}"


_UNITS = (
    (1_000.0, "1 s"), (10_000.0, "10 s"), (60_000.0, "1 min"), (600_000.0, "10 min"),
    (3_600_000.0, "1 h"), (21_600_000.0, "6 h"), (86_400_000.0, "1 d"), (604_800_000.0, "7 d"),
    (3_024_000_000.0, "35 d"),
)  # fmt: skip


def _unit_expression() -> str:
    expression = "''"
    for unit, name in reversed(_UNITS):
        expression = f"datum.value == {unit:.0f} ? '{name}' : {expression}"
    return expression


def _delay_domain(points: Sequence[ArrivalPoint]) -> list[float]:
    """From the unit below the least to the unit above the greatest delay."""
    least = min((p.delays.p50_ms for p in points if p.delays), default=_UNITS[2][0])
    most = max((p.delays.p99_ms for p in points if p.delays), default=_UNITS[4][0])
    low = max((unit for unit, _ in _UNITS if unit <= least), default=_UNITS[0][0])
    high = min((unit for unit, _ in _UNITS if unit >= most), default=_UNITS[-1][0])
    return [low, max(high, low * 10)]


def _delay_rows(points: Sequence[ArrivalPoint]) -> list[Row]:
    rows: list[Row] = []
    stretch = 0
    for point in points:
        if point.delays is None:
            stretch += 1
            continue
        found = (point.delays.p50_ms, point.delays.p90_ms, point.delays.p99_ms)
        for name, delay_ms in zip(("p50", "p90", "p99"), found, strict=True):
            rows.append({
                "t": float(point.end_ms),
                # Zero has no logarithm; a thousandth of a second stands for it.
                "value": max(delay_ms, _UNITS[0][0]),
                "quantile": name,
                "segment": f"{name}.{stretch}",
                "Time (UTC)": words.iso(point.end_ms),
                "Quantile": name,
                "Delay": words.span(delay_ms),
                "Labels (n)": words.count(point.delays.n),
            })  # fmt: skip
    return rows


def _arrival_row(point: ArrivalPoint) -> Row:
    return {
        "t": float(point.start_ms),
        "end": float(point.end_ms),
        "value": point.arrived_per_minute,
        "Time (UTC)": words.iso(point.start_ms),
        "Labels per minute": f"{point.arrived_per_minute:.1f}",
        "Labels": words.count(point.arrived),
    }
