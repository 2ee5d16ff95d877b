"""Members of a consumer group, in threads and in processes, that follow a cut as workers do.

Run as a program it is one member: its settings come as one JSON argument, what it does goes as
lines of JSON to standard output, and it ends with its standard input.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any, cast

from monitor.adapters.kafka import Assignor, ConsumerGroup, KafkaConnection, KafkaLog
from monitor.adapters.kafka.confluent import ConfluentLog
from monitor.domain.errors import BrokerError
from monitor.domain.events import Kind, NextOffsets, Partition, Record
from monitor.ports import RecordLog

Client = type[KafkaLog | ConfluentLog]
CLIENTS: Mapping[str, Client] = {"kafka-python": KafkaLog, "confluent-kafka": ConfluentLog}

DEADLINE_S = 90.0
"""What has not come about by then will not."""


def wait_until(
    is_so: Callable[[], object], what: str = "settled", seconds: float = DEADLINE_S
) -> None:
    """Ask again and again; fails when it is not so in time."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not {what} after {seconds:g} s"
        pause.wait(0.02)


class SharedCut:
    """What a store keeps: how far each partition was counted, compared with each batch.

    Only for topics without holes: a record that comes before its turn was passed over.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[Partition, int] = {}
        self._taken: list[Record] = []
        self.again = 0

    def places(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        with self._lock:
            return {partition: self._next.get(partition, 0) for partition in partitions}

    def taken(self) -> list[Record]:
        with self._lock:
            return list(self._taken)

    def take(self, records: Iterable[Record]) -> None:
        with self._lock:
            for record in records:
                partition = Partition(record.topic, record.partition)
                turn = self._next.get(partition, 0)
                assert record.offset <= turn, f"{record.position} came, {turn} was passed over"
                if record.offset < turn:
                    self.again += 1
                    continue
                self._next[partition] = turn + 1
                self._taken.append(record)


class Member(threading.Thread):
    """Reads a log until it is stopped or fails; ``held`` are its assignments, oldest first."""

    def __init__(self, log: RecordLog, cut: SharedCut) -> None:
        super().__init__()
        self.log, self._cut = log, cut
        self._stopped = threading.Event()
        self.held: list[frozenset[Partition]] = []
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        generation = -1
        try:
            while not self._stopped.is_set():
                records = self.log.poll(100)
                if self.log.generation != generation:
                    assert not records
                    generation = self.log.generation
                    self.log.seek(self._cut.places(self.log.assigned()))
                    self.held.append(self.log.assigned())
                    continue
                self._cut.take(records)
                places = self._cut.places({Partition(r.topic, r.partition) for r in records})
                self.log.commit(places)
                self.log.at_end()
        except (AssertionError, BrokerError) as error:
            self.error = error

    def stop(self) -> None:
        """Stop reading, and leave the group."""
        self._stopped.set()
        self.join()
        self.log.close()
        assert self.error is None, self.error

    def fail(self) -> Exception:
        """Wait until it fails; leaves the group."""
        self.join(DEADLINE_S)
        self.log.close()
        assert self.error is not None
        return self.error


def are_shared(members: Iterable[Member], partitions: frozenset[Partition]) -> bool:
    """Whether each member has partitions, each partition one of the members."""
    assigned = [member.log.assigned() for member in members]
    return (
        all(assigned)
        and sum(map(len, assigned)) == len(partitions)
        and frozenset().union(*assigned) == partitions
    )


class Child:
    """A member in a process of its own, which ends with this one at the latest."""

    def __init__(
        self,
        broker: KafkaConnection,
        topics: Mapping[Kind, str],
        group: ConsumerGroup,
        client: str = "kafka-python",
    ) -> None:
        settings = {
            "client": client,
            "broker": broker.bootstrap_servers,
            "topics": dict(topics),
            "group": [group.name, group.instance_id, group.session_timeout_ms, group.assignor],
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.adapters.members", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._events: list[dict[str, Any]] = []
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    @property
    def assigned(self) -> frozenset[Partition]:
        """What it said last."""
        told = [event["assigned"] for event in list(self._events) if "assigned" in event]
        return frozenset(Partition(*partition) for partition in told[-1]) if told else frozenset()

    @property
    def rebalances(self) -> int:
        return sum("assigned" in event for event in list(self._events))

    def read(self) -> int:
        """Records that it has read, one read again counted again."""
        return sum(event.get("read", 0) for event in list(self._events))

    def kill(self) -> None:
        self._process.kill()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.append(json.loads(line))


def main(settings: dict[str, Any]) -> None:
    """Read, and commit in every turn what was read since the last rebalance."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    name, instance_id, session_timeout_ms, assignor = settings["group"]
    group = ConsumerGroup(name, instance_id, session_timeout_ms, cast(Assignor, assignor))
    topics = {Kind(kind): topic for kind, topic in settings["topics"].items()}
    connection = KafkaConnection(tuple(settings["broker"]))
    generation, counted = -1, dict[Partition, int]()
    with closing(CLIENTS[settings["client"]](connection, topics, group, wait_ms=50)) as log:
        places: NextOffsets = {}
        while True:
            records = log.poll(100)
            if log.generation != generation:
                generation, places = log.generation, {}
                log.seek({p: counted.get(p, 0) for p in log.assigned()})
                _tell(assigned=sorted(log.assigned()))
                continue
            counted |= {Partition(r.topic, r.partition): r.offset + 1 for r in records}
            if records:
                places = {p: at for p, at in counted.items() if p in log.assigned()}
                _tell(read=len(records))
            log.commit(places)


def _tell(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
