"""View models of the page "Alerts": what needs a human, and who has done what."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from dashboards.banner import Freshness, Notice
from monitor.domain.overlays import Action, Overlays, Silence
from monitor.domain.slices import ALL


class Place(IntEnum):
    """Where a card stands; what is most in need of somebody comes first."""

    FIRING = 0
    RECOVERING = 1
    WARNING = 2
    NO_DATA = 3
    SILENCED = 4
    RESOLVED = 5
    WELL = 6


class Ack(NamedTuple):
    """By whom an alert that is over had been taken on, and when (wall time)."""

    who: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class AlertCard:
    """One alert. ``rule`` is the rule in words, ``said`` its state, value, interval and n.

    ``raised`` is the transition that raised it, "" when it is not up; ``mark`` the one that a
    replay begins with, at ``mark_ms``, "" where none is known. ``matchers`` are what a silence of
    this alert alone names. ``of`` is the group or intent that it is about, "" where it is about
    all messages; ``misses_of`` the group whose misses it counts, "" where it counts something else.
    """

    id: str
    place: Place
    badge: str
    rule: str
    said: Notice
    overlays: Overlays
    matchers: tuple[tuple[str, str], ...]
    raised: str = ""
    mark: str = ""
    mark_ms: int = 0
    runbook: str = ""
    was_taken: Ack | None = None
    variant: str = ALL
    of: str = ""
    misses_of: str = ""

    @property
    def is_up(self) -> bool:
        """Whether it was raised and is not over."""
        return bool(self.raised)


class Entry(NamedTuple):
    """What somebody did, and what about, in words."""

    action: Action
    about: str


class Last(NamedTuple):
    """The alert that was over last, and when (log time)."""

    id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class AlertsView:
    """The page. ``cards`` are all alerts there are, in order; ``silences`` those that hold.

    ``trail`` is all that people did, the newest first. Rules were worked through up to
    ``evaluated_ms``, log time, None before the first time. ``pane_ms`` is the size of a pane.
    ``is_complete`` tells that no record was lost; ``unread`` are the partitions of which nothing
    has been read, which keep rules from being evaluated.
    """

    freshness: Freshness
    cards: tuple[AlertCard, ...]
    silences: tuple[Silence, ...]
    trail: tuple[Entry, ...]
    last: Last | None
    evaluated_ms: int | None
    pane_ms: int
    is_complete: bool = True
    unread: tuple[str, ...] = ()

    def named(self, mark: str) -> AlertCard | None:
        """The alert of this id, or with a transition of this id; None for an unknown one."""
        of_alert = mark.rpartition("-")[0] or mark
        return next((card for card in self.cards if card.id in {mark, of_alert}), None)

    def shown(self, mark: str) -> tuple[AlertCard, ...]:
        """What needs a human, or did within the last day, and the alert that is asked for."""
        asked = self.named(mark)
        return tuple(card for card in self.cards if card.place < Place.WELL or card is asked)

    @property
    def is_any_up(self) -> bool:
        """Whether anything fires, recovers or warns, silenced or not."""
        return any(card.is_up for card in self.cards)

    @property
    def is_calm(self) -> bool:
        """Whether nothing is up, and every rule has data to say so."""
        is_blind = any(card.place is Place.NO_DATA for card in self.cards)
        return self.evaluated_ms is not None and not is_blind and not self.is_any_up
