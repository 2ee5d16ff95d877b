"""Rights, passwords and TLS: what docs/redis.md says works, and what does not is told clearly.

No message holds a secret.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from monitor.adapters import redis_scripts as scripts
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.app.vitals import vitals_of
from monitor.domain.alerts import Missed
from monitor.domain.counts import Part
from monitor.domain.errors import StoreError
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import PredictionId
from monitor.domain.forgetting import Request
from monitor.domain.overlays import Action, Deed
from monitor.domain.windows import HOUR_MS
from monitor.ports import Heartbeat, ServerVitals
from tests.adapters.redis_rig import NAMESPACE, PROGRAMS, client_of, content_of, refusal
from tests.contracts.state_store import (
    END_MS,
    T0_MS,
    Fact,
    evaluate,
    journal,
    label,
    leased,
    observed,
    prediction,
    sweep_all,
    transition,
    vote,
    write,
)
from tests.fixtures.stores import NO_SYSTEM_REDIS, SYSTEM_REDIS
from tests.servers.certificates import certificates
from tests.servers.ports import HOST
from tests.servers.redis import REDIS, RedisServer

DOCUMENT = Path(__file__).parents[2] / "docs" / "redis.md"
ADMINISTRATOR, SECRET = "the-administrator's", "s3cr3t-of-the-operator"
FACTS: list[Fact] = [prediction("p1"), label("p1"), prediction("p2"), label("p3")]


def documented() -> dict[str, str]:
    """User -> rules, as the document prints them, for the namespace of these tests."""
    lines = re.findall(r"^user (\w+) (.+)$", DOCUMENT.read_text("utf-8"), flags=re.MULTILINE)
    return {
        user: rules.replace("change-me", SECRET).replace("{prod:", f"{{{NAMESPACE}:")
        for user, rules in lines
    }


# Rights


@pytest.fixture(scope="module", params=PROGRAMS)
def guarded(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param, password=ADMINISTRATOR, users=documented()) as server:
        yield server


@pytest.fixture
def server(guarded: RedisServer) -> Iterator[RedisServer]:
    yield guarded
    with guarded.client() as administrator:
        administrator.flushall()


def test_the_document_gives_rights_to_a_worker_and_to_a_dashboard() -> None:
    assert set(documented()) == {"recallwatch", "dashboard"}


def work(url: str, *, cluster: bool = False) -> None:
    """All that a worker does."""
    with client_of(url, shards=2, cluster=cluster) as store:
        write(store, *FACTS)
        missed = (Missed("p9", T0_MS, "balance", "fraud"),)
        first = replace(transition(1), missed=missed)
        evaluate(store, Evaluation(1, T0_MS), first, transition(2))
        lease = leased(store)
        store.ask_to_forget(wish := Request("r1", (PredictionId("p9"),)))
        assert store.to_forget() == [wish]
        store.erase(wish)
        store.fulfilled(wish.id)
        store.delivered(store.outbox(1), lease)
        added = journal(store, 2, document="{}")
        store.published(1, lease)
        chat = leased(store, office="chat")
        store.save_delivery("chat", store.delivery("chat"), chat)
        store.act(Action("a1", Deed.ACKNOWLEDGE, T0_MS, "kim", "mine", transition(1).id))
        for day in (1, 3):
            store.beat(Heartbeat(f"w{day}", day * 24 * HOUR_MS, 2, 3))
        store.forget([*store.waiting(END_MS), vote()])
        assert observed(store)["outbox"] == [transition(2)]
        assert observed(store)["unpublished"] == added
        assert store.marks()[0].cut == store.cuts()[0]
        sweep_all(store, END_MS)
        store.resign(lease)
        assert store.eviction_policy() == "noeviction"


def test_a_worker_can_do_all_it_does_with_the_rights_documented(server: RedisServer) -> None:
    work(server.url_of("recallwatch", SECRET))


COMMANDS = re.findall(r"\+(\S+)", documented()["recallwatch"])
MISSED_BY_NOBODY = {"config|get", "info"}
"""Either of them tells the eviction policy; see test_redis_memory."""


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - MISSED_BY_NOBODY))
def test_a_right_that_a_worker_lacks_is_told_with_the_place_to_look(
    server: RedisServer, command: str
) -> None:
    """So none of those that are documented is superfluous, and no commit is done by halves."""
    rights = [f"+{name}" for name in COMMANDS if name != command]
    with server.client() as administrator:
        administrator.script_flush()
        keys = f"~{{{NAMESPACE}:*"
        administrator.execute_command(
            *("ACL", "SETUSER", "lacking", "reset", "on", f">{SECRET}", keys, *rights)
        )
    with pytest.raises(StoreError, match=r"too few rights; see docs/redis\.md") as error:
        work(server.url_of("lacking", SECRET))
    assert SECRET not in str(error.value)
    if command.upper() in called(scripts.COMMIT):
        assert not any(key.endswith(b":ledger") for key in content_of(server.url))


def called(script: str) -> set[str]:
    """The commands that a script names."""
    return set(re.findall(r"\b(?:redis\.call|try)\('(\w+)'", script))


def test_every_command_of_a_script_is_tried_when_a_worker_starts() -> None:
    found = vars(scripts).items()
    texts = [value for name, value in found if name.isupper() and isinstance(value, str)]
    assert len(texts) >= 8
    assert {"HINCRBY", "ZADD", "RPUSH"} <= called("".join(texts)) == called(scripts.PROBE)


def test_a_worker_keeps_out_of_other_namespaces(server: RedisServer) -> None:
    connection = RedisConnection(server.url_of("recallwatch", SECRET))
    with pytest.raises(StoreError, match="too few rights"):
        RedisStore(connection, "not-ours")


def test_a_dashboard_can_read_everything_and_write_nothing_with_the_rights_documented(
    server: RedisServer,
) -> None:
    with (
        client_of(server.url_of("recallwatch", SECRET)) as store,
        client_of(server.url_of("dashboard", SECRET), read_only=True) as reader,
    ):
        write(store, *FACTS)
        evaluate(store, Evaluation(1, T0_MS), transition(1))
        journal(store, 1, document="{}")
        store.beat(Heartbeat("w1", 1, 2, 3))
        keys = store.pane_keys(HOUR_MS)
        assert keys
        assert reader.pane_keys(HOUR_MS) == keys
        for name in (
            *("cuts", "marks", "ledger", "slice_keys", "evaluation", "transitions"),
            *("journal", "documents", "heartbeats", "backlog"),
        ):
            assert getattr(reader, name)() == getattr(store, name)(), name
        assert reader.panes(keys) == store.panes(keys)
        for part in Part:
            expected = [counts.of_part(part) for counts in store.panes(keys)]
            assert reader.panes(keys, part) == expected
        with pytest.raises(StoreError, match=r"too few rights; see docs/redis\.md"):
            reader.beat(Heartbeat("w1", 1, 2, 3))


def test_a_server_tells_a_dashboard_how_it_is(server: RedisServer) -> None:
    with (
        client_of(server.url_of("recallwatch", SECRET)),
        client_of(server.url_of("dashboard", SECRET), read_only=True) as reader,
        server.client() as administrator,
    ):
        administrator.config_set("maxmemory", 1_000_000_000)
        told = vitals_of(reader)
        administrator.config_set("maxmemory", 0)
        unlimited = vitals_of(reader).server
    assert told.answer_ms > 0
    assert told.server.used_bytes is not None
    assert told.server.fullest == told.server.used_bytes / 1_000_000_000
    assert (told.server.evicted, told.server.policy) == (0, "noeviction")
    assert (unlimited.limit_bytes, unlimited.fullest) == (0, None)


def test_a_server_whose_info_is_forbidden_is_unknown(server: RedisServer) -> None:
    rules = documented()["dashboard"].replace("+info", "").split()
    with server.client() as administrator:
        administrator.execute_command(
            *("ACL", "SETUSER", "lacking", "reset", "on", f">{SECRET}", *rules[2:])
        )
    with client_of(server.url_of("lacking", SECRET), read_only=True) as reader:
        assert vitals_of(reader).server == ServerVitals()


# Passwords


@pytest.mark.parametrize("password", [SECRET, "p%40ss", ""])
def test_a_wrong_password_is_told_without_it(server: RedisServer, password: str) -> None:
    told = refusal(server.url_of("default", password))
    assert told == f"{server.url_of('', None)}: " + (
        "Redis refuses the password or user; check redis.url"
    )


def test_no_password_where_one_is_wanted_is_told(server: RedisServer) -> None:
    told = refusal(server.url_of("", None))
    assert told.endswith("Redis refuses the password or user; check redis.url")


# TLS


@pytest.fixture(scope="module")
def encrypted() -> Iterator[RedisServer]:
    if SYSTEM_REDIS is None:
        pytest.skip(NO_SYSTEM_REDIS)
    options = {"tls-auth-clients": "optional"}
    with RedisServer(REDIS, options, password=SECRET, tls=True) as server:
        yield server


def address(server: RedisServer, *, scheme: str = "rediss", password: str = SECRET) -> str:
    """Without the file that the server's own address names."""
    return f"{scheme}://:{password}@{HOST}:{server.port}/0"


def ca_file_of(server: RedisServer) -> str:
    assert server.certificates is not None
    return str(server.certificates.ca_file)


@pytest.mark.system_redis
def test_a_private_authority_is_trusted_when_the_settings_name_it(encrypted: RedisServer) -> None:
    with client_of(address(encrypted), ca_file=ca_file_of(encrypted)) as store:
        write(store, *FACTS)
        assert store.ledger()["labels.received"] == 2


@pytest.mark.system_redis
def test_a_client_shows_its_certificate_where_one_is_asked_for(encrypted: RedisServer) -> None:
    ours = encrypted.certificates
    assert ours is not None
    with encrypted.client() as administrator:
        administrator.config_set("tls-auth-clients", "yes")
    try:
        told = refusal(address(encrypted), ca_file=str(ours.ca_file))
        assert re.search(r"redis\.cert_file and redis\.key_file( are set if it asks|$)", told)
        with client_of(
            address(encrypted),
            ca_file=str(ours.ca_file),
            cert_file=str(ours.cert_file),
            key_file=str(ours.key_file),
        ) as store:
            write(store, prediction("p9"))
            with encrypted.client() as refused, pytest.raises(redis.RedisError):
                refused.ping()
    finally:
        encrypted.restart()


@pytest.mark.system_redis
@pytest.mark.parametrize("authority", ["the system's", "another", "a file that is missing"])
def test_a_certificate_that_is_not_trusted_is_told_with_the_setting(
    encrypted: RedisServer, tmp_path: Path, authority: str
) -> None:
    ca_file = {
        "the system's": None,
        "another": str(certificates(tmp_path).ca_file),
        "a file that is missing": str(tmp_path / "missing.pem"),
    }[authority]
    told = refusal(address(encrypted), ca_file=ca_file)
    assert "redis.ca_file" in told
    if authority.startswith("a file"):
        assert told.endswith("a file of redis.ca_file, cert_file or key_file is missing")
    else:
        assert "shows a certificate that is not trusted" in told
    assert SECRET not in told


@pytest.mark.system_redis
def test_a_certificate_for_another_host_is_told(encrypted: RedisServer) -> None:
    url = f"rediss://:{SECRET}@127.0.0.2:{encrypted.port}/0"
    with encrypted.client() as administrator:
        administrator.config_set("bind", f"{HOST} 127.0.0.2")
    told = refusal(url, ca_file=ca_file_of(encrypted))
    assert "set redis.ca_file to the CA that signed it, and redis.url to a name that" in told
    assert "127.0.0.2" in told


@pytest.mark.system_redis
def test_a_wrong_password_over_tls_is_told_without_it(encrypted: RedisServer) -> None:
    url = address(encrypted, password="wr0ng-one")
    told = refusal(url, ca_file=ca_file_of(encrypted))
    assert told.endswith("Redis refuses the password or user; check redis.url")
    assert "wr0ng" not in told


@pytest.mark.system_redis
def test_no_tls_on_a_port_that_wants_it_is_told(encrypted: RedisServer) -> None:
    told = refusal(address(encrypted, scheme="redis"))
    assert "check that the server runs, that redis.url starts with rediss:// if it exp" in told
    assert SECRET not in told


def test_tls_on_a_port_without_it_is_told(server: RedisServer) -> None:
    told = refusal(address(server, password=ADMINISTRATOR), timeout_s=0.3)
    assert told == (
        f"rediss://{HOST}:{server.port}/0: Redis does not answer the TLS handshake; "
        "set redis.url to its TLS port, or to redis:// if it has none"
    )
