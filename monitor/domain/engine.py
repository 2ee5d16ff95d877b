"""The flow on one page: state and events in, changes out. Pure, like all of ``monitor.domain``.

::

    ids_of(facts)            which entries a batch needs            (the caller loads them)
    step(spec, loaded, ...)  entries + facts -> Changes             (the caller commits them)
    alerts.evaluate(...)     votes released by the watermark -> transitions

Everything counted is a sum over entries of a function of the entry, so a step adds what the new
entries count and takes away what the old ones did. That is why a correction is nothing special,
and why neither reading order nor batch size shows in any number.
"""

from collections import Counter, defaultdict
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

Base = tuple[Clock, int, str, tuple[str, ...]]
"""Clock, start of the smallest pane, variant and slice values: where one fact counts first."""


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
    books: Counter[str] = Counter()
    entries: dict[PredictionId, Entry] = {}
    for envelope in envelopes:
        books[ledger.received(envelope.kind)] += 1
        fact = envelope.fact
        if isinstance(fact, Rejected):
            books[ledger.rejected(envelope.kind, fact.reason)] += 1
            continue
        held = entries.get(fact.prediction_id) or loaded.get(fact.prediction_id, EMPTY)
        entry = _merged(held, fact, envelope.kind, horizon_ms, books)
        if entry is not held:
            entries[fact.prediction_id] = entry
    tally: defaultdict[Base, Counter[Cell]] = defaultdict(Counter)
    votes: list[VoteChange] = []
    for prediction_id, entry in entries.items():
        before = loaded.get(prediction_id, EMPTY)
        for counter, count in join.standing(before, horizon_ms):
            books[counter] -= count
        for counter, count in join.standing(entry, horizon_ms):
            books[counter] += count
        _recount(spec, before, entry, tally)
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
    held: Entry, fact: Prediction | Label, kind: Kind, horizon_ms: int, books: Counter[str]
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
    spec: Spec, before: Entry, after: Entry, tally: defaultdict[Base, Counter[Cell]]
) -> None:
    """Take away what ``before`` counted and add what ``after`` counts, where they differ."""
    horizon_ms = spec.windows.horizon_ms
    if before.prediction is not after.prediction:
        for prediction, sign in ((before.prediction, -1), (after.prediction, 1)):
            if prediction is not None:
                _count_prediction(spec, prediction, sign, tally)
    old, new = join.outcome_of(before, horizon_ms), join.outcome_of(after, horizon_ms)
    same_place = before.prediction is after.prediction
    if old != new or not same_place:
        for entry, outcome, sign in ((before, old, -1), (after, new, 1)):
            if outcome is not None and entry.prediction is not None:
                _count_outcome(spec, entry.prediction, outcome, sign, tally)
    _recount_relevance(spec, before, after, tally)


def _count_prediction(
    spec: Spec, prediction: Prediction, sign: int, tally: defaultdict[Base, Counter[Cell]]
) -> None:
    cells = tally[_base(spec, Clock.EVENT, prediction.event_ms, prediction)]
    cells["prediction", prediction.predicted] += sign
    if prediction.latency_bucket is not None:
        cells["latency", str(prediction.latency_bucket)] += sign


def _recount_relevance(
    spec: Spec, before: Entry, after: Entry, tally: defaultdict[Base, Counter[Cell]]
) -> None:
    horizon_ms = spec.windows.horizon_ms
    old, new = relevance_of(before, horizon_ms), relevance_of(after, horizon_ms)
    if old == new and before.prediction is after.prediction:
        return
    for entry, micros, sign in ((before, old, -1), (after, new, 1)):
        if micros is not None and entry.prediction is not None:
            cells = tally[_base(spec, Clock.EVENT, entry.prediction.event_ms, entry.prediction)]
            cells["relevance", "n"] += sign
            cells["relevance", "micros"] += sign * micros


def relevance_of(entry: Entry, horizon_ms: int) -> int | None:
    """Relevance in millionths; one judged by an annotator replaces the model's own."""
    if entry.prediction is None:
        return None
    label = join.deciding(entry, horizon_ms) if entry.labels else None
    if label is not None and label.relevance_micros is not None:
        return label.relevance_micros
    return entry.prediction.relevance_micros


def _count_outcome(
    spec: Spec,
    prediction: Prediction,
    outcome: join.Outcome,
    sign: int,
    tally: defaultdict[Base, Counter[Cell]],
) -> None:
    delay = str(bucket_of(outcome.delay_ms))
    for clock, instant_ms in (
        (Clock.EVENT, prediction.event_ms),
        (Clock.LABEL, outcome.decided_log_ms),
    ):
        cells = tally[_base(spec, clock, instant_ms, prediction)]
        cells["outcome", outcome.actual, outcome.predicted] += sign
        cells["delay", delay] += sign


def _base(spec: Spec, clock: Clock, instant_ms: int, prediction: Prediction) -> Base:
    start_ms = pane_start(instant_ms, spec.windows.pane_ms)
    return clock, start_ms, prediction.variant, prediction.slices


def _spread(
    spec: Spec, tally: Mapping[Base, Counter[Cell]], watermark_ms: int | None
) -> dict[PaneKey, dict[Cell, int]]:
    """From smallest panes to every size and slice that counts them, without what is dropped."""
    windows = spec.windows
    spread: defaultdict[PaneKey, Counter[Cell]] = defaultdict(Counter)
    for (clock, start_ms, variant, values), cells in tally.items():
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
