"""A store that holds still: reports are made from one picture of it, however busy it is."""

from collections.abc import Callable, Mapping, Sequence

from monitor.domain import ledger as books
from monitor.domain.alerts import Transition
from monitor.domain.counts import Counts, Part
from monitor.domain.cut import Cut
from monitor.domain.evaluation import Evaluation
from monitor.domain.journal import JournalEntry
from monitor.domain.slices import SliceKey
from monitor.domain.windows import PaneKey
from monitor.ports import Picture, StateReader

TRIES = 12
"""Pictures that are taken at most, also those that only show which panes are needed."""


class Still:
    """What a report asks of a store, answered from one picture.

    Where none could be taken ``is_whole`` is False, and each answer is of a moment of its own.
    """

    def __init__(self, reader: StateReader, picture: Picture | None, *, is_whole: bool) -> None:
        self._reader, self._picture = reader, picture
        self.is_whole = is_whole
        self.sizes: set[int] = set()
        self.wanted: set[PaneKey] = set()

    def cuts(self) -> list[Cut]:
        """How far each shard had come."""
        picture = self._picture
        return self._reader.cuts() if picture is None else [mark.cut for mark in picture.marks]

    def ledger(self) -> Mapping[str, int]:
        """The books of all shards added up."""
        picture = self._picture
        if picture is None:
            return self._reader.ledger()
        return books.merged([mark.ledger for mark in picture.marks])

    def evaluation(self) -> Evaluation:
        """What the evaluator had committed last."""
        picture = self._picture
        return self._reader.evaluation() if picture is None else picture.evaluation

    def transitions(self) -> list[Transition]:
        """Every transition, oldest first."""
        picture = self._picture
        return self._reader.transitions() if picture is None else list(picture.transitions)

    def slice_keys(self) -> list[SliceKey]:
        """Every variant and slice counted."""
        picture = self._picture
        return self._reader.slice_keys() if picture is None else list(picture.slice_keys)

    def pane_keys(self, size_ms: int) -> list[PaneKey]:
        """Every pane of one size; noted, and none, where the picture does not show them."""
        picture = self._picture
        if picture is None:
            return self._reader.pane_keys(size_ms)
        if size_ms not in picture.pane_keys:
            self.sizes.add(size_ms)
        return picture.pane_keys.get(size_ms, [])

    def panes(self, keys: Sequence[PaneKey], part: Part | None = None) -> list[Counts]:
        """The panes in the order asked for; noted, and empty, where they are not in the picture."""
        picture = self._picture
        if picture is None:
            return self._reader.panes(keys, part)
        self.wanted.update(key for key in keys if key not in picture.panes)
        found = [picture.panes.get(key, Counts({})) for key in keys]
        return found if part is None else [counts.of_part(part) for counts in found]

    def journal(self, after: int = 0, limit: int = 1_000) -> list[JournalEntry]:
        """Entries above ``after``, of the picture's evaluation at the latest."""
        found = self._reader.journal(after, limit)
        if self._picture is None:
            return found
        last = self._picture.evaluation.sequence
        return [entry for entry in found if entry.sequence <= last]


def still_of(reader: StateReader, read: Callable[[Still], object]) -> Still:
    """A store as it was at one instant, with all that ``read`` asks of it.

    ``read`` is run on each picture, to learn which panes the next one must show; it has to ask
    for the same again. This is the only place that tries again.
    """
    sizes: set[int] = set()
    wanted: set[PaneKey] = set()
    for _ in range(TRIES):
        picture = reader.picture(sorted(sizes), sorted(wanted))
        if picture is None:
            continue
        still = Still(reader, picture, is_whole=True)
        read(still)
        if not still.sizes and not still.wanted:
            return still
        sizes |= still.sizes
        wanted |= still.wanted
    return Still(reader, None, is_whole=False)
