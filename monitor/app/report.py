"""The report: every number of one moment, as JSON that an auditor can compare (CONTRACTS.md 4).

A value without data is null, never 0. Proportions come with their support and 95 % interval.
"""

from collections.abc import Iterable, Mapping

from monitor.app import instants
from monitor.app.comparing import comparisons_section
from monitor.app.settings import Settings
from monitor.app.still import Still, still_of
from monitor.app.verdict_document import answer_of, section_of
from monitor.app.verdict_review import reviewed
from monitor.app.wiring import spec_of, verdict_limits_of
from monitor.codec.snapshots import digest_of
from monitor.domain import ledger as books
from monitor.domain.alerts import Event, Transition, hindsight_of
from monitor.domain.counts import Counts, merge
from monitor.domain.engine import Spec
from monitor.domain.events import Kind
from monitor.domain.rules import Signal
from monitor.domain.scores import exact_recall, group_scores, headline, intent_scores
from monitor.domain.signals import SignalKey, SignalState
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.verdict import VerdictLimits, verdict_of
from monitor.domain.windows import ALL_TIME, HOUR_MS, Clock, PaneKey
from monitor.ports import StateReader

REPORT_VERSION = 1
LATEST_MS, iso = instants.LATEST_MS, instants.iso

_LATENCY_SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def present_report(reader: StateReader | Still, settings: Settings) -> dict[str, object]:
    """``report_of`` a store, as the settings say, and its verdicts, from one picture of it.

    ``digest`` is None when none could be taken, since the numbers are then not of one moment.
    """
    spec, limits = spec_of(settings), verdict_limits_of(settings)
    if not isinstance(reader, Still):
        reader = still_of(reader, lambda still: report_of(still, spec, limits))
    report = report_of(reader, spec, limits)
    report["verdicts"] = section_of(reviewed(reader, settings), spec.groups)
    return report if reader.is_whole else {**report, "digest": None}


def digest_in(reader: StateReader | Still, spec: Spec) -> str:
    """The digest of the present numbers."""
    return digest_of(reader.ledger(), _digested(reader, spec), reader.transitions())


def report_of(reader: StateReader | Still, spec: Spec, limits: VerdictLimits) -> dict[str, object]:
    """The present numbers of a store."""
    evaluation = reader.evaluation()
    ledger, transitions = reader.ledger(), reader.transitions()
    hindsight = hindsight_of(transitions)
    variants = [key for key in reader.slice_keys() if key.slice == ALL]
    totals = _with_all(variants, reader.panes([_total(key) for key in variants]))
    watermark_ms = evaluation.watermark_ms
    return {
        "version": REPORT_VERSION,
        "as_of": iso(watermark_ms),
        "sampling": spec.sampling,
        "digest": digest_of(ledger, _digested(reader, spec), transitions, evaluation.pairs),
        "cut": cut_of(reader),
        "ledger": ledger_section(ledger, watermark_ms or 0, spec.windows.horizon_ms),
        "variants": {
            variant: variant_section(
                counts, spec, limits.of(variant), estimates_of(evaluation.signals, spec, variant)
            )
            for variant, counts in totals.items()
        },
        "comparisons": comparisons_section(_singles(totals), evaluation, spec),
        "hours": list(_hours(reader, spec)),
        "transitions": [_transition(t, hindsight.get(t.id)) for t in transitions],
    }


def ledger_section(
    ledger: Mapping[str, int], watermark_ms: int, horizon_ms: int
) -> dict[str, object]:
    """Both sides of the books as of ``watermark_ms``, and what the log dropped unread.

    A gap's offsets are ``from`` up to ``to``, exclusive.
    """
    section: dict[str, object] = {}
    for kind in Kind:
        side = books.balance_of(ledger, kind, watermark_ms=watermark_ms, horizon_ms=horizon_ms)
        section[kind] = {
            "received": side.received,
            "accepted": side.accepted,
            **side.parts,
            "duplicate": side.duplicate,
            "expired": side.expired,
            "rejected": dict(side.rejected),
            "passed_over": side.passed_over,
        }
    labels = section[Kind.LABELS]
    if isinstance(labels, dict):
        labels["early"] = ledger.get("labels.early", 0)
        labels["corrected"] = ledger.get("labels.corrected", 0)
    section["gaps"] = [
        {"partition": str(gap.partition), "from": gap.first, "to": gap.past}
        for gap in books.gaps_of(ledger)
    ]
    return section


def cut_of(reader: StateReader | Still) -> dict[str, int]:
    """Partition -> the offset to be read next by the shard that is furthest behind."""
    least: dict[str, int] = {}
    for cut in reader.cuts():
        for partition, progress in cut.items():
            name = str(partition)
            least[name] = min(least.get(name, progress.next_offset), progress.next_offset)
    return dict(sorted(least.items()))


def estimates_of(
    states: Mapping[SignalKey, SignalState], spec: Spec, variant: str
) -> dict[str, SignalState]:
    """Group -> where its label-free estimate stands for one variant; there is none for ALL."""
    rules = [rule for rule in spec.signals if rule.signal is Signal.ESTIMATE]
    found = {rule.of: states.get(SignalKey(rule.name, variant)) for rule in rules}
    return {of: state for of, state in found.items() if state is not None}


def variant_section(
    counts: Counts, spec: Spec, limits: VerdictLimits, estimates: Mapping[str, SignalState]
) -> dict[str, object]:
    """All scores of one variant, or of ALL."""
    scores = headline(counts.confusion)
    relevance, judged = counts.relevance
    confusion: dict[str, dict[str, int]] = {}
    for (actual, predicted), count in counts.confusion.items():
        confusion.setdefault(actual, {})[predicted] = count
    return {
        "predictions": counts.predictions,
        "labelled": counts.labelled,
        "coverage": counts.coverage,
        "accuracy": scores.accuracy.value,
        "accuracy_interval": scores.accuracy.interval,
        "balanced_accuracy": scores.balanced_accuracy,
        "macro_f1": scores.macro_f1,
        "cohen_kappa": scores.cohen_kappa,
        "mcc": scores.mcc,
        "groups": {
            name: {**_group(counts, spec, name), "estimate": _estimate(estimates.get(name))}
            for name in spec.groups.members
        },
        "intents": {
            intent: {
                "support": score.recall.support,
                "recall": score.recall.value,
                "interval": score.recall.interval,
                "precision": score.precision.value,
                "f1": score.f1,
            }
            for intent, score in intent_scores(counts.confusion).items()
        },
        "confusion": confusion,
        "verdict": answer_of(verdict_of(counts, spec.groups, limits)),
        "latency_ms": {name: counts.latency_ms(share) for name, share in _LATENCY_SHARES.items()},
        "relevance": {"mean": relevance, "n": judged},
        "label_delay_s": {
            name: _seconds(counts.delay_ms(share)) for name, share in _LATENCY_SHARES.items()
        },
    }


def _group(counts: Counts, spec: Spec, name: str) -> dict[str, object]:
    group = spec.groups.of(name)
    scores = group_scores(counts.confusion, group)
    return {
        "support": scores.recall.support,
        "hits": scores.hits,
        "recall": scores.recall.value,
        "interval": scores.recall.interval,
        "precision": scores.precision.value,
        "precision_interval": scores.precision.interval,
        "f1": scores.f1,
        "exact_recall": exact_recall(counts.confusion, group).value,
    }


def _estimate(state: SignalState | None) -> dict[str, object]:
    """The label-free estimate of the group's recall, or why there is none."""
    if state is None:
        return {"value": None, "refused": "none was made"}
    return {
        "value": state.value,
        "standard_error": state.error,
        "past_error": state.past_error,
        "past_windows": state.checks,
        "refused": state.reason if state.value is None else None,
    }


def _hours(reader: StateReader | Still, spec: Spec) -> Iterable[dict[str, object]]:
    panes = [
        pane
        for pane in _kept_panes(reader, spec, HOUR_MS)
        if pane.clock is Clock.EVENT and pane.key.slice == ALL
    ]
    by_start: dict[int, list[tuple[SliceKey, Counts]]] = {}
    for pane, counts in zip(panes, reader.panes(panes), strict=True):
        by_start.setdefault(pane.start_ms, []).append((pane.key, counts))
    for start_ms, members in sorted(by_start.items()):
        keys, counts_of = [key for key, _ in members], [counts for _, counts in members]
        for variant, counts in _with_all(keys, counts_of).items():
            groups = {}
            for name in spec.groups.members:
                hits, support = counts.hits_and_support(spec.groups.of(name))
                groups[name] = {"support": support, "hits": hits}
            yield {
                "start": iso(start_ms),
                "variant": variant,
                "predictions": counts.predictions,
                "labelled": counts.labelled,
                "accuracy": headline(counts.confusion).accuracy.value,
                "groups": groups,
            }


def _with_all(keys: Iterable[SliceKey], counts: Iterable[Counts]) -> dict[str, Counts]:
    """Variant -> counts, the sum of all of them first under ALL."""
    single = {key.variant: count for key, count in zip(keys, counts, strict=True)}
    return {ALL: merge(single.values()), **dict(sorted(single.items()))}


def _singles(totals: Mapping[str, Counts]) -> dict[str, Counts]:
    return {variant: counts for variant, counts in totals.items() if variant != ALL}


def _total(key: SliceKey) -> PaneKey:
    return PaneKey(Clock.EVENT, ALL_TIME, 0, key)


def _digested(reader: StateReader | Still, spec: Spec) -> Iterable[tuple[PaneKey, Counts]]:
    kept = [*_kept_panes(reader, spec, ALL_TIME), *_kept_panes(reader, spec, HOUR_MS)]
    keys = [pane for pane in kept if pane.clock is not Clock.LOG]
    return zip(keys, reader.panes(keys), strict=True)


def _kept_panes(reader: StateReader | Still, spec: Spec, size_ms: int) -> list[PaneKey]:
    """Stored panes of one size; not those past their retention that were not swept yet."""
    watermark_ms = reader.evaluation().watermark_ms
    return [
        pane
        for pane in reader.pane_keys(size_ms)
        if spec.windows.is_kept(size_ms, pane.start_ms, watermark_ms)
    ]


def _transition(transition: Transition, hindsight: Event | None) -> dict[str, object]:
    evidence = transition.evidence
    return {
        "id": transition.id,
        "rule": transition.rule,
        "variant": transition.key.variant,
        "slice": transition.key.slice,
        "version": transition.version,
        "event": transition.event,
        "from": transition.moved_from,
        "to": transition.moved_to,
        "at": iso(transition.at_ms),
        "reason": transition.reason,
        "evidence": None if evidence is None else evidence.value,
        "bar": None if evidence is None else evidence.bar,
        "since": None if evidence is None else iso(evidence.since_ms),
        "hits": None if evidence is None else evidence.hits,
        "n": None if evidence is None else evidence.n,
        "missed": [
            {
                "prediction_id": missed.prediction_id,
                "event_time": iso(missed.event_ms),
                "predicted": missed.predicted,
                "actual": missed.actual,
            }
            for missed in transition.missed
        ],
        "corrected": transition.corrected,
        "judges": transition.judges or None,
        "cut": dict(transition.cut),
        "hindsight": hindsight,
    }


def _seconds(millis: float | None) -> float | None:
    return None if millis is None else millis / 1000
