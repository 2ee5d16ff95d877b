"""Panes in Redis: what commits added, one piece after the other, and what a reader keeps of them.

A pane is one string. A commit appends a **piece** to it: four bytes of length, what it adds (see
``piece_of``), and the version of the commit: a random text of the writer's opening, and the number
of the commit. That is one command for a pane, where a hash takes one for each count. When pieces
have become long beside what they add up to, the writer puts one in their place that has the same
counts, and the same version: it is the same pane.

No other commit ever has the same version, not even one on a server that has lost the newest writes,
since a writer opens the store anew after that. So a pane that ends with the version that it ended
with holds what it held, and one in which that version stands where it stood has got what comes
behind it. Nothing here goes by time.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any, NamedTuple, cast

import msgspec

from monitor.adapters import redis_scripts as scripts
from monitor.adapters.redis_client import RedisClient
from monitor.adapters.redis_namespace import RedisNamespace, pane_member
from monitor.domain.counts import (
    DELAY_CELLS,
    LATENCY_CELLS,
    Cell,
    Cells,
    Counts,
    Part,
)
from monitor.domain.windows import PaneKey

MOST_CELLS = 50_000
"""Cells that are remembered; all panes are made of the same few hundred, or few thousand."""

MOST_HELD = 250_000
"""Cells of panes that a reader keeps, about 20 MB: twice a day of minutes, of two variants."""

PANE_WEIGHT = 10
"""A pane that is kept takes as much as so many cells, beside its own."""

READ_AT_ONCE = 250
"""Panes that one script looks at: the server does nothing else meanwhile, some milliseconds at
most."""

LONG_BYTES = 16_384
"""Pieces of a pane that are longer are put together, once they are twice as long as the first."""

MOST_FOLDED = 64
"""Panes whose pieces are put together after one commit."""

SETTLED_SWEEPS = 300
"""Sweeps without a commit to a pane, five minutes of a worker, after which its pieces are put
together however short they are: Redis keeps as much room again behind a text that grows."""

MOST_TOUCHED = 50_000
"""Panes that a writer remembers to have added to."""

LENGTH_BYTES = 4
VERSION_BYTES = 16
"""A piece begins with its length, version included, and ends with its version."""

UNREAD = b"?"
"""A version that no pane has; that of a pane that is not there is b""."""

Piece = dict[str, int]
"""Field -> count. A field of a sketch is its first letter and the bucket, others are JSON."""

_pack = msgspec.msgpack.Encoder().encode
_unpacked = msgspec.msgpack.Decoder(Piece).decode
_answer_of = msgspec.json.Decoder(tuple[str, ...]).decode


class _Fields(dict[Cell, str]):
    """Cell -> field, encoded once; begun anew when it is full."""

    def __missing__(self, cell: Cell) -> str:
        if len(self) >= MOST_CELLS:
            self.clear()
        sketch = _LETTERS.get(cell[0])
        field = sketch + cell[1] if sketch else msgspec.json.encode(cell).decode()
        self[cell] = field
        return field


class _Named(dict[str, Cell]):
    """Field -> cell, decoded once; begun anew when it is full."""

    def __missing__(self, field: str) -> Cell:
        if len(self) >= MOST_CELLS:
            self.clear()
        buckets = _BUCKETS.get(field[0])
        cell = _answer_of(field) if buckets is None else buckets[int(field[1:])]
        self[field] = cell
        return cell


_LETTERS = {"latency": "l", "delay": "d"}
_BUCKETS: Mapping[str, Mapping[int, Cell]] = {"l": LATENCY_CELLS, "d": DELAY_CELLS}
_PARTS = {"l": Part.LATENCY, "d": Part.DELAY}
_FIELDS, _CELLS = _Fields(), _Named()


def piece_of(cells: Cells) -> bytes:
    """What a commit adds to a pane, but for the version, which the server knows."""
    fields = _FIELDS
    return _framed({fields[cell]: n for cell, n in cells.items()})


def _framed(piece: Piece) -> bytes:
    packed = _pack(piece)
    return (len(packed) + VERSION_BYTES).to_bytes(LENGTH_BYTES, "big") + packed


def pieces_in(held: bytes) -> Iterator[Piece]:
    """The pieces of a pane, or of what was added to it, in turn."""
    at = 0
    while at < len(held):
        begin = at + LENGTH_BYTES
        at = begin + int.from_bytes(held[at:begin], "big")
        yield _unpacked(memoryview(held)[begin : at - VERSION_BYTES])


def version_of(held: bytes) -> bytes:
    """The version of the last commit that added to a pane; b"" without one."""
    return held[-VERSION_BYTES:]


def folded(held: bytes) -> bytes:
    """The same pane in one piece, with the version that it has."""
    return _framed(_summed(pieces_in(held))) + version_of(held)


def whole_of(held: Iterable[bytes | None]) -> Counts:
    """A pane from what each shard holds of it, None for nothing."""
    total = _summed(piece for one in held if one for piece in pieces_in(one))
    return Counts({_CELLS[field]: n for field, n in total.items()})


def _summed(pieces: Iterable[Piece]) -> Piece:
    """All added up, without zeros. The first is copied whole: most often it is most of it."""
    rest = iter(pieces)
    total = dict(next(rest, _NOTHING))
    get = total.get
    for piece in rest:
        for field, n in piece.items():
            total[field] = get(field, 0) + n
    return {field: n for field, n in total.items() if n} if 0 in total.values() else total


_NOTHING: Piece = {}
_NO_PARTS: Mapping[Part, Counts] = {part: Counts() for part in Part}


class _Held(NamedTuple):
    """A pane: for each shard length, version and, of several, counts; and the parts of all."""

    name: str
    lengths: tuple[int, ...]
    versions: tuple[bytes, ...]
    pieces: tuple[Piece, ...]
    parts: Mapping[Part, Counts]

    @property
    def weight(self) -> int:
        return PANE_WEIGHT + sum([len(part.cells) for part in self.parts.values()])


class _Shelf:
    """Panes, the least recently asked for first; for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[PaneKey, _Held] = OrderedDict()
        self._weight = 0

    def get(self, wanted: Sequence[PaneKey]) -> list[_Held | None]:
        with self._lock:
            found = [self._held.get(one) for one in wanted]
            for one, held in zip(wanted, found, strict=True):
                if held is not None:
                    self._held.move_to_end(one)
        return found

    def put(self, read: Mapping[PaneKey, _Held]) -> None:
        with self._lock:
            for one, held in read.items():
                old = self._held.pop(one, None)
                self._held[one] = held
                self._weight += held.weight - (old.weight if old is not None else 0)
            while self._weight > MOST_HELD:
                self._weight -= self._held.popitem(last=False)[1].weight


class Touched:
    """Panes to which something was added, and how many sweeps ago."""

    def __init__(self, shards: int) -> None:
        self._sweeps = 0
        self._last: list[dict[str, int]] = [{} for _ in range(shards)]

    def add(self, shard: int, names: Iterable[str]) -> None:
        """Just now."""
        last, sweeps = self._last[shard], self._sweeps
        for name in names:
            last.pop(name, None)
            last[name] = sweeps
        for name in list(islice(last, max(0, len(last) - MOST_TOUCHED))):
            del last[name]

    def settled(self) -> Iterator[tuple[int, list[str]]]:
        """For each shard some that nobody has added to for a while; each is named once."""
        self._sweeps += 1
        for shard, last in enumerate(self._last):
            old = takewhile(lambda item: item[1] <= self._sweeps - SETTLED_SWEEPS, last.items())
            names = [name for name, _ in islice(old, MOST_FOLDED)]
            for name in names:
                del last[name]
            if names:
                yield shard, names


class RedisPanes:
    """Reads panes of one namespace, and puts their pieces together."""

    def __init__(self, client: RedisClient, space: RedisNamespace, shards: int) -> None:
        self._client, self._space, self._shards = client, space, shards
        self._shelf = _Shelf()
        self._fold = client.commands.register_script(scripts.FOLD)

    def ask(self, pipe: Any, shard: int, pane: PaneKey) -> None:  # noqa: ANN401 - a redis pipeline
        """Ask for what a shard holds of a pane, for ``whole_of``."""
        pipe.get(self._space.key(shard, f"p:{pane_member(pane)}"))

    def whole(self, keys: Sequence[PaneKey]) -> list[Counts]:
        """The panes in the order asked for, in one round trip; an unknown pane is empty."""
        pipe = self._client.commands.pipeline(transaction=False)
        for pane in keys:
            for shard in range(self._shards):
                self.ask(pipe, shard, pane)
        rows, size = pipe.execute(), self._shards
        return [whole_of(rows[at * size : (at + 1) * size]) for at in range(len(keys))]

    def fold(self, shard: int, names: Sequence[str]) -> None:
        """Put the pieces of these panes together, unless somebody adds to them meanwhile."""
        pipe = self._client.commands.pipeline(transaction=False)
        for name in names:
            pipe.get(self._space.key(shard, f"p:{name}"))
        arguments: list[str | int | bytes] = [self._space.key(shard)]
        for name, held in zip(names, pipe.execute(), strict=True):
            if held:
                arguments += (name, len(held), version_of(held), folded(held))
        self._fold(keys=self._space.keys(shard), args=arguments)

    def part(self, keys: Sequence[PaneKey], part: Part) -> list[Counts]:
        """One part of each pane, in the order asked for; the same object while nothing changed."""
        held = dict(zip(keys, self._shelf.get(keys), strict=True))
        known = {pane: found or self._unread(pane) for pane, found in held.items()}
        changed: dict[PaneKey, dict[int, tuple[int, bytes]]] = {}
        asked = list(known.items())
        for shard in range(self._shards):
            for at in range(0, len(asked), READ_AT_ONCE):
                some = asked[at : at + READ_AT_ONCE]
                for number, start, new in self._changed(shard, [found for _, found in some]):
                    changed.setdefault(some[number][0], {})[shard] = start, new
        read = {pane: _renewed(known[pane], rows) for pane, rows in changed.items()}
        self._shelf.put(read)
        known.update(read)
        return [known[pane].parts[part] for pane in keys]

    def _unread(self, pane: PaneKey) -> _Held:
        name, shards = pane_member(pane), self._shards
        return _Held(name, (0,) * shards, (UNREAD,) * shards, ({},) * shards, _NO_PARTS)

    def _changed(self, shard: int, asked: Sequence[_Held]) -> Iterator[tuple[int, int, bytes]]:
        """What has another version now: its place in ``asked``, from where on, and what is new."""
        told = [part for h in asked for part in (h.name, h.lengths[shard], _told(h, shard))]
        keys = self._space.keys(shard)
        found = self._client.commands.eval_ro(
            scripts.READ, len(keys), *keys, self._space.key(shard), _pack(told)
        )
        answer = cast(list[Any], found)
        return zip(answer[::3], answer[1::3], answer[2::3], strict=True)


def _told(held: _Held, shard: int) -> str:
    return held.versions[shard].decode()


def _renewed(held: _Held, read: Mapping[int, tuple[int, bytes]]) -> _Held:
    """With what is new: behind ``from``, or all of it from 0 on; b"" where a pane is gone.

    Where nothing that was known is gone, parts to which nothing was added stay the same objects.
    """
    lengths, versions, pieces = list(held.lengths), list(held.versions), list(held.pieces)
    parts = held.parts
    for shard, (start, found) in read.items():
        new, was = _summed(pieces_in(found)), lengths[shard]
        lengths[shard], versions[shard] = start + len(found), version_of(found)
        if len(lengths) > 1:
            pieces[shard] = _summed([pieces[shard], new]) if start else new
        if start or not was:
            parts = _grown(parts, new)
        else:
            parts = _grown(_NO_PARTS, new if len(lengths) == 1 else _summed(pieces))
    return _Held(held.name, tuple(lengths), tuple(versions), tuple(pieces), parts)


def _grown(parts: Mapping[Part, Counts], added: Piece) -> Mapping[Part, Counts]:
    """The parts with what was added to each."""
    more: dict[Part, dict[Cell, int]] = {}
    part_of, cells, answers = _PARTS.get, _CELLS, Part.ANSWERS
    for field, n in added.items():
        part = part_of(field[0], answers)
        if part not in more:
            more[part] = {}
        more[part][cells[field]] = n
    return {**parts, **{part: _plus(parts[part], found) for part, found in more.items()}}


def _plus(counts: Counts, added: Mapping[Cell, int]) -> Counts:
    if not counts.cells:
        return Counts(added)
    cells = dict(counts.cells)
    get = cells.get
    for cell, n in added.items():
        cells[cell] = get(cell, 0) + n
    return Counts({cell: n for cell, n in cells.items() if n} if 0 in cells.values() else cells)
