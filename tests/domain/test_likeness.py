import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.likeness import HashedForm, Hashing, HashScheme, jaccard, shingles, words_of

TEXTS = st.text(max_size=40)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("i lost my card", "I LOST my Card!!"),
        ("i lost my card", "  i  lost\tmy card. "),
        ("i lost my café card", "i lost my cafe\u0301 card"),
        ("straße gesperrt", "STRASSE GESPERRT"),
        ("ｃａｒｄ lost", "card lost"),
    ],
)
def test_case_punctuation_blanks_and_encoding_make_no_difference(text: str, same: str) -> None:
    assert jaccard(shingles(text), shingles(same)) == 1.0


def test_texts_without_a_word_are_like_nothing() -> None:
    assert words_of(" ?! 👍 ") == []
    assert jaccard(shingles("?!"), shingles("?!")) == 0.0


def test_a_request_that_only_begins_alike_is_not_alike() -> None:
    start = "i would like to "
    assert jaccard(shingles(f"{start}block my card"), shingles(f"{start}order a cheque")) < 0.6


@given(TEXTS, TEXTS)
def test_similarity_is_symmetric_within_0_and_1_and_1_for_the_text_itself(
    one: str, other: str
) -> None:
    first, second = shingles(one), shingles(other)
    assert jaccard(first, second) == jaccard(second, first)
    assert 0 <= jaccard(first, second) <= 1
    assert jaccard(first, first) == (1.0 if words_of(one) else 0.0)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (HashScheme.SHA256_16, hashlib.sha256(b"Lost card ").hexdigest()[:16]),
        (HashScheme.SHA256, hashlib.sha256(b"Lost card ").hexdigest()),
        (HashScheme.SHA1, hashlib.sha1(b"Lost card ").hexdigest()),
        (HashScheme.MD5, hashlib.md5(b"Lost card ").hexdigest()),
    ],
)
def test_a_digest_is_that_of_its_scheme(scheme: HashScheme, expected: str) -> None:
    hashing = Hashing(scheme)
    assert hashing.of("Lost card ") == expected
    assert hashing.read(expected.upper()) == expected


@pytest.mark.parametrize(
    ("form", "hashed"),
    [
        (HashedForm.RAW, " Lost, card "),
        (HashedForm.TRIMMED, "Lost, card"),
        (HashedForm.LOWER, "lost, card"),
        (HashedForm.WORDS, "lost card"),
    ],
)
def test_what_is_hashed_is_the_form_that_was_asked_for(form: HashedForm, hashed: str) -> None:
    assert Hashing(form=form).of(" Lost, card ") == Hashing().of(hashed)


@pytest.mark.parametrize("digest", ["", "0f1e", "x" * 16, "0" * 64])
def test_a_digest_that_cannot_be_of_the_scheme_is_none(digest: str) -> None:
    assert Hashing().read(digest) is None
