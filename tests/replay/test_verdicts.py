"""Verdicts and advice on real data: what is right is read from the oracle, not from our numbers.

The scenarios have labels that come for days after the last prediction: windows are by event time.
"""

from datetime import datetime
from typing import Any

import pytest

from monitor.app.settings import Settings
from monitor.app.verdict_document import binary_document
from monitor.app.verdict_review import Asked, Review, Reviews, reviewed
from monitor.domain.intervals import wilson
from monitor.domain.profile import metrics_of
from monitor.domain.verdict import PARADOX, Answer, Finding, Judgement
from monitor.domain.windows import HOUR_MS
from tests.replay.scenarios import FOLDER, NO_DATA, Scenario, replayed

if not FOLDER.is_dir():
    pytest.skip(NO_DATA, allow_module_level=True)

EXACT = 1e-9
MAIN = Scenario("clinc150_main")
FAILING = Scenario("acc97_recall20")
BINARY = Scenario("yes_no_binary")
START_MS = 1_772_409_600_000
"""2026-03-02T00:00:00Z, when all scenarios begin."""


def instant_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def judged(scenario: Scenario, asked: Asked = Asked(), **verdict: Any) -> Reviews:  # noqa: ANN401, B008 - settings of any kind; frozen
    plain = scenario.settings().model_dump()
    made = Settings.model_validate({**plain, "verdict": verdict})
    return reviewed(replayed(scenario).store, made, asked)


def reason(review: Review, name: str) -> Judgement:
    return {reason.name: reason for reason in review.verdict.reasons}[name]


# yes_no_binary


def test_yes_no_has_the_scores_of_the_oracle_and_the_verdict_of_its_limits() -> None:
    limit = BINARY.about()["recall_threshold"]["prompt"]
    found = judged(BINARY)
    review = found.reviews["prompt"]
    told = BINARY.oracle("summary")["variants"]["prompt"]
    metrics = {(m.name, m.of): m for m in metrics_of(review.counts, replayed(BINARY).spec.groups)}
    assert metrics["accuracy", ""].value == pytest.approx(told["accuracy"], abs=EXACT)
    assert metrics["recall", "Yes"].value == pytest.approx(told["urgent_group_recall"], abs=EXACT)
    precision = told["urgent_group_precision"]
    assert metrics["precision", "urgent"].value == pytest.approx(precision, abs=EXACT)
    f1 = 2 * precision * 0.8 / (precision + 0.8)
    assert metrics["f1", "urgent"].value == pytest.approx(f1, abs=EXACT)
    assert round(f1, 4) == 0.8205

    recall = reason(review, "recall of urgent")
    assert (recall.limit, recall.interval) == (limit, tuple(told["urgent_group_recall_wilson95"]))
    low, high = wilson(165, 200)
    assert recall.interval is not None
    assert recall.interval[0] >= limit
    assert low < 0.85 < high
    # Recall reaches its limit; that accuracy reaches .85 is not shown, and not excluded either.
    assert [(r.name, r.finding) for r in review.verdict.found(Finding.OPEN)] == [
        ("accuracy", Finding.OPEN)
    ]
    assert review.verdict.answer is Answer.NOT_ENOUGH_EVIDENCE


def test_yes_no_is_fit_for_whoever_asks_for_less_accuracy() -> None:
    found = judged(BINARY, accuracy={"good": 0.75})
    assert found.answer() is Answer.FIT


def test_yes_no_has_the_plain_matrix_of_the_oracle() -> None:
    told = BINARY.oracle("summary")["variants"]["prompt"]
    row: Any = binary_document(judged(BINARY), "Yes", frozenset({"Yes"}))["variants"]
    names = ("true_positives", "false_negatives", "false_positives", "true_negatives")
    assert [row["prompt"][name] for name in names] == [
        told["urgent_tp"],
        told["urgent_fn"],
        told["urgent_fp"],
        told["n_labelled"] - told["urgent_tp"] - told["urgent_fn"] - told["urgent_fp"],
    ]


# acc97_recall20


def test_silent_failure_flips_from_fit_to_not_fit_and_says_when() -> None:
    """Over 5 hours, as long as each of the two phases: less holds too few urgent labels."""
    (healthy, failure) = FAILING.about()["windows_utc"]
    hours = (instant_ms(failure["to"]) - instant_ms(failure["from"])) // HOUR_MS
    review = judged(FAILING, window=f"{hours}h").reviews["fine_tuned"]
    assert review.verdict.answer is Answer.NOT_FIT
    assert reason(review, PARADOX).value == pytest.approx(0.97, abs=EXACT)
    by_answer = {change.verdict.answer: change for change in review.changes}
    fit, lost = by_answer[Answer.FIT], by_answer[Answer.NOT_FIT]
    assert instant_ms(healthy["from"]) < fit.at_ms <= instant_ms(healthy["to"])
    assert instant_ms(failure["from"]) < lost.at_ms <= instant_ms(failure["to"])
    expected = list(oracle_changes(hours))
    assert [(c.at_ms, c.verdict.answer) for c in review.changes] == expected


def oracle_changes(hours: int) -> list[tuple[int, Answer]]:
    """When recall and accuracy are shown to be good, or bad, from the oracle's hourly table."""
    rows = [
        row
        for row in FAILING.rows("headline_by_prediction_hour.csv")
        if row["variant"] == "fine_tuned"
    ]
    changes: list[tuple[int, Answer]] = []
    for end in range(1, len(rows) + 1):
        held = rows[max(0, end - hours) : end]
        hits, n = (sum(int(row[f"urgent_{c}"]) for row in held) for c in ("tp", "support"))
        low, high = wilson(hits, n)
        limit = FAILING.about()["recall_threshold"]["fine_tuned"]
        answer = Answer.FIT if low >= limit else Answer.NOT_FIT if high < limit else None
        if n < 30 or answer is None:
            answer = Answer.NOT_ENOUGH_EVIDENCE
        if not changes or changes[-1][1] is not answer:
            changes.append((START_MS + end * HOUR_MS, answer))
    return changes


@pytest.mark.parametrize("phase", [0, 1])
def test_verdict_on_each_phase_is_that_of_its_numbers(phase: int) -> None:
    window = FAILING.about()["windows_utc"][phase]
    asked = Asked(instant_ms(window["from"]), instant_ms(window["to"]))
    review = judged(FAILING, asked).reviews["fine_tuned"]
    (told,) = [
        row
        for row in FAILING.oracle("summary")["windows"]
        if (row["window"], row["variant"]) == (window["id"], "fine_tuned")
    ]
    recall = review.evidence.recall("urgent")
    assert recall.value == pytest.approx(told["urgent_group_recall"], abs=EXACT)
    assert recall.interval == pytest.approx(told["urgent_group_recall_wilson95"], abs=EXACT)
    assert review.verdict.answer is [Answer.FIT, Answer.NOT_FIT][phase]


# clinc150_main

HOURS = [(0, 16), (16, 22), (22, 27), (27, 31), (31, 36), (36, 42), (42, 48)]
"""Before, in and after each of the windows A (16-22), P (27-31) and C (36-42)."""


def test_the_hours_are_those_around_the_windows_of_the_scenario() -> None:
    windows = [
        ((instant_ms(w["from"]) - START_MS) // HOUR_MS, (instant_ms(w["to"]) - START_MS) // HOUR_MS)
        for w in MAIN.about()["windows_utc"]
    ]
    assert windows == HOURS[1::2]


def oracle_counts(start: int, end: int, variant: str) -> tuple[int, int, float]:
    """Urgent hits, urgent support and accuracy of some hours, from the oracle's table."""
    rows = [
        row
        for row in MAIN.rows("headline_by_prediction_hour.csv")
        if row["variant"] == variant
        and start <= (instant_ms(row["hour"]) - START_MS) // HOUR_MS < end
    ]
    n = sum(int(row["n_labelled"]) for row in rows)
    right = sum(float(row["accuracy"]) * int(row["n_labelled"]) for row in rows if row["accuracy"])
    hits, support = (sum(int(row[f"urgent_{c}"]) for row in rows) for c in ("tp", "support"))
    return hits, support, right / n


def oracle_choice(start: int, end: int) -> str:
    """Whoever catches more urgent messages beyond doubt; else whoever is right more often."""
    tuned, prompt = (oracle_counts(start, end, name) for name in ("fine_tuned", "prompt"))
    (low, high), (other_low, other_high) = wilson(*tuned[:2]), wilson(*prompt[:2])
    if low > other_high:
        return "fine_tuned"
    if high < other_low:
        return "prompt"
    return "fine_tuned" if tuned[2] > prompt[2] else "prompt"


@pytest.mark.parametrize(("start", "end"), HOURS)
def test_right_variant_is_preferred_before_in_and_after_each_incident(start: int, end: int) -> None:
    asked = Asked(START_MS + start * HOUR_MS, START_MS + end * HOUR_MS)
    found = judged(MAIN, asked)
    assert found.advice.serve == oracle_choice(start, end)
    for name, review in found.reviews.items():
        hits, support, accuracy = oracle_counts(start, end, name)
        recall = review.evidence.recall("urgent")
        assert recall.value == pytest.approx(hits / support, abs=EXACT)
        assert recall.support == support
        # The table is rounded to six decimals.
        assert review.evidence.accuracy.value == pytest.approx(accuracy, abs=1e-6)


def test_prompt_is_the_right_one_in_window_a_alone() -> None:
    assert [oracle_choice(*hours) for hours in HOURS].index("prompt") == 1
    assert [oracle_choice(*hours) for hours in HOURS].count("prompt") == 1


def test_broken_release_is_named_as_the_slice_that_the_total_hides() -> None:
    review = judged(MAIN).reviews["fine_tuned"]
    (trap,) = [trap for trap in review.traps if trap.name == "prompt bias"]
    (row,) = [row for row in MAIN.rows("by_version.csv") if row["model_version"] == "ft-1.1"]
    assert trap.sign == "found"
    said = f"{float(row['urgent_group_recall']):.1%} in model_version=ft-1.1"
    assert f"recall of urgent is {said} (n={row['urgent_support']})" in trap.text


def test_offline_score_of_a_broken_release_is_not_found_again_live() -> None:
    (row,) = [row for row in MAIN.rows("by_version.csv") if row["model_version"] == "ft-1.0"]
    live = float(row["urgent_group_recall"])
    scores = [
        {"model_version": version, "metric": "recall", "of": "urgent", "value": live, "n": 2_000}
        for version in ("ft-1.0", "ft-1.1")
    ]
    review = judged(MAIN, variants={"fine_tuned": {"offline": scores}}).reviews["fine_tuned"]
    (trap,) = [trap for trap in review.traps if trap.name == "overfitting"]
    assert trap.sign == "found"
    assert "of ft-1.1 is shown to be worse live" in trap.text
    assert "ft-1.0" not in trap.text
