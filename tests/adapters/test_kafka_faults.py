"""What the log and the sink make of Apache Kafka's own faults: lost brokers, and records gone."""

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from monitor.adapters.kafka import (
    ConsumerGroup,
    KafkaConnection,
    KafkaLog,
    KafkaSink,
    KafkaTopics,
)
from monitor.adapters.kafka import connection as opening
from monitor.adapters.kafka.confluent import ConfluentLog
from monitor.app.brokers import connection_of, open_log
from monitor.app.settings import Settings
from monitor.domain.errors import BrokerError
from monitor.domain.events import Kind, Partition
from monitor.ports import OutRecord
from tests.adapters.members import CLIENTS, Client, Member, SharedCut, wait_until
from tests.contracts.record_log import offsets, poll_until, read, values
from tests.servers.artifacts import unavailable
from tests.servers.kafka import PASSWORD, SHORT_RETENTION, USER, ApacheKafka, Broker

pytestmark = pytest.mark.kafka

LONG_AGO_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
SESSION_MS = 6_000


@pytest.fixture(scope="module")
def lone_kafka() -> Iterator[ApacheKafka]:
    """One broker that drops and compacts at once, and has a listener for those who log in."""
    if reason := unavailable():
        pytest.skip(reason)
    with ApacheKafka(properties=SHORT_RETENTION, sasl=True) as kafka:
        yield kafka


@pytest.fixture
def stack(refused_connections: None) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    return CLIENTS[request.param]


@pytest.fixture
def connection(lone_kafka: ApacheKafka) -> KafkaConnection:
    return KafkaConnection(lone_kafka.bootstrap_servers)


@pytest.fixture
def admin(connection: KafkaConnection, stack: ExitStack) -> KafkaAdminClient:
    return stack.enter_context(closing(KafkaAdminClient(**connection.options())))


def fresh_topics(
    admin: KafkaAdminClient, labels: Mapping[str, str], **options: object
) -> dict[Kind, str]:
    """Two topics of one partition each; ``labels`` are the configs of the second."""
    names = {kind: f"{kind}-{secrets.token_hex(6)}" for kind in Kind}
    layout = options or {"num_partitions": 1}
    admin.create_topics(
        {
            names[Kind.PREDICTIONS]: {"num_partitions": 1},
            names[Kind.LABELS]: {**layout, "configs": dict(labels)},
        }
    )
    admin.wait_for_topics(list(names.values()))
    return names


def opened(
    connection: KafkaConnection, topics: Mapping[Kind, str], stack: ExitStack, client: Client
) -> tuple[KafkaLog | ConfluentLog, KafkaSink, Partition]:
    """A log, a sink, and the partition of the labels."""
    log = client(connection, topics, wait_ms=50)
    stack.enter_context(closing(log))
    sink = stack.enter_context(closing(KafkaSink(connection)))
    return log, sink, Partition(topics[Kind.LABELS], 0)


# ------------------------------------------------------------------------------------ records gone


def test_records_that_retention_removed_before_they_were_read_cost_the_place(
    connection: KafkaConnection, admin: KafkaAdminClient, stack: ExitStack, client: Client
) -> None:
    topics = fresh_topics(admin, {"retention.ms": str(HOUR_MS)})
    log, sink, labels = opened(connection, topics, stack, client)
    generation = log.generation
    sink.publish(
        OutRecord(labels.topic, b"key", b"old", partition=0, log_ms=LONG_AGO_MS) for _ in range(10)
    )
    wait_until(lambda: log.oldest([labels]) == {labels: 10}, "dropped by retention")
    log.seek({labels: 2})
    assert poll_until(log, lambda _: log.generation > generation) == []
    assert labels not in log.at_end()
    log.seek(log.oldest([labels]))
    assert labels in log.at_end()
    sink.publish([OutRecord(labels.topic, b"key", b"new", partition=0)])
    assert offsets(read(log, count=1)) == [10]


def test_holes_that_compaction_left_are_no_gap_and_do_not_hide_the_end(
    connection: KafkaConnection, admin: KafkaAdminClient, stack: ExitStack, client: Client
) -> None:
    #  offsets   0 .. 9 with ten keys, 10 .. 19 with the same keys, ...; all but the last go
    configs = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
    }
    topics = fresh_topics(admin, configs)
    log, sink, labels = opened(connection, topics, stack, client)
    generation = log.generation
    for number in range(5):
        # Apart by their own clock: each batch begins a segment, and all but the last are compacted.
        log_ms = LONG_AGO_MS + number * HOUR_MS
        sink.publish(
            OutRecord(labels.topic, b"%d" % key, b"%d" % number, partition=0, log_ms=log_ms)
            for key in range(10)
        )
    wait_until(lambda: kept(connection, labels, end=50)[0] >= 30, "compacted")
    places = kept(connection, labels, end=50)
    for start in (0, 5, places[0] + 1):
        log.seek({labels: start})
        polled = offsets(poll_until(log, lambda _: labels in log.at_end()))
        assert polled == [offset for offset in places if offset >= start]
    assert log.generation == generation
    assert log.lag()[labels] == 0
    assert log.oldest([labels]) == {labels: 0}


def kept(connection: KafkaConnection, partition: Partition, end: int) -> list[int]:
    """The offsets of all records that are still there."""
    consumer = KafkaConsumer(**connection.options(), auto_offset_reset="earliest")
    with closing(consumer):
        consumer.assign([TopicPartition(*partition)])
        found: list[int] = []
        while not found or found[-1] < end - 1:
            found += [r.offset for records in consumer.poll(200).values() for r in records]
    return found


# ------------------------------------------------------------------------------------------- login


def test_the_settings_log_in_and_a_wrong_password_is_said_without_repeating_it(
    lone_kafka: ApacheKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings(password: str) -> Settings:
        security = {"protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", "username": USER}
        kafka = {"security": {**security, "password": password}}
        return Settings.model_validate(
            {"kafka": {**kafka, "bootstrap_servers": list(lone_kafka.sasl_bootstrap)}}
        )

    topic = f"topic-{secrets.token_hex(6)}"
    with KafkaTopics(connection_of(settings(PASSWORD))) as topics:
        assert topics.ensure({topic: 1}, log_append_time=True) == [topic]
    monkeypatch.setattr(opening, "CONNECT_TIMEOUT_MS", 1_000)
    with pytest.raises(BrokerError) as caught:
        KafkaTopics(connection_of(settings("no-such-secret")))
    assert "refused the login" in str(caught.value)
    assert "check kafka.security" in str(caught.value)
    assert "no-such-secret" not in str(caught.value)


def test_the_other_client_logs_in_too_and_says_the_same_of_a_wrong_password(
    lone_kafka: ApacheKafka, admin: KafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = fresh_topics(admin, {})

    def settings(password: str) -> Settings:
        security = {"protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", "username": USER}
        names = {str(kind): {"topic": topic} for kind, topic in topics.items()}
        kafka = {"security": {**security, "password": password}, "client": "confluent-kafka"}
        servers = {"bootstrap_servers": list(lone_kafka.sasl_bootstrap)}
        return Settings.model_validate({"kafka": {**kafka, **names, **servers}})

    with closing(open_log(settings(PASSWORD))) as log:
        assert log.partitions() == {Partition(topic, 0) for topic in topics.values()}
    monkeypatch.setattr(opening, "CONNECT_TIMEOUT_MS", 2_000)
    with pytest.raises(BrokerError) as caught:
        open_log(settings("no-such-secret"))
    assert "refused the login" in str(caught.value)
    assert "check kafka.security" in str(caught.value)
    assert "no-such-secret" not in str(caught.value)


# ------------------------------------------------------------------------------------ lost brokers


class Writer(threading.Thread):
    """Writes numbers one after the other; ``acknowledged`` are those that the log has."""

    def __init__(self, connection: KafkaConnection, partition: Partition) -> None:
        super().__init__()
        self._connection, self._partition = connection, partition
        self._stopped = threading.Event()
        self.acknowledged: list[bytes] = []
        self.errors: list[BrokerError] = []
        self.start()

    def run(self) -> None:
        topic, number = self._partition
        with closing(KafkaSink(self._connection)) as sink:
            while not self._stopped.is_set():
                value = b"%d" % len(self.acknowledged)
                try:
                    sink.publish([OutRecord(topic, b"key", value, partition=number)])
                except BrokerError as error:
                    self.errors.append(error)
                    return
                self.acknowledged.append(value)
                self._stopped.wait(0.005)

    def stop(self) -> list[bytes]:
        """What was acknowledged; a sink that gave up fails the test."""
        self._stopped.set()
        self.join()
        assert not self.errors, self.errors
        return self.acknowledged

    def wait_for(self, count: int) -> None:
        """Wait for so many more acknowledgements."""
        goal = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= goal or self.errors, "written")
        assert not self.errors, self.errors


def read_and_write_through(
    fault: Callable[[], None],
    connection: KafkaConnection,
    topics: Mapping[Kind, str],
    stack: ExitStack,
    client: Client,
) -> None:
    """A member of a group and a sink are at work while ``fault`` happens, and go on after it."""
    labels, cut = Partition(topics[Kind.LABELS], 0), SharedCut()
    group = ConsumerGroup(f"group-{secrets.token_hex(6)}", session_timeout_ms=SESSION_MS)
    log = client(connection, topics, group, wait_ms=50)
    stack.enter_context(closing(log))
    reader, writer = Member(log, cut), Writer(connection, labels)
    stack.callback(writer.stop)
    stack.callback(reader.stop)
    wait_until(lambda: len(cut.taken()) >= 50, "reading")
    fault()
    writer.wait_for(50)
    acknowledged = writer.stop()
    wait_until(lambda: set(acknowledged) <= set(values(cut.taken())) or reader.error, "read")
    reader.stop()
    found = values(cut.taken())
    assert [
        value for place, value in enumerate(found) if value not in found[:place]
    ] == acknowledged
    # One that has not seen the fault: admin clients do not find their way back.
    with closing(KafkaAdminClient(**connection.options())) as admin:
        told = admin.list_group_offsets({group.name: None})[group.name]
    assert {tp: place.offset for tp, place in told.items()} == {TopicPartition(*labels): len(found)}


@pytest.mark.parametrize("kill", [False, True], ids=["SIGTERM", "SIGKILL"])
def test_reading_and_writing_go_on_after_a_restart_of_the_only_broker(
    lone_kafka: ApacheKafka,
    connection: KafkaConnection,
    admin: KafkaAdminClient,
    stack: ExitStack,
    client: Client,
    *,
    kill: bool,
) -> None:
    topics = fresh_topics(admin, {})
    read_and_write_through(
        lambda: lone_kafka.broker(0).restart(kill=kill), connection, topics, stack, client
    )


def test_reading_and_writing_go_on_while_the_only_broker_hangs_for_a_moment(
    lone_kafka: ApacheKafka,
    connection: KafkaConnection,
    admin: KafkaAdminClient,
    stack: ExitStack,
    client: Client,
) -> None:
    def hang() -> None:
        lone_kafka.broker(0).pause()
        # The fault is its duration: there is no condition to wait for.
        threading.Event().wait(SESSION_MS / 2_000)
        lone_kafka.broker(0).resume()

    read_and_write_through(hang, connection, fresh_topics(admin, {}), stack, client)


@pytest.fixture
def connections(kafka_cluster: ApacheKafka) -> KafkaConnection:
    return KafkaConnection(kafka_cluster.bootstrap_servers)


@pytest.fixture
def admins(connections: KafkaConnection, stack: ExitStack) -> KafkaAdminClient:
    return stack.enter_context(closing(KafkaAdminClient(**connections.options())))


def leader_of(kafka: ApacheKafka, admin: KafkaAdminClient, topic: str) -> Broker:
    partition = admin.describe_topics([topic])[0]["partitions"][0]
    return kafka.broker(partition["leader_id"] - 1)


def controller_of(kafka: ApacheKafka, admin: KafkaAdminClient) -> Broker:
    quorum = admin.describe_metadata_quorum()
    return kafka.broker(quorum["topics"][0]["partitions"][0]["leader_id"] - 1)


def bring_back(kafka: ApacheKafka, broker: Broker) -> None:
    """Start it, and wait until all know of all."""
    broker.start()
    for each in kafka.brokers:
        each.wait_until(partial(each.knows, {1, 2, 3}), "one of three")


@pytest.mark.parametrize("role", ["leader of the partition", "controller"])
def test_reading_and_writing_go_on_when_one_of_three_brokers_is_killed(
    kafka_cluster: ApacheKafka,
    connections: KafkaConnection,
    admins: KafkaAdminClient,
    stack: ExitStack,
    client: Client,
    role: str,
) -> None:
    topics = fresh_topics(admins, {"min.insync.replicas": "2"})
    victim = (
        controller_of(kafka_cluster, admins)
        if role == "controller"
        else leader_of(kafka_cluster, admins, topics[Kind.LABELS])
    )
    stack.callback(bring_back, kafka_cluster, victim)
    read_and_write_through(victim.kill, connections, topics, stack, client)


def test_a_partition_without_a_leader_is_waited_for(
    kafka_cluster: ApacheKafka,
    connections: KafkaConnection,
    admins: KafkaAdminClient,
    stack: ExitStack,
    client: Client,
) -> None:
    topics = fresh_topics(admins, {"min.insync.replicas": "1"}, assignments={0: [3]})
    log, sink, labels = opened(connections, topics, stack, client)
    sink.publish([OutRecord(labels.topic, b"key", b"value", partition=0)])
    only = kafka_cluster.broker(2)
    only.kill()
    back = threading.Thread(target=bring_back, args=(kafka_cluster, only))
    stack.callback(back.join)
    back.start()
    assert log.lag()[labels] == 1
    assert log.oldest([labels]) == {labels: 0}
    assert values(read(log, count=1)) == [b"value"]


def test_an_unclean_election_that_loses_what_was_read_ends_the_reading(
    kafka_cluster: ApacheKafka,
    connections: KafkaConnection,
    admins: KafkaAdminClient,
    stack: ExitStack,
    client: Client,
) -> None:
    #  broker 1   0 1 2 3 4 5 6 7 8 9 | killed           (leader)
    #  broker 2   0 1 2 3 4 | killed      | leader       (follower)
    configs = {"min.insync.replicas": "1", "unclean.leader.election.enable": "true"}
    topics = fresh_topics(admins, configs, assignments={0: [1, 2]})
    log, sink, labels = opened(connections, topics, stack, client)
    leader, follower = kafka_cluster.broker(0), kafka_cluster.broker(1)
    sink.publish(OutRecord(labels.topic, b"key", b"both", partition=0) for _ in range(5))
    follower.kill()
    sink.publish(OutRecord(labels.topic, b"key", b"one", partition=0) for _ in range(5))
    read(log, count=10)
    leader.kill()
    stack.callback(bring_back, kafka_cluster, leader)
    follower.start()
    with pytest.raises(BrokerError, match=r"@10: was to be read next, but the log .* offset 5"):
        poll_until(log, lambda _: labels in log.at_end() and False)
