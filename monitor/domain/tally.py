"""What a batch counts: entries in, panes and ledger out.

Everything counted is a sum over entries of a function of the entry, so an entry that changes is
taken away as it was and added as it is. ``recount`` does that for any two entries, and is the
definition. The two changes that nearly all records make, a prediction that is new and a single
label that meets a prediction, are counted many at once by ``answered`` and ``met``. A sum does not
depend on how its terms are grouped, so both ways give the same numbers.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import gcd

import numpy as np
from numpy.typing import NDArray

from monitor.domain import join, ledger
from monitor.domain.bulk import (
    Ints,
    Items,
    Kinds,
    Numbered,
    Slots,
    Whose,
    buckets,
    cells_of,
    count_into,
    ints,
    numbered,
    outcomes,
)
from monitor.domain.counts import DELAY_CELLS, LATENCY_CELLS, Cell, bucket_of, buckets_of
from monitor.domain.events import Intent, Kind, Label, Prediction, Reason, Traits
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


class Tally:
    """Sums of one batch, by slots: the longest stretches that make up both panes and hours."""

    def __init__(
        self,
        windows: WindowSpec,
        slice_names: tuple[str, ...],
        scored: Mapping[str, frozenset[Intent]],
    ) -> None:
        self._windows, self._slice_names, self._scored = windows, slice_names, scored
        self._slot_ms = gcd(windows.pane_ms, HOUR_MS)
        self.books: defaultdict[str, int] = defaultdict(int)
        self._by_event: Slots = defaultdict(_no_cells)
        self._by_label: Slots = defaultdict(_no_cells)
        self._by_log: Slots = defaultdict(_no_cells)

    def receive(self, kind: Kind, log_ms: int, n: int = 1) -> None:
        """Records that were read."""
        self.books[ledger.RECEIVED[kind]] += n
        self._by_log[log_ms // self._slot_ms, ALL, ()]["received", kind.value] += n

    def reject(self, kind: Kind, reason: Reason, log_ms: int) -> None:
        """A record that could not be understood; it was received, too."""
        self.receive(kind, log_ms)
        self.books[ledger.rejected(kind, reason)] += 1
        told = self._by_log[log_ms // self._slot_ms, ALL, ()]
        told["rejected", kind.value, reason.value] += 1

    def pass_over(self, records: Sequence[tuple[Kind, int]]) -> None:
        """Records that are not in the sample, by kind and log time; they were received, too."""
        for kind in Kind:
            log_ms = [at_ms for of, at_ms in records if of is kind]
            if log_ms:
                self._receive_all(kind, ints(log_ms) // self._slot_ms)
                self.books[ledger.passed_over(kind)] += len(log_ms)

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
        cells = self._by_event[event_ms // self._slot_ms, *whose]
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
            learned = self._by_label[label.log_ms // self._slot_ms, *whose]
            outcome = "outcome", label.actual, prediction.predicted
            delay = "delay", str(bucket_of(max(0, label.label_ms - event_ms)))
            for into in (cells, learned):
                into[outcome] += sign
                into[delay] += sign
        if entry.labels:
            self._count_truth(entry, prediction, sign)

    def _count_told(self, prediction: Prediction, sign: int) -> None:
        """What the log tells of a prediction, at once: no label can change it."""
        cells = self._by_log[prediction.log_ms // self._slot_ms, prediction.variant, ()]
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
        cells = self._by_log[known_ms // self._slot_ms, prediction.variant, ()]
        cells["outcome", actual, prediction.predicted] += sign
        cells["delay", str(bucket_of(max(0, known_ms - prediction.event_ms)))] += sign
        self._count_truths(prediction.scores, actual, sign, cells)

    def _count_truths(self, scores: Scores, actual: Intent, sign: int, into: CellCounts) -> None:
        for name, number in scores:
            members = self._scored.get(name)
            if members is not None:
                into["truth", name, str(number), "1" if actual in members else "0"] += sign

    def answered(self, predictions: Sequence[Prediction]) -> None:
        """Count predictions that are new, at least one."""
        kinds = Kinds(predictions)
        event_ms = ints([prediction[1] for prediction in predictions])
        log_ms = ints([prediction[2] for prediction in predictions])
        whose, variant = kinds.by(_whose), kinds.by(_variant)
        event_slots, log_slots = event_ms // self._slot_ms, log_ms // self._slot_ms
        self._receive_all(Kind.PREDICTIONS, log_slots)
        for hour, n in _counted(event_ms // HOUR_MS):
            self.books[f"predictions.pending@{hour}"] += n
        answers = cells_of(kinds.by(_predicted), lambda intent: ("prediction", intent))
        latency = [prediction[4] for prediction in predictions]
        is_told = np.array([bucket is not None for bucket in latency])
        latencies = [bucket for bucket in latency if bucket is not None]
        for slots, of, into in (
            (event_slots, whose, self._by_event),
            (log_slots, variant, self._by_log),
        ):
            count_into(into, slots, of, answers)
            if latencies:
                timed = buckets(ints(latencies), LATENCY_CELLS.__getitem__)
                count_into(into, slots[is_told], _only(of, is_told), timed)
        for name, bins in _bins(kinds):
            scores = cells_of(bins, partial(_score, name))
            self._count_binned(log_slots, variant, bins, scores)
        for prediction in predictions:
            if prediction.relevance_micros is not None:
                self._count_relevances(prediction, prediction.relevance_micros)

    def met(self, predictions: Sequence[Prediction], labels: Sequence[Label]) -> None:
        """Count what came of pending predictions, each with its first label, which is in time."""
        kinds = Kinds(predictions)
        event_ms = ints([prediction[1] for prediction in predictions])
        label_ms = ints([label[2] for label in labels])
        log_ms = ints([label[3] for label in labels])
        event_slots, log_slots = event_ms // self._slot_ms, log_ms // self._slot_ms
        whose, variant = kinds.by(_whose), kinds.by(_variant)
        actual = numbered([label[1] for label in labels])
        found = outcomes(actual, kinds.by(_predicted))
        delays = buckets(buckets_of(label_ms - event_ms), DELAY_CELLS.__getitem__)
        known = buckets(buckets_of(log_ms - event_ms), DELAY_CELLS.__getitem__)
        for slots, of, into, waited in (
            (event_slots, whose, self._by_event, delays),
            (log_slots, whose, self._by_label, delays),
            (log_slots, variant, self._by_log, known),
        ):
            count_into(into, slots, of, found)
            count_into(into, slots, of, waited)
        for name, bins in _bins(kinds):
            if name in self._scored:
                truths = _truths(name, bins, actual, self._scored[name])
                self._count_binned(log_slots, variant, bins, truths)
        self._receive_all(Kind.LABELS, log_slots)
        for hour, n in _counted(event_ms // HOUR_MS):
            self.books[f"predictions.pending@{hour}"] -= n
        self.books["predictions.labelled"] += len(labels)
        self.books["labels.applied"] += len(labels)

    def _receive_all(self, kind: Kind, log_slots: Ints) -> None:
        for slot, n in _counted(log_slots):
            self.receive(kind, slot * self._slot_ms, n)

    def _count_binned(
        self, slots: Ints, whose: Numbered[Whose], bins: Numbered[int | None], items: Items
    ) -> None:
        """Count by log time those that have a bin."""
        has_bin = np.array([number is not None for number in bins.distinct])[bins.numbers]
        kept = items._replace(numbers=items.numbers[has_bin])
        count_into(self._by_log, slots[has_bin], _only(whose, has_bin), kept)

    def _count_relevances(self, prediction: Prediction, micros: int) -> None:
        variant, _, slices, _, _ = prediction.traits
        event_slot = prediction.event_ms // self._slot_ms
        _count_relevance(micros, 1, self._by_event[event_slot, variant, slices])
        log_slot = prediction.log_ms // self._slot_ms
        _count_relevance(micros, 1, self._by_log[log_slot, variant, ()])

    def panes(self, watermark_ms: int | None) -> dict[PaneKey, Mapping[Cell, int]]:
        """Every pane and slice that counts something, without those dropped at the watermark."""
        sizes = sorted(self._windows.keep_ms)
        told = {
            (slot * self._slot_ms, SliceKey(variant)): cells
            for (slot, variant, _), cells in self._by_log.items()
        }
        found: dict[PaneKey, Mapping[Cell, int]] = {}
        for clock, panes, wanted in (
            # All time only by event time, since the label clock agrees on it.
            (Clock.EVENT, self._sliced(self._by_event), [*sizes, ALL_TIME]),
            (Clock.LABEL, self._sliced(self._by_label), sizes),
            (Clock.LOG, told, log_sizes(self._windows)),
        ):
            for size_ms, of_size in _rolled_up(panes, self._slot_ms, wanted):
                bound_ms = self._windows.kept_after(size_ms, watermark_ms)
                for (start_ms, key), cells in of_size.items():
                    if start_ms > bound_ms and (counted := _without_zeros(cells)):
                        found[PaneKey(clock, size_ms, start_ms, key)] = counted
        return found

    def _sliced(self, slots: Mapping[tuple[int, str, Slices], CellCounts]) -> _Panes:
        """From combinations of slice values to every slice that counts them."""
        slot_ms = self._slot_ms
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


def _whose(traits: Traits) -> Whose:
    return traits.variant, traits.slices


def _variant(traits: Traits) -> Whose:
    return traits.variant, ()


def _predicted(traits: Traits) -> Intent:
    return traits.predicted


def _counted(values: Ints) -> Iterator[tuple[int, int]]:
    """Each distinct value, and how often it occurs."""
    distinct, counts = np.unique(values, return_counts=True)
    return zip(distinct.tolist(), counts.tolist(), strict=True)


def _only(values: Numbered[Whose], kept: NDArray[np.bool_]) -> Numbered[Whose]:
    return values._replace(numbers=values.numbers[kept])


def _bins(kinds: Kinds) -> Iterator[tuple[str, Numbered[int | None]]]:
    """For each score that a prediction tells of its bin, None where it does not."""
    names = {name for scores in kinds.by(_scores).distinct for name, _ in scores}
    for name in sorted(names):
        yield name, kinds.by(partial(_bin, name))


def _bin(name: str, traits: Traits) -> int | None:
    return dict(traits.scores).get(name)


def _score(name: str, number: int | None) -> Cell:
    return "score", name, str(number)


def _scores(traits: Traits) -> Scores:
    return traits.scores


def _truths(
    name: str, bins: Numbered[int | None], actual: Numbered[Intent], group: frozenset[Intent]
) -> Items:
    """For each pair of a bin and a true intent the cell of whether the group was right."""
    flags = np.array([intent in group for intent in actual.distinct], dtype=np.int64)
    made = [("truth", name, str(number), flag) for number in bins.distinct for flag in ("0", "1")]
    return Items(bins.numbers * 2 + flags[actual.numbers], len(made), made.__getitem__)


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
