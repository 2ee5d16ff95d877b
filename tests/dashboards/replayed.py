"""A store that was written minute by minute, with a journal: recall was low from 11:32 to 11:42.

The alert that this fires is confirmed in hindsight at 11:58, by which time it has recovered. The
settings of the journal change at 11:50.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from dashboards.source import Source
from monitor.adapters.memory import MemoryStore
from monitor.app.audit import Verification
from monitor.app.replay import OnProgress
from monitor.app.settings import Settings
from monitor.app.wiring import provenance_of, spec_of
from monitor.codec.journal import books_digest, found_digest, sealed, state_digest
from monitor.domain import alerts, engine
from monitor.domain.alerts import Event, Transition
from monitor.domain.cut import Progress
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import Batch, Envelope, Kind, Partition
from monitor.domain.journal import JournalEntry
from monitor.domain.windows import MINUTE_MS
from monitor.ports import Heartbeat, StateReader
from tests.dashboards import scenes
from tests.dashboards.scenes import NOON_MS, URGENT

FIRST_MS = NOON_MS - 255 * MINUTE_MS
CHANGED_MS = NOON_MS - 10 * MINUTE_MS
JUDGED_MS = NOON_MS - 2 * MINUTE_MS


def settings(objective: float = 0.80) -> Settings:
    rule = {"name": "urgent-recall", "of": "urgent", "per": ["variant"], "objective": objective}
    return Settings.model_validate({
        "intents": {"groups": {"urgent": sorted(URGENT)}},
        "rules": [{**rule, "detector": "glance", "maturity": "0s", "hold": "5m"}],
    })  # fmt: skip


class _Worker:
    """What a worker does each minute, in the fewest words."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self._cut: dict[Partition, Progress] = {}
        self._last = Evaluation()
        self._read = 0
        lease = self.store.lead("worker-1", 1)
        assert lease is not None
        self._lease = lease

    def minute(self, envelopes: list[Envelope], at_ms: int) -> None:
        under = settings(0.80 if at_ms < CHANGED_MS else 0.85)
        self._read += len(envelopes)
        progress = {Partition(kind, 0): Progress(self._read, at_ms, at_ms) for kind in Kind}
        batch, spec = Batch.of(envelopes), spec_of(under)
        loaded = self.store.load(0, engine.ids_of(batch))
        changes = engine.step(spec, loaded, batch, progress=progress, watermark_ms=None)
        self.store.commit(0, self._cut, changes)
        self._cut = progress
        votes = self.store.waiting(at_ms)
        judged = alerts.evaluate(spec.rules, self._last.states, votes, at_ms)
        self.store.forget(votes)
        self._commit(judged, at_ms, under)

    def _commit(self, judged: alerts.Judged, at_ms: int, under: Settings) -> None:
        moved = [*judged.transitions, *self._hindsight(at_ms)]
        found = Evaluation(self._last.sequence + 1, at_ms, judged.states)
        entry = self._entry(found, moved, under)
        self._last = replace(found, chain=entry.hash)
        self.store.commit_evaluation(self._last, moved, self._lease, entry=entry)

    def _entry(self, found: Evaluation, moved: list[Transition], under: Settings) -> JournalEntry:
        told = provenance_of(under)
        return sealed(
            JournalEntry(
                sequence=found.sequence,
                tick_ms=found.watermark_ms or 0,
                cut=tuple((str(p), at.next_offset) for p, at in sorted(self._cut.items())),
                settings=told.settings,
                code=told.code,
                state=state_digest(found),
                books=books_digest(self.store.ledger()),
                transitions=tuple(move.id for move in moved),
                found=found_digest(moved),
                previous=self._last.chain,
                document=told.document,
            )
        )

    def _hindsight(self, at_ms: int) -> list[Transition]:
        if at_ms != JUDGED_MS:
            return []
        fired = fired_of(self.store)
        judged = replace(
            fired, id=f"{fired.id}-judged", event=Event.CONFIRMED, at_ms=at_ms - 1,
            judges=fired.id, reason="the labels are complete, and say the same",
        )  # fmt: skip
        return [judged]


def store() -> MemoryStore:
    """The store as it is at noon, to be read only."""
    return written_until(NOON_MS)


@cache
def written_until(end_ms: int) -> MemoryStore:
    """The store of a worker that has read what was told before an instant; to be read only."""
    worker = _Worker()
    chat = scenes.mended()
    known = sorted(chat.envelopes, key=scenes.log_ms)
    place = 0
    for at_ms in range(FIRST_MS, end_ms + 1, MINUTE_MS):
        first = place
        while place < len(known) and scenes.log_ms(known[place]) < at_ms:
            place += 1
        worker.minute(known[first:place], at_ms)
    worker.store.beat(Heartbeat("worker-1", end_ms, lag=0, records=place))
    return worker.store


def fired_of(reader: StateReader) -> Transition:
    """The transition with which the alert of ``fine_tuned`` fired first."""
    return next(t for t in reader.transitions() if t.moved_to is alerts.Status.FIRING)


def source(
    reader: StateReader | None = None,
    verify: Callable[[str, OnProgress], Verification] | None = None,
) -> Source:
    """The store under the settings of noon."""
    under = settings(0.85)
    found = scenes.source_of(reader or store(), spec=spec_of(under))
    return replace(found, settings=under, verify=verify)


def recomputed(alert: str, on_progress: OnProgress) -> Verification:
    """As if the log had been replayed, and everything had come out the same."""
    on_progress(1_000, 0)
    return Verification(entries=250, digests=500, transitions=2, records=1_000)
