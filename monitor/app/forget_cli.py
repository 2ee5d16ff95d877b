"""The command ``recallwatch forget``: a person's predictions leave the store and the archives.

What reads store and archives is imported by the command, as in ``app.cli``.
"""

import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.app.console import note, print_json, progress_of
from monitor.app.options import NO, Config, Form, Format, Who, login_name
from monitor.app.settings import Settings, load_settings
from monitor.app.telemetry import SystemClock, configure_logging, printable
from monitor.domain.events import PredictionId

if TYPE_CHECKING:
    from monitor.app.forgetting import Forgot


def forget(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Ids of predictions.")
    ] = None,
    archives: Annotated[
        list[str] | None,
        typer.Option(
            "--archive",
            metavar="DIR_OR_URI",
            help="Redact this archive; may be given more than once.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--from-file", metavar="FILE", exists=True, dir_okay=False, help="One more id a line."
        ),
    ] = None,
    who: Who = None,
    remark: Annotated[str, typer.Option("--note", help="Why: the number of a ticket, say.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is held, and change nothing.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Who had what forgotten, and when; nothing else.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask back.")] = False,
    config: Config = None,
    form: Format = Form.TEXT,
) -> None:
    """Remove predictions, with their labels, from Redis and archives; every count stays.

    The journal says that it was done, and when, so that audits still hold. Kafka cannot delete
    single records: the command says how long it keeps them. Ends with 1 when no id is known.
    """
    asked = [] if history else _ids(ids or [], file)
    settings = load_settings(config)
    configure_logging(settings.telemetry.log_level, settings.telemetry.log_format)
    if history:
        _tell_history(settings, form)
        return
    if dry_run:
        _look(settings, asked, archives or [], form)
        return
    if not yes:
        _ask_back(len(asked))
    done = _forget(settings, asked, archives or [], login_name(who), remark)
    _end_with(settings, done, form)


def _ids(given: list[str], file: Path | None) -> list[PredictionId]:
    lines = [] if file is None else file.read_text("utf-8").splitlines()
    found = dict.fromkeys(text for each in (*given, *lines) if (text := each.strip()))
    if not found:
        raise typer.BadParameter("name at least one ID, or a file of them (--from-file)")
    return list(map(PredictionId, found))


def _tell_history(settings: Settings, form: Form) -> None:
    from monitor.app.forgetting import history_of
    from monitor.app.wiring import open_reader

    with closing(open_reader(settings)) as reader:
        rows = history_of(reader)
    if form is Form.JSON:
        print_json(rows)
        return
    for row in rows:
        state = "" if row["is_carried_out"] else ", not carried out yet"
        why = f": {row['note']}" if row["note"] else ""
        count = len(row["hashes"])
        print(printable(f"{row['at']}  {row['id']}  {count} by {row['who']}{why}{state}"))
    if not rows:
        note("Nothing was ever asked to be forgotten.")


def _ask_back(count: int) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("give --yes where nobody can be asked", param_hint="--yes")
    typer.confirm(f"Forget {count} predictions for good?", abort=True, err=True)


def _look(settings: Settings, asked: list[PredictionId], places: list[str], form: Form) -> None:
    from monitor.app import forgetting
    from monitor.app.wiring import open_reader

    with closing(open_reader(settings)) as reader:
        held = len(reader.known(asked))
    found = {place: forgetting.archived(settings, place, set(asked)) for place in places}
    if form is Form.JSON:
        print_json({"asked": len(asked), "held": held, "archives": found})
    else:
        print(f"store     holds something of {held} of {len(asked)} predictions")
        for place, records in found.items():
            print(printable(f"archive   {place}: {records} records of theirs have content"))
    if not held and not any(found.values()):
        raise typer.Exit(NO)


def _forget(
    settings: Settings, ids: list[PredictionId], places: list[str], who: str, remark: str
) -> "Forgot":
    from monitor.app import archive, forgetting
    from monitor.app.wiring import open_store

    clock = SystemClock()
    done = forgetting.Forgot(len(ids))
    with closing(open_store(settings)) as store:
        known = store.known(ids)
        asked = forgetting.Asked(sorted(known), who, remark)
        requests = forgetting.enter(store, asked, clock.now_ms())
        done.known, done.requests = len(known), [request.id for request in requests]
        forgetting.await_all(store, settings, requests, clock=clock, wait=threading.Event().wait)
    for place in places:
        with progress_of(f"Redacting {place}") as meter:
            done.archives[place] = archive.forget(
                settings, place, set(ids), now_ms=clock.now_ms(), on_progress=meter
            )
    return done


def _end_with(settings: Settings, done: "Forgot", form: Form) -> None:
    from monitor.app import forgetting

    kafka = list(forgetting.kafka_lines(settings))
    if form is Form.JSON:
        print_json(forgetting.document_of(done, kafka))
    else:
        for line in forgetting.lines_of(done):
            print(printable(line))
        for line in kafka:
            print(printable(f"kafka     {line}"))
    if not done.is_known:
        note("None of these ids is known.")
        raise typer.Exit(NO)
