"""Who is told: acts of people, what mutes what, and that none of it touches a state."""

import itertools
from collections.abc import Mapping
from dataclasses import replace

import pytest

from monitor.domain.alerts import AlertKey, AlertState, Event, Status, Transition
from monitor.domain.errors import ActRefused
from monitor.domain.overlays import (
    Action,
    Deed,
    Overlays,
    acknowledge,
    matches,
    overlays_of,
    raised_by,
    silence,
    silences,
    silences_of,
    unsilence,
)
from monitor.domain.rules import AlertRule, Metric, Severity, Signal, SignalRule
from monitor.domain.slices import ALL, SliceKey

NOW = 1_000_000
HOUR = 3_600_000
URGENT = frozenset({"fraud"})
NO_DATA, OK, WARNING, FIRING, RECOVERING = Status

RULE = AlertRule("urgent-recall", "urgent", URGENT, 0.8)
WEB = AlertKey("urgent-recall", SliceKey("ft", "channel=web"), "v1")


def alert(rule: str = "mine", variant: str = "ft", of_slice: str = ALL, v: str = "v1") -> AlertKey:
    return AlertKey(rule, SliceKey(variant, of_slice), v)


def moved(number: int, moved_from: Status, moved_to: Status, of: AlertKey = WEB) -> Transition:
    return Transition(
        f"{of.rule}-{number}",
        of.rule,
        of.key,
        moved_from,
        moved_to,
        0,
        None,
        "",
        version=of.version,
    )


def muting(
    until_ms: int = NOW + HOUR, action_id: str = "s1", matchers: Mapping[str, str] | None = None
) -> Action:
    return silence(
        action_id=action_id,
        matchers={"rule": "urgent-recall"} if matchers is None else matchers,
        until_ms=until_ms,
        who="kim",
        note="planned work",
        at_ms=NOW - HOUR,
    )


def taken_back(silence_id: str = "s1") -> Action:
    return Action("u1", Deed.UNSILENCE, NOW - 1, "lee", "", silence_id)


def over(
    *actions: Action,
    status: Status = FIRING,
    raised: str = "t2",
    now_ms: int = NOW,
    is_stalled: bool = False,
) -> Overlays:
    """What lies over one alert on its own."""
    return overlays_of(
        WEB,
        states={WEB: AlertState(status, is_stalled=is_stalled)},
        raised={WEB: raised} if raised else {},
        rules={RULE.name: RULE},
        actions=actions,
        now_ms=now_ms,
    )


# Silences


def test_a_silence_holds_until_its_end_and_not_at_it() -> None:
    action = muting(until_ms=NOW)
    assert [each.id for each in silences_of([action], NOW - 1)] == ["s1"]
    assert silences_of([action], NOW) == []


def test_a_silence_holds_no_more_once_it_was_taken_back() -> None:
    entered = [muting(), taken_back()]
    assert silences_of(entered, NOW) == []
    assert [each.is_ended for each in silences(entered)] == [True]


def test_taking_one_silence_back_leaves_the_others() -> None:
    entered = [muting(), muting(action_id="s2"), taken_back("s1"), taken_back("unknown")]
    assert [each.id for each in silences_of(entered, NOW)] == ["s2"]


@pytest.mark.parametrize(
    ("matchers", "is_match"),
    [
        ({"rule": "urgent-recall"}, True),
        ({"variant": "ft"}, True),
        ({"slice": "channel=web"}, True),
        ({"rule": "urgent-recall", "variant": "ft", "slice": "channel=web"}, True),
        ({"rule": "urgent-recall", "variant": "prompt"}, False),
        ({"rule": "urgent"}, False),
        ({"slice": "ALL"}, False),
        ({"version": "v1"}, False),
        ({}, False),
    ],
)
def test_a_silence_mutes_what_agrees_with_all_that_it_names(
    matchers: Mapping[str, str], is_match: bool
) -> None:
    assert matches(WEB, matchers.items()) is is_match


def test_a_firing_alert_is_muted_no_more_when_its_silence_runs_out() -> None:
    assert over(muting(), now_ms=NOW).is_muted
    assert not over(muting(), now_ms=NOW + HOUR).is_muted


def test_of_several_silences_the_one_that_lasts_longest_is_shown() -> None:
    found = over(muting(), muting(NOW + 2 * HOUR, "s2"), muting(NOW + 1, "s3")).silenced
    assert found is not None
    assert (found.id, found.who, found.note) == ("s2", "kim", "planned work")


@pytest.mark.parametrize(
    ("matchers", "until_ms", "note", "says"),
    [
        ({}, NOW + 1, "why", "must name at least one of rule, variant, slice"),
        ({"rule": "r", "colour": "red"}, NOW + 1, "why", "not colour"),
        ({"rule": "r"}, NOW, "why", "must end after it begins"),
        ({"rule": "r"}, NOW + 1, " ", "reason must not be empty"),
    ],
)
def test_a_silence_that_makes_no_sense_is_refused(
    matchers: Mapping[str, str], until_ms: int, note: str, says: str
) -> None:
    with pytest.raises(ActRefused, match=says):
        silence(
            action_id="s1", matchers=matchers, until_ms=until_ms, who="kim", note=note, at_ms=NOW
        )


@pytest.mark.parametrize(
    ("entered", "says"),
    [
        ([], "no silence s9 holds; none holds"),
        ([muting(), muting(action_id="s2")], "no silence s9 holds; those that hold: s1, s2"),
        ([muting(NOW, "s9")], "none holds"),
        ([muting(action_id="s9"), taken_back("s9")], "none holds"),
    ],
)
def test_only_a_silence_that_holds_can_be_taken_back(entered: list[Action], says: str) -> None:
    with pytest.raises(ActRefused, match=says):
        unsilence(action_id="u1", silence_id="s9", actions=entered, who="kim", note="", at_ms=NOW)


def test_a_silence_that_was_taken_back_mutes_nothing() -> None:
    entered = [muting()]
    entered.append(
        unsilence(action_id="u", silence_id="s1", actions=entered, who="lee", note="", at_ms=NOW)
    )
    assert over(*entered).silenced is None


# Acknowledgements


def acknowledged(raised: str = "t2") -> Action:
    return acknowledge(
        action_id="a1", alert=WEB, raised={WEB: raised}, who="kim", note="looking", at_ms=NOW
    )


def test_an_acknowledgement_names_the_transition_that_raised_the_alert() -> None:
    action = acknowledged()
    assert (action.target, action.who, action.note) == ("t2", "kim", "looking")
    assert over(action).acknowledged == action


def test_an_acknowledged_alert_is_not_muted() -> None:
    assert not over(acknowledged()).is_muted


@pytest.mark.parametrize("raised", ["", "t5"], ids=["resolved", "raised again"])
def test_an_acknowledgement_ends_with_the_episode_that_it_names(raised: str) -> None:
    assert over(acknowledged(), raised=raised).acknowledged is None


def test_of_two_acknowledgements_the_first_is_shown() -> None:
    later = replace(acknowledged(), id="a2", who="lee")
    assert over(acknowledged(), later).acknowledged == acknowledged()


def test_an_alert_that_is_not_up_cannot_be_acknowledged() -> None:
    with pytest.raises(ActRefused, match="neither firing nor warning"):
        acknowledge(action_id="a", alert=WEB, raised={}, who="kim", note="mine", at_ms=NOW)


@pytest.mark.parametrize(("who", "note"), [("kim", " "), ("", "mine")])
def test_an_acknowledgement_needs_a_name_and_a_note(who: str, note: str) -> None:
    with pytest.raises(ActRefused, match="must not be empty"):
        acknowledge(action_id="a", alert=WEB, raised={WEB: "t"}, who=who, note=note, at_ms=NOW)


# Which alerts are up


@pytest.mark.parametrize(
    ("path", "raised"),
    [
        ([NO_DATA, OK], None),
        ([NO_DATA, OK, WARNING], 2),
        ([NO_DATA, OK, FIRING], 2),
        ([NO_DATA, OK, WARNING, FIRING], 3),
        ([NO_DATA, OK, FIRING, RECOVERING], 2),
        ([NO_DATA, OK, FIRING, RECOVERING, FIRING], 2),
        ([NO_DATA, OK, FIRING, RECOVERING, OK], None),
        ([NO_DATA, OK, WARNING, OK], None),
        ([NO_DATA, OK, FIRING, NO_DATA], None),
        ([NO_DATA, OK, FIRING, OK, FIRING], 4),
    ],
)
def test_an_alert_is_up_from_the_move_that_raised_it_until_it_resolves(
    path: list[Status], raised: int | None
) -> None:
    steps = [moved(n, *pair) for n, pair in enumerate(itertools.pairwise(path), start=1)]
    expected = {} if raised is None else {WEB: f"urgent-recall-{raised}"}
    assert raised_by(steps) == expected
    assert raised_by(steps[1:], raised_by(steps[:1])) == expected


def test_what_is_no_move_raises_and_resolves_nothing() -> None:
    fired = moved(1, OK, FIRING)
    notes = [replace(moved(n, FIRING, OK), event=event) for n, event in enumerate(Event, start=2)]
    others = [note for note in notes if note.event is not Event.MOVED]
    assert raised_by([fired, *others]) == {WEB: "urgent-recall-1"}


# Inhibition


MINE = AlertRule("mine", "urgent", URGENT, 0.8)
OTHER = AlertRule("other", "urgent", URGENT, 0.8)
EARLY = SignalRule("early", Signal.PREDICTED_SHARE, of="urgent", group=URGENT)
DELAY = SignalRule("delay", Signal.LABEL_DELAY)
VOLUME = SignalRule("volume", Signal.VOLUME)
REJECTED = SignalRule("rejected", Signal.REJECTED_SHARE)


def inhibited(
    mine: tuple[AlertKey, Status],
    other: tuple[AlertKey, Status],
    *,
    other_rule: AlertRule = OTHER,
    my_rule: AlertRule = MINE,
) -> str:
    """What mutes the one alert while the other one stands as given."""
    signals = (EARLY, DELAY, VOLUME, REJECTED)
    both = (mine, other)
    return overlays_of(
        mine[0],
        states={key: AlertState(at) for key, at in both if key.rule in {"mine", "other"}},
        raised={key: "t" for key, at in both if at not in {OK, NO_DATA}},
        rules={rule.name: rule for rule in (my_rule, other_rule, *signals)},
        actions=[],
        now_ms=NOW,
    ).inhibited


@pytest.mark.parametrize("louder", [FIRING, RECOVERING])
def test_a_firing_alert_mutes_a_warning_about_the_same(louder: Status) -> None:
    says = inhibited((alert("mine"), WARNING), (alert("other"), louder))
    assert says == "other fires for ft"


@pytest.mark.parametrize(
    ("mine", "other", "parent"),
    [
        (alert(of_slice="channel=web"), alert(), "mine fires for ft"),
        (alert(), alert(variant=ALL), "mine fires for all variants"),
        (alert(of_slice="c=web"), alert(variant=ALL), "mine fires for all variants"),
        (alert(of_slice="c=web"), alert("other"), "other fires for ft"),
        (
            alert(of_slice="c=web"),
            alert("other", ALL, "c=web"),
            "other fires for all variants c=web",
        ),
    ],
)
@pytest.mark.parametrize("mine_is", [WARNING, FIRING, RECOVERING])
def test_a_parent_that_fires_mutes_its_children(
    mine: AlertKey, other: AlertKey, parent: str, mine_is: Status
) -> None:
    assert inhibited((mine, mine_is), (other, FIRING)) == parent


@pytest.mark.parametrize(
    ("mine", "mine_is", "other", "other_is"),
    [
        (alert(), FIRING, alert("other"), FIRING),
        (alert(), WARNING, alert("other"), WARNING),
        (alert(), WARNING, alert("other"), OK),
        (alert(of_slice="c=web"), FIRING, alert(), WARNING),
        (alert(), FIRING, alert(of_slice="c=web"), FIRING),
        (alert(of_slice="c=web"), FIRING, alert(of_slice="c=app"), FIRING),
        (alert(), WARNING, alert("other", "prompt"), FIRING),
        (alert(), WARNING, alert("other", v="v2"), FIRING),
        (alert(of_slice="c=web"), FIRING, alert(v="v2"), FIRING),
    ],
    ids=[
        "two pages about the same",
        "two warnings about the same",
        "one that is ok",
        "a parent that only warns",
        "a child of mine",
        "a sibling",
        "another variant",
        "a warning about another version",
        "a parent of another version",
    ],
)
def test_an_alert_is_not_muted_by(
    mine: AlertKey, mine_is: Status, other: AlertKey, other_is: Status
) -> None:
    assert inhibited((mine, mine_is), (other, other_is)) == ""


@pytest.mark.parametrize(
    "unlike",
    [
        replace(OTHER, of="fees"),
        replace(OTHER, metric=Metric.PRECISION),
        replace(OTHER, where=(("channel", "web"),)),
    ],
    ids=["other intents", "another metric", "a part of the records"],
)
def test_an_alert_about_something_else_mutes_nothing(unlike: AlertRule) -> None:
    mine, other = (alert(of_slice="c=web"), FIRING), (alert("other"), FIRING)
    assert inhibited(mine, other) != ""
    assert inhibited(mine, other, other_rule=unlike) == ""


def test_a_rule_about_all_records_is_the_parent_of_one_about_a_part() -> None:
    part = replace(MINE, where=(("channel", "web"),))
    assert inhibited((alert(), FIRING), (alert("other"), FIRING), my_rule=part) != ""


def test_a_parent_that_wakes_nobody_does_not_mute_a_page() -> None:
    quiet = replace(OTHER, severity=Severity.WARNING)
    mine, other = alert(of_slice="c=web"), (alert("other"), FIRING)
    assert inhibited((mine, FIRING), other, other_rule=quiet) == ""
    assert inhibited((mine, WARNING), other, other_rule=quiet) != ""


@pytest.mark.parametrize(
    ("down", "is_muted"),
    [
        (alert("volume", v=""), True),
        (alert("volume", "prompt", v=""), False),
        (alert("rejected", ALL, v=""), True),
        (alert("delay", v=""), False),
        (alert("early", v=""), False),
    ],
)
def test_signals_of_the_pipeline_mute_alerts_about_the_model(
    down: AlertKey, is_muted: bool
) -> None:
    says = f"{down.rule} warns that the input is broken" if is_muted else ""
    assert inhibited((alert(), FIRING), (down, WARNING)) == says
    assert inhibited((alert("delay", v=""), WARNING), (down, WARNING)) == says
    assert inhibited((alert(), FIRING), (down, OK)) == ""


def test_nothing_mutes_a_signal_of_the_pipeline() -> None:
    volume = (alert("volume", v=""), WARNING)
    assert inhibited(volume, (alert("rejected", ALL, v=""), WARNING)) == ""
    assert inhibited(volume, (alert("other"), FIRING)) == ""


def test_an_early_warning_is_muted_while_the_same_intents_page() -> None:
    early = (alert("early", v=""), WARNING)
    assert inhibited(early, (alert("other"), FIRING)) == "other fires for ft"
    assert inhibited(early, (alert("other", "prompt"), FIRING)) == ""
    assert inhibited(early, (alert("other", of_slice="c=web"), FIRING)) == ""
    assert inhibited((alert("delay", v=""), WARNING), (alert("other"), FIRING)) == ""


def test_an_alert_of_a_rule_that_is_gone_neither_mutes_nor_is_muted() -> None:
    gone = AlertKey("gone", SliceKey())
    assert inhibited((gone, FIRING), (alert("other"), FIRING)) == ""
    assert inhibited((alert(), FIRING), (gone, FIRING)) == ""


# Stalled, and states


def test_stalled_is_told_and_mutes_nothing() -> None:
    assert over(is_stalled=True) == Overlays(stalled=True)
    assert not over(is_stalled=True).is_muted


def test_an_alert_without_a_state_has_no_overlay_of_its_own() -> None:
    nothing = overlays_of(WEB, states={}, raised={}, rules={}, actions=[], now_ms=NOW)
    assert nothing == Overlays()


def test_overlays_never_change_a_state() -> None:
    states = {WEB: AlertState(FIRING, since_ms=5, moves=2)}
    before = {WEB: states[WEB].copy()}
    overlays_of(
        WEB,
        states=states,
        raised={WEB: "t2"},
        rules={RULE.name: RULE},
        actions=[muting(), acknowledged()],
        now_ms=NOW,
    )
    assert states == before
