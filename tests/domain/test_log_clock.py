"""The log clock: what the log told when.

::

    log time   |----pane----|----pane----|----pane----|
    prediction     ^ prediction, latency, score
    first label                  ^ outcome, delay, truth
    correction                                ^ nothing: what was told is not told again
"""

from collections.abc import Iterable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from monitor.domain import engine
from monitor.domain.counts import Cells, bucket_of
from monitor.domain.engine import Spec
from monitor.domain.estimate import bin_of, score_name
from monitor.domain.events import (
    Batch,
    Envelope,
    Kind,
    Label,
    Position,
    Prediction,
    Reason,
    Rejected,
)
from monitor.domain.slices import ALL, Groups, SliceKey
from monitor.domain.windows import HOUR_MS, MINUTE_MS, Clock, PaneKey, WindowSpec
from tests.builders import FINE_TUNED, T0, URGENT, label, prediction
from tests.domain.facts import EXPIRY_MS, HORIZON_MS, REPEATABLE, carried, facts

SPEC = Spec(Groups({"urgent": URGENT}), ("channel",), WindowSpec(horizon_ms=HORIZON_MS))
NAME = score_name("urgent", URGENT)
SCORE = ((NAME, bin_of(0.97, True)),)


def told(fact: Prediction | Label | Rejected, log_ms: int | None = None) -> Envelope:
    kind = Kind.LABELS if isinstance(fact, Label) else Kind.PREDICTIONS
    if not isinstance(fact, Rejected):
        log_ms = fact.log_ms
    return Envelope(kind, Position(str(kind), 0, 0), fact, log_ms or 0)


def panes_of(batches: Iterable[list[Envelope]], spec: Spec = SPEC) -> dict[PaneKey, Cells]:
    """What stands in the panes of the log clock after all batches."""
    store = carried(spec, batches)
    keys = [
        key
        for size_ms in spec.windows.keep_ms
        for key in store.pane_keys(size_ms)
        if key.clock is Clock.LOG
    ]
    found = {key: counts.cells for key, counts in zip(keys, store.panes(keys), strict=True)}
    return {key: cells for key, cells in found.items() if cells}


def answer(
    *,
    log_ms: int | None = None,
    latency_bucket: int | None = None,
    relevance_micros: int | None = None,
) -> Prediction:
    return prediction(
        log_ms=log_ms,
        slices=("web",),
        latency_bucket=latency_bucket,
        relevance_micros=relevance_micros,
    )


def scored(said: Prediction, scores: tuple[tuple[str, int], ...] = SCORE) -> Prediction:
    return said._replace(traits=said.traits._replace(scores=scores))


def pane(at_ms: int, size_ms: int = MINUTE_MS, key: SliceKey = FINE_TUNED) -> PaneKey:
    return PaneKey(Clock.LOG, size_ms, at_ms - at_ms % size_ms, key)


STREAMS = st.lists(facts(("p1", "p2")), max_size=12).map(
    lambda found: [told(scored(fact) if isinstance(fact, Prediction) else fact) for fact in found]
)


@REPEATABLE
@given(STREAMS, st.randoms(use_true_random=False), st.integers(1, 5))
def test_panes_are_the_same_in_any_order_and_any_batching(
    stream: list[Envelope], order: Random, size: int
) -> None:
    shuffled = stream.copy()
    order.shuffle(shuffled)
    batches = [shuffled[at : at + size] for at in range(0, len(shuffled), size)]
    assert panes_of(batches) == panes_of([stream])


@REPEATABLE
@given(STREAMS, st.sampled_from([T0, T0 + MINUTE_MS, T0 + 2 * HOUR_MS, EXPIRY_MS + HOUR_MS]))
def test_what_comes_after_the_watermark_never_touches_a_settled_pane(
    stream: list[Envelope], watermark_ms: int
) -> None:
    known = [envelope for envelope in stream if envelope.log_ms < watermark_ms]

    def settled(panes: dict[PaneKey, Cells]) -> dict[PaneKey, Cells]:
        return {k: c for k, c in panes.items() if k.start_ms + k.size_ms <= watermark_ms}

    assert settled(panes_of([known])) == settled(panes_of([stream]))


def test_prediction_is_told_at_its_log_time_and_outcome_when_the_first_label_comes() -> None:
    answered = scored(answer(latency_bucket=7, relevance_micros=500_000))
    labelled = label(actual="lost_card")
    panes = panes_of([[told(answered)], [told(labelled)]])
    assert panes[pane(answered.log_ms)] == {
        ("prediction", "lost_card"): 1,
        ("latency", "7"): 1,
        ("relevance", "n"): 1,
        ("relevance", "micros"): 500_000,
        ("score", NAME, "57"): 1,
    }
    assert panes[pane(labelled.log_ms)] == {
        ("outcome", "lost_card", "lost_card"): 1,
        ("delay", str(bucket_of(labelled.log_ms - T0))): 1,
        ("truth", NAME, "57", "1"): 1,
    }


def test_label_that_comes_first_is_told_with_its_prediction() -> None:
    late = answer(log_ms=T0 + HOUR_MS)
    panes = panes_of([[told(label(at_ms=T0))], [told(late)]])
    assert ("outcome", "lost_card", "lost_card") in panes[pane(late.log_ms)]
    assert pane(T0 + 100) not in panes


def test_correction_withdrawal_and_copy_change_nothing_that_was_told() -> None:
    first = [told(scored(answer())), told(label())]
    after = [
        told(label(actual="balance", at_ms=T0 + HOUR_MS + MINUTE_MS, revision=2)),
        told(label(at_ms=T0 + HOUR_MS + 2 * MINUTE_MS, revision=3, withdrawn=True)),
        told(answer(log_ms=T0 + 5 * MINUTE_MS)),
    ]
    before, corrected = panes_of([first]), panes_of([first, *([one] for one in after)])
    assert {k: c for k, c in corrected.items() if k.key.variant != ALL} == {
        k: c for k, c in before.items() if k.key.variant != ALL
    }


def test_records_are_told_as_received_and_as_rejected_for_all_variants_together() -> None:
    rejected = Rejected(Reason.NOT_JSON, "for a test")
    panes = panes_of([[told(rejected, T0 + 1), told(answer())]])
    cells = {("received", "predictions"): 2, ("rejected", "predictions", "not_json"): 1}
    assert panes[pane(T0, key=SliceKey(ALL))] == cells
    assert panes[pane(T0, HOUR_MS, SliceKey(ALL))] == cells


def test_there_are_smallest_panes_and_hours_of_whole_variants_and_no_others() -> None:
    panes = panes_of([[told(answer())]])
    assert {key.size_ms for key in panes} == {MINUTE_MS, HOUR_MS}
    assert {key.key for key in panes} == {FINE_TUNED, SliceKey(ALL)}


def test_variant_of_all_records_is_not_listed_among_the_variants() -> None:
    store = carried(Spec(windows=SPEC.windows), [[told(prediction())]])
    assert store.slice_keys() == [FINE_TUNED]


def test_truth_of_a_score_that_no_declared_group_has_is_not_told() -> None:
    other = scored(answer(), (("urgent#0000", 57),))
    panes = panes_of([[told(other)], [told(label())]])
    cells = panes[pane(label().log_ms)]
    assert not [cell for cell in cells if cell[0] == "truth"]


def test_dropped_pane_is_not_written_again() -> None:
    late_ms = T0 + 8 * 24 * HOUR_MS
    changes = engine.step(SPEC, {}, Batch.of([told(answer())]), progress={}, watermark_ms=late_ms)
    sizes = {key.size_ms for key in changes.cells if key.clock is Clock.LOG}
    assert sizes == {HOUR_MS}
