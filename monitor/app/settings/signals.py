"""Settings of signals: what is warned of before labels come; formulas in docs/signals.md."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from monitor.app.settings.values import (
    DAY,
    HOUR,
    MINUTE,
    Duration,
    Group,
    Loc,
    Share,
    Text,
    format_duration,
    parse_duration,
    refuse,
    spelled,
    within,
)
from monitor.domain.estimate import CALIBRATION_DAYS, CHECK_DAYS
from monitor.domain.rules import Signal

OF_GROUPS = frozenset(
    {Signal.PREDICTED_SHARE, Signal.SHARE_DRIFT, Signal.SCORE_DRIFT, Signal.ESTIMATE}
)
"""Signals that speak of a group."""

IN_TIME = frozenset({Signal.LABEL_DELAY, Signal.LATENCY_P95})
"""Signals whose bounds are durations."""

WITH_REFERENCE = frozenset({Signal.PREDICTED_SHARE, Signal.SHARE_DRIFT, Signal.SCORE_DRIFT})

ESTIMATE_READS = (CALIBRATION_DAYS + CHECK_DAYS + 2) * DAY
"""How far back labels are read that an estimate is calibrated and checked with."""


def _read_bound(value: object) -> object:
    """A number as it stands; text with a unit is a duration."""
    if isinstance(value, str) and value[-1:].isalpha():
        return parse_duration(value)
    return value


def _write_bound(value: float | timedelta | None) -> float | str | None:
    return format_duration(value) if isinstance(value, timedelta) else value


Bound = Annotated[
    timedelta | Annotated[float, Field(ge=0)] | None,
    BeforeValidator(_read_bound),
    PlainSerializer(_write_bound, return_type=float | str | None, when_used="json"),
]


class SignalSettings(Group):
    """One signal: a warning when it leaves the bounds, or when the test that it is finds something.

    ``below`` and ``above`` are durations for delays and latencies, predictions an hour for the
    volume, and shares otherwise.
    """

    name: Annotated[
        str, spelled(r"[A-Za-z0-9_.-]{1,64}", "letters, digits, '.', '_' and '-' (1 to 64)")
    ] = Field(examples=["fewer-urgent"])
    signal: Signal = Field(examples=["predicted_share"])
    of: Text | None = Field(default=None, examples=["urgent"])
    variant: Text | None = Field(default=None, examples=["fine_tuned"])
    window: Annotated[Duration, within(5 * MINUTE, 7 * DAY)] = Field(
        default=3 * HOUR, examples=["3h"]
    )
    reference: Annotated[Duration, within(DAY)] = Field(default=14 * DAY, examples=["14d"])
    below: Bound = Field(default=None, examples=["0.01"])
    above: Bound = Field(default=None, examples=["0.05"])
    z: Annotated[float, Field(ge=-20, lt=0)] = Field(default=-4.0, examples=["-4"])
    objective: Share | None = Field(default=None, examples=["0.80"])
    drift: Literal["adwin", "page_hinkley"] = Field(default="page_hinkley", examples=["adwin"])
    hold: Duration = Field(default=30 * MINUTE, examples=["30m"])
    runbook: str = Field(default="", examples=["https://wiki.example/fewer-urgent"])

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        refuse(self._faults())
        return self

    def _faults(self) -> Iterator[tuple[Loc, str]]:
        if (self.signal in OF_GROUPS) != (self.of is not None):
            needs = "is required by" if self.of is None else "has no meaning for"
            yield ("of",), f"{needs} signal {self.signal}"
        is_bounded = self.below is not None or self.above is not None
        if not is_bounded and self.signal not in OF_GROUPS:
            yield ("below",), f"or above is required by signal {self.signal}"
        if is_bounded and self.signal in OF_GROUPS - {Signal.PREDICTED_SHARE}:
            yield ("below",), f"and above have no meaning for signal {self.signal}"
        if self.objective is not None and self.signal is not Signal.ESTIMATE:
            yield ("objective",), "is for signal estimate alone"
        for name, bound in (("below", self.below), ("above", self.above)):
            if bound is not None and isinstance(bound, timedelta) != (self.signal in IN_TIME):
                kind = "a duration" if self.signal in IN_TIME else "a number"
                yield (name,), f"must be {kind} for signal {self.signal}"
