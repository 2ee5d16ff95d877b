"""The same engine over history, into a store in memory: nothing live is read from or written to."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from monitor.adapters.files import FilesLog
from monitor.adapters.memory import MemoryStore
from monitor.app.flow import Flow, Limits, uncollected
from monitor.app.settings import Settings
from monitor.app.wiring import codec_of, limits_of, spec_of, topics_of
from monitor.codec.records import RecordCodec
from monitor.domain.alerts import Transition
from monitor.domain.engine import Spec
from monitor.domain.events import NextOffsets
from monitor.ports import RecordLog, RecordSink

BATCH_RECORDS = 50_000
"""Records counted at once: the more, the more often a pane is met again before it is stored."""

OnProgress = Callable[[int, int | None], None]
"""Gets the records read, and those still to come, None when that is not known."""


class History(RecordLog, Protocol):
    """A log of what was, that can be read up to an instant and then further."""

    def bound_ms(self, instant_ms: int | None) -> None:
        """Read the records with a log time before this instant alone; None: to the end."""

    def next_ms(self) -> int | None:
        """The log time of the next record; None at the end."""

    def cut_off_ms(self) -> int | None:
        """Where the records begin before which there were others; None where nothing is missing.

        The latest log time of those of all partitions. Ask before anything is read.
        """


class OffsetHistory(History, Protocol):
    """One that can also be read up to offsets."""

    def bound(self, next_offsets: NextOffsets, *, strict: bool = False) -> None:
        """Read no further than these offsets, exclusive; the others to their end.

        When ``strict``, partitions that are not named stand still.
        """


class Replay:
    """The flow between a log and a store of its own. ``read`` may be called again and again.

    Alerts are evaluated after each batch; what becomes of them does not depend on its size.
    ``after_turn`` is called between turns of ``run``: what it raises breaks the replay off where
    the store can be saved. ``records`` counts those read. ``codec`` reads them, if not as the
    settings say.
    """

    def __init__(
        self,
        log: RecordLog,
        settings: Settings,
        *,
        spec: Spec | None = None,
        codec: RecordCodec | None = None,
        dead_letters: RecordSink | None = None,
    ) -> None:
        self._log, self._dead_letters, self._codec = log, dead_letters, codec
        spec = spec or spec_of(settings)
        self._settings, self._spec = settings, spec
        self.store = MemoryStore(keep_ms=spec.windows.keep_ms)
        self.flow = self._flow(settings, spec)
        self.records = 0
        self.after_turn: Callable[[], None] = lambda: None

    def follow(self, settings: Settings) -> None:
        """Go on under other settings, as a worker does that was started anew with them."""
        on_votes, redacted = self.flow.on_votes, self.flow.redacted
        self.flow = self._flow(settings, spec_of(settings))
        self.flow.on_votes, self.flow.redacted = on_votes, redacted

    def reopen(self) -> None:
        """Go on at the store's cut, after something was brought into it from outside."""
        self.flow = self._flow(self._settings, self._spec)
        self._log.seek({p: at.next_offset for cut in self.store.cuts() for p, at in cut.items()})

    def read(self, on_progress: OnProgress = lambda _done, _left: None) -> None:
        """Count all that the log gives now, without looking at the rules."""
        with uncollected():
            for _ in self._turns(on_progress):
                self.flow.sweep()

    def run(self, on_progress: OnProgress = lambda _done, _left: None) -> list[Transition]:
        """Count all that the log gives, and evaluate as the log goes on; what moved."""
        moved: list[Transition] = []
        with uncollected():
            for _ in self._turns(on_progress):
                moved += self.flow.evaluate()
                self.flow.sweep()
                self.after_turn()
        return moved

    def finish(self) -> list[Transition]:
        """The log is at its end, and nothing is to come: evaluate what that completes."""
        with uncollected():
            self.flow.mark_idle(self._log.at_end())
            moved = self.flow.evaluate()
            self.flow.sweep()
        return moved

    def _turns(self, on_progress: OnProgress) -> Iterator[None]:
        """Turn by turn to the end."""
        while records := self.flow.turn().records:
            self.records += records
            on_progress(self.records, self._left())
            yield

    def _left(self) -> int | None:
        lag = self._log.lag()
        return sum(lag.values()) if lag else None

    def _flow(self, settings: Settings, spec: Spec) -> Flow:
        return Flow(
            spec,
            self._codec or codec_of(settings),
            self._log,
            self.store,
            dead_letters=self._dead_letters,
            dead_letter_topic=settings.kafka.dead_letters.topic,
            limits=_limits_of(settings),
        )


def _limits_of(settings: Settings) -> Limits:
    """Batches are large unless the settings say how large they are to be."""
    limits = limits_of(settings)
    is_told = "batch_records" in settings.worker.model_fields_set
    return limits if is_told else replace(limits, batch_records=BATCH_RECORDS)


def replay_to(
    watermark_ms: int | None, log: History, replay: Replay, on_progress: OnProgress
) -> None:
    """Count all that the log gives, but evaluate up to an instant alone; None: not at all.

    So a report comes about again that was written when more had been read than was complete.
    """
    if watermark_ms is not None:
        log.bound_ms(watermark_ms)
        replay.run(on_progress)
        log.bound_ms(None)
    replay.read(on_progress)
    if watermark_ms is not None:
        replay.flow.evaluate(watermark_ms)
        replay.flow.sweep()


def replay_files(
    folder: Path,
    settings: Settings,
    *,
    dead_letters: RecordSink | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> MemoryStore:
    """Read the captured records of ``folder`` to their end; ``on_progress`` gets the records read.

    CaptureError when the folder is not one of captured records.
    """
    log = FilesLog(folder, topics_of(settings))
    try:
        replay = Replay(log, settings, dead_letters=dead_letters)
        replay.run(lambda done, _: on_progress(done))
        replay.finish()
    finally:
        log.close()
    return replay.store
