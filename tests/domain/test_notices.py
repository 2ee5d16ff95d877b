"""Who is told what, and when: a table of stories on one time line, told to one receiver."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from monitor.codec.notices import pack_told, unpack_told
from monitor.domain.alerts import AlertKey, Event, Missed, Status, Transition, fingerprint
from monitor.domain.detectors import Evidence
from monitor.domain.notice_text import News
from monitor.domain.notices import MOST_RECORDS, Mode, Notice, Route, Told, plan
from monitor.domain.overlays import Action, Deed, Overlays, Silence
from monitor.domain.rules import AlertRule, Severity, Signal, SignalRule
from monitor.domain.slices import SliceKey
from tests.builders import T0

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
KEY = SliceKey("fine_tuned")
GROUP = frozenset({"lost_card"})
RUNBOOK = "https://wiki.example/urgent"
RULES: dict[str, AlertRule | SignalRule] = {
    "urgent": AlertRule("urgent", "urgent", GROUP, 0.80, runbook=RUNBOOK, baseline=0.92),
    "fraud": AlertRule("fraud", "urgent", GROUP, 0.80),
    "soft": AlertRule("soft", "soft", GROUP, 0.80, severity=Severity.WARNING),
    "volume": SignalRule("volume", Signal.VOLUME),
}
NOTHING = Overlays()
SILENCED = Overlays(silenced=Silence("s1", (), T0, T0 + 9 * HOUR, "ann", "deploy"))
ACKNOWLEDGED = Overlays(acknowledged=Action("a1", Deed.ACKNOWLEDGE, T0, "ann", "on it"))
INHIBITED = Overlays(inhibited="the pipeline is down")

S = Status
FIRED, WARNED, RESOLVED = (S.OK, S.FIRING), (S.OK, S.WARNING), (S.FIRING, S.OK)
ESCALATED, RECOVERING, RELAPSED = (
    (S.WARNING, S.FIRING),
    (S.FIRING, S.RECOVERING),
    (S.RECOVERING, S.FIRING),
)


class Story:
    """One receiver, told at instants that only grow."""

    def __init__(self, route: Route | None = None) -> None:
        self.route = route or Route("r", dashboard_url="https://monitor.example")
        self.transitions: list[Transition] = []
        self.told: Told | None = None
        self.over: Callable[[AlertKey], Overlays] = lambda _: NOTHING

    def move(
        self,
        how: tuple[Status, Status] = FIRED,
        *,
        rule: str = "urgent",
        version: str = "2",
        event: Event = Event.MOVED,
        judges: str = "",
    ) -> Transition:
        alert = AlertKey(rule, KEY, version)
        transition = Transition(
            f"{fingerprint(alert)}-{len(self.transitions) + 1}",
            rule,
            KEY,
            *how,
            T0,
            Evidence(12, 30, T0 - HOUR, 40_000.0, 36_000.0),
            "12 of the last 30 mature urgent labels were hits",
            version=version,
            event=event,
            judges=judges,
            missed=(Missed("p<1>", T0, "chat", "lost_card"),),
        )
        self.transitions.append(transition)
        return transition

    def at(self, seconds: float) -> list[Notice]:
        """Every notice that is due so many seconds after T0; what was told survives as text."""
        sent: list[Notice] = []
        while True:
            now_ms = T0 + int(seconds * SECOND)
            notice, told = plan(self.route, RULES, self.transitions, self.told, self.over, now_ms)
            self.told = unpack_told(pack_told(told))
            assert self.told == told
            if notice is None:
                return sent
            sent.append(notice)

    def news(self, seconds: float) -> list[list[str]]:
        return [[str(item.news) for item in notice.items] for notice in self.at(seconds)]


def begun(route: Route | None = None) -> Story:
    """A receiver that has seen the beginning."""
    story = Story(route)
    assert story.at(0) == []
    return story


def test_a_page_is_told_once_after_the_group_wait() -> None:
    story = begun()
    fired = story.move()
    assert story.at(1) == []
    assert story.at(30) == []
    (notice,) = story.at(31)
    assert notice.transition_ids == (fired.id,)
    assert notice.severity is Severity.PAGE
    assert story.at(32) == story.at(3600) == []


def test_a_notice_says_what_how_sure_since_when_what_was_missed_and_where_to_look() -> None:
    story = begun()
    story.move()
    story.at(1)
    (notice,) = story.at(31)
    assert notice.title == "[page] urgent firing: fine_tuned, version 2"
    for words in (
        "What: 12 of the last 30 mature urgent labels were hits (40%).",
        "How sure: if recall were 80% or better, evidence this strong would take 36,000 labels",
        "Since: about 2026-01-15 01:00 UTC; noticed 2026-01-15 02:00 UTC.",
        "Missed: 18 of these 30.",
        "Latest: p‹1› (lost_card → chat).",
        f"Dashboard: https://monitor.example/alerts?alert={notice.items[0].transition.id[:-2]}",
        f"Runbook: {RUNBOOK}",
    ):
        assert words in notice.text


@pytest.mark.parametrize(
    ("rule", "how", "severity"),
    [
        ("urgent", FIRED, Severity.PAGE),
        ("urgent", WARNED, Severity.WARNING),
        ("soft", FIRED, Severity.WARNING),
        ("volume", WARNED, Severity.WARNING),
    ],
)
def test_only_a_rule_that_pages_pages_and_only_when_it_fires(
    rule: str, how: tuple[Status, Status], severity: Severity
) -> None:
    for wanted in Severity:
        story = begun(Route("r", frozenset({wanted})))
        story.move(how, rule=rule)
        story.at(1)
        assert [n.severity for n in story.at(31)] == ([severity] if wanted is severity else [])


def test_the_end_is_told_where_the_beginning_was() -> None:
    paged, warned = (
        begun(Route("p", frozenset({Severity.PAGE}))),
        begun(Route("w", frozenset({Severity.WARNING}))),
    )
    for story in (paged, warned):
        story.move(WARNED, rule="fraud")
        story.at(1), story.at(31)
        story.move(RESOLVED, rule="fraud")
        story.at(600)
    assert paged.news(1200) == []
    assert warned.news(1200) == [["resolved"]]
    for story in (paged, warned):
        story.move()
        story.at(1300), story.at(1400)
        story.move(RESOLVED)
        story.at(2000)
    assert paged.news(2600) == [["resolved"]]
    assert warned.news(2600) == []


def test_an_escalation_is_told_at_once_though_the_warning_was_just_told() -> None:
    story = begun()
    story.move(WARNED)
    story.at(1)
    assert [n.severity for n in story.at(31)] == [Severity.WARNING]
    story.move(ESCALATED)
    story.at(32)
    assert [n.severity for n in story.at(62)] == [Severity.PAGE]


def test_alerts_of_a_group_are_told_together_and_then_at_most_once_in_an_interval() -> None:
    story = begun()
    story.move()
    story.at(1)
    story.move(rule="fraud")
    story.move(version="3")
    assert sorted(map(sorted, story.news(31))) == [["raised", "raised"]]
    assert story.news(61) == [["raised"]]
    story.move(RESOLVED)
    assert story.news(70) == story.news(330) == []
    assert story.news(331) == [["resolved"]]


def test_what_fires_is_told_again_until_it_recovers_or_is_acknowledged() -> None:
    story = begun()
    story.move()
    story.at(1)
    first = story.at(31)
    assert story.news(31 + 4 * 3600 - 1) == []
    again = story.at(31 + 4 * 3600)
    assert again[0].transition_ids == first[0].transition_ids
    assert again[0].id != first[0].id
    assert again[0].items[0].news is News.REMINDER
    story.move(RECOVERING)
    assert story.news(40 * 3600) == []
    story.move(RELAPSED)
    story.over = lambda _: ACKNOWLEDGED
    assert story.news(50 * 3600) == []
    story.over = lambda _: NOTHING
    assert story.news(50 * 3600) == [["reminder"]]


def test_an_acknowledged_alert_still_tells_that_it_is_over() -> None:
    story = begun()
    story.move()
    story.at(1), story.at(31)
    story.over = lambda _: ACKNOWLEDGED
    story.move(RESOLVED)
    story.at(600)
    assert story.news(700) == [["resolved"]]


@pytest.mark.parametrize("mute", [SILENCED, INHIBITED])
def test_what_is_muted_is_held_back_and_told_when_the_mute_ends(mute: Overlays) -> None:
    story = begun()
    story.over = lambda _: mute
    fired = story.move()
    assert story.news(1) == story.news(3600) == []
    story.over = lambda _: NOTHING
    (notice,) = story.at(3601)
    assert notice.transition_ids == (fired.id,)


def test_what_began_and_ended_while_muted_is_not_told() -> None:
    story = begun()
    story.over = lambda _: SILENCED
    story.move()
    story.at(1)
    story.move(RESOLVED)
    story.at(100)
    story.over = lambda _: NOTHING
    assert story.news(9000) == []


def test_what_ended_and_began_again_while_muted_is_told_as_begun() -> None:
    story = begun()
    story.move()
    story.at(1), story.at(31)
    story.over = lambda _: SILENCED
    story.move(RESOLVED)
    again = story.move()
    story.at(100)
    story.over = lambda _: NOTHING
    (notice,) = story.at(9000)
    assert notice.transition_ids == (again.id,)


def test_what_began_and_ended_unmuted_before_anybody_was_told_is_told_whole() -> None:
    story = begun()
    story.move()
    story.move(RESOLVED)
    story.at(1)
    assert story.news(31) == [["raised", "resolved"]]


def test_a_stall_its_end_and_hindsight_are_warnings() -> None:
    story = begun()
    firing = (S.FIRING, S.FIRING)
    fired = story.move()
    story.at(1), story.at(31)
    for event in (Event.STALLED, Event.RESUMED, Event.CONFIRMED, Event.RAISED):
        story.move(firing, event=event)
    story.move(firing, event=Event.RETRACTED, judges=fired.id)
    story.at(400)
    (notice,) = story.at(430)
    assert notice.severity is Severity.WARNING
    news = [str(item.news) for item in notice.items]
    assert news == ["stalled", "resumed", "raised_in_hindsight", "retracted"]
    assert fired.id in notice.items[3].text


def test_a_version_that_is_not_in_use_any_more_ends_its_alert() -> None:
    story = begun()
    story.move()
    story.at(1), story.at(31)
    story.move((S.FIRING, S.NO_DATA))
    story.at(600)
    (notice,) = story.at(700)
    assert notice.title == "[page] urgent ended: fine_tuned, version 2"


def test_a_new_receiver_is_told_what_stands_and_not_the_past() -> None:
    story = Story()
    story.move(rule="fraud")
    story.move(RESOLVED, rule="fraud")
    story.move(event=Event.RAISED, rule="fraud")
    stands = story.move()
    story.at(0)
    (notice,) = story.at(30)
    assert notice.transition_ids == (stands.id,)


def test_a_store_that_went_back_is_read_anew_and_nothing_is_told_twice() -> None:
    story = begun()
    story.move()
    lost = story.move(rule="fraud")
    story.at(1), story.at(31)
    story.transitions.remove(lost)
    assert story.news(1000) == []
    story.move(rule="soft")
    story.at(1001)
    assert story.news(1100) == [["raised"]]


def test_a_rule_that_is_gone_reminds_nobody() -> None:
    story = begun()
    story.move(rule="gone")
    story.at(1), story.at(31)
    assert story.news(100 * 3600) == []


def test_the_same_notice_is_planned_again_when_it_was_not_saved() -> None:
    story = begun()
    story.move()
    story.at(1)
    before = story.told
    first = story.at(31)
    story.told = before
    assert [n.id for n in story.at(35)] == [n.id for n in first]


def test_a_level_is_told_each_minute_at_once_when_it_changes_and_its_end_once() -> None:
    story = begun(Route("am", mode=Mode.LEVEL))
    assert story.news(59) == story.news(61) == []
    story.move(WARNED)
    assert story.news(62) == [["raised"]]
    assert story.news(121) == []
    assert story.news(122) == [["raised"]]
    story.move(ESCALATED)
    assert story.news(123) == [["resolved", "raised"]]
    story.move(RESOLVED)
    (notice,) = story.at(124)
    assert [item.news for item in notice.items] == [News.RESOLVED]
    assert notice.items[0].transition.moved_to is S.FIRING
    assert story.news(1000) == []


def test_a_muted_level_is_not_begun_but_kept_up_where_it_was() -> None:
    story = begun(Route("am", mode=Mode.LEVEL))
    story.move(rule="fraud")
    assert story.news(1) == [["raised"]]
    story.over = lambda _: SILENCED
    story.move()
    (notice,) = story.at(61)
    assert [item.transition.rule for item in notice.items] == ["fraud"]
    story.over = lambda _: NOTHING
    assert story.news(62) == [["raised", "raised"]]


def test_a_record_is_kept_of_every_transition_whatever_mutes_it() -> None:
    story = Story(Route("topic", mode=Mode.RECORD))
    story.over = lambda _: SILENCED
    for _ in range(MOST_RECORDS):
        story.move()
    story.move((S.OK, S.OK), event=Event.MATURITY)
    first, second = story.at(0)
    ids = (*first.transition_ids, *second.transition_ids)
    assert ids == tuple(each.id for each in story.transitions)
    assert story.at(1) == []


def test_names_from_messages_call_nobody_and_carry_no_markup() -> None:
    story = begun()
    fired = story.move()
    story.transitions[0] = replace(fired, key=SliceKey("<!channel> @here\x1b[1m"))
    story.at(1)
    (notice,) = story.at(31)
    assert not set("<>@\x1b") & set(notice.title + notice.text)
