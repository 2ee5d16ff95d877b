"""The archive of these settings: copied from the log, compared with it, freed of what must go."""

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import ExitStack, closing, contextmanager

from monitor.adapters.archive import (
    JOURNAL,
    Archive,
    ArchiveWriter,
    Checks,
    Folder,
    Kept,
    Redacted,
    Verification,
    open_archive,
    redact,
)
from monitor.adapters.history import Source
from monitor.adapters.history_sources import LogSources
from monitor.adapters.kafka import KafkaLog, KafkaTopics
from monitor.app.brokers import connection_of, open_log
from monitor.app.settings import Settings
from monitor.app.wiring import codec_of, in_ms, topics_of
from monitor.codec.mapping import FieldMapping
from monitor.codec.wire import LabelWire, PredictionWire
from monitor.domain.events import Kind, Partition
from monitor.ports import StateReader

Progress = Callable[[int, int], None]

CONTENT = frozenset({"channel"})
"""Fields of a prediction that are read only where they are declared as slices."""


def archived_topics(settings: Settings) -> dict[str, str]:
    """Folder of an archive -> topic."""
    topics = {str(kind): topic for kind, topic in topics_of(settings).items()}
    return {**topics, JOURNAL: settings.kafka.journal.topic}


def copy(
    settings: Settings,
    place: str,
    *,
    now_ms: int,
    until_ms: int | None = None,
    accept_gaps: bool = False,
    store: StateReader | None = None,
    on_progress: Progress = lambda _done, _left: None,
) -> Archive:
    """Bring the archive at ``place`` up to what the log holds now; begin it if it is not there.

    With ``store`` the settings that it knows are kept, too. ArchiveError when the archive is of
    other topics, or the log has dropped what was not archived.
    """
    writer = ArchiveWriter(
        Folder.at(place), archived_topics(settings), now_ms, accept_gaps, on_progress
    )
    if store is not None:
        writer.keep(store.documents())
    with live_sources(settings) as live:
        writer.copy(live, until_ms)
    writer.save()
    return open_archive(place)


@contextmanager
def live_sources(settings: Settings) -> Iterator[dict[Partition, Source]]:
    """The partitions of both logs, and of the journal if there is one, up to their present ends."""
    journal = settings.kafka.journal.topic
    connection = connection_of(settings)
    with KafkaTopics(connection) as admin:
        has_journal = bool(admin.describe([journal]))
    with ExitStack() as opened:
        logs = [open_log(settings)]
        opened.enter_context(closing(logs[0]))
        if has_journal:
            wait_ms = in_ms(settings.worker.poll_timeout)
            # The log wants to know what a topic is for, and says so only of one that is missing.
            logs.append(KafkaLog(connection, {Kind.LABELS: journal}, wait_ms=wait_ms))
            opened.enter_context(closing(logs[1]))
        yield {p: source for log in logs for p, source in LogSources(log).sources().items()}


def verification(
    archive: Archive, checks: Checks, on_progress: Progress = lambda _done, _left: None
) -> Verification:
    """A look at an archive, yet to be taken."""
    return Verification(archive.folder, archive.manifest, archive.digest, checks, on_progress)


def kept_by(settings: Settings) -> dict[Kind, Kept]:
    """What must stay of a record for the counts to stay: every field that the codec reads."""
    codec = codec_of(settings)
    predictions = {*PredictionWire.__struct_fields__} - CONTENT | {*codec.slice_names}
    fields = {Kind.PREDICTIONS: predictions, Kind.LABELS: {*LabelWire.__struct_fields__}}
    mappings = {Kind.PREDICTIONS: codec.predictions, Kind.LABELS: codec.labels}
    return {
        kind: Kept(
            mapping.paths.get("prediction_id", "prediction_id"),
            frozenset(_paths(fields[kind], mapping)),
            codec.max_bytes,
        )
        for kind, mapping in mappings.items()
    }


def _paths(fields: Set[str], mapping: FieldMapping) -> Iterator[str]:
    """Where the fields stand in a message, and what it must and must not hold to concern us."""
    yield from mapping.only
    yield from mapping.skip
    for name in fields:
        if name in mapping.paths:
            yield mapping.paths[name]
        if name not in mapping.paths or mapping.by_name:
            yield name


def forget(
    settings: Settings,
    place: str,
    ids: Set[str],
    *,
    now_ms: int,
    on_progress: Progress = lambda _done, _left: None,
) -> Redacted:
    """Remove texts and attributes of these prediction ids from an archive; counts stay."""
    archive = open_archive(place)
    topics: Mapping[str, str] = archive.manifest.topics
    kept = {topics[str(kind)]: what for kind, what in kept_by(settings).items()}
    return redact(archive.folder, ids, kept, now_ms=now_ms, on_progress=on_progress)
