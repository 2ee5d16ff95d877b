"""View models of the page "Missed urgent": whom the watched group lost, and who sees to it."""

from dataclasses import dataclass
from enum import StrEnum

from dashboards.banner import Freshness
from monitor.domain.events import Intent
from monitor.domain.misses import Case


class Shown(StrEnum):
    """Which misses are listed."""

    OPEN = "open"
    HANDLED = "handled"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Missed:
    """All misses of the watched group and the variant that the store keeps, whatever the range.

    ``cases`` are the open ones, oldest first, then the handled ones. ``now_ms`` is wall time: that
    is how people wait. ``labelled`` counts the outcomes of the whole store. ``is_full`` where there
    may be older misses that the store has let go; ``is_listed`` is False where the watched name is
    no declared group, for which no list is kept.
    """

    freshness: Freshness
    variants: tuple[str, ...]
    of: str
    now_ms: int
    labelled: int
    cases: tuple[Case, ...]
    is_full: bool
    is_listed: bool

    @property
    def open(self) -> tuple[Case, ...]:
        """Those that nobody has seen to, oldest first."""
        return tuple(case for case in self.cases if case.is_open)

    @property
    def handled(self) -> tuple[Case, ...]:
        """Those that somebody has seen to, the last one first."""
        return tuple(case for case in self.cases if not case.is_open)

    def listed(self, shown: Shown, intent: Intent | None) -> tuple[Case, ...]:
        """Those that a viewer asks for; None stands for every intent."""
        asked = {Shown.OPEN: self.open, Shown.HANDLED: self.handled, Shown.ALL: self.cases}[shown]
        return tuple(case for case in asked if intent in {None, case.miss.actual})

    def find(self, reference: str) -> Case | None:
        """The case that an address names; None when it is not, or no longer, here."""
        return next((case for case in self.cases if case.miss.reference == reference), None)
