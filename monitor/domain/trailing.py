"""When did the verdict change? The same judgement at every full hour of the past.

At a full hour T the **trailing window** is ``[T - window, T)`` by event time. Between two instants
at which an hour enters or leaves the window nothing changes, so only these are judged. All labels
count that are known now: it is how it was, not what could be known then.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from monitor.domain.verdict import Evidence, Verdict, VerdictLimits, judged
from monitor.domain.windows import HOUR_MS, Window


class Change(NamedTuple):
    """From ``at_ms`` on, a full hour, the verdict was this one."""

    at_ms: int
    verdict: Verdict


def window_at(end_ms: int, size_ms: int | None, first_ms: int) -> Window:
    """The window that ends at ``end_ms``: ``size_ms`` long, or all from ``first_ms`` on."""
    start_ms = first_ms if size_ms is None else end_ms - size_ms
    return Window(min(start_ms, end_ms), end_ms)


def changes_of(
    hours: Mapping[int, Evidence],
    limits: VerdictLimits,
    *,
    window_ms: int | None,
    until_ms: int,
    since_ms: int = 0,
) -> list[Change]:
    """Each change of the answer from ``since_ms`` to ``until_ms``, both included, oldest first.

    ``hours`` maps the start of an hour to what is known of it. ``window_ms`` None lets every hour
    stay. [] without an hour.
    """
    changes: list[Change] = []
    for at_ms, evidence in _windows(hours, window_ms, until_ms):
        if at_ms < since_ms:
            continue
        verdict = judged(evidence, limits)
        if not changes or changes[-1].verdict.answer is not verdict.answer:
            changes.append(Change(at_ms, verdict))
    return changes


def _windows(
    hours: Mapping[int, Evidence], window_ms: int | None, until_ms: int
) -> Iterator[tuple[int, Evidence]]:
    """Each instant at which the window holds other hours than before, with what it holds."""
    moves: dict[int, list[tuple[Evidence, int]]] = {}
    for start_ms, evidence in hours.items():
        entering_ms = start_ms + HOUR_MS
        moves.setdefault(entering_ms, []).append((evidence, 1))
        if window_ms is not None:
            moves.setdefault(entering_ms + window_ms, []).append((evidence, -1))
    held = Evidence.empty()
    for at_ms in sorted(at_ms for at_ms in moves if at_ms <= until_ms):
        for evidence, sign in moves[at_ms]:
            held.add(evidence, sign)
        yield at_ms, held
