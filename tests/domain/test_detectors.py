import importlib.util
import math
import sys
from pathlib import Path
from random import Random
from types import ModuleType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.detectors import (
    CAP,
    DOWN_WEIGHTS,
    UP_WEIGHTS,
    Bars,
    Evidence,
    Glance,
    Mixture,
    Recovery,
    bars,
    breach,
    down_factors,
    evidence_of,
    is_clear,
    observe,
    up_factors,
)
from monitor.domain.intervals import wilson
from tests.builders import T0, ring
from tests.domain.facts import REPEATABLE

REFERENCE = Path(__file__).parents[3] / "shared" / "alertsim" / "edetector.py"
NULLS = [0.5, 0.8, 0.88, 0.95]
RECORDED = [
    "0x1.92d7ffd58689dp+3",
    "0x1.cce760ec45277p+1",
    "0x1.050f0000002d0p+0",
    "0x1.00035b00b0a05p-2",
]
"""What the reference holds at a null of 0.80 after ``pattern(400)``."""


def pattern(length: int) -> list[bool]:
    """Hits that thin out and come back, the same in every run."""
    dice = Random(7)
    return [
        dice.random() < (0.5 if length // 3 < at < length // 2 else 0.93) for at in range(length)
    ]


def run(hits: list[bool], null: float) -> Mixture:
    mixture = Mixture()
    for at, hit in enumerate(hits):
        mixture.observe(down_factors(null), T0 + at, hit=hit)
    return mixture


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The reference implementation of the detector, by other hands."""
    if not REFERENCE.exists():
        pytest.skip("needs the reference detector in ../shared/alertsim")
    spec = importlib.util.spec_from_file_location("edetector", REFERENCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["edetector"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("null", NULLS)
def test_mixture_has_the_bits_of_the_reference_after_every_vote(
    reference: ModuleType, null: float
) -> None:
    theirs, ours = reference.ESR(null, 36_000.0), Mixture()
    for at, hit in enumerate(pattern(3_000)):
        fired = theirs.update(int(hit), T0 + at)
        value = ours.observe(down_factors(null), T0 + at, hit=hit)
        assert (value >= 36_000.0, value, ours.value) == (fired, theirs.value, theirs.value)
        assert (ours.capital, ours.growth) == (theirs.R, theirs.C)
        evidence = ours.evidence(36_000.0)
        assert (evidence.since_ms, evidence.n, evidence.hits) == theirs.change_point()


@pytest.mark.parametrize("null", NULLS)
def test_recovery_has_the_bits_of_the_reference_after_every_vote(
    reference: ModuleType, null: float
) -> None:
    theirs, ours = reference.ESR(null, 1000.0, up=True), Recovery()
    for hit in pattern(3_000):
        cleared = theirs.update(int(hit))
        assert ours.observe(up_factors(null), hit=hit) == theirs.value
        assert (ours.capital, ours.is_clear) == (theirs.R, cleared)


def test_mixture_has_the_bits_that_were_recorded() -> None:
    mixture = run(pattern(400), 0.8)
    assert [capital.hex() for capital in mixture.capital] == RECORDED


def test_minimum_evidence() -> None:
    """Nine misses fire at 36,000 from a fresh state, eight do not."""
    assert run([False] * 8, 0.8).value < 36_000 <= run([False] * 9, 0.8).value


@pytest.mark.parametrize("null", NULLS)
def test_expected_growth_under_the_null_is_one(null: float) -> None:
    for factors, weights in (
        (down_factors(null), DOWN_WEIGHTS),
        (up_factors(null), UP_WEIGHTS),
    ):
        assert sum(weights) == 1.0
        for hit, miss in zip(factors.hit, factors.miss, strict=True):
            assert null * hit + (1 - null) * miss == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("null", NULLS)
def test_hits_and_misses_pull_the_evidence_in_opposite_directions(null: float) -> None:
    assert max(down_factors(null).hit) < 1 < min(down_factors(null).miss)
    assert max(up_factors(null).miss) < 1 < min(up_factors(null).hit)


def test_capital_stays_at_the_cap_however_long_it_is_bad() -> None:
    mixture = run([False] * 5_000, 0.8)
    assert (mixture.capital, mixture.growth) == ([CAP] * 4, [CAP] * 4)
    after = mixture.observe(down_factors(0.8), T0, hit=True)
    assert after < CAP


def test_evidence_counts_from_the_most_likely_change_point() -> None:
    evidence = run([True] * 300 + [False, False, True, False, False] * 4, 0.8).evidence(36_000.0)
    assert evidence[:3] == (4, 20, T0 + 300)


@pytest.mark.parametrize(
    ("value", "strength"), [(0.0, 0.0), (35_999.0, 0.99999735), (36_000.0, 1.0), (1e12, 1.0)]
)
def test_strength_lies_between_nothing_and_one(value: float, strength: float) -> None:
    assert Evidence(0, 0, T0, value, 36_000.0).strength == pytest.approx(strength)


def test_copies_change_alone() -> None:
    mixture, recovery = run([False] * 5, 0.8), Recovery()
    others = mixture.copy(), recovery.copy()
    others[0].observe(down_factors(0.8), T0, hit=True)
    others[1].observe(up_factors(0.8), hit=True)
    assert mixture == run([False] * 5, 0.8)
    assert recovery == Recovery()


@REPEATABLE
@given(st.lists(st.booleans(), max_size=60), st.sampled_from(NULLS))
def test_state_read_back_from_json_has_the_same_bits(hits: list[bool], null: float) -> None:
    mixture = run(hits, null)
    read = msgspec.json.decode(msgspec.json.encode(mixture), type=Mixture)
    assert read == mixture
    assert [c.hex() for c in read.capital] == [c.hex() for c in mixture.capital]


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
    assert found == (9, 20, T0, wilson(9, 20, 3.5)[1], 0.80)
    assert found.value < found.bar


def test_evidence_of_fewer_votes_than_asked_for_takes_all_there_are() -> None:
    assert evidence_of(ring(3, 1), 100, 0.80)[:2] == (3, 4)


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
