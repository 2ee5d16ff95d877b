from collections.abc import Callable, Iterator
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain import maturity
from monitor.domain.maturity import (
    BIAS,
    CAP_MS,
    COHORTS,
    DAY_MS,
    EDGES_MS,
    FIRST_MS,
    HOUR_MS,
    LEAST_MISSES,
    Bins,
    Change,
    MaturityBook,
    balanced,
    bin_of,
    estimate,
)
from tests.builders import T0
from tests.domain.facts import REPEATABLE

Delay = Callable[[Random, bool], float]
"""Dice and whether it is a hit -> hours until the label."""

OBJECTIVE = 0.80


def kept(delay: Delay, *, days: int = 21, per_day: int = 400) -> tuple[MaturityBook, list[Change]]:
    """A book after labels of a steady stream at recall 0.92, in the order in which they came."""
    dice, labels = Random(3), list[tuple[int, int, bool]]()
    for number in range(days * per_day):
        event_ms = T0 + number * DAY_MS // per_day
        hit = dice.random() < 0.92
        labels.append((event_ms + int(delay(dice, hit) * HOUR_MS), event_ms, hit))
    book, changes = MaturityBook(), list[Change]()
    for known_ms, event_ms, hit in sorted(labels):
        changes += book.observe(known_ms, event_ms, hit, OBJECTIVE)
    return book, changes


def test_delays_that_do_not_depend_on_the_outcome_need_no_waiting() -> None:
    book, _ = kept(lambda dice, _: dice.expovariate(1 / 5))
    assert book.maturity_ms <= 90 * 60_000


@pytest.mark.parametrize("late", [True, False], ids=["hits late", "misses late"])
def test_labels_late_for_one_outcome_are_waited_for(late: bool) -> None:
    book, _ = kept(
        lambda dice, hit: dice.expovariate(1 / 2) + 12 if hit is late else dice.expovariate(1)
    )
    assert 13 * HOUR_MS <= book.maturity_ms <= 20 * HOUR_MS


def test_pooled_quantile_does_not_decide() -> None:
    """Misses are 8 % of the labels: a pooled 95 % delay would be that of the hits nearly alone."""
    book, _ = kept(lambda dice, hit: 1.0 if hit else 48.0 + dice.random())
    assert book.maturity_ms > 48 * HOUR_MS


@pytest.mark.parametrize(
    ("misses_so_far", "maturity"),
    [(88, "out of bounds"), (89, "in bounds"), (113, "in bounds"), (115, "out of bounds")],
)
def test_bounds_at_eighty_percent_are_those_of_two_points(
    misses_so_far: int, maturity: str
) -> None:
    # Hits: all at once. Misses: a share at once, the rest after two hours. G_hit / G_miss stays
    # within 0.886 and 1.139 while it is at least 88 % of them; the mirror has hits late.
    now, later = bin_of(HOUR_MS), bin_of(2 * HOUR_MS)
    if misses_so_far <= 100:
        hits, misses = {now: 1_000}, {now: misses_so_far * 10, later: 1_000 - misses_so_far * 10}
    else:
        share = round(100_000 / misses_so_far)
        hits, misses = {now: 1_000}, {now: share, later: 1_000 - share}
    ratio = 1_000 / misses[now]
    least, most = (maturity_ratio(OBJECTIVE + sign * BIAS) for sign in (-1, 1))
    assert [least, most] == pytest.approx([0.886, 1.139], abs=1e-3)
    waits = balanced(hits, misses, OBJECTIVE) > 2 * HOUR_MS
    assert waits is not (least <= ratio <= most)


def maturity_ratio(share: float) -> float:
    return share / (1 - share) / (OBJECTIVE / (1 - OBJECTIVE))


def test_few_misses_fall_back_to_the_longer_delay_of_the_two() -> None:
    short, long = bin_of(HOUR_MS), bin_of(10 * HOUR_MS)
    day = T0 // DAY_MS
    hits, misses = {day: {short: 10_000}}, {day: {long: LEAST_MISSES - 1}}
    found, ground = estimate(hits, misses, T0 + 20 * DAY_MS, OBJECTIVE)
    assert found == EDGES_MS[long]
    assert "199 misses of days whose labels are complete" in ground
    misses[day][long] += 1
    _, ground = estimate(hits, misses, T0 + 20 * DAY_MS, OBJECTIVE)
    assert "by 200 misses" in ground


def test_delays_of_the_first_days_are_not_believed_below_a_day() -> None:
    """Slow labels are still to come, so what has been seen is too quick."""
    day = T0 // DAY_MS
    hits: dict[int, Bins] = {day: {bin_of(HOUR_MS): 100}}
    assert estimate(hits, {}, T0 + HOUR_MS, OBJECTIVE)[0] == FIRST_MS
    slow: dict[int, Bins] = {day: {bin_of(40 * HOUR_MS): 9}}
    assert estimate(hits, slow, T0 + 50 * HOUR_MS, OBJECTIVE)[0] == EDGES_MS[bin_of(40 * HOUR_MS)]


def test_no_misses_at_all_fall_back_to_the_delay_of_the_hits() -> None:
    hits = {T0 // DAY_MS: {bin_of(HOUR_MS): 100}}
    assert estimate(hits, {}, T0 + 20 * DAY_MS, OBJECTIVE)[0] == EDGES_MS[bin_of(HOUR_MS)]


def test_cohorts_whose_labels_may_still_come_are_left_out() -> None:
    early, late = T0 // DAY_MS, T0 // DAY_MS + 10
    at_ms = (late + 1) * DAY_MS
    slow = {bin_of(20 * HOUR_MS): 300}
    both: dict[int, Bins] = {early: dict(slow), late: {0: 300}}
    assert "so far" not in estimate(both, {early: dict(slow)}, at_ms, OBJECTIVE)[1]
    assert "so far" in estimate({late: {0: 9}}, {late: dict(slow)}, at_ms, OBJECTIVE)[1]


@pytest.mark.parametrize("hours", [200.0, 1_000.0])
def test_maturity_is_a_week_at_most(hours: float) -> None:
    day = T0 // DAY_MS
    number = bin_of(int(hours * HOUR_MS))
    hits: dict[int, Bins] = {day: {0: 1_000}}
    misses: dict[int, Bins] = {day: {number: 500}}
    at_ms = T0 + 60 * DAY_MS
    assert estimate(hits, misses, at_ms, OBJECTIVE)[0] <= CAP_MS


def test_first_day_waits_a_day() -> None:
    book = MaturityBook()
    assert list(book.observe(T0, T0, True, OBJECTIVE)) == []
    assert (book.maturity_ms, book.next_ms) == (FIRST_MS, T0 + FIRST_MS)


def test_maturity_is_frozen_between_daily_and_later_weekly_estimates() -> None:
    def shifting(dice: Random, hit: bool) -> float:
        return dice.expovariate(1 / 2) + (0 if hit else dice.choice([1, 5, 20]))

    _, changes = kept(shifting, days=40)
    first_ms = min(change.at_ms for change in changes) - DAY_MS
    passed = [change.at_ms - first_ms for change in changes]
    assert all(ms % DAY_MS == 0 for ms in passed)
    assert all((ms - 8 * DAY_MS) % (7 * DAY_MS) == 0 for ms in passed if ms > 8 * DAY_MS)


def test_changes_are_numbered_and_say_why() -> None:
    book, changes = kept(lambda dice, hit: dice.expovariate(1) + (0 if hit else 12))
    assert [change.number for change in changes] == list(range(1, book.changes + 1))
    assert changes[-1].maturity_ms == book.maturity_ms
    assert changes[0].reason.startswith("maturity is now ")
    assert "was 24 h 0 min" in changes[0].reason


def test_only_the_last_four_weeks_are_remembered() -> None:
    book, _ = kept(lambda dice, _: dice.expovariate(1), days=60, per_day=40)
    last = max(book.hits)
    assert min(book.hits) > last - COHORTS - 1
    assert max(len(book.hits), len(book.misses)) <= COHORTS


def test_copy_changes_alone() -> None:
    book, _ = kept(lambda dice, _: dice.expovariate(1), days=3)
    other = book.copy()
    assert other == book
    list(other.observe(T0 + 9 * DAY_MS, T0 + 8 * DAY_MS, False, OBJECTIVE))
    assert other != book
    assert other.misses.keys() != book.misses.keys()


def test_book_read_back_from_json_is_the_same() -> None:
    book, _ = kept(lambda dice, _: dice.expovariate(1), days=3)
    assert msgspec.json.decode(msgspec.json.encode(book), type=MaturityBook) == book


def test_edges_reach_from_half_a_minute_to_a_week() -> None:
    assert EDGES_MS[0] == 30_000
    assert EDGES_MS[-1] >= CAP_MS
    assert list(EDGES_MS) == sorted(set(EDGES_MS))


@REPEATABLE
@given(st.integers(-HOUR_MS, 30 * DAY_MS))
def test_every_delay_has_the_least_bin_that_holds_it(delay_ms: int) -> None:
    number = bin_of(delay_ms)
    assert delay_ms <= EDGES_MS[number] or number == len(EDGES_MS) - 1
    assert number == 0 or delay_ms > EDGES_MS[number - 1]


def bins() -> st.SearchStrategy[Bins]:
    return st.dictionaries(
        st.integers(0, len(EDGES_MS) - 1), st.integers(1, 500), min_size=1, max_size=6
    )


@REPEATABLE
@given(bins(), bins(), st.sampled_from([0.5, 0.8, 0.9, 0.99]))
def test_from_the_balanced_age_on_the_ratio_stays_in_bounds(
    hits: Bins, misses: Bins, objective: float
) -> None:
    age_ms = balanced(hits, misses, objective)
    odds = objective / (1 - objective)
    least, most = (
        (objective + d) / (1 - objective - d) / odds for d in (-BIAS, min(BIAS, 0.999 - objective))
    )
    for edge_ms, ratio in ratios(hits, misses):
        if edge_ms >= age_ms and ratio is not None:
            assert least - 1e-9 <= ratio <= most + 1e-9


def ratios(hits: Bins, misses: Bins) -> Iterator[tuple[int, float | None]]:
    seen_hits = seen_misses = 0
    for number, edge_ms in enumerate(EDGES_MS):
        seen_hits += hits.get(number, 0)
        seen_misses += misses.get(number, 0)
        g_hit, g_miss = seen_hits / sum(hits.values()), seen_misses / sum(misses.values())
        yield edge_ms, (g_hit / g_miss if g_miss else None)


def test_no_label_of_one_class_yet_is_no_balance() -> None:
    late = {bin_of(10 * HOUR_MS): 300}
    assert balanced({0: 300}, late, OBJECTIVE) >= 10 * HOUR_MS
    assert balanced(late, {0: 300}, OBJECTIVE) >= 10 * HOUR_MS
    assert maturity.balanced({0: 300}, {0: 300}, OBJECTIVE) == 0
