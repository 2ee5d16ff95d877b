"""Signals: a function of the settled panes of the log clock, whenever and however often one looks.

::

    ticks      |    |    |    |    |         every five minutes of log time
    window  [-----------)    |               ends at the tick
    warning             ^ bad at once, good again after the hold
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.domain import signals
from monitor.domain.alerts import Status, Transition
from monitor.domain.counts import Cell, Counts, bucket_of, merge
from monitor.domain.estimate import bin_of, score_name
from monitor.domain.measures import Measured, Measures, Panes, latest_change
from monitor.domain.rules import Signal, SignalRule
from monitor.domain.signals import MOST_LOOKS, SignalKey, Signalled, SignalState
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import DAY_MS, HOUR_MS, MINUTE_MS, Clock, PaneKey, WindowSpec
from tests.builders import T0, URGENT
from tests.domain.facts import REPEATABLE

WINDOWS = WindowSpec()
TICK_MS = 5 * MINUTE_MS
NAME = score_name("urgent", URGENT)
SHARE = SignalRule("share", Signal.PREDICTED_SHARE, "urgent", URGENT, NAME)
VOLUME = SignalRule("volume", Signal.VOLUME, window_ms=HOUR_MS, below=30.0)


class Told:
    """What the log told: cells by minute, as panes of both sizes."""

    def __init__(self) -> None:
        self.panes: dict[PaneKey, dict[Cell, int]] = {}
        self.reads = 0

    def add(self, at_ms: int, cells: dict[Cell, int], variant: str = "fine_tuned") -> None:
        for size_ms in (MINUTE_MS, HOUR_MS):
            key = PaneKey(Clock.LOG, size_ms, at_ms - at_ms % size_ms, SliceKey(variant))
            held = self.panes.setdefault(key, {})
            for cell, n in cells.items():
                held[cell] = held.get(cell, 0) + n

    def read(self, keys: Sequence[PaneKey]) -> list[Counts]:
        self.reads += len(keys)
        return [Counts(self.panes.get(key, {})) for key in keys]

    def starts(self) -> set[int]:
        return {key.start_ms for key in self.panes if key.size_ms == HOUR_MS}

    def variants(self) -> set[str]:
        return {key.key.variant for key in self.panes} - {ALL}

    def upto(self, watermark_ms: int) -> "Told":
        """Only what had been told by then: nothing later, not even in part."""
        before = Told()
        for key, cells in self.panes.items():
            if key.size_ms == MINUTE_MS and key.start_ms < watermark_ms:
                before.add(key.start_ms, cells, key.key.variant)
        return before


def answered(
    told: Told, start_ms: int, end_ms: int, *, urgent: int = 1, n: int = 10, every: int = MINUTE_MS
) -> None:
    """So many predictions a pane, ``urgent`` of them to the group."""
    for at_ms in range(start_ms, end_ms, every):
        told.add(
            at_ms, {("prediction", "lost_card"): urgent, ("prediction", "balance"): n - urgent}
        )


def watched(
    told: Told, rules: Sequence[SignalRule], until_ms: int, steps: Iterable[int] = ()
) -> Signalled:
    """All ticks before ``until_ms``, with a look at each watermark of ``steps`` on the way.

    A look sees nothing that comes after its watermark, and begins with nothing remembered.
    """
    states: dict[SignalKey, SignalState] = {}
    moved: list[Transition] = []
    from_ms: int | None = None
    for watermark_ms in [*sorted(s for s in steps if s < until_ms), until_ms]:
        seen = told.upto(watermark_ms)
        measures = Measures(Panes(WINDOWS, seen.read))
        while from_ms is None or from_ms < watermark_ms:
            found = signals.evaluate(
                rules,
                states,
                measures,
                seen.variants,
                from_ms=from_ms,
                until_ms=watermark_ms,
                starts=seen.starts,
            )
            states, from_ms = found.states, found.until_ms
            moved += found.transitions
    return Signalled(states, moved, until_ms)


def story() -> Told:
    """Two days of one urgent prediction in ten; then none for six hours; then as before."""
    told = Told()
    answered(told, T0, T0 + 2 * DAY_MS)
    answered(told, T0 + 2 * DAY_MS, T0 + 2 * DAY_MS + 6 * HOUR_MS, urgent=0)
    answered(told, T0 + 2 * DAY_MS + 6 * HOUR_MS, T0 + 3 * DAY_MS)
    return told


STORY = story()
RULES = (SHARE, VOLUME, SignalRule("drift", Signal.SHARE_DRIFT, "urgent", URGENT, NAME))


def moves(found: Signalled, rule: str) -> list[tuple[Status, int]]:
    return [(t.moved_to, t.at_ms) for t in found.transitions if t.rule == rule]


# Determinism


@settings(REPEATABLE, max_examples=8)
@given(st.lists(st.integers(T0, T0 + 3 * DAY_MS), max_size=4))
def test_looks_at_any_watermarks_give_the_same_states_and_transitions(steps: list[int]) -> None:
    assert watched(STORY, RULES, T0 + 3 * DAY_MS, steps) == watched(STORY, RULES, T0 + 3 * DAY_MS)


def test_what_is_remembered_between_looks_changes_nothing() -> None:
    measures = Measures(Panes(WINDOWS, STORY.read))
    states: dict[SignalKey, SignalState] = {}
    moved: list[Transition] = []
    from_ms, until_ms = None, T0
    while until_ms <= T0 + 3 * DAY_MS:
        found = signals.evaluate(
            RULES, states, measures, STORY.variants,
            from_ms=from_ms, until_ms=until_ms, starts=STORY.starts,
        )  # fmt: skip
        states, from_ms = found.states, found.until_ms
        moved += found.transitions
        until_ms += 7 * MINUTE_MS + 1
    assert found == watched(STORY, RULES, found.until_ms)._replace(transitions=found.transitions)
    assert moved == watched(STORY, RULES, found.until_ms).transitions


def test_settled_pane_is_read_once() -> None:
    told = Told()
    told.panes = STORY.panes
    measures = Measures(Panes(WINDOWS, told.read))
    from_ms, states = T0 + 2 * DAY_MS, dict[SignalKey, SignalState]()
    for until_ms in range(from_ms + 1, from_ms + DAY_MS, TICK_MS):
        found = signals.evaluate(
            RULES, states, measures, told.variants,
            from_ms=from_ms, until_ms=until_ms, starts=told.starts,
        )  # fmt: skip
        states, from_ms = found.states, found.until_ms
    panes_of_a_day, before = 24 * 60 + 24, 16 * 24 + 60 * 24
    assert told.reads < panes_of_a_day + before


def test_what_is_remembered_of_minutes_and_hours_does_not_grow_with_the_days() -> None:
    panes = Panes(WINDOWS, STORY.read)
    measures, held = Measures(panes), list[Counter[int]]()
    from_ms, states = T0, dict[SignalKey, SignalState]()
    estimate = SignalRule("estimate", Signal.ESTIMATE, "urgent", URGENT, NAME, window_ms=HOUR_MS)
    for until_ms in range(T0 + DAY_MS, T0 + 3 * DAY_MS + 1, DAY_MS):
        while from_ms < until_ms:
            found = signals.evaluate(
                (estimate, VOLUME), states, measures, STORY.variants,
                from_ms=from_ms, until_ms=until_ms, starts=STORY.starts,
            )  # fmt: skip
            states, from_ms = found.states, found.until_ms
        places = [place for kept in panes._kept.values() for place in kept]
        held.append(Counter(size_ms for size_ms, _ in places))
    assert [sizes[MINUTE_MS] for sizes in held] == [held[0][MINUTE_MS]] * 3
    assert max(sizes[MINUTE_MS] for sizes in held) < 2 * 150
    assert max(sizes[HOUR_MS] for sizes in held[1:]) < 2 * 36


def test_long_silence_is_passed_over_and_leaves_what_looking_at_it_would() -> None:
    told = Told()
    answered(told, T0, T0 + 6 * HOUR_MS)
    answered(told, T0 + 40 * DAY_MS, T0 + 40 * DAY_MS + 6 * HOUR_MS)
    end_ms = T0 + 40 * DAY_MS + 6 * HOUR_MS
    steps = range(T0, end_ms, DAY_MS)
    assert watched(told, RULES, end_ms) == watched(told, RULES, end_ms, steps)


@pytest.mark.parametrize(("rules", "ticks"), [(3, MOST_LOOKS // 3), (MOST_LOOKS + 1, 1)])
def test_one_call_does_so_many_looks_at_most_and_those_of_one_tick_at_least(
    rules: int, ticks: int
) -> None:
    measures = Measures(Panes(WINDOWS, STORY.read))
    found = signals.evaluate(
        [replace(VOLUME, name=f"volume-{n}") for n in range(rules)], {}, measures, STORY.variants,
        from_ms=None, until_ms=T0 + 3 * DAY_MS, starts=STORY.starts,
    )  # fmt: skip
    assert found.until_ms == T0 + ticks * TICK_MS


def test_of_states_of_rules_that_are_gone_the_number_of_moves_stays() -> None:
    gone = SignalKey("gone", "fine_tuned")
    states = {gone: SignalState(Status.OK, T0, 3, seen_ms=T0)}
    measures = Measures(Panes(WINDOWS, Told().read))
    found = signals.evaluate(
        (), states, measures, list, from_ms=T0, until_ms=T0 + DAY_MS, starts=list
    )
    assert found == Signalled({gone: SignalState(moves=3)}, [], T0 + DAY_MS)


def test_tick_is_a_whole_number_of_panes() -> None:
    for minutes, tick in ((1, 5), (4, 8), (5, 5), (15, 15), (60, 60)):
        windows = WindowSpec(pane_ms=minutes * MINUTE_MS)
        assert signals.tick_ms_of(windows) == tick * MINUTE_MS


# States

GOOD, BAD = Measured(0.5, "good"), Measured(0.1, "bad", 0.3, True)
NOTHING = Measured(None, "nothing came")
HELD = SignalRule("held", Signal.RELEVANCE, below=0.3, hold_ms=3)


def stepped(looks: Iterable[Measured]) -> tuple[SignalState, list[tuple[int, Status]]]:
    state, moved = SignalState(), list[Transition]()
    for at_ms, found in enumerate(looks):
        state = signals.step(HELD, SignalKey("held", "v"), state, found, at_ms, moved)
    return state, [(transition.at_ms, transition.moved_to) for transition in moved]


@pytest.mark.parametrize(
    ("looks", "moved"),
    [
        ([NOTHING] * 9, []),
        ([GOOD], [(0, Status.OK)]),
        ([BAD], [(0, Status.OK), (0, Status.WARNING)]),
        ([GOOD, BAD, GOOD, GOOD, GOOD], [(0, Status.OK), (1, Status.WARNING)]),
        (
            [GOOD, BAD, GOOD, GOOD, GOOD, GOOD],
            [(0, Status.OK), (1, Status.WARNING), (5, Status.OK)],
        ),
        ([GOOD, BAD, GOOD, GOOD, BAD, GOOD, GOOD], [(0, Status.OK), (1, Status.WARNING)]),
        ([GOOD, BAD, GOOD, GOOD, NOTHING, GOOD, GOOD], [(0, Status.OK), (1, Status.WARNING)]),
        ([GOOD, NOTHING, NOTHING, GOOD], [(0, Status.OK)]),
        ([GOOD, *[NOTHING] * 4], [(0, Status.OK), (4, Status.NO_DATA)]),
        (
            [BAD, *[NOTHING] * 4],
            [(0, Status.OK), (0, Status.WARNING), (4, Status.NO_DATA)],
        ),
    ],
)
def test_warning_begins_at_once_and_ends_after_the_hold(
    looks: list[Measured], moved: list[tuple[int, Status]]
) -> None:
    assert stepped(looks)[1] == moved


def test_transition_says_what_was_measured_and_has_an_id_of_its_own() -> None:
    found = watched(STORY, (SHARE,), T0 + 3 * DAY_MS)
    warning = next(t for t in found.transitions if t.moved_to is Status.WARNING)
    assert warning.evidence is not None
    assert warning.evidence.since_ms == warning.at_ms - SHARE.window_ms
    assert warning.evidence.value == warning.evidence.hits / warning.evidence.n
    assert "predictions went to urgent" in warning.reason
    assert len({t.id for t in found.transitions}) == len(found.transitions)


# What is measured


def test_fewer_urgent_predictions_are_seen_within_three_hours_and_the_warning_ends() -> None:
    begin_ms = T0 + 2 * DAY_MS
    found = moves(watched(STORY, (SHARE,), T0 + 3 * DAY_MS), "share")
    assert [target for target, _ in found] == [Status.OK, Status.WARNING, Status.OK]
    _, warned_ms, resolved_ms = (at_ms for _, at_ms in found)
    assert begin_ms < warned_ms <= begin_ms + 3 * HOUR_MS
    assert resolved_ms > begin_ms + 6 * HOUR_MS


def test_share_has_no_data_until_there_is_something_to_compare_with() -> None:
    told = Told()
    answered(told, T0, T0 + 10 * HOUR_MS)
    found = watched(told, (SHARE,), T0 + 10 * HOUR_MS)
    state = found.states[SignalKey("share", "fine_tuned")]
    assert (found.transitions, state.status, state.value) == ([], Status.NO_DATA, None)
    assert "to compare with" in state.reason


def test_share_that_only_chance_moves_is_not_warned_of() -> None:
    random, told = Random(3), Told()
    for at_ms in range(T0, T0 + 5 * DAY_MS, 10 * MINUTE_MS):
        urgent = sum(random.random() < 0.02 for _ in range(100))
        answered(told, at_ms, at_ms + 1, urgent=urgent, n=100)
    found = watched(told, (SHARE,), T0 + 5 * DAY_MS)
    assert [target for target, _ in moves(found, "share")] == [Status.OK]


def test_volume_below_its_bound_is_warned_of_and_ends_as_no_data_after_a_day() -> None:
    told = Told()
    answered(told, T0, T0 + 4 * HOUR_MS)
    answered(told, T0 + 4 * HOUR_MS, T0 + 40 * HOUR_MS, n=0, urgent=0)
    found = moves(watched(told, (VOLUME,), T0 + 40 * HOUR_MS), "volume")
    assert [target for target, _ in found] == [Status.OK, Status.WARNING, Status.NO_DATA]
    assert found[0][1] == T0 + HOUR_MS + TICK_MS
    assert T0 + 4 * HOUR_MS < found[1][1] <= T0 + 5 * HOUR_MS
    assert found[2][1] > T0 + 28 * HOUR_MS


def one_window(
    rule: SignalRule, cells: dict[Cell, int], variant: str = "fine_tuned"
) -> SignalState:
    told = Told()
    told.add(T0, cells, variant)
    until_ms = T0 + rule.window_ms
    return watched(told, (rule,), until_ms).states[SignalKey(rule.name, variant)]


HALF: dict[Cell, int] = {("prediction", "lost_card"): 60, ("prediction", "else"): 40}


@pytest.mark.parametrize(
    ("signal", "cells", "bounds", "value", "status"),
    [
        (Signal.UNKNOWN_INTENTS, HALF, {"above": 0.3}, 0.4, Status.WARNING),
        (Signal.UNKNOWN_INTENTS, HALF, {"above": 0.4}, 0.4, Status.OK),
        (
            Signal.UNKNOWN_INTENTS,
            {("prediction", "else"): 49},
            {"above": 0.1},
            None,
            Status.NO_DATA,
        ),
        (
            Signal.LABEL_COVERAGE,
            {**HALF, ("outcome", "else", "else"): 7},
            {"below": 0.1},
            None,
            Status.NO_DATA,
        ),
        (
            Signal.RELEVANCE,
            {**HALF, ("relevance", "n"): 20, ("relevance", "micros"): 9_000_000},
            {"below": 0.5},
            0.45,
            Status.WARNING,
        ),
        (
            Signal.LATENCY_P95,
            {**HALF, ("latency", str(bucket_of(100))): 94, ("latency", str(bucket_of(900))): 6},
            {"above": 800.0},
            pytest.approx(900, rel=0.01),
            Status.WARNING,
        ),
        (
            Signal.LABEL_DELAY,
            {**HALF, ("delay", str(bucket_of(60_000))): 60, ("delay", str(bucket_of(9e6))): 40},
            {"above": 3_600_000.0},
            pytest.approx(60_000, rel=0.01),
            Status.OK,
        ),
    ],
)
def test_signal_with_bounds_warns_outside_of_them(
    signal: Signal,
    cells: dict[Cell, int],
    bounds: dict[str, float],
    value: float | None,
    status: Status,
) -> None:
    rule = replace(
        SignalRule("s", signal, known=frozenset({"lost_card"})),
        below=bounds.get("below"),
        above=bounds.get("above"),
    )
    state = one_window(rule, cells)
    assert (state.value, state.status) == (value, status)


def test_label_coverage_is_judged_once_a_variant_has_been_seen_for_a_whole_window() -> None:
    rule = SignalRule("s", Signal.LABEL_COVERAGE, below=0.1)
    told = Told()
    for at_ms in range(T0, T0 + 4 * HOUR_MS, MINUTE_MS):
        told.add(at_ms, {("prediction", "else"): 20, ("outcome", "else", "else"): 1})
    found = moves(watched(told, (rule,), T0 + 4 * HOUR_MS), "s")
    assert [target for target, _ in found] == [Status.OK, Status.WARNING]
    assert found[0][1] == T0 + rule.window_ms + TICK_MS


def test_incident_in_the_reference_does_not_end_the_warning_about_itself() -> None:
    told = Told()
    answered(told, T0, T0 + 2 * DAY_MS, n=20, urgent=2)
    answered(told, T0 + 2 * DAY_MS, T0 + 3 * DAY_MS, n=20, urgent=1)
    found = moves(watched(told, (SHARE,), T0 + 3 * DAY_MS), "share")
    assert [target for target, _ in found] == [Status.OK, Status.WARNING]


def test_rejected_share_speaks_of_all_records_together() -> None:
    cells: dict[Cell, int] = {
        ("received", "predictions"): 80,
        ("received", "labels"): 20,
        ("rejected", "labels", "not_json"): 6,
    }
    rule = SignalRule("rejected", Signal.REJECTED_SHARE, above=0.05)
    state = one_window(rule, cells, ALL)
    assert (state.value, state.status) == (0.06, Status.WARNING)


def test_rule_of_one_variant_looks_at_no_other() -> None:
    told = Told()
    for variant in ("a", "b"):
        told.add(T0, {("prediction", "x"): 60}, variant)
    rule = SignalRule("s", Signal.UNKNOWN_INTENTS, variant="b", above=0.1)
    assert set(watched(told, (rule,), T0 + HOUR_MS).states) == {SignalKey("s", "b")}


# Drift


def hours(shares: Iterable[float], n: int = 400) -> Iterator[dict[Cell, int]]:
    random = Random(5)
    for share in shares:
        yield {("n",): n, ("k",): sum(random.random() < share for _ in range(n))}


@pytest.mark.parametrize("drift", ["adwin", "page_hinkley"])
def test_detector_finds_a_step_soon_and_nothing_without_one(drift: str) -> None:
    rule = SignalRule("d", Signal.SHARE_DRIFT, "urgent", URGENT, NAME, drift=drift)
    steady, stepped_at = [0.10] * 336, 200
    step = [0.10] * stepped_at + [0.20] * 24
    assert latest_change(rule, list(hours(steady)), T0) == (336, None)
    n, found_ms = latest_change(rule, list(hours(step)), T0)
    assert n == stepped_at + 24
    assert found_ms is not None
    assert found_ms > T0 + stepped_at * HOUR_MS


@pytest.mark.parametrize("drift", ["adwin", "page_hinkley"])
def test_detector_finds_a_step_of_the_mean_score(drift: str) -> None:
    rule = SignalRule("d", Signal.SCORE_DRIFT, "urgent", URGENT, NAME, drift=drift)
    random = Random(9)

    def hour(mean: float) -> dict[Cell, int]:
        drawn = [bin_of(random.betavariate(20 * mean, 20 * (1 - mean)), True) for _ in range(200)]
        cells = ({("n",): 1, ("score", NAME, str(number)): 1} for number in drawn)
        return dict(merge(Counts(one) for one in cells).cells)

    change = [hour(0.7) for _ in range(100)] + [hour(0.6) for _ in range(30)]
    _, found_ms = latest_change(rule, change, T0)
    assert found_ms is not None
    assert found_ms > T0 + 100 * HOUR_MS


def test_detected_change_is_warned_of_for_a_day() -> None:
    told = Told()
    answered(told, T0, T0 + 3 * DAY_MS, every=10 * MINUTE_MS, n=100, urgent=10)
    answered(told, T0 + 3 * DAY_MS, T0 + 8 * DAY_MS, every=10 * MINUTE_MS, n=100, urgent=30)
    rule = SignalRule("d", Signal.SHARE_DRIFT, "urgent", URGENT, NAME, drift="page_hinkley")
    found = moves(watched(told, (rule,), T0 + 8 * DAY_MS), "d")
    assert [target for target, _ in found][:2] == [Status.OK, Status.WARNING]
    assert found[0][1] == T0 + DAY_MS
    assert found[1][1] > T0 + 3 * DAY_MS


# The label-free estimate

ESTIMATE = SignalRule(
    "estimate", Signal.ESTIMATE, "urgent", URGENT, NAME, window_ms=6 * HOUR_MS, objective=0.80
)
IN, OUT = str(bin_of(0.97, True)), str(bin_of(0.06, False))


def scored(told: Told, start_ms: int, end_ms: int, *, found: int, overlooked: int) -> None:
    """An hour: ``found`` predictions went to the group, ``overlooked`` look a little urgent.

    Labels come at once; 19 of 20 found ones are urgent, and one of 10 overlooked ones is.
    """
    for at_ms in range(start_ms, end_ms, HOUR_MS):
        told.add(
            at_ms,
            {
                ("prediction", "lost_card"): found,
                ("prediction", "balance"): overlooked,
                ("score", NAME, IN): found,
                ("score", NAME, OUT): overlooked,
                ("truth", NAME, IN, "1"): found * 19 // 20,
                ("truth", NAME, IN, "0"): found // 20,
                ("truth", NAME, OUT, "1"): overlooked // 10,
                ("truth", NAME, OUT, "0"): overlooked * 9 // 10,
            },
        )


def test_estimate_warns_of_a_shift_of_inputs_before_labels_come_and_tells_its_past_error() -> None:
    told = Told()
    scored(told, T0, T0 + 3 * DAY_MS, found=100, overlooked=50)
    healthy = watched(told, (ESTIMATE,), T0 + 3 * DAY_MS)
    state = healthy.states[SignalKey("estimate", "fine_tuned")]
    assert (state.status, state.checks) == (Status.OK, 2)
    assert state.value == pytest.approx(95 / 100, abs=0.01)
    assert state.past_error == pytest.approx(0, abs=0.01)

    for at_ms in range(T0 + 3 * DAY_MS, T0 + 4 * DAY_MS, HOUR_MS):
        told.add(
            at_ms,
            {
                ("prediction", "lost_card"): 100,
                ("prediction", "balance"): 900,
                ("score", NAME, IN): 100,
                ("score", NAME, OUT): 900,
            },
        )
    shifted = watched(told, (ESTIMATE,), T0 + 4 * DAY_MS)
    state = shifted.states[SignalKey("estimate", "fine_tuned")]
    assert state.status is Status.WARNING
    assert state.value == pytest.approx(95 / (95 + 90), abs=0.02)
    assert "assumes p(urgent | score) unchanged" in state.reason


def test_estimate_is_the_same_whatever_was_summed_up_by_days_before() -> None:
    told, until_ms = Told(), T0 + 5 * DAY_MS
    for day in range(5):
        start_ms = T0 + day * DAY_MS
        scored(told, start_ms, start_ms + DAY_MS, found=100 - 10 * day, overlooked=50 + 9 * day)
    steps = [T0 + hours * HOUR_MS for hours in (7, 25, 31, 47, 70, 71, 99)]
    anew = watched(told, (ESTIMATE,), until_ms, steps)
    assert anew == watched(told, (ESTIMATE,), until_ms)
    assert anew.states[SignalKey("estimate", "fine_tuned")].checks > 0


def test_evaluation_that_was_dropped_is_made_anew_from_before_midnight() -> None:
    """Another evaluator was faster; what was looked at meanwhile is still remembered."""
    told, day = Told(), T0 - T0 % DAY_MS + 2 * DAY_MS
    scored(told, day - 2 * DAY_MS, day + 2 * DAY_MS, found=100, overlooked=50)
    measures, from_ms = Measures(Panes(WINDOWS, told.read)), day - 3 * HOUR_MS

    def evaluated(until_ms: int) -> Signalled:
        return signals.evaluate(
            (ESTIMATE,), {}, measures, told.variants,
            from_ms=from_ms, until_ms=until_ms, starts=told.starts,
        )  # fmt: skip

    first = evaluated(day + 20 * HOUR_MS)
    assert evaluated(day + 20 * HOUR_MS) == first
    assert evaluated(day - HOUR_MS).states.keys() == first.states.keys()


def test_full_days_are_read_once() -> None:
    told, days = Told(), 45
    scored(told, T0, T0 + days * DAY_MS, found=100, overlooked=50)
    measures, from_ms = Measures(Panes(WINDOWS, told.read)), T0 + 40 * DAY_MS
    states, reads = dict[SignalKey, SignalState](), list[int]()
    for until_ms in range(from_ms + HOUR_MS, T0 + days * DAY_MS, HOUR_MS):
        told.reads = 0
        found = signals.evaluate(
            (ESTIMATE,), states, measures, told.variants,
            from_ms=from_ms, until_ms=until_ms, starts=told.starts,
        )  # fmt: skip
        states, from_ms = found.states, found.until_ms
        reads.append(told.reads)
    an_hour_and_its_minutes = 1 + 60
    assert max(reads[12:]) == an_hour_and_its_minutes


def test_estimate_without_objective_is_for_display_and_tells_nobody() -> None:
    told = Told()
    scored(told, T0, T0 + 3 * DAY_MS, found=100, overlooked=900)
    found = watched(told, (replace(ESTIMATE, objective=None),), T0 + 3 * DAY_MS)
    state = found.states[SignalKey("estimate", "fine_tuned")]
    assert (found.transitions, state.status) == ([], Status.OK)
    assert state.value is not None
    assert state.value < 0.6


def test_estimate_says_why_there_is_none() -> None:
    told = Told()
    answered(told, T0, T0 + 6 * HOUR_MS)
    state = watched(told, (ESTIMATE,), T0 + 6 * HOUR_MS).states[SignalKey("estimate", "fine_tuned")]
    assert (state.status, state.value) == (Status.NO_DATA, None)
    assert state.reason == "100% of the predictions have neither scores nor confidence"
