"""Two variants that answer the same requests, from records to a store."""

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from monitor.adapters.memory import MemoryStore
from monitor.app.instants import iso
from monitor.app.settings import Settings
from monitor.app.wiring import spec_of
from monitor.domain.events import Record
from tests.replay.streams import PickedLog, numbered, read_through

NOON_MS = 1_795_348_800_000
BEGIN_MS = NOON_MS - 3_600_000
SECOND_MS = 1_000
GROUPS = {"groups": {"urgent": ["lost_card"]}}
LIMITS = {"recall": {"urgent": 0.5}, "accuracy": {"good": 0.6, "bad": 0.3}}
PLAIN = Settings.model_validate({"intents": GROUPS, "verdict": LIMITS})
PAIRED = Settings.model_validate(
    {
        "intents": GROUPS,
        "verdict": LIMITS,
        "comparisons": [{"name": "urgent-pairs", "of": "urgent", "maturity": "1m"}],
    }
)


class Answered(NamedTuple):
    """Urgent requests by who was right; with ``is_shared`` false each answer has its own."""

    both: int
    only_new: int
    only_old: int
    neither: int
    is_shared: bool = True

    @property
    def n(self) -> int:
        """How many requests."""
        return sum(self[:4])


def answers(world: Answered) -> Iterator[Record]:
    """Predictions and labels, all in partition 0; the kinds of requests are mixed."""
    kinds = [(True, True)] * world.both + [(True, False)] * world.only_new
    kinds += [(False, True)] * world.only_old + [(False, False)] * world.neither
    for number in range(world.n):
        at_ms = BEGIN_MS + number * SECOND_MS
        # 7 and the number of requests have no common divisor.
        hits = kinds[number * 7 % world.n]
        for variant, hit in zip(("new", "old"), hits, strict=True):
            name = f"{variant}-{number}"
            request = f"q{number}" if world.is_shared else name
            yield _record(
                "predictions", at_ms + 50, name, _prediction(name, request, at_ms, hit=hit)
            )
            label = {"prediction_id": name, "true_intent": "lost_card"}
            yield _record("labels", at_ms + 500, name, {**label, "label_time": iso(at_ms + 400)})


def _prediction(name: str, request: str, at_ms: int, *, hit: bool) -> dict[str, object]:
    variant = name.split("-", maxsplit=1)[0]
    return {
        "prediction_id": name,
        "request_id": request,
        "event_time": iso(at_ms),
        "predicted_intent": "lost_card" if hit else "fees",
        "variant": variant,
        "latency_ms": (100.0 if variant == "new" else 200.0) + at_ms % 7,
        "relevance": 0.8,
    }


def _record(topic: str, log_ms: int, key: str, message: Mapping[str, object]) -> Record:
    return Record(topic, 0, 0, log_ms, key.encode(), json.dumps(message).encode())


def store_of(world: Answered, settings: Settings) -> MemoryStore:
    """A store that has read and judged them all."""
    records = sorted(answers(world), key=lambda record: record.log_ms)
    end = {"prediction_id": "end", "event_time": iso(NOON_MS), "variant": "new"}
    end |= {"predicted_intent": "fees"}
    records.append(_record("predictions", NOON_MS, "end", end))
    records.append(_record("labels", NOON_MS, "none", {"not": "a label"}))
    store = MemoryStore(1, spec_of(settings).windows.keep_ms)
    read_through(PickedLog(numbered(records), lambda behind: (behind[0], 60)), store, 60, settings)
    return store
