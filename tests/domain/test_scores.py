"""Scores against scikit-learn, after each of several hundred outcomes on twelve classes."""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from math import isnan

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from monitor.domain.counts import Counts, merge
from monitor.domain.intervals import Z95, wilson
from monitor.domain.scores import (
    ClassScores,
    RollingMatrix,
    exact_recall,
    fold,
    group_scores,
    headline,
    intent_scores,
    matthews,
    proportion,
)
from tests.builders import outcomes
from tests.domain.facts import REPEATABLE

INTENTS = [f"intent_{number:02}" for number in range(12)]
GROUP = frozenset(INTENTS[:4])
UPDATES = 300

Codes = npt.NDArray[np.int64]
Confusion = Counter[tuple[str, str]]


def stream() -> Iterator[tuple[Codes, Codes, Confusion]]:
    """Outcomes one by one: classes of very different size, some of them met late.

    Actual and predicted come as numbers of ``INTENTS``, for the oracle, and as a confusion matrix.
    """
    draw = random.Random(20_260_115)
    actual, predicted = np.zeros((2, UPDATES), dtype=np.int64)
    confusion: Confusion = Counter()
    for number in range(UPDATES):
        known = 1 + number * len(INTENTS) // UPDATES
        truth = int(known * draw.random() ** 2)
        answer = truth if draw.random() < 0.7 else draw.randrange(known)
        actual[number], predicted[number] = truth, answer
        confusion[INTENTS[truth], INTENTS[answer]] += 1
        yield actual[: number + 1], predicted[: number + 1], confusion


def unless_undefined(value: float) -> float | None:
    return None if isnan(value) else value


@pytest.mark.filterwarnings(
    "ignore:y_pred contains classes not in y_true",
    "ignore:A single label was found",
    "ignore::sklearn.exceptions.UndefinedMetricWarning",
)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("balanced_accuracy", oracle.balanced_accuracy_score),
        (
            "macro_f1",
            lambda actual, predicted: oracle.f1_score(
                actual, predicted, average="macro", zero_division=0
            ),
        ),
        ("cohen_kappa", oracle.cohen_kappa_score),
        ("mcc", oracle.matthews_corrcoef),
    ],
)
def test_headline_agrees_with_the_oracle_after_each_update(
    name: str, expected: Callable[[Codes, Codes], float]
) -> None:
    for actual, predicted, confusion in stream():
        wanted = unless_undefined(float(expected(actual, predicted)))
        assert getattr(headline(confusion), name) == pytest.approx(wanted, abs=1e-12)


def test_accuracy_agrees_with_the_oracle_after_each_update() -> None:
    for actual, predicted, confusion in stream():
        found = headline(confusion)
        assert found.labelled == len(actual)
        assert found.accuracy.support == len(actual)
        assert found.accuracy.value == pytest.approx(oracle.accuracy_score(actual, predicted))


def test_scores_of_every_intent_agree_with_the_oracle_after_each_update() -> None:
    for actual, predicted, confusion in stream():
        found = intent_scores(confusion)
        codes = np.union1d(actual, predicted)
        assert list(found) == [INTENTS[code] for code in codes]
        precision, recall, f1, support = oracle.precision_recall_fscore_support(
            actual, predicted, labels=codes, zero_division=np.nan
        )
        for at, scores in enumerate(found.values()):
            assert scores.recall.support == support[at]
            assert_scores(scores, precision[at], recall[at], f1[at])


def test_group_scores_agree_with_the_oracle_on_group_against_the_rest() -> None:
    for actual, predicted, confusion in stream():
        truths, answers = actual < len(GROUP), predicted < len(GROUP)
        precision, recall, f1, _ = oracle.precision_recall_fscore_support(
            truths, answers, average="binary", pos_label=True, zero_division=np.nan
        )
        scores = group_scores(confusion, GROUP)
        assert scores.recall.support == truths.sum()
        assert scores.precision.support == answers.sum()
        assert_scores(scores, precision, recall, f1)
        exact = int((actual == predicted)[truths].sum())
        assert exact_recall(confusion, GROUP) == proportion(exact, int(truths.sum()))


def assert_scores(scores: ClassScores, precision: float, recall: float, f1: float) -> None:
    assert scores.precision.value == pytest.approx(unless_undefined(precision), abs=1e-12)
    assert scores.recall.value == pytest.approx(unless_undefined(recall), abs=1e-12)
    assert scores.f1 == pytest.approx(unless_undefined(f1), abs=1e-12)


def test_without_an_outcome_everything_is_none() -> None:
    empty = headline({})
    assert empty.labelled == 0
    assert empty.accuracy == (None, 0, None)
    assert (empty.balanced_accuracy, empty.macro_f1) == (None, None)
    assert (empty.cohen_kappa, empty.mcc) == (None, None)
    assert intent_scores({}) == {}
    assert matthews({}) is None
    assert exact_recall({}, GROUP) == (None, 0, None)
    nothing = group_scores({}, GROUP)
    assert (nothing.hits, nothing.recall.value, nothing.precision.value, nothing.f1) == (
        0,
        None,
        None,
        None,
    )


def test_intent_that_was_never_actual_has_precision_but_no_recall() -> None:
    scores = intent_scores({("a", "b"): 3})["b"]
    assert scores.recall == (None, 0, None)
    assert scores.precision.value == 0.0


def test_kappa_is_undefined_where_a_single_class_occurs() -> None:
    found = headline({("a", "a"): 5})
    assert (found.accuracy.value, found.cohen_kappa, found.mcc) == (1.0, None, 0.0)


def test_group_is_folded_into_hits_misses_false_alarms_and_rest() -> None:
    confusion = {("a", "b"): 1, ("a", "x"): 2, ("x", "a"): 4, ("x", "y"): 8, ("b", "b"): 16}
    assert fold(confusion, frozenset("ab")) == (17, 2, 4, 8)


def test_reading_scores_does_not_change_what_is_read() -> None:
    confusion = {("a", "a"): 2, ("a", "b"): 1}
    headline(confusion)
    intent_scores(confusion)
    group_scores(confusion, frozenset("z"))
    assert confusion == {("a", "a"): 2, ("a", "b"): 1}


def roots(hits: int, n: int, z: float) -> tuple[float, float]:
    """The proportions that lie exactly z standard errors from the one found: Wilson's definition.

    They solve ``(hits/n - p)**2 = z*z*p*(1 - p)/n`` for p; in 50 digits.
    """
    with localcontext(prec=50):
        found, z2 = Decimal(hits) / n, Decimal(z) ** 2 / n
        a, b, c = 1 + z2, -(2 * found + z2), found**2
        root = (b * b - 4 * a * c).sqrt()
        return float((-b - root) / (2 * a)), float((-b + root) / (2 * a))


@pytest.mark.parametrize("n", [1, 2, 3, 20, 100, 9_999])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.8, 1.0])
def test_interval_is_wilsons(n: int, share: float) -> None:
    hits = round(share * n)
    assert wilson(hits, n) == pytest.approx(roots(hits, n, Z95), abs=1e-12)
    assert wilson(hits, n, 3.5) == pytest.approx(roots(hits, n, 3.5), abs=1e-12)
    assert proportion(hits, n) == (hits / n, n, wilson(hits, n))


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_interval_has_the_published_values(hits: int, n: int, low: float, high: float) -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, score method.
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


@REPEATABLE
@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([1.0, 1.96, 3.5]))
def test_interval_holds_the_proportion_and_stays_within_zero_and_one(
    n: int, share: float, z: float
) -> None:
    hits = round(share * n)
    low, high = wilson(hits, n, z)
    assert 0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1


def test_proportion_of_nothing_is_none() -> None:
    assert proportion(0, 0) == (None, 0, None)


BITS = """
import random
from monitor.codec.snapshots import digest_of
from monitor.domain.counts import Counts
from monitor.domain.scores import headline, intent_scores, group_scores
from monitor.domain.slices import SliceKey
from monitor.domain.windows import Clock, PaneKey
draw = random.Random(3)
names = ["intent " + str(number) for number in range(77)]
confusion = {}
for _ in range(4000):
    pair = draw.choice(names), draw.choice(names)
    confusion[pair] = confusion.get(pair, 0) + draw.randrange(1, 9)
found = headline(confusion)
for value in (found.balanced_accuracy, found.macro_f1, found.cohen_kappa, found.mcc):
    print(value.hex())
print(intent_scores(confusion), group_scores(confusion, frozenset(names[:7])))
cells = {("outcome", *pair): confusion[pair] for pair in set(confusion)}
panes = {PaneKey(Clock.EVENT, 0, 0, SliceKey(name)): Counts(cells) for name in set(names[:5])}
print(digest_of({name: 1 for name in set(names)}, panes.items(), []))
"""


def test_scores_and_digests_have_the_same_bits_under_every_hash_seed() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", BITS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1", "2", "3")
    ]
    answers = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0, 0]
    assert "0x" in answers[0]
    assert "sha256:" in answers[0]
    assert len(set(answers)) == 1


@pytest.mark.parametrize("size", [1, 2, 5, 30])
def test_rolling_matrix_equals_the_sum_of_the_panes_in_the_window(size: int) -> None:
    draw = random.Random(size)
    rolling = RollingMatrix(size)
    panes: list[Counts] = []
    for _ in range(120):
        cells = [
            (draw.choice(INTENTS), draw.choice(INTENTS)) for _ in range(draw.choice([0, 1, 9]))
        ]
        panes.append(outcomes(Counter(cells)))
        rolling.push(panes[-1])
        hits, support = merge(panes[-size:]).hits_and_support(GROUP)
        assert rolling.recall(GROUP) == proportion(hits, support)


def test_rolling_matrix_without_a_pane_has_no_recall() -> None:
    assert RollingMatrix(3).recall(GROUP) == (None, 0, None)


def test_class_that_has_left_the_window_leaves_no_ghost() -> None:
    rolling = RollingMatrix(1)
    rolling.push(outcomes({(INTENTS[0], "x"): 3}))
    rolling.push(Counts())
    assert rolling.recall(GROUP) == (None, 0, None)
    rolling.push(outcomes({(INTENTS[1], INTENTS[1]): 2}))
    assert rolling.recall(GROUP) == proportion(2, 2)
