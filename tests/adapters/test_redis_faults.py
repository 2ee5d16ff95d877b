"""A server that breaks off, dies, restarts, or comes back with less than it had acknowledged.

Whatever it does, the store holds each commit as a whole or not at all, and a client that is opened
anew finds out from the cut which of the two it is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from time import monotonic
from typing import NamedTuple

import pytest

from monitor.adapters import redis_scripts as scripts
from monitor.adapters.redis import RedisStore
from monitor.domain.errors import CommitConflict, StoreError
from monitor.domain.evaluation import Evaluation
from monitor.domain.slices import SliceKey
from monitor.domain.windows import ALL_TIME, Clock, PaneKey
from monitor.ports import Heartbeat, Lease, StateStore
from tests.adapters.redis_rig import NAMESPACE, PROGRAMS, client_of, content_of, sent_by
from tests.contracts.state_store import (
    HORIZON_MS,
    LEASE_MS,
    MORE_PREDICTIONS,
    T0_MS,
    entry,
    evaluate,
    journal,
    label,
    leased,
    loaded,
    observed,
    plain,
    prediction,
    prepared,
    transition,
    vote,
    write,
)
from tests.contracts.worlds import MemoryWorld
from tests.servers.ports import HOST
from tests.servers.proxy import TcpProxy
from tests.servers.redis import RedisServer

PATIENCE_S = 20.0
DURABLE = {"appendonly": "yes", "appendfsync": "always"}
SOME_PANE = PaneKey(Clock.EVENT, ALL_TIME, 0, SliceKey("ft"))


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def server(program: str) -> Iterator[RedisServer]:
    with RedisServer(program, DURABLE) as running:
        yield running


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[TcpProxy]:
    with TcpProxy((HOST, server.port)) as between:
        yield between


def through(proxy: TcpProxy) -> str:
    return f"redis://{proxy.address}/0"


# Lost on the way


class Act(NamedTuple):
    """``prepare`` looks at the store and gives what then is done, once or again."""

    script: str
    prepare: Callable[[StateStore], Callable[[StateStore], None]]


def _commit(store: StateStore) -> Callable[[StateStore], None]:
    arguments = prepared(store, 0, [prediction("p2"), label("p2")])
    return lambda any_client: any_client.commit(*arguments)


def _evaluation(store: StateStore) -> Callable[[StateStore], None]:
    evaluate(store, Evaluation(1), transition(1))
    lease = leased(store)
    return lambda any_client: any_client.commit_evaluation(
        Evaluation(2, T0_MS), [transition(2)], lease, entry=entry(2, document="{}")
    )


def _delivery(store: StateStore) -> Callable[[StateStore], None]:
    evaluate(store, Evaluation(1), transition(1), transition(2), transition(3))
    lease = leased(store)
    store.delivered([transition(1)], lease)
    return lambda any_client: any_client.delivered([transition(1), transition(2)], lease)


def _publication(store: StateStore) -> Callable[[StateStore], None]:
    journal(store, 3)
    lease = leased(store)
    store.published(1, lease)
    return lambda any_client: any_client.published(2, lease)


ACTS = {
    "commit": Act(scripts.COMMIT, _commit),
    "commit_evaluation": Act(scripts.EVALUATE, _evaluation),
    "delivered": Act(scripts.DELIVERED, _delivery),
    "published": Act(scripts.PUBLISHED, _publication),
}


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("lost", ["request", "reply"])
def test_what_is_lost_on_the_way_is_done_once_or_not_at_all_and_can_be_done_again(
    server: RedisServer, proxy: TcpProxy, name: str, lost: str
) -> None:
    undisturbed = MemoryWorld().open()
    write(undisturbed, prediction("p1"))
    ACTS[name].prepare(undisturbed)(undisturbed)
    with client_of(server.url) as onlooker:
        with client_of(through(proxy)) as store:
            write(store, prediction("p1"))
            act = ACTS[name].prepare(store)
            before = observed(onlooker)
            swallow = proxy.swallow_next_request if lost == "request" else proxy.swallow_next_reply
            trap = swallow(sent_by(ACTS[name].script))
            with pytest.raises(StoreError):
                act(store)
            assert trap.wait(PATIENCE_S)
            assert observed(onlooker) == (before if lost == "request" else observed(undisturbed))
        with client_of(through(proxy)) as again, suppress(CommitConflict):
            act(again)
        assert observed(onlooker) == observed(undisturbed)


def test_a_connection_that_was_lost_is_told_and_never_replaced(
    server: RedisServer, proxy: TcpProxy
) -> None:
    with client_of(through(proxy)) as store:
        write(store, prediction("p1"))
        proxy.break_all()
        for _ in range(3):
            with pytest.raises(StoreError, match="broke the connection; its state is read anew"):
                store.cuts()
    with client_of(through(proxy)) as again:
        assert list(loaded(again, ["p1"])) == ["p1"]


def test_a_reader_goes_on_by_itself_when_its_connection_was_lost(
    server: RedisServer, proxy: TcpProxy
) -> None:
    with client_of(server.url) as store, client_of(through(proxy), read_only=True) as reader:
        write(store, prediction("p1"))
        assert reader.cuts() == store.cuts()
        proxy.break_all()
        assert reader.cuts() == store.cuts()


def test_a_server_that_hangs_is_given_up_in_time_and_goes_on_when_it_is_back(
    server: RedisServer,
) -> None:
    with client_of(server.url, timeout_s=0.2) as store:
        write(store, prediction("p1"))
        arguments = prepared(store, 0, [prediction("p2")])
        server.pause()
        try:
            with pytest.raises(StoreError, match="does not answer in time"):
                store.commit(*arguments)
        finally:
            server.resume()
    with client_of(server.url) as again:
        with suppress(CommitConflict):
            again.commit(*arguments)
        assert again.ledger()["predictions.received"] == 2
        assert list(loaded(again, ["p1", "p2"])) == ["p1", "p2"]


# Lost on the server

WRITES: dict[str, Callable[[RedisStore], object]] = {
    "commit": lambda store: store.commit(0, {}, plain(cells={SOME_PANE: {("delay", "7"): 1}})),
    "sweep": lambda store: store.sweep(T0_MS, HORIZON_MS),
    "forget": lambda store: store.forget([vote()]),
    "lead": lambda store: store.lead("w1", LEASE_MS),
    "resign": lambda store: store.resign(Lease("w1", 1)),
    "commit_evaluation": lambda store: store.commit_evaluation(Evaluation(1), [], Lease("w1", 1)),
    "delivered": lambda store: store.delivered([transition(1)], Lease("w1", 1)),
    "published": lambda store: store.published(1, Lease("w1", 1)),
    "beat": lambda store: store.beat(Heartbeat("w1", 1, 2, 3)),
}


def test_nothing_is_written_to_a_server_that_has_lost_its_data(program: str) -> None:
    """The clients have said nothing to it meanwhile, so they could take it for the old one."""
    with RedisServer(program) as forgetful, ExitStack() as opened:
        stores = {name: opened.enter_context(client_of(forgetful.url)) for name in WRITES}
        for store in stores.values():
            store.lead("w1", LEASE_MS)
        forgetful.restart(kill=True)
        for name, store in stores.items():
            with pytest.raises(StoreError, match="its state is read anew"):
                WRITES[name](store)
        assert content_of(forgetful.url) == {}


def test_names_and_slices_are_written_again_when_the_server_has_lost_them(
    server: RedisServer,
) -> None:
    """A client knows them from a commit that the server has lost; the next one is elsewhere."""
    with client_of(server.url) as store:
        write(store, prediction("p1"))
        with server.client() as administrator:
            keys = [f"{{{NAMESPACE}:0}}:{name}" for name in ("names", "keys")]
            assert administrator.delete(*keys) == 2
        write(store, prediction("p2"), partition=MORE_PREDICTIONS)
    with client_of(server.url) as other:
        assert loaded(other, ["p1", "p2"])["p2"].prediction == prediction("p2")
        assert other.slice_keys() == [SliceKey("ft", "ALL"), SliceKey("ft", "channel=web")]


def test_all_that_was_acknowledged_is_there_after_a_kill_when_every_write_is_synced(
    server: RedisServer,
) -> None:
    with client_of(server.url, shards=4) as store:
        write(store, prediction("p1"), label("p1"), prediction("p2"))
        evaluate(store, Evaluation(1, T0_MS), transition(1), transition(2))
        store.delivered([transition(1)], leased(store))
        journal(store, 2, document="{}")
        store.published(2, leased(store))
        before = observed(store)
    server.restart(kill=True)
    with client_of(server.url, shards=4) as again:
        assert observed(again) == before
        assert again.lead("w1", LEASE_MS) == Lease("w1", 1)
        assert again.lead("w2", LEASE_MS) is None


STEPS: Sequence[Callable[[StateStore], None]] = [
    lambda store: write(store, prediction("p1")),
    lambda store: evaluate(store, Evaluation(1, T0_MS), transition(1), transition(2)),
    lambda store: write(store, prediction("p2", predicted="lost_card", variant="new")),
    lambda store: store.delivered([transition(1)], leased(store)),
    lambda store: write(store, label("p1", actual="balance")),
    lambda store: write(store, label("p2", at_ms=T0_MS + 9)),
]
"""One commit each."""


def test_a_log_that_was_cut_off_anywhere_holds_whole_commits(server: RedisServer) -> None:
    """Each place stands for a crash that left the server's log this long."""
    with client_of(server.url) as store:
        states, sizes = [observed(store)], [_log_of(server).stat().st_size]
        for step in STEPS:
            step(store)
            states.append(observed(store))
            sizes.append(_log_of(server).stat().st_size)
    server.stop()
    whole = _log_of(server).read_bytes()
    assert len(whole) == sizes[-1]
    lengths = {length + more for length in sizes for more in (-1, 0, 1)}
    lengths |= set(Random(3).sample(range(sizes[0], sizes[-1]), 12))
    seen = set()
    for length in sorted(lengths & set(range(sizes[0], sizes[-1] + 1))):
        _log_of(server).write_bytes(whole[:length])
        server.start()
        with client_of(server.url) as again:
            kept = _number_of(observed(again), states)
            assert kept <= sum(size <= length for size in sizes) - 1
            for step in STEPS[kept:]:
                step(again)
            assert observed(again) == states[-1]
        server.kill()
        seen.add(kept)
    assert seen == set(range(len(states)))


@pytest.mark.parametrize("last", STEPS[:2])
def test_half_of_a_commit_is_never_taken_for_a_whole_one(
    server: RedisServer, last: Callable[[StateStore], None]
) -> None:
    """Redis 7.0 leaves the beginning of a cut-off transaction in its log.

    It ends it with the next transaction there: loaded again, the half is carried out.
    """
    with client_of(server.url) as store:
        before = _log_of(server).stat().st_size
        last(store)
        after = _log_of(server).stat().st_size
    server.stop()
    whole = _log_of(server).read_bytes()
    for length in range(before + 1, after, max(1, (after - before) // 24)):
        _log_of(server).write_bytes(whole[:length])
        server.start()
        with client_of(server.url) as again:
            last(again)
            expected = observed(again)
        server.restart(kill=True)
        with client_of(server.url) as loaded:
            is_whole = observed(loaded) == expected
            refusal = refusal_of(loaded)
            assert is_whole or "holds half of a commit" in refusal, f"{length - before} bytes"
        server.kill()


def refusal_of(store: StateStore) -> str:
    """What a worker is told that goes on; "" when it can."""
    try:
        write(store, prediction("p9"))
        evaluate(store, Evaluation(store.evaluation().sequence + 1))
    except StoreError as error:
        return str(error)
    return ""


def _log_of(server: RedisServer) -> Path:
    (log,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    return log


def _number_of(state: object, states: Sequence[object]) -> int:
    assert state in states
    return len(states) - 1 - list(reversed(states)).index(state)


# A replica takes over


@pytest.fixture
def replica(server: RedisServer, program: str) -> Iterator[RedisServer]:
    """Not yet told whose replica it is, so that it can be told to ask a proxy."""
    with RedisServer(program, DURABLE) as running:
        yield running


def _follow(replica: RedisServer, link: TcpProxy) -> None:
    with replica.client() as client:
        client.replicaof(HOST, link.port)


def _wait_until_equal(server: RedisServer, replica: RedisServer) -> None:
    deadline = monotonic() + PATIENCE_S
    with (
        client_of(server.url, read_only=True) as here,
        client_of(replica.url, read_only=True) as there,
    ):
        while observed(here) != observed(there) or _lease_on(server) != _lease_on(replica):
            assert monotonic() < deadline, "the replica did not follow in time"


def _lease_on(server: RedisServer) -> object:
    with server.client() as client:
        return client.hgetall(f"{{{NAMESPACE}:rules}}:lease")


def test_writes_that_a_promoted_replica_never_got_show_as_an_older_cut(
    server: RedisServer, replica: RedisServer, proxy: TcpProxy
) -> None:
    with TcpProxy((HOST, server.port)) as link, client_of(through(proxy)) as store:
        _follow(replica, link)
        for step in STEPS[:2]:
            step(store)
        _wait_until_equal(server, replica)
        replicated = observed(store)
        link.stall()
        for step in STEPS[2:]:
            step(store)
        acknowledged = observed(store)
        replica.promote()
        proxy.retarget(HOST, replica.port)
        proxy.break_all()
        with pytest.raises(StoreError, match="its state is read anew"):
            write(store, prediction("p3"), partition=MORE_PREDICTIONS)
        with client_of(through(proxy)) as again:
            assert observed(again) == replicated
            for step in STEPS[2:]:
                step(again)
            assert observed(again) == acknowledged


def test_a_fence_that_was_lost_is_not_given_to_two_workers(
    server: RedisServer, replica: RedisServer, proxy: TcpProxy
) -> None:
    with TcpProxy((HOST, server.port)) as link:
        with client_of(through(proxy)) as store:
            _follow(replica, link)
            store.resign(leased(store, "w1"))
            _wait_until_equal(server, replica)
            link.stall()
            lost = leased(store, "w2")
        replica.promote()
        proxy.retarget(HOST, replica.port)
        proxy.break_all()
        with client_of(through(proxy)) as again:
            assert leased(again, "w3").fence == lost.fence
            with pytest.raises(CommitConflict):
                again.commit_evaluation(Evaluation(1), [], lost)


def test_a_primary_that_became_a_replica_is_told_with_the_remedy(
    server: RedisServer, replica: RedisServer
) -> None:
    with client_of(server.url) as store, server.client() as administrator:
        write(store, prediction("p1"))
        arguments = prepared(store, 0, [prediction("p2")])
        administrator.replicaof(HOST, replica.port)
        with pytest.raises(StoreError, match="is a replica and takes no writes; name its primary"):
            store.commit(*arguments)
