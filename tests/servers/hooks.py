"""A web server that takes what is posted to it, or behaves as badly as it is told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.servers.ports import HOST

PATIENCE_S = 60.0


@dataclass
class Posted:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Hook:
    """``status`` is what it answers; with ``is_slow`` only once ``release`` is set."""

    status: int = 200
    is_slow: bool = False
    location: str = ""
    url: str = ""
    posted: list[Posted] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    release: threading.Event = field(default_factory=threading.Event)
    waited_for: int = 0

    def wait(self) -> Posted:
        """The next one that was posted; each is waited for once."""
        assert self.arrived.acquire(timeout=PATIENCE_S), "nothing was posted"
        self.waited_for += 1
        return self.posted[self.waited_for - 1]


@contextmanager
def hook(*, status: int = 200, is_slow: bool = False, location: str = "") -> Iterator[Hook]:
    """One that listens while the context is open."""
    told = Hook(status, is_slow, location)
    server = ThreadingHTTPServer((HOST, 0), _handler(told))
    server.daemon_threads = False
    told.url = f"http://{HOST}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield told
    finally:
        told.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(told: Hook) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told.posted.append(Posted(self.path, dict(self.headers), body))
            told.arrived.release()
            if told.is_slow:
                told.release.wait(PATIENCE_S)
            # Whoever posted may have given up.
            with suppress(OSError):
                self.send_response(told.status)
                if told.location:
                    self.send_header("Location", told.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not worth a line."""

    return Handler
