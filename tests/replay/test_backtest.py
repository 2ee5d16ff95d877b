"""Other rules over the same history: the naive one gives what the oracle says, ours is compared."""

from datetime import datetime
from pathlib import Path

import pytest
import yaml

from monitor.adapters.files import FilesLog
from monitor.app.backtest import Backtest, backtest, document_of, lines_of
from monitor.app.settings import SettingsError
from monitor.app.settings.candidates import load_candidates
from monitor.app.wiring import topics_of
from monitor.domain.backtest import Change, Episode
from monitor.domain.slices import SliceKey
from tests.replay.scenarios import FOLDER, NO_DATA, Scenario, replayed
from tests.replay.streams import SETTINGS

EVERY_MS = 300_000
MAIN = Scenario("clinc150_main")
needs_data = pytest.mark.skipif(not FOLDER.is_dir(), reason=NO_DATA)


def naive_rules(windows: tuple[str, ...]) -> list[dict[str, object]]:
    """The rule of the oracle's reference detection, for each window length and variant."""
    thresholds = MAIN.oracle("reference_detection")["thresholds"]
    return [
        {
            "name": f"naive-{window}-{variant}",
            "of": "urgent",
            "where": {"variant": variant},
            "per": ["variant"],
            "detector": "threshold",
            "window": window,
            "support": 20,
            "every": "5m",
            "objective": threshold,
        }
        for window in windows
        for variant, threshold in thresholds.items()
    ]


def tried(tmp_path: Path, rules: list[dict[str, object]], scenario: Scenario = MAIN) -> Backtest:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"rules": rules}))
    settings = scenario.settings()
    log = FilesLog(scenario.folder, topics_of(settings))
    try:
        return backtest(log, settings, load_candidates(path, settings))
    finally:
        log.close()


def spans_of(episodes: list[Episode]) -> list[tuple[int, int]]:
    """First and last breaching evaluation of each; one evaluation in between is bridged.

    The oracle does so: it counts 82 breaching ones in a span of 83.
    """
    spans: list[tuple[int, int]] = []
    for each in episodes:
        assert each.ended_ms is not None
        first, last = each.fired_ms, each.ended_ms - EVERY_MS
        if spans and first - spans[-1][1] <= 2 * EVERY_MS:
            first = spans.pop()[0]
        spans.append((first, last))
    return spans


def breaching(episodes: list[Episode]) -> int:
    """Evaluations that breached."""
    return sum(((e.ended_ms or 0) - e.fired_ms) // EVERY_MS for e in episodes)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@needs_data
def test_the_naive_rule_raises_the_alerts_of_the_oracle(tmp_path: Path) -> None:
    found = tried(tmp_path, naive_rules(("1h", "2h", "6h")))
    windows = MAIN.oracle("reference_detection")["windows"]
    for window, variants in windows.items():
        for variant, answer in variants.items():
            rule = f"naive-{window}-{variant}"
            episodes = [each for each in found.candidate if each.rule == rule]
            expected = [(ms(first), ms(last)) for first, last in answer["breach_episodes"]]
            assert spans_of(episodes) == expected, rule
            assert breaching(episodes) == answer["breaching"], rule


@needs_data
def test_what_was_live_is_what_a_replay_of_the_settings_gives(tmp_path: Path) -> None:
    found = tried(tmp_path, naive_rules(("6h",)))
    moves = [row for row in replayed(MAIN).report["transitions"] if row["event"] == "moved"]
    fired = [row["id"] for row in moves if row["to"] == "firing" and row["from"] != "recovering"]
    assert [each.id for each in found.live] == fired
    assert found.source == "replayed under the settings"


@needs_data
def test_the_same_rules_under_another_name_change_nothing(tmp_path: Path) -> None:
    rules = [
        {**rule.model_dump(mode="json", exclude_defaults=True), "name": f"again-{rule.name}"}
        for rule in MAIN.settings().rules
    ]
    found = tried(tmp_path, rules)
    assert {each.change for each in found.compared} == {Change.SAME}
    assert len(found.live) == len(found.compared) == 3


@needs_data
def test_a_stricter_objective_fires_no_later(tmp_path: Path) -> None:
    rules = [
        {**rule.model_dump(mode="json", exclude_defaults=True), "evidence": 100_000.0}
        for rule in MAIN.settings().rules
    ]
    found = tried(tmp_path, rules)
    assert {each.change for each in found.compared} <= {Change.LATER, Change.SAME, Change.LOST}


@needs_data
def test_it_is_told_in_words_and_numbers(tmp_path: Path) -> None:
    document = document_of(tried(tmp_path, naive_rules(("2h", "6h"))))
    assert document["summary"]["candidate"]["alerts"] == 8
    assert sum(document["changes"].values()) == len(document["alerts"])
    text = "\n".join(lines_of(document))
    assert "earlier by" in text
    assert "gained" in text
    for row in document["alerts"]:
        assert row["live"] or row["candidate"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rules: []", "must hold rules"),
        ("kafka: {}\nrules: [{name: a, objective: 0.8, of: x}]", "only rules can be tried"),
        ("rules: [{name: a, detector: threshold, of: urgent}]", "objective"),
        ("rules: [{name: a, objective: 0.8, of: urgent, window: 6h}]", "window"),
        (
            "rules: [{name: a, detector: threshold, of: urgent, objective: 0.8, per: [shoe]}]",
            "shoe is not one of slices",
        ),
    ],
)
def test_a_file_of_rules_with_a_fault_is_refused_with_its_place(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=rf"(?s)^{path}: .*{problem}"):
        load_candidates(path, SETTINGS)


def test_time_to_detect_is_never_negative() -> None:
    assert Episode("a-1", "a", SliceKey(), "", 10, 5).delay_ms == 0
