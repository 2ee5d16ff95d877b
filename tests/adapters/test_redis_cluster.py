"""A Redis Cluster: redirections, slots on their way, and the loss of a primary."""

import re
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from monitor.adapters.redis import RedisStore
from monitor.domain.errors import CommitConflict, StoreError
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import PredictionId
from monitor.ports import Heartbeat, StateStore
from tests.adapters.redis_rig import NAMESPACE, NEEDS_REDIS, client_of, content_of, refusal
from tests.adapters.test_redis_access import DOCUMENT, SECRET, documented, work
from tests.contracts.state_store import (
    PREDICTIONS,
    Fact,
    evaluate,
    observed,
    prediction,
    prepared,
    transition,
    write,
)
from tests.contracts.worlds import MemoryWorld
from tests.servers.ports import HOST
from tests.servers.redis import RedisNodes, RedisServer, redis_cluster

pytestmark = [*NEEDS_REDIS]

SHARDS = 4
PATIENCE_S = 60.0
CUT = f"{{{NAMESPACE}:0}}:cut"
FACTS: list[Fact] = [prediction(f"p{number}") for number in range(24)]
NAMES = [PredictionId(f"p{number}") for number in range(24)]


@pytest.fixture(scope="module")
def running() -> Iterator[RedisNodes]:
    with redis_cluster() as nodes:
        yield nodes


@pytest.fixture
def cluster(running: RedisNodes) -> Iterator[RedisNodes]:
    yield running
    for server in running.masters():
        with server.client() as administrator:
            administrator.flushall()


def read_on(store: StateStore, end: int = len(FACTS)) -> None:
    """From the cut of each shard to the end, as the flow does."""
    for shard in range(store.shards):
        cut = store.cuts()[shard]
        start = cut[PREDICTIONS].next_offset if PREDICTIONS in cut else 0
        for offset in range(start, end):
            store.commit(*prepared(store, shard, [FACTS[offset]], PREDICTIONS))


def undisturbed(shards: int = SHARDS) -> dict[str, object]:
    store = MemoryWorld().open(shards=shards)
    read_on(store)
    return observed(store, NAMES)


def test_a_commit_sent_twice_counts_once(cluster: RedisNodes) -> None:
    with client_of(cluster.url, cluster=True, shards=SHARDS) as store:
        for shard in range(SHARDS):
            arguments = prepared(store, shard, FACTS)
            store.commit(*arguments)
            with pytest.raises(CommitConflict):
                store.commit(*arguments)
        assert store.ledger()["predictions.received"] == len(FACTS)


def test_state_is_spread_over_all_primaries(cluster: RedisNodes) -> None:
    with client_of(cluster.url, cluster=True, shards=16) as store:
        write(store, *FACTS)
        assert all(content_of(server.url) for server in cluster.masters())
        assert store.ledger()["predictions.received"] == len(FACTS)
        assert store.eviction_policy() == "noeviction"


# Slots on their way


class Move:
    """The slot of shard 0 goes from its primary to another one, key by key."""

    def __init__(self, cluster: RedisNodes) -> None:
        self._cluster = cluster
        self.source = cluster.master_of(CUT)
        self.target = next(s for s in cluster.masters() if s.port != self.source.port)
        self._slot = int(str(self._ask(self.source, "KEYSLOT", CUT)))
        self._ids = {s.port: str(self._ask(s, "MYID")) for s in (self.source, self.target)}

    def begin(self) -> None:
        self._ask(self.target, *("SETSLOT", self._slot, "IMPORTING", self._ids[self.source.port]))
        self._ask(self.source, *("SETSLOT", self._slot, "MIGRATING", self._ids[self.target.port]))

    def keys(self) -> list[str]:
        held = self._ask(self.source, "GETKEYSINSLOT", self._slot, 1_000)
        assert isinstance(held, list)
        return sorted(held)

    def move(self, *keys: str) -> None:
        with self.source.client() as client:
            for key in keys:
                client.migrate(HOST, self.target.port, key, 0, 5_000)

    def end(self) -> None:
        self.move(*self.keys())
        for server in (self.target, self.source, *self._cluster.masters()):
            self._ask(server, "SETSLOT", self._slot, "NODE", self._ids[self.target.port])

    @staticmethod
    def _ask(server: RedisServer, *words: str | int) -> object:
        with server.client() as client:
            return client.execute_command("CLUSTER", *words)


PARTS: dict[str, Callable[[list[str]], list[str]]] = {
    "nothing": lambda _: [],
    "the cut": lambda keys: [key for key in keys if key == CUT],
    "all but the cut": lambda keys: [key for key in keys if key != CUT],
    "every other key": lambda keys: keys[::2],
    "everything": lambda keys: keys,
}


@pytest.mark.parametrize("part", PARTS)
def test_a_slot_on_its_way_is_not_written_to_until_it_has_arrived(
    cluster: RedisNodes, part: str
) -> None:
    move = Move(cluster)
    with (
        client_of(cluster.url, cluster=True, shards=SHARDS) as store,
        client_of(cluster.url, cluster=True, shards=SHARDS, read_only=True) as reader,
    ):
        read_on(store, 12)
        before = {name: getattr(reader, name)() for name in ("cuts", "ledger", "slice_keys")}
        move.begin()
        try:
            move.move(*PARTS[part](move.keys()))
            with pytest.raises(StoreError, match="Redis Cluster moves slots or misses nodes"):
                write(store, FACTS[12])
            assert {name: getattr(reader, name)() for name in before} == before
        finally:
            move.end()
        read_on(store)
        assert observed(store, NAMES) == undisturbed()


# The loss of a primary


def reopened(cluster: RedisNodes, work: Callable[[RedisStore], None]) -> list[str]:
    """Open and work until it succeeds, as the worker does; what was in the way."""
    troubles: list[str] = []
    deadline = monotonic() + PATIENCE_S
    while monotonic() < deadline:
        try:
            with client_of(cluster.url, cluster=True, shards=SHARDS, timeout_s=1) as store:
                work(store)
        except StoreError as error:
            troubles.append(str(error))
        else:
            return troubles
    pytest.fail(f"not over after {PATIENCE_S:g} s: {troubles[-1]}")


def _note_and_read_on(store: RedisStore, held: list[int]) -> None:
    held.append(store.cuts()[0][PREDICTIONS].next_offset)
    read_on(store)


def _primary_port_of(replica: RedisServer) -> int:
    with replica.client() as client:
        return int(client.info("replication")["master_port"])


def _wait_until_level(primary: RedisServer, replica: RedisServer) -> None:
    deadline = monotonic() + PATIENCE_S
    while _offset_of(primary) != _offset_of(replica):
        assert monotonic() < deadline, "the replica did not follow in time"


def _offset_of(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("replication")["master_repl_offset"])


def test_a_replica_takes_over_and_what_it_never_got_is_read_again() -> None:
    """It was down while its primary acknowledged the last writes, and comes back with less."""
    with redis_cluster(options={"appendonly": "yes", "appendfsync": "always"}) as cluster:
        with client_of(cluster.url, cluster=True, shards=SHARDS) as store:
            read_on(store, 12)
            evaluate(store, Evaluation(1), transition(1))
            primary = cluster.master_of(CUT)
            replica = next(
                server for server in cluster.replicas() if _primary_port_of(server) == primary.port
            )
            _wait_until_level(primary, replica)
            replica.kill()
            read_on(store, 18)
            assert store.cuts()[0][PREDICTIONS].next_offset == 18
            primary.kill()
            replica.begin()
            with pytest.raises(StoreError):
                store.load(0, NAMES)
            with pytest.raises(StoreError):
                read_on(store)
        held: list[int] = []
        troubles = reopened(cluster, lambda store: _note_and_read_on(store, held))
        assert troubles
        assert held[-1] == 12
        with client_of(cluster.url, cluster=True, shards=SHARDS) as again:
            expected = undisturbed()
            found = observed(again, NAMES)
            for name in ("cuts", "ledger", "slices", "panes", "votes", "entries"):
                assert found[name] == expected[name], name
            assert again.evaluation() == Evaluation(1)


def test_a_reader_follows_when_a_replica_takes_over() -> None:
    with (
        redis_cluster() as cluster,
        client_of(cluster.url, cluster=True, shards=SHARDS) as store,
        client_of(cluster.url, cluster=True, shards=SHARDS, read_only=True) as reader,
    ):
        read_on(store)
        before = reader.cuts()
        primary = cluster.master_of(CUT)
        for replica in cluster.replicas():
            _wait_until_level(_server_at(cluster, _primary_port_of(replica)), replica)
        primary.kill()
        deadline = monotonic() + PATIENCE_S
        while _asked(reader) != before:
            assert monotonic() < deadline


def _server_at(cluster: RedisNodes, port: int) -> RedisServer:
    return next(server for server in cluster.servers if server.port == port)


def _asked(reader: RedisStore) -> object:
    try:
        return reader.cuts()
    except StoreError:
        return None


# What is told


def test_a_cluster_taken_for_a_single_server_is_told(cluster: RedisNodes) -> None:
    assert refusal(cluster.url, shards=16).endswith("node of a cluster; set redis.cluster: true")


def test_a_single_server_taken_for_a_cluster_is_told() -> None:
    with RedisServer() as server:
        told = refusal(server.url, cluster=True)
        assert told == f"{server.url}: Redis is no cluster; set redis.cluster: false"
        server.stop()
        told = refusal(server.url, cluster=True)
        assert told.endswith("Redis is unreachable; check redis.url and that the server runs")


def test_a_worker_and_a_dashboard_work_on_a_cluster_with_the_rights_documented() -> None:
    more = re.search(r"both need in addition: `([^`]+)`", DOCUMENT.read_text("utf-8"))
    assert more is not None
    with redis_cluster() as cluster:
        for server in cluster.servers:
            with server.client() as administrator:
                for user, rules in documented().items():
                    administrator.execute_command(
                        *("ACL", "SETUSER", user, *rules.split(), *more[1].split())
                    )
        node = cluster.servers[0]
        work(node.url_of("recallwatch", SECRET), cluster=True)
        with client_of(node.url_of("dashboard", SECRET), cluster=True, read_only=True) as reader:
            assert reader.ledger()["predictions.received"] == 2
            with pytest.raises(StoreError, match="too few rights"):
                reader.beat(Heartbeat("w1", 1, 2, 3))
        told = refusal(node.url_of("recallwatch", "wr0ng"), cluster=True)
        assert told.endswith("Redis refuses the password or user; check redis.url")
        assert "wr0ng" not in told
