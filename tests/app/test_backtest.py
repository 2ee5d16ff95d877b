"""Back-tests over a part of the log: what is compared, and what naive rules see on the way."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.adapters.files import FilesLog
from monitor.adapters.history import HistoryLog
from monitor.adapters.history_sources import Later
from monitor.app.backtest import Backtest, backtest, document_of, lines_of
from monitor.app.replay import Replay
from monitor.app.report import iso
from monitor.app.settings import Settings, SettingsError
from monitor.app.settings.candidates import load_candidates
from monitor.app.wiring import topics_of
from monitor.domain.alerts import Transition
from monitor.domain.backtest import Change, Compared, Episode
from monitor.domain.events import Partition, Record
from tests.adapters.histories import ListSource
from tests.app.captures import captured
from tests.app.story import SETTINGS, history, labelled, predicted
from tests.builders import FINE_TUNED, MINUTE_MS, T0
from tests.replay.streams import numbered

SHOWN = Settings.model_validate(SETTINGS)
NAIVE: dict[str, Any] = {
    "name": "naive",
    "of": "urgent",
    "per": ["variant"],
    "detector": "threshold",
    "window": "10m",
    "support": 3,
    "every": "1m",
    "objective": 0.8,
}
SAME: dict[str, Any] = dict(SETTINGS["rules"][0])


def minute(number: int) -> int:
    return T0 + number * MINUTE_MS


def opened(records: Iterable[Record]) -> HistoryLog:
    """A log of these records, each partition with its offsets counted from 0."""
    found: dict[Partition, list[Record]] = {}
    for each in numbered(records):
        found.setdefault(Partition(each.topic, each.partition), []).append(each)
    return HistoryLog({partition: ListSource(its, chunk=7) for partition, its in found.items()})


def story(numbers: Iterable[int]) -> list[Record]:
    """Answers and labels of these minutes alone, in log order."""
    records = [record for n in numbers for record in (predicted(n), labelled(n))]
    return sorted(records, key=lambda each: each.log_ms)


def rules_in(folder: Path, rules: Sequence[object]) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"rules": list(rules)}))
    return path


def tried(
    folder: Path,
    records: Iterable[Record],
    *rules: object,
    settings: Settings = SHOWN,
    live: Iterable[Transition] | None = None,
    end_ms: int | None = None,
) -> Backtest:
    candidates = load_candidates(rules_in(folder, rules), settings)
    return backtest(opened(records), settings, candidates, live=live, end_ms=end_ms)


def raised(records: Iterable[Record]) -> list[Transition]:
    """What a worker would have found."""
    replay = Replay(opened(records), SHOWN)
    replay.run()
    replay.finish()
    return replay.store.transitions()


def until(end_ms: int, episodes: Iterable[Episode]) -> list[Episode]:
    """What was known of them at ``end_ms``."""
    return [
        each if each.ended_ms is None or each.ended_ms <= end_ms else each._replace(ended_ms=None)
        for each in episodes
        if each.fired_ms <= end_ms
    ]


@pytest.mark.parametrize("end", [70, 90])
def test_a_back_test_up_to_an_instant_knows_nothing_of_what_came_later(
    tmp_path: Path, end: int
) -> None:
    whole = tried(tmp_path, history(), NAIVE, SAME)
    found = tried(tmp_path, history(), NAIVE, SAME, end_ms=minute(end))
    first = min(record.log_ms for record in history())
    assert found.range_ms == (first, minute(end))
    assert list(found.candidate) == until(minute(end), whole.candidate)
    assert list(found.live) == until(minute(end), whole.live)
    assert [each.rule for each in found.candidate].count("naive") == 1


def test_captured_records_are_tried_up_to_an_instant_too(tmp_path: Path) -> None:
    candidates = load_candidates(rules_in(tmp_path, [NAIVE]), SHOWN)
    folder = captured(tmp_path / "captured", numbered(history()))
    with closing(FilesLog(folder, topics_of(SHOWN))) as log:
        found = backtest(log, SHOWN, candidates, end_ms=minute(50))
    assert (found.live, found.candidate) == ([], [])


def test_a_back_test_beyond_the_end_of_the_log_is_one_to_its_end(tmp_path: Path) -> None:
    whole = tried(tmp_path, history(), NAIVE, SAME)
    assert tried(tmp_path, history(), NAIVE, SAME, end_ms=minute(10_000)) == whole


def test_live_alerts_that_fired_outside_of_what_is_replayed_are_counted_and_not_lost(
    tmp_path: Path,
) -> None:
    live = raised(history())
    late = [record for record in story(range(90, 110)) if record.log_ms >= minute(90)]
    found = tried(tmp_path, late, {**SAME, "objective": 0.01}, live=live)
    assert (found.live, found.compared, found.outside) == ([], [], 1)
    document = document_of(found)
    assert document["left_out"]["outside_the_range"] == 1
    assert "Left out: 1 live alerts outside of what was replayed" in "\n".join(lines_of(document))


def test_live_alerts_after_the_end_are_outside_too(tmp_path: Path) -> None:
    found = tried(tmp_path, history(), SAME, live=raised(history()), end_ms=minute(30))
    assert (found.live, found.outside) == ([], 1)


def test_live_alerts_within_are_compared(tmp_path: Path) -> None:
    found = tried(tmp_path, history(), SAME, live=raised(history()))
    assert [each.change for each in found.compared] == [Change.SAME]
    assert found.outside == 0
    assert not any(line.startswith("Left out") for line in lines_of(document_of(found)))


def test_the_live_rule_is_the_same_beside_other_candidates_and_each_is_listed(
    tmp_path: Path,
) -> None:
    never = {**NAIVE, "name": "never", "support": 1_000}
    earlier = {**SAME, "name": "aaa"}
    found = tried(tmp_path, history(), earlier, NAIVE, SAME, never)
    changes = {each.rule: each.change for each in found.compared}
    assert changes["urgent-recall"] == changes["aaa"] == Change.SAME
    lines = list(lines_of(document_of(found)))
    assert "urgent-recall: 1 alert; 1 same" in lines
    assert "aaa: 1 alert; 1 same" in lines
    assert "never: no alert; 1 lost" in lines


@pytest.mark.parametrize(
    ("by_ms", "told"),
    [(2_100, "2.1 s"), (40, "0.04 s"), (300_000, "5 min"), (7_500_000, "2 h 5 min")],
)
def test_how_much_earlier_is_told_in_a_unit_that_fits(by_ms: int, told: str) -> None:
    live = Episode("a-1", "a", FINE_TUNED, "", T0, T0 + 10_000_000)
    other = live._replace(fired_ms=live.fired_ms - by_ms)
    found = Backtest([live], [other], [Compared("a", live, other)], "", rules=("a",))
    assert f"  earlier by {told}: fine_tuned ALL" in lines_of(document_of(found))


def from_middle(first_ms: int) -> HistoryLog:
    """The log of the story from an instant on, as --from opens it."""
    found: dict[Partition, list[Record]] = {}
    for each in numbered(history()):
        found.setdefault(Partition(each.topic, each.partition), []).append(each)
    return HistoryLog(
        {
            partition: Later(ListSource(its), sum(each.log_ms < first_ms for each in its))
            for partition, its in found.items()
        }
    )


def test_a_window_that_reaches_back_before_the_beginning_is_said_not_to_be_full(
    tmp_path: Path,
) -> None:
    rules = [NAIVE, {**NAIVE, "name": "long", "window": "2d"}, SAME]
    candidates = load_candidates(rules_in(tmp_path, rules), SHOWN)
    found = backtest(from_middle(minute(50)), SHOWN, candidates)
    began = found.full_ms["naive"] - 10 * MINUTE_MS
    assert minute(50) <= began < minute(55)
    assert found.full_ms == {
        "naive": began + 10 * MINUTE_MS,
        "long": began + 2_880 * MINUTE_MS,
    }
    (early,) = [each for each in found.compared if each.rule == "long" and each.candidate]
    assert found.is_early(early.candidate)
    lines = "\n".join(lines_of(document_of(found)))
    assert f"beginning are not full: naive until {iso(found.full_ms['naive'])}, long until" in lines
    assert "long: 1 alert (1 before its window was full)" in lines
    assert "fine_tuned ALL, before its window was full" in lines


def test_from_the_first_record_on_there_is_nothing_that_a_window_could_lack(
    tmp_path: Path,
) -> None:
    found = tried(tmp_path, history(), {**NAIVE, "window": "2d"})
    assert found.full_ms == {}
    assert "not full" not in "\n".join(lines_of(document_of(found)))


def test_a_back_test_from_an_instant_to_an_offset_has_a_range_as_soon_as_it_has_records(
    tmp_path: Path,
) -> None:
    log = from_middle(minute(20))
    log.bound({Partition("predictions", 0): 5})
    found = backtest(log, SHOWN, load_candidates(rules_in(tmp_path, [SAME]), SHOWN))
    assert found.range_ms is not None
    assert found.range_ms[1] > max(record.log_ms for record in history())


def test_live_alerts_that_no_candidate_is_about_are_left_out_and_not_lost(tmp_path: Path) -> None:
    found = tried(tmp_path, history(), {**NAIVE, "of": "balance"})
    assert found.unmet == {"urgent-recall": 1}
    lines = list(lines_of(document_of(found)))
    assert "Left out: 1 live alerts of urgent-recall, which no candidate is about." in lines
    assert "lost" not in "".join(lines)


def test_live_alerts_of_rules_that_are_gone_are_told_by_their_names(tmp_path: Path) -> None:
    live = raised(history())
    live += [replace(each, rule="old", id=f"old-{n}") for n, each in enumerate(live)]
    found = tried(tmp_path, history(), SAME, live=live)
    assert [each.rule for each in found.live] == ["urgent-recall"]
    document = document_of(found)
    assert document["left_out"]["of_rules_not_in_the_settings"] == {"old": 1}
    assert "Left out: 1 live alerts of old, a rule that is not in the settings." in lines_of(
        document
    )


def test_without_records_every_live_alert_is_outside(tmp_path: Path) -> None:
    found = tried(tmp_path, [], NAIVE, live=raised(history()))
    assert (found.range_ms, found.outside, found.compared) == (None, 1, [])
    assert "it holds no records" in "\n".join(lines_of(document_of(found)))


def test_a_naive_alert_ends_in_silence_once_its_window_is_empty(tmp_path: Path) -> None:
    records = story([*range(50, 70), *range(400, 402)])
    found = tried(tmp_path, records, {**NAIVE, "window": "30m", "support": 1})
    (alert,) = found.candidate
    last_miss = 68
    assert alert.key == FINE_TUNED
    assert alert.ended_ms == minute(last_miss + 1 + 30)


def test_a_long_silence_does_not_hide_what_comes_after_it(tmp_path: Path) -> None:
    found = tried(tmp_path, story([*range(60, 70), *range(100_000, 100_010)]), NAIVE)
    fired = [(each.fired_ms - T0) // MINUTE_MS for each in found.candidate]
    assert [number >= 100_000 for number in fired] == [False, True]


def test_a_window_longer_than_panes_are_kept_is_seen_whole(tmp_path: Path) -> None:
    briefly = Settings.model_validate(
        {**SETTINGS, "windows": {"keep": {"1m": "1h", "1h": "1d", "1d": "35d"}}}
    )
    rule = {**NAIVE, "window": "110m", "support": 40, "objective": 0.99}
    expected = tried(tmp_path, story(range(200)), rule).candidate
    assert expected
    assert tried(tmp_path, story(range(200)), rule, settings=briefly).candidate == expected


def test_naive_alerts_have_no_time_to_detect_and_are_said_not_to_be_judged(
    tmp_path: Path,
) -> None:
    document = document_of(tried(tmp_path, history(), NAIVE))
    summary = document["summary"]["candidate"]
    assert (summary["alerts"], summary["of_naive_rules"], summary["not_judged"]) == (1, 1, 0)
    assert summary["median_time_to_detect_s"] is None
    (row,) = [each["candidate"] for each in document["alerts"] if each["candidate"]]
    assert (row["since"], row["time_to_detect_s"], row["hindsight"]) == (None, None, None)
    text = "\n".join(lines_of(document))
    assert "1 alerts; to detect (median): -;" in text
    assert "1 not judged: naive rules keep no hindsight" in text
    assert "to detect: -; still up; not judged: naive rules keep no hindsight" in text


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ([NAIVE, NAIVE], r"rules\[1\]\.name: is the name of an earlier rule"),
        ([NAIVE, {**SAME, "name": "naive"}], r"rules\[1\]\.name: is the name of an earlier rule"),
        ([SAME, NAIVE, SAME], r"rules\[2\]\.name: is the name of an earlier rule"),
        ([SAME, {**NAIVE, "of": "urgnt"}], r"rules\[1\]\.of: is no group; did you mean urgent\?"),
        ([SAME, {**NAIVE, "support": 0}], r"rules\[1\]\.support: "),
        ([NAIVE, {**SAME, "objective": 80}], r"rules\[1\]\.objective: "),
        ([NAIVE, {**SAME, "where": {"shoe": "x"}}], r"rules\[1\]\.where: shoe is not one of"),
    ],
)
def test_a_fault_in_rules_is_told_with_its_place_in_the_file(
    tmp_path: Path, rules: list[object], problem: str
) -> None:
    with pytest.raises(SettingsError, match=rf"(?s): 1 fault in the settings\n  {problem}"):
        load_candidates(rules_in(tmp_path, rules), SHOWN)


def test_a_naive_rule_of_neither_a_group_nor_a_known_intent_is_a_fault(tmp_path: Path) -> None:
    known = ["lost_card", "report_fraud", "balance"]
    intents = {**SETTINGS["intents"], "closed": True, "known": known}
    closed = Settings.model_validate({**SETTINGS, "intents": intents})
    load_candidates(rules_in(tmp_path, [{**NAIVE, "of": "balance"}]), closed)
    with pytest.raises(SettingsError, match=r"rules\[0\]\.of: is neither a group nor an intent"):
        load_candidates(rules_in(tmp_path, [{**NAIVE, "of": "weather"}]), closed)
