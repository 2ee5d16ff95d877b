"""The command ``recallwatch``: options in, exit code out.

Exit codes: 0 done, 1 the answer is no, 2 usage or settings, 3 the world failed (broker, store,
port) or the input is beyond use. The answer goes to standard output, everything else to standard
error.

What needs river (and with it scipy, seconds to load) is imported by the command that needs it, so
that help, usage errors and faults in the settings come at once.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from monitor import __version__
from monitor.adapters.files import CaptureError
from monitor.app import dashboard as streamlit_app
from monitor.app.alerts_cli import alerts
from monitor.app.archive_cli import archive as archive_commands
from monitor.app.audit_cli import audit
from monitor.app.console import note, print_json, print_report, progress_of
from monitor.app.embedded import EmbeddedError
from monitor.app.forget_cli import forget
from monitor.app.leakage_cli import EXAMPLE as LEAKAGE_EXAMPLE
from monitor.app.leakage_cli import leakage
from monitor.app.options import NO, STOPPED, USAGE, WORLD, Archived, Config, Form, Format, Offline
from monitor.app.settings import Settings, SettingsError, load_settings
from monitor.app.telemetry import (
    SystemClock,
    configure_logging,
    printable,
    telemetry_server,
)
from monitor.app.verdict_cli import Gate, card, verdict
from monitor.domain.errors import CheckpointError, RecallwatchError

app = typer.Typer(
    name="recallwatch",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Watch the recall of a chatbot's urgent intents: live predictions, late labels, alerts."
    "\n\nStart with: recallwatch demo",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Nothing is done before the command."""


@app.command(epilog="Example: recallwatch demo --headless --until-alert > report.json")
def demo(
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the embedded servers keep their files.")
    ] = Path(".recallwatch/demo"),
    headless: Annotated[bool, typer.Option("--headless", help="Without the dashboard.")] = False,
    until_alert: Annotated[
        bool, typer.Option("--until-alert", help="End when the alert fires; print the report.")
    ] = False,
    port: Annotated[int, typer.Option(help="The dashboard's port.", min=1, max=65535)] = 8501,
) -> None:
    """Everything at work on a simulated bank chatbot, with an incident that accuracy hides.

    The alert fires about a minute and a half after the start. Ctrl-C stops everything.
    """
    with _stopped_by_signals():
        from monitor.app.demo import Choices, run_demo

        report = run_demo(Choices(data, headless, until_alert, port))
    if report is not None:
        print_json(report)


@app.command(epilog="Example: recallwatch run --config recallwatch.yaml --until-caught-up")
def run(
    config: Config = None,
    until_caught_up: Annotated[
        bool,
        typer.Option(
            "--until-caught-up", help="End when both topics are read to their present end."
        ),
    ] = False,
    form: Format = Form.JSON,
) -> None:
    """The worker: read, join, count, evaluate. Start as many as there are partitions.

    With --until-caught-up the report is printed at the end.
    """
    settings = _watching(config)
    from monitor.app.live import Worker, world_of

    telemetry = settings.telemetry
    configure_logging(telemetry.log_level, telemetry.log_format)
    worker = Worker(settings, world_of(settings, in_group=not until_caught_up))
    port = 0 if until_caught_up else telemetry.port
    with (
        telemetry_server(telemetry.host, port, worker.metrics, worker.health),
        _stopping(worker.stop),
    ):
        if not until_caught_up:
            worker.run()
            return
        with progress_of("Reading") as meter:
            worker.on_progress = meter
            worker.run(until_caught_up=True)
    if worker.stop.is_set():
        note("Stopped before the end of the topics: no report. Run it again to go on from here.")
        raise typer.Exit(STOPPED)
    _print_live(settings, form)


@app.command(epilog="Example: recallwatch missed --of urgent --format json")
def missed(
    config: Config = None,
    of: Annotated[str | None, typer.Option(help="Of this declared group alone.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that somebody has seen to.")
    ] = False,
    form: Format = Form.TEXT,
) -> None:
    """Messages that declared groups have lost and nobody has seen to, the oldest first."""
    settings, now_ms = load_settings(config), SystemClock().now_ms()
    if of is not None and of not in settings.intents.groups:
        known = ", ".join(settings.intents.groups) or "none"
        raise typer.BadParameter(f"{of} is not declared; declared are: {known}")
    from monitor.app.missed import cases_in, line_of, row_of
    from monitor.app.wiring import open_reader, spec_of

    with closing(open_reader(settings)) as reader:
        cases = cases_in(reader, spec_of(settings), of)
    shown = [case for case in cases if everything or case.is_open]
    if form is Form.JSON:
        print_json([row_of(case, now_ms) for case in shown])
        return
    for case in shown:
        print(printable(line_of(case, now_ms)))
    if not shown:
        note(f"None is open. Handled: {len(cases)} (--all lists them).")


@app.command(epilog="Example: recallwatch report --format json | jq .variants.ALL.accuracy")
def report(
    config: Config = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write report.json, report.html and transitions.csv here as well."
        ),
    ] = None,
    form: Format = Form.TEXT,
) -> None:
    """The present numbers: ledger, scores of every variant, alerts."""
    settings = load_settings(config)
    if out is not None:
        from monitor.app.replaying import write_present

        _print(write_present(settings, out), form)
        return
    _print_live(settings, form)


@app.command(epilog="Example: recallwatch dashboard --port 8600")
def dashboard(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", min=1, max=65535)] = None,
) -> None:
    """The Streamlit dashboard on the store of the settings."""
    settings = load_settings(config)
    changed = {"host": host, "port": port}
    chosen = settings.dashboard.model_copy(
        update={name: value for name, value in changed.items() if value is not None}
    )
    streamlit_app.ensure_free(chosen)
    command = streamlit_app.command(chosen)
    note(f"Dashboard: {streamlit_app.address(chosen)}   (Ctrl-C stops it)")
    environment = dict(streamlit_app.environment(_config_path(config)))
    os.chdir(streamlit_app.entry().parent)
    os.execve(command[0], command, environment)


@app.command(epilog="Example: recallwatch feed captured/ --create-topics 6 --speed 60")
def feed(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Captured records.")
    ],
    config: Config = None,
    speed: Annotated[
        float | None,
        typer.Option(help="Pace by the timestamps; 60: a minute a second. Default: no pause."),
    ] = None,
    create_topics: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Create missing topics with N partitions."),
    ] = None,
) -> None:
    """Write captured records to the topics, with their key, partition and timestamp.

    DIR holds predictions.jsonl and labels.jsonl, plain or .gz, one captured record a line.
    """
    if speed is not None and not speed > 0:
        raise typer.BadParameter("must be above 0", param_hint="--speed")
    settings = load_settings(config)
    from monitor.app.feed import feed_files

    with progress_of("Feeding") as meter:
        feed_files(
            folder,
            settings,
            speed=speed,
            create_partitions=create_topics,
            clock=SystemClock(),
            warn=note,
            on_progress=meter,
        )


@app.command(epilog="Example: recallwatch replay --from 2026-11-22T00:00:00Z --rules rules.yaml")
def replay(
    config: Config = None,
    files: Annotated[
        Path | None,
        typer.Option(
            "--files",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Captured records. Default: what Kafka holds.",
        ),
    ] = None,
    archive: Archived = None,
    offline: Offline = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="A time, or topic[0]=12,topic[1]=30; others from their begin.",
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="PLACE",
            help="The same, exclusive, others to their end; or a report.json: its cut.",
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Back-test: what these rules would have raised, beside what was raised.",
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="What was known then, beside what is known now."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write report.json, report.html and transitions.csv here as well."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the work here, and go on from it if it is there."),
    ] = None,
    form: Format = Form.JSON,
) -> None:
    """The same engine over history, in memory: nothing live is written to, the same numbers.

    The history is what Kafka holds, an archive that Kafka continues, or captured records.
    """
    if files is not None and (archive or offline or start):
        raise typer.BadParameter("--files is read whole: no --archive, --offline or --from")
    if rules is not None and (as_of or out or checkpoint):
        raise typer.BadParameter("--rules compares alerts: no --as-of, --out or --checkpoint")
    if as_of and checkpoint:
        raise typer.BadParameter("--checkpoint is for a replay in one piece: no --as-of")
    settings = _watching(config)
    from monitor.app import replaying
    from monitor.app.backtest import lines_of

    asked = replaying.Asked(files, archive, offline, start, end, as_of)
    stop = threading.Event()
    saved = replaying.Checkpoint(checkpoint, stop)
    with _stopping(stop), _broken_off(replaying.Broken), progress_of("Replaying") as meter:
        if rules is not None:
            document = replaying.tried(settings, asked, rules, meter)
        else:
            document = replaying.replayed(settings, asked, out, meter, saved)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    if form is Form.JSON:
        print_json(document)
    elif rules is not None:
        for line in lines_of(document):
            print(printable(line))
    else:
        print_report(document)


@app.command(epilog="Example: recallwatch check --config recallwatch.yaml")
def check(config: Config = None) -> None:
    """Would it work? Settings, connections, topics, and what is read from sampled messages.

    Ends with 1 when something would not work, with 3 when broker or store cannot be asked.
    """
    settings = load_settings(config)
    from monitor.app.check import checks_of

    signs = {True: "ok  ", False: "FAIL", None: "    "}
    failed = unreached = False
    for found in checks_of(settings):
        print(f"{signs[found.is_ok]}  {found.what}: {found.found}", flush=True)
        failed |= found.is_ok is False
        unreached |= found.is_world
    if failed:
        raise typer.Exit(WORLD if unreached else NO)


app.command(
    cls=Gate, epilog="Example: recallwatch verdict --variant prompt --out card.md || exit 1"
)(verdict)
app.command(epilog="Example: recallwatch card --leakage leakage.json > card.md")(card)
app.command(epilog="Example: recallwatch forget 4c1d9e --archive /var/lib/recallwatch")(forget)
app.command(cls=Gate, epilog=LEAKAGE_EXAMPLE)(leakage)
app.add_typer(alerts)
app.add_typer(archive_commands)
app.add_typer(audit)


def main() -> None:
    """Run the command; a person's mistake gets a message, never a traceback."""
    # The client repeats what fails it, line after line; our message says it once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        app()
    except (SettingsError, CaptureError, CheckpointError) as error:
        note(str(error))
        sys.exit(USAGE)
    except (RecallwatchError, EmbeddedError) as error:
        note(f"recallwatch: {error}")
        sys.exit(WORLD)


def _watching(config: Path | None) -> Settings:
    """The settings, with a word to the operator when nothing in them can ever alert."""
    settings = load_settings(config)
    if not settings.rules:
        place = "these settings have" if _config_path(config) else "there is no settings file, so"
        note(f"Nothing can alert: {place} no rule. See recallwatch.yaml for a complete sample.")
    return settings


def _print_live(settings: Settings, form: Form) -> None:
    from monitor.app.report import present_report
    from monitor.app.wiring import open_reader

    with closing(open_reader(settings)) as reader:
        _print(present_report(reader, settings), form)


def _print(numbers: Mapping[str, Any], form: Form) -> None:
    if numbers["digest"] is None:
        note(
            "The store changed all the time: these numbers are not of one moment, have no digest, "
            "and cannot be reproduced. Try again when fewer records come."
        )
    if form is Form.JSON:
        print_json(numbers)
    else:
        print_report(numbers)


def _config_path(config: Path | None) -> Path | None:
    """The settings file as the dashboard will have to find it from another folder."""
    if config is not None:
        return config
    named = os.environ.get("RECALLWATCH_CONFIG")
    usual = Path("recallwatch.yaml")
    return Path(named) if named else usual if usual.exists() else None


@contextmanager
def _broken_off(broken: type[RecallwatchError]) -> Iterator[None]:
    """What was broken off is said, with the exit code that shells know for it."""
    try:
        yield
    except broken as error:
        note(str(error))
        raise typer.Exit(STOPPED) from None


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM lets the worker finish its turn; a second one breaks off."""

    def ask(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    with _handling(ask):
        yield


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block quietly, once what it opened is closed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with _handling(interrupt):
        try:
            yield
        except KeyboardInterrupt:
            note("Stopped.")
            raise typer.Exit(0) from None


@contextmanager
def _handling(handler: Callable[..., None]) -> Iterator[None]:
    """SIGINT and SIGTERM go to ``handler``; SIGINT also where a shell has turned it off."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)
