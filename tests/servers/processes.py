"""One server: started, stopped, killed, frozen and started again, with the same data and port."""

import json
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

GUARD = Path(__file__).with_name("guard.py")

START_SECONDS = 90.0
"""Several Java programs that start at once on two processors need a good part of it."""

STOP_SECONDS = 30.0
POLL_SECONDS = 0.02
START_ATTEMPTS = 3
"""A free port may be taken by another program before the server binds it."""

QUOTED_LOG_LINES = 30


class ServerError(Exception):
    """A server did not do what it was asked for; the text ends with the last lines of its log."""


class PortTakenError(ServerError):
    """Another program listens where the server wanted to."""


class _Guard:
    """Speaks with the guard process; safe to use from several threads."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self.pid = self._process.pid
        self.folder = Path(self._read()["folder"])

    def ask(self, **order: object) -> dict[str, Any]:
        with self._lock:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps(order) + "\n")
                self._process.stdin.flush()
            except (BrokenPipeError, ValueError):
                raise ServerError("the server was closed, or its guard has ended") from None
            return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ServerError("the guard of the server has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ServerError(answer["error"])
        return answer

    def close(self) -> None:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait(timeout=STOP_SECONDS)
            self._process.stdout.close()


class Server(ABC):
    """A server with a folder of its own; both are gone when it is closed or this process ends.

    Use it as a context, which starts and closes it, or call `start` and `close`.
    """

    name = "server"

    def __init__(self) -> None:
        self._guard = _Guard()
        self._starts = 0
        self.pid: int | None = None
        self.guard_pid = self._guard.pid
        self.folder = self._guard.folder
        self.log = self.folder / "server.log"

    @abstractmethod
    def choose_ports(self) -> None:
        """Called before the first start, and again when a port was taken meanwhile."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The program and its arguments; writes the files that it reads."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers; asked again and again, so it takes no longer than a second or two."""

    def start(self) -> None:
        """Start it, and wait until it is ready. Raises ServerError, quoting the log."""
        for _ in range(START_ATTEMPTS - 1 if self._starts == 0 else 0):
            try:
                self.begin()
                self.wait_until_ready()
            except PortTakenError:
                self._starts = 0
            else:
                return
        self.begin()
        self.wait_until_ready()

    def begin(self) -> None:
        """Start it without waiting until it is ready."""
        if not self.folder.exists():
            raise ServerError(f"{self} was closed")
        if self._starts == 0:
            self.choose_ports()
        self.pid = self._guard.ask(start=list(self.command()), log=str(self.log))["pid"]
        self._starts += 1

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        self.wait_until(self.is_ready, "ready", seconds)

    def wait_until(
        self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS
    ) -> None:
        """Ask again and again. Raises ServerError when it ends, or is not `what` in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self._wait(POLL_SECONDS) is not None:
                raise self._early_end()
            if time.monotonic() > deadline:
                raise ServerError(f"{self} is not {what} after {seconds:g} s\n{self.log_tail()}")

    @property
    def running(self) -> bool:
        """Also true while it is frozen."""
        return self._starts > 0 and self._wait(0) is None

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask it to end in good order, and wait; kill it when it has not done so in time."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)
        if not self._ended_within(seconds):
            self.kill()

    def kill(self) -> None:
        """SIGKILL at once, and wait until the process is gone."""
        self.send(signal.SIGKILL)
        if self.running and not self._ended_within(STOP_SECONDS):
            raise ServerError(f"{self} survived SIGKILL for {STOP_SECONDS:g} s")

    def restart(self, *, kill: bool = False) -> None:
        """Stop or kill it, and start it on the same port with the same data."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        self._guard.ask(signal=int(number))

    def log_tail(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        return "\n".join(f"  {line}" for line in lines[-QUOTED_LOG_LINES:]) or "  (no log)"

    def close(self) -> None:
        """Kill it if it still runs, and remove its folder. Closing again does nothing."""
        self._guard.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"

    def _wait(self, seconds: float) -> int | None:
        status: int | None = self._guard.ask(wait=seconds)["status"]
        return status

    def _ended_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > deadline:
                return False
            self._wait(POLL_SECONDS)
        return True

    def _early_end(self) -> ServerError:
        tail = self.log_tail()
        kind = PortTakenError if "ddress already in use" in tail else ServerError
        return kind(f"{self} ended with status {self._wait(0)}\n{tail}")
