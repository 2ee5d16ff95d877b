"""Any writers on one store, whatever they do to each other, count what one writer counts.

They read the same four partitions, in batches that overlap, load, step and commit by turns; on a
conflict they load and step again. A writer may send a commit twice. It may crash before a commit,
after it, or between the commits of two shards, and then reads on from the store's cut.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from monitor.domain import engine
from monitor.domain.counts import Counts
from monitor.domain.cut import Cut, Progress
from monitor.domain.engine import Changes
from monitor.domain.errors import CommitConflict
from monitor.domain.events import (
    Batch,
    Envelope,
    Label,
    Partition,
    Position,
    Prediction,
    PredictionId,
    Traits,
)
from monitor.domain.windows import ALL_TIME, HOUR_MS, PaneKey
from monitor.ports import StateStore, shard_of
from tests.contracts.state_store import (
    END_MS,
    KEEP_MS,
    SPEC,
    T0_MS,
    Fact,
    StoreWorld,
    kind_of,
    loaded,
)
from tests.contracts.worlds import MemoryWorld, redis_worlds

IDS = [PredictionId(f"p{number}") for number in range(6)]
PARTITIONS = [Partition(topic, number) for topic in ("predictions", "labels") for number in (0, 1)]
TURNS = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

History = Mapping[Partition, Sequence[Fact]]


class Move(NamedTuple):
    """What one writer does next. ``load`` reads ``more`` records, and ``again`` old ones first.

    ``writer`` is taken modulo the number of writers.
    """

    writer: int
    what: str
    partition: Partition
    more: int
    again: int


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Predictions and labels of a few ids, with copies and corrections, over up to two days."""
    history: dict[Partition, list[Fact]] = {partition: [] for partition in PARTITIONS}
    log_ms = T0_MS
    intents = st.sampled_from(["fraud", "lost_card", "balance"])
    for _ in range(draw(st.integers(8, 24))):
        log_ms += draw(st.integers(0, 2 * HOUR_MS))
        name, intent, number = draw(st.sampled_from(IDS)), draw(intents), draw(st.integers(0, 1))
        at_ms = log_ms - draw(st.integers(0, 6 * HOUR_MS))
        if draw(st.booleans()):
            said = Prediction(name, at_ms, log_ms, Traits("ft", intent, ("web",)), 140, 900_000)
            history[PARTITIONS[number]].append(said)
        else:
            revision, key = draw(st.integers(1, 3)), draw(st.sampled_from("abc"))
            withdrawn = draw(st.integers(0, 4)) == 0
            truth = Label(name, intent, at_ms, log_ms, key, revision, withdrawn)
            history[PARTITIONS[2 + number]].append(truth)
    return history


MOVES = st.lists(
    st.builds(
        Move,
        st.integers(0, 11),
        st.sampled_from(
            ["load", "load", "load", "commit", "commit", "commit", "lost answer", "twice", "crash"]
        ),
        st.sampled_from(PARTITIONS),
        st.integers(1, 5),
        st.integers(0, 3),
    ),
    min_size=20,
    max_size=60,
)


class Writer:
    """Reads a history into a store, one batch at a time."""

    def __init__(self, store: StateStore, history: History) -> None:
        self._store, self._history = store, history
        self._batch: list[Envelope] = []
        self._uncommitted: list[tuple[int, Cut, Changes]] = []
        self.restart()

    def restart(self) -> None:
        """Forget everything, and know only what the store knows."""
        self._cuts = self._store.cuts()
        self._uncommitted = []

    def move(self, move: Move) -> None:
        if move.what == "load" and not self._uncommitted:
            self.load(move.partition, move.more, move.again)
        if move.what in {"commit", "lost answer", "twice"}:
            self.commit_one(times=2 if move.what == "twice" else 1)
        if move.what in {"crash", "lost answer"}:
            self.restart()

    def load(self, partition: Partition, more: int, again: int = 0) -> bool:
        """Step the next records for every shard; False at the end of the partition."""
        reached = min(_next_offset(cut, partition) for cut in self._cuts)
        start = max(0, reached - again)
        facts = self._history[partition][start : reached + more]
        self._batch = [
            Envelope(kind_of(fact), Position(*partition, start + number), fact, fact.log_ms)
            for number, fact in enumerate(facts)
        ]
        stepped = [self._stepped(shard) for shard in range(self._store.shards)]
        self._uncommitted = [changes for changes in stepped if changes]
        return bool(self._uncommitted)

    def commit_one(self, times: int = 1) -> None:
        """Commit what was stepped for one shard, or step it again after a conflict."""
        if not self._uncommitted:
            return
        shard, cut, changes = self._uncommitted.pop(0)
        try:
            for _ in range(times):
                self._store.commit(shard, cut, changes)
        except CommitConflict:
            event("a conflict")
            self._cuts = self._store.cuts()
            if again := self._stepped(shard):
                self._uncommitted.insert(0, again)
        else:
            self._cuts[shard] = {**cut, **changes.progress}

    def read_to_the_end(self) -> None:
        for partition in PARTITIONS:
            while self.load(partition, 3):
                while self._uncommitted:
                    self.commit_one()

    def _stepped(self, shard: int) -> tuple[int, Cut, Changes] | None:
        """What the batch changes in one shard, and from which cut; None when it is past it."""
        cut = self._cuts[shard]
        fresh = [e for e in self._batch if e.position.offset >= _next_offset(cut, _partition(e))]
        if not fresh:
            return None
        mine = [
            e
            for e in fresh
            if isinstance(e.fact, Prediction | Label)
            and shard_of(e.fact.prediction_id, self._store.shards) == shard
        ]
        batch = Batch.of(mine)
        changes = engine.step(
            SPEC,
            self._store.load(shard, engine.ids_of(batch)),
            batch,
            progress=_progress(cut, fresh),
            watermark_ms=None,
        )
        return shard, cut, changes


def _partition(envelope: Envelope) -> Partition:
    return Partition(envelope.position.topic, envelope.position.partition)


def _next_offset(cut: Cut, partition: Partition) -> int:
    return cut[partition].next_offset if partition in cut else 0


def _progress(cut: Cut, fresh: Sequence[Envelope]) -> dict[Partition, Progress]:
    partition = _partition(fresh[-1])
    newest_ms = max(e.fact.log_ms for e in fresh if isinstance(e.fact, Prediction | Label))
    if partition in cut:
        newest_ms = max(newest_ms, cut[partition].last_log_ms)
    return {partition: Progress(fresh[-1].position.offset + 1, newest_ms, newest_ms)}


def numbers(store: StateStore) -> dict[str, object]:
    """Everything counted, added up over shards; panes in which nothing is left count as none."""
    keys = [key for size in (*KEEP_MS, ALL_TIME) for key in store.pane_keys(size)]
    panes: dict[PaneKey, Counts] = dict(zip(keys, store.panes(keys), strict=True))
    return {
        "ledger": dict(store.ledger()),
        "panes": {key: counts for key, counts in panes.items() if counts.cells},
        "votes": store.waiting(END_MS),
        "entries": loaded(store, IDS),
        "cuts": _merged(store.cuts()),
    }


def _merged(cuts: Sequence[Cut]) -> dict[Partition, set[Progress]]:
    merged: defaultdict[Partition, set[Progress]] = defaultdict(set)
    for cut in cuts:
        for partition, progress in cut.items():
            merged[partition].add(progress)
    return merged


def in_order(history: History) -> dict[str, object]:
    """What one writer counts who reads every record alone, in log order."""
    store = MemoryWorld().open()
    writer = Writer(store, history)
    facts = [(fact.log_ms, p) for p, facts in history.items() for fact in facts]
    for _, partition in sorted(facts):
        writer.load(partition, 1)
        writer.commit_one()
    return numbers(store)


def check(
    world: StoreWorld, shards: int, writers: int, history: History, moves: Sequence[Move]
) -> None:
    working = [Writer(world.open(shards=shards), history) for _ in range(writers)]
    for move in moves:
        working[move.writer % writers].move(move)
    Writer(world.open(shards=shards), history).read_to_the_end()
    assert numbers(world.open(shards=shards)) == in_order(history)


ANY = given(
    history=histories(),
    moves=MOVES,
    shards=st.sampled_from([1, 2]),
    writers=st.integers(2, 4),
)


@settings(TURNS, max_examples=80)
@ANY
def test_any_writers_count_what_one_counts_in_memory(
    history: History, moves: list[Move], shards: int, writers: int
) -> None:
    check(MemoryWorld(), shards, writers, history, moves)


@pytest.fixture(
    params=["valkey_url", pytest.param("system_redis_url", marks=pytest.mark.system_redis)]
)
def server_worlds(request: pytest.FixtureRequest) -> Iterator[Callable[[], StoreWorld]]:
    yield from redis_worlds(request.getfixturevalue(request.param))


# A failure is shrunk in memory, where it costs seconds and not minutes.
@settings(TURNS, max_examples=25, phases=[Phase.generate])
@ANY
def test_any_writers_count_what_one_counts_on_a_server(
    server_worlds: Callable[[], StoreWorld],
    history: History,
    moves: list[Move],
    shards: int,
    writers: int,
) -> None:
    check(server_worlds(), shards, writers, history, moves)
