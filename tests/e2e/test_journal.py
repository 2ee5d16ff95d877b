"""Topic and store hold one unbroken chain, whoever evaluated: two workers at once, or one anew."""

import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing

import pytest

from monitor.adapters.kafka import KafkaConnection, KafkaSink, KafkaTopics
from monitor.app.brokers import open_journal
from monitor.app.live import Worker, world_of
from monitor.app.settings import Settings
from monitor.app.wiring import open_reader, provenance_of, topics_of
from monitor.codec.journal import chain_of_lines
from monitor.domain.events import Record
from monitor.domain.journal import Chain
from monitor.ports import OutRecord
from tests.app.story import MINUTES, SETTINGS, TOPICS, history, labelled, predicted

PATIENCE_S = 60.0


@pytest.fixture
def settings(embedded_broker: KafkaConnection, valkey_url: str) -> Settings:
    name = secrets.token_hex(6)
    roles = ("predictions", "labels", "dead_letters", "journal")
    return Settings.model_validate(
        {
            **SETTINGS,
            "kafka": {
                "bootstrap_servers": list(embedded_broker.bootstrap_servers),
                "group": name,
                **{role: {"topic": f"{name}.{role}"} for role in roles},
            },
            "redis": {"url": valkey_url, "namespace": f"journal-{name}", "shards": 2},
            "worker": {"batch_records": 20, "evaluate_every": "100ms", "idle_after": "100ms"},
        }
    )


@pytest.fixture
def sink(settings: Settings, embedded_broker: KafkaConnection) -> Iterator[KafkaSink]:
    with KafkaTopics(embedded_broker) as topics:
        wanted = {name: TOPICS[kind] for kind, name in topics_of(settings).items()}
        topics.ensure(wanted, log_append_time=False, retention_ms=-1)
    with closing(KafkaSink(embedded_broker)) as sink:
        yield sink


def feed(sink: KafkaSink, settings: Settings, records: Iterable[Record]) -> None:
    names = {str(kind): name for kind, name in topics_of(settings).items()}
    sink.publish(
        OutRecord(names[r.topic], r.key, r.value, partition=r.partition, log_ms=r.log_ms)
        for r in records
    )


def catch_up(settings: Settings) -> None:
    Worker(settings, world_of(settings, in_group=False)).run(until_caught_up=True)


def whole(settings: Settings) -> Chain:
    """The chain of the topic, which is that of the store, up to what it holds."""
    chain = chain_of_lines(open_journal(settings))
    with closing(open_reader(settings)) as reader:
        held, last, documents = (
            reader.journal(limit=10_000),
            reader.evaluation(),
            reader.documents(),
        )
        transitions = reader.transitions()
    assert chain.breaks == ()
    assert list(chain.entries) == held
    assert [entry.sequence for entry in held] == list(range(1, last.sequence + 1))
    assert held[-1].hash == last.chain
    found = [name for entry in held for name in entry.transitions]
    assert found == [transition.id for transition in transitions]
    provenance = provenance_of(settings)
    assert documents == {provenance.settings: provenance.document}
    return chain


def test_a_worker_leaves_one_chain_in_topic_and_store_and_goes_on_with_it_when_it_restarts(
    settings: Settings, sink: KafkaSink
) -> None:
    feed(sink, settings, history())
    catch_up(settings)
    before = whole(settings).entries
    feed(sink, settings, [predicted(MINUTES), labelled(MINUTES), predicted(MINUTES + 9)])
    catch_up(settings)
    after = whole(settings).entries
    assert after[: len(before)] == before
    assert len(after) > len(before)
    assert [bool(entry.document) for entry in after].count(True) == 2


def test_two_workers_at_once_and_a_third_after_them_write_one_chain(
    settings: Settings, sink: KafkaSink
) -> None:
    """Each reads all partitions, so that both have the numbers, and strive for the lease."""
    feed(sink, settings, history())
    ended: list[bool] = []

    def work() -> None:
        catch_up(settings)
        ended.append(True)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert ended == [True, True]
    before = whole(settings).entries
    feed(sink, settings, [predicted(MINUTES), labelled(MINUTES), predicted(MINUTES + 9)])
    catch_up(settings)
    assert whole(settings).entries[: len(before)] == before
