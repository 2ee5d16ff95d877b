"""Who looks, as the settings say that viewers are known."""

from dataclasses import replace
from typing import Any

import pytest

from dashboards import gate, identity, source
from monitor.app.settings import DashboardSettings
from tests.dashboards import told


class Streamlit:
    """What Streamlit tells of a session."""

    def __init__(self, headers: dict[str, str], user: dict[str, Any]) -> None:
        self.context, self.user = self, self
        self.headers, self._user = headers, user

    def to_dict(self) -> dict[str, Any]:
        return dict(self._user)


@pytest.fixture
def tells(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - a function of its own below
    def tell(way: dict[str, Any], headers: dict[str, str], **user: Any) -> identity.Viewer:  # noqa: ANN401 - claims
        found = told.source_of(told.store_of({}))
        own = DashboardSettings.model_validate({"identity": way})
        source.use(replace(found, settings=found.settings.model_copy(update={"dashboard": own})))
        monkeypatch.setattr(identity, "st", Streamlit(headers, user))
        monkeypatch.setattr(identity, "find_spec", lambda _: object())
        return identity.viewer()

    return tell


HEADER = {"header": "X-Forwarded-User"}
OIDC = {"oidc": "/etc/recallwatch/oidc.toml"}


def test_a_viewer_is_whom_the_door_vouches_for(tells: Any) -> None:  # noqa: ANN401 - the fixture
    assert tells(HEADER, {gate.VOUCHED: "ana"}).name == "ana"
    assert identity.who() == "ana"


def test_a_viewer_is_unknown_when_the_header_did_not_come_through_the_door(
    tells: Any,  # noqa: ANN401 - the fixture
) -> None:
    found = tells(HEADER, {"X-Forwarded-User": "mallory"})
    assert found.name is None
    assert "X-Forwarded-User" in found.reason


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ({"email": "ana@example.com", "name": "Ana", "sub": "1"}, "ana@example.com"),
        ({"email": "ana@example.com", "email_verified": True}, "ana@example.com"),
        ({"email": "boss@example.com", "email_verified": False, "sub": "17"}, "17"),
        ({"preferred_username": "ana", "name": "Ana"}, "ana"),
        ({"name": " \n", "sub": "17"}, "17"),
    ],
)
def test_a_login_gives_the_best_known_name_that_was_verified(
    tells: Any,  # noqa: ANN401 - the fixture
    user: dict[str, Any],
    name: str,
) -> None:
    assert tells(OIDC, {}, is_logged_in=True, **user).name == name


def test_a_viewer_who_has_not_logged_in_may(tells: Any) -> None:  # noqa: ANN401 - the fixture
    found = tells(OIDC, {gate.VOUCHED: "mallory"}, is_logged_in=False)
    assert (found.name, found.can_log_in) == (None, True)


def test_a_login_that_tells_no_name_is_no_identity(tells: Any) -> None:  # noqa: ANN401 - the fixture
    found = tells(OIDC, {}, is_logged_in=True)
    assert (found.name, found.can_log_in) == (None, False)
    assert "does not tell who you are" in found.reason


def test_a_file_without_the_section_is_told(tells: Any) -> None:  # noqa: ANN401 - the fixture
    assert "no section [auth]" in tells(OIDC, {}).reason
