"""Stores for the Pipeline page: one of which everything is known and well, to be changed."""

from copy import deepcopy
from dataclasses import replace

from dashboards.source import Source
from monitor.adapters.memory import MemoryStore
from monitor.app.settings import Settings
from monitor.app.vitals import StoreVitals
from monitor.codec.notices import pack_told
from monitor.domain.events import Kind, Partition
from monitor.domain.notices import Told
from monitor.ports import Heartbeat, Lease, ServerVitals
from tests.dashboards import replayed, scenes
from tests.dashboards.scenes import NOON_MS

PREDICTIONS, LABELS = Partition("predictions", 0), Partition("labels", 0)
SERVER = ServerVitals(1, 12_300_000, 0, None, 0, "noeviction", 3_600)
DESK = Settings.model_validate({"notify": [{"webhook": "http://127.0.0.1:9/", "name": "desk"}]})
"""With one receiver, which has taken everything from a store that is ``healthy``."""

WELL = StoreVitals(0.4, SERVER)


def unhanded() -> MemoryStore:
    """A store with alerts and a journal, of which nothing has been handed on."""
    store = deepcopy(replayed.store())
    beat(store)
    return store


def healthy() -> MemoryStore:
    """The same when all of it has been handed on."""
    store = unhanded()
    lease = leader(store)
    store.delivered(store.transitions(), lease)
    store.published(store.evaluation().sequence, lease)
    desk = store.lead("worker-1", 1, "notify:desk")
    assert desk is not None
    store.save_delivery("notify:desk", pack_told(Told(cursor=len(store.transitions()))), desk)
    return store


def leader(store: MemoryStore) -> Lease:
    """The lease of the evaluator."""
    lease = store.lead("worker-1", 1)
    assert lease is not None
    return lease


def beat(store: MemoryStore, name: str = "worker-1", at_ms: int = NOON_MS, **said: object) -> None:
    """A sign of life of a worker that reads everything and has asked the rules a second ago."""
    lags = tuple((Partition(kind, 0), 0) for kind in sorted(Kind))
    sign = Heartbeat(name, at_ms, lag=0, records=9, lags=lags, evaluated_ms=at_ms - 1_000)
    store.beat(replace(sign, **said))  # type: ignore[arg-type]  # the test names a field


def source_of(store: MemoryStore) -> Source:
    """A source with a server that is well, and somebody who is told of alerts."""
    return replace(scenes.source_of(store), settings=DESK, vitals=lambda: WELL)
