"""What a single setting may hold: durations, names, addresses, and the base of every group."""

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Secret,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

NOTHING = timedelta(0)
MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
YEAR = timedelta(days=365)
LAST_PORT = 65_535

DEFAULT_TOPICS = {
    "predictions": "predictions",
    "labels": "labels",
    "dead_letters": "recallwatch.dead-letters",
    "journal": "recallwatch.journal",
}
"""The name of each topic by what it is for."""

Loc = tuple[str | int, ...]
"""Where a value stands: names of settings, names in a mapping, places in a list from 0."""

_UNITS = {"y": YEAR, "d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND, "ms": MILLISECOND}


def parse_duration(text: str | int | float) -> timedelta:
    """Read a whole number with its unit; a year has 365 days.

    Raises ValueError for anything else. A number without a unit is refused, 0 included:
    30 could be seconds or minutes.

    >>> parse_duration("35d")
    datetime.timedelta(days=35)
    """
    written = str(text).strip()
    if re.fullmatch(r"[-+]?[0-9][0-9.]*(e[-+]?[0-9]+)?", written):
        raise ValueError(f"{written} has no unit: write {written}s, {written}m or {written}h")
    match = re.fullmatch(r"([0-9]+) ?(ms|s|m|h|d|y)", written)
    if match is None:
        raise ValueError("must be a whole number with its unit (ms, s, m, h, d or y)")
    try:
        return int(match[1]) * _UNITS[match[2]]
    except (OverflowError, ValueError):
        raise ValueError("is longer than can be counted") from None


def format_duration(duration: timedelta) -> str:
    """Write a duration in its largest exact unit; `parse_duration` reads it back.

    Raises ValueError for a negative duration and for one that is not whole milliseconds.

    >>> format_duration(timedelta(minutes=90))
    '90m'
    """
    if duration < NOTHING:
        raise ValueError("a duration cannot be negative")
    if not duration:
        return "0s"
    for unit, size in _UNITS.items():
        if not duration % size:
            return f"{duration // size}{unit}"
    raise ValueError("a duration is a whole number of milliseconds")


def _read_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        format_duration(value)
        return value
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return parse_duration(value)
    raise ValueError("must be a whole number with its unit (ms, s, m, h, d or y)")


def read_auto(value: object) -> object:
    """None for the word `auto`; the rest is passed on."""
    return None if value == "auto" else value


def read_all(value: object) -> object:
    """None for the word `all`; the rest is passed on."""
    return None if value == "all" else value


def read_off(value: object) -> object:
    """None for the word `off`, which YAML reads as false; the rest is passed on."""
    return None if value == "off" or value is False else value


def within(least: timedelta, most: timedelta | None = None) -> AfterValidator:
    """Both bounds are allowed values."""

    def check(value: timedelta) -> timedelta:
        if value < least:
            raise ValueError(f"must be at least {format_duration(least)}")
        if most is not None and value > most:
            raise ValueError(f"must be at most {format_duration(most)}")
        return value

    return AfterValidator(check)


def spelled(pattern: str, words: str) -> AfterValidator:
    """The whole text matches; `words` say so to the operator."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {words}")
        return value

    return AfterValidator(check)


def split_commas(value: object) -> object:
    """Let one text stand for a list, as environment variables need."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")] if value.strip() else []
    return value


def _without_repeats(values: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"names {', '.join(repeated)} twice")
    return values


def _check_server(value: str) -> str:
    match = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", value)
    if match is None or not 1 <= int(match[1]) <= LAST_PORT:
        raise ValueError("must be host:port")
    return value


def normal_base_path(value: str) -> str:
    """The path with one slash before each part and none at its end; "" for the root."""
    parts = [part for part in value.split("/") if part]
    if not all(re.fullmatch(r"[A-Za-z0-9._-]+", part) for part in parts):
        raise ValueError("must be a path of letters, digits, '.', '_' and '-'")
    return "".join(f"/{part}" for part in parts)


class RedisUrl(Secret[str]):
    """A Redis address that may hold a password; only `get_secret_value()` shows it.

    >>> RedisUrl("redis://:hunter2@cache:6379/0")
    RedisUrl('redis://:***@cache:6379/0')
    """

    def _display(self) -> str:
        parts = urlsplit(self.get_secret_value())
        login, at, host = parts.netloc.rpartition("@")
        if at:
            login = f"{login.partition(':')[0]}:***" if ":" in login else "***"
        query = [(name, "***" if name == "password" else v) for name, v in parse_qsl(parts.query)]
        masked = parts._replace(netloc=f"{login}{at}{host}", query=urlencode(query, safe="*"))
        return masked.geturl()


def check_redis_url(url: RedisUrl) -> RedisUrl:
    """Refuse what redis-py would misread. No message repeats the text: it may hold a password."""
    try:
        parts = urlsplit(url.get_secret_value())
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError("must have a number as its port") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must start with redis://, rediss:// or unix://")
    if "@" in parts.path or "#" in url.get_secret_value():
        raise ValueError("must have '/', '@', '#' and '?' of a password written as %2F, %40, …")
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("must name the socket file")
    elif not host or port == 0:
        raise ValueError("must name a host")
    elif not re.fullmatch(r"/?[0-9]*", parts.path):
        raise ValueError("must end in the number of the database")
    return url


Duration = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Text, ...], BeforeValidator(split_commas), AfterValidator(_without_repeats)]
Attribute = Annotated[
    str, spelled(r"[A-Za-z0-9_.-]{1,64}", "letters, digits, '.', '_' and '-' (1 to 64)")
]
Attributes = Annotated[
    tuple[Attribute, ...], BeforeValidator(split_commas), AfterValidator(_without_repeats)
]
Topic = Annotated[
    str,
    spelled(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}", "letters, digits, '.', '_' and '-' (1 to 249)"),
]
Server = Annotated[str, AfterValidator(_check_server)]
FieldPath = Annotated[str, spelled(r"[^.\s]+(\.[^.\s]+)*", "names or list places joined by dots")]
Share = Annotated[float, Field(gt=0, lt=1)]
Limits = Mapping[Text, Share]
Port = Annotated[int, Field(ge=1, le=LAST_PORT)]
PortOrOff = Annotated[int, Field(ge=0, le=LAST_PORT)]


def refuse(faults: Iterable[tuple[Loc, str]]) -> None:
    """Raise all faults at once, each at its own place below the group being checked."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError("conflict", "{text}", {"text": text}), loc=loc, input=None
        )
        for loc, text in faults
    ]
    if details:
        raise ValidationError.from_exception_data("settings", details, hide_input=True)


class Group(BaseModel):
    """Frozen settings that belong together; a name that is not declared is a fault."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _no_value_means_default(cls, data: object) -> object:
        if data is None:
            return {}
        if isinstance(data, Mapping):
            known = cls.model_fields
            return {k: v for k, v in data.items() if v is not None or k not in known}
        return data
