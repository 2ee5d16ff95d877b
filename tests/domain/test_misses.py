"""Which entries are missed messages, and what people have done about them."""

import pytest

from monitor.domain import engine, overlays
from monitor.domain.engine import Spec
from monitor.domain.errors import ActRefused
from monitor.domain.events import Batch, Label, Prediction, PredictionId
from monitor.domain.join import Entry
from monitor.domain.misses import Case, Handling, Miss, MissChange, cases_of, miss_of
from monitor.domain.overlays import Action, Deed
from monitor.domain.rules import AlertRule, Metric
from monitor.domain.slices import Groups
from monitor.domain.windows import HOUR_MS, WindowSpec
from tests.builders import MINUTE_MS, T0, URGENT, entry_of, label, prediction

HORIZON_MS = 4 * HOUR_MS
GROUPS = Groups({"urgent": URGENT, "cards": frozenset({"lost_card", "new_card"})})
SPEC = Spec(groups=GROUPS, windows=WindowSpec(horizon_ms=HORIZON_MS))


def missed(*facts: Prediction | Label) -> Miss | None:
    return miss_of(GROUPS, HORIZON_MS, entry_of(*facts))


def changes(*facts: Prediction | Label, before: Entry | None = None) -> list[MissChange]:
    """What a step over these facts changes about ``p1``."""
    loaded = {} if before is None else {PredictionId("p1"): before}
    batch = Batch(
        [fact for fact in facts if isinstance(fact, Prediction)],
        [fact for fact in facts if isinstance(fact, Label)],
    )
    found = engine.step(SPEC, loaded, batch, progress={}, watermark_ms=None)
    return list(found.misses)


WRONG, LOST = prediction(predicted="fees"), label(actual="lost_card")
MISS = Miss(
    T0, PredictionId("p1"), T0 + 100, T0 + HOUR_MS + 100, HOUR_MS, "fine_tuned", "lost_card", "fees"
)


def test_a_message_is_missed_when_its_truth_is_in_a_group_and_the_answer_is_not() -> None:
    assert missed(WRONG, LOST) == MISS
    assert missed(WRONG, label(actual="fees")) is None


def test_another_intent_of_the_group_is_no_miss_unless_another_group_lost_it() -> None:
    fraud = prediction(predicted="report_fraud")
    assert missed(prediction(predicted="lost_card"), label(actual="report_fraud")) is None
    lost = missed(fraud, LOST)
    assert lost is not None
    assert (lost.actual, lost.predicted) == ("lost_card", "report_fraud")


def test_nothing_is_missed_while_the_truth_is_unknown() -> None:
    assert missed(WRONG) is None
    assert missed(LOST) is None
    assert missed(WRONG, LOST, label(revision=2, withdrawn=True)) is None
    assert missed(WRONG, label(at_ms=T0 + HORIZON_MS + 2 * HOUR_MS)) is None


def test_a_correction_takes_a_miss_back_or_makes_one() -> None:
    right = label(actual="fees", revision=2)
    held = entry_of(WRONG, LOST)
    assert changes(WRONG, LOST) == [MissChange(None, MISS)]
    assert changes(right, before=held) == [MissChange(MISS, None)]
    assert changes(WRONG, LOST, right) == []
    assert changes(label(revision=2, withdrawn=True), before=held) == [MissChange(MISS, None)]
    assert changes(label(revision=2), before=entry_of(WRONG, label(actual="fees"))) == [
        MissChange(None, MISS)
    ]


def test_a_miss_is_found_whichever_comes_first_and_told_once() -> None:
    early = label(actual="lost_card", at_ms=T0 - MINUTE_MS)
    [of_late] = changes(LOST, before=entry_of(WRONG))
    [of_early] = changes(WRONG, before=entry_of(early))
    assert of_late == MissChange(None, MISS)
    assert of_early.old is None
    assert of_early.new is not None
    assert (of_early.new.delay_ms, of_early.new.known_ms) == (0, early.log_ms)
    assert changes(LOST, before=entry_of(WRONG, LOST)) == []


def test_groups_that_no_rule_names_have_their_misses_listed_too() -> None:
    rule = AlertRule("fees", "fees", frozenset({"fees"}), 0.8, metric=Metric.PRECISION)
    spec = Spec(groups=GROUPS, windows=SPEC.windows, rules=(rule,))
    batch = Batch([WRONG], [LOST])
    assert engine.step(spec, {}, batch, progress={}, watermark_ms=None).misses == (
        MissChange(None, MISS),
    )


def test_nothing_is_listed_without_a_declared_group() -> None:
    spec = Spec(rules=(AlertRule("cards", "lost_card", frozenset({"lost_card"}), 0.8),))
    batch = Batch([WRONG], [LOST])
    assert engine.step(spec, {}, batch, progress={}, watermark_ms=None).misses == ()


def done(deed: Deed, at_ms: int, miss: Miss = MISS, ticket: str = "") -> Action:
    return Action(f"a{at_ms}", deed, at_ms, "ana", "why", miss.reference, ticket=ticket)


def test_open_misses_come_first_the_oldest_first_then_the_last_handled() -> None:
    misses = [MISS._replace(prediction_id=PredictionId(f"p{n}"), event_ms=T0 + n) for n in range(5)]
    actions = [
        done(Deed.HANDLE, T0 + 100, misses[0]),
        done(Deed.HANDLE, T0 + 200, misses[3]),
        done(Deed.ACKNOWLEDGE, T0 + 300, misses[1]),
    ]
    found = cases_of(reversed(misses), actions)
    assert [case.miss.prediction_id for case in found] == ["p1", "p2", "p4", "p3", "p0"]
    assert [case.is_open for case in found] == [True, True, True, False, False]


def test_a_miss_is_handled_until_it_is_opened_again_and_keeps_its_ticket() -> None:
    acts = [done(Deed.HANDLE, T0 + 1, ticket="4711"), done(Deed.REVEAL, T0 + 2)]
    [case] = cases_of([MISS], acts)
    assert case.handling == Handling(tuple(acts))
    assert (case.handling.handled, case.handling.ticket) == (acts[0], "4711")
    [again] = cases_of([MISS], [*acts, done(Deed.REOPEN, T0 + 3)])
    assert (again.is_open, again.handling.ticket) == (True, "4711")


def test_somebody_waits_until_it_is_handled_and_never_less_than_not_at_all() -> None:
    opened, handled = Case(MISS), Case(MISS, Handling((done(Deed.HANDLE, T0 + 7),)))
    assert (opened.waited_ms(T0 + 9), handled.waited_ms(T0 + 9)) == (9, 7)
    assert opened.waited_ms(T0 - 1) == 0


def test_the_trail_names_a_miss_by_a_digest_that_is_the_same_for_one_prediction() -> None:
    assert MISS.reference == MISS._replace(actual="new_card").reference
    assert "p1" not in MISS.reference
    assert len(MISS.reference) == 16


def test_acts_on_a_miss_need_somebody_and_looking_needs_a_reason() -> None:
    told = {"action_id": "a1", "reference": "r1", "at_ms": T0}
    act = overlays.handle(**told, who=" ana ", ticket=" 4711 ", note="")  # type: ignore[arg-type] # one table
    assert act == Action("a1", Deed.HANDLE, T0, "ana", "", "r1", ticket="4711")
    with pytest.raises(ActRefused, match="who must not be empty"):
        overlays.handle(**told, who=" ", ticket="", note="")  # type: ignore[arg-type] # one table
    for deed in (overlays.reveal, overlays.reopen):
        with pytest.raises(ActRefused, match="reason must not be empty"):
            deed(**told, who="ana", note=" ")  # type: ignore[arg-type] # one table
        with pytest.raises(ActRefused, match="who must not be empty"):
            deed(**told, who="", note="a complaint")  # type: ignore[arg-type] # one table
