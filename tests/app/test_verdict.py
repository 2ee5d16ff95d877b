"""``recallwatch verdict`` and ``card``: what is judged, how it ends, and what is written."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.app.flow import Flow
from monitor.app.instants import iso
from monitor.app.settings import Settings, SettingsError
from monitor.app.verdict_document import leaks_in
from monitor.app.verdict_present import present_verdicts
from monitor.app.verdict_review import Asked, Reviews, reviewed
from monitor.app.verdict_text import card_of, lines_of
from monitor.app.wiring import codec_of, spec_of
from monitor.domain.advice import Approach
from monitor.domain.evaluation import Evaluation
from monitor.domain.traps import Sign
from monitor.domain.verdict import Answer, Evidence, Finding
from monitor.domain.windows import DAY_MS, HOUR_MS, Window
from tests.app.captures import captured_story
from tests.app.paired import NOON_MS, PAIRED, Answered, store_of
from tests.app.sampled import sampled
from tests.app.story import SETTINGS
from tests.app.test_cli import Run, run
from tests.app.test_flow import undisturbed
from tests.builders import T0, prediction_message, record

__all__ = ["run"]

ANSWERED_MS = T0 + 2 * HOUR_MS
"""The story lasts for two hours from ``T0``, which is a full hour."""


def settings(**verdict: Any) -> Settings:  # noqa: ANN401 - settings of any kind
    return Settings.model_validate({**SETTINGS, "verdict": verdict})


def story(asked: Asked = Asked(), **verdict: Any) -> Reviews:  # noqa: ANN401, B008 - the same; frozen
    return reviewed(undisturbed(), settings(**verdict), asked)


def document(asked: Asked = Asked(), binary: str | None = None) -> dict[str, Any]:  # noqa: B008 - frozen
    return present_verdicts(undisturbed(), settings(), asked, binary)


# The window


@pytest.mark.parametrize(
    ("verdict", "asked", "window"),
    [
        ({}, Asked(), Window(ANSWERED_MS - 168 * HOUR_MS, ANSWERED_MS)),
        ({"window": "1h"}, Asked(), Window(T0 + HOUR_MS, ANSWERED_MS)),
        ({"window": "all"}, Asked(), Window(T0, ANSWERED_MS)),
        ({"window": "1h"}, Asked(end_ms=T0 + HOUR_MS + 1), Window(T0, T0 + HOUR_MS)),
        ({}, Asked(start_ms=T0 + 1), Window(T0, ANSWERED_MS)),
        ({"window": "1h", "maturity": "30m"}, Asked(), Window(T0, T0 + HOUR_MS)),
    ],
    ids=["default", "an hour", "all", "an earlier end", "a beginning", "old enough"],
)
def test_window_ends_with_the_last_hour_that_has_a_prediction(
    verdict: dict[str, Any], asked: Asked, window: Window
) -> None:
    assert story(asked, **verdict).window == window


def test_a_window_that_nobody_set_is_no_longer_than_hours_are_kept() -> None:
    briefly = {"windows": {"keep": {"1m": "1h", "1h": "1470m", "1d": "35d"}}}
    found = reviewed(undisturbed(), Settings.model_validate({**SETTINGS, **briefly}))
    assert (found.window_ms, found.window.end_ms) == (DAY_MS, ANSWERED_MS)
    assert reviewed(undisturbed(), settings()).window_ms == 7 * DAY_MS


def test_only_what_was_answered_in_the_window_counts() -> None:
    found = story(Asked(end_ms=T0 + HOUR_MS), window="1h")
    assert [one.evidence.predictions for one in found.reviews.values()] == [30, 30]
    recall = found.reviews["fine_tuned"].evidence.recall("urgent")
    assert (recall.value or 0) > 0.9
    assert found.answer("fine_tuned") is Answer.NOT_ENOUGH_EVIDENCE
    later = story(Asked(start_ms=T0 + HOUR_MS))
    assert later.reviews["fine_tuned"].evidence.recall("urgent").value == 0.0


def test_verdicts_of_a_store_with_nothing_in_it_are_not_enough_evidence() -> None:
    found = reviewed(MemoryStore(), settings())
    assert (found.reviews, found.answer()) == ({}, Answer.NOT_ENOUGH_EVIDENCE)


def test_variant_that_is_silent_in_the_window_does_not_decide() -> None:
    made = Settings()
    log, store = MemoryLog({"predictions": 1, "labels": 1}), MemoryStore()
    for number, variant in enumerate(["old", *["new"] * 3]):
        at_ms = T0 + (0 if variant == "old" else 9 * HOUR_MS)
        message = prediction_message(
            prediction_id=f"p{number}", event_time=iso(at_ms), variant=variant, predicted_intent="a"
        )
        log.append(record(message, log_ms=at_ms))
    flow = Flow(spec_of(made), codec_of(made), log, store)
    while flow.turn().records:
        flow.evaluate()
    changed = made.model_copy(
        update={"verdict": made.verdict.model_copy(update={"window": timedelta(hours=1)})}
    )
    found = reviewed(store, changed)
    assert [(name, one.is_present) for name, one in found.reviews.items()] == [
        ("new", True),
        ("old", False),
    ]


def test_fit_variant_beside_one_that_is_silent_is_fit() -> None:
    found = reviewed(store_of(Answered(280, 10, 5, 5), PAIRED), PAIRED)
    gone = replace(found.reviews["old"], variant="gone", evidence=Evidence.empty())
    verdict = replace(gone.verdict, answer=Answer.NOT_FIT)
    silent = {**found.reviews, "gone": replace(gone, verdict=verdict)}
    assert replace(found, reviews=silent).answer() is found.answer() is Answer.FIT


def test_pairs_of_now_say_nothing_about_a_window_that_ended_earlier() -> None:
    store = store_of(Answered(60, 200, 20, 20), PAIRED)
    assert "paired, 300 requests" in reviewed(store, PAIRED).advice.text
    assert "unpaired" in reviewed(store, PAIRED, Asked(end_ms=NOON_MS)).advice.text


def test_worst_of_all_variants_decides() -> None:
    found = story(window="all")
    assert found.answer("fine_tuned") is Answer.NOT_FIT
    assert found.answer("prompt") is Answer.NOT_ENOUGH_EVIDENCE
    assert found.answer() is Answer.NOT_FIT


def test_variant_about_which_an_alert_fires_is_not_fit() -> None:
    reasons = story().reviews["fine_tuned"].verdict.found(Finding.MISSED)
    (alert,) = [reason for reason in reasons if reason.name == "alert urgent-recall"]
    assert "alert urgent-recall fires since 2026-01-15T03:" in alert.text
    names = [reason.name for reason in story().reviews["prompt"].verdict.reasons]
    assert "alert urgent-recall" not in names


class _Relieved:
    """A reader in which another version voted after that of each alert."""

    def __init__(self, reader: Any) -> None:  # noqa: ANN401 - any reader
        self._reader = reader

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the reader has it
        return getattr(self._reader, name)

    def evaluation(self) -> Evaluation:
        found: Evaluation = self._reader.evaluation()
        states = {key: replace(state, is_relieved=True) for key, state in found.states.items()}
        relieved: Evaluation = replace(found, states=states)
        return relieved


def test_variant_of_which_one_version_fires_is_not_fit_whichever_voted_last() -> None:
    found = reviewed(_Relieved(undisturbed()), settings())
    missed = found.reviews["fine_tuned"].verdict.found(Finding.MISSED)
    assert "alert urgent-recall" in [reason.name for reason in missed]


def test_alert_of_now_says_nothing_about_a_window_that_ended_earlier() -> None:
    found = story(Asked(end_ms=T0 + HOUR_MS)).reviews["fine_tuned"].verdict
    assert "alert urgent-recall" not in [reason.name for reason in found.reasons]


def test_approach_is_taken_from_a_telling_name_unless_it_is_declared() -> None:
    plain = story().reviews
    assert [(one.approach, one.is_told) for one in plain.values()] == [
        (Approach.FINE_TUNED, False),
        (Approach.PROMPT, False),
    ]
    told = story(variants={"prompt": {"approach": "fine_tuned", "cost_per_1000": 1.2}}).reviews
    assert (told["prompt"].approach, told["prompt"].is_told, told["prompt"].cost) == (
        Approach.FINE_TUNED,
        True,
        1.2,
    )


# The document


def test_document_proves_its_numbers_and_stands_in_the_report() -> None:
    from monitor.app.report import present_report  # noqa: PLC0415 - only here

    made = settings()
    report: Any = json.loads(json.dumps(present_report(undisturbed(), made)))
    found = present_verdicts(undisturbed(), made, Asked())
    assert {name: found[name] for name in ("digest", "cut", "as_of")} == {
        name: report[name] for name in ("digest", "cut", "as_of")
    }
    assert {name: found[name] for name in report["verdicts"]} == report["verdicts"]


def test_every_number_of_a_metric_comes_with_what_it_stands_on() -> None:
    for section in document()["variants"].values():
        for metric in section["metrics"]:
            assert (metric["value"] is None) == (metric["n"] == 0)
            if metric["interval"] is not None:
                low, high = metric["interval"]
                assert low <= metric["value"] * 1.02
                assert metric["value"] <= high * 1.02


def test_binary_matrix_is_that_of_the_group_against_the_rest() -> None:
    row = document(binary="urgent")["binary"]["variants"]["fine_tuned"]
    total = sum(row[name] for name in row if name.endswith("tives"))
    assert total == document()["variants"]["fine_tuned"]["labelled"]
    assert (row["false_positives"], row["precision"]) == (0, 1.0)


def test_binary_matrix_of_an_unknown_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="urgnt is no group"):
        document(binary="urgnt")


def test_every_trap_is_told_and_the_unchecked_ones_are_unknown() -> None:
    (_, section), *_ = document()["variants"].items()
    signs = {trap["name"]: trap["sign"] for trap in section["traps"]}
    assert set(signs) == {
        "accuracy paradox",
        "overfitting",
        "data leakage",
        "ignored latency",
        "prompt bias",
    }
    assert (signs["data leakage"], signs["overfitting"]) == ("unknown", "unknown")


def test_declared_offline_score_is_compared_with_its_version_live() -> None:
    offline = [{"model_version": "v9", "metric": "recall", "of": "urgent", "value": 0.9}]
    found = story(variants={"fine_tuned": {"offline": offline}})
    (trap,) = [t for t in found.reviews["fine_tuned"].traps if t.name == "overfitting"]
    assert trap.sign is Sign.UNKNOWN
    assert "recall of urgent of v9: 0 live labels" in trap.text


# Leakage

SCORES = {
    part: {"accuracy": {"value": value}, "groups": {"urgent": {"recall": {"value": value}}}}
    for part, value in {"all": 0.9, "leaked": 1.0, "without_leaked": 0.8}.items()
}
CHECKED = {
    "version": 1,
    "variants": {
        "prompt": {
            "finding": "above",
            "text": "12.0% of the live texts are known",
            "limit": 0.01,
            "leaked": {"exact": 3, "near": 9, "open": 0, "n": 100, "share": 0.12},
            "metrics": SCORES,
        },
        "fine_tuned": {
            "finding": "within",
            "text": "none",
            "limit": 0.01,
            "leaked": {"exact": 0, "near": 0, "open": 0, "n": 100, "share": 0.0},
            "metrics": SCORES,
        },
    },
}


def test_leakage_that_was_checked_is_a_trap_found_or_not(tmp_path: Path) -> None:
    path = tmp_path / "leakage.json"
    path.write_text(json.dumps(CHECKED))
    found = story(Asked(leaks=leaks_in(path)))
    signs = {
        name: [trap.sign for trap in one.traps if trap.name == "data leakage"]
        for name, one in found.reviews.items()
    }
    assert signs == {"fine_tuned": [Sign.NOT_FOUND], "prompt": [Sign.FOUND]}
    (trap,) = [t for t in found.reviews["prompt"].traps if t.name == "data leakage"]
    assert (trap.numbers["share"], trap.numbers["exact"]) == (0.12, 3)
    assert trap.numbers["recall of urgent, all"] == 0.9
    assert trap.numbers["recall of urgent, without_leaked"] == 0.8


def test_variant_with_leakage_is_never_fit_since_its_scores_prove_nothing(tmp_path: Path) -> None:
    path = tmp_path / "leakage.json"
    path.write_text(json.dumps(CHECKED))
    store = store_of(Answered(280, 10, 5, 5), PAIRED)
    leaks = leaks_in(path)
    assert reviewed(store, PAIRED).answer("new") is Answer.FIT
    found = reviewed(store, PAIRED, Asked(leaks={"new": leaks["prompt"]}))
    assert found.answer("new") is Answer.NOT_ENOUGH_EVIDENCE
    (reason,) = [one for one in found.reviews["new"].verdict.reasons if one.name == "data leakage"]
    assert (reason.finding, reason.value, reason.limit, reason.n) == (Finding.OPEN, 0.12, 0.01, 100)
    assert "new: 12.0% of the live texts are known" in " ".join(i.text for i in found.advice.steps)
    harmless = reviewed(store, PAIRED, Asked(leaks={"new": leaks["fine_tuned"]}))
    assert harmless.answer("new") is Answer.FIT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not written by recallwatch leakage"),
        ("[]", "not written by recallwatch leakage"),
        ('{"version": 1}', "not written by recallwatch leakage"),
        ('{"version": 2, "variants": {}}', "version 2, this release reads 1"),
    ],
)
def test_leakage_file_that_is_none_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "leakage.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=words):
        leaks_in(path)


# Text and card


def test_text_says_answer_reasons_traps_history_and_advice() -> None:
    text = "\n".join(lines_of(document(binary="urgent"), ["fine_tuned", "prompt"]))
    assert "fine_tuned: NOT FIT since 2026-01-15T04:00Z" in text
    assert "FAIL  recall of urgent " in text
    assert "?     trap data leakage: not checked" in text
    assert "urgent against the rest:\n  fine_tuned: TP " in text
    assert "\nAdvice: " in text


def test_text_and_card_tell_a_sample_and_nothing_of_the_whole() -> None:
    store, settings = sampled(0.5)
    told = present_verdicts(store, settings, Asked())
    said = "A 50 % sample of predictions: counts are of the sample."
    assert list(lines_of(told, []))[1] == said
    assert f"| Sampling | {said} |" in card_of(told, [])
    assert "sample" not in "".join(lines_of(document(), [])) + card_of(document(), [])


def test_card_can_be_audited_and_says_what_is_unknown() -> None:
    told = document()
    card = card_of(told, ["fine_tuned", "prompt"])
    assert told["digest"] in card
    for place, offset in told["cut"].items():
        assert f"{place}@{offset}".replace("[", r"\[").replace("]", r"\]") in card
    for part in ("### Verdict", "### Traps", "### Metrics", "### Slices", "### History"):
        assert card.count(part) == 2
    assert "- Unknown of prompt: overfitting" in card
    assert "What these numbers do not say" in card


def test_card_shows_names_of_messages_as_they_are() -> None:
    told = document()
    told["variants"]["<b>|x"] = told["variants"].pop("prompt")
    card = card_of(told, ["<b>|x"])
    assert "<b>" not in card
    assert r"## \<b\>\|x: not enough evidence" in card


def test_same_store_gives_the_same_card() -> None:
    assert card_of(document(), ["prompt"]) == card_of(document(), ["prompt"])


# The command


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "recallwatch.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "verdict": {"window": "all"}}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return captured_story(tmp_path / "captured")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ([], 1),
        (["--variant", "fine_tuned"], 1),
        (["--variant", "prompt"], 2),
        (["--variant", "nobody"], 64),
        (["--variant"], 64),
        (["--no-such-option"], 64),
        (["--from", "yesterday"], 64),
        (["--from", "2026-01-15T03:00:00Z", "--to", "2026-01-15T02:00:00Z"], 64),
        (["--binary", "nobody"], 64),
        (["--offline"], 64),
        (["--config", "no-such-file.yaml"], 64),
        (["--out", "no/such/folder/card.md"], 64),
    ],
)
def test_exit_code_is_the_answer_and_64_for_a_persons_mistake(
    run: Run, config: Path, folder: Path, asked: list[str], code: int
) -> None:
    ended = run("verdict", "--config", config, "--files", folder, *asked)
    assert ended.code == code
    assert "Traceback" not in ended.err


def test_verdict_on_a_variant_that_is_fit_ends_with_0(
    run: Run, tmp_path: Path, folder: Path
) -> None:
    lenient = {"every_group": {"recall": "off", "precision": "off"}, "accuracy": {"good": 0.7}}
    path = tmp_path / "lenient.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "rules": [], "verdict": lenient}))
    ended = run("verdict", "--config", path, "--files", folder, "--variant", "prompt")
    assert (ended.code, "latency p95" in ended.out) == (2, True)
    asked = ["--variant", "prompt", "--format", "json"]
    told = json.loads(run("verdict", "--config", path, "--files", folder, *asked).out)
    assert [r["name"] for r in told["variants"]["prompt"]["reasons"] if r["finding"] == "open"] == [
        "latency p95",
        "watched groups",
    ]


def test_variant_that_is_declared_and_never_seen_is_not_enough_evidence(
    run: Run, tmp_path: Path, folder: Path
) -> None:
    path = tmp_path / "declared.yaml"
    declared = {"variants": {"new": {"approach": "prompt"}}}
    path.write_text(yaml.safe_dump({**SETTINGS, "verdict": declared}))
    ended = run("verdict", "--config", path, "--files", folder, "--variant", "new")
    assert (ended.code, "new has answered nothing yet" in ended.err) == (2, True)


def test_verdict_of_a_store_that_is_not_there_ends_with_3(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "gone.yaml"
    path.write_text(yaml.safe_dump({"redis": {"url": "redis://127.0.0.1:1/0", "timeout": "1s"}}))
    assert run("verdict", "--config", path).code == 3


def test_card_is_printed_or_written_and_is_the_same(
    run: Run, config: Path, folder: Path, tmp_path: Path
) -> None:
    printed = run("card", "--config", config, "--files", folder)
    out = tmp_path / "card.md"
    written = run("verdict", "--config", config, "--files", folder, "--out", out)
    assert (printed.code, written.code) == (0, 1)
    assert printed.out == out.read_text("utf-8")


def test_json_of_the_command_is_the_document(run: Run, config: Path, folder: Path) -> None:
    ended = run("verdict", "--config", config, "--files", folder, "--format", "json")
    told = json.loads(ended.out)
    assert (told["answer"], told["version"]) == ("not_fit", 1)
    assert told["window"]["hours"] is None
