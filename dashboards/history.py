"""What follows from the history of alerts, kept from one look to the next.

A history only grows: what was derived of its beginning is derived no more. No Streamlit, no clock.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import NamedTuple

from monitor.domain.alerts import AlertKey, Event, Status, Transition
from monitor.domain.overlays import raised_by

MOST_KEPT = 4
"""Histories that are kept at once: that of the store, and parts of it that pages look at."""

UP = frozenset({Status.FIRING, Status.RECOVERING, Status.WARNING})


class Fired(NamedTuple):
    """While an alert was firing or recovering, in log time; ``end_ms`` None while it still is."""

    alert: AlertKey
    start_ms: int
    end_ms: int | None


@dataclass
class History:
    """What follows from some transitions, oldest first; not to be changed by those who ask.

    ``raised`` has for each alert the transition that last raised it, whether it is over by now or
    not, ``moved`` its last move, ``up`` the id of what raised it while it is up. ``judged`` is the
    latest judgement of each, unless it was raised again since what that is about. ``over`` is the
    move by which an alert was over that has the latest log time. ``fired`` are the times of firing
    that are over, ``firing`` the beginnings of those that are not.
    """

    raised: dict[AlertKey, Transition] = field(default_factory=dict)
    moved: dict[AlertKey, Transition] = field(default_factory=dict)
    up: dict[AlertKey, str] = field(default_factory=dict)
    judged: dict[AlertKey, Transition] = field(default_factory=dict)
    over: Transition | None = None
    fired: list[Fired] = field(default_factory=list)
    firing: dict[AlertKey, int] = field(default_factory=dict)

    def grown(self, moves: Sequence[Transition]) -> "History":
        """What follows when these have happened, too."""
        then = History(
            dict(self.raised),
            dict(self.moved),
            raised_by(moves, self.up),
            dict(self.judged),
            self.over,
            list(self.fired),
            dict(self.firing),
        )
        for move in moves:
            then._note(move, move.alert)
        return then

    def _note(self, move: Transition, alert: AlertKey) -> None:
        if move.event is Event.MOVED:
            self.moved[alert] = move
        if raises(move):
            self.raised[alert] = move
            self.judged.pop(alert, None)
        elif move.event is Event.RAISED or self._is_judgement(move, alert):
            self.judged[alert] = move
        if ends(move) and (self.over is None or move.at_ms > self.over.at_ms):
            self.over = move
        if move.moved_to is Status.FIRING:
            self.firing.setdefault(alert, move.at_ms)
        elif move.moved_to in {Status.OK, Status.NO_DATA} and alert in self.firing:
            self.fired.append(Fired(alert, self.firing.pop(alert), move.at_ms))

    def _is_judgement(self, move: Transition, alert: AlertKey) -> bool:
        raised = self.raised.get(alert)
        return bool(move.judges) and raised is not None and move.judges == raised.id


def raises(move: Transition) -> bool:
    """Whether an alert was raised by it, and not only fell back while it recovered."""
    is_up = move.moved_to in {Status.FIRING, Status.WARNING}
    return is_up and move.event is Event.MOVED and move.moved_from is not Status.RECOVERING


def ends(move: Transition) -> bool:
    """Whether an alert was over by it."""
    is_over = move.moved_to is Status.OK and move.moved_from in UP
    return is_over and move.event is Event.MOVED


class _Known(NamedTuple):
    moves: tuple[Transition, ...]
    history: History


class _Shelf:
    """Histories, the least recently asked for first; for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: list[_Known] = []

    def of(self, moves: Sequence[Transition]) -> History:
        if not moves:
            return History()
        with self._lock:
            known = next((each for each in reversed(self._known) if _begins(moves, each)), None)
            others = [each for each in self._known if each is not known]
            if known is None:
                known = _Known((), History())
            if len(known.moves) < len(moves):
                grown = known.history.grown(moves[len(known.moves) :])
                known = _Known(tuple(moves), grown)
            self._known = [*others, known][-MOST_KEPT:]
            return known.history


def _begins(moves: Sequence[Transition], known: _Known) -> bool:
    """Whether these are the transitions known, or they and more; the same ones, not equal ones.

    One that was masked since is another one. To look at all of them takes next to nothing.
    """
    return len(known.moves) <= len(moves) and all(map(is_, known.moves, moves))


_shelf = _Shelf()


def of(moves: Sequence[Transition]) -> History:
    """What follows from these transitions, oldest first."""
    return _shelf.of(moves)
