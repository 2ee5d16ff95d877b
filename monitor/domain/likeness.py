"""When two texts are the same, and how alike they are.

The same: equal digests, of the text as the classifier got it or of a plainer form. Alike: the sets
of their character trigrams, by Jaccard's similarity (common ones of all). Letter case, punctuation,
white space and how a character is encoded play no part in trigrams, so that texts which differ in
these alone have similarity 1. Chat messages are short: a typing error changes three trigrams of
some forty, but three of a dozen words, had words been compared.
"""

import hashlib
import re
import unicodedata
from enum import StrEnum
from typing import NamedTuple

SHINGLE_CHARS = 3
THRESHOLD = 0.75
"""Similarity from which on a text is near; docs/leakage.md has what it finds and mistakes."""

LIMIT = 0.01
"""Share of live messages that may be the same as or like a training text, unless said otherwise."""

LEAST_WORDS = 3
"""Shorter training texts are left out: everybody says "hello", and has not leaked it."""

_WORD = re.compile(r"\w+")
_HEXADECIMAL = re.compile(r"[0-9a-f]+")


class HashScheme(StrEnum):
    """Which digest of a text stands in a message, in hexadecimal digits, of either case."""

    SHA256_16 = "sha256-16"
    SHA256 = "sha256"
    SHA1 = "sha1"
    MD5 = "md5"


class HashedForm(StrEnum):
    """What of a text was hashed: all of it, without blanks around, that in lower case, its words.

    ``words`` are those of ``words_of``, with a blank between them.
    """

    RAW = "raw"
    TRIMMED = "trimmed"
    LOWER = "lower"
    WORDS = "words"


_DIGITS = {
    HashScheme.SHA256_16: 16,
    HashScheme.SHA256: 64,
    HashScheme.SHA1: 40,
    HashScheme.MD5: 32,
}


class Hashing(NamedTuple):
    """How digests of texts are made."""

    scheme: HashScheme = HashScheme.SHA256_16
    form: HashedForm = HashedForm.RAW

    def of(self, text: str) -> str:
        """The digest of a text.

        >>> Hashing().of("lost card"), Hashing(form=HashedForm.LOWER).of(" Lost card ")
        ('37772633334944e1', '37772633334944e1')
        """
        found = _formed(text, self.form).encode("utf-8", "surrogatepass")
        name = self.scheme.partition("-")[0]
        digest = hashlib.new(name, found, usedforsecurity=False).hexdigest()
        return digest[: _DIGITS[self.scheme]]

    def read(self, digest: str) -> str | None:
        """A digest as ``of`` writes it; None for what cannot be one of this scheme.

        >>> Hashing().read("0F1E2D3C4B5A6978"), Hashing().read("0f1e")
        ('0f1e2d3c4b5a6978', None)
        """
        found = digest.lower()
        fits = len(found) == _DIGITS[self.scheme] and _HEXADECIMAL.fullmatch(found)
        return found if fits else None


def words_of(text: str) -> list[str]:
    """The words by which texts are compared: compatible characters and cases are one.

    >>> words_of("  I've LOST my card!! ")
    ['i', 've', 'lost', 'my', 'card']
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def shingles(text: str) -> frozenset[str]:
    """Trigrams of the words with a blank at both ends; none of a text without a word.

    >>> sorted(shingles("My fee"))
    [' fe', ' my', 'ee ', 'fee', 'my ', 'y f']
    """
    words = words_of(text)
    if not words:
        return frozenset()
    line = f" {' '.join(words)} "
    return frozenset(line[at : at + SHINGLE_CHARS] for at in range(len(line) - SHINGLE_CHARS + 1))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Share of common members in all of both, 0..1; 0.0 when both are empty.

    >>> jaccard(shingles("block my card"), shingles("Block my card, please!"))
    0.65
    """
    common = len(one & other)
    return common / (len(one) + len(other) - common) if common else 0.0


def _formed(text: str, form: HashedForm) -> str:
    if form is HashedForm.RAW:
        return text
    if form is HashedForm.WORDS:
        return " ".join(words_of(text))
    return text.strip().lower() if form is HashedForm.LOWER else text.strip()
