"""The page "Variants": its answer follows from its numbers, and these are those of the report."""

import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards import charts, tables, variants_queries, variants_tables
from dashboards.models import Choice
from dashboards.source import Source
from dashboards.theme import LIGHT, Tone
from dashboards.variants_models import Asked, Compared, Period
from monitor.adapters.memory import MemoryStore
from monitor.app.console import dump
from monitor.app.report import report_of
from monitor.app.settings import Settings
from monitor.app.wiring import spec_of, verdict_limits_of
from monitor.domain.comparison import Advice, Finding
from monitor.domain.cut import Progress
from monitor.domain.engine import Spec
from monitor.domain.errors import StoreError
from monitor.domain.events import Kind, Partition
from monitor.domain.ledger import Gap
from monitor.domain.windows import HOUR_MS, MINUTE_MS
from tests.app.paired import PAIRED, Answered, store_of
from tests.dashboards import scenes
from tests.dashboards.scenes import NOON_MS, SPEC, Chat
from tests.dashboards.test_pages import forget_what_was_read, notices, run

TITLE = "Which variant should serve?"
LIMITS = {"recall": {"urgent": 0.8}, "precision": {"urgent": 0.5}, "accuracy": {"good": 0.85}}
GROUPS = {"groups": {"urgent": sorted(scenes.URGENT)}}
SETTINGS = Settings.model_validate({"verdict": LIMITS, "intents": GROUPS})


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
    limits = verdict_limits_of(settings)
    return variants_queries.compared(
        store, spec, Choice(of=of, span=span), recent_ms=15 * MINUTE_MS, now_ms=NOON_MS,
        asked=asked, limits=limits,
    )  # fmt: skip


def source(store: MemoryStore, *, age_ms: int = 2_000, settings: Settings = SETTINGS) -> Source:
    return replace(scenes.source_of(store, age_ms=age_ms), settings=settings)


def show(store: MemoryStore, settings: Settings = SETTINGS, **address: str) -> AppTest:
    return run(source(store, settings=settings), "variants", **address)


def within(**verdict: Any) -> Settings:  # noqa: ANN401 - settings of any kind
    """Settings with other limits."""
    return Settings.model_validate({"verdict": {**LIMITS, **verdict}, "intents": GROUPS})


def captions(app: AppTest) -> str:
    return "\n".join(caption.value for caption in app.caption).replace("\\", "")


def cells(app: AppTest) -> dict[str, list[str]]:
    """Row of the table -> its cells as a person reads them."""
    [html] = [e.proto.body for e in app.main.get("html") if "<table" in e.proto.body]
    rows: dict[str, list[str]] = {}
    for row in re.findall(r"<tr>(.*?)</tr>", html)[1:]:
        found = [
            re.sub("<[^>]+>", "", cell.replace("<br>", " "))
            for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)
        ]
        rows[found[0]] = [" ".join(cell.split()) for cell in found[1:]]
    return rows


def measure(found: Compared, variant: str, name: str) -> tuple[float | None, int]:
    [one] = [v for v in found.variants if v.name == variant]
    [number] = [m for m in one.measures if m.name == name]
    return number.value, number.n


# Numbers


@pytest.mark.parametrize("scene", ["firing", "ok"])
def test_every_number_is_that_of_the_report_of_the_same_moment(scene: str) -> None:
    store = scenes.store_of(scene)
    report: Any = json.loads(dump(report_of(store, SPEC, verdict_limits_of(SETTINGS))))
    found = view(store)
    document = json.loads(dump(variants_tables.document(found)))
    assert document["as_of"] == report["as_of"]
    assert document["cut"] == report["cut"]
    for variant in ("fine_tuned", "prompt"):
        section = report["variants"][variant]
        assert document["variants"][variant] == section
        urgent = section["groups"]["urgent"]
        assert measure(found, variant, "urgent recall") == (urgent["recall"], urgent["support"])
        assert measure(found, variant, "urgent precision")[0] == urgent["precision"]
        assert measure(found, variant, "urgent F1")[0] == urgent["f1"]
        assert measure(found, variant, "accuracy") == (section["accuracy"], section["labelled"])
        assert measure(found, variant, "labels in") == (section["coverage"], section["predictions"])
        assert measure(found, variant, "relevance")[0] == section["relevance"]["mean"]
        for name, value in section["latency_ms"].items():
            assert measure(found, variant, f"latency {name}")[0] == value
        intervals = document["measures"][variant]
        assert intervals["urgent recall"]["interval"] == urgent["interval"]
        assert intervals["accuracy"]["interval"] == section["accuracy_interval"]


def test_the_page_shows_the_numbers_and_the_verdicts_of_the_report() -> None:
    store = scenes.store_of("firing")
    report: Any = report_of(store, SPEC, verdict_limits_of(SETTINGS))
    app = show(store)
    said = "\n".join(line.value for line in app.markdown).replace("\\", "")
    for at, variant in enumerate(("fine_tuned", "prompt")):
        section = report["variants"][variant]
        urgent = section["groups"]["urgent"]
        low, high = urgent["interval"]
        n = f"{urgent['support']:,}".replace(",", "\u202f").split()
        assert cells(app)["urgent recall"][at] == (
            f"{urgent['recall']:.1%} {100 * low:.1f}–{100 * high:.1f}%, n = {' '.join(n)}"
        )
        assert cells(app)["accuracy"][at].startswith(f"{section['accuracy']:.1%} ")
        p95 = section["latency_ms"]["p95"]
        assert cells(app)["latency p95"][at].startswith(f"{p95:.0f} ms ")
        assert section["verdict"]["answer"] == "fit"
        for reason in section["verdict"]["reasons"]:
            assert reason["text"] in said


def test_a_comparison_over_the_range_leaves_out_what_only_one_of_both_was_asked() -> None:
    chat = Chat()
    told(chat, "new", 50, 100)
    told(chat, "old", 90, 100)
    told(chat, "old", 0, 300, from_ms=NOON_MS - 40 * MINUTE_MS)
    store = scenes.filled(chat)
    assert measure(view(store), "old", "urgent recall") == (90 / 400, 400)
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
    assert old.versions[0].is_in_use
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
    assert notices(app)[0][1].startswith("No difference shown in urgent recall between a and c.")
    assert len(cells(app)["urgent recall"]) == 4
    assert [header.value for header in app.header][:3] == ["a", "c", "b"]


def test_without_anything_watched_accuracy_decides() -> None:
    spec = Spec()
    pair = view(store_with(old=(50, 100), new=(95, 100)), spec=spec, of="").pair
    assert pair is not None
    assert pair.decisive == "accuracy"
    assert pair.comparison.finding is not Finding.NO_DIFFERENCE


def test_a_name_from_outside_is_text_and_nothing_else() -> None:
    app = show(store_with(**{"<b>*x*": (60, 60), "=old": (50, 50)}))
    html = "".join(element.proto.body for element in app.main.get("html"))
    assert "<b>" not in html
    assert "&lt;b&gt;*x*" in html
    rows = tables.csv_of(variants_tables.measures(view(store_with(**{"=old": (50, 50)}))))
    assert ",'=old," in rows


# The answer


def answer(store: MemoryStore, settings: Settings = SETTINGS) -> tuple[Tone, str]:
    return notices(show(store, settings))[0]


def test_the_better_one_that_is_fit_is_preferred_with_difference_interval_n_and_method() -> None:
    tone, said = answer(store_with(old=(180, 210), new=(196, 200)))
    assert tone is Tone.OK
    title = "Prefer new: its urgent recall is higher than that of old by 12.3 points (95% 7.2 to "
    assert said.startswith(title)
    assert "new 98.0% (95% 95.0–99.2%, n = 200) minus old 85.7% (95% 80.3–89.8%, n = 210)" in said
    assert "Newcombe's hybrid score interval, unpaired, one look · all time" in said


def test_the_one_that_serves_is_kept_where_it_is_better() -> None:
    tone, said = answer(store_with(old=(205, 210), new=(170, 200)))
    assert (tone, said.partition(" by ")[0]) == (
        Tone.OK, "Keep old: its urgent recall is higher than that of new",
    )  # fmt: skip


def test_what_is_not_fit_is_not_preferred_however_much_better_it_is() -> None:
    settings = within(latency_ms={"p95": 50})
    tone, said = answer(store_with(old=(180, 210), new=(196, 200)), settings)
    assert tone is Tone.WARNING
    assert said.startswith("No clear choice: neither old nor new is fit.")
    chat = Chat()
    told(chat, "old", 180, 210)
    told(chat, "new", 196, 200, latency_ms=2_000.0)
    tone, said = answer(scenes.filled(chat), within(recall={"urgent": 0.85}))
    assert tone is Tone.WARNING
    head = "No clear choice: new has the higher urgent recall, but is not fit (latency p95)."
    assert said.startswith(head)


def test_a_variant_that_is_fit_goes_before_one_that_is_not_without_a_difference() -> None:
    chat = Chat()
    told(chat, "old", 200, 210, latency_ms=2_000.0)
    told(chat, "new", 190, 200)
    tone, said = answer(scenes.filled(chat))
    assert (tone, said.partition(" Urgent")[0]) == (
        Tone.OK, "Prefer new: it is fit, and old is not (latency p95).",
    )  # fmt: skip


def test_a_better_one_with_an_open_limit_waits_for_evidence() -> None:
    tone, said = answer(store_with(old=(150, 210), new=(166, 190)), within(recall={"urgent": 0.85}))
    assert tone is Tone.NEUTRAL
    assert said.startswith("Not enough evidence to prefer new: still open (accuracy")


def test_few_labels_are_no_evidence() -> None:
    tone, said = answer(store_with(old=(200, 210), new=(12, 12)))
    assert tone is Tone.NEUTRAL
    assert said.startswith("Not enough evidence: new too few labels (n=12).")
    assert cells(show(store_with(old=(200, 210), new=(12, 12))))["urgent recall"][2].endswith(
        "too few labels"
    )


def test_one_variant_has_a_verdict_and_no_comparison() -> None:
    app = show(scenes.store_of("caught"))
    [(tone, said)] = notices(app)
    assert tone is Tone.NEUTRAL
    assert said.startswith("There is one variant, fine_tuned: nothing to compare it with.")
    assert "It is judged by its limits: " in said
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
    tone, said = notices(app)[0]
    assert tone is Tone.NEUTRAL
    assert said.startswith("Not enough evidence: new too few labels (n=0), old too few labels")
    assert cells(app)["urgent recall"] == ["– n = 0", "– n = 0", "–"]


# What must not be overlooked


def test_an_alert_that_is_up_is_told_and_leaves_nothing_green() -> None:
    app = show(scenes.store_of("firing"), counted="range", range="1h")
    (red, now), (grey, said) = notices(app)
    assert (red, grey) == (Tone.CRITICAL, Tone.NEUTRAL)
    assert now.startswith("Now: fine_tuned firing (urgent-recall).")
    assert said.startswith("Prefer prompt: ")
    assert "11:00–12:00 UTC (1h)" in said


def test_old_numbers_say_so_and_are_not_green() -> None:
    found = source(store_with(old=(180, 210), new=(196, 200)), age_ms=4 * MINUTE_MS)
    (amber, stale), (grey, said) = notices(run(found, "variants"))
    assert (amber, grey) == (Tone.WARNING, Tone.NEUTRAL)
    assert stale.startswith("Stale — no new window for 4 min.")
    assert said.startswith("Last known: Prefer new: ")


def test_incomplete_numbers_say_so_and_are_not_green() -> None:
    store = store_with(old=(180, 210), new=(196, 200))
    scenes.lose(store, Gap(Partition("predictions", 0), 100, 1_000))
    (red, lost), (grey, said) = notices(show(store))
    assert (red, grey) == (Tone.CRITICAL, Tone.NEUTRAL)
    assert lost.startswith("Numbers are incomplete: predictions[0]@100-999 lost.")
    assert said.startswith("As far as counted: Prefer new: ")


def test_what_was_last_known_is_grey_and_gives_no_advice_when_the_store_is_away() -> None:
    is_down: list[bool] = []
    store = scenes.flaky(store_with(old=(180, 210), new=(196, 200)), lambda: bool(is_down))
    app = run(source(store), "variants")
    is_down.append(True)
    forget_what_was_read()
    app.run()
    [(tone, said)] = notices(app)
    assert tone is Tone.CRITICAL
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
    assert "Decided by urgent recall" in said


def committing(until: int) -> MemoryStore:
    """A store in which a worker commits between any two looks at the cut, ``until`` times."""
    store = scenes.flaky(store_with(old=(180, 210), new=(196, 200)), lambda: False)
    looks: list[int] = []

    def cuts() -> list[dict[Partition, Progress]]:
        looks.append(min(len(looks) + 1, until))
        return [{Partition(Kind.PREDICTIONS, 0): Progress(looks[-1], NOON_MS, NOON_MS)}]

    vars(store)["cuts"] = cuts
    return store


def test_numbers_are_read_again_while_a_worker_commits_and_have_no_cut_if_that_never_ends() -> None:
    assert view(committing(3)).cut == {"predictions[0]": 3}
    assert view(committing(1_000)).cut is None


# To take away


def test_the_digest_is_that_of_the_rest_of_the_document_and_changes_with_it() -> None:
    document = json.loads(dump(variants_tables.document(view(scenes.store_of("firing")))))
    digest = document.pop("digest")
    plain = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert digest == f"sha256:{hashlib.sha256(plain.encode()).hexdigest()}"
    document["comparison"]["advice"] = str(Advice.PREFER)
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
    assert found.pair.advised.advice is Advice.PREFER
    [[_, said]] = [n for n in notices(paired_page()) if "Prefer new" in n[1]]
    assert "Urgent recall on the 100 requests that both answered: new 85.0% minus old 63.0%" in said
    assert "only new right 25 times, only old 3; claimed on" in said
    assert "paired, every look" in said


def test_the_table_says_of_each_measure_how_it_was_compared() -> None:
    rows = cells(paired_page())
    assert "+22.0 points" in rows["urgent recall"][-1]
    assert "paired, n = 100" in rows["urgent recall"][-1]
    assert "paired" not in rows["accuracy"][-1]
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


def test_few_pairs_are_not_enough_evidence() -> None:
    found = paired_view(Answered(5, 3, 2, 0))
    assert found.pair is not None
    assert found.pair.comparison.finding is Finding.TOO_FEW
    told = "\n".join(said for _, said in notices(paired_page(Answered(5, 3, 2, 0))))
    assert "Not enough evidence: both answered 10 labelled requests so far." in told


def test_the_document_has_the_pairs() -> None:
    document: Any = json.loads(dump(variants_tables.document(paired_view())))
    told = document["comparison"]
    assert told["method"] == "mixture test of pairs that differ, paired, every look, 95%"
    assert told["differences"]["urgent recall"]["is_paired"] is True
    pairs = told["pairs"]["urgent recall"]
    assert (pairs["one"][0], pairs["only_one"], pairs["only_other"]) == ("new", 25, 3)
    assert pairs["p_value"] == pytest.approx(2.7418e-05, rel=1e-3)
