"""Captured records into the topics, with their keys, partitions and timestamps."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from threading import Event

from monitor.adapters.files import FilesLog
from monitor.adapters.kafka import KafkaSink, KafkaTopics
from monitor.app.brokers import connection_of
from monitor.app.settings import Settings
from monitor.app.wiring import topics_of
from monitor.domain.errors import BrokerError
from monitor.domain.events import Kind, Record
from monitor.ports import Clock, OutRecord, RecordSink

CHUNK = 5_000
FOREVER = -1


def feed_files(
    folder: Path,
    settings: Settings,
    *,
    speed: float | None,
    create_partitions: int | None,
    clock: Clock,
    warn: Callable[[str], None],
    on_progress: Callable[[int], None],
) -> int:
    """Write the captured records of ``folder``; the number of records written.

    ``speed`` paces them by their timestamps (60: a captured minute takes a second), None is as fast
    as possible. ``create_partitions`` creates missing topics, keeping the records' own timestamps.
    """
    with closing(FilesLog(folder, topics_of(settings))) as source:
        partitions = _prepare(settings, create_partitions, warn)
        out = (outgoing(record, partitions[record.topic]) for record in _read(source))
        with closing(KafkaSink(connection_of(settings))) as sink:
            if speed is None:
                return publish_all(out, sink, on_progress)
            return publish_paced(out, sink, clock, speed=speed, on_progress=on_progress)


def outgoing(record: Record, partitions: int) -> OutRecord:
    """The captured record as it is written; a partition that does not exist folds onto one."""
    return OutRecord(
        record.topic,
        record.key,
        record.value,
        partition=record.partition % partitions,
        log_ms=record.log_ms,
    )


def publish_all(
    records: Iterable[OutRecord], sink: RecordSink, on_progress: Callable[[int], None]
) -> int:
    """Write as fast as the log takes it; the number of records written."""
    done = 0
    iterator = iter(records)
    while chunk := list(islice(iterator, CHUNK)):
        sink.publish(chunk)
        done += len(chunk)
        on_progress(done)
    return done


def publish_paced(
    records: Iterable[OutRecord],
    sink: RecordSink,
    clock: Clock,
    *,
    speed: float,
    on_progress: Callable[[int], None] = lambda _: None,
    stop: Event | None = None,
    began: tuple[int, int] | None = None,
    tick_s: float = 0.1,
) -> int:
    """Write each record when its log time comes, ``speed`` times as fast as it was captured.

    ``began`` says which wall time and which log time belong together (default: now and the first
    record's). Ends with the records, or when ``stop`` is set; the number of records written.
    """
    stop = stop or Event()
    done = 0
    waiting: list[OutRecord] = []

    def write() -> None:
        nonlocal done
        if waiting:
            sink.publish(waiting)
            done += len(waiting)
            waiting.clear()
            on_progress(done)

    for record in records:
        log_ms = record.log_ms or 0
        wall_ms, start_ms = began = began or (clock.now_ms(), log_ms)
        while (clock.now_ms() - wall_ms) * speed < log_ms - start_ms:
            write()
            if stop.wait(tick_s):
                return done
        waiting.append(record)
        if len(waiting) == CHUNK:
            write()
    write()
    return done


def _read(source: FilesLog) -> Iterator[Record]:
    while batch := source.poll(CHUNK):
        yield from batch


def _prepare(
    settings: Settings, create_partitions: int | None, warn: Callable[[str], None]
) -> dict[str, int]:
    """Topic -> number of partitions; creates what is missing if asked to."""
    topics = topics_of(settings)
    names = [topics[kind] for kind in Kind]
    with KafkaTopics(connection_of(settings)) as admin:
        if create_partitions:
            wanted = dict.fromkeys(names, create_partitions)
            admin.ensure(wanted, log_append_time=False, retention_ms=FOREVER)
            dead = settings.kafka.dead_letters.topic
            admin.ensure({dead: 1}, log_append_time=True)
        found = admin.describe(names)
    missing = [name for name in names if name not in found]
    if missing:
        raise BrokerError(
            f"topic {', '.join(missing)} does not exist on {connection_of(settings)}; create it, "
            "let `recallwatch feed --create-topics 6` do it, or set kafka.predictions.topic and "
            "kafka.labels.topic"
        )
    for name, topic in found.items():
        if topic.timestamp_type == "LogAppendTime":
            warn(
                f"topic {name} has LogAppendTime: the broker replaces the captured timestamps, so "
                "log times will be those of now"
            )
        elif topic.retention_ms not in {None, FOREVER}:
            days = (topic.retention_ms or 0) / 86_400_000
            warn(
                f"topic {name} keeps records for {days:g} days by their timestamps: captured "
                "records that are older may vanish before they are read (retention.ms=-1 keeps all)"
            )
    return {name: topic.partitions for name, topic in found.items()}
