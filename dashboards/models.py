"""View models: what a page shows, as frozen values with nothing left to compute."""

from dataclasses import dataclass

from dashboards import words
from dashboards.banner import AlertView, Freshness, attention
from dashboards.signals import SignalView
from monitor.domain.events import Intent
from monitor.domain.ledger import Balance, Gap
from monitor.domain.scores import Score
from monitor.domain.signals import SignalState
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import MINUTE_MS, Window


@dataclass(frozen=True, slots=True)
class Choice:
    """What a viewer asks for: a variant (or ALL), a watched group or intent, a range."""

    variant: str = ALL
    of: str = ""
    span: str = "3h"


@dataclass(frozen=True, slots=True)
class Recent:
    """The numbers of one rolling window. ``per_minute`` counts predictions.

    ``recall`` is that of the watched group, ``accuracy`` that of all intents.
    """

    recall: Score
    accuracy: Score
    missed: int
    predictions: int
    labelled: int
    per_minute: float
    p95_ms: float | None

    @property
    def coverage(self) -> float | None:
        """Outcomes per prediction; None where nothing was predicted."""
        return self.labelled / self.predictions if self.predictions else None


@dataclass(frozen=True, slots=True)
class Sparks:
    """One value a pane over the last hour; panes without a value are left out."""

    recall: tuple[float, ...]
    accuracy: tuple[float, ...]
    missed: tuple[int, ...]
    coverage: tuple[float, ...]
    per_minute: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LiveNow:
    """Banner and cards. ``window`` is the latest rolling window, None before the first one.

    ``before`` is the same an hour earlier; ``alerts`` are those of the watched group and variant,
    worst first, ``others`` all others that want attention, ``signals`` all signals that warn.
    ``gaps`` is what the whole store lacks. ``estimate`` is the label-free one of the watched group,
    None where nobody makes one. ``is_evaluated`` tells that rules were ever asked, ``unread`` what
    keeps them from being asked.
    """

    freshness: Freshness
    variants: tuple[str, ...]
    window: Window | None
    recent: Recent
    before: Recent
    sparks: Sparks
    alerts: tuple[AlertView, ...]
    others: tuple[AlertView, ...]
    signals: tuple[SignalView, ...] = ()
    gaps: tuple[Gap, ...] = ()
    estimate: SignalState | None = None
    is_evaluated: bool = True
    unread: tuple[str, ...] = ()

    @property
    def attention(self) -> tuple[AlertView, ...]:
        """All alerts that want attention: firing before recovering, the watched ones first."""
        return attention(*self.alerts, *self.others)


def is_changed(now: Score, then: Score) -> bool:
    """Whether two scores differ by more than their intervals explain.

    Too few labels, now or then, are no ground for a colour.
    """
    if min(now.support, then.support) < words.FEW:
        return False
    low, high = now.interval or (0.0, 1.0)
    least, most = then.interval or (0.0, 1.0)
    return high < least or most < low


@dataclass(frozen=True, slots=True)
class Point:
    """One step of a chart, ``[start_ms, end_ms)``, and the rolling window that ends with it.

    ``predictions`` and ``labelled`` are those of the step, by event time; ``recall`` and ``known``
    (coverage) those of the rolling window.
    """

    start_ms: int
    end_ms: int
    recall: Score
    known: float | None
    predictions: int
    labelled: int

    @property
    def coverage(self) -> float | None:
        """Coverage of the step alone; None where nothing was predicted."""
        return self.labelled / self.predictions if self.predictions else None


@dataclass(frozen=True, slots=True)
class Span:
    """While an alert was firing or recovering; ``end_ms`` None while it still is."""

    name: str
    start_ms: int
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class IntentRow:
    """Recall of one intent of the watched group; going to another one of it is a hit."""

    intent: Intent
    recall: Score
    missed: int


@dataclass(frozen=True, slots=True)
class Route:
    """Where outcomes of one intent went instead of to the watched group."""

    actual: Intent
    predicted: Intent
    missed: int


@dataclass(frozen=True, slots=True)
class Trend:
    """The charts of the Live page. ``detail`` is the window of ``intents`` and ``routes``.

    They are of ``whose``; ``alert`` is the worst one that is up, with whose evidence the window
    begins where that is known. ``missed`` are all misses of the window, ``routes`` the most
    travelled ways of them. There are no points until the first pane is complete.
    """

    freshness: Freshness
    of: str
    objective: float | None
    rolling_ms: int
    window: Window
    points: tuple[Point, ...]
    spans: tuple[Span, ...]
    detail: Window
    whose: SliceKey
    alert: AlertView | None
    intents: tuple[IntentRow, ...]
    routes: tuple[Route, ...]
    missed: int

    @property
    def predictions(self) -> int:
        """Predictions in the range."""
        return sum(point.predictions for point in self.points)

    @property
    def labelled(self) -> int:
        """Outcomes in the range, by event time."""
        return sum(point.labelled for point in self.points)


@dataclass(frozen=True, slots=True)
class Delays:
    """Verification latency: what so many labels did not exceed, in milliseconds."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    n: int


@dataclass(frozen=True, slots=True)
class ArrivalPoint:
    """One step of the Labels page, ``[start_ms, end_ms)``.

    ``predictions`` and ``labelled`` by event time, ``arrived`` labels by log time; ``delays`` are
    of the labels that arrived in the rolling window ending with the step, None without any.
    """

    start_ms: int
    end_ms: int
    predictions: int
    labelled: int
    arrived: int
    delays: Delays | None

    @property
    def coverage(self) -> float | None:
        """Coverage of the step; None where nothing was predicted."""
        return self.labelled / self.predictions if self.predictions else None

    @property
    def arrived_per_minute(self) -> float:
        """Labels that arrived, per minute."""
        return self.arrived * MINUTE_MS / (self.end_ms - self.start_ms)


@dataclass(frozen=True, slots=True)
class Known:
    """How long after a prediction its label is known; None while that share is not reached.

    ``share`` (0..1) is how much is known of the oldest predictions looked at.
    """

    half_ms: float | None
    ninety_ms: float | None
    share: float


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger of the whole store, all variants, since it was created.

    ``gaps`` is what the log dropped before it was counted; it is part of no balance.
    """

    predictions: Balance
    labels: Balance
    corrected: int
    early: int
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelsView:
    """The Labels page. ``now`` are the delays of the labels that arrived in the last window.

    ``alerts`` are those about ``of`` that speak of the variant, the worst first. ``watched`` counts
    the labelled messages of the range whose true intent is of that group. ``is_evaluated`` tells
    that rules were ever asked.
    """

    freshness: Freshness
    rolling_ms: int
    window: Window
    points: tuple[ArrivalPoint, ...]
    known: Known
    now: Delays | None
    books: Books
    of: str = ""
    alerts: tuple[AlertView, ...] = ()
    watched: int = 0
    is_evaluated: bool = True

    @property
    def predictions(self) -> int:
        """Predictions in the range."""
        return sum(point.predictions for point in self.points)

    @property
    def labelled(self) -> int:
        """Outcomes in the range, by event time."""
        return sum(point.labelled for point in self.points)
