"""Captured records: JSON lines in the envelope of a Kafka record, plain or gzipped.

One record a line: ``topic``, ``partition``, ``offset``, ``timestamp`` (broker's, epoch ms), ``key``
and ``value`` (text; null is a tombstone) or ``value_b64`` (bytes that are not UTF-8). A folder with
``predictions.jsonl[.gz]`` and ``labels.jsonl[.gz]``, each in arrival order, is read as one log,
merged by log time.
"""

import base64
import gzip
import json
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from itertools import accumulate, islice, repeat
from operator import attrgetter
from pathlib import Path
from typing import IO, cast

import msgspec

from monitor.adapters.history import aligned
from monitor.domain.errors import RecallwatchError
from monitor.domain.events import Kind, NextOffsets, Partition, Record

CHUNK_LINES = 4_096
"""Lines of each file that are in memory at once."""

_log_ms = attrgetter("log_ms")


class CaptureError(RecallwatchError):
    """A captured file is missing or a line of it is not a captured record."""


class FilesLog:
    """A folder of captured records, read once from the start; memory does not grow with it.

    ``topics`` names the topics that the records are taken for, whatever stands in the files. The
    order of a file is kept: a record whose log time lies before that of the line above it, as
    producers' clocks can bring about, is merged with that line's.
    """

    def __init__(self, folder: Path, topics: Mapping[Kind, str]) -> None:
        paths = {kind: capture_path(folder, kind) for kind in Kind}
        with ExitStack() as opened:
            self._files = [
                _File(opened.enter_context(open_capture(path)), path, topics[kind])
                for kind, path in paths.items()
            ]
            self._open = opened.pop_all()
        self._skip: dict[Partition, int] = {}
        self._before_ms: int | None = None
        self._next: dict[Partition, int] = {}

    def poll(self, max_records: int, _wait_ms: int | None = None) -> list[Record]:
        """The next records in log order; [] once the files are read, or at the bound."""
        polled: list[Record] = []
        while left := max_records - len(polled):
            batch = aligned(self._files, left, self._before_ms)
            if not batch:
                break
            if all(file.is_in_order for file in self._files):
                batch.sort(key=_log_ms)
            self._next.update(
                {Partition(topic, number): offset + 1 for topic, number, offset, *_ in batch}
            )
            polled += filter(self._is_wanted, batch) if self._skip else batch
        return polled

    def bound_ms(self, instant_ms: int | None) -> None:
        """Read the records that count as before this instant alone; None: to the end."""
        self._before_ms = instant_ms

    def next_ms(self) -> int | None:
        """The instant as of which the next record counts; None at the end."""
        return min((file.next_ms() for file in self._files if file.is_readable()), default=None)

    def cut_off_ms(self) -> int | None:
        """None: a capture is whole."""
        return None

    @property
    def generation(self) -> int:
        """Always 0: there is one reader."""
        return 0

    def assigned(self) -> frozenset[Partition]:
        """None in advance: which partitions there are shows only as the files are read."""
        return frozenset()

    def partitions(self) -> frozenset[Partition]:
        """None in advance; merged by log time, an unmet partition holds nobody back."""
        return frozenset()

    def oldest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """0: a capture may begin anywhere, and nothing was dropped from it."""
        return dict.fromkeys(partitions, 0)

    def newest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """As far as was read: files are read to their end before anybody is idle."""
        return {partition: self._next.get(partition, 0) for partition in partitions}

    def places(self) -> NextOffsets:
        """One past the last record read of each partition met."""
        return dict(self._next)

    def seek(self, next_offsets: NextOffsets) -> None:
        """Files are read forward only; records before ``next_offsets`` are not delivered."""
        self._skip.update(next_offsets)

    def at_end(self) -> frozenset[Partition]:
        """Every partition met once the files are read, none before."""
        is_ended = not any(file.is_readable() for file in self._files)
        return frozenset(self._next) if is_ended else frozenset()

    def lag(self) -> Mapping[Partition, int]:
        """Unknown: what is left of a file is not counted."""
        return {}

    def commit(self, next_offsets: NextOffsets) -> None:
        """Files keep no place."""

    def close(self) -> None:
        """Close the files."""
        self._open.close()

    def _is_wanted(self, record: Record) -> bool:
        return record.offset >= self._skip.get(Partition(record.topic, record.partition), 0)


def capture_path(folder: Path, kind: Kind) -> Path:
    """The captured file of one topic in ``folder``; CaptureError when there is none."""
    for name in (f"{kind}.jsonl", f"{kind}.jsonl.gz"):
        if (folder / name).is_file():
            return folder / name
    raise CaptureError(
        f"{folder}: neither {kind}.jsonl nor {kind}.jsonl.gz is there; "
        "give a folder that holds captured predictions and labels"
    )


def open_capture(path: Path) -> IO[bytes]:
    """A captured file, unpacked on the fly when its name ends in ``.gz``."""
    try:
        return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read ({error.strerror})") from error


def parse_line(line: bytes, place: str) -> Record:
    """One captured record; CaptureError names ``place`` when the line is not one."""
    try:
        fields = json.loads(line)
        value = fields.get("value")
        packed = fields.get("value_b64")
        key = fields.get("key")
        return Record(
            topic=str(fields["topic"]),
            partition=int(fields["partition"]),
            offset=int(fields["offset"]),
            log_ms=int(fields["timestamp"]),
            key=None if key is None else str(key).encode(),
            value=base64.b64decode(packed) if packed is not None else _encoded(value),
        )
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise CaptureError(
            f"{place}: not a captured record ({type(error).__name__}: {error}); each line needs "
            "topic, partition, offset, timestamp, key and value"
        ) from None


def _encoded(value: str | None) -> bytes | None:
    return None if value is None else value.encode("utf-8", "surrogatepass")


class _Captured(msgspec.Struct):
    """A line as ``feed`` and most tools write it; others are read with more patience."""

    partition: int
    offset: int
    timestamp: int
    key: str | None = None
    value: str | None = None
    value_b64: str | None = None


_read_line = msgspec.json.Decoder(_Captured).decode


class _File:
    """One file: a chunk of its records, and how far it has been delivered.

    ``is_in_order`` says that no log time of the chunk lies before that of a record above it.
    """

    def __init__(self, lines: IO[bytes], path: Path, topic: str) -> None:
        self._lines, self._path, self._topic = lines, path, topic
        self._numbers = 0
        self._following: dict[int, int] = {}
        self._chunk: list[Record] = []
        self._at = 0
        self._is_ended = False
        self.reached: list[int] = []
        self.last_ms = 0
        self.is_in_order = True

    def is_readable(self) -> bool:
        """Load the next chunk if need be; whether there is one more record."""
        while self._at == len(self._chunk) and not self._is_ended:
            self._load()
        return not self._is_ended

    def may_go_on(self) -> bool:
        """Always, as long as the end has not been seen."""
        return True

    def next_ms(self) -> int:
        """The instant as of which the next record counts."""
        return self.reached[self._at]

    def count(self, upto_ms: int) -> int:
        """Loaded records up to this instant."""
        return bisect_right(self.reached, upto_ms, lo=self._at) - self._at

    def take(self, upto_ms: int, max_records: int) -> list[Record]:
        """Deliver up to this instant, ``max_records`` at most."""
        first = self._at
        self._at = min(bisect_right(self.reached, upto_ms, lo=first), first + max_records)
        return self._chunk[first : self._at]

    def _load(self) -> None:
        try:
            lines = list(islice(self._lines, CHUNK_LINES))
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise CaptureError(f"{self._path}: damaged gzip file ({error})") from None
        self._is_ended, self._at = not lines, 0
        self._chunk = self._parsed(lines)
        self._check_order()
        self._numbers += len(lines)
        log_times = list(map(_log_ms, self._chunk))
        self.reached = list(accumulate(log_times, max, initial=self.last_ms))[1:]
        self.is_in_order = self.reached == log_times
        self.last_ms = self.reached[-1] if self.reached else self.last_ms

    def _parsed(self, lines: list[bytes]) -> list[Record]:
        topic = self._topic
        try:
            found = list(map(_read_line, lines))
            if any(line.value_b64 is not None for line in found):
                return [_packed(line, topic) for line in found]
            fields = (
                (
                    *(topic, line.partition, line.offset, line.timestamp),
                    None if line.key is None else line.key.encode(),
                    None if line.value is None else line.value.encode(),
                    False,
                )
                for line in found
            )
            # Not by way of the constructor, which is Python code for each record.
            return list(map(tuple.__new__, repeat(Record), fields))
        except (msgspec.MsgspecError, ValueError):
            return [
                parse_line(line, f"{self._path}:{number}")._replace(topic=topic)
                for number, line in enumerate(lines, self._numbers + 1)
                if line.strip()
            ]

    def _check_order(self) -> None:
        following = self._following
        for number, record in enumerate(self._chunk, 1):
            due = following.get(record.partition, 0)
            if record.offset < due:
                raise CaptureError(
                    f"{self._path}:{self._numbers + number}: offset {record.offset} of partition "
                    f"{record.partition} comes after offset {due - 1}; sort the file by log time, "
                    "each partition in offset order"
                )
            following[record.partition] = record.offset + 1


def _packed(line: _Captured, topic: str) -> Record:
    value = _encoded(line.value)
    if line.value_b64 is not None:
        value = base64.b64decode(line.value_b64)
    key = None if line.key is None else line.key.encode()
    return Record(topic, line.partition, line.offset, line.timestamp, key, value)
