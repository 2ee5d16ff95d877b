"""The traps: found, not found, or unknown, and never taken for harmless without evidence."""

import random

import pytest

from monitor.domain.counts import Counts, bucket_of, merge
from monitor.domain.slices import Groups
from monitor.domain.traps import (
    Offline,
    Sign,
    Trap,
    accuracy_paradox,
    data_leakage,
    ignored_latency,
    overfitting,
    prompt_bias,
)
from monitor.domain.verdict import Evidence, VerdictLimits, evidence_of, judged
from tests.builders import URGENT, outcomes

LIMITS = VerdictLimits(recall={"urgent": 0.8})


def known(hits: int, misses: int, others: int = 0, wrong: int = 0, ms: float = 0) -> Evidence:
    """Urgent hits and misses, and others right and wrong; 100 latencies of ``ms`` if above 0."""
    counts = outcomes(
        {
            ("lost_card", "lost_card"): hits,
            ("lost_card", "balance"): misses,
            ("balance", "balance"): others,
            ("balance", "greeting"): wrong,
        }
    )
    timed = Counts({("latency", str(bucket_of(ms))): 100} if ms else {})
    return evidence_of(merge([counts, timed]), Groups({"urgent": URGENT}), ["urgent"])


def paradox(evidence: Evidence, limits: VerdictLimits = LIMITS) -> Trap:
    return accuracy_paradox(evidence, judged(evidence, limits), limits)


# Accuracy paradox


@pytest.mark.parametrize(
    ("evidence", "sign"),
    [
        (known(12, 88, 4_900), Sign.FOUND),
        (known(95, 5, 4_900), Sign.NOT_FOUND),
        (known(19, 1, 980), Sign.UNKNOWN),
        (known(0, 3, 980), Sign.UNKNOWN),
        (known(12, 88, 400, 500), Sign.NOT_FOUND),
        (known(12, 88, 4_200, 700), Sign.UNKNOWN),
        (known(40, 10, 640, 110), Sign.UNKNOWN),
        (known(0, 0, 0, 1), Sign.UNKNOWN),
        (Evidence.empty(), Sign.UNKNOWN),
    ],
    ids=[
        "hidden",
        "healthy",
        "20 labels",
        "3 labels",
        "accuracy is bad too",
        "may be",
        "open",
        "1 label",
        "nothing",
    ],
)
def test_accuracy_paradox_is_good_accuracy_that_hides_a_failing_group(
    evidence: Evidence, sign: Sign
) -> None:
    assert paradox(evidence).sign is sign


def test_accuracy_paradox_is_unknown_when_no_group_is_declared() -> None:
    assert paradox(known(12, 88, 4_900), VerdictLimits()).sign is Sign.UNKNOWN


def test_accuracy_is_compared_with_the_constant_answer() -> None:
    found = paradox(known(12, 88, 4_900))
    assert found.numbers == {
        "accuracy": 4_912 / 5_000,
        "n": 5_000,
        "constant_intent": "balance",
        "constant_accuracy": 0.98,
    }
    assert "always answering balance would be right in 98.0%" in found.text


# Overfitting


def offline(value: float = 0.93, n: int | None = None, version: str = "ft-1") -> Offline:
    return Offline(version, "recall", "urgent", value, n)


@pytest.mark.parametrize(
    ("declared", "live", "sign"),
    [
        ((), known(30, 70), Sign.UNKNOWN),
        ((offline(),), known(70, 30), Sign.FOUND),
        ((offline(),), known(93, 7), Sign.NOT_FOUND),
        ((offline(n=1_000),), known(70, 30), Sign.FOUND),
        ((offline(n=10),), known(85, 15), Sign.NOT_FOUND),
        ((offline(),), known(10, 10), Sign.UNKNOWN),
        ((offline(), offline(version="ft-2")), known(93, 7), Sign.UNKNOWN),
        ((offline(), offline(version="ft-2")), known(70, 30), Sign.FOUND),
    ],
    ids=[
        "not declared",
        "worse live",
        "as good live",
        "worse, with both uncertain",
        "ten examples prove little",
        "too few live labels",
        "one version has no live label",
        "one is worse, the other unknown",
    ],
)
def test_overfitting_is_a_version_that_is_shown_to_be_worse_live(
    declared: tuple[Offline, ...], live: Evidence, sign: Sign
) -> None:
    assert overfitting(declared, {"ft-1": live}).sign is sign


def test_overfitting_says_how_sure_the_offline_score_is() -> None:
    exact = overfitting([offline()], {"ft-1": known(70, 30)})
    assert "taken as exact" in exact.text
    counted = overfitting([offline(n=1_200)], {"ft-1": known(70, 30)})
    assert "93.0% offline (n=1,200), difference -23.0%" in counted.text
    low, high = (counted.numbers[f"recall of urgent of ft-1: {b}"] for b in ("low", "high"))
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low < -0.23 < high < 0


def test_many_declared_scores_need_a_clearer_difference_than_one() -> None:
    alone = overfitting([offline(0.90)], {"ft-1": known(83, 17)})
    beside = [offline(0.0, version=f"ft-{number}") for number in range(2, 21)]
    versions = {f"ft-{number}": known(83, 17) for number in range(1, 21)}
    among_many = overfitting([offline(0.90), *beside], versions)
    assert (alone.sign, among_many.sign) == (Sign.FOUND, Sign.NOT_FOUND)


def test_accuracy_and_precision_can_be_declared_too() -> None:
    declared = [
        Offline("ft-1", "accuracy", "", 0.99, None),
        Offline("ft-1", "precision", "urgent", 0.99, None),
    ]
    found = overfitting(declared, {"ft-1": known(90, 10, 100, 300)})
    assert found.sign is Sign.FOUND
    assert found.text.startswith("accuracy of ft-1 is shown to be worse live")


# Ignored latency


@pytest.mark.parametrize(
    ("evidence", "sign"),
    [
        (known(95, 5, ms=2_000), Sign.FOUND),
        (known(95, 5, ms=100), Sign.NOT_FOUND),
        (known(10, 90, ms=2_000), Sign.NOT_FOUND),
        (known(19, 1, ms=2_000), Sign.UNKNOWN),
        (known(95, 5), Sign.UNKNOWN),
    ],
    ids=["good but slow", "good and fast", "neither", "slow, recall open", "not reported"],
)
def test_ignored_latency_is_recall_that_holds_only_when_answers_are_slow(
    evidence: Evidence, sign: Sign
) -> None:
    assert ignored_latency(judged(evidence, LIMITS)).sign is sign


# Prompt bias


def biased(**slices: tuple[int, int]) -> Trap:
    """Slice -> hits and misses; together they are the whole."""
    parts = {f"prompt_version={name}": known(*told) for name, told in slices.items()}
    whole = known(sum(h for h, _ in slices.values()), sum(m for _, m in slices.values()))
    return prompt_bias(parts, whole, LIMITS)


def test_weakness_of_a_slice_that_the_total_hides_is_named() -> None:
    found = biased(a=(950, 50), b=(60, 40))
    assert found.sign is Sign.FOUND
    assert found.text == (
        "recall of urgent is 60.0% in prompt_version=b (n=100) against 95.0% elsewhere "
        "(n=1,000), below its limit 80.0%, hidden by a total that reaches it "
        "(2 looks, each at 97.50%)"
    )


@pytest.mark.parametrize(
    ("slices", "sign"),
    [
        ({"a": (95, 5), "b": (94, 6)}, Sign.NOT_FOUND),
        ({"a": (95, 5), "b": (94, 6), "c": (5, 5)}, Sign.UNKNOWN),
        ({"a": (95, 5), "b": (50, 50), "c": (5, 5)}, Sign.FOUND),
        ({"a": (95, 5), "b": (5, 5)}, Sign.UNKNOWN),
        ({"a": (95, 5)}, Sign.UNKNOWN),
        ({}, Sign.UNKNOWN),
    ],
    ids=[
        "alike",
        "alike, and one with too few labels",
        "one weaker, and one with too few labels",
        "too few labels of one",
        "only one",
        "no slice",
    ],
)
def test_prompt_bias_needs_labels_on_both_sides(
    slices: dict[str, tuple[int, int]], sign: Sign
) -> None:
    assert biased(**slices).sign is sign


def test_many_looks_at_slices_that_are_alike_rarely_claim_a_weakness() -> None:
    draw, claimed = random.Random(7), 0
    for _ in range(400):
        hits = {f"s{number}": sum(draw.random() < 0.9 for _ in range(100)) for number in range(12)}
        found = biased(**{name: (n, 100 - n) for name, n in hits.items()})
        claimed += found.sign is Sign.FOUND
    assert claimed <= 0.05 * 400


# Data leakage


def test_leakage_is_unknown_until_somebody_checks_it() -> None:
    assert data_leakage(None).sign is Sign.UNKNOWN
    assert "recallwatch leakage" in data_leakage(None).text
    checked = Trap("", Sign.FOUND, "7 of 10 were copies", {"n": 10})
    assert data_leakage(checked) == checked._replace(name="data leakage")
