"""What the tests of a Redis server in trouble share."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.domain.errors import StoreError
from monitor.ports import StateStore
from tests.contracts.state_store import KEEP_MS
from tests.fixtures.stores import NO_SYSTEM_REDIS, SYSTEM_REDIS
from tests.servers.redis import REDIS, VALKEY

BUCKETS = 16
NAMESPACE = "rig"

NEEDS_REDIS = (
    pytest.mark.system_redis,
    pytest.mark.skipif(SYSTEM_REDIS is None, reason=NO_SYSTEM_REDIS),
)
PROGRAMS = [VALKEY, pytest.param(REDIS, marks=NEEDS_REDIS)]


@contextmanager
def client_of(
    url: str,
    *,
    shards: int = 1,
    cluster: bool = False,
    timeout_s: float = 5.0,
    read_only: bool = False,
    ca_file: str | None = None,
    cert_file: str | None = None,
    key_file: str | None = None,
) -> Iterator[RedisStore]:
    """A store of the one namespace of these tests."""
    connection = RedisConnection(url, cluster, timeout_s, ca_file, cert_file, key_file)
    store = RedisStore(
        connection, NAMESPACE, shards=shards, buckets=BUCKETS, keep_ms=KEEP_MS, read_only=read_only
    )
    try:
        yield store
    finally:
        store.close()


def refusal(url: str, **options: object) -> str:
    """What the operator reads when this server cannot be used."""
    with pytest.raises(StoreError) as error, client_of(url, **options):  # type: ignore[arg-type] # passed on
        pass
    return str(error.value)


def content_of(url: str) -> dict[bytes, object]:
    """Every key of the server with its bytes."""
    with redis.Redis.from_url(url) as server:
        return {key: server.dump(key) for key in server.scan_iter(count=1_000)}


def sent_by(script: str) -> bytes:
    """What stands in every request that runs the script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest().encode()


def books(store: StateStore) -> dict[str, int]:
    return dict(store.ledger())
