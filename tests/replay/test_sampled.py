"""A sample counts what a whole run would count of a log that holds the kept ids alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from monitor.adapters.memory import MemoryStore
from monitor.app.flow import Flow, Limits
from monitor.app.report import report_of
from monitor.app.settings import Settings
from monitor.app.wiring import codec_of, spec_of, verdict_limits_of
from monitor.codec.records import RecordCodec
from monitor.domain import ledger
from monitor.domain.alerts import Status
from monitor.domain.events import Fact, Kind, Label, Prediction, Record
from monitor.domain.rules import Signal
from monitor.domain.sampling import is_kept
from tests.app.story import numbers
from tests.replay.streams import (
    SCENARIO,
    SETTINGS,
    T0_MS,
    PickedLog,
    at_random,
    by_key,
    flow_of,
    memory_store,
    numbered,
    read_through,
    simulated,
)
from tests.replay.test_same_digest import ORDERS, any_order, assert_balanced

MINUTE_MS = 60_000
END_MS = T0_MS + 30 * MINUTE_MS
OWN = ("received", "passed_over", "input@")
"""What differs: the sample's books tell of what was passed over, too."""


def settings_of(share: float, *, signals: bool = True) -> Settings:
    """The stream's settings with a sample; ``rejected_share`` is about all records."""
    kept = [s for s in SETTINGS.signals if signals or s.signal is not Signal.REJECTED_SHARE]
    return SETTINGS.model_copy(update={"sampling": share, "signals": tuple(kept)})


@pytest.fixture(scope="module")
def stream() -> list[Record]:
    return simulated(SCENARIO, end_ms=END_MS)


def only_kept(records: Sequence[Record], share: float) -> list[Record]:
    """Records whose ids are kept, and those that cannot be understood."""
    codec = codec_of(SETTINGS)

    def is_within(record: Record) -> bool:
        fact = codec.fact(record)
        if not isinstance(fact, Prediction | Label):
            return True
        return is_kept(fact.prediction_id, share)

    return numbered(record for record in records if is_within(record))


def store_of(
    records: Sequence[Record], settings: Settings, *, batch: int = 100, shards: int = 1
) -> MemoryStore:
    log, store = PickedLog(records, any_order()), memory_store(shards)
    flow = flow_of(log, store, batch, settings)
    while flow.turn().records:
        pass
    flow.evaluate(END_MS)
    return store


def common(store: MemoryStore) -> dict[str, Any]:
    """All numbers but how many records there were."""
    found = numbers(store)
    books, panes = found["ledger"], found["panes"]
    assert isinstance(books, dict)
    assert isinstance(panes, dict)
    told = {n: count for n, count in books.items() if not any(word in n for word in OWN)}
    cells = {
        key: {cell: n for cell, n in counts.cells.items() if cell[0] != "received"}
        for key, counts in panes.items()
    }
    return {**found, "ledger": told, "panes": {key: held for key, held in cells.items() if held}}


def received(books: Mapping[str, int]) -> list[int]:
    """Of each log what was received, less what was passed over."""
    return [books[f"{kind}.received"] - books.get(ledger.passed_over(kind), 0) for kind in Kind]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
def test_a_sample_is_the_whole_of_a_log_with_the_kept_ids_alone(
    stream: list[Record], share: float
) -> None:
    sampled = store_of(stream, settings_of(share, signals=False))
    whole = store_of(only_kept(stream, share), settings_of(1.0, signals=False))
    assert common(sampled) == common(whole)
    assert received(sampled.ledger()) == received(whole.ledger())
    passed = [sampled.ledger()[ledger.passed_over(kind)] for kind in Kind]
    assert sum(passed) == len(stream) - len(only_kept(stream, share))
    assert min(passed) > 0


def test_the_sample_that_is_compared_raises_an_alert(stream: list[Record]) -> None:
    moves = store_of(stream, settings_of(0.7, signals=False)).transitions()
    assert Status.FIRING in {move.moved_to for move in moves}


def test_a_prediction_and_its_labels_are_kept_or_passed_over_together(
    stream: list[Record],
) -> None:
    """Were a label without its prediction, or a prediction without its label, these would grow."""
    whole, half = (store_of(stream, settings_of(share)).ledger() for share in (1.0, 0.5))
    for name in ("predictions.labelled", "labels.applied", "labels.superseded", "labels.corrected"):
        assert 0.35 * whole[name] < half[name] < 0.65 * whole[name]
    orphans = [
        sum(n for name, n in books.items() if name.startswith("labels.orphan@"))
        for books in (whole, half)
    ]
    assert orphans[1] <= orphans[0]


def test_rejected_records_are_counted_whatever_the_sample(stream: list[Record]) -> None:
    whole, few = (store_of(stream, settings_of(share)) for share in (1.0, 0.01))
    rejected = [
        {name: n for name, n in store.ledger().items() if ".rejected." in name}
        for store in (whole, few)
    ]
    assert rejected[0] == rejected[1] != {}
    warned = [
        [(t.at_ms, t.moved_to) for t in store.transitions() if t.rule == "rejects"]
        for store in (whole, few)
    ]
    assert warned[0] == warned[1] != []


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("shards", "batch"), [(1, 7), (1, 4_000), (4, 100)])
def test_neither_batches_nor_partitions_nor_shards_show_in_a_sample(
    stream: list[Record], order: str, shards: int, batch: int
) -> None:
    settings = settings_of(0.5)
    plain = read_through(PickedLog(stream, any_order()), memory_store(), 100, settings)
    log = PickedLog(at_random(stream, 3, seed=1), ORDERS[order]())
    assert read_through(log, memory_store(shards), batch, settings) == plain


@pytest.mark.parametrize("shards", [1, 4])
def test_the_ledger_of_a_sample_balances_after_every_batch(
    stream: list[Record], shards: int
) -> None:
    log, store = PickedLog(by_key(stream, 2), any_order()), memory_store(shards)
    flow, seen = flow_of(log, store, 23, settings_of(0.3)), 0
    while records := flow.turn().records:
        seen += records
        assert_balanced(store, seen)
    assert seen == len(stream)


def test_a_second_reading_passes_nothing_over_twice(stream: list[Record]) -> None:
    settings, store = settings_of(0.3), memory_store(4)
    digests = {read_through(PickedLog(stream, any_order()), store, 50, settings) for _ in range(2)}
    assert len(digests) == 1
    assert_balanced(store, len(stream))


def test_the_report_tells_the_share_and_what_was_passed_over(stream: list[Record]) -> None:
    settings = settings_of(0.3)
    store = store_of(stream, settings)
    report = report_of(store, spec_of(settings), verdict_limits_of(settings))
    assert report["sampling"] == 0.3
    books = report["ledger"]
    assert isinstance(books, dict)
    side = books["predictions"]
    parts = ("labelled", "pending", "expired", "duplicate", "passed_over")
    known = sum(side[part] for part in parts) + sum(side["rejected"].values())
    assert side["received"] == known
    assert side["passed_over"] == store.ledger()["predictions.passed_over"] > 0


def test_what_our_code_fails_on_is_rejected_whatever_the_sample(stream: list[Record]) -> None:
    """And the records beside it are passed over once, though they are brought in by halves."""
    poison = stream[40].position

    class Failing(RecordCodec):
        def facts(self, records: Sequence[Record]) -> list[Fact | None]:
            if any(record.position == poison for record in records):
                raise ArithmeticError
            return super().facts(records)

    settings = settings_of(0.3)
    told = codec_of(settings)
    codec = Failing(**{name: getattr(told, name) for name in ("slice_names", "groups")})
    log, store = PickedLog(stream, any_order()), memory_store(4)
    flow = Flow(spec_of(settings), codec, log, store, limits=Limits(batch_records=64))
    while flow.turn().records:
        assert_balanced(store, sum(log.places().values()))
    whole = store_of(stream, settings, shards=4).ledger()
    books = store.ledger()
    unprocessable = [n for name, n in books.items() if name.endswith(".unprocessable")]
    assert unprocessable == [1]
    lost = sum(whole[ledger.passed_over(kind)] - books[ledger.passed_over(kind)] for kind in Kind)
    assert lost in {0, 1}
