"""Two variants compared: published numbers, and every case counted out."""

import math
from itertools import product

import pytest
from scipy.stats import binom

from monitor.domain.comparison import Comparison, Finding, compare
from monitor.domain.intervals import f1_interval, mean_interval, quantile_ranks
from monitor.domain.scores import proportion

# Difference

PUBLISHED = [
    # hits, n, hits, n, low, high: Newcombe 1998, table II, method 10
    (56, 70, 48, 80, 0.0524, 0.3339),
    (9, 10, 3, 10, 0.1705, 0.8090),
    (6, 7, 2, 7, 0.0582, 0.8062),
    (5, 56, 0, 29, -0.0381, 0.1926),
    (0, 10, 0, 20, -0.1611, 0.2775),
    (0, 10, 0, 10, -0.2775, 0.2775),
    (10, 10, 0, 20, 0.6791, 1.0000),
    (10, 10, 0, 10, 0.6075, 1.0000),
]


def compared(hits: int, n: int, other_hits: int, other_n: int) -> Comparison:
    return compare(proportion(hits, n), proportion(other_hits, other_n))


def bounds(found: Comparison) -> tuple[float, float]:
    assert found.interval is not None
    return found.interval


@pytest.mark.parametrize(("hits", "n", "other_hits", "other_n", "low", "high"), PUBLISHED)
def test_the_interval_is_that_of_the_published_examples(
    hits: int, n: int, other_hits: int, other_n: int, low: float, high: float
) -> None:
    found = compared(hits, n, other_hits, other_n)
    assert found.difference == pytest.approx(hits / n - other_hits / other_n)
    assert bounds(found) == pytest.approx((low, high), abs=5e-5)


def solved(hits: int, n: int) -> tuple[float, float]:
    """Wilson's bounds found by halving: where the score test of ``p`` just rejects at 5 %."""
    z = 1.959963984540054
    share = hits / n

    def is_rejected(p: float) -> bool:
        return abs(share - p) > z * math.sqrt(p * (1 - p) / n)

    ends = []
    for outside in (0.0, 1.0):
        out, within = outside, share
        for _ in range(80):
            middle = (out + within) / 2
            out, within = (middle, within) if is_rejected(middle) else (out, middle)
        ends.append(within)
    return ends[0], ends[1]


@pytest.mark.parametrize("case", [(30, 40, 12, 31), (700, 900, 640, 800), (50, 50, 48, 52)])
def test_the_interval_is_that_of_score_tests_solved_by_halving(
    case: tuple[int, int, int, int],
) -> None:
    hits, n, other_hits, other_n = case
    one, other = hits / n, other_hits / other_n
    (low, high), (other_low, other_high) = solved(hits, n), solved(other_hits, other_n)
    expected = (
        one - other - math.sqrt((one - low) ** 2 + (other_high - other) ** 2),
        one - other + math.sqrt((high - one) ** 2 + (other - other_low) ** 2),
    )
    assert bounds(compared(*case)) == pytest.approx(expected, abs=1e-9)


def chance(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


@pytest.mark.parametrize("sizes", [(30, 30), (30, 60), (45, 45)])
@pytest.mark.parametrize("shares", [(0.9, 0.9), (0.8, 0.8), (0.95, 0.8), (0.7, 0.9)])
def test_the_true_difference_lies_within_about_95_times_of_100_when_all_cases_are_counted(
    sizes: tuple[int, int], shares: tuple[float, float]
) -> None:
    (n, other_n), (p, other_p) = sizes, shares
    weights = list(product(enumerate(chance(n, p)), enumerate(chance(other_n, other_p))))
    covered = sum(
        weight * other_weight
        for (hits, weight), (other_hits, other_weight) in weights
        if (found := bounds(compared(hits, n, other_hits, other_n)))[0] <= p - other_p <= found[1]
    )
    assert 0.935 < covered < 0.99


def test_turned_around_it_is_the_same_with_the_other_sign() -> None:
    one, other = compared(90, 100, 70, 100), compared(70, 100, 90, 100)
    assert (one.finding, other.finding) == (Finding.BETTER, Finding.WORSE)
    assert bounds(one) == pytest.approx((-bounds(other)[1], -bounds(other)[0]))


def test_nothing_is_said_of_fewer_than_thirty_labels_whatever_the_difference() -> None:
    assert compared(29, 29, 0, 1_000).finding is Finding.TOO_FEW
    assert compared(30, 30, 0, 1_000).finding is Finding.BETTER
    nothing = compared(0, 0, 5, 10)
    assert nothing == Comparison(Finding.TOO_FEW, None, None, 0, 10)


def test_equal_shares_show_no_difference() -> None:
    assert compared(90, 100, 180, 200).finding is Finding.NO_DIFFERENCE


def test_a_difference_is_shown_where_the_interval_leaves_out_zero_and_nowhere_else() -> None:
    seen = set()
    for hits, other_hits in product(range(0, 61, 2), repeat=2):
        found = compared(hits, 60, other_hits, 60)
        low, high = bounds(found)
        shown = Finding.BETTER if low > 0 else Finding.WORSE if high < 0 else Finding.NO_DIFFERENCE
        assert found.finding is shown
        seen.add((shown, abs(hits - other_hits)))
    assert (Finding.NO_DIFFERENCE, 10) in seen
    assert (Finding.BETTER, 12) in seen


# Other intervals


def test_f1_of_its_bounds_is_that_of_the_wilson_bounds_of_its_share() -> None:
    low, high = f1_interval(80, 100)
    wilson_low, wilson_high = solved(80, 100)
    assert low / (2 - low) == pytest.approx(wilson_low)
    assert high / (2 - high) == pytest.approx(wilson_high)
    assert low < 2 * 80 / (80 + 100) < high


def test_an_interval_of_a_mean_stays_within_zero_and_one_and_narrows() -> None:
    assert mean_interval(0.99, 10)[1] == 1.0
    low, high = mean_interval(0.5, 10_000)
    assert high - low == pytest.approx(2 * math.sqrt(math.log(40) / 20_000))


@pytest.mark.parametrize(("share", "least"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_a_quantile_has_an_interval_once_values_lie_beyond_it_almost_surely(
    share: float, least: int
) -> None:
    assert quantile_ranks(share, least - 1) is None
    found = quantile_ranks(share, least)
    assert found is not None
    assert found[0] < share * least < found[1]
    assert quantile_ranks(share, 0) is None


@pytest.mark.parametrize("n", [72, 95, 200, 500, 2_000, 1_000_000])
@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_each_side_of_the_interval_of_a_quantile_is_wrong_in_one_of_forty_at_most(
    share: float, n: int
) -> None:
    found = quantile_ranks(share, n)
    if found is None:
        assert n < 368
        return
    low, high = found
    assert binom.cdf(low - 1, n, share) <= 0.025 < binom.cdf(low, n, share)
    assert binom.sf(high - 1, n, share) <= 0.025 < binom.sf(high - 2, n, share)
