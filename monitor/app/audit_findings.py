"""What an auditor asks of each watched rule, as plain values that JSON holds.

Was recall below its objective, since when, how sure, how many missed, what came before? All of it
is read from stored counts and transitions; a value without data is None, never 0.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from monitor.app.report import iso
from monitor.app.still import Still
from monitor.domain.alerts import AlertKey, AlertState, Event, Status, Transition, hindsight_of
from monitor.domain.counts import Counts, merge
from monitor.domain.engine import Spec
from monitor.domain.evaluation import Evaluation
from monitor.domain.rules import AlertRule
from monitor.domain.scores import Confusion, proportion
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.verdict import LEAST_LABELS
from monitor.domain.windows import (
    ALL_TIME,
    DAY_MS,
    HOUR_MS,
    Clock,
    PaneKey,
    Window,
    is_final,
    pane_start,
)
from monitor.ports import StateReader

Document = dict[str, object]

HOURLY_UP_TO_MS = 10 * DAY_MS
"""A longer time line is cut into days."""

_BURNING = frozenset({Status.FIRING, Status.RECOVERING})


class Firing(NamedTuple):
    """One alert from the move to firing until it ended.

    ``ended`` is None while it goes on, and where the rule started afresh, which ends it unsaid.
    """

    told: Transition
    ended: Transition | None

    @property
    def since_ms(self) -> int:
        """Event time from which on votes spoke for it."""
        return self.told.evidence.since_ms if self.told.evidence else self.told.at_ms

    @property
    def missed(self) -> int:
        """Misses in the evidence that it fired on."""
        return self.told.evidence.n - self.told.evidence.hits if self.told.evidence else 0


class _Panes:
    """The panes by event time that a store holds, and the counts in them."""

    def __init__(self, reader: StateReader | Still, spec: Spec, watermark_ms: int | None) -> None:
        self._reader, self._spec, self._watermark_ms = reader, spec, watermark_ms
        self._keys = cache(self._read_keys)

    @property
    def sizes(self) -> list[int]:
        """Sizes of panes, the smallest first."""
        return sorted(self._spec.windows.keep_ms)

    def starts(self, size_ms: int, key: SliceKey) -> list[int]:
        """Where the panes of one key start, sorted; of all variants together for ALL."""
        return sorted({pane.start_ms for pane in self._of(size_ms, key)})

    def counts(
        self, size_ms: int, key: SliceKey, window: Window | None = None
    ) -> dict[int, Counts]:
        """Start -> counts of the panes that start in ``window``, None for all of them."""
        panes = [
            pane
            for pane in self._of(size_ms, key)
            if window is None or window.start_ms <= pane.start_ms < window.end_ms
        ]
        found: dict[int, list[Counts]] = {}
        for pane, counts in zip(panes, self._reader.panes(panes), strict=True):
            found.setdefault(pane.start_ms, []).append(counts)
        return {start_ms: merge(found[start_ms]) for start_ms in sorted(found)}

    def is_kept(self, size_ms: int, start_ms: int) -> bool:
        """Whether panes as old as ``start_ms`` are still there."""
        return self._spec.windows.is_kept(size_ms, start_ms, self._watermark_ms)

    def _of(self, size_ms: int, key: SliceKey) -> list[PaneKey]:
        return [
            pane
            for pane in self._keys(size_ms)
            if pane.key.slice == key.slice and key.variant in {ALL, pane.key.variant}
        ]

    def _read_keys(self, size_ms: int) -> list[PaneKey]:
        return [
            pane
            for pane in self._reader.pane_keys(size_ms)
            if pane.clock is Clock.EVENT and self.is_kept(size_ms, pane.start_ms)
        ]


@dataclass(frozen=True, slots=True)
class _Subject:
    """One rule and whose numbers it watches, over all versions, with what is known of it."""

    rule: AlertRule
    key: SliceKey
    states: Mapping[AlertKey, AlertState]
    transitions: Sequence[Transition]
    firings: Sequence[Firing]
    hindsight: Mapping[str, Event]
    maturity_ms: int


def findings_of(reader: StateReader | Still, spec: Spec) -> list[Document]:
    """One document for each alert rule and each variant and slice that it watches.

    A rule that nothing has spoken to yet has one too, which says so.
    """
    evaluation, transitions = reader.evaluation(), reader.transitions()
    panes = _Panes(reader, spec, evaluation.watermark_ms)
    return [
        _finding(subject, panes, evaluation.watermark_ms)
        for rule in spec.rules
        for subject in _subjects(rule, evaluation, transitions)
    ]


def firings_of(transitions: Iterable[Transition]) -> list[Firing]:
    """Every time that an alert fired, in order of the move; a relapse belongs to the first move."""
    told: dict[AlertKey, Transition] = {}
    found: list[Firing] = []
    for transition in transitions:
        if transition.event is not Event.MOVED:
            continue
        alert = transition.alert
        if transition.moved_to is Status.FIRING:
            if transition.moved_from is Status.RECOVERING and alert in told:
                continue
            if alert in told:
                found.append(Firing(told[alert], None))
            told[alert] = transition
        elif alert in told and transition.moved_to not in _BURNING:
            found.append(Firing(told.pop(alert), transition))
    found += [Firing(transition, None) for transition in told.values()]
    return sorted(found, key=lambda firing: (firing.told.at_ms, firing.told.id))


def _subjects(
    rule: AlertRule, evaluation: Evaluation, transitions: Sequence[Transition]
) -> Iterator[_Subject]:
    book = evaluation.books.get(rule.name)
    estimated_ms = book.maturity_ms if book else 0
    hindsight = hindsight_of(transitions)
    alerts = sorted(alert for alert in evaluation.states if alert.rule == rule.name)
    keys = list(dict.fromkeys(alert.key for alert in alerts)) or [_expected_key(rule)]
    for key in keys:
        of_key = [
            t
            for t in transitions
            if (t.rule, t.key) == (rule.name, key) and t.event is not Event.MATURITY
        ]
        yield _Subject(
            rule,
            key,
            {alert: evaluation.states[alert] for alert in alerts if alert.key == key},
            of_key,
            firings_of(of_key),
            hindsight,
            estimated_ms if rule.maturity_ms is None else rule.maturity_ms,
        )


def _expected_key(rule: AlertRule) -> SliceKey:
    """Whose numbers a rule would watch that has had no vote."""
    return SliceKey(dict(rule.where).get("variant", ALL) if "variant" in rule.per else ALL, ALL)


def _finding(subject: _Subject, panes: _Panes, watermark_ms: int | None) -> Document:
    rule, key = subject.rule, subject.key
    total = merge(panes.counts(ALL_TIME, key).values())
    score = _score(rule, total.confusion)
    return {
        "rule": rule.name,
        "metric": rule.metric,
        "of": rule.of,
        "group": sorted(rule.group),
        "variant": key.variant,
        "slice": key.slice,
        "objective": rule.objective,
        "baseline": rule.baseline,
        "detector": "glance" if rule.is_glance else "evidence",
        "severity": rule.severity,
        "maturity_ms": subject.maturity_ms,
        "maturity_is_estimated": rule.maturity_ms is None,
        "hold_ms": rule.hold_ms,
        "hindsight_ms": rule.hindsight_ms,
        **score,
        "misses": None if score["support"] == 0 else _misses(rule, total.confusion),
        "predictions": total.predictions,
        "labelled": total.labelled,
        "coverage": total.coverage,
        **_answer(subject, score),
        "states": [_state(alert, state) for alert, state in subject.states.items()],
        "firings": [_firing(firing, subject) for firing in subject.firings],
        "raised": [_raised(t) for t in subject.transitions if t.event is Event.RAISED],
        "timeline": _timeline(subject, panes, watermark_ms),
        "episode": _episode(subject, panes),
        "missed": _missed(subject),
    }


# The answer


def _answer(subject: _Subject, score: Document) -> Document:
    """``answer`` and ``why``, the sentences behind it.

    The answer is below, last_known_below (it fires, but labels have stopped coming), was_below,
    no_drop or unknown.
    """
    held = [f for f in subject.firings if subject.hindsight.get(f.told.id) is not Event.RETRACTED]
    going_on = [firing for firing in held if _goes_on(subject, firing)]
    raised = [t for t in subject.transitions if t.event is Event.RAISED]
    taken_back = len(subject.firings) - len(held)
    notes = _notes(subject, taken_back)
    if going_on:
        worst = _worst(going_on)
        others = len(held) - 1
        answer = "last_known_below" if _is_stalled(subject, going_on) else "below"
        return _said(answer, [_below(subject, worst, answer), *_beside(others), *notes])
    if held:
        return _said(
            "was_below", [_was_below(subject, _worst(held)), *_beside(len(held) - 1), *notes]
        )
    if raised:
        late = f"A drop was found in hindsight alone: {raised[-1].reason}."
        return _said("was_below", [late, *notes])
    return _quiet(subject, score, notes)


def _said(answer: str, why: Iterable[str]) -> Document:
    return {"answer": answer, "why": list(why)}


def _quiet(subject: _Subject, score: Document, notes: list[str]) -> Document:
    """No alert fired that still stands."""
    rule, support = subject.rule, score["support"]
    votes = sum(state.votes for state in subject.states.values())
    if not votes:
        return _said("unknown", ["No mature label has come, so nothing can be said.", *notes])
    if not isinstance(support, int) or support < LEAST_LABELS:
        few = f"Only {support} labels speak to it so far; fewer than {LEAST_LABELS} settle nothing."
        return _said("unknown", [few, *notes])
    interval = score["interval"]
    if isinstance(interval, tuple) and interval[1] < rule.objective:
        low = (
            "No alert fired that stands, but all labels together lie below the objective: "
            "when the drop came, and whether it lasts, is unknown."
        )
        return _said("unknown", [low, *notes])
    if isinstance(interval, tuple) and interval[0] < rule.objective:
        open_ = (
            "No drop was found. That it was never below is not proven: the interval over all "
            "labels reaches below the objective."
        )
        return _said("no_drop", [open_, *notes])
    sure = "No drop was found, and the interval over all labels lies at or above the objective."
    return _said("no_drop", [sure, *notes])


def _worst(firings: Sequence[Firing]) -> Firing:
    """The one with the most misses in its evidence; the latest of several."""
    return max(firings, key=lambda firing: (firing.missed, firing.told.at_ms))


def _goes_on(subject: _Subject, firing: Firing) -> bool:
    """Whether the alert still stands: its latest firing, not ended by word nor by a new start."""
    alert = firing.told.alert
    state = subject.states.get(alert)
    latest = [each for each in subject.firings if each.told.alert == alert][-1]
    return (
        firing == latest and firing.ended is None and state is not None and state.status in _BURNING
    )


def _is_stalled(subject: _Subject, firings: Iterable[Firing]) -> bool:
    """Whether nobody knows if any of them still holds: labels have stopped coming for all."""
    return all(subject.states[firing.told.alert].is_stalled for firing in firings)


def _below(subject: _Subject, firing: Firing, answer: str) -> str:
    verb = "has been" if answer == "below" else "was"
    return f"It {verb} below from about {_when(firing.since_ms)} on, {_noticed(subject, firing)}"


def _was_below(subject: _Subject, firing: Firing) -> str:
    ended = firing.ended
    until = " (the rule started afresh since; when it ended is unknown)"
    if ended is not None:
        until = f" until {_when(ended.at_ms)} ({ended.reason})"
    return f"It was below from about {_when(firing.since_ms)}{until}, {_noticed(subject, firing)}"


def _noticed(subject: _Subject, firing: Firing) -> str:
    told, rule = firing.told, subject.rule
    version = f" for version {told.version}" if told.version else ""
    text = f"noticed {_when(told.at_ms)}{version}."
    if told.evidence is None:
        return text
    found = told.evidence
    text += f" {found.n - found.hits} of the {found.n} labels that it stood on were misses."
    if rule.is_glance:
        text += f" Wilson's upper bound was {_percent(found.value)}."
    else:
        text += (
            f" Were {rule.metric} {_percent(rule.objective)} or better, evidence this strong would "
            f"take {found.bar:,.0f} labels on average to turn up by chance."
        )
    return f"{text} {_looked_back(subject, told)}"


def _looked_back(subject: _Subject, told: Transition) -> str:
    judgement = next((t for t in subject.transitions if t.judges == told.id), None)
    if judgement is None:
        if subject.rule.hindsight_ms is None:
            return "Hindsight is turned off: it was not judged again."
        return "Whether complete labels confirm it is not known yet."
    return f"In hindsight {judgement.event}: {judgement.reason}."


def _beside(others: int) -> list[str]:
    if not others:
        return []
    return [f"{others} more firing{'s' if others > 1 else ''} of this alert: see below."]


def _notes(subject: _Subject, taken_back: int) -> list[str]:
    notes = []
    if taken_back:
        notes.append(f"{taken_back} firing(s) were taken back in hindsight.")
    stalled = [(alert, state) for alert, state in subject.states.items() if state.is_stalled]
    for alert, state in stalled:
        version = f" of version {alert.version}" if alert.version else ""
        notes.append(
            f"No mature label{version} since {_when(state.last_ms)}: how it is now is unknown."
        )
    return notes


def _when(at_ms: int) -> str:
    """To the minute, in UTC."""
    return f"{(iso(at_ms) or '')[:16].replace('T', ' ')} UTC"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


# Parts


def _score(rule: AlertRule, confusion: Confusion) -> Document:
    hits, n = _votes(rule, confusion)
    score = proportion(hits, n)
    return {"hits": hits, "support": n, "value": score.value, "interval": score.interval}


def _votes(rule: AlertRule, confusion: Confusion) -> tuple[int, int]:
    hits = n = 0
    for (actual, predicted), count in confusion.items():
        verdict = rule.verdict(predicted, actual)
        if verdict is not None:
            hits, n = hits + verdict * count, n + count
    return hits, n


def _misses(rule: AlertRule, confusion: Confusion) -> int:
    hits, n = _votes(rule, confusion)
    return n - hits


def _state(alert: AlertKey, state: AlertState) -> Document:
    return {
        "version": alert.version,
        "status": state.status,
        "since": iso(state.since_ms),
        "votes": state.votes,
        "is_stalled": state.is_stalled,
        "last_vote": iso(state.last_ms) if state.votes else None,
    }


def _firing(firing: Firing, subject: _Subject) -> Document:
    found, ended = firing.told.evidence, firing.ended
    return {
        "id": firing.told.id,
        "version": firing.told.version,
        "since": iso(firing.since_ms),
        "at": iso(firing.told.at_ms),
        "ended": None if ended is None else iso(ended.at_ms),
        "ended_as": None if ended is None else ended.moved_to,
        "goes_on": _goes_on(subject, firing),
        "hits": None if found is None else found.hits,
        "n": None if found is None else found.n,
        "hindsight": subject.hindsight.get(firing.told.id),
    }


def _raised(transition: Transition) -> Document:
    found = transition.evidence
    return {
        "id": transition.id,
        "version": transition.version,
        "since": None if found is None else iso(found.since_ms),
        "at": iso(transition.at_ms),
    }


def _missed(subject: _Subject) -> list[Document]:
    """Every miss that a transition names, once, in the order of the requests."""
    found = {
        missed.prediction_id: missed
        for transition in subject.transitions
        for missed in transition.missed
    }
    return [
        {
            "prediction_id": missed.prediction_id,
            "event_time": iso(missed.event_ms),
            "actual": missed.actual,
            "predicted": missed.predicted,
        }
        for missed in sorted(found.values(), key=lambda m: (m.event_ms, m.prediction_id))
    ]


def _timeline(subject: _Subject, panes: _Panes, watermark_ms: int | None) -> Document | None:
    """Hour by hour, or day by day when that were too many; None without any pane."""
    days = panes.starts(DAY_MS, subject.key)
    if not days:
        return None
    is_short = days[-1] + DAY_MS - days[0] <= HOURLY_UP_TO_MS and panes.is_kept(HOUR_MS, days[0])
    size_ms = HOUR_MS if is_short else DAY_MS
    points = []
    for start_ms, counts in panes.counts(size_ms, subject.key).items():
        window = Window(start_ms, start_ms + size_ms)
        final = watermark_ms is not None and is_final(
            window, maturity_ms=subject.maturity_ms, watermark_ms=watermark_ms
        )
        points.append(
            {
                "start": iso(start_ms),
                "start_ms": start_ms,
                **_score(subject.rule, counts.confusion),
                "predictions": counts.predictions,
                "labelled": counts.labelled,
                "coverage": counts.coverage,
                "is_final": final,
            }
        )
    return {"pane_ms": size_ms, "points": points}


# Before and during the worst firing


def _episode(subject: _Subject, panes: _Panes) -> Document | None:
    """The outcomes that speak to the rule, before and during its worst firing; None without one.

    By event time: from the first vote that spoke for it until it ended, or to the last prediction;
    the same length before it. Bounds are those of the smallest panes that are still stored.
    """
    if not subject.firings:
        return None
    firing = _worst(subject.firings)
    for size_ms in panes.sizes:
        during = _during(firing, panes, subject.key, size_ms)
        if during is not None and panes.is_kept(size_ms, _before(during).start_ms):
            return _compared(subject, panes, firing, during, size_ms)
    return None


def _compared(
    subject: _Subject, panes: _Panes, firing: Firing, during: Window, size_ms: int
) -> Document:
    rule, key = subject.rule, subject.key
    before = _before(during)
    was, is_now = (merge(panes.counts(size_ms, key, w).values()) for w in (before, during))
    return {
        "firing": firing.told.id,
        "pane_ms": size_ms,
        "before": _part(rule, before, was),
        "during": _part(rule, during, is_now),
        "routes": _routes(rule, was.confusion, is_now.confusion),
    }


def _before(during: Window) -> Window:
    """The same length before it."""
    return Window(2 * during.start_ms - during.end_ms, during.start_ms)


def _routes(rule: AlertRule, before: Confusion, during: Confusion) -> list[Document]:
    """Where the misses went, the most frequent during the firing first."""
    missed = [route for route in {**before, **during} if rule.verdict(route[1], route[0]) is False]
    counted = [(during.get(route, 0), before.get(route, 0), route) for route in missed]
    return [
        {"actual": actual, "predicted": predicted, "before": was, "during": now}
        for now, was, (actual, predicted) in sorted(counted, key=lambda c: (-c[0], -c[1], c[2]))
    ]


def _during(firing: Firing, panes: _Panes, key: SliceKey, size_ms: int) -> Window | None:
    starts = panes.starts(size_ms, key)
    if not starts:
        return None
    past_ms = starts[-1] + size_ms
    if firing.ended is not None:
        past_ms = min(past_ms, pane_start(firing.ended.at_ms - 1, size_ms) + size_ms)
    start_ms = pane_start(firing.since_ms, size_ms)
    return Window(start_ms, past_ms) if start_ms < past_ms else None


def _part(rule: AlertRule, window: Window, total: Counts) -> Document:
    confusion: dict[str, dict[str, int]] = {}
    for (actual, predicted), count in total.confusion.items():
        if rule.verdict(predicted, actual) is not None:
            confusion.setdefault(actual, {})[predicted] = count
    return {
        "from": iso(window.start_ms),
        "to": iso(window.end_ms),
        **_score(rule, total.confusion),
        "misses": _misses(rule, total.confusion),
        "predictions": total.predictions,
        "labelled": total.labelled,
        "coverage": total.coverage,
        "confusion": confusion,
    }
