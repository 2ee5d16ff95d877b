"""A day of a chatbot, drawn from a seed, with everything that could be counted wrongly.

Two variants answer one question every few seconds; each has stretches in which it misses most
urgent requests. Labels carry no key and come minutes to hours later, some before their prediction,
some twice, some corrected, withdrawn, or past the label horizon. Log times are strictly increasing
over the whole stream, and each partition ends with a record at ``END_MS``, so that the watermark
reaches the same instant however the stream was read.
"""

import json
import random
from collections.abc import Iterator, Mapping

from monitor.app.report import iso
from monitor.domain.events import Kind
from monitor.ports import OutRecord
from tests.builders import MINUTE_MS, T0, URGENT

PARTITIONS: Mapping[Kind, int] = {Kind.PREDICTIONS: 6, Kind.LABELS: 3}
STEP_MS = 12_000
"""Between two predictions."""

HORIZON_MS = 4 * 60 * MINUTE_MS
END_MS = T0 + 36 * 60 * MINUTE_MS
"""After everything, labels past the horizon included."""

INTENTS = (*sorted(URGENT), "balance", "greeting", "limits")
BAD = (b"{", b"[]", None, b"\xff\xfe", b'{"prediction_id": ""}')

Timed = tuple[int, OutRecord]


class Stream:
    """One stream; ``records`` draws it."""

    def __init__(self, topics: Mapping[Kind, str], seed: int) -> None:
        self._topics = topics
        self._chance = random.Random(f"stream {seed}")

    def records(self, predictions: int) -> list[OutRecord]:
        """In log order, about twice as many as ``predictions``, and at the end the closing ones."""
        drawn = [timed for number in range(predictions) for timed in self._request(number)]
        drawn.sort(key=lambda timed: timed[0])
        records, last_ms = list[OutRecord](), 0
        for at_ms, out in drawn:
            last_ms = max(at_ms, last_ms + 1)
            records.append(OutRecord(out.topic, out.key, out.value, (), out.partition, last_ms))
        if last_ms >= END_MS:
            raise ValueError(f"{predictions} predictions take longer than the day of the stream")
        return records + list(self._closing())

    def _closing(self) -> Iterator[OutRecord]:
        """They let the watermark pass everything else."""
        for kind, count in PARTITIONS.items():
            for number in range(count):
                yield OutRecord(self._topics[kind], None, b"closing", (), number, END_MS)

    def _request(self, number: int) -> Iterator[Timed]:
        chance = self._chance
        at_ms = T0 + number * STEP_MS + chance.randrange(STEP_MS)
        variant = "prompt" if number % 2 else "fine_tuned"
        actual = chance.choice(INTENTS)
        message = {
            "prediction_id": f"p{number:05}",
            "event_time": iso(at_ms),
            "predicted_intent": "greeting" if self._is_missed(at_ms, variant, actual) else actual,
            "variant": variant,
            "channel": chance.choice(("web", "voice")),
            "latency_ms": chance.randrange(20, 900),
        }
        logged_ms = at_ms + chance.randrange(500)
        yield logged_ms, self._out(Kind.PREDICTIONS, message, key=b"k%d" % (number % 50))
        if chance.random() < 0.03:
            again_ms = logged_ms + chance.randrange(60 * MINUTE_MS)
            yield again_ms, self._out(Kind.PREDICTIONS, message, key=b"k%d" % (number % 50))
        if chance.random() < 0.01:
            yield logged_ms, self._out(chance.choice(tuple(Kind)), chance.choice(BAD))
        if chance.random() < 0.92:
            yield from self._labels(number, at_ms, actual)

    def _is_missed(self, at_ms: int, variant: str, actual: str) -> bool:
        minute = (at_ms - T0) // MINUTE_MS % 120
        is_bad = minute >= 80 if variant == "prompt" else 30 <= minute < 70
        return actual in URGENT and self._chance.random() < (0.85 if is_bad else 0.05)

    def _labels(self, number: int, at_ms: int, actual: str) -> Iterator[Timed]:
        chance = self._chance
        delay_ms = int(min(chance.lognormvariate(2.0, 1.2), 170) * MINUTE_MS)
        if chance.random() < 0.05:
            delay_ms = -chance.randrange(MINUTE_MS)
        if chance.random() < 0.02:
            delay_ms = HORIZON_MS + chance.randrange(MINUTE_MS, 30 * MINUTE_MS)
        message = {
            "prediction_id": f"p{number:05}",
            "label_id": f"l{number}",
            "true_intent": actual,
            "label_time": iso(at_ms + delay_ms),
        }
        label_ms = at_ms + delay_ms
        yield label_ms, self._out(Kind.LABELS, message)
        if chance.random() < 0.03:
            yield label_ms + chance.randrange(20 * MINUTE_MS), self._out(Kind.LABELS, message)
        if chance.random() < 0.05:
            revised = {**message, "revision": 2, "true_intent": chance.choice(INTENTS)}
            if chance.random() < 0.2:
                revised["withdrawn"] = True
            yield label_ms + chance.randrange(30 * MINUTE_MS), self._out(Kind.LABELS, revised)
        if chance.random() < 0.01:
            orphan = {**message, "prediction_id": f"unknown{number}"}
            yield label_ms, self._out(Kind.LABELS, orphan)

    def _out(
        self, kind: Kind, message: Mapping[str, object] | bytes | None, key: bytes | None = None
    ) -> OutRecord:
        value = json.dumps(message).encode() if isinstance(message, Mapping) else message
        partition = self._chance.randrange(PARTITIONS[kind])
        return OutRecord(self._topics[kind], key, value, (), partition)
