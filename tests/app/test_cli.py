"""The command: what it answers, how it ends, and what it says when a person or the world erred.

Exit codes: 0 done, 1 the answer is no, 2 usage or settings, 3 the world failed.
"""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import structlog
import yaml

from monitor import __version__
from monitor.adapters.kafka import KafkaConnection, KafkaTopics, connection
from monitor.app import cli, dashboard
from tests.app.captures import captured, captured_story
from tests.app.story import SETTINGS, history
from tests.builders import record
from tests.fixtures.stores import free_port

ROOT = Path(__file__).parents[2]
COMMANDS = (
    *("demo", "run", "report", "missed", "dashboard", "feed", "replay", "check", "forget"),
    *("leakage", "verdict", "card"),
)
WITH_SETTINGS = tuple(name for name in COMMANDS if name != "demo")
USAGE = dict.fromkeys(COMMANDS, 2) | {"verdict": 64, "leakage": 64}
"""Of these 2 is an answer."""
SECRET = "hunter2"


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


class Run(Protocol):
    def __call__(self, *arguments: object) -> Ended: ...


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Run]:
    """The command in this process, in an empty folder, with no settings from outside."""
    for name in list(os.environ):
        if name.startswith("RECALLWATCH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    empty = tmp_path / "cwd"
    empty.mkdir()
    monkeypatch.chdir(empty)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def run_here(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["recallwatch", *map(str, arguments)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        assert isinstance(code, int)
        assert "Traceback" not in err
        return Ended(code, out, err)

    yield run_here
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert list(empty.iterdir()) == []
    structlog.reset_defaults()


def written(folder: Path, settings: object) -> Path:
    """A settings file; text is taken as it is."""
    path = folder / "settings.yaml"
    path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
    return path


def live(broker: KafkaConnection | None, redis_url: str | None, **changed: Any) -> dict[str, Any]:  # noqa: ANN401 - as a settings file has them
    """Settings with topics and a namespace of their own; None is an address without a server."""
    name = secrets.token_hex(6)
    topics = {
        role: {"topic": f"{role}-{name}"}
        for role in ("predictions", "labels", "dead_letters", "journal")
    }
    servers = list(broker.bootstrap_servers) if broker else [f"127.0.0.1:{free_port()}"]
    return {
        **SETTINGS,
        "kafka": {"bootstrap_servers": servers, "group": name, **topics},
        "redis": {
            "url": redis_url or f"redis://:{SECRET}@127.0.0.1:{free_port()}/0",
            "namespace": f"cli-{name}",
        },
        "telemetry": {"port": 0},
        **changed,
    }


def create_topics(broker: KafkaConnection, settings: dict[str, Any]) -> None:
    """The topics of the settings, which keep records however old their log time is."""
    names = [settings["kafka"][role]["topic"] for role in ("predictions", "labels")]
    with KafkaTopics(broker) as admin:
        admin.ensure(dict.fromkeys(names, 1), log_append_time=False, retention_ms=-1)


def arguments_of(command: str, folder: Path) -> list[object]:
    """What a command cannot do without."""
    if command == "feed":
        return [captured_story(folder / "captured")]
    if command == "forget":
        return ["p-17", "--yes"]
    if command == "leakage":
        train = folder / "train.txt"
        train.write_text("i have lost my card\n")
        return ["--train", train, "--files", captured_story(folder / "captured")]
    return ["--files", captured_story(folder / "captured")] if command == "replay" else []


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


# Help and usage


def test_help_lists_every_command_with_a_sentence(run: Run) -> None:
    ended = run("--help")
    assert ended.code == 0
    for command in COMMANDS:
        assert re.search(rf"^ +{command} +[A-Z].*\.", ended.out, re.MULTILINE), command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example_that_could_be_typed(run: Run, command: str) -> None:
    ended = run(command, "--help")
    assert (ended.code, ended.err) == (0, "")
    example = re.search(rf"Example: recallwatch {command}(.*)", ended.out)
    assert example is not None
    for option in re.findall(r"--[a-z-]+", example[1]):
        assert re.search(rf"^ +{option}\b", ended.out, re.MULTILINE), option


def test_the_short_form_of_help_is_known_everywhere(run: Run) -> None:
    assert run("-h").out == run("--help").out
    assert run("report", "-h").out == run("report", "--help").out


def test_without_a_command_help_is_shown(run: Run) -> None:
    ended = run()
    assert ended.code == 2
    assert "Start with: recallwatch demo" in ended.out + ended.err


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version") == Ended(0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fly"], "No such command"),
        (["run", "--fast"], "No such option"),
        (["report", "--format", "xml"], "--format"),
        (["replay", "--files", ".", "--offline"], "--files is read whole"),
        (["replay", "--checkpoint", "x", "--as-of", "2026-11-22T14:00:00Z"], "no --as-of"),
        (["audit", "verify"], "name an ALERT, or --all"),
        (["replay", "--files", "/nowhere"], "does not exist"),
        (["feed"], "DIR"),
        (["feed", "/nowhere"], "does not exist"),
        (["feed", "/", "--speed", "0"], "must be above 0"),
        (["feed", "/", "--speed", "-1"], "must be above 0"),
        (["feed", "/", "--speed", "nan"], "must be above 0"),
        (["feed", "/", "--speed", "fast"], "--speed"),
        (["feed", "/", "--create-topics", "0"], "--create-topics"),
        (["dashboard", "--port", "0"], "--port"),
        (["demo", "--port", "65536"], "--port"),
        (["report", "much"], "unexpected extra argument"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_wrong(
    run: Run, arguments: list[str], says: str
) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err


# Settings


@pytest.mark.parametrize("command", WITH_SETTINGS)
def test_a_settings_file_that_is_not_there_is_a_usage_error(
    run: Run, command: str, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.yaml"
    ended = run(command, *arguments_of(command, tmp_path), "--config", missing)
    assert (ended.code, ended.out) == (USAGE[command], "")
    assert f"{missing}: cannot be read: No such file" in ended.err


@pytest.mark.parametrize("command", WITH_SETTINGS)
def test_all_faults_of_the_settings_are_shown_at_once(
    run: Run, command: str, tmp_path: Path
) -> None:
    wrong = {
        "kafka": {"bootstrap_servers": "nowhere"},
        "redis": {"url": f"http://:{SECRET}@localhost", "namespace": "A B"},
        "windows": {"horizon": 35},
        "rules": [{"name": "r", "of": "urgent", "objective": 80}],
        "wrkr": {},
    }
    ended = run(command, *arguments_of(command, tmp_path), "--config", written(tmp_path, wrong))
    assert (ended.code, ended.out) == (USAGE[command], "")
    for path in (
        "kafka.bootstrap_servers",
        "redis.url",
        "redis.namespace",
        "windows.horizon",
        "rules[0].objective",
        "wrkr",
    ):
        assert path in ended.err, path
    assert SECRET not in ended.err


@pytest.mark.parametrize(
    "text", ["kafka: [", "- a\n- b\n", "kafka: {group: a}\nkafka: {group: b}\n", "\x00"]
)
def test_a_settings_file_that_is_no_yaml_mapping_ends_with_2(
    run: Run, text: str, tmp_path: Path
) -> None:
    path = written(tmp_path, text)
    ended = run("report", "--config", path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"{path}: ")


def test_a_wrong_variable_of_the_environment_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECALLWATCH_REDIS__SHARDS", "many")
    ended = run("report")
    assert ended.code == 2
    assert "RECALLWATCH_REDIS__SHARDS" in ended.err


def test_the_environment_may_name_the_settings_file(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECALLWATCH_CONFIG", str(written(tmp_path, "wrkr: {}")))
    ended = run("check")
    assert ended.code == 2
    assert "wrkr" in ended.err


# The world


@pytest.mark.parametrize("arguments", [["report"], ["run"], ["run", "--until-caught-up"]])
def test_an_unreachable_redis_ends_with_3(run: Run, arguments: list[str], tmp_path: Path) -> None:
    settings = live(None, None)
    ended = run(*arguments, "--config", written(tmp_path, settings))
    assert (ended.code, ended.out) == (3, "")
    assert "Redis is unreachable; check redis.url and that the server runs" in ended.err
    assert SECRET not in ended.err


def test_check_says_what_was_right_before_redis_was_not_there(
    run: Run, tmp_path: Path, refused_connections: None
) -> None:
    ended = run("check", "--config", written(tmp_path, live(None, None)))
    assert ended.code == 3
    assert ended.out.startswith("ok    settings: sha256:")
    assert "FAIL  redis: " in ended.out
    assert "Redis is unreachable" in ended.out


@pytest.mark.parametrize("command", ["run", "feed", "check"])
def test_an_unreachable_broker_ends_with_3(
    run: Run,
    command: str,
    tmp_path: Path,
    valkey_url: str,
    unreachable_broker: KafkaConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_MS", 200)
    config = written(tmp_path, live(unreachable_broker, valkey_url))
    ended = run(command, *arguments_of(command, tmp_path), "--config", config)
    assert ended.code == 3
    said = ended.out if command == "check" else ended.err
    assert f"broker {unreachable_broker} is unreachable" in said
    assert "check kafka.bootstrap_servers" in said


@pytest.mark.parametrize("arguments", [["run"], ["run", "--until-caught-up"], ["feed"]])
def test_a_missing_topic_ends_with_3_and_is_named_with_the_remedy(
    run: Run, arguments: list[str], tmp_path: Path, broker: KafkaConnection, valkey_url: str
) -> None:
    settings = live(broker, valkey_url)
    config = written(tmp_path, settings)
    ended = run(*arguments, *arguments_of(arguments[0], tmp_path), "--config", config)
    assert (ended.code, ended.out) == (3, "")
    assert settings["kafka"]["predictions"]["topic"] in ended.err
    assert "create it" in ended.err
    assert "kafka.predictions.topic" in ended.err


def test_check_ends_with_1_when_something_would_not_work(
    run: Run, tmp_path: Path, broker: KafkaConnection, valkey_url: str
) -> None:
    settings = live(broker, valkey_url)
    ended = run("check", "--config", written(tmp_path, settings))
    assert (ended.code, ended.err) == (1, "")
    topic = settings["kafka"]["labels"]["topic"]
    assert f"FAIL  topic {topic}: does not exist: create it, or name another one" in ended.out


def test_a_namespace_of_another_shape_ends_with_3(
    run: Run, tmp_path: Path, broker: KafkaConnection, valkey_url: str
) -> None:
    settings = live(broker, valkey_url)
    create_topics(broker, settings)
    assert run("run", "--until-caught-up", "--config", written(tmp_path, settings)).code == 0
    settings["redis"]["shards"] = 3
    ended = run("run", "--until-caught-up", "--config", written(tmp_path, settings))
    assert ended.code == 3
    assert "set redis.shards to 1, or choose another redis.namespace" in ended.err


def test_a_telemetry_port_in_use_ends_with_3(run: Run, tmp_path: Path, taken_port: int) -> None:
    settings = live(None, None, telemetry={"port": taken_port})
    ended = run("run", "--config", written(tmp_path, settings))
    assert (ended.code, ended.out) == (3, "")
    assert f"telemetry port 127.0.0.1:{taken_port} cannot be used" in ended.err
    assert "telemetry.port" in ended.err


def test_a_dashboard_port_in_use_ends_with_3(run: Run, tmp_path: Path, taken_port: int) -> None:
    config = written(tmp_path, live(None, None, dashboard={"port": taken_port}))
    for arguments in (["--config", config], ["--port", taken_port]):
        ended = run("dashboard", *arguments)
        assert (ended.code, ended.out) == (3, "")
        assert f"dashboard port 127.0.0.1:{taken_port} cannot be used" in ended.err
        assert "--port" in ended.err


def test_the_demo_looks_at_its_port_before_it_starts_anything(
    run: Run, tmp_path: Path, taken_port: int
) -> None:
    ended = run("demo", "--data", tmp_path / "demo", "--port", taken_port)
    assert (ended.code, ended.out) == (3, "")
    assert f"dashboard port 127.0.0.1:{taken_port} cannot be used" in ended.err
    assert not (tmp_path / "demo").exists()


def test_a_data_folder_that_cannot_be_used_ends_with_3(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    ended = run("demo", "--headless", "--data", file / "demo")
    assert (ended.code, ended.out) == (3, "")
    assert f"{file / 'demo'}: cannot be used as data folder" in ended.err


# Captured records


@pytest.mark.parametrize("command", ["replay", "feed"])
def test_a_folder_without_captured_records_ends_with_2(
    run: Run, command: str, tmp_path: Path
) -> None:
    folder = tmp_path / "captured"
    folder.mkdir()
    place = ["--files", folder] if command == "replay" else [folder]
    ended = run(command, *place, "--config", written(tmp_path, SETTINGS))
    assert (ended.code, ended.out) == (2, "")
    assert f"{folder}: neither predictions.jsonl nor predictions.jsonl.gz is there" in ended.err


@pytest.mark.parametrize("command", ["replay", "feed"])
def test_a_file_where_a_folder_belongs_ends_with_2(run: Run, command: str, tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    file.touch()
    ended = run(command, *(["--files", file] if command == "replay" else [file]))
    assert (ended.code, ended.out) == (2, "")
    assert "is a file" in ended.err


def test_a_damaged_line_ends_with_2_and_is_named(run: Run, tmp_path: Path) -> None:
    folder = captured_story(tmp_path / "captured")
    with (folder / "labels.jsonl").open("a") as file:
        file.write("{\n")
    lines = len((folder / "labels.jsonl").read_text().splitlines())
    ended = run("replay", "--files", folder, "--config", written(tmp_path, SETTINGS))
    assert (ended.code, ended.out) == (2, "")
    assert f"{folder / 'labels.jsonl'}:{lines}: not a captured record" in ended.err


def test_input_beyond_use_ends_with_3(run: Run, tmp_path: Path) -> None:
    folder = captured(tmp_path / "captured", [record(b"{", offset=n) for n in range(9)])
    config = written(tmp_path, {**SETTINGS, "worker": {"max_consecutive_rejects": 8}})
    ended = run("replay", "--files", folder, "--config", config)
    assert (ended.code, ended.out) == (3, "")
    assert "predictions[0]@8: 9 predictions in a row were rejected" in ended.err


def test_replay_prints_the_report_and_writes_it_where_it_is_told(run: Run, tmp_path: Path) -> None:
    folder, out = captured_story(tmp_path / "captured"), tmp_path / "deep" / "out"
    config = written(tmp_path, SETTINGS)
    ended = run("replay", "--files", folder, "--out", out, "--config", config)
    assert ended.code == 0
    written_report, printed = json.loads((out / "report.json").read_text()), json.loads(ended.out)
    for part in ("digest", "cut", "ledger", "variants", "hours"):
        assert written_report[part] == printed[part], part
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    assert (out / "transitions.csv").read_text().startswith("id,")
    assert json.loads(ended.out)["ledger"]["predictions"]["labelled"] == 108
    assert f"Replaying: {len(history())} records" in ended.err
    text = run("replay", "--files", folder, "--format", "text", "--config", config)
    assert text.code == 0
    assert json.loads(ended.out)["digest"] in text.out


def test_settings_in_which_nothing_can_alert_are_remarked_upon(run: Run, tmp_path: Path) -> None:
    folder = captured_story(tmp_path / "captured")
    ended = run("replay", "--files", folder, "--config", written(tmp_path, {}))
    assert ended.code == 0
    assert "Nothing can alert: these settings have no rule." in ended.err


# Through the servers


def test_feed_run_and_report_tell_the_numbers_of_the_replay(
    run: Run, tmp_path: Path, broker: KafkaConnection, valkey_url: str
) -> None:
    folder = captured_story(tmp_path / "captured")
    config = written(tmp_path, live(broker, valkey_url))
    before = run("report", "--format", "json", "--config", config)
    assert json.loads(before.out)["as_of"] is None
    fed = run("feed", folder, "--create-topics", "2", "--config", config)
    assert (fed.code, fed.out) == (0, "")
    assert f"Feeding: {len(history())} records" in fed.err
    assert run("check", "--config", config).code == 0
    ran = run("run", "--until-caught-up", "--config", config)
    assert ran.code == 0
    replayed = json.loads(run("replay", "--files", folder, "--config", config).out)
    numbers = json.loads(ran.out)
    assert numbers["digest"] == replayed["digest"]
    told = run("report", "--format", "json", "--config", config)
    assert json.loads(told.out) == numbers
    text = run("report", "--config", config)
    assert numbers["digest"] in text.out


def test_a_new_namespace_counts_everything_although_the_group_has_read_it(
    run: Run, tmp_path: Path, broker: KafkaConnection, valkey_url: str
) -> None:
    settings = live(broker, valkey_url)
    config = written(tmp_path, settings)
    run("feed", captured_story(tmp_path / "captured"), "--create-topics", "2", "--config", config)
    first = json.loads(run("run", "--until-caught-up", "--config", config).out)
    settings["redis"]["namespace"] += "-again"
    again = run("run", "--until-caught-up", "--config", written(tmp_path, settings))
    assert json.loads(again.out)["digest"] == first["digest"]


@contextmanager
def working(folder: Path, settings: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """A worker in a process of its own; whatever happens, it is gone afterwards."""
    folder.mkdir()
    worker = subprocess.Popen(
        [sys.executable, "-m", "monitor", "run", "--config", written(folder, settings)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with worker:
        try:
            yield worker
        finally:
            worker.kill()


def test_a_worker_that_is_told_to_stop_ends_with_0(
    tmp_path: Path, broker: KafkaConnection, valkey_url: str
) -> None:
    with ExitStack() as opened:
        workers = []
        for number in (signal.SIGINT, signal.SIGTERM):
            port = free_port()
            settings = live(broker, valkey_url, telemetry={"port": port, "log_format": "json"})
            create_topics(broker, settings)
            worker = opened.enter_context(working(tmp_path / number.name, settings))
            workers.append((worker, port, number))
        for worker, port, _ in workers:
            assert worker.stderr is not None
            assert json.loads(worker.stderr.readline())["event"] == "working"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30) as answer:
                assert answer.read() == b"ok\n"
        for worker, _, number in workers:
            worker.send_signal(number)
            out, err = worker.communicate(timeout=60)
            assert (worker.returncode, out) == (0, "")
            assert "Traceback" not in err


# As a program


def test_a_reader_that_goes_away_makes_no_traceback(tmp_path: Path) -> None:
    folder = captured_story(tmp_path / "captured")
    ended = subprocess.run(
        f'"{sys.executable}" -m monitor replay --files "{folder}" | true',
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_the_dashboard_is_served_with_the_settings_of_the_command(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []

    def note_start(_: str, command: list[str], environment: dict[str, str]) -> None:
        started.append((command, environment))
        monkeypatch.chdir(tmp_path / "cwd")

    monkeypatch.setattr(os, "execve", note_start)
    port = free_port()
    login = {"oidc": "/etc/recallwatch/oidc.toml"}
    told = {"host": "127.0.0.1", "base_path": "watch/", "identity": login}
    settings = live(None, None, dashboard=told)
    written(tmp_path, settings)
    ended = run("dashboard", "--config", "../settings.yaml", "--port", port)
    assert (ended.code, ended.out) == (0, "")
    assert f"http://127.0.0.1:{port}/watch/" in ended.err
    [(command, environment)] = started
    assert command[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert Path(command[4]) == dashboard.entry()
    assert dashboard.entry().is_file()
    assert {f"--server.port={port}", "--server.baseUrlPath=/watch"} <= set(command)
    assert "--secrets.files=/etc/recallwatch/oidc.toml" in command
    assert environment["FORWARDED_ALLOW_IPS"] == ""
    config = Path(environment["RECALLWATCH_CONFIG"])
    assert config.is_absolute()
    assert yaml.safe_load(config.read_text()) == settings
