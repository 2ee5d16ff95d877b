import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.counts import (
    GREATEST_BUCKET,
    LEAST_BUCKET,
    Cell,
    Counts,
    Part,
    Tally,
    bucket_of,
    merge,
    quantile,
    total_of,
    value_of,
    without_zeros,
)
from tests.builders import URGENT, outcomes
from tests.domain.facts import REPEATABLE

_CELLS: st.SearchStrategy[Cell] = st.one_of(
    st.tuples(st.just("outcome"), st.sampled_from("ab"), st.sampled_from("ab")),
    st.tuples(st.just("prediction"), st.sampled_from("ab")),
    st.tuples(st.just("latency"), st.sampled_from(["1", "20"])),
    st.sampled_from([("relevance", "n"), ("relevance", "micros")]),
)
_COUNTS = st.dictionaries(_CELLS, st.integers(-3, 50), max_size=6).map(Counts)


def latencies(values: list[float]) -> Counts:
    cells: dict[Cell, int] = {}
    for value in values:
        cell = ("latency", str(bucket_of(value)))
        cells[cell] = cells.get(cell, 0) + 1
    return Counts(cells)


def lower_quantile(values: list[float], share: float) -> float:
    return float(np.quantile(values, share, method="inverted_cdf"))


def test_nothing_counted_reads_as_none_and_never_as_zero() -> None:
    nothing = Counts()
    assert nothing.confusion == {}
    assert (nothing.predictions, nothing.labelled) == (0, 0)
    assert nothing.coverage is None
    assert nothing.relevance == (None, 0)
    assert nothing.latency_ms(0.5) is None
    assert nothing.delay_ms(0.5) is None
    assert nothing.hits_and_support(URGENT) == (0, 0)


def test_coverage_is_outcomes_per_prediction() -> None:
    counts = Counts({("prediction", "a"): 8, ("outcome", "a", "a"): 1, ("outcome", "b", "a"): 1})
    assert counts.predicted == {"a": 8}
    assert counts.coverage == 0.25


def test_relevance_is_the_mean_over_judged_answers() -> None:
    counts = Counts({("relevance", "n"): 4, ("relevance", "micros"): 3_000_000})
    assert counts.relevance == (0.75, 4)


def test_relevance_of_zero_is_not_no_relevance() -> None:
    assert Counts({("relevance", "n"): 2, ("relevance", "micros"): 0}).relevance == (0.0, 2)


def test_going_to_another_intent_of_the_group_is_a_hit() -> None:
    counts = outcomes(
        {
            ("lost_card", "lost_card"): 5,
            ("lost_card", "report_fraud"): 3,
            ("report_fraud", "balance"): 2,
            ("balance", "lost_card"): 7,
        }
    )
    assert counts.hits_and_support(URGENT) == (8, 10)


def test_confusion_is_sorted_and_free_of_empty_cells() -> None:
    counts = Counts({("outcome", "b", "a"): 2, ("outcome", "a", "b"): 0, ("outcome", "a", "a"): 1})
    assert list(counts.confusion.items()) == [(("a", "a"), 1), (("b", "a"), 2)]


@REPEATABLE
@given(_COUNTS, _COUNTS, _COUNTS)
def test_merge_is_associative_and_commutative(a: Counts, b: Counts, c: Counts) -> None:
    assert merge([merge([a, b]), c]).cells == merge([a, merge([b, c])]).cells
    assert without_zeros(merge([a, b]).cells) == without_zeros(merge([b, a]).cells)


@REPEATABLE
@given(_COUNTS)
def test_merge_with_nothing_changes_nothing(a: Counts) -> None:
    assert merge([]).cells == {}
    assert merge([a, Counts()]).cells == a.cells


@REPEATABLE
@given(_COUNTS)
def test_what_is_taken_away_again_leaves_nothing(a: Counts) -> None:
    undone = merge([a, Counts({cell: -count for cell, count in a.cells.items()})])
    assert without_zeros(undone.cells) == {}


@REPEATABLE
@given(st.lists(_COUNTS, max_size=4))
def test_tallies_add_up_to_that_of_the_sum(many: list[Counts]) -> None:
    group, total = frozenset("a"), merge(many)
    hits, support = total.hits_and_support(group)
    right = sum(n for (actual, predicted), n in total.confusion.items() if actual == predicted)
    expected = Tally(total.predictions, total.labelled, right, hits, support)
    assert total_of(counts.tally(group) for counts in many) == expected == total.tally(group)


def test_a_tally_is_that_of_the_group_asked_for_when_another_was_asked_before() -> None:
    counts = Counts({("outcome", "a", "b"): 3, ("outcome", "b", "b"): 2})
    assert [counts.tally(frozenset(group))[3:] for group in ("a", "b", "ab", "a")] == [
        *((0, 3), (2, 2), (5, 5), (0, 3)),
    ]


@REPEATABLE
@given(
    st.lists(st.lists(st.floats(0, 1e9), max_size=6), max_size=4), st.sampled_from([0.5, 0.95, 1])
)
def test_quantile_of_many_sketches_is_that_of_all_their_values(
    many: list[list[float]], share: float
) -> None:
    values = [value_of(bucket_of(value)) for each in many for value in each]
    found = quantile([latencies(each) for each in many], "latency", share)
    assert found == (lower_quantile(values, share) if values else None)


@REPEATABLE
@given(_COUNTS)
def test_parts_are_the_whole(counts: Counts) -> None:
    parts = [counts.of_part(part).cells for part in Part]
    assert sum(map(len, parts)) == len(counts.cells)
    assert merge(map(Counts, parts)).cells == counts.cells


def test_canonical_cells_are_sorted() -> None:
    cells: dict[Cell, int] = {("b",): 1, ("a", "z"): 2, ("a",): 0}
    assert list(without_zeros(cells).items()) == [(("a", "z"), 2), (("b",), 1)]


@REPEATABLE
@given(st.floats(min_value=1.1e-3, max_value=0.99e12))
def test_bucket_stands_for_its_values_within_one_percent(value: float) -> None:
    assert value_of(bucket_of(value)) == pytest.approx(value, rel=0.01 + 1e-9)


@REPEATABLE
@given(st.floats(min_value=0, allow_infinity=False), st.floats(min_value=0, allow_infinity=False))
def test_greater_value_never_lies_in_a_lesser_bucket(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert LEAST_BUCKET <= bucket_of(low) <= bucket_of(high) <= GREATEST_BUCKET
    assert math.isfinite(value_of(bucket_of(high)))


@pytest.mark.parametrize("value", [0.0, 5e-324, 0.0005, 0.001])
def test_everything_up_to_a_thousandth_reads_as_zero(value: float) -> None:
    assert value_of(bucket_of(value)) == 0.0


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95, 0.99, 1.0])
def test_quantiles_are_right_to_one_percent(share: float) -> None:
    draw = random.Random(7)
    values = [draw.lognormvariate(5, 1.5) for _ in range(2_000)]
    found = latencies(values).latency_ms(share)
    assert found == pytest.approx(lower_quantile(values, share), rel=0.0101)


@REPEATABLE
@given(
    st.lists(st.one_of(st.just(0.0), st.floats(0.002, 1e7)), min_size=1, max_size=40),
    st.sampled_from([0.25, 0.5, 0.75, 0.95]),
)
def test_quantiles_of_few_values_are_right_to_one_percent(
    values: list[float], share: float
) -> None:
    found = latencies(values).latency_ms(share)
    # Shares of a count are compared in floats on both sides: a rank may fall on either neighbour.
    near = [lower_quantile(values, share + nudge) for nudge in (-1e-9, 0, 1e-9)]
    assert any(found == pytest.approx(value, rel=0.0101) for value in near)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 1.0])
def test_single_value_is_every_quantile(share: float) -> None:
    assert latencies([250.0]).latency_ms(share) == pytest.approx(250.0, rel=0.01)


def test_latency_of_zero_counts_as_a_value() -> None:
    counts = latencies([0.0, 0.0, 0.0, 100.0])
    assert counts.latency_ms(0.5) == 0.0
    assert counts.latency_ms(1.0) == pytest.approx(100.0, rel=0.01)


def test_delay_and_latency_are_different_sketches() -> None:
    counts = Counts({("latency", str(bucket_of(10))): 1, ("delay", str(bucket_of(5_000))): 1})
    assert counts.latency_ms(0.5) == pytest.approx(10, rel=0.01)
    assert counts.delay_ms(0.5) == pytest.approx(5_000, rel=0.01)


def test_merged_sketch_is_the_sketch_of_all_values() -> None:
    draw = random.Random(8)
    parts = [[draw.expovariate(0.01) for _ in range(50)] for _ in range(5)]
    everything = latencies([value for part in parts for value in part])
    assert merge(map(latencies, parts)).cells == everything.cells
