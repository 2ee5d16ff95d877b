"""What lies over an alert, in words: who has taken it on, who silenced it, what mutes it."""

from collections.abc import Iterator

from dashboards import words
from monitor.domain.overlays import Overlays

NOTHING_OVER = Overlays()
NOT_TAKEN = "not acknowledged: nobody has taken it on"


def overlays_in_words(
    over: Overlays, *, last_ms: int, near_ms: int, is_up: bool = False
) -> Iterator[str]:
    """A phrase for each overlay; of an alert that is up and not taken on, that it is not.

    ``last_ms`` is when the latest vote counted. Times of another day than ``near_ms`` name it.
    """
    if taken := over.acknowledged:
        at = words.clock(taken.at_ms, near_ms=near_ms)
        yield f"acknowledged by {words.one_line(taken.who)} at {at}: {words.one_line(taken.note)}"
    if silence := over.silenced:
        until = words.clock(silence.until_ms, near_ms=near_ms)
        yield f"silenced by {words.one_line(silence.who)} until {until}: " + words.one_line(
            silence.note
        )
    if over.inhibited:
        yield f"muted: {words.one_line(over.inhibited)}"
    if over.stalled:
        yield f"stalled: no mature label since {words.clock(last_ms, near_ms=near_ms)}"
    if is_up and over.acknowledged is None:
        yield NOT_TAKEN


def lead(phrases: Iterator[str], details: str) -> str:
    """What lies over the alert in a paragraph of its own, before the details."""
    over = " · ".join(phrases)
    return f"{over[:1].upper()}{over[1:]}\n\n{details}" if over else details
