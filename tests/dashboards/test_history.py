"""What follows from the history of alerts, as it grows."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dashboards import history
from dashboards.history import History
from monitor.domain.alerts import AlertKey, Event, Status, Transition
from monitor.domain.overlays import raised_by
from monitor.domain.slices import SliceKey

MOVES = st.lists(
    st.builds(
        lambda at, whose, before, after, event, judges: Transition(
            f"t{at}", "rule", SliceKey(whose), before, after, at, None, "", event=event,
            judges=judges,
        ),
        at=st.integers(0, 9), whose=st.sampled_from("ab"), before=st.sampled_from(Status),
        after=st.sampled_from(Status), event=st.sampled_from(Event),
        judges=st.sampled_from(["", "t1", "t2", "t3"]),
    ),
    max_size=12,
)  # fmt: skip


def move(at_ms: int, before: Status, after: Status, whose: str = "a") -> Transition:
    return Transition(f"t{at_ms}", "rule", SliceKey(whose), before, after, at_ms, None, "")


def alert(whose: str = "a") -> AlertKey:
    return AlertKey("rule", SliceKey(whose))


def plainly(moves: Sequence[Transition]) -> History:
    """The same, of all of it at once."""
    return History().grown(moves)


@given(MOVES, st.integers(0, 12))
def test_it_is_the_same_however_it_was_looked_at(moves: list[Transition], cut: int) -> None:
    history.of(moves[:cut])
    assert history.of(moves) == plainly(moves)
    assert history.of(list(moves)) == plainly(moves)


@given(MOVES)
def test_what_is_up_is_what_the_overlays_take_for_up(moves: list[Transition]) -> None:
    assert history.of(moves).up == raised_by(moves)


def test_a_transition_that_was_masked_since_is_another_one() -> None:
    moves = [
        move(1, Status.OK, Status.FIRING),
        move(2, Status.OK, Status.FIRING, "b"),
        move(3, Status.FIRING, Status.OK),
    ]
    history.of(moves)
    masked = [moves[0], replace(moves[1], reason="masked"), moves[2]]
    assert history.of(masked).raised[alert("b")].reason == "masked"


def test_a_time_of_firing_goes_on_while_it_recovers_and_is_over_when_it_is_ok() -> None:
    moves = [
        move(1, Status.OK, Status.FIRING),
        move(2, Status.FIRING, Status.RECOVERING),
        move(3, Status.RECOVERING, Status.FIRING),
    ]
    then = history.of(moves)
    assert (then.fired, then.firing) == ([], {alert(): 1})
    assert then.raised == {alert(): moves[0]}
    now = history.of([*moves, move(4, Status.FIRING, Status.OK)])
    assert now.fired == [(alert(), 1, 4)]
    assert now.over == move(4, Status.FIRING, Status.OK)
    assert then.fired == []


def test_a_judgement_gives_way_when_the_alert_is_raised_again() -> None:
    raised = move(1, Status.OK, Status.FIRING)
    judged = replace(raised, id="t1-judged", event=Event.CONFIRMED, judges="t1", at_ms=2)
    assert history.of([raised, judged]).judged == {alert(): judged}
    again = [move(3, Status.FIRING, Status.OK), move(4, Status.OK, Status.FIRING)]
    assert history.of([raised, judged, *again]).judged == {}
