"""A simulated stream in which the other variant answers most requests, too, and is labelled."""

import json
import random
from collections.abc import Iterator, Sequence

from monitor.app.settings import ComparisonSettings
from monitor.domain.events import Record
from tests.replay.streams import SETTINGS, numbered

OTHER = {"fine_tuned": "prompt", "prompt": "fine_tuned"}
COMPARISONS = [
    {"name": "urgent-pairs", "of": "urgent", "maturity": "5m", "within": "1h"},
    {"name": "all-pairs", "metric": "accuracy", "within": "10m"},
]
PAIRED = SETTINGS.model_copy(
    update={"comparisons": tuple(map(ComparisonSettings.model_validate, COMPARISONS))}
)


def with_twins(
    records: Sequence[Record], *, share: float = 0.8, right: float = 0.8, seed: int = 3
) -> list[Record]:
    """The records with a twin after ``share`` of the predictions and after each of their labels.

    A twin agrees with the label or its sibling ``right`` of the time. Its label comes up to 20
    minutes later, and names another annotation.
    """
    dice = random.Random(seed)
    twins = list(_twins(records, dice, share, right))
    whole = sorted([*records, *twins], key=lambda r: (r.log_ms, r.topic, r.key or b""))
    return numbered(whole)


def _twins(
    records: Sequence[Record], dice: random.Random, share: float, right: float
) -> Iterator[Record]:
    twinned = set[str]()
    for record in records:
        try:
            message = json.loads(record.value or b"")
        except ValueError:
            continue
        if not isinstance(message, dict):
            continue
        name = str(message.get("prediction_id", ""))
        log_ms = record.log_ms + 3
        if record.topic == "predictions":
            if message.get("variant") not in OTHER or dice.random() >= share:
                continue
            twinned.add(name)
            message["variant"] = OTHER[message["variant"]]
            message["model_version"] = f"of-{message['variant']}"
            if dice.random() >= right:
                message["predicted_intent"] = "balance"
        elif name not in twinned:
            continue
        else:
            log_ms += dice.randrange(20 * 60_000)
            message["label_id"] = f"{message.get('label_id', '')}-twin"
        message["prediction_id"] = f"{name}-twin"
        value = json.dumps(message).encode()
        yield record._replace(log_ms=log_ms, key=f"{name}-twin".encode(), value=value)
