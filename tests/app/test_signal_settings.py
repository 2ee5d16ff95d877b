"""Signals in the settings: what fits together, and what becomes of it."""

from pathlib import Path

import pytest
import yaml

from monitor.app.settings import Settings, SettingsError, load_settings
from monitor.app.wiring import codec_of, spec_of
from monitor.domain.estimate import score_name
from monitor.domain.rules import Signal
from monitor.domain.windows import HOUR_MS

DOCS = Path(__file__).parents[2] / "docs" / "signals.md"
GROUPS = "intents: {known: [lost_card], groups: {urgent: [lost_card]}}\n"


def loaded(folder: Path, signal: str, more: str = "") -> Settings:
    file = folder / "recallwatch.yaml"
    file.write_text(f"{GROUPS}signals: [{signal}]\n{more}", encoding="utf-8")
    return load_settings(file, {})


@pytest.mark.parametrize(
    ("signal", "fault"),
    [
        ("{name: a, signal: predicted_share}", "signals[0].of: is required by"),
        ("{name: a, signal: volume, of: urgent, below: 1}", "has no meaning for signal volume"),
        ("{name: a, signal: volume}", "or above is required by signal volume"),
        ("{name: a, signal: share_drift, of: urgent, below: 0.1}", "have no meaning for"),
        ("{name: a, signal: volume, below: 5m}", "must be a number for signal volume"),
        ("{name: a, signal: latency_p95, above: 800}", "must be a duration for"),
        ("{name: a, signal: volume, below: 1, objective: 0.8}", "is for signal estimate alone"),
        ("{name: a, signal: volume, below: -1}", "below"),
        ("{name: a, signal: predicted_share, of: urgnt}", "is not a group (urgent)"),
        ("{name: a, signal: volume, below: 1, window: 90s}", "must be at least 5m"),
        ("{name: a, signal: volume, below: 1, window: 301s}", "whole number of panes (1m)"),
        ("{name: a, signal: volume, below: 1, window: 7d}", "longer than panes are kept"),
        (
            "{name: a, signal: share_drift, of: urgent, reference: 90d}",
            "longer than hours are kept",
        ),
        (
            "{name: a, signal: volume, below: 1}, {name: a, signal: volume, below: 2}",
            "is the name of an earlier rule or signal",
        ),
    ],
)
def test_signal_that_does_not_fit_is_refused_with_its_place(
    tmp_path: Path, signal: str, fault: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, signal)
    assert fault in str(caught.value)


def test_signal_may_not_have_the_name_of_a_rule(tmp_path: Path) -> None:
    rule = "rules: [{name: a, of: urgent, objective: 0.8}]\n"
    with pytest.raises(SettingsError, match="is the name of an earlier rule or signal"):
        loaded(tmp_path, "{name: a, signal: volume, below: 1}", rule)


def test_estimate_needs_the_hours_that_it_reads(tmp_path: Path) -> None:
    windows = "windows: {keep: {1m: 7d, 1h: 36d, 1d: 3y}}\n"
    with pytest.raises(SettingsError, match=r"needs hours for 37d \(windows\.keep\)"):
        loaded(tmp_path, "{name: a, signal: estimate, of: urgent}", windows)


def test_unknown_intents_needs_intents_that_are_known(tmp_path: Path) -> None:
    file = tmp_path / "recallwatch.yaml"
    file.write_text("signals: [{name: a, signal: unknown_intents, above: 0.1}]", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"needs intents\.known"):
        load_settings(file, {})


def test_signals_of_the_docs_are_right_and_name_every_kind(tmp_path: Path) -> None:
    text = DOCS.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    signals = yaml.safe_load(text)["signals"]
    made = loaded(tmp_path, yaml.safe_dump(signals, default_flow_style=True).strip()[1:-1])
    assert {signal.signal for signal in made.signals} == set(Signal)
    assert {s.signal: s.above for s in spec_of(made).signals}[Signal.LABEL_DELAY] == 36 * HOUR_MS
    assert Settings.model_validate(made.masked() | {"redis": {}}).signals == made.signals


def test_every_group_has_an_estimate_that_tells_nobody_unless_one_was_asked_for(
    tmp_path: Path,
) -> None:
    asked = loaded(tmp_path, "{name: e, signal: estimate, of: urgent, objective: 0.8}")
    assert [(r.name, r.objective) for r in spec_of(asked).signals] == [("e", 0.8)]
    plain = loaded(tmp_path, "{name: v, signal: volume, below: 1}")
    estimate = spec_of(plain).signals[-1]
    assert (estimate.name, estimate.objective) == ("estimate:urgent", None)
    assert estimate.score_name == score_name("urgent", ["lost_card"])
    assert codec_of(plain).groups == (("urgent", frozenset({"lost_card"})),)
