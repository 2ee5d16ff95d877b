"""The story, of which a share is counted."""

from functools import cache

from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.app.settings import Settings
from monitor.app.wiring import spec_of
from tests.app.story import SETTINGS, TOPICS, filled, history
from tests.app.test_flow import flow_of, read_to_end


@cache
def sampled(share: float) -> tuple[MemoryStore, Settings]:
    """A store that nobody writes to again, and its settings."""
    settings = Settings.model_validate({**SETTINGS, "sampling": share})
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore()
    read_to_end(flow_of(log, store, spec=spec_of(settings)), log)
    return store, settings
