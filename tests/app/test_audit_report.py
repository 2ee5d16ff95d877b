"""The auditor's report: one page, right to the last number, that keeps to itself."""

import csv
import io
import json
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from datetime import datetime
from functools import cache
from html.parser import HTMLParser
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, sync_playwright

from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.app.audit_chart import NARROW, WIDE, chart_of
from monitor.app.audit_html import FORMS, UNKNOWN, matrices_of, render
from monitor.app.audit_report import AsKnown, document_of, held_still, transitions_csv, write_report
from monitor.app.report import iso, present_report
from monitor.app.settings import Settings
from monitor.app.still import TRIES, Still
from monitor.domain.alerts import Status
from monitor.domain.engine import Changes
from monitor.domain.events import Kind
from monitor.domain.windows import DAY_MS, HOUR_MS, PaneKey
from monitor.ports import Picture, StateReader
from tests.app.sampled import sampled
from tests.app.story import SETTINGS, TOPICS, filled, history
from tests.app.test_flow import flow_of, read_to_end, undisturbed
from tests.builders import MINUTE_MS, T0, label_message, prediction_message, record
from tests.replay.scenarios import FOLDER, NO_DATA, Scenario, replayed

QUESTION = "Was recall of urgent below its objective?"
SHOWN = Settings.model_validate({**SETTINGS, "verdict": {"recall": {"urgent": 0.8}}})
CHROMIUM = "/usr/bin/chromium"
HOSTILE = "<script>alert(1)</script>"

Document = dict[str, Any]


class Page(HTMLParser):
    """What a test asks of a page."""

    VOID = frozenset({"meta", "br", "wbr", "link", "img", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.numbers: list[tuple[str, str, str]] = []
        self.text = ""
        self.style = ""
        self._open: list[tuple[str, dict[str, str]]] = []
        self._place: list[tuple[str, str]] = []
        self._number = ""
        self._depth = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        if tag in self.VOID:
            return
        self._open.append((tag, found))
        if "data-at" in found:
            self._place, self._number = [(found["data-at"], found["data-as"])], ""
            self._depth = len(self._open)

    def handle_endtag(self, tag: str) -> None:
        if self._place and len(self._open) == self._depth:
            self.numbers.append((*self._place.pop(), self._number))
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] == "style":
            self.style += data
            return
        self.text += data
        if self._place:
            self._number += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


def value_at(document: Document, pointer: str) -> Any:  # noqa: ANN401 - any value of a document
    value: Any = document
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def document(store: StateReader | Still, **options: Any) -> Document:  # noqa: ANN401 - passed on
    return document_of(store, SHOWN, question=QUESTION, **options)


@cache
def told() -> Document:
    return document(undisturbed())


@cache
def hostile() -> MemoryStore:
    """The story, told by a variant whose name is a script."""
    renamed = [
        each._replace(value=each.value and each.value.replace(b"fine_tuned", HOSTILE.encode()))
        for each in history()
    ]
    log, store = filled(MemoryLog(TOPICS), renamed), MemoryStore()
    read_to_end(flow_of(log, store), log)
    return store


@cache
def twelve_days() -> MemoryStore:
    """A request every six hours, each with its label; all are hits."""
    records = []
    for number in range(48):
        at_ms = T0 + number * 6 * HOUR_MS
        asked = prediction_message(prediction_id=f"p{number}", event_time=iso(at_ms))
        said = label_message(prediction_id=f"p{number}", label_time=iso(at_ms + 1_000))
        records += [
            record(asked, log_ms=at_ms + 100),
            record(said, topic="labels", log_ms=at_ms + 2_000),
        ]
    log, store = filled(MemoryLog(TOPICS), records), MemoryStore()
    read_to_end(flow_of(log, store), log)
    return store


def finding(about: Document, variant: str) -> Document:
    found: Document = next(f for f in about["audit"]["rules"] if f["variant"] == variant)
    return found


# Files


def test_three_files_are_written_and_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(tmp_path / name, deepcopy(undisturbed()), SHOWN, question=QUESTION)
    names = ["report.html", "report.json", "transitions.csv"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_json_is_the_present_report_with_the_audit_beside_it(tmp_path: Path) -> None:
    write_report(tmp_path, undisturbed(), SHOWN, question=QUESTION, reveal=True)
    written = json.loads((tmp_path / "report.json").read_bytes())
    audit = written.pop("audit")
    assert written == json.loads(json.dumps(present_report(undisturbed(), SHOWN)))
    assert audit["question"] == QUESTION
    assert audit["settings_digest"] == SHOWN.digest()


# Numbers


@pytest.mark.parametrize("store", [undisturbed, hostile, twelve_days, MemoryStore])
def test_every_number_of_the_page_is_the_one_in_the_json(store: Any) -> None:  # noqa: ANN401 - maker
    about = document(store())
    numbers = Page(render(about)).numbers
    assert len(numbers) > 10
    for pointer, form, text in numbers:
        value = value_at(about, pointer)
        wanted = FORMS[form](value) if value is not None else None
        assert plain(text) == wanted if wanted else text in {UNKNOWN, "off"}


def test_matrices_hold_every_outcome_that_speaks_to_the_rule() -> None:
    about = finding(told(), "fine_tuned")
    shape = matrices_of(about)
    assert shape is not None
    for part in ("before", "during"):
        assert about["episode"][part]["support"] == sum(r["all"] for r in shape[part].values())
        for row in shape[part].values():
            hits, misses = row["exact"] + row["near"], sum(row["to"].values()) + row["others"]
            assert hits + misses == row["all"]


def test_before_and_during_are_of_one_length_and_adjoin() -> None:
    """The release is at minute 60; two earlier requests became misses by a correction."""
    episode = finding(told(), "fine_tuned")["episode"]
    before, during = episode["before"], episode["during"]
    assert episode["pane_ms"] == MINUTE_MS
    assert before["to"] == during["from"]
    assert (before["misses"], during["misses"] > 2) == (2, True)
    for part in ("before", "during"):
        assert episode[part]["misses"] == sum(route[part] for route in episode["routes"])
    length = [
        datetime.fromisoformat(p["to"]) - datetime.fromisoformat(p["from"])
        for p in (before, during)
    ]
    assert length[0] == length[1]


def test_a_time_line_of_more_than_ten_days_goes_by_days() -> None:
    timeline = finding(document(twelve_days()), "fine_tuned")["timeline"]
    assert timeline["pane_ms"] == DAY_MS
    assert sum(point["support"] for point in timeline["points"]) == 48
    assert finding(told(), "fine_tuned")["timeline"]["pane_ms"] == HOUR_MS


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=lambda size: size.name)
def test_a_drawing_stays_within_its_bounds(size: Any) -> None:  # noqa: ANN401 - a named tuple
    for about in (told(), document(twelve_days())):
        for each in about["audit"]["rules"]:
            chart = chart_of(each, size)
            assert chart is not None
            assert all(chart["left"] <= dot["x"] <= chart["right"] for dot in chart["dots"])
            assert all(chart["top"] <= dot["y"] <= chart["floor"] for dot in chart["dots"])
            assert len(chart["x_ticks"]) <= size.ticks + 1


def test_books_that_do_not_balance_are_said_not_to() -> None:
    store = deepcopy(undisturbed())
    store.commit(0, {}, Changes({}, {}, {}, {"predictions.received": 2}, [], {}))
    about = document(store)
    assert about["audit"]["balance"]["predictions"]["difference"] == 2
    assert "The books do not balance: difference 2." in Page(render(about)).text
    assert "do not balance" not in Page(render(told())).text


# Answers


def test_a_firing_alert_is_answered_with_since_how_sure_and_how_many() -> None:
    about = finding(told(), "fine_tuned")
    assert about["answer"] == "below"
    text = " ".join(about["why"])
    assert "below from about 2026-01-15 03:0" in text
    assert "were misses" in text
    assert "labels on average to turn up by chance" in text
    assert "Hindsight is turned off" in text


def test_a_firing_that_a_new_start_of_the_rule_cut_off_is_not_said_to_go_on() -> None:
    store = deepcopy(undisturbed())
    for alert, state in store.evaluation().states.items():
        if alert.key.variant == "fine_tuned":
            state.status = Status.NO_DATA
    about = finding(document(store), "fine_tuned")
    assert about["answer"] == "was_below"
    assert "when it ended is unknown" in about["why"][0]
    assert [firing["goes_on"] for firing in about["firings"]] == [False]


def test_a_variant_that_held_has_no_drop() -> None:
    assert finding(told(), "prompt")["answer"] == "no_drop"


def test_labels_that_stopped_leave_unknown_what_is_now() -> None:
    store = deepcopy(undisturbed())
    for alert, state in store.evaluation().states.items():
        if alert.key.variant == "fine_tuned":
            state.is_stalled = True
    about = finding(document(store), "fine_tuned")
    assert about["answer"] == "last_known_below"
    assert "how it is now is unknown" in " ".join(about["why"])


def test_a_store_that_knows_nothing_says_unknown_and_no_number() -> None:
    about = document(MemoryStore())
    page = Page(render(about))
    assert [f["answer"] for f in about["audit"]["rules"]] == ["unknown"]
    assert [f["value"] for f in about["audit"]["rules"]] == [None]
    assert "No mature label has come, so nothing can be said." in page.text
    assert "unknown: no record was read yet" in page.text
    assert not re.search(r"\b0\.0\s%", page.text)


def test_few_labels_settle_nothing() -> None:
    log, store = filled(MemoryLog(TOPICS), history()[:30]), MemoryStore()
    read_to_end(flow_of(log, store), log)
    answers = {f["answer"] for f in document(store)["audit"]["rules"]}
    assert answers == {"unknown"}


def test_a_store_that_never_holds_still_gives_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    store, tries = deepcopy(undisturbed()), count(1)

    def none(_sizes: Collection[int], _panes: Sequence[PaneKey]) -> None:
        next(tries)

    monkeypatch.setattr(store, "picture", none)
    about = document(store)
    assert about["digest"] is None
    assert next(tries) == TRIES + 1
    page = Page(render(about)).text
    assert "unknown: the store changed while it was read" in page
    assert "This report cannot be reproduced" in page
    assert "audit report report.json" not in page


def test_a_report_is_of_one_moment_when_records_come_between_any_two_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, store = filled(MemoryLog(TOPICS), history()[:100]), MemoryStore()
    read_to_end(flow_of(log, store), log)
    taken, coming = store.picture, iter(history()[100:140])

    def disturbed(sizes: Collection[int], panes: Sequence[PaneKey]) -> Picture | None:
        picture = taken(sizes, panes)
        filled(log, [next(coming)])
        read_to_end(flow_of(log, store), log)
        return picture

    monkeypatch.setattr(store, "picture", disturbed)
    still = held_still(store, SHOWN)
    report, about = present_report(still, SHOWN), document(still)
    books = still.ledger()
    read = sum(books[f"{kind}.received"] for kind in ("predictions", "labels"))
    assert report["digest"] == about["digest"]
    assert read == sum(about["cut"].values())
    assert 100 < read < 140
    again, same = filled(MemoryLog(TOPICS), history()[:read]), MemoryStore()
    read_to_end(flow_of(again, same), again)
    assert present_report(same, SHOWN)["digest"] == about["digest"]


def test_the_page_says_what_each_digest_of_settings_is_of() -> None:
    text = Page(render(told())).text
    assert "Settings of this report" in text
    assert "Settings of the journal" in text


# Then and now


def test_what_was_known_then_stands_beside_what_is_known_now() -> None:
    log, early = filled(MemoryLog(TOPICS), history()[:100]), MemoryStore()
    read_to_end(flow_of(log, early), log)
    then = AsKnown(T0 + HOUR_MS, present_report(early, SHOWN))
    about = document(undisturbed(), as_known=then)
    page = Page(render(about))
    places = {pointer for pointer, _, _ in page.numbers}
    assert "Known then / known now" in page.text
    assert "/audit/as_known/then/variants/fine_tuned/groups/urgent/recall" in places
    assert "/variants/fine_tuned/groups/urgent/recall" in places
    assert about["audit"]["as_known"]["then"]["alerts"] == {}
    assert "firing: urgent-recall" in about["audit"]["as_known"]["now"]["alerts"]["fine_tuned"][0]
    assert "Known then" not in Page(render(told())).text


# Nothing leaves the page, nothing enters it


@pytest.mark.parametrize("store", [undisturbed, hostile])
def test_the_page_refers_to_nothing_outside_itself(store: Any) -> None:  # noqa: ANN401 - a maker
    page = Page(render(document(store())))
    for _, attrs in page.tags:
        for name in ("href", "src", "srcset", "xlink:href", "action", "data", "poster"):
            assert attrs.get(name, "#").startswith("#")
        assert not [name for name in attrs if name.startswith("on")]
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert "url(" not in page.style
    assert "@import" not in page.style
    policy = next(m for m in page.of("meta") if "http-equiv" in m)["content"]
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in policy


def test_names_from_messages_are_text_and_nothing_else() -> None:
    html = render(document(hostile()))
    assert "<script" not in html
    assert HOSTILE in Page(html).text


def test_marks_that_turn_the_direction_of_writing_are_written_out() -> None:
    about = deepcopy(told())
    about["audit"]["question"] = "safe\u202egpj.exe\x00"
    html = render(about)
    assert "\u202e" not in html
    assert "\x00" not in html
    assert "safe\\u202egpj.exe\\x00" in html


def test_ids_are_masked_and_texts_left_out_unless_somebody_asks(tmp_path: Path) -> None:
    missed = finding(document(undisturbed(), reveal=True), "fine_tuned")["missed"]
    ids = [each["prediction_id"] for each in missed]
    texts = dict.fromkeys(ids, "my card is gone")
    write_report(tmp_path / "masked", undisturbed(), SHOWN, question=QUESTION, texts=texts)
    write_report(
        tmp_path / "whole", undisturbed(), SHOWN, question=QUESTION, texts=texts, reveal=True
    )
    for name in ("report.html", "report.json", "transitions.csv"):
        masked = (tmp_path / "masked" / name).read_text("utf-8")
        whole = (tmp_path / "whole" / name).read_text("utf-8")
        for each in ids:
            assert not re.search(rf"\b{each}\b", masked)
            assert re.search(rf"\b{each}\b", whole)
        assert "my card is gone" not in masked
    assert "my card is gone" in (tmp_path / "whole" / "report.html").read_text("utf-8")


# For everybody


@pytest.mark.parametrize("store", [undisturbed, MemoryStore])
def test_headings_go_down_one_level_at_a_time_and_tables_say_what_they_are(store: Any) -> None:  # noqa: ANN401 - a maker
    page = Page(render(document(store())))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.of("caption")) == len(page.of("table")) > 0
    assert all("scope" in attrs for attrs in page.of("th"))
    assert page.of("html") == [{"lang": "en"}]
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for attrs in page.of("a")} <= set(ids)


def test_every_drawing_has_a_title_and_says_where_its_numbers_stand() -> None:
    page = Page(render(told()))
    drawings = page.of("svg")
    assert len(drawings) == 2 * len(told()["audit"]["rules"])
    assert len(page.of("desc")) == len(drawings)
    ids = {attrs.get("id") for _, attrs in page.tags}
    for drawing in drawings:
        assert set(drawing["aria-labelledby"].split()) <= ids
    assert page.text.count("The same numbers as a table") == len(drawings) / 2


# The table of transitions


def test_the_csv_has_a_line_for_each_transition_as_in_the_json() -> None:
    text = transitions_csv(told()["transitions"])
    assert text.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == len(told()["transitions"]) > 0
    for row, whole in zip(rows, told()["transitions"], strict=True):
        assert row["id"] == whole["id"]
        assert row["evidence"] == ("" if whole["evidence"] is None else repr(whole["evidence"]))
        assert row["cut"].split(";") == [f"{p}@{n}" for p, n in whole["cut"].items()]
        assert row["missed"] == ";".join(m["prediction_id"] for m in whole["missed"])


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_value_of_the_csv_is_taken_for_a_formula(start: str) -> None:
    row = {**told()["transitions"][0], "variant": f'{start}cmd("x"),1', "evidence": -4.5}
    read = next(csv.DictReader(io.StringIO(transitions_csv([row]), newline="")))
    assert read["variant"] == f'\'{start}cmd("x"),1'
    assert read["evidence"] == "-4.5"


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield launched
        launched.close()


@pytest.mark.browser
@pytest.mark.skipif(shutil.which(CHROMIUM) is None, reason=f"no Chromium at {CHROMIUM}")
@pytest.mark.skipif(not FOLDER.is_dir(), reason=NO_DATA)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_real_report_is_whole_in_a_browser_without_network_or_script(
    browser: Browser, tmp_path: Path, width: int, scheme: Literal["dark", "light"]
) -> None:
    scenario = Scenario("clinc150_main")
    write_report(tmp_path, replayed(scenario).store, scenario.settings(), question=QUESTION)
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=False
    )
    page = context.new_page()
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"file://{tmp_path}/report.html")
    assert asked == [f"file://{tmp_path}/report.html"]
    assert said == []
    assert page.locator("svg:visible").count() == 2
    box = page.locator("main").bounding_box()
    assert box is not None
    assert box["width"] <= width
    assert page.locator("article").count() == 2
    context.close()


# A sample


def test_a_sample_is_told_at_the_head_and_its_books_balance() -> None:
    store, settings = sampled(0.5)
    found = document_of(store, settings, question=QUESTION)
    for kind in Kind:
        assert found["ledger"][kind]["passed_over"] > 0
        assert found["audit"]["balance"][kind]["difference"] == 0
    page = render(found)
    said = "A 50 % sample of predictions: counts are of the sample."
    assert said in plain(Page(page).text)
    assert page.count('<th scope="row">passed over') == 2


def test_the_whole_says_nothing_of_a_sample() -> None:
    page = render(told())
    assert "sample of predictions" not in page
    assert "passed over" not in page
