"""The commands ``recallwatch verdict`` and ``card``: fit for production, as exit code and page.

Here exit code 2 is an answer, not enough evidence, so a usage error ends with 64 (EX_USAGE).
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand

from monitor.adapters.files import CaptureError
from monitor.app.console import note, print_json, progress_of
from monitor.app.options import EX_USAGE, NO, OPEN, Archived, Config, Form, Format, Offline
from monitor.app.settings import Settings, SettingsError, load_settings
from monitor.app.telemetry import printable

CODES = {"fit": 0, "not_fit": NO, "not_enough_evidence": OPEN}

Named = Annotated[
    str | None,
    typer.Option("--variant", help="This variant alone. Default: all; the worst counts."),
]
Binary = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A group or an intent against the rest: TP, FN, FP, TN."),
]
Leaked = Annotated[
    Path | None,
    typer.Option(
        "--leakage",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="What recallwatch leakage --out has written.",
    ),
]
Files = Annotated[
    Path | None,
    typer.Option(
        "--files", metavar="DIR", exists=True, file_okay=False, help="Captured records, replayed."
    ),
]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="Judge from here. Default: verdict.window."),
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="TIME", help="Judge up to here. Default: the last prediction."),
]


class Gate(TyperCommand):
    """A command whose usage errors end with 64, since 2 is one of its answers."""

    def parse_args(self, *given: Any) -> list[str]:  # noqa: ANN401 - typer does not name its types
        """Read the options."""
        with _usage():
            return super().parse_args(*given)

    def invoke(self, *given: Any) -> Any:  # noqa: ANN401 - the same
        """Do it."""
        with _usage():
            return super().invoke(*given)


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except (SettingsError, CaptureError) as error:
        note(str(error))
        raise typer.Exit(EX_USAGE) from None
    except typer.TyperException as error:
        # What is to be printed carries its own exit code; that of Exit is an answer.
        if isinstance(error, typer.BadParameter.__mro__[1]):
            vars(error)["exit_code"] = EX_USAGE
        raise


class _Source(NamedTuple):
    files: Path | None
    archive: str | None
    is_offline: bool


def verdict(
    config: Config = None,
    variant: Named = None,
    binary: Binary = None,
    start: From = None,
    end: To = None,
    leakage: Leaked = None,
    files: Files = None,
    archive: Archived = None,
    offline: Offline = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the model card (Markdown) here.")
    ] = None,
    form: Format = Form.TEXT,
) -> None:
    """Is each variant fit for production? With reasons, traps, history and advice.

    Ends with 0 fit, 1 not fit, 2 not enough evidence, 3 the world failed, 64 wrong usage or
    settings. Without --variant the worst of all that answered in the window counts: not fit, then
    not enough evidence. The numbers are those of the store, or of a replay.
    """
    source = _Source(files, archive, offline)
    document, names = _judged(config, variant, binary, (start, end), leakage, source)
    if out is not None:
        _write(out, document, names)
    if form is Form.JSON:
        print_json(document)
    else:
        from monitor.app.verdict_text import lines_of

        for line in lines_of(document, names):
            print(printable(line))
    raise typer.Exit(CODES[document["answer"]])


def card(
    config: Config = None,
    variant: Named = None,
    binary: Binary = None,
    start: From = None,
    end: To = None,
    leakage: Leaked = None,
    files: Files = None,
    archive: Archived = None,
    offline: Offline = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it here. Default: print it.")
    ] = None,
) -> None:
    """The model card in Markdown: metrics, slices, verdict, traps, limits, what is unknown.

    It carries the digest and the cut of the numbers, so that a replay can prove them.
    """
    source = _Source(files, archive, offline)
    document, names = _judged(config, variant, binary, (start, end), leakage, source)
    if out is not None:
        _write(out, document, names)
        return
    from monitor.app.verdict_text import card_of

    print(card_of(document, names), end="")


def _judged(
    config: Path | None,
    variant: str | None,
    binary: str | None,
    bounds: tuple[str | None, str | None],
    leakage: Path | None,
    source: _Source,
) -> tuple[dict[str, Any], list[str]]:
    """The document, and the variants that were asked for."""
    from monitor.app.verdict_document import leaks_in
    from monitor.app.verdict_present import present_verdicts, replayed_store
    from monitor.app.verdict_review import Asked
    from monitor.app.wiring import open_reader

    if source.files is not None and (source.archive or source.is_offline):
        raise typer.BadParameter("--files is read whole: no --archive or --offline")
    settings = load_settings(config)
    start_ms, end_ms = (_instant(text) for text in bounds)
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        raise typer.BadParameter("--from must be before --to")
    asked = Asked(start_ms, end_ms, {} if leakage is None else leaks_in(leakage))
    if any(source):
        with progress_of("Replaying") as meter:
            store = replayed_store(settings, *source, meter)
        document = present_verdicts(store, settings, asked, binary)
    else:
        with closing(open_reader(settings)) as reader:
            document = present_verdicts(reader, settings, asked, binary)
    return _narrowed(document, variant, settings)


def _narrowed(
    document: dict[str, Any], variant: str | None, settings: Settings
) -> tuple[dict[str, Any], list[str]]:
    """The answer of one variant, if one was asked for; the numbers of all stay, for comparison."""
    names = [*document["variants"]]
    if variant is None:
        return document, names
    if variant in names:
        return {**document, "answer": document["variants"][variant]["answer"]}, [variant]
    if variant in settings.verdict.variants:
        # Declared and never seen: that is a lack of evidence, and no slip of the pen.
        note(f"{variant} has answered nothing yet.")
        return {**document, "answer": "not_enough_evidence"}, []
    raise typer.BadParameter(f"{variant} is unknown; counted are: {', '.join(names) or 'none'}")


def _instant(text: str | None) -> int | None:
    from monitor.app.history import place_of

    if text is None:
        return None
    try:
        place = place_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if place.instant_ms is None:
        raise typer.BadParameter("must be a time, such as 2026-11-22T13:00:00Z")
    return place.instant_ms


def _write(path: Path, document: Mapping[str, Any], names: list[str]) -> None:
    from monitor.app.verdict_text import card_of

    try:
        path.write_text(card_of(document, names), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written ({error.strerror})") from None
    note(f"Model card: {path}")
