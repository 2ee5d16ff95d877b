"""What the worker says of itself: structured logs, Prometheus metrics, a health page.

Every metric is declared in ``Metrics``, once, with its unit in the name. Label values are bounded:
topics' roles, rejection reasons, rules with their variants and slices.
"""

import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app

from monitor.domain.errors import WorldError

UNHEALTHY_AFTER_S = 15.0
"""A worker that has not finished a turn for so long is stuck."""

STOP_CHECK_S = 0.1
"""How often the telemetry server looks whether it should end."""


class SystemClock:
    """Wall time."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000


class Metrics:
    """The worker's metrics, in a registry of their own; every name begins with ``recallwatch_``."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.records = Counter("recallwatch_records", "Records committed", registry=registry)
        self.rejected = Counter(
            "recallwatch_rejected_records", "Records rejected", registry=registry
        )
        self.sampling = Gauge(
            "recallwatch_sampling_ratio",
            "Share of prediction ids that is counted, 0..1; records and lag are of all",
            registry=registry,
        )
        self.dropped = Counter(
            "recallwatch_dropped_offsets",
            "Offsets that the log dropped before they were counted",
            ["topic"],
            registry=registry,
        )
        self.assigned = Gauge(
            "recallwatch_assigned_partitions",
            "Partitions that this worker reads",
            registry=registry,
        )
        self.lag = Gauge(
            "recallwatch_lag_records",
            "Records this worker has yet to read; the whole group's while broker or store is away; "
            "NaN when unknown",
            registry=registry,
        )
        self.watermark = Gauge(
            "recallwatch_watermark_seconds",
            "Log time up to which the input is complete, as Unix time",
            registry=registry,
        )
        self.turn_seconds = Histogram(
            "recallwatch_turn_seconds", "A turn: batches from poll to commit", registry=registry
        )
        self.evaluation_seconds = Histogram(
            "recallwatch_evaluation_seconds", "One evaluation of all rules", registry=registry
        )
        self.evaluated = Gauge(
            "recallwatch_evaluated_seconds",
            "When this worker last asked the rules, as Unix time; 0 while another one always did",
            registry=registry,
        )
        self.interruptions = Counter(
            "recallwatch_interruptions", "Times broker or store failed us", registry=registry
        )
        self.notifications = Counter(
            "recallwatch_notifications",
            "Notices that a receiver has taken",
            ["receiver"],
            registry=registry,
        )
        self.notification_failures = Counter(
            "recallwatch_notification_failures",
            "Notices that a receiver did not take; they are sent again",
            ["receiver"],
            registry=registry,
        )
        self.alert_level = Gauge(
            "recallwatch_alert_level",
            "0 ok or no data, 1 warning, 2 firing or recovering",
            ["rule", "variant", "slice", "version"],
            registry=registry,
        )
        self.evidence = Gauge(
            "recallwatch_alert_evidence_ratio",
            "Evidence against the objective, 0..1: ln(1 + M) / ln(1 + A); 1 fires",
            ["rule", "variant", "slice", "version"],
            registry=registry,
        )
        self.alert_labels = Gauge(
            "recallwatch_alert_labels",
            "The last mature labels that counted, at most 60",
            ["rule", "variant", "slice", "version"],
            registry=registry,
        )
        self.alert_hits = Gauge(
            "recallwatch_alert_hits",
            "Hits among the last mature labels that counted",
            ["rule", "variant", "slice", "version"],
            registry=registry,
        )


class Health:
    """Whether the worker is alive, and the last thing that failed it. Thread-safe."""

    def __init__(self) -> None:
        self._last_turn = time.monotonic()
        self._trouble: str | None = None

    def turned(self) -> None:
        """A turn was finished."""
        self._last_turn, self._trouble = time.monotonic(), None

    def failed(self, error: WorldError) -> None:
        """Broker or store failed; healthy again with the next finished turn."""
        self._trouble = str(error)

    def report(self) -> tuple[bool, str]:
        """Healthy or not, and one line that says why."""
        silent_s = time.monotonic() - self._last_turn
        if self._trouble:
            return False, self._trouble
        if silent_s > UNHEALTHY_AFTER_S:
            return False, f"no turn finished for {silent_s:.0f} s"
        return True, "ok"


def configure_logging(level: str, form: str) -> None:
    """Log to standard error: JSON lines, or readable ones (``auto``: readable on a terminal)."""
    is_readable = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if is_readable else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([_harmless] if is_readable else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _harmless(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Names come from messages: on a terminal their control characters are written out."""
    return {
        name: printable(value) if isinstance(value, str) else value for name, value in event.items()
    }


def printable(text: str) -> str:
    r"""The text with control characters written out: a message must not command the terminal.

    >>> print(printable("red \x1b[31m"))
    red \x1b[31m
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request: browsers open connections on which they say nothing."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is not worth a traceback."""


class _Quiet(WSGIRequestHandler):
    timeout = 10.0
    """Seconds for which a client may say nothing."""

    def log_message(self, *_: object) -> None:
        """Scrapes are not worth a log line."""


@contextmanager
def telemetry_server(host: str, port: int, metrics: Metrics, health: Health) -> Iterator[int]:
    """Serve ``/metrics`` and ``/healthz`` while the context is open; yields the port, 0 for none.

    Port 0 in the settings turns it off. WorldError when the port is in use.
    """
    if not port:
        yield 0
        return
    try:
        server = make_server(host, port, _application(metrics, health), _Server, _Quiet)
    except OSError as error:
        raise WorldError(
            f"telemetry port {host}:{port} cannot be used ({error.strerror}); stop what uses it, "
            "set telemetry.port to another one, or to 0 for none"
        ) from error
    thread = threading.Thread(
        target=server.serve_forever, args=(STOP_CHECK_S,), name="telemetry", daemon=True
    )
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _application(metrics: Metrics, health: Health) -> WSGIApplication:
    scrape: WSGIApplication = make_wsgi_app(metrics.registry)

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/healthz":
            return scrape(environ, start)
        is_healthy, text = health.report()
        status = "200 OK" if is_healthy else "503 Service Unavailable"
        start(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()]

    return application
