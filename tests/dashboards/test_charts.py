"""Specs and tables: domains, colours for each state, dashes where labels are missing."""

import csv
import io
import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import dashboards
from dashboards import charts, queries, tables, theme
from dashboards.banner import Freshness
from dashboards.models import Choice, IntentRow, Point, Route, Span, Trend
from dashboards.theme import DARK, LIGHT, Palette, Tone
from monitor.domain.scores import Score, proportion
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import HOUR_MS, MINUTE_MS, Window
from tests.dashboards import scenes
from tests.dashboards.scenes import NOON_MS, SPEC

NOTHING = proportion(0, 0)


@pytest.fixture(scope="module")
def late() -> Trend:
    choice = Choice(ALL, "urgent", "3h")
    store = scenes.store_of("late")
    return queries.trend(store, SPEC, choice, recent_ms=15 * MINUTE_MS, now_ms=NOON_MS)


def point(minute: int, recall: Score, known: float | None = 1.0) -> Point:
    start_ms = NOON_MS + minute * MINUTE_MS
    return Point(start_ms, start_ms + MINUTE_MS, recall, known, 10, 5)


def view_of(*points: Point, objective: float | None = 0.8) -> Trend:
    window = Window(NOON_MS, NOON_MS + len(points) * MINUTE_MS)
    return Trend(
        freshness=Freshness(window.end_ms, age_ms=0),
        of="urgent",
        objective=objective,
        rolling_ms=15 * MINUTE_MS,
        window=window,
        points=points,
        spans=(),
        detail=window,
        whose=SliceKey(ALL),
        alert=None,
        intents=(),
        routes=(),
        missed=0,
    )


def rows(spec: charts.Spec, name: str) -> list[dict[str, object]]:
    datasets = spec["datasets"]
    assert isinstance(datasets, dict)
    found: list[dict[str, object]] = datasets[name]
    return found


def colours(spec: object) -> Iterator[str]:
    """Every colour anywhere in a spec."""
    if isinstance(spec, dict):
        for value in spec.values():
            yield from colours(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from colours(value)
    elif isinstance(spec, str) and spec.startswith("#"):
        yield spec


def test_the_time_axis_is_utc_and_spans_the_range(late: Trend) -> None:
    for spec in (charts.recall(late, LIGHT), charts.coverage(late, LIGHT)):
        text = json.dumps(spec)
        assert '"type": "utc"' in text
        assert '"domain": ["2026-11-22T09:00:00Z", "2026-11-22T12:00:00Z"]' in text
    assert '"Time (UTC)"' in json.dumps(charts.coverage(late, LIGHT))


def test_the_line_is_dashed_when_fewer_than_half_the_labels_are_in(late: Trend) -> None:
    dashed = [row for row in rows(charts.recall(late, LIGHT), "recall") if not row["solid"]]
    under = [p for p in late.points if p.known is not None and p.known < 0.5]
    assert {row["t"] for row in dashed} >= {float(p.end_ms) for p in under}
    [mark] = rows(charts.recall(late, LIGHT), "under")
    assert mark["t"] == under[-1].end_ms - (len(under) - 1) * MINUTE_MS
    assert mark["text"] == "labels under 50% →"


def test_solid_and_dashed_lines_meet_in_one_point() -> None:
    full, half = point(0, proportion(9, 10)), point(1, proportion(8, 10), known=0.4)
    drawn = rows(charts.recall(view_of(full, half), LIGHT), "recall")
    assert [(r["t"], r["segment"], r["solid"]) for r in drawn] == [
        (full.end_ms, 1, True),
        (full.end_ms, 2, False),
        (half.end_ms, 2, False),
    ]


def test_the_line_is_broken_when_nothing_is_known_in_between() -> None:
    points = [point(0, proportion(9, 10)), point(1, NOTHING, None), point(2, proportion(9, 10))]
    drawn = rows(charts.recall(view_of(*points), LIGHT), "recall")
    assert [row["segment"] for row in drawn] == [1, 2]


def test_nothing_is_marked_as_under_half_when_the_latest_labels_are_in() -> None:
    points = [point(0, proportion(9, 10), 0.4), point(1, proportion(9, 10), 0.6)]
    assert rows(charts.recall(view_of(*points), LIGHT), "under") == []


@pytest.mark.parametrize(
    ("hits", "n", "objective", "low"),
    [
        (90, 100, 0.8, 0.7),  # the objective decides
        (30, 100, 0.8, 0.2),  # the lower bound decides
        (1, 4, 0.8, 0.2),  # the bound of four labels means nothing
        (99, 100, None, 0.9),  # no rule
    ],
)
def test_the_recall_axis_reaches_down_to_what_matters(
    hits: int, n: int, objective: float | None, low: float
) -> None:
    domain = charts.recall_domain([point(0, proportion(hits, n))], objective)
    assert domain == (low, 1.0)


def test_no_objective_is_drawn_when_there_is_no_rule() -> None:
    view = view_of(point(0, proportion(9, 10)), objective=None)
    assert rows(charts.recall(view, LIGHT), "limit") == []


@pytest.mark.parametrize(
    ("hits", "n", "verdict"),
    [(50, 100, "below"), (80, 100, "crosses"), (95, 100, "above"), (29, 29, "few"), (0, 0, "few")],
)
def test_a_verdict_needs_an_interval_on_one_side_and_30_labels(
    hits: int, n: int, verdict: str
) -> None:
    assert charts.verdict_of(proportion(hits, n), 0.8) == verdict


def test_an_intent_is_never_shown_without_n() -> None:
    intents = [
        IntentRow("a", proportion(59, 82), 23),
        IntentRow("b", proportion(11, 12), 1),
        IntentRow("c", NOTHING, 0),
    ]
    drawn = rows(charts.intents(intents, 0.8, LIGHT), "intents")
    assert [row["label"] for row in drawn] == [
        "59 of 82 caught (72%)",
        "11 of 12 caught (92%), few labels",
        "no labels yet",
    ]


def test_an_open_alert_is_shaded_to_the_end_and_a_closed_one_to_its_own() -> None:
    spans = (
        Span("r (a)", NOON_MS - HOUR_MS, NOON_MS + 2 * MINUTE_MS),
        Span("r (b)", NOON_MS + 3 * MINUTE_MS, None),
    )
    points = [point(minute, proportion(9, 10)) for minute in range(5)]
    view = replace(view_of(*points), spans=spans)
    drawn = rows(charts.recall(view, LIGHT), "spans")
    assert [(row["start"], row["end"], row["side"]) for row in drawn] == [
        (NOON_MS, NOON_MS + 2 * MINUTE_MS, "left"),
        (NOON_MS + 3 * MINUTE_MS, NOON_MS + 5 * MINUTE_MS, "right"),
    ]


def test_notes_of_alerts_that_could_meet_stand_on_lines_of_their_own() -> None:
    points = [point(minute, proportion(9, 10)) for minute in range(10)]
    spans = [Span(f"r{n}", NOON_MS + n * MINUTE_MS, None) for n in (3, 4, 9)]
    view = replace(view_of(*points), spans=tuple(spans))
    drawn = rows(charts.recall(view, LIGHT), "spans")
    assert [(row["start"], row["line"]) for row in drawn] == [
        (NOON_MS + 3 * MINUTE_MS, 1),
        (NOON_MS + 4 * MINUTE_MS, 0),
        (NOON_MS + 9 * MINUTE_MS, 0),
    ]


def test_only_the_latest_alerts_have_a_note_where_many_could_meet() -> None:
    points = [point(minute, proportion(9, 10)) for minute in range(20)]
    spans = [Span("r", NOON_MS + n * MINUTE_MS, None) for n in range(12, 18)]
    view = replace(view_of(*points), spans=tuple(spans))
    drawn = rows(charts.recall(view, LIGHT), "spans")
    assert [bool(row["text"]) for row in drawn] == [False] * 2 + [True] * charts.MOST_NOTES


def test_a_chart_has_one_grey_when_the_store_is_away(late: Trend) -> None:
    used = set(colours(charts.recall(late, theme.muted(LIGHT))))
    assert used == {LIGHT.unknown, LIGHT.background}


def test_coverage_is_drawn_as_steps_of_full_width() -> None:
    points = [point(0, NOTHING), point(1, NOTHING), point(2, NOTHING)]
    drawn = rows(charts.coverage(view_of(*points), LIGHT), "coverage")
    assert [row["t"] for row in drawn] == [NOON_MS + minute * MINUTE_MS for minute in range(4)]


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("tone", list(Tone))
def test_every_tone_can_be_read(palette: Palette, tone: Tone) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(palette.background), luminance(palette.of(tone))))
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_the_configuration_of_streamlit_has_the_colours_of_the_palettes() -> None:
    file = Path(dashboards.__file__).parent / ".streamlit" / "config.toml"
    configured = tomllib.loads(file.read_text())
    for name, palette in (("light", LIGHT), ("dark", DARK)):
        said = configured["theme"][name]
        assert (said["backgroundColor"], said["textColor"]) == (palette.background, palette.text)
        assert (said["redColor"], said["greenColor"]) == (palette.critical, palette.ok)
        assert (said["yellowColor"], said["blueColor"]) == (palette.warning, palette.line)
    assert configured["browser"]["gatherUsageStats"] is False
    assert configured["client"]["showErrorDetails"] == "none"


def test_the_table_has_the_numbers_of_the_chart(late: Trend) -> None:
    table = tables.recall(late)
    assert len(table) == len(late.points)
    assert table[0]["Recall"] == late.points[-1].recall.value
    assert table[0]["urgent labels (n)"] == late.points[-1].recall.support


def test_csv_has_instants_in_utc_and_arms_no_spreadsheet() -> None:
    table = tables.recall(view_of(point(0, proportion(1, 2))))
    [row] = csv.DictReader(io.StringIO(tables.csv_of(table)))
    assert row["Time (UTC)"] == "2026-11-22T12:01:00Z"
    routes = tables.routes([Route("=cmd()", "fees", 3)])
    assert tables.csv_of(routes) == "True intent,Sent to,Missed\n'=cmd(),fees,3\n"
    assert tables.csv_of([]) == ""


def test_alternative_texts_say_what_is_drawn(late: Trend) -> None:
    last = late.points[-1].recall
    assert last.value is not None
    assert f"last {100 * last.value:.1f}%" in charts.recall_alt(late)
    assert "are labelled" in charts.coverage_alt(late)
    nothing = view_of(point(0, NOTHING))
    assert charts.recall_alt(nothing) == "urgent recall: no labelled message in this range."
