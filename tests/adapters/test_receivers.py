"""Receivers against real web servers: good ones, dead ones, slow ones and those that refuse."""

import json
import logging
import socket
from collections.abc import Callable, Iterable

import pytest

from monitor.adapters.receivers import AlertmanagerReceiver, TopicReceiver, WebhookReceiver
from monitor.adapters.receivers_apprise import AppriseReceiver
from monitor.domain.alerts import Event, Status
from monitor.domain.errors import BrokerError, DeliveryError
from monitor.domain.notices import Mode
from monitor.ports import OutRecord, Receiver
from tests.adapters.notices import notice_of, transition
from tests.builders import T0
from tests.servers.hooks import Hook, hook

SECRET = "hunter2"
SHORT_S = 0.2
LONG_S = 20.0


def webhook(address: str, timeout_s: float) -> Receiver:
    return WebhookReceiver(f"http://me:{SECRET}@{address}/{SECRET}?key={SECRET}", timeout_s)


def alertmanager(address: str, timeout_s: float) -> Receiver:
    return AlertmanagerReceiver(f"http://me:{SECRET}@{address}/{SECRET}", timeout_s)


def apprise(address: str, timeout_s: float) -> Receiver:
    return AppriseReceiver(f"json://me:{SECRET}@{address}/{SECRET}", timeout_s)


ALL: list[Callable[[str, float], Receiver]] = [webhook, alertmanager, apprise]


def address(told: Hook) -> str:
    return told.url.removeprefix("http://")


def failure(receiver: Receiver) -> str:
    with pytest.raises(DeliveryError) as caught:
        receiver.send(notice_of(transition()))
    error = caught.value
    assert SECRET not in f"{error!r} {error.__cause__!r}"
    return str(error)


@pytest.mark.parametrize("make", ALL)
def test_a_server_that_answers_takes_the_notice_once(make: Callable[..., Receiver]) -> None:
    with hook() as told:
        make(address(told), LONG_S).send(notice_of(transition()))
        assert len(told.posted) == 1


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("status", [500, 404])
def test_a_server_that_refuses_is_an_error_without_secrets(
    make: Callable[..., Receiver], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with hook(status=status) as told:
        text = failure(make(address(told), LONG_S))
    assert text.endswith(f"answered {status}") or "Apprise says" in text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("make", ALL)
def test_a_server_that_is_not_there_is_an_error_without_secrets(
    make: Callable[..., Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        text = failure(make(f"127.0.0.1:{unheard.getsockname()[1]}", LONG_S))
    assert "refuses connections" in text or "Apprise says" in text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("make", [webhook, alertmanager])
def test_a_server_that_says_nothing_is_given_up(make: Callable[..., Receiver]) -> None:
    with hook(is_slow=True) as told:
        assert "did not answer within 0.2 s" in failure(make(address(told), SHORT_S))


def test_apprise_gives_up_a_server_that_says_nothing() -> None:
    with hook(is_slow=True) as told:
        assert "Apprise says" in failure(apprise(address(told), SHORT_S))


@pytest.mark.parametrize("make", ALL)
def test_a_redirect_is_not_followed(make: Callable[..., Receiver]) -> None:
    with hook() as other, hook(status=307, location=f"{other.url}/steal") as told:
        failure(make(address(told), LONG_S))
        assert other.posted == []


def test_a_webhook_gets_json_with_the_ids_to_know_repeats_by() -> None:
    notice = notice_of(transition(1), transition(2, (Status.FIRING, Status.OK)))
    with hook() as told:
        webhook(address(told), LONG_S).send(notice)
        posted = told.posted[0]
    assert posted.headers["Idempotency-Key"] == notice.id
    assert posted.headers["Authorization"].startswith("Basic ")
    assert posted.headers["Content-Type"] == "application/json"
    document = json.loads(posted.body)
    assert (document["id"], document["severity"]) == (notice.id, "page")
    raised, resolved = document["alerts"]
    assert (raised["news"], resolved["news"]) == ("raised", "resolved")
    assert resolved["began"] == raised["transition_id"] == notice.transition_ids[0]
    assert raised["evidence"]["hits"] == 12
    assert raised["missed"][0]["predicted_intent"] == "chat"


def test_apprise_gets_title_and_text() -> None:
    notice = notice_of(transition())
    with hook() as told:
        apprise(address(told), LONG_S).send(notice)
        document = json.loads(told.posted[0].body)
    assert (document["title"], document["type"]) == (notice.title, "failure")
    assert document["message"].splitlines()[0] == notice.text.splitlines()[0]


def test_an_address_that_apprise_does_not_know_is_refused_at_the_start() -> None:
    with pytest.raises(DeliveryError, match=r"nonsense://… is no address") as caught:
        AppriseReceiver(f"nonsense://{SECRET}", LONG_S)
    assert SECRET not in str(caught.value)


def test_alertmanager_gets_labels_a_start_and_an_end() -> None:
    stall = transition(2, (Status.FIRING, Status.FIRING), event=Event.STALLED)
    with hook() as told:
        alertmanager(address(told), LONG_S).send(notice_of(transition(), stall, mode=Mode.LEVEL))
        posted = told.posted[0]
    assert posted.path.endswith("/api/v2/alerts")
    fired, stalled = json.loads(posted.body)
    assert fired["labels"]["alertname"] == "RecallwatchFiring"
    assert stalled["labels"]["alertname"] == "RecallwatchStalled"
    assert fired["labels"]["severity"] == "page"
    assert fired["startsAt"] == "2026-01-15T02:00:00.000+00:00"
    assert fired["endsAt"] == "2026-01-15T02:05:00.000+00:00"
    assert fired["annotations"]["runbook_url"] == "https://wiki/urgent"


class Sink:
    def __init__(self, *, fails: bool = False) -> None:
        self.published: list[OutRecord] = []
        self.fails, self.is_closed = fails, False

    def publish(self, records: Iterable[OutRecord]) -> None:
        if self.fails:
            raise BrokerError("no broker answers")
        self.published += records

    def close(self) -> None:
        self.is_closed = True


def test_a_topic_gets_each_transition_under_the_alerts_fingerprint() -> None:
    sink = Sink()
    TopicReceiver("alerts", lambda: sink).send(
        notice_of(transition(1), transition(2, rule="fraud"), mode=Mode.RECORD)
    )
    first, second = sink.published
    assert first.value is not None
    document = json.loads(first.value)
    assert (first.topic, document["transition_id"]) == ("alerts", transition(1).id)
    assert first.key == document["fingerprint"].encode() != second.key
    assert document["at_ms"] == T0


def test_a_topic_is_opened_anew_after_the_broker_failed() -> None:
    sinks = [Sink(fails=True), Sink()]
    opened = iter(sinks)
    receiver = TopicReceiver("alerts", lambda: next(opened))
    assert failure(receiver) == "topic alerts: no broker answers"
    assert sinks[0].is_closed
    receiver.send(notice_of(transition(), mode=Mode.RECORD))
    assert len(sinks[1].published) == 1
