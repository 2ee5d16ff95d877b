"""What each signal measures: panes of the log clock -> a value, its limit and the words for it.

Every pane is read once and reduced to the few numbers that a rule needs; only these are kept. The
formulas with their limits are in ``docs/signals.md``.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from monitor.domain import estimate
from monitor.domain.counts import Cell, Counts, value_of
from monitor.domain.estimate import CALIBRATION_DAYS, CHECK_DAYS, Check, Truth
from monitor.domain.events import Intent
from monitor.domain.rules import Signal, SignalRule
from monitor.domain.slices import SliceKey
from monitor.domain.windows import DAY_MS, HOUR_MS, Clock, PaneKey, WindowSpec, pane_start

MOST_QUIET_MS = DAY_MS
"""A variant without predictions for so long is not in use: it has no data."""

LEAST_OF_SHARE = 50
"""Records or predictions that a share needs."""

LEAST_OF_SKETCH = 20
"""Values that a quantile or a mean needs."""

LEAST_REFERENCE = 100
"""Predictions of the group that the reference of predicted_share needs, and the hours it spans."""

LEAST_REFERENCE_HOURS = 12

LEAST_OF_HOUR = 20
"""Predictions that make an hour worth comparing."""

LEAST_DRIFT_HOURS = 24
DRIFT_LASTS_MS = DAY_MS
"""How long a detected change is warned of."""

READ_AT_ONCE = 256

Sums = Mapping[Cell, int]
Watched = tuple[SignalRule, str]

_N: Cell = ("n",)
_K: Cell = ("k",)


class Measured(NamedTuple):
    """One look: ``hits`` of ``n`` are the counts behind ``value``; None says ``reason`` alone."""

    value: float | None
    reason: str
    limit: float | None = None
    is_bad: bool = False
    hits: int = 0
    n: int = 0
    error: float | None = None
    past_error: float | None = None
    checks: int = 0


def span_ms(rule: SignalRule) -> int:
    """How far back from a tick a rule reads hours."""
    if rule.signal is Signal.ESTIMATE:
        return (CALIBRATION_DAYS + CHECK_DAYS + 1) * DAY_MS
    if rule.signal in _WITH_REFERENCE:
        return rule.window_ms + rule.reference_ms + HOUR_MS
    return rule.window_ms


_DRIFTS = frozenset({Signal.SHARE_DRIFT, Signal.SCORE_DRIFT})
_WITH_REFERENCE = frozenset({Signal.PREDICTED_SHARE}) | _DRIFTS


BLOCK_MS = 5 * 60_000
"""Panes shorter than this are summed up by so much, once: windows that overlap share them."""


class Panes:
    """Settled panes, reduced to what rules need; they never change, so they are kept.

    ``read`` is the store's.
    """

    def __init__(
        self, windows: WindowSpec, read: Callable[[Sequence[PaneKey]], list[Counts]]
    ) -> None:
        self.windows = windows
        self._read = read
        self._kept: defaultdict[tuple[str, str], dict[tuple[int, int], Sums]] = defaultdict(dict)

    def fetch(self, watched: Sequence[Watched], instants: Sequence[int]) -> None:
        """Read what looks at these instants will need, in few round trips."""
        wanted: defaultdict[PaneKey, list[SignalRule]] = defaultdict(list)
        for rule, variant in watched:
            kept = self._kept[rule.name, variant]
            for size_ms, start_ms in _needed(rule, instants, self.windows.pane_ms, kept):
                if (size_ms, start_ms) not in kept:
                    wanted[PaneKey(Clock.LOG, size_ms, start_ms, SliceKey(variant))].append(rule)
        keys = list(wanted)
        for at in range(0, len(keys), READ_AT_ONCE):
            part = keys[at : at + READ_AT_ONCE]
            for pane, counts in zip(part, self._read(part), strict=True):
                for rule in wanted[pane]:
                    kept = self._kept[rule.name, pane.key.variant]
                    kept[pane.size_ms, pane.start_ms] = _reduced(rule, counts)

    def window(self, rule: SignalRule, variant: str, end_ms: int) -> Sums:
        """What the rule's window holds that ends at a tick."""
        kept = self._kept[rule.name, variant]
        total: Counter[Cell] = Counter()
        for place in _cover(end_ms - rule.window_ms, end_ms, self.windows.pane_ms, BLOCK_MS):
            if place not in kept:
                kept[place] = self._block(kept, *place)
            total.update(kept[place])
        return total

    def _block(self, kept: Mapping[tuple[int, int], Sums], size_ms: int, start_ms: int) -> Sums:
        """Windows overlap, so what they share is summed up once."""
        pane_ms, end_ms = self.windows.pane_ms, start_ms + size_ms
        return _merged(kept[pane_ms, at] for at in range(start_ms, end_ms, pane_ms))

    def hours(self, rule: SignalRule, variant: str, start_ms: int, end_ms: int) -> list[Sums]:
        """The hours from ``start_ms`` to ``end_ms``, which are full ones, oldest first."""
        kept = self._kept[rule.name, variant]
        return [kept[HOUR_MS, at] for at in range(start_ms, end_ms, HOUR_MS)]

    def day(self, rule: SignalRule, variant: str, start_ms: int) -> Sums:
        """What a full day holds, summed up once."""
        kept, place = self._kept[rule.name, variant], (DAY_MS, start_ms)
        if place not in kept:
            kept[place] = _merged(self.hours(rule, variant, start_ms, start_ms + DAY_MS))
        return kept[place]

    def forget(self, rules: Iterable[SignalRule], now_ms: int) -> None:
        """Keep only what ticks from ``now_ms`` on can need."""
        by_name = {rule.name: rule for rule in rules}
        for (name, variant), kept in list(self._kept.items()):
            if name not in by_name:
                del self._kept[name, variant]
                continue
            # Whatever lies before the window is looked at by hours, or by days.
            rule, last_ms = by_name[name], now_ms - HOUR_MS
            window_ms, oldest_ms = last_ms - rule.window_ms, last_ms - span_ms(rule)
            for place in list(kept):
                size_ms, start_ms = place
                is_summed = size_ms < HOUR_MS or _is_in_day(kept, size_ms, start_ms)
                if start_ms < (window_ms if is_summed else oldest_ms):
                    del kept[place]


def _cover(
    start_ms: int, end_ms: int, pane_ms: int, block_ms: int = 0
) -> Iterator[tuple[int, int]]:
    """The fewest panes that make up a window, oldest first; blocks of panes count as one."""
    at_ms = pane_start(start_ms, pane_ms)
    is_blocked = block_ms > pane_ms and block_ms % pane_ms == 0
    while at_ms < end_ms:
        if at_ms % HOUR_MS == 0 and at_ms + HOUR_MS <= end_ms:
            size_ms = HOUR_MS
        elif is_blocked and at_ms % block_ms == 0 and at_ms + block_ms <= end_ms:
            size_ms = block_ms
        else:
            size_ms = pane_ms
        yield size_ms, at_ms
        at_ms += size_ms


def _is_in_day(kept: Mapping[tuple[int, int], Sums], size_ms: int, start_ms: int) -> bool:
    """Whether it is an hour of a day that has been summed up."""
    return size_ms == HOUR_MS and (DAY_MS, pane_start(start_ms, DAY_MS)) in kept


def _needed(
    rule: SignalRule,
    instants: Sequence[int],
    pane_ms: int,
    kept: Mapping[tuple[int, int], Sums],
) -> Iterable[tuple[int, int]]:
    needed = dict.fromkeys(
        place for now_ms in instants for place in _cover(now_ms - rule.window_ms, now_ms, pane_ms)
    )
    if instants and (rule.signal in _WITH_REFERENCE or rule.signal is Signal.ESTIMATE):
        first_ms = pane_start(instants[0] - span_ms(rule), HOUR_MS)
        if rule.signal is Signal.ESTIMATE:
            # Full days alone; of one that is half forgotten the rest is not read again.
            first_ms = pane_start(first_ms + DAY_MS, DAY_MS)
        last_ms = pane_start(instants[-1], HOUR_MS)
        # Of the first tick's day hours are asked for one by one, even if it has been summed up: an
        # evaluation that is dropped is followed by one that begins earlier.
        today_ms = pane_start(instants[0], DAY_MS)
        needed |= dict.fromkeys(
            (HOUR_MS, at)
            for at in range(first_ms, last_ms, HOUR_MS)
            if at >= today_ms or not _is_in_day(kept, HOUR_MS, at)
        )
    return needed


def _reduced(rule: SignalRule, counts: Counts) -> Sums:
    """The few numbers of a pane that a rule needs, under ``n`` always what traffic there was."""
    cells, signal = counts.cells, rule.signal
    if signal is Signal.REJECTED_SHARE:
        return _few(_total(cells, "received"), _total(cells, "rejected"))
    n = _total(cells, "prediction")
    if signal in {Signal.PREDICTED_SHARE, Signal.SHARE_DRIFT}:
        return _few(n, _predicted(cells, rule.group.__contains__))
    if signal is Signal.UNKNOWN_INTENTS:
        return _few(n, n - _predicted(cells, rule.known.__contains__))
    if signal is Signal.LABEL_COVERAGE:
        return _few(n, _total(cells, "outcome"))
    names, score_name = _CELLS.get(signal, ()), rule.score_name
    wanted = {
        cell: count
        for cell, count in cells.items()
        if cell[0] in names and (cell[0] not in _OF_A_SCORE or cell[1] == score_name)
    }
    if signal is Signal.ESTIMATE:
        wanted |= _waited(cells)
    return {**wanted, **_few(n, 0)}


_CELLS: Mapping[Signal, tuple[str, ...]] = {
    Signal.LABEL_DELAY: ("delay",),
    Signal.LATENCY_P95: ("latency",),
    Signal.RELEVANCE: ("relevance",),
    Signal.SCORE_DRIFT: ("score",),
    Signal.ESTIMATE: ("score", "truth"),
}


_OF_A_SCORE = frozenset({"score", "truth"})


def _few(n: int, k: int) -> dict[Cell, int]:
    few = {_N: n, _K: k}
    return {cell: count for cell, count in few.items() if count}


def _total(cells: Sums, name: str) -> int:
    return sum(count for cell, count in cells.items() if cell[0] == name)


def _predicted(cells: Sums, is_wanted: Callable[[Intent], bool]) -> int:
    return sum(n for cell, n in cells.items() if cell[0] == "prediction" and is_wanted(cell[1]))


def _waited(cells: Sums) -> dict[Cell, int]:
    """For how long labels took: their number and the sum of their delays, in milliseconds."""
    delays = [(cell[1], n) for cell, n in cells.items() if cell[0] == "delay"]
    waited = sum(n * _whole_ms(bucket) for bucket, n in delays)
    return {("labels",): sum(n for _, n in delays), ("waited",): waited} if delays else {}


@cache
def _whole_ms(bucket: str) -> int:
    return round(value_of(int(bucket)))


class _Reference(NamedTuple):
    """What predicted_share is compared with; ``spread`` is how much more hours differ than chance.

    As a factor on the variance, 1 at least.
    """

    hits: int
    n: int
    hours: int
    spread: float


class _Basis(NamedTuple):
    """What an estimate stands on, as of a full hour."""

    table: Mapping[int, Truth]
    labels: int
    group_labels: int
    checks: tuple[Check, ...]


class Measures:
    """Measures rules, remembering what holds for a whole hour."""

    def __init__(self, panes: Panes) -> None:
        self.panes = panes
        self._references: dict[tuple[str, str], tuple[int, _Reference]] = {}
        self._changes: dict[tuple[str, str], tuple[int, tuple[int, int | None]]] = {}
        self._bases: dict[tuple[str, str], tuple[int, _Basis]] = {}

    def measure(
        self,
        rule: SignalRule,
        variant: str,
        window: Sums,
        now_ms: int,
        *,
        seen_ms: int,
        last_ms: int,
    ) -> Measured:
        """One look at a rule's window that ends at ``now_ms``."""
        signal = rule.signal
        if signal is Signal.VOLUME:
            return _volume(rule, window, now_ms, seen_ms=seen_ms, last_ms=last_ms)
        if not window.get(_N, 0):
            return Measured(None, "nothing came")
        if signal is Signal.LABEL_COVERAGE and now_ms - seen_ms < rule.window_ms:
            return Measured(None, "not seen for a whole window yet")
        if signal is Signal.PREDICTED_SHARE:
            start_ms = pane_start(now_ms - rule.window_ms, HOUR_MS)
            return _predicted_share(rule, window, self._reference(rule, variant, start_ms))
        if signal in _DRIFTS:
            hour_ms = pane_start(now_ms, HOUR_MS)
            return _drift(rule, window, *self._change(rule, variant, hour_ms), now_ms)
        if signal is Signal.ESTIMATE:
            basis = self._basis(rule, variant, pane_start(now_ms, HOUR_MS))
            return _estimate(rule, window, basis)
        return _SIMPLE[signal](rule, window)

    def _reference(self, rule: SignalRule, variant: str, end_ms: int) -> _Reference:
        held = self._references.get((rule.name, variant))
        if held is None or held[0] != end_ms:
            first_ms = pane_start(end_ms - rule.reference_ms, HOUR_MS)
            hours = self.panes.hours(rule, variant, first_ms, end_ms)
            held = end_ms, _reference_of(hours)
            self._references[rule.name, variant] = held
        return held[1]

    def _change(self, rule: SignalRule, variant: str, end_ms: int) -> tuple[int, int | None]:
        """Hours that could be compared, and when the latest change was found."""
        held = self._changes.get((rule.name, variant))
        if held is None or held[0] != end_ms:
            first_ms = pane_start(end_ms - rule.reference_ms, HOUR_MS)
            hours = self.panes.hours(rule, variant, first_ms, end_ms)
            held = end_ms, latest_change(rule, hours, first_ms)
            self._changes[rule.name, variant] = held
        return held[1]

    def _basis(self, rule: SignalRule, variant: str, end_ms: int) -> _Basis:
        held = self._bases.get((rule.name, variant))
        if held is None or held[0] != end_ms:
            today = end_ms // DAY_MS
            days = {
                day: self.panes.day(rule, variant, day * DAY_MS)
                for day in range(today - _DAYS + 1, today)
            }
            days[today] = _merged(self.panes.hours(rule, variant, today * DAY_MS, end_ms))
            held = end_ms, _basis_of(rule, days, today)
            self._bases[rule.name, variant] = held
        return held[1]

    def forget(self, rules: Sequence[SignalRule], now_ms: int) -> None:
        """Keep only what ticks from ``now_ms`` on can need."""
        self.panes.forget(rules, now_ms)


_DAYS = CALIBRATION_DAYS + CHECK_DAYS


def _merged(many: Iterable[Sums]) -> Counter[Cell]:
    total: Counter[Cell] = Counter()
    for sums in many:
        total.update(sums)
    return total


def _judged(rule: SignalRule, value: float, words: str, *, hits: int, n: int) -> Measured:
    """Compare with the rule's bounds."""
    if rule.below is not None and value < rule.below:
        return Measured(
            value, f"{words}, below {_text(rule, rule.below)}", rule.below, True, hits, n
        )
    if rule.above is not None and value > rule.above:
        return Measured(
            value, f"{words}, above {_text(rule, rule.above)}", rule.above, True, hits, n
        )
    limit = rule.below if rule.below is not None else rule.above
    return Measured(value, words, limit, False, hits, n)


def _text(rule: SignalRule, value: float) -> str:
    if rule.signal in {Signal.LABEL_DELAY, Signal.LATENCY_P95}:
        return _span(value)
    if rule.signal is Signal.VOLUME:
        return f"{value:g} an hour"
    return f"{value:.1%}"


def _span(length_ms: float) -> str:
    """A length in milliseconds as people write it.

    >>> _span(850), _span(5_400_000)
    ('850 ms', '1.5 h')
    """
    for unit, size_ms in (("d", 2 * DAY_MS), ("h", HOUR_MS), ("min", 60_000), ("s", 1_000)):
        if length_ms >= size_ms:
            return f"{length_ms / (DAY_MS if unit == 'd' else size_ms):.3g} {unit}"
    return f"{length_ms:.3g} ms"


def _volume(rule: SignalRule, window: Sums, now_ms: int, *, seen_ms: int, last_ms: int) -> Measured:
    if now_ms - last_ms >= MOST_QUIET_MS:
        return Measured(None, "no predictions for a day")
    if now_ms - seen_ms < rule.window_ms:
        return Measured(None, "not seen for a whole window yet")
    n = window.get(_N, 0)
    value = n * HOUR_MS / rule.window_ms
    return _judged(rule, value, f"{value:g} predictions an hour", hits=n, n=n)


def _share(rule: SignalRule, window: Sums, words: str) -> Measured:
    n, k = window.get(_N, 0), window.get(_K, 0)
    if n < LEAST_OF_SHARE:
        return Measured(None, f"{n} of the {LEAST_OF_SHARE} that a share needs")
    return _judged(rule, k / n, f"{k} of {n} {words} ({k / n:.1%})", hits=k, n=n)


def _rejected(rule: SignalRule, window: Sums) -> Measured:
    return _share(rule, window, "records were rejected")


def _unknown(rule: SignalRule, window: Sums) -> Measured:
    return _share(rule, window, "predictions went to an intent that is not known")


def _coverage(rule: SignalRule, window: Sums) -> Measured:
    n, k = window.get(_N, 0), window.get(_K, 0)
    if n < LEAST_OF_SHARE:
        return Measured(None, f"{n} of the {LEAST_OF_SHARE} predictions that a share needs")
    return _judged(rule, k / n, f"{k} labels came beside {n} predictions", hits=k, n=n)


def _quantile(rule: SignalRule, window: Sums, sketch: str, share: float, words: str) -> Measured:
    n = _total(window, sketch)
    if n < LEAST_OF_SKETCH:
        return Measured(None, f"{n} of the {LEAST_OF_SKETCH} that a quantile needs")
    counts = Counts(window)
    value = counts.latency_ms(share) if sketch == "latency" else counts.delay_ms(share)
    value = value or 0.0
    return _judged(rule, value, f"{words} {_span(value)}", hits=n, n=n)


def _latency(rule: SignalRule, window: Sums) -> Measured:
    return _quantile(rule, window, "latency", 0.95, "95 % were answered within")


def _delay(rule: SignalRule, window: Sums) -> Measured:
    return _quantile(rule, window, "delay", 0.50, "half of the labels came within")


def _relevance(rule: SignalRule, window: Sums) -> Measured:
    mean, n = Counts(window).relevance
    if mean is None or n < LEAST_OF_SKETCH:
        return Measured(None, f"{n} of the {LEAST_OF_SKETCH} judged answers that a mean needs")
    return _judged(rule, mean, f"mean relevance of {n} answers {mean:.1%}", hits=n, n=n)


_SIMPLE: Mapping[Signal, Callable[[SignalRule, Sums], Measured]] = {
    Signal.REJECTED_SHARE: _rejected,
    Signal.UNKNOWN_INTENTS: _unknown,
    Signal.LABEL_COVERAGE: _coverage,
    Signal.LATENCY_P95: _latency,
    Signal.LABEL_DELAY: _delay,
    Signal.RELEVANCE: _relevance,
}


def _reference_of(hours: Sequence[Sums]) -> _Reference:
    counted = [(h.get(_K, 0), h.get(_N, 0)) for h in hours if h.get(_N, 0)]
    hits, n = sum(k for k, _ in counted), sum(m for _, m in counted)
    spread = 1.0
    if 0 < hits < n:
        # Medians, since an incident in the reference must hide neither the next one nor itself.
        p = sorted(k / m for k, m in counted)[len(counted) // 2]
        p = p if 0 < p < 1 else hits / n
        squares = sorted((k - m * p) ** 2 / (m * p * (1 - p)) for k, m in counted)
        spread = max(1.0, squares[len(squares) // 2] / _SQUARE_OF_CHANCE)
    return _Reference(hits, n, len(counted), spread)


_SQUARE_OF_CHANCE = 0.4549
"""Median of the square of a standard normal value."""


def _predicted_share(rule: SignalRule, window: Sums, reference: _Reference) -> Measured:
    n, k = window.get(_N, 0), window.get(_K, 0)
    words = f"{k} of {n} predictions went to {rule.of} ({k / n:.1%})"
    if rule.below is not None or rule.above is not None:
        bounded = _judged(rule, k / n, words, hits=k, n=n)
        if bounded.is_bad and n >= LEAST_OF_SHARE:
            return bounded
    if reference.hits < LEAST_REFERENCE or reference.hours < LEAST_REFERENCE_HOURS:
        return Measured(None, f"{reference.hours} hours with {reference.hits} to compare with")
    before = reference.hits / reference.n
    pooled = (k + reference.hits) / (n + reference.n)
    variance = pooled * (1 - pooled) * (1 / n + 1 / reference.n) * reference.spread
    z = (k / n - before) / math.sqrt(variance) if variance > 0 else 0.0
    words += f", before that {before:.1%} (z {z:.1f})"
    return Measured(k / n, words, before, z < rule.z, k, n)


def latest_change(rule: SignalRule, hours: Sequence[Sums], first_ms: int) -> tuple[int, int | None]:
    """How many hours can be compared, and the end of the one in which the last change was found.

    Hourly values are taken as distances from their mean in standard errors, divided by how much
    neighbouring hours differ beyond chance.
    """
    points = [(number, _point(rule, sums)) for number, sums in enumerate(hours)]
    compared = [(number, point) for number, point in points if point is not None]
    ends = [first_ms + (number + 1) * HOUR_MS for number, _ in compared]
    values = _distances([point for _, point in compared])
    if len(values) < LEAST_DRIFT_HOURS:
        return len(values), None
    # Imported by those who look for changes alone: river brings SciPy, half a second and 50 MB.
    from monitor.domain.changes import detections  # noqa: PLC0415 - see above

    found = None
    found_at = detections(rule.drift, values, least=LEAST_DRIFT_HOURS)
    for end_ms, is_change in zip(ends, found_at, strict=True):
        if is_change:
            found = end_ms
    return len(values), found


class _Point(NamedTuple):
    """One hour: mean, variance of a single value, and number of values."""

    mean: float
    variance: float
    n: int


def _point(rule: SignalRule, sums: Sums) -> _Point | None:
    if rule.signal is Signal.SHARE_DRIFT:
        n = sums.get(_N, 0)
        share = sums.get(_K, 0) / n if n else 0.0
        return _Point(share, share * (1 - share), n) if n >= LEAST_OF_HOUR else None
    scores = estimate.scores_in(sums, rule.score_name)
    n = sum(scores.values())
    if n < LEAST_OF_HOUR:
        return None
    mean = sum(estimate.middle_of(b) * k for b, k in scores.items()) / n
    spread = sum((estimate.middle_of(b) - mean) ** 2 * k for b, k in scores.items()) / n
    return _Point(mean, spread, n)


def _distances(points: Sequence[_Point]) -> list[float]:
    total = sum(point.n for point in points)
    if not total:
        return []
    mean = sum(point.mean * point.n for point in points) / total
    within = sum(point.variance * point.n for point in points) / total
    variance = within + 1e-12
    z = [(point.mean - mean) / math.sqrt(variance / point.n) for point in points]
    steps = sorted(abs(b - a) for a, b in pairwise(z))
    usual = steps[len(steps) // 2] / _STEP_OF_CHANCE if steps else 1.0
    return [value / max(1.0, usual) for value in z]


_STEP_OF_CHANCE = 0.9539
"""Median distance of two independent standard normal values."""


def _drift(
    rule: SignalRule, window: Sums, hours: int, found_ms: int | None, now_ms: int
) -> Measured:
    if hours < LEAST_DRIFT_HOURS:
        return Measured(None, f"{hours} of the {LEAST_DRIFT_HOURS} hours that are compared")
    point = _point(rule, window)
    if point is None:
        return Measured(None, "too little in the window")
    is_bad = found_ms is not None and now_ms - found_ms < DRIFT_LASTS_MS
    what = "share" if rule.signal is Signal.SHARE_DRIFT else "mean score"
    words = f"{what} of {rule.of} {point.mean:.1%}"
    if is_bad:
        words += f", changed according to {rule.drift} over {hours} hourly values"
    return Measured(point.mean, words, None, is_bad, point.n, point.n)


def _basis_of(rule: SignalRule, days: Mapping[int, Sums], today: int) -> _Basis:
    truths = {day: estimate.truths_in(cells, rule.score_name) for day, cells in days.items()}
    kept = {day: truth for day, truth in truths.items() if day > today - CALIBRATION_DAYS}
    n, waited = (
        sum(cells.get((name,), 0) for cells in days.values()) for name in ("labels", "waited")
    )
    lag_days = 1 + (waited // n // DAY_MS if n else 0)
    checks = [_checked(truths, day, day - lag_days) for day in range(today - CHECK_DAYS, today)]
    everything = list(kept.values())
    return _Basis(
        estimate.calibrated(kept, today),
        int(sum(t.n for truth in everything for t in truth.values())),
        int(sum(t.hits for truth in everything for t in truth.values())),
        tuple(check for check in checks if check is not None),
    )


def _checked(truths: Mapping[int, Mapping[int, Truth]], day: int, known: int) -> Check | None:
    """What was estimated for the predictions labelled on a day, from labels up to ``known``."""
    before = {at: truth for at, truth in truths.items() if at <= known}
    labels = sum(t.n for truth in before.values() for t in truth.values())
    if labels < estimate.LEAST_LABELS:
        return None
    return estimate.check(truths[day], estimate.calibrated(before, known))


def _estimate(rule: SignalRule, window: Sums, basis: _Basis) -> Measured:
    n = window.get(_N, 0)
    found = estimate.estimate(
        estimate.scores_in(window, rule.score_name),
        n,
        basis.table,
        basis.checks,
        labels=basis.labels,
        group_labels=basis.group_labels,
    )
    if found.value is None or found.error is None:
        return Measured(None, found.refused, past_error=found.past_error, checks=found.checks)
    assumes = estimate.ASSUMPTION.format(of=rule.of)
    words = f"recall of {rule.of} estimated at {found.value:.1%} ± {found.error:.1%}; {assumes}"
    is_bad = rule.objective is not None and found.value + 2 * found.error < rule.objective
    return Measured(
        found.value,
        words,
        rule.objective,
        is_bad,
        0,
        n,
        found.error,
        found.past_error,
        found.checks,
    )
