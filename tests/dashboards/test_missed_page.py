"""The page "Missed": whom it lists, who may do what, and that texts are seen once and by name."""

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards import identity, missed_queries, missed_tables, tables
from dashboards.missed_models import Missed, OfAlert, Order, Shown
from dashboards.models import Choice
from dashboards.source import Source
from dashboards.theme import Tone
from dashboards.views import missed as page
from monitor.adapters.memory import MemoryStore
from monitor.app.report import report_of
from monitor.app.settings import Settings
from monitor.domain.engine import Spec
from monitor.domain.errors import BrokerError, StoreError
from monitor.domain.misses import Miss
from monitor.domain.overlays import Action, Deed
from monitor.domain.verdict import VerdictLimits
from monitor.domain.windows import HOUR_MS, MINUTE_MS
from tests.dashboards import scenes
from tests.dashboards.scenes import NOON_MS, SPEC
from tests.dashboards.test_pages import cards, forget_what_was_read, notices, run

TITLE = "Whom did we fail, and are they handled?"
CHOICE = Choice(of="urgent")
TEXT = "My account is locked *and* I <b>must</b> pay today"


@pytest.fixture(autouse=True)
def nothing_is_known_yet() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def store() -> MemoryStore:
    """Three missed messages of two variants and a caught one, labelled a minute later."""
    chat = scenes.Chat()
    lost = [("lost_card", "fees", "prompt"), ("report_fraud", "other", "fine_tuned")]
    for number, (actual, predicted, variant) in enumerate([*lost, lost[0]]):
        at_ms = NOON_MS - (30 - 10 * number) * MINUTE_MS
        chat.message(at_ms, predicted=predicted, actual=actual, variant=variant)
    chat.message(NOON_MS - 8 * MINUTE_MS, predicted="lost_card", actual="report_fraud")
    return scenes.filled(chat)


@pytest.fixture
def ana(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "viewer", lambda: identity.Viewer("ana"))


def source_of(store: MemoryStore, **more: Any) -> Source:  # noqa: ANN401 - fields of Source
    """A dashboard that may act, and reads texts."""
    given = {"act": store.act, "text_of": lambda _: TEXT} | more
    return replace(scenes.source_of(store), **given)


def view(store: MemoryStore, choice: Choice = CHOICE, spec: Spec = SPEC) -> Missed:
    return missed_queries.missed(store, spec, choice, recent_ms=1, now_ms=NOON_MS)


def show(found: Source, **address: str) -> AppTest:
    return run(found, "missed", **address)


def handled(store: MemoryStore, miss: Miss, *, ticket: str = "", at_ms: int = NOON_MS) -> None:
    done = Action(f"h{at_ms}", Deed.HANDLE, at_ms, "bo", "", miss.reference, ticket=ticket)
    store.act(done)


def pressed(app: AppTest, label: str) -> AppTest:
    [button] = [button for button in app.button if button.label == label]
    return button.click().run()


def written(app: AppTest, label: str, text: str, at: int = 0) -> None:
    [*fields] = [field for field in app.text_input if field.label == label]
    fields[at].input(text)


def everything(app: AppTest) -> str:
    """All words of the page."""
    said = [str(getattr(each.proto, "body", "")) for each in app.main]
    return "\n".join([*said, *(each.value for each in app.code), *(t.value for t in app.text)])


# What is listed


def test_the_oldest_open_message_comes_first_and_handled_ones_last(store: MemoryStore) -> None:
    misses = store.misses()
    handled(store, misses[0], ticket="4711")
    found = view(store)
    assert [case.miss for case in found.cases] == [misses[1], misses[2], misses[0]]
    assert (len(found.open), len(found.handled)) == (2, 1)
    first = missed_tables.cases(found.cases, found.now_ms)[0]
    assert first["Waiting"] == "20 min"
    assert first["State"] == "▲ open"
    assert first["Text"] == missed_tables.MASKED


def test_the_misses_of_an_alert_are_those_of_its_variant_since_its_evidence_began() -> None:
    found = view(scenes.store_of("firing"))
    [alert] = found.alerts
    assert (alert.whose, alert.until_ms) == ("fine_tuned", None)
    mine = found.of_alert(alert).cases
    assert 0 < len(mine) < len(found.cases)
    assert {case.miss.variant for case in mine} == {"fine_tuned"}
    assert min(case.miss.event_ms for case in mine) >= alert.since_ms
    assert found.of_alert(None) is found


def test_an_alert_that_is_over_has_no_misses_of_the_time_after() -> None:
    over = OfAlert("a", "fine_tuned", "fine_tuned", NOON_MS - HOUR_MS, NOON_MS - 20 * MINUTE_MS)
    found = view(scenes.store_of("firing"))
    mine = found.of_alert(over).cases
    assert mine
    assert all(NOON_MS - HOUR_MS <= c.miss.event_ms < NOON_MS - 20 * MINUTE_MS for c in mine)


def test_the_address_of_an_alert_lists_its_misses_alone_and_says_so() -> None:
    store = scenes.store_of("firing")
    found = view(store)
    [alert] = found.alerts
    app = show(scenes.source_of(store), alert=alert.id)
    assert app.selectbox(key="alert").value == alert.id
    n = len(found.of_alert(alert).open)
    assert notices(app)[0][1].startswith(f"{n} missed urgent messages wait")
    said = f"Of alert {alert.id} on fine_tuned: sent since"
    assert any(text.startswith(said) for text in captions(app))


def captions(app: AppTest) -> list[str]:
    return [caption.value.replace("\\", "") for caption in app.caption]


def test_all_misses_are_listed_whatever_the_range_and_the_page_says_so(store: MemoryStore) -> None:
    said = "All missed urgent messages that are kept, all variants, whatever the range"
    assert any(text.startswith(said) for text in captions(show(source_of(store))))


def test_an_unknown_alert_lists_all_misses_and_is_named(store: MemoryStore) -> None:
    app = show(source_of(store), alert="00000000")
    said = "No alert 00000000 about urgent is known."
    assert any(text.startswith(said) for text in captions(app))
    assert len(app.dataframe[0].value) == 3


def test_the_newest_can_come_first(store: MemoryStore) -> None:
    found = view(store)
    assert found.listed(Shown.OPEN, None, Order.NEWEST) == found.open[::-1]
    app = show(source_of(store), order="newest first")
    times = list(app.dataframe[0].value["Time (UTC)"])
    assert times == sorted(times, reverse=True)


def test_the_table_stays_the_same_one_when_rows_change_and_none_is_marked(
    store: MemoryStore,
) -> None:
    app = show(source_of(store))
    before = app.dataframe[0].proto.id
    handled(store, store.misses()[0])
    forget_what_was_read()
    app.run()
    assert len(app.dataframe[0].value) == 2
    assert app.dataframe[0].proto.id == before


def test_updates_are_said_to_be_paused_while_a_message_is_open(store: MemoryStore) -> None:
    opened = show(source_of(store), miss=store.misses()[0].reference)
    assert page.PAUSED in captions(opened)
    assert page.PAUSED not in captions(show(source_of(store)))


def test_a_variant_an_intent_and_a_state_can_be_asked_for(store: MemoryStore) -> None:
    handled(store, store.misses()[0])
    of_prompt = view(store, Choice("prompt", "urgent"))
    assert {case.miss.variant for case in of_prompt.cases} == {"prompt"}
    found = view(store)
    assert [case.miss.actual for case in found.listed(Shown.OPEN, None)] == [
        "report_fraud", "lost_card",
    ]  # fmt: skip
    assert len(found.listed(Shown.OPEN, "lost_card")) == 1
    assert len(found.listed(Shown.ALL, "lost_card")) == 2
    assert len(found.listed(Shown.HANDLED, None)) == 1


@pytest.mark.parametrize("scene", ["firing", "recovering", "ok"])
def test_as_many_are_listed_as_the_report_of_that_moment_has(scene: str) -> None:
    store = scenes.store_of(scene)
    report: Any = report_of(store, SPEC, VerdictLimits())
    for variant in ("ALL", "fine_tuned", "prompt"):
        urgent = report["variants"][variant]["groups"]["urgent"]
        found = view(store, Choice(variant, "urgent"))
        assert len(found.cases) == urgent["support"] - urgent["hits"] > 0
        confused = report["variants"][variant]["confusion"]
        for (actual, predicted), n in counted(found).items():
            assert confused[actual][predicted] == n


def counted(found: Missed) -> dict[tuple[str, str], int]:
    ways: dict[tuple[str, str], int] = {}
    for case in found.cases:
        way = case.miss.actual, case.miss.predicted
        ways[way] = ways.get(way, 0) + 1
    return ways


def test_a_download_has_who_handled_it_and_no_text(store: MemoryStore) -> None:
    handled(store, store.misses()[0], ticket="=4711")
    found = view(store)
    rows = list(csv.DictReader(io.StringIO(
        tables.csv_of(missed_tables.download(found.cases, found.now_ms))
    )))  # fmt: skip
    assert [row["State"] for row in rows] == ["open", "open", "handled"]
    assert (rows[2]["Handled by"], rows[2]["Ticket"]) == ("bo", "'=4711")
    assert rows[0]["Time (UTC)"] == "2026-11-22T11:40:00Z"
    assert not any("Text" in row for row in rows)


# States


def test_an_empty_store_an_unlabelled_one_and_one_without_a_miss_say_so() -> None:
    expected = {
        "empty": (Tone.NEUTRAL, scenes.NOTHING_YET),
        "no_labels": (Tone.NEUTRAL, "No labels yet: nobody knows who was missed."),
        "caught": (Tone.OK, "No missed urgent message is known. 100 messages are labelled so far."),
    }
    for scene, said in expected.items():
        app = show(scenes.source_of(scenes.store_of(scene)))
        assert app.title[0].value == TITLE
        assert notices(app) == [said]
        assert not app.dataframe
        assert not app.metric


def test_how_many_wait_and_how_long_is_said_first(store: MemoryStore) -> None:
    app = show(source_of(store))
    [(tone, text)] = notices(app)
    assert tone is Tone.CRITICAL
    assert text.startswith("3 missed urgent messages wait for somebody, the oldest for 30 min.")
    assert "Sent 11:30 UTC: lost_card → fees · variant prompt" in text
    assert cards(app) == {
        "Open": "3", "Oldest open": "30 min", "Handled": "0", "Missed urgent": "3",
    }  # fmt: skip
    shown = app.dataframe[0].value
    assert list(shown["Sent to"]) == ["fees", "other", "fees"]


def test_it_is_good_news_when_all_are_handled(store: MemoryStore) -> None:
    for number, miss in enumerate(store.misses()):
        handled(store, miss, at_ms=NOON_MS - number)
    app = show(source_of(store))
    assert notices(app)[0] == (Tone.OK, "All 3 missed urgent messages handled.")
    assert "Nothing is listed with this choice." in notices(app)[1][1]
    app.radio("show").set_value("handled").run()
    assert len(app.dataframe[0].value) == 3


def test_a_name_that_is_no_group_has_no_list(store: MemoryStore) -> None:
    spec = replace(SPEC, rules=(replace(scenes.RULE, of="lost_card"),))
    app = show(replace(source_of(store), spec=spec), of="lost_card")
    assert (Tone.NEUTRAL, "lost_card is no declared group") in [
        (tone, text[:30]) for tone, text in notices(app)
    ]


def test_what_was_last_known_is_shown_when_the_store_is_away(store: MemoryStore) -> None:
    is_down: list[bool] = []
    found = replace(source_of(store), connect=lambda: scenes.flaky(store, lambda: bool(is_down)))
    app = show(found)
    is_down.append(True)
    forget_what_was_read()
    app.run()
    assert "Redis is unreachable — last known values of 12:00:02 UTC" in notices(app)[0][1]
    assert set(cards(app).values()) == {"–"}


def test_a_store_that_was_never_read_is_told() -> None:
    def connect() -> MemoryStore:
        raise StoreError("redis://localhost:6379/0 does not answer.")

    app = show(Source(connect=connect, spec=SPEC, now_ms=lambda: NOON_MS))
    assert "Redis is unreachable — live numbers are hidden." in notices(app)[0][1]
    assert not app.dataframe


# One message


def test_a_link_leads_to_a_message_and_stops_the_list(store: MemoryStore) -> None:
    miss = store.misses()[1]
    app = show(source_of(store), miss=miss.reference)
    assert [header.value for header in app.header] == ["The message"]
    words = everything(app)
    assert miss.prediction_id in words
    assert "11:41 UTC, by a label given 1.0 min after the message" in words
    assert app.selectbox("missed-one").value == miss.reference
    pressed(app, "Back to the list")
    assert not app.header


def test_an_unknown_message_is_told(store: MemoryStore) -> None:
    app = show(source_of(store), miss="0" * 16)
    assert (Tone.NEUTRAL, "No such missed message is known.") in [
        (tone, text[:32]) for tone, text in notices(app)
    ]


def test_a_message_can_be_chosen_without_pointing(store: MemoryStore) -> None:
    app = show(source_of(store))
    app.selectbox("missed-one").select(store.misses()[2].reference).run()
    assert [header.value for header in app.header] == ["The message"]
    assert app.query_params["miss"] == store.misses()[2].reference


def test_nobody_acts_without_a_name(store: MemoryStore) -> None:
    app = show(source_of(store), miss=store.misses()[0].reference)
    assert "You can only look at it" in "".join(text for _, text in notices(app))
    assert not app.text_input
    assert [button.label for button in app.button] == ["Back to the list"]
    assert TEXT not in everything(app)


@pytest.mark.usefixtures("ana")
def test_nobody_acts_on_a_dashboard_that_only_reads(store: MemoryStore) -> None:
    app = show(source_of(store, act=None), miss=store.misses()[0].reference)
    assert not app.text_input


@pytest.mark.usefixtures("ana")
def test_a_message_is_handled_with_a_ticket_and_opened_again(store: MemoryStore) -> None:
    miss = store.misses()[0]
    app = show(source_of(store), miss=miss.reference)
    written(app, "Ticket", "4711")
    written(app, "Note", "called back")
    pressed(app, "Mark as handled")
    [act] = store.actions()
    assert (act.deed, act.who, act.note, act.target, act.ticket) == (
        Deed.HANDLE, "ana", "called back", miss.reference, "4711",
    )  # fmt: skip
    assert cards(app)["Open"] == "2"
    assert "ana marked it as handled, ticket 4711: called back" in everything(app)
    written(app, "Reason", "the customer called again")
    pressed(app, "Open it again")
    assert [act.deed for act in store.actions()] == [Deed.HANDLE, Deed.REOPEN]
    assert cards(app)["Open"] == "3"


@pytest.mark.usefixtures("ana")
def test_a_text_is_shown_once_and_who_saw_it_and_why_is_entered(store: MemoryStore) -> None:
    miss = store.misses()[1]
    asked: list[Miss] = []

    def read(of: Miss) -> str:
        assert store.actions()[-1].deed is Deed.REVEAL
        asked.append(of)
        return TEXT

    app = show(source_of(store, text_of=read), miss=miss.reference)
    assert TEXT not in everything(app)
    written(app, "Reason", "complaint 12")
    pressed(app, "Show the text")
    assert [code.value for code in app.code] == [TEXT]
    [act] = store.actions()
    assert (act.deed, act.who, act.note, act.target) == (
        Deed.REVEAL, "ana", "complaint 12", miss.reference,
    )  # fmt: skip
    assert "ana looked at the text: complaint 12" in everything(app)
    app.run()
    assert TEXT not in everything(app)
    assert asked == [miss]
    assert TEXT not in str(app.session_state)


@pytest.mark.usefixtures("ana")
def test_without_a_reason_nothing_is_entered_nor_shown(store: MemoryStore) -> None:
    app = show(source_of(store), miss=store.misses()[1].reference)
    pressed(app, "Show the text")
    assert (Tone.WARNING, "Not entered: reason must not be empty.") in notices(app)
    assert store.actions() == []
    assert TEXT not in everything(app)


@pytest.mark.usefixtures("ana")
def test_a_text_is_not_shown_when_it_cannot_be_entered(store: MemoryStore) -> None:
    def refuse(_: Action) -> None:
        raise StoreError("redis://localhost:6379/0 does not answer.")

    app = show(source_of(store, act=refuse), miss=store.misses()[1].reference)
    written(app, "Reason", "complaint 12")
    pressed(app, "Show the text")
    said = "Not entered, and not shown: the store failed. redis://localhost:6379/0 does not answer."
    assert (Tone.CRITICAL, said) in notices(app)
    assert TEXT not in everything(app)


@pytest.mark.usefixtures("ana")
@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "The log no longer has this message."),
        ("", "The record has no text: none was sent with it."),
        (BrokerError("localhost:9092 does not answer"), "The log or its archive cannot be read."),
    ],
)
def test_why_there_is_no_text_is_told(store: MemoryStore, found: object, said: str) -> None:
    def read(_: Miss) -> str | None:
        if isinstance(found, Exception):
            raise found
        assert found is None or isinstance(found, str)
        return found

    app = show(source_of(store, text_of=read), miss=store.misses()[1].reference)
    written(app, "Reason", "complaint 12")
    pressed(app, "Show the text")
    assert any(text.startswith(said) for _, text in notices(app))


@pytest.mark.usefixtures("ana")
def test_that_neither_log_nor_archive_has_a_message_is_told_where_there_is_an_archive(
    store: MemoryStore,
) -> None:
    settings = Settings.model_validate({"dashboard": {"archive": "/var/lib/archive"}})
    found = source_of(store, text_of=lambda _: None, settings=settings)
    app = show(found, miss=store.misses()[1].reference)
    written(app, "Reason", "complaint 12")
    pressed(app, "Show the text")
    said = "Neither the log nor the archive has this message."
    assert any(text.startswith(said) for _, text in notices(app))


def test_a_second_click_on_the_same_picture_is_the_same_deed(store: MemoryStore) -> None:
    case = view(store).cases[0]
    first = page.id_of(case, "ana", is_reveal=False)
    assert page.id_of(case, "ana", is_reveal=False) == first
    others = {page.id_of(case, "bo", is_reveal=False), page.id_of(case, "ana", is_reveal=True)}
    handled(store, case.miss)
    [done] = view(store).handled
    others.add(page.id_of(done, "ana", is_reveal=False))
    assert len(others - {first}) == 3
