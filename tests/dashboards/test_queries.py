"""View models against numbers counted apart from the code under test."""

import pytest

from dashboards import queries
from dashboards.models import Choice, LabelsView, LiveNow, Trend
from monitor.adapters.memory import MemoryStore
from monitor.domain.alerts import Status
from monitor.domain.engine import Spec
from monitor.domain.events import Kind, Partition, Prediction, Reason
from monitor.domain.ledger import Gap
from monitor.domain.rules import AlertRule
from monitor.domain.slices import ALL, Groups, SliceKey
from monitor.domain.windows import HOUR_MS, MINUTE_MS
from monitor.ports import Heartbeat, StateReader
from tests.dashboards import scenes
from tests.dashboards.scenes import NOON_MS, SPEC, URGENT, Chat, filled, store_of

RECENT_MS = 15 * MINUTE_MS
URGENT_CHOICE = Choice(ALL, "urgent", "3h")


def live(reader: StateReader, choice: Choice = URGENT_CHOICE, *, age_ms: int = 0) -> LiveNow:
    return queries.live_now(
        reader, SPEC, choice, recent_ms=RECENT_MS, now_ms=NOON_MS + age_ms
    )  # fmt: skip


def trend(reader: StateReader, choice: Choice = URGENT_CHOICE, spec: Spec = SPEC) -> Trend:
    return queries.trend(reader, spec, choice, recent_ms=RECENT_MS, now_ms=NOON_MS)


def labels(reader: StateReader, choice: Choice = URGENT_CHOICE) -> LabelsView:
    return queries.labels(reader, SPEC, choice, recent_ms=RECENT_MS, now_ms=NOON_MS)


def test_recent_numbers_are_those_of_the_last_15_minutes_and_no_others() -> None:
    chat = Chat()
    chat.many(3, NOON_MS - 10 * MINUTE_MS, predicted="lost_card", actual="lost_card")
    chat.many(1, NOON_MS - 10 * MINUTE_MS, predicted="fees", actual="lost_card")
    chat.many(6, NOON_MS - 10 * MINUTE_MS, predicted="fees", actual="fees")
    chat.many(20, NOON_MS - 4 * MINUTE_MS, predicted="other")
    chat.many(50, NOON_MS - 16 * MINUTE_MS, predicted="fees", actual="lost_card")
    recent = live(filled(chat)).recent
    assert (recent.recall.value, recent.recall.support, recent.missed) == (0.75, 4, 1)
    assert (recent.predictions, recent.labelled) == (30, 10)
    assert recent.coverage == pytest.approx(1 / 3)
    assert recent.per_minute == 2.0
    assert recent.p95_ms == pytest.approx(100, rel=0.02)


def test_accuracy_is_that_of_all_intents_and_needs_the_very_one() -> None:
    chat = Chat()
    at_ms = NOON_MS - 10 * MINUTE_MS
    chat.many(6, at_ms, predicted="fees", actual="fees")
    chat.many(1, at_ms, predicted="lost_card", actual="lost_card")
    chat.many(1, at_ms, predicted="lost_card", actual="report_fraud")
    chat.many(2, at_ms, predicted="fees", actual="lost_card")
    chat.many(5, at_ms, predicted="fees")
    chat.many(10, NOON_MS - 20 * MINUTE_MS, predicted="other", actual="fees")
    view = live(filled(chat))
    assert (view.recent.accuracy.value, view.recent.accuracy.support) == (0.7, 10)
    # Five minutes show both: the ten wrong ones leave 15 minutes after they came.
    expected = [0.0] * 10 + [0.35] * 5 + [0.7] * 5
    assert view.sparks.accuracy == pytest.approx(expected)


def test_accuracy_is_unknown_when_there_are_no_labels() -> None:
    view = live(store_of("no_labels"))
    assert view.recent.accuracy.value is None
    assert view.sparks.accuracy == ()


def test_another_intent_of_the_group_is_a_hit_when_it_was_predicted() -> None:
    chat = Chat()
    chat.many(4, NOON_MS - 10 * MINUTE_MS, predicted="lost_card", actual="report_fraud")
    assert live(filled(chat)).recent.recall.value == 1.0


def test_numbers_before_are_those_of_the_same_window_an_hour_earlier() -> None:
    chat = Chat()
    chat.many(8, NOON_MS - 70 * MINUTE_MS, predicted="lost_card", actual="lost_card")
    chat.many(2, NOON_MS - 70 * MINUTE_MS, predicted="fees", actual="lost_card")
    chat.many(7, NOON_MS - 40 * MINUTE_MS, predicted="fees", actual="lost_card")
    chat.many(1, NOON_MS - 5 * MINUTE_MS, predicted="lost_card", actual="lost_card")
    before = live(filled(chat)).before
    assert (before.recall.value, before.recall.support, before.missed) == (0.8, 10, 2)


def test_all_is_the_sum_of_the_variants_when_none_is_chosen() -> None:
    chat = Chat()
    for variant, n in (("fine_tuned", 3), ("prompt", 5)):
        for number in range(n):
            chat.message(NOON_MS - 5 * MINUTE_MS + number, predicted="fees", variant=variant)
    store = filled(chat)
    counted = [
        live(store, Choice(variant, "urgent")).recent.predictions
        for variant in (ALL, "fine_tuned", "prompt", "unknown")
    ]
    assert counted == [8, 3, 5, 0]
    assert live(store).variants == ("fine_tuned", "prompt")


def test_there_is_no_window_when_the_store_is_empty() -> None:
    view = live(MemoryStore())
    assert view.window is None
    assert view.freshness.as_of_ms is None
    assert trend(MemoryStore()).points == ()


def test_there_is_no_window_when_the_first_minute_is_not_over() -> None:
    chat = Chat()
    chat.many(5, NOON_MS + 10_000, predicted="fees")
    store = filled(chat, as_of_ms=NOON_MS + 30_000)
    assert live(store).window is None
    assert trend(store).points == ()


def test_age_is_that_of_the_youngest_sign_of_life_when_there_are_several_workers() -> None:
    store = filled(Chat())
    store.beat(Heartbeat("worker-2", NOON_MS + 40_000, lag=3, records=1))
    freshness = live(store, age_ms=60_000).freshness
    assert (freshness.age_ms, freshness.lag, freshness.is_stale) == (20_000, 3, False)


@pytest.mark.parametrize(
    ("age_ms", "is_stale"), [(90_000, False), (90_001, True)], ids=["at 90 s", "past 90 s"]
)
def test_numbers_are_stale_when_no_worker_lived_for_90_s(age_ms: int, is_stale: bool) -> None:
    assert live(store_of("few_labels"), age_ms=age_ms).freshness.is_stale is is_stale


def test_a_point_is_the_rolling_window_that_ends_with_it() -> None:
    #            -20        -10         0 min
    #   hits      |----2-----|           |
    #   misses    |          |----1------|
    chat = Chat()
    chat.many(2, NOON_MS - 20 * MINUTE_MS, predicted="lost_card", actual="lost_card")
    chat.many(1, NOON_MS - 10 * MINUTE_MS, predicted="fees", actual="lost_card")
    points = {p.end_ms: p for p in trend(filled(chat)).points}
    assert points[NOON_MS - 20 * MINUTE_MS].recall.support == 0
    assert points[NOON_MS - 19 * MINUTE_MS].recall.value == 1.0
    assert points[NOON_MS - 9 * MINUTE_MS].recall.value == pytest.approx(2 / 3)
    assert points[NOON_MS - 5 * MINUTE_MS].recall.support == 3
    assert points[NOON_MS - 4 * MINUTE_MS].recall.value == 0.0
    assert points[NOON_MS].recall.support == 1


@pytest.mark.parametrize(
    ("span", "points", "minutes"),
    [("1h", 60, 1), ("3h", 180, 1), ("6h", 180, 2), ("24h", 288, 5), ("7d", 168, 60)],
)
def test_a_chart_has_few_enough_points_whatever_the_range(
    span: str, points: int, minutes: int
) -> None:
    view = trend(store_of("few_labels"), Choice(ALL, "urgent", span))
    assert len(view.points) == points
    assert view.points[0].end_ms - view.points[0].start_ms == minutes * MINUTE_MS
    assert view.points[-1].end_ms == view.window.end_ms == NOON_MS
    assert view.window.start_ms == NOON_MS - queries.RANGES[span]


def test_steps_add_up_to_all_messages_of_the_range_when_a_point_spans_many_panes() -> None:
    chat = scenes.calm()
    said = [e.fact for e in chat.envelopes if isinstance(e.fact, Prediction)]
    past = [prediction for prediction in said if prediction.event_ms < NOON_MS]
    assert trend(store_of("ok"), Choice(ALL, "urgent", "24h")).predictions == len(past)


def test_routes_are_the_most_travelled_ways_out_of_the_group() -> None:
    chat = Chat()
    at_ms = NOON_MS - 5 * MINUTE_MS
    for n, actual, predicted in (
        (4, "lost_card", "fees"),
        (9, "report_fraud", "other"),
        (7, "report_fraud", "lost_card"),
        (3, "fees", "other"),
        (30, "lost_card", "lost_card"),
    ):
        chat.many(n, at_ms, predicted=predicted, actual=actual)
    view = trend(filled(chat))
    assert [(r.actual, r.predicted, r.missed) for r in view.routes] == [
        ("report_fraud", "other", 9),
        ("lost_card", "fees", 4),
    ]
    assert [(r.intent, r.missed, r.recall.support) for r in view.intents[:2]] == [
        ("report_fraud", 9, 16),
        ("lost_card", 4, 34),
    ]


@pytest.mark.parametrize("span", ["1h", "24h", "7d"])
def test_intents_are_those_of_half_an_hour_however_few_labels_are_in(span: str) -> None:
    chat = Chat()
    chat.many(30, NOON_MS - 100 * MINUTE_MS, predicted="lost_card", actual="lost_card")
    chat.many(2, NOON_MS - 20 * MINUTE_MS, predicted="lost_card", actual="lost_card")
    view = trend(filled(chat), Choice(ALL, "urgent", span))
    assert view.detail == (NOON_MS - 30 * MINUTE_MS, NOON_MS)
    assert view.alert is None
    assert sum(row.recall.support for row in view.intents) == 2


@pytest.mark.parametrize("span", ["1h", "7d"])
@pytest.mark.parametrize("variant", [ALL, "fine_tuned", "prompt"])
def test_intents_begin_with_the_evidence_of_the_alert_whatever_variant_is_chosen(
    variant: str, span: str
) -> None:
    #          -50          -40          0 min
    #   hits    |----30------|           |
    #   misses  |            |----20-----|   fires on the last 20
    chat = Chat()
    chat.many(30, NOON_MS - 50 * MINUTE_MS, predicted="lost_card", actual="lost_card")
    chat.many(20, NOON_MS - 40 * MINUTE_MS + 20_000, predicted="fees", actual="lost_card")
    store = filled(chat)
    [fired] = [t for t in store.transitions() if t.moved_to is Status.FIRING]
    assert fired.evidence is not None
    view = trend(store, Choice(variant, "urgent", span))
    assert view.alert is not None
    assert view.whose == SliceKey("fine_tuned" if variant == ALL else variant)
    start_ms = fired.evidence.since_ms // MINUTE_MS * MINUTE_MS
    assert view.detail == (start_ms, NOON_MS)


def test_intents_of_more_than_a_day_are_read_from_hourly_panes() -> None:
    chat = Chat()
    chat.many(20, NOON_MS - 30 * HOUR_MS + 5 * MINUTE_MS, predicted="fees", actual="lost_card")
    view = trend(filled(chat))
    assert view.detail == (NOON_MS - 30 * HOUR_MS, NOON_MS)
    assert sum(row.missed for row in view.intents) == 20


def test_intents_have_a_minute_at_least_when_the_evidence_is_younger() -> None:
    chat = Chat()
    chat.many(5, NOON_MS - 30 * MINUTE_MS, predicted="fees")
    for number in range(20):
        chat.message(
            NOON_MS + number, predicted="fees", actual="lost_card", delay_ms=1_000 + number
        )
    view = trend(filled(chat, as_of_ms=NOON_MS + 30_000))
    assert view.alert is not None
    assert view.detail == (NOON_MS - MINUTE_MS, NOON_MS)


def test_a_span_lasts_from_firing_to_ok_and_is_open_while_it_recovers() -> None:
    store = store_of("recovering")
    moves = [t for t in store.transitions() if t.key.variant == "fine_tuned"]
    fired = next(t.at_ms for t in moves if t.moved_to is Status.FIRING)
    [span] = trend(store, Choice("fine_tuned", "urgent")).spans
    assert (span.start_ms, span.end_ms) == (fired, None)
    assert trend(store, Choice("prompt", "urgent")).spans == ()


def test_alerts_of_other_variants_are_told_when_they_want_attention() -> None:
    view = live(store_of("firing"), Choice("prompt", "urgent"))
    assert [(a.key.variant, a.status) for a in view.alerts] == [("prompt", Status.OK)]
    assert [(a.key.variant, a.status) for a in view.others] == [("fine_tuned", Status.FIRING)]


def test_the_worst_alert_comes_first_when_all_variants_are_shown() -> None:
    alerts = live(store_of("firing")).alerts
    assert [a.status for a in alerts] == [Status.FIRING, Status.OK]


def test_a_rule_without_a_vote_has_no_data() -> None:
    [alert] = live(store_of("no_labels")).alerts
    assert (alert.status, alert.score.support) == (Status.NO_DATA, 0)


def test_a_rule_says_nothing_of_a_variant_that_it_leaves_out() -> None:
    rule = AlertRule("r", "urgent", URGENT, 0.8, where=(("variant", "prompt"),), is_glance=True)
    spec = Spec(groups=SPEC.groups, rules=(rule,))
    view = trend(filled(scenes.calm(), spec), Choice("fine_tuned", "urgent"), spec)
    assert view.objective is None


def test_what_can_be_watched_are_rules_first_then_groups() -> None:
    rules = (AlertRule("a", "lost_card", frozenset({"lost_card"}), 0.9), scenes.RULE)
    groups = Groups({"money": frozenset({"fees"}), "urgent": URGENT})
    names = queries.watched_names(Spec(groups=groups, rules=rules))
    assert names == ("lost_card", "urgent", "money")


def test_arrivals_count_by_log_time_and_coverage_by_event_time() -> None:
    chat = Chat()
    at_ms = NOON_MS - 30 * MINUTE_MS
    chat.message(at_ms, predicted="fees", actual="fees", delay_ms=20 * MINUTE_MS)
    chat.message(at_ms, predicted="fees")
    points = {p.start_ms: p for p in labels(filled(chat)).points}
    assert (points[at_ms].coverage, points[at_ms].arrived) == (0.5, 0)
    arrival = points[at_ms + 20 * MINUTE_MS]
    assert (arrival.coverage, arrival.arrived, arrival.arrived_per_minute) == (None, 1, 1.0)


def test_delays_are_those_of_the_labels_that_arrived_lately() -> None:
    chat = Chat()
    for number in range(100):
        chat.message(
            NOON_MS - 20 * MINUTE_MS,
            predicted="fees",
            actual="fees",
            delay_ms=10 * MINUTE_MS + number * 1_000,
        )
    now = labels(filled(chat)).now
    assert now is not None
    assert now.n == 100
    assert now.p50_ms == pytest.approx(649_000, rel=0.02)
    assert now.p90_ms == pytest.approx(689_000, rel=0.02)
    assert now.p99_ms == pytest.approx(698_000, rel=0.02)


def test_time_known_is_not_misled_by_predictions_that_are_too_young() -> None:
    # Every label takes a minute, and most predictions are 50 s old.
    chat = Chat()
    chat.many(100, NOON_MS - 10 * MINUTE_MS, predicted="fees", actual="fees")
    chat.many(900, NOON_MS - 50_000, predicted="fees", actual="fees")
    known = labels(filled(chat, as_of_ms=NOON_MS)).known
    assert known.half_ms == pytest.approx(MINUTE_MS, rel=0.02)
    assert known.ninety_ms == pytest.approx(MINUTE_MS, rel=0.02)
    assert known.share == pytest.approx(1.0)


def test_time_known_is_unknown_when_so_many_labels_never_come() -> None:
    chat = Chat()
    chat.many(7, NOON_MS - 100 * MINUTE_MS, predicted="fees", actual="fees")
    chat.many(3, NOON_MS - 100 * MINUTE_MS, predicted="fees")
    known = labels(filled(chat)).known
    assert known.half_ms == pytest.approx(MINUTE_MS, rel=0.02)
    assert known.ninety_ms is None
    assert known.share == pytest.approx(0.7)


def test_the_lag_of_a_worker_that_is_gone_does_not_count() -> None:
    store = filled(scenes.hardly_labelled())
    newest_ms = max(beat.wall_ms for beat in store.heartbeats())
    store.beat(Heartbeat("slow", newest_ms - queries.GONE_AFTER_MS, lag=5, records=1))
    store.beat(Heartbeat("dead", newest_ms - queries.GONE_AFTER_MS - 1, lag=50_000, records=1))
    assert live(store).freshness.lag == 5


def test_nothing_is_known_when_there_is_nothing() -> None:
    known = queries.time_known([])
    assert (known.half_ms, known.ninety_ms, known.share) == (None, None, 0.0)


def test_books_balance_and_name_every_reason() -> None:
    chat = scenes.hardly_labelled()
    chat.reject(Kind.PREDICTIONS, Reason.NOT_JSON)
    chat.reject(Kind.PREDICTIONS, Reason.NOT_JSON)
    chat.reject(Kind.LABELS, Reason.BAD_TIME)
    books = labels(filled(chat)).books
    assert (books.predictions.received, books.predictions.parts) == (
        114,
        {"labelled": 12, "pending": 100},
    )
    assert books.predictions.rejected == {"not_json": 2}
    assert books.labels.rejected == {"bad_time": 1}
    assert (books.predictions.difference, books.labels.difference) == (0, 0)


def test_what_was_lost_is_on_both_pages_and_in_no_balance() -> None:
    gaps = (Gap(Partition("labels", 0), 3, 9), Gap(Partition("predictions", 1), 0, 4))
    store = scenes.lose(filled(scenes.hardly_labelled()), *gaps)
    assert live(store).gaps == gaps
    books = labels(store).books
    assert books.gaps == gaps
    assert (books.predictions.difference, books.labels.difference) == (0, 0)
