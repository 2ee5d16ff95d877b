"""The command ``recallwatch leakage``: has the model seen in training what it is judged by?

What needs the engine is imported by the command, as in ``app.cli``.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.adapters.training import TrainingError, TrainingFormat
from monitor.app.console import dump, note, print_json, progress_of
from monitor.app.options import EX_USAGE, NO, OPEN, Archived, Config, Form, Format, Offline
from monitor.app.settings import SettingsError, load_settings
from monitor.app.telemetry import printable
from monitor.domain.likeness import LEAST_WORDS, LIMIT, THRESHOLD, HashedForm, Hashing, HashScheme

if TYPE_CHECKING:
    from monitor.app.leakage import Leakage, Shown, Training
    from monitor.app.replaying import Asked as History
    from monitor.app.settings import Settings
    from monitor.domain.leakage import Asked

EXAMPLE = "Example: recallwatch leakage --train train.jsonl --files captured/ --out leakage.json"
LEAST_THRESHOLD = 0.5
"""Below it half of any two requests that begin alike are near."""


def leakage(
    train: Annotated[
        list[Path],
        typer.Option(
            "--train",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Training or few-shot texts: JSON lines, CSV or plain, also .gz. Repeatable.",
        ),
    ],
    field: Annotated[str, typer.Option(help="Column or key of the text in FILE.")] = "text",
    train_format: Annotated[
        TrainingFormat, typer.Option(help="How FILE is written; auto goes by its name.")
    ] = TrainingFormat.AUTO,
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
        str | None, typer.Option("--from", metavar="PLACE", help="A time, or topic[0]=12,...")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="PLACE", help="The same, exclusive.")
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Only this one, such as the one that FILE trained. Repeatable."),
    ] = None,
    hash_: Annotated[
        HashScheme, typer.Option("--hash", help="What text_hash of a live message is.")
    ] = HashScheme.SHA256_16,
    hashed: Annotated[
        HashedForm,
        typer.Option(help="Of what: the text as the classifier got it, or a plainer form."),
    ] = HashedForm.RAW,
    threshold: Annotated[
        float,
        typer.Option(min=LEAST_THRESHOLD, max=1, help="Similarity from which on a text is near."),
    ] = THRESHOLD,
    exact_only: Annotated[
        bool, typer.Option("--exact-only", help="Do not look for near duplicates.")
    ] = False,
    least_words: Annotated[
        int, typer.Option(min=1, help="Shorter training texts are left out.")
    ] = LEAST_WORDS,
    limit: Annotated[
        float, typer.Option(min=0, max=1, help="Leaked share that is put up with.")
    ] = LIMIT,
    examples: Annotated[int, typer.Option(min=0, max=1000, help="Examples to list.")] = 10,
    show_texts: Annotated[
        bool, typer.Option("--show-texts", help="Examples with what people wrote.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the JSON here as well, for a verdict."),
    ] = None,
    form: Format = Form.TEXT,
) -> None:
    """How many live predictions are exact or near duplicates of training texts, and what of it.

    Shares of each variant and group, and accuracy, recall and precision with and without them.
    Examples are masked. Exit codes: 0 within the limit, 1 a leaked share is above it, 2 not enough
    evidence, 3 the world failed, 64 wrong usage or settings.
    """
    if files is not None and (archive or offline or start):
        raise typer.BadParameter("--files is read whole: no --archive, --offline or --from")
    settings = load_settings(config)
    from monitor.app.leakage import Shown, Training
    from monitor.app.replaying import Asked as History
    from monitor.domain.leakage import Asked

    training = Training(train, field, train_format, Hashing(hash_, hashed), threshold, least_words)
    found = _found(
        settings,
        training,
        History(files, archive, offline, start, end),
        Asked(limit, near=not exact_only),
        variant or [],
        Shown(examples, show_texts),
    )
    _answer(found, out, form)


def _found(
    settings: "Settings",
    training: "Training",
    history: "History",
    asked: "Asked",
    variants: list[str],
    shown: "Shown",
) -> "Leakage":
    from monitor.adapters.near_index import NearIndex
    from monitor.app.leakage import Library, searched

    near = NearIndex(training.threshold) if asked.near else None
    library = Library(training, near, keeps_texts=shown.texts)
    try:
        with progress_of("Reading training texts") as meter:
            library.fill(meter)
    except TrainingError as error:
        note(printable(str(error)))
        raise typer.Exit(EX_USAGE) from None
    with progress_of("Comparing") as meter:
        return searched(settings, history, library, asked, variants, shown, meter)


def _answer(found: "Leakage", out: Path | None, form: Form) -> None:
    from monitor.app.leakage_report import document_of, lines_of
    from monitor.domain.leakage import Finding

    document = document_of(found)
    if out is not None:
        _write(out, dump(document) + "\n")
    if form is Form.JSON:
        print_json(document)
    else:
        for line in lines_of(found):
            print(printable(line))
    raise typer.Exit({Finding.WITHIN: 0, Finding.ABOVE: NO, Finding.OPEN: OPEN}[found.answer])


def _write(out: Path, text: str) -> None:
    """At once or not at all: a verdict never reads half a file."""
    unfinished = out.with_name(f"{out.name}.unfinished")
    try:
        unfinished.write_text(text, "utf-8")
        unfinished.replace(out)
    except OSError as error:
        raise SettingsError(f"--out {out}: cannot be written ({error.strerror})") from None
