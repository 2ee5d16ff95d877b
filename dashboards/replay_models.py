"""View models of the page "Replay and audit": what was known at an instant, and what proves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dashboards.banner import Freshness
from dashboards.models import Point, Span
from monitor.domain.alerts import AlertKey, Event, Status, Transition
from monitor.domain.journal import JournalEntry
from monitor.domain.scores import Score
from monitor.domain.windows import Window


class Known(StrEnum):
    """Whose knowledge is shown: that of the instant, today's, or both side by side."""

    THEN = "then"
    NOW = "now"
    COMPARE = "compare"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a viewer wants replayed. ``at_ms`` None stands for the newest instant there is."""

    at_ms: int | None = None
    known: Known = Known.THEN


@dataclass(frozen=True, slots=True)
class Jump:
    """A moment at which somebody was told; ``at_ms`` is the first pane end at which it shows."""

    id: str
    at_ms: int
    title: str


@dataclass(frozen=True, slots=True)
class Moments:
    """The instants that can be asked for, ends of panes; ``newest_ms`` None before any record."""

    oldest_ms: int
    newest_ms: int | None
    pane_ms: int
    jumps: tuple[Jump, ...] = ()

    def moment_of(self, mark: str) -> Jump | None:
        """When a transition, or an alert the last time, told somebody; None for an unknown one."""
        return next((j for j in self.jumps if mark in {j.id, j.id.rsplit("-", 1)[0]}), None)

    def nearest(self, at_ms: int | None) -> int:
        """The last instant not after ``at_ms`` that can be shown; bounded by newest and oldest."""
        newest_ms = self.newest_ms or 0
        if at_ms is None or at_ms >= newest_ms:
            return newest_ms
        return max(at_ms - at_ms % self.pane_ms, self.oldest_ms)


@dataclass(frozen=True, slots=True)
class GroupScore:
    """Recall of a declared group, and the objective that a rule had for it, if any."""

    name: str
    recall: Score
    hits: int
    objective: float | None


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of ``[window)`` under one kind of knowledge.

    Then: labels are those that became known within the window, whatever they are about, and
    ``of_window`` how many of them are about the predictions of the window. Now: both are the
    labels of its predictions. ``points`` are those of the watched group, rolling.
    """

    predictions: int
    labelled: int
    of_window: int
    groups: tuple[GroupScore, ...]
    accuracy: Score
    points: tuple[Point, ...]

    def group(self, name: str) -> GroupScore | None:
        """One of the groups."""
        return next((row for row in self.groups if row.name == name), None)

    @property
    def missing(self) -> int:
        """Predictions of the window without a label."""
        return max(0, self.predictions - self.of_window)

    @property
    def coverage(self) -> float | None:
        """Share of the window's predictions with a label; None where nothing was predicted."""
        return self.of_window / self.predictions if self.predictions else None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one alert stood, by its transitions up to the instant.

    ``last`` moved it there. ``hindsight`` is what was found out later, None where that is not
    asked for, or nothing was.
    """

    alert: AlertKey
    of: str
    status: Status
    last: Transition
    is_stalled: bool = False
    hindsight: Transition | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """The journal's entry of the instant: the last with a tick not after it.

    ``is_sealed``: its hash is that of its content; ``follows`` that it names the hash of the entry
    before, None when that one is not kept. ``document`` are its settings, "" when they are not
    kept; ``is_document`` that these have the digest it names. ``around`` are entries next to it.
    ``later`` are changes of the settings since, in words, None where that is not asked for.
    """

    entry: JournalEntry
    head: JournalEntry
    is_sealed: bool
    follows: bool | None
    document: str
    is_document: bool
    around: tuple[JournalEntry, ...]
    later: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RuleThen:
    """A rule as it stood in the settings of the instant."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """The page. Nothing in it was told after ``at_ms``, unless ``known`` asks for it.

    ``then`` and ``now`` are None where they are not asked for, or ``is_kept`` is false: the panes
    have been dropped. ``objective`` is that of then, unless today's numbers alone are shown.
    ``pane_ms`` is the size of the panes looked at. ``moves`` are the transitions
    up to the instant, oldest first; ``judged`` the judgements made since, and drops found since.
    ``journal_fault`` says why the journal cannot be read, "" while it can.
    """

    freshness: Freshness
    variants: tuple[str, ...]
    of: str
    known: Known
    at_ms: int
    window: Window
    pane_ms: int
    rolling_ms: int
    is_kept: bool
    then: Numbers | None
    now: Numbers | None
    objective: float | None
    spans: tuple[Span, ...]
    standings: tuple[Standing, ...]
    moves: tuple[Transition, ...]
    judged: tuple[Transition, ...]
    versions: Mapping[str, tuple[str, ...]]
    rules: tuple[RuleThen, ...]
    proof: Proof | None
    journal_fault: str

    @property
    def shown(self) -> Numbers | None:
        """What the chart and the cards are about."""
        return self.now if self.known is Known.NOW else self.then

    @property
    def raised(self) -> tuple[Transition, ...]:
        """The moments up to the instant at which somebody was told, the newest first."""
        return tuple(move for move in reversed(self.moves) if is_raised(move))


def is_raised(move: Transition) -> bool:
    """Whether a transition tells somebody: it fires, or warns."""
    is_up = move.moved_to in {Status.WARNING, Status.FIRING}
    return move.event is Event.MOVED and is_up
