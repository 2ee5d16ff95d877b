"""Panes in pieces: what a commit adds, what they add up to, and what a reader is told."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import count

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from monitor.adapters import redis as adapter
from monitor.adapters import redis_panes
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.adapters.redis_namespace import pane_member
from monitor.adapters.redis_panes import (
    VERSION_BYTES,
    folded,
    piece_of,
    pieces_in,
    version_of,
    whole_of,
)
from monitor.domain.counts import Cell, Counts, Part, merge, without_zeros
from monitor.domain.errors import CommitConflict
from monitor.domain.events import Partition, PredictionId
from monitor.domain.slices import SliceKey
from monitor.domain.windows import ALL_TIME, HOUR_MS, Clock, PaneKey
from tests.contracts.state_store import KEEP_MS, T0_MS, label, prediction, prepared, write

EVER = PaneKey(Clock.EVENT, ALL_TIME, 0, SliceKey("ft"))
_namespaces = count()

NAMES = st.text(max_size=8)
CELLS: st.SearchStrategy[Cell] = st.one_of(
    st.tuples(st.just("outcome"), NAMES, NAMES),
    st.tuples(st.just("prediction"), NAMES),
    st.tuples(st.sampled_from(["latency", "delay"]), st.integers(-345, 1_400).map(str)),
    st.tuples(st.just("relevance"), st.sampled_from(["n", "micros"])),
    st.tuples(st.just("truth"), NAMES, st.integers(0, 79).map(str), st.sampled_from("01")),
)
ADDED = st.lists(st.dictionaries(CELLS, st.integers(-(2**40), 2**40), max_size=6), max_size=5)


def version(number: int) -> bytes:
    return f"opening!{number:08x}".encode()


def held_of(added: list[dict[Cell, int]]) -> bytes:
    return b"".join(piece_of(cells) + version(n) for n, cells in enumerate(added))


@given(ADDED)
def test_a_pane_is_the_sum_of_its_pieces_folded_or_not(added: list[dict[Cell, int]]) -> None:
    held = held_of(added)
    expected = without_zeros(merge(map(Counts, added)).cells)
    assert without_zeros(whole_of([held]).cells) == expected
    assert without_zeros(whole_of([folded(held)]).cells) == expected
    assert len(list(pieces_in(folded(held)))) == 1


@given(ADDED.filter(bool))
def test_a_pane_that_is_folded_keeps_its_version(added: list[dict[Cell, int]]) -> None:
    held = held_of(added)
    assert version_of(folded(held)) == version_of(held) == version(len(added) - 1)


def test_what_no_shard_holds_is_nothing() -> None:
    assert whole_of([None, b"", None]) == Counts()
    assert version_of(b"") == b""


@pytest.fixture
def namespace() -> str:
    return f"panes-{next(_namespaces)}"


def opened(valkey_url: str, namespace: str, *, read_only: bool = False) -> RedisStore:
    return RedisStore(RedisConnection(valkey_url), namespace, keep_ms=KEEP_MS, read_only=read_only)


@pytest.fixture
def store(valkey_url: str, namespace: str) -> Iterator[RedisStore]:
    with closing(opened(valkey_url, namespace)) as store:
        yield store


@pytest.fixture
def reader(store: RedisStore, valkey_url: str, namespace: str) -> Iterator[RedisStore]:
    assert store.shards == 1
    with closing(opened(valkey_url, namespace, read_only=True)) as reader:
        yield reader


@pytest.fixture
def server(valkey_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(valkey_url) as client:
        yield client


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pane is long."""
    monkeypatch.setattr(adapter, "LONG_BYTES", 0)


def size_of(server: "redis.Redis", namespace: str) -> int:
    name = pane_member(EVER)
    return int(server.strlen(f"{{{namespace}:0}}:p:{name}"))


def test_a_commit_adds_one_piece_and_a_reader_is_told_of_nothing_else(
    store: RedisStore, reader: RedisStore, server: "redis.Redis", namespace: str
) -> None:
    sizes = []
    for number in range(3):
        write(store, prediction(f"p{number}", predicted="fraud"))
        assert reader.panes([EVER], Part.ANSWERS)[0].predicted == {"fraud": number + 1}
        sizes.append(size_of(server, namespace))
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] == sizes[0] > VERSION_BYTES


@pytest.mark.usefixtures("long")
def test_pieces_are_put_together_once_they_are_twice_as_long_as_the_first(
    store: RedisStore, reader: RedisStore, server: "redis.Redis", namespace: str
) -> None:
    seen = []
    for number in range(40):
        write(store, prediction(f"p{number}", predicted="fraud"))
        if number % 3 == 0:
            assert reader.panes([EVER], Part.ANSWERS)[0].predicted == {"fraud": number + 1}
        assert store.panes([EVER])[0].predicted == {"fraud": number + 1}
        seen.append(size_of(server, namespace))
    assert max(seen) < 3 * seen[0]
    assert reader.panes([EVER], Part.ANSWERS)[0].predicted == {"fraud": 40}


def test_a_pane_that_nobody_adds_to_any_more_is_put_together_by_a_later_sweep(
    store: RedisStore, reader: RedisStore, server: "redis.Redis", namespace: str
) -> None:
    for number in range(3):
        write(store, prediction(f"p{number}", predicted="fraud"))
    grown, first = size_of(server, namespace), reader.panes([EVER], Part.ANSWERS)[0]
    for _ in range(redis_panes.SETTLED_SWEEPS - 1):
        store.sweep(T0_MS, HOUR_MS)
    assert size_of(server, namespace) == grown
    store.sweep(T0_MS, HOUR_MS)
    assert size_of(server, namespace) < grown / 2
    assert reader.panes([EVER], Part.ANSWERS)[0] is first
    write(store, prediction("p3", predicted="fraud"))
    assert reader.panes([EVER], Part.ANSWERS)[0].predicted == {"fraud": 4}


@pytest.mark.parametrize("is_long", [True, False])
def test_a_reader_adds_up_what_is_new_in_each_of_several_shards(
    valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, *, is_long: bool
) -> None:
    monkeypatch.setattr(adapter, "LONG_BYTES", 0 if is_long else 1_000_000)
    opening = partial(RedisStore, RedisConnection(valkey_url), namespace, shards=3)
    with (
        closing(opening(keep_ms=KEEP_MS)) as store,
        closing(opening(keep_ms=KEEP_MS, read_only=True)) as reader,
    ):
        for number in range(40):
            write(store, prediction(f"p{number}", predicted=f"intent-{number % 3}"))
            if number % 4 == 1:
                expected = store.panes([EVER])[0].cells
                parts = [reader.panes([EVER], part)[0].cells for part in Part]
                assert {c: n for part in parts for c, n in part.items()} == expected


def test_a_writer_remembers_no_more_than_so_many_panes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_panes, "MOST_TOUCHED", 3)
    monkeypatch.setattr(redis_panes, "SETTLED_SWEEPS", 1)
    touched = redis_panes.Touched(2)
    touched.add(0, ["a", "b", "c"])
    touched.add(0, ["a", "d"])
    touched.add(1, ["e"])
    assert list(touched.settled()) == [(0, ["c", "a", "d"]), (1, ["e"])]
    assert list(touched.settled()) == []


def test_a_pane_to_which_somebody_adds_meanwhile_is_not_put_together(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "LONG_BYTES", 0)
    fold = redis_panes.folded

    def folded_late(held: bytes) -> bytes:
        monkeypatch.setattr(redis_panes, "folded", fold)
        monkeypatch.setattr(adapter, "LONG_BYTES", 10_000)
        write(store, prediction("p-meanwhile", predicted="balance"))
        return fold(held)

    monkeypatch.setattr(redis_panes, "folded", folded_late)
    for number in range(4):
        write(store, prediction(f"p{number}", predicted="fraud"))
    assert store.panes([EVER])[0].predicted == {"fraud": 4, "balance": 1}


def test_a_commit_holds_when_others_have_committed_something_else_since_its_load(
    store: RedisStore, valkey_url: str, namespace: str
) -> None:
    write(store, prediction("p1", predicted="fraud"))
    mine = prepared(store, 0, [label("p1", actual="fraud")])
    with closing(opened(valkey_url, namespace)) as other:
        write(other, prediction("p2", predicted="balance"))
    store.commit(*mine)
    for number in range(3):
        write(store, prediction(f"after-{number}", predicted="fees"))
    assert store.panes([EVER])[0].confusion == {("fraud", "fraud"): 1}
    assert store.panes([EVER])[0].predicted == {"fraud": 1, "balance": 1, "fees": 3}


def test_two_loads_before_a_commit_do_not_vouch_for_each_other(
    store: RedisStore, valkey_url: str, namespace: str
) -> None:
    write(store, prediction("p1", predicted="fraud"))
    stale = prepared(store, 0, [label("p1", actual="fraud")])
    with closing(opened(valkey_url, namespace)) as other:
        write(other, label("p1", at_ms=T0_MS + 2), partition=Partition("labels", 1))
    store.load(0, [PredictionId("p1"), PredictionId("p2")])
    with pytest.raises(CommitConflict):
        store.commit(*stale)
