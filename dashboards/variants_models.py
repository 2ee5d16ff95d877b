"""View models of the page "Variants": is each one fit, and which should serve."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from dashboards.banner import AlertView, Freshness
from dashboards.models import Point
from monitor.app.comparing import Paired
from monitor.app.verdict_review import Reviews
from monitor.domain.advice import Advice
from monitor.domain.comparison import Comparison
from monitor.domain.ledger import Gap
from monitor.domain.trailing import Change
from monitor.domain.traps import Trap
from monitor.domain.verdict import Answer, Verdict
from monitor.domain.windows import Window


class Period(StrEnum):
    """What is compared: the verdict's window, or the part of the range with both variants."""

    VERDICT = "verdict window"
    RANGE = "range"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a viewer asks for beside group and range; "" leaves the choice to the page."""

    serving: str = ""
    other: str = ""
    period: Period = Period.VERDICT


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts, read as one picture of the store. ``section`` is the report's ``verdicts``.

    ``as_of_ms`` is log time. ``cut`` is how far the log was counted by then, None where a worker
    committed all the time, so that not all of it is of one moment.
    """

    found: Reviews
    section: Mapping[str, Any]
    as_of_ms: int | None
    cut: Mapping[str, int] | None


class Unit(StrEnum):
    """What a measure is counted in."""

    SHARE = "share"
    SCORE = "0 to 1"
    MS = "ms"


class Measure(NamedTuple):
    """One number of one variant, with what it stands on; None where nothing is known."""

    name: str
    unit: Unit
    value: float | None
    n: int
    interval: tuple[float, float] | None


class Version(NamedTuple):
    """A model or prompt version that had mature labels, the last of them at ``last_ms``."""

    name: str
    last_ms: int


class Served(NamedTuple):
    """One slice by version of the verdict's window, such as ``prompt_version=3``."""

    name: str
    predictions: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant. ``verdict``, ``changes`` (oldest first) and ``traps`` are of the window.

    ``predictions``, ``labelled`` and ``measures`` are of what is compared. ``is_present`` says
    whether it answered anything in the window. ``points`` are those of the line over the range, ()
    where it is not drawn. ``alerts`` are those about it that are up now, the worst first.
    """

    name: str
    predictions: int
    labelled: int
    measures: tuple[Measure, ...]
    verdict: Verdict
    changes: tuple[Change, ...]
    traps: tuple[Trap, ...]
    versions: tuple[Version, ...]
    served: tuple[Served, ...]
    is_present: bool = True
    points: tuple[Point, ...] = ()
    alerts: tuple[AlertView, ...] = ()

    def reasons(self, finding: str) -> tuple[str, ...]:
        """Names of the limits that stand so."""
        return tuple(r.name for r in self.verdict.reasons if r.finding == finding)


@dataclass(frozen=True, slots=True)
class Pair:
    """The variant that serves, the one it is compared with, and what came out of it.

    ``comparisons`` are of the other minus the serving one, by name of the measure; ``watched`` is
    the name of the one that is told first. ``paired`` has what stands behind those that are made of
    requests that both answered.
    """

    serving: Variant
    other: Variant
    watched: str
    comparisons: Mapping[str, Comparison]
    paired: Mapping[str, Paired] = field(default_factory=dict)

    @property
    def comparison(self) -> Comparison:
        """The one that is told first."""
        return self.comparisons[self.watched]


@dataclass(frozen=True, slots=True)
class Compared:
    """The page. ``variants`` are all that were ever counted; ``pair`` is None while there is one.

    ``judged`` has the verdicts with their window, advice and answer, as ``recallwatch verdict``
    says them. ``window`` is the range of the lines. In a comparison over the range, panes in which
    only one of the pair answered are ``left_out``, of ``panes``. ``objective`` is that of the
    watched recall. ``cut`` is how far the log was counted for what is compared, None where that
    moved meanwhile; ``as_of_ms`` is the log time of it.
    """

    freshness: Freshness
    of: str
    period: Period
    judged: Judged
    window: Window
    rolling_ms: int
    pane_ms: int
    variants: tuple[Variant, ...]
    pair: Pair | None
    objective: float | None
    gaps: tuple[Gap, ...]
    as_of_ms: int | None
    cut: Mapping[str, int] | None = None
    panes: int = 0
    left_out: int = 0

    @property
    def advice(self) -> Advice:
        """Who should serve, and what to do next."""
        return self.judged.found.advice

    @property
    def shown(self) -> tuple[Variant, ...]:
        """Whose lines are drawn, the serving one first."""
        return (self.pair.serving, self.pair.other) if self.pair else self.variants[:1]

    @property
    def alerts(self) -> tuple[AlertView, ...]:
        """What is up now about any of them, first about those that are compared."""
        rest = [variant for variant in self.variants if variant not in self.shown]
        return tuple(alert for variant in (*self.shown, *rest) for alert in variant.alerts)
