"""The page "Replay and audit": what it shows, and that it shows nothing too early."""

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards import bundle, replay_queries, words
from dashboards.models import Choice
from dashboards.recompute import Answer, Desk, Question
from dashboards.replay_models import Ask, Known, Replayed
from dashboards.theme import Tone
from monitor.adapters.memory import MemoryStore
from monitor.app.audit import Difference, Verification
from monitor.app.replay import OnProgress
from monitor.domain.alerts import Event, Status
from monitor.domain.counts import Counts, bucket_of
from monitor.domain.errors import BrokerError, NotVerifiable, StoreError
from monitor.domain.windows import DAY_MS, HOUR_MS, MINUTE_MS
from tests.dashboards import replayed, scenes
from tests.dashboards.scenes import NOON_MS
from tests.dashboards.test_pages import cards, forget_what_was_read, notices, run

TITLE = "What did the monitor know at that time?"
FIRED = "d7ce4156-2"
AFTER_MS = NOON_MS - 20 * MINUTE_MS
"""11:40, when the alert was firing."""


def at(clock: str) -> str:
    return f"2026-11-22T{clock}Z"


def show(verify: Callable[[str, OnProgress], Verification] | None = None, **query: str) -> AppTest:
    return run(replayed.source(verify=verify), "replay", **query)


def view(at_ms: int | None, known: Known = Known.THEN, span: str = "3h") -> Replayed:
    found = replayed.source()
    return replay_queries.replayed(
        replayed.store(), found.spec, Choice("fine_tuned", "urgent", span),
        recent_ms=found.recent_ms, now_ms=NOON_MS, ask=Ask(at_ms, known), settings=found.settings,
    )  # fmt: skip


def address(app: AppTest, name: str) -> str:
    """What the address says by now."""
    said = app.query_params[name]
    return said if isinstance(said, str) else said[0]


def text(app: AppTest) -> str:
    """All that the page says, but for the widgets that choose the time."""
    elements = [*app.main]
    said = [
        str(getattr(e.proto, "body", "")) + str(getattr(e.proto, "title", "")) for e in elements
    ]
    return "\n".join(said).replace("\\", "")


@pytest.fixture(autouse=True)
def nothing_is_known_yet() -> Iterator[None]:
    st.cache_resource.clear()
    yield
    for thread in threading.enumerate():
        if thread.name == "recompute":
            thread.join()


def test_the_page_says_that_there_is_nothing_when_the_store_is_empty() -> None:
    app = run(scenes.source_of(MemoryStore()), "replay")
    assert app.title[0].value == TITLE
    assert notices(app) == [(Tone.NEUTRAL, scenes.NOTHING_YET)]
    assert not app.slider


def test_the_newest_instant_is_shown_and_named_in_the_address_when_none_is_asked_for() -> None:
    app = show()
    assert address(app, "at") == at("12:00")
    assert "Replay, not live · 2026-11-22 12:00 UTC" in text(app)


def test_a_link_shows_its_instant_and_knowledge() -> None:
    app = show(at=at("11:40"), known="compare")
    assert "Replay, not live · 2026-11-22 11:40 UTC" in text(app)
    assert "as known then, and beside it" in text(app)
    assert app.slider[0].value == datetime(2026, 11, 22, 11, 40)  # noqa: DTZ001 - the slider's own


def test_a_link_to_an_alert_leads_to_the_first_minute_at_which_it_shows() -> None:
    app = show(alert=FIRED.rsplit("-", 1)[0])
    assert address(app, "at") == at("11:37")
    assert any("firing since 11:36 UTC" in said for _, said in notices(app))


def test_an_instant_within_a_minute_shows_what_was_known_when_the_minute_began() -> None:
    assert address(show(at=at("11:36:50")), "at") == at("11:36")


def test_an_unreadable_instant_is_passed_over() -> None:
    assert address(show(at="yesterday"), "at") == at("12:00")


def test_steps_and_slider_move_the_instant_and_stop_at_the_ends() -> None:
    app = show(at=at("11:40"))
    [back] = [b for b in app.button if b.label == "−5 min"]
    back.click().run()
    assert address(app, "at") == at("11:35")
    app.slider[0].set_value(datetime(2026, 11, 22, 10, 12)).run()  # noqa: DTZ001 - the slider's own
    assert address(app, "at") == at("10:12")
    for label, end in (("+1 h", "12:00"), ("−1 h", "11:00")):
        for _ in range(2 if label == "+1 h" else 1):
            [step] = [b for b in app.button if b.label == label]
            step.click().run()
        assert address(app, "at") == at(end)


def test_jumping_to_an_alert_moves_the_instant_and_marks_the_alert() -> None:
    app = show(at=at("10:00"))
    [jump] = [box for box in app.selectbox if box.label == "Jump to an alert"]
    jump.select_index(0).run()
    assert address(app, "at") == at("11:37")
    assert address(app, "alert") == FIRED


def test_nothing_of_an_alert_is_shown_before_it_fired() -> None:
    app = show(at=at("11:36"))
    assert "firing" not in text(app)
    assert FIRED not in text(app)
    assert "No alert had been raised by then." in [c.value for c in app.caption]


def test_an_alert_fires_then_though_it_is_over_by_now() -> None:
    [(tone, said), (quiet, _)] = notices(show(at=at("11:40"), verify=None))[:2]
    assert tone is Tone.CRITICAL
    assert said.startswith("urgent-recall (fine_tuned): firing since 11:36 UTC, 3 min by then.")
    assert "hindsight" not in said
    assert quiet is Tone.OK


@pytest.mark.parametrize("known", ["now", "compare"])
def test_hindsight_judges_an_alert_only_when_it_is_asked_for(known: str) -> None:
    assert "confirmed" not in text(show(at=at("11:40")))
    assert "in hindsight confirmed at 11:57 UTC" in text(show(at=at("11:40"), known=known))


def test_no_transition_or_entry_of_later_is_in_what_was_known_then() -> None:
    for at_ms in range(NOON_MS - 40 * MINUTE_MS, NOON_MS, MINUTE_MS):
        found = view(at_ms)
        assert all(move.at_ms < at_ms for move in found.moves)
        assert not found.judged
        assert found.proof is not None
        assert all(entry.tick_ms <= at_ms for entry in found.proof.around)
        assert all(span.start_ms < at_ms for span in found.spans)
        assert all((span.end_ms or 0) < at_ms for span in found.spans)
        assert found.now is None


def test_what_was_known_then_is_what_the_page_would_have_shown_then() -> None:
    """The store as it was at 11:40, which had read nothing later, says the same."""
    past = replayed.written_until(AFTER_MS)
    found = replayed.source(past)
    choice = Choice("fine_tuned", "urgent", "3h")
    live = replay_queries.replayed(
        past, found.spec, choice, recent_ms=found.recent_ms, now_ms=NOON_MS, ask=Ask(AFTER_MS),
        settings=found.settings,
    )  # fmt: skip
    then = view(AFTER_MS)
    assert then.then == live.then
    assert then.standings == live.standings
    assert then.moves == live.moves
    assert then.spans == live.spans
    assert then.rules == live.rules
    assert then.proof is not None
    assert live.proof is not None
    assert then.proof.entry == live.proof.entry
    assert then.proof.around == live.proof.around


def test_labels_missing_then_are_those_that_came_later() -> None:
    found = view(AFTER_MS, Known.COMPARE)
    assert found.then is not None
    assert found.now is not None
    past = replayed.written_until(AFTER_MS)
    keys = [
        k
        for k in past.pane_keys(MINUTE_MS)
        if k.clock == "event" and k.key == ("fine_tuned", "ALL")
    ]
    held = [k for k in keys if found.window.start_ms <= k.start_ms < AFTER_MS]
    known_then = sum(counts.labelled for counts in past.panes(held))
    assert found.then.of_window == pytest.approx(known_then, abs=3)
    assert found.now.of_window > found.then.of_window + 20
    app = show(at=at("11:40"), known="compare", variant="fine_tuned")
    came = found.now.of_window - found.then.of_window
    assert f"Labels still missing then: about {came}" in text(app)


def test_delays_tell_which_outcomes_are_of_the_window() -> None:
    told = Counts({("delay", str(bucket_of(5 * MINUTE_MS))): 10})
    assert replay_queries.known_of([(0, told)], MINUTE_MS, -4 * MINUTE_MS) == 0
    assert replay_queries.known_of([(0, told)], MINUTE_MS, -6 * MINUTE_MS) == 10
    assert replay_queries.known_of([], MINUTE_MS, 0) == 0


def test_the_entry_of_an_instant_is_the_last_evaluation_by_then() -> None:
    store = replayed.store()
    last = store.evaluation().sequence
    for at_ms in (replayed.FIRST_MS, AFTER_MS, AFTER_MS + 30_000, NOON_MS, NOON_MS + DAY_MS):
        entry = replay_queries.entry_at(store, at_ms, last)
        assert entry is not None
        wanted = [e for e in store.journal(0, 10_000) if e.tick_ms <= at_ms]
        assert entry == wanted[-1]
    assert replay_queries.entry_at(store, replayed.FIRST_MS - 1, last) is None


def test_the_rule_is_that_of_then_and_its_change_is_told_in_hindsight_alone() -> None:
    then, now = view(AFTER_MS), view(AFTER_MS, Known.NOW)
    assert then.objective == 0.80
    assert "objective 80%" in then.rules[0].text
    assert then.proof is not None
    assert then.proof.later is None
    assert now.objective == 0.85
    assert now.proof is not None
    assert now.proof.later == ("rules.urgent-recall.objective: was 0.8, is 0.85",)
    assert view(NOON_MS).objective == 0.85


def test_the_chain_is_checked() -> None:
    proof = view(AFTER_MS).proof
    assert proof is not None
    assert (proof.is_sealed, proof.follows, proof.is_document) == (True, True, True)


def test_a_store_without_a_journal_says_where_to_look() -> None:
    app = run(scenes.source_of(scenes.store_of("firing")), "replay")
    assert any("keeps no journal entry of that time" in said for _, said in notices(app))
    assert any("firing since 11:" in said for _, said in notices(app))


def test_a_broken_entry_is_told() -> None:
    store = replayed.written_until(AFTER_MS)
    entry = store.journal(0, 10_000)[-1]
    altered = SimpleNamespace(
        journal=lambda after=0, limit=1_000: [
            replace(e, state="0" * 64) if e.sequence == entry.sequence else e
            for e in store.journal(after, limit)
        ]
    )
    app = run(replayed.source(_Over(store, altered)), "replay")  # type: ignore[arg-type] # a wrapper
    assert any("does not hold" in said for tone, said in notices(app) if tone is Tone.CRITICAL)


def test_numbers_past_their_retention_name_the_command_that_derives_them() -> None:
    found = replayed.source()
    windows = found.spec.windows._replace(keep_ms={MINUTE_MS: HOUR_MS, HOUR_MS: 2 * HOUR_MS})
    source_ = replace(found, spec=replace(found.spec, windows=windows))
    app = run(source_, "replay", at=at("09:30"))
    assert any("no longer kept in the store" in said for _, said in notices(app))
    assert app.code[0].value == (
        "recallwatch replay --as-of 2026-11-22T09:30:00Z --out replay-2026-11-22T093000Z"
    )
    assert not app.metric
    assert "Journal entry" in text(app)


def test_hours_stand_in_where_minutes_are_gone_and_never_reach_beyond_the_instant() -> None:
    found = replayed.source()
    windows = found.spec.windows._replace(keep_ms={MINUTE_MS: HOUR_MS, HOUR_MS: DAY_MS})
    found = replace(found, spec=replace(found.spec, windows=windows))
    app = run(found, "replay", at=at("10:40"))
    assert "Replay, not live · 2026-11-22 10:00 UTC" in text(app)
    said = "Counted in panes of 1 h, so that this is what was known at 2026-11-22 10:00 UTC."
    assert said in [caption.value for caption in app.caption]
    assert "Urgent recall" in cards(app)


def test_altered_settings_are_told_and_not_used() -> None:
    store = replayed.written_until(AFTER_MS)
    altered = SimpleNamespace(documents=lambda: dict.fromkeys(store.documents(), "{}"))
    app = run(replayed.source(_Over(store, altered)), "replay", known="now")  # type: ignore[arg-type] # a wrapper
    assert any("does not hold" in said for tone, said in notices(app) if tone is Tone.CRITICAL)
    assert "ALTERED SINCE" in text(app)


def test_the_page_says_what_is_counted() -> None:
    app = show(at=at("11:40"))
    [counted] = [c.value for c in app.caption if c.value.startswith("Counted")]
    assert "labels that became known between 08:40 and 11:40 UTC" in counted
    assert set(cards(app)) == {
        "Urgent recall", "Missed urgent", "Labels counted", "Labels in", "Missing then",
    }  # fmt: skip
    [counted] = [c.value for c in show(at=at("11:40"), known="now").caption if "Counted" in c.value]
    assert "labels known today about the" in counted


def test_the_last_picture_is_kept_when_the_store_goes_away() -> None:
    is_down = [False]
    found = replayed.source(scenes.flaky(replayed.store(), lambda: is_down[0]))
    app = run(found, "replay", at=at("11:40"))
    is_down[0] = True
    forget_what_was_read()
    app.run()
    assert any("Redis is unreachable — last known values of" in said for _, said in notices(app))
    assert cards(app)["Urgent recall"] == "–"
    assert "firing since 11:36 UTC" in text(app)


def test_live_numbers_are_hidden_when_the_store_was_never_there() -> None:
    def connect() -> MemoryStore:
        raise StoreError("redis://localhost:6379/0 does not answer. Is it running?")

    app = run(replace(replayed.source(), connect=connect), "replay")
    assert any("live numbers are hidden" in said for _, said in notices(app))


def recompute(app: AppTest) -> AppTest:
    """Press the button and wait until the answer is there."""
    app.button(key="replay-recompute").click().run()
    for thread in threading.enumerate():
        if thread.name == "recompute":
            thread.join()
    return app.run()


def test_recomputing_says_that_everything_matches() -> None:
    asked: list[str] = []

    def verify(alert: str, on_progress: OnProgress) -> Verification:
        asked.append(alert)
        return replayed.recomputed(alert, on_progress)

    app = recompute(show(verify, at=at("11:40")))
    assert (Tone.OK, f"Match: {FIRED} came out the same, bit for bit.") in [
        (tone, said.split(" replayed")[0]) for tone, said in notices(app)
    ]
    assert asked == [FIRED]
    assert app.button(key="replay-recompute").disabled


def test_recomputing_names_the_first_difference() -> None:
    def verify(alert: str, on_progress: OnProgress) -> Verification:
        return Verification(differences=[Difference("record", "labels[0]@7", "a record", "none")])

    app = recompute(show(verify, at=at("11:40")))
    said = [said for tone, said in notices(app) if tone is Tone.CRITICAL]
    assert any(
        "1 differs. First difference: record labels[0]@7: expected a record, found none" in text
        for text in said
    )


@pytest.mark.parametrize(
    "error",
    [BrokerError("Kafka at localhost:9092 does not answer. Is it running?"), NotVerifiable("gone")],
)
def test_recomputing_says_why_it_cannot_be_done(error: Exception) -> None:
    def verify(alert: str, on_progress: OnProgress) -> Verification:
        raise error

    app = recompute(show(verify, at=at("11:40")))
    assert (Tone.WARNING, f"{FIRED} could not be recomputed. {error}") in notices(app)
    assert not app.button(key="replay-recompute").disabled


def test_there_is_no_recomputing_without_a_log() -> None:
    app = show(at=at("11:40"))
    assert app.button(key="replay-recompute").disabled
    assert any("There is no log to recompute from." in said for _, said in notices(app))


def test_one_recomputation_runs_at_a_time_and_its_answer_is_kept() -> None:
    go, desk, runs = threading.Event(), Desk(), list[str]()

    def verify(alert: str, on_progress: OnProgress) -> Verification:
        runs.append(alert)
        on_progress(1, 3)
        go.wait()
        return Verification()

    first = Question(1, "a-1", "head")
    assert desk.ask(first, verify)
    assert not desk.ask(Question(1, "b-1", "head"), verify)
    go.set()
    for thread in threading.enumerate():
        if thread.name == "recompute":
            thread.join()
    assert desk.running is None
    assert desk.answer(1, "a-1") == Answer(first, Verification())
    assert not desk.ask(first, verify)
    assert runs == ["a-1"]


def unpacked(packed: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_bundle_holds_what_was_known_then_with_hashes_and_masked_ids() -> None:
    found = view(AFTER_MS)
    answer = Answer(Question(1, FIRED, "head"), Verification(records=7))
    packed = bundle.bundle(found, Choice("fine_tuned", "urgent"), answer)
    files = unpacked(packed)
    assert list(files) == [
        "numbers.json", "transitions.csv", "journal.jsonl", "settings.json", "audit.json",
        "SHA256SUMS",
    ]  # fmt: skip
    for line in files["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert sha256(files[name]).hexdigest() == digest
    numbers = json.loads(files["numbers.json"])
    assert numbers["as_of"] == "2026-11-22T11:40:00.000Z"
    assert numbers["as_known_now"] is None
    assert numbers["as_known_then"]["groups"]["urgent"]["n"] > 0
    assert json.loads(files["audit.json"])["holds"] is True
    rows = files["transitions.csv"].decode().splitlines()
    assert len(rows) == 1 + len(found.moves)
    fired = found.raised[0]
    assert fired.missed
    assert all(missed.prediction_id not in rows[-1] for missed in fired.missed)
    assert sha256(files["settings.json"]).hexdigest() == found.proof.entry.settings  # type: ignore[union-attr] # there is one
    assert packed == bundle.bundle(view(AFTER_MS), Choice("fine_tuned", "urgent"), answer)


def test_the_bundle_tells_hindsight_apart() -> None:
    files = unpacked(bundle.bundle(view(AFTER_MS, Known.NOW), Choice("ALL", "urgent"), None))
    assert b"confirmed" in files["hindsight.csv"]
    assert b"confirmed" not in files["transitions.csv"]


def test_every_alert_that_had_moved_has_a_state() -> None:
    assert [(s.alert.key.variant, s.status) for s in view(AFTER_MS).standings] == [
        ("fine_tuned", Status.FIRING)
    ]
    assert view(NOON_MS).standings[0].status is Status.OK
    judged = [t for t in view(AFTER_MS, Known.NOW).judged if t.event is Event.CONFIRMED]
    assert [t.judges for t in judged] == [FIRED]


def test_an_instant_in_an_address_is_read_as_it_is_written() -> None:
    assert words.instant_of(words.link(NOON_MS)) == NOON_MS
    assert words.instant_of(words.link(NOON_MS + 1_000)) == NOON_MS + 1_000


class _Over:
    """A store of which some answers are others."""

    def __init__(self, store: MemoryStore, over: SimpleNamespace) -> None:
        self._store, self._over = store, over

    def __getattr__(self, name: str) -> object:
        return getattr(self._over if hasattr(self._over, name) else self._store, name)
