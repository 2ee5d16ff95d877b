"""Records read in bulk are those that the client library gives, one by one."""

import struct
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

import pytest
from kafka import TopicPartition, codec
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder
from kafka.record.util import calc_crc32c

from monitor.adapters.kafka.bulk import read_in_bulk, records_of
from monitor.domain.events import Record

TP = TopicPartition("predictions", 3)
START_MS = 1_772_409_600_000
NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
_PACKERS = {SNAPPY: codec.has_snappy, LZ4: codec.has_lz4, ZSTD: codec.has_zstd}
CODECS = [NONE, GZIP, *(number for number, is_there in _PACKERS.items() if is_there())]
"""Those whose library is installed."""

COMMIT, ABORT = b"\x00\x00\x00\x01", b"\x00\x00\x00\x00"
CONTROL, APPENDED, BASE_MS, CRC_FROM = 0x20, 0x08, 27, 21

Row = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]

ODD_ROWS: list[Row] = [
    (START_MS, b"key", b"value", []),
    (START_MS - 5, None, b"earlier than the first, no key", []),
    (START_MS + 9_000_000, b"no value", None, []),
    (START_MS, None, None, []),
    (START_MS, b"", b"", [("reason", b"odd"), ("none", None), ("", b"")]),
    (START_MS, b"k" * 63, b"v" * 64, []),
    (START_MS, b"k" * 64, b"v" * 8_191, [("h", b"x" * 300)]),
    (START_MS, b"long", b"v" * 70_000, []),
]


def batch(
    rows: Iterable[Row], *, base: int = 0, compression: int = NONE, producer: int = -1
) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=compression,
        is_transactional=producer >= 0,
        producer_id=producer,
        producer_epoch=0 if producer >= 0 else -1,
        base_sequence=0 if producer >= 0 else -1,
        batch_size=1 << 20,
    )
    for offset, (log_ms, key, value, headers) in enumerate(rows):
        assert builder.append(offset, log_ms, key, value, headers)
    return struct.pack(">q", base) + bytes(builder.build())[8:]


def with_attributes(data: bytes, more: int) -> bytes:
    """Set bits of a batch's attributes, and mend its checksum."""
    changed = bytearray(data)
    changed[22] |= more
    struct.pack_into(">I", changed, 17, calc_crc32c(memoryview(changed)[CRC_FROM:]))
    return bytes(changed)


def marker(base: int, producer: int, kind: bytes) -> bytes:
    row: Row = (START_MS, kind, b"\x00\x00\x00\x00\x00\x00", [])
    return with_attributes(batch([row], base=base, producer=producer), CONTROL)


def bare_fetcher() -> Fetcher:
    """Without a connection: only its class of records is wanted."""
    return Fetcher.__new__(Fetcher)


def in_takes(
    data: bytes,
    *,
    is_bulk: bool,
    at: int = 0,
    take: int | None = 3,
    **options: Any,  # noqa: ANN401 - those of the client's class
) -> tuple[list[Record], list[tuple[int, int]]]:
    """What comes of a fetch; and after each take the place, and the batch's leader epoch."""
    fetching = bare_fetcher()
    if is_bulk:
        read_in_bulk(fetching)
    part = fetching.PartitionRecords(at, TP, MemoryRecords(data), **options)
    found: list[Record] = []
    places: list[tuple[int, int]] = []
    while part:
        taken: Sequence[Record] = part.take(take)
        found += taken if is_bulk else records_of(TP, taken)
        places.append((part.next_fetch_offset, part.leader_epoch))
    return found, places


def assert_same(
    data: bytes,
    **options: Any,  # noqa: ANN401 - those of the client's class
) -> list[Record]:
    for take in (1, 3, 4, 8, 1_000, None):
        ours = in_takes(data, is_bulk=True, take=take, **options)
        assert ours == in_takes(data, is_bulk=False, take=take, **options)
    return ours[0]


@pytest.mark.parametrize("compression", CODECS)
def test_every_field_is_the_same_when_records_are_odd_and_compressed(compression: int) -> None:
    data = batch(ODD_ROWS, compression=compression) + batch(ODD_ROWS, base=100)

    found = assert_same(data)

    assert [record.value for record in found] == [row[2] for row in ODD_ROWS] * 2
    assert [record.key for record in found] == [row[1] for row in ODD_ROWS] * 2
    assert found[8].offset == 100


def test_long_batches_are_the_same_when_deltas_take_several_bytes() -> None:
    rows: list[Row] = [(START_MS + n * 997, b"%d" % n, b"v" * (n % 200), []) for n in range(5_000)]

    assert len(assert_same(batch(rows, base=2**40))) == len(rows)


def test_log_append_time_is_taken_when_the_broker_stamped_the_batch() -> None:
    found = assert_same(with_attributes(batch(ODD_ROWS), APPENDED))

    assert {record.log_ms for record in found} == {START_MS + 9_000_000}
    assert all(record.log_append_time for record in found)


@pytest.mark.parametrize("at", [0, 1, 7, 8, 99, 103, 108])
def test_records_before_the_asked_offset_are_left_out_when_a_fetch_begins_earlier(at: int) -> None:
    data = batch(ODD_ROWS) + batch(ODD_ROWS, base=100)

    assert all(record.offset >= at for record in assert_same(data, at=at))


@pytest.mark.parametrize(
    "isolation", [IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED]
)
def test_aborted_transactions_and_markers_are_withheld_as_the_client_does(isolation: int) -> None:
    class Aborted:
        producer_id, first_offset = 7, 8

    data = b"".join(
        [
            batch(ODD_ROWS, base=0, producer=5),
            batch(ODD_ROWS, base=8, producer=7),
            batch(ODD_ROWS, base=16),
            marker(24, 5, COMMIT),
            marker(25, 7, ABORT),
            batch(ODD_ROWS, base=26, producer=7),
            marker(34, 7, COMMIT),
        ]
    )

    found = assert_same(data, isolation_level=isolation, aborted_transactions=[Aborted()])

    kept = 4 if isolation == IsolationLevel.READ_UNCOMMITTED else 3
    assert len(found) == kept * len(ODD_ROWS)


@pytest.mark.parametrize(("magic", "compression"), [(0, NONE), (1, NONE), (1, GZIP)])
def test_records_of_old_formats_are_the_same(magic: int, compression: int) -> None:
    builder = MemoryRecordsBuilder(magic, compression, 1 << 20)
    for number, (log_ms, key, value, _) in zip(count(), ODD_ROWS, strict=False):
        builder.append(timestamp=log_ms + number, key=key, value=value, headers=[])
    builder.close()

    assert len(assert_same(bytes(builder.buffer()))) == len(ODD_ROWS)


def test_what_came_before_a_damaged_batch_is_given_first_and_then_the_error() -> None:
    damaged = bytearray(batch(ODD_ROWS, base=8))
    damaged[-1] ^= 1
    fetching = bare_fetcher()
    read_in_bulk(fetching)
    part = fetching.PartitionRecords(0, TP, MemoryRecords(batch(ODD_ROWS) + bytes(damaged)))

    assert len(part.take(100)) == len(ODD_ROWS)
    with pytest.raises(CorruptRecordError, match="offset 8"):
        part.take(100)


@pytest.mark.parametrize("cut", [1, 2, 5, 40, 300])
def test_a_batch_whose_records_are_cut_is_an_error_and_no_record(cut: int) -> None:
    data = bytearray(batch(ODD_ROWS[:2]))
    del data[-min(cut, len(data) - 62) :]
    struct.pack_into(">i", data, 8, len(data) - 12)
    fetching = bare_fetcher()
    read_in_bulk(fetching)
    part = fetching.PartitionRecords(0, TP, MemoryRecords(bytes(data)), check_crcs=False)

    with pytest.raises(CorruptRecordError):
        part.take(100)
