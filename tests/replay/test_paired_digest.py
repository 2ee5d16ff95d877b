"""Pairs come out the same however records are read, in an audit, and where some were forgotten."""

import random
from collections.abc import Sequence
from itertools import count

import pytest

from monitor.adapters.memory import MemoryStore
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.app.wiring import codec_of, spec_of
from monitor.codec.journal import state_digest
from monitor.domain.events import Prediction, PredictionId, Record
from monitor.domain.forgetting import Request
from monitor.domain.pairs import PairCounts
from monitor.domain.rules import Metric
from tests.app.test_audit import any_order, audited, flow_on, left_by
from tests.replay.streams import (
    SCENARIO,
    SETTINGS,
    T0_MS,
    PickedLog,
    at_random,
    by_key,
    flow_of,
    memory_store,
    read_through,
    simulated,
)
from tests.replay.twins import PAIRED, with_twins

MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def stream() -> list[Record]:
    return with_twins(simulated(SCENARIO, end_ms=T0_MS + 30 * MINUTE_MS))


@pytest.fixture(scope="module")
def whole(stream: list[Record]) -> tuple[str, str]:
    """Report digest and state digest of a plain reading."""
    return both_of(stream, seed=0, shards=1, batch=4_000)


def both_of(records: Sequence[Record], *, seed: int, shards: int, batch: int) -> tuple[str, str]:
    store = memory_store(shards)
    digest = read_through(PickedLog(records, any_order(seed)), store, batch, PAIRED)
    return digest, state_digest(store.evaluation())


def test_the_stream_has_pairs_of_every_kind(stream: list[Record]) -> None:
    store = memory_store()
    read_through(PickedLog(stream, any_order(1)), store, 100, PAIRED)
    books = store.evaluation().pairs
    assert set(books) == {"urgent-pairs", "all-pairs"}
    assert books["all-pairs"].corrected > 0
    for book in books.values():
        total = PairCounts(*map(sum, zip(*(s.counts for s in book.pairs.values()), strict=True)))
        assert min(total) > 0
        assert book.related > 0
        assert book.unpaired + sum(book.waiting.values()) > 0


@pytest.mark.parametrize(
    ("partitions", "shards", "batch"), [(1, 1, 7), (3, 4, 60), (6, 1, 400), (6, 4, 4_000)]
)
def test_neither_partitions_nor_shards_nor_batches_show(
    stream: list[Record], whole: tuple[str, str], partitions: int, shards: int, batch: int
) -> None:
    for seed, spread in enumerate((by_key(stream, partitions), at_random(stream, partitions, 5))):
        assert both_of(spread, seed=seed, shards=shards, batch=batch) == whole


def test_the_store_does_not_show(
    stream: list[Record], whole: tuple[str, str], valkey_url: str
) -> None:
    keep_ms = spec_of(PAIRED).windows.keep_ms
    store = RedisStore(RedisConnection(valkey_url), "pairs", shards=4, keep_ms=keep_ms)
    try:
        digest = read_through(PickedLog(stream, any_order(4)), store, 400, PAIRED)
        assert (digest, state_digest(store.evaluation())) == whole
    finally:
        store.close()


def test_a_restart_does_not_show(stream: list[Record], whole: tuple[str, str]) -> None:
    """Every few turns the worker is replaced by one that knows only the store."""
    records, store = by_key(stream, 3), memory_store(4)
    for number in count():
        flow = flow_of(PickedLog(records, any_order(2)), store, 50, PAIRED)
        worked = [flow.turn().records for _ in range(number % 4 + 1)]
        if number % 2:
            flow.evaluate()
            flow.sweep()
        if not any(worked):
            break
    digest = read_through(PickedLog(records, any_order(2)), store, 50, PAIRED)
    assert (digest, state_digest(store.evaluation())) == whole


def test_without_a_comparison_no_request_is_kept_and_no_digest_is_another_one(
    stream: list[Record],
) -> None:
    digests = set()
    for settings in (PAIRED, SETTINGS):
        facts = codec_of(settings).facts(stream[:200])
        assert any(getattr(f, "request", "") for f in facts) == bool(settings.comparisons)
        store = memory_store()
        digests.add(read_through(PickedLog(stream, any_order(1)), store, 100, settings))
        assert bool(store.evaluation().pairs) == bool(settings.comparisons)
    assert len(digests) == 2


@pytest.mark.parametrize("seed", range(3))
def test_an_audit_reproduces_pairs_though_predictions_were_forgotten(
    stream: list[Record], seed: int
) -> None:
    dice, shards = random.Random(seed), (1, 4)[seed % 2]
    records = at_random(stream, 3, seed)
    store = MemoryStore(shards, spec_of(PAIRED).windows.keep_ms)
    flow = flow_on(log := PickedLog(records, any_order(seed)), store, PAIRED, batch=80)
    for number in count():
        if not flow.turn().records:
            break
        if dice.random() < 0.4:
            flow.evaluate()
            flow.sweep()
        if number % 20 == 19 and (held := sorted(store.held())):
            names = tuple(map(PredictionId, dice.sample(held, 3)))
            store.ask_to_forget(Request(f"r{number}", names))
    flow.mark_idle(log.at_end())
    flow.evaluate()
    assert store.evaluation().pairs["urgent-pairs"].pairs
    result = audited(left_by(records, store))
    assert result.differences == []
    assert any(entry.forgot for entry in left_by(records, store).entries)


def test_what_the_evaluator_keeps_of_pairs_names_no_prediction(stream: list[Record]) -> None:
    store = memory_store()
    read_through(PickedLog(stream, any_order(1)), store, 100, PAIRED)
    told = f"{store.evaluation().pairs} {sorted(store.voices())}"
    facts = codec_of(PAIRED).facts(stream)
    names = {fact.prediction_id for fact in facts if isinstance(fact, Prediction)}
    assert names
    assert not [name for name in names if name in told]


def test_settings_name_what_is_compared() -> None:
    recall, accuracy = spec_of(PAIRED).comparisons
    assert (recall.metric, recall.of, recall.maturity_ms) == (Metric.RECALL, "urgent", 300_000)
    assert (accuracy.metric, accuracy.group, accuracy.within_ms) == (
        Metric.ACCURACY, frozenset(), 600_000
    )  # fmt: skip
