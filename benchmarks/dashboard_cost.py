"""What reading the Live page costs, by the number of predictions in the window.

Panes are filled through the engine, with labels; only the counts are written, since that is all
that a dashboard reads. CPU seconds, so that other work on the machine does not count.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from benchmarks.dashboard_stage import settings_for
from dashboards import charts, queries
from dashboards.models import Choice, Trend
from dashboards.theme import LIGHT
from monitor.adapters.redis import RedisStore
from monitor.app.wiring import open_reader, open_store, spec_of
from monitor.domain import engine
from monitor.domain.cut import Progress
from monitor.domain.engine import Spec
from monitor.domain.events import Batch, Envelope, Kind, Partition
from monitor.domain.windows import HOUR_MS, MINUTE_MS
from tests.dashboards import scenes
from tests.servers.redis import REDIS, RedisServer

WINDOW_MS = 3 * HOUR_MS
MINUTES = WINDOW_MS // MINUTE_MS + 90
"""The range, and what the rolling window and the comparison look at before it."""

RECENT_MS = 15 * MINUTE_MS
ROUNDS = 15


@dataclass(frozen=True)
class Cost:
    """CPU milliseconds by predictions in the range.

    ``now_ms`` and ``trend_ms`` read cards and charts from the store, once for all viewers;
    ``drawn_ms`` makes the charts of what was read, which each viewer's refresh does.
    """

    predictions: int
    now_ms: float
    trend_ms: float
    drawn_ms: float


def costs(sizes: list[int]) -> list[Cost]:
    """One measurement for each size."""
    return [_cost(size) for size in sizes]


def _cost(predictions: int) -> Cost:
    with RedisServer(REDIS) as server:
        settings = settings_for(server.url)
        spec = spec_of(settings)
        with closing(open_store(settings)) as store:
            assert isinstance(store, RedisStore)
            _fill(store, spec, predictions)
        with closing(open_reader(settings)) as reader:
            choice = Choice(of="urgent", span="3h")
            told = {"recent_ms": RECENT_MS, "now_ms": scenes.NOON_MS}
            view = queries.trend(reader, spec, choice, **told)
            return Cost(
                view.predictions,
                _cpu_ms(lambda: queries.live_now(reader, spec, choice, **told)),
                _cpu_ms(lambda: queries.trend(reader, spec, choice, **told)),
                _cpu_ms(lambda: _drawn(view)),
            )


def _drawn(view: Trend) -> object:
    return (
        charts.recall(view, LIGHT),
        charts.recall_alt(view),
        charts.coverage(view, LIGHT),
        charts.coverage_alt(view),
        charts.intents(view.intents, view.objective, LIGHT),
        charts.intents_alt(view.intents),
    )


def _cpu_ms(read: Callable[[], object]) -> float:
    read()
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        read()
        taken.append(1000 * (time.process_time() - began))
    return statistics.median(taken)


def _fill(store: RedisStore, spec: Spec, predictions: int) -> None:
    dice, read = random.Random(7), 0
    each = predictions / (WINDOW_MS // MINUTE_MS)
    owed = 0.0
    for minute in range(MINUTES):
        owed += each
        start_ms = scenes.NOON_MS - (MINUTES - minute) * MINUTE_MS
        batch = list(_minute(dice, int(owed), start_ms))
        owed -= int(owed)
        before = store.cuts()[0]
        read += len(batch)
        reached = Progress(read, start_ms + MINUTE_MS, start_ms + MINUTE_MS)
        progress = {Partition(kind, 0): reached for kind in Kind}
        changes = engine.step(spec, {}, Batch.of(batch), progress=progress, watermark_ms=None)
        store.commit(0, before, replace(changes, loaded={}, entries={}, votes=[]))


def _minute(dice: random.Random, n: int, start_ms: int) -> Iterator[Envelope]:
    chat = scenes.Chat()
    for number in range(n):
        is_urgent = dice.random() < 0.3
        actual = dice.choice(sorted(scenes.URGENT) if is_urgent else scenes.ROUTINE)
        is_missed = dice.random() > (0.93 if is_urgent else 0.96)
        chat.message(
            start_ms + number * MINUTE_MS // n,
            predicted=scenes.LOOK_ALIKE.get(actual, "other") if is_missed else actual,
            actual=actual if dice.random() < 0.95 else None,
            delay_ms=int(dice.lognormvariate(0, 0.8) * 2.5 * MINUTE_MS),
            variant="fine_tuned" if dice.random() < 0.6 else "prompt",
            latency_ms=80 * dice.lognormvariate(0, 0.3),
        )
    yield from chat.envelopes
