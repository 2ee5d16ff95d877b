"""The commands ``recallwatch alerts``: see what is up, take it on, mute it.

What reads the store is imported by the command that needs it, as in ``app.cli``.
"""

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.app.console import note, print_json
from monitor.app.options import NO, Config, Form, Format, Who, login_name
from monitor.app.settings import load_settings, parse_duration
from monitor.app.telemetry import SystemClock, configure_logging, printable
from monitor.domain.errors import ActRefused

if TYPE_CHECKING:
    from monitor.app.handling import Standing

ID_BYTES = 4
"""Of the id of an action: eight digits to type."""

Alert = Annotated[
    str, typer.Argument(metavar="ALERT", help="Id of an alert, or of one of its transitions.")
]


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


alerts = typer.Typer(
    name="alerts",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What is up, since when and why; acknowledge it, silence it.",
    epilog="Example: recallwatch alerts list",
)


@alerts.command("list", epilog="Example: recallwatch alerts list --all --format json")
def list_alerts(
    config: Config = None,
    form: Format = Form.TEXT,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that are ok or have no data.")
    ] = False,
) -> None:
    """The alerts that are up or stalled, one a line, with what lies over them."""
    settings, now_ms = load_settings(config), SystemClock().now_ms()
    from monitor.app.handling import handled, line_of, row_of
    from monitor.app.wiring import open_reader, spec_of

    with closing(open_reader(settings)) as reader:
        standings = handled(reader, spec_of(settings), now_ms).standings
    shown = [each for each in standings if everything or each.is_worth_a_look]
    if form is Form.JSON:
        print_json([row_of(each) for each in shown])
        return
    for each in shown:
        print(printable(line_of(each, now_ms)))
    if not shown:
        note(f"Nothing is up. Alerts that are watched: {len(standings)} (--all lists them).")


@alerts.command(epilog="Example: recallwatch alerts show 0f1e2d3c")
def show(alert: Alert, config: Config = None, form: Format = Form.TEXT) -> None:
    """One alert: state, evidence, examples of misses, and all that happened to it."""
    settings, now_ms = load_settings(config), SystemClock().now_ms()
    from monitor.app.handling import details_of, handled, story_of
    from monitor.app.wiring import open_reader, spec_of

    with _refusing(), closing(open_reader(settings)) as reader:
        known = handled(reader, spec_of(settings), now_ms)
        standing = known.find(alert)
    if form is Form.JSON:
        print_json(details_of(known, standing))
        return
    for line in story_of(known, standing, now_ms):
        print(printable(line))


@alerts.command(epilog='Example: recallwatch alerts ack 0f1e2d3c --note "rolling back to v2"')
def ack(
    alert: Alert,
    remark: Annotated[str, typer.Option("--note", help="What you do about it.")],
    who: Who = None,
    config: Config = None,
) -> None:
    """Take an alert on: no more reminders until it resolves or gets worse."""
    settings, now_ms = load_settings(config), SystemClock().now_ms()
    configure_logging(settings.telemetry.log_level, settings.telemetry.log_format)
    from monitor.app import handling
    from monitor.app.wiring import open_store, spec_of

    with _refusing(), closing(open_store(settings)) as store:
        known = handling.handled(store, spec_of(settings), now_ms)
        by = handling.Hand(_new_id(), login_name(who), remark, now_ms)
        action = handling.acknowledgement(known, alert, by)
        store.act(action)
    whose = handling.whose(known.find(alert).alert)
    note(printable(f"Acknowledged: {whose}, raised by {action.target}."))


@alerts.command(
    epilog="Example: recallwatch alerts silence --variant prompt --for 2h --reason retraining"
)
def silence(
    length: Annotated[
        timedelta,
        typer.Option("--for", parser=_duration, metavar="LENGTH", help="How long, as 30m or 2h."),
    ],
    reason: Annotated[str, typer.Option(help="Why nobody need hear of them.")],
    rule: Annotated[str | None, typer.Option(help="Alerts of this rule only.")] = None,
    variant: Annotated[
        str | None, typer.Option(help="Alerts of this variant only; ALL is one, too.")
    ] = None,
    of_slice: Annotated[
        str | None, typer.Option("--slice", help="Alerts of this slice only, as channel=web.")
    ] = None,
    who: Who = None,
    config: Config = None,
) -> None:
    """Mute alerts for a while: those that agree with all of rule, variant and slice.

    Prints the id of the silence. States go on as they would; what still fires when it ends is told.
    """
    named = {"rule": rule, "variant": variant, "slice": of_slice}
    matchers = {name: value for name, value in named.items() if value is not None}
    if not matchers:
        raise typer.BadParameter("name at least one of --rule, --variant, --slice")
    settings, now_ms = load_settings(config), SystemClock().now_ms()
    configure_logging(settings.telemetry.log_level, settings.telemetry.log_format)
    from monitor.app import handling
    from monitor.app.wiring import open_store, spec_of

    with _refusing(), closing(open_store(settings)) as store:
        known = handling.handled(store, spec_of(settings), now_ms)
        by = handling.Hand(_new_id(), login_name(who), reason, now_ms)
        action = handling.muting(known, matchers, length // timedelta(milliseconds=1), by)
        store.act(action)
    print(action.id)
    note(printable(_muted_words(handling.muted_by(known, matchers))))


def _muted_words(muted: "list[Standing]") -> str:
    """What a silence mutes, told apart as ``alerts list`` tells it apart."""
    up = [f"{each.id} ({each.status})" for each in muted if each.is_worth_a_look]
    rest = [each.id for each in muted if not each.is_worth_a_look]
    said = f"It mutes, of what alerts list shows: {', '.join(up) or 'nothing'}."
    if rest:
        said += f" Should they rise, also, of alerts list --all: {', '.join(rest)}."
    return said


@alerts.command(epilog="Example: recallwatch alerts unsilence 5e0c9a11")
def unsilence(
    silence_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the silence.")],
    who: Who = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    config: Config = None,
) -> None:
    """End a silence before its time."""
    settings, now_ms = load_settings(config), SystemClock().now_ms()
    configure_logging(settings.telemetry.log_level, settings.telemetry.log_format)
    from monitor.app import handling
    from monitor.app.wiring import open_store

    with _refusing(), closing(open_store(settings)) as store:
        by = handling.Hand(_new_id(), login_name(who), reason, now_ms)
        store.act(handling.unmuting(store.actions(), silence_id, by))
    note(printable(f"Silence {silence_id} has ended."))


@contextmanager
def _refusing() -> Iterator[None]:
    """What cannot be done is said, and the answer is no."""
    try:
        yield
    except ActRefused as refused:
        note(printable(f"recallwatch: {refused}"))
        raise typer.Exit(NO) from None


def _new_id() -> str:
    return secrets.token_hex(ID_BYTES)
