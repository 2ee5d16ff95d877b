import pytest

from monitor.domain.counts import Counts
from monitor.domain.intervals import wilson
from monitor.domain.leakage import (
    Asked,
    Finding,
    Kin,
    Kinship,
    LeakageCheck,
    answer_of,
    check_of,
    checks_of,
)
from monitor.domain.slices import ALL, Groups
from tests.builders import URGENT, outcomes

GROUPS = Groups({"urgent": URGENT})
ASKED = Asked(limit=0.01)


def unlabelled(count: int) -> Counts:
    return Counts({("prediction", "balance"): count})


def checked(kin: Kin, asked: Asked = ASKED) -> LeakageCheck:
    return check_of("fine_tuned", kin, GROUPS, asked)


def test_the_leaked_share_counts_exact_and_near_ones_of_all_predictions() -> None:
    kin = {
        Kinship.COPY: unlabelled(20),
        Kinship.COPY_BY_HASH: unlabelled(10),
        Kinship.NEAR: unlabelled(15),
        Kinship.NEW: unlabelled(955),
    }
    share = checked(kin).share
    assert (share.copies, share.near, share.open, share.n) == (30, 15, 0, 1000)
    assert (share.value, share.interval) == (0.045, wilson(45, 1000))


@pytest.mark.parametrize(
    ("leaked", "n", "expected"),
    [
        (0, 10_000, Finding.WITHIN),
        (50, 10_000, Finding.WITHIN),
        (100, 10_000, Finding.OPEN),
        (200, 10_000, Finding.ABOVE),
        (0, 100, Finding.OPEN),
        (10, 100, Finding.ABOVE),
    ],
)
def test_the_limit_is_judged_by_the_interval(leaked: int, n: int, expected: Finding) -> None:
    kin = {Kinship.COPY: unlabelled(leaked), Kinship.NEW: unlabelled(n - leaked)}
    assert checked(kin).finding is expected


def test_near_duplicates_are_unknown_never_0_when_messages_carry_no_text() -> None:
    kin = {Kinship.COPY_BY_HASH: unlabelled(5), Kinship.NO_COPY_BY_HASH: unlabelled(9_995)}
    found = checked(kin)
    assert found.share.near is None
    assert found.finding is Finding.OPEN
    assert "near duplicates: unknown, live messages carry no text" in found.text
    assert "at least 0.05%" in found.text


def test_hashes_alone_are_enough_when_only_exact_duplicates_are_asked_for() -> None:
    kin = {Kinship.COPY_BY_HASH: unlabelled(5), Kinship.NO_COPY_BY_HASH: unlabelled(9_995)}
    found = checked(kin, Asked(limit=0.01, near=False))
    assert (found.share.open, found.share.near, found.finding) == (0, None, Finding.WITHIN)


def test_exact_duplicates_above_the_limit_are_above_it_whatever_the_near_ones_are() -> None:
    kin = {Kinship.COPY_BY_HASH: unlabelled(500), Kinship.NO_COPY_BY_HASH: unlabelled(9_500)}
    assert checked(kin).finding is Finding.ABOVE


def test_messages_that_tell_nothing_widen_the_interval_upwards_and_never_pass() -> None:
    kin = {Kinship.NEW: unlabelled(9_000), Kinship.UNKNOWN: unlabelled(1_000)}
    found = checked(kin)
    assert found.share.interval == (wilson(0, 10_000)[0], wilson(1_000, 10_000)[1])
    assert found.finding is Finding.OPEN


@pytest.mark.parametrize("kin", [{}, {Kinship.UNKNOWN: unlabelled(100)}])
def test_nothing_to_compare_is_no_share(kin: Kin) -> None:
    found = checked(kin)
    assert (found.share.value, found.share.interval, found.finding) == (None, None, Finding.OPEN)


def test_metrics_stand_with_the_leaked_ones_without_them_and_of_them_alone() -> None:
    leaked = outcomes({("lost_card", "lost_card"): 8, ("balance", "balance"): 12})
    new = outcomes(
        {
            ("lost_card", "lost_card"): 2,
            ("lost_card", "balance"): 8,
            ("balance", "balance"): 10,
        }
    )
    found = checked({Kinship.NEAR: leaked, Kinship.NEW: new})
    assert (found.all.accuracy.value, found.all.accuracy.support) == (0.8, 40)
    assert (found.leaked.accuracy.value, found.leaked.accuracy.support) == (1.0, 20)
    assert (found.without.accuracy.value, found.without.accuracy.support) == (0.6, 20)
    assert found.all.groups["urgent"].recall.value == 10 / 18
    assert found.without.groups["urgent"].recall.value == 0.2
    assert found.without.groups["urgent"].recall.interval == wilson(2, 10)
    assert found.groups["urgent"].value == 8 / 18


def test_a_group_without_labels_has_no_scores() -> None:
    found = checked({Kinship.NEW: unlabelled(100)})
    assert found.all.accuracy.value is None
    assert found.all.groups["urgent"].recall.value is None
    assert found.groups["urgent"].value is None


def test_all_is_the_sum_and_the_answer_is_that_of_the_variants() -> None:
    clean: Kin = {Kinship.NEW: unlabelled(100_000)}
    dirty: Kin = {Kinship.COPY: unlabelled(50), Kinship.NEW: unlabelled(950)}
    checks = checks_of({"prompt": clean, "fine_tuned": dirty}, GROUPS, ASKED)
    assert [check.variant for check in checks] == [ALL, "fine_tuned", "prompt"]
    assert (checks[0].share.n, checks[0].finding) == (101_000, Finding.WITHIN)
    assert answer_of(checks) is Finding.ABOVE
    assert answer_of(checks_of({"prompt": clean}, GROUPS, ASKED)) is Finding.WITHIN


def test_one_open_variant_leaves_the_answer_open_and_so_does_none() -> None:
    few: Kin = {Kinship.NEW: unlabelled(3)}
    clean: Kin = {Kinship.NEW: unlabelled(10_000)}
    assert answer_of(checks_of({"a": few, "b": clean}, GROUPS, ASKED)) is Finding.OPEN
    assert answer_of(checks_of({}, GROUPS, ASKED)) is Finding.OPEN
