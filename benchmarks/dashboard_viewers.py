"""Many viewers of the Live page: what a browser sends and receives, without drawing anything.

Each viewer opens the page, then asks for every part of it again when its time has come, as the
browser does, and waits for the answer before it asks again.
"""

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from benchmarks.dashboard_stage import clock

TICKS = os.sysconf("SC_CLK_TCK")
MOST_BYTES = 2**26
EARLY = ForwardMsg.FINISHED_EARLY_FOR_RERUN


@dataclass
class Seen:
    """What viewers saw: seconds of each refresh, errors on the page, sessions that were drawn."""

    refreshes: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    opened: int = 0
    is_measuring: bool = False


@dataclass(frozen=True)
class Load:
    """``viewers`` for ``seconds``: CPU as a share of one core, refreshes, resident memory."""

    viewers: int
    seconds: float
    cpu: float
    refreshes: tuple[float, ...]
    resident_mb: float
    errors: tuple[str, ...]


async def load(url: str, pid: int, viewers: int, *, ramp_s: float, seconds: float) -> Load:
    """Let viewers come one after another, wait until all are there, and measure."""
    seen, ended = Seen(), asyncio.Event()
    tasks = []
    for _ in range(viewers):
        tasks.append(asyncio.create_task(_viewer(url, seen, ended)))
        await asyncio.sleep(ramp_s / viewers)
    while seen.opened < viewers and not any(task.done() for task in tasks):
        await asyncio.sleep(0.2)
    await asyncio.sleep(5)
    began, cpu_s, seen.is_measuring = clock(), cpu_seconds(pid), True
    await asyncio.sleep(seconds)
    spent, took = cpu_seconds(pid) - cpu_s, clock() - began
    resident = resident_mb(pid)
    ended.set()
    await asyncio.gather(*tasks)
    return Load(viewers, took, spent / took, tuple(seen.refreshes), resident, tuple(seen.errors))


async def _viewer(url: str, seen: Seen, ended: asyncio.Event) -> None:
    address = url.replace("http://", "ws://") + "/_stcore/stream"
    async with connect(
        address, subprotocols=[Subprotocol("streamlit")], max_size=MOST_BYTES, origin=Origin(url)
    ) as socket:
        await socket.send(_ask(""))
        parts = await _answer(socket, seen)
        seen.opened += 1
        due = {fragment: clock() + every for fragment, every in parts.items()}
        while not ended.is_set():
            fragment = min(due, key=lambda one: due[one])
            await asyncio.sleep(max(0.0, due[fragment] - clock()))
            began = clock()
            await socket.send(_ask(fragment))
            # An answer names the fragments that go on asking; one that is missing has ended.
            parts |= await _answer(socket, seen)
            if seen.is_measuring:
                seen.refreshes.append(clock() - began)
            due[fragment] = began + parts[fragment]


def _ask(fragment: str) -> bytes:
    state = ClientState(fragment_id=fragment, is_auto_rerun=bool(fragment))
    message = BackMsg(rerun_script=state)
    return bytes(message.SerializeToString())


async def _answer(socket: ClientConnection, seen: Seen) -> dict[str, float]:
    """Everything up to the end of the run: fragment -> seconds after which it is asked again."""
    again: dict[str, float] = {}
    while True:
        raw = await socket.recv()
        assert isinstance(raw, bytes)
        message = ForwardMsg.FromString(raw)
        kind = message.WhichOneof("type")
        if kind == "auto_rerun":
            again[message.auto_rerun.fragment_id] = message.auto_rerun.interval
        elif kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
            seen.errors.append(message.delta.new_element.exception.message)
        elif kind == "script_finished" and message.script_finished != EARLY:
            return again


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmRSS")]
    return int(kilobytes) * 1024 / 1e6


def share_of(values: tuple[float, ...], share: float) -> float:
    """The value that so many of them do not exceed; not a number without any."""
    found = sorted(values)
    return found[min(len(found) - 1, int(share * len(found)))] if found else float("nan")
