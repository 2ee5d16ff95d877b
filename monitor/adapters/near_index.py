"""Training texts by likeness: MinHash signatures in bands (LSH), each candidate then compared.

The bands only say which training texts are worth comparing; what is found has exactly the
similarity that ``domain.likeness.jaccard`` gives. Signatures depend on a fixed seed alone: two runs
find the same. About 2 kB of memory for a training text of ten words.
"""

from array import array
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashLSH

from monitor.domain.likeness import THRESHOLD, shingles

PERMUTATIONS = 128
SEED = 1
LOST = 0.002
"""Chance with which a pair just at the threshold shares no band, at most."""

AT_ONCE = 1_000
"""Training texts that are signed together."""


class Near(NamedTuple):
    """The most similar training text, the first of equals; its number in the order of ``add``."""

    number: int
    similarity: float


class NearIndex:
    """Add training texts, then ask for the one nearest to a text. ``threshold`` is above 0."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self.threshold = threshold
        self.rows = rows_of(threshold)
        self.bands = PERMUTATIONS // self.rows
        self._bands = RMinHashLSH(threshold, self.bands * self.rows, self.bands)
        self._codes: dict[str, int] = {}
        self._members = array("I")
        self._ends = array("Q", [0])
        self._unsigned: list[list[str]] = []
        self._frozen = (np.zeros(0, np.uint32), np.zeros(1, np.int64))

    def __len__(self) -> int:
        """Texts that were added."""
        return len(self._ends) - 1

    def add(self, text: str) -> int:
        """The number of the text; one without a word is near nothing."""
        found = sorted(shingles(text))
        codes = self._codes
        self._members.extend(sorted(codes.setdefault(shingle, len(codes)) for shingle in found))
        self._ends.append(len(self._members))
        self._unsigned.append(found)
        if len(self._unsigned) == AT_ONCE:
            self._sign()
        return len(self) - 1

    def nearest(self, text: str) -> Near | None:
        """The nearest training text at the threshold or above; None where there is none."""
        if len(self._frozen[1]) != len(self._ends):
            self._sign()
            self._frozen = np.array(self._members, np.uint32), np.array(self._ends, np.int64)
        found = shingles(text)
        if not found:
            return None
        signature = RMinHash(self.bands * self.rows, SEED)
        signature.update(sorted(found))
        candidates = np.array(sorted(self._bands.query(signature)), dtype=np.int64)
        return self._best(found, candidates) if len(candidates) else None

    def _best(self, found: frozenset[str], candidates: NDArray[np.int64]) -> Near | None:
        members, ends = self._frozen
        sizes = ends[candidates + 1] - ends[candidates]
        # Where one set is so much smaller, no overlap can reach the threshold.
        alike = np.minimum(sizes, len(found)) / np.maximum(sizes, len(found)) >= self.threshold
        candidates, sizes = candidates[alike], sizes[alike]
        if not len(candidates):
            return None
        codes = self._codes
        is_common = np.zeros(len(codes), np.bool_)
        is_common[[codes[one] for one in found if one in codes]] = True
        firsts = np.cumsum(sizes) - sizes
        places = np.repeat(ends[candidates] - firsts, sizes) + np.arange(int(sizes.sum()))
        common = np.add.reduceat(is_common[members[places]], firsts, dtype=np.int64)
        similarity = common / (sizes + len(found) - common)
        best = int(np.argmax(similarity))
        if similarity[best] < self.threshold:
            return None
        return Near(int(candidates[best]), float(similarity[best]))

    def _sign(self) -> None:
        if not self._unsigned:
            return
        width = self.bands * self.rows
        matrix = RMinHash.digest_matrix_from_token_sets(self._unsigned, width, SEED)
        self._bands.insert_matrix(matrix, len(self) - len(self._unsigned))
        self._unsigned = []


def rows_of(threshold: float) -> int:
    """Rows of a band: as many as lose no more than ``LOST`` of the pairs at the threshold.

    The more rows, the fewer candidates that are not near.

    >>> rows_of(0.5), rows_of(0.75), rows_of(0.9)
    (2, 5, 9)
    """
    return next(rows for rows in range(32, 0, -1) if rows == 1 or lost(threshold, rows) <= LOST)


def lost(similarity: float, rows: int) -> float:
    """Chance that a pair of this similarity shares none of the bands of so many rows.

    >>> round(lost(0.7, 4), 6)
    0.000153
    """
    return float((1 - similarity**rows) ** (PERMUTATIONS // rows))
