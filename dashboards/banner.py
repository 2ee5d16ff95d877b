"""What the top of a page says: where each alert stands, never contradicting the state."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from dashboards import history, words
from dashboards.overlays import NOTHING_OVER, lead, overlays_in_words
from dashboards.theme import Tone
from monitor.domain import detectors
from monitor.domain.alerts import (
    MOST_CORRECTED,
    AlertKey,
    AlertState,
    Event,
    Status,
    Transition,
)
from monitor.domain.detectors import Evidence
from monitor.domain.ledger import Gap
from monitor.domain.overlays import Overlays
from monitor.domain.rules import AlertRule
from monitor.domain.scores import Score, proportion
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import DAY_MS

STALE_MS = 90_000
LOST_MS = 300_000
MOST_GAPS = 3
"""Gaps named in the banner; the Labels page lists all of them."""

STRENGTH = 0.5
"""Of the evidence, from which on it is shown; the last votes say more than what has faded."""

JUDGED_MS = 7 * DAY_MS
"""How long a judgement in hindsight stands on an alert that is over."""

_ORDER = (Status.FIRING, Status.RECOVERING, Status.WARNING, Status.NO_DATA, Status.OK)


class Labelled(NamedTuple):
    """How many predictions there are, and of how many the truth is known."""

    labelled: int
    predictions: int


@dataclass(frozen=True, slots=True)
class AlertView:
    """One alert. ``score`` is the proportion that its state stands on, hits of its last votes.

    ``fired`` is the transition with which it was last raised, None when it never was or that is no
    longer known; ``fired_ms`` is its log time. ``latest`` are its last votes where ``score`` is of
    older ones, too. ``corrected`` counts labels of the evidence that changed after they had
    counted. ``last_ms`` is when the latest vote counted. ``judged`` is what hindsight says of
    ``fired``, or the drop that it found and nobody was told of. ``labelled`` counts what it could
    speak of since its evidence began, None where nobody has looked.
    """

    rule: AlertRule
    key: SliceKey
    status: Status
    since_ms: int
    score: Score
    hits: int
    fired: Transition | None = None
    fired_ms: int = 0
    version: str = ""
    latest: Score | None = None
    corrected: int = 0
    last_ms: int = 0
    overlays: Overlays = NOTHING_OVER
    judged: Transition | None = None
    labelled: Labelled | None = None

    @property
    def alert(self) -> AlertKey:
        """Which alert it is."""
        return AlertKey(self.rule.name, self.key, self.version)

    @property
    def whose(self) -> str:
        """Variant, slice and version, as far as the alert speaks of one; "" when of all."""
        names = [words.one_line(name) for name in self.key if name != ALL]
        version = words.one_line(self.version)
        return ", ".join([*names, *([f"version {version}"] if version else [])])

    @property
    def measured(self) -> str:
        """What the rule is about, such as ``urgent recall``."""
        return f"{self.rule.of} {self.rule.metric}".strip()

    @property
    def evidence_ms(self) -> int | None:
        """Event time of the first label that made it fire; None when that is not known."""
        evidence = self.fired and self.fired.evidence
        return evidence.since_ms if evidence else None

    @property
    def is_up(self) -> bool:
        """Whether it was raised and is not over."""
        return self.status in {Status.FIRING, Status.RECOVERING, Status.WARNING}

    @property
    def wants_attention(self) -> bool:
        """Whether somebody should look: it is up, or the feed of its labels has stalled."""
        return self.is_up or self.overlays.stalled

    @property
    def least(self) -> float:
        """What the state is measured against: the floor while it warns, else the objective."""
        floor = self.rule.floor
        is_floor = self.status is Status.WARNING and floor is not None
        return floor if is_floor and floor is not None else self.rule.objective

    @property
    def is_few(self) -> bool:
        """Whether it stands on too few labels for a verdict."""
        return self.score.support < words.FEW and self.status in {Status.OK, Status.NO_DATA}

    @property
    def is_below(self) -> bool:
        """Whether the value is below ``least``, which alone is no reason to be raised."""
        return self.score.value is not None and self.score.value < self.least

    @property
    def is_all_below(self) -> bool:
        """Whether the whole interval is below ``least``: more than chance explains."""
        return self.score.interval is not None and self.score.interval[1] < self.least


@dataclass(frozen=True, slots=True)
class Notice:
    """One line for a person: what is so, and the details after it."""

    tone: Tone
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old the numbers are.

    ``as_of_ms`` is the data's own time, None before any record; ``age_ms`` is how long ago a worker
    last gave a sign of life, None if none ever did; ``lag`` counts records not yet read. ``now_ms``
    is the wall time at which that was found out, None where nobody looked at a clock.
    """

    as_of_ms: int | None
    age_ms: int | None
    lag: int = 0
    now_ms: int | None = None

    @property
    def is_stale(self) -> bool:
        """Whether the numbers describe some earlier time, not now."""
        return self.as_of_ms is not None and (self.age_ms is None or self.age_ms > STALE_MS)


def alert_views(
    rules: Iterable[AlertRule],
    states: Mapping[AlertKey, AlertState],
    transitions: Sequence[Transition],
    variant: str,
    overlays: Mapping[AlertKey, Overlays] | None = None,
) -> tuple[AlertView, ...]:
    """The alerts that speak of ``variant`` (ALL: of any), the worst first.

    A rule that has not seen a vote yet is there with the state no_data. ``overlays`` tells what
    lies over alerts; over those that it leaves out, nothing but what their state says.
    """
    over = overlays or {}
    then = history.of(transitions)
    fired, judged = then.raised, then.judged
    views: list[AlertView] = []
    for rule in rules:
        told = [a for a in sorted(states) if a.rule == rule.name and speaks(a.key, variant)]
        in_use = {alert.key for alert in told if states[alert].status is not Status.NO_DATA}
        shown = [a for a in told if a.key not in in_use or states[a].status is not Status.NO_DATA]
        views += [
            replace(
                _view(rule, alert, states[alert], fired.get(alert)),
                overlays=over.get(alert, Overlays(stalled=states[alert].is_stalled)),
                judged=judged.get(alert),
            )
            for alert in shown
        ]
        if not told and covers(rule, variant):
            views.append(AlertView(rule, SliceKey(variant), Status.NO_DATA, 0, proportion(0, 0), 0))
    return tuple(sorted(views, key=_badness))


def speaks(key: SliceKey, variant: str) -> bool:
    """Whether an alert of ``key`` speaks of ``variant``; one over all variants always does."""
    return variant in {ALL, key.variant} or key.variant == ALL


def attention(*views: AlertView) -> tuple[AlertView, ...]:
    """Those of ``views`` that want attention, firing before recovering, else as they come."""
    wanting = [view for view in views if view.wants_attention]
    return tuple(sorted(wanting, key=lambda view: _ORDER.index(view.status)))


def covers(rule: AlertRule, variant: str) -> bool:
    """Whether records of ``variant`` can speak to the rule."""
    return all(name != "variant" or variant in {ALL, value} for name, value in rule.where)


def describe(alert: AlertView, freshness: Freshness, *, is_complete: bool = True) -> Notice:
    """The alert in one notice. A stale one is never green, and says of when it speaks.

    Nor is one green that stands on incomplete numbers.
    """
    notice = _describe(alert, freshness.as_of_ms or 0)
    if is_complete and not freshness.is_stale:
        return notice
    tone = Tone.NEUTRAL if notice.tone is Tone.OK else notice.tone
    said = Notice(tone, notice.title, notice.body)
    if freshness.is_stale:
        return last_known(said)
    return Notice(tone, f"As far as counted: {said.title}", said.body)


def last_known(notice: Notice) -> Notice:
    """The same of a time that is over, as what is told while the store is away; never green."""
    if notice.title.startswith(_LAST_KNOWN):
        return notice
    tone = Tone.NEUTRAL if notice.tone is Tone.OK else notice.tone
    return Notice(tone, f"{_LAST_KNOWN}{notice.title}", notice.body)


_LAST_KNOWN = "Last known state: "


def unwatched(name: str, score: Score) -> Notice:
    """What to say of a group that no rule watches."""
    value = f"{name} recall {words.percent(score.value)} ({words.interval(score)})"
    return Notice(Tone.NEUTRAL, f"No rule watches {name}: {value}.", "Add one to be told of drops.")


def staleness(freshness: Freshness) -> Notice | None:
    """What to say when no worker has given a sign of life for a while; None while all is well."""
    if not freshness.is_stale or freshness.as_of_ms is None:
        return None
    moment = words.clock(freshness.as_of_ms, near_ms=freshness.now_ms)
    body = f"Everything below describes {moment}, not now."
    if freshness.age_ms is None:
        return Notice(Tone.WARNING, "Stale — no worker has reported yet.", body)
    title = f"Stale — no new window for {words.duration(freshness.age_ms)}."
    if freshness.age_ms <= LOST_MS:
        return Notice(Tone.WARNING, title, body)
    return Notice(Tone.CRITICAL, title, f"{body} No alert can fire until a worker runs again.")


def unwritten(freshness: Freshness) -> Notice:
    """What to say of a store without windows: whether anybody is there to write them."""
    first = "The first appears about 60 s after start."
    if freshness.age_ms is None:
        body = f"{first} No worker has reported yet: start one with recallwatch run."
    elif freshness.age_ms > STALE_MS:
        silent = words.duration(freshness.age_ms)
        body = f"{first} No worker has reported for {silent}: start one with recallwatch run."
    else:
        body = first
    return Notice(Tone.NEUTRAL, "No windows yet.", body)


UNEVALUATED = "No rule was evaluated yet."


def unevaluated(freshness: Freshness, unread: Sequence[str]) -> str:
    """What to say of records that no rule has judged yet: since when, and what is waited for."""
    said = "Nobody knows whether anything fires."
    if unread:
        more = len(unread) - MOST_GAPS
        named = ", ".join(unread[:MOST_GAPS]) + (f" and {more} more" if more > 0 else "")
        said += f" Nothing has been read yet of {named}, without which no rule can be asked."
    if freshness.as_of_ms is not None:
        newest = words.clock_seconds(freshness.as_of_ms, near_ms=freshness.now_ms)
        said += f" Records are counted up to {newest}."
    return said


def incomplete(gaps: Sequence[Gap]) -> Notice | None:
    """What to say when records were lost for good, which no alert can know of; None while none."""
    if not gaps:
        return None
    more = len(gaps) - MOST_GAPS
    named = ", ".join(map(str, gaps[:MOST_GAPS])) + (f" and {more} more" if more > 0 else "")
    return Notice(
        Tone.CRITICAL,
        f"Numbers are incomplete: {named} lost.",
        "The log dropped these records before they were counted. Retention must be longer than "
        "the longest outage.",
    )


def _view(
    rule: AlertRule, alert: AlertKey, state: AlertState, fired: Transition | None
) -> AlertView:
    """What the state stands on: the evidence while it is against the model, else the last votes."""
    hits, n = state.recent_votes
    found = _shown(rule, state)
    latest = None
    if found is not None:
        hits, n = found.hits, found.n
        if not rule.is_glance and n > detectors.SHORT:
            latest = proportion(*_latest(state))
    elif state.status in {Status.FIRING, Status.WARNING}:
        hits, n = _latest(state)
    return AlertView(
        rule,
        alert.key,
        state.status,
        state.since_ms,
        proportion(hits, n),
        hits,
        fired,
        state.fired_ms,
        alert.version,
        latest=latest,
        corrected=_corrected(state, found, fired),
        last_ms=state.last_ms,
    )


def _shown(rule: AlertRule, state: AlertState) -> Evidence | None:
    """The evidence of an alert that has it; None where the last votes say more."""
    if rule.is_glance:
        if not state.glance.ring:
            return None
        last = detectors.evidence_of(state.glance, detectors.LONG, rule.objective)
        return detectors.breach(state.glance, rule.objective) or last
    if state.status is Status.WARNING:
        return _unfaded(state.warn.evidence(state.bar), rule.floor or rule.objective)
    if state.status is Status.FIRING:
        return _unfaded(state.page.evidence(state.bar), rule.objective)
    return None


def _unfaded(found: Evidence, least: float) -> Evidence | None:
    is_against = found.n > 0 and found.hits < least * found.n
    return found if is_against and found.strength >= STRENGTH else None


def _latest(state: AlertState) -> tuple[int, int]:
    """Hits among the last 20 votes, or as many as there are: of those before, most are old news."""
    n = min(state.votes, detectors.SHORT)
    return (state.recent & (1 << n) - 1).bit_count(), n


def _corrected(state: AlertState, found: Evidence | None, fired: Transition | None) -> int:
    """Votes since the most likely change point that a label changed after they had counted."""
    ground = found or (fired.evidence if fired else None)
    return 0 if ground is None else sum(at_ms >= ground.since_ms for at_ms in state.corrected)


def _badness(alert: AlertView) -> tuple[int, bool, bool, float, str, SliceKey, str]:
    value = 1.0 if alert.score.value is None else alert.score.value
    return (
        _ORDER.index(alert.status),
        not alert.overlays.stalled,
        not alert.is_few,
        value,
        alert.rule.name,
        alert.key,
        alert.version,
    )


def _describe(alert: AlertView, as_of_ms: int) -> Notice:
    over = overlays_in_words(
        alert.overlays, last_ms=alert.last_ms, near_ms=as_of_ms, is_up=alert.is_up
    )
    details = lead(over, " · ".join(_details(alert, as_of_ms)))
    if alert.status is Status.NO_DATA:
        title = f"No data: no mature {alert.rule.of} label yet"
        return Notice(
            Tone.NEUTRAL, f"{title}, objective {words.limit(alert.rule.objective)}.", details
        )
    if alert.status is Status.FIRING:
        return Notice(Tone.CRITICAL, _firing(alert), details)
    if alert.status is Status.WARNING:
        return Notice(Tone.WARNING, _warning(alert), details)
    if alert.status is Status.RECOVERING:
        return Notice(Tone.WARNING, f"{_subject(alert, 'recovering')}: {_ground(alert)}.", details)
    return _fine(alert, details)


def _fine(alert: AlertView, details: str) -> Notice:
    """An alert that is ok; without labels it stays so, but nobody knows, which is not green."""
    if alert.overlays.stalled:
        title = f"{_subject(alert, 'OK, but stalled')}: {_ground(alert)}."
        return Notice(Tone.WARNING, title, details)
    if alert.is_all_below:
        few = f", {words.too_few(alert.score.support)} for a verdict" if alert.is_few else ""
        tone = Tone.NEUTRAL if alert.is_few else Tone.WARNING
        title = f"Below the objective so far{few}, evidence building"
        return Notice(tone, f"{title}: {_value(alert)}.", details)
    if alert.is_few:
        few = words.too_few(alert.score.support)
        return Notice(Tone.NEUTRAL, f"OK so far, {few}: {_value(alert)}.", details)
    if alert.is_below:
        note = "below the objective, but within chance"
        return Notice(Tone.WARNING, f"OK, {note}: {_value(alert)}.", details)
    return Notice(Tone.OK, f"OK: {_value(alert)}.", details)


def _firing(alert: AlertView) -> str:
    """A firing alert whose value is back above the objective says what it still waits for."""
    if alert.is_below or alert.score.value is None:
        return f"{_subject(alert, 'firing')}: {_ground(alert)}."
    if alert.rule.is_glance:
        need = detectors.bars(alert.rule.objective).clear_long
        state, wait = "firing, out of breach", f"clears at {need} hits of the last {detectors.LONG}"
    else:
        state, wait = "firing, its last labels good", _WAITS
    return f"{_subject(alert, state)}: {_ground(alert)}; {wait}."


_WAITS = "it ends once enough good labels say that the drop is over"


def _warning(alert: AlertView) -> str:
    """A warning says that the value is not what it was, and names the floor."""
    if alert.is_below or alert.score.value is None:
        return f"{_subject(alert, 'warning, degraded vs baseline')}: {_ground(alert)}."
    state = "warning, its last labels good"
    return f"{_subject(alert, state)}: {_ground(alert)}; {_WAITS}."


def _subject(alert: AlertView, state: str) -> str:
    return f"{alert.whose} {state}" if alert.whose else f"{state[:1].upper()}{state[1:]}"


def _ground(alert: AlertView) -> str:
    """The value with the labels that it stands on."""
    score, whose = alert.score, "its" if alert.whose else "the"
    value = f"{alert.measured} {words.percent(score.value)}"
    labels = f"{whose} last {words.count(score.support)} mature labels ({words.bounds(score)})"
    floor, objective = "", words.limit(alert.rule.objective)
    if alert.status is Status.WARNING and alert.rule.floor is not None:
        floor = f"healthy from {words.limit(alert.rule.floor)}, "
    return f"{value} over {labels}, {floor}objective {objective}"


def _value(alert: AlertView) -> str:
    score, objective = alert.score, words.limit(alert.rule.objective)
    value = f"{alert.measured} {words.percent(score.value)} ({words.interval(score)})"
    return f"{value}, objective {objective}"


def _details(alert: AlertView, as_of_ms: int) -> Iterable[str]:
    if alert.is_up:
        yield from _history(alert, as_of_ms)
    else:
        if alert.status is Status.OK:
            held = words.duration(max(0, as_of_ms - alert.since_ms))
            yield f"Since {words.clock(alert.since_ms, near_ms=as_of_ms)}, {held}"
        yield alert.whose or "all variants"
    yield from _judgement(alert, as_of_ms)
    yield f"rule {alert.rule.name}"


_RISEN = {Status.FIRING: ("Firing", "fired"), Status.WARNING: ("Warning", "warned")}


def _history(alert: AlertView, as_of_ms: int) -> Iterable[str]:
    """When it was raised, on what, how sure that is, and what has happened since."""

    def clock(at_ms: int) -> str:
        return words.clock(at_ms, near_ms=as_of_ms)

    ago = words.duration(max(1000, as_of_ms - alert.fired_ms))
    state, verb = _RISEN.get(alert.status, ("Raised", "fired"))
    since = f"{state} since {clock(alert.fired_ms)}, for {ago}"
    if alert.fired and alert.evidence_ms is not None:
        yield f"{since}; the evidence begins with predictions of {clock(alert.evidence_ms)}"
        if said := labelled_text(alert, as_of_ms):
            yield said
        yield f"at {clock(alert.fired_ms)}, when it {verb}: {alert.fired.reason}"
        yield from _latest_words(alert, alert.fired, as_of_ms)
        yield from _chance(alert, alert.fired)
    else:
        yield since
    if alert.corrected:
        # No more than the last hundred corrections are remembered.
        least = "at least " if alert.corrected >= MOST_CORRECTED else ""
        yield f"{least}{alert.corrected} of these labels corrected after counting"
    if alert.status is Status.RECOVERING:
        resolves = clock(alert.fired_ms + alert.rule.hold_ms)
        yield f"recovering since {clock(alert.since_ms)}, resolves at {resolves} if it stays so"
    elif alert.since_ms > alert.fired_ms:
        yield f"recovered in between, firing again since {clock(alert.since_ms)}"
    yield from _turn(alert)


def _latest_words(alert: AlertView, fired: Transition, as_of_ms: int) -> Iterable[str]:
    """What the title counts, with the time of its latest label, where it is no more what rose."""
    found = fired.evidence
    if found is None or (found.hits, found.n) == (alert.hits, alert.score.support):
        return
    if alert.last_ms and alert.score.support:
        at = words.clock(alert.last_ms, near_ms=as_of_ms)
        yield f"by {at}, its latest label: {alert.hits} of the last {alert.score.support}"


def labelled_text(alert: AlertView, as_of_ms: int) -> str:
    """How much is labelled of what it could speak of, and why that is enough, or when not.

    "" where nobody has looked.
    """
    if alert.labelled is None or alert.evidence_ms is None or not alert.labelled.predictions:
        return ""
    known, n = alert.labelled
    since = words.clock(alert.evidence_ms, near_ms=as_of_ms)
    return (
        f"{words.percent(known / n, 0)} of its requests since {since} are labelled "
        f"({words.count(known)} of {words.count(n)}): enough, the alert does not need the rest, "
        "unless misses are labelled sooner or more often than hits"
    )


def _chance(alert: AlertView, fired: Transition) -> Iterable[str]:
    """What the evidence is worth; of the at-a-glance detector nothing is guaranteed."""
    rule = alert.rule
    if rule.is_glance or fired.evidence is None:
        return
    is_floor = fired.moved_to is Status.WARNING and rule.floor is not None
    least = rule.floor if is_floor and rule.floor is not None else rule.objective
    labels = words.count(int(fired.evidence.bar))
    yield (
        f"if {alert.measured} were {words.limit(least)} or better, evidence this strong would turn "
        f"up less than once in {labels} labels"
    )


def _turn(alert: AlertView) -> Iterable[str]:
    """That it gets better, while the evidence of the whole stretch still says otherwise."""
    latest = alert.latest
    if latest is None or latest.value is None or latest.value < alert.least:
        return
    hits = round(latest.value * latest.support)
    yield f"{hits} of its last {latest.support} mature labels were hits: {_WAITS}"


def _judgement(alert: AlertView, as_of_ms: int) -> Iterable[str]:
    """What hindsight says of when it was last raised, or of a drop that was not told."""
    judged = alert.judged
    if judged is None or (not alert.is_up and as_of_ms - judged.at_ms > JUDGED_MS):
        return
    if judged.event is Event.RAISED:
        yield f"raised in hindsight: {judged.reason}"
        return
    about = ""
    if not alert.is_up and alert.fired is not None:
        at = words.clock(alert.fired.at_ms, near_ms=as_of_ms)
        about = f"what was {alert.fired.moved_to} at {at} is "
    yield f"{about}{judged.event} in hindsight: {judged.reason}"
