"""The page "Confusion": its numbers are those of the report, its colours can be read."""

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards import confusion_charts, confusion_queries, confusion_tables, tables
from dashboards.confusion_models import (
    MOST_PAIRS,
    Against,
    Asked,
    By,
    Cell,
    Confused,
    Matrix,
    Period,
)
from dashboards.models import Choice
from dashboards.source import Source
from dashboards.theme import DARK, LIGHT, Palette, Tone
from monitor.adapters.memory import MemoryStore
from monitor.app.report import report_of
from monitor.domain.errors import StoreError
from monitor.domain.events import Label, Prediction
from monitor.domain.verdict import VerdictLimits
from monitor.domain.windows import DAY_MS, HOUR_MS, MINUTE_MS, Window, WindowSpec
from tests.dashboards import scenes
from tests.dashboards.scenes import NOON_MS, SPEC, URGENT
from tests.dashboards.test_pages import forget_what_was_read, notices, run

TITLE = "Which intents are confused with which?"
CHOICE = Choice(of="urgent")
EVER = Asked(Period.EVER)
READABLE = 4.5


@pytest.fixture(autouse=True)
def nothing_is_known_yet() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


def view(
    store: MemoryStore,
    asked: Asked = EVER,
    choice: Choice = CHOICE,
    **spec: Any,  # noqa: ANN401 - fields of Spec
) -> Confused:
    return confusion_queries.confused(
        store, replace(SPEC, **spec), choice, recent_ms=1, now_ms=NOON_MS, asked=asked
    )


def of_scene(scene: str, asked: Asked = EVER, choice: Choice = CHOICE) -> Confused:
    return view(scenes.store_of(scene), asked, choice)


def show(scene: str, **address: str) -> AppTest:
    return run(scenes.source_of(scenes.store_of(scene)), "confusion", **address)


def captions(app: AppTest) -> str:
    return "\n".join(caption.value for caption in app.caption).replace("\\", "")


def spec_of(app: AppTest) -> str:
    found: str = app.get("vega_lite_chart")[0].proto.spec
    return found


def one(now: Confused, actual: str, predicted: str, by: By = By.ROW) -> Cell:
    [cell] = [c for c in now.every_cell(by) if (c.actual, c.predicted) == (actual, predicted)]
    return cell


# Numbers


@pytest.mark.parametrize("scene", ["firing", "ok", "wide"])
@pytest.mark.parametrize("variant", ["ALL", "fine_tuned"])
def test_every_count_is_that_of_the_report_of_the_same_moment(scene: str, variant: str) -> None:
    store = scenes.store_of(scene)
    report: Any = report_of(store, SPEC, VerdictLimits())
    section = report["variants"][variant]
    found = of_scene(scene, choice=Choice(variant, "urgent"))
    rows: dict[str, dict[str, int]] = {}
    for row in confusion_tables.every_cell(found, By.ROW):
        rows.setdefault(str(row["True intent"]), {})[str(row["Predicted intent"])] = int(
            str(row["Outcomes"])
        )
    assert rows == section["confusion"]
    assert (found.labelled, found.predictions) == (section["labelled"], section["predictions"])
    for intent, told in section["intents"].items():
        hit = Matrix(found.matrix.counts).score(intent, (intent,), By.ROW)
        if told["support"]:
            assert (hit.value, hit.support) == (told["recall"], told["support"])


@pytest.mark.parametrize("span", ["1h", "3h", "6h"])
def test_a_range_holds_what_was_sent_in_it(span: str) -> None:
    """Read from hours and minutes, it is the same as counted by hand."""
    chat, hours = scenes.incident(), int(span[0])
    found = view(scenes.filled(chat), Asked(), Choice(of="urgent", span=span))
    start_ms = NOON_MS - hours * HOUR_MS
    facts = [envelope.fact for envelope in chat.envelopes]
    sent = {fact.prediction_id: fact for fact in facts if isinstance(fact, Prediction)}
    by_hand: dict[tuple[str, str], int] = {}
    for label in facts:
        if isinstance(label, Label) and label.log_ms < NOON_MS:
            of = sent[label.prediction_id]
            if of.event_ms >= start_ms:
                way = label.actual, of.predicted
                by_hand[way] = by_hand.get(way, 0) + 1
    assert found.window == Window(start_ms, NOON_MS)
    assert found.matrix.counts == dict(sorted(by_hand.items()))


def test_a_range_that_begins_within_an_hour_is_read_from_minutes_at_its_ends() -> None:
    chat = scenes.Chat()
    at_ms = NOON_MS - 90 * MINUTE_MS
    for minutes in (-181, -180, -100, -61, -1, 0):
        chat.message(at_ms + minutes * MINUTE_MS, predicted="fees", actual="other")
    store = scenes.filled(chat, as_of_ms=at_ms + MINUTE_MS)
    found = view(store, Asked(), Choice(of="urgent", span="3h"))
    assert found.window == Window(at_ms - 179 * MINUTE_MS, at_ms + MINUTE_MS)
    assert found.labelled == 3
    assert view(store, Asked(Period.EVER)).labelled == 5


def test_shares_are_of_the_row_of_the_column_or_of_all() -> None:
    matrix = Matrix({("a", "a"): 30, ("a", "b"): 10, ("c", "b"): 60})
    assert matrix.score("a", ("b",), By.ROW)[:2] == (0.25, 40)
    assert matrix.score("a", ("b",), By.COLUMN)[:2] == (10 / 70, 70)
    assert matrix.score("a", ("b",), By.TOTAL)[:2] == (0.1, 100)
    assert matrix.score("b", ("b",), By.ROW) == (None, 0, None)


def test_urgent_intents_come_first_and_what_left_them_is_marked() -> None:
    found = of_scene("firing")
    assert set(found.intents[:4]) == URGENT
    assert list(found.intents[4:]) == sorted(found.intents[4:])
    assert one(found, "report_fraud", "other").is_missed
    assert not one(found, "report_fraud", "report_fraud").is_missed
    assert not any(c.is_missed for c in found.every_cell(By.ROW) if c.actual not in URGENT)


def test_the_worst_pairs_are_missed_ones_of_the_group_then_those_with_the_most_outcomes() -> None:
    pairs = of_scene("firing").pairs(By.ROW)
    assert all(pair.actual != pair.predicted for pair in pairs)
    assert pairs[0].is_missed
    order = [(pair.is_missed, pair.n) for pair in pairs]
    assert order == sorted(order, reverse=True)


def test_of_many_intents_only_urgent_rows_and_their_ways_are_drawn() -> None:
    found = of_scene("wide")
    assert found.is_wide
    assert len(found.intents) == 77
    assert found.shown_rows == tuple(sorted(URGENT))
    assert len(found.shown_columns) == 20
    assert len(found.hidden_columns) == 57
    assert len(found.pairs(By.ROW)) == MOST_PAIRS
    of_row = [cell for cell in found.cells(By.ROW) if cell.actual == "lost_card"]
    assert sum(cell.n for cell in of_row) == found.matrix.rows["lost_card"]
    assert [cell.predicted for cell in of_row][-1] == ""


# Comparison


def test_a_comparison_shows_by_how_much_a_share_has_grown() -> None:
    chat = scenes.Chat()
    chat.many(60, NOON_MS - 100 * MINUTE_MS, predicted="lost_card", actual="lost_card")
    chat.many(30, NOON_MS - 50 * MINUTE_MS, predicted="lost_card", actual="lost_card")
    chat.many(10, NOON_MS - 40 * MINUTE_MS, predicted="fees", actual="lost_card")
    asked = Asked(against=Against.BEFORE)
    found = view(scenes.filled(chat), asked, Choice(of="urgent", span="1h"))
    lost = one(found, "lost_card", "fees")
    assert (lost.change, lost.is_few, lost.then and lost.then.support) == (0.25, False, 60)
    assert one(found, "lost_card", "lost_card").change == -0.25
    assert found.pairs(By.ROW) == [lost]
    assert found.reference_window == Window(NOON_MS - 2 * HOUR_MS, NOON_MS - HOUR_MS)


def test_a_change_of_few_labels_has_no_colour_and_is_no_worst_pair() -> None:
    chat = scenes.Chat()
    chat.many(60, NOON_MS - 100 * MINUTE_MS, predicted="lost_card", actual="lost_card")
    chat.many(29, NOON_MS - 40 * MINUTE_MS, predicted="fees", actual="lost_card")
    asked = Asked(against=Against.BEFORE)
    found = view(scenes.filled(chat), asked, Choice(of="urgent", span="1h"))
    assert one(found, "lost_card", "fees").is_few
    assert found.pairs(By.ROW) == []
    spec: Any = confusion_charts.matrix(found, By.ROW, LIGHT)
    assert spec["datasets"]["painted"] == []
    told = {(r["True intent"], r["Predicted intent"]): r for r in spec["datasets"]["cells"]}
    assert told["lost_card", "fees"]["Change"] == "+100.0 points, too few labels"


def test_the_day_before_is_read_in_whole_hours_when_its_minutes_are_let_go() -> None:
    chat = scenes.Chat()
    before_ms = NOON_MS - DAY_MS
    for minutes in (-200, -170, -20, 20, 50):
        chat.message(before_ms + minutes * MINUTE_MS, predicted="fees", actual="fees")
    chat.message(NOON_MS - 5 * MINUTE_MS, predicted="fees", actual="fees")
    keep_ms = {MINUTE_MS: 6 * HOUR_MS, HOUR_MS: 3 * DAY_MS, DAY_MS: 9 * DAY_MS}
    store = scenes.filled(chat, as_of_ms=NOON_MS + 30 * MINUTE_MS)
    windows = WindowSpec(keep_ms=keep_ms)
    found = view(store, Asked(against=Against.DAY), windows=windows)
    assert found.window == Window(NOON_MS - 150 * MINUTE_MS, NOON_MS + 30 * MINUTE_MS)
    assert found.reference_window == Window(before_ms - 3 * HOUR_MS, before_ms + HOUR_MS)
    assert found.reference is not None
    assert found.reference.total == 4
    gone = view(store, Asked(against=Against.WEEK), windows=windows)
    assert (gone.reference, gone.is_gone) == (None, True)


def test_all_time_is_compared_with_nothing_and_a_range_with_all_time() -> None:
    assert of_scene("firing", Asked(Period.EVER, Against.DAY)).reference is None
    found = of_scene("firing", Asked(against=Against.EVER))
    assert found.reference == of_scene("firing").matrix


# Drawing


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("against", [Against.NOTHING, Against.EVER])
def test_every_number_can_be_read_on_its_colour(palette: Palette, against: Against) -> None:
    found = of_scene("firing", Asked(against=against))
    spec: Any = confusion_charts.matrix(found, By.ROW, palette)
    scale = spec["layer"][1]["encoding"]["fill"]["scale"]
    for row in spec["datasets"]["painted"]:
        low, high = scale["domain"][0], scale["domain"][-1]
        at = (row["value"] - low) / (high - low)
        at = at**0.5 if against is Against.NOTHING else at
        fill = confusion_charts.shade(tuple(scale["range"]), at)
        assert confusion_charts.contrast(row["ink"], fill) >= READABLE


def test_missed_urgent_cells_alone_are_outlined() -> None:
    found = of_scene("firing")
    spec: Any = confusion_charts.matrix(found, By.ROW, LIGHT)
    outlined = spec["datasets"]["missed"]
    assert outlined
    assert all(row["row"].startswith("▲") and "▲" not in row["column"] for row in outlined)
    assert spec["layer"][2]["mark"]["stroke"] == LIGHT.critical
    assert spec["layer"][0]["encoding"]["x"]["axis"]["labelOverlap"] is False


def test_the_matrix_is_told_in_a_sentence() -> None:
    said = confusion_charts.matrix_alt(of_scene("firing"), By.ROW)
    worst = of_scene("firing").pairs(By.ROW)[0]
    assert f"{worst.actual} to {worst.predicted}: {worst.n}, " in said
    assert confusion_charts.matrix_alt(of_scene("caught"), By.ROW).endswith("nothing is confused.")


def test_the_download_has_every_count() -> None:
    found = of_scene("firing")
    rows = csv.DictReader(io.StringIO(tables.csv_of(confusion_tables.every_cell(found, By.ROW))))
    assert sum(int(row["Outcomes"]) for row in rows) == found.labelled


# States


def test_an_empty_store_and_one_without_labels_say_so() -> None:
    assert notices(show("empty")) == [(Tone.NEUTRAL, scenes.NOTHING_YET)]
    app = show("no_labels")
    said = "0 of 1\u202f072 messages are labelled in the last 3h."
    assert notices(app) == [(Tone.NEUTRAL, f"Nothing to compare answers with. {said}")]
    assert app.title[0].value == TITLE
    assert not app.get("vega_lite_chart")


def test_it_is_good_news_when_nothing_is_confused() -> None:
    app = show("caught")
    said = "Nothing is confused: 100 of 100 went to their true intent."
    assert notices(app) == [(Tone.OK, said)]
    assert len(app.get("vega_lite_chart")) == 1
    assert not app.dataframe


def test_the_matrix_says_of_what_it_is() -> None:
    app = show("firing")
    found = of_scene("firing", Asked())
    assert notices(app) == []
    assert "09:00–12:00 UTC (3h)" in captions(app)
    assert "▲ urgent intents, outlined where missed" in captions(app)
    assert f"({100 * found.labelled / found.predictions:.0f}%)" in captions(app)
    assert [header.value for header in app.header] == ["Most often confused"]
    assert "Share of the true intent" in spec_of(app)


def test_an_address_shows_what_was_asked_for() -> None:
    app = show("firing", period="all time", by="predicted intent", variant="prompt")
    assert "all time · " in captions(app)
    assert "Share of the predicted intent" in spec_of(app)
    compared = show("firing", against="just before", range="1h")
    assert "compared with 10:00–11:00 UTC" in captions(compared)
    assert [header.value for header in compared.header] == ["Grown most"]


def test_a_comparison_with_nothing_says_so() -> None:
    app = show("firing", against="a week earlier")
    said = "There is no labelled message a week earlier."
    assert notices(app) == [(Tone.NEUTRAL, said)]
    assert len(app.get("vega_lite_chart")) == 1


def test_many_intents_are_a_list_and_the_rows_of_the_urgent_ones() -> None:
    app = show("wide")
    assert [header.value for header in app.header] == [
        "Where urgent messages went", "Most often confused",
    ]  # fmt: skip
    assert "77 intents: only the rows of urgent ones are drawn." in captions(app)
    assert len(app.dataframe[0].value) == MOST_PAIRS
    assert "57 others" in spec_of(app)


def test_what_was_last_known_is_grey_when_the_store_is_away() -> None:
    is_down: list[bool] = []
    store = scenes.flaky(scenes.store_of("firing"), lambda: bool(is_down))
    app = run(scenes.source_of(store), "confusion")
    is_down.append(True)
    forget_what_was_read()
    app.run()
    assert "Redis is unreachable — last known values of 12:00:02 UTC" in notices(app)[0][1]
    assert LIGHT.unknown in spec_of(app)


def test_a_stale_matrix_says_so_and_one_never_read_is_hidden() -> None:
    old = scenes.source_of(scenes.store_of("firing"), age_ms=4 * MINUTE_MS)
    assert "Stale — no new window for 4 min." in notices(run(old, "confusion"))[0][1]

    def connect() -> MemoryStore:
        raise StoreError("redis://localhost:6379/0 does not answer.")

    app = run(Source(connect=connect, spec=SPEC, now_ms=lambda: NOON_MS), "confusion")
    assert "Redis is unreachable — live numbers are hidden." in notices(app)[0][1]
    assert not app.get("vega_lite_chart")


def test_what_fires_is_named_and_linked_whatever_is_compared() -> None:
    [link] = show("firing").get("page_link")
    assert link.proto.label.replace("\\", "").startswith("Alert ")
    assert "fine_tuned firing: urgent recall" in link.proto.label.replace("\\", "")
    assert link.proto.query_string.startswith("alert=")
    assert not show("ok").get("page_link")
