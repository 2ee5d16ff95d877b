"""Alerts as people handle them: which are up, what lies over them, and what came before."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from monitor.app.report import iso
from monitor.app.wiring import ESTIMATE_NAME
from monitor.domain.alerts import (
    AlertKey,
    AlertState,
    Event,
    Status,
    Transition,
    fingerprint,
    hindsight_of,
)
from monitor.domain.engine import Spec
from monitor.domain.errors import ActRefused
from monitor.domain.evaluation import Evaluation
from monitor.domain.overlays import (
    Action,
    Deed,
    Overlays,
    acknowledge,
    matches,
    overlays_of,
    raised_by,
    silence,
    unsilence,
)
from monitor.domain.rules import AlertRule, SignalRule
from monitor.domain.slices import ALL
from monitor.ports import StateReader

Rules = Mapping[str, AlertRule | SignalRule]


class Standing(NamedTuple):
    """One alert as it stands. ``state`` is None for one about a signal, ``raised`` "" if not up.

    ``moved`` is its last move, None before the first.
    """

    alert: AlertKey
    status: Status
    state: AlertState | None
    raised: str
    moved: Transition | None
    overlays: Overlays

    @property
    def id(self) -> str:
        """Short and stable, as people type it."""
        return fingerprint(self.alert)

    @property
    def since_ms(self) -> int | None:
        """When the status began, by log time; None before the first vote."""
        return self.moved.at_ms if self.moved else None

    @property
    def is_worth_a_look(self) -> bool:
        """Up, or without votes for longer than chance allows."""
        return bool(self.raised) or self.overlays.stalled


class Handled(NamedTuple):
    """All that is known of alerts at one look."""

    rules: Rules
    standings: list[Standing]
    transitions: list[Transition]
    actions: list[Action]
    raised: Mapping[AlertKey, str]
    evaluation: Evaluation

    def find(self, name: str) -> Standing:
        """The alert with this id, or with a transition of this id; ActRefused names the known."""
        by_transition = {each.id: fingerprint(each.alert) for each in self.transitions}
        wanted = by_transition.get(name, name)
        for standing in self.standings:
            if standing.id == wanted:
                return standing
        known = [each.id for each in self.standings if each.is_worth_a_look] or [
            each.id for each in self.standings
        ]
        raise ActRefused(f"no alert {name}; {_known(known)}")


class Hand(NamedTuple):
    """Who acts, why, and when (wall time). ``id`` is that of the act: the same id, the same act."""

    id: str
    who: str
    note: str
    at_ms: int


def acknowledgement(known: Handled, alert: str, by: Hand) -> Action:
    """Taking on an alert; ActRefused when it is unknown, is not up, or nothing is noted."""
    return acknowledge(
        action_id=by.id,
        alert=known.find(alert).alert,
        raised=known.raised,
        who=by.who,
        note=by.note,
        at_ms=by.at_ms,
    )


def muting(known: Handled, matchers: Mapping[str, str], length_ms: int, by: Hand) -> Action:
    """A silence that begins now; ActRefused when it names an unknown rule, or has no reason."""
    refuse_unknown_rule(known, matchers)
    return silence(
        action_id=by.id,
        matchers=matchers,
        until_ms=by.at_ms + length_ms,
        who=by.who,
        note=by.note,
        at_ms=by.at_ms,
    )


def unmuting(actions: Iterable[Action], silence_id: str, by: Hand) -> Action:
    """The end of a silence before its time; ActRefused when it does not hold."""
    return unsilence(
        action_id=by.id,
        silence_id=silence_id,
        actions=actions,
        who=by.who,
        note=by.note,
        at_ms=by.at_ms,
    )


def _known(ids: list[str]) -> str:
    return f"known are: {', '.join(ids)}" if ids else "there is none yet"


def handled(reader: StateReader, spec: Spec, now_ms: int) -> Handled:
    """Read how all alerts of the rules stand; ``now_ms`` is wall time, for silences."""
    evaluation, transitions, actions = reader.evaluation(), reader.transitions(), reader.actions()
    watched: list[AlertRule | SignalRule] = [*spec.rules, *spec.signals]
    rules = {rule.name: rule for rule in watched}
    raised = {alert: at for alert, at in raised_by(transitions).items() if alert.rule in rules}
    moved = {t.alert: t for t in transitions if t.event is Event.MOVED and t.rule in rules}
    states = {alert: state for alert, state in evaluation.states.items() if alert.rule in rules}
    standings = [
        Standing(
            alert,
            _status(states.get(alert), moved.get(alert)),
            states.get(alert),
            raised.get(alert, ""),
            moved.get(alert),
            overlays_of(
                alert, states=states, raised=raised, rules=rules, actions=actions, now_ms=now_ms
            ),
        )
        for alert in sorted({*states, *moved})
    ]
    return Handled(rules, standings, transitions, actions, raised, evaluation)


def _status(state: AlertState | None, moved: Transition | None) -> Status:
    if state is not None:
        return state.status
    return moved.moved_to if moved else Status.NO_DATA


def row_of(standing: Standing) -> dict[str, object]:
    """One alert as JSON has it."""
    over, state = standing.overlays, standing.state
    hits, n = state.recent_votes if state else (None, None)
    return {
        "id": standing.id,
        "rule": standing.alert.rule,
        "variant": standing.alert.key.variant,
        "slice": standing.alert.key.slice,
        "version": standing.alert.version,
        "status": standing.status,
        "since": iso(standing.since_ms),
        "raised_by": standing.raised or None,
        "reason": standing.moved.reason if standing.moved else None,
        "recent_hits": hits,
        "recent_votes": n,
        "stalled": over.stalled,
        "acknowledged": over.acknowledged and act_row(over.acknowledged),
        "silenced": over.silenced
        and {
            "id": over.silenced.id,
            "who": over.silenced.who,
            "reason": over.silenced.note,
            "until": iso(over.silenced.until_ms),
        },
        "inhibited": over.inhibited or None,
        "muted": over.is_muted,
    }


def act_row(action: Action) -> dict[str, object]:
    """What somebody did as JSON has it."""
    return {
        "id": action.id,
        "deed": action.deed,
        "at": iso(action.at_ms),
        "who": action.who,
        "note": action.note,
        "target": action.target or None,
        "matchers": dict(action.matchers),
        "until": iso(action.until_ms) if action.until_ms else None,
    }


def details_of(known: Handled, standing: Standing) -> dict[str, object]:
    """One alert with its trail, oldest first: moves and judgements by log time, acts by wall time.

    ``missed`` are the latest misses by its last move.
    """
    judged = hindsight_of(known.transitions)
    mine = [each for each in known.transitions if each.alert == standing.alert]
    trail: list[tuple[int, dict[str, object]]] = [
        (
            each.at_ms,
            {
                "at": iso(each.at_ms),
                "id": each.id,
                "event": each.event,
                "from": each.moved_from,
                "to": each.moved_to,
                "reason": each.reason,
                "hindsight": judged.get(each.id),
                "judges": each.judges or None,
            },
        )
        for each in mine
    ]
    trail += [(each.at_ms, act_row(each)) for each in _acts_on(standing, mine, known.actions)]
    rule = known.rules[standing.alert.rule]
    missed = standing.state.missed if standing.state else ()
    return {
        **row_of(standing),
        "missed": [
            {
                "prediction_id": each.prediction_id,
                "event_time": iso(each.event_ms),
                "predicted": each.predicted,
                "actual": each.actual,
            }
            for each in missed
        ],
        "runbook": rule.runbook or None,
        "trail": [entry for _, entry in sorted(trail, key=lambda item: item[0])],
    }


def _acts_on(
    standing: Standing, transitions: Iterable[Transition], actions: Iterable[Action]
) -> Iterator[Action]:
    """What people did that concerns one alert."""
    targets = {each.id for each in transitions}
    for action in actions:
        if action.deed is Deed.SILENCE and matches(standing.alert, action.matchers):
            targets.add(action.id)
            yield action
        elif action.target in targets:
            yield action


def muted_by(known: Handled, matchers: Mapping[str, str]) -> list[Standing]:
    """The alerts known now that a silence with these matchers is about."""
    return [each for each in known.standings if matches(each.alert, matchers.items())]


def line_of(standing: Standing, now_ms: int) -> str:
    """One alert in one line: id, state, whose, since when, why, and what lies over it."""
    since = f"since {iso(standing.since_ms)}: " if standing.moved else ""
    said = standing.moved.reason if standing.moved else "no mature label yet"
    marks = "".join(f" [{words}]" for words in overlay_words(standing.overlays, now_ms))
    return f"{standing.id}  {standing.status:<10}  {whose(standing.alert)}  {since}{said}{marks}"


def whose(alert: AlertKey) -> str:
    """Rule, variant, slice and version in words.

    >>> from monitor.domain.slices import SliceKey
    >>> whose(AlertKey("urgent-recall", SliceKey("fine_tuned", "channel=web"), "v3"))
    'urgent-recall for fine_tuned channel=web, version v3'
    """
    variant = "all variants" if alert.key.variant == ALL else alert.key.variant
    of_slice = "" if alert.key.slice == ALL else f" {alert.key.slice}"
    version = f", version {alert.version}" if alert.version else ""
    return f"{alert.rule} for {variant}{of_slice}{version}"


def overlay_words(over: Overlays, now_ms: int) -> Iterator[str]:
    """What lies over an alert, one phrase each."""
    if over.stalled:
        yield "stalled: no labels come"
    if over.acknowledged:
        yield f"acknowledged by {over.acknowledged.who}: {over.acknowledged.note}"
    if over.silenced and over.silenced.is_active(now_ms):
        until = iso(over.silenced.until_ms)
        yield f"silenced by {over.silenced.who} until {until}: {over.silenced.note}"
    if over.inhibited:
        yield f"inhibited: {over.inhibited}"


def story_of(known: Handled, standing: Standing, now_ms: int) -> Iterator[str]:
    """One alert told in lines."""
    yield line_of(standing, now_ms)
    if standing.raised:
        yield f"raised by transition {standing.raised}"
    yield from _evidence_words(standing)
    missed = standing.state.missed if standing.state else ()
    for each in missed:
        at = iso(each.event_ms)
        yield f"missed: {each.prediction_id} at {at} went to {each.predicted}, was {each.actual}"
    if runbook := known.rules[standing.alert.rule].runbook:
        yield f"runbook: {runbook}"
    yield "trail:"
    yield from _trail_words(known, standing)


def _evidence_words(standing: Standing) -> Iterator[str]:
    evidence = standing.moved.evidence if standing.moved else None
    if evidence is not None:
        labels = f"{evidence.hits} of {evidence.n} votes since {iso(evidence.since_ms)} were hits"
        yield f"evidence: {labels}"
    if standing.state is not None and standing.state.votes:
        hits, n = standing.state.recent_votes
        last = iso(standing.state.last_ms)
        yield f"now: {hits} of the last {n} votes were hits, the last at {last}"


def _trail_words(known: Handled, standing: Standing) -> Iterator[str]:
    judged = hindsight_of(known.transitions)
    mine = [each for each in known.transitions if each.alert == standing.alert]
    lines = [(each.at_ms, _move_words(each, judged.get(each.id))) for each in mine]
    lines += [(each.at_ms, _act_words(each)) for each in _acts_on(standing, mine, known.actions)]
    for at_ms, words in sorted(lines, key=lambda item: item[0]):
        yield f"  {iso(at_ms)}  {words}"


def _move_words(transition: Transition, judged: Event | None) -> str:
    is_move = transition.event is Event.MOVED
    what = f"{transition.moved_from} -> {transition.moved_to}" if is_move else transition.event
    of = f" {transition.judges}" if transition.judges else ""
    hindsight = f" [{judged} in hindsight]" if judged else ""
    return f"{transition.id}  {what}{of}: {transition.reason}{hindsight}"


def _act_words(action: Action) -> str:
    words = {
        Deed.ACKNOWLEDGE: f"acknowledged {action.target}",
        Deed.SILENCE: f"silenced until {iso(action.until_ms)}",
        Deed.UNSILENCE: f"silence {action.target} ended",
    }
    note = f": {action.note}" if action.note else ""
    return f"{action.id}  {words[action.deed]} by {action.who}{note}"


def refuse_unknown_rule(known: Handled, matchers: Mapping[str, str]) -> None:
    """ActRefused when a silence names a rule that nobody wrote: it would mute nothing."""
    rule = matchers.get("rule")
    if rule is not None and rule not in known.rules:
        named = sorted(name for name in known.rules if not name.startswith(ESTIMATE_NAME))
        raise ActRefused(f"no rule {rule}; {_known(named)}")
