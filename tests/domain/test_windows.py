import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.windows import (
    ALL_TIME,
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    Window,
    WindowSpec,
    is_final,
    pane_start,
    pane_starts,
)
from tests.domain.facts import REPEATABLE

#   pane [-60_000, 0)  |  pane [0, 60_000)        |  pane [60_000, 120_000)
#   ----------------- -1 0 ----------------- 59_999 60_000 -----------------


@pytest.mark.parametrize(
    ("instant_ms", "start_ms"),
    [(-60_001, -120_000), (-60_000, -60_000), (-1, -60_000), (0, 0), (59_999, 0), (60_000, 60_000)],
)
def test_pane_holds_its_start_and_not_its_end_also_before_the_epoch(
    instant_ms: int, start_ms: int
) -> None:
    assert pane_start(instant_ms, MINUTE_MS) == start_ms


def test_all_time_is_one_pane() -> None:
    assert {pane_start(instant_ms, ALL_TIME) for instant_ms in (-5, 0, 10**15)} == {0}


@REPEATABLE
@given(st.integers(-(10**15), 10**15), st.sampled_from([MINUTE_MS, HOUR_MS, DAY_MS]))
def test_every_instant_lies_in_exactly_the_pane_that_starts_where_it_says(
    instant_ms: int, size_ms: int
) -> None:
    start_ms = pane_start(instant_ms, size_ms)
    assert start_ms <= instant_ms < start_ms + size_ms
    assert start_ms % size_ms == 0


@REPEATABLE
@given(st.integers(-(10**15), 10**15))
def test_small_pane_lies_wholly_in_the_large_pane_of_its_start(instant_ms: int) -> None:
    small = pane_start(instant_ms, MINUTE_MS)
    assert pane_start(small, HOUR_MS) == pane_start(instant_ms, HOUR_MS)
    assert pane_start(small, DAY_MS) == pane_start(instant_ms, DAY_MS)


def test_window_is_made_of_the_panes_from_its_start_up_to_its_end() -> None:
    assert list(pane_starts(Window(0, 180_000), MINUTE_MS)) == [0, 60_000, 120_000]


def test_empty_window_has_no_pane() -> None:
    assert list(pane_starts(Window(60_000, 60_000), MINUTE_MS)) == []


#   start          end                        end + keep
#   |--- the pane ---|------- is kept ----------|  from here on it is dropped
#   0              60_000                     7 d + 60_000


@pytest.mark.parametrize(
    ("watermark_ms", "kept"),
    [(None, True), (0, True), (7 * DAY_MS + 59_999, True), (7 * DAY_MS + 60_000, False)],
)
def test_pane_is_kept_until_the_watermark_reaches_its_end_plus_retention(
    watermark_ms: int | None, kept: bool
) -> None:
    assert WindowSpec().is_kept(MINUTE_MS, 0, watermark_ms) is kept


def test_all_time_is_always_kept() -> None:
    assert WindowSpec().is_kept(ALL_TIME, 0, 10**15)


#   [ window )----- labels mature -----|
#   0      60_000                 60_000 + 6 h : final from here on


@pytest.mark.parametrize(
    ("watermark_ms", "final"), [(6 * HOUR_MS + 59_999, False), (6 * HOUR_MS + 60_000, True)]
)
def test_window_is_final_once_the_labels_of_its_last_prediction_are_mature(
    watermark_ms: int, final: bool
) -> None:
    window = Window(0, 60_000)
    assert is_final(window, maturity_ms=6 * HOUR_MS, watermark_ms=watermark_ms) is final
