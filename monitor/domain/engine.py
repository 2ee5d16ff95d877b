"""The flow on one page: state and events in, changes out. Pure, like all of ``monitor.domain``.

::

    ids_of(facts)            which entries a batch needs            (the caller loads them)
    step(spec, loaded, ...)  entries + facts -> Changes             (the caller commits them)
    alerts.evaluate(...)     votes released by the watermark -> transitions

Everything counted is a sum over entries of a function of the entry, so a step adds what the new
entries count and takes away what the old ones did. That is why a correction is nothing special,
and why neither reading order nor batch size shows in any number.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from monitor.domain import join, ledger
from monitor.domain.counts import Cell, bucket_of
from monitor.domain.cut import Progress
from monitor.domain.estimate import score_name
from monitor.domain.events import (
    Envelope,
    Intent,
    Kind,
    Label,
    Partition,
    Prediction,
    PredictionId,
    Rejected,
)
from monitor.domain.join import EMPTY, Entry
from monitor.domain.rules import AlertRule, SignalRule
from monitor.domain.slices import ALL, Groups, SliceKey, slices_of
from monitor.domain.votes import Vote, votes_of
from monitor.domain.windows import ALL_TIME, HOUR_MS, Clock, PaneKey, WindowSpec, pane_start

Whose = tuple[str, tuple[str, ...]]
"""Variant and slice values."""


_RECEIVED: Mapping[Kind, Cell] = {kind: ("received", kind.value) for kind in Kind}


def _no_cells() -> defaultdict[Cell, int]:
    return defaultdict(int)


class _Tally:
    """What a batch counts, in smallest panes: (start, whose) -> cells, under each clock.

    By log time there are no slices: ``by_log`` knows the variant alone.
    """

    def __init__(self) -> None:
        self.by_event: defaultdict[tuple[int, Whose], defaultdict[Cell, int]]
        self.by_label: defaultdict[tuple[int, Whose], defaultdict[Cell, int]]
        self.by_log: defaultdict[tuple[int, str], defaultdict[Cell, int]]
        self.by_event, self.by_label = defaultdict(_no_cells), defaultdict(_no_cells)
        self.by_log = defaultdict(_no_cells)


@dataclass(frozen=True, slots=True)
class Spec:
    """What determines the numbers: the part of the settings that the engine knows.

    ``scored`` maps the score name of each declared group to its members.
    """

    groups: Groups = field(default_factory=lambda: Groups({}))
    slice_names: tuple[str, ...] = ()
    windows: WindowSpec = field(default_factory=WindowSpec)
    rules: tuple[AlertRule, ...] = ()
    signals: tuple[SignalRule, ...] = ()
    scored: Mapping[str, frozenset[Intent]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Name the scores once."""
        members = self.groups.members.items()
        scored = {score_name(name, group): group for name, group in members}
        object.__setattr__(self, "scored", scored)


@dataclass(frozen=True, slots=True)
class VoteChange:
    """A vote that starts to wait, or takes the place of one that still waits.

    With ``old`` given, ``new`` is added only if ``old`` had not been released: evidence that was
    given is never rewound.
    """

    old: Vote | None
    new: Vote | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What one step does to one shard. Entries are absolute, everything else is added."""

    loaded: Mapping[PredictionId, Entry]
    entries: Mapping[PredictionId, Entry]
    cells: Mapping[PaneKey, Mapping[Cell, int]]
    ledger: Mapping[str, int]
    votes: Sequence[VoteChange]
    progress: Mapping[Partition, Progress]


def ids_of(envelopes: Iterable[Envelope]) -> set[PredictionId]:
    """The prediction ids whose entries a step over these envelopes needs."""
    return {
        envelope.fact.prediction_id
        for envelope in envelopes
        if not isinstance(envelope.fact, Rejected)
    }


def step(
    spec: Spec,
    loaded: Mapping[PredictionId, Entry],
    envelopes: Iterable[Envelope],
    *,
    progress: Mapping[Partition, Progress],
    watermark_ms: int | None,
) -> Changes:
    """What a batch changes in one shard.

    ``loaded`` holds the entries that exist among ``ids_of(envelopes)``, ``progress`` is how far the
    shard has come once the changes are applied. Panes that retention has dropped at
    ``watermark_ms`` are not written again; with None nothing has been dropped.
    """
    horizon_ms = spec.windows.horizon_ms
    books: defaultdict[str, int] = defaultdict(int)
    entries: dict[PredictionId, Entry] = {}
    tally, pane_ms = _Tally(), spec.windows.pane_ms
    for kind, _, fact, log_ms in envelopes:
        books[ledger.RECEIVED[kind]] += 1
        told = tally.by_log[log_ms - log_ms % pane_ms, ALL]
        told[_RECEIVED[kind]] += 1
        if isinstance(fact, Rejected):
            books[ledger.rejected(kind, fact.reason)] += 1
            told["rejected", kind.value, fact.reason.value] += 1
            continue
        key = fact.prediction_id
        held = entries.get(key) or loaded.get(key, EMPTY)
        entry = _merged(held, fact, kind, horizon_ms, books)
        if entry is not held:
            entries[key] = entry
    votes: list[VoteChange] = []
    for key, entry in entries.items():
        before = loaded.get(key, EMPTY)
        _recount(spec, before, entry, tally, books)
        if entry.labels:
            votes += _vote_changes(spec, before, entry)
    return Changes(
        loaded={key: loaded.get(key, EMPTY) for key in entries},
        entries=entries,
        cells=_spread(spec, tally, watermark_ms),
        ledger={counter: count for counter, count in books.items() if count},
        votes=votes,
        progress=progress,
    )


def _merged(
    held: Entry,
    fact: Prediction | Label,
    kind: Kind,
    horizon_ms: int,
    books: defaultdict[str, int],
) -> Entry:
    """``held`` after one fact. Copies are booked here; ``held`` itself when nothing is kept."""
    if isinstance(fact, Prediction):
        if fact.log_ms >= join.expiry_ms(fact.event_ms, horizon_ms):
            books[ledger.expired(kind)] += 1
            return held
        if held.prediction is not None:
            books[ledger.duplicate(kind)] += 1
        return join.with_prediction(held, fact)
    if any(label.label_key == fact.label_key for label in held.labels):
        books[ledger.duplicate(kind)] += 1
    return join.with_label(held, fact)


def _recount(
    spec: Spec, before: Entry, after: Entry, tally: _Tally, books: defaultdict[str, int]
) -> None:
    """Take away what ``before`` counted and add what ``after`` counts.

    The prediction's own cells are left alone when the prediction is the same.
    """
    is_new = before.prediction is not after.prediction
    if before is not EMPTY:
        _count(spec, before, -1, tally, books, with_prediction=is_new)
    _count(spec, after, 1, tally, books, with_prediction=is_new)


def _count(
    spec: Spec,
    entry: Entry,
    sign: int,
    tally: _Tally,
    books: defaultdict[str, int],
    *,
    with_prediction: bool,
) -> None:
    """Enter one entry ``sign`` times."""
    horizon_ms = spec.windows.horizon_ms
    for counter, count in join.standing(entry, horizon_ms):
        books[counter] += sign * count
    prediction = entry.prediction
    if prediction is None:
        return
    pane_ms, event_ms = spec.windows.pane_ms, prediction.event_ms
    whose = prediction.variant, prediction.slices
    cells = tally.by_event[event_ms - event_ms % pane_ms, whose]
    if with_prediction:
        cells["prediction", prediction.predicted] += sign
        if prediction.latency_bucket is not None:
            cells["latency", str(prediction.latency_bucket)] += sign
        _count_answer(prediction, sign, tally, pane_ms)
    label = join.deciding(entry, horizon_ms) if entry.labels else None
    micros = prediction.relevance_micros
    if label is not None and label.relevance_micros is not None:
        micros = label.relevance_micros
    if micros is not None:
        cells["relevance", "n"] += sign
        cells["relevance", "micros"] += sign * micros
    if label is not None:
        decided_ms = label.log_ms
        learned = tally.by_label[decided_ms - decided_ms % pane_ms, whose]
        outcome = "outcome", label.actual, prediction.predicted
        delay = "delay", str(bucket_of(max(0, label.label_ms - event_ms)))
        for into in (cells, learned):
            into[outcome] += sign
            into[delay] += sign
    if entry.labels:
        _count_truth(spec, entry, prediction, sign, tally)


def _count_answer(prediction: Prediction, sign: int, tally: _Tally, pane_ms: int) -> None:
    """What the log tells of a prediction, at once: no label can change it."""
    log_ms = prediction.log_ms
    cells = tally.by_log[log_ms - log_ms % pane_ms, prediction.variant]
    cells["prediction", prediction.predicted] += sign
    if prediction.latency_bucket is not None:
        cells["latency", str(prediction.latency_bucket)] += sign
    if prediction.relevance_micros is not None:
        cells["relevance", "n"] += sign
        cells["relevance", "micros"] += sign * prediction.relevance_micros
    for name, number in prediction.scores:
        cells["score", name, str(number)] += sign


def _count_truth(
    spec: Spec, entry: Entry, prediction: Prediction, sign: int, tally: _Tally
) -> None:
    """What was true, at the instant at which the log first told it; corrections change nothing."""
    known = _first_known(entry, prediction, spec.windows.horizon_ms)
    if known is None:
        return
    known_ms, actual = known
    cells = tally.by_log[known_ms - known_ms % spec.windows.pane_ms, prediction.variant]
    cells["outcome", actual, prediction.predicted] += sign
    cells["delay", str(bucket_of(max(0, known_ms - prediction.event_ms)))] += sign
    for name, number in prediction.scores:
        members = spec.scored.get(name)
        if members is not None:
            cells["truth", name, str(number), "1" if actual in members else "0"] += sign


def _first_known(
    entry: Entry, prediction: Prediction, horizon_ms: int
) -> tuple[int, Intent] | None:
    """When the truth was first known, and what it was; most entries have a single label."""
    if len(entry.labels) > 1:
        return join.first_decided(entry, mature_ms=prediction.log_ms, horizon_ms=horizon_ms)
    label = join.deciding(entry, horizon_ms)
    return None if label is None else (max(prediction.log_ms, label.log_ms), label.actual)


def _spread(spec: Spec, tally: _Tally, watermark_ms: int | None) -> dict[PaneKey, dict[Cell, int]]:
    """From smallest panes to every size and slice that counts them, without what is dropped."""
    windows = spec.windows
    spread: defaultdict[PaneKey, defaultdict[Cell, int]] = defaultdict(_no_cells)
    for clock, panes in ((Clock.EVENT, tally.by_event), (Clock.LABEL, tally.by_label)):
        for (start_ms, (variant, values)), cells in panes.items():
            keys = [SliceKey(variant, name) for name in slices_of(spec.slice_names, values)]
            for size_ms in _sizes(windows, clock):
                coarse_ms = pane_start(start_ms, size_ms)
                if windows.is_kept(size_ms, coarse_ms, watermark_ms):
                    for key in keys:
                        into = spread[PaneKey(clock, size_ms, coarse_ms, key)]
                        for cell, count in cells.items():
                            into[cell] += count
    for (start_ms, variant), cells in tally.by_log.items():
        key = SliceKey(variant)
        for size_ms in log_sizes(windows):
            coarse_ms = pane_start(start_ms, size_ms)
            if windows.is_kept(size_ms, coarse_ms, watermark_ms):
                into = spread[PaneKey(Clock.LOG, size_ms, coarse_ms, key)]
                for cell, count in cells.items():
                    into[cell] += count
    changed = {
        pane: {cell: count for cell, count in cells.items() if count}
        for pane, cells in spread.items()
    }
    return {pane: cells for pane, cells in changed.items() if cells}


def _sizes(windows: WindowSpec, clock: Clock) -> tuple[int, ...]:
    """Pane sizes that are kept; all time only by event time, since both clocks agree on it."""
    sizes = tuple(windows.keep_ms)
    return (*sizes, ALL_TIME) if clock is Clock.EVENT else sizes


def log_sizes(windows: WindowSpec) -> tuple[int, ...]:
    """Pane sizes kept by log time: the smallest, and hours."""
    return tuple(size_ms for size_ms in windows.keep_ms if size_ms <= HOUR_MS)


def _vote_changes(spec: Spec, before: Entry, after: Entry) -> Iterable[VoteChange]:
    horizon_ms = spec.windows.horizon_ms
    for rule in spec.rules:
        old = dict(votes_of(rule, spec.slice_names, horizon_ms, before))
        new = dict(votes_of(rule, spec.slice_names, horizon_ms, after))
        for place in sorted(old.keys() | new.keys()):
            if old.get(place) != new.get(place):
                yield VoteChange(old.get(place), new.get(place))
