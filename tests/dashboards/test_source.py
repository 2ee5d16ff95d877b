"""The source that the settings name, on a store in Valkey: it reads, and enters acts if asked."""

from pathlib import Path

import pytest

from dashboards import source
from monitor.domain.alerts import Status
from monitor.domain.overlays import Action, Deed
from monitor.domain.slices import ALL
from tests.app.test_alerts_cli import FIRING, HOUR_MS, TRANSITIONS, commit
from tests.app.test_cli import live, written
from tests.builders import T0

ACT = Action(
    "s1", Deed.SILENCE, T0, "ana", "why", matchers=(("variant", ALL),), until_ms=T0 + HOUR_MS
)


def opened(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch, **dashboard: object
) -> source.Source:
    """A source opened from a settings file, as by the dashboard's own process."""
    path = written(folder, live(None, url, dashboard=dashboard))
    commit(path, 1, TRANSITIONS, Status.FIRING)
    monkeypatch.setenv("RECALLWATCH_CONFIG", str(path))
    monkeypatch.setattr(source, "_opened", source._Opened())  # the one of a fresh process
    return source.current()


def test_an_act_is_entered_once_when_viewers_are_known(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = opened(tmp_path, valkey_url, monkeypatch, identity={"header": "X-Forwarded-User"})
    assert found.act is not None
    found.act(ACT)
    found.act(ACT)
    reader = found.connect()
    assert reader.actions() == [ACT]
    assert FIRING in reader.evaluation().states


def test_pages_only_read_when_nobody_is_asked_who_they_are(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert opened(tmp_path, valkey_url, monkeypatch).act is None
