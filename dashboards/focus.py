"""What fires and where to look: the numbers of one alert alone, since its evidence began.

No Streamlit, no clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from dashboards import banner
from dashboards.banner import AlertView, Labelled
from dashboards.models import IntentRow, Route
from monitor.domain.alerts import AlertKey, AlertState, Transition
from monitor.domain.counts import Part
from monitor.domain.engine import Spec
from monitor.domain.events import Intent
from monitor.domain.scores import Confusion, proportion
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import DAY_MS, HOUR_MS, MINUTE_MS, Clock, PaneKey, Window, pane_start
from monitor.ports import StateReader

DETAIL_MS = 30 * MINUTE_MS
ROUTES = 5
MOST_KNOWN = 3
"""Alerts of which it is looked up how many labels are in: those that Live tells in full."""


class Ways(NamedTuple):
    """Where outcomes of a group went: each intent of it, the most travelled ways out, and all."""

    intents: tuple[IntentRow, ...]
    routes: tuple[Route, ...]
    missed: int


def worst(
    spec: Spec,
    of: str,
    variant: str,
    states: Mapping[AlertKey, AlertState],
    transitions: Sequence[Transition],
) -> AlertView | None:
    """The alert about ``of`` that the banner tells first, None while none is up.

    One that speaks of ``variant`` comes before those that do not.
    """
    asked = [rule for rule in spec.rules if rule.of == of]
    told = banner.attention(*banner.alert_views(asked, states, transitions, ALL))
    up = [view for view in told if view.is_up]
    mine = [view for view in up if banner.speaks(view.key, variant)]
    return next(iter(mine or up), None)


def key_of(alert: AlertView | None, variant: str) -> SliceKey:
    """Whose numbers to show: those of the alert unless another variant is asked for."""
    if alert is None or not banner.speaks(alert.key, variant):
        return SliceKey(variant)
    return alert.key if alert.key.variant != ALL else SliceKey(variant, alert.key.slice)


def window_of(alert: AlertView | None, spec: Spec, as_of_ms: int) -> Window:
    """From the evidence of an alert to now, at least one pane; without it ``DETAIL_MS``."""
    evidence_ms = alert.evidence_ms if alert else None
    start_ms = as_of_ms - DETAIL_MS if evidence_ms is None else evidence_ms
    size_ms = _size_ms(as_of_ms - start_ms, spec)
    end_ms = pane_start(as_of_ms, size_ms)
    return Window(min(pane_start(start_ms, size_ms), end_ms - size_ms), end_ms)


class Pieces(NamedTuple):
    """Which panes make up a window: of these keys, of this size, with these starts."""

    keys: tuple[SliceKey, ...]
    size_ms: int
    starts: range


def pieces_of(reader: StateReader, spec: Spec, key: SliceKey, window: Window) -> Pieces:
    """The panes of ``key`` in the window; of a slice that has none, those of its variant."""
    kept = reader.slice_keys()
    part = key.slice if any(each.slice == key.slice for each in kept) else ALL
    keys = [each for each in kept if each.slice == part and key.variant in {ALL, each.variant}]
    size_ms = _size_ms(window.end_ms - window.start_ms, spec)
    starts = range(pane_start(window.start_ms, size_ms), window.end_ms, size_ms)
    return Pieces(tuple(keys), size_ms, starts)


def ways_of(went: Confusion, group: frozenset[Intent], objective: float | None) -> Ways:
    """Rows and routes of a group.

    Intents stand by what is sure of them, then by name, so that they keep their places while
    numbers move a little.
    """
    rows = [_row(went, intent, group) for intent in group]
    routes = [
        Route(actual, predicted, n)
        for (actual, predicted), n in went.items()
        if actual in group and predicted not in group
    ]
    routes.sort(key=lambda way: (-way.missed, way.actual, way.predicted))
    return Ways(
        tuple(sorted(rows, key=lambda row: (_rank(row, objective), row.intent))),
        tuple(routes[:ROUTES]),
        sum(way.missed for way in routes),
    )


def with_labels(
    views: Iterable[AlertView], reader: StateReader, spec: Spec, as_of_ms: int
) -> tuple[AlertView, ...]:
    """The views; the first ``MOST_KNOWN`` that are up know how many labels are in."""
    found: list[AlertView] = []
    left = MOST_KNOWN
    for view in views:
        if not view.is_up or view.evidence_ms is None or not left:
            found.append(view)
            continue
        left -= 1
        pieces = pieces_of(reader, spec, view.key, window_of(view, spec, as_of_ms))
        found.append(replace(view, labelled=_labelled(reader, pieces)))
    return tuple(found)


def _labelled(reader: StateReader, pieces: Pieces) -> Labelled:
    wanted = [
        PaneKey(Clock.EVENT, pieces.size_ms, start, key)
        for start in pieces.starts
        for key in pieces.keys
    ]
    panes = reader.panes(wanted, Part.ANSWERS)
    return Labelled(sum(pane.labelled for pane in panes), sum(pane.predictions for pane in panes))


def _size_ms(length_ms: int, spec: Spec) -> int:
    return spec.windows.pane_ms if length_ms <= DAY_MS else HOUR_MS


def _row(went: Confusion, intent: Intent, group: frozenset[Intent]) -> IntentRow:
    mine = [(p, n) for (a, p), n in went.items() if a == intent]
    support = sum(n for _, n in mine)
    hits = sum(n for predicted, n in mine if predicted in group)
    return IntentRow(intent, proportion(hits, support), support - hits)


def _rank(row: IntentRow, objective: float | None) -> int:
    """0 whose interval is below the objective, 1 whose value is, 2 for others, 3 without labels."""
    if row.recall.interval is None or row.recall.value is None:
        return 3
    if objective is None:
        return 2
    return 0 if row.recall.interval[1] < objective else 1 if row.recall.value < objective else 2
