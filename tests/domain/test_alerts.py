import itertools
from collections.abc import Iterable, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.codec.snapshots import pack_evaluation, unpack_evaluation
from monitor.domain import alerts
from monitor.domain.alerts import (
    DAY_MS,
    FIRST_BAR,
    LEAST_BAR,
    MOVES,
    STALL_VOTES,
    WEEK_MS,
    AlertKey,
    AlertState,
    Event,
    Judged,
    Status,
    Transition,
    evaluate,
    fingerprint,
    hindsight_of,
    settle,
    stall_after_ms,
    step,
    voice_of,
)
from monitor.domain.detectors import Glance, Mixture, Recovery
from monitor.domain.errors import IllegalMove
from monitor.domain.evaluation import Evaluation
from monitor.domain.join import HOUR_MS
from monitor.domain.rules import AlertRule
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.votes import Role, Vote
from tests.builders import FINE_TUNED, MINUTE_MS, T0, prediction, ring, rule, vote, votes
from tests.domain.facts import REPEATABLE

RULE = rule(baseline=0.92)
GLANCE = rule(is_glance=True)
HINDSIGHT = rule(hindsight_ms=DAY_MS)
HOLD_MS = RULE.hold_ms
KEY = AlertKey(RULE.name, FINE_TUNED)
LATER_MS = T0 + 10**12

NO_DATA, OK, WARNING, FIRING, RECOVERING = Status
BREACH, BETWEEN, CLEAR = (64, 35), (74, 25), (89, 10)
"""Hits and misses of 99 votes that one more hit turns into a breach, into neither, into clear."""


def steps(transitions: Iterable[Transition]) -> list[tuple[Status, Status]]:
    return [(t.moved_from, t.moved_to) for t in transitions if t.event is Event.MOVED]


def events(transitions: Iterable[Transition]) -> list[Event]:
    return [t.event for t in transitions if t.event is not Event.MOVED]


def judged(
    stream: Iterable[Vote], watermark_ms: int = T0 + DAY_MS, *, of: AlertRule = RULE
) -> Judged:
    """What votes lead to from nothing."""
    return evaluate([of], {}, stream, watermark_ms)


#   T0                     vote                  T0 + 30 min
#   |- fired --------------|---- hold not over ----|---- hold over ----


def weighed(status: Status, evaluation: str) -> tuple[AlertState, bool]:
    """A state, and the vote that makes the evidence bad, poor, calm or clear."""
    against = {"bad": (1e6, 1e6), "poor": (0.0, 1e6)}.get(evaluation, (0.0, 0.0))
    is_clear = evaluation == "clear"
    before = 1000.0 if status is RECOVERING else 950.0 * is_clear
    state = AlertState(status, T0, T0, 4, bar=36_000.0)
    state.page, state.warn = Mixture([against[0]] * 4), Mixture([against[1]] * 4)
    state.up = Recovery([before] * 2)
    return state, is_clear


@pytest.mark.parametrize(
    ("status", "evaluation", "hold_over", "path"),
    [
        (NO_DATA, "bad", True, [OK, FIRING]),
        (NO_DATA, "poor", True, [OK, WARNING]),
        (NO_DATA, "calm", True, [OK]),
        (NO_DATA, "clear", True, [OK]),
        (OK, "bad", True, [FIRING]),
        (OK, "poor", True, [WARNING]),
        (OK, "calm", True, []),
        (OK, "clear", True, []),
        (WARNING, "bad", False, [FIRING]),
        (WARNING, "bad", True, [FIRING]),
        (WARNING, "poor", False, []),
        (WARNING, "poor", True, []),
        (WARNING, "calm", False, []),
        (WARNING, "calm", True, []),
        (WARNING, "clear", False, []),
        (WARNING, "clear", True, [OK]),
        (FIRING, "bad", False, []),
        (FIRING, "bad", True, []),
        (FIRING, "poor", False, []),
        (FIRING, "poor", True, []),
        (FIRING, "calm", False, []),
        (FIRING, "calm", True, []),
        (FIRING, "clear", False, [RECOVERING]),
        (FIRING, "clear", True, [OK]),
        (RECOVERING, "bad", False, [FIRING]),
        (RECOVERING, "bad", True, [OK]),
        (RECOVERING, "poor", False, [FIRING]),
        (RECOVERING, "poor", True, [OK]),
        (RECOVERING, "calm", False, [FIRING]),
        (RECOVERING, "calm", True, [OK]),
        (RECOVERING, "clear", False, []),
        (RECOVERING, "clear", True, [OK]),
    ],
)
def test_every_state_and_evaluation_of_the_evidence_has_one_answer(
    status: Status, evaluation: str, hold_over: bool, path: list[Status]
) -> None:
    before, hit = weighed(status, evaluation)
    after, moved = step(RULE, KEY, before, vote(T0 + HOLD_MS + (1 if hold_over else -1), hit=hit))
    assert steps(moved) == list(itertools.pairwise([status, *path]))
    assert after.status is (path[-1] if path else status)
    assert after.moves == 4 + len(path)


@pytest.mark.parametrize(
    ("status", "evaluation", "hold_over", "path"),
    [
        (NO_DATA, BREACH, True, [OK, FIRING]),
        (NO_DATA, BETWEEN, True, [OK]),
        (NO_DATA, CLEAR, True, [OK]),
        (OK, BREACH, False, [FIRING]),
        (OK, BREACH, True, [FIRING]),
        (OK, BETWEEN, False, []),
        (OK, BETWEEN, True, []),
        (OK, CLEAR, False, []),
        (OK, CLEAR, True, []),
        (WARNING, BREACH, False, [FIRING]),
        (WARNING, BREACH, True, [FIRING]),
        (WARNING, BETWEEN, False, []),
        (WARNING, BETWEEN, True, []),
        (WARNING, CLEAR, False, []),
        (WARNING, CLEAR, True, [OK]),
        (FIRING, BREACH, False, []),
        (FIRING, BREACH, True, []),
        (FIRING, BETWEEN, False, []),
        (FIRING, BETWEEN, True, []),
        (FIRING, CLEAR, False, [RECOVERING]),
        (FIRING, CLEAR, True, [OK]),
        (RECOVERING, BREACH, False, [FIRING]),
        (RECOVERING, BETWEEN, False, [FIRING]),
        (RECOVERING, CLEAR, False, []),
    ],
)
def test_every_state_and_evaluation_at_a_glance_has_one_answer(
    status: Status, evaluation: tuple[int, int], hold_over: bool, path: list[Status]
) -> None:
    before = AlertState(status, T0, T0, 4, ring(*evaluation))
    after, moved = step(GLANCE, KEY, before, vote(T0 + HOLD_MS + (1 if hold_over else -1)))
    assert steps(moved) == list(itertools.pairwise([status, *path]))
    assert after.status is (path[-1] if path else status)
    assert after.moves == 4 + len(path)


EDGE = Glance((*ring(80, 0).ring, *ring(10, 10, misses_last=True).ring))
"""Clear, and in breach after one more miss: a hit leaves the last twenty for it."""


@pytest.mark.parametrize(
    ("clear", "hit", "path"),
    [
        (EDGE, False, [OK, FIRING]),
        (ring(85, 15), False, [OK]),
        (ring(90, 10), True, [OK]),
    ],
    ids=["then in breach", "then neither", "then clear"],
)
def test_hold_that_is_over_ends_before_the_vote_is_looked_at(
    clear: Glance, hit: bool, path: list[Status]
) -> None:
    before = AlertState(RECOVERING, T0, T0, 4, clear)
    _, moved = step(GLANCE, KEY, before, vote(T0 + HOLD_MS + 1, hit=hit))
    assert steps(moved) == list(itertools.pairwise([RECOVERING, *path]))


@pytest.mark.parametrize("hit", [True, False])
def test_first_mature_label_makes_no_data_ok_whatever_it_says(hit: bool) -> None:
    after, moved = step(RULE, KEY, AlertState(), vote(T0, hit=hit))
    assert steps(moved) == [(NO_DATA, OK)]
    assert (after.status, after.since_ms) == (OK, T0)


@pytest.mark.parametrize(
    ("source", "target"),
    [(s, t) for s, t in itertools.product(Status, Status) if t not in MOVES[s]],
)
def test_illegal_move_raises_and_names_both_states(source: Status, target: Status) -> None:
    # No vote and no deadline leads here; the guard is for whoever changes the steps.
    with pytest.raises(IllegalMove, match=f"no way from {source} to {target}"):
        alerts._move(RULE, KEY, AlertState(source), target, T0, None, "test", [])


def test_every_move_that_is_drawn_is_legal_and_no_other() -> None:
    drawn = {(NO_DATA, OK), (OK, WARNING), (WARNING, OK), (OK, FIRING), (WARNING, FIRING)}
    drawn |= {(FIRING, RECOVERING), (FIRING, OK), (RECOVERING, FIRING), (RECOVERING, OK)}
    drawn |= {(status, NO_DATA) for status in Status if status is not NO_DATA}
    assert {(source, target) for source in Status for target in MOVES[source]} == drawn


def test_fewer_than_nine_misses_never_fire() -> None:
    found = judged(votes([False] * 8), of=rule())
    assert steps(found.transitions) == [(NO_DATA, OK)]
    assert found.states[KEY].status is OK


def test_ninth_miss_fires_at_its_release_and_says_what_it_stands_on() -> None:
    first, fired = judged(votes([False] * 9), of=rule()).transitions
    assert (first.at_ms, fired.at_ms) == (T0, T0 + 8 * MINUTE_MS)
    assert fired.reason == "0 of the last 9 mature urgent labels were hits"
    assert fired.evidence is not None
    assert fired.evidence[:3] == (0, 9, T0)
    assert fired.evidence.value >= fired.evidence.bar == FIRST_BAR
    assert [missed.prediction_id for missed in fired.missed] == [f"p0000{n}" for n in range(4, 9)]


def test_twentieth_miss_fires_at_a_glance() -> None:
    _, fired = judged(votes([False] * 20), T0 + HOUR_MS, of=GLANCE).transitions
    assert fired.at_ms == T0 + 19 * MINUTE_MS
    assert fired.evidence is not None
    assert fired.evidence[:3] == (0, 20, T0)


def test_warning_comes_before_the_page_and_the_page_after_a_warning() -> None:
    stream = votes([number % 20 not in {0, 7, 14} for number in range(2_000)])
    stream += votes([False] * 12, start_ms=T0 + 2_000 * MINUTE_MS)
    moved = judged(stream, T0 + 10 * DAY_MS).transitions
    assert steps(moved)[:3] == [(NO_DATA, OK), (OK, WARNING), (WARNING, FIRING)]


def test_rule_without_a_baseline_never_warns() -> None:
    stream = votes([number % 20 not in {0, 7, 14} for number in range(2_000)])
    assert steps(judged(stream, T0 + 10 * DAY_MS, of=rule()).transitions) == [(NO_DATA, OK)]


def test_resolving_starts_the_detectors_afresh() -> None:
    before, _ = weighed(FIRING, "bad")
    before.up = Recovery([950.0] * 2)
    after, _ = step(RULE, KEY, before, vote(T0 + HOLD_MS + 1))
    assert (after.status, after.page, after.warn) == (OK, Mixture(), Mixture())


#   fired at T0                    deadline = T0 + HOLD_MS
#   |------- recovering -------------|  resolved at exactly this instant


@pytest.mark.parametrize("status", [RECOVERING, WARNING])
@pytest.mark.parametrize(("now_ms", "is_over"), [(HOLD_MS - 1, False), (HOLD_MS, True)])
def test_hold_ends_exactly_at_its_deadline(status: Status, now_ms: int, is_over: bool) -> None:
    state, moved = weighed(status, "clear")[0], list[Transition]()
    state.up = Recovery([1000.0] * 2)
    settle(RULE, KEY, state, T0 + now_ms, moved)
    assert state.status is (OK if is_over else status)
    assert [transition.at_ms for transition in moved] == [T0 + HOLD_MS] * is_over


@pytest.mark.parametrize(("watermark_ms", "resolved"), [(HOLD_MS, False), (HOLD_MS + 1, True)])
def test_deadline_counts_once_the_watermark_has_passed_it(
    watermark_ms: int, resolved: bool
) -> None:
    # The watermark is exclusive: a vote at the very deadline may still come.
    before = {KEY: weighed(RECOVERING, "clear")[0]}
    found = evaluate([RULE], before, [], T0 + watermark_ms)
    assert (found.states[KEY].status is OK) is resolved
    assert [transition.at_ms for transition in found.transitions] == [T0 + HOLD_MS] * resolved


def test_hold_counts_from_the_first_firing_also_after_a_relapse() -> None:
    relapsed, _ = step(RULE, KEY, weighed(RECOVERING, "calm")[0], vote(T0 + 10, hit=False))
    assert (relapsed.status, relapsed.since_ms, relapsed.fired_ms) == (FIRING, T0 + 10, T0)


def test_page_after_a_warning_starts_a_new_hold() -> None:
    fired, _ = step(RULE, KEY, weighed(WARNING, "bad")[0], vote(T0 + 10, hit=False))
    assert (fired.status, fired.fired_ms) == (FIRING, T0 + 10)


def test_deadline_comes_before_a_vote_of_the_same_instant() -> None:
    before = {KEY: AlertState(RECOVERING, T0 + 5, T0, 8, EDGE)}
    found = evaluate([GLANCE], before, [vote(T0 + HOLD_MS, hit=False)], T0 + HOLD_MS + 1)
    assert steps(found.transitions) == [(RECOVERING, OK), (OK, FIRING)]
    assert [moved.id.split("-")[-1] for moved in found.transitions] == ["9", "10"]


@pytest.mark.parametrize("of", [RULE, GLANCE], ids=["evidence", "glance"])
@pytest.mark.parametrize("silent_ms", [0, MINUTE_MS, DAY_MS, 10**12])
def test_silence_never_resolves_a_firing_alert(of: AlertRule, silent_ms: int) -> None:
    end_ms = T0 + 40 * MINUTE_MS
    before = judged(votes([False] * 40), end_ms, of=of)
    after = evaluate([of], before.states, [], end_ms + silent_ms)
    assert after.states[KEY].status is FIRING
    assert steps(after.transitions) == []


def test_stalled_seven_mean_gaps_after_the_last_vote_and_resumed_by_the_next() -> None:
    gap_ms = 10 * MINUTE_MS
    last_ms = T0 + 49 * gap_ms
    stall_ms = last_ms + 7 * gap_ms
    before = judged(votes([True] * 50, step_ms=gap_ms), stall_ms)
    assert events(before.transitions) == []
    stalled = evaluate([RULE], before.states, [], stall_ms + 1)
    assert [(t.event, t.at_ms) for t in stalled.transitions] == [(Event.STALLED, stall_ms)]
    assert (stalled.states[KEY].status, stalled.states[KEY].is_stalled) == (OK, True)
    next_ms = stall_ms + HOUR_MS
    resumed = evaluate([RULE], stalled.states, [vote(next_ms)], next_ms + 1)
    assert [(t.event, t.at_ms) for t in resumed.transitions] == [(Event.RESUMED, next_ms)]


def test_maturity_is_waited_out_before_the_feed_counts_as_stalled() -> None:
    patient = rule(maturity_ms=5 * HOUR_MS)
    state = judged(votes([True] * 50, step_ms=10 * MINUTE_MS), of=patient).states[KEY]
    assert stall_after_ms(state) == 5 * HOUR_MS + 70 * MINUTE_MS


def test_labels_that_come_at_once_do_not_count_as_stalled_at_once() -> None:
    state = judged(votes([True] * 50, step_ms=0), T0 + MINUTE_MS).states[KEY]
    assert stall_after_ms(state) == HOUR_MS


def test_gap_that_was_no_stall_is_no_stall_at_twice_its_length_either() -> None:
    stream = votes([True] * 50) + votes([True] * 50, start_ms=T0 + 100 * MINUTE_MS)
    state = judged(stream, T0 + 150 * MINUTE_MS).states[KEY]
    assert stall_after_ms(state) == 2 * 51 * MINUTE_MS


def test_too_few_votes_to_know_a_rate_never_stall() -> None:
    found = judged(votes([True] * (STALL_VOTES - 1)), LATER_MS)
    assert events(found.transitions) == []


def test_bar_follows_the_votes_of_a_month_and_is_never_low() -> None:
    for step_ms, bar in ((HOUR_MS, LEAST_BAR), (MINUTE_MS, 43_200.0)):
        a_week = votes([True] * (WEEK_MS // step_ms + 1), step_ms=step_ms)
        state = judged(a_week, T0 + 8 * DAY_MS).states[KEY]
        assert state.bar == pytest.approx(bar)


def test_bar_given_by_the_rule_is_the_bar() -> None:
    assert judged(votes([True]), of=rule(evidence=500.0)).states[KEY].bar == 500.0


def test_budget_of_false_pages_is_shared_by_the_slices_of_a_rule() -> None:
    a_week = votes([True] * 169, step_ms=HOUR_MS)
    other = [v._replace(key=SliceKey("prompt")) for v in a_week]
    found = judged(a_week + other, T0 + 8 * DAY_MS)
    assert {state.bar for state in found.states.values()} == {2 * LEAST_BAR}


def test_ids_are_the_fingerprint_and_the_number_of_the_move() -> None:
    moved = judged(votes([False] * 9), of=rule()).transitions
    assert [t.id for t in moved] == [f"{fingerprint(KEY)}-{number}" for number in (1, 2)]


def test_fingerprints_tell_rule_variant_slice_and_version_apart() -> None:
    found = {
        fingerprint(AlertKey("a", SliceKey("b", "c"))),
        fingerprint(AlertKey("ab", SliceKey("", "c"))),
        fingerprint(AlertKey("a", SliceKey("bc", ""))),
        fingerprint(AlertKey("a", SliceKey("b"))),
        fingerprint(AlertKey("a", SliceKey("b"), "v2")),
    }
    assert len(found) == 5


def test_votes_of_unknown_rules_are_ignored() -> None:
    found = judged([vote(rule_name="deleted")])
    assert (found.states, found.transitions) == ({}, [])


def test_state_of_a_deleted_rule_is_dropped_so_that_it_fires_for_nobody() -> None:
    deleted = AlertKey("deleted", FINE_TUNED)
    found = evaluate([RULE], {deleted: AlertState(FIRING, T0, T0, 2)}, [], LATER_MS)
    assert (found.states, found.transitions) == ({deleted: AlertState(moves=2)}, [])


def test_rule_that_comes_back_starts_afresh_and_repeats_no_id() -> None:
    before = judged(votes([False] * 9), T0 + HOUR_MS)
    deleted = evaluate([], before.states, [], T0 + 2 * HOUR_MS)
    later = [
        v._replace(release_ms=v.release_ms + DAY_MS, prediction_id=f"l{v.prediction_id}")
        for v in votes([False] * 9)
    ]
    after = evaluate([RULE], deleted.states, later, T0 + 2 * DAY_MS)
    assert steps(after.transitions)[0] == (Status.NO_DATA, OK)
    assert FIRING in {t.moved_to for t in after.transitions}
    assert not {t.id for t in before.transitions} & {t.id for t in after.transitions}


@pytest.mark.parametrize(
    "more",
    [[], [vote(T0 + DAY_MS)], [vote(T0 + DAY_MS, version="v2")], [vote(T0 + 40 * MINUTE_MS)]],
    ids=["labels stall", "it votes", "another version votes", "it votes soon"],
)
def test_what_was_handed_in_is_not_changed(more: list[Vote]) -> None:
    before = judged(votes([False] * 30), T0 + 31 * MINUTE_MS).states
    kept = {alert: state.copy() for alert, state in before.items()}
    after = evaluate([RULE], before, more, T0 + 2 * DAY_MS)
    assert before == kept
    assert after.states != kept


def test_an_alert_of_which_there_is_no_news_stays_the_same_object() -> None:
    other = AlertKey(RULE.name, SliceKey("prompt"))
    before = judged([*votes([True] * 9), vote(T0, key=other.key)]).states
    after = evaluate([RULE], before, [vote(T0 + HOUR_MS)], T0 + HOUR_MS + 1).states
    assert after[other] is before[other]
    assert after[KEY] != before[KEY]


def test_each_variant_has_an_alert_of_its_own() -> None:
    bad = votes([False] * 20)
    good = [v._replace(key=SliceKey("prompt"), hit=True) for v in bad]
    found = judged(bad + good)
    assert found.states[KEY].status is FIRING
    assert found.states[AlertKey(RULE.name, SliceKey("prompt"))].status is OK
    assert {t.key for t in found.transitions if t.moved_to is FIRING} == {FINE_TUNED}


def test_new_version_starts_afresh_and_the_old_one_ends_after_a_day() -> None:
    old = votes([False] * 9, version="v1")
    new = votes([True] * 30, start_ms=T0 + HOUR_MS, step_ms=HOUR_MS, version="v2")
    found = judged(old + new, T0 + 3 * DAY_MS, of=rule())
    first, second = (found.states[AlertKey(RULE.name, FINE_TUNED, v)] for v in ("v1", "v2"))
    assert (first.status, first.page, second.status) == (NO_DATA, Mixture(), OK)
    ended = [t for t in found.transitions if t.moved_to is NO_DATA]
    assert [(t.version, t.moved_from, t.at_ms) for t in ended] == [
        ("v1", FIRING, T0 + 25 * HOUR_MS)
    ]
    assert "v2 answers now" in ended[0].reason


def test_evidence_about_one_version_does_not_page_for_another() -> None:
    found = judged(votes([False] * 8, version="v1") + votes([False] * 8, version="v2"), of=rule())
    assert {state.status for state in found.states.values()} == {OK}


def test_one_conversation_votes_once() -> None:
    talk = [v._replace(conversation="ab" * 8) for v in votes([False] * 20)]
    found = judged(talk)
    assert found.states[KEY].votes == 1
    assert found.spoken == {voice_of(talk[0]): T0}


def test_conversation_that_spoke_in_an_earlier_evaluation_does_not_vote_again() -> None:
    first, second = (v._replace(conversation="ab" * 8) for v in votes([False] * 2))
    before = judged([first], T0 + 1)
    after = evaluate([RULE], before.states, [second], T0 + DAY_MS, spoken=before.spoken)
    assert (after.states[KEY].votes, after.spoken) == (1, {})


@pytest.mark.parametrize(("length_ms", "voted"), [(WEEK_MS - 1, 1), (WEEK_MS, 2)])
def test_conversation_may_vote_again_after_a_week(length_ms: int, voted: int) -> None:
    talk = [vote(T0 + at_ms, conversation="ab" * 8) for at_ms in (0, length_ms)]
    assert judged(talk, T0 + 2 * WEEK_MS).states[KEY].votes == voted


def test_conversation_votes_once_about_each_version() -> None:
    talk = [vote(T0 + at, version=v, conversation="ab" * 8) for at, v in enumerate(("v1", "v2"))]
    assert [state.votes for state in judged(talk).states.values()] == [1, 1]


def test_records_without_a_conversation_vote_each() -> None:
    assert judged(votes([True] * 20)).states[KEY].votes == 20


def test_correction_is_counted_and_never_rewinds_the_detector() -> None:
    misses = votes([False] * 8)
    corrections = [
        v._replace(release_ms=T0 + HOUR_MS, hit=True, role=Role.CORRECTION) for v in misses[2:4]
    ]
    plain = judged(misses, T0 + 2 * HOUR_MS, of=rule())
    corrected = judged(misses + corrections, T0 + 2 * HOUR_MS, of=rule())
    assert corrected.states[KEY].page == plain.states[KEY].page
    assert corrected.states[KEY].corrected == tuple(v.event_ms for v in misses[2:4])
    last = vote(T0 + 3 * HOUR_MS, hit=False)
    (fired,) = evaluate([rule()], corrected.states, [last], T0 + DAY_MS).transitions
    assert (fired.moved_to, fired.corrected) == (FIRING, 2)


def final(hits: Sequence[bool], *, age_ms: int = DAY_MS) -> list[Vote]:
    """Votes in hindsight about events a minute apart."""
    return [
        v._replace(release_ms=v.event_ms + age_ms, role=Role.HINDSIGHT, prediction_id=f"h{at:05}")
        for at, v in enumerate(votes(hits))
    ]


@pytest.mark.parametrize(
    ("truth", "event"),
    [([False] * 9, Event.CONFIRMED), ([True] * 9, Event.RETRACTED)],
    ids=["the labels stand", "the labels were corrected later"],
)
def test_page_is_judged_again_once_the_labels_are_complete(truth: list[bool], event: Event) -> None:
    before = judged(votes([False] * 9), T0 + HOUR_MS, of=HINDSIGHT)
    (fired,) = [t for t in before.transitions if t.moved_to is FIRING]
    after = evaluate([HINDSIGHT], before.states, final(truth), T0 + 3 * DAY_MS)
    (verdict,) = [t for t in after.transitions if t.judges]
    assert (verdict.judges, verdict.event) == (fired.id, event)
    assert verdict.at_ms == fired.at_ms + DAY_MS + 1
    assert (verdict.moved_from, verdict.moved_to) == (FIRING, FIRING)
    assert hindsight_of(before.transitions + after.transitions) == {fired.id: event}


def test_drop_that_no_alert_reported_is_raised_in_hindsight() -> None:
    live = judged(votes([True] * 40), T0 + HOUR_MS, of=HINDSIGHT)
    truth = final([True] * 20 + [False] * 20)
    after = evaluate([HINDSIGHT], live.states, truth, T0 + 3 * DAY_MS)
    (raised,) = [t for t in after.transitions if t.event is Event.RAISED]
    assert raised.evidence is not None
    assert raised.evidence.hits == 0
    assert after.states[KEY].status is OK


def test_drop_that_an_alert_reported_is_not_raised_again() -> None:
    stream = [True] * 20 + [False] * 20
    live = judged(votes(stream), T0 + HOUR_MS, of=HINDSIGHT)
    after = evaluate([HINDSIGHT], live.states, final(stream), T0 + 3 * DAY_MS)
    assert Event.RAISED not in events(after.transitions)


def test_drop_that_an_alert_reported_is_not_raised_again_when_labels_come_days_late() -> None:
    patient, stream = rule(hindsight_ms=7 * DAY_MS), [True] * 20 + [False] * 20
    late = [v._replace(release_ms=v.release_ms + 3 * DAY_MS) for v in votes(stream)]
    truth = final(stream, age_ms=7 * DAY_MS)
    found = evaluate([patient], {}, late + truth, T0 + 9 * DAY_MS)
    assert FIRING in {t.moved_to for t in found.transitions}
    assert Event.RAISED not in events(found.transitions)


def test_page_by_late_labels_is_not_retracted_because_all_was_well_since() -> None:
    stream = [False] * 9 + [True] * 60
    late = [v._replace(release_ms=v.release_ms + HOUR_MS) for v in votes(stream)]
    found = evaluate([HINDSIGHT], {}, late + final(stream), T0 + 3 * DAY_MS)
    (verdict,) = [t for t in found.transitions if t.judges]
    assert verdict.event is Event.CONFIRMED


def test_rule_without_hindsight_judges_nothing() -> None:
    assert judged(votes([False] * 9), LATER_MS).states[KEY].shadow.judgements == []


@pytest.mark.parametrize(
    ("where", "per", "key"),
    [
        ((), ("variant",), SliceKey("fine_tuned")),
        ((), (), SliceKey()),
        ((), ("channel",), SliceKey(ALL, "channel=web")),
        ((), ("variant", "channel"), SliceKey("fine_tuned", "channel=web")),
        ((), ("channel", "locale"), SliceKey(ALL, "channel=web,locale=")),
        ((("channel", "web"),), ("variant",), SliceKey("fine_tuned")),
        ((("channel", "voice"),), ("variant",), None),
        ((("variant", "prompt"),), ("variant",), None),
        ((("unheard_of", "x"),), ("variant",), None),
    ],
)
def test_rule_speaks_to_the_alert_that_where_and_per_name(
    where: tuple[tuple[str, str], ...], per: tuple[str, ...], key: SliceKey | None
) -> None:
    found = rule(where=where, per=per).key_of(prediction(slices=("web", "")), ("channel", "locale"))
    assert found == key


FEW = settings(REPEATABLE, max_examples=60)
RULES = [
    rule("fixed", baseline=0.92, hindsight_ms=2 * HOUR_MS),
    rule("glance", is_glance=True),
    rule("auto", maturity_ms=None, baseline=0.92),
]


def drawn_vote(draw: Random, at_ms: int, share: float) -> Vote:
    """One of any rule; of the rule that estimates its maturity it is on its way."""
    name = draw.choice([of.name for of in RULES])
    late = name == "fixed" and draw.random() < 0.3
    role = draw.choice([Role.HINDSIGHT, Role.CORRECTION]) if late else Role.LIVE
    return vote(
        at_ms,
        hit=draw.random() < share,
        prediction_id=f"p{draw.randrange(10**6)}",
        rule_name=name,
        key=SliceKey(draw.choice(["fine_tuned", "prompt"])),
        event_ms=at_ms - draw.randrange(4 * HOUR_MS),
        role=Role.ARRIVAL if name == "auto" else role,
        version=draw.choice(["v1", "v2"]) if share < 0.9 else "v2",
        conversation=draw.choice(["", "", "", "", f"{draw.randrange(40):016x}"]),
    )


def long_streams() -> st.SearchStrategy[list[Vote]]:
    """Votes that fall, recover and fall again, with silences; some come at the same instant."""
    stretch = st.tuples(
        st.sampled_from([0.05, 0.5, 0.95, 1.0]),
        st.integers(5, 150),
        st.sampled_from([15_000, 5 * MINUTE_MS, HOUR_MS]),
    )

    def drawn(parts: list[tuple[float, int, int]], draw: Random) -> list[Vote]:
        at_ms, stream = T0, list[Vote]()
        for share, length, step_ms in parts:
            for number in range(length):
                at_ms += step_ms * (number % 3 == 0)
                stream.append(drawn_vote(draw, at_ms, share))
        return stream

    return st.builds(drawn, st.lists(stretch, max_size=5), st.randoms(use_true_random=False))


END_MS = T0 + 60 * DAY_MS


def saved(found: Judged) -> Judged:
    """What is left of an evaluation after a restart."""
    read = unpack_evaluation(
        pack_evaluation(
            Evaluation(states=found.states, books=found.books, holding=tuple(found.held))
        )
    )
    return found._replace(states=dict(read.states), books=dict(read.books), held=list(read.holding))


@FEW
@given(long_streams(), st.lists(st.integers(0, 90 * HOUR_MS), max_size=8), st.booleans())
def test_neither_batching_nor_a_restart_shows_in_transitions_or_bits(
    stream: list[Vote], offsets: list[int], restarts: bool
) -> None:
    whole = evaluate(RULES, {}, stream, END_MS)
    found, moved, spoken = Judged({}, {}, [], [], {}, []), list[Transition](), dict[str, int]()
    reached_ms, waiting = 0, list(stream)
    for watermark_ms in [*sorted(T0 + offset for offset in offsets), END_MS]:
        released = [v for v in waiting if v.release_ms < watermark_ms]
        waiting = [v for v in waiting if v.release_ms >= watermark_ms]
        found = evaluate(
            RULES, found.states, released, watermark_ms, books=found.books, spoken=spoken
        )
        waiting += found.held
        moved += found.transitions
        spoken |= found.spoken
        found = saved(found) if restarts else found
        assert reached_ms <= watermark_ms
        reached_ms = watermark_ms
    assert moved == whole.transitions
    assert (found.states, found.books, spoken) == (whole.states, whole.books, whole.spoken)
    assert pack_evaluation(Evaluation(states=found.states)) == pack_evaluation(
        Evaluation(states=whole.states)
    )


@FEW
@given(long_streams(), st.randoms(use_true_random=False))
def test_order_of_arrival_within_an_evaluation_does_not_matter(
    stream: list[Vote], draw: Random
) -> None:
    shuffled = draw.sample(stream, len(stream))
    assert evaluate(RULES, {}, shuffled, END_MS) == evaluate(RULES, {}, stream, END_MS)


@FEW
@given(long_streams())
def test_transitions_of_an_alert_form_one_unbroken_chain(stream: list[Vote]) -> None:
    moved = evaluate(RULES, {}, stream, END_MS).transitions
    assert [t.at_ms for t in moved] == sorted(t.at_ms for t in moved)
    own = [t for t in moved if t.event is not Event.MATURITY]
    for _, chain in itertools.groupby(sorted(own, key=lambda t: t.alert), key=lambda t: t.alert):
        at = NO_DATA
        for number, transition in enumerate(chain, 1):
            assert transition.moved_from is at
            assert transition.id.endswith(f"-{number}")
            at = transition.moved_to
