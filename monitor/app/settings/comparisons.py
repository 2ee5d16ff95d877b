"""Settings of paired comparisons: docs/comparison.md says what they promise."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from monitor.app.settings.values import (
    DAY,
    MINUTE,
    NOTHING,
    Duration,
    Group,
    Loc,
    Text,
    refuse,
    spelled,
    within,
)

_Wait = Annotated[Duration, within(MINUTE, 7 * DAY)]


class ComparisonSettings(Group):
    """Variants that answered one request are compared. `of` is a group or an intent, for recall."""

    name: Annotated[
        str, spelled(r"[A-Za-z0-9_.-]{1,64}", "letters, digits, '.', '_' and '-' (1 to 64)")
    ] = Field(examples=["urgent-pairs"])
    metric: Literal["recall", "accuracy"] = Field(default="recall", examples=["recall"])
    of: Text | None = Field(default=None, examples=["urgent"])
    maturity: Duration = Field(default=NOTHING, examples=["6h"])
    within: _Wait = Field(default=DAY, examples=["24h"])

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[tuple[Loc, str]]:
        if self.metric == "recall" and self.of is None:
            yield ("of",), "is required by metric recall"
        if self.metric == "accuracy" and self.of is not None:
            yield ("of",), "has no meaning for metric accuracy"
