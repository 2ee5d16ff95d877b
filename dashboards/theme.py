"""Colours of state and data in the light and the dark theme.

Every colour has a contrast of at least 4.5:1 on its background. ``.streamlit/config.toml`` holds
the same values for what Streamlit draws itself; a test keeps the two together.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Tone(StrEnum):
    """What a state means to the person who looks; always shown with an icon and a word."""

    CRITICAL = "critical"
    WARNING = "warning"
    OK = "ok"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Palette:
    """One theme's colours, as ``#RRGGBB``."""

    background: str
    text: str
    line: str
    critical: str
    ok: str
    warning: str
    unknown: str
    second: str
    grid: str

    def of(self, tone: Tone) -> str:
        """The colour of a tone."""
        return {
            Tone.CRITICAL: self.critical,
            Tone.WARNING: self.warning,
            Tone.OK: self.ok,
            Tone.NEUTRAL: self.unknown,
        }[tone]


LIGHT = Palette(
    background="#FFFFFF",
    text="#0B1118",
    line="#0072B2",
    critical="#B3261E",
    ok="#00704F",
    warning="#9A5B00",
    unknown="#6B7785",
    second="#B35900",
    grid="#E3E7EC",
)
DARK = Palette(
    background="#10151C",
    text="#E8EDF3",
    line="#7CC4FF",
    critical="#FF8A7A",
    ok="#4FD1A5",
    warning="#F2B84B",
    unknown="#9AA7B5",
    second="#F2B84B",
    grid="#2A323D",
)


def muted(palette: Palette) -> Palette:
    """The palette of numbers that may no longer be true: everything grey."""
    grey = palette.unknown
    return replace(palette, line=grey, critical=grey, ok=grey, warning=grey, second=grey)
