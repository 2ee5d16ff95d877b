"""What is true of Kafka alone: groups, gaps, limits of the broker, and how failures read."""

import inspect
import random
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import MemberToRemove
from kafka.structs import OffsetAndMetadata

from monitor.adapters.kafka import (
    ConsumerGroup,
    KafkaConnection,
    KafkaLog,
    KafkaSink,
    KafkaTopics,
    TopicInfo,
    broker_error,
    connection,
)
from monitor.adapters.kafka.log import LOOK_AROUND_MS
from monitor.adapters.kafka.sink import CHUNK_RECORDS
from monitor.app.embedded import locate_binary
from monitor.domain.errors import BrokerError
from monitor.domain.events import Kind, Partition
from monitor.ports import OutRecord
from tests.adapters.members import CLIENTS
from tests.contracts.record_log import (
    EMPTY_POLLS,
    LOG_MS,
    offsets,
    partition_of,
    poll_until,
    read,
    values,
)
from tests.fixtures.broker import fresh_topics

NOWHERE = KafkaConnection(("localhost:9092",))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def sink(broker: KafkaConnection, stack: ExitStack) -> KafkaSink:
    return stack.enter_context(closing(KafkaSink(broker)))


@pytest.fixture
def admin(broker: KafkaConnection, stack: ExitStack) -> KafkaAdminClient:
    return stack.enter_context(closing(KafkaAdminClient(**broker.options())))


@pytest.fixture(params=CLIENTS)
def opened(
    broker: KafkaConnection,
    topics: dict[Kind, str],
    stack: ExitStack,
    request: pytest.FixtureRequest,
) -> Callable[..., KafkaLog]:
    """Opens logs on the topics of this test, with each of the clients."""
    client = CLIENTS[request.param]

    def opened(group: ConsumerGroup | None = None, **options: object) -> KafkaLog:
        log: Any = client(broker, topics, group, wait_ms=50, **options)  # type: ignore[arg-type] # any of its options
        stack.callback(log.close)
        return cast(KafkaLog, log)

    return opened


@pytest.fixture
def group() -> ConsumerGroup:
    return ConsumerGroup(f"group-{secrets.token_hex(6)}")


@pytest.fixture
def labels(topics: dict[Kind, str]) -> Partition:
    return Partition(topics[Kind.LABELS], 0)


def written(partition: Partition, count: int, start: int = 0) -> list[OutRecord]:
    return [
        OutRecord(partition.topic, b"key", b"%d" % number, partition=partition.partition)
        for number in range(start, start + count)
    ]


def wait_for_partitions(log: KafkaLog) -> None:
    """Wait, and stand at the oldest records."""
    for _ in range(EMPTY_POLLS):
        if log.assigned():
            log.seek(log.oldest(log.assigned()))
            return
        assert log.poll(100) == []
    raise AssertionError("the group gave no partitions")


def wait_until(is_settled: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(EMPTY_POLLS):
        if is_settled():
            return
        pause.wait(0.1)
    raise AssertionError("the group did not settle")


class Worker(threading.Thread):
    """Polls a log until it is stopped, as one process of a group would."""

    def __init__(self, log: KafkaLog) -> None:
        super().__init__()
        self._log, self._stopped = log, threading.Event()
        self.start()

    def run(self) -> None:
        generation = -1
        while not self._stopped.is_set():
            self._log.poll(100)
            if self._log.generation != generation:
                generation = self._log.generation
                self._log.seek(self._log.oldest(self._log.assigned()))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


# ------------------------------------------------------------------------------------- connection


def test_a_connection_never_shows_its_password() -> None:
    login = KafkaConnection(username="me", password="s3cret", protocol="SASL_SSL")
    assert "s3cret" not in repr(login) + str(login)
    assert login.options()["sasl_plain_password"] == "s3cret"


def test_a_connection_leaves_to_the_client_what_is_not_set() -> None:
    assert KafkaConnection(("a:1", "b:2")).options() == {
        "bootstrap_servers": ["a:1", "b:2"],
        "client_id": "recallwatch",
        "security_protocol": "PLAINTEXT",
    }


def test_a_connection_hands_on_the_files_of_tls() -> None:
    tls = KafkaConnection(ca_file="ca.pem", cert_file="me.pem", key_file="me.key")
    assert {n: v for n, v in tls.options().items() if n.startswith("ssl_")} == {
        "ssl_cafile": "ca.pem",
        "ssl_certfile": "me.pem",
        "ssl_keyfile": "me.key",
    }


@pytest.mark.parametrize("make", [KafkaSink, KafkaTopics, lambda c: KafkaLog(c, {})])
def test_an_unreachable_broker_is_named_with_the_setting_and_leaves_no_thread(
    make: Callable[[KafkaConnection], object],
    unreachable_broker: KafkaConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_MS", 200)
    threads = set(threading.enumerate())
    with pytest.raises(BrokerError) as caught:
        make(unreachable_broker)
    assert f"broker {unreachable_broker} is unreachable while connecting" in str(caught.value)
    assert "check kafka.bootstrap_servers" in str(caught.value)
    assert set(threading.enumerate()) <= threads


def test_an_unreachable_broker_is_reported_within_ten_seconds() -> None:
    assert connection.CONNECT_TIMEOUT_MS <= 10_000


# ---------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for _, kind in inspect.getmembers(kafka_errors, inspect.isclass)
        if issubclass(kind, Exception)
    ],
)
def test_every_error_of_the_client_becomes_a_broker_error_with_a_remedy(
    kind: type[Exception],
) -> None:
    error = broker_error(kind("why"), NOWHERE, "reading")
    assert type(error) is BrokerError
    assert kind.__name__ in str(error)
    what, _, remedy = str(error).partition("; ")
    assert "localhost:9092" in what
    assert "while reading" in what
    assert remedy


def test_long_answers_of_a_broker_are_cut_short() -> None:
    assert len(str(broker_error(RuntimeError("x" * 100_000), NOWHERE, "reading"))) < 500


# ---------------------------------------------------------------------------------------- topics


def test_missing_topics_are_created_and_others_left_alone(
    broker: KafkaConnection, labels: Partition
) -> None:
    new = f"new-{secrets.token_hex(6)}"
    with KafkaTopics(broker) as admin:
        wanted = {new: 3, labels.topic: 7}
        assert admin.ensure(wanted, log_append_time=True, retention_ms=86_400_000) == [new]
        assert admin.ensure(wanted, log_append_time=True, retention_ms=1) == []
        assert admin.describe([new, labels.topic, "nowhere"]) == {
            new: TopicInfo(3, "LogAppendTime", 86_400_000, "delete"),
            labels.topic: TopicInfo(1, "CreateTime", -1, "delete"),
        }


def test_describing_a_missing_topic_does_not_create_it(
    broker: KafkaConnection, admin: KafkaAdminClient
) -> None:
    missing = f"missing-{secrets.token_hex(6)}"
    with KafkaTopics(broker) as topics:
        assert topics.describe([missing]) == {}
    assert missing not in admin.list_topics()


def test_a_topic_that_cannot_be_created_is_named(broker: KafkaConnection) -> None:
    with KafkaTopics(broker) as admin, pytest.raises(BrokerError, match="no spaces"):
        admin.ensure({"no spaces": 1}, log_append_time=True)


def test_a_missing_topic_is_named_with_its_setting_and_not_created(
    broker: KafkaConnection, topics: dict[Kind, str], admin: KafkaAdminClient
) -> None:
    missing = f"missing-{secrets.token_hex(6)}"
    with pytest.raises(BrokerError) as caught:
        KafkaLog(broker, {**topics, Kind.LABELS: missing}, ConsumerGroup("any"))
    assert f"topic {missing} is not on broker" in str(caught.value)
    assert "set kafka.labels.topic" in str(caught.value)
    assert missing not in admin.list_topics()


# --------------------------------------------------------------------------------------- reading


def test_log_append_time_is_told_from_a_time_of_the_producer(
    broker: KafkaConnection, sink: KafkaSink, stack: ExitStack
) -> None:
    topics = fresh_topics(broker, log_append_time=True)
    sink.publish([OutRecord(topics[Kind.LABELS], b"key", b"value", log_ms=1)])
    log = stack.enter_context(closing(KafkaLog(broker, topics)))
    record = read(log, count=1)[0]
    assert record.log_append_time
    assert record.log_ms > 1


def test_a_record_without_a_time_has_log_time_zero(
    sink: KafkaSink, opened: Callable[..., KafkaLog], labels: Partition
) -> None:
    sink.publish([OutRecord(labels.topic, b"key", b"value", log_ms=-1)])
    assert read(opened(), count=1)[0].log_ms == 0


def test_aborted_and_open_transactions_are_not_read_and_do_not_hide_the_end(
    broker: KafkaConnection,
    opened: Callable[..., KafkaLog],
    labels: Partition,
    stack: ExitStack,
) -> None:
    producer = KafkaProducer(**broker.options(), transactional_id=secrets.token_hex(6))
    stack.enter_context(closing(producer))
    producer.init_transactions()
    for value, end in [
        (b"kept", producer.commit_transaction),
        (b"aborted", producer.abort_transaction),
        (b"open", producer.flush),
    ]:
        producer.begin_transaction()
        producer.send(labels.topic, value)
        end()
    committed, uncommitted = opened(), opened(isolation_level="read_uncommitted")
    assert values(poll_until(committed, lambda _: labels in committed.at_end())) == [b"kept"]
    assert committed.lag()[labels] == 0
    assert values(poll_until(uncommitted, lambda _: labels in uncommitted.at_end()))[-1] == b"open"
    producer.commit_transaction()
    assert values(read(committed, count=1)) == [b"open"]
    # The last thing in the partition is now the mark of the commit.
    assert poll_until(committed, lambda _: labels in committed.at_end()) == []
    assert committed.lag()[labels] == 0


def test_a_topic_created_anew_while_it_is_read_ends_the_reading(
    broker: KafkaConnection,
    sink: KafkaSink,
    opened: Callable[..., KafkaLog],
    labels: Partition,
    admin: KafkaAdminClient,
    stack: ExitStack,
) -> None:
    sink.publish(written(labels, 10))
    log = opened()
    read(log, count=10)
    created_anew(broker, admin, labels.topic)
    fresh_sink = stack.enter_context(closing(KafkaSink(broker)))
    fresh_sink.publish(written(labels, 3))
    with pytest.raises(BrokerError, match=r"created anew .* redis\.namespace"):
        poll_until(log, lambda _: False)
    with pytest.raises(BrokerError, match="closed"):
        log.poll(10)


def test_an_end_before_our_place_ends_the_reading_whoever_notices_it(
    broker: KafkaConnection,
    sink: KafkaSink,
    opened: Callable[..., KafkaLog],
    labels: Partition,
    admin: KafkaAdminClient,
) -> None:
    sink.publish(written(labels, 10))
    log = opened()
    read(log, count=10)
    created_anew(broker, admin, labels.topic)
    for ask in (log.at_end, log.lag, lambda: log.seek({labels: 10})):
        with pytest.raises(BrokerError, match="@10: was to be read next, but the log ends at offs"):
            ask()


def created_anew(broker: KafkaConnection, admin: KafkaAdminClient, topic: str) -> None:
    admin.delete_topics([topic])
    with KafkaTopics(broker) as topics:
        wait_until(lambda: topic not in admin.list_topics())
        topics.ensure({topic: 1}, log_append_time=False, retention_ms=-1)


@pytest.mark.parametrize("has_group", [True, False], ids=["in a group", "on its own"])
def test_partitions_added_while_running_are_found_with_the_records_in_them(
    opened: Callable[..., KafkaLog],
    sink: KafkaSink,
    group: ConsumerGroup,
    labels: Partition,
    admin: KafkaAdminClient,
    stack: ExitStack,
    broker: KafkaConnection,
    *,
    has_group: bool,
) -> None:
    log = opened(group if has_group else None, look_around_ms=200)
    wait_for_partitions(log)
    before, generation = log.assigned(), log.generation
    admin.create_partitions({labels.topic: 3})
    filled, empty = Partition(labels.topic, 1), Partition(labels.topic, 2)
    # One that has not heard of the partitions yet would wait for them.
    stack.enter_context(closing(fresh_sink := KafkaSink(broker)))
    fresh_sink.publish(written(filled, 3))
    poll_until(log, lambda _: log.assigned() == before | {filled, empty})
    assert log.generation > generation
    assert log.partitions() == log.assigned()
    log.seek(log.oldest(log.assigned()))
    assert [partition_of(record) for record in read(log, count=3)] == [filled] * 3
    fresh_sink.publish(written(empty, 2))
    assert offsets(read(log, count=2)) == [0, 1]


def test_added_partitions_are_found_within_a_minute() -> None:
    assert LOOK_AROUND_MS <= 60_000


# ---------------------------------------------------------------------------------------- groups


def test_a_commit_tells_others_how_far_the_group_is(
    sink: KafkaSink,
    opened: Callable[..., KafkaLog],
    group: ConsumerGroup,
    labels: Partition,
    admin: KafkaAdminClient,
) -> None:
    sink.publish(written(labels, 10))
    log = opened(group)
    wait_for_partitions(log)
    log.commit({labels: 4, Partition("elsewhere", 0): 9})
    wait_until(lambda: committed(admin, group, labels) == 4)


@pytest.mark.parametrize(
    "offset",
    [
        pytest.param(0, id="set back"),
        pytest.param(9, id="set forward"),
        pytest.param(999, id="set beyond the end"),
    ],
)
def test_committed_offsets_that_an_administrator_has_set_do_not_matter(
    broker: KafkaConnection,
    sink: KafkaSink,
    opened: Callable[..., KafkaLog],
    group: ConsumerGroup,
    topics: dict[Kind, str],
    labels: Partition,
    offset: int,
) -> None:
    everywhere = [labels, *(Partition(topics[Kind.PREDICTIONS], number) for number in (0, 1))]
    for partition in everywhere:
        sink.publish(written(partition, 10))
        set_committed(broker, group, partition, offset)
    log = opened(group)
    for _ in range(EMPTY_POLLS):
        if log.assigned():
            break
        assert log.poll(100) == []
    # Nothing before the reader has said where.
    assert [log.poll(100) for _ in range(3)] == [[], [], []]
    log.seek({**dict.fromkeys(everywhere, 10), labels: 4})
    assert offsets(read(log, count=6)) == [4, 5, 6, 7, 8, 9]


def test_lag_of_a_group_is_told_from_outside_it_counted_from_commits_or_the_oldest_records(
    broker: KafkaConnection,
    sink: KafkaSink,
    topics: dict[Kind, str],
    group: ConsumerGroup,
    labels: Partition,
    admin: KafkaAdminClient,
) -> None:
    #  labels[0]       0 .. 9, dropped before 2     committed: nothing, 6, 1 (dropped), 999 (beyond)
    #  predictions[0]  0 .. 4                       committed: nothing
    sink.publish(written(labels, 10) + written(Partition(topics[Kind.PREDICTIONS], 0), 5))
    admin.delete_records({TopicPartition(*labels): 2})
    with KafkaTopics(broker) as asked:
        wait_until(lambda: has_coordinator(asked, group))
        assert asked.lag(group.name, topics.values()) == 8 + 5
        for offset, behind in [(6, 4), (1, 8), (999, 0)]:
            set_committed(broker, group, labels, offset)
            assert asked.lag(group.name, topics.values()) == behind + 5


def test_lag_of_a_group_on_a_missing_topic_is_an_error(
    broker: KafkaConnection, group: ConsumerGroup
) -> None:
    with KafkaTopics(broker) as asked, pytest.raises(BrokerError, match="does not have the topic"):
        asked.lag(group.name, [f"missing-{secrets.token_hex(6)}"])


def has_coordinator(asked: KafkaTopics, group: ConsumerGroup) -> bool:
    """False for a moment after the first group of a cluster was asked for."""
    try:
        asked.lag(group.name, [])
    except BrokerError:
        return False
    return True


def set_committed(
    broker: KafkaConnection, group: ConsumerGroup, partition: Partition, offset: int
) -> None:
    """As an administrator would, while the group has no members."""
    with closing(KafkaConsumer(**broker.options(), group_id=group.name)) as consumer:
        tp = TopicPartition(*partition)
        consumer.assign([tp])
        consumer.commit({tp: OffsetAndMetadata(offset, "", -1)})


def committed(admin: KafkaAdminClient, group: ConsumerGroup, partition: Partition) -> int:
    tp = TopicPartition(*partition)
    told = admin.list_group_offsets({group.name: [tp]})[group.name]
    offset: int = told[tp].offset if tp in told else -1
    return offset


def test_no_record_comes_before_the_reader_could_seek(
    sink: KafkaSink, opened: Callable[..., KafkaLog], group: ConsumerGroup, labels: Partition
) -> None:
    sink.publish(written(labels, 10))
    log = opened(group)
    assert (log.generation, log.assigned()) == (0, frozenset())
    wait_for_partitions(log)
    assert log.generation > 0
    log.seek({labels: 7})
    assert offsets(read(log, count=3)) == [7, 8, 9]


def test_two_workers_share_the_partitions_and_one_takes_over_when_the_other_leaves(
    sink: KafkaSink, opened: Callable[..., KafkaLog], group: ConsumerGroup, stack: ExitStack
) -> None:
    first, second = opened(group), opened(group)
    everything = first.partitions()
    # The embedded broker never answers two members that join some 300 ms apart.
    wait_for_partitions(first)
    workers = [Worker(first), Worker(second)]
    for worker in workers:
        stack.callback(worker.stop)

    def are_shared() -> bool:
        return bool(second.assigned()) and first.assigned() ^ second.assigned() == everything

    wait_until(are_shared)
    for worker in workers:
        worker.stop()
    assert first.assigned()

    given_up, generation = second.assigned(), first.generation
    sink.publish(record for partition in everything for record in written(partition, 5))
    second.close()
    polled = poll_until(first, lambda _: first.assigned() == everything)
    assert first.generation > generation
    assert not given_up & {partition_of(record) for record in polled}
    first.seek(dict.fromkeys(everything, 0))
    assert len(read(first, count=15)) == 15


def test_a_worker_that_was_put_out_commits_nothing_and_joins_again(
    sink: KafkaSink,
    opened: Callable[..., KafkaLog],
    group: ConsumerGroup,
    labels: Partition,
    admin: KafkaAdminClient,
) -> None:
    static = ConsumerGroup(group.name, instance_id="worker-1")
    sink.publish(written(labels, 10))
    log = opened(static)
    wait_for_partitions(log)
    read(log, count=10)
    generation = log.generation
    put_out(admin, group.name, "worker-1")
    log.commit({labels: 10})
    poll_until(log, lambda _: log.generation > generation and bool(log.assigned()))
    log.seek({labels: 10})
    log.commit({labels: 10})
    log.close()
    assert committed(admin, group, labels) == 10


def put_out(admin: KafkaAdminClient, group: str, instance_id: str) -> None:
    admin.remove_group_members(group, [MemberToRemove(group_instance_id=instance_id)])


def test_a_second_worker_with_the_same_instance_id_ends_the_first_with_a_clear_text(
    opened: Callable[..., KafkaLog], group: ConsumerGroup, labels: Partition
) -> None:
    static = ConsumerGroup(group.name, instance_id="worker-1")
    first = opened(static)
    wait_for_partitions(first)
    second = opened(static)
    wait_for_partitions(second)

    def commit() -> None:
        first.commit({labels: 0})
        # Not every client waits for the answer.
        poll_until(first, lambda _: False)

    with pytest.raises(BrokerError, match=r"kafka\.instance_id of its own"):
        commit()


# --------------------------------------------------------------------------------------- writing


def raw(broker: KafkaConnection, partition: Partition, count: int) -> list[Any]:
    consumer = KafkaConsumer(**broker.options(), auto_offset_reset="earliest")
    with closing(consumer):
        consumer.assign([TopicPartition(*partition)])
        found: list[Any] = []
        for _ in range(EMPTY_POLLS):
            found += [r for records in consumer.poll(200).values() for r in records]
            if len(found) >= count:
                return found
    raise AssertionError(f"no more than {len(found)} records came")


def test_headers_are_written(broker: KafkaConnection, sink: KafkaSink, labels: Partition) -> None:
    headers = (("reason", b"not_json"), ("detail", b""))
    sink.publish([OutRecord(labels.topic, b"key", b"value", headers)])
    record = raw(broker, labels, 1)[0]
    assert record.headers == list(headers)


def test_a_record_too_large_for_the_broker_is_cut_and_the_others_are_not(
    broker: KafkaConnection, sink: KafkaSink, labels: Partition
) -> None:
    records = written(labels, 50)
    size = 3 * 1024 * 1024
    for place in (7, 23):
        records[place] = OutRecord(
            labels.topic, b"key", b"x" * size, (("reason", b"too_large"),), 0, 1_700_000_000_000
        )
    sink.publish(records)
    sink.publish(written(labels, 1, start=50))
    found = {r.value: r for r in raw(broker, labels, 51)}
    assert len(found) == 50
    assert set(found) == {b"x" * 1024, *(b"%d" % n for n in range(51) if n not in (7, 23))}
    large = found[b"x" * 1024]
    assert large.headers == [("reason", b"too_large"), ("truncated", str(size).encode())]
    assert (large.key, large.timestamp) == (b"key", 1_700_000_000_000)


def test_a_record_too_large_without_its_value_is_an_error(
    sink: KafkaSink, labels: Partition
) -> None:
    with pytest.raises(BrokerError, match=r"too large .* even without its value"):
        sink.publish([OutRecord(labels.topic, b"k" * 3_000_000, b"value")])


def test_a_partition_that_does_not_exist_is_an_error(sink: KafkaSink, labels: Partition) -> None:
    with pytest.raises(BrokerError, match=f"partition 5 for topic {labels.topic}"):
        sink.publish([OutRecord(labels.topic, b"key", b"value", partition=5)])


def test_more_records_than_one_chunk_all_arrive_in_order(
    sink: KafkaSink, opened: Callable[..., KafkaLog], labels: Partition
) -> None:
    count = 2 * CHUNK_RECORDS + 1
    sink.publish(written(labels, count))
    polled = read(opened(), count=count, max_records=CHUNK_RECORDS)
    assert values(polled) == [b"%d" % number for number in range(count)]


@pytest.mark.usefixtures("refused_connections")
def test_a_sink_and_a_log_outlive_a_restart_of_the_broker(tmp_path: Path, stack: ExitStack) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lone = KafkaConnection((f"127.0.0.1:{port}",))
    server = started_broker(tmp_path, port)
    stack.callback(lambda: stopped(server))
    topics = fresh_topics(lone)
    labels = Partition(topics[Kind.LABELS], 0)
    sink = stack.enter_context(closing(KafkaSink(lone)))
    log = stack.enter_context(closing(KafkaLog(lone, topics)))
    sink.publish(written(labels, 10))
    read(log, count=10)

    stopped(server)
    again = started_broker(tmp_path, port)
    stack.callback(lambda: stopped(again))
    sink.publish(written(labels, 10, start=10))
    assert values(read(log, count=10)) == [b"%d" % number for number in range(10, 20)]


def started_broker(folder: Path, port: int) -> subprocess.Popen[bytes]:
    binary = str(locate_binary("noida_db", "noida-db"))
    place = ["--data-dir", str(folder), "--host", "127.0.0.1", "--kafka-port", str(port)]
    return subprocess.Popen(
        [binary, "start", "--only", "kafka", *place],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def stopped(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    server.wait(timeout=60)


# Pausing, and places by time


def test_a_paused_partition_is_silent_and_goes_on_where_it_stood(
    opened: Callable[..., KafkaLog], sink: KafkaSink, topics: dict[Kind, str]
) -> None:
    # The client by itself never reads on when it was paused in the middle of what it had fetched.
    waiting, busy = Partition(topics[Kind.LABELS], 0), Partition(topics[Kind.PREDICTIONS], 0)
    sink.publish([*written(waiting, 2_000), *written(busy, 2_000)])
    log = opened()
    before = poll_until(log, lambda found: any(partition_of(r) == waiting for r in found), 100)
    log.pause([waiting])
    log.pause([waiting])
    of_busy = [r for r in before if partition_of(r) == busy]
    while len(of_busy) < 2_000:
        found = log.poll(100)
        assert all(partition_of(r) == busy for r in found)
        of_busy += found
    log.resume([waiting])
    of_waiting = [r for r in before if partition_of(r) == waiting]
    of_waiting += read(log, 2_000 - len(of_waiting))
    assert offsets(of_waiting) == list(range(2_000))


def test_pausing_a_partition_that_is_not_read_is_passed_over(
    opened: Callable[..., KafkaLog],
) -> None:
    log = opened()
    log.pause([Partition("elsewhere", 0)])
    log.resume([Partition("elsewhere", 0)])
    assert log.poll(10) == []


def test_offsets_are_found_by_log_time(
    opened: Callable[..., KafkaLog], sink: KafkaSink, labels: Partition
) -> None:
    #  log times   10 20 20 40 | end
    sink.publish(
        OutRecord(labels.topic, b"key", b"value", partition=0, log_ms=LOG_MS + ms)
        for ms in (10, 20, 20, 40)
    )
    log = opened()
    found = [log.offsets_at(LOG_MS + ms)[labels] for ms in (-LOG_MS - 1, 10, 11, 20, 21, 40, 41)]
    assert found == [0, 0, 1, 1, 3, 3, 4]
    assert log.offsets_at(LOG_MS).keys() == log.partitions()


def test_each_record_comes_once_in_its_place_however_places_and_pauses_change(
    opened: Callable[..., KafkaLog], sink: KafkaSink
) -> None:
    count, dice, log = 500, random.Random(8), opened()
    everywhere = sorted(log.assigned())
    sink.publish(record for p in everywhere for record in written(p, count))
    places, paused = dict.fromkeys(everywhere, 0), set[Partition]()
    for _ in range(200):
        some = dice.sample(everywhere, 2)
        match dice.choice(["poll", "poll", "poll", "seek", "pause", "resume"]):
            case "seek":
                chosen = {p: dice.choice([0, dice.randrange(count), count]) for p in some}
                log.seek(chosen)
                places |= chosen
            case "pause":
                log.pause(some)
                paused |= {*some}
            case "resume":
                log.resume(some)
                paused -= {*some}
            case _:
                for record in log.poll(dice.choice([1, 7, 200])):
                    partition = partition_of(record)
                    assert partition not in paused
                    assert record.offset == places[partition]
                    assert record.value == b"%d" % record.offset
                    places[partition] += 1
        assert log.places() == places
        assert log.at_end() == {p for p in everywhere if places[p] == count}
