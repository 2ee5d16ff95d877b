"""Namespaces of the stores under test: in memory, on a Redis server, and on a cluster."""

from collections.abc import Callable, Iterator
from itertools import count

from monitor.adapters.memory import MemoryStore
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.ports import StateStore
from tests.contracts.state_store import KEEP_MS, StoreWorld

BUCKETS = 16
_namespaces = count()


class MemoryWorld:
    def __init__(self) -> None:
        self._store: MemoryStore | None = None

    def open(self, *, shards: int = 1) -> StateStore:
        self._store = self._store or MemoryStore(shards, KEEP_MS)
        return self._store


class RedisWorld:
    def __init__(self, connection: RedisConnection, opened: list[RedisStore]) -> None:
        self._connection, self._opened = connection, opened
        self._namespace = f"contract-{next(_namespaces)}"

    def open(self, *, shards: int = 1) -> StateStore:
        store = RedisStore(
            self._connection, self._namespace, shards=shards, buckets=BUCKETS, keep_ms=KEEP_MS
        )
        self._opened.append(store)
        return store


def redis_worlds(url: str, *, cluster: bool = False) -> Iterator[Callable[[], StoreWorld]]:
    """For a fixture: makes namespaces, and closes all their clients in the end."""
    opened: list[RedisStore] = []
    yield lambda: RedisWorld(RedisConnection(url, cluster=cluster), opened)
    for store in opened:
        store.close()
