"""A server whose memory is full: nothing is dropped, nothing is written by halves, room is made."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from monitor.adapters.redis import RedisStore
from monitor.domain.cut import Progress
from monitor.domain.engine import Changes, VoteChange
from monitor.domain.errors import StoreError
from monitor.domain.evaluation import Evaluation
from monitor.domain.join import EMPTY, Entry
from monitor.domain.misses import MissChange
from monitor.domain.slices import SliceKey
from monitor.domain.windows import ALL_TIME, HOUR_MS, Clock, PaneKey
from monitor.ports import Heartbeat, Lease
from tests.adapters.redis_rig import PROGRAMS, client_of, content_of, refusal
from tests.contracts.state_store import (
    HORIZON_MS,
    LEASE_MS,
    PREDICTIONS,
    T0_MS,
    evaluate,
    label,
    leased,
    loaded,
    miss,
    prediction,
    prepared,
    transition,
    vote,
    write,
)
from tests.servers.redis import RedisServer

FULL = "Redis is out of memory and takes no more; raise its maxmemory"
PANE = PaneKey(Clock.EVENT, ALL_TIME, 0, SliceKey("ft"))
STRANGE_PANE = PaneKey(Clock.EVENT, HOUR_MS, T0_MS + 99 * HOUR_MS, SliceKey("never seen"))


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def running(program: str) -> Iterator[RedisServer]:
    with RedisServer(program) as server:
        yield server


@pytest.fixture
def server(running: RedisServer) -> Iterator[RedisServer]:
    yield running
    with running.client() as administrator:
        administrator.config_set("maxmemory", 0)
        administrator.config_set("maxmemory-policy", "noeviction")
        administrator.flushall()


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    with client_of(server.url) as store:
        write(store, prediction("p1"), label("p1"), prediction("p2"))
        store.commit(0, {}, _changes(votes=[VoteChange(None, vote())]))
        evaluate(store, Evaluation(1), transition(1), transition(2))
        store.sweep(T0_MS, HORIZON_MS)
        yield store


def limit(server: RedisServer, maxmemory: int) -> None:
    with server.client() as administrator:
        administrator.config_set("maxmemory", maxmemory)


def used(server: RedisServer) -> int:
    with server.client() as administrator:
        return int(administrator.info("memory")["used_memory"])


def _changes(**parts: object) -> Changes:
    """Nothing, but for what is named."""
    empty: dict[str, object] = {name: {} for name in Changes.__slots__}
    return Changes(**(empty | {"votes": []} | parts))  # type: ignore[arg-type] # one table of all


KNOWN = Entry(prediction("p2"))
NEW = Entry(prediction("p9", variant="never seen"))
FIRST_WRITES: Mapping[str, Changes] = {
    "a name": _changes(loaded={"p9": EMPTY}, entries={"p9": NEW}),
    "an entry": _changes(
        loaded={"p2": KNOWN}, entries={"p2": Entry(prediction("p2"), (label("p2"),))}
    ),
    "the cut": _changes(progress={PREDICTIONS: Progress(9, T0_MS, T0_MS)}),
    "a counter": _changes(ledger={"predictions.received": 1, "never.seen": 2}),
    "a cell": _changes(cells={PANE: {("prediction", "fraud"): 1}}),
    "a pane": _changes(cells={STRANGE_PANE: {("prediction", "fraud"): 1}}),
    "a vote": _changes(votes=[VoteChange(None, vote("p2"))]),
    "a miss": _changes(misses=[MissChange(None, miss("p2"))]),
    "a vote that is removed": _changes(votes=[VoteChange(vote(), vote("p2"))]),
}
"""Changes by what the script writes first."""


@pytest.mark.parametrize("first", FIRST_WRITES)
def test_a_commit_is_refused_as_a_whole_whatever_it_writes_first(
    store: RedisStore, server: RedisServer, first: str
) -> None:
    changes = FIRST_WRITES[first]
    expected = store.cuts()[0] if changes.progress else {}
    before = content_of(server.url)
    limit(server, 1)
    with pytest.raises(StoreError, match=FULL):
        store.commit(0, expected, changes)
    assert content_of(server.url) == before
    limit(server, 0)
    store.commit(0, expected, changes)
    assert content_of(server.url) != before


REFUSED: dict[str, Callable[[RedisStore, Lease], object]] = {
    "lead": lambda store, lease: store.lead(lease.worker, LEASE_MS),
    "commit_evaluation": lambda store, lease: store.commit_evaluation(
        Evaluation(2), [transition(3)], lease
    ),
    "beat": lambda store, _: store.beat(Heartbeat("w9", 1, 2, 3)),
}
DONE: dict[str, Callable[[RedisStore, Lease], object]] = {
    "load": lambda store, _: loaded(store, ["p1"]),
    "waiting": lambda store, _: store.waiting(T0_MS),
    "outbox": lambda store, _: store.outbox(),
    "delivered": lambda store, lease: store.delivered([transition(1)], lease),
    "forget": lambda store, _: store.forget([vote()]),
    "sweep": lambda store, _: store.sweep(T0_MS + 9 * HORIZON_MS, HORIZON_MS),
    "resign": lambda store, lease: store.resign(lease),
}


def test_what_needs_room_is_refused_and_what_makes_some_is_done(
    store: RedisStore, server: RedisServer
) -> None:
    """What was delivered is noted, too: else it would be delivered again and again."""
    lease = leased(store)
    limit(server, 1)
    before = content_of(server.url)
    for name, act in REFUSED.items():
        with pytest.raises(StoreError, match=FULL):
            act(store, lease)
        assert content_of(server.url) == before, name
    for act in DONE.values():
        act(store, lease)
    assert store.outbox() == [transition(2)]
    assert loaded(store, ["p1", "p2"]) == {}
    assert store.waiting(T0_MS + 1) == []


def test_a_worker_that_starts_on_a_full_server_sweeps_and_goes_on_when_there_is_room(
    server: RedisServer,
) -> None:
    with client_of(server.url) as store:
        said = [prediction(f"p{number}") for number in range(20_000)]
        store.commit(*prepared(store, 0, said))
        late = prepared(store, 0, [prediction("late", at_ms=T0_MS + 99 * HOUR_MS)])
    limit(server, used(server) - 100_000)
    with client_of(server.url) as again:
        with pytest.raises(StoreError, match=FULL):
            again.commit(*late)
        again.sweep(T0_MS + 99 * HOUR_MS, HORIZON_MS)
        again.commit(*late)
        assert loaded(again, ["p1", "late"]).keys() == {"late"}


def test_a_new_namespace_on_a_full_server_is_told_with_the_remedy(server: RedisServer) -> None:
    limit(server, 1)
    assert FULL in refusal(server.url)
    assert content_of(server.url) == {}


# Eviction


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_may_drop_keys_is_refused_by_a_worker_and_read_by_a_dashboard(
    server: RedisServer, policy: str
) -> None:
    with server.client() as administrator:
        administrator.config_set("maxmemory-policy", policy)
    assert refusal(server.url) == (
        f"{server.url}: Redis has maxmemory-policy {policy}: it may drop keys when memory runs "
        "short, and counts would be wrong without a sign; set it to noeviction"
    )
    assert content_of(server.url) == {}
    with client_of(server.url, read_only=True) as reader:
        assert reader.cuts() == [{}]
        assert reader.eviction_policy() == policy


@pytest.mark.parametrize(
    ("forbidden", "told"),
    [
        ([], "noeviction"),
        (["-config"], "noeviction"),
        (["-info"], "noeviction"),
        (["-config", "-info"], None),
    ],
)
def test_the_policy_is_asked_for_in_two_ways_and_unknown_when_both_are_forbidden(
    server: RedisServer, forbidden: list[str], told: str | None
) -> None:
    with server.client() as administrator:
        administrator.acl_setuser(
            "limited",
            enabled=True,
            reset=True,
            nopass=True,
            keys=["*"],
            commands=["+@all", *forbidden],
        )
    with client_of(server.url_of("limited", "any")) as store:
        assert store.eviction_policy() == told


def test_a_server_that_hides_its_configuration_is_still_refused(server: RedisServer) -> None:
    with server.client() as administrator:
        administrator.acl_setuser(
            "limited",
            enabled=True,
            reset=True,
            nopass=True,
            keys=["*"],
            commands=["+@all", "-config"],
        )
        administrator.config_set("maxmemory-policy", "allkeys-random")
    assert "maxmemory-policy allkeys-random" in refusal(server.url_of("limited", "any"))
