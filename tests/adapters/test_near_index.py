"""What the index finds beside what comparing each pair finds, and of planted duplicates."""

import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.planted import messages, planted
from monitor.adapters.near_index import LOST, PERMUTATIONS, Near, NearIndex, lost, rows_of
from monitor.domain.likeness import THRESHOLD, jaccard, shingles

WORDS = st.sampled_from(
    ("i", "my", "the", "lost", "card", "block", "order", "new", "stolen", "fee")
)
TEXTS = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
CERTAIN = 0.9
"""At this similarity one pair in a billion shares no band."""


def nearest_of_all(texts: list[str], asked: str) -> Near:
    """The first of the most similar ones, by comparing each."""
    found = [jaccard(shingles(text), shingles(asked)) for text in texts]
    return Near(found.index(max(found)), max(found))


def index_of(texts: list[str], threshold: float = THRESHOLD) -> NearIndex:
    index = NearIndex(threshold)
    for text in texts:
        index.add(text)
    return index


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=30), TEXTS)
def test_what_is_found_is_as_similar_as_it_says_and_nothing_much_like_is_passed_over(
    texts: list[str], asked: str
) -> None:
    found, best = index_of(texts).nearest(asked), nearest_of_all(texts, asked)
    if found is not None:
        assert found.similarity >= THRESHOLD
        assert found.similarity == jaccard(shingles(texts[found.number]), shingles(asked))
    if best.similarity >= CERTAIN:
        assert found == best


@pytest.mark.parametrize("threshold", [0.5, 0.6, THRESHOLD, 0.8, 0.9, 1.0])
def test_of_pairs_at_the_threshold_no_more_is_lost_than_is_said(threshold: float) -> None:
    rows = rows_of(threshold)
    assert lost(threshold, rows) <= LOST
    assert rows <= PERMUTATIONS


@pytest.mark.parametrize("threshold", [0.6, THRESHOLD, 0.8])
def test_the_index_misses_at_most_one_in_200_of_what_comparing_all_pairs_finds(
    threshold: float,
) -> None:
    dice = random.Random(5)
    training = messages(dice, 600)
    index = index_of(training, threshold)
    asked = [text for _, text, _ in planted(dice, training, 40)]
    truth = [nearest_of_all(training, text) for text in asked]
    there = [(at, best) for at, best in enumerate(truth) if best.similarity >= threshold]
    missed = [at for at, best in there if index.nearest(asked[at]) != best]
    assert len(there) > 200
    assert len(missed) <= len(there) / 200
    beyond = [text for text, best in zip(asked, truth, strict=True) if best.similarity < threshold]
    assert [text for text in beyond if index.nearest(text) is not None] == []


def test_planted_duplicates_are_found_and_requests_that_begin_alike_are_not() -> None:
    dice = random.Random(7)
    training = messages(dice, 5_000)
    index = index_of(training)
    found: dict[tuple[str, bool], list[bool]] = {}
    for kind, text, is_edited in planted(dice, training, 100):
        found.setdefault((kind, is_edited), []).append(index.nearest(text) is not None)
    shares = {kind: sum(hits) / len(hits) for kind, hits in found.items()}
    edited = [share for (_, is_edited), share in shares.items() if is_edited]
    assert shares["letter case", True] == shares["punctuation", True] == 1.0
    assert shares["two typing errors", True] >= 0.90
    assert min(edited) >= 0.90
    assert shares["same start, other request", False] <= 0.03
    recall = sum(edited) / len(edited)
    wrong = sum(share for (_, is_edited), share in shares.items() if not is_edited)
    precision = sum(edited) / (sum(edited) + wrong)
    assert (recall >= 0.98, precision >= 0.98) == (True, True)


def test_of_equally_similar_texts_the_first_one_is_named() -> None:
    index = index_of(["block my card", "Block my card!", "block my card."])
    assert index.nearest("BLOCK MY CARD") == Near(0, 1.0)


def test_texts_may_be_added_after_some_were_asked_for() -> None:
    index = NearIndex()
    assert index.nearest("block my card") is None
    index.add("order a cheque")
    assert index.nearest("block my card") is None
    index.add("block my card")
    assert index.nearest("block my card") == Near(1, 1.0)
    assert len(index) == 2


def test_a_text_without_a_word_is_near_nothing() -> None:
    index = index_of(["!?", "block my card"])
    assert index.nearest("??") is None
    assert index.nearest("block my card") == Near(1, 1.0)


ASKED = """
import random
from benchmarks.planted import messages, planted
from monitor.adapters.near_index import NearIndex
dice = random.Random(3)
training = messages(dice, 300)
index = NearIndex(0.5)
for text in training:
    index.add(text)
print([index.nearest(text) for _, text, _ in planted(dice, training, 20)])
"""


def test_every_hash_seed_finds_the_same() -> None:
    answers = {
        subprocess.run(
            [sys.executable, "-c", ASKED],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(answers) == 1
