"""The metrics of a variant: each with what it stands on, and an interval where there is one."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from monitor.domain.counts import Counts, bucket_of, merge
from monitor.domain.intervals import wilson
from monitor.domain.profile import Metric, metrics_of
from monitor.domain.scores import Binary, binary_of
from monitor.domain.slices import Groups
from tests.builders import URGENT, outcomes

GROUPS = Groups({"urgent": URGENT})
CELLS = {
    ("lost_card", "lost_card"): 40,
    ("lost_card", "report_fraud"): 5,
    ("lost_card", "balance"): 10,
    ("report_fraud", "balance"): 3,
    ("balance", "balance"): 80,
    ("balance", "lost_card"): 7,
}


def found(counts: Counts) -> dict[tuple[str, str], Metric]:
    return {(metric.name, metric.of): metric for metric in metrics_of(counts, GROUPS)}


def test_scores_of_groups_and_intents_are_those_of_scikit_learn() -> None:
    metrics = found(outcomes(CELLS))
    pairs = [pair for pair, n in CELLS.items() for _ in range(n)]
    actual, predicted = ([pair[side] for pair in pairs] for side in (0, 1))
    for intent in sorted(set(actual)):
        expected = precision_recall_fscore_support(
            actual, predicted, labels=[intent], average=None, zero_division=np.nan
        )
        for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
            told = metrics[name, intent].value
            assert told == pytest.approx(value[0], nan_ok=True) or told is None
    is_actual, is_predicted = (
        [intent in URGENT for intent in side] for side in (actual, predicted)
    )
    group = precision_recall_fscore_support(is_actual, is_predicted, average="binary")
    for name, value in zip(("precision", "recall", "f1"), group, strict=False):
        assert metrics[name, "urgent"].value == pytest.approx(value)


def test_every_proportion_has_what_it_stands_on_and_its_interval() -> None:
    metrics = found(outcomes(CELLS))
    recall = metrics["recall", "urgent"]
    assert (recall.n, recall.interval) == (58, wilson(45, 58))
    f1 = metrics["f1", "urgent"]
    assert f1.interval is not None
    assert f1.value is not None
    assert f1.interval[0] < f1.value < f1.interval[1]


def test_latency_quantiles_lie_within_their_intervals_and_need_enough_messages() -> None:
    sketch = merge(Counts({("latency", str(bucket_of(ms))): 1}) for ms in range(100, 500))
    for name, share in (("latency p50", 0.50), ("latency p95", 0.95), ("latency p99", 0.99)):
        metric = found(sketch)[name, ""]
        exact = float(np.quantile(np.arange(100, 500), share))
        assert metric.value == pytest.approx(exact, rel=0.02)
        assert metric.interval is not None
        assert metric.interval[0] <= exact <= metric.interval[1] * 1.01
    few = found(Counts({("latency", "100"): 71}))
    assert (few["latency p95", ""].interval, few["latency p50", ""].n) == (None, 71)


def test_metric_without_data_has_neither_value_nor_interval() -> None:
    for metric in metrics_of(Counts(), GROUPS):
        assert (metric.value, metric.interval, metric.n) == (None, None, 0), metric


def test_binary_matrix_counts_the_group_against_the_rest() -> None:
    assert binary_of(outcomes(CELLS).confusion, URGENT) == Binary(45, 13, 7, 80)
