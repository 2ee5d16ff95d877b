"""Apache Kafka as the tests of the product need it: it forgets nothing, three outlive one."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import NewTopic

from tests.servers.artifacts import unavailable
from tests.servers.kafka import PASSWORD, USER, ApacheKafka, kafka_request
from tests.servers.killed_run import left_over
from tests.servers.processes import ServerError

# While a broker is away, kafka-python leaves sockets unclosed.
pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("refused_connections")]
if REASON := unavailable():
    pytest.skip(REASON, allow_module_level=True)

TOPIC = TopicPartition("records", 0)
SECONDS = 60


@pytest.fixture(scope="module")
def kafka() -> Iterator[ApacheKafka]:
    with ApacheKafka(proxied=True, sasl=True) as kafka:
        create_topic(kafka)
        yield kafka


@pytest.fixture(scope="module")
def three() -> Iterator[ApacheKafka]:
    with ApacheKafka(3) as kafka:
        create_topic(kafka)
        yield kafka


def create_topic(kafka: ApacheKafka) -> None:
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers) as admin:
        admin.create_topics(
            [NewTopic(TOPIC.topic, num_partitions=1, replication_factor=kafka.size)]
        )


def written(servers: Sequence[str], value: bytes, **options: Any) -> int:  # noqa: ANN401 - of the client
    """The offset at which it now stands on every broker that is in sync."""
    producer = KafkaProducer(bootstrap_servers=servers, acks="all", retries=100, **options)
    try:
        sent = producer.send(TOPIC.topic, value, partition=TOPIC.partition)
        return int(sent.get(timeout=SECONDS).offset)
    finally:
        producer.close()


def value_at(servers: Sequence[str], offset: int) -> bytes:
    consumer = KafkaConsumer(bootstrap_servers=servers, consumer_timeout_ms=SECONDS * 1000)
    try:
        consumer.assign([TOPIC])
        consumer.seek(TOPIC, offset)
        return bytes(next(consumer).value)
    finally:
        consumer.close()


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_record_is_there_when_the_broker_comes_back(kafka: ApacheKafka, kill: bool) -> None:
    offset = written(kafka.bootstrap_servers, b"kept")
    broker = kafka.broker(0)
    address = broker.address
    broker.restart(kill=kill)
    assert broker.address == address
    assert value_at(kafka.bootstrap_servers, offset) == b"kept"


def test_a_frozen_broker_goes_on_where_it_was(kafka: ApacheKafka) -> None:
    kafka.broker(0).pause()
    assert not kafka.broker(0).is_ready()
    kafka.broker(0).resume()
    kafka.broker(0).wait_until_ready()
    assert value_at(kafka.bootstrap_servers, written(kafka.bootstrap_servers, b"on")) == b"on"


def test_a_client_that_comes_through_the_proxy_stays_on_it(kafka: ApacheKafka) -> None:
    proxy = kafka.proxies[0]
    before = proxy.counters.bytes_up
    offset = written(kafka.proxied_bootstrap, b"through" * 10_000)
    assert proxy.counters.bytes_up - before > 70_000
    assert value_at(kafka.proxied_bootstrap, offset) == b"through" * 10_000


def test_a_request_of_one_kind_can_be_carried_out_and_its_answer_lost(kafka: ApacheKafka) -> None:
    produce = 0
    sprung = kafka.proxies[0].swallow_next_reply(kafka_request(produce))
    offset = written(kafka.proxied_bootstrap, b"once", enable_idempotence=True)
    assert sprung.is_set()
    assert value_at(kafka.bootstrap_servers, offset) == b"once"
    assert written(kafka.bootstrap_servers, b"next") == offset + 1


def test_only_who_knows_the_password_may_log_in(kafka: ApacheKafka) -> None:
    login = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"}
    as_user = {**login, "sasl_plain_username": USER, "sasl_plain_password": PASSWORD}
    assert written(kafka.sasl_bootstrap, b"mine", **as_user) >= 0
    wrong = {**as_user, "sasl_plain_password": "guessed", "bootstrap_timeout_ms": 1_000}
    with pytest.raises(kafka_errors.KafkaError):
        KafkaAdminClient(bootstrap_servers=kafka.sasl_bootstrap, **wrong)
    assert "Invalid username or password" in kafka.broker(0).log_tail()


@pytest.mark.parametrize("lose", ["kill", "stop", "pause"])
def test_three_brokers_outlive_the_loss_of_one(three: ApacheKafka, lose: str) -> None:
    offset = written(three.bootstrap_servers, b"before")
    loss: Callable[[], None] = getattr(three.broker(0), lose)
    loss()
    others = three.bootstrap_servers[1:]
    after = written(others, b"after")
    assert value_at(others, offset) == b"before"
    if lose == "pause":
        three.broker(0).resume()
    else:
        three.broker(0).start()
    three.wait_until_complete()
    assert value_at(three.bootstrap_servers, after) == b"after"


def test_a_broker_whose_properties_are_wrong_says_so() -> None:
    wrong = ApacheKafka(properties={"num.network.threads": "0"})
    with pytest.raises(ServerError, match=r"num\.network\.threads"), wrong:
        pytest.fail("a broker without threads has started")


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux: processes are watched")
def test_brokers_and_their_folders_are_gone_when_the_test_run_is_killed() -> None:
    assert not left_over("""
from tests.servers.kafka import ApacheKafka

with ApacheKafka(3) as kafka:
    holding(*kafka.brokers)
""")
