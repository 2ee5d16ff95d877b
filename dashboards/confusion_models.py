"""View models of the page "Confusion": which intents are confused with which, and since when."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from dashboards import words
from dashboards.banner import Freshness
from monitor.domain.events import Intent
from monitor.domain.scores import Confusion, Score, proportion
from monitor.domain.windows import Window

MOST_INTENTS = 24
"""With more intents than this a matrix of all of them cannot be read."""

MOST_COLUMNS = 20
MOST_PAIRS = 24


class Period(StrEnum):
    """Which outcomes are shown: those of the range, or all that were ever counted."""

    RANGE = "range"
    EVER = "all time"


class By(StrEnum):
    """What a share is a share of."""

    ROW = "true intent"
    COLUMN = "predicted intent"
    TOTAL = "all"


class Against(StrEnum):
    """What it is compared with: a period as long as the range, or all that was ever counted."""

    NOTHING = "nothing"
    BEFORE = "just before"
    DAY = "a day earlier"
    WEEK = "a week earlier"
    EVER = "all time"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a viewer asks for beside variant, group and range."""

    period: Period = Period.RANGE
    against: Against = Against.NOTHING


class Cell(NamedTuple):
    """One pair of intents. ``predicted`` "" stands for all columns that are not shown.

    ``score`` is the share with its support, ``then`` the same in the reference period, None where
    there is none. ``is_missed``: the actual intent is urgent, the predicted one is not.
    """

    actual: Intent
    predicted: Intent
    n: int
    score: Score
    then: Score | None
    is_missed: bool

    @property
    def change(self) -> float | None:
        """By how much the share has grown, -1..1; None where one of the two is unknown."""
        if self.then is None or self.score.value is None or self.then.value is None:
            return None
        return self.score.value - self.then.value

    @property
    def is_few(self) -> bool:
        """Whether a change would stand on too few labels to mean anything."""
        least = self.score.support if self.then is None else min(*_supports(self))
        return least < words.FEW


def _supports(cell: Cell) -> tuple[int, int]:
    return cell.score.support, cell.then.support if cell.then else 0


@dataclass(frozen=True)
class Matrix:
    """Outcomes by pair of intents, with the sums that shares are of."""

    counts: Confusion

    @cached_property
    def rows(self) -> Mapping[Intent, int]:
        """Outcomes by actual intent."""
        return self._sums(0)

    @cached_property
    def columns(self) -> Mapping[Intent, int]:
        """Outcomes by predicted intent."""
        return self._sums(1)

    @cached_property
    def total(self) -> int:
        """All outcomes."""
        return sum(self.counts.values())

    def _sums(self, place: int) -> dict[Intent, int]:
        sums: dict[Intent, int] = {}
        for pair, n in self.counts.items():
            sums[pair[place]] = sums.get(pair[place], 0) + n
        return sums

    def score(self, actual: Intent, predicted: tuple[Intent, ...], by: By) -> Score:
        """The share of the pair, or of one row's columns together."""
        n = sum(self.counts.get((actual, each), 0) for each in predicted)
        of = {
            By.ROW: self.rows.get(actual, 0),
            By.COLUMN: sum(self.columns.get(each, 0) for each in predicted),
            By.TOTAL: self.total,
        }[by]
        return proportion(n, of)


@dataclass(frozen=True)
class Confused:
    """The page. ``window`` is None for all time, ``reference`` where nothing is compared.

    ``reference_window`` may be wider than the window where only whole hours are kept; ``is_gone``
    says that the reference period is not kept any more.
    """

    freshness: Freshness
    variants: tuple[str, ...]
    of: str
    group: frozenset[Intent]
    window: Window | None
    predictions: int
    matrix: Matrix
    against: Against = Against.NOTHING
    reference: Matrix | None = None
    reference_window: Window | None = None
    is_gone: bool = False

    @property
    def labelled(self) -> int:
        """Outcomes shown."""
        return self.matrix.total

    @property
    def is_compared(self) -> bool:
        """Whether there is something to compare with."""
        return self.reference is not None and self.reference.total > 0

    @cached_property
    def intents(self) -> tuple[Intent, ...]:
        """All that occur, now or in the reference period: urgent ones first, each part sorted."""
        seen = {*self.matrix.rows, *self.matrix.columns}
        if self.reference is not None:
            seen |= {*self.reference.rows, *self.reference.columns}
        return tuple(sorted(seen, key=lambda intent: (intent not in self.group, intent)))

    @property
    def is_wide(self) -> bool:
        """Whether there are too many intents for a matrix of all."""
        return len(self.intents) > MOST_INTENTS

    @cached_property
    def shown_rows(self) -> tuple[Intent, ...]:
        """Rows of the matrix: all, or the urgent ones alone."""
        if not self.is_wide:
            return self.intents
        return tuple(intent for intent in self.intents if intent in self.group)

    @cached_property
    def shown_columns(self) -> tuple[Intent, ...]:
        """Columns of the matrix: all, or the urgent ones and where most of the urgent went."""
        if not self.is_wide:
            return self.intents
        went = {
            column: sum(self.matrix.counts.get((row, column), 0) for row in self.shown_rows)
            for column in self.intents
            if column not in self.group
        }
        most = sorted((column for column in went if went[column]), key=lambda c: (-went[c], c))
        urgent = self.shown_rows
        return (*urgent, *most[: max(0, MOST_COLUMNS - len(urgent))])

    @cached_property
    def hidden_columns(self) -> tuple[Intent, ...]:
        """Those that the matrix does not show one by one."""
        return tuple(intent for intent in self.intents if intent not in self.shown_columns)

    def cells(self, by: By) -> Iterator[Cell]:
        """The cells of the matrix that is shown, row by row; empty ones among them."""
        for row in self.shown_rows:
            for column in self.shown_columns:
                yield self._cell(row, (column,), column, by)
            if self.hidden_columns:
                yield self._cell(row, self.hidden_columns, "", by)

    def every_cell(self, by: By) -> Iterator[Cell]:
        """Each pair that occurs, now or in the reference period, row by row."""
        pairs = set(self.matrix.counts)
        if self.reference is not None:
            pairs |= set(self.reference.counts)
        place = {intent: at for at, intent in enumerate(self.intents)}
        for row, column in sorted(pairs, key=lambda pair: (place[pair[0]], place[pair[1]])):
            yield self._cell(row, (column,), column, by)

    def pairs(self, by: By) -> list[Cell]:
        """The worst confusions, ``MOST_PAIRS`` at most.

        Missed ones of the group first, then those with the most outcomes; in a comparison those
        that have grown most, too few left out.
        """
        wrong = [cell for cell in self.every_cell(by) if cell.actual != cell.predicted]
        if self.is_compared:
            grown = [c for c in wrong if c.change is not None and c.change > 0 and not c.is_few]
            grown.sort(key=lambda c: (-(c.change or 0.0), c.actual, c.predicted))
            return grown[:MOST_PAIRS]
        confused = [cell for cell in wrong if cell.n]
        confused.sort(key=lambda cell: (not cell.is_missed, -cell.n, cell.actual, cell.predicted))
        return confused[:MOST_PAIRS]

    def _cell(self, row: Intent, columns: tuple[Intent, ...], name: Intent, by: By) -> Cell:
        is_missed = row in self.group and not self.group & set(columns)
        score = self.matrix.score(row, columns, by)
        then = None
        if self.reference is not None and self.is_compared:
            then = self.reference.score(row, columns, by)
        n = sum(self.matrix.counts.get((row, column), 0) for column in columns)
        return Cell(row, name, n, score, then, is_missed)
