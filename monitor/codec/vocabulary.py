"""Names as six bytes: an entry that waits for its label should not repeat ``report_lost_card``.

A code is a hash of the name, so that workers agree without asking each other; the store keeps
code -> name once. Six bytes make a clash of two names unlikely (1 in 500 million for a thousand
names), and the store refuses one rather than mixing two intents up.
"""

import hashlib
from functools import lru_cache

CODE_BYTES = 6
NOTHING = b""
"""Code of the empty name."""


@lru_cache(maxsize=100_000)
def code_of(name: str) -> bytes:
    """The code of a name; b"" for the empty one."""
    return hashlib.blake2b(name.encode(), digest_size=CODE_BYTES).digest() if name else NOTHING
