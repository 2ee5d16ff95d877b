"""Workers on one server, whose batches overlap with their own commits and with each other's.

Each reads everything by itself, in batches of its own size, beginning with another partition. When
one of them polls, another may take its turn: between what the first has asked the server for, and
what it commits.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.app.flow import Flow, Limits
from monitor.domain.events import Record
from tests.app.story import CODEC, SPEC, TOPICS, filled, history, numbers

MOST_TURNS = 200
_namespaces = count()


class _Log(MemoryLog):
    """Lets others take their turn before a poll. Reads its partitions from the ``first`` on."""

    def __init__(self, before: Callable[[], None], first: int) -> None:
        super().__init__(TOPICS)
        self._before = before
        mine = sorted(self._next)
        self._next = {p: self._next[p] for p in mine[first:] + mine[:first]}

    def poll(self, max_records: int, wait_ms: int | None = None) -> list[Record]:
        self._before()
        return super().poll(max_records, wait_ms)


class _Workers:
    """At each poll the next of ``turns`` tells who takes a turn meanwhile, if that one is idle."""

    def __init__(
        self, stores: Sequence[RedisStore], batches: Sequence[int], turns: Sequence[int]
    ) -> None:
        self._turns = iter(turns)
        self._busy: set[int] = set()
        self._flows = [
            self._flow(number, store, size)
            for number, (store, size) in enumerate(zip(stores, batches, strict=True))
        ]

    def _flow(self, number: int, store: RedisStore, batch_records: int) -> tuple[Flow, MemoryLog]:
        log = _Log(self._let_others, number)
        filled(log, history())
        limits = Limits(batch_records=batch_records)
        return Flow(SPEC, CODEC, log, store, limits=limits, worker=f"w{number}"), log

    def _let_others(self) -> None:
        number = next(self._turns, -1)
        if number in range(len(self._flows)) and number not in self._busy:
            event("a turn in between")
            self.take(number)

    def take(self, number: int) -> int:
        self._busy.add(number)
        left = count()
        records = self._flows[number][0].turn(lambda: next(left) < 3).records
        self._busy.remove(number)
        return records

    def read_to_the_end(self) -> None:
        """As ``run --until-caught-up`` does, the first worker at the end alone."""
        for number, (flow, log) in reversed(list(enumerate(self._flows))):
            for _ in range(MOST_TURNS):
                if not self.take(number) and log.at_end() == log.assigned():
                    break
                flow.evaluate()
            flow.mark_idle(log.assigned())
            flow.evaluate()
            flow.resign()


@pytest.fixture(
    params=["valkey_url", pytest.param("system_redis_url", marks=pytest.mark.system_redis)]
)
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    batches=st.lists(st.integers(5, 120), min_size=2, max_size=3),
    turns=st.lists(st.integers(0, 3), min_size=10, max_size=60),
    shards=st.sampled_from([1, 2]),
)
def test_workers_whose_batches_overlap_count_what_one_counts_alone(
    url: str, batches: list[int], turns: list[int], shards: int
) -> None:
    with ExitStack() as opened:
        name = f"overlap-{next(_namespaces)}"
        stores = [
            opened.enter_context(
                closing(RedisStore(RedisConnection(url), name, shards=shards, buckets=16))
            )
            for _ in batches
        ]
        _Workers(stores, batches, turns).read_to_the_end()
        assert numbers(stores[0]) == alone()


def alone() -> dict[str, object]:
    """What a single worker counts that commits each batch before it reads the next."""
    log, store = filled(MemoryLog(TOPICS), history()), MemoryStore()
    flow = Flow(SPEC, CODEC, log, store)
    while flow.turn().records:
        pass
    flow.mark_idle(log.assigned())
    flow.evaluate()
    return numbers(store)
