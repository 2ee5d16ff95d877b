"""The workers of one run: started, watched, started again when they die, woken when they freeze."""

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.faults import worker
from tests.faults.schedule import Trap
from tests.faults.worker import Orders

RESTART_S = 0.5
"""What a supervisor takes until it starts a dead worker again."""

STOP_S = 20.0
WEIGH_S = 0.5
_PR_SET_PDEATHSIG = 1


def _clean_processes() -> ForkServerContext:
    """Workers are forked from a process that has imported everything and opened nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.worker"])
    return context


_CONTEXT = _clean_processes()


def _begin(orders: Orders) -> None:
    """In the worker's process: it ends with us, even if we are killed."""
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    worker.run(orders)


@dataclass
class Member:
    """One place in the crew; ``starts`` processes have filled it so far."""

    name: str
    process: BaseProcess
    starts: int = 1
    is_wanted: bool = True
    died_at: float | None = None
    froze_at: float | None = None


@dataclass
class Crew:
    """All workers of one run.

    The first of ``traps`` is set in every worker until one has died: some steps are passed by one
    of them alone. Each later one is set in the next worker that starts.
    """

    folder: Path
    settings: Mapping[str, object]
    traps: list[Trap] = field(default_factory=list)
    is_static: bool = False
    broken: str | None = None
    frozen_s: float = 8.0
    members: list[Member] = field(default_factory=list)
    peak_mb: int = 0
    weighed_at: float = 0.0

    @property
    def diary(self) -> Path:
        """What the workers wrote, see ``worker.Diary``."""
        return self.folder / "diary"

    def add(self, *, is_wanted: bool = True) -> Member:
        """One more worker; one that is not wanted is not started again when it ends."""
        name = f"worker-{len(self.members)}"
        self.members.append(Member(name, self._started(name), is_wanted=is_wanted))
        return self.members[-1]

    def alive(self) -> list[Member]:
        """Those whose process runs, frozen or not."""
        return [member for member in self.members if member.process.is_alive()]

    def attend(self) -> None:
        """Start the dead again, and let the frozen go on when they have slept long enough."""
        now = time.monotonic()
        self._weigh(now)
        for member in self.members:
            if not member.process.is_alive():
                member.froze_at = None
                member.died_at = member.died_at or now
                if member.is_wanted and now - member.died_at >= RESTART_S:
                    self._start_again(member)
            elif _is_frozen(member.process):
                member.froze_at = member.froze_at or now
                if now - member.froze_at >= self.frozen_s:
                    send(member, signal.SIGCONT)
                    member.froze_at = None

    def stop(self) -> None:
        """SIGTERM to all, and SIGKILL to what is left."""
        for member in self.members:
            member.is_wanted = False
            send(member, signal.SIGCONT)
            send(member, signal.SIGTERM)
        for member in self.members:
            member.process.join(STOP_S)
            if member.process.is_alive():
                send(member, signal.SIGKILL)
                member.process.join()

    def kill(self) -> None:
        """The end of everything, at once."""
        for member in self.members:
            send(member, signal.SIGKILL)
            member.process.join()

    def entries(self, what: str) -> Iterator[str]:
        """The diary's lines that begin with ``what``, without it."""
        if self.diary.exists():
            for line in self.diary.read_text("utf-8").splitlines():
                _, word, *rest = line.split(" ", 2)
                if word == what:
                    yield rest[0] if rest else ""

    def _weigh(self, now: float) -> None:
        if now - self.weighed_at >= WEIGH_S:
            self.weighed_at = now
            self.peak_mb = max([self.peak_mb, *map(_peak_mb_of, self.members)])

    def _start_again(self, member: Member) -> None:
        member.process.close()
        del self.traps[:1]
        member.process = self._started(member.name)
        member.starts, member.died_at = member.starts + 1, None

    def _started(self, name: str) -> BaseProcess:
        trap = self.traps[0] if self.traps else None
        orders = Orders(
            self._settings_of(name), self.diary, self.folder / f"{name}.log", trap, self.broken
        )
        process = _CONTEXT.Process(target=_begin, args=(orders,), name=name, daemon=True)
        process.start()
        return process

    def _settings_of(self, name: str) -> dict[str, object]:
        kafka = self.settings["kafka"]
        assert isinstance(kafka, dict)
        own = {"instance_id": name} if self.is_static else {}
        return {**self.settings, "kafka": {**kafka, **own}}


def send(member: Member, number: signal.Signals) -> None:
    """A signal to the member's process, if it still runs."""
    with suppress(ProcessLookupError):
        if member.process.is_alive() and member.process.pid is not None:
            os.kill(member.process.pid, number)


def _peak_mb_of(member: Member) -> int:
    """The most memory that the member's process has held so far, in megabytes; 0 if unknown."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{member.process.pid}/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    return 0


def _is_frozen(process: BaseProcess) -> bool:
    try:
        state = Path(f"/proc/{process.pid}/stat").read_text("utf-8").rsplit(") ", 1)[1][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state == "T"
