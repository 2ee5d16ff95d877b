"""What a pane holds: counts that add, subtract and merge exactly, in any order.

A pane is a bag of **cells**, each a tuple of strings with an integer count:

=====================================  ============================================================
``("outcome", actual, predicted)``     outcomes, the confusion matrix
``("prediction", predicted)``          predictions received, labelled or not
``("latency", bucket)``                latency sketch of the predictions
``("relevance", "n")``, ``"micros"``   number of judged answers, sum of relevance in millionths
``("delay", bucket)``                  verification latency sketch of the outcomes, milliseconds
=====================================  ============================================================

Sketches are histograms over logarithmic buckets 2 % wide: quantiles are right to 1 %, and unlike a
t-digest two of them merge, and a correction is taken out again, without any error.
"""

import math
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.domain.events import Intent
from monitor.domain.intervals import quantile_ranks

Cell = tuple[str, ...]
Cells = Mapping[Cell, int]

_GAMMA = math.log(1.01 / 0.99)
LEAST_BUCKET = math.ceil(math.log(1e-3) / _GAMMA)
"""Bucket of everything up to a thousandth of the unit, zero included."""

GREATEST_BUCKET = math.ceil(math.log(1e12) / _GAMMA)
"""Bucket of everything from about 10**12 on: 30 years of milliseconds."""

_GREATEST = [math.exp(_GAMMA * bucket) for bucket in range(LEAST_BUCKET, GREATEST_BUCKET)]
"""The greatest value in each bucket but the last."""

_GREATEST_ARRAY = np.array(_GREATEST)


def bucket_of(value: float) -> int:
    """Sketch bucket of a finite value; the least and the greatest take in the rest.

    >>> bucket_of(0), bucket_of(1), bucket_of(100), bucket_of(1e300) == GREATEST_BUCKET
    (-345, 0, 231, True)
    """
    return LEAST_BUCKET + bisect_left(_GREATEST, value)


def buckets_of(values: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64]:
    """``bucket_of`` each of many values."""
    return LEAST_BUCKET + np.searchsorted(_GREATEST_ARRAY, values)


class _Cells(dict[int, Cell]):
    """Bucket -> cell, made once: memory is full of them. Any other bucket gets one of its own."""

    def __init__(self, sketch: str) -> None:
        buckets = range(LEAST_BUCKET, GREATEST_BUCKET + 1)
        super().__init__({bucket: (sketch, str(bucket)) for bucket in buckets})
        self._sketch = sketch

    def __missing__(self, bucket: int) -> Cell:
        return self._sketch, str(bucket)


DELAY_CELLS: Mapping[int, Cell] = _Cells("delay")
"""Bucket -> the cell that counts its delays."""

LATENCY_CELLS: Mapping[int, Cell] = _Cells("latency")
"""Bucket -> the cell that counts its latencies."""


class Part(StrEnum):
    """Parts of a pane that are read apart: ``ANSWERS`` is all but the sketches."""

    ANSWERS = "answers"
    LATENCY = "latency"
    DELAY = "delay"


_SKETCHES: Mapping[str, Part] = {"latency": Part.LATENCY, "delay": Part.DELAY}


def part_of(cell: Cell) -> Part:
    """The part that a cell belongs to.

    >>> part_of(("prediction", "fees")).value, part_of(("delay", "231")).value
    ('answers', 'delay')
    """
    return _SKETCHES.get(cell[0], Part.ANSWERS)


def value_of(bucket: int) -> float:
    """The value that stands for a bucket, at most 1 % from any value in it; 0.0 for the least."""
    if bucket <= LEAST_BUCKET:
        return 0.0
    return 2 * math.exp(_GAMMA * bucket) / (math.exp(_GAMMA) + 1)


def bounds_of(bucket: int) -> tuple[float, float]:
    """Between which values, inclusive, what is in a bucket lies; infinity for the greatest."""
    least = 0.0 if bucket <= LEAST_BUCKET else math.exp(_GAMMA * (bucket - 1))
    return least, math.inf if bucket >= GREATEST_BUCKET else math.exp(_GAMMA * bucket)


@dataclass(frozen=True)
class Counts:
    """The cells of one pane or of many merged, and how to read them."""

    cells: Cells = field(default_factory=dict)

    @cached_property
    def confusion(self) -> dict[tuple[Intent, Intent], int]:
        """``(actual, predicted)`` -> outcomes, sorted; no zero entries."""
        # Sketches are most of the cells: they are left out before anything is sorted.
        found = [(c, n) for c, n in self.cells.items() if c[0] == "outcome" and n]
        return {(cell[1], cell[2]): count for cell, count in sorted(found)}

    @cached_property
    def predicted(self) -> dict[Intent, int]:
        """Intent -> predictions that went to it, labelled or not."""
        found = [(c, n) for c, n in self.cells.items() if c[0] == "prediction"]
        return {cell[1]: n for cell, n in sorted(found)}

    @cached_property
    def predictions(self) -> int:
        """Predictions received."""
        return sum(self.predicted.values())

    @cached_property
    def labelled(self) -> int:
        """Outcomes."""
        return sum(self.confusion.values())

    @property
    def coverage(self) -> float | None:
        """Outcomes per prediction, 0..1; None where nothing was predicted."""
        return self.labelled / self.predictions if self.predictions else None

    @property
    def relevance(self) -> tuple[float | None, int]:
        """Mean relevance 0..1 and the number of judged answers; None for none."""
        n = self.cells.get(("relevance", "n"), 0)
        return (self.cells.get(("relevance", "micros"), 0) / n / 1e6 if n else None), n

    def latency_ms(self, share: float) -> float | None:
        """Latency that ``share`` (0..1) of the predictions did not exceed; None for none."""
        return self._quantile("latency", share)

    def latency_bounds(self, low: int, high: int) -> tuple[float, float]:
        """Bounds of the latencies at two ranks, counted from 1 on, of those that are known."""
        buckets = sorted((int(c[1]), n) for c, n in self.cells.items() if c[0] == "latency")
        reached, found = 0, list[tuple[float, float]]()
        for bucket, n in buckets:
            found += [bounds_of(bucket) for rank in (low, high) if reached < rank <= reached + n]
            reached += n
        return found[0][0], found[-1][1]

    def latency_interval(self, share: float) -> tuple[float, float] | None:
        """Between which milliseconds the latency that ``share`` do not exceed lies; 95 %.

        In whole buckets of the sketch. None where too few are known, see ``quantile_ranks``.
        """
        ranks = quantile_ranks(share, self.latencies)
        if ranks is None:
            return None
        low, high = self.latency_bounds(*ranks)
        return low, min(high, sys.float_info.max)

    @property
    def latencies(self) -> int:
        """Predictions whose latency is known."""
        return sum(n for cell, n in self.cells.items() if cell[0] == "latency")

    def delay_ms(self, share: float) -> float | None:
        """Verification latency that ``share`` (0..1) of the outcomes did not exceed."""
        return self._quantile("delay", share)

    def hits_and_support(self, group: frozenset[Intent]) -> tuple[int, int]:
        """Outcomes whose actual is in ``group``: how many went to the group, and how many.

        Going to another intent of the same group is a hit.
        """
        of_group = [(p, n) for (a, p), n in self.confusion.items() if a in group]
        return sum(n for p, n in of_group if p in group), sum(n for _, n in of_group)

    def tally(self, group: frozenset[Intent]) -> "Tally":
        """What lines are drawn from; counted once for each group that is asked for."""
        found = self._tallies.get(group)
        if found is None:
            self._tallies[group] = found = _tally(self.cells, group)
        return found

    def of_part(self, part: "Part") -> "Counts":
        """The cells of one part alone."""
        return Counts({cell: n for cell, n in self.cells.items() if part_of(cell) is part})

    def _quantile(self, sketch: str, share: float) -> float | None:
        return quantile([self], sketch, share)

    @cached_property
    def _tallies(self) -> dict[frozenset[Intent], "Tally"]:
        return {}

    @cached_property
    def _sketches(self) -> dict[str, "_Sketch"]:
        return {}

    def sketch(self, name: str) -> "_Sketch":
        """Buckets and their counts, each above zero, in any order."""
        found = self._sketches.get(name)
        if found is None:
            of_sketch = [(int(c[1]), n) for c, n in self.cells.items() if c[0] == name and n > 0]
            pairs = np.array(of_sketch, np.int64).reshape(-1, 2)
            self._sketches[name] = found = pairs[:, 0], pairs[:, 1]
        return found


_Sketch = tuple[NDArray[np.int64], NDArray[np.int64]]


class Tally(NamedTuple):
    """What is counted of a pane, for one group: it adds up over panes and variants.

    ``right`` went to the very intent; ``hits`` of the group's ``support`` went to the group.
    """

    predictions: int = 0
    labelled: int = 0
    right: int = 0
    hits: int = 0
    support: int = 0


def _tally(cells: Cells, group: frozenset[Intent]) -> Tally:
    predictions = labelled = right = hits = support = 0
    for cell, n in cells.items():
        if cell[0] == "outcome":
            _, actual, predicted = cell
            labelled += n
            right += n if actual == predicted else 0
            if actual in group:
                support += n
                hits += n if predicted in group else 0
        elif cell[0] == "prediction":
            predictions += n
    return Tally(predictions, labelled, right, hits, support)


def total_of(tallies: Iterable[Tally]) -> Tally:
    """The sum; zeros for none."""
    return Tally(*map(sum, zip(Tally(), *tallies, strict=True)))


def quantile(many: Sequence[Counts], sketch: str, share: float) -> float | None:
    """Value that ``share`` (0..1) of all that the sketches of these panes count did not exceed.

    None where nothing is counted.
    """
    sketches = [counts.sketch(sketch) for counts in many]
    buckets = np.concatenate([np.zeros(0, np.int64), *(found for found, _ in sketches)])
    if not buckets.size:
        return None
    least = int(buckets.min())
    counted = np.zeros(int(buckets.max()) - least + 1, np.int64)
    np.add.at(counted, buckets - least, np.concatenate([n for _, n in sketches]))
    reached = np.cumsum(counted)
    return value_of(least + int(np.argmax(reached >= share * reached[-1])))


def merge(many: Iterable[Counts]) -> Counts:
    """The sum; merging is associative and commutative, and nothing merged is empty."""
    total: Counter[Cell] = Counter()
    for counts in many:
        total.update(counts.cells)
    return Counts(total)


def without_zeros(cells: Cells) -> dict[Cell, int]:
    """The cells sorted, empty ones left out: the canonical form."""
    return {cell: count for cell, count in sorted(cells.items()) if count}
