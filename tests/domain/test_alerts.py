import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.domain import alerts
from monitor.domain.alerts import (
    MOVES,
    AlertKey,
    AlertState,
    Status,
    Transition,
    Vote,
    evaluate,
    fingerprint,
    settle,
    step,
)
from monitor.domain.detectors import Glance, evidence_of
from monitor.domain.errors import IllegalMove
from monitor.domain.slices import ALL, SliceKey
from tests.builders import FINE_TUNED, MINUTE_MS, T0, prediction, ring, rule, vote, votes
from tests.domain.facts import REPEATABLE

RULE = rule()
HOLD_MS = RULE.hold_ms
KEY: AlertKey = (RULE.name, FINE_TUNED)

NO_DATA, OK, FIRING, RECOVERING = Status
BREACH, BETWEEN, CLEAR = (64, 35), (74, 25), (89, 10)
"""Hits and misses of 99 votes that one more hit turns into a breach, into neither, into clear."""


def steps(transitions: list[Transition]) -> list[tuple[Status, Status]]:
    return [(moved.moved_from, moved.moved_to) for moved in transitions]


#   T0                     vote                  T0 + 30 min
#   |- fired --------------|---- hold not over ----|---- hold over ----


@pytest.mark.parametrize(
    ("status", "evaluation", "hold_over", "path"),
    [
        (OK, BREACH, False, [FIRING]),
        (OK, BREACH, True, [FIRING]),
        (OK, BETWEEN, False, []),
        (OK, BETWEEN, True, []),
        (OK, CLEAR, False, []),
        (OK, CLEAR, True, []),
        (FIRING, BREACH, False, []),
        (FIRING, BREACH, True, []),
        (FIRING, BETWEEN, False, []),
        (FIRING, BETWEEN, True, []),
        (FIRING, CLEAR, False, [RECOVERING]),
        (FIRING, CLEAR, True, [OK]),
        (RECOVERING, BREACH, False, [FIRING]),
        (RECOVERING, BREACH, True, [OK, FIRING]),
        (RECOVERING, BETWEEN, False, [FIRING]),
        (RECOVERING, BETWEEN, True, [OK]),
        (RECOVERING, CLEAR, False, []),
        (RECOVERING, CLEAR, True, [OK]),
    ],
)
def test_every_state_and_evaluation_has_one_answer(
    status: Status, evaluation: tuple[int, int], hold_over: bool, path: list[Status]
) -> None:
    before = AlertState(status, T0, T0, 4, ring(*evaluation))
    at_ms = T0 + HOLD_MS + (1 if hold_over else -1)
    after, moved = step(RULE, before, vote(at_ms))
    assert steps(moved) == list(itertools.pairwise([status, *path]))
    assert after.status is (path[-1] if path else status)
    assert after.moves == 4 + len(path)


@pytest.mark.parametrize("hit", [True, False])
def test_first_mature_label_makes_no_data_ok_whatever_it_says(hit: bool) -> None:
    after, moved = step(RULE, AlertState(), vote(T0, hit=hit))
    assert steps(moved) == [(NO_DATA, OK)]
    assert (after.status, after.since_ms) == (OK, T0)


@pytest.mark.parametrize(
    ("source", "target"),
    [(s, t) for s, t in itertools.product(Status, Status) if t not in MOVES[s]],
)
def test_illegal_move_raises_and_names_both_states(source: Status, target: Status) -> None:
    # No vote and no deadline leads here; the guard is for whoever changes the steps.
    evidence = evidence_of(ring(1, 0), 1)
    with pytest.raises(IllegalMove, match=f"no way from {source} to {target}"):
        alerts._move(RULE, AlertState(source), FINE_TUNED, target, T0, evidence, "test", [])


def test_every_move_that_is_drawn_is_legal_and_no_other() -> None:
    drawn = {(NO_DATA, OK), (OK, FIRING), (FIRING, RECOVERING), (FIRING, OK)}
    drawn |= {(RECOVERING, FIRING), (RECOVERING, OK)}
    assert {(source, target) for source in Status for target in MOVES[source]} == drawn


def test_fewer_than_twenty_votes_never_fire() -> None:
    states, moved = evaluate([RULE], {}, votes([False] * 19), T0 + 10**9)
    assert steps(moved) == [(NO_DATA, OK)]
    assert states[KEY].status is OK


def test_twentieth_miss_fires_at_its_release_and_says_what_it_stands_on() -> None:
    _, moved = evaluate([RULE], {}, votes([False] * 20), T0 + 10**9)
    first, fired = moved
    assert (first.at_ms, fired.at_ms) == (T0, T0 + 19 * MINUTE_MS)
    assert fired.reason == "0 of the last 20 mature urgent labels were hits"
    assert fired.evidence is not None
    assert fired.evidence[:3] == (0, 20, T0)


#   fired at T0                    deadline = T0 + HOLD_MS
#   |------- recovering -------------|  resolved at exactly this instant


@pytest.mark.parametrize(("now_ms", "status"), [(HOLD_MS - 1, RECOVERING), (HOLD_MS, OK)])
def test_hold_ends_exactly_at_its_deadline(now_ms: int, status: Status) -> None:
    before = AlertState(RECOVERING, T0 + 5, T0, 2, ring(90, 10))
    after, moved = settle(RULE, before, FINE_TUNED, T0 + now_ms)
    assert after.status is status
    assert [transition.at_ms for transition in moved] == ([T0 + HOLD_MS] if status is OK else [])


@pytest.mark.parametrize(("watermark_ms", "resolved"), [(HOLD_MS, False), (HOLD_MS + 1, True)])
def test_deadline_counts_once_the_watermark_has_passed_it(
    watermark_ms: int, resolved: bool
) -> None:
    # The watermark is exclusive: a vote at the very deadline may still come.
    before = {KEY: AlertState(RECOVERING, T0 + 5, T0, 2, ring(90, 10))}
    after, moved = evaluate([RULE], before, [], T0 + watermark_ms)
    assert (after[KEY].status is OK) is resolved
    assert [transition.at_ms for transition in moved] == [T0 + HOLD_MS] * resolved


def test_hold_counts_from_the_first_firing_also_after_a_relapse() -> None:
    before = AlertState(RECOVERING, T0 + 5, T0, 2, ring(*BETWEEN))
    relapsed, _ = step(RULE, before, vote(T0 + 10))
    assert (relapsed.status, relapsed.since_ms, relapsed.fired_ms) == (FIRING, T0 + 10, T0)


def test_new_firing_starts_a_new_hold() -> None:
    fired, _ = step(RULE, AlertState(OK, T0, T0, 4, ring(*BREACH)), vote(T0 + 10**8))
    assert (fired.status, fired.fired_ms) == (FIRING, T0 + 10**8)


def test_silence_never_resolves_a_firing_alert() -> None:
    before = {KEY: AlertState(FIRING, T0, T0, 2, ring(*BREACH))}
    after, moved = evaluate([RULE], before, [], T0 + 10**12)
    assert (after, moved) == (before, [])


def test_deadline_comes_before_a_vote_of_the_same_instant() -> None:
    # A hit leaves the last twenty for a miss: 9 of 20 is a breach of its own.
    detector = Glance((*ring(80, 0).ring, *ring(10, 10, misses_last=True).ring))
    before = {KEY: AlertState(RECOVERING, T0 + 5, T0, 8, detector)}
    _, moved = evaluate([RULE], before, [vote(T0 + HOLD_MS, hit=False)], T0 + HOLD_MS + 1)
    assert steps(moved) == [(RECOVERING, OK), (OK, FIRING)]
    assert [transition.id[-3:].split("-")[-1] for transition in moved] == ["9", "10"]


def test_ids_are_the_fingerprint_and_the_number_of_the_move() -> None:
    assert fingerprint("urgent-recall", FINE_TUNED) == "588f5834"
    _, moved = evaluate([RULE], {}, votes([False] * 20), T0 + 10**9)
    assert [transition.id for transition in moved] == ["588f5834-1", "588f5834-2"]


def test_fingerprints_tell_rule_variant_and_slice_apart() -> None:
    found = {
        fingerprint("a", SliceKey("b", "c")),
        fingerprint("ab", SliceKey("", "c")),
        fingerprint("a", SliceKey("bc", "")),
        fingerprint("a", SliceKey("b")),
    }
    assert len(found) == 4


def test_votes_of_unknown_rules_are_ignored() -> None:
    assert evaluate([RULE], {}, [vote(rule_name="deleted")], T0 + 10**9) == ({}, [])


def test_state_of_a_deleted_rule_is_dropped_so_that_it_fires_for_nobody() -> None:
    before = {("deleted", FINE_TUNED): AlertState(FIRING, T0, T0, 2, ring(0, 20))}
    assert evaluate([RULE], before, [], T0 + 10**12) == ({}, [])


def test_each_variant_has_an_alert_of_its_own() -> None:
    bad = votes([False] * 20)
    good = [v._replace(key=SliceKey("prompt"), hit=True) for v in bad]
    states, moved = evaluate([RULE], {}, bad + good, T0 + 10**9)
    assert states[KEY].status is FIRING
    assert states[RULE.name, SliceKey("prompt")].status is OK
    assert {transition.key for transition in moved if transition.moved_to is FIRING} == {FINE_TUNED}


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


FEW = settings(REPEATABLE, max_examples=40)


def long_streams() -> st.SearchStrategy[list[Vote]]:
    """Votes of two alerts that fall, recover and fall again; some released in the same instant."""
    stretch = st.tuples(st.sampled_from([0.05, 0.5, 0.95, 1.0]), st.integers(5, 90))
    return st.tuples(st.lists(stretch, max_size=5), st.randoms(use_true_random=False)).map(
        lambda drawn: [
            vote(
                T0 + at // 3 * MINUTE_MS // 4,
                hit=drawn[1].random() < share,
                prediction_id=f"p{drawn[1].randrange(10**6)}",
                key=SliceKey(drawn[1].choice(["fine_tuned", "prompt"])),
                event_ms=T0 + drawn[1].randrange(10**6),
            )
            for at, share in enumerate(share for share, length in drawn[0] for _ in range(length))
        ]
    )


END_MS = T0 + 10**9


@FEW
@given(long_streams(), st.lists(st.integers(0, 60 * MINUTE_MS), max_size=6))
def test_split_into_evaluations_does_not_show_in_the_transitions(
    stream: list[Vote], offsets: list[int]
) -> None:
    whole = evaluate([RULE], {}, stream, END_MS)
    states: dict[AlertKey, AlertState] = {}
    found: list[Transition] = []
    reached_ms = 0
    for watermark_ms in [*sorted(T0 + offset for offset in offsets), END_MS]:
        released = [v for v in stream if reached_ms <= v.release_ms < watermark_ms]
        states, moved = evaluate([RULE], states, released, watermark_ms)
        found += moved
        reached_ms = watermark_ms
    assert (states, found) == whole


@FEW
@given(long_streams(), st.randoms(use_true_random=False))
def test_order_of_votes_within_an_evaluation_does_not_matter(
    stream: list[Vote], draw: Random
) -> None:
    shuffled = draw.sample(stream, len(stream))
    assert evaluate([RULE], {}, shuffled, END_MS) == evaluate([RULE], {}, stream, END_MS)


@FEW
@given(long_streams())
def test_transitions_of_an_alert_form_one_unbroken_chain(stream: list[Vote]) -> None:
    _, moved = evaluate([RULE], {}, stream, END_MS)
    for _, chain in itertools.groupby(sorted(moved, key=lambda t: t.key), key=lambda t: t.key):
        at = NO_DATA
        for number, transition in enumerate(chain, 1):
            assert transition.moved_from is at
            assert transition.id.endswith(f"-{number}")
            at = transition.moved_to
