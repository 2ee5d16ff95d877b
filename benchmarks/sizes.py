"""How many bytes of Redis does each thing take that the worker keeps?

A made-up chatbot of two variants goes through the whole flow into a real Valkey: one answer in
twenty goes to one of three neighbours of the true intent, and each label comes two minutes later.
``MEMORY USAGE`` of every key is then summed up, by what the key holds. The figures of
``docs/sizing.md`` are these.

    python -m benchmarks sizes
    python -m benchmarks sizes --rates 10 --intents 10
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import redis

from benchmarks.memory import START_MS, iso
from monitor.adapters.memory import MemoryLog
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.adapters.redis_panes import SETTLED_SWEEPS
from monitor.app.embedded import embedded_servers
from monitor.app.flow import Flow, Limits
from monitor.app.settings import Settings
from monitor.app.wiring import codec_of, provenance_of, spec_of
from monitor.domain.events import Record
from monitor.domain.windows import DAY_MS, HOUR_MS, MINUTE_MS

MINUTES = 10
"""Log time of the stream; the panes of its first and last minutes are left out."""

DELAY_MINUTES = 2
VARIANTS = ("fine_tuned", "prompt")
WHOLE = range(DELAY_MINUTES, MINUTES - DELAY_MINUTES)
BUCKET = 100
"""Entries of one bucket, as ``redis.buckets`` is to be chosen."""

LISTPACK_VALUES = (64, 256)
"""``hash-max-listpack-value``: the default of servers, and what ``docs/redis.md`` asks for."""


SETTLING_SWEEPS = 100
"""Sweeps after the last panes have settled: each puts some together, and so many reach all."""


def main(options: list[str]) -> None:
    """Print a table for each size of a compact hash's value."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks sizes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rates", type=int, nargs="+", default=[10, 500], help="predictions/s")
    parser.add_argument("--intents", type=int, nargs="+", default=[10, 150])
    chosen = parser.parse_args(options)
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded_servers(Path(folder), broker=False) as endpoints,
    ):
        client = redis.Redis.from_url(endpoints.redis_url)
        for listpack in LISTPACK_VALUES:
            client.config_set("hash-max-listpack-value", listpack)
            print(f"\nhash-max-listpack-value {listpack}; bytes, mean of all there are")
            print(f"| {' | '.join(_COLUMNS)} |\n|{'---:|' * len(_COLUMNS)}", flush=True)
            for rate in chosen.rates:
                for intents in chosen.intents:
                    print(_row(endpoints.redis_url, client, rate, intents), flush=True)


_COLUMNS = (
    *("predictions/s", "intents", "pending", "labelled"),
    *("minute", "hour", "day", "vote", "journal entry"),
)


def _row(url: str, client: "redis.Redis", rate: int, intents: int) -> str:
    """Bytes of each thing; panes are those of all variants and clocks for one stretch of time."""
    pending = _filled(url, client, rate, intents, labelled=False)
    found = _filled(url, client, rate, intents, labelled=True)
    entries = rate * 60 * MINUTES
    figures = (
        *(pending["entries"] / entries, found["entries"] / entries),
        found["minute"] / len(WHOLE),
        *(found[part] for part in ("hour", "day", "vote", "journal entry")),
    )
    return f"| {rate:,} | {intents} | {' | '.join(f'{figure:,.1f}' for figure in figures)} |"


def _filled(
    url: str, client: "redis.Redis", rate: int, intents: int, *, labelled: bool
) -> Mapping[str, float]:
    """Bytes by what they are for, after all of the stream."""
    client.flushall()
    settings = settings_of(intents)
    spec = spec_of(settings)
    buckets = max(1, rate * 60 * MINUTES // BUCKET)
    keep_ms = spec.windows.keep_ms
    store = RedisStore(RedisConnection(url), "sizes", buckets=buckets, keep_ms=keep_ms)
    log = MemoryLog({"predictions": 1, "labels": 1})
    for record in stream(rate, intents, labelled=labelled):
        log.append(record)
    flow = Flow(spec, codec_of(settings), log, store, limits=Limits(max(100, 2 * rate)))
    flow.provenance = provenance_of(settings)
    while flow.turn().records:
        flow.evaluate()
    # As panes are once nobody has added to them for a while; the watermark is too old to drop any.
    for _ in range(SETTLED_SWEEPS + SETTLING_SWEEPS):
        store.sweep(START_MS, spec.windows.horizon_ms)
    store.close()
    return _by_part(client)


def settings_of(intents: int) -> Settings:
    """A group and a rule whose votes wait for a day, so that they are there to be measured."""
    rule = {"name": "urgent", "of": "urgent", "objective": 0.8, "maturity": "1d"}
    urgent = [_intent(number) for number in range(0, intents, 5)]
    return Settings.model_validate(
        {"intents": {"groups": {"urgent": urgent}}, "rules": [{**rule, "per": ["variant"]}]}
    )


def _intent(number: int) -> str:
    return f"intent_of_bank_{number:03}"


def stream(rate: int, intents: int, *, labelled: bool) -> Iterator[Record]:
    """Second by second: predictions, then the labels that are due."""
    for second in range((MINUTES + DELAY_MINUTES) * 60):
        at_ms = START_MS + second * 1_000
        if second < MINUTES * 60:
            for number in range(second * rate, (second + 1) * rate):
                yield _record("predictions", at_ms, _prediction(number, intents, at_ms))
        due = second - DELAY_MINUTES * 60
        if labelled and due >= 0:
            for number in range(due * rate, (due + 1) * rate):
                yield _record("labels", at_ms, _label(number, intents, at_ms))


def _record(topic: str, at_ms: int, fields: Mapping[str, object]) -> Record:
    return Record(topic, 0, 0, at_ms, None, msgspec.json.encode(fields))


def _spread(number: int) -> int:
    """Drawn by number, the same each time."""
    return number * 2_654_435_761 % 2**32 >> 8


def _prediction(number: int, intents: int, at_ms: int) -> dict[str, object]:
    drawn = _spread(number)
    missed = 0 if drawn % 20 else 1 + drawn // 20 % 3
    return {
        "prediction_id": f"{number:016x}",
        "event_time": iso(at_ms),
        "variant": VARIANTS[drawn // 7 % 2],
        "predicted_intent": _intent((drawn % intents + missed) % intents),
        "confidence": 0.5 + drawn % 50 / 100,
        "latency_ms": 40.0 + drawn // 3 % 400,
    }


def _label(number: int, intents: int, at_ms: int) -> dict[str, object]:
    return {
        "prediction_id": f"{number:016x}",
        "true_intent": _intent(_spread(number) % intents),
        "label_time": iso(at_ms - _spread(number) // 11 % 60_000),
        "label_id": f"L{number:015x}",
    }


def _by_part(client: "redis.Redis") -> Mapping[str, float]:
    bytes_of, members = Counter[str](), Counter[str]()
    keys = list(client.scan_iter(count=10_000))
    for start in range(0, len(keys), 1_000):
        some = keys[start : start + 1_000]
        pipe = client.pipeline(transaction=False)
        for key in some:
            pipe.memory_usage(key, samples=0)
        for key, used in zip(some, pipe.execute(), strict=True):
            if part := _part_of(key.decode()):
                bytes_of[part] += used
    members["vote"] = client.zcard("{sizes:0}:votes")
    members["journal entry"] = client.xlen("{sizes:rules}:journal")
    return {part: used / max(1, members.get(part, 1)) for part, used in bytes_of.items()}


def _part_of(key: str) -> str:
    """What the key is for; "" for what is not measured."""
    _, _, name = key.partition("}:")
    parts: Sequence[str] = name.split(":")
    if parts[0] == "e":
        return "entries"
    if parts[0] in {"votes", "journal"}:
        return {"votes": "vote", "journal": "journal entry"}[parts[0]]
    if parts[0] not in {"p", "l", "d"}:
        return ""
    size_ms, start_ms = int(parts[2]), int(parts[3])
    if size_ms == MINUTE_MS:
        return "minute" if (start_ms - START_MS) // MINUTE_MS in WHOLE else ""
    return {HOUR_MS: "hour", DAY_MS: "day"}.get(size_ms, "")
