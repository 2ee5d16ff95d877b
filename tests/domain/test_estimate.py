"""The label-free estimate: exact while p(group | score) holds, refused where nothing says so."""

import math
from collections import Counter
from random import Random

import pytest

from monitor.domain import estimate
from monitor.domain.estimate import Check, Expected, Truth, bin_of

TABLE = {bin_of(0.97, True): Truth(1_000, 950), bin_of(0.005, False): Truth(50_000, 80)}
SCORES = {bin_of(0.97, True): 1_000, bin_of(0.005, False): 50_000}


def drawn(
    n: int, urgent_share: float, shift: float, random: Random
) -> tuple[Counter[int], dict[int, Truth], float]:
    """Predictions with calibrated scores; bins, labels by bin, and the recall.

    ``shift`` moves the mix of inputs: urgent requests that look routine become more frequent.
    """
    scores: Counter[int] = Counter()
    labels: dict[int, Truth] = {}
    hits = misses = 0
    for _ in range(n):
        if random.random() < urgent_share:
            score = random.betavariate(2, 2 + shift)
        else:
            score = random.betavariate(0.3, 60)
        is_urgent = random.random() < score
        is_in = score >= 0.5
        number = bin_of(score, is_in)
        scores[number] += 1
        held = labels.get(number, Truth(0, 0))
        labels[number] = Truth(held.n + 1, held.hits + is_urgent)
        hits += is_urgent and is_in
        misses += is_urgent and not is_in
    return scores, labels, hits / (hits + misses)


@pytest.mark.parametrize("shift", [0.0, 0.6, 1.5])
def test_estimate_is_right_within_two_points_when_only_the_mix_of_inputs_moves(
    shift: float,
) -> None:
    random = Random(7)
    _, labels, before = drawn(120_000, 0.05, 0.0, random)
    scores, _, recall = drawn(120_000, 0.05, shift, random)
    found = estimate.estimate(
        scores, sum(scores.values()), labels, (), labels=120_000, group_labels=3_000
    )
    assert found.value is not None
    assert found.error is not None
    assert found.value == pytest.approx(recall, abs=0.02)
    assert abs(found.value - recall) < 4 * found.error
    assert shift == 0.0 or abs(before - recall) > 0.05


def test_standard_error_is_about_that_of_chance_when_calibration_is_certain() -> None:
    table = {number: Truth(t.n * 10_000, t.hits * 10_000) for number, t in TABLE.items()}
    found = estimate.expect(SCORES, table)
    hits, missed = 950, 80
    spread = missed**2 * 950 * 0.05 + hits**2 * 80 * (1 - 80 / 50_000)
    assert found is not None
    assert found.value == pytest.approx(hits / (hits + missed), abs=1e-3)
    assert found.error == pytest.approx(math.sqrt(spread) / (hits + missed) ** 2, rel=0.01)


def test_standard_error_grows_with_fewer_labels_behind_the_calibration() -> None:
    few = {number: Truth(t.n / 50, t.hits / 50) for number, t in TABLE.items()}
    many, less = estimate.expect(SCORES, TABLE), estimate.expect(SCORES, few)
    assert many is not None
    assert less is not None
    assert less.error > 2 * many.error


def test_nothing_is_expected_of_no_predictions() -> None:
    assert estimate.expect({}, TABLE) is None


@pytest.mark.parametrize(
    ("predictions", "labels", "group_labels", "checks", "words"),
    [
        (0, 5_000, 500, (), "no predictions"),
        (60_000, 5_000, 500, (), "15% of the predictions have neither scores nor confidence"),
        (51_000, 499, 100, (), "499 labels to calibrate with, 500 needed"),
        (51_000, 5_000, 29, (), "29 labels of the group to calibrate with, 30 needed"),
        (51_000, 5_000, 500, (Check(Expected(0.95, 0.02), 0.60),), "it was off by 35% on average"),
    ],
)
def test_estimate_is_refused_with_a_reason(
    predictions: int, labels: int, group_labels: int, checks: tuple[Check, ...], words: str
) -> None:
    found = estimate.estimate(
        SCORES, predictions, TABLE, checks, labels=labels, group_labels=group_labels
    )
    assert (found.value, found.error) == (None, None)
    assert words in found.refused


def test_past_error_within_chance_is_told_and_refuses_nothing() -> None:
    checks = (Check(Expected(0.90, 0.03), 0.86), Check(Expected(0.90, 0.03), 0.92))
    found = estimate.estimate(SCORES, 51_000, TABLE, checks, labels=5_000, group_labels=500)
    assert found.value is not None
    assert found.past_error == pytest.approx(0.03)
    assert found.checks == 2


def test_earlier_window_with_few_labels_of_the_group_is_not_checked() -> None:
    assert estimate.check({57: Truth(19, 19)}, TABLE) is None
    found = estimate.check({57: Truth(20, 19), 1: Truth(100, 1)}, TABLE)
    assert found is not None
    assert found.actual == 19 / 20


def test_label_counts_half_after_a_week_and_never_more_than_one_a_day_younger() -> None:
    weights = [estimate.weight_of(age) for age in range(40)]
    assert weights == sorted(weights, reverse=True)
    assert all(weights[age + 7] == weights[age] / 2 for age in range(33))


def test_calibration_leaves_out_what_came_later() -> None:
    days = {10: {57: Truth(4, 2)}, 17: {57: Truth(8, 8)}, 18: {57: Truth(99, 99)}}
    assert estimate.calibrated(days, 17) == {57: Truth(10, 9)}


@pytest.mark.parametrize("score", [0.0, 0.0005, 0.02, 0.5, 0.97, 0.99, 1.0])
def test_bin_number_tells_side_kind_and_score(score: float) -> None:
    for is_in in (False, True):
        for is_confidence in (False, True):
            number = bin_of(score, is_in, is_confidence=is_confidence)
            assert 0 <= number < 80
            assert (number >= 40, number // 20 % 2 == 1) == (is_in, is_confidence)
            assert abs(estimate.middle_of(number) - score) < 0.0501


def test_group_with_other_members_has_another_score() -> None:
    assert estimate.score_name("urgent", {"a", "b"}) == estimate.score_name("urgent", ["b", "a"])
    assert estimate.score_name("urgent", {"a"}) != estimate.score_name("urgent", {"a", "b"})
