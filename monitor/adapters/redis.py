"""The store in Redis (or Valkey), from version 7.0; one shard is one hash slot.

Entries stand in hashes of about a hundred, which Redis keeps as one compact list each: about 60
bytes for a prediction that waits, where a key of its own takes 150 to 190. An entry with its label
is longer than ``hash-max-listpack-value`` (64 by default) and makes its bucket a hash table of
about 130 bytes an entry; a server with that option at 256 keeps the list, at about 100.

A commit is one script: it compares the cut, and every touched entry where somebody else has
committed since it was loaded, then writes everything. The client never retries by itself; a commit
whose answer was lost is found out from the cut. Nothing has an expiry, and nothing is left out of a
commit because the client remembers having written it: the server may have lost it since.
"""

import secrets
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, count
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitor.adapters import redis_scripts as scripts
from monitor.adapters.redis_client import RedisClient, RedisConnection
from monitor.adapters.redis_history import RedisHistory
from monitor.adapters.redis_namespace import (
    RedisNamespace,
    miss_member,
    pane_member,
    pane_of,
    partition_field,
    partition_of,
    progress_field,
    progress_of,
    slice_key_of,
    vote_field,
)
from monitor.adapters.redis_panes import (
    LONG_BYTES,
    MOST_FOLDED,
    RedisPanes,
    Touched,
    piece_of,
    whole_of,
)
from monitor.codec import snapshots
from monitor.codec.journal import pack_journal_entry, unpack_journal_entry
from monitor.codec.notices import without_ids
from monitor.codec.vocabulary import NOTHING, code_of
from monitor.domain import ledger as books
from monitor.domain.alerts import CONVERSATION_MS, Transition
from monitor.domain.counts import Cells, Counts, Part
from monitor.domain.cut import Cut
from monitor.domain.engine import Changes
from monitor.domain.errors import CommitConflict, StoreError
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import PredictionId
from monitor.domain.forgetting import Request, examples_in, masked
from monitor.domain.join import EMPTY, HOUR_MS, RETENTION_SLACK_MS, Entry
from monitor.domain.journal import JournalEntry
from monitor.domain.misses import Miss
from monitor.domain.overlays import Action
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.votes import Vote
from monitor.domain.windows import ALL_TIME, PaneKey
from monitor.ports import (
    EVALUATOR,
    MISSES_KEPT,
    MOST_UNPUBLISHED,
    Backlog,
    Heartbeat,
    Lease,
    Mark,
    Picture,
    ServerVitals,
    are_level,
    is_forgotten,
    shard_of,
)

SWEEPS_PER_HORIZON = 4
"""How often every bucket is looked at while a prediction waits: an entry outlives its end by a
quarter of the horizon at most."""

MAX_SWEPT_BUCKETS = 4_000
"""Most buckets that one sweep of one shard looks at."""

FIRST_SWEPT_BUCKETS = 256
"""Buckets looked at by the first sweep of a client: one that is opened again and again, since the
server is out of memory, makes room with it."""

MOST_AT_ONCE = 500
"""Entries that one command names: a script cannot hand over more than some thousand arguments."""

VOTES_LOOKED_AT = 10_000
"""Votes that are looked at in one round trip for those that are to be forgotten."""

OPENING_BYTES = 6
"""Random bytes that tell the commits of one opening of the store from those of another; as text,
half of a version."""

UNKNOWN = b""
"""A state that no shard has."""


class _State:
    """In which state a shard is to be if what was loaded of it last still holds, own commits apart.

    Each commit raises the first number of a state by one. What was loaded is compared entry by
    entry where nobody can tell: two loads were made of one state each, or a commit failed, or has
    yet to end.
    """

    def __init__(self) -> None:
        self._expected: bytes | None = None
        self._begun = self._ended = self._failed = 0

    def mark(self) -> tuple[int, int]:
        """To be handed to ``loaded`` by a load that is begun now."""
        return self._begun, self._failed

    def loaded(self, state: bytes, mark: tuple[int, int]) -> None:
        """Something was loaded in this state, before all commits begun since ``mark``."""
        begun, failed = mark
        expected = UNKNOWN
        if failed == self._failed:
            commits, dropped = state.split(b"/")
            expected = b"%d/%s" % (int(commits) + self._begun - begun, dropped)
        self._expected = expected if self._expected in (None, expected) else UNKNOWN

    @property
    def expected(self) -> bytes:
        """What a commit that is begun now is to find."""
        is_clear = self._begun == self._ended
        return self._expected if self._expected and is_clear else UNKNOWN

    def begun(self) -> None:
        """A commit is under way."""
        self._begun += 1
        self._expected = None

    @contextmanager
    def ending(self) -> Iterator[None]:
        """A commit ends; when with an error, nothing is known any more of what came of it."""
        self._ended += 1
        try:
            yield
        except BaseException:
            self._failed += 1
            self._expected = None if self._expected is None else UNKNOWN
            raise


_NONE = ("", "", "")
"""What a script is given for a journal entry where there is none."""

_pack = msgspec.msgpack.Encoder().encode
_ids_of = msgspec.json.Decoder(tuple[PredictionId, ...]).decode
_beat_of = msgspec.json.Decoder(Heartbeat).decode


_Held = Mapping[PredictionId, bytes | None]
"""Packed entries, None for those that are not there."""

_Answer = TypeVar("_Answer")


class _ByBucket(NamedTuple):
    """Ids sorted by bucket: the names of the buckets, how many ids of each, and which in turn."""

    buckets: list[str]
    runs: list[int]
    order: list[int]


class RedisStore:
    """State of one namespace. One for each worker, used by one thread.

    Once a writer has raised a StoreError that means a lost connection, it does so for every call:
    open another one, and read the cut. ``read_only`` never writes, not even the namespace's own
    record, connects anew by itself, and may be shared by threads: for dashboards and reports.
    ``shape`` names the settings that must stay as they are. StoreError when Redis cannot be
    reached, drops keys when memory runs short (unless ``read_only``), or holds the namespace in
    another format or shape, with other shards or buckets.
    """

    def __init__(
        self,
        connection: RedisConnection,
        namespace: str,
        *,
        shards: int = 1,
        buckets: int = 4096,
        keep_ms: Mapping[int, int] | None = None,
        shape: Mapping[str, str] | None = None,
        read_only: bool = False,
    ) -> None:
        self._keep_ms = dict(keep_ms or {})
        self._swept_ms: int | None = None
        self._raw: snapshots.Known = {}
        self._placed: tuple[list[PredictionId], _ByBucket] = [], _ByBucket([], [], [])
        self._connected = RedisClient(connection)
        self._client = self._connected.commands
        self._space = RedisNamespace(self._connected, namespace, read_only=read_only)
        with ExitStack() as opened:
            opened.callback(self._connected.close)
            with self._connected.reaching():
                self._shards, self._buckets = self._space.open(shards, buckets, shape or {})
            opened.pop_all()
        self._panes = RedisPanes(self._connected, self._space, self._shards)
        self._touched = Touched(self._shards)
        self._history = RedisHistory(self._connected, self._space)
        self._opening = secrets.token_urlsafe(OPENING_BYTES)
        self._evaluated: tuple[bytes, Evaluation] | None = None
        self._aside = ThreadPoolExecutor(1, "aside")
        self._asked: Future[Any] | None = None
        self._states = [_State() for _ in range(self._shards)]
        self._is_crowded = False
        self._register()
        self._names: list[dict[bytes, str]] = [{NOTHING: ""} for _ in range(self._shards)]
        self._unpackers = [snapshots.Unpacker(self._name_of(n)) for n in range(self._shards)]
        if not read_only:
            self._connected.seal()

    @property
    def shards(self) -> int:
        """Number of shards, fixed when the namespace was created."""
        return self._shards

    def load(self, shard: int, ids: Iterable[PredictionId]) -> dict[PredictionId, Entry]:
        """The entries that exist among ``ids``, in one round trip."""
        return self.begin_load(shard, ids)()

    def begin_load(
        self, shard: int, ids: Iterable[PredictionId]
    ) -> Callable[[], dict[PredictionId, Entry]]:
        """Everything is made ready here; a thread of its own asks, once commits before it are over.

        The entries are unpacked when they are waited for.
        """
        wanted = list(ids)
        if not wanted:
            return dict
        by_bucket = self._by_bucket(wanted)
        mark = self._states[shard].mark()
        asked = self._ask_aside(partial(self._held, shard, _asking_for(wanted, by_bucket)))

        def end() -> dict[PredictionId, Entry]:
            state, found = _in_order(by_bucket.order, asked.result())
            self._placed = wanted, by_bucket
            self._states[shard].loaded(state, mark)
            packed = {key: raw for key, raw in zip(wanted, found, strict=True) if raw is not None}
            entries = self._unpackers[shard].entries(packed)
            pairs = zip(entries.values(), packed.values(), strict=True)
            self._raw = dict(zip(packed, pairs, strict=True))
            return entries

        return end

    def _held(self, shard: int, payload: bytes) -> list[Any]:
        """State of the shard, and what each bucket holds of what was asked for."""
        with self._connected.reaching():
            answer = self._load(
                keys=self._space.keys(shard), args=[self._space.key(shard), payload]
            )
        return cast(list[Any], answer)

    def _ask_aside(self, ask: Callable[[], _Answer]) -> "Future[_Answer]":
        """In turn, in a thread of its own."""
        self._asked = asked = self._aside.submit(ask)
        return asked

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Reach the server from the calling thread: there is one connection, so once it is free."""
        if self._asked is not None:
            wait([self._asked])
        with self._connected.reaching():
            yield

    def _packed(self, shard: int, ids: Sequence[PredictionId]) -> _Held:
        """The entries of these ids as they are held, if they are."""
        by_bucket = self._by_bucket(ids)
        _, found = _in_order(by_bucket.order, self._held(shard, _asking_for(ids, by_bucket)))
        return dict(zip(ids, found, strict=True))

    def _by_shard(self, ids: Iterable[PredictionId]) -> dict[int, list[PredictionId]]:
        """Each id once."""
        found: dict[int, list[PredictionId]] = {}
        for key in sorted(set(ids)):
            found.setdefault(shard_of(key, self._shards), []).append(key)
        return dict(sorted(found.items()))

    def commit(self, shard: int, expected: Cut, changes: Changes) -> None:
        """Apply at once, or raise CommitConflict and apply nothing."""
        self.begin_commit(shard, expected, changes)()

    def begin_commit(self, shard: int, expected: Cut, changes: Changes) -> Callable[[], None]:
        """Everything is made ready here; a thread of its own sends it and waits for the answer.

        What the entries were is compared where the shard has moved since they were loaded.
        """
        names = self._names_in(changes)
        state = self._states[shard].expected
        ids = list(changes.entries)
        # Most often all that was loaded has changed.
        by_bucket = self._placed[1] if self._placed[0] == ids else self._by_bucket(ids)
        panes = list(map(pane_member, changes.cells))
        told: list[bytes | str | int] = [
            _pack(_document(expected, changes, state, self._opening, by_bucket, len(names))),
            *_in_binary(changes.entries, self._raw, by_bucket.order),
            *self._additions(changes.cells, panes),
            *(part for item in names.items() for part in item),
        ]

        def ask() -> list[bytes]:
            answer = [b"MOVED"]
            if state != UNKNOWN and not self._is_crowded:
                answer = self._told(shard, told)
            if answer[0] == b"MOVED":
                olds = self._olds(changes, by_bucket.order)
                answer = self._told(shard, [*told, *olds])
            return answer

        asked = self._ask_aside(ask)
        self._states[shard].begun()

        def end() -> None:
            with self._states[shard].ending():
                done, *long = asked.result()
                self._refuse_unless_applied(shard, done)
            if changes.entries and state != UNKNOWN:
                # Where several workers share a shard it moves again and again: do not ask twice.
                self._is_crowded = done == b"COMPARED"
            self._names[shard].update(names)
            self._touched.add(shard, panes)
            if long:
                with self._reaching():
                    self._panes.fold(shard, [name.decode() for name in long])

        return end

    def _refuse_unless_applied(self, shard: int, done: bytes) -> None:
        """Raise unless a commit was applied."""
        if done in (b"OK", b"COMPARED"):
            return
        if done == b"HALF":
            raise self._half(f"shard {shard}")
        if done.startswith(b"CLASH"):
            raise self._clash(done[6:].decode())
        raise CommitConflict(f"shard {shard}: {done.decode(errors='replace')} has changed")

    def _told(self, shard: int, arguments: Sequence[bytes | str | int]) -> list[bytes]:
        """What the script says to a commit."""
        with self._connected.reaching():
            answer = self._commit(
                keys=self._space.keys(shard), args=[self._space.key(shard), *arguments]
            )
        return cast(list[bytes], answer)

    def _names_in(self, changes: Changes) -> dict[bytes, str]:
        """Code -> name for every name in the entries."""
        names = {NOTHING: ""}
        for name in sorted(snapshots.names_in(changes.entries.values())):
            code = code_of(name)
            if names.setdefault(code, name) != name:
                raise self._clash(f"{names[code]} / {name}")
        del names[NOTHING]
        return names

    def _clash(self, names: str) -> StoreError:
        return StoreError(
            f"{self._space}: two names have the same code ({names}); "
            "rename one of these intents, variants or slice values"
        )

    def _half(self, what: str) -> StoreError:
        return StoreError(
            f"{self._space}: {what} holds half of a commit, so the numbers are wrong: the server's "
            "append-only file was cut off, and loaded twice since. Choose a fresh redis.namespace, "
            "which is counted anew from Kafka, and see docs/redis.md on aof-load-truncated"
        )

    def _additions(
        self, cells: Mapping[PaneKey, Cells], names: Sequence[str]
    ) -> list[bytes | str | int]:
        """Of each pane its name, size, when it is dropped, and what is added."""
        arguments: list[bytes | str | int] = []
        for name, (pane, added) in zip(names, cells.items(), strict=True):
            arguments += (name, pane.size_ms, self._drop_at(pane), piece_of(added))
        return arguments

    def sweep(self, watermark_ms: int, horizon_ms: int) -> None:
        """Drop dropped panes, and expired entries in as many buckets as log time has earned.

        Panes to which nothing was added for a while are put together, so that they take no more
        than what is in them.
        """
        for shard, names in self._touched.settled():
            with self._reaching():
                self._panes.fold(shard, names)
        if self._swept_ms is None:
            earned = FIRST_SWEPT_BUCKETS
        else:
            passed_ms = watermark_ms - self._swept_ms
            earned = passed_ms * SWEEPS_PER_HORIZON * self._buckets // horizon_ms
            if not earned:
                return
        last_hour = (watermark_ms - HOUR_MS - horizon_ms - RETENTION_SLACK_MS) // HOUR_MS
        count = min(earned, MAX_SWEPT_BUCKETS, self._buckets)
        for shard in range(self._shards):
            with self._reaching():
                self._sweep(
                    keys=self._space.keys(shard),
                    args=[
                        *(self._space.key(shard), self._buckets, count, last_hour, watermark_ms),
                        watermark_ms - horizon_ms,
                        *self._keep_ms,
                    ],
                )
        with self._reaching():
            last_ms = watermark_ms - CONVERSATION_MS
            self._client.zremrangebyscore(self._space.rules_key("voices"), "-inf", last_ms)
        self._swept_ms = watermark_ms

    def waiting(self, before_ms: int, limit: int | None = None) -> list[Vote]:
        """Votes of all shards released before ``before_ms``, in release order, the earliest."""
        found: list[Vote] = []
        start, number = (None, None) if limit is None else (0, limit)
        for shard in range(self._shards):
            with self._reaching():
                rows = self._client.zrangebyscore(
                    self._space.key(shard, "votes"), "-inf", f"({before_ms}", start, number
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
                self._client.zrem(self._space.key(shard, "votes"), *members)

    def hold(self, votes: Iterable[Vote]) -> None:
        """Let votes wait again."""
        by_shard: dict[int, dict[bytes, int]] = {}
        for vote in votes:
            shard = shard_of(vote.prediction_id, self._shards)
            by_shard.setdefault(shard, {})[snapshots.pack_vote(vote)] = vote.release_ms
        for shard, members in by_shard.items():
            with self._reaching():
                self._client.zadd(self._space.key(shard, "votes"), members)

    def spoken(self, voices: Iterable[str]) -> dict[str, int]:
        """Those that have spoken, with the release of their latest vote."""
        asked = list(voices)
        if not asked:
            return {}
        with self._reaching():
            found = self._client.zmscore(self._space.rules_key("voices"), asked)
        told = zip(asked, found, strict=True)
        return {voice: int(at_ms) for voice, at_ms in told if at_ms is not None}

    def lead(self, worker: str, lease_ms: int, office: str = EVALUATOR) -> Lease | None:
        """Ask to hold an office, or to keep it."""
        keys = self._space.rules_keys(_lease_key(office))
        with self._reaching():
            fence = self._lead(keys=keys, args=[worker, lease_ms])
        return None if fence is None else Lease(worker, int(fence), office)

    def resign(self, lease: Lease) -> None:
        """Let another worker take over at once."""
        with self._reaching():
            self._resign(
                keys=self._space.rules_keys(_lease_key(lease.office)),
                args=[lease.worker, lease.fence],
            )

    def commit_evaluation(
        self,
        evaluation: Evaluation,
        transitions: Sequence[Transition],
        lease: Lease,
        spoken: Mapping[str, int] | None = None,
        entry: JournalEntry | None = None,
    ) -> None:
        """Save all at once, or raise CommitConflict."""
        _refuse_unless_of(EVALUATOR, lease)
        state = snapshots.pack_evaluation(evaluation)
        journaled = (pack_journal_entry(entry), entry.settings, entry.document) if entry else _NONE
        names = ("lease", "evaluation", "transitions", "voices", "journal", "settings")
        with self._reaching():
            answer = self._evaluate(
                keys=self._space.rules_keys(*names),
                args=[
                    *(lease.worker, lease.fence),
                    *(evaluation.sequence - 1, evaluation.sequence, state),
                    len(transitions),
                    *journaled,
                    *map(snapshots.pack_transition, transitions),
                    *(part for voice in (spoken or {}).items() for part in voice),
                ],
            )
        if answer == b"HALF":
            raise self._half("the evaluation")
        _refuse_unless_ok(answer)
        self._evaluated = state, evaluation

    def outbox(self, limit: int = 100) -> list[Transition]:
        """Transitions that are yet to be delivered, oldest first."""
        with self._reaching():
            rows = self._outbox(
                keys=self._space.rules_keys("evaluation", "transitions"), args=[limit]
            )
        return [snapshots.unpack_transition(row) for row in rows]

    def delivered(self, transitions: Sequence[Transition], lease: Lease) -> None:
        """Take these out of the outbox, or raise CommitConflict."""
        _refuse_unless_of(EVALUATOR, lease)
        with self._reaching():
            answer = self._delivered(
                keys=self._space.rules_keys("lease", "evaluation", "transitions"),
                args=[lease.worker, lease.fence, *(transition.id for transition in transitions)],
            )
        _refuse_unless_ok(answer)

    def unpublished(self, limit: int = 1_000) -> list[JournalEntry]:
        """Journal entries that are yet to be published, oldest first."""
        with self._reaching():
            rows = self._unpublished(
                keys=self._space.rules_keys("evaluation", "journal"), args=[limit]
            )
        return [unpack_journal_entry(fields[1]) for _, fields in rows]

    def published(self, sequence: int, lease: Lease) -> None:
        """Entries up to ``sequence`` stand in the topic, or raise CommitConflict."""
        _refuse_unless_of(EVALUATOR, lease)
        with self._reaching():
            answer = self._published(
                keys=self._space.rules_keys("lease", "evaluation"),
                args=[lease.worker, lease.fence, sequence],
            )
        _refuse_unless_ok(answer)

    def act(self, action: Action) -> None:
        """Enter what somebody did, once."""
        with self._reaching():
            self._act(
                keys=self._space.rules_keys("actions"),
                args=[action.id, snapshots.pack_action(action)],
            )

    def ask_to_forget(self, request: Request) -> None:
        """Keep a request until it is fulfilled."""
        with self._reaching():
            self._client.hset(
                self._space.rules_key("forget"), request.id, msgspec.json.encode(request.ids)
            )

    def to_forget(self) -> list[Request]:
        """The requests that are yet to be carried out."""
        with self._reaching():
            rows = self._connected.hash_at(self._space.rules_key("forget"))
        return [Request(key.decode(), _ids_of(ids)) for key, ids in sorted(rows.items())]

    def known(self, ids: Iterable[PredictionId]) -> set[PredictionId]:
        """Those among ``ids`` of which something is held."""
        asked = set(ids)
        found = asked & examples_in(self.transitions(), self.evaluation())
        for shard, mine in self._by_shard(asked).items():
            with self._reaching():
                held = self._packed(shard, mine).items()
                found.update(key for key, packed in held if packed is not None)
                votes = map(snapshots.unpack_vote, self._votes_of(shard, frozenset(mine)))
                found.update(PredictionId(vote.prediction_id) for vote in votes)
                misses = map(snapshots.unpack_miss, self._misses_of(shard, frozenset(mine)))
                found.update(miss.prediction_id for miss in misses)
        return found

    def erase(self, request: Request) -> dict[int, Cut]:
        """Remove everything but counts; the cuts of the shards concerned, as they were then."""
        cuts = {
            shard: self._erased_in(shard, request.id, ids)
            for shard, ids in self._by_shard(request.ids).items()
        }
        ids = frozenset(request.ids)
        while arguments := self._to_mask(ids):
            with self._reaching():
                keys = self._space.rules_keys("transitions", "deliveries", "evaluation")
                mark = secrets.token_urlsafe(OPENING_BYTES)
                self._mask(keys=keys, args=[mark, *arguments])
        return cuts

    def _erased_in(self, shard: int, request_id: str, ids: Sequence[PredictionId]) -> Cut:
        """Its cut when it had forgotten them; goes on until nobody writes to them meanwhile."""
        while True:
            with self._reaching():
                rows = [
                    part
                    for key, raw in self._packed(shard, ids).items()
                    for part in (self._bucket(key), key, raw or b"")
                ]
                votes = list(self._votes_of(shard, frozenset(ids)))
                misses = self._misses_of(shard, frozenset(ids))
                numbers = len(ids), len(votes)
                answer, lines = self._erase(
                    keys=self._space.keys(shard),
                    args=[self._space.key(shard), request_id, *numbers, *rows, *votes, *misses],
                )
            if answer == b"OK":
                parts = lines.split(b"\n") if lines else []
                return _cut_of(dict(zip(parts[::2], parts[1::2], strict=True)))

    def _votes_of(self, shard: int, ids: Collection[str]) -> Iterator[bytes]:
        """The waiting votes of these ids; each part begins with the release that ends the last."""
        least, limit = "-inf", VOTES_LOOKED_AT
        while True:
            found = self._client.zrangebyscore(
                self._space.key(shard, "votes"), least, "+inf", 0, limit
            )
            rows = cast(list[bytes], found)
            votes = [snapshots.unpack_vote(row) for row in rows]
            yield from (r for r, vote in zip(rows, votes, strict=True) if vote.prediction_id in ids)
            if len(rows) < limit:
                return
            if least == str(votes[-1].release_ms):
                limit *= 2
            least = str(votes[-1].release_ms)

    def _misses_of(self, shard: int, ids: Collection[str]) -> list[bytes]:
        """The misses of these ids."""
        rows = cast(list[bytes], self._client.zrange(self._space.key(shard, "misses"), 0, -1))
        return [row for row in rows if snapshots.unpack_miss(row).prediction_id in ids]

    def _to_mask(self, ids: Collection[str]) -> list[bytes | str | int]:
        """Transitions and tellings that name one of the ids, as they are and as they are to be."""
        with self._reaching():
            rows = self._client.lrange(self._space.rules_key("transitions"), 0, -1)
            told = self._connected.hash_at(self._space.rules_key("deliveries"))
        arguments: list[bytes | str | int] = []
        for number, row in enumerate(cast(list[bytes], rows)):
            transition = snapshots.unpack_transition(row)
            without = masked(transition, ids.__contains__)
            if without != transition:
                arguments += (number, row, snapshots.pack_transition(without))
        arguments.insert(0, len(arguments) // 3)
        for receiver, text in told.items():
            new = without_ids(text.decode(), ids)
            if new != text.decode():
                arguments += (receiver, text, new)
        return arguments if len(arguments) > 1 else []

    def fulfilled(self, request_id: str) -> None:
        """Drop a request, with the ids in it."""
        with self._reaching():
            self._client.hdel(self._space.rules_key("forget"), request_id)

    def delivery(self, receiver: str) -> str:
        """What was saved for a receiver; "" for nothing."""
        with self._reaching():
            state = self._client.hget(self._space.rules_key("deliveries"), receiver)
        return cast(bytes, state or b"").decode()

    def save_delivery(self, receiver: str, state: str, lease: Lease) -> None:
        """Save how far a receiver has been told, or raise CommitConflict."""
        _refuse_unless_of(receiver, lease)
        with self._reaching():
            answer = self._save_delivery(
                keys=self._space.rules_keys(_lease_key(receiver), "deliveries"),
                args=[lease.worker, lease.fence, receiver, state],
            )
        _refuse_unless_ok(answer, receiver)

    def beat(self, heartbeat: Heartbeat) -> None:
        """Replace one worker's sign of life, and drop those that are a day older."""
        key = self._space.rules_key("heartbeats")
        with self._reaching():
            self._client.hset(key, heartbeat.worker, msgspec.json.encode(heartbeat))
            signs = map(_beat_of, self._client.hvals(key))
            gone = [sign.worker for sign in signs if is_forgotten(sign, heartbeat)]
            if gone:
                self._client.hdel(key, *gone)

    def cuts(self) -> list[Cut]:
        """How far each shard has come."""
        with self._reaching():
            rows = self._pipelined(lambda pipe, shard: pipe.hgetall(self._space.key(shard, "cut")))
        return [_cut_of(row) for row in rows]

    def marks(self) -> list[Mark]:
        """Cut and books of each shard, all shards in one round trip.

        A shard to which somebody committed in the meantime, as its count of commits shows, is
        asked again.
        """
        names = ("commits", "cut", "ledger", "commits")
        found: dict[int, Mark] = {}
        while missing := [shard for shard in range(self._shards) if shard not in found]:
            with self._reaching():
                pipe = self._client.pipeline(transaction=False)
                for shard in missing:
                    for name in names:
                        pipe.hgetall(self._space.key(shard, name))
                rows = pipe.execute()
            for at, shard in enumerate(missing):
                before, cut, ledger, after = rows[at * len(names) : (at + 1) * len(names)]
                if before == after:
                    found[shard] = Mark(_cut_of(cut), _ledger_of(ledger))
        return [found[shard] for shard in range(self._shards)]

    def picture(self, sizes: Collection[int], panes: Sequence[PaneKey]) -> Picture | None:
        """All that a report reads, of one instant; None when somebody committed meanwhile.

        Nothing is decoded before all of it has come, so that it takes as little time as possible.
        """
        evaluation, transitions = self.evaluation(), self.transitions()
        with self._reaching():
            rows = self._shot(sizes, panes)
            state = self._client.hget(self._space.rules_key("evaluation"), "state")
        still = Evaluation() if state is None else snapshots.unpack_evaluation(cast(bytes, state))
        if evaluation.sequence != still.sequence or any(row[0] != row[-1] for row in rows):
            return None
        marks = [Mark(_cut_of(row[1]), _ledger_of(row[2])) for row in rows]
        if not are_level(marks):
            return None
        past = 4 + len(sizes)
        names = {member for row in rows for member in row[3]}
        return Picture(
            marks,
            evaluation,
            transitions,
            sorted(slice_key_of(member) for member in names),
            {
                size_ms: sorted({pane_of(member) for row in rows for member in row[4 + at]})
                for at, size_ms in enumerate(sizes)
            },
            {
                pane: whole_of(row[at] for row in rows)
                for at, pane in zip(count(past), panes, strict=False)
            },
        )

    def _shot(self, sizes: Collection[int], panes: Sequence[PaneKey]) -> list[list[Any]]:
        """Of each shard: commits, cut, books, names, pane keys, panes, and commits once more."""
        pipe = self._client.pipeline(transaction=False)
        for shard in range(self._shards):
            for name in ("commits", "cut", "ledger"):
                pipe.hgetall(self._space.key(shard, name))
            pipe.smembers(self._space.key(shard, "keys"))
            for size_ms in sizes:
                pipe.zrange(self._space.key(shard, f"panes:{size_ms}"), 0, -1)
            for pane in panes:
                self._panes.ask(pipe, shard, pane)
            pipe.hgetall(self._space.key(shard, "commits"))
        rows = pipe.execute()
        length = 5 + len(sizes) + len(panes)
        return [rows[at : at + length] for at in range(0, len(rows), length)]

    def ledger(self) -> Mapping[str, int]:
        """The books of all shards added up."""
        with self._reaching():
            rows = self._pipelined(
                lambda pipe, shard: pipe.hgetall(self._space.key(shard, "ledger"))
            )
        return books.merged([_ledger_of(row) for row in rows])

    def slice_keys(self) -> list[SliceKey]:
        """Every variant and slice counted so far."""
        with self._reaching():
            rows = self._pipelined(
                lambda pipe, shard: pipe.smembers(self._space.key(shard, "keys"))
            )
        found = {member for row in rows for member in row}
        return sorted(slice_key_of(member) for member in found)

    def panes(self, keys: Sequence[PaneKey], part: Part | None = None) -> list[Counts]:
        """The panes in the order asked for; an unknown pane is empty.

        What was read of a part before is kept, and read anew only where a commit has changed it.
        """
        with self._reaching():
            return self._panes.whole(keys) if part is None else self._panes.part(keys, part)

    def pane_keys(self, size_ms: int) -> list[PaneKey]:
        """Every stored pane of one size."""
        with self._reaching():
            rows = self._pipelined(
                lambda pipe, shard: pipe.zrange(self._space.key(shard, f"panes:{size_ms}"), 0, -1)
            )
        return sorted({pane_of(member) for row in rows for member in row})

    def evaluation(self) -> Evaluation:
        """What the evaluator last committed; the same object while it has not changed."""
        with self._reaching():
            held = self._client.hget(self._space.rules_key("evaluation"), "state")
        if held is None:
            return Evaluation()
        state, known = cast(bytes, held), self._evaluated
        if known is None or known[0] != state:
            known = self._evaluated = state, snapshots.unpack_evaluation(state)
        return known[1]

    def transitions(self) -> list[Transition]:
        """Every transition, oldest first; what was read before is kept, and not read again."""
        with self._reaching():
            return self._history.read()

    def backlog(self) -> Backlog:
        """What is yet to be handed on."""
        evaluation = self._space.rules_key("evaluation")
        with self._reaching():
            pipe = self._client.pipeline(transaction=False)
            for field in ("sequence", "published", "delivered"):
                pipe.hget(evaluation, field)
            pipe.hgetall(self._space.rules_key("deliveries"))
            *counts, told = pipe.execute()
            sequence, published, delivered = (int(count or 0) for count in counts)
            pipe = self._client.pipeline(transaction=False)
            pipe.lrange(self._space.rules_key("transitions"), delivered, -1)
            first = min(published, sequence) + 1
            pipe.xrange(
                self._space.rules_key("journal"), f"{first}-0", f"{sequence}-0", MOST_UNPUBLISHED
            )
            undelivered, unpublished = pipe.execute()
        deliveries = {name.decode(): state.decode() for name, state in sorted(told.items())}
        return Backlog(len(undelivered), len(unpublished), deliveries)

    def vitals(self) -> ServerVitals:
        """What the server tells of itself. StoreError when it does not answer."""
        return self._connected.vitals()

    def touch(self) -> None:
        """One small read, to see how long the server takes. StoreError when it does not answer."""
        with self._reaching():
            self._connected.hash_at(self._space.meta_key)

    def actions(self) -> list[Action]:
        """All that people did, oldest first."""
        with self._reaching():
            rows = self._client.lrange(self._space.rules_key("actions"), 0, -1)
        return [snapshots.unpack_action(row) for row in cast(list[bytes], rows)]

    def misses(self, limit: int = MISSES_KEPT) -> list[Miss]:
        """The newest misses by event time, oldest first."""
        if limit < 1:
            return []
        with self._reaching():
            rows = self._pipelined(
                lambda pipe, shard: pipe.zrange(self._space.key(shard, "misses"), -limit, -1)
            )
        return sorted(snapshots.unpack_miss(row) for found in rows for row in found)[-limit:]

    def journal(self, after: int = 0, limit: int = 1_000) -> list[JournalEntry]:
        """Entries with a sequence above ``after``, oldest first."""
        with self._reaching():
            rows = self._client.xrange(
                self._space.rules_key("journal"), f"{after + 1}-0", "+", count=limit
            )
        return [
            unpack_journal_entry(fields[b"e"])
            for _, fields in cast(list[tuple[bytes, dict[bytes, bytes]]], rows)
        ]

    def documents(self) -> dict[str, str]:
        """Settings digest -> document."""
        with self._reaching():
            rows = self._connected.hash_at(self._space.rules_key("settings"))
        return {digest.decode(): document.decode() for digest, document in rows.items()}

    def heartbeats(self) -> list[Heartbeat]:
        """The workers' last signs of life."""
        with self._reaching():
            rows = self._client.hgetall(self._space.rules_key("heartbeats"))
        return [_beat_of(row) for _, row in sorted(rows.items())]

    def eviction_policy(self) -> str | None:
        """What the server drops when its memory is full: ``noeviction``, as a worker demands.

        None when the server tells it to nobody with our rights.
        """
        return self._connected.eviction_policy()

    def close(self) -> None:
        """Close the connections; of a commit that is under way the cut says whether it was done."""
        self._connected.close()
        self._aside.shutdown(cancel_futures=True)
        self._asked = None

    def _register(self) -> None:
        register = self._client.register_script
        self._load, self._commit = register(scripts.LOAD), register(scripts.COMMIT)
        self._sweep = register(scripts.SWEEP)
        self._erase, self._mask = register(scripts.ERASE), register(scripts.MASK)
        self._lead, self._resign = register(scripts.LEAD), register(scripts.RESIGN)
        self._evaluate = register(scripts.EVALUATE)
        self._outbox, self._delivered = register(scripts.OUTBOX), register(scripts.DELIVERED)
        self._unpublished = register(scripts.UNPUBLISHED)
        self._published = register(scripts.PUBLISHED)
        self._save_delivery, self._act = register(scripts.SAVE_DELIVERY), register(scripts.ACT)

    def _bucket(self, prediction_id: str) -> int:
        return int(self._buckets_of([prediction_id.encode()])[0])

    def _buckets_of(self, ids: Sequence[bytes]) -> NDArray[np.uint64]:
        """Knuth's multiplicative hash of a checksum: ids that count up are spread as well."""
        sums = np.fromiter(map(zlib.adler32, ids), np.uint64, len(ids))
        return sums * np.uint64(2_654_435_761) % np.uint64(2**32) % np.uint64(self._buckets)

    def _by_bucket(self, ids: Sequence[PredictionId]) -> _ByBucket:
        """One command for each bucket is enough, as long as it does not name too many ids."""
        if not ids:
            return _ByBucket([], [], [])
        found = self._buckets_of([key.encode() for key in ids])
        order = np.argsort(found, kind="stable")
        sorted_, number = found[order], np.arange(len(ids))
        is_first = np.append(True, sorted_[1:] != sorted_[:-1])
        since = number - number[is_first][np.cumsum(is_first) - 1]
        begins = np.flatnonzero(since % MOST_AT_ONCE == 0)
        return _ByBucket(
            list(map(str, sorted_[begins].tolist())),
            np.diff(begins, append=len(ids)).tolist(),
            order.tolist(),
        )

    def _olds(self, changes: Changes, order: Sequence[int]) -> list[bytes]:
        ids = list(changes.entries)
        return [self._old(ids[at], changes.loaded.get(ids[at], EMPTY)) for at in order]

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
                    held = self._connected.hash_at(self._space.key(shard, "names"))
                names.update({k: v.decode() for k, v in held.items()})
            if code not in names:
                raise StoreError(
                    f"{self._space} has lost the names of its codes; "
                    "set maxmemory-policy to noeviction, and choose a new redis.namespace"
                )
            return names[code]

        return name_of

    def _pipelined(self, ask: Callable[[Any, int], object]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for shard in range(self._shards):
            ask(pipe, shard)
        return pipe.execute()


def _asking_for(ids: Sequence[PredictionId], by_bucket: _ByBucket) -> bytes:
    """Ids by bucket, as the script that loads them reads them."""
    buckets, runs, order = by_bucket
    return _pack({"buckets": buckets, "runs": runs, "ids": [ids[at] for at in order]})


def _in_order(order: Sequence[int], answer: list[Any]) -> tuple[bytes, list[bytes | None]]:
    """The state, and the packed entries in the order asked for, from what the script told."""
    state, *rows = answer
    found = np.empty(len(order), dtype=object)
    found[order] = list(chain.from_iterable(rows))
    return state, found.tolist()


def _document(
    expected: Cut,
    changes: Changes,
    state: bytes,
    opening: str,
    by_bucket: _ByBucket,
    names: int,
) -> dict[str, object]:
    """A commit as the script reads it, but for what is in binary."""
    return {
        "opening": opening,
        "state": state.decode(),
        "entries": len(by_bucket.order),
        "buckets": by_bucket.buckets,
        "runs": by_bucket.runs,
        "panes": len(changes.cells),
        "names": names,
        "long": LONG_BYTES,
        "most_long": MOST_FOLDED,
        "cut": [
            [partition_field(p), progress_field(expected.get(p)), progress_field(progress)]
            for p, progress in changes.progress.items()
        ],
        "ledger": [part for item in changes.ledger.items() for part in item],
        "keys": [
            msgspec.json.encode(key).decode()
            for key in dict.fromkeys(pane.key for pane in changes.cells)
            if key.variant != ALL
        ],
        "votes": [
            [
                vote_field(change.old),
                vote_field(change.new),
                str(change.new.release_ms) if change.new else "0",
            ]
            for change in changes.votes
        ],
        "misses": [
            [
                miss_member(change.old),
                miss_member(change.new),
                str(change.new.event_ms) if change.new else "0",
            ]
            for change in changes.misses
        ],
        "misses_kept": MISSES_KEPT,
    }


def _in_binary(
    entries: Mapping[PredictionId, Entry], known: snapshots.Known, order: Sequence[int]
) -> tuple[bytes, bytes, bytes]:
    """Of each entry the lengths of id and packed form; all ids; all packed forms."""
    ids, packed = list(entries), snapshots.pack_entries(entries, known)
    keys = [ids[at].encode() for at in order]
    news = [packed[at] for at in order]
    sizes = np.empty((len(keys), 2), "<u4")
    sizes[:, 0] = np.fromiter(map(len, keys), np.uint32, len(keys))
    sizes[:, 1] = np.fromiter(map(len, news), np.uint32, len(news))
    return sizes.tobytes(), b"".join(keys), b"".join(news)


def _cut_of(row: Mapping[bytes, bytes]) -> Cut:
    return {partition_of(field): progress_of(value) for field, value in sorted(row.items())}


def _ledger_of(row: Mapping[bytes, bytes]) -> dict[str, int]:
    return {name.decode(): int(count) for name, count in row.items()}


def _lease_key(office: str) -> str:
    return "lease" if office == EVALUATOR else f"lease:{office}"


def _refuse_unless_of(office: str, lease: Lease) -> None:
    if lease.office != office:
        raise CommitConflict(f"a lease of {lease.office} gives no right to the office {office}")


def _refuse_unless_ok(answer: bytes, office: str = EVALUATOR) -> None:
    if answer != b"OK":
        raise CommitConflict(f"another {office} was faster: {answer.decode(errors='replace')}")
