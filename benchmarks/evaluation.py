"""How long does an evaluation take while the worker keeps up, by the number of slices watched?

A made-up chatbot, whose rule on the urgent intents watches each channel by itself. Its first hours
are read at once. Then log time goes on by a second at a time, as it does for a worker that keeps
up, and each evaluation is timed, from the look at how far the log was read until transitions and
journal entries have been taken from the store: nothing is sent on. Those for which there was
nothing new are not counted. The log is in memory, Redis is a real one with an append-only file, on
another core. With an odd number of slices each has predictions of two versions, and two alerts.

    python -m benchmarks evaluation
    python -m benchmarks evaluation --slices 1000 --seconds 300
"""

import argparse
import gc
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import groupby
from statistics import mean

from benchmarks.live import DURABLE
from benchmarks.replay_runs import CORE
from benchmarks.replay_stream import PARTITIONS, Shape, settings_of, stream
from benchmarks.side_by_side import keep_off_the_measured_core
from monitor.adapters.memory import MemoryLog
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.app.flow import Flow
from monitor.app.wiring import codec_of, limits_of, provenance_of, spec_of
from monitor.domain.events import Kind, Record
from tests.servers.redis import RedisServer

SECOND_MS = 1_000
MINUTE_S = 60
"""Labels of a minute are made at its end, so one more is made than is measured."""


def main(argv: list[str]) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks evaluation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--slices", type=int, nargs="+", default=[1, 100, 1_000], metavar="N")
    parser.add_argument("--seconds", type=int, default=180, help="of log time (180)")
    parser.add_argument("--a-day", type=int, default=2_000_000, help="predictions (2,000,000)")
    parser.add_argument("--before", type=int, default=300_000, help="predictions read at once")
    chosen = parser.parse_args(argv)
    print(f"{chosen.a_day:,} predictions a day, {chosen.seconds} s of log time")
    print("| slices | alerts | votes each | evaluation ms, p50 | p99 | greatest |")
    print("|---:|---:|---:|---:|---:|---:|", flush=True)
    for slices in chosen.slices:
        print(_row(slices, chosen), flush=True)


def _row(slices: int, chosen: argparse.Namespace) -> str:
    shape = Shape(channels=slices, is_sliced=True)
    settled, seconds = _records(shape, chosen)
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        keep_off_the_measured_core()
        server = stack.enter_context(RedisServer(options=DURABLE))
        os.sched_setaffinity(0, {CORE})
        settings = settings_of(is_sliced=True)
        log = MemoryLog({kind.value: PARTITIONS for kind in Kind})
        store = stack.enter_context(closing(RedisStore(RedisConnection(server.url), "ticks")))
        flow = Flow(spec_of(settings), codec_of(settings), log, store, limits=limits_of(settings))
        flow.provenance = provenance_of(settings)
        votes: list[int] = []
        flow.on_votes = lambda released: votes.append(len(released))
        for record in settled:
            log.append(record)
        while flow.turn().records:
            flow.evaluate()
        votes.clear()
        gc.freeze()  # A worker has no log in memory to look through for garbage.
        found = sorted(_timed(flow, store, log, seconds))
        alerts = len(store.evaluation().states)
    p50, p99, most = (found[int(share * (len(found) - 1))] * 1e3 for share in (0.5, 0.99, 1))
    each = mean(votes or [0])
    return f"| {slices:,} | {alerts:,} | {each:.1f} | {p50:.1f} | {p99:.1f} | {most:.1f} |"


def _records(shape: Shape, chosen: argparse.Namespace) -> tuple[list[Record], list[list[Record]]]:
    """Those that are read at once, and those of each second after them, by log time."""
    wanted = chosen.before + (chosen.seconds + MINUTE_S) * chosen.a_day // 86_400
    made = stream(wanted, predictions_a_day=chosen.a_day, shape=shape)
    predictions = 0
    found: list[Record] = []
    # Labels of the last ones come hours later: they are not waited for.
    while predictions < wanted:
        found.append(next(made))
        predictions += found[-1].topic == Kind.PREDICTIONS
    found.sort(key=_second)
    end_s = _second(found[-1]) - MINUTE_S
    begin_s = end_s - chosen.seconds
    settled = [record for record in found if _second(record) < begin_s]
    rest = [record for record in found if begin_s <= _second(record) < end_s]
    return settled, [list(records) for _, records in groupby(rest, key=_second)]


def _second(record: Record) -> int:
    return record.log_ms // SECOND_MS


def _timed(
    flow: Flow, store: RedisStore, log: MemoryLog, seconds: list[list[Record]]
) -> Iterator[float]:
    """Seconds that each evaluation took for which there was something new."""
    for records in seconds:
        for record in records:
            log.append(record)
        while flow.turn().records:
            pass
        before = store.evaluation().sequence
        began_s = time.perf_counter()
        flow.evaluate()
        flow.deliver(lambda _: None)
        flow.publish(lambda _: None)
        took_s = time.perf_counter() - began_s
        if store.evaluation().sequence != before:
            yield took_s
