"""Owns one server and its folder, and outlives whoever asked for it by a moment.

A program of its own, run by `tests.servers.processes` in a session of its own, where no Ctrl-C
reaches it. Orders come as lines of JSON on standard input, each gets one line of JSON as answer:

    {"start": [program, argument...], "log": path}   start the server; {"pid": number}
    {"signal": number}                               to the server and what it forked; {}
    {"wait": seconds}                                for its end; {"status": number, or null}

A failed order is answered with {"error": text}. When the input ends, since the one who orders
closed it or was killed, the server is killed and the folder is removed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

REMOVAL_ATTEMPTS = 100
"""What the server forked may still write for a moment after it was killed."""


class Guarded:
    """The one server; it leads a process group, so that a signal reaches what it forked too."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def carry_out(self, order: dict[str, Any]) -> dict[str, Any]:
        match order:
            case {"start": command, "log": log}:
                return {"pid": self._start(command, Path(log))}
            case {"signal": number}:
                self.send(signal.Signals(number))
                return {}
            case {"wait": seconds}:
                return {"status": self.wait(seconds)}
        raise ValueError(f"unknown order {order}")

    def _start(self, command: list[str], log: Path) -> int:
        if self._process is not None and self._process.poll() is None:
            raise ValueError(f"process {self._process.pid} is still running")
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,  # where what it writes when it crashes is removed, too
                start_new_session=True,
            )
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Nothing happens when the server has ended: its process id may be another's by now."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit status; None while it runs and when it was never started."""
        if self._process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=seconds)
        return self._process.returncode


def main() -> None:
    folder = tempfile.mkdtemp(prefix="recallwatch-server-")
    guarded = Guarded(folder)
    try:
        with suppress(BrokenPipeError):
            _answer({"folder": folder})
            for line in sys.stdin:
                _answer(_carried_out(guarded, line))
    finally:
        guarded.send(signal.SIGKILL)
        guarded.wait()
        _remove(folder)


def _carried_out(guarded: Guarded, line: str) -> dict[str, Any]:
    try:
        return guarded.carry_out(json.loads(line))
    except (OSError, ValueError) as error:
        return {"error": str(error)}


def _answer(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def _remove(folder: str) -> None:
    for _ in range(REMOVAL_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            return


if __name__ == "__main__":
    main()
