"""Faults of the settings, in the operator's words: where, what is wrong, a right value.

No message repeats a value that may hold a secret: values are shown only for settings that are
known and plain, and never when they look like an address with a login.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, Secret, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from monitor.app.settings.groups import Settings
from monitor.app.settings.values import Loc

ENV_PREFIX = "RECALLWATCH_"
ENV_NESTING = "__"

_PLAIN_WORDS = {
    "missing": "is required",
    "model_type": "must be a group of settings (name: value)",
    "dict_type": "must be a mapping (name: value)",
    "mapping_type": "must be a mapping (name: value)",
    "tuple_type": "must be a list",
    "string_type": "must be text; write a number, true or false in quotes",
    "invalid_key": "must be text; write a number, true or false in quotes",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}
_OUR_WORDS = {
    "Input should be": "must be",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "more than",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
}
_SHOWN_LENGTH = 60


class SettingsError(Exception):
    """The settings cannot be used; the text names every fault and is meant for the operator."""


@dataclass(frozen=True)
class Fault:
    """`loc` is empty for a fault of a variable that names no setting at all."""

    loc: Loc
    problem: str
    variable: str | None = None
    """The environment variable that set the value; None when the file or a default did."""


@dataclass(frozen=True)
class Spot:
    """What the settings expect at one place; `annotation` is None where nothing is declared."""

    annotation: object
    field: Loc
    example: str | None

    @property
    def is_container(self) -> bool:
        """Whether the value has parts: a group, a mapping or a list."""
        if isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel):
            return True
        return get_origin(self.annotation) in (Mapping, tuple)

    @property
    def is_plain(self) -> bool:
        """Whether a value here can be shown: known, in one piece, and no secret."""
        if self.annotation is None or self.is_container:
            return False
        secret = isinstance(self.annotation, type) and issubclass(
            self.annotation, (SecretStr, Secret)
        )
        return not secret


def spot_at(loc: Loc) -> Spot:
    """Follow the path through the declared groups, mappings and lists."""
    spot = Spot(Settings, (), None)
    for depth, part in enumerate(loc):
        here = spot.annotation
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(part))
            if field is None:
                return Spot(None, spot.field, spot.example)
            example = str(field.examples[0]) if field.examples else None
            spot = Spot(_bare(field.annotation), loc[: depth + 1], example)
        elif spot.is_container:
            place = 1 if get_origin(here) is Mapping else 0
            spot = Spot(_bare(get_args(here)[place]), spot.field, spot.example)
        else:
            return Spot(None, spot.field, spot.example)
    return spot


def _bare(annotation: object) -> object:
    """The type itself, without validators and without `| None`."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        annotation = next(arg for arg in get_args(annotation) if arg is not type(None))
    return annotation


def faults_of(error: ValidationError, variables: Mapping[Loc, str]) -> list[Fault]:
    """Every fault that pydantic found, in the order of the settings."""
    return [_fault_of(details, variables) for details in error.errors(include_url=False)]


def _fault_of(details: ErrorDetails, variables: Mapping[Loc, str]) -> Fault:
    loc = tuple(part for part in details["loc"] if part != "[key]")
    if details["type"] == "extra_forbidden":
        return Fault(loc, _unknown_name(loc), variable_for(loc, variables))
    problem = _problem_words(details) + _shown_value(loc, details)
    return Fault(loc, problem, variable_for(loc, variables))


def variable_for(loc: Loc, variables: Mapping[Loc, str]) -> str | None:
    """The variable that set this value, the list or mapping it is part of, or a part of it."""
    above = (variables[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in variables)
    below = (name for place, name in variables.items() if loc and place[: len(loc)] == loc)
    return next(above, None) or next(below, None)


def _problem_words(details: ErrorDetails) -> str:
    if details["type"] in _PLAIN_WORDS:
        return _PLAIN_WORDS[details["type"]]
    message = details["msg"].removeprefix("Value error, ")
    message = message.partition(", unable")[0]
    for theirs, ours in _OUR_WORDS.items():
        message = message.replace(theirs, ours)
    return message


def _shown_value(loc: Loc, details: ErrorDetails) -> str:
    value = details["input"]
    shown = isinstance(value, str | int | float) and spot_at(loc).is_plain
    if details["type"] in ("missing", "conflict") or not shown or not value_is_harmless(str(value)):
        return ""
    if details["type"] == "value_error" and "must" not in details["msg"]:
        return ""
    return f", not {json.dumps(value)}"


def value_is_harmless(text: str) -> bool:
    """Whether a value given for a plain setting can be repeated to the operator."""
    return len(text) <= _SHOWN_LENGTH and not any(mark in text for mark in ("@", "://", "="))


def _unknown_name(loc: Loc) -> str:
    name, group = str(loc[-1]), spot_at(loc[:-1]).annotation
    known = list(group.model_fields) if isinstance(group, type(BaseModel)) else []
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"is not a setting; did you mean {close[0]}?"
    return f"is not a setting; known here: {', '.join(known)}"


def describe(source: str, faults: Iterable[Fault]) -> str:
    """The whole message: one head line, then two lines for each fault."""
    ordered = sorted(dict.fromkeys(faults), key=_place_in_settings)
    count = "1 fault" if len(ordered) == 1 else f"{len(ordered)} faults"
    lines = [f"{source}: {count} in the settings"]
    for fault in ordered:
        lines += _describe_one(fault)
    return "\n".join(lines)


def _place_in_settings(fault: Fault) -> tuple[int, int]:
    names = list(Settings.model_fields)
    if not fault.loc or fault.loc[0] not in names:
        return len(names), 0
    index = fault.loc[1] if len(fault.loc) > 1 else 0
    return names.index(str(fault.loc[0])), index if isinstance(index, int) else 0


def _describe_one(fault: Fault) -> Iterable[str]:
    where = path_text(fault.loc)
    if fault.variable is not None:
        where = f"{where} (from {fault.variable})" if where else fault.variable
    yield f"  {where}: {fault.problem}"
    spot = spot_at(_nearest_known(fault))
    if spot.example is None:
        return
    if fault.variable is None:
        yield f"      for example  {spot.field[-1]}: {spot.example}"
    else:
        yield f"      for example  {variable_name(spot.field)}={_unquoted(spot.example)}"


def _nearest_known(fault: Fault) -> Loc:
    """The place itself, or that of the name it was probably meant to be."""
    close = re.search(r"did you mean (\w+)\?", fault.problem)
    return (*fault.loc[:-1], close[1]) if close else fault.loc


def _unquoted(example: str) -> str:
    return f"'{example}'" if re.search(r"[\s{\[]", example) else example


def variable_name(loc: Loc) -> str:
    """The variable that sets the value at this place."""
    return ENV_PREFIX + ENV_NESTING.join(str(part).upper() for part in loc)


def path_text(loc: Loc) -> str:
    """The path as operators write it.

    >>> path_text(("rules", 0, "objective"))
    'rules[0].objective'
    """
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
