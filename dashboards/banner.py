"""What the top of a page says: where each alert stands, never contradicting the state."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards import words
from dashboards.theme import Tone
from monitor.domain import detectors
from monitor.domain.alerts import AlertKey, AlertState, Event, Status, Transition
from monitor.domain.detectors import Evidence
from monitor.domain.ledger import Gap
from monitor.domain.rules import AlertRule
from monitor.domain.scores import Score, proportion
from monitor.domain.slices import ALL, SliceKey

STALE_MS = 90_000
LOST_MS = 300_000
MOST_GAPS = 3
"""Gaps named in the banner; the Labels page lists all of them."""

_ORDER = (Status.FIRING, Status.RECOVERING, Status.WARNING, Status.NO_DATA, Status.OK)


@dataclass(frozen=True, slots=True)
class AlertView:
    """One alert. ``score`` is the proportion that its state stands on, hits of its last votes.

    ``fired`` is the transition with which it last left ok, None when it never did or that is no
    longer known; ``fired_ms`` is its log time.
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

    @property
    def whose(self) -> str:
        """Variant, slice and version, as far as the alert speaks of one; "" when of all."""
        names = [name for name in self.key if name != ALL]
        return ", ".join([*names, *([self.version] if self.version else [])])

    @property
    def evidence_ms(self) -> int | None:
        """Event time of the first label that made it fire; None when that is not known."""
        evidence = self.fired and self.fired.evidence
        return evidence.since_ms if evidence else None

    @property
    def wants_attention(self) -> bool:
        """Whether somebody should look."""
        return self.status in {Status.FIRING, Status.RECOVERING, Status.WARNING}

    @property
    def is_few(self) -> bool:
        """Whether it stands on too few labels for a verdict."""
        return self.score.support < words.FEW and self.status in {Status.OK, Status.NO_DATA}

    @property
    def is_below(self) -> bool:
        """Whether the value is below the objective, which alone is no reason to fire."""
        return self.score.value is not None and self.score.value < self.rule.objective


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
    last gave a sign of life, None if none ever did; ``lag`` counts records not yet read.
    """

    as_of_ms: int | None
    age_ms: int | None
    lag: int = 0

    @property
    def is_stale(self) -> bool:
        """Whether the numbers describe some earlier time, not now."""
        return self.as_of_ms is not None and (self.age_ms is None or self.age_ms > STALE_MS)


def alert_views(
    rules: Iterable[AlertRule],
    states: Mapping[AlertKey, AlertState],
    transitions: Sequence[Transition],
    variant: str,
) -> tuple[AlertView, ...]:
    """The alerts that speak of ``variant`` (ALL: of any), the worst first.

    A rule that has not seen a vote yet is there with the state no_data.
    """
    fired = {
        t.alert: t
        for t in transitions
        if t.moved_to in {Status.FIRING, Status.WARNING}
        and t.event is Event.MOVED
        and t.moved_from is not Status.RECOVERING
    }
    views: list[AlertView] = []
    for rule in rules:
        told = [a for a in sorted(states) if a.rule == rule.name and speaks(a.key, variant)]
        in_use = {alert.key for alert in told if states[alert].status is not Status.NO_DATA}
        shown = [a for a in told if a.key not in in_use or states[a].status is not Status.NO_DATA]
        views += [_view(rule, alert, states[alert], fired.get(alert)) for alert in shown]
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
    whose = "Last known state" if freshness.is_stale else "As far as counted"
    return Notice(tone, f"{whose}: {notice.title}", notice.body)


def unwatched(name: str, score: Score) -> Notice:
    """What to say of a group that no rule watches."""
    value = f"{name} recall {words.percent(score.value)} ({words.interval(score)})"
    return Notice(Tone.NEUTRAL, f"No rule watches {name}: {value}.", "Add one to be told of drops.")


def staleness(freshness: Freshness) -> Notice | None:
    """What to say when no worker has given a sign of life for a while; None while all is well."""
    if not freshness.is_stale or freshness.as_of_ms is None:
        return None
    moment = words.clock(freshness.as_of_ms)
    body = f"Everything below describes {moment}, not now."
    if freshness.age_ms is None:
        return Notice(Tone.WARNING, "Stale — no worker has reported yet.", body)
    title = f"Stale — no new window for {words.duration(freshness.age_ms)}."
    if freshness.age_ms <= LOST_MS:
        return Notice(Tone.WARNING, title, body)
    return Notice(Tone.CRITICAL, title, f"{body} No alert can fire until a worker runs again.")


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
    if found is not None:
        hits, n = found.hits, found.n
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
    )


def _shown(rule: AlertRule, state: AlertState) -> Evidence | None:
    """The evidence of an alert that has it; None where the last votes say more."""
    if rule.is_glance and state.glance.ring:
        last = detectors.evidence_of(state.glance, detectors.LONG, rule.objective)
        return detectors.breach(state.glance, rule.objective) or last
    if state.status is Status.WARNING and state.warn.value >= state.bar:
        return state.warn.evidence(state.bar)
    if state.status is Status.FIRING and state.page.value >= state.bar:
        return state.page.evidence(state.bar)
    return None


def _badness(alert: AlertView) -> tuple[int, bool, float, str, SliceKey]:
    value = 1.0 if alert.score.value is None else alert.score.value
    return _ORDER.index(alert.status), not alert.is_few, value, alert.rule.name, alert.key


def _describe(alert: AlertView, as_of_ms: int) -> Notice:
    details = " · ".join(_details(alert, as_of_ms))
    if alert.status is Status.NO_DATA:
        title = f"No data: no mature {alert.rule.of} label yet"
        return Notice(
            Tone.NEUTRAL, f"{title}, objective {words.limit(alert.rule.objective)}.", details
        )
    if alert.status is Status.FIRING:
        return Notice(Tone.CRITICAL, _firing(alert), details)
    if alert.status is Status.WARNING:
        return Notice(Tone.WARNING, f"{_subject(alert, 'degraded')}: {_ground(alert)}.", details)
    if alert.status is Status.RECOVERING:
        return Notice(Tone.WARNING, f"{_subject(alert, 'recovering')}: {_ground(alert)}.", details)
    if alert.is_few:
        few = words.too_few(alert.score.support)
        return Notice(Tone.NEUTRAL, f"OK so far, {few}: {_value(alert)}.", details)
    if alert.is_below:
        note = "below the objective, but within chance"
        return Notice(Tone.WARNING, f"OK, {note}: {_value(alert)}.", details)
    return Notice(Tone.OK, f"OK: {_value(alert)}.", details)


def _firing(alert: AlertView) -> str:
    """A firing alert whose value is back above the objective says what it still waits for."""
    if alert.is_below:
        return f"{_subject(alert, 'firing')}: {_ground(alert)}."
    need = detectors.bars(alert.rule.objective).clear_long
    wait = (
        f"clears at {need} hits of the last {detectors.LONG}"
        if alert.rule.is_glance
        else "clears once there is as good evidence that it is over"
    )
    return f"{_subject(alert, 'firing, out of breach')}: {_ground(alert)}; {wait}."


def _subject(alert: AlertView, state: str) -> str:
    return f"{alert.whose} {state}" if alert.whose else state.capitalize()


def _ground(alert: AlertView) -> str:
    """The value with the labels that it stands on."""
    score, whose = alert.score, "its" if alert.whose else "the"
    value = f"{alert.rule.of} recall {words.percent(score.value)}"
    labels = f"{whose} last {words.count(score.support)} mature labels ({words.bounds(score)})"
    return f"{value} over {labels}, objective {words.limit(alert.rule.objective)}"


def _value(alert: AlertView) -> str:
    score, objective = alert.score, words.limit(alert.rule.objective)
    value = f"{alert.rule.of} recall {words.percent(score.value)} ({words.interval(score)})"
    return f"{value}, objective {objective}"


def _details(alert: AlertView, as_of_ms: int) -> Iterable[str]:
    if alert.wants_attention:
        yield from _history(alert, as_of_ms)
    else:
        if alert.status is Status.OK:
            held = words.duration(max(0, as_of_ms - alert.since_ms))
            yield f"Since {words.clock(alert.since_ms, near_ms=as_of_ms)}, {held}"
        yield alert.whose or "all variants"
    yield f"rule {alert.rule.name}"


def _history(alert: AlertView, as_of_ms: int) -> Iterable[str]:
    """When it fired, on what, and what has happened since."""

    def clock(at_ms: int) -> str:
        return words.clock(at_ms, near_ms=as_of_ms)

    ago = words.duration(max(1000, as_of_ms - alert.fired_ms))
    yield f"Fired {clock(alert.fired_ms)}, {ago} ago"
    if alert.fired and alert.evidence_ms is not None:
        yield f"{alert.fired.reason}, of predictions since {clock(alert.evidence_ms)}"
    if alert.status is Status.RECOVERING:
        resolves = clock(alert.fired_ms + alert.rule.hold_ms)
        yield f"recovering since {clock(alert.since_ms)}, resolves at {resolves} if it stays so"
    elif alert.since_ms > alert.fired_ms:
        yield f"recovered in between, firing again since {clock(alert.since_ms)}"
