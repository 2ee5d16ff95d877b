"""The state store contract, run on a Redis Cluster of three primaries with a replica each."""

from collections.abc import Callable, Iterator

import pytest

from tests.contracts.state_store import StateStoreContract, StoreWorld
from tests.contracts.worlds import redis_worlds
from tests.fixtures.stores import NO_SYSTEM_REDIS, SYSTEM_REDIS
from tests.servers.redis import RedisNodes, redis_cluster

if SYSTEM_REDIS is None:
    pytest.skip(NO_SYSTEM_REDIS, allow_module_level=True)

pytestmark = pytest.mark.system_redis


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisNodes]:
    with redis_cluster() as nodes:
        yield nodes


class TestRedisStoreOnCluster(StateStoreContract):
    @pytest.fixture
    def worlds(self, cluster: RedisNodes) -> Iterator[Callable[[], StoreWorld]]:
        yield from redis_worlds(cluster.url, cluster=True)
