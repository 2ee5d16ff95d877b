"""What people see: plain lines off a terminal, a dash where nothing is known."""

import json
import re
from typing import Any

import pytest

from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.app import console
from monitor.app.console import dump, print_json, print_report, progress_of, share
from monitor.app.report import present_report
from monitor.app.settings import Settings
from monitor.domain import ledger
from monitor.domain.engine import Changes
from monitor.domain.events import Partition
from monitor.domain.ledger import Gap
from tests.app.sampled import sampled
from tests.app.story import SETTINGS, TOPICS, filled, predicted
from tests.app.test_flow import flow_of, read_to_end, undisturbed
from tests.builders import prediction_message, record

SHOWN = Settings.model_validate(SETTINGS)


def printed(
    store: MemoryStore, capsys: pytest.CaptureFixture[str], width: int | None = None
) -> str:
    print_report(present_report(store, SHOWN), width=width)
    out, err = capsys.readouterr()
    assert err == ""
    return out


def row(text: str, *names: str) -> list[str]:
    """The cells of the first table row that begins with ``names``."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("│┃").split("│")]
        if tuple(cells[: len(names)]) == names:
            return cells
    raise AssertionError(f"no row of {names} in {text}")


def test_the_verdict_of_the_text_report_is_that_of_the_window_and_names_its_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(undisturbed(), capsys, 250)
    found: Any = present_report(undisturbed(), SHOWN)["verdicts"]
    begin, end = found["window"]["from"], found["window"]["to"]
    assert f"the verdict is on {begin} to {end}, as that of recallwatch verdict" in text
    for name, one in found["variants"].items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"│ {name} ")][:1]
        assert one["answer"].replace("_", " ") in row


# Progress


def test_off_a_terminal_progress_is_plain_lines_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_EVERY_MS", 0)
    with progress_of("Reading") as meter:
        meter(1_000)
        meter(2_500, 7_500)
    out, err = capsys.readouterr()
    assert out == ""
    first, second, last = err.splitlines()
    assert first.startswith("Reading: 1,000 records, ")
    assert re.search(r"/s, 7,500 to go, about \d+ s$", second)
    assert last.startswith("Reading: 2,500 records, ")
    assert last.endswith("/s, done")
    assert "\x1b" not in err


def test_off_a_terminal_progress_keeps_quiet_for_a_while(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_of("Reading") as meter:
        for done in range(100):
            meter(done)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_on_a_terminal_progress_is_a_bar_and_a_last_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_of("Reading") as meter:
        meter(500, 1_500)
        meter(2_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" in err
    last = err.splitlines()[-1]
    assert "Reading: 2,000 records, " in last
    assert last.endswith("/s, done")


def test_progress_that_breaks_off_does_not_say_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), progress_of("Reading"):
        raise KeyboardInterrupt
    assert "done" not in capsys.readouterr().err


# Reports


def test_the_text_report_says_what_the_json_report_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(undisturbed(), capsys)
    assert row(text, "predictions")[1:] == [
        "126",
        "108 labelled + 12 pending + 0 expired + 1 duplicate + 5 rejected",
    ]
    assert row(text, "fine_tuned", "60")[3:5] == ["100.0 %", "55.0 %"]
    assert row(text, "fine_tuned", "urgent")[2:5] == ["47.1 %", "34.1 % to 60.5 %", "24 of 51"]
    assert "0 of the last 9 mature urgent labels were hits" in text


LOST = "records lost: predictions[0]@100-999, dropped by the log before they were counted"


def lacking_store() -> MemoryStore:
    store = MemoryStore()
    gaps = (Gap(Partition("predictions", 0), 100, 1_000), Gap(Partition("labels", 1), 7, 8))
    store.commit(0, {}, Changes({}, {}, {}, {ledger.gap(gap): 1 for gap in gaps}, [], {}))
    return store


def test_the_text_report_names_lost_records_under_the_ledger(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(lacking_store(), capsys).splitlines()
    ledger_ends = next(n for n, line in enumerate(lines) if line.startswith("└"))
    assert lines[ledger_ends + 1 : ledger_ends + 3] == [
        LOST.replace("predictions[0]@100-999", "labels[1]@7-7"),
        LOST,
    ]


def test_lost_records_are_red_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert f"\x1b[1;31m{LOST}\x1b[0m" in printed(lacking_store(), capsys, width=160)


def test_the_text_report_says_nothing_of_lost_records_when_there_are_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "lost:" not in printed(undisturbed(), capsys)


def test_the_text_report_shows_a_dash_for_what_is_unknown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(MemoryStore(), capsys)
    assert text.startswith("As of no record yet")
    assert row(text, "ALL", "0") == ["ALL", "0", "0", *"------"]
    assert row(text, "ALL", "urgent") == ["ALL", "urgent", "-", "-", "0 of 0", "-", "-"]
    assert "0.0 %" not in text


def test_nothing_is_cut_off_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(undisturbed(), capsys)
    assert "…" not in text
    assert "2026-01-15T03:24:00.000Z" in text


def test_a_narrow_terminal_folds_what_it_cannot_show_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(undisturbed(), capsys, width=80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("[/red]", "[/red]"),
        ("[bold]loud", "[bold]loud"),
        (":smile:", ":smile:"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
    ],
)
def test_names_from_messages_are_shown_as_they_are(
    name: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = filled(MemoryLog(TOPICS), [record(prediction_message(variant=name)), predicted(1)])
    store = MemoryStore()
    read_to_end(flow_of(log, store), log)
    text = printed(store, capsys)
    assert shown in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0, "0.0 %"), (0.8214, "82.1 %"), (1.0, "100.0 %")]
)
def test_a_share_is_per_cent_or_a_dash(value: float | None, text: str) -> None:
    assert share(value) == text


def test_json_keeps_every_letter_and_refuses_what_is_not_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json({"intent": "café 日本", "recall": None})
    out = capsys.readouterr().out
    assert "café 日本" in out
    assert json.loads(out)["recall"] is None
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump(float("nan"))


# A sample


def test_a_sample_is_told_before_all_numbers_and_its_ledger_balances(
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, settings = sampled(0.5)
    print_report(present_report(store, settings))
    text = capsys.readouterr().out
    said = text.index("A 50 % sample of predictions: counts are of the sample.")
    assert said < text.index("All numbers are since")
    passed_over = store.ledger()["predictions.passed_over"]
    assert row(text, "predictions")[2].endswith(f" + {passed_over} passed over")


def test_the_whole_says_nothing_of_a_sample(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(undisturbed(), capsys)
    assert "sample" not in text
    assert "passed over" not in text
