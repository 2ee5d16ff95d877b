"""From the store to a verdict on each variant: which panes count, and what follows from them.

The **window** ends with the last hour that has a prediction, so that a verdict on a stream that has
ended is not one on silence. All of it is a function of the panes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import NamedTuple

from monitor.app.comparing import pairs_of
from monitor.app.instants import iso
from monitor.app.settings import Settings, VariantSettings
from monitor.app.still import Still
from monitor.app.wiring import in_ms, spec_of, verdict_limits_of
from monitor.domain import advice, traps
from monitor.domain.advice import Advice, Approach, Candidate
from monitor.domain.alerts import Status
from monitor.domain.counts import Counts, merge
from monitor.domain.engine import Spec
from monitor.domain.evaluation import Evaluation
from monitor.domain.rules import Metric
from monitor.domain.slices import ALL
from monitor.domain.trailing import Change, changes_of, window_at
from monitor.domain.traps import Offline, Trap
from monitor.domain.verdict import (
    ALERT,
    Answer,
    Evidence,
    Finding,
    Judgement,
    Verdict,
    VerdictLimits,
    evidence_of,
    joined,
    judged,
)
from monitor.domain.windows import DAY_MS, HOUR_MS, Clock, PaneKey, Window, pane_start
from monitor.ports import StateReader

MODEL, PROMPT = "model_version=", "prompt_version="
"""Begin the names of slices by version."""


HISTORY_MS = 30 * DAY_MS
"""How far back the history of a verdict goes, where its window is not all that is kept."""


class Asked(NamedTuple):
    """What is to be judged; what is None is as the settings say.

    ``end_ms`` and ``start_ms`` are taken down to full hours; ``leaks`` maps a variant to what a
    check for leaked texts found.
    """

    start_ms: int | None = None
    end_ms: int | None = None
    leaks: Mapping[str, Trap] = {}


@dataclass(frozen=True)
class Review:
    """All that is known of one variant in the window. ``slices`` are verdicts by slice.

    ``is_told`` says whether the approach was declared; else it was taken from the name.
    """

    variant: str
    approach: Approach | None
    is_told: bool
    cost: float | None
    counts: Counts
    evidence: Evidence
    verdict: Verdict
    limits: VerdictLimits
    changes: Sequence[Change]
    traps: Sequence[Trap]
    slices: Mapping[str, "Sliced"] = field(default_factory=dict)

    @property
    def is_present(self) -> bool:
        """Whether it answered anything in the window."""
        return bool(self.evidence.predictions or self.evidence.accuracy.support)

    def versions(self, kind: str) -> list[str]:
        """The model or prompt versions of the window; [] where they are no slice."""
        return [name.removeprefix(kind) for name in self.slices if name.startswith(kind)]


class Sliced(NamedTuple):
    """What is known of one slice of a variant."""

    evidence: Evidence
    verdict: Verdict


@dataclass(frozen=True)
class Reviews:
    """The verdicts of one moment. ``window_ms`` None stands for all hours that are kept."""

    window: Window
    window_ms: int | None
    reviews: Mapping[str, Review]
    advice: Advice

    def answer(self, variant: str | None = None) -> Answer:
        """That of one variant, or the worst of all that answered in the window.

        Not fit is worse than not enough evidence, and that is what nothing at all is.
        """
        if variant is not None:
            return self.reviews[variant].verdict.answer
        found = {one.verdict.answer for one in self.reviews.values() if one.is_present}
        for answer in (Answer.NOT_FIT, Answer.NOT_ENOUGH_EVIDENCE):
            if answer in found:
                return answer
        return Answer.FIT if found else Answer.NOT_ENOUGH_EVIDENCE


def reviewed(
    reader: StateReader | Still,
    settings: Settings,
    asked: Asked = Asked(),  # noqa: B008 - frozen
) -> Reviews:
    """Judge every variant that was ever counted. Raises StoreError when the store is gone."""
    spec, limits, told = spec_of(settings), verdict_limits_of(settings), settings.verdict
    variants = sorted({key.variant for key in reader.slice_keys() if key.slice == ALL})
    evaluation = reader.evaluation()
    watermark_ms = evaluation.watermark_ms
    panes = [
        pane
        for pane in reader.pane_keys(HOUR_MS)
        if pane.clock is Clock.EVENT and spec.windows.is_kept(HOUR_MS, pane.start_ms, watermark_ms)
    ]
    window_ms = None
    if told.window is not None:
        kept_ms = spec.windows.keep_ms[HOUR_MS]
        window_ms = min(in_ms(told.window), kept_ms - kept_ms % HOUR_MS)
    window = _window(panes, watermark_ms, window_ms, in_ms(told.maturity), asked)
    if asked.start_ms is not None:
        window_ms = window.end_ms - window.start_ms
    since_ms = window.start_ms if window_ms is None else window.end_ms - HISTORY_MS
    first_ms = since_ms if window_ms is None else min(since_ms - window_ms, window.start_ms)
    panes = [
        pane
        for pane in panes
        if pane.start_ms < window.end_ms
        and pane.start_ms >= (first_ms if pane.key.slice == ALL else window.start_ms)
    ]
    counts: dict[str, dict[PaneKey, Counts]] = {}
    for pane, found in zip(panes, reader.panes(panes), strict=True):
        counts.setdefault(pane.key.variant, {})[pane] = found
    # What fires now says nothing about a window that ends earlier.
    firing = _firing(evaluation, spec) if asked.end_ms is None else {}
    look = _Look(spec, limits, window, window_ms, since_ms, asked.leaks, firing)
    reviews = {
        name: look.review(name, counts.get(name, {}), told.variants.get(name, VariantSettings()))
        for name in variants
    }
    # Pairs are kept as one sum: what they say now says nothing about an earlier end, either.
    paired = _paired(variants, evaluation, look) if asked.end_ms is None else advice.NO_PAIRS
    candidates = [_candidate(one, look.span_ms(panes)) for one in reviews.values()]
    return Reviews(window, window_ms, reviews, advice.advise(candidates, paired))


def _firing(evaluation: Evaluation, spec: Spec) -> dict[str, list[Judgement]]:
    """Variant -> the alerts about all of it that fire.

    One about a version that another has taken over from counts as long as it fires: nobody knows
    that the version answers no more before it has been silent for a day, which ends its alert.
    """
    objectives = {rule.name: rule.objective for rule in spec.rules}
    found: dict[str, list[Judgement]] = {}
    for key, state in sorted(evaluation.states.items()):
        is_whole = key.key.slice == ALL and key.rule in objectives
        if is_whole and state.status is Status.FIRING:
            of = f" of version {key.version}" if key.version else ""
            text = (
                f"alert {key.rule}{of} fires since {iso(state.since_ms)}: it weighs the newest "
                "labels, which a long window may hide"
            )
            judgement = Judgement(
                name=f"{ALERT}{key.rule}",
                finding=Finding.MISSED,
                text=text,
                value=None,
                limit=objectives[key.rule],
                interval=None,
                n=state.votes,
            )
            found.setdefault(key.key.variant, []).append(judgement)
    return found


def _window(
    panes: Sequence[PaneKey],
    watermark_ms: int | None,
    window_ms: int | None,
    maturity_ms: int,
    asked: Asked,
) -> Window:
    """Full hours, as asked for, else up to the last one with a prediction that is old enough."""
    starts = [pane.start_ms for pane in panes]
    first_ms, end_ms = min(starts, default=0), max(starts, default=-HOUR_MS) + HOUR_MS
    if watermark_ms is not None:
        # A clock that runs ahead must not empty the window.
        end_ms = min(end_ms, pane_start(watermark_ms, HOUR_MS) + HOUR_MS)
        if maturity_ms:
            end_ms = min(end_ms, pane_start(watermark_ms - maturity_ms, HOUR_MS))
    if asked.end_ms is not None:
        end_ms = pane_start(asked.end_ms, HOUR_MS)
    if asked.start_ms is not None:
        return Window(min(pane_start(asked.start_ms, HOUR_MS), end_ms), end_ms)
    return window_at(end_ms, window_ms, first_ms)


class _Look(NamedTuple):
    spec: Spec
    limits: VerdictLimits
    window: Window
    window_ms: int | None
    since_ms: int
    leaks: Mapping[str, Trap]
    firing: Mapping[str, Sequence[Judgement]]

    def review(self, name: str, panes: Mapping[PaneKey, Counts], told: VariantSettings) -> Review:
        limits = self.limits.of(name)
        hours = {pane.start_ms: c for pane, c in panes.items() if pane.key.slice == ALL}
        known = {start_ms: self._evidence(counts) for start_ms, counts in hours.items()}
        counts = merge(c for start_ms, c in hours.items() if start_ms >= self.window.start_ms)
        evidence = self._evidence(counts)
        judged_now = judged(evidence, limits)
        leak = traps.leaked(self.leaks.get(name))
        slices = self._slices(panes, limits)
        offline = [
            Offline(score.model_version, score.metric, score.of or "", score.value, score.n)
            for score in told.offline
        ]
        named = told.approach or (name if name in set(Approach) else None)
        return Review(
            variant=name,
            approach=None if named is None else Approach(named),
            is_told=told.approach is not None,
            cost=told.cost_per_1000,
            counts=counts,
            evidence=evidence,
            verdict=joined(judged_now, [*self.firing.get(name, ()), *([leak] if leak else ())]),
            limits=limits,
            changes=changes_of(
                known,
                limits,
                window_ms=self.window_ms,
                until_ms=self.window.end_ms,
                since_ms=self.since_ms,
            ),
            traps=self._traps(name, evidence, judged_now, limits, slices, offline),
            slices=slices,
        )

    def _traps(
        self,
        name: str,
        evidence: Evidence,
        verdict: Verdict,
        limits: VerdictLimits,
        slices: Mapping[str, Sliced],
        offline: Sequence[Offline],
    ) -> tuple[Trap, ...]:
        by_slice = {whose: found.evidence for whose, found in slices.items()}
        versions = {
            whose.removeprefix(MODEL): found
            for whose, found in by_slice.items()
            if whose.startswith(MODEL)
        }
        return (
            traps.accuracy_paradox(evidence, verdict, limits),
            traps.overfitting(offline, versions),
            traps.data_leakage(self.leaks.get(name)),
            traps.ignored_latency(verdict),
            traps.prompt_bias(by_slice, evidence, limits),
        )

    def _slices(self, panes: Mapping[PaneKey, Counts], limits: VerdictLimits) -> dict[str, Sliced]:
        parts: dict[str, list[Counts]] = {}
        for pane, counts in panes.items():
            if pane.key.slice != ALL:
                parts.setdefault(pane.key.slice, []).append(counts)
        found = {name: self._evidence(merge(many)) for name, many in sorted(parts.items())}
        return {name: Sliced(one, judged(one, limits)) for name, one in found.items()}

    def _evidence(self, counts: Counts) -> Evidence:
        groups = self.spec.groups
        return evidence_of(counts, groups, {*groups.members, *self.limits.groups})

    def span_ms(self, panes: Sequence[PaneKey]) -> int:
        """How long the evidence of the window took to come."""
        starts = [pane.start_ms for pane in panes if pane.start_ms >= self.window.start_ms]
        return self.window.end_ms - min(starts, default=self.window.end_ms)


def _paired(variants: Sequence[str], evaluation: Evaluation, look: _Look) -> advice.Paired:
    """What requests say that two of them answered, as long as such come in the window."""
    since_ms = look.window.start_ms
    return {
        (one, other): {
            advice.ACCURACY if metric is Metric.ACCURACY else advice.recall_of(of): paired.found
            for (metric, of), paired in pairs_of(
                one, other, evaluation, look.spec, since_ms=since_ms
            ).items()
        }
        for one, other in permutations(variants, 2)
    }


def _candidate(one: Review, span_ms: int) -> Candidate:
    return Candidate(
        name=one.variant,
        approach=one.approach,
        cost=one.cost,
        verdict=one.verdict,
        evidence=one.evidence,
        limits=one.limits,
        span_ms=span_ms,
        versions={
            name: found.verdict for name, found in one.slices.items() if name.startswith(PROMPT)
        },
    )
