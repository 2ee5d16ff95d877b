"""From counts to scores: value or None, with support and a 95 % interval.

The averages over classes are river's, by way of ``averages``. Undefined is None, where river says
0.0.

The multi-class Matthews coefficient is Gorodkin's R_K (J. Gorodkin, Comput. Biol. Chem. 28, 2004);
river's is binary.
"""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from monitor.domain.counts import Counts
from monitor.domain.events import Intent
from monitor.domain.intervals import Z95, wilson

Confusion = Mapping[tuple[Intent, Intent], int]


class Score(NamedTuple):
    """A proportion with what it stands on. All None and 0 when there is nothing to judge."""

    value: float | None
    support: int
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Headline:
    """The scores of a whole matrix; None without an outcome.

    Cohen's kappa is also None where a single class occurs: chance alone would agree everywhere.
    """

    labelled: int
    accuracy: Score
    balanced_accuracy: float | None
    macro_f1: float | None
    cohen_kappa: float | None
    mcc: float | None


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class, or one group against the rest. ``hits`` are true positives."""

    hits: int
    recall: Score
    precision: Score
    f1: float | None


def proportion(hits: int, n: int, z: float = Z95) -> Score:
    """``hits`` of ``n`` as a score; undefined when ``n`` is 0. ``z`` as in ``wilson``."""
    return Score(hits / n, n, wilson(hits, n, z)) if n else Score(None, 0, None)


def difference_interval(one: Score, other: Score) -> tuple[float, float] | None:
    """Newcombe's interval of ``one`` minus ``other``, two independent proportions; within -1..1.

    As sure as the intervals of both are. None where one of them is undefined.

    >>> low, high = difference_interval(proportion(56, 70), proportion(48, 80))
    >>> round(low, 4), round(high, 4)
    (0.0524, 0.3339)
    """
    if one.value is None or other.value is None or one.interval is None or other.interval is None:
        return None
    difference = one.value - other.value
    (low, high), (other_low, other_high) = one.interval, other.interval
    down = math.hypot(one.value - low, other_high - other.value)
    up = math.hypot(high - one.value, other.value - other_low)
    return max(-1.0, difference - down), min(1.0, difference + up)


def headline(confusion: Confusion) -> Headline:
    """Accuracy and its kin over all classes that occur as actual or predicted."""
    n = sum(confusion.values())
    right = sum(count for (actual, predicted), count in confusion.items() if actual == predicted)
    if not n:
        return Headline(0, proportion(0, 0), None, None, None, None)
    # Imported by those who ask for averages alone: river brings SciPy, half a second and 50 MB.
    from monitor.domain.averages import averages_of  # noqa: PLC0415 - see above

    found = averages_of(confusion)
    return Headline(
        labelled=n,
        accuracy=proportion(right, n)._replace(value=found.accuracy),
        balanced_accuracy=found.balanced_accuracy,
        macro_f1=found.macro_f1,
        cohen_kappa=found.cohen_kappa,
        mcc=matthews(confusion),
    )


def group_scores(confusion: Confusion, group: frozenset[Intent]) -> ClassScores:
    """``group`` against the rest: an outcome hits when actual and predicted are both in it."""
    return _class_scores(fold(confusion, group))


def intent_scores(confusion: Confusion) -> dict[Intent, ClassScores]:
    """Every intent that occurs as actual or predicted, sorted, against the rest."""
    rows: dict[Intent, int] = {}
    columns: dict[Intent, int] = {}
    for (actual, predicted), count in confusion.items():
        rows[actual] = rows.get(actual, 0) + count
        columns[predicted] = columns.get(predicted, 0) + count
    n = sum(rows.values())
    scores = {}
    for intent in sorted(rows.keys() | columns.keys()):
        hits, row, column = (
            confusion.get((intent, intent), 0),
            rows.get(intent, 0),
            columns.get(intent, 0),
        )
        scores[intent] = _class_scores((hits, row - hits, column - hits, n - row - column + hits))
    return scores


def exact_recall(confusion: Confusion, group: frozenset[Intent]) -> Score:
    """Share of the group's outcomes that went to their very intent."""
    support = sum(count for (actual, _), count in confusion.items() if actual in group)
    exact = sum(count for (a, p), count in confusion.items() if a in group and a == p)
    return proportion(exact, support)


def fold(confusion: Confusion, group: frozenset[Intent]) -> tuple[int, int, int, int]:
    """Hits, misses, false alarms and the rest, for ``group`` against everything else."""
    cells = [0, 0, 0, 0]
    for (actual, predicted), count in confusion.items():
        cells[(actual not in group) * 2 + (predicted not in group)] += count
    hits, misses, false, rest = cells
    return hits, misses, false, rest


class Binary(NamedTuple):
    """A confusion matrix of two classes: a group against the rest."""

    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int


def binary_of(confusion: Confusion, group: frozenset[Intent]) -> Binary:
    """The plain matrix of ``group`` against the rest: was it the group, was it told so?"""
    return Binary(*fold(confusion, group))


def matthews(confusion: Confusion) -> float | None:
    """Gorodkin's R_K, -1..1; 0.0 when one side knows a single class; None without an outcome."""
    rows: dict[Intent, int] = {}
    columns: dict[Intent, int] = {}
    for (actual, predicted), count in confusion.items():
        rows[actual] = rows.get(actual, 0) + count
        columns[predicted] = columns.get(predicted, 0) + count
    n = sum(rows.values())
    if not n:
        return None
    right = sum(confusion.get((intent, intent), 0) for intent in rows)
    both = sum(count * columns.get(intent, 0) for intent, count in rows.items())
    spread = (n * n - sum(c * c for c in columns.values())) * (
        n * n - sum(r * r for r in rows.values())
    )
    return (right * n - both) / math.sqrt(spread) if spread else 0.0


class RollingMatrix:
    """A confusion matrix over the last ``panes`` panes, kept by adding and taking away whole panes.

    River's ``TimeRolling`` keeps every event and forgets only when a newer one arrives; here the
    cost of a step is the number of different cells in the two panes concerned.
    """

    def __init__(self, panes: int) -> None:
        self._rows: defaultdict[Intent, Counter[Intent]] = defaultdict(Counter)
        self._panes: deque[Counts] = deque()
        self._size = panes

    def push(self, pane: Counts) -> None:
        """Add the newest pane; the oldest leaves once there are more than ``panes``."""
        self._panes.append(pane)
        for (actual, predicted), count in pane.confusion.items():
            self._rows[actual][predicted] += count
        if len(self._panes) > self._size:
            for (actual, predicted), count in self._panes.popleft().confusion.items():
                self._rows[actual][predicted] -= count

    def recall(self, group: frozenset[Intent]) -> Score:
        """Group recall over the panes held."""
        rows = [self._rows[actual] for actual in group if actual in self._rows]
        hits = sum(row[predicted] for row in rows for predicted in group if predicted in row)
        return proportion(hits, sum(row.total() for row in rows))


def _class_scores(folded: tuple[int, int, int, int]) -> ClassScores:
    hits, misses, false, _ = folded
    return ClassScores(
        hits=hits,
        recall=proportion(hits, hits + misses),
        precision=proportion(hits, hits + false),
        f1=2 * hits / (2 * hits + misses + false) if hits + misses + false else None,
    )
