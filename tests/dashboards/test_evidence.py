"""What is said of alerts by evidence: how sure, and who has taken them on or silenced them."""

from dataclasses import replace

import pytest

from dashboards import banner
from dashboards.banner import AlertView, Freshness
from dashboards.overlays import NOT_TAKEN
from dashboards.theme import Tone
from monitor.domain import alerts
from monitor.domain.alerts import AlertKey, AlertState, Event, Status, Transition
from monitor.domain.overlays import Action, Deed, Overlays, Silence
from monitor.domain.rules import AlertRule, Metric
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.votes import Vote
from monitor.domain.windows import DAY_MS, MINUTE_MS
from tests.dashboards.scenes import BY_EVIDENCE, NOON_MS

FRESH = Freshness(NOON_MS, age_ms=2_000)
KEY = SliceKey("fine_tuned")
CHANCE = (
    "if urgent recall were 80% or better, evidence this strong would turn up less than once in "
)
ACK = Action("a", Deed.ACKNOWLEDGE, NOON_MS, "ana", "rolling back", "x-2")
SILENCE = Silence("s", (), NOON_MS, NOON_MS + 120 * MINUTE_MS, "bo", "retraining")


def voted(
    votes: str, *, version: str = "", rule: AlertRule = BY_EVIDENCE
) -> tuple[dict[AlertKey, AlertState], list[Transition]]:
    """The alert after these votes, a minute apart, the last one at noon; h is a hit."""
    first_ms = NOON_MS - (len(votes) - 1) * MINUTE_MS
    cast = [
        Vote(at_ms, f"p{at_ms}", rule.name, KEY, at_ms - 1_000, vote == "h", version=version)
        for number, vote in enumerate(votes)
        for at_ms in [first_ms + number * MINUTE_MS]
    ]
    judged = alerts.evaluate([rule], {}, cast, NOON_MS + 1)
    return judged.states, judged.transitions


def view(votes: str, overlays: Overlays | None = None, *, version: str = "") -> AlertView:
    states, moved = voted(votes, version=version)
    over = {} if overlays is None else dict.fromkeys(states, overlays)
    [shown] = banner.alert_views([BY_EVIDENCE], states, moved, ALL, over)
    return shown


@pytest.mark.parametrize(
    ("votes", "status", "tone", "title"),
    [
        (
            "h" * 60 + "m" * 9,
            Status.FIRING,
            Tone.CRITICAL,
            "fine_tuned firing: urgent recall 0.0% over its last 9 mature labels (95% interval "
            "0–30%), "
            "objective 80%.",
        ),
        (
            "h" * 60 + "m" * 9 + "h" * 8,
            Status.FIRING,
            Tone.CRITICAL,
            "fine_tuned firing: urgent recall 55.0% over its last 20 mature labels (95% interval "
            "34–74%), "
            "objective 80%.",
        ),
        (
            "h" * 60 + "m" * 9 + "h" * 20,
            Status.FIRING,
            Tone.CRITICAL,
            "fine_tuned firing, its last labels good: urgent recall 100.0% over its last 20 mature "
            "labels (95% interval 84–100%), objective 80%; it ends once enough good labels say "
            "that the "
            "drop is over.",
        ),
        (
            "h" * 60 + "mmmh" * 10,
            Status.FIRING,
            Tone.CRITICAL,
            "fine_tuned firing: urgent recall 25.0% over its last 40 mature labels "
            "(95% interval 14–40%), objective 80%.",
        ),
        (
            "h" * 60 + "m" * 7,
            Status.WARNING,
            Tone.WARNING,
            "fine_tuned warning, degraded vs baseline: urgent recall 0.0% over its last 7 mature "
            "labels (95% interval 0–35%), healthy from 88%, objective 80%.",
        ),
        (
            "h" * 60 + "m" * 7 + "h" * 20,
            Status.WARNING,
            Tone.WARNING,
            "fine_tuned warning, its last labels good: urgent recall 100.0% over its last 20 "
            "mature labels (95% interval 84–100%), healthy from 88%, objective 80%; it ends once "
            "enough "
            "good labels say that the drop is over.",
        ),
        (
            "h" * 60,
            Status.OK,
            Tone.OK,
            "OK: urgent recall 100.0% (95% interval 94–100%, n = 60), objective 80%.",
        ),
    ],
)
def test_a_title_says_what_the_evidence_is(
    votes: str, status: Status, tone: Tone, title: str
) -> None:
    shown = view(votes)
    notice = banner.describe(shown, FRESH)
    assert (shown.status, notice.tone, notice.title) == (status, tone, title)


def test_a_firing_alert_says_how_rare_such_evidence_is() -> None:
    notice = banner.describe(view("h" * 60 + "m" * 9), FRESH)
    assert notice.body == (
        "Not acknowledged: nobody has taken it on\n\nFiring since 12:00 UTC, for 1 s; the evidence "
        "begins with predictions of 11:51 UTC · at 12:00 UTC, when it fired: 0 of the last 9 "
        f"mature urgent labels were hits · {CHANCE}36\u202f000 labels · rule urgent-recall"
    )


def test_a_warning_says_it_of_what_is_healthy() -> None:
    body = banner.describe(view("h" * 60 + "m" * 7), FRESH).body
    assert "Warning since 12:00 UTC, for 1 s" in body
    assert "at 12:00 UTC, when it warned: 0 of the last 7 mature urgent labels" in body
    assert CHANCE.replace("80%", "88%") in body


def test_a_recovering_alert_shows_its_last_labels_and_when_it_resolves() -> None:
    rule = replace(BY_EVIDENCE, hold_ms=2 * 3_600_000)
    states, moved = voted("h" * 60 + "m" * 9 + "h" * 60, rule=rule)
    [shown] = banner.alert_views([rule], states, moved, ALL)
    notice = banner.describe(shown, FRESH)
    assert shown.status is Status.RECOVERING
    assert notice.title.startswith("fine_tuned recovering: urgent recall 100.0% over its last 60")
    assert "resolves at 13:00 UTC if it stays so" in notice.body
    assert CHANCE in notice.body


def test_a_firing_alert_says_that_it_gets_better_while_its_evidence_still_stands() -> None:
    body = banner.describe(view("h" * 60 + "m" * 40 + "h" * 20), FRESH).body
    assert "20 of its last 20 mature labels were hits: it ends once" in body
    assert "of its last 20" not in banner.describe(view("h" * 60 + "m" * 40), FRESH).body


@pytest.mark.parametrize(
    ("overlays", "said"),
    [
        (Overlays(acknowledged=ACK), "Acknowledged by ana at 12:00 UTC: rolling back"),
        (Overlays(silenced=SILENCE), f"Silenced by bo until 14:00 UTC: retraining · {NOT_TAKEN}"),
        (
            Overlays(inhibited="all fires for all variants"),
            f"Muted: all fires for all variants · {NOT_TAKEN}",
        ),
        (Overlays(stalled=True), f"Stalled: no mature label since 12:00 UTC · {NOT_TAKEN}"),
        (
            Overlays(acknowledged=ACK, silenced=SILENCE),
            "Acknowledged by ana at 12:00 UTC: rolling back · silenced by bo until 14:00 UTC: "
            "retraining",
        ),
    ],
)
def test_overlays_stand_before_the_details_and_change_neither_state_nor_colour(
    overlays: Overlays, said: str
) -> None:
    plain = banner.describe(view("h" * 60 + "m" * 9), FRESH)
    notice = banner.describe(view("h" * 60 + "m" * 9, overlays), FRESH)
    assert (notice.tone, notice.title) == (plain.tone, plain.title)
    assert notice.body.split("\n\n") == [said, plain.body.split("\n\n")[1]]


def test_a_silence_names_the_day_when_it_ends_on_another() -> None:
    over = Overlays(silenced=SILENCE._replace(until_ms=NOON_MS + DAY_MS))
    body = banner.describe(view("h" * 60, over), FRESH).body
    assert body.startswith("Silenced by bo until 2026-11-23 12:00 UTC: retraining\n\n")


def test_an_alert_that_is_ok_stays_green_when_it_is_silenced() -> None:
    assert banner.describe(view("h" * 60, Overlays(silenced=SILENCE)), FRESH).tone is Tone.OK


def test_an_alert_that_is_ok_is_not_green_when_its_labels_have_stalled() -> None:
    states, moved = voted("h" * 60)
    [state] = states.values()
    state.is_stalled = True
    [shown] = banner.alert_views([BY_EVIDENCE], states, moved, ALL)
    notice = banner.describe(shown, FRESH)
    assert shown.wants_attention
    assert notice.tone is Tone.WARNING
    assert notice.title.startswith("fine_tuned OK, but stalled: urgent recall 100.0%")
    assert notice.body.startswith("Stalled: no mature label since 12:00 UTC\n\nSince 11:01 UTC")


def test_each_alert_names_its_version_when_there_are_several() -> None:
    old, moved = voted("h" * 60 + "m" * 9, version="v1")
    new, _ = voted("h" * 60, version="v2")
    shown = banner.alert_views([BY_EVIDENCE], {**old, **new}, moved, ALL)
    titles = [banner.describe(each, FRESH).title for each in shown]
    assert titles[0].startswith("fine_tuned, version v1 firing: ")
    assert "fine_tuned, version v2" in banner.describe(shown[1], FRESH).body


def test_corrections_are_told_of_the_evidence_alone() -> None:
    states, moved = voted("h" * 60 + "m" * 9)
    [state] = states.values()
    state.corrected = (NOON_MS - 60 * MINUTE_MS, NOON_MS - 3 * MINUTE_MS, NOON_MS - 2 * MINUTE_MS)
    [shown] = banner.alert_views([BY_EVIDENCE], states, moved, ALL)
    assert " · 2 of these labels corrected after counting · " in banner.describe(shown, FRESH).body


@pytest.mark.parametrize(
    ("corrected", "said"), [(0, None), (99, " · 99 of these"), (100, " · at least 100 of these")]
)
def test_corrections_are_no_more_than_what_is_known(corrected: int, said: str | None) -> None:
    states, moved = voted("m" * 20)
    [state] = states.values()
    state.corrected = (NOON_MS,) * corrected
    [shown] = banner.alert_views([BY_EVIDENCE], states, moved, ALL)
    body = banner.describe(shown, FRESH).body
    assert (said is None) == ("corrected" not in body)
    assert said is None or said in body


def judgement(moved: list[Transition], event: Event, at_ms: int = NOON_MS) -> Transition:
    raised = moved[-1]
    return replace(
        raised,
        id="j-1",
        at_ms=at_ms,
        moved_from=raised.moved_to,
        event=event,
        judges="" if event is Event.RAISED else raised.id,
        reason="with complete labels, 45 of 50 urgent votes were hits",
    )


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Event.RETRACTED, "retracted in hindsight: with complete labels, 45 of 50"),
        (Event.CONFIRMED, "confirmed in hindsight: with complete labels, 45 of 50"),
        (Event.RAISED, "raised in hindsight: with complete labels, 45 of 50"),
    ],
)
def test_a_judgement_in_hindsight_is_told_and_leaves_the_state(event: Event, said: str) -> None:
    states, moved = voted("h" * 60 + "m" * 9)
    told = [*moved, judgement(moved, event)]
    [shown] = banner.alert_views([BY_EVIDENCE], states, told, ALL)
    notice = banner.describe(shown, FRESH)
    assert notice.title.startswith("fine_tuned firing: ")
    assert f" · {said}" in notice.body


def test_a_judgement_is_forgotten_once_the_alert_was_raised_anew() -> None:
    states, moved = voted("h" * 60 + "m" * 9)
    again = replace(moved[-1], id="x-9")
    told = [*moved, judgement(moved, Event.RETRACTED), again]
    [shown] = banner.alert_views([BY_EVIDENCE], states, told, ALL)
    assert shown.judged is None


@pytest.mark.parametrize(("age_ms", "is_told"), [(7 * DAY_MS, True), (7 * DAY_MS + 1, False)])
def test_an_alert_that_is_over_tells_of_its_judgement_for_a_week(
    age_ms: int, is_told: bool
) -> None:
    states, moved = voted("h" * 60 + "m" * 9 + "h" * 90)
    raised = [each for each in moved if each.moved_to is Status.FIRING][:1]
    told = [*moved, judgement(raised, Event.RETRACTED, NOON_MS - age_ms)]
    [shown] = banner.alert_views([BY_EVIDENCE], states, told, ALL)
    body = banner.describe(shown, FRESH).body
    assert shown.status is Status.OK
    assert ("what was firing at 10:30 UTC is retracted in hindsight" in body) is is_told


def test_a_title_names_what_is_measured() -> None:
    rule = replace(BY_EVIDENCE, metric=Metric.PRECISION)
    states, moved = voted("h" * 60, rule=rule)
    [shown] = banner.alert_views([rule], states, moved, ALL)
    assert banner.describe(shown, FRESH).title.startswith("OK: urgent precision 100.0%")


def test_what_people_write_is_one_line() -> None:
    act = replace(ACK, who="a\nna", note="x\n\n# y\u202e" + "z" * 300)
    body = banner.describe(view("h" * 60, Overlays(acknowledged=act)), FRESH).body
    first = body.partition("\n\n")[0]
    assert first.startswith("Acknowledged by a na at 12:00 UTC: x # y z")
    assert len(first) < 240
