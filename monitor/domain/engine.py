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
from monitor.domain.alerts import AlertRule, Vote
from monitor.domain.counts import Cell, bucket_of
from monitor.domain.cut import Progress
from monitor.domain.events import (
    Envelope,
    Kind,
    Label,
    Partition,
    Prediction,
    PredictionId,
    Rejected,
)
from monitor.domain.join import EMPTY, Entry
from monitor.domain.slices import Groups, SliceKey, slices_of
from monitor.domain.windows import ALL_TIME, Clock, PaneKey, WindowSpec, pane_start

Whose = tuple[str, tuple[str, ...]]
"""Variant and slice values."""


def _no_cells() -> defaultdict[Cell, int]:
    return defaultdict(int)


class _Tally:
    """What a batch counts, in smallest panes: (start, whose) -> cells, under each clock."""

    def __init__(self) -> None:
        self.by_event: defaultdict[tuple[int, Whose], defaultdict[Cell, int]]
        self.by_label: defaultdict[tuple[int, Whose], defaultdict[Cell, int]]
        self.by_event, self.by_label = defaultdict(_no_cells), defaultdict(_no_cells)


@dataclass(frozen=True, slots=True)
class Spec:
    """What determines the numbers: the part of the settings that the engine knows."""

    groups: Groups = field(default_factory=lambda: Groups({}))
    slice_names: tuple[str, ...] = ()
    windows: WindowSpec = field(default_factory=WindowSpec)
    rules: tuple[AlertRule, ...] = ()


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
    for kind, _, fact in envelopes:
        books[ledger.RECEIVED[kind]] += 1
        if isinstance(fact, Rejected):
            books[ledger.rejected(kind, fact.reason)] += 1
            continue
        key = fact.prediction_id
        held = entries.get(key) or loaded.get(key, EMPTY)
        entry = _merged(held, fact, kind, horizon_ms, books)
        if entry is not held:
            entries[key] = entry
    tally = _Tally()
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
    changed = {
        pane: {cell: count for cell, count in cells.items() if count}
        for pane, cells in spread.items()
    }
    return {pane: cells for pane, cells in changed.items() if cells}


def _sizes(windows: WindowSpec, clock: Clock) -> tuple[int, ...]:
    """Pane sizes that are kept; all time only by event time, since both clocks agree on it."""
    sizes = tuple(windows.keep_ms)
    return (*sizes, ALL_TIME) if clock is Clock.EVENT else sizes


def _vote_changes(spec: Spec, before: Entry, after: Entry) -> Iterable[VoteChange]:
    for rule in spec.rules:
        old, new = vote_of(spec, rule, before), vote_of(spec, rule, after)
        if old != new:
            yield VoteChange(old, new)


def vote_of(spec: Spec, rule: AlertRule, entry: Entry) -> Vote | None:
    """What an entry says to a rule, and when; None when it says nothing, or not yet.

    Never before its prediction stood in the log: a label may come first, and a vote must not be
    released at an instant that the watermark has already passed.
    """
    prediction = entry.prediction
    if prediction is None or not entry.labels:
        return None
    key = rule.key_of(prediction, spec.slice_names)
    if key is None:
        return None
    decided = join.first_decided(
        entry,
        mature_ms=max(prediction.event_ms + rule.maturity_ms, prediction.log_ms),
        horizon_ms=spec.windows.horizon_ms,
    )
    if decided is None or decided[1] not in rule.group:
        return None
    hit = prediction.predicted in rule.group
    return Vote(decided[0], prediction.prediction_id, rule.name, key, prediction.event_ms, hit)
