"""From the store to the page "Alerts". No Streamlit, no clock.

The words of a card are those of the Live page, so that the two never say different things.
"""

from collections.abc import Iterator, Mapping, Sequence

from dashboards import banner, focus, history, queries, signals, words
from dashboards.alerts_models import Ack, AlertCard, AlertsView, Entry, Last, Place
from dashboards.banner import AlertView, Freshness, Notice
from dashboards.models import Choice
from dashboards.replay_queries import name_of
from dashboards.signals import SignalView
from dashboards.theme import Tone
from monitor.app.handling import Handled, Standing, handled
from monitor.domain.alerts import AlertKey, Status, Transition, fingerprint
from monitor.domain.engine import Spec
from monitor.domain.ledger import gaps_of
from monitor.domain.overlays import MATCHED, Action, Deed, Overlays, silences_of
from monitor.domain.rules import AlertRule, Metric, SignalRule
from monitor.domain.slices import ALL
from monitor.domain.windows import DAY_MS
from monitor.ports import StateReader

RESOLVED_MS = DAY_MS
"""How long an alert that is over is shown."""

_PLACES = {
    Status.FIRING: Place.FIRING,
    Status.RECOVERING: Place.RECOVERING,
    Status.WARNING: Place.WARNING,
    Status.NO_DATA: Place.NO_DATA,
    Status.OK: Place.WELL,
}
_BADGES = {
    Place.FIRING: "Firing",
    Place.RECOVERING: "Recovering",
    Place.WARNING: "Warning",
    Place.NO_DATA: "No data",
    Place.RESOLVED: "Resolved",
    Place.WELL: "OK",
}


def alerts(
    reader: StateReader, spec: Spec, choice: Choice, *, recent_ms: int, now_ms: int
) -> AlertsView:
    """All alerts, whatever variant is looked at. Raises StoreError when the store is gone."""
    del choice, recent_ms
    known = handled(reader, spec, now_ms)
    freshness = queries.freshness_of(reader, now_ms)
    cards = sorted(_cards(reader, known, spec, freshness), key=lambda card: card.place)
    return AlertsView(
        freshness=freshness,
        cards=tuple(cards),
        silences=tuple(silences_of(known.actions, now_ms)),
        trail=tuple(_trail(known)),
        last=_last(known),
        evaluated_ms=known.evaluation.watermark_ms,
        pane_ms=spec.windows.pane_ms,
        is_complete=not gaps_of(reader.ledger()),
        unread=queries.unread_of(reader),
    )


def rule_in_words(rule: AlertRule | SignalRule) -> str:
    """What must not happen.

    >>> rule_in_words(AlertRule("r", "urgent", frozenset(), 0.8))
    'urgent recall below 80%'
    >>> from monitor.domain.rules import Signal
    >>> rule_in_words(SignalRule("slow", Signal.LATENCY_P95, above=800.0))
    'latency p95 warns above 800 ms'
    """
    if isinstance(rule, AlertRule):
        return f"{rule.of} {rule.metric} below {words.limit(rule.objective)}"
    signal = str(rule.signal).replace("_", " ")
    return f"{rule.of} {signal} {signals.limit_of(rule)}".strip()


def _cards(
    reader: StateReader, known: Handled, spec: Spec, freshness: Freshness
) -> Iterator[AlertCard]:
    """Those of rules, the worst first, then those of signals."""
    over = {each.alert: each.overlays for each in known.standings}
    standings = {each.alert: each for each in known.standings}
    states, moves = known.evaluation.states, known.transitions
    views = banner.alert_views(spec.rules, states, moves, ALL, over)
    for view in focus.with_labels(views, reader, spec, freshness.as_of_ms or 0):
        said = banner.describe(view, freshness)
        yield _card(known, standings.get(view.alert), view.alert, view, said, freshness)
    warn = {
        signals.alert_of_view(view): view
        for view in signals.signal_views(spec.signals, known.evaluation.signals, moves, over, ALL)
    }
    told = [alert for alert in standings if isinstance(known.rules[alert.rule], SignalRule)]
    for alert in dict.fromkeys([*warn, *told]):
        found = warn.get(alert)
        notice = _signal_notice(found, standings.get(alert), freshness)
        yield _card(known, standings.get(alert), alert, found, notice, freshness)


def _signal_notice(
    view: SignalView | None, standing: Standing | None, freshness: Freshness
) -> Notice:
    said = signals.describe([view], freshness) if view else None
    if said is not None:
        return said
    moved = standing.moved if standing else None
    if moved is None:
        return Notice(Tone.NEUTRAL, "No data.", "")
    at = words.clock(moved.at_ms, near_ms=freshness.as_of_ms)
    state = "OK" if moved.moved_to is Status.OK else "No data"
    return Notice(Tone.NEUTRAL, f"{state} since {at}: {words.told(moved.reason)}.", "")


def _card(
    known: Handled,
    standing: Standing | None,
    alert: AlertKey,
    view: AlertView | SignalView | None,
    said: Notice,
    freshness: Freshness,
) -> AlertCard:
    rule = known.rules[alert.rule]
    over = standing.overlays if standing else Overlays()
    place = _place(standing, view, over, freshness)
    mark = _mark(known.transitions, alert)
    is_counted = isinstance(rule, AlertRule) and rule.metric is Metric.RECALL and mark is not None
    is_over = place in {Place.RESOLVED, Place.WELL}
    return AlertCard(
        id=fingerprint(alert),
        place=place,
        badge=_badge(standing, place, over),
        rule=rule_in_words(rule),
        said=said,
        overlays=over,
        matchers=_matchers(alert, is_seen=standing is not None),
        raised=standing.raised if standing else "",
        mark=mark.id if mark else "",
        mark_ms=mark.at_ms if mark else 0,
        runbook=rule.runbook,
        was_taken=_was_taken(known.actions, mark) if is_over else None,
        variant=alert.key.variant,
        of=rule.of,
        misses_of=rule.of if is_counted else "",
    )


def _status(standing: Standing | None, view: AlertView | SignalView | None) -> Status:
    if standing is not None:
        return standing.status
    return view.state.status if isinstance(view, SignalView) else Status.NO_DATA


def _place(
    standing: Standing | None,
    view: AlertView | SignalView | None,
    over: Overlays,
    freshness: Freshness,
) -> Place:
    status = _status(standing, view)
    if status in history.UP:
        return Place.SILENCED if over.silenced else _PLACES[status]
    if over.stalled:
        return Place.NO_DATA
    moved = standing.moved if standing else None
    is_resolved = (
        moved is not None and moved.moved_to is Status.OK and moved.moved_from in history.UP
    )
    if is_resolved and moved and (freshness.as_of_ms or 0) - moved.at_ms <= RESOLVED_MS:
        return Place.RESOLVED
    if status is Status.NO_DATA and not isinstance(view, AlertView):
        # A signal without a value says so on its own page; there is nothing to do about it.
        return Place.WELL
    return _PLACES[status]


def _badge(standing: Standing | None, place: Place, over: Overlays) -> str:
    if place is Place.SILENCED and standing is not None:
        return f"{_BADGES[_PLACES[standing.status]]}, silenced"
    return "Stalled" if over.stalled and place is Place.NO_DATA else _BADGES[place]


def _matchers(alert: AlertKey, *, is_seen: bool) -> tuple[tuple[str, str], ...]:
    """What a silence of this alert names; of one that saw no vote only the rule is known."""
    values = (alert.rule, *alert.key)
    pairs = tuple(zip(MATCHED, values, strict=True))
    return pairs if is_seen else pairs[:1]


def _mark(transitions: Sequence[Transition], alert: AlertKey) -> Transition | None:
    """The transition that raised it last; else its last move."""
    then = history.of(transitions)
    return then.raised.get(alert) or then.moved.get(alert)


def _was_taken(actions: Sequence[Action], mark: Transition | None) -> Ack | None:
    for action in actions:
        if mark is not None and action.deed is Deed.ACKNOWLEDGE and action.target == mark.id:
            return Ack(words.one_line(action.who), action.at_ms)
    return None


def _last(known: Handled) -> Last | None:
    over = history.of(known.transitions).over
    return Last(fingerprint(over.alert), over.at_ms) if over else None


def _trail(known: Handled) -> Iterator[Entry]:
    told = {action.target for action in known.actions}
    moves = {move.id: move for move in known.transitions if move.id in told} if told else {}
    for action in reversed(known.actions):
        yield Entry(action, _about(action, moves))


def _about(action: Action, moves: Mapping[str, Transition]) -> str:
    if action.matchers:
        return ", ".join(f"{name} {words.one_line(value)}" for name, value in action.matchers)
    if action.hashes:
        n = len(action.hashes)
        return f"{words.count(n)} {'prediction' if n == 1 else 'predictions'}"
    move = moves.get(action.target)
    if move is not None:
        return f"{fingerprint(move.alert)} {name_of(move.alert)}"
    kind = "silence " if action.deed is Deed.UNSILENCE else ""
    return f"{kind}{words.one_line(action.target)}"
