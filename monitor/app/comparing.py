"""The part of the report that compares variants: on the same requests where there are such."""

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

from monitor.app.instants import iso
from monitor.domain import pairs
from monitor.domain.comparison import (
    Comparison,
    Finding,
    compare,
    compare_latency,
    compare_relevance,
)
from monitor.domain.counts import Counts
from monitor.domain.engine import Spec
from monitor.domain.evaluation import Evaluation
from monitor.domain.pairing import PairBook
from monitor.domain.pairs import Judged, PairKey, PairState, Side, compare_pairs, judge
from monitor.domain.rules import Metric, PairRule
from monitor.domain.scores import Score, group_scores, proportion

MOST_EVIDENCE = 1e12
"""Evidence is told up to here: far above any bar, and finite."""

LATENCIES = {"latency p50": 0.50, "latency p95": 0.95}


def comparisons_section(
    counts: Mapping[str, Counts], evaluation: Evaluation, spec: Spec
) -> dict[str, object]:
    """What is watched, with all pairs of versions, and each pair of variants in each measure.

    ``counts`` are those of each variant, ALL not among them.
    """
    return {
        "watched": [
            _watched(rule, evaluation.pairs.get(rule.name, PairBook()), len(spec.comparisons))
            for rule in spec.comparisons
        ],
        "variants": [
            {
                "one": one,
                "other": other,
                "measures": [
                    {"name": found.name, **_compared(found)}
                    for found in compared(one, other, counts, evaluation, spec)
                ],
            }
            for one, other in combinations(sorted(counts), 2)
        ],
    }


class Paired(NamedTuple):
    """The pairs of two variants in one measure, as the comparison ``watch`` has them.

    ``found`` is of the variant that was named first minus the second; ``judged`` speaks of
    ``key.one`` and ``key.other``, which are the other way round where ``is_swapped``.
    """

    watch: str
    key: PairKey
    is_swapped: bool
    judged: Judged
    found: Comparison

    @property
    def sides(self) -> tuple[Side, Side]:
        """As they were named."""
        one, other = self.key
        return (other, one) if self.is_swapped else (one, other)


class Measured(NamedTuple):
    """How one variant stands against another in one measure.

    ``paired`` is what a comparison of the settings says, None where none has a pair of both.
    """

    name: str
    found: Comparison
    paired: Paired | None = None


def compared(
    one: str, other: str, counts: Mapping[str, Counts], evaluation: Evaluation, spec: Spec
) -> Iterator[Measured]:
    """``one`` minus ``other`` in the recall of each group, in accuracy, latency and relevance.

    Paired where ``pairs_of`` has the measure.
    """
    mine, theirs = counts[one], counts[other]
    met = pairs_of(one, other, evaluation, spec)
    for name, metric, of in _shares(spec):
        pair = met.get((metric, of))
        if pair is None:
            unpaired = (_share(each, metric, of, spec) for each in (mine, theirs))
            yield Measured(name, compare(*unpaired))
        else:
            yield Measured(name, pair.found, pair)
    for name, share in LATENCIES.items():
        yield Measured(name, compare_latency(mine, theirs, share))
    yield Measured("relevance", compare_relevance(mine, theirs))


def _shares(spec: Spec) -> dict[tuple[str, Metric, str], None]:
    """Each group, whatever else is watched, and accuracy: name, metric, of."""
    groups = [*spec.groups.members, *(rule.of for rule in spec.comparisons if rule.of)]
    found = [(f"{of} recall", Metric.RECALL, of) for of in groups]
    return dict.fromkeys([*found, ("accuracy", Metric.ACCURACY, "")])


def _share(counts: Counts, metric: Metric, of: str, spec: Spec) -> Score:
    if metric is Metric.ACCURACY:
        right = sum(n for (actual, predicted), n in counts.confusion.items() if actual == predicted)
        return proportion(right, counts.labelled)
    return group_scores(counts.confusion, spec.groups.of(of)).recall


def pairs_of(
    one: str, other: str, evaluation: Evaluation, spec: Spec, *, since_ms: int = 0
) -> dict[tuple[Metric, str], Paired]:
    """What requests that both answered say, by metric and what it is of, as watched first.

    Left out are pairs of which the last was released before ``since_ms``, and those that are too
    few to say anything: until then each variant is judged by its own messages.
    """
    found: dict[tuple[Metric, str], Paired] = {}
    for rule in spec.comparisons:
        book = evaluation.pairs.get(rule.name, PairBook())
        key = pairs.present(book.pairs, one, other)
        if key is None or (rule.metric, rule.of) in found or book.pairs[key].last_ms < since_ms:
            continue
        is_swapped = key.one.variant != one
        state, number = book.pairs[key], len(spec.comparisons)
        told = compare_pairs(state, number, is_swapped=is_swapped)
        if told.finding is not Finding.TOO_FEW:
            judged = judge(state, number)
            found[rule.metric, rule.of] = Paired(rule.name, key, is_swapped, judged, told)
    return found


def _watched(rule: PairRule, book: PairBook, comparisons: int) -> dict[str, object]:
    return {
        "name": rule.name,
        "metric": rule.metric,
        "of": rule.of or None,
        "maturity_s": rule.maturity_ms / 1000,
        "within_s": rule.within_ms / 1000,
        "waiting": sum(book.waiting.values()),
        "unpaired": book.unpaired,
        "repeated": book.repeated,
        "related": book.related,
        "corrected": book.corrected,
        "pairs": [_pair(key, state, comparisons) for key, state in sorted(book.pairs.items())],
    }


def _pair(key: PairKey, state: PairState, comparisons: int) -> dict[str, object]:
    judged = judge(state, comparisons)
    better = None
    if state.claimed_ms is not None:
        better = (key.one if state.is_for_one else key.other).variant
    return {
        "one": {"variant": key.one.variant, "version": key.one.version or None},
        "other": {"variant": key.other.variant, "version": key.other.version or None},
        **state.counts._asdict(),
        "n": state.counts.n,
        "difference": judged.difference,
        "interval": judged.interval,
        "evidence": told_evidence(judged.evidence),
        "bar": told_evidence(judged.bar),
        "finding": judged.finding,
        "claimed": iso(judged.claimed_ms),
        "better": better,
        "p_value": judged.p_value,
        "one_look_interval": judged.one_look,
        "bootstrap_interval": judged.bootstrap,
        "first": iso(state.first_ms),
        "last": iso(state.last_ms),
    }


def told_evidence(logarithm: float) -> float:
    """Evidence as a number, at most ``MOST_EVIDENCE``."""
    return min(MOST_EVIDENCE, math.exp(min(logarithm, math.log(MOST_EVIDENCE))))


def _compared(measured: Measured) -> dict[str, object]:
    found, paired = measured.found, measured.paired
    return {
        "method": "paired" if found.is_paired else "unpaired",
        "holds_at": "every look" if found.is_watched else "one look",
        "comparison": paired.watch if paired else None,
        "versions": [side.version or None for side in paired.sides] if paired else None,
        "finding": found.finding,
        "difference": found.difference,
        "interval": found.interval,
        "n": found.n,
        "other_n": found.other_n,
        "claimed": iso(found.claimed_ms),
    }
