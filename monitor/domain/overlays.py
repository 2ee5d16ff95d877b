"""What lies over an alert and changes who is told, never its state: people's acts and inhibition.

=============  ====================================================================================
acknowledged   somebody has taken it on: no reminders until it resolves, or gets worse
silenced       somebody wants to hear nothing of such alerts until an instant, or until taken back
inhibited      another alert says the same already, or says that the numbers mean little
stalled        no votes come; mutes nothing
=============  ====================================================================================
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from monitor.domain.alerts import AlertKey, AlertState, Event, Status, Transition
from monitor.domain.errors import ActRefused
from monitor.domain.rules import AlertRule, Severity, SignalRule
from monitor.domain.slices import ALL, SliceKey

MATCHED = ("rule", "variant", "slice")
"""What a silence may name."""

_RAISED = {Status.WARNING, Status.FIRING}
_LOUD = {Status.FIRING, Status.RECOVERING}


class Deed(StrEnum):
    """What somebody did."""

    ACKNOWLEDGE = "acknowledge"
    SILENCE = "silence"
    UNSILENCE = "unsilence"
    FORGET = "forget"
    HANDLE = "handle"
    REOPEN = "reopen"
    REVEAL = "reveal"


@dataclass(frozen=True, slots=True)
class Action:
    """What somebody did about alerts or misses; never changed once entered. ``at_ms`` is wall time.

    An acknowledgement names the transition (``target``) with which the alert fired. A silence holds
    until ``until_ms`` for alerts that agree with all its ``matchers``: pairs of ``rule``,
    ``variant`` or ``slice`` and a value. Ending one names its id as ``target``. A request to
    forget is about no alert: it has the ``hashes`` by which the journal names the predictions.
    Handling a miss, opening it again and revealing its text name its reference as ``target``; who
    handles one may name a ``ticket``.
    """

    id: str
    deed: Deed
    at_ms: int
    who: str
    note: str
    target: str = ""
    matchers: tuple[tuple[str, str], ...] = ()
    until_ms: int = 0
    hashes: tuple[str, ...] = ()
    ticket: str = ""


class Silence(NamedTuple):
    """A silence as it stands. It holds while not ``is_ended`` and before ``until_ms``, wall time.

    ``is_ended`` tells that somebody took it back.
    """

    id: str
    matchers: tuple[tuple[str, str], ...]
    at_ms: int
    until_ms: int
    who: str
    note: str
    is_ended: bool = False

    def is_active(self, now_ms: int) -> bool:
        """Whether it mutes at ``now_ms``; at ``until_ms`` it does not any more."""
        return not self.is_ended and now_ms < self.until_ms


class Overlays(NamedTuple):
    """What lies over one alert. ``inhibited`` says in words what mutes it, "" for nothing."""

    acknowledged: Action | None = None
    silenced: Silence | None = None
    inhibited: str = ""
    stalled: bool = False

    @property
    def is_muted(self) -> bool:
        """Whether nobody is to be told. An acknowledged alert is not: only reminders end."""
        return self.silenced is not None or bool(self.inhibited)


def acknowledge(
    *,
    action_id: str,
    alert: AlertKey,
    raised: Mapping[AlertKey, str],
    who: str,
    note: str,
    at_ms: int,
) -> Action:
    """Taking on an alert that is up; ActRefused when it is not, or nothing is noted."""
    if alert not in raised:
        raise ActRefused("it is neither firing nor warning, so there is nothing to acknowledge")
    said = _said(note, "note")
    return Action(action_id, Deed.ACKNOWLEDGE, at_ms, _said(who, "who"), said, raised[alert])


def silence(
    *,
    action_id: str,
    matchers: Mapping[str, str],
    until_ms: int,
    who: str,
    note: str,
    at_ms: int,
) -> Action:
    """Muting what agrees with ``matchers``; ActRefused when it names nothing, or too much.

    It must name a rule, a variant or a slice, have a reason, and end after it begins.
    """
    if not matchers:
        raise ActRefused(f"a silence must name at least one of {', '.join(MATCHED)}")
    if unknown := sorted(set(matchers) - set(MATCHED)):
        raise ActRefused(f"a silence matches {', '.join(MATCHED)}, not {', '.join(unknown)}")
    if until_ms <= at_ms:
        raise ActRefused("a silence must end after it begins")
    said, pairs = _said(note, "reason"), tuple(sorted(matchers.items()))
    return Action(
        action_id, Deed.SILENCE, at_ms, _said(who, "who"), said, matchers=pairs, until_ms=until_ms
    )


def unsilence(
    *, action_id: str, silence_id: str, actions: Iterable[Action], who: str, note: str, at_ms: int
) -> Action:
    """Taking a silence back before its time; ActRefused, naming those that hold, for another."""
    holding = [each.id for each in silences_of(actions, at_ms)]
    if silence_id not in holding:
        known = f"those that hold: {', '.join(holding)}" if holding else "none holds"
        raise ActRefused(f"no silence {silence_id} holds; {known}")
    return Action(action_id, Deed.UNSILENCE, at_ms, _said(who, "who"), note.strip(), silence_id)


def forget(*, action_id: str, hashes: tuple[str, ...], who: str, note: str, at_ms: int) -> Action:
    """Having predictions forgotten; ActRefused when nobody asks for it."""
    said = _said(who, "who")
    return Action(action_id, Deed.FORGET, at_ms, said, note.strip(), hashes=hashes)


def handle(
    *, action_id: str, reference: str, ticket: str, who: str, note: str, at_ms: int
) -> Action:
    """Seeing to a missed message; ActRefused when nobody does. Ticket and note may be empty."""
    said = _said(who, "who")
    return Action(
        action_id, Deed.HANDLE, at_ms, said, note.strip(), reference, ticket=ticket.strip()
    )


def reopen(*, action_id: str, reference: str, who: str, note: str, at_ms: int) -> Action:
    """Saying that a missed message is not seen to after all; ActRefused without a reason."""
    said = _said(note, "reason")
    return Action(action_id, Deed.REOPEN, at_ms, _said(who, "who"), said, reference)


def reveal(*, action_id: str, reference: str, who: str, note: str, at_ms: int) -> Action:
    """Looking at what somebody wrote; ActRefused when nobody does, or gives no reason."""
    said = _said(note, "reason")
    return Action(action_id, Deed.REVEAL, at_ms, _said(who, "who"), said, reference)


def _said(text: str, what: str) -> str:
    if not text.strip():
        raise ActRefused(f"{what} must not be empty")
    return text.strip()


def silences(actions: Iterable[Action]) -> list[Silence]:
    """Every silence there ever was, in the order in which they were entered."""
    found: dict[str, Silence] = {}
    for action in actions:
        if action.deed is Deed.SILENCE:
            found[action.id] = Silence(
                action.id, action.matchers, action.at_ms, action.until_ms, action.who, action.note
            )
        elif action.deed is Deed.UNSILENCE and action.target in found:
            found[action.target] = found[action.target]._replace(is_ended=True)
    return list(found.values())


def silences_of(actions: Iterable[Action], now_ms: int) -> list[Silence]:
    """The silences that hold at ``now_ms``, wall time, in the order in which they were entered."""
    return [each for each in silences(actions) if each.is_active(now_ms)]


def matches(alert: AlertKey, matchers: Iterable[tuple[str, str]]) -> bool:
    """Whether the alert agrees with all of them, value by value; never with none at all.

    >>> alert = AlertKey("urgent-recall", SliceKey("fine_tuned", "channel=web"))
    >>> matches(alert, [("rule", "urgent-recall"), ("slice", "channel=web")])
    True
    """
    values = {"rule": alert.rule, "variant": alert.key.variant, "slice": alert.key.slice}
    pairs = list(matchers)
    return bool(pairs) and all(values.get(name) == value for name, value in pairs)


def raised_by(
    transitions: Iterable[Transition], before: Mapping[AlertKey, str] | None = None
) -> dict[AlertKey, str]:
    """The alerts that are up after ``transitions``, each with the transition that raised it.

    That is its latest move to warning or firing, one from recovering to firing left out. An alert
    that was warning and fires is raised anew. ``before`` is what earlier transitions left.
    """
    raised = dict(before or {})
    for moved in transitions:
        if moved.event is not Event.MOVED:
            continue
        if moved.moved_to in _RAISED and moved.moved_from is not Status.RECOVERING:
            raised[moved.alert] = moved.id
        elif moved.moved_to in {Status.OK, Status.NO_DATA}:
            raised.pop(moved.alert, None)
    return raised


def overlays_of(
    alert: AlertKey,
    *,
    states: Mapping[AlertKey, AlertState],
    raised: Mapping[AlertKey, str],
    rules: Mapping[str, AlertRule | SignalRule],
    actions: Iterable[Action],
    now_ms: int,
) -> Overlays:
    """What lies over ``alert`` at ``now_ms``, wall time.

    ``raised`` is what ``raised_by`` says of all transitions. Alerts about signals have no entry in
    ``states``. Of several silences the one that lasts longest is given.
    """
    entered = list(actions)
    state = states.get(alert)
    holding = [each for each in silences_of(entered, now_ms) if matches(alert, each.matchers)]
    return Overlays(
        acknowledged=_acknowledgement(raised.get(alert), entered),
        silenced=max(holding, key=lambda each: each.until_ms, default=None),
        inhibited=_inhibited(alert, states, raised, rules),
        stalled=state is not None and state.is_stalled,
    )


def _acknowledgement(raised_id: str | None, actions: Iterable[Action]) -> Action | None:
    """The first one that names the transition with which the alert was raised."""
    for action in actions:
        if action.deed is Deed.ACKNOWLEDGE and action.target == raised_id:
            return action
    return None


def _inhibited(
    alert: AlertKey,
    states: Mapping[AlertKey, AlertState],
    raised: Mapping[AlertKey, str],
    rules: Mapping[str, AlertRule | SignalRule],
) -> str:
    rule = rules.get(alert.rule)
    if rule is None or (isinstance(rule, SignalRule) and rule.is_of_pipeline):
        return ""
    for other in sorted(raised):
        if _is_pipeline_down(other, alert, rules):
            return f"{other.rule} warns that the input is broken"
    is_page = _is_page(alert, rule, states)
    is_warning = isinstance(rule, SignalRule) or _status(alert, states) is Status.WARNING
    for other in sorted(raised):
        louder = rules.get(other.rule)
        if not isinstance(louder, AlertRule) or _status(other, states) not in _LOUD:
            continue
        if is_page and not _is_page(other, louder, states):
            continue
        if _covers(other, louder, alert, rule, or_equals=is_warning):
            return f"{other.rule} fires for {_whose(other.key)}"
    return ""


def _is_pipeline_down(
    other: AlertKey, alert: AlertKey, rules: Mapping[str, AlertRule | SignalRule]
) -> bool:
    """Whether a signal warns that what the alert is about does not arrive."""
    rule = rules.get(other.rule)
    is_about = other.key.variant in {ALL, alert.key.variant}
    return isinstance(rule, SignalRule) and rule.is_of_pipeline and is_about


def _is_page(
    alert: AlertKey, rule: AlertRule | SignalRule, states: Mapping[AlertKey, AlertState]
) -> bool:
    is_severe = isinstance(rule, AlertRule) and rule.severity is Severity.PAGE
    return is_severe and _status(alert, states) in _LOUD


def _covers(
    other: AlertKey,
    wide: AlertRule,
    alert: AlertKey,
    rule: AlertRule | SignalRule,
    *,
    or_equals: bool,
) -> bool:
    """Whether ``other`` is about all that ``alert`` is about, and more, ``or_equals``: or as much.

    Both must be about the same thing and the same version; signals do not tell versions apart.
    """
    where: set[tuple[str, str]] = set()
    if isinstance(rule, AlertRule):
        where = set(rule.where)
        if wide.metric is not rule.metric or other.version != alert.version:
            return False
    if other == alert or wide.of != rule.of or not set(wide.where) <= where:
        return False
    sides = list(zip(other.key, alert.key, strict=True))
    if any(ours not in {ALL, theirs} for ours, theirs in sides):
        return False
    return or_equals or other.key != alert.key or set(wide.where) < where


def _status(alert: AlertKey, states: Mapping[AlertKey, AlertState]) -> Status | None:
    state = states.get(alert)
    return None if state is None else state.status


def _whose(key: SliceKey) -> str:
    variant = "all variants" if key.variant == ALL else key.variant
    return variant if key.slice == ALL else f"{variant} {key.slice}"
