"""What the worker says of itself: metrics and health over HTTP, logs on standard error."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime

import pytest
import structlog

from monitor.app.settings import Settings
from monitor.app.telemetry import Health, Metrics, configure_logging, telemetry_server
from monitor.domain.errors import BrokerError, WorldError
from tests.fixtures.stores import free_port

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def served() -> Iterator[tuple[int, Metrics, Health]]:
    metrics, health = Metrics(), Health()
    with telemetry_server(HOST, free_port(), metrics, health) as port:
        yield port, metrics, health


def asked(port: int, path: str) -> tuple[int, str]:
    """Status and body of what is served under ``path``."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


# HTTP


def test_metrics_are_served_in_the_text_form_of_prometheus(
    served: tuple[int, Metrics, Health],
) -> None:
    port, metrics, _ = served
    metrics.records.inc(12)
    metrics.alert_level.labels("urgent-recall", "fine_tuned", "ALL", "m-2").set(2)
    status, text = asked(port, "/metrics")
    assert status == 200
    assert "\nrecallwatch_records_total 12.0\n" in text
    alert = '{rule="urgent-recall",slice="ALL",variant="fine_tuned",version="m-2"}'
    assert f"recallwatch_alert_level{alert} 2.0" in text


def test_every_metric_says_what_it_is_under_our_name() -> None:
    families = list(Metrics().registry.collect())
    assert families
    for family in families:
        assert family.name.startswith("recallwatch_")
        assert family.documentation


def test_a_healthy_worker_answers_ok(served: tuple[int, Metrics, Health]) -> None:
    port, _, health = served
    health.turned()
    assert asked(port, "/healthz") == (200, "ok\n")


def test_a_worker_in_trouble_answers_with_what_failed_until_the_next_turn(
    served: tuple[int, Metrics, Health],
) -> None:
    port, _, health = served
    health.failed(BrokerError("broker localhost:9092 is unreachable"))
    assert asked(port, "/healthz") == (503, "broker localhost:9092 is unreachable\n")
    health.turned()
    assert asked(port, "/healthz") == (200, "ok\n")


def test_a_client_that_connects_and_says_nothing_keeps_nobody_waiting(
    served: tuple[int, Metrics, Health],
) -> None:
    """Browsers do so, and the server must also end while such a connection is open."""
    port, _, _ = served
    with socket.create_connection((HOST, port)):
        assert asked(port, "/healthz") == (200, "ok\n")


def test_nothing_listens_once_the_context_is_closed() -> None:
    with telemetry_server(HOST, free_port(), Metrics(), Health()) as port:
        assert asked(port, "/healthz")[0] == 200
    with pytest.raises(ConnectionRefusedError), socket.create_connection((HOST, port)):
        pass


def test_port_0_serves_nothing() -> None:
    with telemetry_server(HOST, 0, Metrics(), Health()) as port:
        assert port == 0


def test_a_port_in_use_is_named_with_the_setting_and_the_ways_out() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(WorldError) as caught,
            telemetry_server(HOST, port, Metrics(), Health()),
        ):
            pass
    said = str(caught.value)
    assert said.startswith(f"telemetry port {HOST}:{port} cannot be used (Address already in use)")
    assert "set telemetry.port to another one, or to 0 for none" in said


# Logs


def logged(capsys: pytest.CaptureFixture[str], form: str, level: str = "info") -> list[str]:
    configure_logging(level, form)
    say = structlog.get_logger().bind(worker="worker-1")
    say.debug("not of interest")
    say.info("working", partitions=["labels[0]"])
    say.warning("interrupted", error="broker is unreachable", retry_in_s=0.5)
    out, err = capsys.readouterr()
    assert out == "", "the answer alone goes to standard output"
    return err.splitlines()


def test_json_logs_are_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    working, interrupted = map(json.loads, logged(capsys, "json"))
    assert working.pop("timestamp").endswith("Z")
    assert working == {
        "event": "working",
        "level": "info",
        "worker": "worker-1",
        "partitions": ["labels[0]"],
    }
    assert (interrupted["level"], interrupted["retry_in_s"]) == ("warning", 0.5)
    assert datetime.fromisoformat(interrupted["timestamp"]).utcoffset() is not None


def test_off_a_terminal_logs_are_json_unless_something_else_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert all(json.loads(line)["event"] for line in logged(capsys, "auto"))


def test_console_logs_are_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    working, interrupted = logged(capsys, "console")
    assert "working" in working
    assert "interrupted" in interrupted
    assert "broker is unreachable" in interrupted
    assert not working.startswith("{")


def test_what_is_below_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(logged(capsys, "json", "warning")) == 1


def test_settings_can_be_logged_without_their_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    secret = "hunter2"
    settings = Settings.model_validate(
        {
            "kafka": {
                "security": {
                    "protocol": "SASL_SSL",
                    "mechanism": "PLAIN",
                    "username": "recallwatch",
                    "password": secret,
                }
            },
            "redis": {"url": f"redis://:{secret}@localhost:6379/0"},
        }
    )
    for form in ("json", "console"):
        configure_logging("info", form)
        structlog.get_logger().info("settings", settings=settings, masked=settings.masked())
    said = capsys.readouterr().err
    assert said.count("settings") >= 2
    assert secret not in said
