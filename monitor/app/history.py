"""Where history comes from: captured files, an archive, the log, or archive and log as one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from json import JSONDecodeError, loads
from pathlib import Path

from monitor.adapters.archive import open_archive
from monitor.adapters.files import FilesLog
from monitor.adapters.history import HistoryLog, Source
from monitor.adapters.history_sources import LogSources, joined
from monitor.app.audit import offsets_of, partition_of
from monitor.app.replay import History
from monitor.app.settings import Settings
from monitor.app.wiring import open_log, topics_of
from monitor.domain.events import Partition

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Place:
    """Somewhere in the log: an instant by log time, or offsets; neither means its begin or end."""

    instant_ms: int | None = None
    offsets: Mapping[Partition, int] | None = None


@dataclass(frozen=True)
class Where:
    """Which history: ``files`` alone, or the log, which ``archive`` comes before.

    With ``is_offline`` the archive is all there is.
    """

    files: Path | None = None
    archive: str | None = None
    is_offline: bool = False
    start: Place = Place()
    end: Place = Place()


def place_of(text: str) -> Place:
    """An ISO 8601 time with zone, ``topic[0]=12,topic[1]=30``, or the path of a report.json.

    ValueError for anything else. A report stands for the offsets of its cut.
    """
    if "=" in text and "[" in text:
        pairs = (pair.rsplit("=", 1) for pair in text.split(","))
        return Place(offsets={partition_of(name.strip()): int(past) for name, past in pairs})
    if text.endswith(".json"):
        return Place(offsets=offsets_of(tuple(cut_of(Path(text)).items())))
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text} has no time zone: write 2026-11-22T13:00:00Z")
    return Place(instant_ms=(instant - datetime.fromtimestamp(0, UTC)) // _MILLISECOND)


def cut_of(path: Path) -> dict[str, int]:
    """The cut of a report.json; ValueError when there is none."""
    try:
        cut = loads(path.read_text("utf-8"))["cut"]
        return {str(name): int(past) for name, past in cut.items()}
    except (OSError, JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a report ({type(error).__name__}: {error})") from None


@contextmanager
def opened_history(settings: Settings, where: Where) -> Iterator[History]:
    """The history, closed at the end.

    CaptureError, ArchiveError or BrokerError when it cannot be opened, or archive and log do not
    join.
    """
    log: FilesLog | HistoryLog
    if where.files is not None:
        log = FilesLog(where.files, topics_of(settings))
    else:
        log = _history(settings, where)
    try:
        if where.end.instant_ms is not None:
            log.bound_ms(where.end.instant_ms)
        yield log
    finally:
        log.close()


def _history(settings: Settings, where: Where) -> HistoryLog:
    archived: dict[Partition, Source] = {}
    if where.archive is not None:
        archived = open_archive(where.archive).sources(topics_of(settings))
    sources = archived
    start = dict(where.start.offsets or {})
    if not where.is_offline:
        kafka = open_log(settings, in_group=False)
        try:
            shared = LogSources(kafka)
            sources = joined(archived, shared.sources()) if archived else shared.sources()
            if where.start.instant_ms is not None:
                start = dict(kafka.offsets_at(where.start.instant_ms))
        except Exception:
            kafka.close()
            raise
    log = HistoryLog(sources)
    return log
