"""Seeded courses of recall, weighed by the alert code itself, and what came of each.

A course is traffic with a true recall that changes: a Poisson stream of urgent outcomes, each a hit
with the recall of its instant. All decisions are made by ``monitor.domain.alerts``; what is here
draws votes and counts what the transitions say.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.domain import alerts
from monitor.domain.alerts import AlertKey, AlertState, Event, Judged, Status, Transition
from monitor.domain.maturity import MaturityBook
from monitor.domain.rules import AlertRule
from monitor.domain.slices import SliceKey
from monitor.domain.votes import Role, Vote
from monitor.domain.windows import DAY_MS, HOUR_MS, MINUTE_MS

START_MS = 1_772_409_600_000
BASELINE, OBJECTIVE = 0.92, 0.80
MONTH_HOURS = 720
AMONG = 50
"""The rate, per hour, of everything that is measured at one rate only."""

WARM_UP = 500
"""Good votes before recall falls, so that no detector starts from nothing."""

KEY = SliceKey("fine_tuned")
DROPS = (0.70, 0.50, 0.12)
DROP_DAYS = {0.70: 30, 0.50: 7, 0.12: 3}
"""How long a drop may go on before it counts as missed."""

LOW_DAYS = {5: 30, 50: 7, 500: 3}
"""How long recall stays at 0.70 where false resolves are counted."""

Floats = npt.NDArray[np.float64]
Recall = float | Callable[[Floats], Floats]
Found = dict[str, list[float]]
"""Name of a figure -> what runs found."""


def rule_of(rate: int, *, is_glance: bool = False, maturity_ms: int | None = 0) -> AlertRule:
    """The default rule at so many urgent labels an hour."""
    return AlertRule(
        "urgent-recall",
        "urgent",
        frozenset({"urgent"}),
        OBJECTIVE,
        maturity_ms=maturity_ms,
        baseline=BASELINE,
        evidence=max(alerts.LEAST_BAR, float(rate * MONTH_HOURS)),
        is_glance=is_glance,
    )


class Moved(NamedTuple):
    """A transition, and how many votes the course had cast by then."""

    transition: Transition
    votes: int


@dataclass
class Course:
    """One alert's way through votes at ``rate`` an hour."""

    rule: AlertRule
    rate: int
    dice: np.random.Generator
    now_ms: float = START_MS
    state: AlertState = field(default_factory=AlertState)
    moved: list[Moved] = field(default_factory=list)
    votes: int = 0
    warm: int = 0
    cast: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]] = field(default_factory=list)

    def feed(self, hours: float, recall: Recall, *, until: Status | None = None) -> None:
        """Go on for so long, or until shortly after the alert has come to that status."""
        started_ms, before = self.now_ms, len(self.moved)
        end_ms = started_ms + hours * HOUR_MS
        size = 32 if until else max(64, min(20_000, int(hours * self.rate * 1.1)))
        while self.now_ms < end_ms:
            ats = self.now_ms + np.cumsum(self.dice.exponential(HOUR_MS / self.rate, size))
            self.now_ms = min(float(ats[-1]), end_ms)
            ats = ats[ats < end_ms]
            shares = recall if isinstance(recall, float) else recall((ats - started_ms) / HOUR_MS)
            self._weigh(ats.astype(np.int64), self.dice.random(len(ats)) < shares)
            if until and any(m.transition.moved_to is until for m in self.moved[before:]):
                return

    def warm_up(self) -> int:
        """Cast good votes; how many there were."""
        self.feed(WARM_UP / self.rate, BASELINE)
        self.warm = self.votes
        return self.warm

    def raised(self, since: int = 0, status: Status = Status.FIRING) -> list[Moved]:
        """Pages (or warnings) after so many votes; a relapse is none."""
        return [
            m
            for m in self.moved
            if m.votes > since
            and m.transition.event is Event.MOVED
            and m.transition.moved_to is status
            and m.transition.moved_from is not Status.RECOVERING
        ]

    def resolved(self, since: int = 0) -> list[Moved]:
        """Pages that ended after so many votes."""
        ended = {Status.FIRING, Status.RECOVERING}
        return [
            m
            for m in self.moved
            if m.votes > since
            and m.transition.moved_to is Status.OK
            and m.transition.moved_from in ended
        ]

    def _weigh(self, ats: npt.NDArray[np.int64], hits: npt.NDArray[np.bool_]) -> None:
        found: list[Transition] = []
        self.cast.append((ats, hits))
        votes = drawn(self.rule, ats, hits, first=self.votes)
        alerts.advance(self.rule, AlertKey(self.rule.name, KEY), self.state, votes, found)
        for transition in found:
            count = int(np.searchsorted(ats, transition.at_ms, side="right"))
            self.moved.append(Moved(transition, self.votes + count))
        self.votes += len(ats)


def drawn(
    rule: AlertRule,
    ats: npt.NDArray[np.int64],
    hits: npt.NDArray[np.bool_],
    *,
    first: int = 0,
) -> Iterator[Vote]:
    """Votes as the engine makes them of outcomes that are labelled at once, numbered on."""
    times = ats.tolist()
    names = map("{:08}".format, range(first, first + len(times)))
    blanks = repeat("")
    return map(
        Vote._make,
        zip(
            times,
            names,
            repeat(rule.name),
            repeat(KEY),
            times,
            hits.tolist(),
            repeat(Role.LIVE),
            *(blanks,) * 5,
        ),
    )


def healthy(course: Course, recall: float) -> Found:
    """A month at one recall."""
    course.feed(MONTH_HOURS, recall)
    return {
        f"pages at {recall}": [float(len(course.raised()))],
        f"warnings at {recall}": [float(len(course.raised(status=Status.WARNING)))],
    }


def drop(course: Course, recall: float) -> Found:
    """A fall that lasts: labels to the warning and to the page."""
    before = course.warm_up()
    course.feed(DROP_DAYS[recall] * 24, recall, until=Status.FIRING)
    pages = course.raised(before)
    heard = sorted(m.votes for m in (*pages, *course.raised(before, Status.WARNING)))
    return {
        f"missed at {recall}": [float(not pages)],
        f"labels to page at {recall}": [float(m.votes - before) for m in pages[:1]],
        f"labels to warning at {recall}": [float(votes - before) for votes in heard[:1]],
    }


def ramp(course: Course, _: float) -> Found:
    """Recall sinks to 0.50 within a day."""
    before = course.warm_up()
    began_ms = course.now_ms

    def sinking(hours: Floats) -> Floats:
        return BASELINE - (BASELINE - 0.50) * np.minimum(hours / 24, 1)

    course.feed(7 * 24, sinking, until=Status.FIRING)
    passed = [m.transition.at_ms - began_ms for m in course.raised(before)[:1]]
    return {"hours of the ramp": [ms // MINUTE_MS * MINUTE_MS / HOUR_MS + 1 / 60 for ms in passed]}


def low(course: Course, recall: float) -> Found:
    """Recall falls and stays there: every resolve is a false one."""
    before = course.warm_up()
    course.feed(LOW_DAYS[course.rate] * 24, recall)
    return {"false resolves": [float(len(course.resolved(before)))]}


def back(course: Course, recall: float) -> Found:
    """Recall falls, pages, and comes back once the hold is over."""
    course.warm_up()
    course.feed(7 * 24, recall, until=Status.FIRING)
    course.feed(1, recall)
    before = course.votes
    course.feed(30 * 24, BASELINE, until=Status.OK)
    resolved = [m.votes for m in course.resolved(before)[:1]]
    course.feed(24, BASELINE)
    refires = len(course.raised(resolved[0])) if resolved else 0
    return {
        "labels to resolve": [float(votes - before) for votes in resolved],
        "fires again": [float(refires)],
    }


COURSES: dict[str, tuple[Callable[[Course, float], Found], float]] = {
    "healthy": (healthy, BASELINE),
    "above the objective": (healthy, 0.82),
    "at the objective": (healthy, OBJECTIVE),
    "drop to 0.70": (drop, 0.70),
    "drop to 0.50": (drop, 0.50),
    "drop to 0.12": (drop, 0.12),
    "ramp": (ramp, 0.50),
    "stays low": (low, 0.70),
    "comes back": (back, 0.50),
}


def dice_of(seed: int, *names: str | int) -> np.random.Generator:
    """The dice of one run: names and numbers say which."""
    words = [int.from_bytes(str(name).encode(), "big") for name in names]
    return np.random.default_rng([seed, *words])


def course_of(name: str, rate: int, seed: int, run: int) -> tuple[Course, Found]:
    """One run of a course by name, through the detector and the state machine."""
    follow, recall = COURSES[name]
    course = Course(rule_of(rate), rate, dice_of(seed, name, rate, run))
    return course, follow(course, recall)


def glance_of(name: str, rate: int, seed: int, run: int) -> Found:
    """The same course, drawn alike, as the at-a-glance detector sees it."""
    follow, recall = COURSES[name]
    course = Course(rule_of(rate, is_glance=True), rate, dice_of(seed, name, rate, run))
    return {f"glance: {figure}": values for figure, values in follow(course, recall).items()}


#                                  Late labels: day and night, through books and held votes


class Delays(NamedTuple):
    """Hours that every label of a class takes at least, and the mean of what comes on top."""

    hits: tuple[float, float]
    misses: tuple[float, float]


DELAYS = {
    "misses late": Delays(hits=(0.0, 1.0), misses=(12.0, 2.0)),
    "hits late": Delays(hits=(12.0, 2.0), misses=(0.0, 0.5)),
}
DAY_AND_NIGHT = 0.7
SETTLED_DAYS = 5
"""Days after which the first estimates of the maturity rest on complete labels."""


def late(
    name: str,
    rate: int,
    dice: np.random.Generator,
    *,
    days: int = 30,
    falls_to: float = BASELINE,
    is_even: bool = False,
) -> Found:
    """Labels that come late for one outcome; recall may fall for good on the 20th day.

    Traffic swings between day and night unless it ``is_even``.
    """
    ats = _tides(rate, days, dice, 0.0 if is_even else DAY_AND_NIGHT)
    fell_ms = START_MS + 20 * DAY_MS
    hits = dice.random(len(ats)) < np.where(ats < fell_ms, BASELINE, falls_to)
    own = DELAYS[name]
    least = np.where(hits, own.hits[0], own.misses[0])
    more = np.where(hits, own.hits[1], own.misses[1])
    known = (ats + (least + dice.exponential(1, len(ats)) * more) * HOUR_MS).astype(np.int64)
    rule = rule_of(rate, maturity_ms=None)
    kept = alerts.evaluate([rule], {}, [], START_MS)
    order = np.argsort(known, kind="stable")
    waiting = [
        Vote(int(known[n]), f"{n:08}", rule.name, KEY, int(ats[n]), bool(hits[n]), Role.ARRIVAL)
        for n in order
    ]
    return _Tide(rule, name, fell_ms if falls_to < BASELINE else None).follow(kept, waiting, days)


def _tides(rate: int, days: int, dice: np.random.Generator, swing: float) -> npt.NDArray[np.int64]:
    """A Poisson stream with busy days and quiet nights, by thinning."""
    peak = rate * (1 + swing)
    drawn_ms = np.sort(dice.random(dice.poisson(peak * days * 24))) * days * DAY_MS
    wave = (1 + swing * np.sin(2 * np.pi * drawn_ms / DAY_MS)) / (1 + swing)
    kept: npt.NDArray[np.float64] = drawn_ms[dice.random(len(drawn_ms)) < wave]
    return (START_MS + kept).astype(np.int64)


@dataclass
class _Tide:
    """Evaluations every six hours over votes that arrive late."""

    rule: AlertRule
    name: str
    fell_ms: int | None

    def follow(self, kept: Judged, waiting: list[Vote], days: int) -> Found:
        shown, moved, at = list[float](), list[Transition](), 0
        held: list[Vote] = []
        for hours in range(6, days * 24 + 1, 6):
            until_ms = START_MS + hours * HOUR_MS
            released = [vote for vote in held if vote.release_ms < until_ms]
            held = [vote for vote in held if vote.release_ms >= until_ms]
            first = at
            while at < len(waiting) and waiting[at].release_ms < until_ms:
                at += 1
            kept = alerts.evaluate(
                [self.rule], kept.states, released + waiting[first:at], until_ms, books=kept.books
            )
            held += kept.held
            moved += kept.transitions
            for state in kept.states.values() if hours >= SETTLED_DAYS * 24 else ():
                hits, n = state.recent_votes
                shown.append(hits / n)
        return self._found(shown, moved, kept.books[self.rule.name])

    def _found(self, shown: list[float], moved: list[Transition], book: MaturityBook) -> Found:
        pages = [t.at_ms for t in moved if t.moved_to is Status.FIRING and t.event is Event.MOVED]
        if self.fell_ms is None:
            return {
                f"{self.name}: pages": [float(len(pages))],
                f"{self.name}: shown": [float(np.mean(shown))],
                f"{self.name}: maturity": [book.maturity_ms / HOUR_MS],
            }
        late_ms = [at - self.fell_ms for at in pages if at >= self.fell_ms][:1]
        past = [(ms - book.maturity_ms) / HOUR_MS for ms in late_ms]
        return {f"{self.name}: hours past the maturity": past or [float("inf")]}


CONVERSATION = 8
"""Mean number of urgent items in a conversation; geometric."""


def clustered(rate: int, dice: np.random.Generator, *, days: int = 30, rho: float = 0.5) -> Found:
    """Misses that come together: the items of a conversation share one beta-distributed recall."""
    talks = int(rate * 24 * days / CONVERSATION)
    sizes = dice.geometric(1 / CONVERSATION, talks)
    shares = dice.beta(BASELINE * (1 / rho - 1), (1 - BASELINE) * (1 / rho - 1), talks)
    begun = START_MS + np.sort(dice.random(talks)) * days * DAY_MS
    turns = np.concatenate([np.arange(size) for size in sizes])
    whose = np.repeat(np.arange(talks), sizes)
    ats = (begun[whose] + turns * MINUTE_MS).astype(np.int64)
    hits = dice.random(len(ats)) < shares[whose]
    rule = rule_of(rate)
    votes = [
        Vote(at, f"{n:08}", rule.name, KEY, at, hit, conversation=f"{talk:016x}")
        for n, (at, hit, talk) in enumerate(
            zip(ats.tolist(), hits.tolist(), whose.tolist(), strict=True)
        )
    ]
    found = alerts.evaluate([rule], {}, votes, START_MS + (days + 1) * DAY_MS)
    pages = sum(t.moved_to is Status.FIRING and t.event is Event.MOVED for t in found.transitions)
    return {"clustered: pages": [float(pages)]}


def merged(many: Iterator[Found] | list[Found]) -> Found:
    """What several runs found, one after the other."""
    total: defaultdict[str, list[float]] = defaultdict(list)
    for found in many:
        for figure, values in found.items():
            total[figure] += values
    return dict(total)
