"""From the store to the page "Replay and audit".

*As known then* is read from the third clock: each outcome at the log time at which it was first
known. Its panes never change once the watermark has passed, so what they say of ``[start, at)`` is
what a look at ``at`` would have shown. Transitions count up to ``at``, exclusive, as for
``recallwatch replay --as-of``. *As known now* is read from panes by event time. No Streamlit, no
clock.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from dashboards import queries, words
from dashboards.banner import covers, speaks
from dashboards.models import Choice, Point
from dashboards.queries import Grid
from dashboards.replay_models import (
    Ask,
    GroupScore,
    Jump,
    Known,
    Moments,
    Numbers,
    Proof,
    Replayed,
    RuleThen,
    Standing,
    is_raised,
)
from monitor.app.settings import Settings, SettingsError
from monitor.app.wiring import differences, provenance_of, settings_of, spec_of
from monitor.codec.journal import sealed
from monitor.domain.alerts import AlertKey, Event, Status, Transition
from monitor.domain.counts import Counts, merge, value_of
from monitor.domain.engine import Spec
from monitor.domain.errors import JournalError
from monitor.domain.journal import JournalEntry
from monitor.domain.rules import AlertRule, Metric, SignalRule
from monitor.domain.scores import proportion
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import HOUR_MS, Clock, PaneKey, Window, pane_start
from monitor.ports import StateReader

AROUND = 5
"""Journal entries shown on each side of the one that covers an instant."""

MOST_JUMPS = 200
_JUDGEMENTS = frozenset({Event.CONFIRMED, Event.RETRACTED, Event.RAISED})
_ORDER = (Status.FIRING, Status.RECOVERING, Status.WARNING, Status.OK, Status.NO_DATA)


def moments(
    reader: StateReader, spec: Spec, choice: Choice, *, recent_ms: int, now_ms: int
) -> Moments:
    """What can be asked for. Raises StoreError when the store is gone."""
    del choice, recent_ms, now_ms
    pane_ms = spec.windows.pane_ms
    watermark_ms = reader.evaluation().watermark_ms
    if watermark_ms is None:
        return Moments(0, None, pane_ms)
    newest_ms = pane_start(watermark_ms, pane_ms)
    transitions = reader.transitions()
    oldest_ms = _oldest_ms(reader, spec, watermark_ms)
    if transitions:
        oldest_ms = min(oldest_ms, transitions[0].at_ms)
    first_ms = pane_start(oldest_ms, pane_ms) + pane_ms
    return Moments(
        min(first_ms, newest_ms), newest_ms, pane_ms, tuple(_jumps(transitions, pane_ms))
    )


def replayed(
    reader: StateReader,
    spec: Spec,
    choice: Choice,
    *,
    recent_ms: int,
    now_ms: int,
    ask: Ask,
    settings: Settings,
) -> Replayed:
    """The page at an instant. Raises StoreError when the store is gone."""
    evaluation = reader.evaluation()
    newest_ms = pane_start(evaluation.watermark_ms or 0, spec.windows.pane_ms)
    at_ms = newest_ms if ask.at_ms is None else min(ask.at_ms, newest_ms)
    grid, is_kept = _kept_grid(spec, choice.span, recent_ms, at_ms, evaluation.watermark_ms)
    at_ms = grid.window.end_ms if is_kept else pane_start(at_ms, spec.windows.pane_ms)
    is_hindsight = ask.known is not Known.THEN
    proof, fault = _proof_or_fault(
        reader, at_ms, evaluation.sequence, settings if is_hindsight else None
    )
    ruled = _spec_then(proof, settings) or spec
    transitions = reader.transitions()
    moves = tuple(t for t in transitions if t.at_ms < at_ms)
    judged = tuple(_judged(transitions, at_ms)) if is_hindsight else ()
    mine = [rule for rule in ruled.rules if rule.of == choice.of and covers(rule, choice.variant)]
    variants = queries.variants_of(reader)
    look = _Look(reader, choice, variants, grid)
    return Replayed(
        freshness=queries.freshness_of(reader, now_ms),
        variants=variants,
        of=choice.of,
        known=ask.known,
        at_ms=at_ms,
        window=Window(at_ms - (grid.window.end_ms - grid.window.start_ms), at_ms),
        pane_ms=grid.size_ms,
        rolling_ms=grid.warmup * grid.size_ms,
        is_kept=is_kept,
        then=look.then(ruled) if is_kept and ask.known is not Known.NOW else None,
        now=look.now(spec) if is_kept and is_hindsight else None,
        objective=_objective(spec if ask.known is Known.NOW else ruled, choice),
        spans=queries.spans_of(moves, mine, choice.variant, grid.window),
        standings=tuple(_standings(ruled, moves, judged, choice.variant)),
        moves=moves,
        judged=judged,
        versions=_versions(moves),
        rules=tuple(_rules(proof)),
        proof=proof,
        journal_fault=fault,
    )


def known_of(panes: Iterable[tuple[int, Counts]], size_ms: int, from_ms: int) -> int:
    """How many outcomes, in panes by log time, are of predictions not before ``from_ms``.

    Told from the delays, which are known to 1 % of their length: exact but for delays that end
    that near to ``from_ms``. Within a pane outcomes are taken to come evenly.
    """
    known = 0.0
    for start_ms, counts in panes:
        for cell, n in counts.cells.items():
            if cell[0] == "delay":
                past_ms = start_ms + size_ms - (from_ms + value_of(int(cell[1])))
                known += n * min(max(past_ms / size_ms, 0.0), 1.0)
    return round(known)


def entry_at(reader: StateReader, at_ms: int, last: int) -> JournalEntry | None:
    """The last journal entry with a tick not after ``at_ms``; None when none is kept.

    ``last`` is the greatest sequence. Halves the kept entries: their ticks never go back.
    """
    found = reader.journal(0, 1)
    if not found or found[0].tick_ms > at_ms:
        return None
    best, low, high = found[0], found[0].sequence, last
    while low < high:
        middle = (low + high + 1) // 2
        entries = reader.journal(middle - 1, 1)
        if entries and entries[0].tick_ms <= at_ms:
            best, low = entries[0], max(middle, entries[0].sequence)
        else:
            high = middle - 1
    return best


def _oldest_ms(reader: StateReader, spec: Spec, watermark_ms: int) -> int:
    """Start of the oldest hour of which anything is kept by log time."""
    keep_ms = spec.windows.keep_ms.get(HOUR_MS, 0)
    last_ms = pane_start(watermark_ms, HOUR_MS)
    starts = range(pane_start(watermark_ms - keep_ms, HOUR_MS), last_ms + 1, HOUR_MS)
    found = reader.panes([PaneKey(Clock.LOG, HOUR_MS, at, SliceKey(ALL)) for at in starts])
    return next((at for at, counts in zip(starts, found, strict=True) if counts.cells), last_ms)


def _jumps(transitions: Sequence[Transition], pane_ms: int) -> Iterator[Jump]:
    """The latest moments at which somebody was told, newest first."""
    raised = [t for t in transitions if is_raised(t)]
    for move in raised[: -MOST_JUMPS - 1 : -1]:
        at = words.instant(move.at_ms).strftime("%Y-%m-%d %H:%M UTC")
        title = f"{at} · {move.moved_to} · {name_of(move.alert)}"
        yield Jump(move.id, pane_start(move.at_ms, pane_ms) + pane_ms, title)


def name_of(alert: AlertKey) -> str:
    """Rule and, in brackets, whose numbers, as far as the alert speaks of one."""
    named = [words.one_line(n) for n in (*alert.key, alert.version) if n not in {ALL, ""}]
    rule = words.one_line(alert.rule)
    return f"{rule} ({', '.join(named)})" if named else rule


def _kept_grid(
    spec: Spec, span: str, recent_ms: int, at_ms: int, watermark_ms: int | None
) -> tuple[Grid, bool]:
    """The finest panes of the range that are all still stored; else those of the range, false.

    Where minutes are gone there may be hours, up to the last full hour before ``at_ms``.
    """
    fine = queries.grid_of(spec, span, recent_ms, at_ms)
    for grid in (fine, _hourly(fine)):
        is_counted = grid.size_ms <= HOUR_MS and grid.size_ms in spec.windows.keep_ms
        if is_counted and spec.windows.is_kept(grid.size_ms, grid.starts[0], watermark_ms):
            return grid, True
    return fine, False


def _hourly(grid: Grid) -> Grid:
    end_ms = pane_start(grid.window.end_ms, HOUR_MS)
    length_ms = max(HOUR_MS, pane_start(grid.window.end_ms - grid.window.start_ms, HOUR_MS))
    return Grid(HOUR_MS, Window(end_ms - length_ms, end_ms), 1, 1)


class _Look(NamedTuple):
    """Panes of one choice and range, under either clock."""

    reader: StateReader
    choice: Choice
    variants: tuple[str, ...]
    grid: Grid

    def then(self, spec: Spec) -> Numbers:
        """By the log time at which each thing was first known, under the rules of then."""
        grid = self.grid
        panes = self._panes(Clock.LOG)
        shown = list(zip(grid.starts, panes, strict=True))[grid.warmup :]
        found = self._numbers(panes, spec)
        of_window = known_of(shown, grid.size_ms, grid.window.start_ms)
        return replace(found, of_window=min(of_window, found.predictions))

    def now(self, spec: Spec) -> Numbers:
        """By the event time of each prediction, with today's labels and rules."""
        return self._numbers(self._panes(Clock.EVENT), spec)

    def _panes(self, clock: Clock) -> list[Counts]:
        return queries.read_panes(self.reader, self.choice.variant, self.variants, clock, self.grid)

    def _numbers(self, panes: Sequence[Counts], spec: Spec) -> Numbers:
        total = merge(panes[self.grid.warmup :])
        group = spec.groups.of(self.choice.of)
        right = sum(n for (a, p), n in total.confusion.items() if a == p)
        points: tuple[Point, ...] = tuple(queries.points_of(panes, group, self.grid))
        return Numbers(
            predictions=total.predictions,
            labelled=total.labelled,
            of_window=total.labelled,
            groups=tuple(_groups(total, spec)),
            accuracy=proportion(right, total.labelled),
            points=points,
        )


def _objective(spec: Spec, choice: Choice) -> float | None:
    """That of the first rule about the recall that is looked at."""
    rules = [r for r in spec.rules if r.of == choice.of and covers(r, choice.variant)]
    return next((r.objective for r in rules if r.metric is Metric.RECALL), None)


def _groups(total: Counts, spec: Spec) -> Iterator[GroupScore]:
    """What can be watched, each with its objective; what rules speak of comes first."""
    objectives = {r.of: r.objective for r in spec.rules if r.metric is Metric.RECALL}
    for name in queries.watched_names(spec):
        hits, support = total.hits_and_support(spec.groups.of(name))
        yield GroupScore(name, proportion(hits, support), hits, objectives.get(name))


def _judged(transitions: Iterable[Transition], at_ms: int) -> Iterator[Transition]:
    """Judgements made since of what had been told by then, and of drops that had begun untold."""
    told: set[str] = set()
    for found in transitions:
        if found.at_ms < at_ms:
            told.add(found.id)
        elif found.event in _JUDGEMENTS:
            began_ms = found.evidence.since_ms if found.evidence else found.at_ms
            if found.judges in told or (found.event is Event.RAISED and began_ms < at_ms):
                yield found


def _standings(
    spec: Spec, moves: Sequence[Transition], judged: Sequence[Transition], variant: str
) -> list[Standing]:
    """Each alert that had moved by then, the worst first; versions that are out of use left out."""
    watched: list[AlertRule | SignalRule] = [*spec.rules, *spec.signals]
    of = {rule.name: rule.of for rule in watched}
    later = {found.judges: found for found in judged if found.judges}
    found: dict[AlertKey, Standing] = {}
    for move in moves:
        if move.event is Event.MOVED:
            found[move.alert] = Standing(
                move.alert, of.get(move.rule, ""), move.moved_to, move, hindsight=later.get(move.id)
            )
        elif move.alert in found and move.event in {Event.STALLED, Event.RESUMED}:
            is_stalled = move.event is Event.STALLED
            found[move.alert] = replace(found[move.alert], is_stalled=is_stalled)
    shown = [
        each
        for each in found.values()
        if speaks(each.alert.key, variant) and each.status is not Status.NO_DATA
    ]
    return sorted(shown, key=lambda s: (_ORDER.index(s.status), -s.last.at_ms, s.alert))


def _versions(moves: Sequence[Transition]) -> dict[str, tuple[str, ...]]:
    """Variant -> versions that had labels and were not superseded, as far as alerts name them."""
    last = {move.alert: move for move in moves if move.event is Event.MOVED}
    found: dict[str, set[str]] = {}
    for alert, move in last.items():
        if alert.version and move.moved_to is not Status.NO_DATA:
            found.setdefault(alert.key.variant, set()).add(alert.version)
    return {variant: tuple(sorted(names)) for variant, names in sorted(found.items())}


def _proof_or_fault(
    reader: StateReader, at_ms: int, last: int, present: Settings | None
) -> tuple[Proof | None, str]:
    try:
        return _proof(reader, at_ms, last, present), ""
    except JournalError as error:
        return None, str(error)


def _proof(reader: StateReader, at_ms: int, last: int, present: Settings | None) -> Proof | None:
    """``present`` given, entries and settings later than the instant are named, too."""
    entry = entry_at(reader, at_ms, last)
    if entry is None:
        return None
    around = reader.journal(max(0, entry.sequence - AROUND - 1), 2 * AROUND + 1)
    before = next((e for e in around if e.sequence == entry.sequence - 1), None)
    document = reader.documents().get(entry.settings, "")
    is_document = hashlib.sha256(document.encode()).hexdigest() == entry.settings
    later = None if present is None else _later(document if is_document else "", present)
    return Proof(
        entry=entry,
        head=next(iter(reader.journal(last - 1, 1)), entry),
        is_sealed=sealed(entry).hash == entry.hash,
        follows=None if before is None else before.hash == entry.previous,
        document=document,
        is_document=is_document,
        around=tuple(e for e in around if present is not None or e.sequence <= entry.sequence),
        later=later,
    )


def _later(document: str, present: Settings) -> tuple[str, ...]:
    if not document:
        return ()
    return tuple(differences(document, provenance_of(present).document))


def _spec_then(proof: Proof | None, settings: Settings) -> Spec | None:
    """What determined the numbers then; None where the settings of then are not kept whole."""
    if proof is None or not proof.is_document:
        return None
    try:
        return spec_of(settings_of(proof.document, settings))
    except SettingsError:
        return None


def _rules(proof: Proof | None) -> Iterator[RuleThen]:
    told: dict[str, Any] = json.loads(proof.document) if proof and proof.is_document else {}
    for rule in told.get("rules", ()):
        yield RuleThen(str(rule.get("name", "")), _rule_text(rule))


def _rule_text(rule: dict[str, Any]) -> str:
    said = [f"{rule.get('metric', 'recall')} of {rule.get('of') or 'all intents'}"]
    said.append(f"objective {words.limit(float(rule['objective']))}")
    if rule.get("per"):
        said.append(f"per {' and '.join(map(str, rule['per']))}")
    for name in ("evidence", "baseline", "maturity", "hold"):
        value = rule.get(name)
        if value is not None:
            said.append(f"{name} {f'{value:g}' if isinstance(value, float) else value}")
    return ", ".join(said)
