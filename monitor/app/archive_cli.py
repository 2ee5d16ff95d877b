"""The commands ``recallwatch archive``: keep the topics beyond the log's retention, and prove it.

What reads and writes archives is imported by the command that needs it, as in ``app.cli``.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.app.console import note, print_json, progress_of
from monitor.app.options import NO, Config, Form, Format
from monitor.app.settings import Settings, load_settings
from monitor.app.telemetry import SystemClock, printable
from monitor.domain.errors import StoreError

if TYPE_CHECKING:
    from monitor.adapters.archive import Archive, Verification
    from monitor.adapters.history import Source
    from monitor.domain.events import Partition
    from monitor.ports import StateReader

SHOWN_FAULTS = 100
"""Faults that are printed; those that follow are counted."""

Place = Annotated[
    str, typer.Argument(metavar="DIR_OR_URI", help="A folder, or a URI such as s3://bucket/path.")
]

archive = typer.Typer(
    name="archive",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Keep both topics and the journal in Parquet files, and prove that they are whole.",
    epilog="Example: recallwatch archive copy --to /var/lib/recallwatch/archive",
)


def _instant(text: str) -> int:
    from monitor.app.history import place_of

    try:
        place = place_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if place.instant_ms is None:
        raise typer.BadParameter("must be a time, such as 2026-11-22T13:00:00Z")
    return place.instant_ms


@archive.command(epilog="Example: recallwatch archive copy --to s3://bucket/recallwatch")
def copy(
    to: Annotated[
        str, typer.Option("--to", metavar="DIR_OR_URI", help="The archive; made if it is new.")
    ],
    until: Annotated[
        int | None,
        typer.Option(parser=_instant, metavar="TIME", help="Stop before this log time."),
    ] = None,
    accept_gaps: Annotated[
        bool,
        typer.Option("--accept-gaps", help="Enter as lost what the log dropped, and go on."),
    ] = False,
    config: Config = None,
    form: Format = Form.TEXT,
) -> None:
    """Copy what the archive does not have yet: both topics, the journal, the settings.

    It goes on where the last copy ended, also where that was killed. Keep the digest that it
    prints in another place: with it, archive verify notices an archive that was exchanged.
    """
    settings = load_settings(config)
    from monitor.app.archive import copy as copied

    with _store(settings) as store, progress_of("Copying") as meter:
        made = copied(
            settings,
            to,
            now_ms=SystemClock().now_ms(),
            until_ms=until,
            accept_gaps=accept_gaps,
            store=store,
            on_progress=meter,
        )
    _print_content(made, form)


@archive.command(epilog="Example: recallwatch archive verify /var/lib/recallwatch/archive")
def verify(
    place: Place,
    against_log: Annotated[
        bool, typer.Option("--against-log", help="Compare with what the log still holds, too.")
    ] = False,
    manifest_only: Annotated[
        bool, typer.Option("--manifest-only", help="Files against the manifest; read no record.")
    ] = False,
    digest: Annotated[
        str | None, typer.Option(help="The manifest's digest, as it was kept elsewhere.")
    ] = None,
    config: Config = None,
    form: Format = Form.TEXT,
) -> None:
    """Prove that an archive is whole: every file, record and offset, and the journal's chain.

    Ends with 1 when something is wrong, and names it.
    """
    if against_log and manifest_only:
        raise typer.BadParameter("give one of --against-log, --manifest-only")
    settings = load_settings(config)
    from monitor.adapters.archive import Checks, open_archive
    from monitor.app.archive import verification

    found = open_archive(place)
    with _live(settings, is_wanted=against_log) as live, progress_of("Verifying") as meter:
        checks = Checks(is_deep=not manifest_only, digest=digest, live=live)
        look = verification(found, checks, meter)
        faults = look.faults()
        named = list(islice(faults, SHOWN_FAULTS))
        more = sum(1 for _ in faults)
    if not named:
        _print_proof(found, look, form)
        return
    if form is Form.JSON:
        rows = [dict(fault._asdict()) for fault in named]
        print_json({"faults": rows, "more": more, "digest": found.digest})
    else:
        for fault in named:
            print(printable(str(fault)))
        if more:
            print(f"and {more} more")
    raise typer.Exit(NO)


@contextmanager
def _store(settings: Settings) -> Iterator["StateReader | None"]:
    """The namespace in Redis; None when it cannot be read: what is archived is the log."""
    from monitor.app.wiring import open_reader

    try:
        reader = open_reader(settings)
    except StoreError as error:
        note(f"Settings of the past are not archived this time: {error}")
        yield None
        return
    with closing(reader):
        yield reader


@contextmanager
def _live(settings: Settings, *, is_wanted: bool) -> Iterator["dict[Partition, Source]"]:
    from monitor.app.archive import live_sources

    if not is_wanted:
        yield {}
        return
    with live_sources(settings) as live:
        yield live


def _print_content(made: "Archive", form: Form) -> None:
    if form is Form.JSON:
        print_json(_content(made))
        return
    print(f"records   {made.manifest.records}")
    for line in _ranges(made):
        print(printable(line))
    print(f"digest    {made.digest}")


def _print_proof(found: "Archive", look: "Verification", form: Form) -> None:
    proved = {
        "records_read": look.records,
        "redacted": look.redacted,
        "compared_with_the_log": look.compared,
        "journal_entries": look.journal_entries,
    }
    if form is Form.JSON:
        print_json({"faults": [], **_content(found), **proved})
        return
    if look.checks.is_deep:
        print(f"{look.records} records in {len(found.manifest.files)} files: all are as archived")
        print(f"{look.journal_entries} journal entries: one unbroken chain for each namespace")
        if look.redacted:
            print(f"{look.redacted} records redacted by request: their content is gone")
        if look.checks.live:
            print(f"{look.compared} records compared with the log: all are the same")
    else:
        print(f"{len(found.manifest.files)} files: all are as the manifest has them")
    for line in _ranges(found):
        print(printable(line))
    print(f"digest    {found.digest}")


def _ranges(found: "Archive") -> Iterator[str]:
    for each in found.manifest.partitions:
        holes = sum(past - first for first, past in each.holes)
        lost = sum(past - first for first, past in each.lost)
        said = f", {holes} without a record in the log" if holes else ""
        said += f", {lost} lost before they were archived" if lost else ""
        is_empty = each.past == each.first
        span = f"{each.of}: none" if is_empty else f"{each.of}@{each.first}-{each.past - 1}"
        yield f"offsets   {span}{said}"


def _content(found: "Archive") -> dict[str, object]:
    manifest = found.manifest
    return {
        "records": manifest.records,
        "files": len(manifest.files),
        "archived_to_ms": manifest.archived_to_ms,
        "partitions": [
            {
                "partition": str(each.of),
                "first": each.first,
                "past": each.past,
                "holes": [list(hole) for hole in each.holes],
                "lost": [list(gap) for gap in each.lost],
            }
            for each in manifest.partitions
        ],
        "redactions": sum(len(each.offsets) for each in manifest.redactions),
        "digest": found.digest,
        "previous": manifest.previous,
    }
