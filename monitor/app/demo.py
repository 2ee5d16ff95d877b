"""The product at work on a simulated bank chatbot, with nothing but Python.

A broker and a store from wheels, a day of history, live traffic in real time, the worker and the
dashboard. Twenty-six minutes before the start a release broke the urgent requests of one variant;
its labels are coming in, and the alert fires about a minute and a half after the start.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from monitor.adapters.kafka import KafkaTopics
from monitor.app import dashboard
from monitor.app.brokers import connection_of, open_sink
from monitor.app.console import note, progress_of
from monitor.app.embedded import Endpoints, dies_with_us, embedded_servers
from monitor.app.feed import FOREVER, publish_all, publish_paced
from monitor.app.live import Worker, world_of
from monitor.app.report import present_report
from monitor.app.settings import DashboardSettings, Settings, load_settings
from monitor.app.simulate import INTENTS, URGENT, Scenario, SimulatedRecord, simulate
from monitor.app.telemetry import SystemClock, configure_logging
from monitor.app.wiring import open_reader
from monitor.domain.alerts import Status, Transition
from monitor.domain.errors import WorldError
from monitor.ports import Clock, OutRecord, RecordSink

PARTITIONS = 4
LONGEST_WAIT_S = 15 * 60.0
"""How long ``--until-alert`` waits; the alert comes after a minute and a half."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The options of the command."""

    data: Path
    headless: bool = False
    until_alert: bool = False
    port: int = 8501


class _Background(threading.Thread):
    """A thread whose failure is not lost: ``check`` raises it in the main thread."""

    def __init__(self, name: str, target: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = target
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - carried over to the main thread
            self._error = error

    def check(self) -> None:
        if self._error is not None:
            raise self._error


def run_demo(choices: Choices) -> dict[str, Any] | None:
    """Run until Ctrl-C, or until the alert; then the report (None when stopped by Ctrl-C).

    WorldError when a server fails, or when no alert came within a quarter of an hour.
    """
    configure_logging("warning", "auto")
    if not choices.headless:
        dashboard.ensure_free(DashboardSettings(port=choices.port))
    with ExitStack() as opened:
        note("Starting the embedded broker and store ...")
        endpoints = opened.enter_context(embedded_servers(choices.data))
        config = _write_settings(choices, endpoints)
        settings = load_settings(config, environ={})
        alert, stop = threading.Event(), threading.Event()
        opened.callback(stop.set)
        threads = opened.enter_context(_traffic(settings, stop, alert))
        if not choices.headless:
            opened.enter_context(_dashboard(settings, config))
        try:
            _wait(
                threads,
                alert if choices.until_alert else stop,
                LONGEST_WAIT_S if choices.until_alert else None,
            )
        except KeyboardInterrupt:
            note("Stopping ...")
            return None
        with closing(open_reader(settings)) as reader:
            return present_report(reader, settings)


def demo_settings(choices: Choices, endpoints: Endpoints) -> dict[str, Any]:
    """The demo's settings, as they stand in its file."""
    return {
        "kafka": {"bootstrap_servers": endpoints.bootstrap_servers},
        "redis": {"url": endpoints.redis_url, "namespace": "demo"},
        "intents": {"closed": True, "known": list(INTENTS), "groups": {"urgent": list(URGENT)}},
        "slices": ["variant", "channel"],
        "rules": [
            {
                "name": "urgent-recall",
                "of": "urgent",
                "per": ["variant"],
                "objective": 0.80,
                "evidence": 36_000,
            }
        ],
        "verdict": {"recall": {"urgent": 0.80}},
        "telemetry": {"port": 0},
        "dashboard": {"port": choices.port},
    }


def _write_settings(choices: Choices, endpoints: Endpoints) -> Path:
    path = choices.data / "recallwatch.yaml"
    path.write_text(yaml.safe_dump(demo_settings(choices, endpoints), sort_keys=False))
    return path.absolute()


@contextmanager
def _traffic(
    settings: Settings, stop: threading.Event, alert: threading.Event
) -> Iterator[list[_Background]]:
    """History into the topics, then chatbot and worker in threads while the context is open."""
    clock = SystemClock()
    _create_topics(settings)
    t0_ms = clock.now_ms()
    records = simulate(Scenario(), t0_ms)
    with closing(open_sink(settings)) as sink:
        live = _publish_history(records, sink, t0_ms)
        worker = Worker(settings, world_of(settings))
        worker.stop, worker.on_transition = stop, _teller(alert, clock, t0_ms)
        threads = [
            _Background("chatbot", lambda: _publish_live(live, records, sink, clock, t0_ms, stop)),
            _Background("worker", worker.run),
        ]
        for thread in threads:
            thread.start()
        try:
            yield threads
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def _create_topics(settings: Settings) -> None:
    kafka = settings.kafka
    with KafkaTopics(connection_of(settings)) as admin:
        topics = dict.fromkeys((kafka.predictions.topic, kafka.labels.topic), PARTITIONS)
        admin.ensure(topics, log_append_time=False, retention_ms=FOREVER)
        admin.ensure({kafka.dead_letters.topic: 1}, log_append_time=True)


def _publish_history(
    records: Iterator[SimulatedRecord], sink: RecordSink, t0_ms: int
) -> SimulatedRecord:
    """Write everything before ``t0_ms``; the first record after it, already taken."""
    later: list[SimulatedRecord] = []

    def is_past(record: SimulatedRecord) -> bool:
        if record.log_ms >= t0_ms:
            later.append(record)
        return record.log_ms < t0_ms

    with progress_of("A day of history") as meter:
        publish_all(map(_outgoing, takewhile(is_past, records)), sink, meter)
    return later[0]


def _publish_live(
    first: SimulatedRecord,
    records: Iterator[SimulatedRecord],
    sink: RecordSink,
    clock: Clock,
    t0_ms: int,
    stop: threading.Event,
) -> None:
    def upcoming() -> Iterator[OutRecord]:
        yield _outgoing(first)
        yield from map(_outgoing, records)

    publish_paced(upcoming(), sink, clock, speed=1.0, stop=stop, began=(t0_ms, t0_ms))


def _outgoing(record: SimulatedRecord) -> OutRecord:
    return OutRecord(record.topic, record.key, record.value, log_ms=record.log_ms)


def _teller(alert: threading.Event, clock: Clock, t0_ms: int) -> Callable[[Transition], None]:
    def tell(transition: Transition) -> None:
        if transition.moved_to is Status.FIRING:
            after_s = (clock.now_ms() - t0_ms) / 1000
            note(
                f"ALERT {transition.rule} for {transition.key.variant}, {after_s:.0f} s after the "
                f"start: {transition.reason}"
            )
            alert.set()

    return tell


@contextmanager
def _dashboard(settings: Settings, config: Path) -> Iterator[None]:
    process = subprocess.Popen(
        dies_with_us(dashboard.command(settings.dashboard)),
        cwd=dashboard.entry().parent,
        env=_without_settings(os.environ) | {"RECALLWATCH_CONFIG": str(config)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    note(f"Dashboard: {dashboard.address(settings.dashboard)}   (Ctrl-C stops everything)")
    note(f"Other commands: recallwatch report --config {config}")
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a real installation must not lead the demo's dashboard to its store."""
    return {name: value for name, value in environ.items() if not name.startswith("RECALLWATCH_")}


def _wait(threads: list[_Background], event: threading.Event, longest_s: float | None) -> None:
    deadline = None if longest_s is None else time.monotonic() + longest_s
    while not event.wait(0.5):
        for thread in threads:
            thread.check()
            if not thread.is_alive():
                raise WorldError(
                    f"the demo's {thread.name} ended by itself; see the messages above"
                )
        if deadline is not None and time.monotonic() > deadline:
            raise WorldError("no alert fired within a quarter of an hour")
