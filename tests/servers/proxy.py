"""A TCP proxy on loopback that breaks connections the way networks and servers do, on demand."""

import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Self, TypeVar

from tests.servers.ports import HOST, free_port

CHUNK_BYTES = 64 * 1024
BUFFER_BYTES = 4 * CHUNK_BYTES
"""Of one direction of a connection; its sender is not read from while so much is waiting."""

TAIL_BYTES = 1024
"""The longest match in bytes."""

QUIET_SECONDS = 0.05
"""A swallowed reply counts as complete when nothing more has come for so long."""

DRAIN_SECONDS = 5.0
"""How long the server may take to work off what it was sent before its reply was swallowed."""

PATIENCE_SECONDS = 0.01
"""How often a swallowed reply is looked at."""

CLOSE_SECONDS = 10.0

Match = bytes | Callable[[bytes], bool] | None
"""What a request contains, or a decision on the bytes that arrived together; None is any."""

Result = TypeVar("Result")


@dataclass
class Counters:
    """Since the proxy was started."""

    accepted: int = 0
    refused: int = 0
    broken: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    swallowed_requests: int = 0
    swallowed_replies: int = 0


@dataclass
class _Trap:
    match: Match
    keeps_request: bool
    sprung: threading.Event


class _Link:
    """One client and its connection to the server behind, with what waits to be sent on."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.connecting = True
        self.up, self.down = bytearray(), bytearray()
        self.client_ended = self.server_ended = False
        self.up_closed = self.down_closed = False
        self.tail = b""
        self.swallowing: _Trap | None = None
        self.replied = False
        self.last_byte_at = 0.0
        self.drained_since: float | None = None

    def wishes(self) -> Iterator[tuple[socket.socket, int]]:
        """What to wait for at which end."""
        if self.connecting:
            yield self.server, selectors.EVENT_WRITE
            return
        for end, ended, incoming, outgoing in (
            (self.client, self.client_ended, self.up, self.down),
            (self.server, self.server_ended, self.down, self.up),
        ):
            events = 0
            if not ended and len(incoming) < BUFFER_BYTES:
                events |= selectors.EVENT_READ
            if outgoing:
                events |= selectors.EVENT_WRITE
            if events:
                yield end, events

    def receive(self, *, from_client: bool) -> bytes | None:
        """What has arrived at this end; empty at its end, None when there is nothing yet."""
        try:
            data = (self.client if from_client else self.server).recv(CHUNK_BYTES)
        except BlockingIOError:
            return None
        self.last_byte_at = time.monotonic()
        if not data and from_client:
            self.client_ended = True
        elif not data:
            self.server_ended = True
        return data

    def send(self) -> None:
        """Pass on as much as both peers take now, and the end of a direction after its bytes."""
        for buffer, end in ((self.up, self.server), (self.down, self.client)):
            if buffer:
                with suppress(BlockingIOError):
                    del buffer[: end.send(buffer)]
        if self.client_ended and not self.up and not self.up_closed:
            self.close_up()
        if self.server_ended and not self.down and not (self.down_closed or self.swallowing):
            self.down_closed = True
            self.client.shutdown(socket.SHUT_WR)

    def close_up(self) -> None:
        """Tell the server that no more will come."""
        self.up_closed = True
        self.server.shutdown(socket.SHUT_WR)

    def replied_and_quiet(self, now: float) -> bool:
        return self.replied and not self.up and now - self.last_byte_at >= QUIET_SECONDS

    def contains(self, match: Match, data: bytes) -> bool:
        """Also finds bytes whose beginning came with the piece before."""
        if match is None:
            return True
        if callable(match):
            return match(data)
        kept = len(match) - 1
        return match in (self.tail[-kept:] if kept else b"") + data

    def remember(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-TAIL_BYTES:]

    def reset(self) -> None:
        """The peers see a reset, not an orderly end."""
        for end in (self.client, self.server):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()

    def close(self) -> None:
        self.client.close()
        self.server.close()


class TcpProxy:
    """Listens on a fixed loopback port and passes bytes on to `upstream`, (host, port).

    Every order has been carried out when its method returns. Safe to use from several threads.
    """

    def __init__(self, upstream: tuple[str, int], *, port: int | None = None) -> None:
        self.counters = Counters()
        self._upstream = upstream
        self._listener = socket.create_server((HOST, free_port() if port is None else port))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._links: set[_Link] = set()
        self._refusing = self._stalled = self._closed = False
        self._trap: _Trap | None = None
        self._orders: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._waker, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def open_connections(self) -> int:
        return self._do(lambda: len(self._links))

    def retarget(self, host: str, port: int) -> None:
        """For new connections; those that are open stay where they are."""
        self._do(lambda: setattr(self, "_upstream", (host, port)))

    def break_all(self) -> int:
        """Reset all connections; how many there were."""
        return self._do(self._break_all)

    def refuse(self, refusing: bool = True) -> None:
        """While on, a new connection is reset before a byte has passed."""
        self._do(lambda: setattr(self, "_refusing", refusing))

    def stall(self, stalled: bool = True) -> None:
        """While on, connections stay open (and new ones open), but no byte passes."""
        self._do(lambda: setattr(self, "_stalled", stalled))

    def swallow_next_reply(self, match: Match = None) -> threading.Event:
        """The next request that matches is carried out, but its client gets a reset, no reply.

        The event that is returned is set after the server has answered and the client was reset.
        Replaces a trap that was set before and has not sprung.
        """
        return self._set_trap(_Trap(match, keeps_request=True, sprung=threading.Event()))

    def swallow_next_request(self, match: Match = None) -> threading.Event:
        """The next request that matches never reaches the server; its connection is reset.

        Of a request that arrives in several pieces, those before the match have passed already.
        """
        return self._set_trap(_Trap(match, keeps_request=False, sprung=threading.Event()))

    def disarm(self) -> None:
        """Take back a trap that has not sprung."""
        self._do(lambda: setattr(self, "_trap", None))

    def close(self) -> None:
        """Reset what is open and stop listening. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            self._wake()
            self._thread.join(CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Called from any thread.

    def _set_trap(self, trap: _Trap) -> threading.Event:
        self._do(lambda: setattr(self, "_trap", trap))
        return trap.sprung

    def _do(self, order: Callable[[], Result]) -> Result:
        """Have the proxy's thread carry out the order; it alone touches connections."""
        done: Future[Result] = Future()

        def carry_out() -> None:
            try:
                done.set_result(order())
            except Exception as error:  # noqa: BLE001 - handed to the one who asked
                done.set_exception(error)

        if self._closed:
            raise ValueError("the proxy is closed")
        self._orders.put(carry_out)
        self._wake()
        return done.result(CLOSE_SECONDS)

    def _wake(self) -> None:
        with suppress(OSError):
            self._waker.send(b"!")

    # Called from the proxy's thread alone.

    def _run(self) -> None:
        try:
            while not self._closed:
                self._turn()
        finally:
            self._break_all()
            for end in (self._listener, self._waker, self._woken):
                end.close()

    def _turn(self) -> None:
        """One look at everything that can be read or written."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            for link in () if self._stalled else self._links:
                for end, events in link.wishes():
                    selector.register(end, events, link)
            swallowing = any(link.swallowing for link in self._links)
            ready = selector.select(PATIENCE_SECONDS if swallowing else None)
        for key, events in ready:
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._woken:
                self._obey()
            elif key.data in self._links and not self._stalled:
                self._move(key.data, events, from_client=key.fileobj is key.data.client)
        if swallowing and not self._stalled:
            self._finish_swallowed()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        server = socket.socket()
        link = _Link(client, server)
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._refusing:
            self.counters.refused += 1
            link.reset()
            return
        self.counters.accepted += 1
        server.connect_ex(self._upstream)
        self._links.add(link)

    def _obey(self) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(CHUNK_BYTES)
        while not self._orders.empty():
            self._orders.get()()

    def _move(self, link: _Link, events: int, *, from_client: bool) -> None:
        try:
            if link.connecting:
                self._connected(link)
                return
            if events & selectors.EVENT_READ:
                data = link.receive(from_client=from_client)
                if data and not (self._take_up if from_client else self._take_down)(link, data):
                    return
            link.send()
            if link.up_closed and link.down_closed and not link.swallowing:
                self._links.remove(link)
                link.close()
        except OSError:
            self._break(link)

    def _connected(self, link: _Link) -> None:
        if number := link.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, "the server cannot be reached")
        link.connecting = False

    def _take_up(self, link: _Link, data: bytes) -> bool:
        """Whether the link is still there."""
        trap = self._trap
        if trap and link.contains(trap.match, data):
            self._trap = None
            if not trap.keeps_request:
                self.counters.swallowed_requests += 1
                self._break(link)
                trap.sprung.set()
                return False
            link.swallowing, link.replied = trap, False
        link.remember(data)
        self.counters.bytes_up += len(data)
        link.up += data
        return True

    def _take_down(self, link: _Link, data: bytes) -> bool:
        link.replied = True
        if not link.swallowing:
            self.counters.bytes_down += len(data)
            link.down += data
        return True

    def _finish_swallowed(self) -> None:
        """Reset clients whose request was carried out, as far as a proxy can know.

        The server is told that nothing more comes, and has then worked off what it was sent when
        it ends the connection from its side.
        """
        now = time.monotonic()
        for link in [link for link in self._links if link.swallowing]:
            since = link.drained_since
            if link.server_ended or (since is not None and now - since > DRAIN_SECONDS):
                self._break(link)
            elif since is None and link.replied_and_quiet(now):
                link.drained_since = now
                with suppress(OSError):
                    link.close_up()

    def _break(self, link: _Link) -> None:
        self.counters.broken += 1
        self._links.discard(link)
        link.reset()
        if link.swallowing:
            self.counters.swallowed_replies += 1
            link.swallowing.sprung.set()

    def _break_all(self) -> int:
        links = list(self._links)
        for link in links:
            self._break(link)
        return len(links)
