"""How the store's server is: how long it takes to answer, and what it says of itself."""

import time
from dataclasses import dataclass

from monitor.adapters.redis import RedisStore
from monitor.ports import ServerVitals


@dataclass(frozen=True, slots=True)
class StoreVitals:
    """``answer_ms`` is the time that one small read took, from asking to having the answer."""

    answer_ms: float
    server: ServerVitals


def vitals_of(store: RedisStore) -> StoreVitals:
    """Ask the server; StoreError when it does not answer."""
    began = time.perf_counter()
    store.touch()
    answer_ms = 1000 * (time.perf_counter() - began)
    return StoreVitals(answer_ms, store.vitals())
