"""Handling alerts from the command line, on a store in Valkey; no broker is there."""

import json
import secrets
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from monitor.app.settings import load_settings
from monitor.app.telemetry import SystemClock
from monitor.app.wiring import open_reader, open_store
from monitor.domain.alerts import (
    AlertKey,
    AlertState,
    Event,
    Missed,
    Status,
    Transition,
    fingerprint,
)
from monitor.domain.detectors import Evidence
from monitor.domain.evaluation import Evaluation
from monitor.domain.overlays import Action, Deed
from monitor.domain.slices import SliceKey
from tests.app.story import SETTINGS
from tests.app.test_cli import Ended, Run, live, run, written
from tests.builders import T0

__all__ = ["run"]

HOUR_MS = 3_600_000
FIRING = AlertKey("urgent-recall", SliceKey("fine_tuned"), "v3")
WELL = AlertKey("urgent-recall", SliceKey("prompt"))
ID, WELL_ID = fingerprint(FIRING), fingerprint(WELL)
MISS = Missed("p17", T0 - 5, "balance", "lost_card")
NO_DATA, OK = Status.NO_DATA, Status.OK


def moved(of: AlertKey, number: int, source: Status, target: Status, **more: Any) -> Transition:  # noqa: ANN401 - fields of Transition
    return Transition(
        f"{fingerprint(of)}-{number}",
        of.rule,
        of.key,
        source,
        target,
        T0 + number,
        Evidence(9, 20, T0, 40_000.0, 36_000.0),
        f"reason {number}",
        version=of.version,
        **more,
    )


TRANSITIONS = [
    moved(WELL, 1, NO_DATA, OK),
    moved(FIRING, 1, NO_DATA, OK),
    moved(FIRING, 2, OK, Status.FIRING, missed=(MISS,)),
]
LATER = [
    moved(FIRING, 3, Status.FIRING, Status.FIRING, event=Event.CONFIRMED, judges=f"{ID}-2"),
    moved(FIRING, 4, Status.FIRING, OK),
]


def commit(config: Path, sequence: int, transitions: list[Transition], status: Status) -> None:
    """What the evaluator leaves."""
    states = {
        FIRING: AlertState(status, T0 + 2, votes=5, recent=7, last_ms=T0, missed=(MISS,)),
        WELL: AlertState(OK, T0 + 1, votes=1, recent=1),
    }
    with closing(open_store(load_settings(config))) as store:
        lease = store.lead("w1", 60_000)
        assert lease is not None
        store.commit_evaluation(Evaluation(sequence, T0 + 9, states), transitions, lease)


def acts(config: Path) -> list[Action]:
    with closing(open_reader(load_settings(config))) as reader:
        return reader.actions()


@pytest.fixture
def config(valkey_url: str, tmp_path: Path) -> Path:
    """Settings of a namespace in which one alert fires and one is well; the broker is down."""
    path = written(tmp_path, live(None, valkey_url))
    commit(path, 1, TRANSITIONS, Status.FIRING)
    return path


def listed(run: Run, config: Path, *more: str) -> list[dict[str, Any]]:
    ended = run("alerts", "list", "--format", "json", "--config", config, *more)
    assert (ended.code, ended.err) == (0, "")
    rows: list[dict[str, Any]] = json.loads(ended.out)
    return rows


def acknowledged(run: Run, config: Path, alert: str = ID) -> Ended:
    return run("alerts", "ack", alert, "--note", "mine", "--who", "kim", "--config", config)


def silenced(run: Run, config: Path, *what: str) -> Ended:
    fixed = ("--for", "2h", "--reason", "planned", "--who", "kim", "--config", config)
    return run("alerts", "silence", *what, *fixed)


# List


def test_the_alerts_that_are_up_are_listed_one_a_line(run: Run, config: Path) -> None:
    ended = run("alerts", "list", "--config", config)
    says = "firing      urgent-recall for fine_tuned, version v3  since 2026-01-15T02:00:00.002Z"
    assert ended == Ended(0, f"{ID}  {says}: reason 2\n", "")


def test_those_that_are_well_are_listed_when_all_are_asked_for(run: Run, config: Path) -> None:
    assert [row["id"] for row in listed(run, config)] == [ID]
    rows = listed(run, config, "--all")
    assert {row["id"]: row["status"] for row in rows} == {ID: "firing", WELL_ID: "ok"}
    assert (rows[0]["recent_hits"], rows[0]["recent_votes"]) == (3, 5)


def test_an_empty_list_says_how_many_alerts_are_watched(
    run: Run, tmp_path: Path, valkey_url: str
) -> None:
    config = written(tmp_path, live(None, valkey_url))
    ended = run("alerts", "list", "--config", config)
    assert (ended.code, ended.out) == (0, "")
    assert "Nothing is up. Alerts that are watched: 0" in ended.err


def test_a_store_that_is_away_ends_with_3(run: Run, tmp_path: Path) -> None:
    config = written(tmp_path, live(None, None))
    assert run("alerts", "list", "--config", config).code == 3
    assert acknowledged(run, config).code == 3


# Show


@pytest.mark.parametrize("name", [ID, f"{ID}-1", f"{ID}-2"])
def test_an_alert_is_shown_by_its_id_and_by_that_of_a_transition(
    run: Run, config: Path, name: str
) -> None:
    ended = run("alerts", "show", name, "--config", config)
    assert (ended.code, ended.err) == (0, "")
    for line in (
        f"raised by transition {ID}-2",
        "evidence: 9 of 20 votes since 2026-01-15T02:00:00.000Z were hits",
        "now: 3 of the last 5 votes were hits, the last at 2026-01-15T02:00:00.000Z",
        "missed: p17 at 2026-01-15T01:59:59.995Z went to balance, was lost_card",
        f"  2026-01-15T02:00:00.002Z  {ID}-2  ok -> firing: reason 2",
    ):
        assert line in ended.out.splitlines()
    assert WELL_ID not in ended.out


def test_the_trail_shows_what_people_did_and_what_hindsight_says(run: Run, config: Path) -> None:
    acknowledged(run, config)
    silence_id = silenced(run, config, "--variant", "fine_tuned").out.strip()
    silenced(run, config, "--variant", "prompt")
    run("alerts", "unsilence", silence_id, "--who", "lee", "--config", config)
    commit(config, 2, LATER, OK)
    shown = json.loads(run("alerts", "show", ID, "--format", "json", "--config", config).out)
    trail = shown["trail"]
    assert [entry.get("event") or entry["deed"] for entry in trail] == [
        *("moved", "moved", "confirmed", "moved"),
        *("acknowledge", "silence", "unsilence"),
    ]
    assert trail[1]["hindsight"] == "confirmed"
    assert (trail[4]["who"], trail[4]["note"], trail[4]["target"]) == ("kim", "mine", f"{ID}-2")
    told = run("alerts", "show", ID, "--config", config).out
    assert f"{ID}-2  ok -> firing: reason 2 [confirmed in hindsight]" in told
    assert f"confirmed {ID}-2: reason 3" in told
    assert f"acknowledged {ID}-2 by kim: mine" in told
    assert f"silence {silence_id} ended by lee" in told


@pytest.mark.parametrize("command", [["show"], ["ack", "--note", "mine"]])
def test_an_unknown_alert_ends_with_1_and_the_known_ones_are_named(
    run: Run, config: Path, command: list[str]
) -> None:
    ended = run("alerts", *command, "0000", "--config", config)
    assert (ended.code, ended.out) == (1, "")
    assert f"no alert 0000; known are: {ID}" in ended.err


# Acknowledge


def test_an_acknowledgement_is_entered_with_name_and_note(run: Run, config: Path) -> None:
    ended = acknowledged(run, config)
    assert (ended.code, ended.out) == (0, "")
    assert "Acknowledged: urgent-recall for fine_tuned, version v3" in ended.err
    [action] = acts(config)
    assert (action.deed, action.who, action.note) == (Deed.ACKNOWLEDGE, "kim", "mine")
    assert action.target == f"{ID}-2"
    assert abs(action.at_ms - SystemClock().now_ms()) < HOUR_MS
    [row] = listed(run, config)
    assert (row["acknowledged"]["who"], row["muted"]) == ("kim", False)
    assert "[acknowledged by kim: mine]" in run("alerts", "list", "--config", config).out


def test_an_acknowledgement_is_over_when_the_alert_fires_again(run: Run, config: Path) -> None:
    acknowledged(run, config)
    again = moved(FIRING, 5, OK, Status.FIRING)
    commit(config, 2, [*LATER, again], Status.FIRING)
    assert listed(run, config)[0]["acknowledged"] is None


def test_an_alert_that_is_well_is_not_acknowledged(run: Run, config: Path) -> None:
    ended = acknowledged(run, config, WELL_ID)
    assert (ended.code, ended.out) == (1, "")
    assert "neither firing nor warning" in ended.err
    assert acts(config) == []


def test_the_login_name_stands_where_none_is_given(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "zoë")
    assert run("alerts", "ack", ID, "--note", "mine", "--config", config).code == 0
    assert [action.who for action in acts(config)] == ["zoë"]


def test_an_acknowledgement_needs_a_note(run: Run, config: Path) -> None:
    assert run("alerts", "ack", ID, "--config", config).code == 2
    blank = run("alerts", "ack", ID, "--note", " ", "--config", config)
    assert (blank.code, "note must not be empty" in blank.err) == (1, True)
    assert acts(config) == []


def test_what_people_write_does_not_command_the_terminal(run: Run, config: Path) -> None:
    run("alerts", "ack", ID, "--note", "\x1b[31mred", "--who", "kim", "--config", config)
    out = run("alerts", "list", "--config", config).out
    assert "\x1b" not in out
    assert r"\x1b[31mred" in out


# Silence


def test_a_silence_mutes_what_it_names_and_prints_its_id(run: Run, config: Path) -> None:
    ended = silenced(run, config, "--rule", "urgent-recall", "--variant", "fine_tuned")
    assert ended.code == 0
    assert f"It mutes, of what alerts list shows: {ID} (firing)." in ended.err
    [action] = acts(config)
    assert ended.out == f"{action.id}\n"
    assert action.until_ms - action.at_ms == 2 * HOUR_MS
    rows = {row["id"]: row for row in listed(run, config, "--all")}
    assert rows[ID]["muted"]
    assert (rows[ID]["silenced"]["id"], rows[ID]["silenced"]["reason"]) == (action.id, "planned")
    assert not rows[WELL_ID]["muted"]


def test_a_silence_may_come_before_the_alert(run: Run, config: Path) -> None:
    ended = silenced(run, config, "--slice", "channel=web")
    assert (ended.code, len(acts(config))) == (0, 1)
    assert "alerts list shows: nothing" in ended.err


def test_a_silence_ends_when_it_is_taken_back(run: Run, config: Path) -> None:
    name = silenced(run, config, "--variant", "fine_tuned").out.strip()
    ended = run("alerts", "unsilence", name, "--reason", "over", "--config", config)
    assert (ended.code, ended.out) == (0, "")
    assert listed(run, config)[0]["silenced"] is None


def test_an_unknown_silence_ends_with_1_and_those_that_hold_are_named(
    run: Run, config: Path
) -> None:
    name = silenced(run, config, "--variant", "fine_tuned").out.strip()
    ended = run("alerts", "unsilence", "0000", "--config", config)
    assert (ended.code, ended.out) == (1, "")
    assert f"those that hold: {name}" in ended.err


def test_a_silence_of_an_unknown_rule_ends_with_1_and_the_known_ones_are_named(
    run: Run, config: Path
) -> None:
    ended = silenced(run, config, "--rule", "urgent")
    assert (ended.code, ended.out, acts(config)) == (1, "", [])
    assert "no rule urgent; known are: urgent-recall" in ended.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--for", "2h", "--reason", "r"], "at least one of --rule, --variant, --slice"),
        (["--for", "2", "--reason", "r", "--variant", "v"], "has no unit"),
        (["--for", "soon", "--reason", "r", "--variant", "v"], "whole number with its unit"),
        (["--reason", "r", "--variant", "v"], "--for"),
        (["--for", "2h", "--variant", "v"], "--reason"),
    ],
)
def test_a_silence_that_lacks_something_ends_with_2(
    run: Run, config: Path, arguments: list[str], says: str
) -> None:
    ended = run("alerts", "silence", *arguments, "--config", config)
    assert (ended.code, ended.out, acts(config)) == (2, "", [])
    assert says in ended.err


def test_a_silence_of_no_length_ends_with_1(run: Run, config: Path) -> None:
    fixed = ("--reason", "r", "--variant", "v", "--config", config)
    ended = run("alerts", "silence", "--for", "0s", *fixed)
    assert (ended.code, "must end after it begins" in ended.err) == (1, True)


# Inhibition


def test_a_child_of_an_alert_that_fires_is_listed_as_inhibited(
    run: Run, tmp_path: Path, valkey_url: str
) -> None:
    rules = [SETTINGS["rules"][0], {**SETTINGS["rules"][0], "name": "each", "per": ["channel"]}]
    rules[0] = {**rules[0], "per": []}
    config = written(tmp_path, live(None, valkey_url, rules=rules))
    whole, part = (
        AlertKey("urgent-recall", SliceKey()),
        AlertKey("each", SliceKey("ALL", "channel=web")),
    )
    with closing(open_store(load_settings(config))) as store:
        lease = store.lead(secrets.token_hex(2), 60_000)
        assert lease is not None
        up = {alert: AlertState(Status.FIRING, T0) for alert in (whole, part)}
        raised = [moved(alert, 1, OK, Status.FIRING) for alert in up]
        store.commit_evaluation(Evaluation(1, T0, up), raised, lease)
    rows = {row["rule"]: row["inhibited"] for row in listed(run, config)}
    assert rows == {"urgent-recall": None, "each": "urgent-recall fires for all variants"}


# Help


@pytest.mark.parametrize("command", ["list", "show", "ack", "silence", "unsilence"])
def test_help_of_each_command_has_an_example(run: Run, command: str) -> None:
    ended = run("alerts", command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"Example: recallwatch alerts {command}" in ended.out
