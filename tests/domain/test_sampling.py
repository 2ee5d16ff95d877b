"""Which ids a sample keeps: known answers, no bias, and nothing in common with other hashes."""

import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import compress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.sampling import EVERY, in_words, is_kept, kept
from monitor.ports import shard_of

SHARES = st.floats(min_value=0, max_value=1, exclude_min=True)
IDS = st.lists(st.text(min_size=1, max_size=20, alphabet=st.characters(codec="utf-8")))
MANY = 50_000
"""Made-up ids of each form."""

FORMS: dict[str, Callable[[int], str]] = {
    "counted": "{}".format,
    "in hexadecimal": "{:016x}".format,
    "with a prefix": "conversation-2026-11-23/turn-{:09}".format,
    "spread": lambda number: f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}",
}
KNOWN = {
    0.5: ["p0", "p3", "p9", "p20"],
    0.1: ["p9"],
}
"""Of p0 to p20 those that are kept: an answer that must never change, or audits fail."""


@cache
def made(form: str) -> list[str]:
    return list(map(FORMS[form], range(MANY)))


@cache
def sampled(form: str, share: float) -> list[bool]:
    return kept(made(form), share)


def chi_square(found: Sequence[int], expected: Sequence[float]) -> float:
    return sum((n - e) ** 2 / e for n, e in zip(found, expected, strict=True))


def bound(cells: int) -> float:
    """What chi-square exceeds once in a million, by Wilson and Hilferty; one cell is fixed."""
    freedom = cells - 1
    return float(freedom * (1 - 2 / (9 * freedom) + 4.753 * math.sqrt(2 / (9 * freedom))) ** 3)


@pytest.mark.parametrize("share", KNOWN)
def test_which_ids_are_kept_is_known_and_never_changes(share: float) -> None:
    ids = [f"p{number}" for number in range(21)]
    assert [i for i, is_one in zip(ids, kept(ids, share), strict=True) if is_one] == KNOWN[share]


def test_an_id_that_is_not_ascii_has_a_known_answer_too() -> None:
    ids = [f"requête-{number}" for number in range(20)]
    assert [number for number, is_one in enumerate(kept(ids, 0.25)) if is_one] == [
        0,
        8,
        10,
        11,
        12,
        17,
    ]


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("form", FORMS)
def test_the_share_kept_is_the_share_asked_for_whatever_ids_look_like(
    form: str, share: float
) -> None:
    n = sum(sampled(form, share))
    assert abs(n - MANY * share) < 4.9 * math.sqrt(MANY * share * (1 - share))


@given(IDS, SHARES)
def test_many_at_once_are_kept_as_each_alone(ids: list[str], share: float) -> None:
    assert kept(ids, share) == [is_kept(each, share) for each in ids]


@given(st.text(min_size=1, alphabet=st.characters(codec="utf-8")), SHARES, SHARES)
def test_a_smaller_share_keeps_a_part_of_what_a_larger_one_keeps(
    prediction_id: str, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    assert is_kept(prediction_id, small) <= is_kept(prediction_id, large)


@given(IDS)
def test_the_whole_keeps_every_id(ids: list[str]) -> None:
    assert all(kept(ids, EVERY))


@pytest.mark.parametrize("shards", [2, 7, 16, 64])
@pytest.mark.parametrize("form", FORMS)
def test_a_sample_spreads_over_shards_as_all_ids_do(form: str, shards: int) -> None:
    _check_spread(form, lambda prediction_id: shard_of(prediction_id, shards), shards)


@pytest.mark.parametrize("buckets", [2, 64, 1024])
@pytest.mark.parametrize("form", FORMS)
def test_a_sample_spreads_over_buckets_as_all_ids_do(form: str, buckets: int) -> None:
    def bucket_of(prediction_id: str) -> int:
        return zlib.adler32(prediction_id.encode()) * 2_654_435_761 % 2**32 % buckets

    _check_spread(form, bucket_of, buckets)


def _check_spread(form: str, part_of: Callable[[str], int], parts: int) -> None:
    """Each part keeps a tenth of what it has, but for chance."""
    share = 0.1
    homes = list(map(part_of, made(form)))
    everywhere, within = Counter(homes), Counter(compress(homes, sampled(form, share)))
    found = [within[part] for part in everywhere]
    left = [n - within[part] for part, n in everywhere.items()]
    expected = [n * share for n in everywhere.values()]
    rest = [n * (1 - share) for n in everywhere.values()]
    distance = chi_square(found + left, expected + rest)
    assert distance < bound(max(2, parts) + 1)


@pytest.mark.parametrize(
    ("share", "words"),
    [(1.0, ""), (0.1, "A 10 % sample of predictions: "), (0.07, "A 7 % sample of predictions: ")],
)
def test_a_sample_is_told_in_words_and_the_whole_is_not(share: float, words: str) -> None:
    assert in_words(share) == (words and f"{words}counts are of the sample.")
