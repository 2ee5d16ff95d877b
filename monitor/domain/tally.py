"""What a batch counts: entries in, panes and ledger out.

Everything counted is a sum over entries of a function of the entry, so an entry that changes is
taken away as it was and added as it is. ``recount`` does that for any two entries, and is the
definition. The two changes that nearly all records make, a prediction that is new and a single
label that meets a prediction, have loops of their own in ``engine``: they count into a few plain
dicts, and ``unfold`` enters each distinct thing once, as often as it was seen. A sum does not
depend on how its terms are grouped, so both ways give the same numbers.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import gcd

from monitor.domain import join, ledger
from monitor.domain.counts import DELAY_CELLS, LATENCY_CELLS, Cell, bucket_of
from monitor.domain.events import Intent, Kind, Prediction, Reason
from monitor.domain.join import HOUR_MS, Entry
from monitor.domain.slices import ALL, SliceKey, slices_of
from monitor.domain.windows import ALL_TIME, Clock, PaneKey, WindowSpec, pane_start

Scores = tuple[tuple[str, int], ...]
Slices = tuple[str, ...]
CellCounts = defaultdict[Cell, int]
_Panes = Mapping[tuple[int, SliceKey], Mapping[Cell, int]]
"""(start, whose) -> cells, for panes of one size."""


def _no_cells() -> CellCounts:
    return defaultdict(int)


@dataclass(slots=True)
class Fresh:
    """New predictions of one place: what they were, each as often as it was seen."""

    predicted: defaultdict[Intent, int] = field(default_factory=lambda: defaultdict(int))
    latencies: defaultdict[int | None, int] = field(default_factory=lambda: defaultdict(int))
    scores: defaultdict[Scores, int] = field(default_factory=lambda: defaultdict(int))
    relevance: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Met:
    """Labels of one place that met a prediction: what came of it, as often as it was seen.

    ``outcomes`` hold the scores that the predictions had, ``known`` the delays until the log told.
    """

    outcomes: defaultdict[tuple[Intent, Intent, Scores], int] = field(
        default_factory=lambda: defaultdict(int)
    )
    delays: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    known: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))


class Tally:
    """Sums of one batch, by slots: the longest stretches that make up both panes and hours."""

    def __init__(
        self,
        windows: WindowSpec,
        slice_names: tuple[str, ...],
        scored: Mapping[str, frozenset[Intent]],
    ) -> None:
        self._windows, self._slice_names, self._scored = windows, slice_names, scored
        self.slot_ms = gcd(windows.pane_ms, HOUR_MS)
        self.books: defaultdict[str, int] = defaultdict(int)
        self.fresh: defaultdict[tuple[int, int, str, Slices], Fresh] = defaultdict(Fresh)
        self.met: defaultdict[tuple[int, str, Slices], Met] = defaultdict(Met)
        self.hours: defaultdict[int, int] = defaultdict(int)
        self.by_event: defaultdict[tuple[int, str, Slices], CellCounts] = defaultdict(_no_cells)
        self._by_label: defaultdict[tuple[int, str, Slices], CellCounts] = defaultdict(_no_cells)
        self._by_log: defaultdict[tuple[int, str], CellCounts] = defaultdict(_no_cells)

    def receive(self, kind: Kind, log_ms: int, n: int = 1) -> None:
        """Records that were read."""
        self.books[ledger.RECEIVED[kind]] += n
        self._by_log[log_ms // self.slot_ms, ALL]["received", kind.value] += n

    def reject(self, kind: Kind, reason: Reason, log_ms: int) -> None:
        """A record that could not be understood; it was received, too."""
        self.receive(kind, log_ms)
        self.books[ledger.rejected(kind, reason)] += 1
        told = self._by_log[log_ms // self.slot_ms, ALL]
        told["rejected", kind.value, reason.value] += 1

    def recount(self, before: Entry, after: Entry) -> None:
        """Take away what ``before`` counted and add what ``after`` counts.

        The prediction's own cells are left alone when the prediction is the same.
        """
        is_new = before.prediction is not after.prediction
        self._count(before, -1, with_prediction=is_new)
        self._count(after, 1, with_prediction=is_new)

    def _count(self, entry: Entry, sign: int, *, with_prediction: bool) -> None:
        """Enter one entry ``sign`` times."""
        horizon_ms = self._windows.horizon_ms
        for counter, count in join.standing(entry, horizon_ms):
            self.books[counter] += sign * count
        prediction = entry.prediction
        if prediction is None:
            return
        event_ms, whose = prediction.event_ms, (prediction.variant, prediction.slices)
        cells = self.by_event[event_ms // self.slot_ms, *whose]
        if with_prediction:
            _count_answer(prediction, sign, cells)
            self._count_told(prediction, sign)
        label = join.deciding(entry, horizon_ms) if entry.labels else None
        micros = prediction.relevance_micros
        if label is not None and label.relevance_micros is not None:
            micros = label.relevance_micros
        if micros is not None:
            _count_relevance(micros, sign, cells)
        if label is not None:
            learned = self._by_label[label.log_ms // self.slot_ms, *whose]
            outcome = "outcome", label.actual, prediction.predicted
            delay = "delay", str(bucket_of(max(0, label.label_ms - event_ms)))
            for into in (cells, learned):
                into[outcome] += sign
                into[delay] += sign
        if entry.labels:
            self._count_truth(entry, prediction, sign)

    def _count_told(self, prediction: Prediction, sign: int) -> None:
        """What the log tells of a prediction, at once: no label can change it."""
        cells = self._by_log[prediction.log_ms // self.slot_ms, prediction.variant]
        _count_answer(prediction, sign, cells)
        if prediction.relevance_micros is not None:
            _count_relevance(prediction.relevance_micros, sign, cells)
        for name, number in prediction.scores:
            cells["score", name, str(number)] += sign

    def _count_truth(self, entry: Entry, prediction: Prediction, sign: int) -> None:
        """What was true, at the instant the log first told it; corrections change nothing."""
        known = _first_known(entry, prediction, self._windows.horizon_ms)
        if known is None:
            return
        known_ms, actual = known
        cells = self._by_log[known_ms // self.slot_ms, prediction.variant]
        cells["outcome", actual, prediction.predicted] += sign
        cells["delay", str(bucket_of(max(0, known_ms - prediction.event_ms)))] += sign
        self._count_truths(prediction.scores, actual, sign, cells)

    def _count_truths(self, scores: Scores, actual: Intent, sign: int, into: CellCounts) -> None:
        for name, number in scores:
            members = self._scored.get(name)
            if members is not None:
                into["truth", name, str(number), "1" if actual in members else "0"] += sign

    def unfold(self) -> None:
        """Enter what the loops of ``engine`` have counted; ``by_event`` they do by themselves.

        ``hours`` counts the predictions that are pending no more.
        """
        for (event_slot, log_slot, variant, slices), fresh in self.fresh.items():
            n = sum(fresh.predicted.values())
            self.receive(Kind.PREDICTIONS, log_slot * self.slot_ms, n)
            self.books[f"predictions.pending@{self._hour(event_slot)}"] += n
            by_log = self._by_log[log_slot, variant]
            for cells in (self.by_event[event_slot, variant, slices], by_log):
                _unfold_answers(fresh, cells)
            for scores, n in fresh.scores.items():
                for name, number in scores:
                    by_log["score", name, str(number)] += n
        for hour, n in self.hours.items():
            self.books[f"predictions.pending@{hour}"] -= n
        for (slot, variant, slices), met in self.met.items():
            by_log = self._by_log[slot, variant]
            _unfold_outcomes(met, met.delays, self._by_label[slot, variant, slices])
            n = _unfold_outcomes(met, met.known, by_log)
            for (actual, _, scores), truths in met.outcomes.items():
                self._count_truths(scores, actual, truths, by_log)
            self.receive(Kind.LABELS, slot * self.slot_ms, n)
            self.books["predictions.labelled"] += n
            self.books["labels.applied"] += n

    def _hour(self, slot: int) -> int:
        return slot * self.slot_ms // HOUR_MS

    def panes(self, watermark_ms: int | None) -> dict[PaneKey, Mapping[Cell, int]]:
        """Every pane and slice that counts something, without those dropped at the watermark."""
        sizes = sorted(self._windows.keep_ms)
        told = {
            (slot * self.slot_ms, SliceKey(variant)): cells
            for (slot, variant), cells in self._by_log.items()
        }
        found: dict[PaneKey, Mapping[Cell, int]] = {}
        for clock, panes, wanted in (
            # All time only by event time, since the label clock agrees on it.
            (Clock.EVENT, self._sliced(self.by_event), [*sizes, ALL_TIME]),
            (Clock.LABEL, self._sliced(self._by_label), sizes),
            (Clock.LOG, told, log_sizes(self._windows)),
        ):
            for size_ms, of_size in _rolled_up(panes, self.slot_ms, wanted):
                bound_ms = self._windows.kept_after(size_ms, watermark_ms)
                for (start_ms, key), cells in of_size.items():
                    if start_ms > bound_ms and (counted := _without_zeros(cells)):
                        found[PaneKey(clock, size_ms, start_ms, key)] = counted
        return found

    def _sliced(self, slots: Mapping[tuple[int, str, Slices], CellCounts]) -> _Panes:
        """From combinations of slice values to every slice that counts them."""
        slot_ms = self.slot_ms
        if not self._slice_names and not any(values for _, _, values in slots):
            return {(at * slot_ms, SliceKey(variant)): n for (at, variant, _), n in slots.items()}
        keys: dict[tuple[str, Slices], list[SliceKey]] = {}
        sliced: dict[tuple[int, SliceKey], CellCounts] = {}
        for (slot, variant, values), cells in slots.items():
            whose = variant, values
            if whose not in keys:
                keys[whose] = [SliceKey(variant, n) for n in slices_of(self._slice_names, values)]
            for key in keys[whose]:
                _add(cells, sliced, (slot * slot_ms, key))
        return sliced


def _count_answer(prediction: Prediction, sign: int, into: CellCounts) -> None:
    into["prediction", prediction.predicted] += sign
    if prediction.latency_bucket is not None:
        into["latency", str(prediction.latency_bucket)] += sign


def _count_relevance(micros: int, sign: int, into: CellCounts) -> None:
    into["relevance", "n"] += sign
    into["relevance", "micros"] += sign * micros


def _unfold_answers(fresh: Fresh, into: CellCounts) -> None:
    for predicted, n in fresh.predicted.items():
        into["prediction", predicted] += n
    for bucket, n in fresh.latencies.items():
        if bucket is not None:
            into[LATENCY_CELLS[bucket]] += n
    if fresh.relevance:
        into["relevance", "n"] += len(fresh.relevance)
        into["relevance", "micros"] += sum(fresh.relevance)


def _unfold_outcomes(met: Met, delays: Mapping[int, int], into: CellCounts) -> int:
    """The number of outcomes."""
    total = 0
    for (actual, predicted, _), n in met.outcomes.items():
        into["outcome", actual, predicted] += n
        total += n
    for bucket, n in delays.items():
        into[DELAY_CELLS[bucket]] += n
    return total


def _first_known(
    entry: Entry, prediction: Prediction, horizon_ms: int
) -> tuple[int, Intent] | None:
    """When the truth was first known, and what it was; most entries have a single label."""
    if len(entry.labels) > 1:
        return join.first_decided(entry, mature_ms=prediction.log_ms, horizon_ms=horizon_ms)
    label = join.deciding(entry, horizon_ms)
    return None if label is None else (max(prediction.log_ms, label.log_ms), label.actual)


def _rolled_up(panes: _Panes, panes_ms: int, sizes: Iterable[int]) -> Iterator[tuple[int, _Panes]]:
    """From panes of one size those of each of ``sizes``, from a size that divides it."""
    finer, finer_ms = panes, panes_ms
    for size_ms in sizes:
        if size_ms % finer_ms:
            finer, finer_ms = panes, panes_ms
        if size_ms != finer_ms:
            coarse: dict[tuple[int, SliceKey], CellCounts] = {}
            for (start_ms, key), cells in finer.items():
                _add(cells, coarse, (pane_start(start_ms, size_ms), key))
            finer, finer_ms = coarse, size_ms
        yield size_ms, finer


def _add(
    cells: Mapping[Cell, int],
    into: dict[tuple[int, SliceKey], CellCounts],
    place: tuple[int, SliceKey],
) -> None:
    held = into.get(place)
    if held is None:
        into[place] = defaultdict(int, cells)
    else:
        for cell, count in cells.items():
            held[cell] += count


def _without_zeros(cells: Mapping[Cell, int]) -> Mapping[Cell, int]:
    if all(cells.values()):
        return cells
    return {cell: count for cell, count in cells.items() if count}


def log_sizes(windows: WindowSpec) -> tuple[int, ...]:
    """Pane sizes kept by log time, in order: the smallest, and up to hours."""
    return tuple(size_ms for size_ms in sorted(windows.keep_ms) if size_ms <= HOUR_MS)
