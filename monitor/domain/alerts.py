"""Should somebody be told? Votes in release order, and deadlines, make alerts move.

::

                 evidence against the floor
    no_data --> ok ----------------------> warning --evidence, hold over--> ok
                |                             |
                | evidence against            | evidence against
                v the objective               v the objective
              firing <------------------------+
                |  ^ not clear
      clear,    v  |
      hold on  recovering --hold over--> ok          any --another version answers--> no_data

*Resolved* is the move to ok, an instant, not a state. *Stalled*, no vote for longer than chance
allows, lies over the state and never changes it: silence resolves nothing. Time moves only by log
time: a vote happens at its release, a deadline at its instant, and all are worked through in order,
so that the same votes give the same transitions whenever somebody looks.

Whose alert it is says ``AlertKey``: evidence about one version says nothing of another.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from monitor.domain import detectors
from monitor.domain.detectors import (
    Evidence,
    Glance,
    Mixture,
    Recovery,
    down_factors,
    up_factors,
)
from monitor.domain.errors import IllegalMove
from monitor.domain.events import Intent
from monitor.domain.maturity import MaturityBook
from monitor.domain.rules import AlertRule
from monitor.domain.slices import SliceKey
from monitor.domain.votes import Role, Vote

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
HOURS_A_DAY = 24
WEEK_MS, MONTH_MS = 7 * DAY_MS, 30 * DAY_MS

FIRST_BAR, LEAST_BAR = 36_000.0, 10_000.0
"""Bars of evidence where the rule gives none: for the first week, and at least."""

STALL_GAPS = 7
"""So many mean gaps without a vote are no accident: P < 0.001 if votes come independently."""

STALL_LEAST_MS = HOUR_MS
"""Labels come in lots: a shorter silence means nothing."""

LONGEST_GAP_MS = 12 * HOUR_MS
"""A gap is learnt up to here: a quiet night is usual, a quiet day is not."""

STALL_VOTES = 20
"""Votes from which on a mean gap is believed."""

RECENT_VOTES = 60
"""Votes that are shown where there is no evidence; one bit each of a whole number."""

GAP_MEMORY = 100
"""Votes over which the mean gap is smoothed."""

SUPERSEDED_MS = DAY_MS
"""A version without a vote for so long, while another one votes, is not in use any more."""

CONVERSATION_MS = WEEK_MS
"""How long a conversation that has voted is remembered."""

MOST_MISSED, MOST_EPISODES, MOST_CORRECTED = 5, 10, 100


class Status(StrEnum):
    """States of an alert; the words of code, log, metric and dashboard alike."""

    NO_DATA = "no_data"
    OK = "ok"
    WARNING = "warning"
    FIRING = "firing"
    RECOVERING = "recovering"


MOVES: Mapping[Status, frozenset[Status]] = {
    Status.NO_DATA: frozenset({Status.OK}),
    Status.OK: frozenset({Status.WARNING, Status.FIRING, Status.NO_DATA}),
    Status.WARNING: frozenset({Status.FIRING, Status.OK, Status.NO_DATA}),
    Status.FIRING: frozenset({Status.RECOVERING, Status.OK, Status.NO_DATA}),
    Status.RECOVERING: frozenset({Status.FIRING, Status.OK, Status.NO_DATA}),
}
"""Where each state may go."""


class Event(StrEnum):
    """What a transition records. Only ``moved`` changes the state.

    ``confirmed`` and ``retracted`` judge an earlier transition, ``raised`` enters a drop that no
    alert reported, each once the labels are complete; what was known then is not overwritten.
    """

    MOVED = "moved"
    STALLED = "stalled"
    RESUMED = "resumed"
    MATURITY = "maturity"
    CONFIRMED = "confirmed"
    RETRACTED = "retracted"
    RAISED = "raised"


class AlertKey(NamedTuple):
    """Rule, whose numbers, and the version that answered ("" where records name none)."""

    rule: str
    key: SliceKey
    version: str = ""


class Missed(NamedTuple):
    """A miss, as an example: which prediction, and where it went."""

    prediction_id: str
    event_ms: int
    predicted: Intent
    actual: Intent


class Judgement(NamedTuple):
    """A transition that awaits its judgement: final outcomes of ``[from_ms, to_ms]`` so far."""

    id: str
    null: float
    from_ms: int
    to_ms: int
    hits: int
    n: int
    due_ms: int


@dataclass(slots=True)
class Shadow:
    """The same detector over complete labels, for hindsight.

    ``episodes`` are ``(began, ended)`` of the latest times at which the alert was firing: the event
    time from which on votes spoke for it, and the log time at which it ended, -1 while it is.
    """

    page: Mixture = field(default_factory=Mixture)
    up: Recovery = field(default_factory=Recovery)
    is_firing: bool = False
    judgements: list[Judgement] = field(default_factory=list)
    episodes: list[tuple[int, int]] = field(default_factory=list)

    def copy(self) -> "Shadow":
        """One of its own that can be changed."""
        return Shadow(
            self.page.copy(),
            self.up.copy(),
            self.is_firing,
            self.judgements.copy(),
            self.episodes.copy(),
        )


@dataclass(slots=True)
class AlertState:
    """Where one alert stands. ``since_ms`` is when ``status`` began, by log time.

    ``fired_ms`` is when it last left ok, ``moves`` counts transitions. ``votes`` of this version,
    the last released at ``last_ms`` when the maturity was ``wait_ms``, come ``gap_ms`` apart on
    average and were at most ``longest_ms`` apart; ``is_relieved`` says that another version has
    voted since. ``recent`` holds the last 60 votes as bits, 1
    for a hit, the newest lowest. ``bar`` is the evidence it takes; ``week_votes`` since ``week_ms``
    decide the next bar. ``corrected`` are event times of votes that a label changed after they had
    counted.
    """

    status: Status = Status.NO_DATA
    since_ms: int = 0
    fired_ms: int = 0
    moves: int = 0
    glance: Glance = field(default_factory=Glance)
    page: Mixture = field(default_factory=Mixture)
    warn: Mixture = field(default_factory=Mixture)
    up: Recovery = field(default_factory=Recovery)
    votes: int = 0
    recent: int = 0
    last_ms: int = 0
    gap_ms: float = 0.0
    longest_ms: int = 0
    wait_ms: int = 0
    is_stalled: bool = False
    is_relieved: bool = False
    bar: float = FIRST_BAR
    week_ms: int = 0
    week_votes: int = 0
    missed: tuple[Missed, ...] = ()
    corrected: tuple[int, ...] = ()
    shadow: Shadow = field(default_factory=Shadow)

    def copy(self) -> "AlertState":
        """One of its own that can be changed."""
        return replace(
            self,
            page=self.page.copy(),
            warn=self.warn.copy(),
            up=self.up.copy(),
            shadow=self.shadow.copy(),
        )

    @property
    def recent_votes(self) -> tuple[int, int]:
        """Hits among the last votes and how many these are, at most 60."""
        return self.recent.bit_count(), min(self.votes, RECENT_VOTES)


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state with what it stands on; ``at_ms`` is log time.

    ``missed`` are the latest misses by then, ``corrected`` the votes since ``evidence.since_ms``
    that a label changed after they had counted. ``judges`` is the id of the transition that a
    judgement in hindsight is about. ``cut`` is how far the log had been read when it was found, as
    ``topic[partition]`` and next offset: provenance, not part of what a replay has to reproduce.
    """

    id: str
    rule: str
    key: SliceKey
    moved_from: Status
    moved_to: Status
    at_ms: int
    evidence: Evidence | None
    reason: str
    cut: tuple[tuple[str, int], ...] = ()
    version: str = ""
    event: Event = Event.MOVED
    judges: str = ""
    missed: tuple[Missed, ...] = ()
    corrected: int = 0

    @property
    def alert(self) -> AlertKey:
        """Whose."""
        return AlertKey(self.rule, self.key, self.version)


class Judged(NamedTuple):
    """What an evaluation leaves: ``held`` votes go back to wait, ``spoken`` have now voted.

    ``spoken`` maps a voice, which is a conversation before one alert, to the release of its vote.
    ``counted`` are the live votes that detectors were given, in that order.
    """

    states: dict[AlertKey, AlertState]
    books: dict[str, MaturityBook]
    transitions: list[Transition]
    held: list[Vote]
    spoken: dict[str, int]
    counted: list[Vote]


def in_order(transitions: Iterable[Transition]) -> list[Transition]:
    """By instant; those of one alert at one instant stay in the order it made them."""
    return sorted(transitions, key=lambda t: (t.at_ms, t.rule, t.key, t.version))


def fingerprint(alert: AlertKey) -> str:
    """Stable short id of one alert: eight hexadecimal digits."""
    return hashlib.sha256(
        "\x1f".join((alert.rule, *alert.key, alert.version)).encode()
    ).hexdigest()[:8]


def is_silent(spoke_ms: int, watermark_ms: int) -> bool:
    """Whether what a voice said at ``spoke_ms`` does not matter any more."""
    return spoke_ms + CONVERSATION_MS <= watermark_ms


def voice_of(vote: Vote) -> str | None:
    """Under what name a vote's conversation speaks to its alert; None for a vote of its own."""
    if not vote.conversation or vote.role in {Role.CORRECTION, Role.PAIR}:
        return None
    kind = "h" if vote.role is Role.HINDSIGHT else "l"
    return f"{kind}{fingerprint(AlertKey(vote.rule, vote.key, vote.version))}{vote.conversation}"


def evaluate(
    rules: Iterable[AlertRule],
    states: Mapping[AlertKey, AlertState],
    votes: Iterable[Vote],
    watermark_ms: int,
    *,
    books: Mapping[str, MaturityBook] | None = None,
    spoken: Mapping[str, int] | None = None,
) -> Judged:
    """Work through ``votes`` in release order, then through deadlines before ``watermark_ms``.

    How the votes are split over calls makes no difference. ``spoken`` are those of the votes'
    voices that have spoken before, with the release of their vote. Votes and states of rules that
    are not among ``rules`` are dropped, but for the number of moves: a rule that comes back starts
    afresh, and gives no transition the id of an earlier one.
    """
    return _Evaluation(rules, states, books or {}, spoken or {}).run(votes, watermark_ms)


class _Evaluation:
    """One call of ``evaluate``: copies what it changes."""

    def __init__(
        self,
        rules: Iterable[AlertRule],
        states: Mapping[AlertKey, AlertState],
        books: Mapping[str, MaturityBook],
        spoken: Mapping[str, int],
    ) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._before = {k: state for k, state in states.items() if k.rule in self._rules}
        self._states: dict[AlertKey, AlertState] = {}
        self._gone = {
            alert: AlertState(moves=state.moves)
            for alert, state in states.items()
            if alert.rule not in self._rules and state.moves
        }
        self._books = {name: book.copy() for name, book in books.items() if name in self._rules}
        self._spoken, self._new = spoken, dict[str, int]()
        self._moved: list[Transition] = []
        self._counted: list[Vote] = []
        self._family: dict[tuple[str, SliceKey], list[AlertKey]] = {}
        self._slices: Counter[str] = Counter()
        for alert in self._before:
            self._join_family(alert)

    def run(self, votes: Iterable[Vote], watermark_ms: int) -> Judged:
        queue, held = sorted(votes), list[Vote]()
        while queue:
            vote = heapq.heappop(queue)
            rule = self._rules.get(vote.rule)
            if rule is None:
                continue
            if vote.role is Role.ARRIVAL:
                ripe = self._ripened(rule, vote)
                if ripe.release_ms < watermark_ms:
                    heapq.heappush(queue, ripe)
                else:
                    held.append(ripe)
            elif not self._has_spoken(vote):
                self._take(rule, vote)
        last_ms = watermark_ms - 1
        for alert, before in self._before.items():
            rule = self._rules[alert.rule]
            if alert not in self._states and _next_deadline(rule, before, last_ms):
                self._own(alert)
        for alert, state in self._states.items():
            settle(self._rules[alert.rule], alert, state, last_ms, self._moved)
        states = {**self._gone, **self._before, **self._states}
        moved = in_order(self._moved)
        return Judged(states, self._books, moved, held, self._new, self._counted)

    def _ripened(self, rule: AlertRule, vote: Vote) -> Vote:
        """The vote as it counts once it is mature, by what is known of delays when it arrives."""
        book = self._books.setdefault(rule.name, MaturityBook())
        for change in book.observe(vote.release_ms, vote.event_ms, vote.hit, rule.objective):
            self._moved.append(
                Transition(
                    id=f"{fingerprint(AlertKey(rule.name, SliceKey()))}-m{change.number}",
                    rule=rule.name,
                    key=SliceKey(),
                    moved_from=Status.OK,
                    moved_to=Status.OK,
                    at_ms=vote.release_ms,
                    evidence=None,
                    reason=change.reason,
                    event=Event.MATURITY,
                )
            )
        release_ms = max(vote.release_ms, vote.event_ms + book.maturity_ms)
        return vote._replace(release_ms=release_ms, role=Role.LIVE)

    def _has_spoken(self, vote: Vote) -> bool:
        """Whether the conversation has voted before, a week ago at most; it has now."""
        voice = voice_of(vote)
        if voice is None:
            return False
        last_ms = self._new.get(voice, self._spoken.get(voice))
        if last_ms is not None and vote.release_ms - last_ms < CONVERSATION_MS:
            return True
        self._new[voice] = vote.release_ms
        return False

    def _take(self, rule: AlertRule, vote: Vote) -> None:
        alert = AlertKey(vote.rule, vote.key, vote.version)
        state = self._states.get(alert) or self._own(alert)
        if vote.role is Role.LIVE:
            self._counted.append(vote)
            self._relieve(alert, vote.release_ms)
            slices, wait_ms = self._slices[rule.name], self._maturity(rule)
            advance(rule, alert, state, (vote,), self._moved, slices=slices, wait_ms=wait_ms)
            return
        settle(rule, alert, state, vote.release_ms, self._moved)
        if vote.role is Role.CORRECTION:
            state.corrected = (*state.corrected, vote.event_ms)[-MOST_CORRECTED:]
        else:
            _look_back(rule, alert, state, vote, self._moved)

    def _own(self, alert: AlertKey) -> AlertState:
        """A state that can be changed: a copy of what it was before, or a new one."""
        if alert not in self._states:
            before = self._before.get(alert)
            if before is None:
                self._join_family(alert)
            self._states[alert] = AlertState() if before is None else before.copy()
        return self._states[alert]

    def _join_family(self, alert: AlertKey) -> None:
        family = self._family.setdefault((alert.rule, alert.key), [])
        self._slices[alert.rule] += not family
        family.append(alert)

    def _maturity(self, rule: AlertRule) -> int:
        if rule.maturity_ms is not None:
            return rule.maturity_ms
        book = self._books.get(rule.name)
        return book.maturity_ms if book else 0

    def _relieve(self, voting: AlertKey, at_ms: int) -> None:
        """Other versions need not vote now; those silent for a day are not in use any more."""
        family = self._family[voting.rule, voting.key]
        for alert in family if len(family) > 1 else ():
            held = self._states.get(alert) or self._before[alert]
            if alert == voting or held.status is Status.NO_DATA:
                continue
            rule, state = self._rules[alert.rule], self._own(alert)
            settle(rule, alert, state, at_ms, self._moved)
            _resume(rule, alert, state, at_ms, self._moved)
            state.is_relieved = True
            if at_ms - state.last_ms < SUPERSEDED_MS:
                continue
            reason = f"no mature label for a day; {voting.version or 'another version'} answers now"
            _move(rule, alert, state, Status.NO_DATA, at_ms, None, reason, self._moved)
            self._states[alert] = AlertState(
                Status.NO_DATA, at_ms, moves=state.moves, shadow=state.shadow
            )


def step(
    rule: AlertRule, alert: AlertKey, state: AlertState, vote: Vote
) -> tuple[AlertState, list[Transition]]:
    """The alert after one more live vote, and how it moved; votes must come in release order."""
    after, moved = state.copy(), list[Transition]()
    advance(rule, alert, after, (vote,), moved, wait_ms=rule.maturity_ms or 0)
    return after, moved


def advance(
    rule: AlertRule,
    alert: AlertKey,
    state: AlertState,
    votes: Iterable[Vote],
    moved: list[Transition],
    *,
    slices: int = 1,
    wait_ms: int = 0,
) -> None:
    """Change ``state`` by live votes, which must come in release order, and say so in ``moved``.

    ``slices`` share the rule's budget of false pages; ``wait_ms`` is the maturity now.
    """
    for vote in votes:
        settle(rule, alert, state, vote.release_ms, moved)
        _weigh(rule, alert, state, vote, moved, slices, wait_ms)


def settle(
    rule: AlertRule, alert: AlertKey, state: AlertState, now_ms: int, moved: list[Transition]
) -> None:
    """Change ``state`` by the deadlines up to ``now_ms``: holds, stalls, judgements, in order."""
    while due := _next_deadline(rule, state, now_ms):
        at_ms, act = due
        act(rule, alert, state, at_ms, moved)


_Act = Callable[[AlertRule, AlertKey, AlertState, int, list[Transition]], None]


def _next_deadline(rule: AlertRule, state: AlertState, now_ms: int) -> tuple[int, _Act] | None:
    """The earliest deadline that has come, and what happens there; None when there is none."""
    found: tuple[int, _Act] | None = None
    status = state.status
    if (status is _WARNING or status is _RECOVERING) and _is_clear(rule, state):
        found = state.fired_ms + rule.hold_ms, _end_hold
    if state.votes >= STALL_VOTES and not (state.is_stalled or state.is_relieved):
        stall_ms = state.last_ms + stall_after_ms(state)
        if found is None or stall_ms < found[0]:
            found = stall_ms, _stall
    for judgement in state.shadow.judgements[:1]:
        if found is None or judgement.due_ms < found[0]:
            found = judgement.due_ms, _judge
    return found if found and found[0] <= now_ms else None


_NO_DATA, _OK, _WARNING, _FIRING, _RECOVERING = Status
"""Members at hand: looking them up in the class costs as much as half a vote."""


def stall_after_ms(state: AlertState) -> int:
    """How long after the last vote the feed of labels is held to have stalled.

    The maturity and seven mean gaps, or twice the longest gap if that is more: nights are quiet.
    An hour at least.
    """
    quiet_ms = max(int(STALL_GAPS * state.gap_ms), 2 * state.longest_ms, STALL_LEAST_MS)
    return state.wait_ms + quiet_ms


def _end_hold(
    rule: AlertRule, alert: AlertKey, state: AlertState, at_ms: int, moved: list[Transition]
) -> None:
    good = _good(rule, state)
    _resolve(rule, alert, state, at_ms, good, f"{_text(rule, good)}; the hold is over", moved)


def _stall(
    rule: AlertRule, alert: AlertKey, state: AlertState, at_ms: int, moved: list[Transition]
) -> None:
    state.is_stalled = True
    quiet = _words(at_ms - state.last_ms)
    _note(rule, alert, state, What(Event.STALLED, at_ms, f"no mature label for {quiet}"), moved)


def _weigh(
    rule: AlertRule,
    alert: AlertKey,
    state: AlertState,
    vote: Vote,
    moved: list[Transition],
    slices: int,
    wait_ms: int,
) -> None:
    """Change ``state`` by one live vote."""
    at_ms, hit = vote.release_ms, vote.hit
    _keep_pace(rule, alert, state, at_ms, moved, slices)
    state.wait_ms = wait_ms
    state.recent = (state.recent << 1 | hit) & _RECENT
    if not hit:
        missed = Missed(vote.prediction_id, vote.event_ms, vote.predicted, vote.actual)
        state.missed = (*state.missed, missed)[-MOST_MISSED:]
    if state.status is _NO_DATA:
        first = Evidence(int(hit), 1, vote.event_ms, 0.0, state.bar)
        _move(rule, alert, state, Status.OK, at_ms, first, "first mature label", moved)
    if rule.is_glance:
        _weigh_glance(rule, alert, state, vote, moved)
    else:
        _weigh_evidence(rule, alert, state, vote, moved)


_RECENT = (1 << RECENT_VOTES) - 1


def _weigh_evidence(
    rule: AlertRule, alert: AlertKey, state: AlertState, vote: Vote, moved: list[Transition]
) -> None:
    at_ms, hit, event_ms = vote.release_ms, vote.hit, vote.event_ms
    floor = rule.floor
    status = state.status
    is_bad = state.page.observe(down_factors(rule.objective), event_ms, hit=hit) >= state.bar
    is_poor = (
        floor is not None
        and state.warn.observe(down_factors(floor), event_ms, hit=hit) >= state.bar
    )
    if status is _FIRING or status is _RECOVERING:
        state.up.observe(up_factors(rule.objective), hit=hit)
        _follow_recovery(rule, alert, state, at_ms, moved)
    elif is_bad:
        found = state.page.evidence(state.bar)
        _move(rule, alert, state, Status.FIRING, at_ms, found, _text(rule, found), moved)
    elif status is _WARNING:
        state.up.observe(up_factors(floor or rule.objective), hit=hit)
        _follow_warning(rule, alert, state, at_ms, moved)
    elif is_poor:
        found = state.warn.evidence(state.bar)
        _move(rule, alert, state, Status.WARNING, at_ms, found, _text(rule, found), moved)


def _weigh_glance(
    rule: AlertRule, alert: AlertKey, state: AlertState, vote: Vote, moved: list[Transition]
) -> None:
    state.glance = detectors.observe(state.glance, vote.event_ms, hit=vote.hit)
    found = detectors.breach(state.glance, rule.objective)
    at_ms = vote.release_ms
    if found and state.status is not _FIRING:
        _move(rule, alert, state, Status.FIRING, at_ms, found, _text(rule, found), moved)
    elif state.status is _WARNING:
        _follow_warning(rule, alert, state, at_ms, moved)
    elif state.status is not _OK:
        _follow_recovery(rule, alert, state, at_ms, moved)


def _follow_warning(
    rule: AlertRule, alert: AlertKey, state: AlertState, at_ms: int, moved: list[Transition]
) -> None:
    """From warning to ok, after a vote."""
    if at_ms >= state.fired_ms + rule.hold_ms and _is_clear(rule, state):
        good = _good(rule, state)
        _resolve(rule, alert, state, at_ms, good, _text(rule, good), moved)


def _follow_recovery(
    rule: AlertRule, alert: AlertKey, state: AlertState, at_ms: int, moved: list[Transition]
) -> None:
    """Between firing, recovering and ok, after a vote."""
    is_clear = _is_clear(rule, state)
    if is_clear == (state.status is Status.RECOVERING):
        return
    good = _good(rule, state)
    if not is_clear:
        _move(rule, alert, state, Status.FIRING, at_ms, good, _text(rule, good), moved)
    elif at_ms >= state.fired_ms + rule.hold_ms:
        _resolve(rule, alert, state, at_ms, good, _text(rule, good), moved)
    else:
        _move(rule, alert, state, Status.RECOVERING, at_ms, good, _text(rule, good), moved)


def _is_clear(rule: AlertRule, state: AlertState) -> bool:
    if rule.is_glance:
        return detectors.is_clear(state.glance, rule.objective)
    return state.up.is_clear


def _good(rule: AlertRule, state: AlertState) -> Evidence:
    """The last votes, at most 60: what a recovery shows."""
    if rule.is_glance:
        return detectors.evidence_of(state.glance, detectors.LONG, rule.objective)
    hits, n = state.recent_votes
    return Evidence(hits, n, state.since_ms, state.page.value, state.bar)


def _resolve(
    rule: AlertRule,
    alert: AlertKey,
    state: AlertState,
    at_ms: int,
    evidence: Evidence,
    reason: str,
    moved: list[Transition],
) -> None:
    """To ok; the detectors start afresh."""
    _move(rule, alert, state, Status.OK, at_ms, evidence, reason, moved)
    state.page, state.warn = Mixture(), Mixture()


def _keep_pace(
    rule: AlertRule,
    alert: AlertKey,
    state: AlertState,
    at_ms: int,
    moved: list[Transition],
    slices: int,
) -> None:
    """Count the vote, how far it is from the one before, and what bar it leads to."""
    if state.votes:
        gap_ms = at_ms - state.last_ms
        state.gap_ms += (gap_ms - state.gap_ms) / min(state.votes, GAP_MEMORY)
        if gap_ms > state.longest_ms:
            state.longest_ms = min(gap_ms, LONGEST_GAP_MS)
    else:
        state.week_ms = at_ms
    _resume(rule, alert, state, at_ms, moved)
    state.is_relieved = False
    state.votes += 1
    state.last_ms = at_ms
    passed_ms = at_ms - state.week_ms
    if passed_ms >= WEEK_MS:
        weeks = passed_ms // WEEK_MS
        a_month = state.week_votes * MONTH_MS / (weeks * WEEK_MS)
        state.bar = slices * max(LEAST_BAR, a_month)
        state.week_ms, state.week_votes = state.week_ms + weeks * WEEK_MS, 0
        state.longest_ms = int(state.longest_ms / 2)
    state.week_votes += 1
    if rule.evidence is not None:
        state.bar = rule.evidence
    elif state.week_votes == state.votes:
        a_month = state.votes * MONTH_MS / max(passed_ms, DAY_MS)
        state.bar = max(state.bar, slices * max(FIRST_BAR, a_month))


def _resume(
    rule: AlertRule, alert: AlertKey, state: AlertState, at_ms: int, moved: list[Transition]
) -> None:
    if state.is_stalled:
        state.is_stalled = False
        _note(rule, alert, state, What(Event.RESUMED, at_ms, "mature labels come again"), moved)


def _look_back(
    rule: AlertRule, alert: AlertKey, state: AlertState, vote: Vote, moved: list[Transition]
) -> None:
    """Take in one vote of complete labels: judgements count it, and a drop may turn up."""
    shadow, event_ms, hit = state.shadow, vote.event_ms, vote.hit
    shadow.judgements = [
        j._replace(hits=j.hits + hit, n=j.n + 1) if j.from_ms <= event_ms <= j.to_ms else j
        for j in shadow.judgements
    ]
    value = shadow.page.observe(down_factors(rule.objective), event_ms, hit=hit)
    if shadow.is_firing:
        shadow.up.observe(up_factors(rule.objective), hit=hit)
        if shadow.up.is_clear:
            shadow.is_firing, shadow.page = False, Mixture()
    elif value >= state.bar:
        shadow.is_firing, shadow.up = True, Recovery()
        found = shadow.page.evidence(state.bar)
        # By event time: labels, and with them the alert, may have come days after.
        if not _was_firing(shadow, found.since_ms, event_ms + DAY_MS):
            reason = f"{_text(rule, found)}, of which no page told at the time"
            _note(rule, alert, state, What(Event.RAISED, vote.release_ms, reason, found), moved)


def _was_firing(shadow: Shadow, since_ms: int, until_ms: int) -> bool:
    return any(
        began_ms <= until_ms and (ended_ms < 0 or ended_ms >= since_ms)
        for began_ms, ended_ms in shadow.episodes
    )


def _judge(
    rule: AlertRule, alert: AlertKey, state: AlertState, at_ms: int, moved: list[Transition]
) -> None:
    """Confirm or retract the oldest transition that is due; without any vote it stays open."""
    judgement = state.shadow.judgements.pop(0)
    if not judgement.n:
        return
    final = Evidence(
        judgement.hits, judgement.n, judgement.from_ms, judgement.hits / judgement.n, judgement.null
    )
    held = final.value < judgement.null
    event = Event.CONFIRMED if held else Event.RETRACTED
    reason = f"with complete labels, {final.hits} of {final.n} {rule.of} votes were hits"
    _note(rule, alert, state, What(event, at_ms, reason, final, judgement.id), moved)


def _move(
    rule: AlertRule,
    alert: AlertKey,
    state: AlertState,
    target: Status,
    at_ms: int,
    evidence: Evidence | None,
    reason: str,
    moved: list[Transition],
) -> None:
    """Move ``state`` and say so; IllegalMove for a way that does not exist."""
    source = state.status
    if target not in MOVES[source]:
        raise IllegalMove(f"alert {alert}: no way from {source} to {target}")
    is_relapse = source is Status.RECOVERING and target is Status.FIRING
    is_raised = target in {Status.WARNING, Status.FIRING} and not is_relapse
    if is_raised:
        state.fired_ms, state.up = at_ms, Recovery()
    state.status, state.since_ms = target, at_ms
    entered = _note(
        rule, alert, state, What(Event.MOVED, at_ms, reason, evidence, was=source), moved
    )
    if is_raised and rule.hindsight_ms is not None and evidence is not None:
        null = rule.objective if target is Status.FIRING else (rule.floor or rule.objective)
        due_ms = at_ms + rule.hindsight_ms + 1
        # Up to the miss that raised it: labels may be late, and all be well since.
        to_ms = max((missed.event_ms for missed in state.missed), default=at_ms)
        state.shadow.judgements.append(
            Judgement(entered.id, null, evidence.since_ms, to_ms, 0, 0, due_ms)
        )
    _keep_episodes(state, at_ms, evidence.since_ms if evidence else at_ms)


def _keep_episodes(state: AlertState, at_ms: int, since_ms: int) -> None:
    """When it was firing, for hindsight to know."""
    episodes = state.shadow.episodes
    is_open = bool(episodes) and episodes[-1][1] < 0
    is_on = state.status in {Status.FIRING, Status.RECOVERING}
    if is_on and not is_open:
        episodes.append((since_ms, -1))
        del episodes[:-MOST_EPISODES]
    elif is_open and not is_on:
        episodes[-1] = (episodes[-1][0], at_ms)


class What(NamedTuple):
    """What happened to an alert; ``was`` is the state before, None where it did not change."""

    event: Event
    at_ms: int
    reason: str
    evidence: Evidence | None = None
    judges: str = ""
    was: Status | None = None


def _note(
    rule: AlertRule, alert: AlertKey, state: AlertState, what: What, moved: list[Transition]
) -> Transition:
    """Enter what happened."""
    state.moves += 1
    since_ms = what.evidence.since_ms if what.evidence else state.since_ms
    transition = Transition(
        id=f"{fingerprint(alert)}-{state.moves}",
        rule=rule.name,
        key=alert.key,
        moved_from=what.was or state.status,
        moved_to=state.status,
        at_ms=what.at_ms,
        evidence=what.evidence,
        reason=what.reason,
        version=alert.version,
        event=what.event,
        judges=what.judges,
        missed=state.missed,
        corrected=sum(event_ms >= since_ms for event_ms in state.corrected),
    )
    moved.append(transition)
    return transition


def _text(rule: AlertRule, evidence: Evidence) -> str:
    return f"{evidence.hits} of the last {evidence.n} mature {rule.of} labels were hits"


def _words(length_ms: int) -> str:
    minutes = length_ms // 60_000
    hours = minutes // 60
    if hours >= 2 * HOURS_A_DAY:
        return f"{hours // HOURS_A_DAY} d {hours % HOURS_A_DAY} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def hindsight_of(transitions: Iterable[Transition]) -> dict[str, Event]:
    """Id of each judged transition -> confirmed or retracted."""
    return dict(_judgements(transitions))


def _judgements(transitions: Iterable[Transition]) -> Iterator[tuple[str, Event]]:
    for transition in transitions:
        if transition.judges:
            yield transition.judges, transition.event
