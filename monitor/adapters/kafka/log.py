"""The two topics as one consumer reads them, alone or with others of its group.

The client never chooses a place: a member of a group has none before the first seek, and nobody
has one when the log has dropped the record that was to be read next. Both show as a grown
``generation``.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata

from monitor.adapters.kafka.bulk import read_in_bulk
from monitor.adapters.kafka.connection import (
    ANSWER_TIMEOUT_MS,
    LEAVE_TIMEOUT_MS,
    KafkaConnection,
    opened,
    translated,
)
from monitor.adapters.kafka.faults import created_anew, missing, shortened
from monitor.adapters.kafka.placed import PlacedLog
from monitor.domain.errors import BrokerError
from monitor.domain.events import Kind, NextOffsets, Partition, Record

JOIN_WAIT_MS = 5_000
"""How long a poll may wait for a rebalance to end; there is nothing to read meanwhile."""

HEARTBEAT_MS = 3_000
"""Milliseconds between two heartbeats of a group member."""

PATIENCE_MS = (500, 1_000, 2_000, 4_000, 8_000, 16_000)
"""How long the answer to a question about offsets is waited for, before it is asked anew."""

COMMIT_TIMEOUT_MS = 5_000
"""How long a commit may take; nothing depends on it."""

LOOK_AROUND_MS = 30_000
"""How old the list of partitions and brokers may grow; those added are found within a minute."""

Assignor = Literal["range", "cooperative-sticky"]
Isolation = Literal["read_committed", "read_uncommitted"]

_ASSIGNORS: Mapping[Assignor, object] = {
    "range": RangePartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}


@dataclass(frozen=True, slots=True)
class ConsumerGroup:
    """Workers that share the partitions. ``instance_id`` makes this one a static member.

    A static member that comes back within the session timeout takes up its partitions without a
    rebalance; of two at once with the same id the older one gets a BrokerError.

    All members must have the same ``assignor``. Cooperative-sticky moves fewer partitions, but the
    embedded broker never gets through such a rebalance: range is right everywhere.
    """

    name: str
    instance_id: str | None = None
    session_timeout_ms: int = 45_000
    assignor: Assignor = "range"

    def options(self) -> dict[str, object]:
        """The same in the client library's words."""
        return {
            "group_id": self.name,
            "group_instance_id": self.instance_id,
            "session_timeout_ms": self.session_timeout_ms,
            "heartbeat_interval_ms": min(HEARTBEAT_MS, self.session_timeout_ms // 3),
            "partition_assignment_strategy": [_ASSIGNORS[self.assignor]],
        }


class KafkaLog(PlacedLog):
    """The two topics, as a member of ``group``, or all partitions on its own when there is none.

    A poll that meets a rebalance returns [], so that the reader can seek before the first record
    of a new assignment; records of a partition that was taken away are never returned. A member
    reads nothing of a partition before the first seek, whatever the group has committed; on its
    own the log begins at the oldest records. A record without a timestamp has log time 0.
    ``wait_ms`` bounds a poll that finds nothing, except that during a rebalance it takes up to
    ``JOIN_WAIT_MS`` more. A broker that restarts is waited for: nothing comes meanwhile.

    The client library is bypassed where it takes most of its time, see ``bulk``.

    BrokerError from the constructor when no broker answers or a topic is missing; topics are never
    created here. After a poll failed the log is closed.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topics: Mapping[Kind, str],
        group: ConsumerGroup | None = None,
        *,
        isolation_level: Isolation = "read_committed",
        wait_ms: int = 200,
        look_around_ms: int = LOOK_AROUND_MS,
    ) -> None:
        super().__init__(connection)
        self._topics = topics
        self._wait_ms = max(1, wait_ms)
        self._failed_polls = 0
        self._is_in_group = group is not None
        self._is_pausing = False
        self._fenced: Exception | None = None
        self._held: frozenset[Partition] = frozenset()
        self._group_generation = -1
        self._topic_ids: dict[str, object] = {}
        self._consumer = opened(
            KafkaConsumer,
            connection,
            auto_offset_reset="none",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            isolation_level=isolation_level,
            metadata_max_age_ms=look_around_ms,
            # The broker answers in turn: whoever asks for an end waits until a fetch is over.
            fetch_max_wait_ms=self._wait_ms,
            **(group.options() if group else {}),
        )
        read_in_bulk(self._consumer._fetcher)
        try:
            with translated(connection, "looking for the topics"):
                self._begin()
        except BrokerError:
            self.close()
            raise

    def poll(self, max_records: int, wait_ms: int | None = None) -> list[Record]:
        """The next records, each partition in offset order; ``wait_ms`` for this poll alone.

        [] also after a rebalance, and when a partition has no place to read on from. BrokerError
        as well when the log has become shorter than what was read of it, or is another one.
        """
        try:
            with self._asking("reading"):
                if self._fenced is not None:
                    raise self._fenced
                self._assign_added()
                self._make_room_for_resumed()
                fetched = self._fetched(max_records, self._wait_ms if wait_ms is None else wait_ms)
                self._check_same_topics()
                if self._notice_rebalance():
                    self._give_back(fetched or {})
                    return []
            if fetched is None:
                self._generation += 1
                return []
            return [record for found in fetched.values() for record in found]
        except BrokerError:
            self.close()
            raise

    def partitions(self) -> frozenset[Partition]:
        """All partitions of both topics; those added later appear within ``LOOK_AROUND_MS``.

        BrokerError when a topic is gone.
        """
        with self._asking("listing partitions"):
            numbers = {
                (kind, topic): self._consumer.partitions_for_topic(topic)
                for kind, topic in self._topics.items()
            }
        for (kind, topic), found in numbers.items():
            if not found:
                raise missing(self._connection, kind, topic)
        return frozenset(
            Partition(topic, number) for (_, topic), found in numbers.items() for number in found
        )

    def oldest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """Offset of the oldest record that each partition still holds; its end if it holds none.

        Records that compaction has removed leave holes behind it, and do not move it.
        """
        with self._asking("looking up the oldest records"):
            return self._told(self._consumer.beginning_offsets, partitions)

    def places(self) -> NextOffsets:
        """The offset that the client reads next, for assigned partitions that have been sought.

        Not from its method ``position``, which asks the broker, and fails while that is away.
        """
        state = self._consumer._subscription
        known = {p: state.position(TopicPartition(*p)) for p in self._assigned}
        return {p: place.offset for p, place in known.items() if place is not None}

    def seek(self, next_offsets: NextOffsets) -> None:
        """Read on from these offsets; partitions that are not assigned are passed over.

        BrokerError for an offset beyond the end: such a log is not the one that was read.
        """
        wanted = {p: offset for p, offset in next_offsets.items() if p in self._assigned}
        if not wanted:
            return
        self._check_within(wanted, self._ends(wanted))
        for partition, offset in wanted.items():
            with self._asking(f"seeking {partition}"):
                self._consumer.seek(TopicPartition(*partition), offset)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Nothing comes of these until they are resumed; not assigned ones are passed over.

        What was fetched of them waits in the client, one fetch at most.
        """
        self._is_pausing = True
        self._consumer.pause(*_native(self._assigned.intersection(partitions)))

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Go on where these stand; harmless when they are not paused."""
        self._consumer.resume(*_native(self._assigned.intersection(partitions)))

    def behind(self) -> frozenset[Partition]:
        """Assigned partitions of which the broker said that it has more than was read."""
        known = self._consumer._subscription.assignment
        return frozenset(
            partition
            for partition in self._assigned
            if (state := known.get(TopicPartition(*partition))) is not None
            and state.position is not None
            and state.position.offset < (state.highwater or 0)
        )

    def hold(self, partitions: Iterable[Partition]) -> None:
        """Fetch only others than these from now on; not to be used beside ``pause``."""
        held = frozenset(partitions)
        if held != self._held:
            self.resume(self._held - held)
            self.pause(held - self._held)
            self._held = held

    def offsets_at(self, instant_ms: int) -> NextOffsets:
        """For each partition the first offset with this log time or a later one; its end if none.

        With producers' clocks, records behind it may be earlier all the same.
        """
        partitions = self.partitions()
        asked = {TopicPartition(*p): max(0, instant_ms) for p in partitions}
        ends = self._ends(partitions)
        with self._asking("looking up offsets by time"):
            found = self._consumer.offsets_for_times(asked, timeout_ms=ANSWER_TIMEOUT_MS)
        told = {Partition(*tp): at.offset for tp, at in found.items() if at is not None}
        # Answered after the ends were: it may lie beyond them.
        return {p: min(told.get(p, end), end) for p, end in ends.items()}

    def commit(self, next_offsets: NextOffsets) -> None:
        """Tell the group how far we are, for assigned partitions; without a group, nothing.

        A rebalance in between refuses the commit, and a broker that restarts does not answer;
        both are normal and ignored, since the next commit makes up for it.
        """
        offsets = {
            TopicPartition(*p): OffsetAndMetadata(offset, "", -1)
            for p, offset in next_offsets.items()
            if p in self._assigned
        }
        if not self._is_in_group or not offsets:
            return
        with self._asking("committing offsets"), suppress(*_PASSING):
            self._consumer.commit(offsets, timeout_ms=COMMIT_TIMEOUT_MS)

    def close(self) -> None:
        """Leave the group; harmless when repeated, and when the broker is gone."""
        with suppress(kafka_errors.KafkaError):
            self._consumer.close(autocommit=False, timeout_ms=LEAVE_TIMEOUT_MS)

    def _begin(self) -> None:
        # Naming a topic makes some brokers create it, so the names are looked up in the full list.
        there = self._consumer.topics()
        for kind, topic in self._topics.items():
            if topic not in there:
                raise missing(self._connection, kind, topic)
        self._check_same_topics()
        if self._is_in_group:
            self._join_patiently()
            self._notice_fencing()
            self._disregard_committed_offsets()
            self._consumer.subscribe(sorted(self._topics.values()))
        else:
            self._assign_added()
            self._notice_rebalance()
            self.seek(self.oldest(self._assigned))

    def _join_patiently(self) -> None:
        # A join that ends between two polls is lost on the client: it joins once more, which sends
        # all members through another rebalance, and the embedded broker into a standstill. So a
        # poll that has begun to join stays longer than it was told to.
        coordinator = self._consumer._coordinator
        join: Callable[..., bool] = coordinator.poll

        def patient(timeout_ms: float | None = None) -> bool:
            return join(timeout_ms=max(timeout_ms or 0, JOIN_WAIT_MS))

        coordinator.poll = patient

    def _notice_fencing(self) -> None:
        # A member whose place another one with its instance id has taken learns it from a
        # heartbeat. The client only stops sending these, and reads on until it commits something.
        coordinator = self._consumer._coordinator
        beat: Callable[[], Awaitable[object]] = coordinator._send_heartbeat_request

        async def noticing() -> object:
            try:
                return await beat()
            except kafka_errors.FencedInstanceIdError as error:
                self._fenced = error
                raise

        coordinator._send_heartbeat_request = noticing

    def _disregard_committed_offsets(self) -> None:
        # They may have been set back, or forward beyond the end. Without this the client would
        # read on from them before the reader can seek.
        def nothing_found(**_: object) -> bool:
            return True

        self._consumer._coordinator.refresh_committed_offsets_if_needed = nothing_found

    def _assign_added(self) -> None:
        """Outside a group: take up the partitions that were added."""
        if not self._is_in_group and (there := self.partitions()) != self._assigned:
            self._consumer.assign(_native(sorted(there)))

    def _make_room_for_resumed(self) -> None:
        # What was fetched of a paused partition comes back only while the client has nothing in
        # hand, but it keeps in hand what it has emptied: a resumed one would stay silent for ever.
        fetcher = self._consumer._fetcher
        if self._is_pausing and not fetcher._next_partition_records:
            fetcher._next_partition_records = None

    def _fetched(
        self, max_records: int, wait_ms: int
    ) -> Mapping[TopicPartition, Sequence[Record]] | None:
        """What the client has fetched; None when a partition has no place to read on from.

        After these errors the client may go on: it has set aside nothing but the one answer. While
        the broker restarts, or another one takes its place, there is nothing for a while.
        """
        try:
            fetched: Mapping[TopicPartition, Sequence[Record]] = self._consumer.poll(
                timeout_ms=wait_ms, max_records=max_records
            )
        except kafka_errors.NoOffsetForPartitionError:
            return None
        except kafka_errors.OffsetOutOfRangeError as error:
            places = {Partition(*tp): int(offset) for tp, offset in error.args[0].items()}
            self._check_within(places, self._ends(places))
            return None
        except kafka_errors.RetriableError:
            self._failed_polls += 1
            if self._failed_polls * self._wait_ms > ANSWER_TIMEOUT_MS:
                raise
            time.sleep(self._wait_ms / 1_000)
            return {}
        self._failed_polls = 0
        return fetched

    def _check_same_topics(self) -> None:
        """BrokerError when a topic was deleted and created anew, as far as the broker tells.

        The new one may already be longer than what was read of the old one.
        """
        for topic in self._topics.values():
            id_ = self._consumer._cluster.topic_id(topic)
            is_told = id_ is not None and id_.int != 0
            if is_told and self._topic_ids.setdefault(topic, id_) != id_:
                raise created_anew(self._connection, topic)

    def _notice_rebalance(self) -> bool:
        """Whether partitions were assigned anew; the same ones by a new group generation count."""
        assigned = frozenset(Partition(*tp) for tp in self._consumer.assignment())
        group_generation = self._consumer.group_metadata().generation_id
        if (group_generation, assigned) == (self._group_generation, self._assigned):
            return False
        self._group_generation, self._assigned = group_generation, assigned
        self._generation += 1
        return True

    def _give_back(self, fetched: Mapping[TopicPartition, Sequence[Record]]) -> None:
        for tp, records in fetched.items():
            self._consumer.seek(tp, records[0].offset)

    def _asked_ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        with self._asking("looking up the ends of the topics"):
            return self._told(self._consumer.end_offsets, partitions)

    def _told(
        self, ask: Callable[..., Mapping[TopicPartition, int]], partitions: Iterable[Partition]
    ) -> dict[Partition, int]:
        """What the client answers, once every partition has a leader and the client knows it.

        By itself it asks a former leader again and again, without a pause, until its time is up;
        and it stumbles with a KeyError over a partition that has no leader while others have.
        """
        asked = _native(partitions)
        for timeout_ms in PATIENCE_MS:
            try:
                return {Partition(*tp): int(at) for tp, at in ask(asked, timeout_ms).items()}
            except kafka_errors.KafkaTimeoutError:
                pass
            except KeyError:
                time.sleep(timeout_ms / 1_000)
            self._consumer._cluster.request_update()
        raise kafka_errors.KafkaTimeoutError("no leader has answered for each partition")

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Let nothing of the client library out, and say it when records that were read are gone.

        A broker that lost them names the last offset on which it agrees, if it knows one.
        """
        with translated(self._connection, doing):
            try:
                yield
            except kafka_errors.LogTruncationError as error:
                tp, agreed = next(iter(error.divergent_offsets.items()))
                what = f"is the same only up to offset {agreed.offset}" if agreed else "is another"
                place = self._consumer._subscription.position(tp).offset
                raise shortened(self._connection, Partition(*tp), place, what) from error


_PASSING = (
    kafka_errors.RetriableError,
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)


def _native(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(*partition) for partition in partitions]
