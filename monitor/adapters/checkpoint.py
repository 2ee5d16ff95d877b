"""A store in memory on disk: a long replay that was broken off goes on where it stood.

Frames of MessagePack, each with its length in four bytes in front, then the SHA-256 of all of them.
A file is written under another name first, so that a broken-off write leaves the one before.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from errno import EISDIR
from itertools import islice
from pathlib import Path

import msgspec

from monitor.adapters.memory import MemoryStore
from monitor.codec import snapshots
from monitor.domain.cut import Progress
from monitor.domain.errors import CheckpointError
from monitor.domain.events import Partition, PredictionId
from monitor.domain.join import Entry
from monitor.domain.misses import Miss
from monitor.domain.votes import Vote
from monitor.domain.windows import PaneKey

VERSION = 2
CHUNK = 10_000
"""Entries or panes in one frame."""

LENGTH_BYTES = 4

_pack = msgspec.msgpack.Encoder().encode


class _Head(msgspec.Struct, array_like=True):
    version: int
    purpose: str
    shards: int
    evaluation: bytes
    transitions: list[bytes]
    spoken: dict[str, int]
    records: int


class _Shard(msgspec.Struct, array_like=True, tag="shard"):
    cut: list[tuple[Partition, Progress]]
    ledger: dict[str, int]
    votes: list[Vote]
    misses: list[Miss]


class _Entries(msgspec.Struct, array_like=True, tag="entries"):
    rows: list[tuple[PredictionId, Entry]]


class _Panes(msgspec.Struct, array_like=True, tag="panes"):
    rows: list[tuple[PaneKey, list[tuple[tuple[str, ...], int]]]]


_Frame = _Shard | _Entries | _Panes
_unpack_head = msgspec.msgpack.Decoder(_Head).decode
_unpack: msgspec.msgpack.Decoder[_Frame] = msgspec.msgpack.Decoder(_Frame)


def try_checkpoint(path: Path) -> None:
    """Whether a checkpoint could be written to ``path``; CheckpointError when not.

    What stands there already is left alone.
    """
    partial = _partial(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, "is a folder")
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None


def save_checkpoint(path: Path, store: MemoryStore, *, purpose: str, records: int) -> None:
    """Write ``store`` to ``path``; ``purpose`` says for what alone it may be used again.

    CheckpointError when it cannot be written; what stood there before still does.
    """
    partial = _partial(path)
    sha = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            for frame in _frames(store, purpose, records):
                data = len(frame).to_bytes(LENGTH_BYTES, "big") + frame
                sha.update(data)
                file.write(data)
            file.write(sha.digest())
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise _unwritable(path, error) from None


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _unwritable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"{path}: cannot be written ({error.strerror}); "
        "name a file in a folder that exists, can be written to and has room"
    )


def load_checkpoint(path: Path, store: MemoryStore, *, purpose: str) -> int:
    """Bring what was saved into ``store``, which must be fresh; the records that it had read.

    CheckpointError when the file is damaged, or was written for another purpose.
    """
    try:
        frames = _read(path.read_bytes())
        head = _unpack_head(frames[0])
        if (head.version, head.purpose) != (VERSION, purpose):
            raise CheckpointError(
                f"{path}: was written by another release, or for other settings or another history;"
                " remove it, or name another file"
            )
        store.restore(
            snapshots.unpack_evaluation(head.evaluation),
            [snapshots.unpack_transition(row) for row in head.transitions],
            head.spoken,
        )
        shard = -1
        for data in frames[1:]:
            frame = _unpack.decode(data)
            if isinstance(frame, _Shard):
                shard += 1
                store.restore_shard(shard, dict(frame.cut), frame.ledger, frame.votes, frame.misses)
            elif isinstance(frame, _Entries):
                store.restore_entries(shard, dict(frame.rows))
            else:
                store.restore_panes(shard, [(pane, dict(cells)) for pane, cells in frame.rows])
    except (OSError, ValueError, IndexError, msgspec.MsgspecError) as error:
        raise CheckpointError(f"{path}: cannot be used ({error}); remove it") from None
    return head.records


def _frames(store: MemoryStore, purpose: str, records: int) -> Iterator[bytes]:
    transitions = [snapshots.pack_transition(transition) for transition in store.transitions()]
    evaluation = snapshots.pack_evaluation(store.evaluation())
    head = (VERSION, purpose, store.shards, evaluation, transitions, store.voices(), records)
    yield _pack(_Head(*head))
    for state in store.saved():
        kept = dict(state.ledger), list(state.waiting), list(state.misses)
        yield _pack(_Shard(list(state.cut.items()), *kept))
        entries = iter(state.entries.items())
        while rows := list(islice(entries, CHUNK)):
            yield _pack(_Entries(rows))
        panes = iter(state.panes.items())
        while some := list(islice(panes, CHUNK)):
            yield _pack(_Panes([(pane, list(cells.items())) for pane, cells in some]))


def _read(data: bytes) -> list[bytes]:
    body, digest = data[:-32], data[-32:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("its checksum does not fit")
    frames, at = [], 0
    while at < len(body):
        past = at + LENGTH_BYTES + int.from_bytes(body[at : at + LENGTH_BYTES], "big")
        frames.append(body[at + LENGTH_BYTES : past])
        at = past
    return frames
