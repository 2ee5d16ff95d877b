"""Signals: what can be measured before labels come; they warn and never page.

::

    settled panes of the log clock --at every tick--> measured --> no_data, ok, warning

A tick is an instant of log time, every five minutes (or every so many panes, where panes do not fit
into that). It looks at panes alone that lie before it and before the watermark: these never change
again, so a signal is a function of the log up to an instant, however the log was read and whenever
somebody looks. Where no records come at all, log time stands still, and so do the signals.

A warning is raised at the first bad tick and ends once all ticks for the hold have been good. A
signal that has had no value for that long has no data.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from monitor.domain.alerts import MOVES, AlertKey, Status, Transition, fingerprint
from monitor.domain.counts import Cell
from monitor.domain.detectors import Evidence
from monitor.domain.errors import IllegalMove
from monitor.domain.measures import MOST_QUIET_MS, Measured, Measures
from monitor.domain.rules import Signal, SignalRule
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import HOUR_MS, MINUTE_MS, WindowSpec

TICK_MS = 5 * MINUTE_MS
MOST_LOOKS = 48
"""Looks at once, one for each rule and variant a tick: an evaluation must not take long."""


class SignalKey(NamedTuple):
    """Rule and variant."""

    rule: str
    variant: str = ALL


@dataclass(frozen=True, slots=True)
class SignalState:
    """Where one signal stands; instants are log time, -1 for never.

    ``since_ms`` is when ``status`` began, ``moves`` counts transitions. Predictions were first seen
    at ``seen_ms`` and last at ``last_ms``. The signal has been good since ``good_ms``, without a
    value since ``quiet_ms``. ``value`` is the latest one, ``limit`` what it is compared with; both
    are None where there is none, and ``reason`` says why. ``error`` and ``past_error`` are those of
    a label-free estimate, over ``checks`` earlier windows.
    """

    status: Status = Status.NO_DATA
    since_ms: int = 0
    moves: int = 0
    seen_ms: int = -1
    last_ms: int = -1
    good_ms: int = -1
    quiet_ms: int = -1
    value: float | None = None
    limit: float | None = None
    reason: str = ""
    error: float | None = None
    past_error: float | None = None
    checks: int = 0


class Signalled(NamedTuple):
    """What an evaluation leaves. Ticks before ``until_ms`` have been worked through."""

    states: dict[SignalKey, SignalState]
    transitions: list[Transition]
    until_ms: int


def tick_ms_of(windows: WindowSpec) -> int:
    """How far apart ticks are: the least whole number of panes that is five minutes or more."""
    return -(-TICK_MS // windows.pane_ms) * windows.pane_ms


def evaluate(
    rules: Sequence[SignalRule],
    states: Mapping[SignalKey, SignalState],
    measures: Measures,
    variants: Callable[[], Iterable[str]],
    *,
    from_ms: int | None,
    until_ms: int,
    starts: Callable[[], Iterable[int]],
) -> Signalled:
    """Work through the ticks from ``from_ms`` on and before ``until_ms``, the watermark.

    ``measures`` may be kept from one call to the next, ``variants`` are those with any predictions.
    ``from_ms`` is where the last evaluation ended, None for the first. ``starts`` tells where hours
    by log time begin that hold anything; it is asked at the beginning and after long silence only.
    At most ``MOST_LOOKS`` are done at once, of one tick at least: ``until_ms`` of the result says
    how far it has come. Of states of rules that are not among ``rules`` the number of moves is
    kept, so that a rule that comes back gives no transition the id of an earlier one.
    """
    names = {rule.name for rule in rules}
    held = {
        key: state if key.rule in names else SignalState(moves=state.moves)
        for key, state in states.items()
        if key.rule in names or state.moves
    }
    tick_ms = tick_ms_of(measures.panes.windows)
    reach_ms = MOST_QUIET_MS + max((rule.window_ms for rule in rules), default=0)
    is_far = from_ms is None or until_ms - from_ms > 2 * reach_ms
    found = sorted(starts()) if rules and is_far else []
    if from_ms is None:
        from_ms = min([*found[:1], until_ms])
    first_ms = -(-from_ms // tick_ms) * tick_ms
    if not rules or first_ms >= until_ms:
        return Signalled(held, [], until_ms)
    ticks = _Ticks(first_ms, until_ms, tick_ms, reach_ms, found if is_far else None)
    run = _Run(rules, held, measures, sorted(set(variants())))
    most = max(1, MOST_LOOKS // max(1, len(run.watched)))
    while ticks.at_ms < until_ms and run.worked < most:
        if not run.is_silent or not ticks.jump():
            run.work(ticks.upcoming(most - run.worked), ticks)
    measures.forget(rules, ticks.at_ms)
    return Signalled(run.states, run.moved, min(ticks.at_ms, until_ms))


class _Ticks:
    """The instants to look at; long empty stretches, in which nothing can change, are left out."""

    def __init__(
        self, at_ms: int, until_ms: int, tick_ms: int, reach_ms: int, starts: list[int] | None
    ) -> None:
        self.at_ms, self._until_ms, self._tick_ms = at_ms, until_ms, tick_ms
        self._reach_ms, self._starts = reach_ms, starts

    def upcoming(self, most: int) -> list[int]:
        """The next ticks, as far as they can be foreseen to be needed."""
        if self._starts is not None:
            most = min(most, self._reach_ms // self._tick_ms)
        last_ms = min(self._until_ms, self.at_ms + most * self._tick_ms)
        return list(range(self.at_ms, last_ms, self._tick_ms))

    def passed(self, tick_ms: int) -> None:
        """One has been worked through."""
        self.at_ms = tick_ms + self._tick_ms

    def jump(self) -> bool:
        """Go to the next hour that holds anything, if this one and all in reach hold nothing."""
        if self._starts is None:
            return False
        later = bisect_left(self._starts, self.at_ms - self._reach_ms - HOUR_MS)
        next_ms = self._starts[later] if later < len(self._starts) else self._until_ms
        next_ms = -(-next_ms // self._tick_ms) * self._tick_ms
        if next_ms <= self.at_ms:
            return False
        self.at_ms = next_ms
        return True


class _Run:
    """One call of ``evaluate``."""

    def __init__(
        self,
        rules: Sequence[SignalRule],
        states: dict[SignalKey, SignalState],
        measures: Measures,
        variants: Sequence[str],
    ) -> None:
        self.states, self.moved = states, list[Transition]()
        self.worked = 0
        self._measures, self._panes = measures, measures.panes
        self.watched = [
            (rule, SignalKey(rule.name, variant))
            for rule in sorted(rules, key=lambda rule: rule.name)
            for variant in _variants_of(rule, variants)
        ]

    @property
    def is_silent(self) -> bool:
        return all(state.status is Status.NO_DATA for state in self.states.values())

    def work(self, instants: Sequence[int], ticks: _Ticks) -> None:
        self._panes.fetch([(rule, key.variant) for rule, key in self.watched], instants)
        for now_ms in instants:
            for rule, key in self.watched:
                self._look(rule, key, now_ms)
            ticks.passed(now_ms)
            self.worked += 1

    def _look(self, rule: SignalRule, key: SignalKey, now_ms: int) -> None:
        state = self.states.get(key)
        window = self._panes.window(rule, key.variant, now_ms)
        if window.get(_N, 0):
            state = state or SignalState()
            seen_ms = state.seen_ms if state.seen_ms >= 0 else now_ms
            state = replace(state, seen_ms=seen_ms, last_ms=now_ms)
        if state is None or state.seen_ms < 0:
            return
        found = self._measures.measure(
            rule, key.variant, window, now_ms, seen_ms=state.seen_ms, last_ms=state.last_ms
        )
        self.states[key] = step(rule, key, state, found, now_ms, self.moved)


_N: Cell = ("n",)


def _variants_of(rule: SignalRule, variants: Iterable[str]) -> Iterable[str]:
    if rule.signal is Signal.REJECTED_SHARE:
        return (ALL,)
    return variants if rule.variant is None else (rule.variant,)


def step(
    rule: SignalRule,
    key: SignalKey,
    state: SignalState,
    found: Measured,
    now_ms: int,
    moved: list[Transition],
) -> SignalState:
    """The signal after one more tick; how it moved is added to ``moved``."""
    state = replace(
        state,
        value=found.value,
        limit=found.limit,
        reason=found.reason,
        error=found.error,
        past_error=found.past_error,
        checks=found.checks,
    )
    if found.value is None:
        quiet_ms = state.quiet_ms if state.quiet_ms >= 0 else now_ms
        state = replace(state, quiet_ms=quiet_ms, good_ms=-1)
        if state.status is not Status.NO_DATA and now_ms - quiet_ms >= rule.hold_ms:
            return _move(rule, key, state, Status.NO_DATA, found, now_ms, moved)
        return state
    good_ms = -1 if found.is_bad else (state.good_ms if state.good_ms >= 0 else now_ms)
    state = replace(state, quiet_ms=-1, good_ms=good_ms)
    if state.status is Status.NO_DATA:
        state = _move(rule, key, state, Status.OK, found, now_ms, moved)
    if found.is_bad and state.status is Status.OK:
        return _move(rule, key, state, Status.WARNING, found, now_ms, moved)
    if state.status is Status.WARNING and not found.is_bad and now_ms - good_ms >= rule.hold_ms:
        return _move(rule, key, state, Status.OK, found, now_ms, moved)
    return state


def _move(
    rule: SignalRule,
    key: SignalKey,
    state: SignalState,
    target: Status,
    found: Measured,
    now_ms: int,
    moved: list[Transition],
) -> SignalState:
    """Enter the move. An estimate without objective is for display: nobody is told of it."""
    if target not in MOVES[state.status]:
        raise IllegalMove(f"signal {key}: no way from {state.status} to {target}")
    if rule.signal is Signal.ESTIMATE and rule.objective is None:
        return replace(state, status=target, since_ms=now_ms)
    alert = AlertKey(rule.name, SliceKey(key.variant))
    moves = state.moves + 1
    evidence = None
    if found.value is not None:
        limit = found.limit if found.limit is not None else 0.0
        start_ms = now_ms - rule.window_ms
        evidence = Evidence(found.hits, found.n, start_ms, found.value, limit)
    moved.append(
        Transition(
            id=f"{fingerprint(alert)}-{moves}",
            rule=rule.name,
            key=alert.key,
            moved_from=state.status,
            moved_to=target,
            at_ms=now_ms,
            evidence=evidence,
            reason=found.reason,
        )
    )
    return replace(state, status=target, since_ms=now_ms, moves=moves)
