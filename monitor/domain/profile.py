"""All metrics of one variant, each with what it stands on and its 95 % interval.

Proportions have Wilson's interval, F1 that of the share of hits, the mean relevance Hoeffding's,
and latencies that of order statistics: none of them asks how the values are distributed.
"""

from collections.abc import Iterator
from typing import NamedTuple

from monitor.domain.counts import Counts
from monitor.domain.intervals import f1_interval, mean_interval
from monitor.domain.scores import ClassScores, Score, group_scores, headline, intent_scores
from monitor.domain.slices import Groups

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Metric(NamedTuple):
    """One number: of what (a group or an intent, "" for all), in which unit; None for no data."""

    name: str
    of: str
    unit: str
    value: float | None
    n: int
    interval: tuple[float, float] | None


def metrics_of(counts: Counts, groups: Groups) -> list[Metric]:
    """Accuracy, the scores of groups and of intents, relevance, latency and labels in."""
    found = [_proportion("accuracy", "", headline(counts.confusion).accuracy)]
    for name, members in groups.members.items():
        found += _class(name, group_scores(counts.confusion, members))
    for intent, scores in intent_scores(counts.confusion).items():
        found += _class(intent, scores)
    found.append(_relevance(counts))
    found += _latencies(counts)
    return found


def _proportion(name: str, of: str, score: Score) -> Metric:
    return Metric(name, of, "share", score.value, score.support, score.interval)


def _class(of: str, scores: ClassScores) -> Iterator[Metric]:
    yield _proportion("recall", of, scores.recall)
    yield _proportion("precision", of, scores.precision)
    either = scores.recall.support + scores.precision.support - scores.hits
    bounds = f1_interval(scores.hits, either) if either else None
    yield Metric("f1", of, "share", scores.f1, either, bounds)


def _relevance(counts: Counts) -> Metric:
    value, n = counts.relevance
    bounds = None if value is None else mean_interval(value, n)
    return Metric("relevance", "", "0 to 1", value, n, bounds)


def _latencies(counts: Counts) -> Iterator[Metric]:
    n = counts.latencies
    for name, share in QUANTILES.items():
        bounds = counts.latency_interval(share)
        yield Metric(f"latency {name}", "", "ms", counts.latency_ms(share), n, bounds)
