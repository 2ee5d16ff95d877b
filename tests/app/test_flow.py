"""The order of effects: whatever fails, and wherever reading begins again, a record counts once.

A crash is an error out of a port; what comes after it is a new flow on the same store.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from itertools import count

import pytest

from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.app.flow import Flow, Limits, Turn, dead_letter
from monitor.codec.records import RecordCodec
from monitor.domain import ledger
from monitor.domain.alerts import Status, Transition, Vote
from monitor.domain.cut import IDLE, WAKING_MS, Cut, Progress
from monitor.domain.engine import Changes, Spec
from monitor.domain.errors import (
    BrokerError,
    CommitConflict,
    StoreError,
    TooManyRejects,
    WorldError,
)
from monitor.domain.events import (
    Kind,
    Partition,
    Reason,
    Record,
    Rejected,
)
from monitor.ports import OutRecord
from tests.app.doubles import TeamLog, Trap, TrappedLog, TrappedSink, TrappedStore
from tests.app.story import (
    CODEC,
    LABELS,
    PREDICTIONS,
    SPEC,
    TOPICS,
    UNREADABLE,
    ends,
    filled,
    history,
    numbers,
    received,
)
from tests.builders import (
    MINUTE_MS,
    T0,
    label_message,
    prediction_message,
    record,
    rule,
)

HORIZON_MS = SPEC.windows.horizon_ms
BATCH = Limits(batch_records=64)
GOOD = prediction_message()
BAD = b"{"


PORTS = [
    "before log.seek",
    "before log.poll",
    "after log.poll",
    "before dead_letters.publish",
    "after dead_letters.publish",
    "before store.cuts",
    "before store.load",
    "before store.commit",
    "after store.commit",
    "before log.commit",
    "after log.commit",
    "before store.waiting",
    "before store.commit_evaluation",
    "after store.commit_evaluation",
    "before store.forget",
    "after store.forget",
    "before store.sweep",
]


def flow_of(
    log: MemoryLog,
    store: MemoryStore,
    sink: TrappedSink | None = None,
    *,
    limits: Limits = BATCH,
    spec: Spec = SPEC,
    codec: RecordCodec = CODEC,
) -> Flow:
    return Flow(spec, codec, log, store, dead_letters=sink, limits=limits)


def read_to_end(flow: Flow, log: MemoryLog) -> None:
    """What a worker does that ends at the end of the log."""
    while flow.turn().records:
        flow.evaluate()
        flow.sweep()
    flow.mark_idle(log.assigned())
    flow.evaluate()
    flow.sweep()


@cache
def undisturbed() -> MemoryStore:
    """The store that everything else is compared with; nobody writes to it again."""
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore()
    read_to_end(flow_of(log, store), log)
    return store


def crashed_and_resumed(
    trap: Trap, *, shards: int, from_start: bool
) -> tuple[MemoryStore, TrappedSink]:
    """Read until the trap springs, then with a new flow and a new reader to the end."""
    store, sink = TrappedStore(shards, trap), TrappedSink(trap)
    first = filled(TrappedLog(trap), history())
    try:
        read_to_end(flow_of(first, store, sink), first)
    except WorldError:
        second = filled(MemoryLog(TOPICS), history())
        if not from_start:
            second.seek(first.committed)
        read_to_end(flow_of(second, store, sink), second)
    store.trap = Trap()
    return store, sink


def dead_keys(sink: TrappedSink) -> Counter[bytes | None]:
    return Counter(out.key for out in sink.published)


def balances(store: MemoryStore, watermark_ms: int = 0) -> list[int]:
    return [
        ledger.balance_of(
            store.ledger(), kind, watermark_ms=watermark_ms, horizon_ms=HORIZON_MS
        ).difference
        for kind in Kind
    ]


# The story itself


def test_the_story_has_everything_that_could_be_counted_wrongly() -> None:
    books = undisturbed().ledger()
    for counter in (
        "predictions.duplicate",
        "labels.duplicate",
        "labels.corrected",
        "labels.early",
        f"labels.orphan@{T0 // 3_600_000}",
        "predictions.rejected.not_utf8",
        "labels.rejected.null_value",
    ):
        assert books[counter] > 0, counter
    assert balances(undisturbed()) == [0, 0]


def test_the_story_ends_in_one_alert_for_the_variant_that_misses() -> None:
    moves = [(t.key.variant, t.moved_to) for t in undisturbed().transitions()]
    assert moves == [
        ("prompt", Status.OK),
        ("fine_tuned", Status.OK),
        ("fine_tuned", Status.FIRING),
    ]


def test_released_votes_are_forgotten_at_once() -> None:
    store = undisturbed()
    complete_ms = store.evaluation().watermark_ms
    assert complete_ms is not None
    assert store.evaluation().releasing != ()
    assert store.waiting(complete_ms) == []


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_neither_batch_size_nor_shards_show_in_any_number(shards: int, batch: int) -> None:
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore(shards)
    read_to_end(flow_of(log, store, limits=Limits(batch)), log)
    assert numbers(store) == numbers(undisturbed())


# Crashes


@pytest.mark.parametrize("port", PORTS)
def test_nothing_is_lost_or_doubled_when_a_port_fails(port: str) -> None:
    """At whichever call; every second time the reader comes back without committed offsets."""
    expected = numbers(undisturbed())
    for call in count(1):
        trap = Trap(port, call)
        store, sink = crashed_and_resumed(trap, shards=2, from_start=call % 2 == 0)
        assert numbers(store) == expected, f"{port}, call {call}"
        assert balances(store) == [0, 0]
        assert len(dead_keys(sink)) == sum(map(len, UNREADABLE.values()))
        if not trap.has_sprung:
            break
    assert call > 1, "the trap never sprang"


def test_a_dead_letter_is_written_before_its_record_counts_as_dealt_with() -> None:
    trap = Trap("before dead_letters.publish", 1)
    store, sink = TrappedStore(trap=trap), TrappedSink(trap)
    log = filled(MemoryLog(TOPICS), [record(BAD), record(GOOD)])
    with pytest.raises(BrokerError):
        flow_of(log, store, sink).turn()
    assert store.ledger() == {}
    assert sink.published == []
    assert log.committed == {}


def test_offsets_are_committed_after_the_store_has_everything() -> None:
    trap = Trap("before store.commit", 1 + 2)
    store = TrappedStore(shards=2, trap=trap)
    log = filled(MemoryLog({"predictions": 1}), [record(GOOD)])
    with pytest.raises(StoreError):
        flow_of(log, store).turn()
    assert log.committed == {}
    assert not any(cut[PREDICTIONS[0]].next_offset for cut in store.cuts())


# Reading again


def test_records_below_the_cut_are_skipped_when_they_are_delivered_again() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore(2)
    flow = flow_of(log, store)
    for _ in range(4):
        flow.turn()
    before = numbers(store)
    log.seek(dict.fromkeys(log.assigned(), 0))
    for _ in range(4):
        flow.turn()
    assert numbers(store) == before
    read_to_end(flow, log)
    assert numbers(store) == numbers(undisturbed())


def test_a_batch_that_begins_below_the_cut_counts_from_the_cut_on() -> None:
    records = [record(prediction_message(prediction_id=f"p{n}")) for n in range(5)]
    log, store = filled(MemoryLog({"predictions": 1}), records), MemoryStore()
    flow = flow_of(log, store, limits=Limits(batch_records=3))
    flow.turn()
    log.seek({PREDICTIONS[0]: 1})
    flow.turn()
    assert received(store, Kind.PREDICTIONS) == 4
    assert store.cuts()[0][PREDICTIONS[0]].next_offset == 4


def test_a_cut_never_goes_back_when_old_records_come_again() -> None:
    log = filled(MemoryLog({"predictions": 1}), [record(GOOD, log_ms=T0 + n) for n in range(4)])
    store = MemoryStore()
    flow = flow_of(log, store, limits=Limits(batch_records=4))
    flow.turn()
    log.seek({PREDICTIONS[0]: 0})
    flow.turn()
    assert store.cuts() == [{PREDICTIONS[0]: Progress(4, T0 + 3, T0 + 3)}]


def test_a_frontier_never_goes_back_when_producers_clocks_differ() -> None:
    records = [record(GOOD, log_ms=T0 + 9), record(GOOD, log_ms=T0 + 5)]
    log, store = filled(MemoryLog({"predictions": 1}), records), MemoryStore()
    flow = flow_of(log, store, limits=Limits(batch_records=1))
    flow.turn()
    flow.turn()
    assert store.cuts() == [{PREDICTIONS[0]: Progress(2, T0 + 9, T0 + 9)}]


def test_a_turn_without_records_changes_nothing() -> None:
    log, store = MemoryLog(TOPICS), MemoryStore()
    flow = flow_of(log, store)
    assert flow.turn() == Turn()
    assert flow.evaluate() == []
    assert store.ledger() == {}


# Two readers


def test_a_rebalance_in_the_middle_reads_on_from_the_cut() -> None:
    nothing_committed: dict[Partition, int] = {}
    store, log = MemoryStore(2), TeamLog(nothing_committed)
    flow = flow_of(log, store)
    log.assign(PREDICTIONS + LABELS)
    for _ in range(4):
        flow.turn()
    nothing_committed.clear()
    log.assign(PREDICTIONS + LABELS)
    assert log.lag()[PREDICTIONS[0]] > 0
    flow.turn()
    assert log.lag()[PREDICTIONS[0]] == 0
    read_to_end(flow, log)
    assert numbers(store) == numbers(undisturbed())


def test_records_of_a_poll_that_met_a_rebalance_are_read_again_from_the_cut() -> None:
    store, log = MemoryStore(), TeamLog({})
    flow = flow_of(log, store)
    log.assign(PREDICTIONS)
    log.during_poll = lambda: log.assign(PREDICTIONS + LABELS)
    assert flow.turn() == Turn()
    assert store.ledger() == {}
    read_to_end(flow, log)
    assert numbers(store) == numbers(undisturbed())


def test_the_log_stands_at_the_cut_as_soon_as_a_turn_has_met_a_rebalance() -> None:
    """Else a group that had read everything into another namespace would look like the end."""
    store, log = MemoryStore(), TeamLog(ends())
    flow = flow_of(log, store)
    log.during_poll = lambda: log.assign(PREDICTIONS + LABELS)
    flow.turn()
    assert log.at_end() == frozenset()
    read_to_end(flow, log)
    assert numbers(store) == numbers(undisturbed())


def test_two_readers_count_what_one_counts_when_partitions_change_hands() -> None:
    committed: dict[Partition, int] = {}
    store = MemoryStore(2)
    logs = [TeamLog(committed), TeamLog(committed)]
    flows = [flow_of(log, store, limits=Limits(11)) for log in logs]
    hands: list[tuple[list[Partition], list[Partition]]] = [
        (PREDICTIONS, LABELS),
        (LABELS, PREDICTIONS),
        ([*PREDICTIONS, LABELS[0]], [LABELS[1]]),
        ([], PREDICTIONS + LABELS),
    ]
    for number in range(40):
        if number % 5 == 0:
            for log, mine in zip(logs, hands[number // 5 % 4], strict=True):
                log.assign(mine)
        for flow in flows:
            flow.turn()
            flow.evaluate()
    logs[1].assign(PREDICTIONS + LABELS)
    read_to_end(flows[1], logs[1])
    assert numbers(store) == numbers(undisturbed())


def test_a_reader_that_was_put_out_and_reads_on_doubles_nothing() -> None:
    store = MemoryStore(2)
    logs = [filled(MemoryLog(TOPICS), history()) for _ in range(2)]
    flows = [flow_of(log, store, limits=Limits(20 + n)) for n, log in enumerate(logs)]
    for _ in range(30):
        for flow in flows:
            flow.turn()
    for flow, log in zip(flows, logs, strict=True):
        read_to_end(flow, log)
    assert numbers(store) == numbers(undisturbed())


# Rejected records


def rejecting(*values: bytes | Mapping[str, object], most: int, batch: int = 100) -> Flow:
    log = filled(MemoryLog({"predictions": 1}), [record(value) for value in values])
    return flow_of(log, MemoryStore(), TrappedSink(Trap()), limits=Limits(batch, most))


def test_as_many_rejects_in_a_row_as_allowed_are_diverted() -> None:
    assert rejecting(BAD, BAD, BAD, most=3).turn() == Turn(3, 3, frozenset({PREDICTIONS[0]}))


def test_a_good_record_starts_the_count_of_rejects_anew() -> None:
    assert rejecting(BAD, BAD, GOOD, BAD, BAD, most=2).turn().rejected == 4


def test_rejects_in_a_row_are_counted_across_batches() -> None:
    flow = rejecting(BAD, BAD, BAD, BAD, most=3, batch=2)
    flow.turn()
    with pytest.raises(TooManyRejects, match=r"^predictions\[0\]@3: 4 predictions in a row"):
        flow.turn()


def test_good_labels_do_not_hide_that_every_prediction_is_broken() -> None:
    label = label_message()
    messages = [record(BAD), record(label, topic="labels"), record(BAD), record(BAD)]
    log = filled(MemoryLog({"predictions": 1, "labels": 1}), messages)
    with pytest.raises(TooManyRejects, match=r"raise worker\.max_consecutive_rejects"):
        flow_of(log, MemoryStore(), limits=Limits(100, 2)).turn()


def test_too_many_rejects_stop_before_anything_of_the_batch_is_counted() -> None:
    log = filled(MemoryLog({"predictions": 1}), [record(v) for v in (GOOD, BAD, BAD, GOOD)])
    store, sink = MemoryStore(), TrappedSink(Trap())
    with pytest.raises(TooManyRejects) as caught:
        flow_of(log, store, sink, limits=Limits(100, 1)).turn()
    assert store.ledger() == {}
    assert store.cuts()[0][PREDICTIONS[0]].next_offset == 0
    assert sink.published == []
    assert log.committed == {}
    said = str(caught.value)
    assert said.startswith("predictions[0]@2: 2 predictions in a row were rejected, the last as ")
    assert "not_json" in said
    assert "recallwatch check" in said


def test_rejects_are_counted_but_not_diverted_when_there_is_no_place_for_them() -> None:
    log, store = filled(MemoryLog({"predictions": 1}), [record(BAD)]), MemoryStore()
    assert flow_of(log, store).turn().rejected == 1
    assert store.ledger() == {"predictions.received": 1, "predictions.rejected.not_json": 1}


def headers(out: OutRecord) -> dict[str, str]:
    return {name: value.decode() for name, value in out.headers}


@pytest.mark.parametrize(
    "value",
    [b"{", b"\xff\x00", None, b"x" * 900_000],
    ids=["text", "no text", "null", "900 kB"],
)
def test_a_dead_letter_carries_the_original_bytes_under_the_original_position(
    value: bytes | None,
) -> None:
    log = MemoryLog({"predictions": 3})
    filled(log, [record(GOOD, partition=2), record(value, partition=2, key=b"k\xff", log_ms=T0)])
    sink = TrappedSink(Trap())
    Flow(SPEC, CODEC, log, MemoryStore(), dead_letters=sink, dead_letter_topic="dead").turn()
    assert [(out.topic, out.key, out.value) for out in sink.published] == [
        ("dead", b"predictions[2]@1", value)
    ]
    about = headers(sink.published[0])
    reason, detail = about.pop("reason"), about.pop("detail")
    assert Reason(reason)
    assert detail
    assert about == {
        "topic": "predictions",
        "partition": "2",
        "offset": "1",
        "log_ms": str(T0),
        "key": json.dumps("k\ufffd"),
    }


def test_a_dead_letter_tells_no_key_from_an_empty_one() -> None:
    rejected = Rejected(Reason.NOT_JSON, "text")
    said = [headers(dead_letter(record(BAD, key=k), rejected, "dead"))["key"] for k in (None, b"")]
    assert said == ["null", '""']


def test_the_detail_of_a_dead_letter_never_quotes_the_message() -> None:
    secret = "4111 1111 1111 1111"
    values: list[bytes | Mapping[str, object]] = [
        secret.encode(),
        prediction_message(prediction_id=[secret]),
        prediction_message(event_time=secret),
        prediction_message(predicted_intent={"name": secret}),
        prediction_message(confidence=secret),
    ]
    sink = TrappedSink(Trap())
    flow_of(filled(MemoryLog(TOPICS), [record(v) for v in values]), MemoryStore(), sink).turn()
    assert len(sink.published) == len(values)
    assert not [out for out in sink.published if secret in headers(out)["detail"]]


# The watermark


def test_partitions_that_nobody_has_read_hold_the_watermark_back() -> None:
    log, store = MemoryLog(TOPICS), MemoryStore()
    filled(log, [each for each in history() if each.topic == "predictions"])
    flow = flow_of(log, store)
    while flow.turn().records:
        assert flow.evaluate() == []
    assert set(store.cuts()[0]) == set(PREDICTIONS + LABELS)
    assert store.evaluation().watermark_ms is None


def test_partitions_read_to_their_end_hold_the_watermark_back_no_longer() -> None:
    messages = [record(GOOD, log_ms=T0), record(label_message(), topic="labels", log_ms=T0 + 5)]
    log, store = filled(MemoryLog(TOPICS), messages), MemoryStore(2)
    flow = flow_of(log, store)
    flow.turn()
    assert flow.evaluate() == []
    flow.mark_idle([PREDICTIONS[1], LABELS[1]])
    flow.evaluate()
    assert store.evaluation().watermark_ms == T0 - WAKING_MS
    flow.mark_idle([PREDICTIONS[0]])
    flow.evaluate()
    assert store.evaluation().watermark_ms == T0 + 5 - WAKING_MS
    flow.mark_idle(LABELS)
    flow.evaluate()
    assert store.evaluation().watermark_ms == T0 + 6


def test_an_idle_partition_counts_again_once_records_come() -> None:
    log, store = filled(MemoryLog({"predictions": 1}), [record(GOOD, log_ms=T0)]), MemoryStore()
    flow = flow_of(log, store)
    flow.turn()
    flow.mark_idle(PREDICTIONS)
    assert store.cuts()[0][PREDICTIONS[0]].frontier_ms == IDLE
    log.append(record(GOOD, log_ms=T0 + MINUTE_MS))
    flow.turn()
    assert store.cuts() == [{PREDICTIONS[0]: Progress(2, T0 + MINUTE_MS, T0 + MINUTE_MS)}]


def test_the_watermark_never_goes_back() -> None:
    log, store = filled(MemoryLog({"predictions": 1}), [record(GOOD, log_ms=T0)]), MemoryStore()
    flow = flow_of(log, store)
    flow.turn()
    flow.mark_idle(PREDICTIONS)
    flow.evaluate()
    log.append(record(GOOD, log_ms=T0 - MINUTE_MS))
    flow.turn()
    flow.evaluate()
    assert store.evaluation().watermark_ms == T0 + 1


def test_marking_idle_what_another_worker_has_moved_meanwhile_is_dropped() -> None:
    log, store = filled(MemoryLog({"predictions": 1}), [record(GOOD, log_ms=T0)]), MemoryStore()
    flow, other = flow_of(log, store), filled(MemoryLog({"predictions": 1}), [record(GOOD)] * 2)
    flow.turn()
    flow_of(other, store).turn()
    flow.mark_idle(PREDICTIONS)
    assert store.cuts()[0][PREDICTIONS[0]].frontier_ms != IDLE
    flow.mark_idle(PREDICTIONS)
    assert store.cuts()[0][PREDICTIONS[0]].frontier_ms == IDLE


# The evaluator


class ContestedStore(MemoryStore):
    """Lets ``rival`` act once between an evaluator's reading and its commit."""

    rival: Callable[[], object] | None = None

    def waiting(self, before_ms: int, limit: int | None = None) -> list[Vote]:
        found = super().waiting(before_ms, limit)
        rival, self.rival = self.rival, None
        if rival is not None:
            rival()
        return found


def test_the_result_of_the_evaluator_that_was_faster_stands() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), ContestedStore(2)
    flow, rival = flow_of(log, store), flow_of(MemoryLog(TOPICS), store)
    while flow.turn().records:
        pass
    flow.mark_idle(log.assigned())
    found: list[Transition] = []
    store.rival = lambda: found.extend(rival.evaluate())
    assert flow.evaluate() == []
    assert [t.moved_to for t in found] == [Status.OK, Status.OK, Status.FIRING]
    assert flow.evaluate() == []
    assert numbers(store) == numbers(undisturbed())


def test_a_vote_that_changes_after_its_release_is_not_counted_again() -> None:
    """The evaluator crashed before the vote was forgotten; an earlier label came late.

    ::

        prediction   label of the vote
        |            |                  crash
        T0     5 s   10 s               |      5 s: another label of the same truth
    """
    messages = [
        record(GOOD, log_ms=T0),
        record(label_message(label_id="a"), topic="labels", log_ms=T0 + 10_000),
    ]
    late = record(label_message(label_id="b"), topic="labels", log_ms=T0 + 5_000)
    topics = {"predictions": 1, "labels": 1}
    store = TrappedStore(trap=Trap("after store.commit_evaluation", 2))
    spec = replace(SPEC, rules=(rule(per=("variant",)),))
    log = filled(MemoryLog(topics), messages)
    with pytest.raises(StoreError):
        read_to_end(flow_of(log, store, spec=spec), log)
    assert list(store.evaluation().releasing) == store.waiting(T0 + MINUTE_MS) != []
    later = record(prediction_message(prediction_id="p2"), log_ms=T0 + MINUTE_MS)
    log = filled(MemoryLog(topics), [*messages, late, later])
    read_to_end(flow_of(log, store, spec=spec), log)
    [state] = store.evaluation().states.values()
    assert len(state.detector.ring) == 1
    assert store.waiting(T0 + 2 * MINUTE_MS) == []


def test_a_transition_says_how_far_the_log_had_been_read() -> None:
    store = undisturbed()
    at_most = {str(partition): end for partition, end in ends().items()}
    for transition in store.transitions():
        cut = dict(transition.cut)
        assert set(cut) == set(at_most)
        assert all(0 < cut[name] <= at_most[name] for name in cut)


def test_a_conflict_is_met_by_loading_and_stepping_again() -> None:
    class Contested(MemoryStore):
        conflicts = 2

        def commit(self, shard: int, expected: Cut, changes: Changes) -> None:
            if changes.entries and self.conflicts:
                self.conflicts -= 1
                raise CommitConflict("an entry was changed by another worker")
            super().commit(shard, expected, changes)

    log, store = filled(MemoryLog(TOPICS), history()), Contested()
    read_to_end(flow_of(log, store), log)
    assert store.conflicts == 0
    assert numbers(store) == numbers(undisturbed())


# Between two runs


@pytest.mark.parametrize("batch", [3, 1000])
def test_run_that_is_continued_later_gives_the_alerts_of_one_that_was_not(batch: int) -> None:
    """Partitions stand idle in the store when the second run begins; their backlog is unread.

    Labels are read first here, so that each prediction read releases its vote at once if the
    watermark was let run ahead.
    """
    records = sorted(history(), key=lambda r: r.log_ms)
    middle = len(records) // 2
    one_alert = replace(SPEC, rules=(rule(per=(), maturity_ms=2 * MINUTE_MS),))

    def read_in(*parts: list[Record]) -> dict[str, object]:
        log, store = MemoryLog({"labels": 2, "predictions": 2}), MemoryStore()
        for part in parts:
            filled(log, part)
            read_to_end(flow_of(log, store, limits=Limits(batch), spec=one_alert), log)
        return numbers(store)

    assert read_in(records[:middle], records[middle:]) == read_in(records)


def test_topic_that_is_not_read_any_more_does_not_hold_the_watermark() -> None:
    store = MemoryStore()
    old = filled(MemoryLog({"predictions-v1": 1, "labels": 1}), [record(GOOD, log_ms=T0)][:0])
    old.append(record(GOOD, topic="predictions-v1", log_ms=T0))
    flow_of(old, store).turn()
    new = filled(MemoryLog({"predictions": 1, "labels": 1}), [record(GOOD, log_ms=T0 + 60_000)])
    read_to_end(flow_of(new, store), new)
    assert store.evaluation().watermark_ms == T0 + 60_001


@pytest.mark.parametrize("votes_at_once", [1, 2, 7])
def test_backlog_released_in_slices_gives_the_same_alerts(votes_at_once: int) -> None:
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore()
    limits = Limits(batch_records=10_000, votes_at_once=votes_at_once)
    read_to_end(flow_of(log, store, limits=limits), log)
    ours, theirs = numbers(store), numbers(undisturbed())
    assert ours == theirs
    assert store.evaluation().sequence > 5
