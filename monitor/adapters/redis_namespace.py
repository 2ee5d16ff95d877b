"""One namespace in Redis: the names of its keys and fields, and its own record.

Key names, all below the namespace (``tag`` is ``{namespace:shard}``):

======================================  ========  =================================================
``{namespace:meta}``                    hash      format, shards, buckets, shape: fixed at creation
``{namespace:rules}:lease``             hash      owner, fence, until: who may evaluate
``{namespace:rules}:lease:OFFICE``      hash      the same for another office
``{namespace:rules}:evaluation``        hash      sequence and state of the evaluator, delivered:
                                                  how many transitions have left the outbox,
                                                  published: the last sequence in the journal topic,
                                                  masked: see ``redis_history``
``{namespace:rules}:transitions``       list      every transition, oldest first
``{namespace:rules}:journal``           stream    ``SEQUENCE-0``, ``e``: journal entry
``{namespace:rules}:settings``          hash      digest -> settings under which entries were made
``{namespace:rules}:actions``           list      all that people did about alerts, oldest first
``{namespace:rules}:deliveries``        hash      receiver -> how far it has been told
``{namespace:rules}:forget``            hash      request -> prediction ids, until it is carried out
``{namespace:rules}:heartbeats``        hash      worker -> last sign of life
``{namespace:rules}:voices``            zset      conversations that voted, by the release
``tag:cut``                             hash      partition -> next offset, frontier, last log time
``tag:e:BUCKET``                        hash      prediction id -> packed entry
``tag:names``                           hash      code -> name, see ``codec.vocabulary``
``tag:ledger``                          hash      counter -> count
``tag:p:CLOCK:SIZE:START:KEY``          string    one pane, in pieces: see ``redis_panes``
``tag:panes:SIZE``                      zset      panes by the log time at which they are dropped
``tag:commits``                         hash      commits begun and ended, to tell half of one
``tag:keys``                            set       variants and slices counted so far
``tag:votes``                           zset      waiting votes by release
``tag:misses``                          zset      the newest misses by event time
``tag:erased``                          hash      the last request carried out -> cut at that moment
``tag:dropped``                         string    how often entries were dropped, as they are when
                                                  they expire or are forgotten
``tag:sweep``                           string    bucket at which sweeping goes on
``tag:probe``                           any       tried and removed when a worker starts
``tag:whole``                           none      never there; see ``redis_scripts``
======================================  ========  =================================================
"""

from collections.abc import Mapping

import msgspec

from monitor.adapters import redis_scripts as scripts
from monitor.adapters.redis_client import KEEPS_ALL, RedisClient
from monitor.codec import snapshots
from monitor.domain.cut import Progress
from monitor.domain.errors import StoreError
from monitor.domain.events import Partition
from monitor.domain.misses import Miss
from monitor.domain.slices import SliceKey
from monitor.domain.votes import Vote
from monitor.domain.windows import Clock, PaneKey


class RedisNamespace:
    """Names its keys; ``open`` creates or checks it. Its text is address and name."""

    def __init__(self, client: RedisClient, name: str, *, read_only: bool) -> None:
        self._client, self._name, self._read_only = client, name, read_only

    def __str__(self) -> str:
        """As every message begins."""
        return f"{self._client}: namespace {self._name}"

    @property
    def meta_key(self) -> str:
        """The key of its own record."""
        return f"{{{self._name}:meta}}"

    def key(self, shard: int, name: str = "") -> str:
        """A key of a shard; without a name, what its keys begin with."""
        return f"{{{self._name}:{shard}}}:{name}"

    def keys(self, shard: int) -> list[str]:
        """Those that a script of a shard names; it makes up the others."""
        return [self.key(shard, "cut"), self.key(shard, "whole")]

    def rules_key(self, name: str = "") -> str:
        """A key of the evaluator; without a name, what its keys begin with."""
        return f"{{{self._name}:rules}}:{name}"

    def rules_keys(self, *names: str) -> list[str]:
        """Those that a script of the evaluator names."""
        return [self.rules_key(name) for name in (*names, "whole")]

    def open(self, shards: int, buckets: int, shape: Mapping[str, str]) -> tuple[int, int]:
        """Create or check the namespace; its shards and buckets.

        StoreError when the server may drop keys or refuses a right, or the namespace holds
        something else than is asked for; a reader asks for less.
        """
        if not self._read_only:
            self._refuse_eviction()
        held = self._settle(shards, buckets)
        self._keep_shape(shape)
        if not self._read_only:
            self._probe_rights(held[0])
        return held

    def _refuse_eviction(self) -> None:
        policy = self._client.eviction_policy()
        if policy not in (None, KEEPS_ALL):
            raise StoreError(
                f"{self._client}: Redis has maxmemory-policy {policy}: it may drop keys when "
                "memory runs short, and counts would be wrong without a sign; set it to "
                f"{KEEPS_ALL}"
            )

    def _settle(self, shards: int, buckets: int) -> tuple[int, int]:
        wanted = {"format": snapshots.FORMAT_VERSION, "shards": shards, "buckets": buckets}
        texts = self._record({field: str(value) for field, value in wanted.items()})
        held = {field: int(texts[field]) for field in wanted if field in texts}
        if not held and self._read_only:
            return shards, buckets
        if held.get("format") != wanted["format"]:
            raise StoreError(
                f"{self} was created with format {held.get('format')}, by another release: this "
                f"one writes {wanted['format']}. Run that release, or choose another "
                "redis.namespace, which is counted anew from Kafka"
            )
        for field, value in wanted.items():
            if held.get(field) != value and not self._read_only:
                raise StoreError(
                    f"{self} was created with {field} {held.get(field)}, but {value} is asked for; "
                    f"set redis.{field} to {held.get(field)}, or choose another redis.namespace"
                )
        return held["shards"], held["buckets"]

    def _keep_shape(self, shape: Mapping[str, str]) -> None:
        """Keep the settings that give the counts their meaning, and refuse others."""
        kept = self._record(shape)
        for setting, text in shape.items():
            held = kept.get(setting, text)
            if held != text:
                raise StoreError(
                    f"{self} has counted with {setting} {held}, but {text} is asked for: old and "
                    f"new counts would not fit together. Take {setting} back, or choose another "
                    "redis.namespace and let it read the topics from the start"
                )

    def _record(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """The namespace's own record, with what is wanted where it has nothing yet.

        Only that is written: a server without memory left opens what it has.
        """
        key, commands = self.meta_key, self._client.commands
        held = self._client.hash_at(key)
        missing = [field for field in wanted if field.encode() not in held]
        if missing and not self._read_only:
            for field in missing:
                commands.hsetnx(key, field, wanted[field])
            held = self._client.hash_at(key)
        return {field.decode(): text.decode() for field, text in held.items()}

    def _probe_rights(self, shards: int) -> None:
        """In every shard, for the nodes of a cluster may differ in the rights that they give."""
        probe = self._client.commands.register_script(scripts.PROBE)
        for prefix in (*map(self.key, range(shards)), self.rules_key()):
            probe(keys=[f"{prefix}probe", f"{prefix}whole"])


def partition_field(partition: Partition) -> str:
    """A partition as a field of the cut."""
    return f"{partition.partition}:{partition.topic}"


def partition_of(field: bytes) -> Partition:
    """What ``partition_field`` wrote."""
    number, topic = field.decode().split(":", 1)
    return Partition(topic, int(number))


def progress_field(progress: Progress | None) -> str:
    """How far a partition has come; "" for a partition never read."""
    return "{},{},{}".format(*progress) if progress is not None else ""


def progress_of(value: bytes) -> Progress:
    """What ``progress_field`` wrote; never ""."""
    return Progress(*map(int, value.split(b",")))


def vote_field(vote: Vote | None) -> str:
    """A vote as a member; "" for none."""
    return snapshots.pack_vote(vote).decode() if vote else ""


def miss_member(miss: Miss | None) -> str:
    """A miss as a member; "" for none."""
    return snapshots.pack_miss(miss).decode() if miss else ""


def slice_key_of(member: bytes | str) -> SliceKey:
    """A variant and slice, as JSON."""
    return _slice_key_of(member)


_slice_key_of = msgspec.json.Decoder(SliceKey).decode


def pane_member(pane: PaneKey) -> str:
    """A pane as part of its key, and as member of the panes of its size."""
    key = msgspec.json.encode(pane.key).decode()
    return f"{pane.clock}:{pane.size_ms}:{pane.start_ms}:{key}"


def pane_of(member: bytes) -> PaneKey:
    """What ``pane_member`` wrote."""
    clock, size_ms, start_ms, key = member.decode().split(":", 3)
    return PaneKey(Clock(clock), int(size_ms), int(start_ms), slice_key_of(key))
