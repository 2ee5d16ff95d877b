"""A reverse proxy on loopback that names who has logged in, as one in front of the dashboard does.

It replaces the header that names the viewer, whatever the browser sent, and passes on the rest:
requests one to a connection, and whatever follows an upgrade.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.servers.ports import HOST

HEADER = "X-Forwarded-User"
CHUNK_BYTES = 64 * 1024
PATIENCE_S = 30.0


@contextmanager
def naming(port: int, viewer: str | None) -> Iterator[str]:
    """Address of a proxy in front of ``port``; it names nobody where ``viewer`` is None."""
    with socket.create_server((HOST, 0)) as door:
        thread = threading.Thread(target=_serve, args=(door, port, viewer))
        thread.start()
        try:
            yield f"http://{HOST}:{door.getsockname()[1]}"
        finally:
            # A thread that waits in accept() is not woken by close().
            with suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(door: socket.socket, port: int, viewer: str | None) -> None:
    while True:
        try:
            client, _ = door.accept()
        except OSError:
            return
        threading.Thread(target=_link, args=(client, port, viewer), daemon=True).start()


def _link(client: socket.socket, port: int, viewer: str | None) -> None:
    with client, suppress(OSError), socket.create_connection((HOST, port), PATIENCE_S) as server:
        head, rest = _head(client)
        if not head:
            return
        server.settimeout(None)
        server.sendall(_renamed(head, viewer) + rest)
        back = threading.Thread(target=_pipe, args=(server, client), daemon=True)
        back.start()
        _pipe(client, server)
        back.join()


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    read = b""
    while b"\r\n\r\n" not in read:
        more = client.recv(CHUNK_BYTES)
        if not more:
            return b"", b""
        read += more
    head, _, rest = read.partition(b"\r\n\r\n")
    return head, rest


def _renamed(head: bytes, viewer: str | None) -> bytes:
    lines = head.split(b"\r\n")
    replaced = {HEADER.lower().encode()}
    is_upgrade = any(line.lower().startswith(b"upgrade:") for line in lines)
    if not is_upgrade:
        replaced.add(b"connection")
    kept = [line for line in lines if line.partition(b":")[0].lower() not in replaced]
    if not is_upgrade:
        kept.append(b"Connection: close")
    if viewer is not None:
        kept.append(f"{HEADER}: {viewer}".encode())
    return b"\r\n".join(kept) + b"\r\n\r\n"


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
