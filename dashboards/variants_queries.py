"""From the store to the page "Variants". No Streamlit, no clock.

Verdicts, traps, history and advice are those of ``recallwatch verdict``, from the very same code.
The range is read from the panes of its lines, as far as both variants of the pair answered in them:
what only one of them was asked, in an incident say, would not be a fair comparison.

Requests that both answered are compared as pairs, where settings watch them and such came in the
verdict's window: pairs are kept as one sum, so there are none of a range.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from dashboards.banner import AlertView, alert_views, covers
from dashboards.models import Choice
from dashboards.queries import Grid, freshness_of, grid_of, points_of, read_panes
from dashboards.variants_models import (
    Asked,
    Compared,
    Judged,
    Measure,
    Pair,
    Period,
    Served,
    Unit,
    Variant,
    Version,
)
from monitor.app.comparing import Paired, pairs_of
from monitor.app.report import cut_of
from monitor.app.settings import Settings
from monitor.app.still import Still, still_of
from monitor.app.verdict_document import section_of
from monitor.app.verdict_review import MODEL, PROMPT, Review, Reviews, reviewed
from monitor.app.wiring import spec_of
from monitor.domain.alerts import Status, Transition, fingerprint
from monitor.domain.comparison import Comparison, compare, compare_latency, compare_relevance
from monitor.domain.counts import Counts, merge
from monitor.domain.engine import Spec
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import Intent
from monitor.domain.intervals import f1_interval, mean_interval
from monitor.domain.ledger import gaps_of
from monitor.domain.rules import Metric
from monitor.domain.scores import Score, fold, group_scores, headline, proportion
from monitor.domain.slices import ALL
from monitor.domain.windows import Clock
from monitor.ports import StateReader

TRIES = 3
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def compared(
    reader: StateReader,
    spec: Spec,
    choice: Choice,
    *,
    recent_ms: int,
    now_ms: int,
    asked: Asked,
    judged: Judged,
) -> Compared:
    """The page. Raises StoreError when the store is gone.

    A range is read again while a worker commits in between; if that never ends, there is no cut.
    """
    ask = _Ask(spec, choice, recent_ms, now_ms, asked, judged)
    if asked.period is Period.VERDICT:
        return replace(_compared(reader, ask), cut=judged.cut, as_of_ms=judged.as_of_ms)
    for _ in range(TRIES):
        before = cut_of(reader)
        view = _compared(reader, ask)
        if before == cut_of(reader):
            return replace(view, cut=before)
    return view


def judged(reader: StateReader, settings: Settings) -> Judged:
    """The verdicts of ``recallwatch verdict``. Raises StoreError when the store is gone.

    All hours of a month may be read for it: seconds, of a store with many intents.
    """
    found: list[Reviews] = []

    def read(still: Still) -> None:
        found[:] = [reviewed(still, settings)]

    still = still_of(reader, read)
    reviews = found[0] if still.is_whole else reviewed(still, settings)
    return Judged(
        found=reviews,
        section=section_of(reviews, spec_of(settings).groups),
        as_of_ms=still.evaluation().watermark_ms,
        cut=cut_of(still) if still.is_whole else None,
    )


def firing(reader: StateReader) -> tuple[str, ...]:
    """The alerts that fire, and since when: verdicts of another time had other reasons."""
    states = reader.evaluation().states.items()
    return tuple(
        sorted(
            f"{fingerprint(alert)} {state.since_ms}"
            for alert, state in states
            if state.status is Status.FIRING
        )
    )


class _Ask(NamedTuple):
    spec: Spec
    choice: Choice
    recent_ms: int
    now_ms: int
    asked: Asked
    judged: Judged


def _compared(reader: StateReader, ask: _Ask) -> Compared:
    spec, choice, asked = ask.spec, ask.choice, ask.asked
    freshness, evaluation = freshness_of(reader, ask.now_ms), reader.evaluation()
    found = ask.judged.found
    names = tuple(found.reviews)
    grid = grid_of(spec, choice.span, ask.recent_ms, freshness.as_of_ms or 0)
    chosen = _chosen(asked, found.reviews)
    is_range = asked.period is Period.RANGE
    lines = _lines(reader, names, grid, names if is_range else chosen)
    shared = _shared([lines[name] for name in chosen], grid)
    counts = {name: review.counts for name, review in found.reviews.items()}
    if is_range:
        counts = {name: merge(lines[name][at] for at in shared) for name in names}
    look = _Look(spec, choice.of, evaluation, reader.transitions())
    variants = {name: look.variant(one, counts[name]) for name, one in found.reviews.items()}
    group = spec.groups.of(choice.of)
    for name in chosen:
        points = tuple(points_of(lines[name], group, grid))
        variants[name] = replace(variants[name], points=points)
    return Compared(
        freshness=freshness,
        of=choice.of,
        period=asked.period,
        judged=ask.judged,
        window=grid.window,
        rolling_ms=grid.warmup * grid.size_ms,
        pane_ms=grid.size_ms,
        variants=tuple(variants.values()),
        pair=look.pair(
            *(variants[name] for name in chosen),
            counts=counts,
            since_ms=None if is_range else found.window.start_ms,
        )
        if len(chosen) > 1
        else None,
        objective=_objective(spec, choice.of),
        gaps=tuple(gaps_of(reader.ledger())),
        as_of_ms=evaluation.watermark_ms,
        panes=len(grid.starts) - grid.warmup,
        left_out=len(grid.starts) - grid.warmup - len(shared),
    )


def _chosen(asked: Asked, reviews: Mapping[str, Review]) -> tuple[str, ...]:
    """Who serves and whom it is compared with: as asked, else who answered most in the window.

    One name where there is one, none where there is none.
    """
    ranked = sorted(reviews, key=lambda name: (-reviews[name].counts.predictions, name))
    serving = [asked.serving] if asked.serving in reviews else ranked[:1]
    others = [name for name in ranked if name not in serving]
    other = [asked.other] if asked.other in others else others[:1]
    return (*serving, *other)


def _lines(
    reader: StateReader, names: tuple[str, ...], grid: Grid, wanted: Sequence[str]
) -> dict[str, list[Counts]]:
    return {name: read_panes(reader, name, names, Clock.EVENT, grid) for name in wanted}


def _shared(lines: Sequence[Sequence[Counts]], grid: Grid) -> list[int]:
    """Places of the panes of the window in which all of these answered."""
    places = range(grid.warmup, len(grid.starts))
    return [at for at in places if all(panes[at].predictions for panes in lines)]


def _objective(spec: Spec, of: str) -> float | None:
    rules = [r for r in spec.rules if r.of == of and r.metric is Metric.RECALL]
    return next((rule.objective for rule in rules if covers(rule, ALL)), None)


class _Look(NamedTuple):
    """What else is known of variants, beside what counts say."""

    spec: Spec
    of: str
    evaluation: Evaluation
    transitions: Sequence[Transition]

    def variant(self, review: Review, counts: Counts) -> Variant:
        """One variant, without the points of its line."""
        return Variant(
            name=review.variant,
            predictions=counts.predictions,
            labelled=counts.labelled,
            measures=tuple(_measures(counts, self.of, self.spec.groups.of(self.of))),
            verdict=review.verdict,
            changes=tuple(review.changes),
            traps=tuple(review.traps),
            versions=tuple(_versions(self.evaluation, review.variant)),
            served=tuple(_served(review)),
            is_present=review.is_present,
            alerts=self._alerts(review.variant),
        )

    def _alerts(self, name: str) -> tuple[AlertView, ...]:
        """Those about this very variant; one over all of them tells none from another."""
        views = alert_views(self.spec.rules, self.evaluation.states, self.transitions, name)
        return tuple(view for view in views if view.is_up and view.key.variant == name)

    def pair(
        self,
        serving: Variant,
        other: Variant,
        *,
        counts: Mapping[str, Counts],
        since_ms: int | None,
    ) -> Pair:
        """Both, compared in each measure that has a test; the watched recall first, or accuracy.

        ``since_ms`` None stands for a range. It moves on, so nothing of it holds at every look.
        """
        named = zip(serving.measures, other.measures, strict=True)
        comparisons = {
            one.name: compare(_score(another), _score(one))
            for one, another in named
            if one.unit is Unit.SHARE and one.name != COVERAGE
        }
        comparisons |= _sketched(counts[other.name], counts[serving.name])
        comparisons = {n: found._replace(is_watched=False) for n, found in comparisons.items()}
        paired = {} if since_ms is None else self._paired(other.name, serving.name, since_ms)
        comparisons |= {name: pairs.found for name, pairs in paired.items() if name in comparisons}
        return Pair(
            serving, other, recall_of(self.of) if self.of else ACCURACY, comparisons, paired
        )

    def _paired(self, other: str, serving: str, since_ms: int) -> dict[str, Paired]:
        """Name of the measure -> what requests that both answered say."""
        asked = {(Metric.ACCURACY, ""): ACCURACY}
        if self.of:
            asked[Metric.RECALL, self.of] = recall_of(self.of)
        found = pairs_of(other, serving, self.evaluation, self.spec, since_ms=since_ms)
        return {asked[of]: pairs for of, pairs in found.items() if of in asked}


def _served(review: Review) -> Iterator[Served]:
    """Slices of the window that are versions."""
    for name, sliced in review.slices.items():
        if name.startswith((MODEL, PROMPT)):
            yield Served(name, sliced.evidence.predictions, sliced.verdict.answer)


def _sketched(other: Counts, serving: Counts) -> dict[str, Comparison]:
    found = {
        f"latency {name}": compare_latency(other, serving, share)
        for name, share in QUANTILES.items()
    }
    return {**found, "relevance": compare_relevance(other, serving)}


ACCURACY, COVERAGE = "accuracy", "labels in"


def recall_of(name: str) -> str:
    """What the recall of a group or intent is called."""
    return f"{name} recall"


def _measures(counts: Counts, of: str, group: frozenset[Intent]) -> Iterator[Measure]:
    """In the order in which they are shown; those of the group only where one is watched."""
    if of:
        scores = group_scores(counts.confusion, group)
        hits, misses, false, _ = fold(counts.confusion, group)
        touched = hits + misses + false
        yield _share(recall_of(of), scores.recall)
        yield _share(f"{of} precision", scores.precision)
        interval = f1_interval(hits, touched) if touched else None
        yield Measure(f"{of} F1", Unit.SCORE, scores.f1, touched, interval)
    yield _share(ACCURACY, headline(counts.confusion).accuracy)
    mean, judged = counts.relevance
    interval = None if mean is None else mean_interval(mean, judged)
    yield Measure("relevance", Unit.SCORE, mean, judged, interval)
    yield from _latencies(counts)
    yield _share(COVERAGE, proportion(counts.labelled, counts.predictions))


def _latencies(counts: Counts) -> Iterator[Measure]:
    n = counts.latencies
    for name, share in QUANTILES.items():
        interval = counts.latency_interval(share)
        yield Measure(f"latency {name}", Unit.MS, counts.latency_ms(share), n, interval)


def _share(name: str, score: Score) -> Measure:
    return Measure(name, Unit.SHARE, score.value, score.support, score.interval)


def _score(measure: Measure) -> Score:
    return Score(measure.value, measure.n, measure.interval)


def _versions(evaluation: Evaluation, variant: str) -> Iterator[Version]:
    """Versions that alerts tell apart, the latest first."""
    found: dict[str, int] = {}
    for alert, state in evaluation.states.items():
        if alert.version and alert.key.variant == variant:
            found[alert.version] = max(found.get(alert.version, 0), state.last_ms)
    versions = (Version(name, last_ms) for name, last_ms in found.items())
    yield from sorted(versions, key=lambda v: (-v.last_ms, v.name))
