"""View models of the page "Missed urgent": whom the watched group lost, and who sees to it."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from dashboards.banner import Freshness
from monitor.domain.events import Intent
from monitor.domain.misses import Case
from monitor.domain.slices import ALL


class Shown(StrEnum):
    """Which misses are listed."""

    OPEN = "open"
    HANDLED = "handled"
    ALL = "all"


class Order(StrEnum):
    """What comes first among open ones; of handled ones it is the last handled."""

    OLDEST = "oldest first"
    NEWEST = "newest first"


class OfAlert(NamedTuple):
    """Which misses belong to an alert: those of ``variant`` (ALL: any) sent in the window.

    ``until_ms`` is None while it is up. ``whose`` is variant, slice and version in words.
    """

    id: str
    whose: str
    variant: str
    since_ms: int
    until_ms: int | None

    def concerns(self, case: Case) -> bool:
        """Whether the miss belongs to the alert."""
        miss = case.miss
        is_after = self.until_ms is not None and miss.event_ms >= self.until_ms
        return (
            self.variant in {ALL, miss.variant} and miss.event_ms >= self.since_ms and not is_after
        )


@dataclass(frozen=True, slots=True)
class Missed:
    """All misses of the watched group and the variant that the store keeps, whatever the range.

    ``cases`` are the open ones, oldest first, then the handled ones. ``now_ms`` is wall time: that
    is how people wait. ``labelled`` counts the outcomes of the whole store. ``is_full`` where there
    may be older misses that the store has let go; ``is_listed`` is False where the watched name is
    no declared group, for which no list is kept. ``alerts`` are those about the group whose
    evidence is known, those that are up first, then the last raised.
    """

    freshness: Freshness
    variants: tuple[str, ...]
    of: str
    now_ms: int
    labelled: int
    cases: tuple[Case, ...]
    is_full: bool
    is_listed: bool
    alerts: tuple[OfAlert, ...] = ()

    @property
    def open(self) -> tuple[Case, ...]:
        """Those that nobody has seen to, oldest first."""
        return tuple(case for case in self.cases if case.is_open)

    @property
    def handled(self) -> tuple[Case, ...]:
        """Those that somebody has seen to, the last one first."""
        return tuple(case for case in self.cases if not case.is_open)

    def alert(self, mark: str) -> OfAlert | None:
        """The alert of this id; None for one that is not known, or whose evidence is not."""
        return next((alert for alert in self.alerts if alert.id == mark), None)

    def of_alert(self, alert: OfAlert | None) -> "Missed":
        """The same with the misses of one alert alone; all of them for None."""
        if alert is None:
            return self
        return replace(self, cases=tuple(case for case in self.cases if alert.concerns(case)))

    def listed(
        self, shown: Shown, intent: Intent | None, order: Order = Order.OLDEST
    ) -> tuple[Case, ...]:
        """Those that a viewer asks for, open ones first; None stands for every intent."""
        opened, handled = self.open, self.handled
        if order is Order.NEWEST:
            opened = opened[::-1]
        by_state = {Shown.OPEN: opened, Shown.HANDLED: handled, Shown.ALL: (*opened, *handled)}
        return tuple(case for case in by_state[shown] if intent in {None, case.miss.actual})

    def find(self, reference: str) -> Case | None:
        """The case that an address names; None when it is not, or no longer, here."""
        return next((case for case in self.cases if case.miss.reference == reference), None)
