"""Settings of the dashboard's doors: who its viewers are, and under which names it is served."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from monitor.app.settings.values import Group, Loc, Names, refuse, spelled


def _check_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_host(name) for name in names)


def _host(name: str) -> str:
    """The name in one form: small letters, no dot at its end, no brackets."""
    plain = name.lower().rstrip(".")
    inner = plain[1:-1] if plain.startswith("[") and plain.endswith("]") else plain
    try:
        return str(ipaddress.ip_address(inner))
    except ValueError:
        pass
    rest = plain.removeprefix("*.")
    labels = rest.split(".")
    if not all(label and label.replace("-", "").replace("_", "").isalnum() for label in labels):
        raise ValueError(f"{name} is no host name: write monitor.example.com, without a port")
    return plain


def _check_networks(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        try:
            ipaddress.ip_network(name)
        except ValueError:
            raise ValueError(f"{name} is no address and no network, such as 10.0.0.5") from None
    return names


Hosts = Annotated[Names, AfterValidator(_check_hosts)]
Networks = Annotated[Names, AfterValidator(_check_networks), Field(min_length=1)]
HeaderName = Annotated[str, spelled(r"[A-Za-z0-9-]{1,64}", "letters, digits and '-' (1 to 64)")]


class IdentitySettings(Group):
    """How the dashboard knows who looks; without header and oidc it knows nobody, and only reads.

    A `header` is believed from `proxies` alone. `oidc` is a file with the section [auth].
    """

    header: HeaderName | None = Field(default=None, examples=["X-Forwarded-User"])
    proxies: Networks = Field(default=("127.0.0.1", "::1"), examples=["[10.0.0.5, 10.1.0.0/16]"])
    oidc: Path | None = Field(default=None, examples=["/etc/recallwatch/oidc.toml"])

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[tuple[Loc, str]]:
        if self.header is not None and self.oidc is not None:
            yield ("oidc",), "must not be given beside header: a viewer is known in one way"

    @property
    def is_asked(self) -> bool:
        """Whether viewers can be known at all."""
        return self.header is not None or self.oidc is not None
