"""Stores filled for the dashboard: one scene for each state that a page can be in.

Every scene ends at NOON_MS by the data's own time, and counts what it puts in, so that tests
compare the pages with numbers that did not come through the code under test.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import cast

from dashboards.source import Source
from monitor.adapters.memory import MemoryStore
from monitor.app.settings import Settings
from monitor.domain import alerts, engine, ledger, signals
from monitor.domain.counts import bucket_of
from monitor.domain.cut import Progress
from monitor.domain.engine import Changes, Spec
from monitor.domain.errors import StoreError
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import (
    Batch,
    Envelope,
    Kind,
    Label,
    Partition,
    Position,
    Prediction,
    PredictionId,
    Reason,
    Rejected,
    Traits,
)
from monitor.domain.measures import Measures, Panes
from monitor.domain.overlays import Action, Deed, raised_by
from monitor.domain.rules import AlertRule, Signal, SignalRule
from monitor.domain.slices import Groups
from monitor.domain.windows import HOUR_MS, MINUTE_MS
from monitor.ports import Heartbeat, StateReader, StateStore

NOTHING_YET = (
    "No windows yet. The first appears about 60 s after start. No worker has reported yet: "
    "start one with recallwatch run."
)
"""What every page says of an empty store."""

NOON_MS = 1_795_348_800_000
"""2026-11-22T12:00:00Z, where every scene ends."""

URGENT = frozenset({"report_fraud", "lost_card", "account_locked", "payment_failed"})
ROUTINE = ("check_balance", "fees", "change_address", "app_help", "exchange_rate", "other")
LOOK_ALIKE = {
    "report_fraud": "other",
    "lost_card": "change_address",
    "account_locked": "app_help",
    "payment_failed": "fees",
}
RULE = AlertRule("urgent-recall", "urgent", URGENT, 0.80, is_glance=True)
SPEC = Spec(groups=Groups({"urgent": URGENT}), rules=(RULE,))
BY_EVIDENCE = replace(RULE, is_glance=False, baseline=0.92, evidence=36_000.0)
SLOW = SignalRule("slow-answers", Signal.LATENCY_P95, window_ms=HOUR_MS, above=120.0)
SETTINGS = Settings.model_validate(
    {
        "intents": {"groups": {"urgent": sorted(URGENT)}},
        "rules": [
            {
                "name": RULE.name,
                "of": RULE.of,
                "per": ["variant"],
                "objective": RULE.objective,
                "detector": "glance",
            }
        ],
    }
)
"""Those that ``SPEC`` is made of."""

WATCHED = Spec(groups=SPEC.groups, rules=(BY_EVIDENCE,), signals=(SLOW,))
"""With the e-detector, and a signal that all scenes of ``bank`` make warn."""


@dataclass
class Chat:
    """Messages as they are recorded: answered now, labelled later or never."""

    envelopes: list[Envelope] = field(default_factory=list)

    def message(
        self,
        at_ms: int,
        *,
        predicted: str,
        actual: str | None = None,
        delay_ms: int = MINUTE_MS,
        variant: str = "fine_tuned",
        latency_ms: float | None = 100.0,
        version: str = "",
    ) -> None:
        """One prediction, and its label ``delay_ms`` later unless ``actual`` is None."""
        name = PredictionId(f"m{len(self.envelopes):06}")
        bucket = None if latency_ms is None else bucket_of(latency_ms)
        prediction = Prediction(name, at_ms, at_ms, Traits(variant, predicted, (), version), bucket)
        self._record(Kind.PREDICTIONS, prediction)
        if actual is not None:
            known_ms = at_ms + delay_ms
            self._record(Kind.LABELS, Label(name, actual, known_ms, known_ms, f"{name}-label"))

    def many(self, n: int, at_ms: int, *, predicted: str, actual: str | None = None) -> None:
        """``n`` alike messages, 10 ms apart."""
        for number in range(n):
            self.message(at_ms + 10 * number, predicted=predicted, actual=actual)

    def reject(self, kind: Kind, reason: Reason) -> None:
        """One record that cannot be read."""
        self._record(kind, Rejected(reason, ""))

    def _record(self, kind: Kind, fact: Prediction | Label | Rejected) -> None:
        log_ms = 0 if isinstance(fact, Rejected) else fact.log_ms
        position = Position(kind, 0, len(self.envelopes))
        self.envelopes.append(Envelope(kind, position, fact, log_ms))


def filled(chat: Chat, spec: Spec = SPEC, as_of_ms: int = NOON_MS) -> MemoryStore:
    """A store that has read, and judged, all that was recorded before ``as_of_ms``."""
    store = MemoryStore()
    fill(store, chat, spec, as_of_ms)
    return store


def fill(store: StateStore, chat: Chat, spec: Spec, as_of_ms: int) -> None:
    """Let an empty ``store`` of one shard read and judge what was recorded before ``as_of_ms``."""
    past = [e for e in chat.envelopes if log_ms(e) < as_of_ms]
    past.sort(key=log_ms)
    reached = Progress(len(past), as_of_ms, as_of_ms)
    progress = {Partition(kind, 0): reached for kind in Kind}
    changes = engine.step(spec, {}, Batch.of(past), progress=progress, watermark_ms=None)
    store.commit(0, {}, changes)
    judged = alerts.evaluate(spec.rules, {}, store.waiting(as_of_ms), as_of_ms)
    told = _signalled(store, spec, as_of_ms)
    lease = store.lead("worker-1", 1)
    assert lease is not None
    moved = alerts.in_order([*judged.transitions, *told.transitions])
    left = Evaluation(1, as_of_ms, judged.states, signals=told.states)
    store.commit_evaluation(left, moved, lease)
    store.beat(Heartbeat("worker-1", as_of_ms, lag=0, records=len(past)))


def _signalled(store: StateStore, spec: Spec, as_of_ms: int) -> signals.Signalled:
    variants = [key.variant for key in store.slice_keys()]
    return signals.evaluate(
        spec.signals,
        {},
        Measures(Panes(spec.windows, store.panes)),
        lambda: variants,
        from_ms=None,
        until_ms=as_of_ms,
        starts=lambda: [as_of_ms - 5 * HOUR_MS],
    )


def taken_on(store: MemoryStore, who: str = "ana", note: str = "rolling back") -> MemoryStore:
    """``store`` after somebody has taken on what its rule has raised."""
    for alert, raised in raised_by(store.transitions()).items():
        if alert.rule != RULE.name:
            continue
        store.act(Action(f"ack-{raised}", Deed.ACKNOWLEDGE, NOON_MS, who, note, raised))
    return store


def silenced(store: MemoryStore, *, hours: int = 2) -> MemoryStore:
    """``store`` after somebody has silenced its rule until so long after noon."""
    matchers, until_ms = (("rule", RULE.name),), NOON_MS + hours * HOUR_MS
    act = Action("s1", Deed.SILENCE, NOON_MS, "bo", "retraining", "", matchers, until_ms)
    store.act(act)
    return store


def lose(store: MemoryStore, *gaps: ledger.Gap) -> MemoryStore:
    """``store`` with these gaps entered in its books."""
    store.commit(0, {}, Changes({}, {}, {}, {ledger.gap(gap): 1 for gap in gaps}, [], {}))
    return store


def source_of(reader: StateReader, *, age_ms: int = 2_000, spec: Spec = SPEC) -> Source:
    """A source whose viewer looks ``age_ms`` after the worker's last sign of life."""
    return Source(connect=lambda: reader, spec=spec, now_ms=lambda: NOON_MS + age_ms)


def bank(
    recall: Callable[[float, str], float],
    *,
    hours: float = 4.25,
    labelled: float = 0.95,
    delay_min: float = 2.5,
    seed: int = 7,
) -> Chat:
    """A chatbot of two variants; ``recall(minutes_ago, intent)`` is that of ``fine_tuned``."""
    chat, dice = Chat(), random.Random(seed)
    at_ms = NOON_MS - int(hours * HOUR_MS)
    while at_ms < NOON_MS:
        at_ms += int(dice.expovariate(70 / MINUTE_MS)) + 1
        variant = "fine_tuned" if dice.random() < 0.6 else "prompt"
        is_urgent = dice.random() < 0.3
        actual = dice.choice(sorted(URGENT) if is_urgent else ROUTINE)
        chance = recall((NOON_MS - at_ms) / MINUTE_MS, actual) if variant == "fine_tuned" else 0.93
        missed = dice.random() > (chance if is_urgent else 0.96)
        predicted = LOOK_ALIKE.get(actual, "other") if missed else actual
        chat.message(
            at_ms,
            predicted=predicted,
            actual=actual if dice.random() < labelled else None,
            delay_ms=int(dice.lognormvariate(0, 0.8) * delay_min * MINUTE_MS),
            variant=variant,
            latency_ms=80 * dice.lognormvariate(0, 0.3),
        )
    return chat


def calm() -> Chat:
    """Recall of 0.93 all the time."""
    return bank(lambda *_: 0.93)


def incident() -> Chat:
    """Two intents broke 18 minutes ago; some records of both kinds are rejected."""
    broken = {"report_fraud": 0.2, "account_locked": 0.35}
    chat = bank(lambda ago, intent: broken.get(intent, 0.94) if ago < 18 else 0.94)
    for kind, reason in (
        (Kind.PREDICTIONS, Reason.NOT_JSON),
        (Kind.PREDICTIONS, Reason.NOT_JSON),
        (Kind.PREDICTIONS, Reason.MISSING_FIELD),
        (Kind.LABELS, Reason.BAD_TIME),
    ):
        chat.reject(kind, reason)
    return chat


def degraded() -> Chat:
    """Recall of 0.81 all the time: above the objective, below what is healthy."""
    return bank(lambda *_: 0.81)


def mended() -> Chat:
    """Recall of 0.3 from 28 to 18 minutes ago, and of 0.97 since."""
    return bank(lambda ago, _: 0.3 if 18 < ago < 28 else 0.97)


def late() -> Chat:
    """Labels take about 20 minutes, so that most of the last quarter of an hour is unknown."""
    return bank(lambda *_: 0.93, delay_min=20)


def unlabelled() -> Chat:
    """1 072 messages in the last ten minutes, none of them labelled."""
    chat = Chat()
    for number in range(1_072):
        chat.message(NOON_MS - 10 * MINUTE_MS + number * 500, predicted="lost_card")
    return chat


def hardly_labelled() -> Chat:
    """Twelve labelled urgent messages, all of them hits, among a hundred without a label."""
    chat = Chat()
    chat.many(100, NOON_MS - 8 * MINUTE_MS, predicted="fees")
    chat.many(12, NOON_MS - 5 * MINUTE_MS, predicted="lost_card", actual="lost_card")
    return chat


def caught() -> Chat:
    """A hundred labelled messages, urgent ones among them, all answered rightly."""
    chat = Chat()
    chat.many(60, NOON_MS - 8 * MINUTE_MS, predicted="fees", actual="fees")
    chat.many(40, NOON_MS - 5 * MINUTE_MS, predicted="lost_card", actual="lost_card")
    return chat


def wide() -> Chat:
    """77 intents, each of which is sometimes taken for the next; four of them are urgent."""
    chat, dice = Chat(), random.Random(3)
    routine = [f"question_{number:02}" for number in range(73)]
    intents = [*sorted(URGENT), *routine]
    for number in range(6_000):
        at = dice.randrange(len(intents))
        missed = dice.random() > 0.85
        wrong = dice.choice(routine[:30]) if intents[at] in URGENT else intents[(at + 1) % 77]
        chat.message(
            NOON_MS - 170 * MINUTE_MS + number * 1_600,
            predicted=wrong if missed else intents[at],
            actual=intents[at],
        )
    return chat


def flaky(reader: MemoryStore, is_down: Callable[[], bool]) -> MemoryStore:
    """The same store, which can be taken away."""
    return cast(MemoryStore, _Flaky(reader, is_down))


class _Flaky:
    def __init__(self, reader: MemoryStore, is_down: Callable[[], bool]) -> None:
        self._reader, self._is_down = reader, is_down

    def __getattr__(self, name: str) -> object:
        if self._is_down():
            raise StoreError("redis://localhost:6379/0 does not answer. Is it running?")
        return getattr(self._reader, name)


SCENES: dict[str, Callable[[], Chat]] = {
    "no_labels": unlabelled,
    "few_labels": hardly_labelled,
    "ok": calm,
    "late": late,
    "firing": incident,
    "recovering": mended,
    "caught": caught,
    "wide": wide,
}


BY_EVIDENCE_SCENES: dict[str, Callable[[], MemoryStore]] = {
    "calm": lambda: filled(calm(), WATCHED),
    "acknowledged": lambda: taken_on(filled(incident(), WATCHED)),
    "degraded": lambda: silenced(filled(degraded(), WATCHED)),
}


def spec_of(scene: str) -> Spec:
    """The rules of a scene."""
    return WATCHED if scene in BY_EVIDENCE_SCENES else SPEC


@cache
def store_of(scene: str) -> MemoryStore:
    """The store of a scene, to be read only; ``empty`` is one that nobody has written to."""
    if scene in BY_EVIDENCE_SCENES:
        return BY_EVIDENCE_SCENES[scene]()
    return MemoryStore() if scene == "empty" else filled(SCENES[scene]())


def log_ms(envelope: Envelope) -> int:
    """When a record was told."""
    return NOON_MS - 1 if isinstance(envelope.fact, Rejected) else envelope.fact.log_ms
