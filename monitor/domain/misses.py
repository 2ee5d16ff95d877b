"""Missed messages: those whose truth is in a declared group while the answer was not.

A miss is a function of the entry, like everything that is counted: a correction that says otherwise
takes it back. What people did about one is told by actions that name it by its ``reference``, a
digest of the prediction id: who asks to be forgotten is not found in the trail.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from monitor.domain.events import Intent, PredictionId
from monitor.domain.join import Entry, outcome_of
from monitor.domain.overlays import Action, Deed
from monitor.domain.slices import Groups

REFERENCE_DIGITS = 16

_OF_MISSES = {Deed.HANDLE, Deed.REOPEN, Deed.REVEAL}


class Miss(NamedTuple):
    """One missed message. Sorted by fields, misses are in the order of their event times.

    ``log_ms`` is when the prediction stood in the log, ``known_ms`` when the label that decides
    did; ``delay_ms`` is the verification latency.
    """

    event_ms: int
    prediction_id: PredictionId
    log_ms: int
    known_ms: int
    delay_ms: int
    variant: str
    actual: Intent
    predicted: Intent

    @property
    def reference(self) -> str:
        """How actions and addresses name it; the same for every miss of one prediction."""
        return reference_of(self.prediction_id)


class MissChange(NamedTuple):
    """A miss that is there no more, one that is new, or one that takes the place of another."""

    old: Miss | None
    new: Miss | None


class Handling(NamedTuple):
    """What people did about one miss, oldest first."""

    actions: tuple[Action, ...] = ()

    @property
    def handled(self) -> Action | None:
        """By what it is handled now; None while it is open."""
        last = [each for each in self.actions if each.deed is not Deed.REVEAL][-1:]
        return last[0] if last and last[0].deed is Deed.HANDLE else None

    @property
    def ticket(self) -> str:
        """The ticket that was named last, "" for none; reopening keeps it."""
        return next((each.ticket for each in reversed(self.actions) if each.ticket), "")


class Case(NamedTuple):
    """A miss with what was done about it."""

    miss: Miss
    handling: Handling = Handling()

    @property
    def is_open(self) -> bool:
        """Whether nobody has seen to it."""
        return self.handling.handled is None

    def waited_ms(self, now_ms: int) -> int:
        """From the message to when it was handled, or to ``now_ms``; wall time, never below 0."""
        handled = self.handling.handled
        until_ms = now_ms if handled is None else handled.at_ms
        return max(0, until_ms - self.miss.event_ms)


def miss_of(groups: Groups, horizon_ms: int, entry: Entry) -> Miss | None:
    """The miss that an entry is; None for every other entry."""
    outcome, prediction = outcome_of(entry, horizon_ms), entry.prediction
    if outcome is None or prediction is None:
        return None
    if not is_missed(groups, outcome.actual, outcome.predicted):
        return None
    return Miss(
        prediction.event_ms,
        prediction.prediction_id,
        prediction.log_ms,
        outcome.decided_log_ms,
        outcome.delay_ms,
        prediction.variant,
        outcome.actual,
        outcome.predicted,
    )


def is_missed(groups: Groups, actual: Intent, predicted: Intent) -> bool:
    """Whether some group has the actual intent and not the predicted one.

    >>> groups = Groups({"urgent": frozenset({"report_fraud", "lost_card"})})
    >>> is_missed(groups, "lost_card", "fees"), is_missed(groups, "lost_card", "report_fraud")
    (True, False)
    """
    return any(
        actual in members and predicted not in members for members in groups.members.values()
    )


def reference_of(prediction_id: str) -> str:
    """Hexadecimal digits that stand for a prediction id where it must not be told."""
    return hashlib.sha256(f"miss\n{prediction_id}".encode()).hexdigest()[:REFERENCE_DIGITS]


def cases_of(misses: Iterable[Miss], actions: Iterable[Action]) -> list[Case]:
    """Open ones first, the oldest of them first; then handled ones, the last handled first."""
    done = _handlings(actions)
    found = [Case(miss, done.get(miss.reference, Handling())) for miss in misses]
    handled = [(case.handling.handled, case) for case in found]
    closed = [(by.at_ms, case.miss, case) for by, case in handled if by is not None]
    return [
        *sorted((case for case in found if case.is_open), key=lambda case: case.miss),
        *(case for _, _, case in sorted(closed, key=lambda item: item[:2], reverse=True)),
    ]


def _handlings(actions: Iterable[Action]) -> dict[str, Handling]:
    """Reference -> what was done about that miss, for those about which something was."""
    found: dict[str, list[Action]] = {}
    for action in actions:
        if action.deed in _OF_MISSES:
            found.setdefault(action.target, []).append(action)
    return {reference: Handling(tuple(done)) for reference, done in found.items()}
