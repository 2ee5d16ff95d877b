"""Many facts counted at once: number what occurs, and count how often each number does.

A batch of thousands of facts knows few variants, intents and minutes. So each of them is numbered,
a fact becomes one number made of those of its parts, and numpy sorts and counts these.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from monitor.domain.counts import Cell
from monitor.domain.events import Prediction, Traits

Ints = NDArray[np.int64]
Slices = tuple[str, ...]
Whose = tuple[str, Slices]
"""Variant and slice values."""

Slots = defaultdict[tuple[int, str, Slices], defaultdict[Cell, int]]
"""(slot, variant, slice values) -> cells."""

Value = TypeVar("Value", bound=Hashable)

_MOST = 2**62
"""Numbers up to this can be counted with."""


class Numbered(NamedTuple, Generic[Value]):
    """Values as numbers: the i-th value is ``distinct[numbers[i]]``."""

    distinct: Sequence[Value]
    numbers: Ints


def ints(values: Sequence[int]) -> Ints:
    """As an array."""
    return np.array(values, dtype=np.int64)


def numbered(values: Sequence[Value]) -> Numbered[Value]:
    """Values numbered in the order in which they first occur."""
    number = {value: n for n, value in enumerate(dict.fromkeys(values))}
    return Numbered(list(number), ints(list(map(number.__getitem__, values))))


class Kinds:
    """The traits of predictions, each looked at once. Equal ones may be looked at again."""

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        traits = [prediction[3] for prediction in predictions]
        # By identity: to compare traits takes longer than all else that is done with them.
        marks = numbered(list(map(id, traits)))
        by_mark = dict(zip(map(id, traits), traits, strict=True))
        self._distinct = [by_mark[mark] for mark in marks.distinct]
        self._numbers = marks.numbers

    def by(self, of: Callable[[Traits], Value]) -> Numbered[Value]:
        """Predictions numbered by something that follows from their traits."""
        distinct, numbers = numbered(list(map(of, self._distinct)))
        return Numbered(distinct, numbers[self._numbers])


class _Made(dict[int, Cell]):
    """Number -> cell, made when it is asked for."""

    def __init__(self, make: Callable[[int], Cell]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, number: int) -> Cell:
        cell = self[number] = self._make(number)
        return cell


class Items(NamedTuple):
    """What is counted: for each fact a number below ``size``.

    The cell of a number is that of the number plus ``least``.
    """

    numbers: Ints
    size: int
    cell_of: Callable[[int], Cell]
    least: int = 0


def cells_of(values: Numbered[Value], make: Callable[[Value], Cell]) -> Items:
    """For each value the cell that ``make`` names."""
    made = [make(value) for value in values.distinct]
    return Items(values.numbers, len(made), made.__getitem__)


def outcomes(actual: Numbered[str], predicted: Numbered[str]) -> Items:
    """For each pair the cell of its outcome."""
    width = len(predicted.distinct)
    made = _Made(
        lambda number: (
            "outcome",
            actual.distinct[number // width],
            predicted.distinct[number % width],
        )
    )
    numbers = actual.numbers * width + predicted.numbers
    return Items(numbers, len(actual.distinct) * width, made.__getitem__)


def buckets(found: Ints, cell_of: Callable[[int], Cell]) -> Items:
    """For each bucket its cell."""
    least = int(found.min())
    return Items(found - least, int(found.max()) - least + 1, cell_of, least)


def count_into(into: Slots, slots: Ints, whose: Numbered[Whose], items: Items) -> None:
    """Count each item in its slot, and by whose it is."""
    if not len(slots):
        return
    least = int(slots.min())
    width = len(whose.distinct) * items.size
    if (int(slots.max()) - least + 1) * width < _MOST:
        names, numbers = None, slots - least
    else:
        names, numbers = np.unique(slots, return_inverse=True)
    found, counts = np.unique(
        (numbers * len(whose.distinct) + whose.numbers) * items.size + items.numbers,
        return_counts=True,
    )
    places, of_cell = np.divmod(found, items.size)
    begins = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist()]
    heads = places[begins].tolist()
    named = list(map(items.cell_of, (of_cell + items.least).tolist()))
    many = counts.tolist()
    for place, begin, end in zip(heads, begins, [*begins[1:], len(named)], strict=True):
        slot, who = divmod(place, len(whose.distinct))
        slot = slot + least if names is None else int(names[slot])
        held = into[slot, *whose.distinct[who]]
        if held:
            for cell, n in zip(named[begin:end], many[begin:end], strict=True):
                held[cell] += n
        else:
            held.update(zip(named[begin:end], many[begin:end], strict=True))
