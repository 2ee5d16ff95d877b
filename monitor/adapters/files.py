"""Captured records: JSON lines in the envelope of a Kafka record, plain or gzipped.

One record a line: ``topic``, ``partition``, ``offset``, ``timestamp`` (broker's, epoch ms), ``key``
and ``value`` (text; null is a tombstone) or ``value_b64`` (bytes that are not UTF-8). A folder with
``predictions.jsonl[.gz]`` and ``labels.jsonl[.gz]``, each in arrival order, is read as one log,
merged by log time.
"""

import base64
import gzip
import heapq
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, cast

from monitor.domain.errors import RecallwatchError
from monitor.domain.events import Kind, NextOffsets, Partition, Record


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
            sources = [
                _records(opened.enter_context(open_capture(path)), path, topics[kind])
                for kind, path in paths.items()
            ]
            self._open = opened.pop_all()
        self._skip: dict[Partition, int] = {}
        self._wanted = filter(self._is_wanted, (r for _, r in heapq.merge(*sources, key=_place)))
        self._next: dict[Partition, int] = {}
        self._is_ended = False

    def poll(self, max_records: int) -> list[Record]:
        """The next records in log order; [] once the files are read."""
        batch = list(islice(self._wanted, max_records))
        self._is_ended = len(batch) < max_records
        for record in batch:
            self._next[Partition(record.topic, record.partition)] = record.offset + 1
        return batch

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
        return frozenset(self._next) if self._is_ended else frozenset()

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


def _records(lines: IO[bytes], path: Path, topic: str) -> Iterator[tuple[int, Record]]:
    """The records of one file in its order, each with the greatest log time up to it."""
    newest_ms = 0
    following: dict[int, int] = {}
    try:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            record = parse_line(line, place)._replace(topic=topic)
            if record.offset < following.get(record.partition, 0):
                raise CaptureError(
                    f"{place}: offset {record.offset} of partition {record.partition} comes after "
                    f"offset {following[record.partition] - 1}; sort the file by log time, each "
                    "partition in offset order"
                )
            following[record.partition] = record.offset + 1
            newest_ms = max(newest_ms, record.log_ms)
            yield newest_ms, record
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise CaptureError(f"{path}: damaged gzip file ({error})") from None


def _place(item: tuple[int, Record]) -> tuple[int, str]:
    """Merge order of two files; within a file nothing is moved."""
    reached_ms, record = item
    return reached_ms, record.topic
