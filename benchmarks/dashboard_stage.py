"""What the benchmarks of the dashboard are played on: a real Redis, a feeder, a real dashboard.

The store holds the incident of the tests' scenes, moved so that it ends now. The feeder goes on as
a worker would: a sign of life and a few unlabelled predictions a second.
"""

import os
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from benchmarks.memory import iso
from monitor.adapters.redis import RedisStore
from monitor.app.dashboard import command, entry, environment
from monitor.app.settings import DashboardSettings, Settings
from monitor.app.wiring import open_store, spec_of
from monitor.domain import engine
from monitor.domain.cut import Progress
from monitor.domain.engine import Spec
from monitor.domain.errors import StoreError
from monitor.domain.events import (
    Batch,
    Envelope,
    Kind,
    Label,
    Partition,
    Prediction,
    PredictionId,
    Rejected,
)
from monitor.ports import Heartbeat
from tests.dashboards import scenes
from tests.servers.ports import HOST, free_port
from tests.servers.redis import REDIS, RedisServer

FEED_EVERY_S = 1.0
PER_FEED = 2
PATIENCE_S = 60.0
WORKER = "worker-1"


@dataclass
class Stage:
    """``windows`` is wall time, by clock(), of each commit that completed a pane."""

    redis: RedisServer
    settings: Settings
    url: str
    pid: int
    windows: list[float] = field(default_factory=list)


def clock() -> float:
    """Seconds for measuring spans."""
    return time.perf_counter()


def settings_for(redis_url: str) -> Settings:
    """The groups and rule of the scenes, with the detector that is the default."""
    rule = {
        "name": "urgent-recall", "of": "urgent", "per": ["variant"], "objective": 0.80,
        "baseline": 0.92,
    }  # fmt: skip
    return Settings.model_validate({
        "redis": {"url": redis_url, "namespace": "bench"},
        "intents": {"groups": {"urgent": sorted(scenes.URGENT)}},
        "rules": [rule],
    })  # fmt: skip


@contextmanager
def stage(core: int | None = None) -> Iterator[Stage]:
    """Everything running; the dashboard on ``core`` alone where one is given."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        redis = opened.enter_context(RedisServer(REDIS))
        settings = settings_for(redis.url)
        now_ms = time.time_ns() // 1_000_000
        with closing(open_store(settings)) as store:
            scenes.fill(store, moved(scenes.incident(), now_ms), spec_of(settings), now_ms)
        url, process = _served(opened, folder, settings, core)
        found = Stage(redis, settings, url, process.pid)
        ended = threading.Event()
        feeder = threading.Thread(target=_feed, args=(found, ended), name="feeder")
        opened.callback(feeder.join)
        opened.callback(ended.set)
        feeder.start()
        yield found


def moved(chat: scenes.Chat, end_ms: int) -> scenes.Chat:
    """The same messages, ending at ``end_ms``."""
    by_ms = end_ms - scenes.NOON_MS
    return scenes.Chat([_moved(envelope, by_ms) for envelope in chat.envelopes])


def _moved(envelope: Envelope, by_ms: int) -> Envelope:
    fact, later_ms = envelope.fact, envelope.log_ms + by_ms
    if isinstance(fact, Rejected):
        return envelope
    if isinstance(fact, Prediction):
        at = fact._replace(event_ms=fact.event_ms + by_ms, log_ms=fact.log_ms + by_ms)
        return envelope._replace(fact=at, log_ms=later_ms)
    told = fact._replace(label_ms=fact.label_ms + by_ms, log_ms=fact.log_ms + by_ms)
    return envelope._replace(fact=told, log_ms=later_ms)


def _served(
    opened: ExitStack, folder: Path, settings: Settings, core: int | None
) -> tuple[str, subprocess.Popen[bytes]]:
    """The dashboard as the command starts it."""
    told = DashboardSettings(host=HOST, port=free_port())
    config = folder / "recallwatch.yaml"
    config.write_text(yaml.safe_dump({
        "redis": {"url": settings.redis.url.get_secret_value(), "namespace": "bench"},
        "intents": settings.intents.model_dump(mode="json"),
        "rules": [{"name": "urgent-recall", "of": "urgent", "per": ["variant"],
                   "objective": 0.80, "baseline": 0.92}],
    }))  # fmt: skip
    log = opened.enter_context((folder / "dashboard.log").open("wb"))
    process = subprocess.Popen(
        command(told), cwd=entry().parent, env=environment(config), stdout=log, stderr=log
    )
    opened.callback(process.wait, 20)
    opened.callback(process.terminate)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    url = f"http://{HOST}:{told.port}"
    deadline = clock() + PATIENCE_S
    while clock() < deadline and process.poll() is None:
        with suppress(OSError):
            urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).close()
            return url, process
        time.sleep(0.1)
    raise SystemExit(f"the dashboard did not start:\n{(folder / 'dashboard.log').read_text()}")


def _feed(found: Stage, ended: threading.Event) -> None:
    """As a worker would, until ended; while the store is away it is opened again and again."""
    number = 0
    while not ended.is_set():
        with suppress(StoreError), closing(open_store(found.settings)) as store:
            assert isinstance(store, RedisStore)
            number = _feed_on(found, store, ended, number)
        ended.wait(0.2)


def _feed_on(found: Stage, store: RedisStore, ended: threading.Event, number: int) -> int:
    spec = spec_of(found.settings)
    while not ended.is_set():
        now_ms = time.time_ns() // 1_000_000
        before = store.cuts()[0]
        first = next(iter(before.values()))
        facts = [_prediction(number + n, now_ms) for n in range(PER_FEED)]
        number += PER_FEED
        _commit(spec, store, facts, now_ms)
        store.beat(Heartbeat(WORKER, now_ms, lag=0, records=number, evaluated_ms=now_ms))
        pane_ms = spec.windows.pane_ms
        if now_ms // pane_ms != first.last_log_ms // pane_ms:
            found.windows.append(clock())
        ended.wait(FEED_EVERY_S)
    return number


def _commit(spec: Spec, store: RedisStore, facts: list[Envelope], now_ms: int) -> None:
    before = store.cuts()[0]
    place = max(progress.next_offset for progress in before.values()) + len(facts)
    progress = {Partition(kind, 0): Progress(place, now_ms, now_ms) for kind in Kind}
    changes = engine.step(spec, {}, Batch.of(facts), progress=progress, watermark_ms=None)
    store.load(0, changes.entries)
    store.commit(0, before, changes)


def _prediction(number: int, now_ms: int) -> Envelope:
    chat = scenes.Chat()
    chat.message(now_ms, predicted="fees")
    [envelope] = chat.envelopes
    assert not isinstance(envelope.fact, Label | Rejected)
    named = envelope.fact._replace(prediction_id=PredictionId(f"live-{number}-{iso(now_ms)}"))
    return envelope._replace(fact=named)
