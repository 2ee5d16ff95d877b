"""Kafka: the two topics as one consumer reads them, a sink to write to, and care for topics.

The only module that knows the client library. Three rules keep its traps away: records are taken
as bytes (a deserializer that raises hangs the client at its next poll), partitions are never
paused one by one (a resumed one can stay silent for ever), and a consumer whose poll failed is
closed. Whatever the client raises leaves here as a BrokerError.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, Protocol, Self, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.serializer import Serializer
from kafka.structs import OffsetAndMetadata

from monitor.domain.errors import BrokerError
from monitor.domain.events import Kind, NextOffsets, Partition, Position, Record
from monitor.ports import OutRecord

CONNECT_TIMEOUT_MS = 8_000
"""A broker that has not answered by then is reported as unreachable."""

ANSWER_TIMEOUT_MS = 30_000
"""How long a connected broker may take for one answer; a restart fits in."""

LEAVE_TIMEOUT_MS = 5_000
"""How long leaving may take; the broker finds out by itself, too."""

JOIN_WAIT_MS = 5_000
"""How long a poll may wait for a rebalance to end; there is nothing to read meanwhile."""

HEARTBEAT_MS = 3_000
"""Milliseconds between two heartbeats of a group member."""

CHUNK_RECORDS = 5_000
"""Records sent before their acknowledgements are waited for."""

BATCH_BYTES = 128 * 1024
"""Bytes of one partition that travel together."""

REQUEST_BYTES = 64 * 1024 * 1024
"""Above every limit in use, so that it is the broker that says which record is too large."""

CUT_BYTES = 1_024
"""What is kept of the value of a record that is too large for the broker."""

TRUNCATED = "truncated"
"""Header of a record whose value was cut; holds the original size of the value in bytes."""

SEND_ATTEMPTS = 4
"""Producers tried for one chunk before giving up."""

Assignor = Literal["range", "cooperative-sticky"]
Isolation = Literal["read_committed", "read_uncommitted"]

_ASSIGNORS: Mapping[Assignor, object] = {
    "range": RangePartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Where the brokers are and how to log in. None leaves a choice to the client library."""

    bootstrap_servers: tuple[str, ...] = ("localhost:9092",)
    client_id: str = "recallwatch"
    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def __str__(self) -> str:
        """The brokers' addresses, as in every message."""
        return ",".join(self.bootstrap_servers)

    def options(self) -> dict[str, object]:
        """The same in the client library's words; holds the password."""
        given: dict[str, object | None] = {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "security_protocol": self.protocol,
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password,
            "ssl_cafile": self.ca_file,
            "ssl_certfile": self.cert_file,
            "ssl_keyfile": self.key_file,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ConsumerGroup:
    """Workers that share the partitions. ``instance_id`` makes this one a static member.

    A static member that comes back within the session timeout takes up its partitions without a
    rebalance; of two at once with the same id the older one gets a BrokerError when it commits.

    ``assignors`` in order of preference; all members must have one in common. Cooperative-sticky
    moves fewer partitions, but the embedded broker never gets through such a rebalance: range is
    right everywhere.
    """

    name: str
    instance_id: str | None = None
    session_timeout_ms: int = 45_000
    assignors: tuple[Assignor, ...] = ("range",)

    def options(self) -> dict[str, object]:
        """The same in the client library's words."""
        return {
            "group_id": self.name,
            "group_instance_id": self.instance_id,
            "session_timeout_ms": self.session_timeout_ms,
            "heartbeat_interval_ms": min(HEARTBEAT_MS, self.session_timeout_ms // 3),
            "partition_assignment_strategy": [_ASSIGNORS[name] for name in self.assignors],
        }


class KafkaLog:
    """The two topics, as a member of ``group``, or all partitions on its own when there is none.

    A poll that meets a rebalance returns [], so that the reader can seek before the first record
    of a new assignment; records of a partition that was taken away are never returned. A record
    without a timestamp has log time 0. ``wait_ms`` bounds a poll that finds nothing, except that
    during a rebalance it takes up to ``JOIN_WAIT_MS`` more.

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
    ) -> None:
        self._connection, self._topics = connection, topics
        self._wait_ms = wait_ms
        self._is_in_group = group is not None
        self._generation = 0
        self._group_generation = -1
        self._assigned: frozenset[Partition] = frozenset()
        self._next: dict[Partition, int] = {}
        self._known_ends: dict[Partition, int] = {}
        self._consumer = _opened(
            KafkaConsumer,
            connection,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            isolation_level=isolation_level,
            **(group.options() if group else {}),
        )
        try:
            with _translated(connection, "looking for the topics"):
                self._begin()
        except BrokerError:
            self.close()
            raise

    def poll(self, max_records: int) -> list[Record]:
        """The next records, each partition in offset order; [] also after a rebalance.

        BrokerError as well when the log has become shorter than what was read of it.
        """
        try:
            with _translated(self._connection, "reading"):
                fetched = self._consumer.poll(timeout_ms=self._wait_ms, max_records=max_records)
                if self._notice_rebalance():
                    self._give_back(fetched)
                    return []
            return [record for tp, found in fetched.items() for record in self._taken(tp, found)]
        except BrokerError:
            self.close()
            raise

    @property
    def generation(self) -> int:
        """Rebalances met so far, the first assignment included; being put out counts as one."""
        return self._generation

    def assigned(self) -> frozenset[Partition]:
        """The partitions as of the last poll."""
        return self._assigned

    def partitions(self) -> frozenset[Partition]:
        """All partitions of both topics; partitions added later appear within five minutes."""
        with _translated(self._connection, "listing partitions"):
            return frozenset(
                Partition(topic, number)
                for topic in self._topics.values()
                for number in self._consumer.partitions_for_topic(topic)
            )

    def seek(self, next_offsets: NextOffsets) -> None:
        """Read on from these offsets; partitions that are not assigned are passed over.

        BrokerError for an offset beyond the end: such a log is not the one that was read.
        """
        wanted = {p: offset for p, offset in next_offsets.items() if p in self._assigned}
        if not wanted:
            return
        ends = self._ends(wanted)
        with _translated(self._connection, "looking up the oldest records"):
            starts = self._consumer.beginning_offsets(_native(wanted), ANSWER_TIMEOUT_MS)
        for partition, offset in wanted.items():
            if offset > ends[partition]:
                raise self._shortened(partition, offset, f"ends at offset {ends[partition]}")
            target = max(offset, starts[TopicPartition(*partition)])
            with _translated(self._connection, f"seeking {partition}"):
                self._consumer.seek(TopicPartition(*partition), target)
            self._next[partition] = target

    def at_end(self) -> frozenset[Partition]:
        """Assigned partitions read to the end as the broker knows it now.

        Asks the broker only about partitions that have reached the last known end.
        """
        places = {p: self._place(p) for p in self._assigned}
        reached = [p for p, place in places.items() if place >= self._known_ends.get(p, 0)]
        ends = self._ends(reached) if reached else {}
        return frozenset(p for p, end in ends.items() if places[p] >= end)

    def lag(self) -> Mapping[Partition, int]:
        """Offsets between the next record and the end: transactions leave gaps, so at most."""
        if not self._assigned:
            return {}
        ends = self._ends(self._assigned)
        return {p: max(0, end - self._place(p)) for p, end in ends.items()}

    def commit(self, next_offsets: NextOffsets) -> None:
        """Tell the group how far we are, for assigned partitions; without a group, nothing.

        A rebalance in between refuses the commit; that is normal and ignored.
        """
        offsets = {
            TopicPartition(*p): OffsetAndMetadata(offset, "", -1)
            for p, offset in next_offsets.items()
            if p in self._assigned
        }
        if not self._is_in_group or not offsets:
            return
        with (
            _translated(self._connection, "committing offsets"),
            suppress(*_REBALANCING),
        ):
            self._consumer.commit(offsets, timeout_ms=ANSWER_TIMEOUT_MS)

    def close(self) -> None:
        """Leave the group; harmless when repeated, and when the broker is gone."""
        with suppress(kafka_errors.KafkaError):
            self._consumer.close(autocommit=False, timeout_ms=LEAVE_TIMEOUT_MS)

    def _begin(self) -> None:
        # Naming a topic makes some brokers create it, so the names are looked up in the full list.
        there = self._consumer.topics()
        for kind, topic in self._topics.items():
            if topic not in there:
                raise BrokerError(
                    f"topic {topic} is not on broker {self._connection}, or this user may not see "
                    f"it; create it, or set kafka.{kind}.topic to the right name"
                )
        if self._is_in_group:
            self._join_patiently()
            self._consumer.subscribe(sorted(self._topics.values()))
        else:
            self._consumer.assign(_native(sorted(self.partitions())))
            self._notice_rebalance()

    def _join_patiently(self) -> None:
        # A join that ends between two polls is lost on the client: it joins once more, which sends
        # all members through another rebalance, and the embedded broker into a standstill. So a
        # poll that has begun to join stays longer than it was told to.
        coordinator = self._consumer._coordinator
        join: Callable[..., bool] = coordinator.poll

        def patient(timeout_ms: float | None = None) -> bool:
            return join(timeout_ms=max(timeout_ms or 0, JOIN_WAIT_MS))

        coordinator.poll = patient

    def _notice_rebalance(self) -> bool:
        """Whether partitions were assigned anew; the same ones by a new group generation count."""
        assigned = frozenset(Partition(*tp) for tp in self._consumer.assignment())
        group_generation = self._consumer.group_metadata().generation_id
        if (group_generation, assigned) == (self._group_generation, self._assigned):
            return False
        self._group_generation, self._assigned = group_generation, assigned
        self._generation += 1
        self._next.clear()
        return True

    def _give_back(self, fetched: Mapping[TopicPartition, Sequence[Any]]) -> None:
        for tp, records in fetched.items():
            self._consumer.seek(tp, records[0].offset)

    def _taken(self, tp: TopicPartition, fetched: Sequence[Any]) -> Iterator[Record]:
        """The fetched records of one partition; BrokerError when it went back to older ones.

        The client starts over at the oldest record when its place is gone. Forward that is
        retention at work; backward it would be another log under the same name.
        """
        partition = Partition(*tp)
        expected, first = self._next.get(partition, 0), fetched[0].offset
        if first < expected:
            raise self._shortened(partition, expected, f"started over at offset {first}")
        self._next[partition] = fetched[-1].offset + 1
        topic, number = partition
        for record in fetched:
            yield Record(
                topic,
                number,
                record.offset,
                max(record.timestamp, 0),
                record.key,
                record.value,
                record.timestamp_type == _LOG_APPEND_TIME,
            )

    def _place(self, partition: Partition) -> int:
        """The offset of the next record that the client will deliver."""
        with _translated(self._connection, f"looking up the place in {partition}"):
            place = self._consumer.position(TopicPartition(*partition), ANSWER_TIMEOUT_MS)
            if place is None:
                raise kafka_errors.KafkaTimeoutError(f"no offset known for {partition}")
            return int(place)

    def _ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        with _translated(self._connection, "looking up the ends of the topics"):
            found = self._consumer.end_offsets(_native(partitions), ANSWER_TIMEOUT_MS)
        ends = {Partition(*tp): int(end) for tp, end in found.items()}
        self._known_ends.update(ends)
        return ends

    def _shortened(self, partition: Partition, offset: int, what: str) -> BrokerError:
        return BrokerError(
            f"{Position(*partition, offset)}: was to be read next, but the log {what} on broker "
            f"{self._connection}; the topic was created anew or lost records. Start on a fresh "
            "redis.namespace, or name the topic that was read before"
        )


class KafkaSink:
    """An idempotent producer that waits for all replicas.

    A record is written at least once: what a broken connection left unacknowledged is sent again,
    in order. A record too large for the broker is written with its value cut to ``CUT_BYTES`` and
    the header ``TRUNCATED``.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._producer = _producer(connection)
        self._known_topics: set[str] = set()

    def publish(self, records: Iterable[OutRecord]) -> None:
        """Write the records; BrokerError when some could not be written."""
        remaining = iter(records)
        while chunk := list(islice(remaining, CHUNK_RECORDS)):
            self._deliver(chunk)

    def close(self) -> None:
        """Leave; everything published has been acknowledged before."""
        with suppress(kafka_errors.KafkaError):
            self._producer.close(timeout=LEAVE_TIMEOUT_MS / 1_000)

    def _deliver(self, records: list[OutRecord]) -> None:
        for _ in range(SEND_ATTEMPTS):
            failed = self._send(records)
            if not failed:
                return
            records = [record for record, _ in failed]
            errors = [error for _, error in failed]
            # One refused record breaks the producer, and with it all records under way.
            self._renew()
            if any(isinstance(error, _TOO_LARGE) for error in errors):
                self._deliver_around_too_large(records)
                return
            if not any(isinstance(error, _BROKEN_SEQUENCE) for error in errors):
                break
        raise broker_error(errors[0], self._connection, f"writing to {records[0].topic}")

    def _deliver_around_too_large(self, records: list[OutRecord]) -> None:
        """Halve until the record that is too large stands alone, then cut it.

        The broker does not say which one it is: all that travelled with it fail in the same way.
        """
        if len(records) > 1:
            middle = len(records) // 2
            self._deliver(records[:middle])
            self._deliver(records[middle:])
            return
        record = records[0]
        if any(name == TRUNCATED for name, _ in record.headers):
            raise BrokerError(
                f"a record for topic {record.topic} is too large for broker {self._connection} "
                "even without its value; raise max.message.bytes of the topic"
            )
        self._deliver([cut(record)])

    def _send(self, records: Sequence[OutRecord]) -> list[tuple[OutRecord, Exception]]:
        """Send, wait, and return those that were not acknowledged, each with its error."""
        with _translated(self._connection, "writing"):
            futures = [self._sent(record) for record in records]
            self._producer.flush(timeout=ANSWER_TIMEOUT_MS * 2 / 1_000)
        return [
            (record, future.exception)
            for record, future in zip(records, futures, strict=True)
            if not future.succeeded()
        ]

    def _sent(self, record: OutRecord) -> "_Acknowledgement":
        if record.topic not in self._known_topics:
            self._look_up(record.topic)
        sent: _Acknowledgement = self._producer.send(
            record.topic,
            key=record.key,
            value=_NULL if record.value is None else record.value,
            headers=list(record.headers),
            partition=record.partition,
            timestamp_ms=record.log_ms,
        )
        return sent

    def _look_up(self, topic: str) -> None:
        try:
            self._producer.partitions_for(topic)
        except kafka_errors.KafkaTimeoutError as error:
            raise BrokerError(
                f"topic {topic} is not on broker {self._connection}, or the broker went away; "
                "create the topic, or check its name under kafka"
            ) from error
        self._known_topics.add(topic)

    def _renew(self) -> None:
        self.close()
        self._producer = _producer(self._connection)


def cut(record: OutRecord) -> OutRecord:
    """The record with the first ``CUT_BYTES`` of its value and its original size as a header.

    >>> cut(OutRecord("t", b"key", b"x" * 5000)).headers
    (('truncated', b'5000'),)
    """
    value = record.value or b""
    return OutRecord(
        record.topic,
        record.key,
        value[:CUT_BYTES],
        (*record.headers, (TRUNCATED, str(len(value)).encode())),
        record.partition,
        record.log_ms,
    )


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """What there is of a topic; None where the broker keeps it to itself.

    ``retention_ms`` -1 is for ever; ``timestamp_type`` is CreateTime or LogAppendTime.
    """

    partitions: int
    timestamp_type: str | None
    retention_ms: int | None
    cleanup_policy: str | None


class KafkaTopics:
    """The topics of a broker. Close it, or use it in a ``with``."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._admin = _opened(KafkaAdminClient, connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ensure(
        self, topics: Mapping[str, int], *, log_append_time: bool, retention_ms: int | None = None
    ) -> list[str]:
        """Create what is missing of ``topics`` (name to partitions); the names created, sorted.

        Topics that exist are left as they are. ``retention_ms`` -1 keeps records for ever, None
        leaves it to the broker, as is the number of replicas.
        """
        configs = {"message.timestamp.type": "LogAppendTime" if log_append_time else "CreateTime"}
        if retention_ms is not None:
            configs["retention.ms"] = str(retention_ms)
        with _translated(self._connection, "creating topics"):
            missing = sorted(set(topics) - set(self._admin.list_topics()))
            if missing:
                wanted = {
                    name: {"num_partitions": topics[name], "configs": configs} for name in missing
                }
                answer = self._admin.create_topics(wanted, raise_errors=False)
                self._check_created(answer["topics"])
                self._admin.wait_for_topics(missing, timeout_ms=ANSWER_TIMEOUT_MS)
        return missing

    def describe(self, names: Collection[str]) -> dict[str, TopicInfo]:
        """What there is of each topic; a missing one is absent."""
        with _translated(self._connection, "describing topics"):
            there = set(self._admin.list_topics())
            known = [name for name in sorted(names) if name in there]
            if not known:
                return {}
            counts = {t["name"]: len(t["partitions"]) for t in self._admin.describe_topics(known)}
            resources = [ConfigResource(ConfigResourceType.TOPIC, n, None) for n in known]
            answer = self._admin.describe_configs(resources, config_filter="all")
        configs = answer.get("topic", {})
        return {name: _topic_info(counts[name], configs.get(name, {})) for name in known}

    def close(self) -> None:
        """Leave; harmless when repeated."""
        with suppress(kafka_errors.KafkaError):
            self._admin.close()

    @staticmethod
    def _check_created(answers: Iterable[Mapping[str, Any]]) -> None:
        for answer in answers:
            kind = kafka_errors.for_code(answer["error_code"])
            # Somebody else was faster: as good as created.
            if kind not in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):
                raise kind(f"topic {answer['name']}: {answer['error_message']}")


def broker_error(error: Exception, connection: KafkaConnection, doing: str) -> BrokerError:
    """What an exception of the client library means: what, where, and what to do next."""
    said = "; ".join(str(part) for part in error.args if part)[:_SAID_CHARS]
    detail = f"{type(error).__name__}: {said}" if said else type(error).__name__
    for kinds, what, remedy in _CAUSES:
        if isinstance(error, kinds):
            return BrokerError(f"broker {connection} {what} while {doing} ({detail}); {remedy}")
    return BrokerError(
        f"broker {connection} failed while {doing} ({detail}); "
        "look at the broker's log, and start again"
    )


_SAID_CHARS = 200
_LOG_APPEND_TIME = 1
_NULL = object()
"""A value of None: the client refuses a record with neither key nor value, Kafka does not."""

_REBALANCING = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)
_TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
_BROKEN_SEQUENCE = (
    kafka_errors.OutOfOrderSequenceNumberError,
    kafka_errors.UnknownProducerIdError,
    kafka_errors.InvalidProducerEpochError,
    kafka_errors.InvalidProducerIdMappingError,
)
_CAUSES: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    (
        (
            kafka_errors.SaslAuthenticationFailedError,
            kafka_errors.UnsupportedSaslMechanismError,
            kafka_errors.IllegalSaslStateError,
        ),
        "refused the login",
        "check kafka.security",
    ),
    (
        (kafka_errors.AuthorizationError,),
        "does not allow this user what is needed",
        "give the user read and describe rights on the topics and the group, and write rights on "
        "the dead-letter topic",
    ),
    (
        (kafka_errors.FencedInstanceIdError,),
        "gave our place to another worker",
        "give each worker a kafka.instance_id of its own",
    ),
    (
        (kafka_errors.UnknownTopicOrPartitionError, kafka_errors.UnknownTopicIdError),
        "does not have the topic",
        "create it, or check the topic names under kafka",
    ),
    (
        (kafka_errors.InvalidReplicationFactorError, kafka_errors.PolicyViolationError),
        "refused to create the topic",
        "create it by hand as the cluster's rules demand",
    ),
    (
        (kafka_errors.KafkaConfigurationError,),
        "cannot be asked with these settings",
        "check the settings under kafka",
    ),
    (
        (kafka_errors.CorruptRecordError, kafka_errors.UnsupportedCodecError),
        "sent a record that cannot be unpacked",
        "check the producer's compression (gzip needs nothing more; lz4, snappy and zstd need "
        "their package) and the broker's disk",
    ),
    (
        (ValueError,),
        "cannot do what was asked",
        "check the names of the topics and the numbers of their partitions",
    ),
    (
        (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError, OSError),
        "is unreachable",
        "check kafka.bootstrap_servers and kafka.security, and that the broker is running",
    ),
)


@contextmanager
def _translated(connection: KafkaConnection, doing: str) -> Iterator[None]:
    """Let nothing of the client library out.

    Every exception counts, since for what a broker does the client also raises RuntimeError,
    ValueError and KeyError, and those of the compression libraries.
    """
    try:
        yield
    except BrokerError:
        raise
    except Exception as error:
        raise broker_error(error, connection, doing) from error


class _Acknowledgement(Protocol):
    """What the client gives for a record on its way."""

    exception: Exception

    def succeeded(self) -> bool: ...


class _Closable(Protocol):
    def close(self) -> None: ...


ClientT_co = TypeVar("ClientT_co", covariant=True)


class _ClientType(Protocol[ClientT_co]):
    """What consumer, producer and admin client have in common."""

    DEFAULT_CONFIG: Mapping[str, Callable[..., _Closable]]

    def __call__(self, **options: object) -> ClientT_co: ...


def _opened(
    make: _ClientType[ClientT_co], connection: KafkaConnection, **options: object
) -> ClientT_co:
    """A client that has reached a broker; BrokerError, with nothing left behind, when none is."""
    started: list[_Closable] = []

    def started_client(**config: object) -> _Closable:
        started.append(make.DEFAULT_CONFIG["kafka_client"](**config))
        return started[-1]

    try:
        with _translated(connection, "connecting"):
            return make(
                **connection.options(),
                **options,
                bootstrap_timeout_ms=CONNECT_TIMEOUT_MS,
                kafka_client=started_client,
            )
    except BrokerError:
        # The constructor leaves its network thread and sockets behind when it raises.
        for client in started:
            client.close()
        raise


def _producer(connection: KafkaConnection) -> KafkaProducer:
    return _opened(
        KafkaProducer,
        connection,
        acks="all",
        enable_idempotence=True,
        allow_auto_create_topics=False,
        value_serializer=_NullableValue(),
        batch_size=BATCH_BYTES,
        linger_ms=5,
        max_request_size=REQUEST_BYTES,
        max_block_ms=CONNECT_TIMEOUT_MS,
        delivery_timeout_ms=ANSWER_TIMEOUT_MS,
        request_timeout_ms=ANSWER_TIMEOUT_MS // 3,
    )


@Serializer.register
class _NullableValue:
    """Hands bytes on, and turns ``_NULL`` into no value."""

    def serialize(self, _topic: str, _headers: object, value: object) -> object:
        return None if value is _NULL else value

    def close(self) -> None:
        """Nothing to leave."""


def _native(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(*partition) for partition in partitions]


def _topic_info(partitions: int, configs: Mapping[str, Mapping[str, str | None]]) -> TopicInfo:
    def value(name: str) -> str | None:
        return configs.get(name, {}).get("value")

    retention = value("retention.ms")
    return TopicInfo(
        partitions=partitions,
        timestamp_type=value("message.timestamp.type"),
        retention_ms=None if retention is None else int(retention),
        cleanup_policy=value("cleanup.policy"),
    )
