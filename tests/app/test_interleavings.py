"""Any interleaving of workers comes to the numbers of one worker that reads in order.

Up to four workers read the story's partitions into one store. What each does next, and who is
assigned what, is drawn; a worker that is not told that a partition was given to another one goes on
reading it, as a zombie does. At any call of any port a worker may crash, before or after the call
took effect, or another worker may act in the meantime. Committed offsets are lost or set anywhere,
records are delivered again, evaluators are put out, and a store in memory also loses its last
commits. In the end one worker reads what is left.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from monitor.adapters.memory import MemoryStore
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.app.flow import Flow, Limits
from monitor.domain.alerts import Transition
from monitor.domain.errors import BrokerError, CommitConflict, StoreError, WorldError
from monitor.domain.events import Partition
from monitor.ports import RecordLog, RecordSink, StateStore
from tests.app.doubles import ForgetfulStore, TeamLog, Trap, TrappedSink
from tests.app.story import CODEC, LABELS, PREDICTIONS, SPEC, UNREADABLE, ends, numbers
from tests.app.test_flow import balances, dead_keys, read_to_end, undisturbed

MOST_WORKERS, BATCHES_ON = 4, 3
PARTITIONS = PREDICTIONS + LABELS
RACES = [
    *("after store.begin_load", "after store.load", "before store.begin_commit"),
    *("after store.begin_commit", "before store.commit", "after store.commit"),
]
"""Where it matters most what another worker does in the meantime."""
EVALUATION = [
    *("after store.evaluation", "after store.waiting", "before store.commit_evaluation"),
    *("after store.commit_evaluation", "before store.delivered", "after alert.told"),
]

CALLS = [
    *(f"store.{call}" for call in ("cuts", "evaluation", "lead", "forget", "commit_evaluation")),
    *(f"store.{call}" for call in ("outbox", "delivered", "sweep")),
    *(f"log.{call}" for call in ("poll", "poll", "seek", "commit", "oldest", "partitions")),
    *("dead_letters.publish", "dead_letters.publish", "alert.told"),
]
PORTS = [*RACES, *(f"{when} {call}" for call in CALLS for when in ("before", "after"))]
_namespaces = count()

OpenStore = Callable[[], StateStore]


class Move(NamedTuple):
    """What one worker does, or suffers, next."""

    worker: int
    what: str
    size: int = 0
    partition: Partition = PARTITIONS[0]


class Rebalance(NamedTuple):
    """Who reads each partition from now on, and which workers do not hear of it."""

    owners: tuple[int, ...]
    deaf: frozenset[int]


class Snag(NamedTuple):
    """What comes between when a worker passes a port for the ``calls``-th time from now on."""

    worker: int
    port: str
    calls: int
    meanwhile: "Move | Rebalance | None"
    """None: the worker crashes."""


WORKERS = st.integers(0, MOST_WORKERS - 1)
ACTS = st.builds(
    Move,
    WORKERS,
    st.sampled_from(
        ["read", "read on", "all read", "all read on", "idle", "evaluate", "take over", "sweep"]
    ),
    st.sampled_from([20, 40, 5, 1]),
)
REBALANCES = st.builds(
    Rebalance,
    st.tuples(*[WORKERS for _ in PARTITIONS]),
    st.frozensets(WORKERS, max_size=3),
)
BLOWS = st.builds(
    Move,
    WORKERS,
    st.sampled_from(["crash", "rewind", "offsets", "put out", "put out"]),
    st.integers(0, 80),
    st.sampled_from(PARTITIONS),
)
LOSSES = st.builds(Move, WORKERS, st.sampled_from(["keep", "keep", "keep", "keep", "go back"]))
SNAGS = st.builds(
    Snag,
    WORKERS,
    st.sampled_from(RACES) | st.sampled_from(PORTS),
    st.sampled_from([1, 1, 1, 2, 4]),
    st.one_of(st.none(), ACTS, ACTS, REBALANCES),
)
HITCHES = st.builds(
    Snag,
    WORKERS,
    st.sampled_from(EVALUATION),
    st.sampled_from([1, 1, 2]),
    st.none() | st.builds(Move, WORKERS, st.just("take over")),
)
HURDLES = st.one_of(SNAGS, SNAGS, HITCHES, HITCHES, REBALANCES, BLOWS)

Step = Move | Rebalance | Snag


def steps(hurdles: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    return st.lists(st.one_of(ACTS, ACTS, ACTS, hurdles), min_size=40, max_size=100)


class Watched:
    """A port of which every call is announced before it is made, and after it took effect."""

    def __init__(self, inner: object, name: str, passed: Callable[[str], None]) -> None:
        self._inner, self._name, self._passed = inner, name, passed

    def __getattr__(self, call: str) -> Any:  # noqa: ANN401 - as various as the port's calls
        found = getattr(self._inner, call)
        return self._watched(call, found) if callable(found) else found

    def _watched(self, call: str, found: Callable[..., object]) -> Callable[..., object]:
        """What is begun is announced once more when its end is waited for."""

        def watched(*given: object, **named: object) -> object:
            self._passed(f"before {self._name}.{call}")
            try:
                answer = found(*given, **named)
            except CommitConflict:
                event(f"a conflict of store.{call}")
                raise
            self._passed(f"after {self._name}.{call}")
            if call.startswith("begin_"):
                end = cast(Callable[[], object], answer)
                return self._watched(call.removeprefix("begin_"), end)
            return answer

        return watched


class Team:
    """Workers on one store, and what became of the alerts and of the rejected records."""

    def __init__(self, open_store: OpenStore, workers: int) -> None:
        self.open_store, self.store = open_store, open_store()
        self.committed: dict[Partition, int] = {}
        self.sink = TrappedSink(Trap())
        self.told: list[Transition] = []
        self.workers = [Member(self, f"worker-{number}") for number in range(workers)]
        self.take(Rebalance((0, 1, 2, 3), frozenset()))

    def take(self, step: Step) -> None:
        if isinstance(step, Rebalance):
            self._rebalance(step)
            return
        member = self.workers[step.worker % len(self.workers)]
        if isinstance(step, Snag):
            member.snags[step.port] = step
        elif not member.is_busy:
            member.act(step)

    def _rebalance(self, drawn: Rebalance) -> None:
        for number, member in enumerate(self.workers):
            if number not in drawn.deaf and member.can_hear:
                owners = zip(PARTITIONS, drawn.owners, strict=True)
                member.log.assign(p for p, n in owners if n % len(self.workers) == number)

    def put_out(self, name: str) -> None:
        """The lease of this worker runs out, if it has it; the worker does not know."""
        lease = self.store.lead(name, 60_000)
        if lease is not None:
            self.store.resign(lease)

    def read_the_rest(self) -> None:
        for member in self.workers:
            self.put_out(member.name)
        last = Member(self, "last")
        last.log.assign(PARTITIONS)
        read_to_end(last.flow, last.log, last.tell)


class Member:
    """One worker. An error out of a port ends it; a new one takes its place."""

    def __init__(self, team: Team, name: str) -> None:
        self.name, self.is_busy, self.can_hear = name, False, True
        self.snags: dict[str, Snag] = {}
        self._team = team
        self._begin([])

    def _begin(self, mine: Sequence[Partition]) -> None:
        team = self._team
        self.log = TeamLog(team.committed)
        self.log.assign(mine)
        self.flow = Flow(
            SPEC,
            CODEC,
            cast(RecordLog, Watched(self.log, "log", self._passed)),
            cast(StateStore, Watched(team.open_store(), "store", self._passed)),
            dead_letters=cast(RecordSink, Watched(team.sink, "dead_letters", self._passed)),
            limits=Limits(batch_records=20, votes_at_once=5),
            worker=self.name,
        )

    def tell(self, transition: Transition) -> None:
        self._passed("before alert.told")
        self._team.told.append(transition)
        self._passed("after alert.told")

    def act(self, move: Move) -> None:
        """Do it; a member of a group hears of a rebalance between its turns, or while it polls."""
        self.is_busy, self.can_hear = True, False
        try:
            getattr(self, "_" + move.what.replace(" ", "_"))(move)
        except WorldError:
            event("a crash at a port")
            self._crash(move)
        self.is_busy, self.can_hear = False, True

    def _passed(self, port: str) -> None:
        snag = self.snags.pop(port, None)
        if snag is None:
            return
        if snag.calls > 1:
            self.snags[port] = snag._replace(calls=snag.calls - 1)
            return
        if snag.meanwhile is None:
            raise (StoreError if "store." in port else BrokerError)(f"{port} failed")
        event(f"{snag.meanwhile.__class__.__name__} at a port")
        self.can_hear = port.endswith("log.poll")
        self._team.take(snag.meanwhile)
        self.can_hear = False

    def _read(self, move: Move) -> None:
        self.log.most = move.size
        self.flow.turn()
        self.flow.mark_idle(self.log.at_end(), only_unread=True)

    def _read_on(self, move: Move) -> None:
        """Several batches, which overlap if they are full."""
        self.log.most, batches = move.size, count(1)
        self.flow.turn(lambda: next(batches) < BATCHES_ON)

    def _all_read(self, move: Move) -> None:
        """The others first, and this one not before they have."""
        self._others(move, "read")
        self._read(move)

    def _all_read_on(self, move: Move) -> None:
        self._others(move, "read on")
        self._read_on(move)

    def _others(self, move: Move, what: str) -> None:
        for number, member in enumerate(self._team.workers):
            if member is not self:
                self._team.take(move._replace(worker=number, what=what))

    def _idle(self, move: Move) -> None:
        self._read(move)
        self.flow.mark_idle(self.log.at_end())

    def _evaluate(self, _: Move) -> None:
        self.flow.evaluate()
        self.flow.deliver(self.tell)

    def _take_over(self, move: Move) -> None:
        for member in self._team.workers:
            self._team.put_out(member.name)
        self._evaluate(move)

    def _sweep(self, _: Move) -> None:
        self.flow.sweep()

    def _crash(self, _: Move) -> None:
        self.snags.clear()
        self._begin(sorted(self.log.assigned()))

    def _rewind(self, move: Move) -> None:
        """Records are delivered again; never ahead of what every shard has counted."""
        partition, cuts = move.partition, self._team.store.cuts()
        counted = [cut[partition].next_offset if partition in cut else 0 for cut in cuts]
        self.log.seek({partition: min([move.size, *counted])})

    def _offsets(self, move: Move) -> None:
        partition = move.partition
        self._team.committed[partition] = min(move.size, ends()[partition])

    def _put_out(self, _: Move) -> None:
        self._team.put_out(self.name)

    def _keep(self, _: Move) -> None:
        cast(ForgetfulStore, self._team.store).keep()

    def _go_back(self, _: Move) -> None:
        cast(ForgetfulStore, self._team.store).go_back()


def check(open_store: OpenStore, workers: int, drawn: Sequence[Step]) -> None:
    team = Team(open_store, workers)
    for step in drawn:
        team.take(step)
    store = team.store
    event(f"{len(store.transitions())} transitions on the way")
    team.read_the_rest()
    assert numbers(store) == numbers(undisturbed())
    assert balances(store) == [0, 0]
    assert store.outbox() == []
    transitions = [transition.id for transition in store.transitions()]
    assert list(dict.fromkeys(each.id for each in team.told)) == transitions
    assert set(dead_keys(team.sink)) == rejected_places()


def rejected_places() -> set[bytes | None]:
    """The keys of all dead letters that there must be."""
    log, unreadable = TeamLog({}), [v for values in UNREADABLE.values() for v in values]
    log.assign(PARTITIONS)
    return {str(r.position).encode() for r in log.poll(1_000) if r.value in unreadable}


INTERLEAVED = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


TEAMS = st.integers(1, MOST_WORKERS)
SHARDS = st.integers(1, 3)


@settings(INTERLEAVED, max_examples=150)
@given(workers=TEAMS, shards=SHARDS, drawn=steps(HURDLES))
def test_any_interleaving_comes_to_the_numbers_of_one_worker_in_memory(
    workers: int, shards: int, drawn: list[Step]
) -> None:
    store = MemoryStore(shards)
    check(lambda: store, workers, drawn)


@settings(INTERLEAVED, max_examples=60)
@given(workers=TEAMS, shards=SHARDS, drawn=steps(st.one_of(HURDLES, HURDLES, HURDLES, LOSSES)))
def test_any_interleaving_comes_to_the_numbers_of_one_worker_though_the_store_loses_commits(
    workers: int, shards: int, drawn: list[Step]
) -> None:
    store = ForgetfulStore(shards)
    check(lambda: store, workers, drawn)


@pytest.fixture(params=["valkey_url", "system_redis_url"])
def open_redis(request: pytest.FixtureRequest) -> Iterator[Callable[[int], OpenStore]]:
    """Makes namespaces of so many shards; each opening of one is a client of its own."""
    opened: list[RedisStore] = []
    connection = RedisConnection(request.getfixturevalue(request.param))

    def namespace(shards: int) -> OpenStore:
        name = f"interleaved-{next(_namespaces)}"

        def open_store() -> RedisStore:
            keep_ms = SPEC.windows.keep_ms
            opened.append(RedisStore(connection, name, shards=shards, buckets=16, keep_ms=keep_ms))
            return opened[-1]

        return open_store

    yield namespace
    for store in opened:
        store.close()


# A failure is shrunk in memory, where it costs seconds and not minutes.
@settings(INTERLEAVED, max_examples=20, phases=[Phase.generate])
@given(workers=TEAMS, shards=SHARDS, drawn=steps(HURDLES))
def test_any_interleaving_comes_to_the_numbers_of_one_worker_on_a_real_server(
    open_redis: Callable[[int], OpenStore],
    workers: int,
    shards: int,
    drawn: list[Step],
) -> None:
    check(open_redis(shards), workers, drawn)
