"""The door of the dashboard's server: under which names it answers, and whom it takes a viewer for.

Everything that comes in passes here first. A name in a header is believed from the settings'
proxies alone, and handed on under a name of the header that nobody outside can guess: a page that
is served without this door knows nobody.
"""

import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from html import escape

from starlette.types import ASGIApp, Receive, Scope, Send

from dashboards import source, words
from monitor.app.settings import DashboardSettings, IdentitySettings, SettingsError

VOUCHED = f"x-recallwatch-{secrets.token_hex(16)}"
"""Header that holds the viewer's name on this side of the door; another one in each process."""

HEALTH = "/_stcore/health"
"""Answered under any name: whoever watches the process knows its address alone."""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Not served under this name</title>
<style>:root{{color-scheme:light dark}}
body{{font:1rem/1.5 sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}}</style></head>
<body><h1>Recallwatch is not served under this name</h1>
<p>The address in your browser names <strong>{host}</strong>, which is not among
<code>dashboard.allowed_hosts</code> in its settings.</p></body></html>"""

Headers = Sequence[tuple[bytes, bytes]]


class Gate:
    """An ASGI application in front of ``app``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on with the viewer's name, if there is one."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        told = _settings()
        host = _value(scope["headers"], b"host")
        is_health = scope["path"] == told.base_path + HEALTH
        if not is_health and not is_served(host or "", told.allowed_hosts):
            await _refuse(scope, send, host or "no host")
            return
        await self._app({**scope, "headers": _vouched(scope, told.identity)}, receive, send)


def is_served(host: str, allowed: Iterable[str]) -> bool:
    """Whether the dashboard answers to the value of a Host header; to any when none is listed.

    >>> is_served("Monitor.example.com:8501", ["monitor.example.com"])
    True
    >>> is_served("a.example.com", ["*.example.com"]), is_served("example.com", ["*.example.com"])
    (True, False)
    """
    names = list(allowed)
    name = _name_of(host)
    if not names:
        return True
    return any(
        name == each or (each.startswith("*.") and name.endswith(each[1:]) and name != each[1:])
        for each in names
    )


def named(headers: Headers, peer: str | None, identity: IdentitySettings) -> str | None:
    """Whom the peer names as the viewer; None where it may not, does not, or names several."""
    if identity.header is None or not _is_proxy(peer, identity.proxies):
        return None
    value = _value(headers, identity.header.lower().encode())
    return words.one_line(value) or None if value is not None else None


def _settings() -> DashboardSettings:
    """Those in use; where they cannot be read there is nothing behind the door but that message."""
    try:
        return source.current().settings.dashboard
    except SettingsError:
        return DashboardSettings()


def _vouched(scope: Scope, identity: IdentitySettings) -> list[tuple[bytes, bytes]]:
    """The headers, with the viewer's name in place of whatever claimed to be it."""
    headers: Headers = scope["headers"]
    client = scope.get("client")
    viewer = named(headers, client[0] if client else None, identity)
    claimed = {VOUCHED.encode(), (identity.header or VOUCHED).lower().encode()}
    kept = [(name, value) for name, value in headers if name.lower() not in claimed]
    if viewer is not None:
        kept.append((VOUCHED.encode(), viewer.encode("unicode_escape")))
    return kept


def viewer_of(value: str | None) -> str | None:
    """The name that the header ``VOUCHED`` holds."""
    return None if value is None else value.encode("latin-1").decode("unicode_escape")


def _value(headers: Headers, wanted: bytes) -> str | None:
    """The only value of a header; None where there is none, or more than one."""
    values = [value for name, value in headers if name.lower() == wanted]
    if len(values) != 1:
        return None
    try:
        return values[0].decode()
    except UnicodeDecodeError:
        return values[0].decode("latin-1")


def _is_proxy(peer: str | None, proxies: Iterable[str]) -> bool:
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ipaddress.ip_network(each) for each in proxies)


def _name_of(host: str) -> str:
    """A Host header without its port, in small letters."""
    plain = host.strip().lower()
    if plain.startswith("["):
        return plain[1:].partition("]")[0]
    return plain.partition(":")[0].rstrip(".")


async def _refuse(scope: Scope, send: Send, host: str) -> None:
    if scope["type"] == "websocket":
        # Policy violation; before it is accepted, the server makes 403 of it.
        await send({"type": "websocket.close", "code": 1008})
        return
    body = _PAGE.format(host=escape(words.one_line(host))).encode()
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
