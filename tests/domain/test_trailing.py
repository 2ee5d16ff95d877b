"""When the verdict changed: the same judgement at every full hour.

hours      0    1    2    3    4    5    6
window           [---- 2 hours ----)
                 1         T = 3
"""

import pytest

from monitor.domain.counts import Counts, bucket_of, merge
from monitor.domain.slices import Groups
from monitor.domain.trailing import Change, changes_of, window_at
from monitor.domain.verdict import Answer, Evidence, VerdictLimits, evidence_of, judged
from monitor.domain.windows import HOUR_MS, Window
from tests.builders import T0, URGENT, outcomes

LIMITS = VerdictLimits(recall={"urgent": 0.8})
FAST = Counts({("latency", str(bucket_of(100))): 100})


def hour(hits: int, misses: int, others: int = 1_000) -> Evidence:
    """What is known of one hour."""
    counts = outcomes(
        {
            ("lost_card", "lost_card"): hits,
            ("lost_card", "balance"): misses,
            ("balance", "balance"): others,
        }
    )
    return evidence_of(merge([counts, FAST]), Groups({"urgent": URGENT}), ["urgent"])


OPEN = "not_enough_evidence"
GOOD, BAD, FEW = hour(50, 0), hour(5, 45), hour(3, 0)


def told(hours: dict[int, Evidence], window: int | None, until: int = 24) -> list[tuple[int, str]]:
    """Hours from the start -> the answer from then on."""
    found = changes_of(
        {T0 + start * HOUR_MS: evidence for start, evidence in hours.items()},
        LIMITS,
        window_ms=None if window is None else window * HOUR_MS,
        until_ms=T0 + until * HOUR_MS,
    )
    return [((change.at_ms - T0) // HOUR_MS, change.verdict.answer.value) for change in found]


@pytest.mark.parametrize(
    ("hours", "window", "changes"),
    [
        ({}, 1, []),
        ({0: FEW}, 1, [(1, OPEN)]),
        ({0: GOOD, 1: GOOD, 2: BAD}, 1, [(1, "fit"), (3, "not_fit"), (4, OPEN)]),
        ({0: GOOD, 1: BAD, 2: GOOD}, 1, [(1, "fit"), (2, "not_fit"), (3, "fit"), (4, OPEN)]),
        ({0: GOOD, 1: GOOD, 2: BAD}, None, [(1, "fit"), (3, "not_fit")]),
        ({0: GOOD, 9: GOOD}, 2, [(1, "fit"), (3, OPEN), (10, "fit"), (12, OPEN)]),
        ({2: BAD, 0: GOOD}, None, [(1, "fit"), (3, "not_fit")]),
    ],
    ids=["nothing", "few", "falls", "falls and rises", "all hours", "a gap", "in any order"],
)
def test_verdict_changes_at_the_full_hour_at_which_an_hour_enters_or_leaves(
    hours: dict[int, Evidence], window: int | None, changes: list[tuple[int, str]]
) -> None:
    assert told(hours, window) == changes


def test_nothing_after_the_end_of_the_window_is_told() -> None:
    assert told({0: GOOD, 1: BAD}, 1, until=1) == [(1, "fit")]


def test_what_was_before_the_beginning_is_in_the_window_and_not_told() -> None:
    hours = {T0: GOOD, T0 + HOUR_MS: FEW, T0 + 2 * HOUR_MS: BAD}
    found = changes_of(
        hours,
        LIMITS,
        window_ms=2 * HOUR_MS,
        until_ms=T0 + 3 * HOUR_MS,
        since_ms=T0 + 2 * HOUR_MS,
    )
    assert [(c.at_ms, c.verdict.answer) for c in found] == [
        (T0 + 2 * HOUR_MS, Answer.FIT),
        (T0 + 3 * HOUR_MS, Answer.NOT_FIT),
    ]


def test_each_change_carries_the_verdict_on_the_hours_of_its_window() -> None:
    hours = {T0: GOOD, T0 + HOUR_MS: BAD, T0 + 2 * HOUR_MS: BAD}
    found = changes_of(hours, LIMITS, window_ms=2 * HOUR_MS, until_ms=T0 + 3 * HOUR_MS)
    both = hour(55, 45, 2_000)
    both.add(evidence_of(FAST, Groups({}), []))
    assert found[-1] == Change(T0 + 2 * HOUR_MS, judged(both, LIMITS))
    assert found[-1].verdict.answer is Answer.NOT_FIT


def test_window_ends_at_its_end_and_is_as_long_as_it_was_set() -> None:
    assert window_at(T0, 2 * HOUR_MS, T0 - 9 * HOUR_MS) == Window(T0 - 2 * HOUR_MS, T0)
    assert window_at(T0, None, T0 - 9 * HOUR_MS) == Window(T0 - 9 * HOUR_MS, T0)
    assert window_at(T0, None, T0 + HOUR_MS) == Window(T0, T0)
