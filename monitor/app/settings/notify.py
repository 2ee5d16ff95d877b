"""Settings of notifications: who is told of which alerts, and how often at most."""

from collections.abc import Iterator
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from monitor.app.settings.values import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Attribute,
    Duration,
    Group,
    Loc,
    Names,
    Text,
    Topic,
    refuse,
    within,
)

TARGETS = ("url", "webhook", "alertmanager", "topic")
"""Ways to be told; a receiver has one."""

SEVERITIES = ("page", "warning")


def _check_severities(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values or not set(values) <= set(SEVERITIES):
        raise ValueError("must be page, warning or both")
    return values


def _check_http(url: SecretStr) -> SecretStr:
    """Refuse what cannot be posted to. No message repeats the text: it may hold a secret."""
    if not _is_http(url.get_secret_value()):
        raise ValueError("must be an address that starts with http:// or https://")
    return url


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _check_scheme(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().partition("://")[2]:
        raise ValueError("must be an address of Apprise, such as slack://…")
    return url


HttpUrl = Annotated[SecretStr, AfterValidator(_check_http)]


class ReceiverSettings(Group):
    """Who is told. Exactly one of url (Apprise), webhook, alertmanager and topic.

    What was told is remembered under `name`, which is that of the target unless given.
    """

    name: Attribute | None = Field(default=None, examples=["on-call"])
    url: Annotated[SecretStr, AfterValidator(_check_scheme)] | None = Field(
        default=None, examples=['"slack://TokenA/TokenB/TokenC/alerts"']
    )
    webhook: HttpUrl | None = Field(default=None, examples=['"https://hooks.example.com/alerts"'])
    alertmanager: HttpUrl | None = Field(default=None, examples=['"http://alertmanager:9093"'])
    topic: Topic | None = Field(default=None, examples=["recallwatch.alerts"])
    severities: Annotated[Names, AfterValidator(_check_severities)] = Field(
        default=SEVERITIES, examples=["[page, warning]"]
    )

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[tuple[Loc, str]]:
        if len(self.targets) != 1:
            yield (), f"must have exactly one of {', '.join(TARGETS)}"

    @property
    def targets(self) -> tuple[str, ...]:
        """Those that are given; one, once checked."""
        return tuple(name for name in TARGETS if getattr(self, name) is not None)

    @property
    def known_as(self) -> str:
        """The name, or that of the target."""
        return self.name or self.targets[0]


def _names_differ(receivers: tuple[ReceiverSettings, ...]) -> tuple[ReceiverSettings, ...]:
    names = [each.known_as for each in receivers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"has two receivers named {', '.join(twice)}: give each a name")
    return receivers


Receivers = Annotated[tuple[ReceiverSettings, ...], AfterValidator(_names_differ)]


class AlertingSettings(Group):
    """How often people are told; `timeout` is how long one delivery may take."""

    dashboard_url: Text | None = Field(default=None, examples=["https://monitor.example.com"])
    group_wait: Annotated[Duration, within(0 * SECOND, HOUR)] = Field(
        default=30 * SECOND, examples=["30s"]
    )
    group_interval: Annotated[Duration, within(0 * SECOND, DAY)] = Field(
        default=5 * MINUTE, examples=["5m"]
    )
    repeat: Annotated[Duration, within(MINUTE, 30 * DAY)] = Field(default=4 * HOUR, examples=["4h"])
    timeout: Annotated[Duration, within(SECOND, 5 * MINUTE)] = Field(
        default=30 * SECOND, examples=["30s"]
    )

    @model_validator(mode="after")
    def _dashboard_is_a_link(self) -> Self:
        if self.dashboard_url is not None and not _is_http(self.dashboard_url):
            refuse([(("dashboard_url",), "must start with http:// or https://")])
        return self
