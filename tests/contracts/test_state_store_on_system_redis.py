"""The state store contract, run on the redis-server of the system."""

from collections.abc import Callable, Iterator

import pytest

from tests.contracts.state_store import StateStoreContract, StoreWorld
from tests.contracts.worlds import redis_worlds
from tests.fixtures.stores import NO_SYSTEM_REDIS, SYSTEM_REDIS

if SYSTEM_REDIS is None:
    pytest.skip(NO_SYSTEM_REDIS, allow_module_level=True)

pytestmark = pytest.mark.system_redis


class TestRedisStoreOnSystemRedis(StateStoreContract):
    @pytest.fixture
    def worlds(self, system_redis_url: str) -> Iterator[Callable[[], StoreWorld]]:
        yield from redis_worlds(system_redis_url)
