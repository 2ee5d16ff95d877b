"""A test run that is killed with SIGKILL while it has servers, and what is left of it then."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
ENDS_WITHIN_SECONDS = 60

_CHILD = """
import sys

def holding(*servers):
    for server in servers:
        print(server.pid, server.guard_pid, server.folder)
    print(flush=True)
    sys.stdin.read()

"""


def left_over(program: str) -> list[str]:
    """Processes that still run and folders that are still there a while after the kill.

    The program starts servers and calls `holding(server...)`, within which it is killed.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    with child:
        assert child.stdout is not None
        held = []
        while (line := child.stdout.readline()).strip():
            held.append(line.split())
        assert held, "the program has ended early"
        watches = {int(pid): os.pidfd_open(int(pid)) for pid, _, _ in held if _runs(int(pid))}
        watches |= {int(guard): os.pidfd_open(int(guard)) for _, guard, _ in held}
        assert all(Path(folder).is_dir() for _, _, folder in held)
        child.send_signal(signal.SIGKILL)
    found = [f"process {pid}" for pid, watch in watches.items() if not _ended(watch)]
    return found + [folder for _, _, folder in held if Path(folder).exists()]


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _ended(watch: int) -> bool:
    try:
        return bool(select.select([watch], [], [], ENDS_WITHIN_SECONDS)[0])
    finally:
        os.close(watch)
