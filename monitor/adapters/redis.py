"""The store in Redis (or Valkey), from version 7.0; one shard is one hash slot.

Key names, all below the namespace (``tag`` is ``{namespace:shard}``):

======================================  ========  =================================================
``{namespace:meta}``                    hash      format, shards, buckets, shape: fixed at creation
``{namespace:rules}:evaluation``        hash      sequence and state of the evaluator
``{namespace:rules}:transitions``       list      every transition, oldest first
``{namespace:rules}:heartbeats``        hash      worker -> last sign of life
``tag:cut``                             hash      partition -> next offset, frontier, last log time
``tag:e:BUCKET``                        hash      prediction id -> packed entry
``tag:names``                           hash      code -> name, see ``codec.vocabulary``
``tag:ledger``                          hash      counter -> count
``tag:p:CLOCK:SIZE:START:KEY``          hash      cell -> count, one pane
``tag:panes:SIZE``                      zset      panes by the log time at which they are dropped
``tag:keys``                            set       variants and slices counted so far
``tag:votes``                           zset      waiting votes by release
``tag:sweep``                           string    bucket at which sweeping goes on
======================================  ========  =================================================

Entries stand in hashes of about a hundred, which Redis keeps as one compact list each: about 60
bytes for a prediction that waits, where a key of its own takes 150 to 190. An entry with its label
is longer than ``hash-max-listpack-value`` (64 by default) and makes its bucket a hash table of
about 130 bytes an entry; a server with that option at 256 keeps the list, at about 100.

A commit is one script: it compares the cut and every touched entry, then writes everything. The
client never retries by itself; a commit whose answer was lost is found out from the cut.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from monitor.adapters import redis_scripts as scripts
from monitor.codec import snapshots
from monitor.codec.vocabulary import NOTHING, code_of
from monitor.domain import ledger as books
from monitor.domain.alerts import Transition, Vote
from monitor.domain.counts import Cell, Counts, merge, without_zeros
from monitor.domain.cut import Cut, Progress
from monitor.domain.engine import Changes
from monitor.domain.errors import CommitConflict, StoreError
from monitor.domain.events import Partition, PredictionId
from monitor.domain.join import EMPTY, HOUR_MS, RETENTION_SLACK_MS, Entry
from monitor.domain.slices import SliceKey
from monitor.domain.windows import ALL_TIME, Clock, PaneKey
from monitor.ports import Evaluation, Heartbeat, is_forgotten, shard_of

SWEEPS_PER_HORIZON = 4
"""How often every bucket is looked at while a prediction waits: an entry outlives its end by a
quarter of the horizon at most."""

MAX_SWEPT_BUCKETS = 4_000
"""Most buckets that one sweep of one shard looks at."""

_pack = msgspec.msgpack.Encoder().encode
_cell_of = msgspec.json.Decoder(tuple[str, ...]).decode
_beat_of = msgspec.json.Decoder(Heartbeat).decode


class RedisStore:
    """State of one namespace. One for each worker; what ``StateReader`` names may be shared.

    ``read_only`` never writes, not even the namespace's own record: for dashboards and reports.
    ``shape`` names the settings that must stay as they are. StoreError when Redis cannot be
    reached, or holds the namespace in another format or shape, with other shards or buckets.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        *,
        shards: int = 1,
        buckets: int = 4096,
        keep_ms: Mapping[int, int] | None = None,
        timeout_s: float = 5.0,
        shape: Mapping[str, str] | None = None,
        read_only: bool = False,
    ) -> None:
        self._place = _masked(url)
        self._namespace = namespace
        self._keep_ms = dict(keep_ms or {})
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        with self._reaching():
            self._load = self._client.register_script(scripts.LOAD)
            self._commit = self._client.register_script(scripts.COMMIT)
            self._sweep = self._client.register_script(scripts.SWEEP)
            self._evaluate = self._client.register_script(scripts.EVALUATE)
            self._shards, self._buckets = self._open(shards, buckets, read_only=read_only)
            self._keep_shape(shape or {}, read_only=read_only)
        self._names: list[dict[bytes, str]] = [{NOTHING: ""} for _ in range(self._shards)]
        self._keys: list[set[bytes]] = [set() for _ in range(self._shards)]
        self._raw: dict[PredictionId, tuple[Entry, bytes]] = {}
        self._swept_ms: int | None = None

    @property
    def shards(self) -> int:
        """Number of shards, fixed when the namespace was created."""
        return self._shards

    def load(self, shard: int, ids: Iterable[PredictionId]) -> dict[PredictionId, Entry]:
        """The entries that exist among ``ids``, in one round trip."""
        wanted = list(ids)
        if not wanted:
            return {}
        payload = _pack([part for key in wanted for part in (self._bucket(key), key)])
        with self._reaching():
            found = self._load(keys=[self._key(shard, "cut")], args=[self._key(shard), payload])
        self._raw.clear()
        entries: dict[PredictionId, Entry] = {}
        for key, raw in zip(wanted, found, strict=True):
            if raw is not None:
                entries[key] = snapshots.unpack_entry(key, raw, self._name_of(shard))
                self._raw[key] = entries[key], raw
        return entries

    def commit(self, shard: int, expected: Cut, changes: Changes) -> None:
        """Apply at once, or raise CommitConflict and apply nothing."""
        names = self._new_names(shard, changes)
        keys = {msgspec.json.encode(pane.key) for pane in changes.cells} - self._keys[shard]
        arguments: list[bytes | str | int] = [
            self._key(shard),
            _pack(self._additions(expected, changes, keys)),
        ]
        for key, entry in changes.entries.items():
            old = self._old(key, changes.loaded[key])
            arguments += (self._bucket(key), key, old, snapshots.pack_entry(entry))
        for code, name in names.items():
            arguments += (code, name)
        with self._reaching():
            answer = self._commit(keys=[self._key(shard, "cut")], args=arguments)
        if answer == b"OK":
            self._names[shard].update(names)
            self._keys[shard] |= keys
        elif answer.startswith(b"CLASH"):
            raise self._clash(answer[6:].decode())
        else:
            # A server that has lost its data conflicts first: then it must be told these again.
            self._names[shard], self._keys[shard] = {NOTHING: ""}, set()
            raise CommitConflict(f"shard {shard}: {answer.decode(errors='replace')} has changed")

    def _new_names(self, shard: int, changes: Changes) -> dict[bytes, str]:
        """Code -> name for what this client has not yet seen in the store."""
        known, new = self._names[shard], dict[bytes, str]()
        for entry in changes.entries.values():
            for name in snapshots.names_in(entry):
                code = code_of(name)
                if known.get(code) != name and new.setdefault(code, name) != name:
                    raise self._clash(f"{new[code]} / {name}")
        return new

    def _clash(self, names: str) -> StoreError:
        return StoreError(
            f"{self._place}: two names have the same code ({names}); "
            "rename one of these intents, variants or slice values"
        )

    def _additions(self, expected: Cut, changes: Changes, keys: set[bytes]) -> dict[str, object]:
        """All of a commit but the entries, as the script reads it."""
        return {
            "entries": len(changes.entries),
            "cut": [
                [_partition_field(p), _progress(expected.get(p)), _progress(progress)]
                for p, progress in changes.progress.items()
            ],
            "ledger": [part for item in changes.ledger.items() for part in item],
            "panes": [
                [
                    _pane_member(pane),
                    str(pane.size_ms),
                    self._drop_at(pane),
                    [part for cell, n in cells.items() for part in (_cell_field(cell), n)],
                ]
                for pane, cells in changes.cells.items()
            ],
            "keys": [key.decode() for key in keys],
            "votes": [
                [
                    _vote_field(change.old),
                    _vote_field(change.new),
                    str(change.new.release_ms) if change.new else "0",
                ]
                for change in changes.votes
            ],
        }

    def sweep(self, watermark_ms: int, horizon_ms: int) -> None:
        """Drop dropped panes, and expired entries in as many buckets as log time has earned."""
        since = watermark_ms if self._swept_ms is None else self._swept_ms
        earned = (watermark_ms - since) * SWEEPS_PER_HORIZON * self._buckets // horizon_ms
        if self._swept_ms is not None and not earned:
            return
        last_hour = (watermark_ms - HOUR_MS - horizon_ms - RETENTION_SLACK_MS) // HOUR_MS
        count = min(earned, MAX_SWEPT_BUCKETS, self._buckets)
        for shard in range(self._shards):
            with self._reaching():
                self._sweep(
                    keys=[self._key(shard, "cut")],
                    args=[
                        *(self._key(shard), self._buckets, count, last_hour, watermark_ms),
                        *self._keep_ms,
                    ],
                )
        self._swept_ms = watermark_ms

    def waiting(self, before_ms: int, limit: int | None = None) -> list[Vote]:
        """Votes of all shards released before ``before_ms``, in release order, the earliest."""
        found: list[Vote] = []
        start, number = (None, None) if limit is None else (0, limit)
        for shard in range(self._shards):
            with self._reaching():
                rows = self._client.zrangebyscore(
                    self._key(shard, "votes"), "-inf", f"({before_ms}", start, number
                )
            found += [snapshots.unpack_vote(row) for row in cast(list[bytes], rows)]
        return sorted(found)[:limit]

    def forget(self, votes: Iterable[Vote]) -> None:
        """Remove released votes."""
        by_shard: dict[int, list[bytes]] = {}
        for vote in votes:
            shard = shard_of(vote.prediction_id, self._shards)
            by_shard.setdefault(shard, []).append(snapshots.pack_vote(vote))
        for shard, members in by_shard.items():
            with self._reaching():
                self._client.zrem(self._key(shard, "votes"), *members)

    def commit_evaluation(self, evaluation: Evaluation, transitions: Sequence[Transition]) -> None:
        """Save both at once, or raise CommitConflict."""
        state = snapshots.pack_evaluation(
            evaluation.sequence, evaluation.watermark_ms, evaluation.states, evaluation.releasing
        )
        with self._reaching():
            answer = self._evaluate(
                keys=[self._rules_key("evaluation"), self._rules_key("transitions")],
                args=[
                    *(evaluation.sequence - 1, evaluation.sequence, state),
                    *map(snapshots.pack_transition, transitions),
                ],
            )
        if answer != b"OK":
            raise CommitConflict(f"another evaluator was faster ({answer.decode()})")

    def beat(self, heartbeat: Heartbeat) -> None:
        """Replace one worker's sign of life, and drop those that are a day older."""
        key = self._rules_key("heartbeats")
        with self._reaching():
            self._client.hset(key, heartbeat.worker, msgspec.json.encode(heartbeat))
            signs = map(_beat_of, self._client.hvals(key))
            gone = [sign.worker for sign in signs if is_forgotten(sign, heartbeat)]
            if gone:
                self._client.hdel(key, *gone)

    def cuts(self) -> list[Cut]:
        """How far each shard has come."""
        with self._reaching():
            rows = self._pipelined(lambda pipe, shard: pipe.hgetall(self._key(shard, "cut")))
        return [
            {_partition_of(field): _progress_of(value) for field, value in sorted(row.items())}
            for row in rows
        ]

    def ledger(self) -> Mapping[str, int]:
        """The books of all shards added up."""
        with self._reaching():
            rows = self._pipelined(lambda pipe, shard: pipe.hgetall(self._key(shard, "ledger")))
        return books.merged([{k.decode(): int(n) for k, n in row.items()} for row in rows])

    def slice_keys(self) -> list[SliceKey]:
        """Every variant and slice counted so far."""
        with self._reaching():
            rows = self._pipelined(lambda pipe, shard: pipe.smembers(self._key(shard, "keys")))
        found = {member for row in rows for member in row}
        return sorted(msgspec.json.decode(member, type=SliceKey) for member in found)

    def panes(self, keys: Sequence[PaneKey]) -> list[Counts]:
        """The panes in the order asked for, in one round trip; an unknown pane is empty."""
        with self._reaching():
            pipe = self._client.pipeline(transaction=False)
            for pane in keys:
                for shard in range(self._shards):
                    pipe.hgetall(self._key(shard, f"p:{_pane_member(pane)}"))
            rows = pipe.execute()
        parts = [Counts({_cell_of(cell): int(n) for cell, n in row.items()}) for row in rows]
        size = self._shards
        return [
            Counts(without_zeros(merge(parts[at * size : (at + 1) * size]).cells))
            for at in range(len(keys))
        ]

    def pane_keys(self, size_ms: int) -> list[PaneKey]:
        """Every stored pane of one size."""
        with self._reaching():
            rows = self._pipelined(
                lambda pipe, shard: pipe.zrange(self._key(shard, f"panes:{size_ms}"), 0, -1)
            )
        return sorted({_pane_of(member) for row in rows for member in row})

    def evaluation(self) -> Evaluation:
        """What the evaluator last committed."""
        with self._reaching():
            state = self._client.hget(self._rules_key("evaluation"), "state")
        if state is None:
            return Evaluation()
        return Evaluation(*snapshots.unpack_evaluation(cast(bytes, state)))

    def transitions(self) -> list[Transition]:
        """Every transition, oldest first."""
        with self._reaching():
            rows = self._client.lrange(self._rules_key("transitions"), 0, -1)
        return [snapshots.unpack_transition(row) for row in cast(list[bytes], rows)]

    def heartbeats(self) -> list[Heartbeat]:
        """The workers' last signs of life."""
        with self._reaching():
            rows = self._client.hgetall(self._rules_key("heartbeats"))
        return [_beat_of(row) for _, row in sorted(rows.items())]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _open(self, shards: int, buckets: int, *, read_only: bool) -> tuple[int, int]:
        """Create or check the namespace's own record; its shards and buckets."""
        key = f"{{{self._namespace}:meta}}"
        wanted = {"format": snapshots.FORMAT_VERSION, "shards": shards, "buckets": buckets}
        if not read_only:
            for field, value in wanted.items():
                self._client.hsetnx(key, field, value)
        held = {k.decode(): int(v) for k, v in self._hash(key).items() if k.decode() in wanted}
        if not held and read_only:
            return shards, buckets
        for field, value in wanted.items():
            if held.get(field) != value and not (read_only and field != "format"):
                raise StoreError(
                    f"{self._place}: namespace {self._namespace} was created with "
                    f"{field} {held.get(field)}, but {value} is asked for; set redis.{field} to "
                    f"{held.get(field)}, or choose another redis.namespace"
                )
        return held["shards"], held["buckets"]

    def _keep_shape(self, shape: Mapping[str, str], *, read_only: bool) -> None:
        """Keep the settings that give the counts their meaning, and refuse others."""
        key = f"{{{self._namespace}:meta}}"
        if not read_only:
            for setting, text in shape.items():
                self._client.hsetnx(key, setting, text)
        kept = {k.decode(): v.decode() for k, v in self._hash(key).items()}
        for setting, text in shape.items():
            held = kept.get(setting, text)
            if held != text:
                raise StoreError(
                    f"{self._place}: namespace {self._namespace} has counted with {setting} "
                    f"{held}, but {text} is asked for: old and new counts would not fit "
                    f"together. Take {setting} back, or choose another redis.namespace and let it "
                    "read the topics from the start"
                )

    def _key(self, shard: int, name: str = "") -> str:
        return f"{{{self._namespace}:{shard}}}:{name}"

    def _rules_key(self, name: str) -> str:
        return f"{{{self._namespace}:rules}}:{name}"

    def _bucket(self, prediction_id: str) -> int:
        return zlib.adler32(prediction_id.encode()) * 2_654_435_761 % 2**32 % self._buckets

    def _old(self, key: PredictionId, entry: Entry) -> bytes:
        """What the script must find: the bytes as they were loaded, b"" for nothing at all."""
        if entry == EMPTY:
            return b""
        loaded = self._raw.get(key)
        return loaded[1] if loaded and loaded[0] is entry else snapshots.pack_entry(entry)

    def _drop_at(self, pane: PaneKey) -> str:
        keep_ms = self._keep_ms.get(pane.size_ms)
        if pane.size_ms == ALL_TIME or keep_ms is None:
            return "+inf"
        return str(pane.start_ms + pane.size_ms + keep_ms)

    def _name_of(self, shard: int) -> Callable[[bytes], str]:
        names = self._names[shard]

        def name_of(code: bytes) -> str:
            if code not in names:
                with self._reaching():
                    held = self._hash(self._key(shard, "names"))
                names.update({k: v.decode() for k, v in held.items()})
            if code not in names:
                raise StoreError(
                    f"{self._place}: namespace {self._namespace} has lost the names of its codes; "
                    "set maxmemory-policy to noeviction, and choose a new redis.namespace"
                )
            return names[code]

        return name_of

    def _hash(self, key: str) -> dict[bytes, bytes]:
        return cast(dict[bytes, bytes], self._client.hgetall(key))

    def _pipelined(self, ask: Callable[[Any, int], object]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for shard in range(self._shards):
            ask(pipe, shard)
        return pipe.execute()

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            secret = str(self._client.get_connection_kwargs().get("password") or "")
            raise StoreError(explain(error, self._place, secret)) from error


def explain(error: redis.RedisError, place: str, secret: str = "") -> str:
    """What a failure of the client means to an operator, without ``secret``.

    A server that does not know a command quotes its arguments, those of AUTH included.
    """
    if isinstance(error, redis.AuthenticationError):
        return f"{place}: Redis refuses the password or user; check redis.url"
    if isinstance(error, redis.TimeoutError):
        return f"{place}: Redis does not answer in time; check its load, or raise redis.timeout"
    if isinstance(error, redis.BusyLoadingError):
        return f"{place}: Redis is still loading its data; try again in a moment"
    if isinstance(error, redis.ConnectionError):
        return f"{place}: Redis is unreachable; check redis.url and that the server runs"
    said = str(error).replace(secret, "***") if secret else str(error)
    return f"{place}: Redis refused a command: {said}"


def _masked(url: str) -> str:
    parts = urlsplit(url)
    place = parts.hostname or parts.path
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{place}{port}{parts.path if parts.hostname else ''}"


def _partition_field(partition: Partition) -> str:
    return f"{partition.partition}:{partition.topic}"


def _partition_of(field: bytes) -> Partition:
    number, topic = field.decode().split(":", 1)
    return Partition(topic, int(number))


def _progress(progress: Progress | None) -> str:
    return "{},{},{}".format(*progress) if progress is not None else ""


def _progress_of(value: bytes) -> Progress:
    return Progress(*map(int, value.split(b",")))


def _cell_field(cell: Cell) -> str:
    return msgspec.json.encode(cell).decode()


def _vote_field(vote: Vote | None) -> str:
    return snapshots.pack_vote(vote).decode() if vote else ""


def _pane_member(pane: PaneKey) -> str:
    key = msgspec.json.encode(pane.key).decode()
    return f"{pane.clock}:{pane.size_ms}:{pane.start_ms}:{key}"


def _pane_of(member: bytes) -> PaneKey:
    clock, size_ms, start_ms, key = member.decode().split(":", 3)
    return PaneKey(
        Clock(clock), int(size_ms), int(start_ms), msgspec.json.decode(key, type=SliceKey)
    )
