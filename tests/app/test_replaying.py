"""What `recallwatch replay` answers over captured records: numbers of then, of now, and files."""

import json
from pathlib import Path
from typing import Any

import pytest

from monitor.app.console import print_report
from monitor.app.history import place_of
from monitor.app.replay import replay_files
from monitor.app.replaying import Asked, replayed, tried
from monitor.app.report import iso, present_report
from monitor.app.settings import Settings, SettingsError
from tests.app.captures import captured, captured_story
from tests.app.story import SETTINGS, history
from tests.builders import MINUTE_MS, T0

SHOWN = Settings.model_validate(SETTINGS)
MIDDLE_MS = T0 + 75 * MINUTE_MS
"""A quarter of an hour after the release that breaks one variant."""


def answered(asked: Asked, out: Path | None = None) -> dict[str, Any]:
    """The report, without how far the log had been read when a transition was found."""
    report: dict[str, Any] = json.loads(
        json.dumps(replayed(SHOWN, asked, out, lambda _done, _left: None))
    )
    for each in (report, report.get("known_then", {"transitions": ()})):
        for transition in each["transitions"]:
            del transition["cut"]
    return report


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return captured_story(tmp_path / "captured")


def test_captured_records_give_their_report(files: Path) -> None:
    reference = present_report(replay_files(files, SHOWN), SHOWN)
    assert answered(Asked(files=files))["digest"] == reference["digest"]


def test_what_was_known_then_is_what_a_replay_of_the_records_until_then_gives(
    files: Path,
) -> None:
    now = answered(Asked(files=files, as_of=iso(MIDDLE_MS)))
    then = answered(Asked(files=files, end=iso(MIDDLE_MS)))
    assert now["known_then"] == then
    assert then["as_of"] == iso(MIDDLE_MS)
    assert then["ledger"] != now["ledger"]
    del now["known_then"]
    assert now == answered(Asked(files=files))


def test_the_text_shows_then_beside_now_when_an_instant_is_asked_for(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = replayed(SHOWN, Asked(files=files, as_of=iso(MIDDLE_MS)), None, lambda _done, _left: None)
    print_report(now)
    text = capsys.readouterr().out
    then = now["known_then"]
    assert f"Known then, as of {iso(MIDDLE_MS)}" in text
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines()]
    for name, section in then["variants"].items():
        known = [section["predictions"], now["variants"][name]["predictions"]]
        assert [name, "predictions", *map(str, known)] in rows
    assert any(row[0] == SHOWN.rules[0].name and "firing since" in row[-1] for row in rows)
    assert "No alert stood then." in text or "then: " in text


def test_records_before_an_instant_are_those_that_were_logged_before_it(files: Path) -> None:
    until = answered(Asked(files=files, end=iso(MIDDLE_MS)))
    received = sum(until["ledger"][kind]["received"] for kind in ("predictions", "labels"))
    assert received == sum(record.log_ms < MIDDLE_MS for record in history())


def test_the_report_is_written_with_what_was_known_then_beside_what_is_known_now(
    files: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    now = answered(Asked(files=files, as_of=iso(MIDDLE_MS)), out)
    told = json.loads((out / "report.json").read_text("utf-8"))
    assert told["digest"] == now["digest"]
    assert told["audit"]["as_known"]["as_of"] == iso(MIDDLE_MS)
    assert told["audit"]["as_known"]["then"]["digest"] == now["known_then"]["digest"]
    assert {path.name for path in out.iterdir()} == {
        *("report.json", "report.html", "transitions.csv")
    }
    assert place_of(str(out / "report.json")).offsets


BEYOND = iso(T0 + 100 * 24 * 60 * MINUTE_MS)


@pytest.mark.parametrize("beyond", [Asked(end=BEYOND), Asked(as_of=BEYOND)])
def test_an_instant_that_the_log_has_not_reached_does_not_move_the_watermark(
    files: Path, beyond: Asked
) -> None:
    whole = answered(Asked(files=files))
    found = answered(beyond._replace(files=files))
    assert found.pop("known_then", whole) == whole
    assert found == whole


def test_what_was_known_may_be_asked_for_at_the_end_itself(files: Path) -> None:
    end = iso(MIDDLE_MS)
    now = answered(Asked(files=files, end=end, as_of=end))
    assert now.pop("known_then") == now


def test_what_was_known_later_than_the_end_is_refused(files: Path) -> None:
    asked = Asked(files=files, end=iso(MIDDLE_MS), as_of=iso(MIDDLE_MS + 1))
    with pytest.raises(SettingsError, match=r"--as-of: .* is later than --to \("):
        replayed(SHOWN, asked, None, lambda _done, _left: None)


def test_no_records_give_a_report_without_data(tmp_path: Path) -> None:
    assert answered(Asked(files=captured(tmp_path, [])))["as_of"] is None


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (Asked(as_of="predictions[0]=3"), "--as-of: must be a time"),
        (Asked(as_of="noon"), "--as-of: noon is not a time: write 2026-11-22T13:00:00Z"),
        (Asked(end="2026-11-22T13:00:00"), "--to: .* has no time zone"),
        (Asked(end="predictions[0]=3"), "--to: captured records are read up to a time"),
    ],
)
def test_a_place_that_is_none_is_a_fault_in_the_settings(
    files: Path, asked: Asked, named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        replayed(SHOWN, asked._replace(files=files), None, lambda _done, _left: None)


def test_rules_are_tried_on_captured_records_without_a_store(files: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "rules:\n- {name: naive, detector: threshold, of: urgent, per: [variant], objective: 0.8}\n"
    )
    tally = tried(SHOWN, Asked(files=files), rules, lambda _done, _left: None)
    assert "naive" in json.dumps(tally)
    until = tried(SHOWN, Asked(files=files, end=iso(MIDDLE_MS)), rules, lambda _done, _left: None)
    assert until["range"]["to"] == iso(MIDDLE_MS)
