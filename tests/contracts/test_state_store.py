"""The state store contract, run on memory and on the embedded Valkey."""

from collections.abc import Callable, Iterator

import pytest

from tests.contracts.state_store import StateStoreContract, StoreWorld
from tests.contracts.worlds import MemoryWorld, redis_worlds


class TestMemoryStore(StateStoreContract):
    @pytest.fixture
    def worlds(self) -> Callable[[], StoreWorld]:
        return MemoryWorld


class TestRedisStoreOnValkey(StateStoreContract):
    @pytest.fixture
    def worlds(self, valkey_url: str) -> Iterator[Callable[[], StoreWorld]]:
        yield from redis_worlds(valkey_url)
