"""The words at the top never contradict the state, and are never green when they are old."""

import pytest

from dashboards import banner
from dashboards.banner import AlertView, Freshness
from dashboards.theme import Tone
from monitor.domain.alerts import AlertKey, AlertState, Status, Transition
from monitor.domain.detectors import Evidence, Glance
from monitor.domain.events import Partition
from monitor.domain.ledger import Gap
from monitor.domain.scores import proportion
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import MINUTE_MS
from tests.dashboards.scenes import NOON_MS, RULE

FRESH = Freshness(NOON_MS, age_ms=2_000)
KEY = SliceKey("fine_tuned")


EVIDENCE = Evidence(hits=9, n=20, since_ms=NOON_MS - 40 * MINUTE_MS, value=0.79, bar=0.80)


def alert(
    status: Status, votes: str, *, since_min: int = 19, fired_min: int = 19, key: SliceKey = KEY
) -> AlertView:
    """An alert that fired, ``fired_min`` ago, on 9 hits of 20."""
    ring = tuple((NOON_MS, vote == "h") for vote in votes)
    since_ms, fired_ms = (NOON_MS - minutes * MINUTE_MS for minutes in (since_min, fired_min))
    state = AlertState(
        status, since_ms, fired_ms=fired_ms, glance=Glance(ring), last_ms=NOON_MS - MINUTE_MS
    )
    reason = "9 of the last 20 mature urgent labels were hits"
    moves = [
        Transition("a-2", RULE.name, key, Status.OK, Status.FIRING, fired_ms, EVIDENCE, reason)
    ]
    if since_min != fired_min:
        again = (Status.RECOVERING, Status.FIRING)
        moves.append(Transition("a-4", RULE.name, key, *again, since_ms, EVIDENCE, "not this"))
    [view] = banner.alert_views([RULE], {AlertKey(RULE.name, key): state}, moves, ALL)
    return view


@pytest.mark.parametrize(
    ("status", "votes", "tone", "title"),
    [
        (
            Status.FIRING,
            "h" * 9 + "m" * 11,
            Tone.CRITICAL,
            "fine_tuned firing: urgent recall 45.0% over its last 20 mature labels (95% interval "
            "26–66%), "
            "objective 80%.",
        ),
        (
            Status.FIRING,
            "m" * 16 + "h" * 84,
            Tone.CRITICAL,
            "fine_tuned firing, out of breach: urgent recall 84.0% over its last 100 mature labels "
            "(95% interval 76–90%), objective 80%; clears at 85 hits of the last 100.",
        ),
        (
            Status.RECOVERING,
            "m" * 12 + "h" * 88,
            Tone.WARNING,
            "fine_tuned recovering: urgent recall 88.0% over its last 100 mature labels "
            "(95% interval 80–93%), objective 80%.",
        ),
        (
            Status.OK,
            "m" * 7 + "h" * 93,
            Tone.OK,
            "OK: urgent recall 93.0% (95% interval 86–97%, n = 100), objective 80%.",
        ),
        (
            Status.OK,
            "m" * 25 + "h" * 75,
            Tone.WARNING,
            "OK, below the objective, but within chance: urgent recall 75.0% "
            "(95% interval 66–82%, n = 100), objective 80%.",
        ),
        (
            Status.OK,
            "m" * 9 + "h" * 2,
            Tone.NEUTRAL,
            "Below the objective so far, too few labels (n=11) for a verdict, evidence building: "
            "urgent recall 18.2% (95% interval 5–48%, n = 11), objective 80%.",
        ),
        (
            Status.OK,
            "m" * 20 + "h" * 20,
            Tone.WARNING,
            "Below the objective so far, evidence building: urgent recall 50.0% "
            "(95% interval 35–65%, n = 40), objective 80%.",
        ),
        (
            Status.OK,
            "h" * 12,
            Tone.NEUTRAL,
            "OK so far, too few labels (n=12): urgent recall 100.0% (95% interval 76–100%, n = "
            "12), "
            "objective 80%.",
        ),
    ],
)
def test_a_title_says_state_value_interval_and_objective(
    status: Status, votes: str, tone: Tone, title: str
) -> None:
    notice = banner.describe(alert(status, votes), FRESH)
    assert (notice.tone, notice.title) == (tone, title)


def test_a_notice_says_since_when_and_whose_it_is() -> None:
    notice = banner.describe(alert(Status.OK, "h" * 100), FRESH)
    assert notice.body == "Since 11:41 UTC, 19 min · fine_tuned · rule urgent-recall"


def test_a_title_leaves_the_variant_out_when_the_alert_is_over_all() -> None:
    notice = banner.describe(alert(Status.FIRING, "h" * 9 + "m" * 11, key=SliceKey(ALL)), FRESH)
    assert notice.title == (
        "Firing: urgent recall 45.0% over the last 20 mature labels (95% interval 26–66%), "
        "objective 80%."
    )
    assert notice.body.endswith("mature urgent labels were hits · rule urgent-recall")


def test_a_title_names_the_slice_after_the_variant() -> None:
    key = SliceKey("fine_tuned", "locale=de")
    notice = banner.describe(alert(Status.FIRING, "m" * 20, key=key), FRESH)
    assert notice.title.startswith("fine_tuned, locale=de firing: urgent recall 0.0%")


def test_a_firing_alert_says_when_on_what_and_since_which_predictions() -> None:
    notice = banner.describe(alert(Status.FIRING, "m" * 20), FRESH)
    assert notice.body == (
        "Not acknowledged: nobody has taken it on\n\nFiring since 11:41 UTC, for 19 min; the "
        "evidence begins with predictions of 11:20 UTC · at 11:41 UTC, when it fired: 9 of the "
        "last 20 mature urgent labels were hits · by 11:59 UTC, its latest label: 0 of the last 20 "
        "· rule urgent-recall"
    )


def test_a_firing_alert_keeps_what_made_it_fire_when_it_recovered_in_between() -> None:
    notice = banner.describe(alert(Status.FIRING, "m" * 20, since_min=5), FRESH)
    assert notice.body == (
        "Not acknowledged: nobody has taken it on\n\nFiring since 11:41 UTC, for 19 min; the "
        "evidence begins with predictions of 11:20 UTC · at 11:41 UTC, when it fired: 9 of the "
        "last 20 mature urgent labels were hits · by 11:59 UTC, its latest label: 0 of the last 20 "
        "· recovered in between, firing again since 11:55 UTC · rule urgent-recall"
    )


def test_a_firing_alert_says_what_it_can_when_its_transition_is_not_known() -> None:
    state = AlertState(Status.FIRING, NOON_MS, NOON_MS, 2, glance=Glance(((NOON_MS, False),) * 20))
    [view] = banner.alert_views([RULE], {AlertKey(RULE.name, KEY): state}, [], ALL)
    body = banner.describe(view, FRESH).body
    assert body == (
        "Not acknowledged: nobody has taken it on\n\nFiring since 12:00 UTC, for 1 s · "
        "rule urgent-recall"
    )


def test_a_recovering_alert_says_when_it_resolves() -> None:
    notice = banner.describe(alert(Status.RECOVERING, "h" * 100, since_min=3), FRESH)
    assert "Raised since 11:41 UTC, for 19 min" in notice.body
    assert "at 11:41 UTC, when it fired: 9 of the last 20" in notice.body
    assert "recovering since 11:57 UTC, resolves at 12:11 UTC if it stays so" in notice.body


def test_what_fires_comes_before_what_recovers_whosever_it_is() -> None:
    ok, recovering = alert(Status.OK, "h" * 100), alert(Status.RECOVERING, "h" * 100)
    firing = alert(Status.FIRING, "m" * 20)
    assert banner.attention(ok, recovering, firing) == (firing, recovering)


def test_since_names_the_day_when_it_is_not_today() -> None:
    notice = banner.describe(alert(Status.OK, "h" * 100, since_min=60 * 30), FRESH)
    assert notice.body.startswith("Since 2026-11-21 06:00 UTC, 1 d 6 h")


def test_a_rule_that_saw_no_vote_has_no_data() -> None:
    [view] = banner.alert_views([RULE], {}, [], ALL)
    notice = banner.describe(view, FRESH)
    assert notice.tone is Tone.NEUTRAL
    assert notice.title == "No data: no mature urgent label yet, objective 80%."


@pytest.mark.parametrize("age_ms", [90_001, 400_000, None])
def test_nothing_is_green_when_it_is_stale(age_ms: int | None) -> None:
    stale = Freshness(NOON_MS, age_ms)
    notice = banner.describe(alert(Status.OK, "h" * 100), stale)
    assert notice.tone is Tone.NEUTRAL
    assert notice.title.startswith("Last known state: OK: ")


def test_staleness_says_of_when_the_numbers_speak() -> None:
    notice = banner.staleness(Freshness(NOON_MS, 260_000))
    assert notice is not None
    assert notice.tone is Tone.WARNING
    assert notice.title == "Stale — no new window for 4 min."
    assert notice.body == "Everything below describes 12:00 UTC, not now."


def test_staleness_is_critical_when_it_lasts_longer_than_5_minutes() -> None:
    notice = banner.staleness(Freshness(NOON_MS, 300_001))
    assert notice is not None
    assert notice.tone is Tone.CRITICAL
    assert "No alert can fire" in notice.body


def test_staleness_is_silent_when_a_worker_lives() -> None:
    assert banner.staleness(FRESH) is None


LOST = [Gap(Partition("predictions", number), 100 * number, 200 * number) for number in range(1, 6)]


def test_lost_records_are_named_with_their_offsets() -> None:
    notice = banner.incomplete(LOST[:2])
    assert notice is not None
    assert notice.tone is Tone.CRITICAL
    assert notice.title == (
        "Numbers are incomplete: predictions[1]@100-199, predictions[2]@200-399 lost."
    )
    assert "Retention must be longer" in notice.body


def test_only_some_lost_records_are_named_when_there_are_many_gaps() -> None:
    notice = banner.incomplete(LOST)
    assert notice is not None
    assert notice.title.endswith("predictions[3]@300-599 and 2 more lost.")


def test_nothing_is_said_of_lost_records_when_there_are_none() -> None:
    assert banner.incomplete([]) is None


def test_nothing_is_green_when_records_were_lost() -> None:
    notice = banner.describe(alert(Status.OK, "h" * 100), FRESH, is_complete=False)
    assert notice.tone is Tone.NEUTRAL
    assert notice.title.startswith("As far as counted: OK: urgent recall 100.0%")


def test_what_fires_is_critical_when_records_were_lost() -> None:
    notice = banner.describe(alert(Status.FIRING, "m" * 20), FRESH, is_complete=False)
    assert notice.tone is Tone.CRITICAL


def test_alerts_are_in_order_of_badness() -> None:
    votes = tuple((NOON_MS, True) for _ in range(100))
    states = {
        AlertKey(RULE.name, SliceKey(status.value)): AlertState(status, glance=Glance(votes))
        for status in Status
    }
    views = banner.alert_views([RULE], states, [], ALL)
    assert [view.key.variant for view in views] == [
        "firing",
        "recovering",
        "warning",
        "no_data",
        "ok",
    ]


def test_an_unwatched_group_shows_its_number_without_a_verdict() -> None:
    notice = banner.unwatched("urgent", proportion(9, 10))
    assert notice.tone is Tone.NEUTRAL
    assert (
        notice.title == "No rule watches urgent: urgent recall 90.0% (95% interval 60–98%, n = 10)."
    )
