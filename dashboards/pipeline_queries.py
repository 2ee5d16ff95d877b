"""From the store to the view model of the Pipeline page."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from dashboards import queries
from dashboards.models import Choice
from dashboards.pipeline_models import (
    Journal,
    PartitionRow,
    PipelineView,
    Reach,
    ReceiverRow,
    WorkerRow,
)
from monitor.app.settings import Settings
from monitor.app.vitals import StoreVitals
from monitor.codec.notices import unpack_told
from monitor.domain.cut import IDLE, UNREAD, Cut, Progress, watermark
from monitor.domain.engine import Spec
from monitor.domain.events import Partition
from monitor.ports import Heartbeat, StateReader

OFFICE = "notify:"
"""Begins the offices of those who tell the receivers."""


def pipeline(
    reader: StateReader,
    spec: Spec,
    choice: Choice,
    *,
    recent_ms: int,
    now_ms: int,
    settings: Settings,
    vitals: Callable[[], StoreVitals] | None,
) -> PipelineView:
    """The Pipeline page. Raises StoreError when the store is gone."""
    del choice, recent_ms
    freshness = queries.freshness_of(reader, now_ms)
    cuts, beats = reader.cuts(), reader.heartbeats()
    newest_ms = max((beat.wall_ms for beat in beats), default=0)
    alive = [beat for beat in beats if newest_ms - beat.wall_ms <= queries.GONE_AFTER_MS]
    evaluation, backlog = reader.evaluation(), reader.backlog()
    transitions = len(reader.transitions())
    return PipelineView(
        freshness=freshness,
        workers=tuple(_worker(beat, now_ms, is_gone=beat not in alive) for beat in beats),
        partitions=_partitions(cuts, alive),
        watermark_ms=watermark(cuts),
        books=queries.books(reader, spec),
        journal=Journal(
            head=evaluation.sequence,
            hash=evaluation.chain,
            tick_ms=evaluation.watermark_ms,
            unpublished=backlog.unpublished,
            topic=settings.kafka.journal.topic,
        ),
        transitions=transitions,
        undelivered=backlog.undelivered,
        receivers=tuple(_receivers(settings, backlog.deliveries, transitions)),
        dead_letter_topic=settings.kafka.dead_letters.topic,
        vitals=vitals() if vitals else None,
    )


def _worker(beat: Heartbeat, now_ms: int, *, is_gone: bool) -> WorkerRow:
    asked_ms = beat.evaluated_ms
    return WorkerRow(
        name=beat.worker,
        age_ms=max(0, now_ms - beat.wall_ms),
        lag=beat.lag,
        records=beat.records,
        partitions=None if beat.lags is None else len(beat.lags),
        evaluated_age_ms=None if asked_ms is None else max(0, now_ms - asked_ms),
        is_gone=is_gone,
    )


def _partitions(cuts: Sequence[Cut], alive: Sequence[Heartbeat]) -> tuple[PartitionRow, ...]:
    """One row for each partition that the store or a live worker knows, sorted."""
    readers = {partition: beat for beat in alive for partition, _ in beat.lags or ()}
    known = sorted({partition for cut in cuts for partition in cut} | readers.keys())
    least = {p: _least([cut.get(p, Progress(0)) for cut in cuts]) for p in known}
    fronts = [progress.frontier_ms for progress in least.values() if progress.frontier_ms >= 0]
    back_ms = min(fronts, default=None)
    is_unread = any(progress.frontier_ms == UNREAD for progress in least.values())
    return tuple(
        _partition(
            partition,
            progress,
            readers.get(partition),
            holds_back=progress.frontier_ms == (UNREAD if is_unread else back_ms),
        )
        for partition, progress in least.items()
    )


def _least(shards: Sequence[Progress]) -> Progress:
    """The partition as the shard furthest behind has it; idle only where all shards say so."""
    fronts = [shard.frontier_ms for shard in shards]
    active = [front for front in fronts if front != IDLE]
    frontier_ms = UNREAD if UNREAD in fronts else min(active, default=IDLE)
    newest_ms = max(shard.last_log_ms for shard in shards)
    return Progress(min(shard.next_offset for shard in shards), frontier_ms, newest_ms)


def _partition(
    partition: Partition, progress: Progress, reader: Heartbeat | None, *, holds_back: bool
) -> PartitionRow:
    front_ms = progress.frontier_ms
    reach = {UNREAD: Reach.UNREAD, IDLE: Reach.IDLE}.get(front_ms, Reach.READ)
    return PartitionRow(
        partition=partition,
        reach=reach,
        next_offset=progress.next_offset,
        newest_ms=progress.last_log_ms if progress.last_log_ms >= 0 else None,
        frontier_ms=front_ms if reach is Reach.READ else None,
        lag=dict(reader.lags or ()).get(partition) if reader else None,
        worker=reader.worker if reader else "",
        holds_back=holds_back,
    )


def _receivers(
    settings: Settings, deliveries: Mapping[str, str], transitions: int
) -> Iterator[ReceiverRow]:
    """Those of the settings, in their order."""
    for each in settings.notify:
        told = unpack_told(deliveries.get(f"{OFFICE}{each.known_as}", ""))
        if told is None:
            yield ReceiverRow(each.known_as, transitions, 0, is_told=False)
        else:
            behind = max(0, transitions - told.cursor)
            yield ReceiverRow(each.known_as, behind, len(told.pending), is_told=True)
