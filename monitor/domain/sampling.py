"""Which prediction ids are kept when only a share of them is to be counted.

Whether an id is kept follows from the id and the share alone, in every process and release: so a
prediction and all labels about it are kept, or passed over, together, whoever reads them and in
whatever order. The hash has nothing in common with those that choose shard and bucket (CRC-32 and
Adler-32, both linear), so a sample spreads over all of them. A smaller share keeps a subset of what
a larger one keeps.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

EVERY = 1.0
"""The share that keeps every id."""

_PERSON = b"recallwatch-keep"
_HASHES = 2**64


def kept(ids: Sequence[str], share: float) -> list[bool]:
    """For each id whether it is within ``share``, above 0 and at most 1.

    >>> kept(["p1", "p2", "p3", "p4"], 0.5)
    [False, False, True, False]
    >>> kept(["p1"], EVERY), kept([], 0.5)
    ([True], [])
    """
    if share >= EVERY:
        return [True] * len(ids)
    hashes = b"".join(
        [blake2b(name.encode(), digest_size=8, person=_PERSON).digest() for name in ids]
    )
    found: list[bool] = (np.frombuffer(hashes, dtype="<u8") < _bound(share)).tolist()
    return found


def is_kept(prediction_id: str, share: float) -> bool:
    """Whether one id is within ``share``.

    >>> is_kept("p3", 0.5), is_kept("p3", 0.001)
    (True, False)
    """
    return kept([prediction_id], share)[0]


def in_words(share: float) -> str:
    """What stands wherever counts are shown; "" when every id is kept.

    >>> in_words(0.1), in_words(0.0025), in_words(1.0)
    ('A 10 % sample of predictions: counts are of the sample.', \
'A 0.25 % sample of predictions: counts are of the sample.', '')
    """
    if share >= EVERY:
        return ""
    return f"A {share * 100:g} % sample of predictions: counts are of the sample."


def _bound(share: float) -> np.uint64:
    """Hashes below it are kept. Exact: the product with a power of two is not rounded."""
    return np.uint64(int(share * _HASHES))
