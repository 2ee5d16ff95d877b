"""What is said of signals that warn."""

import doctest
from dataclasses import replace

import pytest

from dashboards import signals
from dashboards.banner import Freshness
from dashboards.theme import Tone
from monitor.domain.alerts import Status, Transition
from monitor.domain.overlays import Action, Deed, Overlays
from monitor.domain.rules import Signal, SignalRule
from monitor.domain.signals import SignalKey, SignalState
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import MINUTE_MS
from tests.dashboards.scenes import NOON_MS

FRESH = Freshness(NOON_MS, age_ms=2_000)
RULE = SignalRule("coverage", Signal.LABEL_COVERAGE, below=0.40)
WARNS = SignalState(
    Status.WARNING,
    NOON_MS - 19 * MINUTE_MS,
    value=0.31,
    limit=0.40,
    reason="31 labels came beside 100 predictions, below 40.0%",
)
RAISED = Transition(
    "c-2",
    RULE.name,
    SliceKey("fine_tuned"),
    Status.OK,
    Status.WARNING,
    WARNS.since_ms,
    None,
    "20 labels came beside 100 predictions, below 40.0%",
)


def said(
    *states: SignalState,
    rule: SignalRule = RULE,
    variant: str = "fine_tuned",
    overlays: Overlays | None = None,
    freshness: Freshness = FRESH,
) -> tuple[str, str]:
    """Title and body for one signal, or for one of each variant v0, v1 and so on."""
    names = [variant] if len(states) == 1 else [f"v{number}" for number in range(len(states))]
    keyed = {SignalKey(rule.name, name): s for name, s in zip(names, states, strict=True)}
    over = {signals.alert_of(key): overlays for key in keyed} if overlays else {}
    views = signals.signal_views([rule], keyed, [RAISED], over, ALL)
    notice = signals.describe(views, freshness)
    assert notice is not None
    assert notice.tone is Tone.WARNING
    return notice.title, notice.body


def test_every_example_in_the_documentation_runs() -> None:
    assert doctest.testmod(signals).failed == 0


def test_a_signal_says_its_value_its_limit_and_since_when() -> None:
    assert said(WARNS) == (
        "fine_tuned warning: 31 labels came beside 100 predictions, below 40.0%.",
        "Warned 11:41 UTC, 19 min ago · rule coverage",
    )


def test_a_signal_of_all_variants_names_none() -> None:
    assert said(WARNS, variant=ALL)[0].startswith("Warning: 31 labels came")


def test_a_signal_says_what_it_waits_for_when_it_is_good_by_now() -> None:
    state = replace(WARNS, good_ms=NOON_MS - 10 * MINUTE_MS, value=0.5, reason="50 labels came")
    title, body = said(state)
    assert title == "fine_tuned warning, good by now: 50 labels came."
    assert body == (
        "Warned 11:41 UTC, 19 min ago: 20 labels came beside 100 predictions, below 40.0% · "
        "good since 11:50 UTC, ends at 12:20 UTC if it stays so · warns below 40.0% · rule coverage"
    )


def test_a_value_that_is_not_known_is_said_to_be_unknown() -> None:
    reason = "3 of the 20 predictions that a share needs"
    state = replace(WARNS, quiet_ms=NOON_MS - 5 * MINUTE_MS, value=None, reason=reason)
    title, body = said(state)
    assert title == f"fine_tuned warning, value unknown now: {reason}."
    assert "no value since 11:55 UTC · warns below 40.0%" in body


def test_a_signal_says_who_has_taken_it_on() -> None:
    act = Action("a", Deed.ACKNOWLEDGE, NOON_MS, "ana", "labellers are on strike", "c-2")
    body = said(WARNS, overlays=Overlays(acknowledged=act))[1]
    assert body.endswith(
        "ago · acknowledged by ana at 12:00 UTC: labellers are on strike · rule coverage"
    )


def test_several_signals_are_one_notice_with_the_latest_first() -> None:
    later = replace(WARNS, since_ms=NOON_MS - MINUTE_MS)
    title, body = said(WARNS, later, WARNS, WARNS, WARNS)
    lines = body.split("\n\n")
    assert title == "5 signals warn."
    assert lines[0].startswith("v1 warning: 31 labels")
    assert lines[1].startswith("v0 warning: ")
    assert len(lines) == 4
    assert lines[-1] == "And 2 more."


def test_a_stale_signal_says_that_it_was_so() -> None:
    title, _ = said(WARNS, freshness=Freshness(NOON_MS, 240_000))
    assert title.startswith("Last known state: fine_tuned warning: ")


def test_signals_of_the_chosen_variant_come_first() -> None:
    later = replace(WARNS, since_ms=NOON_MS)
    states = {SignalKey(RULE.name, "a"): later, SignalKey(RULE.name, "b"): WARNS}
    views = signals.signal_views([RULE], states, [], {}, "b")
    assert [view.variant for view in views] == ["b", "a"]


@pytest.mark.parametrize("status", [Status.OK, Status.NO_DATA])
def test_nothing_is_said_of_signals_that_do_not_warn(status: Status) -> None:
    states = {SignalKey(RULE.name): replace(WARNS, status=status)}
    views = signals.signal_views([RULE], states, [], {}, ALL)
    assert signals.describe(views, FRESH) is None


def test_an_estimate_without_objective_warns_of_nothing() -> None:
    rule = SignalRule("guess", Signal.ESTIMATE, "urgent")
    assert signals.signal_views([rule], {SignalKey("guess"): WARNS}, [], {}, ALL) == ()


@pytest.mark.parametrize(
    ("rule", "limit"),
    [
        (SignalRule("r", Signal.VOLUME, below=30.0), "warns below 30 an hour"),
        (SignalRule("r", Signal.RELEVANCE, below=0.5, above=0.9), "warns below 50.0%, or above 90"),
        (SignalRule("r", Signal.SHARE_DRIFT), "warns for 1 d after a change"),
        (SignalRule("r", Signal.ESTIMATE, objective=0.8), "warns when two standard errors above"),
        (SignalRule("r", Signal.ESTIMATE), "has no limit"),
    ],
)
def test_a_limit_is_said_in_words(rule: SignalRule, limit: str) -> None:
    assert signals.limit_of(rule).startswith(limit)
