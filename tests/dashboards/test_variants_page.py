"""The page "Variants": it says what ``recallwatch verdict`` says, and compares two of them."""

import csv
import hashlib
import html
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards import charts, pictures, tables, variants_queries, variants_tables, words
from dashboards.models import Choice
from dashboards.source import Source
from dashboards.theme import LIGHT, Tone
from dashboards.variants_models import Asked, Compared, Period
from monitor.adapters.memory import MemoryStore
from monitor.app.comparing import pairs_of
from monitor.app.console import dump
from monitor.app.report import present_report
from monitor.app.settings import Settings
from monitor.app.verdict_present import present_verdicts
from monitor.app.verdict_review import Asked as AskedVerdict
from monitor.app.wiring import spec_of
from monitor.domain.comparison import Finding
from monitor.domain.cut import Progress
from monitor.domain.engine import Spec
from monitor.domain.errors import StoreError
from monitor.domain.events import Kind, Partition
from monitor.domain.ledger import Gap
from monitor.domain.windows import HOUR_MS, MINUTE_MS, PaneKey
from monitor.ports import Picture
from tests.app.paired import PAIRED, Answered, store_of
from tests.app.test_flow import undisturbed
from tests.dashboards import scenes
from tests.dashboards.scenes import NOON_MS, SPEC, Chat
from tests.dashboards.test_pages import forget_what_was_read, notices, run, titles

TITLE = "Which variant should serve?"
LIMITS = {"recall": {"urgent": 0.8}, "precision": {"urgent": 0.5}, "accuracy": {"good": 0.85}}
GROUPS = {"groups": {"urgent": sorted(scenes.URGENT)}}
RULES = scenes.SETTINGS.model_dump()["rules"]
SETTINGS = Settings.model_validate({"verdict": LIMITS, "intents": GROUPS, "rules": RULES})


@pytest.fixture(autouse=True)
def nothing_is_known_yet() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()


def told(
    chat: Chat,
    variant: str,
    hits: int,
    n: int,
    *,
    from_ms: int = NOON_MS - 9 * MINUTE_MS,
    latency_ms: float = 100.0,
    version: str = "",
) -> None:
    """``n`` labelled urgent messages of one variant; ``hits`` of them, spread evenly, caught."""
    for number in range(n):
        is_hit = (number + 1) * hits // n > number * hits // n
        chat.message(
            from_ms + 10 * number,
            predicted="lost_card" if is_hit else "fees",
            actual="lost_card",
            variant=variant,
            latency_ms=latency_ms,
            version=version,
        )


def store_with(**variants: tuple[int, int]) -> MemoryStore:
    """Variant -> hits and labelled urgent messages."""
    chat = Chat()
    for name, (hits, n) in variants.items():
        told(chat, name, hits, n)
    return scenes.filled(chat)


def view(
    store: MemoryStore,
    asked: Asked = Asked(),  # noqa: B008 - frozen
    *,
    span: str = "3h",
    spec: Spec = SPEC,
    settings: Settings = SETTINGS,
    of: str = "urgent",
) -> Compared:
    return variants_queries.compared(
        store, spec, Choice(of=of, span=span), recent_ms=15 * MINUTE_MS, now_ms=NOON_MS,
        asked=asked, judged=variants_queries.judged(store, settings),
    )  # fmt: skip


def source(store: MemoryStore, *, age_ms: int = 2_000, settings: Settings = SETTINGS) -> Source:
    return replace(scenes.source_of(store, age_ms=age_ms), settings=settings)


def show(store: MemoryStore, settings: Settings = SETTINGS, **address: str) -> AppTest:
    return run(source(store, settings=settings), "variants", **address)


def within(**verdict: Any) -> Settings:  # noqa: ANN401 - settings of any kind
    """Settings with other limits."""
    found = {"verdict": {**LIMITS, **verdict}, "intents": GROUPS, "rules": RULES}
    return Settings.model_validate(found)


def captions(app: AppTest) -> str:
    return "\n".join(caption.value for caption in app.caption).replace("\\", "")


def cells(app: AppTest) -> dict[str, list[str]]:
    """Row of the table of measures -> its cells as a person reads them."""
    return {found[0]: found[1:] for found in rows_of(app, "Measures by variant")}


def rows_of(app: AppTest, label: str) -> list[list[str]]:
    """The rows of a table without its head; of cells over several rows the first one has them."""
    [body] = [e.proto.body for e in app.main.get("html") if f'aria-label="{label}"' in e.proto.body]
    rows = []
    for row in re.findall(r"<tr>(.*?)</tr>", body)[1:]:
        found = [
            html.unescape(re.sub("<[^>]+>", "", cell.replace("<br>", " ")))
            for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)
        ]
        rows.append([" ".join(cell.split()) for cell in found])
    return rows


def texts(app: AppTest) -> str:
    """All that is said in text."""
    return "\n".join(line.value for line in app.markdown).replace("\\", "")


def measure(found: Compared, variant: str, name: str) -> tuple[float | None, int]:
    [one] = [v for v in found.variants if v.name == variant]
    [number] = [m for m in one.measures if m.name == name]
    return number.value, number.n


# The verdict


@pytest.mark.parametrize("scene", ["firing", "ok", "no_labels", "few_labels"])
def test_the_document_has_the_verdicts_of_the_report_and_of_the_command(scene: str) -> None:
    store = scenes.store_of(scene)
    report: Any = json.loads(dump(present_report(store, SETTINGS)))
    command = present_verdicts(store, SETTINGS, AskedVerdict())
    document = json.loads(dump(variants_tables.document(view(store))))
    assert document["verdicts"] == report["verdicts"]
    assert document["verdicts"] == {name: command[name] for name in report["verdicts"]}
    assert document["judged"] == {name: command[name] for name in ("as_of", "cut")}
    assert {name: document[name] for name in ("as_of", "cut")} == document["judged"]


@pytest.mark.parametrize("scene", ["firing", "ok"])
def test_every_number_is_that_of_the_verdict(scene: str) -> None:
    store = scenes.store_of(scene)
    command = present_verdicts(store, SETTINGS, AskedVerdict())
    found = view(store)
    document = json.loads(dump(variants_tables.document(found)))
    for variant in ("fine_tuned", "prompt"):
        section = command["variants"][variant]
        metrics = {(m["name"], m["of"]): m for m in section["metrics"]}
        named = {
            "urgent recall": ("recall", "urgent"),
            "urgent precision": ("precision", "urgent"),
            "urgent F1": ("f1", "urgent"),
            "accuracy": ("accuracy", ""),
            "relevance": ("relevance", ""),
            **{f"latency {p}": (f"latency {p}", "") for p in ("p50", "p95", "p99")},
        }
        for name, metric in named.items():
            told, expected = document["measures"][variant][name], metrics[metric]
            assert {part: told[part] for part in ("value", "n", "interval")} == {
                part: expected[part] for part in ("value", "n", "interval")
            }
        assert measure(found, variant, "labels in") == (section["coverage"], section["predictions"])


def test_the_page_shows_numbers_answers_and_reasons_of_the_verdict() -> None:
    store = scenes.store_of("firing")
    command = present_verdicts(store, SETTINGS, AskedVerdict())
    app = show(store)
    for at, variant in enumerate(("fine_tuned", "prompt")):
        section = command["variants"][variant]
        [urgent] = [m for m in section["metrics"] if (m["name"], m["of"]) == ("recall", "urgent")]
        low, high = urgent["interval"]
        n = f"{urgent['n']:,}".replace(",", "\u202f").split()
        assert cells(app)["urgent recall"][at] == (
            f"{urgent['value']:.1%} {100 * low:.1f}–{100 * high:.1f}%, n = {' '.join(n)}"
        )
        assert [reason["text"] for reason in section["reasons"]]
        for reason in section["reasons"]:
            assert f"**{reason['finding']}** · {words.in_full(reason['text'])}" in texts(app)
    assert "fine_tuned is not fit (alert urgent-recall)" in said_on_top(app)
    assert "verdicts of 7 d, 2026-11-15 12:00 to 2026-11-22 12:00 UTC" in said_on_top(app)


def said_on_top(app: AppTest) -> str:
    """The headline: the first notice that tells of the verdict."""
    [said] = [said for _, said in notices(app) if "verdicts of " in said]
    return said


def test_headline_and_steps_are_the_advice_of_the_command() -> None:
    for store in (scenes.store_of("firing"), store_with(old=(180, 210), new=(196, 200))):
        advice = present_verdicts(store, SETTINGS, AskedVerdict())["advice"]
        app = show(store)
        assert said_on_top(app).startswith(words.in_full(advice["text"]))
        for step in advice["steps"]:
            assert f"* {words.in_full(step['text'])}" in texts(app)


def test_an_alert_that_fires_makes_the_headline_not_fit_and_leaves_nothing_green() -> None:
    app = show(scenes.store_of("firing"))
    (red, now), (grey, said) = notices(app)[:2]
    assert (red, grey) == (Tone.CRITICAL, Tone.NEUTRAL)
    assert now.startswith("Now: fine_tuned firing (urgent-recall).")
    assert said.startswith("Let prompt serve: it alone is shown to be fit.")
    assert "fine_tuned is not fit (alert urgent-recall) · prompt is fit" in said
    assert (
        "Not fit, because an alert fires; by the labels of the whole window fit since "
        "2026-11-22 08:00 UTC." in texts(app)
    )
    assert "alert urgent-recall fires since 2026-11-22T11:5" in texts(app)


def test_a_verdict_is_read_anew_when_an_alert_begins_to_fire() -> None:
    stores = [scenes.store_of("ok")]
    app = run(replace(source(stores[0]), connect=lambda: stores[-1]), "variants")
    assert "fine_tuned is fit" in said_on_top(app)
    stores.append(scenes.store_of("firing"))
    pictures._compared.clear()
    app.run()
    assert "fine_tuned is not fit (alert urgent-recall)" in said_on_top(app)


def test_each_trap_is_shown_with_its_sign_and_evidence() -> None:
    store = scenes.store_of("firing")
    command = present_verdicts(store, SETTINGS, AskedVerdict())
    signs = {"found": "✖ found", "not found": "✔ not found", "unknown": "? unknown"}
    expected = []
    for number in range(5):
        for at, variant in enumerate(("fine_tuned", "prompt")):
            trap = command["variants"][variant]["traps"][number]
            name = [trap["name"]] if at == 0 else []
            finding = f"{signs[trap['sign']]} {variant}"
            expected.append([*name, finding, words.in_full(trap["text"])])
    assert rows_of(show(store), "Traps by variant") == expected
    assert len(expected) == 10


def test_a_trap_that_is_found_is_told() -> None:
    chat = Chat()
    told(chat, "old", 12, 100)
    chat.many(4_000, NOON_MS - 20 * MINUTE_MS, predicted="fees", actual="fees")
    for number in range(4_000):
        chat.message(
            NOON_MS - 9 * MINUTE_MS + number, predicted="fees", actual="fees", variant="old"
        )
    app = show(scenes.filled(chat))
    [found] = [row for row in rows_of(app, "Traps by variant") if "✖ found" in row[-2]]
    assert found[-2] == "✖ found old"
    assert "looks good and hides that recall of urgent is 12.0%" in found[-1]
    assert (
        "old is not fit (alert urgent-recall, recall of urgent, accuracy paradox)"
        in said_on_top(app)
    )


def test_changes_of_the_verdict_are_told_with_their_reasons_the_latest_first() -> None:
    chat = Chat()
    told(chat, "old", 300, 300, from_ms=NOON_MS - 5 * HOUR_MS)
    told(chat, "old", 0, 600, from_ms=NOON_MS - 2 * HOUR_MS)
    app = show(scenes.filled(chat))
    history = rows_of(app, "Changes of verdicts")
    assert [row[-2] for row in history] == [
        "✖ not fit from 2026-11-22 11:00 UTC",
        "✔ fit from 2026-11-22 08:00 UTC",
    ]
    assert history[0][-1].startswith("accuracy 33.3% (95% interval ")
    assert history[1][-1] == "all limits are met"
    assert "Not fit since 2026-11-22 11:00 UTC, fit before." in texts(app)
    rows = variants_tables.verdicts(view(scenes.filled(chat)))
    assert [(row["Name"], row["Stands"]) for row in rows if row["Part"] == "change"] == [
        ("2026-11-22T11:00:00Z", "not fit"),
        ("2026-11-22T08:00:00Z", "fit"),
    ]


def test_the_table_has_every_reason_trap_and_change() -> None:
    found = view(scenes.store_of("firing"))
    rows = variants_tables.verdicts(found)
    for variant in found.variants:
        parts = [row["Part"] for row in rows if row["Variant"] == variant.name]
        assert parts.count("reason") == len(variant.verdict.reasons)
        assert (parts.count("trap"), parts.count("change")) == (5, len(variant.changes))


def test_versions_of_the_window_are_those_of_its_slices() -> None:
    settings = Settings.model_validate(
        {**scenes.SETTINGS.model_dump(), "slices": ["prompt_version"]}
    )
    story = undisturbed()
    found = view(story, settings=settings)
    command = present_verdicts(story, settings, AskedVerdict())
    for variant in found.variants:
        names = [n for n in command["variants"][variant.name]["slices"] if n.startswith("prompt_v")]
        assert [one.name for one in variant.served] == names


def test_a_range_has_no_verdict_of_its_own() -> None:
    store = scenes.store_of("firing")
    ever, within_range = view(store), view(store, Asked(period=Period.RANGE), span="1h")
    for one, other in zip(ever.variants, within_range.variants, strict=True):
        assert (one.verdict, one.changes, one.traps) == (other.verdict, other.changes, other.traps)
    assert ever.advice == within_range.advice
    app = show(store, counted="range", range="1h")
    assert "verdicts of 7 d, 2026-11-15 12:00 to 2026-11-22 12:00 UTC" in said_on_top(app)
    [differs] = [said for _, said in notices(app) if "11:00–12:00 UTC (1h)" in said]
    assert differs.startswith("prompt has the higher urgent recall than fine_tuned: +")


def test_a_variant_that_is_silent_in_the_window_is_listed_and_does_not_count() -> None:
    chat = Chat()
    told(chat, "old", 50, 100, from_ms=NOON_MS - 5 * HOUR_MS)
    told(chat, "new", 100, 100)
    app = show(scenes.filled(chat), within(window="1h"))
    assert "old answered nothing in the window" in said_on_top(app)
    assert said_on_top(app).startswith("new is the only variant")
    assert "It answered nothing in this window" in captions(app)
    assert {row[-2].split()[-1] for row in rows_of(app, "Traps by variant")} == {"new"}


def test_a_window_in_which_nobody_answered_is_told_in_words() -> None:
    app = show(store_with(old=(40, 40), new=(40, 40)), within(maturity="6h"))
    assert said_on_top(app).startswith("No variant has answered anything in this window.")
    assert "old answered nothing in the window" in said_on_top(app)
    assert "The traps" not in [header.value for header in app.header]
    assert cells(app)["urgent recall"] == ["– n = 0", "– n = 0", "–"]


# Numbers


def test_a_comparison_over_the_range_leaves_out_what_only_one_of_both_was_asked() -> None:
    chat = Chat()
    told(chat, "new", 50, 100)
    told(chat, "old", 90, 100)
    told(chat, "old", 0, 300, from_ms=NOON_MS - 40 * MINUTE_MS)
    store = scenes.filled(chat)
    assert measure(view(store), "old", "urgent recall") == (90 / 400, 400)
    assert variants_tables.document(view(store))["window"][1] == "2026-11-22T12:00:00.000Z"
    found = view(store, Asked(period=Period.RANGE), span="1h")
    assert measure(found, "old", "urgent recall") == (0.9, 100)
    assert measure(found, "new", "urgent recall") == (0.5, 100)
    assert (found.panes, found.left_out) == (60, 59)
    document = variants_tables.document(found)
    assert document["windows"] == {"ms": MINUTE_MS, "all": 60, "left_out": 59}
    assert document["window"] == ["2026-11-22T11:00:00.000Z", "2026-11-22T12:00:00.000Z"]


def test_messages_without_a_label_widen_no_share_but_that_of_labels() -> None:
    found = view(scenes.store_of("no_labels"))
    assert measure(found, "fine_tuned", "urgent recall") == (None, 0)
    assert measure(found, "fine_tuned", "labels in") == (0.0, 1_072)
    assert measure(found, "fine_tuned", "latency p50")[1] == 1_072


def test_versions_are_those_that_rules_have_had_labels_of() -> None:
    chat = Chat()
    told(chat, "old", 30, 30, version="v1", from_ms=NOON_MS - 30 * HOUR_MS)
    told(chat, "old", 30, 30, version="v2", from_ms=NOON_MS - 2 * HOUR_MS)
    told(chat, "new", 30, 30)
    old, new = sorted(view(scenes.filled(chat)).variants, key=lambda v: v.name, reverse=True)
    assert [found.name for found in old.versions] == ["v2", "v1"]
    assert new.versions == ()


# Who is compared


def test_without_a_wish_the_two_that_answered_most_are_compared() -> None:
    store = store_with(a=(40, 40), b=(60, 60), c=(50, 50))
    pair = view(store).pair
    assert pair is not None
    assert (pair.serving.name, pair.other.name) == ("b", "c")


def test_a_wish_is_granted_where_it_can_be() -> None:
    store = store_with(a=(40, 40), b=(60, 60), c=(50, 50))
    wishes = {("c", "a"): ("c", "a"), ("c", ""): ("c", "b"), ("x", "b"): ("b", "c")}
    for (serving, other), expected in wishes.items():
        pair = view(store, Asked(serving, other)).pair
        assert pair is not None
        assert (pair.serving.name, pair.other.name) == expected
    assert view(store, Asked("a", "a")).pair != view(store, Asked("a", "c")).pair


def test_three_variants_stand_side_by_side_and_two_are_compared() -> None:
    app = show(store_with(a=(40, 40), b=(60, 60), c=(50, 50)), serving="a", other="c")
    assert "No difference shown in urgent recall between a and c." in titles(app)
    assert len(cells(app)["urgent recall"]) == 4
    headers = [header.value for header in app.header]
    at = headers.index("Fit for production?")
    assert headers[at + 1 : at + 4] == ["a", "c", "b"]


def test_without_anything_watched_accuracy_is_told_first() -> None:
    spec = Spec()
    pair = view(store_with(old=(50, 100), new=(95, 100)), spec=spec, of="").pair
    assert pair is not None
    assert pair.watched == "accuracy"
    assert pair.comparison.finding is not Finding.NO_DIFFERENCE


def test_a_name_from_outside_is_text_and_nothing_else() -> None:
    app = show(store_with(**{"<b>*x*": (60, 60), "=old": (50, 50)}))
    body = "".join(element.proto.body for element in app.main.get("html"))
    assert "<b>" not in body
    assert "&lt;b&gt;*x*" in body
    rows = tables.csv_of(variants_tables.measures(view(store_with(**{"=old": (50, 50)}))))
    assert ",'=old," in rows


# The answer


def answer(store: MemoryStore, settings: Settings = SETTINGS) -> tuple[Tone, str]:
    app = show(store, settings)
    [found] = [(tone, said) for tone, said in notices(app) if "verdicts of " in said]
    return found


def differs(store: MemoryStore, settings: Settings = SETTINGS) -> tuple[Tone, str]:
    """What the comparison says."""
    app = show(store, settings)
    [found] = [(t, said) for t, said in notices(app) if " look · " in said]
    return found


def test_the_better_one_of_two_that_are_fit_serves_with_difference_n_and_method() -> None:
    tone, said = answer(store_with(old=(190, 210), new=(200, 200)))
    assert tone is Tone.OK
    title = "Let new serve: recall of urgent 100.0% (n=200) against 90.5% (n=210), difference +5.7%"
    assert said.startswith(title)
    assert "(unpaired)." in said


def test_the_comparison_tells_difference_interval_n_method_and_when() -> None:
    tone, said = differs(store_with(old=(180, 210), new=(196, 200)))
    assert tone is Tone.NEUTRAL
    title = "new has the higher urgent recall than old: +12.3 points (95% +7.2 to +17.8)."
    assert said.startswith(title)
    assert "new 98.0% (95% 95.0–99.2%, n = 200) minus old 85.7% (95% 80.3–89.8%, n = 210)" in said
    assert "Newcombe's hybrid score interval, unpaired, one look · 7 d, 2026-11-15 12:00" in said
    _, said = differs(store_with(old=(205, 210), new=(170, 200)))
    assert said.startswith("new has the lower urgent recall than old: -12.6 points (95% -")


def test_what_is_not_fit_is_called_so_however_much_better_it_is() -> None:
    settings = within(latency_ms={"p95": 50})
    tone, said = answer(store_with(old=(180, 210), new=(196, 200)), settings)
    assert tone is Tone.WARNING
    assert said.startswith("Let new serve, though it is not fit itself: recall of urgent 98")
    assert (
        "old is not fit (latency p95) · " in said.replace("old has", "old is") or "latency" in said
    )


def test_a_variant_that_is_fit_goes_before_one_that_is_not_without_a_difference() -> None:
    chat = Chat()
    told(chat, "old", 200, 210, latency_ms=2_000.0)
    told(chat, "new", 190, 200)
    tone, said = answer(scenes.filled(chat))
    assert (tone, said.partition(" new is")[0]) == (
        Tone.OK, "Let new serve: it alone is shown to be fit.",
    )  # fmt: skip
    assert "old is not fit (latency p95)" in said


def test_few_labels_are_no_evidence() -> None:
    store = store_with(old=(200, 210), new=(12, 12))
    tone, said = differs(store)
    assert tone is Tone.NEUTRAL
    assert said.startswith("Too few labels to compare old and new in urgent recall.")
    assert "new too few labels (n=12)" in said
    assert "too few labels, unpaired, one look" in cells(show(store))["urgent recall"][2]
    assert "new has not enough evidence (" in answer(store)[1]


def test_one_variant_has_a_verdict_and_no_comparison() -> None:
    app = show(scenes.store_of("caught"))
    [(tone, said)] = notices(app)
    assert tone is Tone.OK
    assert said.startswith("fine_tuned is the only variant: there is none to change to.")
    assert "fine_tuned is fit" in said
    assert "What differs" not in [header.value for header in app.header]
    assert len(app.get("vega_lite_chart")) == 1
    assert len(cells(app)["urgent recall"]) == 1


def test_no_variant_is_an_empty_store() -> None:
    app = show(MemoryStore())
    assert app.title[0].value == TITLE
    assert notices(app) == [(Tone.NEUTRAL, scenes.NOTHING_YET)]


def test_no_labels_are_no_evidence() -> None:
    chat = Chat()
    for name in ("old", "new"):
        chat.message(NOON_MS - 5 * MINUTE_MS, predicted="lost_card", variant=name)
    app = show(scenes.filled(chat))
    (tone, said), (_, differs) = notices(app)
    assert tone is Tone.NEUTRAL
    assert said.startswith("No difference shown between new and old in recall of urgent (unpaired")
    assert "new has not enough evidence (accuracy, recall of urgent" in said
    assert "new too few labels (n=0), old too few labels (n=0)" in differs
    assert cells(app)["urgent recall"] == ["– n = 0", "– n = 0", "–"]


def test_without_a_label_in_the_range_there_is_no_chart_and_words_instead() -> None:
    app = show(scenes.store_of("no_labels"))
    assert not app.get("vega_lite_chart")
    assert "No urgent label in this range: there is no line to draw." in captions(app)


# What must not be overlooked


def test_old_numbers_say_so_and_are_not_green() -> None:
    found = source(store_with(old=(180, 210), new=(196, 200)), age_ms=4 * MINUTE_MS)
    (amber, stale), (grey, said) = notices(run(found, "variants"))[:2]
    assert (amber, grey) == (Tone.WARNING, Tone.NEUTRAL)
    assert stale.startswith("Stale — no new window for 4 min.")
    assert said.startswith("Last known: Let new serve: ")


def badges(app: AppTest) -> list[str]:
    """The colours of the badges of the verdicts."""
    return re.findall(r":(\w+)-badge\[", "\n".join(line.value for line in app.markdown))


def test_no_verdict_is_green_while_its_numbers_are_old_or_an_alert_about_it_is_up() -> None:
    store = store_with(old=(190, 210), new=(196, 200))
    assert badges(show(store)) == ["green", "green"]
    assert badges(run(source(store, age_ms=4 * MINUTE_MS), "variants")) == ["gray", "gray"]
    assert badges(show(scenes.store_of("firing"))) == ["red", "green"]


def test_incomplete_numbers_say_so_and_are_not_green() -> None:
    store = store_with(old=(180, 210), new=(196, 200))
    scenes.lose(store, Gap(Partition("predictions", 0), 100, 1_000))
    (red, lost), (grey, said) = notices(show(store))[:2]
    assert (red, grey) == (Tone.CRITICAL, Tone.NEUTRAL)
    assert lost.startswith("Numbers are incomplete: predictions[0]@100-999 lost.")
    assert said.startswith("As far as counted: Let new serve: ")


def test_what_was_last_known_is_grey_and_gives_no_advice_when_the_store_is_away() -> None:
    is_down: list[bool] = []
    store = scenes.flaky(store_with(old=(180, 210), new=(196, 200)), lambda: bool(is_down))
    app = run(source(store), "variants")
    is_down.append(True)
    forget_what_was_read()
    app.run()
    (tone, said) = notices(app)[0]
    assert tone is Tone.CRITICAL
    assert not any("verdicts of " in told for _, told in notices(app))
    assert "Redis is unreachable — last known values of 12:00:02 UTC" in said
    assert LIGHT.unknown in app.get("vega_lite_chart")[0].proto.spec
    assert LIGHT.line not in app.get("vega_lite_chart")[0].proto.spec


def test_nothing_is_shown_of_a_store_that_was_never_read() -> None:
    def connect() -> MemoryStore:
        raise StoreError("redis://localhost:6379/0 does not answer.")

    app = run(Source(connect=connect, spec=SPEC, now_ms=lambda: NOON_MS), "variants")
    assert "Redis is unreachable — live numbers are hidden." in notices(app)[0][1]
    assert not app.get("vega_lite_chart")


def test_the_page_says_that_it_is_unpaired_and_one_look() -> None:
    said = "\n".join(line.value for line in show(scenes.store_of("ok")).markdown)
    assert "Unpaired" in said
    assert "where the settings have such a comparison" in said
    assert "One look" in said
    assert "fit goes before not fit" in said


def committing(until: int) -> MemoryStore:
    """A store in which a worker commits between any two looks at it, ``until`` times."""
    store = store_with(old=(180, 210), new=(196, 200))
    busy = scenes.flaky(store, lambda: False)
    looks: list[int] = []

    def cuts() -> list[dict[Partition, Progress]]:
        looks.append(min(len(looks) + 1, until))
        return [{Partition(Kind.PREDICTIONS, 0): Progress(looks[-1], NOON_MS, NOON_MS)}]

    def picture(sizes: Sequence[int], panes: Sequence[PaneKey]) -> Picture | None:
        looks.append(len(looks))
        return None if len(looks) < until else store.picture(sizes, panes)

    vars(busy).update(cuts=cuts, picture=picture)
    return busy


def test_a_range_is_read_again_while_a_worker_commits_and_has_no_cut_if_that_never_ends() -> None:
    asked = Asked(period=Period.RANGE)
    assert view(committing(8), asked).cut == {"predictions[0]": 8}
    assert view(committing(1_000), asked).cut is None


def test_verdicts_are_of_one_picture_and_have_no_cut_where_there_is_none() -> None:
    store = store_with(old=(180, 210), new=(196, 200))
    assert view(committing(4)).cut == view(store).cut
    assert view(committing(1_000)).cut is None
    assert view(committing(1_000)).judged.section == view(store).judged.section


# To take away


def test_the_digest_is_that_of_the_rest_of_the_document_and_changes_with_it() -> None:
    document = json.loads(dump(variants_tables.document(view(scenes.store_of("firing")))))
    digest = document.pop("digest")
    plain = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert digest == f"sha256:{hashlib.sha256(plain.encode()).hexdigest()}"
    document["verdicts"]["advice"]["serve"] = "fine_tuned"
    assert variants_tables.digest_of(document) != digest
    assert "signature" not in document


def test_equal_stores_give_the_same_document() -> None:
    one, other = (variants_tables.document(view(scenes.filled(scenes.calm()))) for _ in range(2))
    assert one == other


def test_the_csv_has_every_measure_of_every_variant_and_the_differences() -> None:
    found = view(scenes.store_of("firing"))
    rows = list(csv.DictReader(io.StringIO(tables.csv_of(variants_tables.measures(found)))))
    assert len(rows) == 2 * 9 + 3 + 4
    [recall] = [r for r in rows if (r["Measure"], r["Unit"]) == ("urgent recall", "points")]
    assert recall["Variant"] == "prompt minus fine_tuned"
    assert found.pair is not None
    assert float(recall["Value"]) == pytest.approx(100 * (found.pair.comparison.difference or 0))
    assert recall["Finding"] == "no difference shown"


# The chart


def test_both_lines_share_their_axes_and_differ_in_colour_and_dash() -> None:
    spec: Any = charts.compared(view(scenes.store_of("firing")), LIGHT)
    lines = [layer for layer in spec["layer"] if layer["mark"]["type"] == "line"]
    assert [(line["mark"]["color"], line["mark"]["strokeDash"]) for line in lines] == [
        (LIGHT.line, [1, 0]), (LIGHT.second, charts.DASHES),
    ]  # fmt: skip
    assert len({json.dumps(line["encoding"]["x"]) for line in lines}) == 1
    bands = [layer for layer in spec["layer"] if layer["mark"]["type"] == "area"]
    assert len(bands) == 2
    assert {row["Variant"] for row in spec["datasets"]["recall-1"]} == {"prompt"}


def test_both_lines_are_told_in_a_sentence() -> None:
    said = charts.compared_alt(view(scenes.store_of("firing")))
    assert said.startswith("urgent recall by variant, rolling 15 min; fine_tuned: last 6")
    assert "; prompt: last 9" in said
    nothing = charts.compared_alt(view(scenes.store_of("no_labels")))
    assert nothing.endswith("fine_tuned: no label in this range.")


# Pairs

PAIRS = Answered(both=60, only_new=25, only_old=3, neither=12)


def paired_view(world: Answered = PAIRS, asked: Asked = Asked("old", "new")) -> Compared:  # noqa: B008 - frozen
    store = store_of(world, PAIRED)
    return view(store, asked, spec=spec_of(PAIRED), settings=PAIRED)


def paired_page(world: Answered = PAIRS, **address: str) -> AppTest:
    found = replace(source(store_of(world, PAIRED), settings=PAIRED), spec=spec_of(PAIRED))
    return run(found, "variants", **{"serving": "old", "other": "new", **address})


def test_the_same_requests_decide_where_both_answered_them() -> None:
    found = paired_view()
    assert found.pair is not None
    assert found.pair.comparison.is_paired
    assert found.pair.comparison.finding is Finding.BETTER
    assert found.advice.serve == "new"
    assert "is shown to be fit. Against old: recall of urgent differs by" in found.advice.text
    app = paired_page()
    assert "on the same requests (paired, 100 requests)" in said_on_top(app)
    [[_, said]] = [n for n in notices(app) if "new has the higher urgent recall" in n[1]]
    assert "Urgent recall on the 100 requests that both answered: new 85.0% minus old 63.0%" in said
    assert "only new right 25 times, only old 3; claimed on" in said
    assert "paired, every look" in said


def test_the_table_says_of_each_measure_how_it_was_compared() -> None:
    rows = cells(paired_page())
    assert "+22.0 points" in rows["urgent recall"][-1]
    assert "paired, every look, n = 100" in rows["urgent recall"][-1]
    assert "unpaired, one look" in rows["accuracy"][-1]
    assert rows["latency p50"][-1].startswith("-10")
    assert "▼ better" in rows["latency p50"][-1]
    assert "no difference shown" in rows["relevance"][-1]


def test_the_page_says_what_paired_and_every_look_mean() -> None:
    said = "\n".join(line.value for line in paired_page().markdown).replace("\\", "")
    assert "Paired: both variants are judged by the same requests" in said
    assert "Every look: the finding may be watched" in said
    assert "exact McNemar test P = 2.74e-05" in said


def test_over_a_range_nothing_is_paired() -> None:
    found = paired_view(asked=Asked("old", "new", Period.RANGE))
    assert found.pair is not None
    assert not found.pair.paired
    assert not any(c.is_paired or c.is_watched for c in found.pair.comparisons.values())


def test_until_there_are_enough_pairs_each_is_judged_by_its_own_messages() -> None:
    found = paired_view(Answered(5, 3, 2, 0))
    assert found.pair is not None
    assert not found.pair.paired
    assert found.pair.comparison.finding is Finding.TOO_FEW
    assert "(unpaired, too few labels)" in found.advice.text


def test_pairs_that_all_lie_before_the_window_say_nothing_of_it() -> None:
    store = store_of(PAIRS, PAIRED)
    spec, state = spec_of(PAIRED), store.evaluation()
    assert pairs_of("new", "old", state, spec, since_ms=NOON_MS + HOUR_MS) == {}
    assert len(pairs_of("new", "old", state, spec)) == 1


def test_the_document_has_the_pairs() -> None:
    document: Any = json.loads(dump(variants_tables.document(paired_view())))
    told = document["comparison"]
    assert told["method"] == "mixture test of pairs that differ, paired, every look, 95%"
    assert told["differences"]["urgent recall"]["is_paired"] is True
    pairs = told["pairs"]["urgent recall"]
    assert (pairs["one"][0], pairs["only_one"], pairs["only_other"]) == ("new", 25, 3)
    assert pairs["p_value"] == pytest.approx(2.7418e-05, rel=1e-3)
