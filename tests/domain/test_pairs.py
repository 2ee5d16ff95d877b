"""Paired tests against independent computations, and what they promise to whoever watches."""

import math
import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import recall_score

from monitor.domain.comparison import Finding, compare_latency, compare_relevance
from monitor.domain.counts import Counts, bucket_of
from monitor.domain.pairs import (
    ALPHA,
    PairCounts,
    PairKey,
    PairState,
    Side,
    alpha_of,
    bar_of,
    bootstrap_interval,
    compare_pairs,
    difference_bounds,
    evidence_of,
    judge,
    mcnemar,
    paired_interval,
    present,
    with_pair,
)
from monitor.domain.sequential import log_evidence, mean_bounds, rank_bounds
from tests.domain.facts import REPEATABLE

COUNTS = st.builds(PairCounts, *[st.integers(0, 60)] * 4).filter(lambda counts: counts.n > 0)
SIZES = (1, 2, 7, 30, 499, 500, 501, 5_000, 200_000)


def close(value: float) -> object:
    return pytest.approx(value, rel=0, abs=1e-9)


# One look, against scipy and scikit-learn


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("deviations", [0, 0.3, 1, 2, 5])
def test_mcnemar_is_the_binomial_test_of_scipy(n: int, deviations: float) -> None:
    for sign in (-1, 1):
        one = round(min(n, max(0, n / 2 + sign * deviations * math.sqrt(n) / 2)))
        assert mcnemar(one, n - one) == close(stats.binomtest(one, n, 0.5).pvalue)


def test_mcnemar_is_that_of_scipy_for_all_small_tables() -> None:
    for one, other in product(range(25), repeat=2):
        if one + other:
            expected = stats.binomtest(one, one + other, 0.5).pvalue
            assert mcnemar(one, other) == close(expected)
    assert mcnemar(0, 0) == 1.0


def test_difference_is_that_of_the_recalls_of_scikit_learn() -> None:
    dice = np.random.default_rng(5)
    actual = dice.integers(0, 2, 2_000)
    answers = [np.where(dice.random(2_000) < share, actual, 1 - actual) for share in (0.9, 0.8)]
    counts = PairCounts()
    for truth, one, other in zip(actual, *answers, strict=True):
        if truth:
            counts = counts.plus(one=bool(one), other=bool(other))
    recalls = [recall_score(actual, each) for each in answers]
    assert counts.difference == close(recalls[0] - recalls[1])
    assert [hits / counts.n for hits in counts.hits] == [close(recall) for recall in recalls]


def counted_out(counts: PairCounts) -> tuple[float, float]:
    """The bootstrap with every table that drawing can end in, by its multinomial chance."""
    n = counts.n
    shares = [counts.only_one / n, counts.only_other / n]
    drawn = stats.multinomial(n, [*shares, max(0.0, 1 - sum(shares))])
    chances = np.zeros(2 * n + 1)
    for one in range(n + 1):
        for other in range(n + 1 - one):
            chances[n + one - other] += drawn.pmf([one, other, n - one - other])
    reached = np.cumsum(chances)
    low, high = (int(np.searchsorted(reached, tail - 1e-12)) - n for tail in (0.025, 0.975))
    return low / n, high / n


@pytest.mark.parametrize(
    "counts",
    [(36, 12, 2, 0), (5, 3, 1, 1), (0, 4, 4, 0), (10, 0, 0, 5), (0, 6, 0, 0), (20, 1, 9, 10)],
)
def test_bootstrap_is_that_of_all_tables_that_drawing_can_end_in(
    counts: tuple[int, int, int, int],
) -> None:
    found = PairCounts(*counts)
    assert bootstrap_interval(found) == close_pair(counted_out(found))


def close_pair(pair: tuple[float, float]) -> object:
    return pytest.approx(pair, rel=0, abs=1e-9)


def test_bootstrap_is_about_that_of_draws() -> None:
    counts = PairCounts(700, 120, 60, 120)
    dice = np.random.default_rng(7)
    drawn = dice.multinomial(counts.n, np.array(counts) / counts.n, 200_000)
    low, high = np.percentile((drawn[:, 1] - drawn[:, 2]) / counts.n, [2.5, 97.5])
    assert bootstrap_interval(counts) == pytest.approx((low, high), abs=0.0011)


def test_paired_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Every table of 25 pairs, by its chance, under some truths."""
    n, covered = 25, []
    tables = [
        (e, f, g, n - e - f - g)
        for e, f, g in product(range(n + 1), repeat=3)
        if e + f + g <= n
    ]  # fmt: skip
    bounds = np.array([paired_interval(PairCounts(*table)) for table in tables])
    for shares in ((0.6, 0.2, 0.1, 0.1), (0.8, 0.1, 0.05, 0.05), (0.4, 0.2, 0.2, 0.2)):
        chances = stats.multinomial(n, shares).pmf(np.array(tables))
        truth = shares[1] - shares[2]
        covered.append(float(chances[(bounds[:, 0] <= truth) & (truth <= bounds[:, 1])].sum()))
    assert min(covered) > 0.93
    assert max(covered) < 0.99


# Sides


@REPEATABLE
@given(COUNTS)
def test_swapped_variants_have_the_mirrored_answer(counts: PairCounts) -> None:
    there, back = counts, counts.swapped
    assert mcnemar(there.only_one, there.only_other) == mcnemar(back.only_one, back.only_other)
    assert evidence_of(there) == pytest.approx(evidence_of(back), abs=1e-12)
    assert back.difference == -(there.difference or 0.0)
    for interval in (paired_interval, lambda c: difference_bounds(c, 0.025)):
        low, high = interval(there)
        assert interval(back) == pytest.approx((-high, -low), abs=1e-9)


@REPEATABLE
@given(COUNTS)
def test_bounds_hold_the_difference_and_stay_within_one(counts: PairCounts) -> None:
    difference = counts.difference or 0.0
    for low, high in (
        paired_interval(counts),
        bootstrap_interval(counts),
        difference_bounds(counts, 0.025),
    ):
        assert -1 <= low <= difference + 1e-12
        assert difference - 1e-12 <= high <= 1


@REPEATABLE
@given(COUNTS)
def test_zero_is_left_out_exactly_where_the_evidence_reaches_the_bar(counts: PairCounts) -> None:
    low, high = difference_bounds(counts, 0.025)
    assert (low > 0 or high < 0) == (evidence_of(counts) >= bar_of(1, 1))


@REPEATABLE
@given(st.integers(0, 80), st.integers(0, 80))
def test_evidence_grows_with_each_pair_that_speaks_for_the_leader(lead: int, rest: int) -> None:
    one, other = max(lead, rest) + 1, min(lead, rest)
    more = evidence_of(PairCounts(only_one=one + 1, only_other=other))
    assert more > evidence_of(PairCounts(only_one=one, only_other=other))


@REPEATABLE
@given(COUNTS, st.integers(0, 50), st.integers(0, 50))
def test_pairs_that_agree_change_no_evidence(counts: PairCounts, both: int, neither: int) -> None:
    more = counts._replace(both=counts.both + both, neither=counts.neither + neither)
    assert evidence_of(more) == evidence_of(counts)


@REPEATABLE
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40), st.randoms())
def test_order_of_pairs_does_not_show_in_counts_and_evidence(
    found: list[tuple[bool, bool]],
    dice: random.Random,
) -> None:
    shuffled = dice.sample(found, len(found))
    states = []
    for order in (found, shuffled):
        state = PairState()
        for number, (one, other) in enumerate(order):
            state = with_pair(state, number, one=one, other=other, comparisons=1)
        states.append(state)
    assert states[0].counts == states[1].counts


# Claims


def after(pairs: str, comparisons: int = 1) -> PairState:
    """``+`` only the one is right, ``-`` only the other, ``=`` both."""
    state = PairState()
    for at_ms, sign in enumerate(pairs):
        one, other = sign != "-", sign != "+"
        state = with_pair(state, at_ms, one=one, other=other, comparisons=comparisons)
    return state


def test_claim_stands_when_evidence_goes_back_and_gives_way_to_the_opposite_one() -> None:
    assert after("+" * 7).claimed_ms is None
    claimed = after("+" * 8 + "-" * 6)
    assert (claimed.claimed_ms, claimed.is_for_one) == (7, True)
    assert evidence_of(claimed.counts) < bar_of(1, 1)
    assert judge(claimed, 1).finding is Finding.BETTER
    turned = after("+" * 8 + "-" * 60)
    assert (turned.is_for_one, judge(turned, 1).finding) == (False, Finding.WORSE)
    assert turned.claimed_ms is not None
    assert turned.claimed_ms > 7


def test_no_difference_shown_is_an_answer_and_few_pairs_are_too_few() -> None:
    assert judge(after("=" * 29), 1).finding is Finding.TOO_FEW
    assert judge(after("=" * 30), 1).finding is Finding.NO_DIFFERENCE
    none = judge(PairState(), 1)
    assert (none.finding, none.difference, none.interval) == (Finding.TOO_FEW, None, None)


def test_swapped_finding_is_the_mirrored_one() -> None:
    state = after("+" * 20)
    one, other = (compare_pairs(state, 1, is_swapped=swapped) for swapped in (False, True))
    assert (one.finding, other.finding) == (Finding.BETTER, Finding.WORSE)
    assert (one.difference, other.difference) == (1.0, -1.0)
    assert one.interval is not None
    assert other.interval == (-one.interval[1], -one.interval[0])
    assert (one.is_paired, one.is_watched, one.claimed_ms) == (True, True, 7)


def test_the_parts_of_alpha_never_add_up_to_more_than_alpha() -> None:
    for comparisons in (1, 3):
        parts = comparisons * sum(alpha_of(number, comparisons) for number in range(1, 10_000))
        assert ALPHA * 0.999 < parts < ALPHA


def test_present_pair_is_that_of_the_versions_that_answered_last() -> None:
    old, new = (PairKey(Side("a", version), Side("b")) for version in ("v1", "v2"))
    strange = PairKey(Side("a"), Side("c"))
    pairs = {
        old: PairState(last_ms=5), new: PairState(last_ms=6), strange: PairState(last_ms=9)
    }  # fmt: skip
    assert present(pairs, "b", "a") == new
    assert present(pairs, "b", "c") is None


# At every look


def log_evidences(
    dice: np.random.Generator, runs: int, looks: int, up: float
) -> NDArray[np.float64]:
    """Evidence of each run after each pair on which the two differ."""
    ones = np.cumsum(dice.random((runs, looks)) < up, axis=1)
    n = np.arange(1, looks + 1)
    table = np.array([math.lgamma(k + 0.5) for k in range(looks + 1)])
    whole = np.array([math.lgamma(k + 1.0) for k in range(looks + 1)])
    found: NDArray[np.float64] = table[ones] + table[n - ones] - whole[n] + n * math.log(2)
    return found - math.log(math.pi)


def test_the_table_of_the_simulation_is_the_evidence() -> None:
    found = log_evidences(np.random.default_rng(1), 1, 50, 1.0)[0]
    assert list(found) == pytest.approx([log_evidence(k, 0, 0.5) for k in range(1, 51)])


def test_no_difference_is_claimed_in_at_most_one_run_of_twenty_at_any_of_2_000_looks() -> None:
    """Each look is a pair on which the two differ: those that agree change nothing."""
    found = log_evidences(np.random.default_rng(3), 1_000, 2_000, 0.5).max(axis=1)
    assert (found >= -math.log(ALPHA)).mean() <= 0.05
    assert (found >= bar_of(1, 1)).mean() <= 0.025


def test_whoever_looks_at_p_values_again_and_again_claims_far_more_often() -> None:
    dice = np.random.default_rng(3)
    ones = np.cumsum(dice.random((200, 2_000)) < 0.5, axis=1)[:, 19::20]
    n = np.arange(20, 2_001, 20)
    least = np.minimum(ones, n - ones)
    assert (2 * stats.binom.cdf(least, n, 0.5) < 0.05).any(axis=1).mean() > 0.2


def test_a_difference_is_found() -> None:
    found = log_evidences(np.random.default_rng(4), 200, 400, 0.65).max(axis=1)
    assert (found >= bar_of(1, 1)).mean() > 0.95


def test_bounds_of_a_mean_hold_at_all_looks_for_values_that_are_no_shares() -> None:
    """Relevance: beta values with mean 0.75, looked at after each."""
    dice, looks, missed = np.random.default_rng(6), 400, 0
    for _ in range(200):
        sums = np.cumsum(dice.beta(3, 1, looks))
        excluded = [
            log_evidence(float(hits), n - float(hits), 0.75) >= math.log(40)
            for n, hits in enumerate(sums, start=1)
        ]
        missed += any(excluded)
    assert missed / 200 <= 0.025


def test_ranks_hold_the_quantile_at_all_looks() -> None:
    dice, looks, missed = np.random.default_rng(8), 2_000, 0
    bounds = {n: rank_bounds(0.95, n, 0.025) for n in range(1, looks + 1)}
    for _ in range(200):
        below = np.cumsum(dice.random(looks) <= 0.95)
        missed += any(
            bound is not None and not bound[0] <= count < bound[1]
            for count, bound in zip(below.tolist(), bounds.values(), strict=True)
        )
    assert missed / 200 <= 0.025


@REPEATABLE
@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from([0.05, 0.025, 0.001]))
def test_bounds_are_where_the_evidence_reaches_the_bar(
    hits: int, misses: int, alpha: float
) -> None:
    low, high = mean_bounds(hits, misses, alpha)
    bar = math.log(1 / alpha)
    assert 0 <= low <= high <= 1
    for bound, is_end in ((low, low == 0), (high, high == 1)):
        if not is_end:
            assert log_evidence(hits, misses, bound) == pytest.approx(bar, abs=1e-4)


# Latency and relevance


def counts_with(latencies: list[float], relevance: float = 0.5, judged: int = 0) -> Counts:
    cells: dict[tuple[str, ...], int] = {
        ("relevance", "n"): judged, ("relevance", "micros"): round(relevance * judged * 1e6)
    }  # fmt: skip
    for latency in latencies:
        cell = ("latency", str(bucket_of(latency)))
        cells[cell] = cells.get(cell, 0) + 1
    return Counts(cells)


def test_faster_variant_is_better_and_the_difference_is_one_of_milliseconds() -> None:
    fast = counts_with([100.0 + number / 50 for number in range(1_000)])
    slow = counts_with([200.0 + number / 50 for number in range(1_000)])
    found = compare_latency(fast, slow, 0.95)
    assert found.finding is Finding.BETTER
    assert found.difference == pytest.approx(-100, abs=4)
    assert found.interval is not None
    low, high = found.interval
    assert low < -100 < high < 0
    mirrored = compare_latency(slow, fast, 0.95)
    assert mirrored.finding is Finding.WORSE
    assert mirrored.interval == (-high, -low)


def test_equal_latencies_show_no_difference_and_few_are_too_few() -> None:
    some = counts_with([100.0 + number for number in range(500)])
    assert compare_latency(some, some, 0.95).finding is Finding.NO_DIFFERENCE
    few = counts_with([100.0] * 20)
    assert compare_latency(few, some, 0.95).finding is Finding.TOO_FEW
    nothing = compare_latency(Counts({}), some, 0.5)
    assert (nothing.finding, nothing.difference) == (Finding.TOO_FEW, None)


def test_relevance_is_compared_by_intervals_that_hold_for_any_values() -> None:
    good, poor = counts_with([], 0.9, 400), counts_with([], 0.6, 400)
    found = compare_relevance(good, poor)
    assert (found.finding, found.is_watched, found.is_paired) == (Finding.BETTER, True, False)
    assert found.difference == pytest.approx(0.3)
    assert compare_relevance(poor, good).finding is Finding.WORSE
    assert compare_relevance(good, good).finding is Finding.NO_DIFFERENCE
    assert compare_relevance(good, Counts({})).finding is Finding.TOO_FEW
