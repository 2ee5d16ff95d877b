"""Under which keys an outcome counts, and what "urgent" means.

A **variant** is the model deployment that answered. A **slice** is the subset with one attribute
value, written ``channel=web``; ``ALL`` is the slice of everything. The variant ``ALL`` is not
stored: it is the sum over the variants, formed when read.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from monitor.domain.events import Intent

ALL = "ALL"


class SliceKey(NamedTuple):
    """Whose numbers: one variant (or ALL) and one slice (or ALL)."""

    variant: str = ALL
    slice: str = ALL


class Groups(NamedTuple):
    """Declared intent groups; a plain intent stands for the group of itself."""

    members: Mapping[str, frozenset[Intent]]

    def of(self, name: str) -> frozenset[Intent]:
        """The intents that ``name`` stands for."""
        return self.members.get(name, frozenset((name,)))


def slices_of(names: tuple[str, ...], values: tuple[str, ...]) -> Iterator[str]:
    """Every slice that a record with these attribute values belongs to, ``ALL`` first.

    >>> list(slices_of(("channel", "locale"), ("web", "")))
    ['ALL', 'channel=web']
    """
    yield ALL
    for name, value in zip(names, values, strict=True):
        if value:
            yield f"{name}={value}"
