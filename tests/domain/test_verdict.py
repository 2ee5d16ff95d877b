import pytest

from monitor.domain.counts import Cell, Counts, bucket_of, merge
from monitor.domain.slices import Groups
from monitor.domain.verdict import (
    LEAST_LABELS,
    Answer,
    Finding,
    Verdict,
    VerdictLimits,
    verdict_of,
)
from tests.builders import URGENT, outcomes

GROUPS = Groups({"urgent": URGENT})
LIMITS = VerdictLimits(recall={"urgent": 0.80}, precision={"urgent": 0.60}, relevance=0.7)


def timed(milliseconds: float, count: int = 100) -> Counts:
    return Counts({("latency", str(bucket_of(milliseconds))): count})


def judged(share: float, count: int = 100) -> Counts:
    cells: dict[Cell, int] = {
        ("relevance", "n"): count,
        ("relevance", "micros"): round(share * 1e6) * count,
    }
    return Counts(cells)


def traffic(
    *,
    urgent: tuple[int, int] = (196, 200),
    others: tuple[int, int] = (980, 1_000),
    false_alarms: int = 0,
) -> Counts:
    """``(right, all)`` of urgent and of other outcomes; so many others went to an urgent intent."""
    return outcomes(
        {
            ("lost_card", "lost_card"): urgent[0],
            ("lost_card", "greeting"): urgent[1] - urgent[0],
            ("balance", "balance"): others[0],
            ("balance", "greeting"): others[1] - others[0],
            ("balance", "lost_card"): false_alarms,
        }
    )


def verdict(*parts: Counts, limits: VerdictLimits = LIMITS) -> Verdict:
    return verdict_of(merge(parts), GROUPS, limits)


def finding(found: Verdict, name: str) -> Finding:
    return {reason.name: reason.finding for reason in found.reasons}[name]


FAST, RELEVANT = timed(120), judged(0.9)


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ([traffic(), FAST, RELEVANT], Answer.FIT),
        ([traffic(urgent=(24, 200)), FAST, RELEVANT], Answer.NOT_FIT),
        ([traffic(others=(300, 1_000)), FAST, RELEVANT], Answer.NOT_FIT),
        ([traffic(false_alarms=400), FAST, RELEVANT], Answer.NOT_FIT),
        ([traffic(), timed(2_000), RELEVANT], Answer.NOT_FIT),
        ([traffic(), FAST, judged(0.5)], Answer.NOT_FIT),
        ([traffic(urgent=(19, 20)), FAST, RELEVANT], Answer.NOT_ENOUGH_EVIDENCE),
        ([traffic(urgent=(0, 3)), FAST, RELEVANT], Answer.NOT_ENOUGH_EVIDENCE),
        ([traffic(urgent=(0, 0)), FAST, RELEVANT], Answer.NOT_ENOUGH_EVIDENCE),
        ([traffic(), RELEVANT], Answer.NOT_ENOUGH_EVIDENCE),
        ([traffic(), FAST], Answer.NOT_ENOUGH_EVIDENCE),
        ([FAST, RELEVANT], Answer.NOT_ENOUGH_EVIDENCE),
        ([], Answer.NOT_ENOUGH_EVIDENCE),
        ([traffic(urgent=(24, 200))], Answer.NOT_FIT),
    ],
    ids=[
        "all limits met",
        "recall missed though accuracy is good",
        "accuracy bad",
        "precision missed",
        "too slow",
        "not relevant",
        "19 of 20 does not exclude 80 %",
        "three urgent labels, all missed",
        "no urgent label",
        "latency not reported",
        "relevance not reported",
        "no labels",
        "nothing",
        "one missed limit decides even where others are open",
    ],
)
def test_verdict_follows_from_its_limits(parts: list[Counts], answer: Answer) -> None:
    assert verdict(*parts).answer is answer


def test_good_accuracy_does_not_hide_failing_urgent_intents() -> None:
    found = verdict(traffic(urgent=(12, 100), others=(4_900, 4_900)), FAST, RELEVANT)
    assert found.answer is Answer.NOT_FIT
    assert finding(found, "accuracy") is Finding.MET
    assert finding(found, "recall of urgent") is Finding.MISSED


@pytest.mark.parametrize(
    ("labels", "found"), [(LEAST_LABELS - 1, Finding.OPEN), (LEAST_LABELS, Finding.MISSED)]
)
def test_proportion_is_judged_from_thirty_labels_on(labels: int, found: Finding) -> None:
    missed = verdict(traffic(urgent=(0, labels)), FAST, RELEVANT)
    assert finding(missed, "recall of urgent") is found


@pytest.mark.parametrize(
    ("right", "found"),
    [
        (950, Finding.MET),
        (850, Finding.OPEN),
        (700, Finding.OPEN),
        (600, Finding.OPEN),
        (500, Finding.MISSED),
    ],
)
def test_accuracy_is_met_above_good_and_missed_only_below_bad(right: int, found: Finding) -> None:
    assert (
        finding(verdict(outcomes({("a", "a"): right, ("a", "b"): 1_000 - right})), "accuracy")
        is found
    )


def test_limit_that_is_not_set_is_not_judged() -> None:
    found = verdict(traffic(), FAST, limits=VerdictLimits())
    assert [reason.name for reason in found.reasons] == ["accuracy", "latency p95"]
    assert found.answer is Answer.FIT


def test_latency_exactly_at_its_limit_is_met() -> None:
    slow = timed(500)
    exact = slow.latency_ms(0.95)
    assert exact is not None
    met = verdict(traffic(), slow, limits=VerdictLimits(latency_p95_ms=exact))
    assert finding(met, "latency p95") is Finding.MET


def test_reasons_name_missed_limits_first_then_open_ones() -> None:
    found = verdict(traffic(urgent=(24, 100)), RELEVANT)
    assert [(reason.name, str(reason.finding)) for reason in found.reasons] == [
        ("recall of urgent", "missed"),
        ("accuracy paradox", "missed"),
        ("precision of urgent", "open"),
        ("balance of urgent", "open"),
        ("latency p95", "open"),
        ("accuracy", "met"),
        ("relevance", "met"),
    ]


def test_reason_carries_value_limit_interval_and_count() -> None:
    (reason,) = [
        r for r in verdict(traffic(urgent=(24, 200))).reasons if r.name == "recall of urgent"
    ]
    assert (reason.value, reason.limit, reason.n) == (0.12, 0.80, 200)
    assert reason.interval is not None
    assert reason.interval[0] < 0.12 < reason.interval[1] < 0.80
    assert reason.text == (
        "recall of urgent 12.0% (95 % interval 8.2% to 17.2%, n=200) stays below 80.0%"
    )


def test_reason_without_data_has_no_value() -> None:
    for reason in verdict().reasons:
        assert (reason.finding, reason.value, reason.interval, reason.n) == (
            Finding.OPEN,
            None,
            None,
            0,
        )
