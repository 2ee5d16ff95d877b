"""What the panels beside the chart speak of while something fires."""

from dataclasses import replace

import pytest

from dashboards import banner, focus, queries
from dashboards.models import Choice, Route, Trend
from dashboards.views import live
from monitor.domain.alerts import Status
from monitor.domain.rules import AlertRule
from monitor.domain.scores import proportion
from monitor.domain.slices import ALL, SliceKey
from tests.dashboards import scenes
from tests.dashboards.scenes import NOON_MS, SPEC, URGENT
from tests.dashboards.test_pages import run

WELL = {("lost_card", "lost_card"): 29, ("lost_card", "fees"): 1}


def shown(variant: str = ALL) -> Trend:
    store, choice = scenes.store_of("firing"), Choice(variant, "urgent")
    return queries.trend(store, SPEC, choice, recent_ms=900_000, now_ms=NOON_MS)


def test_intents_are_those_of_the_variant_that_fires_since_its_evidence_began() -> None:
    view = shown()
    assert view.alert is not None
    assert view.whose == SliceKey("fine_tuned")
    assert view.intents == shown("fine_tuned").intents
    assert view.intents != shown("prompt").intents
    n = sum(row.recall.support for row in view.intents)
    assert sum(row.missed for row in view.intents) == view.missed < n


def test_intents_keep_their_places_while_numbers_move_a_little() -> None:
    #   below for sure: a, b by name, whoever has more misses; above: lost_card
    def order(a_missed: int, b_missed: int) -> list[str]:
        went = {**WELL, ("a", "x"): a_missed, ("b", "x"): b_missed}
        return [
            row.intent for row in focus.ways_of(went, frozenset({"a", "b", *URGENT}), 0.8).intents
        ]

    assert order(9, 8)[:3] == order(8, 9)[:3] == ["a", "b", "lost_card"]


def test_routes_say_how_many_misses_they_leave_out() -> None:
    went = {("lost_card", f"other_{number}"): 2 for number in range(7)}
    ways = focus.ways_of(went, URGENT, 0.8)
    assert (len(ways.routes), ways.missed) == (focus.ROUTES, 14)
    view = replace(shown(), routes=ways.routes, missed=ways.missed)
    assert live.routes_text(view) == "10 of 14 misses; the rest go elsewhere"
    one = replace(view, routes=(Route("lost_card", "fees", 1),), missed=1)
    assert live.routes_text(one) == "The only miss"
    assert live.routes_text(replace(view, missed=10)) == "All 10 misses"


@pytest.mark.parametrize(("variant", "part"), [("fine_tuned", ALL), ("fine_tuned", "channel=web")])
def test_the_numbers_are_those_of_the_alert_unless_another_variant_is_chosen(
    variant: str, part: str
) -> None:
    rule = AlertRule("r", "urgent", URGENT, 0.8)
    key = SliceKey(variant, part)
    alert = banner.AlertView(rule, key, Status.FIRING, 0, proportion(0, 9), 0)
    assert focus.key_of(alert, ALL) == focus.key_of(alert, variant) == key
    assert focus.key_of(alert, "prompt") == SliceKey("prompt")
    assert focus.key_of(None, ALL) == SliceKey(ALL)
    everyone = replace(alert, key=SliceKey(ALL))
    assert focus.key_of(everyone, "prompt") == SliceKey("prompt")


def test_a_slice_without_panes_is_counted_as_its_variant() -> None:
    store, window = scenes.store_of("firing"), shown().detail
    of_slice = focus.pieces_of(store, SPEC, SliceKey("fine_tuned", "channel=web"), window)
    assert of_slice == focus.pieces_of(store, SPEC, SliceKey("fine_tuned"), window)
    assert of_slice.keys == (SliceKey("fine_tuned"),)


def test_without_an_intent_below_the_objective_the_sentence_says_so() -> None:
    view = replace(shown(), intents=focus.ways_of(WELL, URGENT, 0.8).intents)
    assert live.worst_text(view) == "No intent is below the objective of 80%."
    empty = replace(view, intents=focus.ways_of({}, URGENT, 0.8).intents)
    assert live.worst_text(empty) == "No labelled urgent message is known in this time."
    broken = focus.ways_of({**WELL, ("report_fraud", "other"): 9}, URGENT, 0.8).intents
    assert live.worst_text(replace(view, intents=broken)) == (
        "Worst: report_fraud, 0 of 9 caught (0%). 1 of 2 below the objective of 80%."
    )


def test_a_link_to_another_page_takes_its_variant_along_and_widgets_keep_the_last_word() -> None:
    app = run(scenes.source_of(scenes.store_of("firing")), variant="prompt")
    app.query_params["variant"] = "fine_tuned"
    app.switch_page("screens/missed.py").run()
    assert app.selectbox(key="variant").value == "fine_tuned"
    app.selectbox(key="variant").select("prompt").run()
    assert app.selectbox(key="variant").value == "prompt"
