"""How numbers, shares and instants are said."""

import doctest

import pytest

from dashboards import words
from monitor.domain.scores import proportion
from tests.dashboards.scenes import NOON_MS


def test_every_example_in_the_documentation_runs() -> None:
    assert doctest.testmod(words).failed == 0


def test_a_proportion_comes_with_interval_and_n() -> None:
    assert words.interval(proportion(80, 100)) == "95% interval 71–87%, n = 100"
    assert words.interval(proportion(0, 0)) == "n = 0"


def test_bounds_leave_n_to_the_words_around_them() -> None:
    assert words.bounds(proportion(9, 20)) == "95% interval 26–66%"
    assert words.bounds(proportion(0, 0)) == "–"


def test_thousands_are_set_apart_by_a_space_that_does_not_break() -> None:
    assert words.count(1_072_000) == "1\u202f072\u202f000"


def test_what_is_unknown_is_a_dash_and_never_zero() -> None:
    assert (words.percent(None), words.percent(0.0)) == ("–", "0.0%")


@pytest.mark.parametrize(
    ("at_ms", "said"), [(NOON_MS, "12:00 UTC"), (NOON_MS - 86_400_000, "2026-11-21 12:00 UTC")]
)
def test_a_time_of_another_day_names_the_day(at_ms: int, said: str) -> None:
    assert words.clock(at_ms, near_ms=NOON_MS) == said
