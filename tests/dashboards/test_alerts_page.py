"""The page "Alerts" in each state, through Streamlit's own script runner, over the memory store."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import alerts_queries, identity
from dashboards.alerts_models import AlertsView
from dashboards.alerts_tables import trail_csv, trail_json
from dashboards.identity import Viewer
from dashboards.models import Choice
from dashboards.theme import Tone
from dashboards.views import alerts as alerts_view
from monitor.adapters.memory import MemoryStore
from monitor.domain.engine import Spec
from monitor.domain.errors import StoreError
from monitor.domain.events import Partition
from monitor.domain.ledger import Gap
from monitor.domain.overlays import Action, Deed
from monitor.domain.windows import HOUR_MS, MINUTE_MS
from tests.dashboards import scenes, told
from tests.dashboards.scenes import NOON_MS
from tests.dashboards.test_pages import forget_what_was_read, notices, run

TITLE = "What needs a human?"
ACK = Action(
    "a1", Deed.ACKNOWLEDGE, NOON_MS - MINUTE_MS, "ana", "rolling back", f"{told.name('a')}-2"
)
MATCHERS = (("rule", told.RULE.name), ("slice", "ALL"), ("variant", "a"))
SILENCE = Action(
    "5e0c9a11", Deed.SILENCE, NOON_MS - MINUTE_MS, "bo", "retraining", "", MATCHERS,
    NOON_MS + HOUR_MS,
)  # fmt: skip


@pytest.fixture
def ana(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "viewer", lambda: Viewer("ana"))


def show(store: MemoryStore, *, age_ms: int = 2_000, **address: str) -> AppTest:
    return run(told.source_of(store, age_ms=age_ms), "alerts", **address)


def view_of(store: MemoryStore, *, spec: Spec = told.SPEC) -> AlertsView:
    return alerts_queries.alerts(store, spec, Choice(), recent_ms=1, now_ms=NOON_MS + 2_000)


def html(app: AppTest) -> list[str]:
    return [element.proto.body for element in app.get("html")]


def text(app: AppTest) -> str:
    return "\n".join(html(app))


def headings(app: AppTest) -> list[str]:
    """Ids of the cards from the top of the page down."""
    found = [body for body in html(app) if body.startswith("<h2")]
    return [body.partition(">")[2].partition(" ")[0] for body in found]


def badges(app: AppTest) -> list[str]:
    shown = [mark.value for mark in app.markdown if "-badge[" in mark.value]
    return [value.partition("] ")[2].partition("]")[0] or value for value in shown]


def buttons(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


# What needs somebody, and in which order


def test_cards_stand_in_the_order_of_need() -> None:
    store = told.store_of({
        "well": told.WELL, "resolved": told.RESOLVED, "warned": told.WARNED,
        "recovers": told.RECOVERS, "fired": told.FIRED, "long-over": told.LONG_OVER,
    })  # fmt: skip
    in_order = ["fired", "recovers", "warned", "resolved"]
    assert headings(show(store)) == [told.name(variant) for variant in in_order]


def test_a_card_says_state_rule_value_interval_since_and_that_nobody_has_it() -> None:
    app = show(told.store_of({"a": told.FIRED}))
    assert app.title[0].value == TITLE
    assert "urgent recall below 80%" in text(app)
    assert (
        "a firing: urgent recall 45.0% over its last 20 mature labels (95% interval 26–66%)"
        in text(app)
    )
    assert "Firing since 11:40 UTC, for 20 min" in text(app)
    assert "Not acknowledged" in text(app)


def test_a_card_says_who_has_taken_it_on() -> None:
    store = told.store_of({"a": told.FIRED})
    store.act(ACK)
    app = show(store)
    assert "Acknowledged by ana at 11:59 UTC: rolling back" in text(app)
    assert "Not acknowledged" not in text(app)


def test_a_silenced_alert_stands_behind_what_nobody_has_silenced() -> None:
    store = told.store_of({"a": told.FIRED, "b": told.RECOVERS})
    store.act(SILENCE)
    app = show(store)
    assert headings(app) == [told.name("b"), told.name("a")]
    assert "Silenced by bo until 13:00 UTC: retraining" in text(app)
    assert "Silences that hold" in [header.value for header in app.header]
    assert "rule urgent-recall, slice ALL, variant a · until 13:00 UTC · by bo" in text(app)


def test_a_silence_for_planned_work_is_listed_though_nothing_is_up() -> None:
    store = told.store_of({"a": told.WELL})
    store.act(SILENCE)
    app = show(store)
    assert headings(app) == []
    assert "5e0c9a11" in text(app)


def test_a_stalled_alert_stands_among_those_without_data() -> None:
    store = told.store_of({"a": told.WELL, "b": told.WELL}, stalled="b")
    app = show(store)
    assert headings(app) == [told.name("b")]
    assert "OK, but stalled" in text(app)
    assert notices(app)[0][0] is Tone.NEUTRAL


def test_a_rule_that_saw_no_label_has_no_data() -> None:
    app = show(told.store_of({}))
    assert len(headings(app)) == 1
    assert "No data: no mature urgent label yet, objective 80%." in text(app)


def test_a_signal_that_warns_is_an_alert() -> None:
    app = run(scenes.source_of(scenes.store_of("calm"), spec=scenes.WATCHED), "alerts")
    assert len(headings(app)) == 2
    assert "latency p95 warns above 120 ms" in text(app)
    assert "fine_tuned warning: 95% were answered within 1" in text(app)


def test_what_was_resolved_says_who_had_it() -> None:
    store = told.store_of({"a": told.RESOLVED})
    store.act(ACK)
    assert "Was acknowledged by ana at 11:59 UTC" in text(show(store))


# Nothing is up


def test_a_calm_page_says_what_was_last_and_how_fresh_that_is() -> None:
    app = show(told.store_of({"a": told.RESOLVED}))
    assert (
        Tone.OK,
        f"Nothing is firing. Last alert {told.name('a')} resolved 11:30 UTC. "
        "Rules evaluated up to 12:00:00 UTC. A worker reported 2 s ago.",
    ) in notices(app)


def test_a_calm_page_is_not_green_when_it_is_stale() -> None:
    shown = notices(show(told.store_of({"a": told.WELL}), age_ms=240_000))
    assert Tone.OK not in [tone for tone, _ in shown]
    assert any(text.startswith("Stale — no new window for 4 min.") for _, text in shown)
    assert any(text.startswith("Last known state: nothing is firing.") for _, text in shown)


def test_a_calm_page_is_not_green_when_records_were_lost() -> None:
    store = told.store_of({"a": told.WELL})
    scenes.lose(store, Gap(Partition("predictions", 0), 100, 1_000))
    shown = notices(show(store))
    assert Tone.OK not in [tone for tone, _ in shown]
    assert any(text.startswith("As far as counted: nothing is firing.") for _, text in shown)


def test_a_page_without_rules_says_what_to_add() -> None:
    app = run(told.source_of(told.store_of({}), spec=Spec()), "alerts")
    assert "Nothing is watched yet." in [text.partition(" Add")[0] for _, text in notices(app)]


def test_an_empty_store_says_so() -> None:
    shown = notices(show(MemoryStore()))
    assert any(text.startswith("No windows yet.") for _, text in shown)
    assert Tone.OK not in [tone for tone, _ in shown]


def test_a_lost_store_leaves_what_was_last_known_and_no_buttons(ana: None) -> None:
    down: list[bool] = []
    store = told.store_of({"a": told.FIRED})
    found = told.source_of(store)
    app = run(replace(found, connect=lambda: scenes.flaky(store, lambda: bool(down))), "alerts")
    assert "Acknowledge…" in buttons(app)
    down.append(True)
    forget_what_was_read()
    app.run()
    assert notices(app)[0][1].startswith("Redis is unreachable — last known values of 12:00:02")
    assert headings(app) == [told.name("a")]
    assert "Acknowledge…" not in buttons(app)


def test_a_store_that_never_answered_shows_no_card() -> None:
    def refuse() -> MemoryStore:
        raise StoreError("redis://localhost:6379/0 does not answer.")

    app = run(replace(told.source_of(MemoryStore()), connect=refuse), "alerts")
    assert notices(app)[0][1].startswith("Redis is unreachable — live numbers are hidden.")
    assert headings(app) == []


# The address


@pytest.mark.parametrize("mark", ["", "-2"])
def test_the_alert_of_the_address_is_shown_though_it_is_well(mark: str) -> None:
    store = told.store_of({"a": told.FIRED, "b": told.LONG_OVER})
    app = show(store, alert=f"{told.name('b')}{mark}")
    assert headings(app) == [told.name("a"), told.name("b")]
    assert any(f".st-key-alert-{told.name('b')}" in body for body in html(app))


def test_an_unknown_alert_is_told_with_the_known_ones() -> None:
    app = show(told.store_of({"a": told.FIRED}), alert="<script>x")
    shown = [text for tone, text in notices(app) if tone is Tone.WARNING]
    assert shown == [f"There is no alert <script>x. Known are: {told.name('a')}."]
    assert not [body for body in html(app) if "<script>x" in body]


# Who may act


def test_without_a_name_there_are_no_buttons_and_the_reason_is_told() -> None:
    app = show(told.store_of({"a": told.FIRED}))
    assert buttons(app) == []
    assert any(
        text.startswith("You can look, but not act. The settings do not say how viewers are known")
        for _, text in notices(app)
    )


def test_a_dashboard_that_only_reads_says_so() -> None:
    store = told.store_of({"a": told.FIRED})
    app = run(scenes.source_of(store, spec=told.SPEC), "alerts")
    assert buttons(app) == []
    assert any("set dashboard.identity" in text for _, text in notices(app))


def test_the_command_that_is_shown_works_as_it_stands() -> None:
    app = show(told.store_of({"a": told.FIRED}))
    [code] = [each.value for each in app.code]
    assert code == f'recallwatch alerts ack {told.name("a")} --note "looking into it"'
    said = alerts_view.acknowledgement_command("0f1e2d3c", Path("/etc/my settings.yaml"))
    assert said.endswith("--config '/etc/my settings.yaml'")


def test_a_card_leads_to_its_missed_messages_and_to_its_variant() -> None:
    app = show(told.store_of({"a": told.FIRED}))
    links = {link.proto.label: link.proto.query_string for link in app.get("page_link")}
    assert links["Missed messages"] == f"alert={told.name('a')}&variant=a&of=urgent"
    assert links["Charts of a"] == "variant=a&of=urgent"
    assert links["Replay"].endswith("&variant=a&of=urgent")


def test_a_viewer_who_can_log_in_is_offered_that(monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = Viewer(None, "You are not logged in.", can_log_in=True)
    monkeypatch.setattr(identity, "viewer", lambda: stranger)
    assert buttons(show(told.store_of({"a": told.FIRED}))) == ["Log in"]


def test_a_known_viewer_has_the_buttons_that_make_sense(ana: None) -> None:
    store = told.store_of({"a": told.FIRED, "b": told.RESOLVED})
    app = show(store)
    assert buttons(app) == ["Acknowledge…", "Silence…"]
    assert "What you do here is entered as <b>ana</b>." in text(app)
    store.act(ACK)
    store.act(SILENCE)
    forget_what_was_read()
    app.run()
    assert buttons(app) == ["End silence…", "End…"]


def test_a_button_opens_a_dialog_that_says_what_is_asked_for(ana: None) -> None:
    app = show(told.store_of({"a": told.FIRED}))
    app.button(key=f"silence-{told.name('a')}").click().run()
    assert not app.exception
    assert "Mutes rule urgent-recall, variant a, slice ALL." in text(app)
    assert [radio.options for radio in app.radio] == [["30 min", "1 h", "4 h"]]


# What people did


def test_the_trail_has_the_newest_act_first_and_keeps_names_harmless() -> None:
    store = told.store_of({"a": told.FIRED})
    store.act(ACK)
    store.act(replace(SILENCE, who="=cmd()|bo\n"))
    rows = show(store).dataframe[0].value
    assert list(rows["Action"]) == ["silenced", "acknowledged"]
    assert list(rows["Who"]) == ["=cmd()|bo", "ana"]
    assert rows["About"][1] == f"{told.name('a')} urgent-recall (a)"
    written = trail_csv(view_of(store).trail).splitlines()
    assert written[0] == "Time (UTC),Who,Action,About,Reason,Until (UTC),Id"
    assert written[1].startswith("2026-11-22T11:59:00Z,'=cmd()|bo,silenced,")


def test_the_trail_as_json_is_what_the_command_line_has() -> None:
    store = told.store_of({"a": told.FIRED})
    store.act(ACK)
    [entry] = json.loads(trail_json(view_of(store).trail))
    assert (entry["deed"], entry["who"], entry["note"]) == ("acknowledge", "ana", "rolling back")
    assert entry["at"] == "2026-11-22T11:59:00.000Z"


def test_a_page_on_which_nobody_has_acted_says_so() -> None:
    captions = [caption.value for caption in show(told.store_of({"a": told.FIRED})).caption]
    assert "Nobody has acknowledged or silenced anything yet." in captions


def test_names_from_outside_are_no_markup() -> None:
    app = show(told.store_of({"<i>x</i>": told.FIRED}))
    assert "&lt;i&gt;x&lt;/i&gt; firing" in text(app)
    assert "<i>x</i>" not in text(app)
