"""The commands ``recallwatch audit``: prove an alert from the log, and say why it was raised.

What needs the engine is imported by the command that needs it, as in ``app.cli``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.app.console import note, print_json, progress_of
from monitor.app.options import NO, Archived, Config, Form, Format, Offline
from monitor.app.settings import load_settings
from monitor.app.telemetry import printable
from monitor.domain.errors import JournalError, NotVerifiable

if TYPE_CHECKING:
    from monitor.app.audit import Verification

audit = typer.Typer(
    name="audit",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Prove an alert, or every number, from the log; say why an alert was raised.",
    epilog="Example: recallwatch audit verify --all",
)

Alert = Annotated[
    str | None,
    typer.Argument(metavar="ALERT", help="Id of an alert, or of one of its transitions."),
]


def _instant(text: str) -> int:
    from monitor.app.history import place_of

    try:
        place = place_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if place.instant_ms is None:
        raise typer.BadParameter("must be a time, such as 2026-11-22T13:00:00Z")
    return place.instant_ms


@audit.command(epilog="Example: recallwatch audit verify 0f1e2d3c --archive /var/lib/recallwatch")
def verify(
    alert: Alert = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every alert and every digest of the journal.")
    ] = False,
    start: Annotated[
        int | None,
        typer.Option("--from", parser=_instant, metavar="TIME", help="With --all: compare from."),
    ] = None,
    end: Annotated[
        int | None,
        typer.Option("--to", parser=_instant, metavar="TIME", help="With --all: compare up to."),
    ] = None,
    archive: Archived = None,
    offline: Offline = False,
    config: Config = None,
    form: Format = Form.TEXT,
) -> None:
    """Replay a history from the log, and compare with what was journaled: bit for bit.

    Ends with 1 and the first difference when something is not what it was.
    """
    if (alert is not None) == everything:
        raise typer.BadParameter("name an ALERT, or --all")
    settings = load_settings(config)
    from monitor.app.audit_run import Scope, verified

    with _answering(), progress_of("Replaying") as meter:
        result = verified(settings, Scope(archive, offline, alert, start, end), meter)
    _end_with(result, form)


@audit.command(epilog="Example: recallwatch audit report report.json")
def report(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A report.json.")
    ],
    archive: Archived = None,
    offline: Offline = False,
    config: Config = None,
    form: Format = Form.TEXT,
) -> None:
    """Re-derive every number of a report from the log, up to the report's own cut.

    Under the settings at hand. Ends with 1 and the numbers that differ.
    """
    settings = load_settings(config)
    from monitor.app.audit_run import Scope, verified_report

    with _answering(), progress_of("Replaying") as meter:
        result = verified_report(settings, Scope(archive, offline), file, meter)
    _end_with(result, form)


@audit.command(epilog="Example: recallwatch audit show 0f1e2d3c")
def show(
    alert: Annotated[
        str, typer.Argument(metavar="ALERT", help="Id of an alert, or of one of its transitions.")
    ],
    archive: Archived = None,
    offline: Offline = False,
    config: Config = None,
    form: Format = Form.TEXT,
) -> None:
    """Why an alert was raised, in words and numbers, with the records that count as evidence."""
    settings = load_settings(config)
    from monitor.app.audit_run import Scope, shown
    from monitor.app.audit_show import document_of, lines_of

    with _answering(), progress_of("Replaying") as meter:
        found = shown(settings, Scope(archive, offline, alert), meter)
    if form is Form.JSON:
        print_json(document_of(found))
        return
    for line in lines_of(found):
        print(printable(line))


@contextmanager
def _answering() -> Iterator[None]:
    """What cannot be compared is said, and the answer is no."""
    try:
        yield
    except (NotVerifiable, JournalError) as error:
        note(printable(f"recallwatch: {error}"))
        raise typer.Exit(NO) from None


def _end_with(result: "Verification", form: Form) -> None:
    from monitor.app.audit import document_of, lines_of

    if form is Form.JSON:
        print_json(document_of(result))
    else:
        for line in lines_of(result):
            print(printable(line))
    if not result.holds:
        raise typer.Exit(NO)
