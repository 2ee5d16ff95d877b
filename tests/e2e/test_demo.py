"""The demo as a newcomer meets it: it fires where it should, answers, and leaves nothing behind.

It works in real time: the alert comes about a minute and a half after the start.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.stores import free_port

ROOT = Path(__file__).parents[2]
ALERT_WITHIN_S = 300
STOP_WITHIN_S = 60
KEPT = {"broker.log", "lock", "recallwatch.yaml", "store.log"}
"""What stays in the data folder."""


@dataclass
class Place:
    """Where a demo runs: nothing but its data folder may change."""

    root: Path
    pids: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for folder in (self.home, self.work, self.scratch):
            folder.mkdir()

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def scratch(self) -> Path:
        return self.root / "tmp"

    def environment(self) -> dict[str, str]:
        """As good as none: where to be at home, and where this source tree is."""
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.scratch),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def note_processes(self, demo: int) -> None:
        """Remember the servers that the demo names, and its children where they can be seen."""
        endpoints = json.loads((self.data / "endpoints.json").read_text())
        self.pids |= {*endpoints["pids"].values(), *children_of(demo)}

    def check_that_nothing_is_left(self) -> None:
        assert naming(self.root) == []
        for pid in self.pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        for folder in (self.home, self.work, self.scratch):
            assert list(folder.rglob("*")) == []
        # One that was ended at once has not even made its folder.
        assert {path.name for path in self.data.glob("*")} <= KEPT


def children_of(pid: int) -> set[int]:
    """Child processes, by Linux's process table; none where there is no such table."""
    found: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == pid:
            found.add(int(stat.parent.name))
    return found


def naming(folder: Path) -> list[str]:
    """Command lines of other processes that name ``folder``, by Linux's process table."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = place.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in line:
            found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


@contextmanager
def demo(place: Place, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command, reading its standard error as text; whatever happens, it ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "monitor", "demo", "--data", str(place.data), *options],
        cwd=place.work,
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=STOP_WITHIN_S)


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """Lines of standard error up to the first that holds ``words``."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"{words!r} never came: {''.join(lines)}")


def wait_for_the_dashboard(port: int) -> None:
    deadline = time.monotonic() + STOP_WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                assert answer.status == 200
                return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "the dashboard does not answer"
            time.sleep(0.2)


def test_the_demo_fires_for_the_broken_variant_alone_and_leaves_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with demo(place, "--headless", "--until-alert") as process:
        read_until(process, "A day of history: ")
        place.note_processes(process.pid)
        out, err = process.communicate(timeout=ALERT_WITHIN_S)
    assert process.returncode == 0, err
    assert "ALERT urgent-recall for fine_tuned" in err
    assert "Traceback" not in err

    report: dict[str, Any] = json.loads(out)
    assert report["variants"]["ALL"]["accuracy"] > 0.95, "accuracy sees nothing"
    fired = [line for line in report["transitions"] if line["to"] == "firing"]
    assert [(line["rule"], line["variant"]) for line in fired] == [("urgent-recall", "fine_tuned")]
    assert fired[0]["hits"] / fired[0]["n"] <= 0.65, "recall is low"
    for kind, parts in (
        ("predictions", ("labelled", "pending", "expired", "duplicate")),
        ("labels", ("applied", "superseded", "orphan", "expired", "duplicate")),
    ):
        side = report["ledger"][kind]
        assert side["received"] == sum(side[part] for part in parts) + sum(
            side["rejected"].values()
        )
    place.check_that_nothing_is_left()


def test_ctrl_c_ends_the_demo_with_everything_that_it_started(tmp_path: Path) -> None:
    place, port = Place(tmp_path), free_port()
    with demo(place, "--port", str(port)) as process:
        read_until(process, "Dashboard: ")
        wait_for_the_dashboard(port)
        place.note_processes(process.pid)
        assert naming(tmp_path) or not Path("/proc").is_dir(), "the servers should run"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=STOP_WITHIN_S)
    assert process.returncode == 0, err
    assert out == ""
    assert err.splitlines()[-1] == "Stopping ..."
    assert "Traceback" not in err
    assert place.pids
    place.check_that_nothing_is_left()


@pytest.mark.parametrize("words", ["Starting the embedded", "A day of history: "])
def test_ctrl_c_ends_the_demo_also_before_it_is_under_way(tmp_path: Path, words: str) -> None:
    place = Place(tmp_path)
    with demo(place, "--headless") as process:
        read_until(process, words)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=STOP_WITHIN_S)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    place.check_that_nothing_is_left()
