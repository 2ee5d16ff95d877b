import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.detectors import Bars, Glance, bars, breach, evidence_of, is_clear, observe
from monitor.domain.intervals import wilson
from tests.builders import T0, ring
from tests.domain.facts import REPEATABLE


def test_bars_at_an_objective_of_eighty_percent_are_those_of_the_policy() -> None:
    assert bars(0.80) == Bars(breach_short=9, breach_long=65, clear_long=85)


@pytest.mark.parametrize("objective", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
def test_bars_are_where_wilsons_upper_bound_falls_below_the_objective(objective: float) -> None:
    def upper(hits: int, n: int) -> float:
        p, z = hits / n, 3.5
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        spread = math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return centre + z / (1 + z * z / n) * spread

    found = bars(objective)
    for most, n in ((found.breach_short, 20), (found.breach_long, 100)):
        assert most == -1 or upper(most, n) < objective
        assert most == n or upper(most + 1, n) >= objective
    assert found.clear_long == min(100, round(objective * 100) + 5)


def test_hopeless_objective_never_breaches() -> None:
    assert bars(0.0) == Bars(-1, -1, 5)


@pytest.mark.parametrize(
    ("hits", "misses", "window"),
    [
        (9, 11, 20),
        (10, 10, None),
        (0, 19, None),
        (0, 20, 20),
        (65, 35, 100),
        (66, 34, None),
        (59, 40, None),
        (100, 0, None),
    ],
    ids=[
        "9 of 20 breaches",
        "10 of 20 does not",
        "19 votes are too few",
        "20 misses breach",
        "65 of 100 breaches",
        "66 of 100 does not",
        "99 votes are no long window",
        "all hits",
    ],
)
def test_breach_needs_a_full_window_below_the_objective(
    hits: int, misses: int, window: int | None
) -> None:
    found = breach(ring(hits, misses), 0.80)
    assert (None if found is None else found.n) == window


def test_short_window_speaks_first_when_both_breach() -> None:
    found = breach(ring(50, 50, misses_last=True), 0.80)
    assert found is not None
    assert (found.hits, found.n) == (0, 20)


def test_evidence_names_hits_votes_first_event_and_upper_bound() -> None:
    found = breach(ring(9, 11), 0.80)
    assert found is not None
    assert (found.hits, found.n, found.since_ms) == (9, 20, T0)
    assert found.upper == pytest.approx(wilson(9, 20, 3.5)[1])
    assert found.upper < 0.80


def test_evidence_of_fewer_votes_than_asked_for_takes_all_there_are() -> None:
    assert evidence_of(ring(3, 1), 100)[:2] == (3, 4)


@pytest.mark.parametrize(
    ("state", "clear"),
    [
        (ring(85, 15), True),
        (ring(84, 16), False),
        (ring(99, 0), False),
        (ring(90, 10, misses_last=True), True),
        (ring(89, 11, misses_last=True), False),
        (Glance(), False),
    ],
    ids=[
        "85 of 100",
        "84 of 100",
        "99 votes",
        "last 20 hold 10 hits",
        "last 20 are in breach",
        "no vote",
    ],
)
def test_clear_needs_a_hundred_votes_with_a_margin_and_no_short_breach(
    state: Glance, clear: bool
) -> None:
    assert is_clear(state, 0.80) is clear


@REPEATABLE
@given(st.lists(st.booleans(), max_size=250))
def test_only_the_last_hundred_votes_are_remembered(hits: list[bool]) -> None:
    state = Glance()
    for at, hit in enumerate(hits):
        state = observe(state, at, hit=hit)
    assert state.ring == tuple(enumerate(hits))[-100:]


@REPEATABLE
@given(st.lists(st.booleans(), min_size=1, max_size=140), st.sampled_from([0.7, 0.8, 0.9]))
def test_no_state_is_clear_and_in_breach_at_once(hits: list[bool], objective: float) -> None:
    state = Glance(tuple(enumerate(hits))[-100:])
    assert not (is_clear(state, objective) and breach(state, objective))
