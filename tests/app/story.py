"""A short history of a chatbot, with everything in it that a flow has to cope with.

Two variants answer one question a minute for two hours; from the sixtieth minute on `fine_tuned`
misses every urgent one, which its labels show half a minute later. There are copies, corrections,
a withdrawn label, an orphan, labels that come before their prediction, and records that cannot be
read, in both topics.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from monitor.adapters.memory import MemoryLog
from monitor.app.report import iso
from monitor.codec.records import RecordCodec
from monitor.domain.engine import Spec
from monitor.domain.events import Kind, Partition, Record
from monitor.domain.slices import Groups
from monitor.domain.windows import ALL_TIME, HOUR_MS, PaneKey
from monitor.ports import StateReader, StateStore
from tests.builders import (
    MINUTE_MS,
    T0,
    URGENT,
    label_message,
    prediction_message,
    record,
    rule,
)

TOPICS: Mapping[str, int] = {"predictions": 2, "labels": 2}
PREDICTIONS = [Partition("predictions", 0), Partition("predictions", 1)]
LABELS = [Partition("labels", 0), Partition("labels", 1)]
MINUTES = 120
RELEASE = 60
END_MS = 2**50
"""After everything."""

SPEC = Spec(
    groups=Groups({"urgent": URGENT}),
    slice_names=("channel",),
    rules=(rule(per=("variant",), maturity_ms=2 * MINUTE_MS),),
)
SETTINGS: Mapping[str, Any] = {
    "intents": {"groups": {"urgent": sorted(URGENT)}},
    "slices": ["variant", "channel"],
    "rules": [
        {
            "name": "urgent-recall",
            "of": "urgent",
            "per": ["variant"],
            "objective": 0.80,
            "maturity": "2m",
            "hindsight": "off",
        }
    ],
    "worker": {"batch_records": 64},
}
"""The settings that say the same as ``SPEC``."""

CODEC = RecordCodec("predictions", "labels", ("channel",))

UNREADABLE = {
    "predictions": (b"{", b'{"prediction_id": ""}', None, b"\xff", b'{"prediction_id": "p9"}'),
    "labels": (b"[]", None, b'{"prediction_id": "p9", "label_time": 1, "true_intent": NaN}'),
}


def predicted(number: int) -> Record:
    """The answer of one minute."""
    is_urgent, variant = number % 5 > 0, "prompt" if number % 2 else "fine_tuned"
    is_missed = is_urgent and variant == "fine_tuned" and number >= RELEASE
    message = prediction_message(
        prediction_id=f"p{number}",
        event_time=iso(T0 + number * MINUTE_MS),
        predicted_intent="lost_card" if is_urgent and not is_missed else "balance",
        variant=variant,
        channel="web" if number % 3 else "voice",
        latency_ms=20 + number,
        relevance=0.5,
    )
    return record(
        message, partition=number % 2, log_ms=T0 + number * MINUTE_MS + 100, key=b"k%d" % number
    )


def labelled(number: int, *, after_ms: int = 30_000, **fields: object) -> Record:
    """What was true in one minute."""
    message = label_message(
        prediction_id=f"p{number}",
        label_id=f"l{number}",
        true_intent="lost_card" if number % 5 else "balance",
        label_time=iso(T0 + number * MINUTE_MS + after_ms - 1_000),
    )
    return record(
        {**message, **fields},
        topic="labels",
        partition=number // 2 % 2,
        log_ms=T0 + number * MINUTE_MS + after_ms,
    )


def history() -> list[Record]:
    """Every record in log order; offsets are given by the log that takes them."""
    return list(_history())


@cache
def _history() -> tuple[Record, ...]:
    records = [predicted(number) for number in range(MINUTES)]
    records += [labelled(number) for number in range(MINUTES) if number % 10 != 3]
    records += [labelled(13, after_ms=50)]
    records += [predicted(7)._replace(log_ms=T0 + 9 * MINUTE_MS)]
    records += [labelled(8, after_ms=40_000)]
    records += [
        labelled(
            n, after_ms=5 * MINUTE_MS, label_id=f"c{n}", revision=2, true_intent="report_fraud"
        )
        for n in (10, 20, 70)
    ]
    records += [labelled(15, after_ms=600_000, label_id="w15", revision=3, withdrawn=True)]
    records += [labelled(500, after_ms=-490 * MINUTE_MS)]
    for topic, values in UNREADABLE.items():
        records += [
            record(value, topic=topic, partition=n % 2, log_ms=T0 + (20 + 7 * n) * MINUTE_MS)
            for n, value in enumerate(values)
        ]
    return tuple(sorted(records, key=lambda each: (each.log_ms, each.topic)))


def ends() -> dict[Partition, int]:
    """The next offset of each partition once the whole history is in the log."""
    return dict(Counter(Partition(each.topic, each.partition) for each in history()))


def filled(log: MemoryLog, records: Iterable[Record]) -> MemoryLog:
    """``log`` with these records appended."""
    for each in records:
        log.append(each)
    return log


def numbers(store: StateStore) -> dict[str, object]:
    """Everything that must not depend on what happened on the way; empty panes count as none."""
    sizes = (ALL_TIME, MINUTE_MS, HOUR_MS)
    keys: list[PaneKey] = [key for size in sizes for key in store.pane_keys(size)]
    evaluation = store.evaluation()
    return {
        "ledger": dict(store.ledger()),
        "panes": {key: c for key, c in zip(keys, store.panes(keys), strict=True) if c.cells},
        "transitions": [replace(transition, cut=()) for transition in store.transitions()],
        "states": dict(evaluation.states),
        "watermark": evaluation.watermark_ms,
        "waiting": [v for v in store.waiting(END_MS) if v not in evaluation.releasing],
    }


def received(store: StateReader, kind: Kind) -> int:
    """Records of one topic in the books."""
    return store.ledger().get(f"{kind}.received", 0)
