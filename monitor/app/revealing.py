"""What somebody wrote, read for one person to see: from the log, or from an archive of it."""

from dataclasses import replace
from typing import Protocol

from monitor.app.history import Place, Where, opened_history
from monitor.app.settings import Settings
from monitor.app.wiring import codec_of
from monitor.codec.records import RecordCodec
from monitor.domain.events import Record
from monitor.domain.misses import Miss

AROUND_MS = 60_000
"""How far behind the log time of a record, as producers' clocks have it, others may be earlier."""

BATCH_RECORDS = 4_000


class Told(Protocol):
    """A log that stands where a record is looked for, and ends."""

    def poll(self, max_records: int, _wait_ms: int | None = None) -> list[Record]:
        """The next records; [] at the end."""


def text_of(settings: Settings, miss: Miss) -> str | None:
    """The text of a missed message; "" if its record has none, None if there is no such record.

    What the log no longer has is looked for in the archive of ``dashboard.archive``, where one is
    set. BrokerError or ArchiveError when one of them cannot be read.
    """
    archive = settings.dashboard.archive
    told = _told(settings, miss, Where())
    if told is None and archive is not None:
        return _told(settings, miss, Where(archive=archive, is_offline=True))
    return told


def _told(settings: Settings, miss: Miss, where: Where) -> str | None:
    start, end = Place(instant_ms=miss.log_ms), Place(instant_ms=miss.log_ms + AROUND_MS)
    with opened_history(settings, replace(where, start=start, end=end)) as log:
        return found_text(log, codec_of(settings), miss)


def found_text(log: Told, codec: RecordCodec, miss: Miss) -> str | None:
    """The text in the first record that is the prediction and of its log time; None without one.

    >>> from monitor.domain.events import PredictionId
    >>> class Empty:
    ...     def poll(self, max_records: int, _wait_ms: int | None = None) -> list[Record]:
    ...         return []
    >>> miss = Miss(0, PredictionId("p1"), 0, 0, 0, "ft", "lost_card", "fees")
    >>> found_text(Empty(), RecordCodec(), miss) is None
    True
    """
    while records := log.poll(BATCH_RECORDS):
        for record in records:
            if record.log_ms != miss.log_ms:
                continue
            spoken = codec.spoken(record)
            if spoken is not None and spoken[0] == miss.prediction_id:
                return spoken[1]
    return None
