"""Runs schedules on Apache Kafka and a real Redis, and compares each with an undisturbed replay.

Workers reach broker and store through proxies. The feed and the comparison do not: what is written
and what is expected must not suffer from the faults.
"""

import random
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from signal import SIGKILL, SIGSTOP, SIGTERM
from typing import Self

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from monitor.adapters import redis_scripts
from monitor.adapters.kafka import KafkaConnection, KafkaLog, KafkaSink, KafkaTopics
from monitor.adapters.memory import MemoryStore
from monitor.app.audit_run import Scope, verified
from monitor.app.flow import Flow
from monitor.app.report import report_of
from monitor.app.settings import RedisUrl, Settings
from monitor.app.wiring import codec_of, limits_of, open_reader, spec_of, verdict_limits_of
from monitor.domain.errors import RecallwatchError, StoreError
from monitor.domain.events import Kind, Partition
from monitor.domain.ledger import RECEIVED, balance_of, gaps_of
from monitor.domain.windows import ALL_TIME, HOUR_MS
from monitor.ports import OutRecord, StateReader
from tests.adapters.redis_rig import sent_by
from tests.builders import MINUTE_MS, URGENT
from tests.faults.crew import Crew, send
from tests.faults.schedule import Blow, Schedule, TimedBlow
from tests.faults.stream import HORIZON_MS, PARTITIONS, Stream
from tests.servers.kafka import ApacheKafka
from tests.servers.ports import HOST
from tests.servers.proxy import TcpProxy
from tests.servers.redis import RedisServer, program_path

SESSION_S = 6
"""The shortest session timeout that our settings and Kafka's defaults allow."""

FROZEN_S = SESSION_S + 2.0
"""Long enough to be thrown out of the group before going on."""

BACKLOG = 0.3
"""Share of the stream that stands in the topics before the workers start."""

CHUNK = 40
PATIENCE_S = 120.0
"""After the feed has ended; workers that are not done by then never will be."""

TELLING_S = 20.0
"""After everything is counted and judged; longer than the evaluator's lease."""

LOST_BYTES = 200_000
"""Most bytes of its append-only file that a store loses."""


@dataclass(frozen=True)
class Outcome:
    """What became of one schedule; ``problems`` is empty when everything was right.

    ``lost`` and ``doubled`` are net differences of records received; every other difference is a
    problem. ``faults`` are the traps that sprang and the blows that struck. ``peak_mb`` is the most
    memory that a worker ever held, in megabytes. ``digests`` are those of the journal that the
    audit compared.
    """

    schedule: Schedule
    records: int
    seconds: float
    lost: int
    doubled: int
    is_equal: bool
    starts: int
    faults: tuple[str, ...]
    problems: tuple[str, ...]
    peak_mb: int
    digests: int


class Rig:
    """Broker, store and the proxies before them; one schedule after the other. Use in a ``with``.

    ``pace_s`` is how long the feed of one schedule lasts, ``client`` the workers' kafka.client.
    """

    def __init__(
        self, *, predictions: int = 3_000, pace_s: float = 8.0, client: str = "kafka-python"
    ) -> None:
        self._predictions, self._pace_s, self.client = predictions, pace_s, client
        self._stack = ExitStack()
        self._kafka = ApacheKafka(proxied=True)

    def __enter__(self) -> Self:
        self._stack.enter_context(self._kafka)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, schedule: Schedule, broken: str | None = None) -> Outcome:
        """Run one schedule to its end; ``broken`` names the guarantee that is taken away."""
        began = time.monotonic()
        with ExitStack() as stack:
            run = stack.enter_context(_Run.begun(self._kafka, schedule, broken, self.client))
            records = Stream(run.topics, schedule.seed).records(self._predictions)
            run.feed(records, self._pace_s)
            return run.judged(len(records), began)

    def takeovers(self, workers: int, kills: int) -> list[float]:
        """Seconds from a SIGKILL until the others have counted what was written right after it.

        That is one record in each partition, some of which were read by the one that was killed;
        it is started again only afterwards.
        """
        calm = Schedule(0, workers, 1, "range", is_static=False, traps=(), blows=())
        with _Run.begun(self._kafka, calm, None, self.client) as run:
            return list(run.takeovers(kills))


@dataclass
class _Run:
    """One schedule under way."""

    kafka: ApacheKafka
    schedule: Schedule
    store: RedisServer
    store_proxy: TcpProxy
    topics: Mapping[Kind, str]
    settings: Settings
    crew: Crew
    chance: random.Random
    opened: ExitStack
    struck: list[str] = field(default_factory=list)
    swallowed: list[tuple[Blow, threading.Event]] = field(default_factory=list)
    later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    @classmethod
    @contextmanager
    def begun(
        cls, kafka: ApacheKafka, schedule: Schedule, broken: str | None, client: str
    ) -> "Iterator[_Run]":
        """Fresh topics, a fresh store, and workers that are told but not yet started."""
        name = f"{schedule.seed}-{secrets.token_hex(3)}"
        topics = {kind: f"{kind}-{name}" for kind in Kind}
        with ExitStack() as stack:
            store = stack.enter_context(RedisServer(options={"appendonly": "yes", "save": ""}))
            proxy = stack.enter_context(closing(TcpProxy((HOST, store.port))))
            # Below the store's own folder, which vanishes even when this process is killed.
            folder = store.folder / "crew"
            folder.mkdir()
            given = settings_of(
                schedule,
                name,
                topics,
                kafka.proxied_bootstrap,
                f"redis://{proxy.address}/0",
                client,
            )
            crew = Crew(
                folder,
                given,
                list(schedule.traps),
                is_static=schedule.is_static,
                broken=broken,
                frozen_s=FROZEN_S,
            )
            stack.callback(crew.kill)
            direct = settings_of(schedule, name, topics, kafka.bootstrap_servers, store.url)
            with KafkaTopics(KafkaConnection(kafka.bootstrap_servers)) as admin:
                admin.ensure(
                    {topics[kind]: count for kind, count in PARTITIONS.items()},
                    log_append_time=False,
                    retention_ms=-1,
                )
            chance = random.Random(f"rig {schedule.seed}")
            settings = Settings.model_validate(direct)
            yield cls(kafka, schedule, store, proxy, topics, settings, crew, chance, stack)

    def feed(self, records: Sequence[OutRecord], pace_s: float) -> None:
        """Write the records, the later part of them while workers work and things go wrong."""
        backlog, rest = _split(records)
        with self._sink() as sink:
            sink.publish(backlog)
        for _ in range(self.schedule.workers):
            self.crew.add()
        blows = list(self.schedule.blows)
        began, chunks = time.monotonic(), [rest[i : i + CHUNK] for i in range(0, len(rest), CHUNK)]
        with self._sink() as sink:
            for number, chunk in enumerate(chunks):
                while blows and blows[0].at * len(chunks) <= number:
                    self._strike(blows.pop(0))
                sink.publish(chunk)
                self._attend_until(began + pace_s * (number + 1) / len(chunks))

    def judged(self, records: int, began: float) -> Outcome:
        """Wait until everything is counted, stop the workers, and compare."""
        expected = self._replayed()
        is_counted = self._wait_for(lambda: self._is_counted(expected), PATIENCE_S)
        self._wait_for(lambda: self._is_announced(expected), TELLING_S)
        self.crew.stop()
        self.struck += [blow for blow, event in self.swallowed if event.is_set()]
        with closing(open_reader(self.settings)) as reader:
            problems = [] if is_counted else [f"not done after {PATIENCE_S:.0f} s"]
            problems += self._differences(expected, reader)
            got, wanted = _received(reader), _received(expected)
            is_equal = self._digest(reader) == self._digest(expected)
            digests, found = self._audited(reader)
        return Outcome(
            self.schedule,
            records,
            time.monotonic() - began,
            lost=sum(max(0, wanted[kind] - got[kind]) for kind in Kind),
            doubled=sum(max(0, got[kind] - wanted[kind]) for kind in Kind),
            is_equal=is_equal,
            starts=sum(member.starts for member in self.crew.members),
            faults=(*self.crew.entries("sprung"), *self.struck),
            problems=(*problems, *found),
            peak_mb=self.crew.peak_mb,
            digests=digests,
        )

    def takeovers(self, kills: int) -> Iterator[float]:
        """See ``Rig.takeovers``."""
        for _ in range(self.schedule.workers):
            self.crew.add()
        with self._sink() as sink, closing(open_reader(self.settings)) as reader:
            for kill in range(kills):
                self._trickle(sink, self._has_joined)
                victim = self.crew.members[kill % len(self.crew.members)]
                victim.is_wanted = False
                send(victim, SIGKILL)
                began = time.monotonic()
                self._drip(sink)
                self._trickle(sink, self._reaches(reader, self._ends()))
                yield time.monotonic() - began
                victim.is_wanted = True

    def _trickle(self, sink: KafkaSink, until: Callable[[], bool]) -> None:
        """Write a little to every partition, again and again, until something holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not until():
            if time.monotonic() > deadline:
                raise TimeoutError("the workers did not do what was waited for")
            self._drip(sink)
            self._attend_until(time.monotonic() + 0.1)

    def _drip(self, sink: KafkaSink) -> None:
        """One record to every partition."""
        sink.publish(
            OutRecord(self.topics[kind], None, b"drip", (), number)
            for kind, count in PARTITIONS.items()
            for number in range(count)
        )

    def _has_joined(self) -> bool:
        """Whether every worker has a share of the partitions, and all of them move."""
        name = self.settings.kafka.group
        with closing(KafkaAdminClient(bootstrap_servers=self.kafka.bootstrap_servers)) as admin:
            try:
                group = admin.describe_groups([name])[name]
            except KafkaError:
                return False
        shares = [member["member_assignment"] for member in group["members"]]
        return len(shares) == len(self.crew.members) and all(shares)

    def _reaches(self, reader: StateReader, ends: Mapping[Partition, int]) -> Callable[[], bool]:
        return lambda: all(
            cut[p].next_offset >= end for cut in reader.cuts() for p, end in ends.items()
        )

    @contextmanager
    def _sink(self) -> Iterator[KafkaSink]:
        with closing(KafkaSink(KafkaConnection(self.kafka.bootstrap_servers))) as sink:
            yield sink

    def _attend_until(self, instant: float) -> None:
        while True:
            self.crew.attend()
            now = time.monotonic()
            for due, action in [entry for entry in self.later if entry[0] <= now]:
                self.later.remove((due, action))
                action()
            if now >= instant:
                return
            time.sleep(min(0.02, instant - now))

    def _strike(self, timed: TimedBlow) -> None:
        """One blow; what has to be undone is undone later."""
        if timed.blow.value.startswith("worker"):
            self._strike_worker(timed)
            return
        if timed.blow not in {Blow.STORE_REPLY_LOST, Blow.STORE_REQUEST_LOST}:
            self.struck.append(timed.blow)
        if timed.blow.value.startswith("broker"):
            self._strike_broker(timed.blow)
        elif timed.blow.value.startswith("store"):
            self._strike_store(timed.blow)
        else:
            self._strike_connections(timed.blow)

    def _strike_worker(self, timed: TimedBlow) -> None:
        if timed.blow is Blow.WORKER_ADDED:
            guest = self.crew.add(is_wanted=False)
            self._after(4.0, lambda: send(guest, SIGTERM))
            self.struck.append(timed.blow)
        elif alive := self.crew.alive():
            number = {Blow.WORKER_KILLED: SIGKILL, Blow.WORKER_FROZEN: SIGSTOP}
            send(alive[timed.target % len(alive)], number.get(timed.blow, SIGTERM))
            self.struck.append(timed.blow)

    def _strike_broker(self, blow: Blow) -> None:
        """The feed waits meanwhile, so that records stay in their order."""
        broker = self.kafka.broker(0)
        if blow is Blow.BROKER_FROZEN:
            broker.pause()
            self._attend_until(time.monotonic() + self.chance.uniform(1, 8))
            broker.resume()
        else:
            broker.restart(kill=blow is Blow.BROKER_KILLED)

    def _strike_store(self, blow: Blow) -> None:
        if blow is Blow.STORE_FROZEN:
            self.store.pause()
            self._after(self.chance.uniform(1, 8), self.store.resume)
        elif blow is Blow.STORE_FORGETS:
            self._forget()
        elif blow is Blow.STORE_PROMOTED:
            self._promote()
        else:
            self.store.restart(kill=True)

    def _strike_connections(self, blow: Blow) -> None:
        match blow:
            case Blow.STORE_REPLY_LOST:
                event = self.store_proxy.swallow_next_reply(sent_by(redis_scripts.COMMIT))
                self.swallowed.append((blow, event))
            case Blow.STORE_REQUEST_LOST:
                event = self.store_proxy.swallow_next_request(sent_by(redis_scripts.COMMIT))
                self.swallowed.append((blow, event))
            case Blow.STORE_CUT | Blow.BROKER_CUT:
                self._proxy_of(blow).break_all()
            case Blow.STORE_STALLED | Blow.BROKER_STALLED:
                proxy = self._proxy_of(blow)
                proxy.stall(True)
                self._after(self.chance.uniform(1, 8), lambda: proxy.stall(False))

    def _proxy_of(self, blow: Blow) -> TcpProxy:
        is_store = blow in {Blow.STORE_CUT, Blow.STORE_STALLED}
        return self.store_proxy if is_store else self.kafka.proxies[0]

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self.later.append((time.monotonic() + seconds, action))

    def _forget(self) -> None:
        """As after a loss of power: the end of the append-only file is gone.

        Mended as docs/redis.md says, since Redis 7.0 by itself leaves half a commit in the file.
        """
        self.store.kill()
        newest = max((self.store.folder).rglob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
        size = newest.stat().st_size
        with newest.open("r+b") as file:
            file.truncate(max(0, size - self.chance.randrange(1, LOST_BYTES)))
        mend = [str(program_path("redis-check-aof")), "--fix", str(newest)]
        subprocess.run(mend, input=b"y", stdout=subprocess.DEVNULL, check=True)
        self.store.start()

    def _promote(self) -> None:
        """What the old primary acknowledges after the replica has left it is lost."""
        while self.later:
            # A store that is frozen answers no replica.
            self._attend_until(time.monotonic() + 0.1)
        old, options = self.store, {"appendonly": "yes", "save": ""}
        self.store = self.opened.enter_context(RedisServer(options=options, replica_of=old))
        self.store.promote()
        self._attend_until(time.monotonic() + self.chance.uniform(0.1, 1))
        old.kill()
        self.store_proxy.retarget(HOST, self.store.port)
        redis = self.settings.redis.model_copy(update={"url": RedisUrl(self.store.url)})
        self.settings = self.settings.model_copy(update={"redis": redis})

    def _replayed(self) -> MemoryStore:
        """What one worker counts that nothing happens to."""
        settings = self.settings
        store = MemoryStore(keep_ms=spec_of(settings).windows.keep_ms)
        with closing(KafkaLog(KafkaConnection(self.kafka.bootstrap_servers), self.topics)) as log:
            flow = Flow(
                spec_of(settings), codec_of(settings), log, store, limits=limits_of(settings)
            )
            while log.at_end() != log.assigned() or not log.assigned():
                flow.turn()
                flow.evaluate()
            flow.evaluate()
        return store

    def _ends(self) -> dict[Partition, int]:
        with closing(KafkaLog(KafkaConnection(self.kafka.bootstrap_servers), self.topics)) as log:
            return dict(log.lag())

    def _wait_for(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Whether it held in time, with nothing left to undo."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._attend_until(time.monotonic() + 0.2)
            if not self.later and holds():
                return True
        return False

    def _is_counted(self, expected: MemoryStore) -> bool:
        """Whether every shard has read everything, and the evaluator has judged it."""
        (wanted,) = expected.cuts()
        try:
            with closing(open_reader(self.settings)) as reader:
                watermark_ms = reader.evaluation().watermark_ms
                return watermark_ms == expected.evaluation().watermark_ms and all(
                    p in cut and cut[p].next_offset >= progress.next_offset
                    for cut in reader.cuts()
                    for p, progress in wanted.items()
                )
        except StoreError:
            return False

    def _is_announced(self, expected: MemoryStore) -> bool:
        wanted = {transition.id for transition in expected.transitions()}
        return wanted <= set(self.crew.entries("announced"))

    def _differences(self, expected: MemoryStore, reader: StateReader) -> Iterator[str]:
        if self._digest(reader) != self._digest(expected):
            got, wanted = reader.ledger(), expected.ledger()
            for counter in sorted({*got, *wanted}):
                if got.get(counter, 0) != wanted.get(counter, 0):
                    yield f"{counter} {got.get(counter, 0)}, not {wanted.get(counter, 0)}"
            yield from _first_difference("pane", _panes(expected), _panes(reader))
            yield from _first_difference("transition", _facts(expected), _facts(reader))
            yield "the digest differs"
        for kind in Kind:
            balance = balance_of(
                reader.ledger(), kind, watermark_ms=0, horizon_ms=HORIZON_MS
            ).difference
            if balance:
                yield f"the ledger of {kind} is out by {balance}"
        for gap in gaps_of(reader.ledger()):
            yield f"a gap that is none: {gap}"
        moved = {transition.id for transition in expected.transitions()}
        stored = {transition.id for transition in reader.transitions()}
        announced = set(self.crew.entries("announced"))
        for what, found in (("stored", stored), ("announced", announced)):
            if missing := moved - found:
                yield f"{len(missing)} of {len(moved)} transitions were never {what}"
            if found - moved:
                yield f"{len(found - moved)} transitions were {what} that there are not"

    def _audited(self, reader: StateReader) -> tuple[int, list[str]]:
        """Digests that an audit of everything compared, and what it did not reproduce."""
        try:
            result = verified(self.settings, Scope(), lambda _done, _left: None)
        except RecallwatchError as error:
            return 0, [f"audit: {error}"]
        problems = [f"audit: {difference}" for difference in result.differences]
        stored = [transition.id for transition in reader.transitions()]
        if not problems and [*result.moved] != stored:
            problems.append(f"audit: {len(result.moved)} transitions, not {len(stored)}")
        return result.digests, problems

    def _digest(self, reader: StateReader) -> object:
        spec = spec_of(self.settings)
        return report_of(reader, spec, verdict_limits_of(self.settings))["digest"]


def settings_of(
    schedule: Schedule,
    name: str,
    topics: Mapping[Kind, str],
    bootstrap_servers: Sequence[str],
    redis_url: str,
    client: str = "kafka-python",
) -> dict[str, object]:
    """The settings of one run, as a file would hold them."""
    return {
        "kafka": {
            "client": client,
            "bootstrap_servers": list(bootstrap_servers),
            "group": f"group-{name}",
            "session_timeout": f"{SESSION_S}s",
            "assignor": schedule.assignor,
            "predictions": {"topic": topics[Kind.PREDICTIONS]},
            "labels": {"topic": topics[Kind.LABELS]},
            "dead_letters": {"topic": f"dead-letters-{name}"},
            "journal": {"topic": f"journal-{name}"},
        },
        "redis": {
            "url": redis_url,
            "namespace": f"run-{name}",
            "shards": schedule.shards,
            "buckets": 64,
            "timeout": "2s",
        },
        "intents": {"groups": {"urgent": sorted(URGENT)}},
        "slices": ["variant", "channel"],
        "windows": {"horizon": f"{HORIZON_MS // 3_600_000}h"},
        "rules": [
            {
                "name": "urgent-recall",
                "of": "urgent",
                "per": ["variant"],
                "objective": 0.80,
                "maturity": "10m",
                "hold": "20m",
            }
        ],
        "telemetry": {"port": 0},
        "worker": {
            "batch_records": 100,
            "poll_timeout": "50ms",
            "evaluate_every": "200ms",
            # Log time runs much faster here than wall time: nobody is idle, the feed ends.
            "idle_after": "1h",
        },
    }


def _panes(reader: StateReader) -> dict[object, object]:
    keys = [key for size_ms in (MINUTE_MS, HOUR_MS, ALL_TIME) for key in reader.pane_keys(size_ms)]
    return {key: c.cells for key, c in zip(keys, reader.panes(keys), strict=True) if c.cells}


def _facts(reader: StateReader) -> dict[object, object]:
    """What a transition says, without how far the log had been read when it was found."""
    moved = enumerate(reader.transitions())
    return {number: replace(transition, cut=()) for number, transition in moved}


def _first_difference(
    what: str, wanted: Mapping[object, object], got: Mapping[object, object]
) -> Iterator[str]:
    for key in [*wanted, *(key for key in got if key not in wanted)]:
        if wanted.get(key) != got.get(key):
            yield f"{what} {key} is {got.get(key)}, not {wanted.get(key)}"
            return


def _split(records: Sequence[OutRecord]) -> tuple[Sequence[OutRecord], Sequence[OutRecord]]:
    middle = int(len(records) * BACKLOG)
    return records[:middle], records[middle:]


def _received(reader: StateReader) -> dict[Kind, int]:
    ledger = reader.ledger()
    return {kind: ledger.get(RECEIVED[kind], 0) for kind in Kind}
