"""Where history comes from: the log, an archive, or both as one; and from where to where."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from json import loads
from pathlib import Path

from monitor.adapters.archive import open_archive
from monitor.adapters.history import HistoryLog, Source
from monitor.adapters.history_sources import Later, LogSources, joined
from monitor.app.audit import offsets_of, partition_of
from monitor.app.brokers import open_log
from monitor.app.replay import History, Replay
from monitor.app.settings import Settings, SettingsError
from monitor.app.wiring import topics_of
from monitor.domain.alerts import Transition
from monitor.domain.events import Partition

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Place:
    """Somewhere in the log: an instant by log time, or offsets; neither means its begin or end.

    Partitions without an offset are read whole; if the offsets are a cut, they had not been read.
    ``as_of_ms`` is up to where the numbers were evaluated when the log had been read to there; None
    where that is not known.
    """

    instant_ms: int | None = None
    offsets: Mapping[Partition, int] | None = None
    as_of_ms: int | None = None
    is_cut: bool = False

    @property
    def evaluated_ms(self) -> int | None:
        """Up to where numbers that end here are evaluated; None where nothing says so."""
        return self.as_of_ms if self.instant_ms is None else self.instant_ms


@dataclass(frozen=True)
class Where:
    """Which history: the log, which ``archive`` comes before; when offline the archive alone."""

    archive: str | None = None
    is_offline: bool = False
    start: Place = Place()
    end: Place = Place()


def place_of(text: str) -> Place:
    """An ISO 8601 time with zone, ``topic[0]=12,topic[1]=30``, or the path of a report.json.

    ValueError for anything else. A report stands for the offsets of its cut, and its ``as_of``.
    """
    if "=" in text and "[" in text:
        pairs = (pair.rsplit("=", 1) for pair in text.split(","))
        return Place(offsets={partition_of(name.strip()): int(past) for name, past in pairs})
    if text.endswith(".json"):
        return _place_in(Path(text))
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is not a time: write 2026-11-22T13:00:00Z") from None
    if instant.tzinfo is None:
        raise ValueError(f"{text} has no time zone: write 2026-11-22T13:00:00Z")
    return Place(instant_ms=(instant - datetime.fromtimestamp(0, UTC)) // _MILLISECOND)


def _place_in(path: Path) -> Place:
    """Where a report.json ended; ValueError when it is none."""
    try:
        report = loads(path.read_text("utf-8"))
        offsets = offsets_of(tuple((name, int(past)) for name, past in report["cut"].items()))
        as_of = report["as_of"]
        return Place(None, offsets, as_of and place_of(as_of).instant_ms, is_cut=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a report ({type(error).__name__}: {error})") from None


def completed(replay: Replay, log: History, until_ms: int | None) -> list[Transition]:
    """Evaluate what the records before ``until_ms``, which were all read, complete; what moved.

    Where the log ends before that instant, or without one, what its end completes: a log that has
    not come so far does not say that nothing happened. Lifts the bound by log time.
    """
    log.bound_ms(None)
    if until_ms is None or log.next_ms() is None:
        return replay.finish()
    moved = replay.flow.evaluate(until_ms)
    replay.flow.sweep()
    return moved


@contextmanager
def opened_history(settings: Settings, where: Where) -> Iterator[HistoryLog]:
    """Log and archive as one, closed at the end.

    ArchiveError or BrokerError when one of them cannot be opened, or they do not join;
    SettingsError for an offset of a partition that there is not.
    """
    log = HistoryLog(_sources(settings, where))
    try:
        _check_known("--from", where.start, log)
        end_at(where.end, log)
        yield log
    finally:
        log.close()


def end_at(end: Place, log: HistoryLog) -> None:
    """Read no further than this place; SettingsError when it names a partition that there is not.

    Partitions that offsets do not name are read to their end. Those that a report's cut does not
    name stand still: nothing of them was in its numbers.
    """
    _check_known("--to", end, log)
    if end.offsets is not None:
        log.bound(end.offsets, strict=end.is_cut)
    log.bound_ms(end.instant_ms)


def _check_known(option: str, place: Place, log: HistoryLog) -> None:
    known = log.partitions()
    unknown = [] if place.is_cut else sorted(set(place.offsets or {}) - known)
    if unknown:
        raise SettingsError(
            f"{option}: there is no {', '.join(map(str, unknown))}; there are "
            + (", ".join(map(str, sorted(known))) or "no partitions")
        )


def _sources(settings: Settings, where: Where) -> dict[Partition, Source]:
    """What there is of each partition, from the start that was asked for."""
    topics = topics_of(settings)
    archived: dict[Partition, Source] = {}
    starts = dict(where.start.offsets or {})
    instant_ms = where.start.instant_ms
    if where.archive is not None:
        kept = open_archive(where.archive).sources(topics)
        archived = dict(kept)
        if instant_ms is not None:
            starts = {partition: source.offset_at(instant_ms) for partition, source in kept.items()}
    if where.is_offline:
        return {p: _from(source, starts.get(p)) for p, source in archived.items()}
    kafka = open_log(settings)
    try:
        live = LogSources(kafka).sources()
        sources = joined(archived, live) if archived else live
        if instant_ms is not None:
            later = kafka.offsets_at(instant_ms)
            # The archive knows better, as long as the instant lies before its end.
            begins = {p: later.get(p, 0) for p in sources}
            starts = {
                p: offset if (offset := starts.get(p, 0)) < (archived[p].end or 0) else begins[p]
                for p in archived
            } | {p: begin for p, begin in begins.items() if p not in archived}
    except Exception:
        kafka.close()
        raise
    return {p: _from(source, starts.get(p)) for p, source in sources.items()}


def _from(source: Source, start: int | None) -> Source:
    if start is None:
        return source
    if start <= source.begin:
        # An archive that was asked where an instant lies stands somewhere else.
        source.seek(source.begin)
        return source
    return Later(source, start)
