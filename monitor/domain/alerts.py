"""Should somebody be told? One pure step per vote, one per deadline.

::

    no_data --first vote--> ok --breach--> firing --clear, hold over--> ok
                                           ^    |
                      breach, or not clear |    | clear, hold not over
                                           |    v
                                           recovering --hold over--> ok

*Resolved* is the move to ok, an instant, not a state. Time moves only by log time: a vote happens
at its release, a hold ends at its deadline, and both are worked through in order, so that the same
votes give the same transitions whenever somebody looks.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from monitor.domain import detectors
from monitor.domain.detectors import Evidence, Glance
from monitor.domain.errors import IllegalMove
from monitor.domain.events import Intent, Prediction
from monitor.domain.slices import ALL, SliceKey


class Status(StrEnum):
    """States of an alert; the words of code, log, metric and dashboard alike."""

    NO_DATA = "no_data"
    OK = "ok"
    FIRING = "firing"
    RECOVERING = "recovering"


MOVES: Mapping[Status, frozenset[Status]] = {
    Status.NO_DATA: frozenset({Status.OK}),
    Status.OK: frozenset({Status.FIRING}),
    Status.FIRING: frozenset({Status.RECOVERING, Status.OK}),
    Status.RECOVERING: frozenset({Status.FIRING, Status.OK}),
}
"""Where each state may go."""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """Recall of ``group`` (declared as ``of``) must not fall below ``objective`` (0..1).

    ``where`` keeps only records with these attribute values; ``per`` makes one alert for each value
    of these attributes. A vote counts once its prediction is ``maturity_ms`` old; a firing alert
    is held for ``hold_ms`` at least.
    """

    name: str
    of: str
    group: frozenset[Intent]
    objective: float
    where: tuple[tuple[str, str], ...] = ()
    per: tuple[str, ...] = ("variant",)
    maturity_ms: int = 0
    hold_ms: int = 1_800_000
    severity: str = "page"

    def key_of(self, prediction: Prediction, slice_names: tuple[str, ...]) -> SliceKey | None:
        """Whose alert the prediction speaks to; None when ``where`` leaves it out."""
        values = dict(zip(slice_names, prediction.slices, strict=True))
        values["variant"] = prediction.variant
        if any(values.get(name, "") != value for name, value in self.where):
            return None
        others = [f"{name}={values.get(name, '')}" for name in self.per if name != "variant"]
        variant = prediction.variant if "variant" in self.per else ALL
        return SliceKey(variant, ",".join(others) or ALL)


class Vote(NamedTuple):
    """One mature outcome as evidence. Sorted by fields, votes are in release order."""

    release_ms: int
    prediction_id: str
    rule: str
    key: SliceKey
    event_ms: int
    hit: bool


AlertKey = tuple[str, SliceKey]
"""Rule name and whose alert."""


@dataclass(frozen=True, slots=True)
class AlertState:
    """Where one alert stands. ``since_ms`` is when ``status`` began, by log time."""

    status: Status = Status.NO_DATA
    since_ms: int = 0
    fired_ms: int = 0
    moves: int = 0
    detector: Glance = field(default_factory=Glance)


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state with what it stands on; ``at_ms`` is log time.

    ``cut`` is how far the log had been read when it was found, as ``topic[partition]`` and next
    offset: provenance, not part of what a replay has to reproduce.
    """

    id: str
    rule: str
    key: SliceKey
    moved_from: Status
    moved_to: Status
    at_ms: int
    evidence: Evidence | None
    reason: str
    cut: tuple[tuple[str, int], ...] = ()


def fingerprint(rule: str, key: SliceKey) -> str:
    """Stable short id of one alert: eight hexadecimal digits."""
    return hashlib.sha256("\x1f".join((rule, *key)).encode()).hexdigest()[:8]


def step(rule: AlertRule, state: AlertState, vote: Vote) -> tuple[AlertState, list[Transition]]:
    """The alert after one more vote; votes must come in release order."""
    state, moved = settle(rule, state, vote.key, vote.release_ms)
    state = replace(state, detector=detectors.observe(state.detector, vote.event_ms, hit=vote.hit))
    at_ms = vote.release_ms
    if state.status is Status.NO_DATA:
        first = detectors.evidence_of(state.detector, 1)
        state = _move(rule, state, vote.key, Status.OK, at_ms, first, "first mature label", moved)
    found = detectors.breach(state.detector, rule.objective)
    if state.status in {Status.OK, Status.RECOVERING} and found:
        return _move(
            rule, state, vote.key, Status.FIRING, at_ms, found, _text(rule, found), moved
        ), moved
    if state.status is Status.FIRING and detectors.is_clear(state.detector, rule.objective):
        good = detectors.evidence_of(state.detector, detectors.LONG)
        over = at_ms >= state.fired_ms + rule.hold_ms
        target = Status.OK if over else Status.RECOVERING
        state = _move(rule, state, vote.key, target, at_ms, good, _text(rule, good), moved)
    elif state.status is Status.RECOVERING and not detectors.is_clear(
        state.detector, rule.objective
    ):
        last = detectors.evidence_of(state.detector, detectors.LONG)
        state = _move(rule, state, vote.key, Status.FIRING, at_ms, last, _text(rule, last), moved)
    return state, moved


def settle(
    rule: AlertRule, state: AlertState, key: SliceKey, now_ms: int
) -> tuple[AlertState, list[Transition]]:
    """The alert once log time has reached ``now_ms`` and no vote came: a hold may have ended."""
    moved: list[Transition] = []
    end_ms = state.fired_ms + rule.hold_ms
    if state.status is Status.RECOVERING and end_ms <= now_ms:
        good = detectors.evidence_of(state.detector, detectors.LONG)
        state = _move(rule, state, key, Status.OK, end_ms, good, "hold is over", moved)
    return state, moved


def evaluate(
    rules: Iterable[AlertRule],
    states: Mapping[AlertKey, AlertState],
    votes: Iterable[Vote],
    watermark_ms: int,
) -> tuple[dict[AlertKey, AlertState], list[Transition]]:
    """Work through ``votes`` in release order, then through deadlines before ``watermark_ms``.

    How the votes are split over calls makes no difference. Votes and states of rules that are not
    among ``rules`` are dropped: a rule that was renamed starts afresh.
    """
    by_name = {rule.name: rule for rule in rules}
    after = {key: state for key, state in states.items() if key[0] in by_name}
    transitions: list[Transition] = []
    for vote in sorted(votes):
        rule = by_name.get(vote.rule)
        if rule is not None:
            alert = (vote.rule, vote.key)
            after[alert], moved = step(rule, after.get(alert, AlertState()), vote)
            transitions += moved
    for (name, key), state in sorted(after.items()):
        after[name, key], moved = settle(by_name[name], state, key, watermark_ms - 1)
        transitions += moved
    # The sort is stable: moves of one alert at one instant stay in the order in which it made them.
    return after, sorted(transitions, key=lambda t: (t.at_ms, t.rule, t.key))


def _move(
    rule: AlertRule,
    state: AlertState,
    key: SliceKey,
    target: Status,
    at_ms: int,
    evidence: Evidence,
    reason: str,
    moved: list[Transition],
) -> AlertState:
    if target not in MOVES[state.status]:
        raise IllegalMove(f"alert {rule.name} {key}: no way from {state.status} to {target}")
    again = state.status is Status.RECOVERING
    fired_ms = at_ms if target is Status.FIRING and not again else state.fired_ms
    name = f"{fingerprint(rule.name, key)}-{state.moves + 1}"
    moved.append(Transition(name, rule.name, key, state.status, target, at_ms, evidence, reason))
    return AlertState(target, at_ms, fired_ms, state.moves + 1, state.detector)


def _text(rule: AlertRule, evidence: Evidence) -> str:
    return f"{evidence.hits} of the last {evidence.n} mature {rule.of} labels were hits"
