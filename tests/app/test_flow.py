"""The order of effects: whatever fails, and wherever reading begins again, a record counts once.

A crash is an error out of a port; what comes after it is a new flow on the same store.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import count
from typing import cast

import pytest

from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.app.flow import Flow, Limits, Turn, dead_letter
from monitor.codec.records import RecordCodec
from monitor.domain import engine, ledger
from monitor.domain.alerts import Status, Transition
from monitor.domain.cut import IDLE, WAKING_MS, Cut, Progress
from monitor.domain.engine import Changes, Spec
from monitor.domain.errors import (
    BrokerError,
    CommitConflict,
    StoreError,
    TooManyRejects,
    WorldError,
)
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import (
    Batch,
    Fact,
    Kind,
    NextOffsets,
    Partition,
    PredictionId,
    Reason,
    Record,
    Rejected,
)
from monitor.domain.join import Entry
from monitor.domain.journal import JournalEntry
from monitor.domain.ledger import Gap
from monitor.domain.slices import ALL
from monitor.domain.votes import Vote
from monitor.ports import Lease, OutRecord, StateReader, shard_of
from tests.app.doubles import (
    ContestedStore,
    ForgetfulStore,
    TeamLog,
    Trap,
    TrappedLog,
    TrappedSink,
    TrappedStore,
)
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
    "before store.lead",
    "before store.waiting",
    "before store.commit_evaluation",
    "after store.commit_evaluation",
    "before store.forget",
    "after store.forget",
    "before store.outbox",
    "before store.delivered",
    "after store.delivered",
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
    worker: str = "worker",
    on_gap: Callable[[Gap], None] = lambda _: None,
) -> Flow:
    flow = Flow(spec, codec, log, store, dead_letters=sink, limits=limits, worker=worker)
    flow.on_gap = on_gap
    return flow


def read_to_end(
    flow: Flow,
    log: MemoryLog,
    to: Callable[[Transition], None] = lambda _: None,
    goes_on: Callable[[], bool] = lambda: False,
) -> None:
    """What a worker does that ends at the end of the log."""
    while True:
        turn = flow.turn(goes_on)
        flow.evaluate()
        flow.deliver(to)
        flow.sweep()
        if not turn.records and log.at_end() == log.assigned():
            flow.mark_idle(log.assigned())
            flow.evaluate()
            flow.deliver(to)
            flow.turn()
            if log.at_end() == log.assigned():
                return


@cache
def undisturbed() -> MemoryStore:
    """The store that everything else is compared with; nobody writes to it again."""
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore()
    read_to_end(flow_of(log, store), log)
    return store


def crashed_and_resumed(
    trap: Trap, *, shards: int, from_start: bool, goes_on: Callable[[], bool]
) -> tuple[MemoryStore, TrappedSink, list[Transition]]:
    """Read until the trap springs, then with a new flow and a new reader to the end.

    Store, dead letters, and the transitions that were delivered.
    """
    store, sink = TrappedStore(shards, trap), TrappedSink(trap)
    delivered: list[Transition] = []
    first = filled(TrappedLog(trap), history())
    try:
        read_to_end(flow_of(first, store, sink), first, delivered.append, goes_on)
    except WorldError:
        second = filled(MemoryLog(TOPICS), history())
        if not from_start:
            second.seek(first.committed)
        read_to_end(flow_of(second, store, sink), second, delivered.append, goes_on)
    store.trap = Trap()
    return store, sink, delivered


def dead_keys(sink: TrappedSink) -> Counter[bytes | None]:
    return Counter(out.key for out in sink.published)


def balances(store: StateReader, watermark_ms: int = 0) -> list[int]:
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


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("port", PORTS)
def test_nothing_is_lost_or_doubled_when_a_port_fails(port: str, *, overlaps: bool) -> None:
    """At whichever call; every second time the reader comes back without committed offsets."""
    expected = numbers(undisturbed())
    for call in count(1):
        trap = Trap(port, call)
        store, sink, delivered = crashed_and_resumed(
            trap, shards=2, from_start=call % 2 == 0, goes_on=lambda: overlaps
        )
        assert numbers(store) == expected, f"{port}, call {call}"
        assert balances(store) == [0, 0]
        assert len(dead_keys(sink)) == sum(map(len, UNREADABLE.values()))
        assert list(dict.fromkeys(delivered)) == store.transitions()
        assert store.outbox() == []
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


# A store that loses what it had acknowledged


@pytest.mark.parametrize("keep_at", [0, 1, 4, 9])
@pytest.mark.parametrize("lose_at", [5, 10, 13])
def test_what_a_store_has_lost_is_read_again(keep_at: int, lose_at: int) -> None:
    """A server that came back without its last writes, while the worker never noticed."""
    log, store = filled(MemoryLog(TOPICS), history()), ForgetfulStore(2)
    flow = flow_of(log, store, limits=Limits(batch_records=20))
    delivered: list[Transition] = []
    for number in range(lose_at):
        if number == keep_at:
            store.keep()
        assert flow.turn().records
        flow.evaluate()
        flow.deliver(delivered.append)
    store.go_back()
    read_to_end(flow, log, delivered.append)
    assert numbers(store) == numbers(undisturbed())
    assert balances(store) == [0, 0]
    told = dict.fromkeys(transition.id for transition in delivered)
    assert list(told) == [transition.id for transition in store.transitions()]


@pytest.mark.parametrize("shard", [0, 1, 2])
@pytest.mark.parametrize("lose_at", [2, 7, 13])
def test_what_one_shard_has_lost_is_read_again_for_it_alone(shard: int, lose_at: int) -> None:
    log, store = filled(MemoryLog(TOPICS), history()), ForgetfulStore(3)
    flow = flow_of(log, store, limits=Limits(batch_records=20))
    for number in range(lose_at):
        if number == 1:
            store.keep()
        flow.turn()
    store.go_back(shard)
    read_to_end(flow, log)
    assert numbers(store) == numbers(undisturbed())


@pytest.mark.parametrize("is_everything", [False, True])
def test_a_loss_is_noticed_when_nothing_more_is_written_to_the_log(*, is_everything: bool) -> None:
    """By comparing cuts at the next evaluation, also by a worker that does not evaluate."""
    log, store = filled(MemoryLog(TOPICS), history()), ForgetfulStore(2)
    other = flow_of(MemoryLog(TOPICS), store, worker="other")
    flow = flow_of(log, store, limits=Limits(batch_records=50))
    if not is_everything:
        flow.turn()
        store.keep()
    other.evaluate()
    while flow.turn().records:
        pass
    store.go_back()
    other.evaluate()
    assert flow.turn() == Turn()
    for _ in range(2):
        flow.mark_idle(log.assigned())
    assert not any(
        p.frontier_ms == IDLE and p.next_offset for c in store.cuts() for p in c.values()
    )
    assert flow.evaluate() == []
    other.resign()
    read_to_end(flow, log)
    assert numbers(store) == numbers(undisturbed())


def test_records_rejected_again_after_a_loss_are_not_twice_as_many_in_a_row() -> None:
    log = filled(MemoryLog({"predictions": 1}), [record(BAD) for _ in range(4)])
    store = ForgetfulStore()
    flow = flow_of(log, store, limits=Limits(batch_records=2, max_consecutive_rejects=4))
    flow.turn()
    store.go_back()
    while flow.turn().records or log.at_end() != log.assigned():
        pass
    assert counted(store) == {"predictions.received": 4, "predictions.rejected.not_json": 4}


# Records that the log has dropped


def cut_of(store: MemoryStore, partition: Partition) -> int:
    [place] = {cut[partition].next_offset for cut in store.cuts()}
    return place


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_dropped_records_are_a_named_gap_and_reading_goes_on_behind_it(
    shards: int, *, is_restarted: bool
) -> None:
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore(shards)
    told: list[Gap] = []
    flow = flow_of(log, store, limits=Limits(20), on_gap=told.append)
    flow.turn()
    reached = cut_of(store, PREDICTIONS[0])
    log.drop(PREDICTIONS[0], reached + 7)
    log.drop(LABELS[1], 3)
    if is_restarted:
        flow = flow_of(log, store, limits=Limits(20), on_gap=told.append)
    lost = [Gap(LABELS[1], 0, 3), Gap(PREDICTIONS[0], reached, reached + 7)]
    read_to_end(flow, log)
    assert told == lost
    assert ledger.gaps_of(store.ledger()) == lost
    assert received(store, Kind.PREDICTIONS) + received(store, Kind.LABELS) == len(history()) - 10
    assert balances(store) == [0, 0]
    assert {p: cut_of(store, p) for p in ends()} == ends()


def test_a_gap_is_told_once() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore(2)
    told: list[Gap] = []
    flow = flow_of(log, store, on_gap=told.append)
    flow.turn()
    log.drop(LABELS[0], 5)
    for _ in range(4):
        flow.turn()
    read_to_end(flow_of(log, store, on_gap=told.append), log)
    assert told == [Gap(LABELS[0], 0, 5)]


def test_records_dropped_to_the_end_leave_nothing_to_read() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore()
    told: list[Gap] = []
    flow = flow_of(log, store, on_gap=told.append)
    flow.turn()
    reached = {p: cut_of(store, p) for p in ends()}
    for partition, end in ends().items():
        log.drop(partition, end)
    read_to_end(flow, log)
    assert set(told) == {Gap(p, reached[p], end) for p, end in ends().items() if reached[p] < end}
    assert balances(store) == [0, 0]


def test_what_was_dropped_before_the_namespace_began_is_no_gap() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore(2)
    log.drop(PREDICTIONS[1], 40)
    read_to_end(flow_of(log, store), log)
    assert ledger.gaps_of(store.ledger()) == []
    assert received(store, Kind.PREDICTIONS) + received(store, Kind.LABELS) == len(history()) - 40


def test_records_that_were_counted_before_they_were_dropped_are_no_gap() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore(2)
    flow = flow_of(log, store, limits=Limits(20))
    for _ in range(4):
        flow.turn()
        for partition in ends():
            log.drop(partition, cut_of(store, partition))
    read_to_end(flow, log)
    assert ledger.gaps_of(store.ledger()) == []
    assert numbers(store) == numbers(undisturbed())


def test_holes_that_compaction_has_left_are_no_gap() -> None:
    class CompactedLog(MemoryLog):
        def poll(self, max_records: int, wait_ms: int | None = None) -> list[Record]:
            return [each for each in super().poll(max_records, wait_ms) if each.offset % 3]

    log, store = filled(CompactedLog(TOPICS), history()), MemoryStore(2)
    read_to_end(flow_of(log, store), log)
    kept = sum(end - (end + 2) // 3 for end in ends().values())
    assert ledger.gaps_of(store.ledger()) == []
    assert received(store, Kind.PREDICTIONS) + received(store, Kind.LABELS) == kept


def test_each_shard_enters_what_it_lacks_and_the_books_name_it_as_one() -> None:
    """The second shard had not yet committed the batch that the first one has."""
    trap = Trap("before store.commit", 2 + 2)
    store = TrappedStore(2, trap)
    log = filled(MemoryLog(TOPICS), history())
    with pytest.raises(StoreError):
        flow_of(log, store, limits=Limits(10)).turn()
    assert [cut[PREDICTIONS[0]].next_offset for cut in store.cuts()] == [10, 0]
    log.drop(PREDICTIONS[0], 25)
    read_to_end(flow_of(log, store), log)
    books = {name for name in store.ledger() if name.startswith("gap@")}
    assert books == {"gap@predictions[0]:0-25", "gap@predictions[0]:10-25"}
    assert ledger.gaps_of(store.ledger()) == [Gap(PREDICTIONS[0], 0, 25)]
    assert balances(store) == [0, 0]


def test_a_gap_that_two_workers_find_is_entered_once() -> None:
    store = ContestedStore(2, of="gap@")
    logs = [TeamLog({}), TeamLog({})]
    told: list[Gap] = []
    flows = [
        flow_of(log, store, worker=f"worker-{n}", on_gap=told.append) for n, log in enumerate(logs)
    ]
    for log in logs:
        log.assign(PREDICTIONS + LABELS)
        log.drop(LABELS[0], 9)
    flow_of(filled(MemoryLog(TOPICS), history()[:1]), store).turn()
    store.rival = flows[1].turn
    flows[0].turn()
    assert told == [Gap(LABELS[0], 0, 9)]
    assert store.ledger()["gap@labels[0]:0-9"] == store.shards


def test_a_gap_is_told_even_when_what_follows_fails() -> None:
    """It stands in the books by then, and nobody would find it again."""
    trap = Trap("before log.poll", 2)
    log, store = filled(TrappedLog(trap), history()), MemoryStore(2)
    flow_of(log, store).turn()
    log.drop(LABELS[0], 5)
    told: list[Gap] = []
    with pytest.raises(BrokerError):
        flow_of(log, store, on_gap=told.append).turn()
    assert told == ledger.gaps_of(store.ledger()) == [Gap(LABELS[0], 0, 5)]


@pytest.mark.parametrize("lost", [[2], [0, 1, 2, 3]])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_a_shard_has_lost_and_the_log_has_dropped_is_a_gap(
    lost: list[int], *, is_restarted: bool
) -> None:
    """Only a namespace that is wholly gone, under a worker that never saw it, begins anew."""
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore(4)
    flow = flow_of(log, store)
    read_to_end(flow, log)
    for partition in ends():
        log.drop(partition, 40)
    empty = MemoryStore(4)
    for shard in lost:
        store._shards[shard] = empty._shards[shard]
    if is_restarted:
        flow = flow_of(log, store)
    read_to_end(flow, log)
    is_known = not is_restarted or len(lost) < 4
    assert ledger.gaps_of(store.ledger()) == (
        [Gap(p, 0, 40) for p in LABELS + PREDICTIONS] if is_known else []
    )
    assert balances(store) == [0, 0]


def test_offsets_without_records_at_the_end_are_passed_and_are_no_gap_later() -> None:
    """What a transaction leaves behind its last record."""

    class CommittedLog(MemoryLog):
        def places(self) -> NextOffsets:
            return {p: place + 1 for p, place in super().places().items()}

    log, store = filled(CommittedLog(TOPICS), history()), MemoryStore(2)
    flow = flow_of(log, store)
    read_to_end(flow, log)
    assert {p: cut_of(store, p) for p in ends()} == {p: end + 1 for p, end in ends().items()}
    assert numbers(store) == numbers(undisturbed())


# What others do to the group


@pytest.mark.parametrize("committed", [{}, dict.fromkeys(ends(), 0), ends()])
def test_committed_offsets_change_nothing(committed: dict[Partition, int]) -> None:
    """Set back or ahead by an administrator, again and again."""
    log, store = TeamLog({}), MemoryStore(2)
    flow = flow_of(log, store, limits=Limits(13))
    for _ in range(30):
        log.committed = dict(committed)
        log.assign(PREDICTIONS + LABELS)
        flow.turn()
    read_to_end(flow, log)
    assert numbers(store) == numbers(undisturbed())


def test_a_partition_that_appears_later_is_read_from_its_beginning() -> None:
    third = Partition("predictions", 2)
    log, store = TeamLog({}), MemoryStore(2)
    flow = flow_of(log, store)
    log.assign(PREDICTIONS + LABELS)
    read_to_end(flow, log)
    before = received(store, Kind.PREDICTIONS)
    log.add(third)
    for number in range(3):
        message = prediction_message(prediction_id=f"new{number}")
        log.append(record(message, partition=2, log_ms=T0 + 121 * MINUTE_MS))
    log.assign([*PREDICTIONS, *LABELS, third])
    assert flow.turn().records == 3
    assert received(store, Kind.PREDICTIONS) == before + 3
    assert ledger.gaps_of(store.ledger()) == []


def test_a_partition_that_appears_later_holds_the_watermark_until_it_is_read() -> None:
    third = Partition("labels", 2)
    log, store = TeamLog({}), MemoryStore(2)
    flow = flow_of(log, store)
    log.assign(PREDICTIONS + LABELS)
    flow.turn()
    log.add(third)
    log.assign(PREDICTIONS + LABELS)
    while flow.turn().records:
        pass
    flow.mark_idle(log.assigned())
    assert flow.evaluate() == []
    assert {cut[third] for cut in store.cuts()} == {Progress(0)}
    log.assign([*PREDICTIONS, *LABELS, third])
    read_to_end(flow, log)
    assert numbers(store) == numbers(undisturbed())


def moved(partition: Partition, progress: Progress) -> Changes:
    """What another worker commits to one partition."""
    return Changes({}, {}, {}, {}, [], {partition: progress})


def test_partitions_that_two_workers_enter_at_once_are_entered_once() -> None:
    store = ContestedStore(3, of="records")
    logs = [TeamLog({}), TeamLog({})]
    flows = [flow_of(log, store, worker=f"worker-{n}") for n, log in enumerate(logs)]
    logs[0].assign(PREDICTIONS)
    logs[1].assign(LABELS)
    store.rival = flows[1].turn
    flows[0].turn()
    assert all(set(cut) == set(PREDICTIONS + LABELS) for cut in store.cuts())
    logs[0].assign(PREDICTIONS + LABELS)
    read_to_end(flows[0], logs[0])
    assert numbers(store) == numbers(undisturbed())


def test_a_partition_is_entered_also_when_another_worker_enters_another_at_that_moment() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), ContestedStore(2, of="records")
    store.rival = lambda: store.commit(0, {}, moved(LABELS[1], Progress(0)))
    read_to_end(flow_of(log, store), log)
    assert numbers(store) == numbers(undisturbed())


def test_a_gap_is_entered_also_when_another_worker_reads_on_elsewhere_at_that_moment() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), ContestedStore(1, of="gap@")
    flow_of(filled(MemoryLog(TOPICS), []), store).turn()
    store.rival = lambda: store.commit(0, store.cuts()[0], moved(LABELS[1], Progress(4, T0, T0)))
    for partition in (LABELS[0], LABELS[1]):
        log.drop(partition, 4)
    told: list[Gap] = []
    flow_of(log, store, on_gap=told.append).turn()
    assert told == [Gap(LABELS[0], 0, 4)]


def test_a_partition_stops_being_idle_when_another_worker_reads_on_elsewhere_at_that_moment() -> (
    None
):
    store = ContestedStore(1, of="records")
    log = filled(MemoryLog({"predictions": 2}), [record(GOOD, log_ms=T0)])
    read_to_end(flow_of(log, store), log)
    store.rival = lambda: store.commit(0, store.cuts()[0], moved(PREDICTIONS[1], Progress(0)))
    flow_of(log, store).turn()
    assert store.cuts()[0][PREDICTIONS[0]].frontier_ms == T0


# Records that our own code fails on


class BrittleCodec(RecordCodec):
    """Fails on values that contain ``poison``."""

    def fact(self, record: Record) -> Fact | None:
        if b"poison" in (record.value or b""):
            raise RecursionError("maximum recursion depth exceeded")
        return super().fact(record)

    def facts(self, records: Iterable[Record]) -> list[Fact | None]:
        return [self.fact(record) for record in records]


class BrittleStore(MemoryStore):
    """Fails before anything of a commit with such an id is applied, or when it is loaded."""

    def __init__(self, shards: int, at: str, error: Exception) -> None:
        super().__init__(shards)
        self._at, self._error = at, error

    def load(self, shard: int, ids: Iterable[PredictionId]) -> dict[PredictionId, Entry]:
        if self._at == "load" and any("poison" in name for name in ids):
            raise type(self._error)(*self._error.args)
        return super().load(shard, ids)

    def commit(self, shard: int, expected: Cut, changes: Changes) -> None:
        if self._at == "commit" and any("poison" in name for name in changes.entries):
            raise type(self._error)(*self._error.args)
        super().commit(shard, expected, changes)


ERRORS = [
    ValueError("4111 1111 1111 1111"),
    KeyError("4111 1111 1111 1111"),
    RecursionError("maximum recursion depth exceeded"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    OverflowError("int too large"),
    TypeError("4111 1111 1111 1111"),
    AttributeError("4111 1111 1111 1111"),
]


def with_poison(*places: int, into: MemoryLog | None = None) -> MemoryLog:
    """The story with records in between that our code does not cope with."""
    records = history()
    for number in sorted(places, reverse=True):
        message = prediction_message(prediction_id=f"poison{number}")
        records.insert(number, record(message, log_ms=records[number].log_ms))
    return filled(into or MemoryLog(TOPICS), records)


def without_poison(store: MemoryStore, n: int) -> dict[str, object]:
    """The numbers, once ``n`` records have been taken out that were rejected as unprocessable."""
    found = of_variants(numbers(store))
    books = counted(store)
    assert books.pop("predictions.rejected.unprocessable") == n
    books["predictions.received"] -= n
    return {**found, "ledger": books}


def of_variants(found: dict[str, object]) -> dict[str, object]:
    """Without the panes and counters that count records as such, whatever is in them."""
    panes, books = found["panes"], found["ledger"]
    assert isinstance(panes, dict)
    assert isinstance(books, dict)
    return {
        **found,
        "panes": {k: cells for k, cells in panes.items() if k.key.variant != ALL},
        "ledger": {name: count for name, count in books.items() if not ledger.is_input(name)},
    }


def counted(store: MemoryStore) -> dict[str, int]:
    """The ledger without the checksums."""
    return {name: count for name, count in store.ledger().items() if not ledger.is_input(name)}


def unprocessable(sink: TrappedSink) -> dict[bytes | None, dict[str, str]]:
    """Keys and headers of the dead letters of that reason."""
    found = {out.key: headers(out) for out in sink.published}
    return {key: about for key, about in found.items() if about["reason"] == "unprocessable"}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("at", ["load", "commit"])
@pytest.mark.parametrize("shards", [1, 2])
def test_a_record_that_our_code_fails_on_is_rejected_alone(
    at: str, error: Exception, shards: int
) -> None:
    log, store, sink = (
        with_poison(0, 30, 31, 100),
        BrittleStore(shards, at, error),
        TrappedSink(Trap()),
    )
    read_to_end(flow_of(log, store, sink), log)
    assert without_poison(store, 4) == of_variants(numbers(undisturbed()))
    assert balances(store) == [0, 0]
    found = unprocessable(sink)
    assert len(found) == 4
    for key, about in found.items():
        assert (key or b"").decode() == f"{about['topic']}[{about['partition']}]@{about['offset']}"
        assert about["detail"].startswith(f"{type(error).__name__} in {at}, ")
        assert "4111" not in about["detail"]


def test_a_record_that_cannot_be_decoded_is_rejected_alone() -> None:
    log, store, sink = with_poison(5, 200), MemoryStore(2), TrappedSink(Trap())
    codec = BrittleCodec("predictions", "labels", ("channel",))
    read_to_end(flow_of(log, store, sink, codec=codec), log)
    assert without_poison(store, 2) == of_variants(numbers(undisturbed()))
    assert len(unprocessable(sink)) == 2
    assert {about["detail"].split(", ")[0] for about in unprocessable(sink).values()} == {
        "RecursionError in fact"
    }


def test_a_record_that_the_engine_fails_on_is_rejected_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = engine.step

    def failing(
        spec: Spec,
        loaded: Mapping[PredictionId, Entry],
        batch: Batch,
        *,
        progress: Mapping[Partition, Progress],
        watermark_ms: int | None,
    ) -> Changes:
        if any("poison" in name for name in engine.ids_of(batch)):
            raise ZeroDivisionError("division by zero")
        return step(spec, loaded, batch, progress=progress, watermark_ms=watermark_ms)

    monkeypatch.setattr(engine, "step", failing)
    log, store, sink = with_poison(50), MemoryStore(2), TrappedSink(Trap())
    read_to_end(flow_of(log, store, sink), log)
    assert without_poison(store, 1) == of_variants(numbers(undisturbed()))
    [about] = unprocessable(sink).values()
    assert about["detail"].startswith("ZeroDivisionError in failing, test_flow.py:")


@pytest.mark.parametrize(
    ("port", "calls"),
    [
        ("before store.commit", (3, 4, 5, 8, 13)),
        ("after store.commit", (3, 4, 5, 8, 13)),
        ("before dead_letters.publish", (1, 2, 3, 4)),
        ("before log.commit", (1, 2)),
    ],
)
def test_nothing_is_lost_or_doubled_when_a_port_fails_while_a_record_is_sought_out(
    port: str, calls: tuple[int, ...]
) -> None:
    codec = BrittleCodec("predictions", "labels", ("channel",))
    for call in calls:
        trap = Trap(port, call)
        store, sink = TrappedStore(2, trap), TrappedSink(trap)
        log = with_poison(0, 7, 8, into=TrappedLog(trap))
        with pytest.raises(WorldError):
            read_to_end(flow_of(log, store, sink, codec=codec), log)
        read_to_end(flow_of(log, store, sink, codec=codec), log)
        assert without_poison(store, 3) == of_variants(numbers(undisturbed()))


def test_a_fault_that_has_nothing_to_do_with_the_record_ends_the_worker() -> None:
    class BrokenStore(MemoryStore):
        def commit(self, shard: int, expected: Cut, changes: Changes) -> None:
            if changes.ledger:
                raise TypeError("a bug")
            super().commit(shard, expected, changes)

    log = filled(MemoryLog(TOPICS), history())
    with pytest.raises(TypeError, match="a bug"):
        flow_of(log, BrokenStore()).turn()
    assert log.committed == {}


def poisoned_flow(*values: bytes, most: int, batch: int = 100) -> tuple[Flow, MemoryStore]:
    store = BrittleStore(1, "load", ValueError("no"))
    log = filled(MemoryLog({"predictions": 1}), [record(value) for value in values])
    return flow_of(log, store, limits=Limits(batch, most)), store


POISON = json.dumps(prediction_message(prediction_id="poison")).encode()


def test_too_many_records_in_a_row_that_our_code_fails_on_stop_the_worker() -> None:
    flow, store = poisoned_flow(*[POISON] * 4, most=3)
    with pytest.raises(TooManyRejects, match=r"the last as unprocessable"):
        flow.turn()
    assert store.ledger()["predictions.rejected.unprocessable"] <= 3
    assert poisoned_flow(*[POISON] * 3, most=3)[0].turn().rejected == 3


@pytest.mark.parametrize(
    "values", [(POISON, BAD, BAD), (BAD, BAD, POISON), (BAD, POISON, BAD), (POISON, POISON, BAD)]
)
def test_rejects_are_not_counted_twice_while_a_record_is_sought_out(values: tuple[bytes]) -> None:
    flow, store = poisoned_flow(*values, most=3)
    assert flow.turn().rejected == 3
    assert store.ledger()["predictions.received"] == 3


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
    assert counted(store) == {"predictions.received": 1, "predictions.rejected.not_json": 1}


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


@pytest.mark.parametrize("is_killed", [False, True])
def test_an_idle_partition_whose_reader_died_holds_the_watermark_once_it_has_records(
    *, is_killed: bool
) -> None:
    """Others notice the death only after the session; their alerts must wait for its records."""
    records, store = history(), MemoryStore(2)
    logs = [TeamLog({}, records[:150]), TeamLog({}, records[:150])]
    flows = [flow_of(log, store, worker=f"worker-{n}") for n, log in enumerate(logs)]
    logs[0].assign([*PREDICTIONS, LABELS[0]])
    logs[1].assign([LABELS[1]])
    for flow in flows:
        while flow.turn().records or flow.turn().records:
            pass
    flows[1].mark_idle([LABELS[1]])
    flows[0].evaluate()
    for each in records[150:]:
        for log in logs:
            log.append(each)
        flows[0].turn()
        if not is_killed:
            flows[1].turn()
        flows[0].evaluate()
    if is_killed:
        logs[0].assign(PREDICTIONS + LABELS)
    read_to_end(flows[0], logs[0])
    if not is_killed:
        read_to_end(flows[1], logs[1])
        flows[0].evaluate()
    assert numbers(store) == numbers(undisturbed())


def test_a_partition_that_the_broker_forgets_to_name_holds_the_watermark_all_the_same() -> None:
    class PartialLog(MemoryLog):
        is_partial = False

        def partitions(self) -> frozenset[Partition]:
            return super().partitions() - ({LABELS[1]} if self.is_partial else set())

    records = history()
    log, store = PartialLog(TOPICS), MemoryStore()
    flow = flow_of(filled(log, records[:60]), store)
    while flow.turn().records:
        pass
    filled(log, [each for each in records[60:] if (each.topic, each.partition) != LABELS[1]])
    log.is_partial = True
    while flow.turn().records:
        pass
    flow.evaluate()
    held_ms = store.cuts()[0][LABELS[1]].last_log_ms
    assert store.evaluation().watermark_ms == held_ms


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


def test_only_one_evaluates_until_it_resigns() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore(2)
    first = flow_of(log, store, worker="first")
    second = flow_of(MemoryLog(TOPICS), store, worker="second")
    assert first.evaluate() == []
    while first.turn().records:
        assert second.evaluate() == []
    first.mark_idle(log.assigned())
    assert second.evaluate() == []
    assert store.evaluation().sequence == 0
    first.resign()
    assert len(second.evaluate()) == 3
    assert first.evaluate() == []
    assert numbers(store) == numbers(undisturbed())


def test_what_two_evaluators_find_by_turns_is_what_one_finds() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore(2)
    reader = flow_of(log, store, limits=Limits(batch_records=20))
    flows = [flow_of(MemoryLog(TOPICS), store, worker=f"worker-{n}") for n in range(2)]
    delivered: list[Transition] = []
    led = 0
    while reader.turn().records:
        flow = flows[led % 2]
        flow.evaluate()
        flow.deliver(delivered.append)
        flow.resign()
        led += 1
    reader.mark_idle(log.assigned())
    flows[0].evaluate()
    flows[0].deliver(delivered.append)
    assert led > 10
    assert numbers(store) == numbers(undisturbed())
    assert delivered == store.transitions()


def read_by(log: MemoryLog, store: MemoryStore) -> None:
    """Everything counted, nothing evaluated."""
    reader = flow_of(log, store)
    while reader.turn().records:
        pass
    reader.mark_idle(log.assigned())


def take_over(store: MemoryStore, held: str, rival: Flow) -> list[Transition]:
    """The lease of ``held`` runs out, and ``rival`` evaluates."""
    lease = store.lead(held, 1)
    assert lease is not None
    store.resign(lease)
    return rival.evaluate()


def test_an_evaluator_that_was_held_up_finds_nothing_once_another_has_taken_over() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), ContestedStore(2)
    flow = flow_of(MemoryLog(TOPICS), store, worker="held up")
    rival = flow_of(MemoryLog(TOPICS), store, worker="rival")
    read_by(log, store)
    found: list[Transition] = []
    store.rival = lambda: found.extend(take_over(store, "held up", rival))
    assert flow.evaluate() == []
    assert [t.moved_to for t in found] == [Status.OK, Status.OK, Status.FIRING]
    told: list[Transition] = []
    flow.deliver(told.append)
    assert told == []
    assert flow.evaluate() == []
    rival.deliver(told.append)
    assert told == found
    assert numbers(store) == numbers(undisturbed())


def test_an_evaluator_that_resigned_without_ever_leading_disturbs_nobody() -> None:
    store = MemoryStore()
    leader, other = (flow_of(MemoryLog(TOPICS), store, worker=name) for name in "ab")
    leader.evaluate()
    other.evaluate()
    other.resign()
    assert store.lead("b", 1) is None


# The outbox


def evaluated() -> tuple[TrappedStore, Flow]:
    """A store with three transitions that nobody has delivered, and its evaluator."""
    log, store = filled(MemoryLog(TOPICS), history()), TrappedStore(2)
    read_by(log, store)
    flow = flow_of(MemoryLog(TOPICS), store, worker="first")
    assert len(flow.evaluate()) == 3
    return store, flow


def test_transitions_are_delivered_once_and_in_order_when_nothing_fails() -> None:
    store, flow = evaluated()
    told: list[Transition] = []
    for _ in range(2):
        flow.deliver(told.append)
    assert told == store.transitions()
    assert store.outbox() == []


def test_the_next_evaluator_delivers_what_a_crash_left_behind() -> None:
    store, crashed = evaluated()
    told: list[Transition] = []
    take_over(store, "first", heir := flow_of(MemoryLog(TOPICS), store, worker="heir"))
    heir.deliver(told.append)
    assert told == store.transitions()
    crashed.deliver(told.append)
    assert len(told) == 3


def test_only_the_evaluator_delivers() -> None:
    store, _ = evaluated()
    other = flow_of(MemoryLog(TOPICS), store, worker="other")
    other.evaluate()
    told: list[Transition] = []
    other.deliver(told.append)
    assert told == []
    assert len(store.outbox()) == 3


def test_what_could_not_be_handed_over_stays_in_the_outbox() -> None:
    store, flow = evaluated()
    told: list[Transition] = []

    def refuses_the_second(transition: Transition) -> None:
        if len(told) == 1:
            raise ConnectionError("no mail today")
        told.append(transition)

    with pytest.raises(ConnectionError):
        flow.deliver(refuses_the_second)
    assert store.outbox() == store.transitions()
    flow.deliver(told.append)
    assert told == [store.transitions()[0], *store.transitions()]
    assert store.outbox() == []


def test_an_evaluator_that_is_put_out_while_it_delivers_leaves_the_rest_to_its_heir() -> None:
    store, flow = evaluated()
    heir = flow_of(MemoryLog(TOPICS), store, worker="heir")
    told: list[Transition] = []

    def held_up(transition: Transition) -> None:
        told.append(transition)
        if len(told) == 2:
            take_over(store, "first", heir)

    flow.deliver(held_up)
    assert len(store.outbox()) == 3
    heir.deliver(told.append)
    assert told == 2 * store.transitions()


def test_a_long_outbox_is_delivered_to_its_end() -> None:
    store = MemoryStore()
    flow = flow_of(MemoryLog(TOPICS), store, worker="a")
    lease = store.lead("a", 1)
    assert lease is not None
    many = [replace(undisturbed().transitions()[0], id=f"t{number}") for number in range(250)]
    store.commit_evaluation(Evaluation(1), many, lease)
    told: list[Transition] = []
    flow.evaluate()
    flow.deliver(told.append)
    assert told == many


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
    assert state.votes == 1
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


# Batches that overlap


class LateStore(MemoryStore):
    """Where a commit takes until it is waited for, and a load happens as early as it may.

    Notes what is done in which order.
    """

    def __init__(self, shards: int = 1, fails_at: Mapping[int, Exception] | None = None) -> None:
        super().__init__(shards)
        self.steps: list[str] = []
        self._fails_at = {**(fails_at or {})}
        self._commits = self.conflicts = 0
        self._open: list[int] = []
        self._asked: list[Callable[[], None]] = []

    def commit(self, shard: int, expected: Cut, changes: Changes) -> None:
        if changes.entries:
            self._commits += 1
            error = self._fails_at.pop(self._commits, None)
            if error is not None:
                raise error
        try:
            super().commit(shard, expected, changes)
        except CommitConflict:
            self.conflicts += 1
            raise

    def begin_load(
        self, shard: int, ids: Iterable[PredictionId]
    ) -> Callable[[], dict[PredictionId, Entry]]:
        self.steps.append("ask")
        found: dict[PredictionId, Entry] = {}
        self._asked.append(lambda: found.update(self.load(shard, wanted)))
        wanted = list(ids)
        self._answer()

        def end() -> dict[PredictionId, Entry]:
            self.steps.append("load")
            return found

        return end

    def _answer(self) -> None:
        """What was asked for behind a commit waits until that one has ended."""
        while self._asked and not self._open:
            self._asked.pop(0)()

    def begin_commit(self, shard: int, expected: Cut, changes: Changes) -> Callable[[], None]:
        self._answer()
        self.steps.append("begin")
        self._open.append(shard)

        def end() -> None:
            self.steps.append("end")
            self._open.pop()
            try:
                self.commit(shard, expected, changes)
            finally:
                self._answer()

        return end


class NotingLog(MemoryLog):
    """Notes when it is asked, among the ``steps`` of a store."""

    steps: list[str]

    def poll(self, max_records: int, wait_ms: int | None = None) -> list[Record]:
        self.steps.append("poll")
        return super().poll(max_records, wait_ms)

    def commit(self, next_offsets: NextOffsets) -> None:
        self.steps.append("offsets")
        super().commit(next_offsets)


def test_the_next_batch_is_read_and_counted_while_one_is_committed() -> None:
    store, log = LateStore(), NotingLog(TOPICS)
    log.steps = store.steps
    filled(log, history())
    turn = flow_of(log, store).turn(iter([True, True, False]).__next__)
    assert turn.records == 3 * BATCH.batch_records
    assert store.steps == [
        *("poll", "ask"),
        *("poll", "ask", "load", "begin"),
        *("poll", "ask", "load", "end", "offsets", "begin"),
        *("load", "end", "offsets", "begin", "end", "offsets"),
    ]


@pytest.mark.parametrize("shards", [1, 3])
def test_what_a_batch_writes_is_known_to_the_next_before_it_is_committed(shards: int) -> None:
    store, log = LateStore(shards), filled(MemoryLog(TOPICS), history())
    read_to_end(flow_of(log, store), log, goes_on=lambda: True)
    assert store.conflicts == 0
    assert numbers(store) == numbers(undisturbed())


class Prompt:
    """The same store, as another worker has it: what it asks for is done at once."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def begin_load(
        self, shard: int, ids: Iterable[PredictionId]
    ) -> Callable[[], dict[PredictionId, Entry]]:
        return partial(MemoryStore.load, self._store, shard, list(ids))

    def begin_commit(self, shard: int, expected: Cut, changes: Changes) -> Callable[[], None]:
        return partial(MemoryStore.commit, self._store, shard, expected, changes)


class HookedLog(MemoryLog):
    """Tells of each poll beforehand, by its number."""

    polls = 0
    on_poll: Callable[[int], None] = staticmethod(lambda _: None)

    def poll(self, max_records: int, wait_ms: int | None = None) -> list[Record]:
        self.polls += 1
        self.on_poll(self.polls)
        return super().poll(max_records, wait_ms)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("polls", [{2}, {3}, {4}, {2, 3}])
def test_what_others_commit_while_a_batch_waits_is_not_counted_again(
    polls: set[int], shards: int
) -> None:
    store, log = LateStore(shards), HookedLog(TOPICS)
    filled(log, history())
    others_log = filled(MemoryLog(TOPICS), history())
    other = flow_of(others_log, cast(MemoryStore, Prompt(store)), worker="other")

    def on_poll(number: int) -> None:
        if number in polls:
            assert other.turn(iter([True, False]).__next__).records

    log.on_poll = on_poll
    read_to_end(flow_of(log, store), log, goes_on=lambda: True)
    assert store.conflicts > 0
    assert numbers(store) == numbers(undisturbed())


@pytest.mark.parametrize("polls", [2, 3, 4])
def test_a_batch_that_waits_when_partitions_are_assigned_anew_is_counted(polls: int) -> None:
    log, store = TeamLog({}), LateStore()
    everything = frozenset(log.partitions())
    log.assign(everything)
    flow, asked = flow_of(log, store), count(2)
    log.most = BATCH.batch_records

    def goes_on() -> bool:
        if next(asked) == polls:
            log.during_poll = lambda: log.assign(everything)
        return True

    assert flow.turn(goes_on).records == (polls - 1) * BATCH.batch_records
    read_to_end(flow, log, goes_on=lambda: True)
    assert numbers(store) == numbers(undisturbed())


def test_a_batch_that_waits_when_the_log_drops_records_behind_it_is_not_lost() -> None:
    log, gaps = HookedLog({"predictions": 1, "labels": 1}), list[Gap]()
    filled(log, history()[:0])
    for number in range(120):
        log.append(record(prediction_message(prediction_id=f"p{number}"), log_ms=T0 + number))
    log.on_poll = lambda number: log.drop(Partition("predictions", 0), 70) if number == 2 else None
    store = LateStore()
    flow_of(log, store, on_gap=gaps.append).turn(lambda: True)
    assert gaps == [Gap(Partition("predictions", 0), BATCH.batch_records, 70)]
    assert received(store, Kind.PREDICTIONS) == BATCH.batch_records


def test_entries_of_a_commit_that_was_refused_are_not_believed_by_the_next_batch() -> None:
    """Another worker has passed them over meanwhile: it found that the log had dropped them."""
    store, log, last = LateStore(2), HookedLog({"predictions": 1, "labels": 1}), 1
    key = next(f"k{n}" for n in range(99) if shard_of(PredictionId(f"k{n}"), 2) == last)
    names = [key, "p1", "p2", "p3", key, "p4", "p5", "p6"]
    for number, name in enumerate(names):
        log.append(record(prediction_message(prediction_id=name), log_ms=T0 + number))

    def on_poll(number: int) -> None:
        if number == 3:
            passed = {Partition("predictions", 0): Progress(4, T0 + 3, T0 + 3)}
            store.restore_shard(last, passed, {}, [], [])

    log.on_poll = on_poll
    flow_of(log, store, limits=Limits(batch_records=4)).turn(lambda: True)
    assert "predictions.duplicate" not in store.ledger()
    assert PredictionId(key) in store.load(last, [PredictionId(key)])


def test_too_many_rejects_leave_the_batch_before_them_counted() -> None:
    store, log = LateStore(), HookedLog({"predictions": 1, "labels": 1})
    for number in range(BATCH.batch_records):
        log.append(record(prediction_message(prediction_id=f"p{number}"), log_ms=T0 + number))
    for number in range(BATCH.batch_records):
        log.append(record(BAD, topic="predictions", log_ms=T0 + 1_000 + number))
    limits = Limits(batch_records=BATCH.batch_records, max_consecutive_rejects=9)
    with pytest.raises(TooManyRejects):
        flow_of(log, store, limits=limits).turn(lambda: True)
    assert received(store, Kind.PREDICTIONS) == BATCH.batch_records


def test_a_batch_that_waits_is_counted_without_waiting_for_more() -> None:
    waits: list[int | None] = []

    class WaitingLog(MemoryLog):
        def poll(self, max_records: int, wait_ms: int | None = None) -> list[Record]:
            waits.append(wait_ms)
            return super().poll(max_records, wait_ms)

    log = filled(WaitingLog(TOPICS), history())
    flow_of(log, MemoryStore()).turn(iter([True, True, False]).__next__)
    assert waits == [None, 0, 0]


def test_a_turn_ends_with_a_batch_that_is_not_full() -> None:
    log = filled(MemoryLog(TOPICS), history())
    flow = flow_of(log, MemoryStore(), limits=Limits(batch_records=200))
    assert flow.turn(lambda: True).records == len(history())
    assert flow.turn(lambda: True).records == 0


def test_batches_of_a_single_record_end_with_the_log() -> None:
    log = filled(MemoryLog(TOPICS), history())
    flow = flow_of(log, MemoryStore(), limits=Limits(batch_records=1))
    assert flow.turn(lambda: True).records == len(history())


def test_what_was_done_before_the_store_went_back_is_told() -> None:
    store = LateStore(fails_at={3: KeyError("a bug")})
    log = filled(MemoryLog(TOPICS), history())
    assert flow_of(log, store).turn(lambda: True).records == 3 * BATCH.batch_records


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("call", [1, 2, 5])
@pytest.mark.parametrize("error", [CommitConflict("another worker"), KeyError("a bug")])
def test_a_commit_that_fails_at_its_end_is_made_anew(
    error: Exception, call: int, shards: int
) -> None:
    store = LateStore(shards, {call: error})
    log, sink = filled(MemoryLog(TOPICS), history()), TrappedSink(Trap())
    read_to_end(flow_of(log, store, sink), log, goes_on=lambda: True)
    assert numbers(store) == numbers(undisturbed())
    assert len(dead_keys(sink)) == sum(map(len, UNREADABLE.values()))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("places", [(0,), (70, 71, 200)])
def test_a_record_that_fails_at_the_end_of_a_commit_is_found(
    places: tuple[int, ...], shards: int
) -> None:
    class LateAndBrittle(BrittleStore):
        def begin_commit(self, shard: int, expected: Cut, changes: Changes) -> Callable[[], None]:
            return partial(self.commit, shard, expected, changes)

    store, sink = LateAndBrittle(shards, "commit", KeyError("a bug")), TrappedSink(Trap())
    log = with_poison(*places)
    read_to_end(flow_of(log, store, sink), log, goes_on=lambda: True)
    assert without_poison(store, len(places)) == of_variants(numbers(undisturbed()))
    assert len(dead_keys(sink)) == sum(map(len, UNREADABLE.values())) + len(places)


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


def test_an_evaluation_that_is_to_end_leaves_the_rest_of_a_backlog_to_the_next() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore()
    flow = flow_of(log, store, limits=Limits(batch_records=10_000, votes_at_once=7))
    while flow.turn().records:
        pass
    flow.mark_idle(log.assigned())
    reached: list[int] = []
    while not reached or flow.is_behind:
        flow.evaluate(goes_on=lambda: False)
        reached.append(store.evaluation().sequence)
    assert reached == list(range(1, len(reached) + 1))
    assert len(reached) > 5
    flow.evaluate(goes_on=lambda: False)
    assert not flow.is_behind
    assert store.evaluation().sequence == reached[-1]
    flow.deliver(lambda _: None)
    assert numbers(store) == numbers(undisturbed())


def test_while_an_evaluation_waits_to_go_on_one_batch_is_read_and_nobody_waits_for_it() -> None:
    polled: list[tuple[int, int | None]] = []

    class NotingLog(MemoryLog):
        def poll(self, max_records: int, wait_ms: int | None = None, /) -> list[Record]:
            records = super().poll(max_records, wait_ms)
            polled.append((len(records), wait_ms))
            return records

    log = filled(NotingLog(TOPICS), history())
    flow = flow_of(log, MemoryStore(), limits=Limits(batch_records=10, votes_at_once=1))
    while flow.turn().records:
        pass
    flow.mark_idle(log.assigned())
    flow.evaluate(goes_on=lambda: False)
    last_ms = max(record.log_ms for record in history())
    for number in range(40):
        log.append(record(GOOD, log_ms=last_ms + number))
    polled.clear()
    assert flow.is_behind
    flow.turn(lambda: True)
    assert polled == [(10, 0)]
    flow.evaluate()
    flow.turn(lambda: True)
    assert polled[1:] == [(10, None), *[(10, 0)] * 2, (0, 0)]


class NotingStore(TrappedStore):
    """Notes the watermark of each evaluation, and how often each vote was forgotten."""

    def __init__(self, trap: Trap | None = None) -> None:
        super().__init__(trap=trap)
        self.watermarks: list[int] = []
        self.forgotten: Counter[Vote] = Counter()

    def commit_evaluation(
        self,
        evaluation: Evaluation,
        transitions: Sequence[Transition],
        lease: Lease,
        spoken: Mapping[str, int] | None = None,
        entry: JournalEntry | None = None,
    ) -> None:
        super().commit_evaluation(evaluation, transitions, lease, spoken, entry)
        self.watermarks.append(evaluation.watermark_ms or 0)

    def forget(self, votes: Iterable[Vote]) -> None:
        votes = list(votes)
        super().forget(votes)
        self.forgotten.update(votes)


def test_released_votes_are_forgotten_once() -> None:
    log, store = filled(MemoryLog(TOPICS), history()), NotingStore()
    read_to_end(flow_of(log, store, limits=Limits(votes_at_once=3)), log)
    assert set(store.forgotten.values()) == {1}


@pytest.mark.parametrize("votes_at_once", [1, 2, 7])
@pytest.mark.parametrize("call", [1, 2, 5])
def test_an_evaluator_that_failed_to_forget_votes_nobody_twice(
    call: int, votes_at_once: int
) -> None:
    store = NotingStore(Trap("before store.forget", call))
    log, limits = filled(MemoryLog(TOPICS), history()), Limits(votes_at_once=votes_at_once)
    with pytest.raises(StoreError):
        read_to_end(flow_of(log, store, limits=limits), log)
    log = filled(MemoryLog(TOPICS), history())
    read_to_end(flow_of(log, store, limits=limits), log)
    assert numbers(store) == numbers(undisturbed())
    assert store.watermarks == sorted(store.watermarks)


def test_the_watermark_never_goes_back_when_many_votes_come_behind_it() -> None:
    late, store = MINUTE_MS * 10_000, NotingStore()
    log = filled(MemoryLog(TOPICS), [record(GOOD, log_ms=T0 + late)])
    flow = flow_of(log, store, limits=Limits(votes_at_once=2))
    read_to_end(flow, log)
    filled(log, [*history(), record(GOOD, log_ms=T0 + late + MINUTE_MS)])
    read_to_end(flow, log)
    assert store.forgotten.total() > 10
    assert store.watermarks == sorted(store.watermarks)
    assert store.waiting(T0 + late) == []
