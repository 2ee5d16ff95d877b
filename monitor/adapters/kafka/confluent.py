"""The two topics as one consumer of confluent-kafka reads them: the extra ``fast``.

That client fetches in threads of its own, ahead of the reader. So that it never reads where it was
not told to, it is given no partition before the reader has said where to begin, and a place that
the reader chooses reaches it with the next poll. Where we stand is counted here, not there.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from monitor.adapters.kafka import connection as opening
from monitor.adapters.kafka.confluent_client import (
    EARLIEST,
    LATEST,
    Notes,
    Questions,
    Spec,
    first_at,
    is_passing,
    options_of,
    same_error,
    understood,
)
from monitor.adapters.kafka.connection import KafkaConnection, check_let_in
from monitor.adapters.kafka.faults import created_anew, missing, shortened
from monitor.adapters.kafka.log import (
    HEARTBEAT_MS,
    LOOK_AROUND_MS,
    PATIENCE_MS,
    ConsumerGroup,
    Isolation,
)
from monitor.adapters.kafka.placed import PlacedLog
from monitor.domain.errors import BrokerError
from monitor.domain.events import Kind, NextOffsets, Partition, Record

LOOK_MS = 1_000
"""How long a look around may hold up the reading; the next one finds what this one did not."""

QUESTION_MS, QUESTION_PAUSE_MS = 5_000, 250
"""How long the answer to a question about offsets is waited for, and when it is asked anew."""

QUEUE_RECORDS, QUEUE_KBYTES = 20_000, 16_384
"""Fetched ahead at least of each partition, and at most of all."""

QUEUE_PAUSE_MS = 10
"""After the queue was full; by itself the client waits for a second, which stalls a fast reader."""

POLL_INTERVAL_MS = 300_000
"""A member that has not polled for so long gives its partitions to the others."""

_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"

_new = tuple.__new__  # A NamedTuple's own constructor takes twice as long.


class ConfluentLog(PlacedLog):
    """The two topics, as a member of ``group``, or all partitions on its own when there is none.

    Keeps the promises of ``KafkaLog``, and reads the same records. What differs: commits are sent
    without waiting for the answer, and a broker that hands out no ids of topics (the embedded one)
    leaves it unnoticed when a topic was created anew and is longer than what was read of it.

    BrokerError from the constructor when no broker answers or a topic is missing. After a poll
    failed the log is closed.
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
        self._topics, self._group = topics, group
        self._isolation_level = IsolationLevel[isolation_level.upper()]
        self._wait_s = max(1, wait_ms) / 1_000
        self._is_rebalanced = False
        self._given: frozenset[Partition] = frozenset()
        self._places: dict[Partition, int] = {}
        self._reading: set[Partition] = set()
        self._moved: set[Partition] = set()
        self._lost: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._there: frozenset[Partition] = frozenset()
        self._topic_ids: dict[str, str] = {}
        self._notes = Notes()
        options = options_of(connection, self._notes)
        with understood(connection, "connecting"):
            self._questions = Questions(options)
            self._consumer = Consumer(
                options
                | _reading_options(isolation_level, look_around_ms)
                | _group_options(group, connection)
                | {"stats_cb": self._notes.tick, "on_commit": self._notes.committed}
            )
        try:
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
            with understood(self._connection, "reading"):
                if self._notes.is_due and self._look_around():
                    return []
                self._tell_places()
                found = self._fetched(
                    max_records, self._wait_s if wait_ms is None else wait_ms / 1_000
                )
                if self._notes.fatal is not None:
                    raise same_error(self._notes.fatal)
                return self._taken(found)
        except BrokerError:
            self.close()
            raise

    def partitions(self) -> frozenset[Partition]:
        """All partitions of both topics; those added later appear within ``LOOK_AROUND_MS``.

        BrokerError when a topic is gone.
        """
        if self._notes.is_due:
            with understood(self._connection, "listing partitions"):
                self._look()
        return self._there

    def oldest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """Offset of the oldest record that each partition still holds; its end if it holds none.

        Records that compaction has removed leave holes behind it, and do not move it.
        """
        with understood(self._connection, "looking up the oldest records"):
            return self._told(dict.fromkeys(partitions, EARLIEST))

    def places(self) -> NextOffsets:
        """The offset to be read next, for assigned partitions that have been sought."""
        return dict(self._places)

    def seek(self, next_offsets: NextOffsets) -> None:
        """Read on from these offsets; partitions that are not assigned are passed over.

        BrokerError for an offset beyond the end: such a log is not the one that was read.
        """
        wanted = {p: offset for p, offset in next_offsets.items() if p in self._assigned}
        if not wanted:
            return
        self._check_within(wanted, self._ends(wanted))
        self._places.update(wanted)
        self._moved.update(wanted)
        self._lost.difference_update(wanted)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Nothing comes of these until they are resumed; not assigned ones are passed over."""
        paused = self._assigned.intersection(partitions) - self._paused
        self._paused |= paused
        if native := _native(paused & self._reading):
            with understood(self._connection, "pausing"):
                self._consumer.pause(native)

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Go on where these stand; harmless when they are not paused."""
        resumed = self._paused.intersection(partitions)
        self._paused -= resumed
        if native := _native(resumed & self._reading):
            with understood(self._connection, "resuming"):
                self._consumer.resume(native)

    def behind(self) -> frozenset[Partition]:
        """Assigned partitions of which the broker said that it has more than was read."""
        ends = {p: self._cached_end(p) for p in self._reading & self._places.keys()}
        return frozenset(p for p, end in ends.items() if self._places[p] < end)

    def hold(self, partitions: Iterable[Partition]) -> None:
        """Nothing: the client reads ahead of all alike, and would drop what it has of one."""

    def offsets_at(self, instant_ms: int) -> NextOffsets:
        """For each partition the first offset with this log time or a later one; its end if none.

        With producers' clocks, records behind it may be earlier all the same.
        """
        partitions = self.partitions()
        ends = self._ends(partitions)
        with understood(self._connection, "looking up offsets by time"):
            spec = first_at(max(0, instant_ms))
            told = self._told(dict.fromkeys(partitions, spec))
        # Answered after the ends were: it may lie beyond them. -1 says that there is none.
        return {p: min(told[p], end) if told[p] >= 0 else end for p, end in ends.items()}

    def commit(self, next_offsets: NextOffsets) -> None:
        """Tell the group how far we are, for assigned partitions; without a group, nothing.

        Not waited for: a commit that is refused is made up for by the next one, and a place in the
        group that is lost for good ends the reading.
        """
        offsets = {p: offset for p, offset in next_offsets.items() if p in self._assigned}
        if self._group is None or not offsets:
            return
        with understood(self._connection, "committing offsets"):
            try:
                self._consumer.commit(offsets=_native(offsets, offsets), asynchronous=True)
            except KafkaException as error:
                if error.args[0].fatal():
                    raise

    def close(self) -> None:
        """Leave the group; harmless when repeated, and when the broker is gone."""
        with suppress(KafkaException, RuntimeError):
            self._consumer.close()

    def _begin(self) -> None:
        try:
            with understood(self._connection, "connecting"):
                there = self._questions.look(self._names(), opening.CONNECT_TIMEOUT_MS)
        except BrokerError as error:
            self._say_why_not(error)
            raise
        with understood(self._connection, "looking for the topics"):
            self._take_in(there)
            if self._group is not None:
                self._consumer.subscribe(
                    self._names(), on_assign=self._on_assigned, on_revoke=self._on_revoked
                )
                return
            self._assigned = self._there
            self._generation += 1
            self.seek(self.oldest(self._assigned))

    def _say_why_not(self, error: BrokerError) -> None:
        """A client that was refused tries again until the time is up, and tells it beside."""
        self._questions.listen()
        if self._notes.refused is not None:
            with understood(self._connection, "connecting"):
                raise same_error(self._notes.refused) from error
        check_let_in(self._connection, error)

    def _cached_end(self, partition: Partition) -> int:
        (native,) = _native([partition])
        with understood(self._connection, "reading"):
            return self._consumer.get_watermark_offsets(native, cached=True)[1]

    def _names(self) -> list[str]:
        return sorted(self._topics.values())

    def _take_in(self, there: Mapping[str, tuple[int, str]]) -> None:
        """BrokerError when a topic is missing, or not the one that was read."""
        for kind, topic in self._topics.items():
            if topic not in there:
                raise missing(self._connection, kind, topic)
        for topic, (_, id_) in there.items():
            if id_ != _NO_ID and self._topic_ids.setdefault(topic, id_) != id_:
                raise created_anew(self._connection, topic)
        self._there = frozenset(
            Partition(topic, number)
            for topic, (count, _) in there.items()
            for number in range(count)
        )

    def _look(self) -> None:
        """See what there is; a broker that does not answer is asked again at the next tick.

        A broker that was just started may not know of a topic yet: it is given some time.
        """
        self._notes.is_due = False
        for timeout_ms in PATIENCE_MS[:4]:
            try:
                there = self._questions.look(self._names(), LOOK_MS)
            except KafkaException as error:
                if not is_passing(error.args[0]):
                    raise
                return
            if there.keys() >= {*self._topics.values()}:
                break
            time.sleep(timeout_ms / 1_000)
        self._take_in(there)

    def _look_around(self) -> bool:
        """Whether partitions were added that this reader reads on its own."""
        self._look()
        if self._group is not None or self._there == self._assigned:
            return False
        self._assigned = self._there
        self._generation += 1
        return True

    def _tell_places(self) -> None:
        """Let the client read on from the places that were chosen since the last poll."""
        moved = self._moved & self._places.keys()
        self._moved.clear()
        if not moved:
            return
        if self._is_eager():
            moved = self._reading = self._places.keys() - self._lost
            self._consumer.assign(_native(moved, self._places))
        else:
            self._consumer.incremental_unassign(_native(moved & self._reading))
            self._consumer.incremental_assign(_native(moved, self._places))
            self._reading |= moved
        if paused := _native(self._paused & moved):
            self._consumer.pause(paused)

    def _fetched(self, max_records: int, wait_s: float) -> list[Message]:
        """What is there, or else what comes first: the client would wait until it has them all."""
        found = self._consumer.consume(max_records, 0)
        if not found and wait_s:
            found = self._consumer.consume(1, wait_s)
            if found and max_records > 1:
                found += self._consumer.consume(max_records - 1, 0)
        return found

    def _taken(self, found: Sequence[Message]) -> list[Record]:
        """These records, unless the reader has to seek first: then they will be fetched again."""
        records, reached = self._records_of(found)
        if self._is_rebalanced:
            self._assigned = self._given
        if self._is_rebalanced or self._lost:
            self._is_rebalanced = False
            self._generation += 1
            self._moved |= (reached.keys() & self._reading) - self._lost
            return []
        self._places.update(reached)
        return records

    def _records_of(self, found: Sequence[Message]) -> tuple[list[Record], dict[Partition, int]]:
        """Those of partitions that we read, and how far they reach."""
        records: list[Record] = []
        reached: dict[Partition, int] = {}
        at, past, is_ours = _NOWHERE, 0, False
        for message in found:
            topic, number, (kind, log_ms) = (
                message.topic(),
                message.partition(),
                message.timestamp(),
            )
            if number != at[1] or topic != at[0]:
                if is_ours:
                    reached[at] = past
                at = _NOWHERE if topic is None or number is None else Partition(topic, number)
                is_ours = at in self._reading
                past = reached.get(at, self._places.get(at, 0))
            offset = message.offset() or 0
            # What is no record has no time either.
            if not kind and (error := message.error()) is not None:
                if self._is_end(error, at, offset):
                    past = max(past, offset)
            elif is_ours and offset >= past:
                past = offset + 1
                value = (
                    at[0],
                    number,
                    offset,
                    max(log_ms, 0),
                    message.key(),
                    message.value(),
                    kind == TIMESTAMP_LOG_APPEND_TIME,
                )
                records.append(_new(Record, value))
        if is_ours:
            reached[at] = past
        return records, reached

    def _is_end(self, error: KafkaError, at: Partition, offset: int) -> bool:
        """What came instead of a record: whether it says that all before its offset was read."""
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            return True
        if code in _PLACE_LOST:
            if at in self._reading:
                self._check_lost(at, offset, error)
        elif code in _TOPIC_LOST:
            self._notes.is_due = True
        elif not (is_passing(error) or code in _PASSING or self._needs_no_group(code)):
            raise same_error(error)
        return False

    def _check_lost(self, at: Partition, offset: int, error: KafkaError) -> None:
        """BrokerError when it is not the beginning of the log that moved, but the end."""
        place = self._places[at]
        if offset != place:
            # Of a place that was left since, but it has made the client stop reading all the same.
            self._moved.add(at)
            return
        if "truncation" in error.str():
            raise shortened(self._connection, at, place, f"was cut off ({error.str()})")
        self._check_within({at: place}, self._ends([at]))
        self._lost.add(at)

    def _needs_no_group(self, code: int) -> bool:
        """The client looks for a coordinator also where there is no group."""
        return self._group is None and code == KafkaError.GROUP_AUTHORIZATION_FAILED

    def _is_eager(self) -> bool:
        return self._group is not None and self._group.assignor == "range"

    def _on_assigned(self, consumer: Consumer, given: list[TopicPartition]) -> None:
        """Within a poll: all partitions, or with cooperative-sticky those that were added."""
        self._is_rebalanced = True
        self._given |= _ours(given)
        if self._is_eager():
            consumer.assign([])
        else:
            consumer.incremental_assign([])

    def _on_revoked(self, consumer: Consumer, taken: list[TopicPartition]) -> None:
        """Within a poll, also when they are lost because we were put out of the group."""
        self._is_rebalanced = True
        gone = _ours(taken)
        if self._is_eager():
            consumer.unassign()
        else:
            consumer.incremental_unassign(_native(gone & self._reading))
        self._given -= gone
        for partitions in (self._reading, self._moved, self._lost, self._paused):
            partitions.difference_update(gone)
        for partition in gone & self._places.keys():
            del self._places[partition]

    def _asked_ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        with understood(self._connection, "looking up the ends of the topics"):
            return self._told(dict.fromkeys(partitions, LATEST))

    def _told(self, specs: Mapping[Partition, Spec]) -> dict[Partition, int]:
        """What the broker answers, once every partition has a leader and the client knows it."""
        if not specs:
            return {}
        left_ms, why = opening.ANSWER_TIMEOUT_MS, KafkaError(KafkaError._TIMED_OUT)
        while left_ms > 0:
            try:
                return self._questions.offsets(specs, self._isolation_level, QUESTION_MS)
            except KafkaException as error:
                why = error.args[0]
            if not is_passing(why):
                break
            if why.code() == KafkaError._TIMED_OUT:
                left_ms -= QUESTION_MS
            else:
                left_ms -= QUESTION_PAUSE_MS
                time.sleep(QUESTION_PAUSE_MS / 1_000)
            self._questions.refresh()
        raise same_error(self._notes.refused or why)


_NOWHERE = Partition("", -1)
_PLACE_LOST = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
_TOPIC_LOST = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError.INCONSISTENT_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
_PASSING = frozenset(
    {
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
    }
)


def _reading_options(isolation_level: Isolation, look_around_ms: int) -> dict[str, object]:
    return {
        "auto.offset.reset": "error",
        "check.crcs": True,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # It says where the end is when the last things in the log are no records.
        "enable.partition.eof": True,
        "fetch.queue.backoff.ms": QUEUE_PAUSE_MS,
        "isolation.level": isolation_level,
        "metadata.max.age.ms": look_around_ms,
        "queued.max.messages.kbytes": QUEUE_KBYTES,
        "queued.min.messages": QUEUE_RECORDS,
        # The client's clock: nobody reads the statistics themselves.
        "statistics.interval.ms": look_around_ms,
        "topic.metadata.refresh.interval.ms": look_around_ms,
    }


def _group_options(group: ConsumerGroup | None, connection: KafkaConnection) -> dict[str, object]:
    if group is None:
        # The client wants a name, but joins no group of it.
        return {"group.id": f"{connection.client_id}-alone"}
    own = {} if group.instance_id is None else {"group.instance.id": group.instance_id}
    return own | {
        "group.id": group.name,
        "session.timeout.ms": group.session_timeout_ms,
        "heartbeat.interval.ms": min(HEARTBEAT_MS, group.session_timeout_ms // 3),
        "max.poll.interval.ms": max(POLL_INTERVAL_MS, group.session_timeout_ms),
        "partition.assignment.strategy": group.assignor,
    }


def _ours(partitions: Iterable[TopicPartition]) -> frozenset[Partition]:
    return frozenset(Partition(tp.topic, tp.partition) for tp in partitions)


def _native(
    partitions: Iterable[Partition], offsets: NextOffsets | None = None
) -> list[TopicPartition]:
    if offsets is None:
        return [TopicPartition(*partition) for partition in partitions]
    return [TopicPartition(*partition, offsets[partition]) for partition in partitions]
