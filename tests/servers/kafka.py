"""Apache Kafka itself: one broker, or three that hold each other's records.

Each is controller and broker in one process (KRaft). Brokers listen for clients on loopback; on
request also for clients that come through a proxy, and for those that log in.
"""

import base64
import secrets
import shlex
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Self

from tests.servers.artifacts import java, kafka_jars
from tests.servers.ports import HOST, free_port
from tests.servers.processes import START_ATTEMPTS, PortTakenError, Server
from tests.servers.proxy import TcpProxy

USER, PASSWORD = "watcher", "watch-it"
"""Who may log in through SASL PLAIN, where that was asked for."""

JVM = (
    "-Xms192m",
    "-Xmx384m",
    # A test needs a server soon and not for long.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-XX:-UsePerfData",
)

SHORT_RETENTION: Mapping[str, str] = {
    "log.initial.task.delay.ms": "0",
    "log.retention.check.interval.ms": "200",
    "log.cleaner.backoff.ms": "200",
    "log.segment.delete.delay.ms": "0",
}
"""Properties with which retention and compaction act at once on segments that are full."""

_COMMON: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "250",
    "log.cleaner.dedupe.buffer.size": "2000000",
    "num.network.threads": "2",
    "num.io.threads": "4",
}

_LOG4J = """
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %-5p %c{1}: %m%n
"""


class Broker(Server):
    """One broker of a cluster; `start` and `stop` it through `ApacheKafka.broker`."""

    def __init__(self, cluster: "ApacheKafka", number: int, proxy: TcpProxy | None) -> None:
        super().__init__()
        self.name = f"Apache Kafka broker {number}"
        self.number = number
        self.proxy = proxy
        self._cluster = cluster
        self.ports: dict[str, int] = {}

    @property
    def address(self) -> str:
        return f"{HOST}:{self.ports['PLAINTEXT']}"

    def choose_ports(self) -> None:
        """The cluster does it: each broker has to know the ports of all."""

    def listeners(self) -> dict[str, str]:
        """Where it listens, by name of the listener."""
        return {name: f"{name}://{HOST}:{port}" for name, port in self.ports.items()}

    def command(self) -> Sequence[str]:
        properties = self.folder / "server.properties"
        log4j = self.folder / "log4j2.properties"
        properties.write_text("".join(f"{k}={v}\n" for k, v in self._properties().items()))
        log4j.write_text(_LOG4J)
        program = [java(), *JVM, f"-Dlog4j2.configurationFile={log4j}"]
        program += ["-cp", f"{self._cluster.jars}/*"]
        serve = [*program, "kafka.Kafka", str(properties)]
        if (self.folder / "data" / "meta.properties").exists():
            return serve
        format_ = [*program, "kafka.tools.StorageTool", "format"]
        format_ += ["--cluster-id", self._cluster.id, "--config", str(properties)]
        return ["sh", "-c", f"{shlex.join(format_)} && exec {shlex.join(serve)}"]

    def is_ready(self) -> bool:
        """It answers, and counts itself among the brokers."""
        return self.knows({self.number})

    def knows(self, numbers: set[int]) -> bool:
        """Whether it answers, and holds these brokers for alive."""
        return numbers <= known_brokers(self.ports["PLAINTEXT"], self._cluster.id)

    def _properties(self) -> dict[str, str]:
        listeners = self.listeners()
        advertised = {k: v for k, v in listeners.items() if k != "CONTROLLER"}
        if self.proxy:
            advertised["PROXIED"] = f"PROXIED://{self.proxy.address}"
        return {
            **_COMMON,
            **_replication(self._cluster.size),
            "node.id": str(self.number),
            "controller.quorum.voters": self._cluster.voters(),
            "listeners": ",".join(listeners.values()),
            "advertised.listeners": ",".join(advertised.values()),
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,SASL:SASL_PLAINTEXT"
            ),
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": (
                "org.apache.kafka.common.security.plain.PlainLoginModule required"
                f' user_{USER}="{PASSWORD}";'
            ),
            "log.dirs": str(self.folder / "data"),
            **self._cluster.properties,
        }


def _replication(brokers: int) -> dict[str, str]:
    copies, in_sync = str(brokers), str(max(1, brokers - 1))
    return {
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": copies,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": "1",
        # A broker that was killed or frozen is noticed after this time. When it is started again
        # earlier, it waits until then: so long its own earlier life counts as alive.
        "broker.session.timeout.ms": "1500" if brokers == 1 else "4000",
    }


class ApacheKafka:
    """A cluster of 1 or 3 brokers; started and closed as a context, or with `start` and `close`.

    With three brokers each record is on all of them, and a write needs two. `properties` are
    settings of the broker, beyond or instead of ours. With `proxied`, a client that bootstraps
    from `proxied_bootstrap` stays on the proxies, one before each broker. With `sasl`, there is a
    listener for USER with PASSWORD.

    Raises ArtifactsError when Java is missing or the jars cannot be fetched.
    """

    def __init__(
        self,
        brokers: int = 1,
        properties: Mapping[str, str] | None = None,
        *,
        proxied: bool = False,
        sasl: bool = False,
    ) -> None:
        self.jars = kafka_jars()
        self.size = brokers
        self.id = base64.urlsafe_b64encode(b"R" + secrets.token_bytes(15)).decode().rstrip("=")
        self.properties = dict(properties or {})
        self._sasl = sasl
        self.proxies = [TcpProxy((HOST, 0)) for _ in range(brokers)] if proxied else []
        self._stack = ExitStack()
        for proxy in self.proxies:
            self._stack.callback(proxy.close)
        self.brokers: list[Broker] = []

    @property
    def bootstrap_servers(self) -> tuple[str, ...]:
        return tuple(broker.address for broker in self.brokers)

    @property
    def proxied_bootstrap(self) -> tuple[str, ...]:
        return tuple(proxy.address for proxy in self.proxies)

    @property
    def sasl_bootstrap(self) -> tuple[str, ...]:
        """For USER with PASSWORD, protocol SASL_PLAINTEXT, mechanism PLAIN."""
        return tuple(f"{HOST}:{broker.ports['SASL']}" for broker in self.brokers)

    def broker(self, index: int) -> Broker:
        """From 0; the broker calls itself index + 1."""
        return self.brokers[index]

    def voters(self) -> str:
        return ",".join(f"{b.number}@{HOST}:{b.ports['CONTROLLER']}" for b in self.brokers)

    def start(self) -> None:
        """Start all, and wait until each knows of all. Raises ServerError, quoting a log."""
        for _ in range(START_ATTEMPTS - 1):
            try:
                self._start()
            except PortTakenError:
                self._close_brokers()
            else:
                return
        self._start()

    def wait_until_complete(self) -> None:
        """Until each broker answers and holds all for alive. Raises ServerError after a while."""
        everyone = {broker.number for broker in self.brokers}
        for broker in self.brokers:
            broker.wait_until(partial(broker.knows, everyone), "ready")

    def close(self) -> None:
        """Kill all and remove their folders. Closing again does nothing."""
        self._close_brokers()
        self._stack.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        for index in range(self.size):
            proxy = self.proxies[index] if self.proxies else None
            self.brokers.append(Broker(self, index + 1, proxy))
        for broker in self.brokers:
            broker.ports = {name: free_port() for name in self._listener_names()}
            if broker.proxy:
                broker.proxy.retarget(HOST, broker.ports["PROXIED"])
        # All before any is waited for: one alone finds no majority of controllers.
        for broker in self.brokers:
            broker.begin()
        self.wait_until_complete()

    def _listener_names(self) -> list[str]:
        names = ["PLAINTEXT", "CONTROLLER"]
        names += ["PROXIED"] if self.proxies else []
        return names + (["SASL"] if self._sasl else [])

    def _close_brokers(self) -> None:
        while self.brokers:
            self.brokers.pop().close()


def known_brokers(port: int, cluster: str) -> set[int]:
    """The numbers of the brokers that the one on this loopback port holds for alive.

    Empty when it does not answer within a second, and when it belongs to another cluster.
    """
    # Metadata, version 2, correlation 7, no client id, no topics.
    request = struct.pack(">hhihi", 3, 2, 7, -1, 0)
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _read(connection, 4))
            answer = _read(connection, size)
    except OSError:
        return set()
    numbers, at = set(), 8
    for _ in range(*struct.unpack_from(">i", answer, 4)):
        number, host_length = struct.unpack_from(">ih", answer, at)
        numbers.add(number)
        at += 6 + host_length + 4
        (rack_length,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(0, rack_length)
    (length,) = struct.unpack_from(">h", answer, at)
    found = answer[at + 2 : at + 2 + max(0, length)].decode()
    return numbers if found == cluster else set()


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError("the broker ended the connection")
        data += part
    return data


def kafka_request(api_key: int) -> Callable[[bytes], bool]:
    """For the traps of a proxy: whether these bytes begin with, or hold, such a request.

    1 is Fetch, 0 Produce, 8 OffsetCommit, 11 JoinGroup, 12 Heartbeat, 14 SyncGroup. A request
    whose beginning arrived earlier is not recognised.
    """

    def matches(data: bytes) -> bool:
        at = 0
        while at + 6 <= len(data):
            size, key = struct.unpack_from(">ih", data, at)
            if key == api_key:
                return True
            at += 4 + max(0, size)
        return False

    return matches
