"""Which client reads is a setting."""

import importlib.util
from contextlib import closing

import pytest

from monitor.adapters.kafka import KafkaConnection, KafkaLog
from monitor.adapters.kafka.confluent import ConfluentLog
from monitor.app.brokers import open_log
from monitor.app.settings import Settings, SettingsError
from monitor.domain.events import Kind


def settings(broker: KafkaConnection, topics: dict[Kind, str], **kafka: str) -> Settings:
    names = {str(kind): {"topic": topic} for kind, topic in topics.items()}
    servers = {"bootstrap_servers": list(broker.bootstrap_servers)}
    return Settings.model_validate({"kafka": {**servers, **names, **kafka}})


@pytest.mark.parametrize(
    ("kafka", "kind"),
    [({}, KafkaLog), ({"client": "confluent-kafka"}, ConfluentLog)],
    ids=["by default", "confluent-kafka"],
)
def test_the_log_is_read_with_the_client_that_is_set(
    broker: KafkaConnection,
    topics: dict[Kind, str],
    kafka: dict[str, str],
    kind: type[object],
) -> None:
    with closing(open_log(settings(broker, topics, **kafka))) as log:
        assert type(log) is kind


def test_a_client_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("monitor.app.brokers.find_spec", lambda _: None)
    chosen = Settings.model_validate({"kafka": {"client": "confluent-kafka"}})
    with pytest.raises(SettingsError, match=r"kafka\.client: .* pip install 'recallwatch\[fast\]'"):
        open_log(chosen)


def test_the_extra_is_installed_where_the_tests_run() -> None:
    assert importlib.util.find_spec("confluent_kafka")
