"""Many members in one consumer group of Apache Kafka: who reads what, whoever comes and goes."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from kafka import KafkaAdminClient, TopicPartition

from monitor.adapters.kafka import (
    Assignor,
    ConsumerGroup,
    KafkaConnection,
    KafkaSink,
    KafkaTopics,
)
from monitor.domain.errors import BrokerError
from monitor.domain.events import Kind, Partition
from monitor.ports import OutRecord
from tests.adapters.members import CLIENTS, Child, Member, SharedCut, are_shared, wait_until
from tests.contracts.record_log import poll_until
from tests.servers.kafka import ApacheKafka

pytestmark = pytest.mark.kafka

ASSIGNORS: tuple[Assignor, ...] = ("range", "cooperative-sticky")
PARTITIONS = {Kind.PREDICTIONS: 3, Kind.LABELS: 2}
"""Not co-partitioned: a label may come through another member than its prediction."""

SESSION_MS = 3_000
"""What a silent member is given; the settings do not allow less than 6 s."""


@pytest.fixture
def connection(apache_kafka: ApacheKafka | KafkaConnection) -> KafkaConnection:
    return KafkaConnection(apache_kafka.bootstrap_servers)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def admin(connection: KafkaConnection, stack: ExitStack) -> KafkaAdminClient:
    return stack.enter_context(closing(KafkaAdminClient(**connection.options())))


@pytest.fixture
def topics(connection: KafkaConnection) -> dict[Kind, str]:
    names = {kind: f"{kind}-{secrets.token_hex(6)}" for kind in Kind}
    with KafkaTopics(connection) as admin:
        admin.ensure(
            {names[kind]: count for kind, count in PARTITIONS.items()},
            log_append_time=True,
            retention_ms=-1,
        )
    return names


@pytest.fixture
def everything(topics: dict[Kind, str]) -> frozenset[Partition]:
    return frozenset(
        Partition(topics[kind], number)
        for kind, count in PARTITIONS.items()
        for number in range(count)
    )


@pytest.fixture
def group() -> str:
    return f"group-{secrets.token_hex(6)}"


@pytest.fixture
def cut() -> SharedCut:
    return SharedCut()


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def joined(
    connection: KafkaConnection,
    topics: dict[Kind, str],
    cut: SharedCut,
    stack: ExitStack,
    client: str,
) -> Callable[[ConsumerGroup], Member]:
    """Starts members that read in threads."""

    def joined(group: ConsumerGroup) -> Member:
        log = CLIENTS[client](connection, topics, group, wait_ms=50)
        stack.enter_context(closing(log))
        member = Member(log, cut)
        stack.callback(member.join)
        stack.callback(member._stopped.set)
        return member

    return joined


@pytest.fixture
def spawned(
    connection: KafkaConnection, topics: dict[Kind, str], stack: ExitStack, client: str
) -> Callable[[ConsumerGroup], Child]:
    """Starts members that read in processes."""

    def spawned(group: ConsumerGroup) -> Child:
        child = Child(connection, topics, group, client)
        stack.callback(child.close)
        return child

    return spawned


@pytest.fixture
def write(
    connection: KafkaConnection, everything: frozenset[Partition], stack: ExitStack
) -> Callable[[int], int]:
    """Writes so many records without keys to each partition; how many there are now in all."""
    sink = stack.enter_context(closing(KafkaSink(connection)))
    written = 0

    def write(count: int) -> int:
        nonlocal written
        sink.publish(
            OutRecord(partition.topic, None, b"%d" % number, partition=partition.partition)
            for number in range(count)
            for partition in everything
        )
        written += count * len(everything)
        return written

    return write


@pytest.mark.parametrize("assignor", ASSIGNORS)
def test_every_record_is_read_once_whoever_comes_and_goes(
    joined: Callable[[ConsumerGroup], Member],
    write: Callable[[int], int],
    everything: frozenset[Partition],
    cut: SharedCut,
    group: str,
    assignor: Assignor,
) -> None:
    member = ConsumerGroup(group, session_timeout_ms=SESSION_MS, assignor=assignor)
    members: list[Member] = []
    for _ in range(3):
        members.append(joined(member))
        write(50)
        wait_until(lambda: are_shared(members, everything), "shared by all who came")
        write(50)
    members.pop(1).stop()
    write(50)
    wait_until(lambda: are_shared(members, everything), "shared by those who stayed")
    written = write(50)
    wait_until(lambda: len(cut.taken()) >= written, "read to the end")
    for stayed in members:
        stayed.stop()
    assert len({record.position for record in cut.taken()}) == len(cut.taken()) == written


def test_members_with_different_clients_share_a_group(
    connection: KafkaConnection,
    topics: dict[Kind, str],
    write: Callable[[int], int],
    everything: frozenset[Partition],
    cut: SharedCut,
    group: str,
    stack: ExitStack,
) -> None:
    member = ConsumerGroup(group, session_timeout_ms=SESSION_MS)
    members = []
    for make in CLIENTS.values():
        members.append(Member(make(connection, topics, member, wait_ms=50), cut))
        stack.callback(members[-1].stop)
    wait_until(lambda: are_shared(members, everything), "shared by both")
    written = write(50)
    wait_until(lambda: len(cut.taken()) >= written, "read to the end")


def test_a_member_keeps_reading_what_it_keeps_in_a_cooperative_rebalance(
    joined: Callable[[ConsumerGroup], Member],
    everything: frozenset[Partition],
    group: str,
) -> None:
    sticky = ConsumerGroup(group, session_timeout_ms=SESSION_MS, assignor="cooperative-sticky")
    first = joined(sticky)
    wait_until(lambda: first.log.assigned() == everything)
    second = joined(sticky)
    wait_until(lambda: are_shared([first, second], everything))
    shares = first.log.assigned(), second.log.assigned()
    third = joined(sticky)
    wait_until(lambda: are_shared([first, second, third], everything))
    # A newcomer gets what others give up: nothing moves between those who were there.
    assert first.log.assigned() <= shares[0]
    assert second.log.assigned() <= shares[1]
    shares = first.log.assigned(), second.log.assigned()
    third.stop()
    wait_until(lambda: are_shared([first, second], everything))
    assert first.log.assigned() >= shares[0]
    assert second.log.assigned() >= shares[1]
    for member in (first, second):
        assert all(member.held[member.held.index(member.log.assigned()) :])
        member.stop()


def test_a_member_with_another_assignor_is_refused_with_the_setting(
    joined: Callable[[ConsumerGroup], Member], everything: frozenset[Partition], group: str
) -> None:
    first = joined(ConsumerGroup(group, session_timeout_ms=SESSION_MS))
    wait_until(lambda: first.log.assigned() == everything)
    other = ConsumerGroup(group, session_timeout_ms=SESSION_MS, assignor="cooperative-sticky")
    assert "the same kafka.assignor" in str(joined(other).fail())
    first.stop()


def test_a_static_member_that_comes_back_in_time_moves_no_partition(
    joined: Callable[[ConsumerGroup], Member],
    write: Callable[[int], int],
    everything: frozenset[Partition],
    cut: SharedCut,
    group: str,
) -> None:
    stays = joined(ConsumerGroup(group, "worker-1", SESSION_MS))
    restarts = joined(ConsumerGroup(group, "worker-2", SESSION_MS))
    wait_until(lambda: are_shared([stays, restarts], everything))
    share, met = restarts.log.assigned(), stays.log.generation
    restarts.stop()
    written = write(10)
    again = joined(ConsumerGroup(group, "worker-2", SESSION_MS))
    wait_until(again.log.assigned)
    wait_until(lambda: len(cut.taken()) == written)
    assert again.log.assigned() == share
    assert stays.log.generation == met
    stays.stop()
    again.stop()


@pytest.mark.parametrize("assignor", ASSIGNORS)
def test_the_others_take_over_from_a_member_that_was_killed(
    joined: Callable[[ConsumerGroup], Member],
    spawned: Callable[[ConsumerGroup], Child],
    write: Callable[[int], int],
    everything: frozenset[Partition],
    cut: SharedCut,
    group: str,
    assignor: Assignor,
) -> None:
    member = ConsumerGroup(group, session_timeout_ms=SESSION_MS, assignor=assignor)
    stays = joined(member)
    wait_until(lambda: stays.log.assigned() == everything)
    child = spawned(member)
    wait_until(lambda: child.assigned and child.assigned ^ stays.log.assigned() == everything)
    write(10)
    child.kill()
    written = write(10)
    wait_until(lambda: stays.log.assigned() == everything, "taken over")
    wait_until(lambda: len(cut.taken()) == written)
    stays.stop()


def test_a_member_that_was_frozen_beyond_its_session_commits_nothing_when_it_wakes(
    joined: Callable[[ConsumerGroup], Member],
    spawned: Callable[[ConsumerGroup], Child],
    write: Callable[[int], int],
    everything: frozenset[Partition],
    admin: KafkaAdminClient,
    group: str,
) -> None:
    #  child   reads and commits 10 | frozen ................. | wakes, commits 10: refused
    #  other                        | takes over, commits 30   |
    member = ConsumerGroup(group, session_timeout_ms=SESSION_MS)
    child = spawned(member)
    wait_until(lambda: child.assigned == everything)
    everywhere = [TopicPartition(*partition) for partition in everything]

    def committed() -> set[int]:
        found = admin.list_group_offsets({group: everywhere})[group]
        return {found[tp].offset for tp in everywhere}

    write(10)
    wait_until(lambda: committed() == {10})
    child.pause()
    write(20)
    other = joined(member)
    wait_until(lambda: other.log.assigned() == everything, "taken over")
    wait_until(lambda: committed() == {30})
    before = child.rebalances
    child.resume()
    seen = set[int]()

    def is_back() -> bool:
        seen.update(committed())
        return child.rebalances > before and are_settled()

    def are_settled() -> bool:
        return bool(child.assigned) and child.assigned ^ other.log.assigned() == everything

    wait_until(is_back, "back in the group")
    assert seen == {30}
    # What it had counted is its own affair: it goes on from there, and it may have fetched some of
    # the 20 between waking and noticing that the group went on without it.
    wait_until(lambda: child.read() >= 10 * len(everything) + 20 * len(child.assigned))
    other.stop()


def test_a_second_member_with_the_same_instance_id_ends_the_first(
    joined: Callable[[ConsumerGroup], Member], everything: frozenset[Partition], group: str
) -> None:
    first = joined(ConsumerGroup(group, "worker-1", SESSION_MS))
    wait_until(lambda: first.log.assigned() == everything)
    second = joined(ConsumerGroup(group, "worker-1", SESSION_MS))
    error = first.fail()
    assert isinstance(error, BrokerError)
    assert "give each worker a kafka.instance_id of its own" in str(error)
    wait_until(lambda: second.log.assigned() == everything)
    second.stop()


def test_partitions_added_while_two_members_run_are_shared_too(
    connection: KafkaConnection,
    topics: dict[Kind, str],
    everything: frozenset[Partition],
    admin: KafkaAdminClient,
    cut: SharedCut,
    group: str,
    stack: ExitStack,
    client: str,
) -> None:
    member = ConsumerGroup(group, session_timeout_ms=SESSION_MS)
    make = CLIENTS[client]
    logs = [make(connection, topics, member, wait_ms=50, look_around_ms=200) for _ in "12"]
    members = [Member(log, cut) for log in logs]
    for each in members:
        stack.callback(each.stop)
    wait_until(lambda: are_shared(members, everything))
    admin.create_partitions({topics[Kind.LABELS]: 4})
    added = {Partition(topics[Kind.LABELS], number) for number in (2, 3)}
    with closing(KafkaSink(connection)) as sink:
        sink.publish(OutRecord(p.topic, None, b"value", partition=p.partition) for p in added)
    wait_until(lambda: are_shared(members, everything | added))
    wait_until(lambda: len(cut.taken()) == len(added))


@pytest.mark.parametrize("has_group", [True, False], ids=["in a group", "on its own"])
def test_a_topic_that_is_deleted_while_it_is_read_is_named(
    connection: KafkaConnection,
    topics: dict[Kind, str],
    everything: frozenset[Partition],
    admin: KafkaAdminClient,
    group: str,
    stack: ExitStack,
    client: str,
    *,
    has_group: bool,
) -> None:
    member = ConsumerGroup(group, session_timeout_ms=SESSION_MS) if has_group else None
    log = CLIENTS[client](connection, topics, member, wait_ms=50, look_around_ms=200)
    stack.enter_context(closing(log))
    poll_until(log, lambda _: log.assigned() == everything)
    log.seek(dict.fromkeys(everything, 0))
    admin.delete_topics([topics[Kind.LABELS]])
    with pytest.raises(BrokerError, match=f"topic {topics[Kind.LABELS]} is not on broker"):
        poll_until(log, lambda _: log.partitions() != everything)
