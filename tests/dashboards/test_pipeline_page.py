"""The Pipeline page: what it reads, what it concludes from it, and how it says so."""

import csv
import io
import json
from dataclasses import replace

import pytest

from dashboards import pipeline_checks, pipeline_queries, pipeline_tables
from dashboards.models import Choice
from dashboards.pipeline_models import PipelineView, Reach
from dashboards.tables import csv_of
from dashboards.theme import Tone
from monitor.adapters.memory import MemoryStore
from monitor.app.settings import Settings
from monitor.app.vitals import StoreVitals
from monitor.codec.notices import pack_told
from monitor.domain.cut import IDLE, UNREAD, Progress
from monitor.domain.engine import Changes
from monitor.domain.errors import StoreError
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import Kind, Partition, Reason
from monitor.domain.ledger import Gap
from monitor.domain.notices import Told
from tests.dashboards import scenes
from tests.dashboards.piped import (
    DESK,
    LABELS,
    PREDICTIONS,
    SERVER,
    WELL,
    beat,
    healthy,
    leader,
    source_of,
    unhanded,
)
from tests.dashboards.scenes import NOON_MS
from tests.dashboards.test_pages import cards, forget_what_was_read, notices, run, show

TITLE = "Can I trust the numbers?"
TOLD = Settings.model_validate(
    {"notify": [{"webhook": "http://127.0.0.1:9/hook", "name": "pager"}, {"topic": "told"}]}
)


def view_of(
    store: MemoryStore,
    *,
    age_ms: int = 2_000,
    settings: Settings | None = None,
    vitals: StoreVitals | None = WELL,
) -> PipelineView:
    return pipeline_queries.pipeline(
        store,
        scenes.SPEC,
        Choice(),
        recent_ms=0,
        now_ms=NOON_MS + age_ms,
        settings=settings or DESK,
        vitals=(lambda: vitals) if vitals else None,
    )


def found(view: PipelineView) -> dict[str, tuple[Tone | None, str]]:
    return {check.name: (check.tone, check.said) for check in pipeline_checks.checks(view)}


def progressed(**partitions: Progress) -> MemoryStore:
    """A store that has read so far in each partition, such as ``labels_1``."""
    store = MemoryStore()
    moved = {Partition(name[:-2], int(name[-1])): progress for name, progress in partitions.items()}
    store.commit(0, {}, Changes({}, {}, {}, {}, [], moved))
    beat(store, lags=tuple((partition, 0) for partition in sorted(moved)))
    return store


# What is read


def test_a_partition_is_as_far_as_the_shard_that_is_furthest_behind() -> None:
    store = MemoryStore(2)
    for shard, progress in enumerate((Progress(7, 5_000, 5_000), Progress(4, 3_000, 3_000))):
        store.commit(shard, {}, Changes({}, {}, {}, {}, [], {PREDICTIONS: progress}))
    beat(store, lags=((PREDICTIONS, 11),), lag=11)
    [row] = view_of(store).partitions
    assert (row.reach, row.next_offset, row.newest_ms, row.frontier_ms) == (
        Reach.READ,
        4,
        5_000,
        3_000,
    )
    assert (row.lag, row.worker, row.holds_back) == (11, "worker-1", True)


def test_the_partition_that_holds_the_watermark_is_named_and_idle_ones_never_are() -> None:
    store = progressed(
        predictions_0=Progress(9, NOON_MS - 60_000, NOON_MS - 60_000),
        predictions_1=Progress(9, NOON_MS - 9_000, NOON_MS - 9_000),
        labels_0=Progress(3, IDLE, NOON_MS - 900_000),
    )
    view = view_of(store)
    states = {str(row.partition): (row.reach, row.holds_back) for row in view.partitions}
    assert states == {
        "labels[0]": (Reach.IDLE, False),
        "predictions[0]": (Reach.READ, True),
        "predictions[1]": (Reach.READ, False),
    }
    assert view.watermark_ms == NOON_MS - 65_000
    texts = [str(row["State"]) for row in pipeline_tables.partitions(view)]
    assert texts == ["idle: read to its end", "read, sets the watermark", "read"]


def test_a_partition_that_was_never_read_holds_the_watermark() -> None:
    store = progressed(predictions_0=Progress(9, NOON_MS, NOON_MS), labels_0=Progress(0, UNREAD))
    view = view_of(store)
    assert view.watermark_ms is None
    assert {str(row.partition): row.holds_back for row in view.partitions} == {
        "labels[0]": True,
        "predictions[0]": False,
    }
    assert found(view)["Input"] == (Tone.WARNING, "not read yet: labels[0]")


def test_a_worker_is_gone_when_it_is_silent_while_another_one_beats() -> None:
    store = healthy()
    beat(store, "worker-0", NOON_MS - 61_000, lag=5_000, lags=((LABELS, 5_000),))
    view = view_of(store)
    assert [(w.name, w.is_gone, w.age_ms) for w in view.workers] == [
        ("worker-0", True, 63_000),
        ("worker-1", False, 2_000),
    ]
    assert view.freshness.lag == 0
    assert {row.worker for row in view.partitions} == {"worker-1"}
    assert found(view)["Signs of life"] == (Tone.OK, "1 of 2 alive, last 2 s ago")


def test_a_receiver_is_behind_by_the_transitions_that_it_has_not_taken_in() -> None:
    store = healthy()
    ever = len(store.transitions())
    assert ever >= 2
    desk = store.lead("w", 1, "notify:pager")
    assert desk is not None
    store.save_delivery("notify:pager", pack_told(Told(cursor=ever - 1)), desk)
    pager, told = view_of(store, settings=TOLD).receivers
    assert (pager.name, pager.behind, pager.is_told) == ("pager", 1, True)
    assert (told.name, told.behind, told.is_told) == ("topic", ever, False)


# What follows from it


def test_the_answer_is_yes_when_every_check_holds() -> None:
    checks = pipeline_checks.checks(view_of(healthy()))
    assert {check.tone for check in checks} == {Tone.OK}, checks
    said = pipeline_checks.verdict(checks)
    assert (said.tone, said.title) == (Tone.OK, "Yes: all 12 checks hold.")


def test_the_answer_is_with_care_when_nobody_is_told_of_alerts() -> None:
    checks = pipeline_checks.checks(view_of(healthy(), settings=Settings()))
    said = pipeline_checks.verdict(checks)
    assert said.tone is Tone.WARNING
    assert said.body.startswith("Notices: nobody is told of alerts: no receiver is set")


def test_the_answer_is_not_yes_when_something_is_not_known() -> None:
    said = pipeline_checks.verdict(pipeline_checks.checks(view_of(healthy(), vitals=None)))
    assert said.tone is Tone.NEUTRAL
    assert said.title == "As far as can be told, yes."
    assert said.body == "Not known: Redis, answer; Redis, evictions; Redis, memory."


def test_the_answer_is_no_when_records_were_lost() -> None:
    store = scenes.lose(healthy(), Gap(LABELS, 7, 9))
    checks = pipeline_checks.checks(view_of(store))
    said = pipeline_checks.verdict(checks)
    assert (said.tone, said.title) == (Tone.CRITICAL, "No: 1 of 12 checks fail.")
    assert said.body == "Losses: dropped by the log before it was counted: labels[0]@7-8"
    assert pipeline_checks.worst_first(checks)[0].name == "Losses"


def test_books_that_do_not_balance_are_a_fault() -> None:
    store = healthy()
    store.commit(0, {}, Changes({}, {}, {}, {"labels.received": 2}, [], {}))
    assert found(view_of(store))["Books"] == (Tone.CRITICAL, "2 labels missing")


@pytest.mark.parametrize(
    ("age_ms", "tone"), [(60_000, Tone.OK), (120_000, Tone.WARNING), (400_000, Tone.CRITICAL)]
)
def test_silent_workers_are_told_by_how_long(age_ms: int, tone: Tone) -> None:
    told = found(view_of(healthy(), age_ms=age_ms))
    assert told["Signs of life"][0] is tone
    if tone is not Tone.OK:
        assert told["Readers"][0] is None
        assert told["Input"][0] is None


def test_rules_that_nobody_asks_are_told_though_workers_beat() -> None:
    store = healthy()
    beat(store, at_ms=NOON_MS, evaluated_ms=NOON_MS - 120_000)
    assert found(view_of(store))["Rules"] == (Tone.WARNING, "last 2 min ago")
    beat(store, at_ms=NOON_MS, evaluated_ms=None)
    assert found(view_of(store))["Rules"][0] is None


def test_waiting_records_are_told_once_they_are_old() -> None:
    for late_ms, tone in ((9_000, Tone.OK), (120_000, Tone.WARNING)):
        at_ms = NOON_MS - late_ms
        store = progressed(predictions_0=Progress(9, at_ms, at_ms))
        beat(store, lag=1_200, lags=((PREDICTIONS, 1_200),))
        told, said = found(view_of(store))["Input"]
        assert told is tone
        assert said.startswith("1\u202f200 records waiting, complete up to 11:5")


def test_a_partition_that_no_live_worker_reads_is_told() -> None:
    store = healthy()
    beat(store, lags=((PREDICTIONS, 0),))
    told = found(view_of(store))["Readers"]
    assert told == (Tone.WARNING, "no live worker reads labels[0]")
    beat(store, lags=None)
    assert found(view_of(store))["Readers"][0] is None


def test_transitions_and_receivers_that_wait_are_told() -> None:
    store = unhanded()
    ever = len(store.transitions())
    assert found(view_of(store))["Notices"] == (
        Tone.WARNING,
        f"{ever} transitions waiting to go to the log",
    )
    behind = found(view_of(healthy(), settings=TOLD))["Notices"]
    assert behind == (Tone.WARNING, f"not taken yet by pager: {ever}, topic: {ever}")


def test_a_journal_that_does_not_reach_its_topic_is_told() -> None:
    store = unhanded()
    tone, said = found(view_of(store))["Journal"]
    assert tone is Tone.WARNING
    assert said.endswith("entries wait for recallwatch.journal")


@pytest.mark.parametrize(
    ("changed", "check", "tone", "said"),
    [
        ({"policy": "allkeys-lru"}, "Redis, evictions", Tone.CRITICAL, "allkeys-lru"),
        ({"evicted": 3}, "Redis, evictions", Tone.CRITICAL, "3 keys dropped since its start"),
        ({"policy": None}, "Redis, evictions", None, "does not tell"),
        ({"used_bytes": None}, "Redis, memory", None, "does not tell"),
        ({"fullest": 0.95}, "Redis, memory", Tone.WARNING, "12 MB used, 95% of the limit"),
        ({"fullest": 0.5}, "Redis, memory", Tone.OK, "12 MB used, 50% of the limit"),
    ],
)
def test_the_server_is_judged_by_what_it_says(
    changed: dict[str, object], check: str, tone: Tone | None, said: str
) -> None:
    server = replace(SERVER, **changed)  # type: ignore[arg-type]  # fields by name
    told = found(view_of(healthy(), vitals=StoreVitals(0.4, server)))[check]
    assert told[0] is tone
    assert said in told[1]


def test_a_slow_server_is_told() -> None:
    told = found(view_of(healthy(), vitals=replace(WELL, answer_ms=340.0)))
    assert told["Redis, answer"] == (Tone.WARNING, "in 340.0 ms")


def test_many_rejects_are_told_and_few_are_not() -> None:
    calm, bad = scenes.calm(), scenes.calm()
    for _ in range(200):
        bad.reject(Kind.LABELS, Reason.NOT_JSON)
    tones = [found(view_of(scenes.filled(chat)))["Rejected records"][0] for chat in (calm, bad)]
    assert tones == [Tone.OK, Tone.WARNING]


# The page


def html(*, of: str, app_html: list[str]) -> str:
    [text] = [text for text in app_html if f'aria-label="{of}"' in text]
    return text


def test_the_page_answers_its_question_and_shows_what_the_answer_stands_on() -> None:
    app = run(source_of(healthy()), "pipeline")
    assert app.title[0].value == TITLE
    assert notices(app) == [(Tone.OK, f"Yes: all 12 checks hold. {pipeline_checks.ABOUT}")]
    assert cards(app) == {
        "Last write": "2 s",
        "Records behind": "0",
        "Complete up to": "12:00:00",
        "Rules evaluated": "3 s",
        "Redis answers in": "0.4 ms",
        "Redis memory": "12 MB",
    }
    bodies = [element.proto.body for element in app.main.get("html")]
    assert html(of="What was checked", app_html=bodies).count("</tr>") == 13
    assert "worker-1" in html(of="Workers", app_html=bodies)
    assert "predictions[0]" in html(of="Partitions", app_html=bodies)
    handed = html(of="What is handed on", app_html=bodies)
    assert "recallwatch.journal" in handed
    assert "recallwatch.dead-letters" in handed
    identities = [body for body in bodies if "received" in body]
    assert [">=<" in body for body in identities] == [True, True]


def test_the_page_shows_what_is_unknown_as_unknown() -> None:
    app = show("ok", "pipeline")
    assert notices(app)[0][0] is not Tone.OK
    assert cards(app)["Redis memory"] == "–"
    captions = [caption.value for caption in app.caption]
    assert "unknown, not told" in captions
    assert "unknown, no server" in captions


def test_the_page_says_that_there_is_nothing_yet() -> None:
    app = show("empty", "pipeline")
    [(tone, text)] = notices(app)
    assert tone is Tone.NEUTRAL
    assert "No worker has reported yet: start one with recallwatch run." in text
    assert not app.metric


def test_the_page_is_red_and_stale_when_no_worker_reports() -> None:
    told = notices(run(replace(source_of(healthy()), now_ms=lambda: NOON_MS + 400_000), "pipeline"))
    assert [tone for tone, _ in told] == [Tone.CRITICAL, Tone.CRITICAL]
    assert told[0][1].startswith("Stale — no new window for 6 min.")
    assert told[1][1].startswith(
        "No: 2 of 12 checks fail. Signs of life: no worker has reported for 6 min"
    )


def test_the_page_keeps_the_last_known_values_when_the_store_goes_away() -> None:
    down: list[bool] = []
    app = run(source_of(healthy()), "pipeline")
    found_store = healthy()
    flaky = scenes.flaky(found_store, lambda: bool(down))
    app = run(replace(source_of(found_store), connect=lambda: flaky), "pipeline")
    assert cards(app)["Records behind"] == "0"
    down.append(True)
    forget_what_was_read()
    app.run()
    assert not app.exception
    [(tone, text)] = notices(app)
    assert tone is Tone.CRITICAL
    assert text.startswith("Redis is unreachable — last known values of 12:00:02 UTC.")
    assert set(cards(app).values()) == {"–"}
    assert "last known 12 MB" in [caption.value for caption in app.caption]


def test_the_page_hides_its_numbers_when_the_server_stops_answering_for_good() -> None:
    def refuse() -> StoreVitals:
        raise StoreError("redis://localhost:6379/0 does not answer.")

    app = run(replace(scenes.source_of(healthy()), vitals=refuse), "pipeline")
    assert notices(app)[0][1].startswith("Redis is unreachable — live numbers are hidden.")
    assert not app.metric


def test_names_from_outside_are_no_markup() -> None:
    store = healthy()
    beat(store, "<b>w</b>")
    app = run(source_of(store), "pipeline")
    bodies = [element.proto.body for element in app.main.get("html")]
    assert "&lt;b&gt;w&lt;/b&gt;" in html(of="Workers", app_html=bodies)
    assert not [body for body in bodies if "<b>w" in body]


# What can be taken away


def test_the_files_say_the_same_as_the_page() -> None:
    view = view_of(healthy(), settings=TOLD)
    checks = pipeline_checks.checks(view)
    document = json.loads(json.dumps(pipeline_tables.document(view, checks)))
    assert [row["check"] for row in document["checks"]] == [check.name for check in checks]
    assert document["watermark"].startswith("2026-11-22T12:00:00")
    side = document["ledger"]["predictions"]
    terms = ("labelled", "pending", "expired", "duplicate")
    assert side["received"] == sum(side[t] for t in terms) + sum(side["rejected"].values())
    assert side["difference"] == 0
    assert document["journal"]["hash"] == view.journal.hash
    rows = list(csv.DictReader(io.StringIO(csv_of(pipeline_tables.partitions(view)))))
    assert [row["Partition"] for row in rows] == ["labels[0]", "predictions[0]"]


def test_dead_letters_are_the_records_that_were_rejected() -> None:
    view = view_of(scenes.filled(scenes.incident()))
    assert view.dead_letters == 4
    [row] = [r for r in pipeline_tables.handing_on(view) if str(r["What"]).startswith("Dead")]
    assert str(row["So far"]).startswith("4 records")


def test_an_evaluation_without_an_entry_is_not_taken_for_a_journaled_one() -> None:
    store = MemoryStore()
    store.commit_evaluation(Evaluation(1, NOON_MS), [], leader(store))
    told = found(view_of(store))["Journal"]
    assert told == (None, "evaluation 1 has no entry")
