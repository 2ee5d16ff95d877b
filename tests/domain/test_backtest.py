"""Episodes of alerts, and which of two rule sets are about the same trouble."""

from monitor.domain.alerts import Event, Status, Transition
from monitor.domain.backtest import (
    Change,
    Episode,
    ThresholdRule,
    ThresholdWatch,
    Watched,
    compare,
    episodes_of,
)
from monitor.domain.detectors import Evidence
from monitor.domain.rules import Metric
from monitor.domain.slices import SliceKey
from tests.builders import FINE_TUNED, MINUTE_MS, T0, URGENT

RECALL = Watched(Metric.RECALL, "urgent")
PRECISION = Watched(Metric.PRECISION, "urgent")


def episode(
    rule: str, fired: int, *, since: int | None = None, ended: int | None = None
) -> Episode:
    """An alert of one variant; times in minutes."""
    since_ms = None if since is None else T0 + since * MINUTE_MS
    ended_ms = None if ended is None else T0 + ended * MINUTE_MS
    return Episode(f"{rule}-1", rule, FINE_TUNED, "", since_ms, T0 + fired * MINUTE_MS, ended_ms)


def moved(status: Status, at_ms: int, evidence: Evidence | None = None) -> Transition:
    source = Status.OK if status is Status.FIRING else Status.FIRING
    return Transition("a-1", "a", FINE_TUNED, source, status, at_ms, evidence, "because")


def test_rules_of_one_name_are_not_paired_when_they_watch_different_things() -> None:
    live, candidate = [episode("a", 5, since=1)], [episode("a", 6, since=1)]
    balance = Watched(Metric.RECALL, "balance")
    found = compare(live, candidate, {"a": RECALL}, {"a": balance})
    assert [each.change for each in found] == [Change.GAINED]


def test_recall_and_precision_of_the_same_intents_are_not_paired() -> None:
    live, candidate = [episode("a", 5, since=1)], [episode("b", 6, since=1)]
    found = compare(live, candidate, {"a": RECALL}, {"b": PRECISION})
    assert [each.change for each in found] == [Change.GAINED]


def test_rules_that_swapped_their_names_are_paired_by_what_they_watch() -> None:
    live = [episode("a", 5, since=1), episode("b", 9, since=1)]
    candidate = [episode("a", 9, since=1), episode("b", 5, since=1)]
    watched, tried = {"a": RECALL, "b": PRECISION}, {"a": PRECISION, "b": RECALL}
    found = compare(live, candidate, watched, tried)
    assert [each.change for each in found] == [Change.SAME, Change.SAME]


def test_a_candidate_like_the_live_rule_is_the_same_whatever_else_is_tried() -> None:
    live, same = [episode("a", 5, since=1)], episode("a", 5, since=1)
    others = [episode("b", 4, since=1), episode("c", 6, since=1)]
    alone = compare(live, [same], {"a": RECALL}, {"a": RECALL})
    among = compare(live, [*others, same], {"a": RECALL}, dict.fromkeys("bca", RECALL))
    assert [each.change for each in alone] == [Change.SAME]
    assert [(each.rule, each.change) for each in among] == [
        ("b", Change.EARLIER),
        ("c", Change.LATER),
        ("a", Change.SAME),
    ]


def test_a_candidate_named_as_a_live_rule_is_compared_with_that_one_alone() -> None:
    live = [episode("a", 5, since=1), episode("b", 5, since=1)]
    watched = {"a": RECALL, "b": RECALL}
    own = compare(live, [episode("a", 5, since=1)], watched, {"a": RECALL})
    assert [(each.live, each.change) for each in own] == [(live[0], Change.SAME)]
    other = compare(live, [episode("n", 6, since=1)], watched, {"n": RECALL})
    assert [each.live for each in other] == live
    assert {each.change for each in other} == {Change.LATER}


def test_what_a_candidate_leaves_out_is_not_lost_by_it() -> None:
    live = [episode("a", 5, since=1)]
    other = Watched(Metric.RECALL, "urgent", (("variant", "another"),))
    whole = Watched(Metric.RECALL, "urgent", per=())
    assert compare(live, [], {"a": RECALL}, {"n": other, "w": whole}) == []
    assert [each.change for each in compare(live, [], {"a": RECALL}, {"n": RECALL})] == [
        Change.LOST
    ]


def test_a_rule_of_a_slice_may_raise_alerts_of_that_slice_alone() -> None:
    german = Watched(Metric.RECALL, "urgent", (("lang", "de"),), ("variant", "lang"))
    assert german.may_raise(SliceKey("v", "lang=de"))
    assert not german.may_raise(SliceKey("v", "lang=den"))
    assert not german.may_raise(SliceKey("v"))
    hidden = Watched(Metric.RECALL, "urgent", (("lang", "de"),))
    assert hidden.may_raise(SliceKey("v"))
    assert not hidden.is_like(RECALL)


def test_a_live_alert_takes_the_partner_of_its_own_version() -> None:
    new, old = (episode("a", 5, since=1)._replace(version=v, id=v) for v in ("new", "old"))
    found = compare([new, old], [old, new], {"a": RECALL}, {"a": RECALL})
    assert [(each.live, each.candidate) for each in found] == [(new, new), (old, old)]


def test_an_alert_without_a_first_instant_lasts_from_its_page() -> None:
    live = [episode("a", 5, since=1, ended=20)]
    during, after = episode("n", 9, ended=12), episode("n", 20, ended=25)
    about = {"a": RECALL}, {"n": RECALL}
    assert [each.change for each in compare(live, [during], *about)] == [Change.LATER]
    assert [each.change for each in compare(live, [after], *about)] == [Change.LOST, Change.GAINED]


def test_time_to_detect_is_unknown_without_a_first_instant_and_never_negative() -> None:
    assert episode("a", 5).delay_ms is None
    assert episode("a", 5, since=3).delay_ms == 2 * MINUTE_MS
    assert episode("a", 5, since=7).delay_ms == 0


def test_evidence_gives_an_episode_its_first_instant() -> None:
    told = moved(Status.FIRING, T0 + 5, Evidence(1, 9, T0, 0.1, 0.8))
    (known,) = episodes_of([told, moved(Status.OK, T0 + 9)])
    assert (known.since_ms, known.fired_ms, known.ended_ms) == (T0, T0 + 5, T0 + 9)
    (unknown,) = episodes_of([moved(Status.FIRING, T0 + 5)])
    assert (unknown.since_ms, unknown.ended_ms) == (None, None)


def test_a_naive_rule_says_nothing_of_since_when_and_is_never_judged() -> None:
    watch = ThresholdWatch(ThresholdRule("n", "urgent", URGENT, 0.8, support=2))
    watch.observe(FINE_TUNED, T0, 1, 2)
    watch.observe(FINE_TUNED, T0 + MINUTE_MS, 0, 1)
    (found,) = episodes_of(watch.transitions)
    assert (found.since_ms, found.judged) == (None, None)
    assert (found.fired_ms, found.ended_ms) == (T0, T0 + MINUTE_MS)
    assert [each.event for each in watch.transitions] == [Event.MOVED, Event.MOVED]
