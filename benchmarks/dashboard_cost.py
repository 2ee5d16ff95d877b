"""What reading the Live page costs, by the number of predictions in the window.

Panes are filled through the engine, with labels; only the counts are written, since that is all
that a dashboard reads. The worker goes on between two looks: what is read is what has changed.
CPU seconds, so that other work on the machine does not count.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

from benchmarks.dashboard_stage import settings_for
from dashboards import charts, queries
from dashboards.models import Choice, LiveNow, Trend
from dashboards.theme import LIGHT
from dashboards.views.common import CHARTS_EVERY_S, NOW_EVERY_S
from monitor.adapters.redis import RedisStore
from monitor.app.wiring import open_reader, open_store, spec_of
from monitor.domain import engine
from monitor.domain.counts import Cells
from monitor.domain.cut import Progress
from monitor.domain.engine import Changes, Spec
from monitor.domain.events import Batch, Kind, Partition
from monitor.domain.windows import HOUR_MS, MINUTE_MS, PaneKey
from monitor.ports import StateReader
from tests.dashboards import scenes
from tests.servers.redis import REDIS, RedisServer

WINDOW_MS = 3 * HOUR_MS
MINUTES = WINDOW_MS // MINUTE_MS + 90
"""The range, and what the rolling window and the comparison look at before it."""

RECENT_MS = 15 * MINUTE_MS
CHOICE = Choice(of="urgent", span="3h")
SECONDS, FIRST_ROUNDS = 75, 5

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """CPU milliseconds by predictions in the range, each the median of many.

    ``now_ms`` and ``trend_ms`` read cards and charts from the store, once for all viewers;
    ``first_now_ms`` and ``first_trend_ms`` are those of a reader that has read nothing before.
    ``drawn_ms`` makes the charts of what was read, which each viewer's refresh does.
    """

    predictions: int
    now_ms: float
    trend_ms: float
    drawn_ms: float
    first_now_ms: float
    first_trend_ms: float

    @property
    def second_ms(self) -> float:
        """What a page that one viewer looks at takes in a second."""
        return self.now_ms / NOW_EVERY_S + (self.trend_ms + self.drawn_ms) / CHARTS_EVERY_S


def costs(sizes: list[int]) -> list[Cost]:
    """One measurement for each size, in turns: the machine's speed may change meanwhile."""
    with ExitStack() as stack:
        rigs = [_Rig(size, stack) for size in sizes]
        for _ in range(FIRST_ROUNDS):
            for rig in rigs:
                rig.read_first()
        for rig in rigs:
            rig.begin()
        # The worker is another process: what it takes to count is not to be in the way here.
        to_come = [[rig.traffic.counted_in(1000) for rig in rigs] for _ in range(SECONDS)]
        gc.collect()
        gc.freeze()
        for second, counted in enumerate(to_come, start=1):
            for rig, of_rig in zip(rigs, counted, strict=True):
                rig.traffic.commit(of_rig)
                rig.look(second)
        gc.unfreeze()
        return [rig.cost() for rig in rigs]


class _Rig:
    """A store with so much traffic, and a reader of it; what its looks cost."""

    def __init__(self, predictions: int, stack: ExitStack) -> None:
        self._stack = stack
        self._settings = settings_for(stack.enter_context(RedisServer(REDIS)).url)
        store = stack.enter_context(closing(open_store(self._settings)))
        assert isinstance(store, RedisStore)
        self.traffic = _Traffic(store, spec_of(self._settings), predictions)
        self.traffic.fill()
        self._now, self._trend, self._drawn = list[float](), list[float](), list[float]()
        self._first_now, self._first_trend = list[float](), list[float]()

    def read_first(self) -> None:
        """As a process that has read nothing before."""
        with closing(open_reader(self._settings)) as reader:
            self._first_now.append(_cpu_ms(lambda: self.traffic.cards(reader))[0])
        with closing(open_reader(self._settings)) as reader:
            self._first_trend.append(_cpu_ms(lambda: self.traffic.charts(reader))[0])

    def begin(self) -> None:
        """Open the page."""
        self._reader = self._stack.enter_context(closing(open_reader(self._settings)))
        self._view = self.traffic.charts(self._reader)
        self.traffic.cards(self._reader)
        _drawn(self._view)

    def look(self, second: int) -> None:
        """As a page is refreshed, while the worker goes on."""
        if second % NOW_EVERY_S == 0:
            self._now.append(_cpu_ms(lambda: self.traffic.cards(self._reader))[0])
        if second % CHARTS_EVERY_S == 0:
            taken, self._view = _cpu_ms(lambda: self.traffic.charts(self._reader))
            self._trend.append(taken)
            self._drawn.append(_cpu_ms(partial(_drawn, self._view))[0])

    def cost(self) -> Cost:
        """The medians."""
        looks = self._now, self._trend, self._drawn, self._first_now, self._first_trend
        return Cost(self._view.predictions, *map(statistics.median, looks))


def _drawn(view: Trend) -> object:
    return (
        charts.recall(view, LIGHT),
        charts.recall_alt(view),
        charts.coverage(view, LIGHT),
        charts.coverage_alt(view),
        charts.intents(view.intents, view.objective, LIGHT),
        charts.intents_alt(view.intents),
    )


def _cpu_ms(read: Callable[[], T]) -> tuple[float, T]:
    """Milliseconds, and what was read."""
    began = time.process_time()
    found = read()
    return 1000 * (time.process_time() - began), found


class Counted(NamedTuple):
    """What is to be written of the time that ends at ``until_ms``."""

    cells: Mapping[PaneKey, Cells]
    until_ms: int


class _Traffic:
    """As many predictions a minute all the time, with labels; only what is counted is written."""

    def __init__(self, store: RedisStore, spec: Spec, predictions: int) -> None:
        self._store, self._spec = store, spec
        self._per_ms = predictions / WINDOW_MS
        self._dice, self._commits = random.Random(7), 0
        self._now_ms, self._owed = scenes.NOON_MS - MINUTES * MINUTE_MS, 0.0

    def fill(self) -> None:
        """Up to noon, a minute at once, each with all its labels."""
        while self._now_ms < scenes.NOON_MS:
            chat = scenes.Chat()
            for at_ms in self._due(MINUTE_MS):
                self._message(chat, at_ms, self._delay_ms())
            self.commit(Counted(self._counted(chat), self._now_ms))

    def counted_in(self, length_ms: int) -> "Counted":
        """Of the time that comes now: new predictions, and as many labels of earlier ones."""
        asked, told = scenes.Chat(), scenes.Chat()
        for at_ms in self._due(length_ms):
            self._message(asked, at_ms, None)
            delay_ms = self._delay_ms()
            if delay_ms is not None:
                self._message(told, at_ms - delay_ms, delay_ms)
        cells = dict(self._counted(asked))
        for pane, counted in self._counted(told).items():
            into = cells[pane] = dict(cells.get(pane, {}))
            for cell, n in counted.items():
                if cell[0] in {"outcome", "delay"}:
                    into[cell] = into.get(cell, 0) + n
        return Counted(cells, self._now_ms)

    def cards(self, reader: StateReader) -> LiveNow:
        """What is read for the cards."""
        return queries.live_now(
            reader, self._spec, CHOICE, recent_ms=RECENT_MS, now_ms=scenes.NOON_MS
        )  # fmt: skip

    def charts(self, reader: StateReader) -> Trend:
        """What is read for the charts."""
        return queries.trend(
            reader, self._spec, CHOICE, recent_ms=RECENT_MS, now_ms=scenes.NOON_MS
        )  # fmt: skip

    def _due(self, length_ms: int) -> list[int]:
        """When messages come in the time that passes now."""
        self._owed += self._per_ms * length_ms
        n, start_ms = int(self._owed), self._now_ms
        self._owed -= n
        self._now_ms += length_ms
        return [start_ms + number * length_ms // n for number in range(n)]

    def _delay_ms(self) -> int | None:
        """None for a message that gets no label."""
        delay_ms = int(self._dice.lognormvariate(0, 0.8) * 2.5 * MINUTE_MS)
        return delay_ms if self._dice.random() < 0.95 else None

    def _message(self, chat: scenes.Chat, at_ms: int, delay_ms: int | None) -> None:
        dice = self._dice
        is_urgent = dice.random() < 0.3
        actual = dice.choice(sorted(scenes.URGENT) if is_urgent else scenes.ROUTINE)
        is_missed = dice.random() > (0.93 if is_urgent else 0.96)
        chat.message(
            at_ms,
            predicted=scenes.LOOK_ALIKE.get(actual, "other") if is_missed else actual,
            actual=None if delay_ms is None else actual,
            delay_ms=delay_ms or 0,
            variant="fine_tuned" if dice.random() < 0.6 else "prompt",
            latency_ms=80 * dice.lognormvariate(0, 0.3),
        )

    def _counted(self, chat: scenes.Chat) -> Mapping[PaneKey, Cells]:
        batch = Batch.of(chat.envelopes)
        return engine.step(self._spec, {}, batch, progress={}, watermark_ms=None).cells

    def commit(self, counted: "Counted") -> None:
        """Write it, as a worker that has read so far."""
        self._commits += 1
        reached = Progress(self._commits, counted.until_ms, counted.until_ms)
        progress = {Partition(kind, 0): reached for kind in Kind}
        changes = Changes({}, {}, counted.cells, {}, [], progress)
        self._store.commit(0, self._store.cuts()[0], changes)
