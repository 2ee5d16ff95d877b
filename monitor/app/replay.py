"""The same engine over history: captured files into a store in memory, to the end of the files."""

from collections.abc import Callable
from pathlib import Path

from monitor.adapters.files import FilesLog
from monitor.adapters.memory import MemoryStore
from monitor.app.flow import Flow
from monitor.app.settings import Settings
from monitor.app.wiring import codec_of, limits_of, spec_of, topics_of
from monitor.ports import RecordSink, StateReader


def replay_files(
    folder: Path,
    settings: Settings,
    *,
    dead_letters: RecordSink | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> StateReader:
    """Read the captured records of ``folder`` to their end; ``on_progress`` gets the records read.

    CaptureError when the folder is not one of captured records.
    """
    spec = spec_of(settings)
    log = FilesLog(folder, topics_of(settings))
    store = MemoryStore(keep_ms=spec.windows.keep_ms)
    flow = Flow(
        spec,
        codec_of(settings),
        log,
        store,
        dead_letters=dead_letters,
        dead_letter_topic=settings.kafka.dead_letters.topic,
        limits=limits_of(settings),
    )
    total = 0
    try:
        while records := flow.turn().records:
            total += records
            on_progress(total)
            flow.evaluate()
            flow.sweep()
        flow.mark_idle(log.at_end())
        flow.evaluate()
        flow.sweep()
    finally:
        log.close()
    return store
