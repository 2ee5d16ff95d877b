"""Outcomes as evidence: which votes an entry casts, and when each is released.

**Release order** is the order of ``Vote``'s fields: release instant, then prediction id. A vote is
a function of the entry, so neither batching nor reading order shows in it. Five roles:

* ``live`` counts as evidence from ``max(event + maturity, first label)`` on.
* ``arrival`` is the same for a rule whose maturity is estimated: released when the first label
  came, and held on by the evaluator, which knows the maturity.
* ``hindsight`` is what was true when the labels were complete.
* ``correction`` says that a label changed the vote after it had counted. Evidence that was given
  is never rewound: corrections are counted.
* ``pair`` is released like ``live``, and compared with other variants' answers to its ``request``.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from monitor.domain import join
from monitor.domain.events import Intent, Label, Prediction
from monitor.domain.join import Entry
from monitor.domain.rules import AlertRule, PairRule
from monitor.domain.slices import SliceKey

_WITH_ITS_LABEL = -(1 << 62)
"""In place of an age: any label comes later."""

_make = tuple.__new__  # A NamedTuple's own constructor takes twice as long.


class Role(StrEnum):
    """What a vote is for."""

    ARRIVAL = "arrival"
    CORRECTION = "correction"
    HINDSIGHT = "hindsight"
    LIVE = "live"
    PAIR = "pair"


class Vote(NamedTuple):
    """One outcome as evidence. Sorted by fields, votes are in release order.

    ``predicted`` and ``actual`` are given for a miss alone, as an example to show; ``request`` for
    a pair alone, whose ``rule`` is the name of a comparison.
    """

    release_ms: int
    prediction_id: str
    rule: str
    key: SliceKey
    event_ms: int
    hit: bool
    role: Role = Role.LIVE
    version: str = ""
    conversation: str = ""
    predicted: Intent = ""
    actual: Intent = ""
    request: str = ""


def votes_of(
    rule: AlertRule, slice_names: tuple[str, ...], horizon_ms: int, entry: Entry
) -> Iterator[tuple[str, Vote]]:
    """The votes that an entry casts, each under the name of its place: one vote a place.

    Nothing is released before its prediction stood in the log: a label may come first, and a vote
    must not be released at an instant that the watermark has already passed.
    """
    prediction = entry.prediction
    if prediction is None or not entry.labels:
        return
    if len(entry.labels) == 1 and rule.verdict(prediction[3][1], entry.labels[0][1]) is None:
        return
    key = rule.key_of(prediction, slice_names)
    if key is None:
        return
    role = Role.ARRIVAL if rule.maturity_ms is None else Role.LIVE
    first = _first(rule, key, entry, prediction, rule.maturity_ms or 0, horizon_ms, role)
    if first is not None:
        yield Role.LIVE, first
        if len(entry.labels) > 1:
            yield from _corrections(rule, entry, prediction, first, horizon_ms)
    if rule.hindsight_ms is not None:
        age_ms, role = rule.hindsight_ms, Role.HINDSIGHT
        last = _first(rule, key, entry, prediction, age_ms, horizon_ms, role)
        if last is not None:
            yield role, last


class FirstVotes:
    """``votes_of`` for entries with a single label, not withdrawn, in time, and not early.

    What an outcome is to each rule, and whose it is, is looked up once for all that are alike.
    """

    def __init__(self, rules: Sequence[AlertRule], slice_names: tuple[str, ...]) -> None:
        self._rules, self._slice_names = rules, slice_names
        self._ages = list(map(_ages, rules))
        self._verdicts: dict[tuple[Intent, Intent], Sequence[tuple[int, bool]]] = {}
        self._keys: dict[tuple[str, tuple[str, ...]], Sequence[SliceKey | None]] = {}

    def of(self, prediction: Prediction, label: Label) -> list[Vote]:
        """By rule, and by role."""
        prediction_id, event_ms, _, traits, _, _, conversation, _ = prediction
        variant, predicted, slices, version, _ = traits
        actual, known_ms = label[1], label[3]
        verdicts = self._verdicts.get((predicted, actual))
        if verdicts is None:
            verdicts = self._verdicts[predicted, actual] = self._judged(predicted, actual)
        if not verdicts:
            return []
        keys = self._keys.get((variant, slices))
        if keys is None:
            keys = self._keys[variant, slices] = self._keyed(prediction)
        votes: list[Vote] = []
        for number, hit in verdicts:
            key = keys[number]
            if key is not None:
                name, wrong = self._rules[number].name, ("", "") if hit else (predicted, actual)
                for age_ms, role in self._ages[number]:
                    whose = max(event_ms + age_ms, known_ms), prediction_id, name, key, event_ms
                    said = (*whose, hit, role, version, conversation, *wrong, "")
                    votes.append(_make(Vote, said))
        return votes

    def _judged(self, predicted: Intent, actual: Intent) -> list[tuple[int, bool]]:
        """The rules for which such an outcome is a hit or a miss."""
        found = [rule.verdict(predicted, actual) for rule in self._rules]
        return [(number, hit) for number, hit in enumerate(found) if hit is not None]

    def _keyed(self, prediction: Prediction) -> list[SliceKey | None]:
        return [rule.key_of(prediction, self._slice_names) for rule in self._rules]


def _ages(rule: AlertRule) -> list[tuple[int, Role]]:
    """How old a prediction is at least when each of its votes is released, in order of the roles.

    As ``_first`` has it: where maturity is estimated, age 0 means with the label, however old.
    """
    is_estimated = rule.maturity_ms is None
    none = _WITH_ITS_LABEL if is_estimated else 0
    ages = [(rule.maturity_ms or none, Role.ARRIVAL if is_estimated else Role.LIVE)]
    if rule.hindsight_ms is not None:
        ages.insert(0, (rule.hindsight_ms or none, Role.HINDSIGHT))
    return ages


def pair_votes_of(rule: PairRule, horizon_ms: int, entry: Entry) -> Iterator[tuple[str, Vote]]:
    """As ``votes_of``, for a comparison: nothing without a request."""
    prediction = entry.prediction
    if prediction is None or not prediction.request or not entry.labels:
        return
    key = SliceKey(prediction.variant)
    first = _first(rule, key, entry, prediction, rule.maturity_ms, horizon_ms, Role.PAIR)
    if first is None:
        return
    yield Role.PAIR, first._replace(request=prediction.request, predicted="", actual="")
    if len(entry.labels) > 1:
        yield from _corrections(rule, entry, prediction, first, horizon_ms)


def _first(
    rule: AlertRule | PairRule,
    key: SliceKey,
    entry: Entry,
    prediction: Prediction,
    age_ms: int,
    horizon_ms: int,
    role: Role,
) -> Vote | None:
    """What the labels say once the prediction is ``age_ms`` old, or at the first one after."""
    mature_ms = max(prediction.event_ms + age_ms, prediction.log_ms)
    if rule.maturity_ms is None and age_ms == 0:
        mature_ms = prediction.log_ms
    decided = join.first_decided(entry, mature_ms=mature_ms, horizon_ms=horizon_ms)
    if decided is None:
        return None
    release_ms, actual = decided
    prediction_id, event_ms, _, (_, predicted, _, version, _), *_, conversation, _ = prediction
    hit = rule.verdict(predicted, actual)
    if hit is None:
        return None
    wrong = ("", "") if hit else (predicted, actual)
    whose = release_ms, prediction_id, rule.name, key, event_ms
    return _make(Vote, (*whose, hit, role, version, conversation, *wrong, ""))


def _corrections(
    rule: AlertRule | PairRule,
    entry: Entry,
    prediction: Prediction,
    first: Vote,
    horizon_ms: int,
) -> Iterator[tuple[str, Vote]]:
    """A vote for each instant after the release at which the labels changed what it said."""
    labels = join.applicable(entry, horizon_ms)
    said: bool | None = first.hit
    for at_ms in sorted({label.log_ms for label in labels if label.log_ms > first.release_ms}):
        last = [label for label in labels if label.log_ms <= at_ms][-1]
        says = None if last.withdrawn else rule.verdict(prediction.predicted, last.actual)
        if says != said:
            said = says
            changed = first._replace(release_ms=at_ms, hit=bool(says), role=Role.CORRECTION)
            yield f"{Role.CORRECTION}@{at_ms}", changed._replace(predicted="", actual="")
