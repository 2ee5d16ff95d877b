"""Panes in Redis: a hash for each part, and what a reader keeps of those that it asks for again.

Beside its counts a hash holds, in the field ``v``, the version that the commit gave it which wrote
to it last: a random text of the writer's opening, and the number of the commit. No other commit
ever has the same, not even one on a server that has lost the newest writes, since a writer opens
the store anew after that. So a hash with the version that it had holds what it held, and a reader
that is told the same version again need not read the hash. Nothing here goes by time.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import cycle
from typing import Any, NamedTuple, cast

import msgspec

from monitor.adapters import redis_scripts as scripts
from monitor.adapters.redis_client import RedisClient
from monitor.adapters.redis_namespace import RedisNamespace, cell_field, pane_member
from monitor.domain.counts import (
    DELAY_CELLS,
    LATENCY_CELLS,
    Cell,
    Cells,
    Counts,
    Part,
    merge,
)
from monitor.domain.windows import PaneKey

PREFIXES: Mapping[Part, str] = {Part.ANSWERS: "p:", Part.LATENCY: "l:", Part.DELAY: "d:"}
"""What the key of a part begins with; in this order the commit script gets their counts."""

MOST_CELLS = 50_000
"""Cells that are remembered; all panes are made of the same few hundred, or few thousand."""

MOST_HELD = 250_000
"""Cells of panes that a reader keeps, about 20 MB: twice a day of minutes, of two variants."""

PANE_WEIGHT = 10
"""A pane that is kept takes as much as so many cells, beside its own."""

READ_AT_ONCE = 250
"""Hashes that one script looks at: the server does nothing else meanwhile, some milliseconds at
most."""

VERSION, VERSION_BYTES = "v", b"v"
"""Field of the version; those of cells begin with a bracket or are numbers."""

UNREAD = "?"
"""A version that no hash has; that of a hash that is not there is ""."""

_pack = msgspec.msgpack.Encoder().encode
_changed = msgspec.msgpack.Decoder(list[int | list[str]]).decode
_field_of = lru_cache(MOST_CELLS)(cell_field)
_answer_of = msgspec.json.Decoder(tuple[str, ...]).decode


class _Named(dict[str | bytes, Cell]):
    """Field -> cell, decoded once; begun anew when it is full."""

    def __init__(self, decode: Callable[[str | bytes], Cell]) -> None:
        super().__init__()
        self._decode = decode

    def __missing__(self, field: str | bytes) -> Cell:
        if len(self) >= MOST_CELLS:
            self.clear()
        self[field] = cell = self._decode(field)
        return cell


_CELLS: Mapping[Part, Mapping[str | bytes, Cell]] = {
    Part.ANSWERS: _Named(_answer_of),
    Part.LATENCY: _Named(lambda bucket: LATENCY_CELLS[int(bucket)]),
    Part.DELAY: _Named(lambda bucket: DELAY_CELLS[int(bucket)]),
}


def parts_of(cells: Cells) -> list[list[str | int]]:
    """The counts of each part, field and number in turn, as the commit script adds them."""
    answers, latency, delay = list[str | int](), list[str | int](), list[str | int]()
    sketches = {"latency": latency, "delay": delay}
    for cell, n in cells.items():
        into = sketches.get(cell[0])
        if into is None:
            answers += (_field_of(cell), n)
        else:
            into += (cell[1], n)
    return [answers, latency, delay]


def whole_of(rows: Iterable[Mapping[bytes, bytes]]) -> Counts:
    """A pane from the hashes of its parts, those of each shard in the order of ``PREFIXES``."""
    total: dict[Cell, int] = {}
    for part, row in zip(cycle(PREFIXES), rows, strict=False):
        cells = _CELLS[part]
        for field, n in row.items():
            if field != VERSION_BYTES:
                cell = cells[field]
                total[cell] = total.get(cell, 0) + int(n)
    return Counts({cell: n for cell, n in total.items() if n})


class _Held(NamedTuple):
    """A part of a pane: for each shard the version and the counts, and all of them together."""

    name: str
    versions: tuple[str, ...]
    cells: tuple[Cells, ...]
    counts: Counts

    @property
    def weight(self) -> int:
        return PANE_WEIGHT + sum(map(len, self.cells))


class _Shelf:
    """Parts of panes, the least recently asked for first; for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[PaneKey, Part], _Held] = OrderedDict()
        self._weight = 0

    def get(self, wanted: Sequence[tuple[PaneKey, Part]]) -> list[_Held | None]:
        with self._lock:
            found = [self._held.get(one) for one in wanted]
            for one, held in zip(wanted, found, strict=True):
                if held is not None:
                    self._held.move_to_end(one)
        return found

    def put(self, read: Mapping[tuple[PaneKey, Part], _Held]) -> None:
        with self._lock:
            for one, held in read.items():
                old = self._held.pop(one, None)
                self._held[one] = held
                self._weight += held.weight - (old.weight if old is not None else 0)
            while self._weight > MOST_HELD:
                self._weight -= self._held.popitem(last=False)[1].weight


class RedisPanes:
    """Reads panes of one namespace."""

    def __init__(self, client: RedisClient, space: RedisNamespace, shards: int) -> None:
        self._client, self._space, self._shards = client, space, shards
        self._shelf = _Shelf()

    def ask(self, pipe: Any, shard: int, pane: PaneKey) -> None:  # noqa: ANN401 - a redis pipeline
        """Ask for all parts of a pane, for ``whole_of``."""
        member = pane_member(pane)
        for prefix in PREFIXES.values():
            pipe.hgetall(self._space.key(shard, prefix + member))

    def whole(self, keys: Sequence[PaneKey]) -> list[Counts]:
        """The panes in the order asked for, in one round trip; an unknown pane is empty."""
        pipe = self._client.commands.pipeline(transaction=False)
        for pane in keys:
            for shard in range(self._shards):
                self.ask(pipe, shard, pane)
        rows = pipe.execute()
        size = self._shards * len(PREFIXES)
        return [whole_of(rows[at * size : (at + 1) * size]) for at in range(len(keys))]

    def part(self, keys: Sequence[PaneKey], part: Part) -> list[Counts]:
        """One part of each pane, in the order asked for; the same object while nothing changed."""
        wanted = [(pane, part) for pane in keys]
        held = dict(zip(wanted, self._shelf.get(wanted), strict=True))
        known = {one: found or self._unread(one) for one, found in held.items()}
        changed: dict[tuple[PaneKey, Part], dict[int, tuple[str, Cells]]] = {}
        asked = list(known.items())
        for shard in range(self._shards):
            for at in range(0, len(asked), READ_AT_ONCE):
                some = asked[at : at + READ_AT_ONCE]
                for number, row in self._changed(shard, [found for _, found in some]):
                    changed.setdefault(some[number][0], {})[shard] = _read(part, row)
        read = {one: _renewed(known[one], rows) for one, rows in changed.items()}
        self._shelf.put(read)
        known.update(read)
        return [known[one].counts for one in wanted]

    def _unread(self, wanted: tuple[PaneKey, Part]) -> _Held:
        pane, part = wanted
        return _Held(
            PREFIXES[part] + pane_member(pane),
            (UNREAD,) * self._shards,
            ({},) * self._shards,
            Counts(),
        )

    def _changed(self, shard: int, asked: Sequence[_Held]) -> Iterator[tuple[int, list[str]]]:
        """What has another version now: its place in ``asked``, fields and values in turn."""
        names = [text for held in asked for text in (held.name, held.versions[shard])]
        keys = self._space.keys(shard)
        found = self._client.commands.eval_ro(
            scripts.READ, len(keys), *keys, self._space.key(shard), _pack(names)
        )
        answer = _changed(cast(bytes, found))
        for at in range(0, len(answer), 2):
            number, row = answer[at : at + 2]
            assert isinstance(number, int)
            assert isinstance(row, list)
            yield number, row


def _read(part: Part, row: list[str]) -> tuple[str, Cells]:
    """Version and counts; "" and none of a hash that is not there."""
    if not row:
        return "", {}
    at = row.index(VERSION)
    version, cells = row[at + 1], _CELLS[part]
    del row[at : at + 2]
    pairs = zip(row[::2], row[1::2], strict=True)
    return version, {cells[field]: int(n) for field, n in pairs if n != "0"}


def _renewed(held: _Held, read: Mapping[int, tuple[str, Cells]]) -> _Held:
    versions, cells = list(held.versions), list(held.cells)
    for shard, (version, found) in read.items():
        versions[shard], cells[shard] = version, found
    counts = Counts(cells[0]) if len(cells) == 1 else merge(map(Counts, cells))
    return _Held(held.name, tuple(versions), tuple(cells), counts)
