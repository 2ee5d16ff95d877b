"""What all commands share: exit codes, and the options for settings, format and who acts."""

import getpass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

NO, USAGE, WORLD, STOPPED = 1, 2, 3, 130
OPEN, EX_USAGE = 2, 64
"""Of commands of which 2 is an answer, not enough evidence."""


class Form(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file. Default: RECALLWATCH_CONFIG, else recallwatch.yaml in this folder.",
    ),
]
Format = Annotated[Form, typer.Option("--format", help="How to print the answer.")]
Archived = Annotated[
    str | None,
    typer.Option(
        "--archive",
        metavar="DIR_OR_URI",
        help="An archive that the log continues: what Kafka has dropped is read from there.",
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="The archive alone: neither Kafka nor Redis is asked.")
]
Who = Annotated[str | None, typer.Option(help="Who does it. Default: the login name.")]


def login_name(who: str | None) -> str:
    """The given name, or the login name; a container may have none."""
    if who is not None:
        return who
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise typer.BadParameter("this user has no login name", param_hint="--who") from None
