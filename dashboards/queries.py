"""From the store to view models: everything a page shows, as frozen values.

Windows end at the last complete pane of the data's own time (the newest log time), so that a rate
is never that of half a minute, and a store that is read hours later shows the same numbers.
Rolling windows span ``recent_ms``. No Streamlit, no clock.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from dashboards import banner, focus, history, signals
from dashboards.banner import AlertView, Freshness, covers, speaks
from dashboards.history import Fired
from dashboards.models import (
    ArrivalPoint,
    Books,
    Choice,
    Delays,
    Known,
    LabelsView,
    LiveNow,
    Point,
    Recent,
    Span,
    Sparks,
    Trend,
)
from dashboards.signals import SignalView
from monitor.domain.alerts import AlertKey, Transition
from monitor.domain.counts import Cell, Counts, Part, Tally, merge, quantile, total_of, value_of
from monitor.domain.cut import UNREAD, watermark
from monitor.domain.engine import Spec
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import Intent, Kind
from monitor.domain.ledger import balance_of, gaps_of
from monitor.domain.overlays import Action, Overlays, overlays_of
from monitor.domain.rules import AlertRule, Metric, Signal, SignalRule
from monitor.domain.scores import Confusion, proportion
from monitor.domain.signals import SignalKey, SignalState
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import DAY_MS, HOUR_MS, MINUTE_MS, Clock, PaneKey, Window, pane_start
from monitor.ports import StateReader

RANGES: Mapping[str, int] = {
    "1h": HOUR_MS,
    "3h": 3 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "24h": DAY_MS,
    "7d": 7 * DAY_MS,
}
"""How far back a page can look; more than a day is read from hourly panes."""

MOST_POINTS = 288
"""Points of a chart: every fifth minute of a day."""

SPARK_MS = HOUR_MS
GONE_AFTER_MS = MINUTE_MS
"""A worker that has been silent for so long while another one beats has no lag to tell."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Panes of one size; ``warmup`` of them come before the window, ``step`` make a point."""

    size_ms: int
    window: Window
    warmup: int
    step: int

    @property
    def starts(self) -> range:
        """Start of each pane, those of the warmup among them."""
        first = self.window.start_ms - self.warmup * self.size_ms
        return range(first, self.window.end_ms, self.size_ms)


def watched_names(spec: Spec) -> tuple[str, ...]:
    """What can be watched: what rules speak of, then declared groups that no rule names."""
    ruled = [rule.of for rule in spec.rules]
    return tuple(dict.fromkeys([*ruled, *spec.groups.members]))


def live_now(
    reader: StateReader, spec: Spec, choice: Choice, *, recent_ms: int, now_ms: int
) -> LiveNow:
    """Banner and cards as of the last complete pane. Raises StoreError when the store is gone."""
    freshness = freshness_of(reader, now_ms)
    variants = variants_of(reader)
    pane_ms = spec.windows.pane_ms
    rolling = _panes(recent_ms, pane_ms)
    end_ms = pane_start(freshness.as_of_ms or 0, pane_ms)
    before_ms = max(SPARK_MS // pane_ms, 1) * pane_ms
    grid = Grid(pane_ms, Window(end_ms - before_ms, end_ms), rolling, 1)
    group = spec.groups.of(choice.of)
    look = _Look.at(reader, choice.variant, variants, pane_ms)
    tallies = look.tallies(grid.starts, group)
    told = _told(reader, spec, choice, freshness)
    has_windows = _has_windows(reader, variants, grid, tallies)
    return LiveNow(
        freshness=freshness,
        variants=variants,
        window=Window(end_ms - rolling * pane_ms, end_ms) if has_windows else None,
        recent=look.recent(grid.starts[-rolling:], tallies[-rolling:]),
        before=look.recent(grid.starts[:rolling], tallies[:rolling]),
        sparks=_sparks(tallies, grid),
        alerts=told.alerts,
        others=told.others,
        signals=told.signals,
        gaps=tuple(gaps_of(reader.ledger())),
        estimate=told.estimate,
        is_evaluated=told.evaluated_ms is not None,
        unread=() if told.evaluated_ms is not None else unread_of(reader),
    )


def trend(reader: StateReader, spec: Spec, choice: Choice, *, recent_ms: int, now_ms: int) -> Trend:
    """The charts of the Live page. Raises StoreError when the store is gone."""
    freshness = freshness_of(reader, now_ms)
    variants = variants_of(reader)
    grid = grid_of(spec, choice.span, recent_ms, freshness.as_of_ms or 0)
    group = spec.groups.of(choice.of)
    look = _Look.at(reader, choice.variant, variants, grid.size_ms)
    tallies = look.tallies(grid.starts, group)
    transitions = reader.transitions()
    states = reader.evaluation().states
    alert = focus.worst(spec, choice.of, choice.variant, states, transitions)
    detail = focus.window_of(alert, spec, freshness.as_of_ms or 0)
    whose = focus.key_of(alert, choice.variant)
    rules = [r for r in spec.rules if r.of == choice.of and covers(r, choice.variant)]
    objective = next((r.objective for r in rules if r.metric is Metric.RECALL), None)
    pieces = focus.pieces_of(reader, spec, whose, detail)
    went = replace(look, keys=pieces.keys, size_ms=pieces.size_ms).outcomes(pieces.starts, group)
    ways = focus.ways_of(went, group, objective)
    has_windows = _has_windows(reader, variants, grid, tallies)
    return Trend(
        freshness=freshness,
        of=choice.of,
        objective=objective,
        rolling_ms=grid.warmup * grid.size_ms,
        window=grid.window,
        points=tuple(_points(tallies, grid)) if has_windows else (),
        spans=spans_of(transitions, rules, choice.variant, grid.window),
        detail=detail,
        whose=whose,
        alert=alert,
        intents=ways.intents,
        routes=ways.routes,
        missed=ways.missed,
    )


def labels(
    reader: StateReader, spec: Spec, choice: Choice, *, recent_ms: int, now_ms: int
) -> LabelsView:
    """The Labels page. Raises StoreError when the store is gone."""
    freshness = freshness_of(reader, now_ms)
    variants = variants_of(reader)
    as_of_ms = freshness.as_of_ms or 0
    grid = grid_of(spec, choice.span, recent_ms, as_of_ms)
    read = partial(read_panes, reader, choice.variant, variants)
    predicted = read(Clock.EVENT, grid, Part.ANSWERS)
    arrived = read(Clock.LABEL, grid, Part.ANSWERS)
    delays = read(Clock.LABEL, grid, Part.DELAY)
    waited = read(Clock.EVENT, grid, Part.DELAY)
    known = [merge(parts) for parts in zip(predicted, waited, strict=True)]
    told = _told(reader, spec, choice, freshness)
    return LabelsView(
        freshness=freshness,
        rolling_ms=grid.warmup * grid.size_ms,
        window=grid.window,
        points=tuple(_arrivals(predicted, arrived, delays, grid)),
        known=time_known(_cohort(known, grid, as_of_ms)),
        now=_delays(merge(delays[-grid.warmup :])),
        books=books(reader, spec),
        of=choice.of,
        alerts=told.alerts,
        is_evaluated=told.evaluated_ms is not None,
        watched=sum(
            pane.hits_and_support(spec.groups.of(choice.of))[1] for pane in predicted[grid.warmup :]
        ),
    )


def time_known(cohort: Sequence[tuple[int, Counts]]) -> Known:
    """When labels become known, from pairs of (age, counts by event time).

    The Kaplan-Meier estimate: a prediction without a label is known to have waited as long as its
    pane is old, and no longer, so that young predictions neither hide nor invent waiting.
    """
    seen: list[tuple[float, int, int]] = []
    for age_ms, counts in cohort:
        for cell, n in counts.cells.items():
            if cell[0] == "delay":
                seen.append((value_of(int(cell[1])), 0, n))
        seen.append((age_ms, 1, counts.predictions - counts.labelled))
    waiting = sum(n for _, _, n in seen)
    unknown, reached = 1.0, dict[float, float]()
    for delay_ms, censored, n in sorted(seen):
        if not censored and waiting > 0:
            unknown *= 1 - n / waiting
            for share in (0.5, 0.9):
                if 1 - unknown >= share - 1e-9:
                    reached.setdefault(share, delay_ms)
        waiting -= n
    return Known(reached.get(0.5), reached.get(0.9), 1 - unknown)


def freshness_of(reader: StateReader, now_ms: int) -> Freshness:
    """How old the numbers of the store are at ``now_ms``, wall time."""
    newest = [p.last_log_ms for cut in reader.cuts() for p in cut.values() if p.last_log_ms >= 0]
    beats = reader.heartbeats()
    last_ms = max((beat.wall_ms for beat in beats), default=None)
    return Freshness(
        as_of_ms=max(newest, default=None),
        age_ms=None if last_ms is None else max(0, now_ms - last_ms),
        lag=sum(beat.lag for beat in beats if last_ms and last_ms - beat.wall_ms <= GONE_AFTER_MS),
        now_ms=now_ms,
    )


def pulse(
    reader: StateReader, spec: Spec, choice: Choice, *, recent_ms: int, now_ms: int
) -> Freshness:
    """That the store answers, by a read that is small. Raises StoreError when it is gone."""
    del spec, choice, recent_ms
    return freshness_of(reader, now_ms)


def unread_of(reader: StateReader) -> tuple[str, ...]:
    """Partitions of which nothing has been read, sorted: one of them holds up every rule."""
    cuts = reader.cuts()
    seen = {
        partition
        for cut in cuts
        for partition, progress in cut.items()
        if progress.frontier_ms == UNREAD
    }
    return tuple(sorted(map(str, seen)))


def variants_of(reader: StateReader) -> tuple[str, ...]:
    """All variants that were ever counted, sorted."""
    return tuple(sorted({key.variant for key in reader.slice_keys() if key.slice == ALL}))


def _panes(length_ms: int, size_ms: int) -> int:
    return max(1, math.ceil(length_ms / size_ms))


def grid_of(spec: Spec, span: str, recent_ms: int, as_of_ms: int) -> Grid:
    """The panes of a range that ends with the last one complete at ``as_of_ms``."""
    range_ms = RANGES[span]
    size_ms = spec.windows.pane_ms if range_ms <= DAY_MS else HOUR_MS
    step = _panes(range_ms, size_ms * MOST_POINTS)
    end_ms = pane_start(as_of_ms, size_ms)
    window = Window(end_ms - _panes(range_ms, size_ms * step) * step * size_ms, end_ms)
    return Grid(size_ms, window, _panes(recent_ms, size_ms), step)


def read_panes(
    reader: StateReader,
    variant: str,
    variants: tuple[str, ...],
    clock: Clock,
    grid: Grid,
    part: Part | None = None,
) -> list[Counts]:
    """One merged pane for each start of the grid."""
    keys = [SliceKey(name) for name in variants if variant in {ALL, name}]
    if not keys:
        return [Counts() for _ in grid.starts]
    wanted = [PaneKey(clock, grid.size_ms, start, key) for start in grid.starts for key in keys]
    found = reader.panes(wanted, part)
    width = len(keys)
    return [_sum(found[at : at + width]) for at in range(0, len(found), width)]


@dataclass(frozen=True, slots=True)
class _Look:
    """Panes of one size, by event time, of the variants that are looked at.

    They are not merged before they are counted, so that what was counted of one is kept with it.
    """

    reader: StateReader
    keys: tuple[SliceKey, ...]
    size_ms: int

    @classmethod
    def at(
        cls, reader: StateReader, variant: str, variants: Sequence[str], size_ms: int
    ) -> "_Look":
        """One variant among those that there are, or ALL of them."""
        keys = tuple(SliceKey(name) for name in variants if variant in {ALL, name})
        return cls(reader, keys, size_ms)

    def panes(self, starts: Iterable[int], part: Part) -> list[Counts]:
        """Those of one start stand beside each other."""
        wanted = [
            PaneKey(Clock.EVENT, self.size_ms, start_ms, key)
            for start_ms in starts
            for key in self.keys
        ]
        return self.reader.panes(wanted, part) if wanted else []

    def tallies(self, starts: Sequence[int], group: frozenset[Intent]) -> list[Tally]:
        """What is counted at each start."""
        found = [pane.tally(group) for pane in self.panes(starts, Part.ANSWERS)]
        width = len(self.keys)
        return [total_of(found[at * width : (at + 1) * width]) for at in range(len(starts))]

    def recent(self, starts: Sequence[int], tallies: Sequence[Tally]) -> Recent:
        """A window, with what is counted at each of its starts."""
        total = total_of(tallies)
        return Recent(
            recall=proportion(total.hits, total.support),
            accuracy=proportion(total.right, total.labelled),
            missed=total.support - total.hits,
            predictions=total.predictions,
            labelled=total.labelled,
            per_minute=total.predictions * MINUTE_MS / (len(starts) * self.size_ms),
            p95_ms=quantile(self.panes(starts, Part.LATENCY), "latency", 0.95),
        )

    def outcomes(self, starts: Sequence[int], group: frozenset[Intent]) -> Confusion:
        """Actual and predicted -> outcomes with an actual of the group, in all these panes."""
        found: Counter[Cell] = Counter()
        for pane in self.panes(starts, Part.ANSWERS):
            for cell, n in pane.cells.items():
                if cell[0] == "outcome" and cell[1] in group:
                    found[cell] += n
        return {(actual, predicted): n for (_, actual, predicted), n in sorted(found.items())}


def _has_windows(
    reader: StateReader, variants: tuple[str, ...], grid: Grid, panes: Sequence[Tally]
) -> bool:
    """Whether a pane has been completed: not before records, nor in the minute of the first."""
    if not variants or any(pane.predictions for pane in panes):
        return bool(variants)
    look = _Look.at(reader, ALL, variants, grid.size_ms)
    return not any(pane.predictions for pane in look.panes([grid.window.end_ms], Part.ANSWERS))


def _sum(panes: Sequence[Counts]) -> Counts:
    return panes[0] if len(panes) == 1 else merge(panes)


def _sparks(panes: Sequence[Tally], grid: Grid) -> Sparks:
    points = list(_points(panes, grid))
    return Sparks(
        recall=tuple(p.recall.value for p in points if p.recall.value is not None),
        accuracy=tuple(_accuracies(panes, grid)),
        missed=tuple(pane.support - pane.hits for pane in panes[grid.warmup :]),
        coverage=tuple(p.coverage for p in points if p.coverage is not None),
        per_minute=tuple(p.predictions * MINUTE_MS / grid.size_ms for p in points),
    )


def _accuracies(panes: Sequence[Tally], grid: Grid) -> Iterator[float]:
    """Rolling accuracy at the end of each pane of the window; those without a label left out."""
    right = [0, *accumulate(pane.right for pane in panes)]
    labelled = [0, *accumulate(pane.labelled for pane in panes)]
    for number in range(grid.warmup + 1, len(panes) + 1):
        n = labelled[number] - labelled[number - grid.warmup]
        if n:
            yield (right[number] - right[number - grid.warmup]) / n


def points_of(panes: Sequence[Counts], group: frozenset[Intent], grid: Grid) -> Iterator[Point]:
    """A point for each step of the window; the panes before it only fill the rolling window."""
    return _points([pane.tally(group) for pane in panes], grid)


def _points(panes: Sequence[Tally], grid: Grid) -> Iterator[Point]:
    predicted = [0, *accumulate(pane.predictions for pane in panes)]
    labelled = [0, *accumulate(pane.labelled for pane in panes)]
    hits = [0, *accumulate(pane.hits for pane in panes)]
    support = [0, *accumulate(pane.support for pane in panes)]
    for done in range(grid.step, len(panes) - grid.warmup + 1, grid.step):
        number = done + grid.warmup
        first, step = number - grid.warmup, number - grid.step
        end_ms = grid.window.start_ms + done * grid.size_ms
        spoken = predicted[number] - predicted[first]
        yield Point(
            start_ms=end_ms - grid.step * grid.size_ms,
            end_ms=end_ms,
            recall=proportion(hits[number] - hits[first], support[number] - support[first]),
            known=(labelled[number] - labelled[first]) / spoken if spoken else None,
            predictions=predicted[number] - predicted[step],
            labelled=labelled[number] - labelled[step],
        )


class _Told(NamedTuple):
    """What rules say, all of it by one look at the evaluation, which reached ``evaluated_ms``."""

    alerts: tuple[AlertView, ...]
    others: tuple[AlertView, ...]
    signals: tuple[SignalView, ...]
    estimate: SignalState | None
    evaluated_ms: int | None


def _told(reader: StateReader, spec: Spec, choice: Choice, freshness: Freshness) -> _Told:
    evaluation, transitions = reader.evaluation(), reader.transitions()
    over = _overlays(spec, evaluation, transitions, reader.actions(), freshness.now_ms or 0)
    asked = [rule for rule in spec.rules if rule.of == choice.of]
    alerts = banner.alert_views(asked, evaluation.states, transitions, choice.variant, over)
    every = banner.alert_views(spec.rules, evaluation.states, transitions, ALL, over)
    others = [view for view in every if view.wants_attention and view not in alerts]
    as_of_ms = freshness.as_of_ms or 0
    return _Told(
        focus.with_labels(alerts, reader, spec, as_of_ms),
        focus.with_labels(others, reader, spec, as_of_ms),
        signals.signal_views(spec.signals, evaluation.signals, transitions, over, choice.variant),
        _estimate(evaluation, spec, choice),
        evaluation.watermark_ms,
    )


def _overlays(
    spec: Spec,
    evaluation: Evaluation,
    transitions: Sequence[Transition],
    actions: Sequence[Action],
    now_ms: int,
) -> dict[AlertKey, Overlays]:
    """What lies over each alert, those of signals among them; silences end by wall time."""
    watched: list[AlertRule | SignalRule] = [*spec.rules, *spec.signals]
    rules = {rule.name: rule for rule in watched}
    up = history.of(transitions).up
    raised = {alert: at for alert, at in up.items() if alert.rule in rules}
    states = {alert: state for alert, state in evaluation.states.items() if alert.rule in rules}
    return {
        alert: overlays_of(
            alert, states=states, raised=raised, rules=rules, actions=actions, now_ms=now_ms
        )
        for alert in {*states, *map(signals.alert_of, evaluation.signals)}
    }


def spans_of(
    transitions: Sequence[Transition], rules: Sequence[AlertRule], variant: str, window: Window
) -> tuple[Span, ...]:
    """When alerts of these rules were not ok, as far as it reaches into the window."""
    names, then = {rule.name for rule in rules}, history.of(transitions)
    times = [*then.fired, *(Fired(alert, at, None) for alert, at in then.firing.items())]
    spans = [
        Span(_whose(fired.alert), fired.start_ms, fired.end_ms)
        for fired in times
        if (fired.end_ms is None or fired.end_ms > window.start_ms)
        and fired.alert.rule in names
        and speaks(fired.alert.key, variant)
    ]
    return tuple(sorted(spans, key=lambda span: (span.start_ms, span.name)))


def _whose(key: AlertKey) -> str:
    rule, (variant, part), version = key
    named = [name for name in (variant, part, version) if name not in {ALL, ""}]
    return f"{rule} ({', '.join(named)})" if named else rule


def _estimate(evaluation: Evaluation, spec: Spec, choice: Choice) -> SignalState | None:
    names = [r.name for r in spec.signals if r.signal is Signal.ESTIMATE and r.of == choice.of]
    found = [evaluation.signals.get(SignalKey(name, choice.variant)) for name in names]
    return next((state for state in found if state is not None), None)


def _arrivals(
    predicted: Sequence[Counts],
    arrived: Sequence[Counts],
    delays: Sequence[Counts],
    grid: Grid,
) -> Iterator[ArrivalPoint]:
    for done in range(grid.step, len(predicted) - grid.warmup + 1, grid.step):
        number = done + grid.warmup
        step = slice(number - grid.step, number)
        end_ms = grid.window.start_ms + done * grid.size_ms
        yield ArrivalPoint(
            start_ms=end_ms - grid.step * grid.size_ms,
            end_ms=end_ms,
            predictions=sum(pane.predictions for pane in predicted[step]),
            labelled=sum(pane.labelled for pane in predicted[step]),
            arrived=sum(pane.labelled for pane in arrived[step]),
            delays=_delays(merge(delays[number - grid.warmup : number])),
        )


def _delays(counts: Counts) -> Delays | None:
    p50, p90, p99 = (counts.delay_ms(share) for share in (0.5, 0.9, 0.99))
    if p50 is None or p90 is None or p99 is None:
        return None
    n = sum(n for cell, n in counts.cells.items() if cell[0] == "delay")
    return Delays(p50, p90, p99, n)


def _cohort(panes: Sequence[Counts], grid: Grid, as_of_ms: int) -> list[tuple[int, Counts]]:
    return [
        (as_of_ms - start_ms - grid.size_ms, pane)
        for start_ms, pane in zip(grid.starts, panes, strict=True)
    ]


def books(reader: StateReader, spec: Spec) -> Books:
    """Where every record went, as of the watermark."""
    ledger, reached = reader.ledger(), watermark(reader.cuts()) or 0
    sides = [
        balance_of(ledger, kind, watermark_ms=reached, horizon_ms=spec.windows.horizon_ms)
        for kind in (Kind.PREDICTIONS, Kind.LABELS)
    ]
    return Books(
        predictions=sides[0],
        labels=sides[1],
        corrected=ledger.get("labels.corrected", 0),
        early=ledger.get("labels.early", 0),
        gaps=tuple(gaps_of(ledger)),
    )
