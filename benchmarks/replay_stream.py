"""One realistic stream: predictions, and labels after a lognormal delay, as records of a log.

500,000 requests a day to two variants with 16 intents, three of them urgent; 96.5 % get a label,
the median after two hours. Records look like those of a bank's chatbot, about 300 bytes.
"""

import gzip
import random
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from zlib import crc32

import msgspec

from benchmarks.memory import iso
from monitor.app.settings import Settings
from monitor.domain.events import Kind, Record
from monitor.domain.windows import DAY_MS, HOUR_MS, MINUTE_MS

START_MS = 1_772_409_600_000
PREDICTIONS_A_DAY = 500_000
LABELLED = 0.965
EVENTS_A_PREDICTION = 1 + LABELLED
MEDIAN_DELAY_MS = 2 * HOUR_MS
MOST_DELAY_MS = 20 * HOUR_MS
"""Within the horizon, so that the plain loop, which knows none, counts the same."""

PARTITIONS = 6
INTENTS = tuple(f"intent_{number:02d}" for number in range(16))
URGENT = INTENTS[:3]
VARIANTS = (("fine_tuned", '"ft-2.4"', "null"), ("prompt", '"base-1"', '"tmpl-7"'))
CHANNELS = ("web", "mobile", "voice")
TEXTS = (
    "how long does it take to replace a stolen credit card",
    "I never authorised the 250 euros taken from my account last Friday",
    "is there more than 40 euros on my account",
    "the cash machine at the airport swallowed my card",
)
_MIX = 0x9E3779B97F4A7C15


class Shape(msgspec.Struct, frozen=True):
    """What a stream is like: how many partitions, intents and channels there are.

    When it ``is_sliced``, channels are counted apart, and watched apart.
    """

    partitions: int = PARTITIONS
    intents: int = len(INTENTS)
    channels: int = len(CHANNELS)
    is_sliced: bool = False

    def intent(self, number: int) -> str:
        """The name of an intent; numbers begin anew."""
        return f"intent_{number % self.intents:02d}"

    def channel(self, number: int) -> str:
        """The name of a channel; numbers begin anew."""
        number %= self.channels
        return CHANNELS[number] if number < len(CHANNELS) else f"channel_{number:03d}"


USUAL = Shape()


def settings_of(
    bootstrap: str = "127.0.0.1:9092",
    *,
    is_short: bool = False,
    redis_url: str = "redis://127.0.0.1:6379/0",
    namespace: str = "bench",
    is_sliced: bool = False,
) -> Settings:
    """A rule on the urgent intents, for each variant; a horizon of a day.

    When it ``is_short``, nothing is kept for longer than a day: neither panes nor votes.
    """
    keep = ("6h", "1d", "30d") if is_short else ("7d", "90d", "3y")
    rule = {"name": "urgent-recall", "of": "urgent", "per": ["variant"], "objective": 0.8}
    if is_short:
        rule["hindsight"] = "12h"
    if is_sliced:
        rule["per"] = ["channel"]
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": bootstrap},
            "redis": {"url": redis_url, "namespace": namespace},
            "intents": {"groups": {"urgent": list(URGENT)}},
            "windows": {
                "horizon": "1d",
                "keep": dict(zip(("1m", "1h", "1d"), keep, strict=True)),
            },
            "rules": [rule],
            "slices": ["variant", "channel"] if is_sliced else ["variant"],
        }
    )


def stream(
    predictions: int,
    seed: int = 1,
    predictions_a_day: int = PREDICTIONS_A_DAY,
    shape: Shape = USUAL,
) -> Iterator[Record]:
    """All records, each topic in log order; of a label to come a number alone is kept."""
    dice = random.Random(seed)
    step_ms = DAY_MS / predictions_a_day
    due: dict[int, array[int]] = {}  # minute -> numbers of the labels that arrive in it
    offsets: dict[tuple[Kind, int], int] = {}

    def record(kind: Kind, key: str, log_ms: int, value: str) -> Record:
        partition = crc32(key.encode()) % shape.partitions
        offset = offsets.get((kind, partition), 0)
        offsets[kind, partition] = offset + 1
        return Record(kind.value, partition, offset, log_ms, key.encode(), value.encode())

    def labels(minute: int) -> Iterator[Record]:
        numbers = due.pop(minute, ())
        for place, number in enumerate(numbers):
            log_ms = minute * MINUTE_MS + MINUTE_MS * place // len(numbers)
            value = _label(number, log_ms - 70, shape)
            yield record(Kind.LABELS, _key(number), log_ms, value)

    minute = START_MS // MINUTE_MS
    for number in range(predictions):
        log_ms = START_MS + int(number * step_ms)
        while minute < log_ms // MINUTE_MS:
            minute += 1
            yield from labels(minute - 1)
        value = _prediction(number, log_ms - 90, shape)
        yield record(Kind.PREDICTIONS, _key(number), log_ms, value)
        if dice.random() < LABELLED:
            delay_ms = min(MOST_DELAY_MS, int(dice.lognormvariate(0, 1) * MEDIAN_DELAY_MS))
            due.setdefault((log_ms + delay_ms) // MINUTE_MS + 1, array("Q")).append(number)
    for minute in sorted(due):
        yield from labels(minute)


def capture(records: Iterable[Record], folder: Path) -> int:
    """Write captured files to ``folder / "plain"`` and ``folder / "packed"``; the records."""
    encode, count = msgspec.json.encode, 0
    for name in ("plain", "packed"):
        (folder / name).mkdir(parents=True)
    lines: dict[str, list[bytes]] = {str(kind): [] for kind in Kind}
    for record in records:
        count += 1
        line = {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.log_ms,
            "key": (record.key or b"").decode(),
            "value": (record.value or b"").decode(),
        }
        lines[record.topic].append(encode(line))
        if not count % 100_000:
            _append(folder, lines)
    _append(folder, lines)
    return count


def _append(folder: Path, lines: dict[str, list[bytes]]) -> None:
    for kind, written in lines.items():
        data = b"".join(line + b"\n" for line in written)
        with (folder / "plain" / f"{kind}.jsonl").open("ab") as plain:
            plain.write(data)
        with gzip.open(folder / "packed" / f"{kind}.jsonl.gz", "ab", compresslevel=4) as packed:
            packed.write(data)
        written.clear()


def _key(number: int) -> str:
    return f"p{number * _MIX & 0xFFFFFFFFFFFFFF:014x}"


def _mixed(number: int) -> int:
    return number * _MIX >> 13 & 0xFFFFFFFF


def _prediction(number: int, event_ms: int, shape: Shape) -> str:
    mixed, key = _mixed(number), _key(number)
    variant, model, prompt = VARIANTS[mixed & 1]
    is_right = mixed % 20 != 0
    predicted = shape.intent((mixed >> 8) + (not is_right))
    return (
        f'{{"schema_version": 1, "prediction_id": "{key}", "request_id": "r{key[1:]}", '
        f'"event_time": "{iso(event_ms)}", "variant": "{variant}", "model_version": {model}, '
        f'"prompt_version": {prompt}, "predicted_intent": "{predicted}", '
        f'"confidence": {0.3 + mixed % 7000 / 10_000:.4f}, '
        f'"latency_ms": {5 + mixed % 90_000 / 1e3}, "channel": "{shape.channel(mixed)}", '
        f'"text_hash": "{mixed:016x}", '
        f'"text": "{TEXTS[mixed >> 4 & 3]}"}}'
    )


def _label(number: int, label_ms: int, shape: Shape) -> str:
    mixed, key = _mixed(number), _key(number)
    return (
        f'{{"schema_version": 1, "label_id": "l{key[1:]}", "prediction_id": "{key}", '
        f'"true_intent": "{shape.intent(mixed >> 8)}", "label_time": "{iso(label_ms)}", '
        f'"annotator": "a{mixed % 30:02d}", "source": "review_queue", "revision": 1}}'
    )
