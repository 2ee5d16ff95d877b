"""What the Live page says of signals that warn: the value, since when, and the limit."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dashboards import history, words
from dashboards.banner import Freshness, Notice
from dashboards.overlays import NOTHING_OVER, overlays_in_words
from dashboards.theme import Tone
from monitor.domain.alerts import AlertKey, Status, Transition
from monitor.domain.measures import DRIFT_LASTS_MS
from monitor.domain.overlays import Overlays
from monitor.domain.rules import Signal, SignalRule
from monitor.domain.signals import SignalKey, SignalState
from monitor.domain.slices import ALL, SliceKey

MOST_SIGNALS = 3
"""Told in full; more of them are counted."""

_LENGTHS = frozenset({Signal.LABEL_DELAY, Signal.LATENCY_P95})
_DRIFTS = frozenset({Signal.SHARE_DRIFT, Signal.SCORE_DRIFT})


@dataclass(frozen=True, slots=True)
class SignalView:
    """One signal that warns. ``raised`` is the transition that says so, None when not known."""

    rule: SignalRule
    variant: str
    state: SignalState
    raised: Transition | None = None
    overlays: Overlays = NOTHING_OVER


def alert_of(key: SignalKey) -> AlertKey:
    """Under what name a signal stands among transitions, silences and acknowledgements."""
    return AlertKey(key.rule, SliceKey(key.variant))


def alert_of_view(view: SignalView) -> AlertKey:
    """The same of one that warns."""
    return alert_of(SignalKey(view.rule.name, view.variant))


def signal_views(
    rules: Iterable[SignalRule],
    states: Mapping[SignalKey, SignalState],
    transitions: Sequence[Transition],
    overlays: Mapping[AlertKey, Overlays],
    variant: str,
) -> tuple[SignalView, ...]:
    """All signals that warn: those that speak of ``variant`` first, then the latest first.

    An estimate without an objective is for display and warns of nothing.
    """
    known = {rule.name: rule for rule in rules}
    raised = history.of(transitions).raised
    views = [
        SignalView(
            known[key.rule],
            key.variant,
            state,
            raised.get(alert_of(key)),
            overlays.get(alert_of(key), NOTHING_OVER),
        )
        for key, state in states.items()
        if key.rule in known and state.status is Status.WARNING and _is_told(known[key.rule])
    ]
    return tuple(sorted(views, key=lambda view: _order(view, variant)))


def describe(views: Sequence[SignalView], freshness: Freshness) -> Notice | None:
    """All warnings in one notice, None where there are none; a stale one says of when it speaks."""
    if not views:
        return None
    near_ms = freshness.as_of_ms or 0
    said = [(_title(view), _body(view, near_ms)) for view in views[:MOST_SIGNALS]]
    title, body = said[0]
    if len(views) > 1:
        title = f"{len(views)} signals warn."
        body = "\n\n".join(f"{name} {details}" for name, details in said)
    if more := len(views) - len(said):
        body += f"\n\nAnd {more} more."
    return Notice(Tone.WARNING, f"Last known state: {title}" if freshness.is_stale else title, body)


def limit_of(rule: SignalRule) -> str:
    """When it warns, in words.

    >>> limit_of(SignalRule("slow", Signal.LATENCY_P95, above=800.0))
    'warns above 800 ms'
    >>> limit_of(SignalRule("fewer", Signal.PREDICTED_SHARE, "urgent", below=0.01))
    'warns below 1.0%, or 4 standard errors below the 14 d before'
    """
    said = [
        f"{side} {_value(rule.signal, bound)}"
        for side, bound in (("below", rule.below), ("above", rule.above))
        if bound is not None
    ]
    if rule.signal is Signal.PREDICTED_SHARE:
        before = words.duration(rule.reference_ms)
        said.append(f"{-rule.z:g} standard errors below the {before} before")
    if rule.signal is Signal.ESTIMATE and rule.objective is not None:
        least = words.limit(rule.objective)
        said.append(f"when two standard errors above the estimate do not reach {least}")
    if rule.signal in _DRIFTS:
        said.append(f"for {words.duration(DRIFT_LASTS_MS)} after a change")
    return f"warns {', or '.join(said)}" if said else "has no limit"


def _is_told(rule: SignalRule) -> bool:
    return rule.signal is not Signal.ESTIMATE or rule.objective is not None


def _order(view: SignalView, variant: str) -> tuple[bool, int, str, str]:
    is_other = variant != ALL and view.variant not in {ALL, variant}
    return is_other, -view.state.since_ms, view.rule.name, view.variant


def _subject(view: SignalView) -> str:
    said = "warning"
    if view.state.value is None:
        said = "warning, value unknown now"
    elif view.state.good_ms >= 0:
        said = "warning, good by now"
    if view.variant == ALL:
        return f"{said[:1].upper()}{said[1:]}"
    return f"{words.one_line(view.variant)} {said}"


def _title(view: SignalView) -> str:
    return f"{_subject(view)}: {words.told(view.state.reason)}."


def _body(view: SignalView, near_ms: int) -> str:
    over = overlays_in_words(view.overlays, last_ms=view.state.last_ms, near_ms=near_ms)
    return " · ".join([*_details(view, near_ms), *over, f"rule {view.rule.name}"])


def _details(view: SignalView, near_ms: int) -> Iterator[str]:
    state, rule = view.state, view.rule
    is_bad = state.value is not None and state.good_ms < 0

    def clock(at_ms: int) -> str:
        return words.clock(at_ms, near_ms=near_ms)

    ago = words.duration(max(1000, near_ms - state.since_ms))
    warned = f"Warned {clock(state.since_ms)}, {ago} ago"
    if view.raised is not None and not is_bad:
        warned += f": {words.told(view.raised.reason)}"
    yield warned
    if state.good_ms >= 0:
        ends = clock(state.good_ms + rule.hold_ms)
        yield f"good since {clock(state.good_ms)}, ends at {ends} if it stays so"
    if state.quiet_ms >= 0:
        yield f"no value since {clock(state.quiet_ms)}"
    if not is_bad or state.limit not in {rule.below, rule.above} - {None}:
        yield limit_of(rule)


def _value(signal: Signal, value: float) -> str:
    if signal in _LENGTHS:
        return words.span(value)
    if signal is Signal.VOLUME:
        return f"{value:g} an hour"
    return words.percent(value)
