"""The flow on one page: state and events in, changes out. Pure, like all of ``monitor.domain``.

::

    ids_of(batch)            which entries a batch needs            (the caller loads them)
    step(spec, loaded, ...)  entries + batch -> Changes             (the caller commits them)
    alerts.evaluate(...)     votes released by the watermark -> transitions

Everything counted is a sum over entries of a function of the entry, so a step adds what the new
entries count and takes away what the old ones did. That is why a correction is nothing special,
and why neither reading order nor batch size shows in any number. It is also why ``Work`` may count
what nearly all facts are in bulk: see ``domain.tally``.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain, compress, repeat
from typing import NamedTuple

from monitor.domain import join, ledger
from monitor.domain.counts import Cell
from monitor.domain.cut import Progress
from monitor.domain.estimate import score_name
from monitor.domain.events import Batch, Intent, Kind, Label, Partition, Prediction, PredictionId
from monitor.domain.join import EMPTY, Entry
from monitor.domain.misses import MissChange, is_missed, miss_of
from monitor.domain.rules import AlertRule, Metric, PairRule, SignalRule
from monitor.domain.sampling import EVERY
from monitor.domain.slices import Groups
from monitor.domain.tally import Tally
from monitor.domain.votes import FirstVotes, Vote, pair_votes_of, votes_of
from monitor.domain.windows import PaneKey, WindowSpec

_make = tuple.__new__  # A NamedTuple's own constructor takes twice as long.


@dataclass(frozen=True, slots=True)
class Spec:
    """What determines the numbers: the part of the settings that the engine knows.

    ``scored`` maps the score name of each declared group to its members. An outcome is
    evidence for some rule or comparison, or a miss, only if its actual intent is in the first set
    of ``voting`` or the predicted one in the second; None when any outcome may be. ``sampling`` is
    the share of prediction ids that is counted, see ``domain.sampling``; a step counts what it is
    given.
    """

    groups: Groups = field(default_factory=lambda: Groups({}))
    slice_names: tuple[str, ...] = ()
    windows: WindowSpec = field(default_factory=WindowSpec)
    rules: tuple[AlertRule, ...] = ()
    signals: tuple[SignalRule, ...] = ()
    comparisons: tuple[PairRule, ...] = ()
    sampling: float = EVERY
    scored: Mapping[str, frozenset[Intent]] = field(init=False, repr=False, compare=False)
    voting: tuple[frozenset[Intent], frozenset[Intent]] | None = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Name the scores, and the intents that may vote, once."""
        members = self.groups.members.items()
        scored = {score_name(name, group): group for name, group in members}
        object.__setattr__(self, "scored", scored)
        object.__setattr__(self, "voting", _voting((*self.rules, *self.comparisons), self.groups))


def _voting(
    rules: Iterable[AlertRule | PairRule], groups: Groups
) -> tuple[frozenset[Intent], frozenset[Intent]] | None:
    of: dict[Metric, frozenset[Intent]] = dict.fromkeys(Metric, frozenset())
    for rule in rules:
        if rule.metric is Metric.ACCURACY:
            return None
        of[rule.metric] |= rule.group
    of_groups = frozenset(chain.from_iterable(groups.members.values()))
    return of[Metric.RECALL] | of_groups, of[Metric.PRECISION]


class VoteChange(NamedTuple):
    """A vote that starts to wait, or takes the place of one that still waits.

    With ``old`` given, ``new`` is added only if ``old`` had not been released: evidence that was
    given is never rewound.
    """

    old: Vote | None
    new: Vote | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What one step does to one shard. Entries are absolute, everything else is added.

    ``loaded`` is what the entries were made from; those that are not in it were not there.
    """

    loaded: Mapping[PredictionId, Entry]
    entries: Mapping[PredictionId, Entry]
    cells: Mapping[PaneKey, Mapping[Cell, int]]
    ledger: Mapping[str, int]
    votes: Sequence[VoteChange]
    progress: Mapping[Partition, Progress]
    misses: Sequence[MissChange] = ()


def ids_of(batch: Batch) -> AbstractSet[PredictionId]:
    """The prediction ids whose entries a step over this batch needs, in the order of its facts."""
    # Not a set: what stands together in memory is worked off in half the time.
    found = dict.fromkeys([prediction[0] for prediction in batch.predictions])
    found.update(dict.fromkeys([label[0] for label in batch.labels]))
    return found.keys()


def step(
    spec: Spec,
    loaded: Mapping[PredictionId, Entry],
    batch: Batch,
    *,
    progress: Mapping[Partition, Progress],
    watermark_ms: int | None,
) -> Changes:
    """What a batch changes in one shard.

    ``loaded`` holds the entries that exist among ``ids_of(batch)``, ``progress`` is how far the
    shard has come once the changes are applied. Panes that retention has dropped at
    ``watermark_ms`` are not written again; with None nothing has been dropped.
    """
    work = Work(spec, loaded)
    for kind, reason, log_ms in batch.rejected:
        work.tally.reject(kind, reason, log_ms)
    work.tally.pass_over(batch.passed_over)
    work.predict(batch.predictions)
    work.label(batch.labels)
    return work.changes(progress, watermark_ms)


class Work:
    """A batch being worked off: the entries so far, and what they count.

    What nearly all facts are is taken in many at once; the rest goes to ``merge``, one by one.
    """

    def __init__(self, spec: Spec, loaded: Mapping[PredictionId, Entry]) -> None:
        self._spec, self._loaded = spec, loaded
        self._early: list[Label] = []
        self._voters: dict[PredictionId, None] = {}
        self.entries: dict[PredictionId, Entry] = {}
        self.tally = Tally(spec.windows, spec.slice_names, spec.scored)

    def predict(self, predictions: Sequence[Prediction]) -> None:
        """Take in predictions; those whose id is new only have to be entered and counted."""
        is_new = self._are_new(predictions)
        new = list(compress(predictions, is_new))
        if new:
            entries = map(_make, repeat(Entry), zip(new, repeat(()), strict=False))
            self.entries.update(zip([each[0] for each in new], entries, strict=True))
            self.tally.answered(new)
        if len(new) < len(predictions):
            for prediction, is_done in zip(predictions, is_new, strict=True):
                if not is_done:
                    self.merge(prediction, Kind.PREDICTIONS)

    def _are_new(self, predictions: Sequence[Prediction]) -> list[bool]:
        """For each whether its id was not met before, and it is in time.

        An expiry is more than the horizon away from its instant.
        """
        loaded, horizon_ms = self._loaded, self._spec.windows.horizon_ms
        in_time = [each[2] - each[1] < horizon_ms for each in predictions]
        ids = {each[0] for each in predictions}
        if len(ids) == len(predictions) and loaded.keys().isdisjoint(ids):
            return in_time
        ids.clear()
        found = []
        for (key, *_), could_be in zip(predictions, in_time, strict=True):
            is_new = could_be and key not in ids
            if is_new and key in loaded:
                is_new = self._is_awaited(loaded[key])
            if is_new:
                ids.add(key)
            found.append(is_new)
        return found

    def label(self, labels: Sequence[Label]) -> None:
        """Take in labels; a prediction's first one, in time, only has to be entered and counted."""
        labels = [*labels, *self._early]
        get, get_loaded = self.entries.get, self._loaded.get
        held = [get(label[0]) or get_loaded(label[0], EMPTY) for label in labels]
        is_first = self._are_first(labels, held)
        first = list(compress(labels, is_first))
        if first:
            said = [said for said, _ in compress(held, is_first) if said is not None]
            entries = map(_make, repeat(Entry), zip(said, zip(first), strict=True))
            self.entries.update(zip([label[0] for label in first], entries, strict=True))
            self.tally.met(said, first)
            self._note_voters(said, first)
        if len(first) < len(labels):
            for label, is_done in zip(labels, is_first, strict=True):
                if not is_done:
                    self.merge(label, Kind.LABELS)

    def _are_first(self, labels: Sequence[Label], held: Sequence[Entry]) -> list[bool]:
        """For each whether it only says what is true of a pending prediction, and is in time."""
        horizon_ms = self._spec.windows.horizon_ms
        could_be = [
            prediction is not None
            and not known
            and not label[6]  # withdrawn
            and label[7] is None  # relevance
            and prediction[2] <= label[3] < prediction[1] + horizon_ms
            for label, (prediction, known) in zip(labels, held, strict=True)
        ]
        ids = {label[0] for label in labels}
        if len(ids) == len(labels):
            return could_be
        found = []
        for (key, *_), is_first in zip(labels, could_be, strict=True):
            found.append(is_first and key in ids)
            if is_first:
                ids.discard(key)
        return found

    def _note_voters(self, said: Iterable[Prediction], labels: Iterable[Label]) -> None:
        voting = self._spec.voting
        if voting is None:
            self._voters.update(dict.fromkeys([label[0] for label in labels]))
            return
        actual, predicted = voting
        self._voters.update(
            dict.fromkeys(
                [
                    label[0]
                    for label, prediction in zip(labels, said, strict=True)
                    if label[1] in actual or prediction[3][1] in predicted
                ]
            )
        )

    def _is_awaited(self, held: Entry) -> bool:
        """Whether a single label was read before its prediction; if so it is to be read again.

        It is taken back as an orphan, and as a record received, since it will count as one anew.
        """
        if held.prediction is not None or len(held.labels) > 1:
            return False
        label = held.labels[0]
        self.tally.recount(held, EMPTY)
        self.tally.receive(Kind.LABELS, label.log_ms, -1)
        self._early.append(label)
        return True

    def merge(self, fact: Prediction | Label, kind: Kind) -> None:
        """Take in any fact: the definition of what the loops do.

        Copies are booked here; nothing is entered when nothing is kept.
        """
        key = fact.prediction_id
        held = self.entries.get(key) or self._loaded.get(key, EMPTY)
        self.tally.receive(kind, fact.log_ms)
        entry = self._merged(held, fact, kind)
        if entry is not held:
            self.tally.recount(held, entry)
            self.entries[key] = entry
            if entry.labels:
                self._voters[key] = None

    def _merged(self, held: Entry, fact: Prediction | Label, kind: Kind) -> Entry:
        """``held`` after one fact; ``held`` itself when nothing is kept."""
        books, horizon_ms = self.tally.books, self._spec.windows.horizon_ms
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

    def changes(self, progress: Mapping[Partition, Progress], watermark_ms: int | None) -> Changes:
        """What has changed by now."""
        return Changes(
            loaded=self._loaded,
            entries=self.entries,
            cells=self.tally.panes(watermark_ms),
            ledger={counter: count for counter, count in self.tally.books.items() if count},
            votes=list(self._vote_changes()),
            progress=progress,
            misses=tuple(self._miss_changes()),
        )

    def _vote_changes(self) -> Iterable[VoteChange]:
        spec, entries, loaded = self._spec, self.entries, self._loaded
        first, horizon_ms = FirstVotes(spec.rules, spec.slice_names), spec.windows.horizon_ms
        for key in self._voters:
            after, before = entries[key], loaded.get(key, EMPTY)
            prediction, labels = after
            if prediction is None:
                continue
            if len(labels) > 1 or before.labels or not _is_plain(prediction, labels[0], horizon_ms):
                yield from _revised(spec, before, after)
            else:
                for vote in first.of(prediction, labels[0]):
                    yield _make(VoteChange, (None, vote))
            for watched in spec.comparisons:
                old = dict(pair_votes_of(watched, horizon_ms, before))
                yield from _differing(old, dict(pair_votes_of(watched, horizon_ms, after)))

    def _miss_changes(self) -> Iterable[MissChange]:
        groups, horizon_ms = self._spec.groups, self._spec.windows.horizon_ms
        entries, loaded = self.entries, self._loaded
        missed: dict[tuple[Intent, Intent], bool] = {}
        for key in self._voters if groups.members else ():
            after, before = entries[key], loaded.get(key, EMPTY)
            prediction, labels = after
            if prediction is None:
                continue
            if len(labels) == 1 and not before.labels:
                # Nearly all: what the only label says of such an answer is looked up once.
                pair = labels[0].actual, prediction.predicted
                is_one = missed.get(pair)
                if is_one is None:
                    is_one = missed[pair] = is_missed(groups, *pair)
                if not is_one:
                    continue
            old = miss_of(groups, horizon_ms, before) if before.labels else None
            new = miss_of(groups, horizon_ms, after)
            if old != new:
                yield MissChange(old, new)


def _is_plain(prediction: Prediction, label: Label, horizon_ms: int) -> bool:
    """Whether a prediction's only label says what is true of it, and came after it, in time."""
    in_time = prediction.log_ms <= label.log_ms < prediction.event_ms + horizon_ms
    return in_time and not label.withdrawn


def _revised(spec: Spec, before: Entry, after: Entry) -> Iterable[VoteChange]:
    """How the votes for the rules change, whatever the entry was and is."""
    for rule in spec.rules:
        old = dict(votes_of(rule, spec.slice_names, spec.windows.horizon_ms, before))
        new = dict(votes_of(rule, spec.slice_names, spec.windows.horizon_ms, after))
        yield from _differing(old, new)


def _differing(old: Mapping[str, Vote], new: Mapping[str, Vote]) -> Iterable[VoteChange]:
    for place in sorted(old.keys() | new.keys()):
        if old.get(place) != new.get(place):
            yield VoteChange(old.get(place), new.get(place))
