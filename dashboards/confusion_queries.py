"""From the store to the page "Confusion". No Streamlit, no clock.

A period is read from hourly panes, and from the smallest ones at its ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dashboards.confusion_models import Against, Asked, Confused, Matrix, Period
from dashboards.models import Choice
from dashboards.queries import freshness_of, grid_of, variants_of
from monitor.domain.counts import Counts, Part, merge
from monitor.domain.engine import Spec
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import (
    ALL_TIME,
    DAY_MS,
    HOUR_MS,
    Clock,
    PaneKey,
    Window,
    pane_start,
)
from monitor.ports import StateReader


def confused(
    reader: StateReader, spec: Spec, choice: Choice, *, recent_ms: int, now_ms: int, asked: Asked
) -> Confused:
    """What the page shows. Raises StoreError when the store is gone."""
    freshness, variants = freshness_of(reader, now_ms), variants_of(reader)
    range_of = grid_of(spec, choice.span, recent_ms, freshness.as_of_ms or 0).window
    keys = [SliceKey(name) for name in variants if choice.variant in {ALL, name}]
    panes = _Panes(reader, spec, keys)
    window = range_of if asked.period is Period.RANGE else None
    counts = panes.of(window)
    against = asked.against if window is not None else Against.NOTHING
    reference = panes.reference(range_of, against)
    return Confused(
        freshness=freshness,
        variants=variants,
        of=choice.of,
        group=spec.groups.of(choice.of),
        window=window,
        predictions=counts.predictions,
        matrix=Matrix(counts.confusion),
        against=against,
        reference=None if reference is None else Matrix(panes.of(reference.window).confusion),
        reference_window=reference.window if reference else None,
        is_gone=reference is None and against is not Against.NOTHING,
    )


@dataclass(frozen=True, slots=True)
class _Reference:
    """A period to compare with; None stands for all time."""

    window: Window | None


@dataclass(frozen=True, slots=True)
class _Panes:
    """The panes of some variants, by event time."""

    reader: StateReader
    spec: Spec
    keys: list[SliceKey]

    def of(self, window: Window | None) -> Counts:
        """All outcomes of a period; None stands for all time."""
        places = [(ALL_TIME, 0)] if window is None else list(_places(window, self._pane_ms))
        wanted = [
            PaneKey(Clock.EVENT, size_ms, start_ms, key)
            for size_ms, start_ms in places
            for key in self.keys
        ]
        return merge(self.reader.panes(wanted, Part.ANSWERS))

    def reference(self, window: Window, against: Against) -> _Reference | None:
        """The period to compare with, in whole hours where the minutes are let go.

        None where nothing is to be compared, or the hours are let go, too.
        """
        if against is Against.NOTHING:
            return None
        if against is Against.EVER:
            return _Reference(None)
        back_ms = {
            Against.BEFORE: window.end_ms - window.start_ms,
            Against.DAY: DAY_MS,
            Against.WEEK: 7 * DAY_MS,
        }[against]
        then = Window(window.start_ms - back_ms, window.end_ms - back_ms)
        if not self._is_kept(self._pane_ms, then.start_ms):
            end_ms = -pane_start(-then.end_ms, HOUR_MS)
            then = Window(pane_start(then.start_ms, HOUR_MS), end_ms)
        return _Reference(then) if self._is_kept(HOUR_MS, then.start_ms) else None

    @property
    def _pane_ms(self) -> int:
        return self.spec.windows.pane_ms

    def _is_kept(self, size_ms: int, start_ms: int) -> bool:
        watermark_ms = self.reader.evaluation().watermark_ms
        return self.spec.windows.is_kept(size_ms, start_ms, watermark_ms)


def _places(window: Window, pane_ms: int) -> Iterator[tuple[int, int]]:
    """Size and start of the panes that make up a window: whole hours where they fit."""
    at_ms = window.start_ms
    while at_ms < window.end_ms:
        is_hour = at_ms % HOUR_MS == 0 and at_ms + HOUR_MS <= window.end_ms
        size_ms = HOUR_MS if is_hour else pane_ms
        yield size_ms, at_ms
        at_ms += size_ms
