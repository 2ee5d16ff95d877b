from collections.abc import Mapping
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.adapters.memory import MemoryStore
from monitor.domain import engine, join
from monitor.domain.counts import Cell, Cells, Counts, bucket_of
from monitor.domain.cut import Progress
from monitor.domain.engine import Changes, Spec, VoteChange, ids_of
from monitor.domain.events import (
    Batch,
    Envelope,
    Kind,
    Label,
    Partition,
    Prediction,
    PredictionId,
    Reason,
    Rejected,
)
from monitor.domain.join import Entry
from monitor.domain.rules import Metric
from monitor.domain.slices import ALL, Groups, SliceKey
from monitor.domain.votes import Role, Vote, votes_of
from monitor.domain.windows import ALL_TIME, DAY_MS, HOUR_MS, MINUTE_MS, Clock, PaneKey, WindowSpec
from tests.builders import (
    FINE_TUNED,
    T0,
    URGENT,
    entry_of,
    envelope,
    envelopes,
    label,
    prediction,
    rule,
)
from tests.domain.facts import (
    EXPIRY_MS,
    FOREVER_MS,
    HORIZON_MS,
    REPEATABLE,
    carried,
    carry,
    differences,
    streams,
    sums_of,
)

SPEC = Spec(
    Groups({"urgent": URGENT}),
    ("channel",),
    WindowSpec(horizon_ms=HORIZON_MS),
    (rule(maturity_ms=HOUR_MS // 2), rule("everyone", per=())),
)
PLAIN = Spec(windows=WindowSpec(horizon_ms=HORIZON_MS))
TOTAL = PaneKey(Clock.EVENT, ALL_TIME, 0, FINE_TUNED)


def stepped(
    *facts: Prediction | Label | Rejected, spec: Spec = PLAIN, watermark_ms: int | None = None
) -> Changes:
    """What a first batch with these facts changes in an empty shard."""
    return engine.step(
        spec, {}, Batch.of(envelopes(*facts)), progress={}, watermark_ms=watermark_ms
    )


def total_of(store: MemoryStore) -> Counts:
    return store.panes([TOTAL])[0]


def test_step_needs_the_entries_of_all_facts_but_not_of_rejected_records() -> None:
    rejected = Rejected(Reason.NOT_JSON, "for a test")
    assert ids_of(Batch.of(envelopes(prediction("a"), label("b"), rejected, label("a")))) == {
        "a",
        "b",
    }


def test_empty_batch_only_carries_the_cut_forward() -> None:
    progress = {Partition("predictions", 0): Progress(7, 100, 100)}
    changes = engine.step(PLAIN, {}, Batch(), progress=progress, watermark_ms=None)
    assert changes == Changes({}, {}, {}, {}, [], progress)


def test_changes_name_what_they_were_made_from() -> None:
    held = {PredictionId("p1"): entry_of(prediction())}
    changes = engine.step(
        PLAIN,
        held,
        Batch.of(envelopes(label(), prediction("p2"))),
        progress={},
        watermark_ms=None,
    )
    assert changes.loaded == held
    assert changes.entries == {
        "p1": entry_of(prediction(), label()),
        "p2": entry_of(prediction("p2")),
    }


def by_event_and_label(cells: Mapping[PaneKey, Cells]) -> dict[PaneKey, Cells]:
    """Without the panes by log time, of which ``test_log_clock`` speaks."""
    return {pane: held for pane, held in cells.items() if pane.clock is not Clock.LOG}


#   clock EVENT   T0: prediction, outcome
#   clock LABEL                              T0 + 2 h: outcome (log time of the label)


def test_outcome_counts_at_its_prediction_and_at_the_label_that_decided_it() -> None:
    logged_ms = T0 + 2 * HOUR_MS + 5 * MINUTE_MS
    cells = stepped(
        prediction(at_ms=T0 + 61_000, latency_bucket=7, relevance_micros=400_000),
        label(at_ms=T0 + 71_000, log_ms=logged_ms),
    ).cells
    cells = by_event_and_label(cells)
    outcome: dict[Cell, int] = {
        ("outcome", "lost_card", "lost_card"): 1,
        ("delay", str(bucket_of(10_000))): 1,
    }
    by_event: dict[Cell, int] = {
        ("prediction", "lost_card"): 1,
        ("latency", "7"): 1,
        ("relevance", "n"): 1,
        ("relevance", "micros"): 400_000,
        **outcome,
    }
    day_ms = T0 - T0 % DAY_MS
    assert cells == {
        PaneKey(Clock.EVENT, MINUTE_MS, T0 + MINUTE_MS, FINE_TUNED): by_event,
        PaneKey(Clock.EVENT, HOUR_MS, T0, FINE_TUNED): by_event,
        PaneKey(Clock.EVENT, DAY_MS, day_ms, FINE_TUNED): by_event,
        PaneKey(Clock.EVENT, ALL_TIME, 0, FINE_TUNED): by_event,
        PaneKey(Clock.LABEL, MINUTE_MS, logged_ms, FINE_TUNED): outcome,
        PaneKey(Clock.LABEL, HOUR_MS, T0 + 2 * HOUR_MS, FINE_TUNED): outcome,
        PaneKey(Clock.LABEL, DAY_MS, day_ms, FINE_TUNED): outcome,
    }


def test_record_counts_in_its_slices_and_in_all() -> None:
    changes = stepped(prediction(slices=("web",)), prediction("p2", slices=("",)), spec=SPEC)
    by_key = {pane.key: cells for pane, cells in changes.cells.items() if pane.size_ms == ALL_TIME}
    assert by_key == {
        SliceKey("fine_tuned", ALL): {("prediction", "lost_card"): 2},
        SliceKey("fine_tuned", "channel=web"): {("prediction", "lost_card"): 1},
    }


def test_nothing_is_stored_for_the_variant_all() -> None:
    changes = stepped(prediction(), prediction("p2", variant="prompt"), label())
    panes = by_event_and_label(changes.cells)
    assert {pane.key.variant for pane in panes} == {"fine_tuned", "prompt"}


def test_correction_takes_the_old_cell_away_and_adds_the_new_one() -> None:
    store = carried(PLAIN, [envelopes(prediction(), label(actual="balance"))])
    changes = carry(store, PLAIN, envelopes(label(actual="lost_card", revision=2)))
    total = changes.cells[TOTAL]
    assert total == {
        ("outcome", "balance", "lost_card"): -1,
        ("outcome", "lost_card", "lost_card"): 1,
    }
    assert total_of(store).confusion == {("lost_card", "lost_card"): 1}


def test_correction_moves_the_outcome_by_label_clock_to_its_own_log_time() -> None:
    second = label(revision=2, log_ms=T0 + 2 * HOUR_MS)
    store = carried(PLAIN, [envelopes(prediction(), label(log_ms=T0 + HOUR_MS))])
    carry(store, PLAIN, envelopes(second))
    keys = [key for key in store.pane_keys(HOUR_MS) if key.clock is Clock.LABEL]
    labelled = {
        key.start_ms: counts.labelled for key, counts in zip(keys, store.panes(keys), strict=True)
    }
    assert labelled == {T0 + HOUR_MS: 0, T0 + 2 * HOUR_MS: 1}


def test_corrections_leave_no_residue() -> None:
    straight = carried(PLAIN, [envelopes(prediction(), label(actual="greeting", revision=9))])
    winding = carried(PLAIN, [envelopes(prediction())])
    for revision, actual in [(1, "a"), (3, "b"), (2, "c"), (7, "d"), (9, "greeting")]:
        carry(winding, PLAIN, envelopes(label(actual=actual, revision=revision)))
    wound, plain = (by_event_and_label(sums_of(s, PLAIN).cells) for s in (winding, straight))
    assert wound == plain


def test_confusion_is_empty_once_every_label_is_withdrawn() -> None:
    ids = [f"p{number}" for number in range(9)]
    store = carried(
        PLAIN,
        [
            envelopes(*(prediction(one) for one in ids)),
            envelopes(*(label(one, actual=one) for one in ids)),
            envelopes(*(label(one, actual="", revision=2, withdrawn=True) for one in ids)),
        ],
    )
    total = total_of(store)
    assert (total.confusion, total.predictions) == ({}, 9)
    assert not [cell for cell in total.cells if cell[0] in {"outcome", "delay"}]


def test_judged_relevance_replaces_the_models_own_until_it_is_withdrawn() -> None:
    store = carried(PLAIN, [envelopes(prediction(relevance_micros=900_000))])
    assert total_of(store).relevance == (0.9, 1)
    carry(store, PLAIN, envelopes(label(relevance_micros=200_000)))
    assert total_of(store).relevance == (0.2, 1)
    carry(store, PLAIN, envelopes(label(revision=2, withdrawn=True)))
    assert total_of(store).relevance == (0.9, 1)


@pytest.mark.parametrize(
    ("facts", "micros"),
    [
        ((label(relevance_micros=1),), None),
        ((prediction(),), None),
        ((prediction(relevance_micros=5),), 5),
        ((prediction(relevance_micros=5), label()), 5),
        ((prediction(), label(relevance_micros=0)), 0),
        ((prediction(relevance_micros=5), label(relevance_micros=3)), 3),
        ((prediction(relevance_micros=5), label(relevance_micros=3, log_ms=EXPIRY_MS)), 5),
    ],
)
def test_relevance_is_the_judged_one_where_a_label_decides(
    facts: tuple[Prediction | Label, ...], micros: int | None
) -> None:
    changes = stepped(*facts)
    cells = {cell: n for cell, n in changes.cells.get(TOTAL, {}).items() if cell[0] == "relevance"}
    if micros is None:
        assert cells == {}
    else:
        assert Counts(cells).relevance == (micros / 1e6, 1)


def test_redelivered_records_are_booked_and_change_nothing_else() -> None:
    first = envelopes(prediction(), label())
    store = carried(PLAIN, [first])
    changes = carry(store, PLAIN, first)
    panes = by_event_and_label(changes.cells)
    assert (changes.entries, panes, changes.votes) == ({}, {}, [])
    assert changes.ledger == {
        "predictions.received": 1,
        "predictions.duplicate": 1,
        "labels.received": 1,
        "labels.duplicate": 1,
    }


def test_copy_that_was_first_in_the_log_takes_the_place_of_one_read_before_it() -> None:
    second = prediction(predicted="balance", at_ms=T0 + HOUR_MS, log_ms=T0 + 2 * HOUR_MS)
    first = prediction(predicted="greeting", at_ms=T0, log_ms=T0 + HOUR_MS, latency_bucket=9)
    backwards = carried(PLAIN, [envelopes(second, label()), envelopes(first)])
    in_order = carried(PLAIN, [envelopes(first), envelopes(label(), second)])
    assert sums_of(backwards, PLAIN) == sums_of(in_order, PLAIN)
    assert total_of(backwards).predicted == {"greeting": 1}


def test_rejected_records_are_booked_by_kind_and_reason() -> None:
    rejected = Rejected(Reason.BAD_TIME, "for a test")
    batch = [envelope(rejected, kind=kind) for kind in (Kind.LABELS, Kind.LABELS, Kind.PREDICTIONS)]
    changes = engine.step(PLAIN, {}, Batch.of(batch), progress={}, watermark_ms=None)
    assert changes.ledger == {
        "labels.received": 2,
        "labels.rejected.bad_time": 2,
        "predictions.received": 1,
        "predictions.rejected.bad_time": 1,
    }


#   T0 ---- T0 + 1 h --------- horizon -------- EXPIRY_MS
#                         prediction in the log  | from here on: expired, not kept


@pytest.mark.parametrize(("log_ms", "kept"), [(EXPIRY_MS - 1, True), (EXPIRY_MS, False)])
def test_prediction_that_comes_past_its_own_horizon_is_booked_as_expired(
    log_ms: int, kept: bool
) -> None:
    changes = stepped(prediction(log_ms=log_ms))
    assert bool(changes.entries) is bool(by_event_and_label(changes.cells)) is kept
    assert changes.ledger.get("predictions.expired", 0) == (not kept)


#   pane of T0 [T0, T0 + 1 min)   kept 7 d     T0 + 7 d + 1 min: dropped


@pytest.mark.parametrize(("past_ms", "minutes"), [(-1, {T0}), (0, set())])
def test_pane_that_retention_has_dropped_is_not_written_again(
    past_ms: int, minutes: set[int]
) -> None:
    watermark_ms = T0 + MINUTE_MS + 7 * DAY_MS + past_ms
    changes = stepped(prediction(), watermark_ms=watermark_ms)
    starts = {size: set[int]() for size in (MINUTE_MS, HOUR_MS, DAY_MS, ALL_TIME)}
    for pane in by_event_and_label(changes.cells):
        starts[pane.size_ms].add(pane.start_ms)
    assert starts[MINUTE_MS] == minutes
    assert starts[HOUR_MS] == {T0}
    assert starts[ALL_TIME] == {0}


def test_late_label_still_counts_in_the_panes_that_are_kept() -> None:
    store = carried(PLAIN, [envelopes(prediction(at_ms=T0))])
    held = store.load(0, [PredictionId("p1")])
    changes = engine.step(
        PLAIN, held, Batch.of(envelopes(label())), progress={}, watermark_ms=T0 + 8 * DAY_MS
    )
    outcomes = {
        pane
        for pane, cells in by_event_and_label(changes.cells).items()
        if any(c[0] == "outcome" for c in cells)
    }
    assert {(pane.clock, pane.size_ms) for pane in outcomes} == {
        (Clock.EVENT, HOUR_MS),
        (Clock.EVENT, DAY_MS),
        (Clock.EVENT, ALL_TIME),
        (Clock.LABEL, HOUR_MS),
        (Clock.LABEL, DAY_MS),
    }


URGENT_RULE = rule(maturity_ms=1_000)


def vote_after(*facts: Prediction | Label) -> Vote | None:
    return dict(votes_of(URGENT_RULE, (), HORIZON_MS, entry_of(*facts))).get(Role.LIVE)


@pytest.mark.parametrize(
    ("facts", "release_ms"),
    [
        ((prediction(log_ms=T0 + 100), label(log_ms=T0 + 500)), 1_000),
        ((prediction(log_ms=T0 + 100), label(log_ms=T0 + 5_000)), 5_000),
        ((prediction(log_ms=T0 + 7_000), label(log_ms=T0 + 50)), 7_000),
    ],
    ids=["waits until it is mature", "waits for its label", "waits for its prediction"],
)
def test_vote_is_released_once_it_is_mature_and_both_sides_are_in_the_log(
    facts: tuple[Prediction | Label, ...], release_ms: int
) -> None:
    assert vote_after(*facts) == Vote(
        T0 + release_ms, "p1", "urgent-recall", FINE_TUNED, T0, hit=True
    )


@pytest.mark.parametrize(
    ("predicted", "actual", "hit"),
    [
        ("lost_card", "lost_card", True),
        ("report_fraud", "lost_card", True),
        ("balance", "lost_card", False),
        ("lost_card", "balance", None),
        ("balance", "balance", None),
    ],
)
def test_outcome_votes_when_its_truth_is_of_the_group(
    predicted: str, actual: str, hit: bool | None
) -> None:
    found = vote_after(prediction(predicted=predicted), label(actual=actual))
    assert (None if found is None else found.hit) is hit


@pytest.mark.parametrize(
    "facts", [(), (prediction(),), (label(),), (prediction(), label(withdrawn=True))]
)
def test_entry_without_a_truth_does_not_vote(facts: tuple[Prediction | Label, ...]) -> None:
    assert vote_after(*facts) is None


def test_vote_that_still_waits_is_replaced_by_what_a_correction_says() -> None:
    spec = Spec(windows=PLAIN.windows, rules=(rule(maturity_ms=HOUR_MS),))
    store = carried(spec, [envelopes(prediction(), label(log_ms=T0 + 200))])
    (old,) = store.waiting(FOREVER_MS)
    correction = label(actual="report_fraud", revision=2, log_ms=T0 + 300)
    withdrawal = label(revision=3, withdrawn=True, log_ms=T0 + 400)
    assert carry(store, spec, envelopes(correction)).votes == []
    changes = carry(store, spec, envelopes(withdrawal))
    assert changes.votes == [VoteChange(old, None)]
    assert store.waiting(FOREVER_MS) == []


def test_vote_that_was_released_is_never_cast_again() -> None:
    spec = Spec(windows=PLAIN.windows, rules=(rule(maturity_ms=HOUR_MS),))
    store = carried(spec, [envelopes(prediction(), label(log_ms=T0 + 200))])
    store.forget(store.waiting(FOREVER_MS))
    carry(store, spec, envelopes(label(actual="greeting", revision=2, log_ms=T0 + 300)))
    carry(store, spec, envelopes(label(revision=3, log_ms=T0 + 2 * HOUR_MS)))
    assert store.waiting(FOREVER_MS) == []


@REPEATABLE
@given(st.data())
def test_any_order_and_any_batches_leave_the_same_sums(data: st.DataObject) -> None:
    known = data.draw(streams())
    read = data.draw(st.permutations(known))
    size = data.draw(st.sampled_from([1, 1, 2, 5]))
    batches = [read[at : at + size] for at in range(0, len(read), size)]
    once, often = carried(SPEC, [known]), carried(SPEC, batches)
    assert sums_of(once, SPEC) == sums_of(often, SPEC)


@REPEATABLE
@given(streams(), st.sampled_from([T0, EXPIRY_MS - 1, EXPIRY_MS, FOREVER_MS]))
def test_books_balance_after_every_step(stream: list[Envelope], watermark_ms: int) -> None:
    store = MemoryStore()
    for one in stream:
        carry(store, SPEC, [one])
        assert differences(store.ledger(), watermark_ms) == (0, 0)


@REPEATABLE
@given(streams())
def test_sums_are_what_the_entries_say(stream: list[Envelope]) -> None:
    store = carried(SPEC, [[one] for one in stream])
    held = store.load(0, ids_of(Batch.of(stream)))
    found = [join.outcome_of(entry, HORIZON_MS) for entry in held.values()]
    keys = [key for key in store.pane_keys(ALL_TIME) if key.key.slice == ALL]
    panes = store.panes(keys)
    assert sum(pane.labelled for pane in panes) == sum(outcome is not None for outcome in found)
    assert sum(pane.predictions for pane in panes) == sum(
        entry.prediction is not None for entry in held.values()
    )
    assert store.waiting(FOREVER_MS) == sorted(
        vote
        for entry in held.values()
        for one in SPEC.rules
        for _, vote in votes_of(one, SPEC.slice_names, HORIZON_MS, entry)
    )


@REPEATABLE
@given(streams(), st.randoms(use_true_random=False))
def test_no_vote_appears_behind_the_watermark(stream: list[Envelope], draw: Random) -> None:
    # Two partitions, each in log order, read in any interleaving: what has been released so far
    # must be all that there is before the least frontier.
    logs = {
        kind: sorted(
            (e for e in stream if e.kind is kind and not isinstance(e.fact, Rejected)),
            key=lambda e: 0 if isinstance(e.fact, Rejected) else e.fact.log_ms,
        )
        for kind in Kind
    }
    frontier = dict.fromkeys(Kind, -1)
    store = MemoryStore()
    while any(logs.values()):
        kind = draw.choice([kind for kind in Kind if logs[kind]])
        one = logs[kind].pop(0)
        watermark_ms = min(frontier.values())
        changes = carry(store, SPEC, [one])
        for change in changes.votes:
            assert change.new is None or change.new.release_ms >= watermark_ms
        assert not isinstance(one.fact, Rejected)
        frontier[kind] = one.fact.log_ms


def changed_by(spec: Spec, held: Mapping[PredictionId, Entry], batch: Batch) -> list[Changes]:
    """By the loops, and by merging fact for fact; sorted where the order is of no matter."""
    by_loops = engine.step(spec, held, batch, progress={}, watermark_ms=EXPIRY_MS)
    work = engine.Work(spec, held)
    facts: list[Prediction | Label] = [*batch.labels, *batch.predictions]
    for fact in facts:
        work.merge(fact, Kind.LABELS if isinstance(fact, Label) else Kind.PREDICTIONS)
    for kind, reason, log_ms in batch.rejected:
        work.tally.reject(kind, reason, log_ms)
    both = (by_loops, work.changes({}, EXPIRY_MS))
    return [
        replace(one, votes=sorted(one.votes, key=repr), misses=tuple(sorted(one.misses, key=repr)))
        for one in both
    ]


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        replace(SPEC, rules=()),
        replace(SPEC, rules=(rule(metric=Metric.ACCURACY, hindsight_ms=HOUR_MS),)),
        replace(SPEC, rules=(rule(metric=Metric.PRECISION, maturity_ms=None),)),
    ],
)
@REPEATABLE
@given(st.lists(streams([f"p{number}" for number in range(5)]), max_size=4))
def test_counting_in_bulk_gives_what_merging_each_fact_gives(
    spec: Spec, batches: list[list[Envelope]]
) -> None:
    """With what batches before have left: pending, labelled and orphaned entries."""
    store = MemoryStore()
    for stream in batches:
        batch = Batch.of(stream)
        by_loops, by_merging = changed_by(spec, store.load(0, ids_of(batch)), batch)
        assert by_loops == by_merging
        store.commit(0, {}, by_loops)


def test_bulk_and_merging_agree_on_scores_and_on_many_places() -> None:
    scores = [(), (("urgent#5f28", 57),), (("urgent#5f28", 3), ("other#0000", 4))]
    spec = replace(SPEC, groups=Groups({"urgent": frozenset({"lost_card"})}))
    assert "urgent#5f28" in spec.scored
    facts: list[Prediction | Label] = []
    for number in range(60):
        at_ms = T0 + number * 47_000
        facts.append(
            prediction(
                f"p{number}",
                ["lost_card", "balance"][number % 2],
                at_ms=at_ms,
                slices=(["web", "", "voice"][number % 3],),
                scores=scores[number % 3],
                latency_bucket=number % 5 or None,
                relevance_micros=number if number % 7 == 0 else None,
            )
        )
        if number % 4:
            facts.append(label(f"p{number}", "lost_card", at_ms=at_ms + number * 90_000))
    by_loops, by_merging = changed_by(spec, {}, Batch.of(envelopes(*facts)))
    assert by_loops == by_merging
    assert any(cell[0] == "truth" for cells in by_loops.cells.values() for cell in cells)
