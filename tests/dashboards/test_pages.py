"""Each page in each state, through Streamlit's own script runner, over the memory store."""

from dataclasses import replace
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Caption

import dashboards
from dashboards import source
from dashboards.source import Source
from dashboards.theme import Tone
from dashboards.views.live import estimate_text
from monitor.adapters.memory import MemoryStore
from monitor.app.settings import SettingsError
from monitor.domain.engine import Changes, Spec
from monitor.domain.errors import StoreError
from monitor.domain.events import Partition
from monitor.domain.ledger import Gap
from monitor.domain.rules import AlertRule
from monitor.domain.scores import proportion
from monitor.domain.signals import SignalState
from monitor.domain.slices import Groups
from monitor.ports import Heartbeat
from tests.dashboards import scenes

APP = Path(dashboards.__file__).with_name("app.py")
LIVE = "Is urgent traffic being caught right now?"
_NOTICES = {"error", "warning", "success", "info"}
LABELS = "How much do we know, and how late?"


def show(scene: str, page: str = "live", *, age_ms: int = 2_000) -> AppTest:
    spec = scenes.spec_of(scene)
    return run(scenes.source_of(scenes.store_of(scene), age_ms=age_ms, spec=spec), page)


def run(found: Source, page: str = "live", **address: str) -> AppTest:
    source.use(found)
    app = AppTest.from_file(str(APP), default_timeout=60)
    for name, value in address.items():
        app.query_params[name] = value
    app.run()
    if page != "live":
        app.switch_page(f"screens/{page}.py").run()
    assert not app.exception
    return app


def forget_what_was_read() -> None:
    """As if the freshness of all that was read had run out."""
    st.cache_data.clear()


def notices(app: AppTest) -> list[tuple[Tone, str]]:
    """Tone and text of every notice, in the order of their tones."""
    shown = [
        (tone, f"{notice.proto.title} {notice.value}".replace("\\", ""))
        for tone, notices in (
            (Tone.CRITICAL, app.error),
            (Tone.WARNING, app.warning),
            (Tone.OK, app.success),
            (Tone.NEUTRAL, app.info),
        )
        for notice in notices
    ]
    return [(tone, text.strip()) for tone, text in shown]


def titles(app: AppTest) -> list[str]:
    """Titles of the notices from the top of the page down."""
    shown = [element.proto for element in app.main if element.type in _NOTICES]
    return [proto.title.replace("\\", "") for proto in shown]


def cards(app: AppTest) -> dict[str, str]:
    return {card.label: card.value for card in app.metric}


def detail(app: AppTest) -> str:
    """Whose numbers the panels beside the chart are, and since when."""
    captions = [caption.value.replace("\\", "") for caption in app.caption]
    [said] = [text for text in captions if "the start of the evidence of alert" in text]
    return said


def test_live_says_that_there_are_no_windows_when_the_store_is_empty() -> None:
    app = show("empty")
    assert app.title[0].value == LIVE
    assert notices(app) == [
        (
            Tone.NEUTRAL,
            "No windows yet. The first appears about 60 s after start. No worker has reported yet: "
            "start one with recallwatch run.",
        )
    ]
    assert not app.metric


def test_live_says_how_long_the_workers_are_silent_when_there_is_no_window_yet() -> None:
    store = MemoryStore()
    store.beat(Heartbeat("worker-1", scenes.NOON_MS, lag=0, records=0))
    fresh, silent = (
        notices(run(scenes.source_of(store, age_ms=age_ms)))[0][1] for age_ms in (2_000, 600_000)
    )
    assert fresh == "No windows yet. The first appears about 60 s after start."
    assert silent.endswith("No worker has reported for 10 min: start one with recallwatch run.")


def test_live_names_the_day_of_numbers_that_are_older_than_this_one() -> None:
    app = show("ok", age_ms=26 * 3_600_000)
    assert "Everything below describes 2026-11-22 12:00 UTC, not now." in notices(app)[0][1]
    assert r"newest record 2026-11-22 12\:00\:00 UTC" in [c.value for c in app.caption]
    assert r"newest record 12\:00\:00 UTC" in [c.value for c in show("ok").caption]


def test_live_shows_a_dash_and_the_coverage_when_there_are_no_labels() -> None:
    app = show("no_labels")
    assert [tone for tone, _ in notices(app)] == [Tone.NEUTRAL]
    assert notices(app)[0][1].startswith("No data: no mature urgent label yet")
    assert cards(app)["Urgent recall, 15 min"] == "–"
    assert cards(app)["Missed urgent, 15 min"] == "–"
    [labels_in] = [card for card in app.metric if card.label == "Labels in, 15 min"]
    assert (labels_in.value, labels_in.delta) == ("0%", "0 of 1\u202f072 labelled")


def test_live_gives_no_verdict_when_there_are_few_labels() -> None:
    app = show("few_labels")
    [(tone, text)] = notices(app)
    assert tone is Tone.NEUTRAL
    assert text.startswith("OK so far, too few labels (n=12): urgent recall 100.0%")
    assert cards(app)["Urgent recall, 15 min"] == "100.0%"


def test_what_is_drawn_again_fades_only_when_it_is_long_in_coming() -> None:
    styles = [element.proto.body for element in show("ok").get("html")]
    assert any("[data-stale=true] { transition-delay: 5s" in style for style in styles)


def test_live_is_green_when_all_is_well() -> None:
    app = show("ok")
    [(tone, text)] = notices(app)
    assert tone is Tone.OK
    assert text.startswith("OK: urgent recall 9")
    assert "all variants, last 30 min" in [caption.value for caption in app.caption]


def test_live_says_why_when_an_alert_is_firing() -> None:
    app = show("firing")
    [(tone, text)] = notices(app)
    assert tone is Tone.CRITICAL
    assert text.startswith("fine_tuned firing: urgent recall ")
    assert "objective 80%" in text
    assert "when it fired: 65 of the last 100 mature urgent labels were hits" in text
    assert "Not acknowledged: nobody has taken it on\n\n" in text
    assert text.endswith("\n- rule urgent-recall")
    since = text.partition("begins with predictions of ")[2].partition("\n")[0]
    assert detail(app).startswith(f"fine_tuned since {since}, the start of the evidence of alert ")
    assert len(app.get("vega_lite_chart")) == 3
    assert len(app.metric) == 6


def test_live_says_which_intents_broke_in_a_sentence() -> None:
    app = show("firing")
    written = [each.value.replace("\\", "") for each in app.markdown]
    [said] = [text for text in written if text.startswith("Worst: ")]
    first, second = said.removeprefix("Worst: ").split("; ")[:2]
    assert {first.partition(",")[0], second.partition(",")[0]} == {"report_fraud", "account_locked"}
    assert " caught (" in first
    assert "below the objective of 80%." in said


def test_live_speaks_of_the_variant_that_fires_unless_another_is_chosen() -> None:
    found = scenes.source_of(scenes.store_of("firing"))
    assert detail(run(found)).startswith("fine_tuned since ")
    asked = detail(run(found, variant="prompt"))
    assert asked.startswith("prompt since ")
    assert asked.endswith(" on fine_tuned")


def test_live_says_whose_the_tiles_are_while_an_alert_of_one_variant_fires() -> None:
    captions = [caption.value.replace("\\", "") for caption in show("firing").caption]
    assert (
        "Tiles: all variants, the last 15 min. The alert: fine_tuned, all its evidence." in captions
    )
    assert not [c.value for c in show("ok").caption if c.value.startswith("Tiles")]


def test_live_says_how_much_of_what_fires_is_labelled_and_that_it_is_enough() -> None:
    [(_, text)] = notices(show("firing"))
    assert "of its requests since 11:" in text
    assert "enough, the alert does not need the rest" in text


def test_live_leads_to_the_misses_of_what_fires_from_banner_and_tile() -> None:
    links = {each.proto.label: each.proto.query_string for each in show("firing").get("page_link")}
    assert links["See whom"].startswith("alert=")
    assert links["See whom"].endswith("&variant=fine_tuned&of=urgent")
    assert links["Its missed messages"] == links["See whom"]
    calm = {each.proto.label: each.proto.query_string for each in show("ok").get("page_link")}
    assert calm == {"See whom": ""}


def test_a_link_takes_along_what_the_sidebar_says() -> None:
    found = scenes.source_of(scenes.store_of("firing"))
    app = run(found, variant="prompt", range="6h", live="false")
    links = {each.proto.label: each.proto for each in app.get("page_link")}
    assert links["Its missed messages"].query_string.endswith(
        "&variant=fine_tuned&of=urgent&range=6h&live=false"
    )
    [alert] = [link for label, link in links.items() if label.startswith("Alert ")]
    assert alert.query_string.endswith("&variant=prompt&range=6h&live=false")


def test_a_tile_that_has_not_changed_has_no_arrow() -> None:
    chat = scenes.Chat()
    for ago_min in (65, 5):
        at_ms = scenes.NOON_MS - ago_min * 60_000
        chat.many(40, at_ms, predicted="lost_card", actual="lost_card")
    tiles = {tile.label: tile.proto for tile in run(scenes.source_of(scenes.filled(chat))).metric}
    for name in ("Urgent recall, 15 min", "Accuracy, 15 min", "Missed urgent, 15 min"):
        assert tiles[name].delta == "no change"
        assert tiles[name].direction == tiles["Data age"].direction
    assert tiles["Missed urgent, 15 min"].delta_description == "vs 1 h before"


def test_live_says_who_has_taken_on_what_fires_and_which_signals_warn() -> None:
    (red, fires), (yellow, signals) = notices(show("acknowledged"))
    assert (red, yellow) == (Tone.CRITICAL, Tone.WARNING)
    assert fires.startswith("fine_tuned firing: urgent recall ")
    assert "Acknowledged by ana at 12:00 UTC: rolling back\n\n- Firing since 11:" in fires
    assert "evidence this strong would turn up less than once in 36\u202f000 labels" in fires
    assert signals.startswith("2 signals warn. ")
    assert "fine_tuned warning: 95% were answered within 1" in signals
    assert "rule slow-answers" in signals


def test_live_warns_of_what_is_degraded_though_silenced() -> None:
    (tone, text), _ = notices(show("degraded"))
    assert tone is Tone.WARNING
    assert text.startswith("fine_tuned warning, degraded vs baseline: urgent recall 8")
    assert "Silenced by bo until 14:00 UTC: retraining · not acknowledged: " in text
    assert "\n\n- Warning since " in text


def test_live_tells_a_silence_no_more_when_its_time_is_over() -> None:
    late_ms = 2 * 3_600_000
    (_, before), _ = notices(show("degraded", age_ms=2_000))
    assert "Silenced by bo" in before
    after = notices(show("degraded", age_ms=late_ms))
    assert not [text for _, text in after if "Silenced" in text]


def test_live_tells_what_fires_first_when_the_chosen_variant_is_ok() -> None:
    app = run(scenes.source_of(scenes.store_of("firing")), variant="prompt")
    red, green = titles(app)
    assert red.startswith("fine_tuned firing: urgent recall ")
    assert green.startswith("OK: urgent recall ")


def test_live_tells_what_fires_first_when_no_rule_watches_the_group() -> None:
    spec = Spec(
        groups=Groups({"urgent": scenes.URGENT, "money": frozenset({"fees"})}), rules=(scenes.RULE,)
    )
    app = run(scenes.source_of(scenes.store_of("firing"), spec=spec), of="money")
    red, grey = titles(app)
    assert red.startswith("fine_tuned firing: urgent recall ")
    assert grey.startswith("No rule watches money")


def test_live_shows_accuracy_beside_recall_by_the_same_rules() -> None:
    names = list(cards(show("ok")))
    assert names[:3] == ["Urgent recall, 15 min", "Accuracy, 15 min", "Missed urgent, 15 min"]
    assert cards(show("no_labels"))["Accuracy, 15 min"] == "–"
    few = show("few_labels")
    assert cards(few)["Accuracy, 15 min"] == "100.0%"
    captions = [caption.value for caption in few.caption]
    assert captions.count(r"all variants\: 95% interval 76–100%, too few labels (n=12)") == 2


def test_live_says_when_it_resolves_when_an_alert_is_recovering() -> None:
    [(tone, text)] = notices(show("recovering"))
    assert tone is Tone.WARNING
    assert text.startswith("fine_tuned recovering: urgent recall ")
    assert "resolves at" in text


LOST = Gap(Partition("predictions", 0), 100, 1_000)


def test_live_says_which_records_were_lost_and_is_not_green() -> None:
    store = scenes.lose(scenes.filled(scenes.calm()), LOST)
    (lost, title), (state, known) = notices(run(scenes.source_of(store)))
    assert (lost, state) == (Tone.CRITICAL, Tone.NEUTRAL)
    assert title.startswith("Numbers are incomplete: predictions[0]@100-999 lost.")
    assert known.startswith("As far as counted: OK")


def test_live_tells_what_fires_before_what_was_lost() -> None:
    app = run(scenes.source_of(scenes.lose(scenes.filled(scenes.incident()), LOST)))
    fires, lost = titles(app)
    assert fires.startswith("fine_tuned firing")
    assert lost.startswith("Numbers are incomplete")


def test_live_says_which_records_were_lost_when_there_are_no_windows_yet() -> None:
    app = run(scenes.source_of(scenes.lose(MemoryStore(), LOST)))
    assert titles(app) == [
        "No windows yet.",
        "Numbers are incomplete: predictions[0]@100-999 lost.",
    ]


def test_live_is_never_green_when_it_is_stale() -> None:
    app = show("ok", age_ms=240_000)
    (warned, stale), (state, known) = notices(app)
    assert (warned, state) == (Tone.WARNING, Tone.NEUTRAL)
    assert stale == (
        "Stale — no new window for 4 min. Everything below describes 12:00 UTC, not now."
    )
    assert known.startswith("Last known state: OK")
    assert cards(app)["Data age"] == "4 min"


def test_live_says_that_no_alert_can_fire_when_it_is_stale_for_long() -> None:
    told = notices(show("ok", age_ms=400_000))
    assert told[0][0] is Tone.CRITICAL
    assert "No alert can fire until a worker runs again." in told[0][1]


def test_live_keeps_the_last_known_values_when_the_store_goes_away() -> None:
    down: list[bool] = []
    store = scenes.flaky(scenes.store_of("few_labels"), lambda: bool(down))
    app = run(scenes.source_of(store))
    down.append(True)
    forget_what_was_read()
    app.run()
    assert not app.exception
    [(tone, text)] = notices(app)
    assert tone is Tone.CRITICAL
    assert text.startswith("Redis is unreachable — last known values of 12:00:02 UTC.")
    assert "redis://localhost:6379/0 does not answer" in text
    assert set(cards(app).values()) == {"–"}
    assert "last known 100.0%" in [caption.value for caption in app.caption]
    assert len(app.get("vega_lite_chart")) == 3
    down.clear()
    forget_what_was_read()
    app.run()
    assert cards(app)["Urgent recall, 15 min"] == "100.0%"


def test_live_hides_its_numbers_when_the_store_never_answered() -> None:
    def refuse() -> MemoryStore:
        raise StoreError("redis://localhost:6379/0 does not answer.")

    found = Source(connect=refuse, spec=scenes.SPEC, now_ms=lambda: scenes.NOON_MS)
    for page in ("live", "labels"):
        app = run(found, page)
        [(tone, text)] = notices(app)
        assert tone is Tone.CRITICAL
        assert text.startswith("Redis is unreachable — live numbers are hidden.")
        assert not app.metric


def test_live_says_what_to_add_when_nothing_is_watched() -> None:
    app = run(scenes.source_of(scenes.filled(scenes.Chat(), Spec()), spec=Spec()))
    assert "Nothing is watched yet." in notices(app)[0][1]
    assert "rules:" in app.code[0].value


def test_live_shows_the_number_when_no_rule_watches_the_group() -> None:
    spec = Spec(groups=scenes.SPEC.groups)
    app = run(scenes.source_of(scenes.filled(scenes.hardly_labelled(), spec), spec=spec))
    assert notices(app)[0][1].startswith("No rule watches urgent: urgent recall 100.0%")


def test_the_address_decides_what_is_shown() -> None:
    found = scenes.source_of(scenes.store_of("few_labels"))
    app = run(found, variant="prompt", range="24h", live="false")
    assert app.selectbox(key="variant").value == "prompt"
    assert app.session_state["range"] == "24h"
    assert app.toggle(key="live").value is False


def test_what_is_watched_can_be_chosen_when_there_are_several() -> None:
    fees = frozenset({"fees"})
    spec = Spec(
        groups=Groups({"money": fees, "urgent": scenes.URGENT}),
        rules=(scenes.RULE, AlertRule("money-recall", "money", fees, 0.5)),
    )
    app = run(scenes.source_of(scenes.filled(scenes.hardly_labelled(), spec), spec=spec))
    assert app.selectbox(key="of").options == ["urgent", "money"]
    app.selectbox(key="of").select("money").run()
    assert app.title[0].value == "Is money traffic being caught right now?"
    assert "Missed money, 15 min" in cards(app)


def test_variants_can_be_chosen_once_they_are_known() -> None:
    assert show("ok").selectbox(key="variant").options == ["ALL", "fine_tuned", "prompt"]


def test_names_from_outside_are_no_markup() -> None:
    chat = scenes.Chat()
    variant = "<b>*x*</b> :red[y] $z$"
    for number in range(40):
        at_ms = scenes.NOON_MS - 300_000 + number
        chat.message(at_ms, predicted="<i>", actual="lost_card", variant=variant)
    app = run(scenes.source_of(scenes.filled(chat)))
    [notice] = app.error
    assert r"\<b\>\*x\*\</b\> \:red\[y\] \$z\$ firing" in notice.proto.title
    assert not [element for element in app.main.get("html") if "<i>" in element.proto.body]


def test_labels_says_that_there_are_no_windows_when_the_store_is_empty() -> None:
    app = show("empty", "labels")
    assert app.title[0].value == LABELS
    assert notices(app)[0][1].startswith("No windows yet. The first appears about 60 s after")


def test_labels_says_so_when_there_are_none() -> None:
    app = show("no_labels", "labels")
    assert notices(app)[0][1].startswith("No labels yet: 0 of 1\u202f072 labelled")
    assert cards(app)["Label delay p50"] == "–"
    assert cards(app)["Half known after"] == "–"


def test_labels_shows_delays_books_and_reasons() -> None:
    app = show("firing", "labels")
    [(tone, said)] = notices(app)
    assert tone is Tone.NEUTRAL
    assert said.startswith("Yes, for alert ")
    assert " on fine_tuned: it stands on 20 mature urgent labels (urgent recall 45.0%" in said
    assert "are labelled (" in said
    assert cards(app)["Label delay p50"] == "2.6 min"
    assert len(app.get("vega_lite_chart")) == 3
    books = [element.proto.body for element in app.main.get("html")]
    assert [">=<" in text for text in books] == [True, True]
    assert "predictions received" in books[0]
    assert any("The books balance" in text.value for text in app.markdown)
    reasons = app.dataframe[0].value
    assert dict(zip(reasons["Reason"], reasons["Predictions"], strict=True)) == {
        "bad_time": 0,
        "missing_field": 1,
        "not_json": 2,
    }


def test_labels_says_what_may_not_show_yet_when_nothing_is_up() -> None:
    [(tone, said)] = notices(show("late", "labels"))
    assert tone is Tone.NEUTRAL
    assert said.startswith("Nothing is up by the labels that are in. A drop younger than ")
    assert " of the messages of the last 3h are labelled; " in said


def test_labels_lists_what_was_lost_beside_books_that_balance() -> None:
    store = scenes.lose(scenes.filled(scenes.incident()), LOST, Gap(Partition("labels", 1), 7, 8))
    app = run(scenes.source_of(store), "labels")
    lost = app.dataframe[0].value
    assert list(lost.itertuples(index=False, name=None)) == [
        ("labels[1]", 7, 7),
        ("predictions[0]", 100, 999),
    ]
    assert any("The books balance" in text.value for text in app.markdown)


def test_labels_is_red_when_the_books_do_not_balance() -> None:
    store = scenes.filled(scenes.hardly_labelled())
    lost = Changes({}, {}, {}, {"predictions.received": 2}, [], {})
    store.commit(0, {}, lost)
    app = run(scenes.source_of(store), "labels")
    tone, text = notices(app)[0]
    assert tone is Tone.CRITICAL
    assert text.startswith("The books do not balance: 2 predictions missing.")
    assert ">≠<" in app.main.get("html")[0].proto.body


def test_labels_is_stale_when_no_worker_lives() -> None:
    assert notices(show("ok", "labels", age_ms=120_000))[0][1].startswith("Stale")


def test_a_wrong_setting_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> Source:
        raise SettingsError("recallwatch.yaml: redis.url: must begin with redis://")

    monkeypatch.setattr(source, "current", wrong)
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    assert not app.exception
    assert "The settings cannot be used." in notices(app)[0][1]
    assert app.code[0].value == "recallwatch.yaml: redis.url: must begin with redis://"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (
            SignalState(value=0.78, error=0.04, past_error=0.02, checks=3),
            "78% ± 4 (past error 2); assumes p(urgent | score) unchanged.",
        ),
        (SignalState(value=0.78, error=0.04), "78% ± 4 (past error unknown); assumes"),
        (SignalState(reason="no predictions"), "unknown, no predictions."),
    ],
)
def test_live_shows_the_label_free_estimate_or_why_it_is_unknown(
    state: SignalState, text: str
) -> None:
    assert text in estimate_text(state, "urgent", proportion(78, 100))
    assert "contradict" not in estimate_text(state, "urgent", proportion(0, 0))


def test_the_estimate_gives_way_to_what_is_measured_when_the_interval_excludes_it() -> None:
    state = SignalState(value=0.96, error=0.02)
    said = estimate_text(state, "urgent", proportion(5, 20))
    assert said.endswith(
        "Labels contradict it: measured 25.0% (95% interval 11–47%, n = 20). What is measured "
        "counts."
    )


# A sample

EVERY_PAGE = tuple(sorted(p.stem for p in APP.with_name("screens").glob("[a-z]*.py")))
SAMPLED = r"A 10 % sample of predictions\: counts are of the sample."


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_every_page_says_first_that_counts_are_those_of_a_sample(page: str) -> None:
    spec = replace(scenes.SPEC, sampling=0.1)
    app = run(scenes.source_of(scenes.store_of("ok"), spec=spec), page)
    first = app.main[0]
    assert isinstance(first, Caption)
    assert first.value == f":material/filter_alt: {SAMPLED}"


def test_no_page_speaks_of_a_sample_when_every_id_is_counted() -> None:
    assert not any("sample of" in caption.value for caption in show("ok").caption)
