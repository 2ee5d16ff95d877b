"""`recallwatch check` says what works, what does not, and what would be read."""

import secrets
from collections.abc import Iterable
from contextlib import closing
from itertools import takewhile

import pytest

from monitor.adapters.kafka import KafkaConnection, KafkaSink, KafkaTopics, connection
from monitor.app.brokers import open_journal_sink
from monitor.app.check import SAMPLE, Check, checks_of
from monitor.app.settings import Settings
from monitor.app.wiring import open_store, topics_of
from monitor.domain import ledger
from monitor.domain.engine import Changes
from monitor.domain.events import Kind, Partition
from monitor.domain.ledger import Gap
from monitor.ports import OutRecord
from tests.builders import label_message, prediction_message, record
from tests.fixtures.stores import free_port
from tests.servers.redis import RedisServer

GROUPS = {"groups": {"urgent": ["lost_card"]}}
RULES = [{"name": "urgent-recall", "of": "urgent", "objective": 0.8}]


@pytest.fixture
def settings(broker: KafkaConnection, valkey_url: str) -> Settings:
    return made(broker, valkey_url)


def made(broker: KafkaConnection, url: str, **changed: object) -> Settings:
    name = secrets.token_hex(6)
    topics = {
        role: {"topic": f"{role}-{name}"}
        for role in ("predictions", "labels", "dead_letters", "journal")
    }
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": list(broker.bootstrap_servers), **topics},
            "redis": {"url": url, "namespace": f"check-{name}"},
            "intents": GROUPS,
            "rules": RULES,
            **changed,
        }
    )


def create_topics(settings: Settings, broker: KafkaConnection, *, log_append: bool = True) -> None:
    names = [*topics_of(settings).values(), settings.kafka.dead_letters.topic]
    with KafkaTopics(broker) as topics:
        topics.ensure(dict.fromkeys(names, 2), log_append_time=log_append, retention_ms=-1)


def write(broker: KafkaConnection, topic: str, values: Iterable[bytes | None]) -> None:
    sink = KafkaSink(broker)
    sink.publish(OutRecord(topic, b"key", value) for value in values)
    sink.close()


def good(number: int) -> bytes:
    return record(prediction_message(prediction_id=f"p{number}")).value or b""


def told(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.what: check for check in checks}


def failed(checks: Iterable[Check]) -> list[str]:
    return [check.what for check in checks if check.is_ok is False]


def test_everything_in_order_has_no_failure(broker: KafkaConnection, settings: Settings) -> None:
    create_topics(settings, broker)
    topics = topics_of(settings)
    write(broker, topics[Kind.PREDICTIONS], map(good, range(3)))
    write(broker, topics[Kind.LABELS], [record(label_message()).value])
    checks = list(checks_of(settings))
    assert failed(checks) == []
    said = told(checks)
    assert said["settings"].found == settings.digest()
    assert "reachable" in said["redis"].found
    assert said["redis"].found.endswith(": new")
    assert said["redis maxmemory-policy"].found == "noeviction"
    assert str(broker) in said["kafka"].found
    predictions = said[f"topic {topics[Kind.PREDICTIONS]}"].found
    assert predictions.startswith("2 partitions, LogAppendTime")
    assert said["sample of predictions"].found == "3 of 3 records can be read"
    assert "prediction_id='p" in said["first of predictions"].found
    assert "actual='lost_card'" in said["first of labels"].found


@pytest.mark.parametrize(
    ("url", "is_ok", "words"),
    [
        ("slack://TokenA/TokenB/TokenC", True, "url (not called)"),
        ("slak://TokenA/TokenB/TokenC", False, "is no address that Apprise can use"),
    ],
)
def test_receivers_are_looked_at_and_not_called(
    broker: KafkaConnection, valkey_url: str, url: str, is_ok: bool, words: str
) -> None:
    check = told(checks_of(made(broker, valkey_url, notify=[{"url": url}])))["notify"]
    assert (check.is_ok, "Token" in check.found) == (is_ok, False)
    assert words in check.found


def test_a_store_that_drops_keys_fails(broker: KafkaConnection, settings: Settings) -> None:
    with RedisServer(options={"maxmemory-policy": "allkeys-lru"}) as server:
        checks = list(checks_of(made(broker, server.url)))
    found = told(checks)["redis maxmemory-policy"]
    assert (found.is_ok, found.found) == (
        False,
        "allkeys-lru: a worker refuses it; set noeviction",
    )


def test_records_that_were_lost_fail(broker: KafkaConnection, settings: Settings) -> None:
    create_topics(settings, broker)
    with closing(open_store(settings)) as store:
        gap = Gap(Partition("labels", 0), 7, 9)
        store.commit(0, {}, Changes({}, {}, {}, {ledger.gap(gap): 1}, [], {}))
    checks = list(checks_of(settings))
    assert failed(checks) == ["ledger"]
    assert told(checks)["ledger"].found.startswith("labels[0]@7-8 were dropped by the log")


def test_a_store_that_does_not_tell_what_it_drops_is_unknown(
    broker: KafkaConnection, settings: Settings
) -> None:
    users = {"viewer": "on >secret %R~* +hgetall +hget +smembers +zrange +lrange"}
    with RedisServer(users=users) as server:
        checks = list(checks_of(made(broker, server.url_of("viewer", "secret"))))
    assert told(checks)["redis maxmemory-policy"].is_ok is None


def test_checking_leaves_nothing_behind(broker: KafkaConnection, settings: Settings) -> None:
    list(checks_of(settings))
    with KafkaTopics(broker) as topics:
        assert topics.describe(list(topics_of(settings).values())) == {}


def test_missing_topics_fail_and_are_named(settings: Settings) -> None:
    checks = list(checks_of(settings))
    names = list(topics_of(settings).values())
    assert failed(checks) == [*(f"topic {name}" for name in names), "sample"]
    assert names[0] in told(checks)["sample"].found
    for ours in (settings.kafka.dead_letters.topic, settings.kafka.journal.topic):
        check = told(checks)[f"topic {ours}"]
        assert (check.is_ok, "run` creates it" in check.found) == (None, True)


def test_a_journal_topic_as_a_worker_creates_it_is_in_order(
    broker: KafkaConnection, settings: Settings
) -> None:
    create_topics(settings, broker)
    open_journal_sink(settings).close()
    checks = list(checks_of(settings))
    assert failed(checks) == []
    (check,) = (c for c in checks if c.what == f"topic {settings.kafka.journal.topic}")
    assert check.found.startswith("1 partitions, LogAppendTime")


def test_a_journal_topic_that_drops_entries_is_worth_a_word(
    broker: KafkaConnection, settings: Settings
) -> None:
    create_topics(settings, broker)
    with KafkaTopics(broker) as topics:
        wanted = {settings.kafka.journal.topic: 1}
        topics.ensure(wanted, log_append_time=True, retention_ms=86_400_000)
    remarks = [c.found for c in checks_of(settings) if c.is_ok is None and "audited" in c.found]
    assert remarks == [
        "entries are dropped after 86400000 ms, and cannot be audited then; set retention.ms=-1"
    ]


def test_empty_topics_are_neither_right_nor_wrong(
    broker: KafkaConnection, settings: Settings
) -> None:
    create_topics(settings, broker)
    checks = list(checks_of(settings))
    assert failed(checks) == []
    for kind in Kind:
        check = told(checks)[f"sample of {kind}"]
        assert check.is_ok is None
        assert "the topic is empty" in check.found


def test_rejected_records_are_counted_by_reason(
    broker: KafkaConnection, settings: Settings
) -> None:
    create_topics(settings, broker)
    values = [good(1), good(2), good(3), b"{", None]
    write(broker, topics_of(settings)[Kind.PREDICTIONS], values)
    check = told(checks_of(settings))["sample of predictions"]
    assert check.is_ok
    assert check.found == "3 of 5 records can be read; rejected: 1 not_json, 1 null_value"


def test_a_topic_of_which_most_is_rejected_fails(
    broker: KafkaConnection, settings: Settings
) -> None:
    create_topics(settings, broker)
    write(broker, topics_of(settings)[Kind.PREDICTIONS], [good(1), b"{", b"{", b"{"])
    assert failed(checks_of(settings)) == ["sample of predictions"]


def test_messages_that_do_not_concern_us_are_told_apart(
    broker: KafkaConnection, valkey_url: str
) -> None:
    settings = made(broker, valkey_url, mapping={"predictions": {"preset": "rasa"}})
    create_topics(settings, broker)
    user = (
        b'{"event": "user", "message_id": "m1", "timestamp": 1700000000.5, "parse_data": '
        b'{"intent": {"name": "lost_card", "confidence": 0.9}}, "metadata": {"model_id": "ft"}}'
    )
    write(broker, topics_of(settings)[Kind.PREDICTIONS], [user, b'{"event": "bot"}'])
    said = told(checks_of(settings))
    assert said["sample of predictions"].found == (
        "1 of 2 records can be read, 1 do not concern us"
    )
    assert "predicted='lost_card'" in said["first of predictions"].found


def test_a_sample_is_enough(broker: KafkaConnection, settings: Settings) -> None:
    create_topics(settings, broker)
    write(broker, topics_of(settings)[Kind.PREDICTIONS], map(good, range(SAMPLE * 3)))
    write(broker, topics_of(settings)[Kind.LABELS], [record(label_message()).value] * SAMPLE * 3)
    counted = told(checks_of(settings))["sample of predictions"].found.split()[0]
    assert SAMPLE <= int(counted) <= SAMPLE * 3


def test_create_time_is_worth_a_word(broker: KafkaConnection, settings: Settings) -> None:
    create_topics(settings, broker, log_append=False)
    checks = list(checks_of(settings))
    assert failed(checks) == []
    remarks = [c.found for c in checks if c.is_ok is None and "LogAppendTime" in c.found]
    assert len(remarks) == 2


def test_settings_in_which_nothing_can_fire_fail(broker: KafkaConnection, valkey_url: str) -> None:
    settings = made(broker, valkey_url, intents={}, rules=[])
    create_topics(settings, broker)
    assert failed(checks_of(settings)) == ["intents.groups", "rules"]


def test_store_that_cannot_be_reached_does_not_keep_the_broker_from_being_looked_at(
    broker: KafkaConnection,
) -> None:
    settings = made(broker, f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    create_topics(settings, broker)
    checks = list(checks_of(settings))
    (lost,) = (check for check in checks if check.is_world)
    assert "Redis is unreachable; check redis.url" in lost.found
    assert "hunter2" not in lost.found
    assert failed(checks) == ["redis"]
    assert told(checks)["kafka"].is_ok


def test_broker_that_cannot_be_reached_is_told_beside_what_is_right(
    unreachable_broker: KafkaConnection, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_MS", 200)
    checks = list(checks_of(made(unreachable_broker, valkey_url)))
    (lost,) = (check for check in checks if check.is_world)
    assert "check kafka.bootstrap_servers" in lost.found
    assert told(checks)["redis"].is_ok


def test_topic_read_first_does_not_hide_what_stands_in_the_other(
    broker: KafkaConnection, settings: Settings
) -> None:
    create_topics(settings, broker)
    topics = topics_of(settings)
    write(broker, topics[Kind.LABELS], [record(label_message()).value] * SAMPLE * 30)
    write(broker, topics[Kind.PREDICTIONS], map(good, range(3)))
    found = told(list(checks_of(settings)))
    assert found["sample of predictions"].found.startswith("3 of 3 records")
    assert found["sample of labels"].found.startswith(f"{SAMPLE} of {SAMPLE} records")


def test_watched_intent_that_occurs_in_no_sample_is_named(
    broker: KafkaConnection, valkey_url: str
) -> None:
    settings = made(broker, valkey_url, intents={"groups": {"urgent": ["lost_card", "lots_card"]}})
    create_topics(settings, broker)
    write(broker, topics_of(settings)[Kind.PREDICTIONS], map(good, range(3)))
    remark = told(list(checks_of(settings)))["intents.groups.urgent"]
    assert remark.is_ok is None
    assert remark.found.startswith("lots_card occurs in no sampled record")


def test_a_sample_is_told_and_that_it_leaves_few_pairs_to_comparisons() -> None:
    watched = {"name": "pairs", "of": "urgent"}
    for changed, is_ok, words in (
        ({"sampling": 0.1}, True, "A 10 % sample of predictions: counts are of the sample."),
        ({"sampling": 0.1, "comparisons": [watched]}, None, "Comparisons see 1 % of the pairs"),
    ):
        settings = Settings.model_validate({"intents": GROUPS, "rules": RULES, **changed})
        known = told(takewhile(lambda check: check.what != "redis", checks_of(settings)))
        assert known["sampling"].is_ok is is_ok
        assert known["sampling"].found.endswith(words)
    whole = told(takewhile(lambda check: check.what != "redis", checks_of(Settings())))
    assert "sampling" not in whole
