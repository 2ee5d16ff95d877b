"""The real Alertmanager receives, groups, silences and resolves our alerts."""

import json
import shutil
import time
from collections.abc import Iterator

import pytest

from monitor.adapters.receivers import AlertmanagerReceiver
from monitor.domain.alerts import Status, Transition
from monitor.domain.notices import Mode
from tests.adapters.notices import HOUR_MS, level_after, notice_of, transition
from tests.servers.alertmanager import NO_ALERTMANAGER, PROGRAM, Alertmanager
from tests.servers.hooks import Hook, hook

TIMEOUT_S = 20.0


@pytest.fixture
def told() -> Iterator[Hook]:
    with hook() as receiver:
        yield receiver


@pytest.fixture
def server(told: Hook) -> Iterator[Alertmanager]:
    if shutil.which(PROGRAM) is None:
        pytest.skip(NO_ALERTMANAGER)
    with Alertmanager(told.url) as alertmanager:
        yield alertmanager


def post(server: Alertmanager, *transitions: Transition) -> None:
    notice = notice_of(*transitions, mode=Mode.LEVEL, now_ms=now_ms())
    AlertmanagerReceiver(server.url, TIMEOUT_S).send(notice)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def fired(number: int, *, rule: str = "urgent", variant: str = "fine_tuned") -> Transition:
    return transition(number, rule=rule, variant=variant, at_ms=now_ms() - HOUR_MS)


def variants(body: bytes) -> set[str]:
    return {alert["labels"]["variant"] for alert in json.loads(body)["alerts"]}


def test_it_receives_an_alert_with_its_words_and_labels(server: Alertmanager, told: Hook) -> None:
    post(server, fired(1))
    (alert,) = server.ask("alerts")
    assert alert["status"]["state"] in {"active", "unprocessed"}
    assert alert["labels"] == {
        "alertname": "RecallwatchFiring",
        "rule": "urgent",
        "severity": "page",
        "variant": "fine_tuned",
        "slice": "ALL",
        "version": "2",
        "fingerprint": fired(1).id.partition("-")[0],
    }
    assert "Missed: 18 of these 30." in alert["annotations"]["description"]
    page = f"https://monitor.example/alerts?alert={alert['labels']['fingerprint']}"
    assert alert["generatorURL"] == page
    document = json.loads(told.wait().body)
    assert document["status"] == "firing"


def test_it_groups_what_belongs_together(server: Alertmanager, told: Hook) -> None:
    post(server, fired(1), fired(1, variant="baseline"), fired(1, rule="fraud"))
    # A group is told of anew when it grows, so these are waited for, not looked up.
    told_of = dict[str, set[str]]()
    while told_of != {"urgent": {"fine_tuned", "baseline"}, "fraud": {"fine_tuned"}}:
        body = told.wait().body
        told_of[json.loads(body)["groupLabels"]["rule"]] = variants(body)
    groups = {g["labels"]["rule"]: len(g["alerts"]) for g in server.ask("alerts/groups")}
    assert groups == {"urgent": 2, "fraud": 1}


def test_it_silences_what_somebody_silences_there(server: Alertmanager, told: Hook) -> None:
    matcher = {"name": "variant", "value": "fine_tuned", "isRegex": False, "isEqual": True}
    server.ask(
        "silences",
        {
            "matchers": [matcher],
            "startsAt": "2020-01-01T00:00:00Z",
            "endsAt": "2099-01-01T00:00:00Z",
            "createdBy": "ann",
            "comment": "deploy",
        },
    )
    post(server, fired(1), fired(1, variant="baseline"))
    assert variants(told.wait().body) == {"baseline"}
    states = {a["labels"]["variant"]: a["status"]["state"] for a in server.ask("alerts")}
    assert states == {"fine_tuned": "suppressed", "baseline": "active"}


def test_it_resolves_what_is_over(server: Alertmanager, told: Hook) -> None:
    raised = fired(1)
    post(server, raised)
    assert json.loads(told.wait().body)["status"] == "firing"
    over = transition(2, (Status.FIRING, Status.OK), at_ms=now_ms())
    AlertmanagerReceiver(server.url, TIMEOUT_S).send(level_after(raised, over, now_ms()))
    assert json.loads(told.wait().body)["status"] == "resolved"
    assert server.ask("alerts") == []
