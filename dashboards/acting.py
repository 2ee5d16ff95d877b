"""Carrying out what a viewer asks for: checked against the store as it is now, entered once.

An act's id is made of who, what, and what the viewer was looking at: clicked twice, or tried again
after a store that did not answer in time, it is the same act, and the store keeps the first.
"""

import hashlib
from collections.abc import Callable, Mapping

from dashboards import identity, source
from monitor.app.handling import Hand, Handled, acknowledgement, handled, muting, unmuting
from monitor.domain.errors import ActRefused
from monitor.domain.overlays import Action, Deed

ID_DIGITS = 12
"""Of the id of an act: short enough to type, long enough that no two acts share it."""


def acknowledge(alert: str, raised: str, note: str) -> Action:
    """Take on an alert as the viewer saw it, raised by ``raised``.

    ActRefused when that is not so any more, or the viewer is not known; StoreError without a store.
    """

    def make(known: Handled, by: Hand) -> Action:
        if known.find(alert).raised not in {raised, ""}:
            raise ActRefused("it was raised anew since you looked: look again")
        return acknowledgement(known, alert, by)

    return _enter(Deed.ACKNOWLEDGE, [raised, note], note, make)


def silence(matchers: Mapping[str, str], length_ms: int, note: str, *, seen: str) -> Action:
    """Mute what agrees with ``matchers``; ``seen`` is the last act that the viewer knew of."""

    def make(known: Handled, by: Hand) -> Action:
        return muting(known, matchers, length_ms, by)

    parts = [f"{name}={value}" for name, value in sorted(matchers.items())]
    return _enter(Deed.SILENCE, [*parts, str(length_ms), note, seen], note, make)


def unsilence(silence_id: str, note: str) -> Action:
    """End a silence before its time."""

    def make(known: Handled, by: Hand) -> Action:
        return unmuting(known.actions, silence_id, by)

    return _enter(Deed.UNSILENCE, [silence_id], note, make)


def enter(action_of: Callable[[str, int], Action]) -> Action:
    """Enter what ``action_of`` makes of the viewer's name and the present wall time."""
    found, viewer = source.current(), identity.viewer()
    if found.act is None or viewer.name is None:
        raise ActRefused(viewer.reason or "this dashboard only reads")
    action = action_of(viewer.name, found.now_ms())
    found.act(action)
    return action


def _enter(
    deed: Deed, parts: list[str], note: str, make: Callable[[Handled, Hand], Action]
) -> Action:
    found = source.current()

    def action_of(who: str, now_ms: int) -> Action:
        known = handled(found.connect(), found.spec, now_ms)
        by = Hand(action_id(deed, who, parts), who, note, now_ms)
        entered = next((each for each in known.actions if each.id == by.id), None)
        return entered or make(known, by)

    return enter(action_of)


def action_id(deed: Deed, who: str, parts: list[str]) -> str:
    """The id of an act: equal for equal acts of one person.

    >>> action_id(Deed.ACKNOWLEDGE, "ana", ["a-2"]) == action_id(Deed.ACKNOWLEDGE, "bo", ["a-2"])
    False
    """
    text = "\x1f".join([deed, who, *(part.strip() for part in parts)])
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]
