"""A worker killed between commit and delivery still tells; bad receivers do not hold it up.

The command in processes of its own, against the embedded broker and store, and web servers that
behave as receivers do at their worst.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.adapters.redis import RedisStore
from monitor.app.embedded import Endpoints, embedded_servers
from monitor.app.settings import load_settings
from monitor.app.simulate import URGENT
from monitor.app.wiring import open_reader
from monitor.domain.alerts import Status, Transition
from tests.app.captures import captured
from tests.replay.streams import SCENARIO, T0_MS, simulated
from tests.servers.hooks import Hook, hook
from tests.servers.ports import free_port

ROOT = Path(__file__).parents[2]
PATIENCE_S = 90.0
SECRET = "not-to-be-shown"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    with embedded_servers(tmp_path_factory.mktemp("servers")) as endpoints:
        yield endpoints


def settings_of(
    servers: Endpoints, case: str, notify: list[dict[str, Any]], *, wait: str = "1s"
) -> dict[str, Any]:
    roles = ("predictions", "labels", "dead_letters", "journal")
    topics = {role: {"topic": f"{case}.{role}"} for role in roles}
    return {
        "kafka": {"bootstrap_servers": servers.bootstrap_servers, "group": case, **topics},
        "redis": {"url": servers.redis_url, "namespace": case},
        "intents": {"groups": {"urgent": sorted(URGENT)}},
        "rules": [
            {"name": "urgent-recall", "of": "urgent", "objective": 0.8, "evidence": 300},
        ],
        "alerting": {"group_wait": wait, "group_interval": "3s", "timeout": "2s"},
        "notify": notify,
        "telemetry": {"port": 0},
        "worker": {"idle_after": "500ms"},
    }


def _environment() -> Mapping[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("RECALLWATCH_")}


@contextmanager
def worker(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``recallwatch run``; killed at the end if it is still there."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "monitor", "run", "--config", str(config)],
            cwd=ROOT,
            env=_environment(),
            stdout=out,
            stderr=out,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def feed(config: Path, folder: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "monitor", "feed", str(folder)),
            *("--create-topics", "2", "--config", str(config)),
        ],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for real processes, until a deadline."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.05)


def firing(reader: RedisStore) -> list[Transition]:
    return [t for t in reader.transitions() if t.moved_to is Status.FIRING]


def told_ids(told: Hook) -> list[str]:
    """Every transition id that was posted, copies included."""
    sent = [json.loads(posted.body) for posted in told.posted]
    return [alert["transition_id"] for notice in sent for alert in notice["alerts"]]


def test_what_was_committed_right_before_a_kill_is_told_by_the_next_worker(
    servers: Endpoints, tmp_path: Path
) -> None:
    with hook() as good:
        config = tmp_path / "recallwatch.yaml"
        told = settings_of(servers, "killed", [{"webhook": f"{good.url}/{SECRET}"}], wait="10s")
        config.write_text(yaml.safe_dump(told))
        feed(config, captured(tmp_path / "stream", simulated(SCENARIO, end_ms=T0_MS + 1_800_000)))
        with worker(config, tmp_path / "log") as first:
            until(lambda: _has_fired(config), "an alert in the store")
            # It waits for others of its group, so nobody has been told of it.
            first.send_signal(signal.SIGKILL)
            first.wait()
        assert good.posted == []
        with worker(config, tmp_path / "log"):
            good.wait()
        with closing(open_reader(load_settings(config))) as reader:
            fired = {t.id for t in firing(reader)}
        assert fired <= set(told_ids(good))
        assert SECRET not in (tmp_path / "log").read_text()


def _has_fired(config: Path) -> bool:
    with closing(open_reader(load_settings(config))) as reader:
        return bool(firing(reader))


def test_receivers_that_are_dead_slow_or_broken_hold_up_neither_records_nor_the_others(
    servers: Endpoints, tmp_path: Path
) -> None:
    stream = simulated(SCENARIO, end_ms=T0_MS + 1_800_000)
    with hook() as good, hook(status=500) as broken, hook(is_slow=True) as slow:
        notify = [
            {"webhook": f"{url}/{SECRET}", "name": name}
            for name, url in (
                ("dead", f"http://127.0.0.1:{free_port()}"),
                ("slow", slow.url),
                ("broken", broken.url),
                ("good", good.url),
            )
        ]
        config = tmp_path / "recallwatch.yaml"
        config.write_text(yaml.safe_dump(settings_of(servers, "bad", notify)))
        feed(config, captured(tmp_path / "stream", stream))
        with worker(config, tmp_path / "log"):
            good.wait()
            broken.wait()
            slow.wait()
            with closing(open_reader(load_settings(config))) as reader:
                until(lambda: _received(reader) == len(stream), "every record counted")
        assert SECRET not in (tmp_path / "log").read_text()


def _received(reader: RedisStore) -> int:
    books = reader.ledger()
    return books["predictions.received"] + books["labels.received"]
