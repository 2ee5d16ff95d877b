"""The door of the dashboard: under which names it answers, and whom it lets name a viewer."""

import asyncio
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from dashboards import gate, source
from dashboards.gate import Gate, is_served, viewer_of
from monitor.adapters.memory import MemoryStore
from monitor.app.settings import DashboardSettings, SettingsError
from tests.dashboards import scenes

ASKED = {"identity": {"header": "X-Forwarded-User", "proxies": ["127.0.0.1", "10.1.0.0/16"]}}
BY_PROXY = "127.0.0.1"


class Behind:
    """What came through the door, and what was answered at it."""

    def __init__(self) -> None:
        self.seen: Scope | None = None
        self.sent: list[MutableMapping[str, Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen = scope

    @property
    def viewer(self) -> str | None:
        assert self.seen is not None
        values = [v for name, v in self.seen["headers"] if name == gate.VOUCHED.encode()]
        assert len(values) < 2
        return viewer_of(values[0].decode("latin-1")) if values else None

    def headers(self, name: str) -> list[bytes]:
        assert self.seen is not None
        return [value for each, value in self.seen["headers"] if each == name.encode()]


def came(
    told: dict[str, Any],
    *headers: tuple[str, bytes],
    peer: str | None = BY_PROXY,
    host: str = "monitor.example.com",
    kind: str = "http",
    path: str = "/alerts",
) -> Behind:
    """One request to a dashboard with these settings."""
    found = scenes.source_of(MemoryStore())
    own = DashboardSettings.model_validate(told)
    source.use(replace(found, settings=found.settings.model_copy(update={"dashboard": own})))
    behind = Behind()
    scope = {
        "type": kind, "path": path, "method": "GET", "client": peer and (peer, 50_000),
        "headers": [(b"host", host.encode()), *((n.lower().encode(), v) for n, v in headers)],
    }  # fmt: skip

    async def send(message: MutableMapping[str, Any]) -> None:
        behind.sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {}

    asyncio.run(Gate(behind)(scope, receive, send))
    return behind


@pytest.mark.parametrize(
    ("host", "allowed", "is_one"),
    [
        ("anything.example", [], True),
        ("", [], True),
        ("monitor.example.com", ["monitor.example.com"], True),
        ("Monitor.Example.com.:8501", ["monitor.example.com"], True),
        ("evil.example", ["monitor.example.com"], False),
        ("monitor.example.com.evil.example", ["monitor.example.com"], False),
        ("", ["monitor.example.com"], False),
        ("a.example.com", ["*.example.com"], True),
        ("example.com", ["*.example.com"], False),
        ("badexample.com", ["*.example.com"], False),
        ("127.0.0.1:8501", ["127.0.0.1"], True),
        ("[::1]:8501", ["::1"], True),
    ],
)
def test_a_name_is_served_when_it_is_listed_or_none_is(
    host: str, allowed: list[str], is_one: bool
) -> None:
    assert is_served(host, allowed) is is_one


def test_a_page_under_another_name_is_refused_with_403_and_says_what_to_set() -> None:
    told = {"allowed_hosts": ["monitor.example.com"]}
    behind = came(told, host="<b>evil</b>.example")
    assert behind.seen is None
    start, body = behind.sent
    assert start["status"] == 403
    assert b"dashboard.allowed_hosts" in body["body"]
    assert b"&lt;b&gt;evil" in body["body"]
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()


def test_a_connection_under_another_name_is_refused_before_it_is_accepted() -> None:
    told = {"allowed_hosts": ["monitor.example.com"]}
    behind = came(told, host="evil.example", kind="websocket")
    assert behind.seen is None
    assert behind.sent == [{"type": "websocket.close", "code": 1008}]


def test_the_health_check_is_answered_under_any_name() -> None:
    told = {"allowed_hosts": ["monitor.example.com"], "base_path": "/watch"}
    health = "/watch/_stcore/health"
    assert came(told, host="10.0.0.7", path=health).seen is not None
    assert came(told, host="10.0.0.7", path=f"/x{health}").seen is None


def test_a_viewer_is_known_when_a_proxy_names_one() -> None:
    named = ("X-Forwarded-User", b"ana")
    assert came(ASKED, named).viewer == "ana"
    assert came(ASKED, named, peer="10.1.2.3").viewer == "ana"
    assert came(ASKED, named, peer="::ffff:127.0.0.1").viewer == "ana"


@pytest.mark.parametrize("peer", ["10.2.0.1", "::1", "testclient", None])
def test_a_viewer_is_not_known_when_the_name_comes_from_elsewhere(peer: str | None) -> None:
    behind = came(ASKED, ("X-Forwarded-User", b"ana"), peer=peer)
    assert behind.viewer is None
    assert behind.headers("x-forwarded-user") == []


def test_a_viewer_is_not_known_when_two_are_named_or_none() -> None:
    assert came(ASKED).viewer is None
    assert came(ASKED, ("X-Forwarded-User", b" ")).viewer is None
    twice = ("X-Forwarded-User", b"mallory"), ("X-Forwarded-User", b"ana")
    assert came(ASKED, *twice).viewer is None


def test_a_header_is_no_name_when_the_settings_do_not_ask_for_it() -> None:
    assert came({}, ("X-Forwarded-User", b"ana")).viewer is None


def test_nobody_can_claim_what_the_door_vouches_for() -> None:
    claimed = (gate.VOUCHED, b"mallory")
    for told in ({}, ASKED):
        assert came(told, claimed, peer="10.2.0.1").viewer is None
    assert came(ASKED, claimed, ("X-Forwarded-User", b"ana")).viewer == "ana"


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("zoë".encode(), "zoë"),
        ("zoë".encode("latin-1"), "zoë"),
        (b"ana\\n", "ana\\n"),
        ("名".encode(), "名"),
    ],
)
def test_a_name_comes_through_as_it_was_written(sent: bytes, name: str) -> None:
    assert came(ASKED, ("X-Forwarded-User", sent)).viewer == name


def test_nobody_is_known_while_the_settings_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong() -> source.Source:
        raise SettingsError("recallwatch.yaml: cannot be read")

    named = ("X-Forwarded-User", b"ana")
    came(ASKED, named)
    monkeypatch.setattr(source, "current", wrong)
    assert came(ASKED, named).viewer is None
