"""What is Redis's own: what goes wrong with a server, what is refused, and what it costs."""

import contextlib
import inspect
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from time import monotonic

import pytest
import redis
from redis import exceptions

from monitor.adapters import redis as adapter
from monitor.adapters import redis_panes
from monitor.adapters import redis_scripts as scripts
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import FAILURES, RedisConnection
from monitor.app.embedded import HOST
from monitor.app.settings import Settings
from monitor.app.wiring import shape_of
from monitor.codec import snapshots
from monitor.codec.journal import pack_journal_entry
from monitor.domain.counts import Counts, Part
from monitor.domain.engine import Changes
from monitor.domain.errors import CommitConflict, StoreError
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import Batch, Prediction, PredictionId
from monitor.domain.join import Entry
from monitor.domain.slices import SliceKey
from monitor.domain.windows import ALL_TIME, HOUR_MS, Clock, PaneKey
from monitor.ports import Heartbeat, Lease, StateReader
from tests.contracts.state_store import (
    END_MS,
    HORIZON_MS,
    LEASE_MS,
    T0_MS,
    entry,
    evaluate,
    journal,
    label,
    leased,
    observed,
    prediction,
    prepared,
    stepped,
    sweep_all,
    transition,
    vote,
    write,
)
from tests.fixtures.stores import free_port

SECRET = "s3cr3t-of-the-operator"
BUCKETS = 16
PATIENCE_S = 20.0
_instants = count(T0_MS, HOUR_MS)
_namespaces = count()

OPERATIONS: dict[str, Callable[[RedisStore], object]] = {
    "load": lambda store: store.load(0, [PredictionId("p1")]),
    "commit": lambda store: store.commit(*prepared(store, 0, [prediction()])),
    "sweep": lambda store: store.sweep(next(_instants), HORIZON_MS),
    "waiting": lambda store: store.waiting(T0_MS),
    "forget": lambda store: store.forget([vote()]),
    "lead": lambda store: store.lead("w1", LEASE_MS),
    "resign": lambda store: store.resign(Lease("w1", 1)),
    "commit_evaluation": lambda store: store.commit_evaluation(Evaluation(1), [], Lease("w1", 1)),
    "outbox": lambda store: store.outbox(),
    "delivered": lambda store: store.delivered([], Lease("w1", 1)),
    "unpublished": lambda store: store.unpublished(),
    "published": lambda store: store.published(1, Lease("w1", 1)),
    "beat": lambda store: store.beat(Heartbeat("w1", 1, 2, 3)),
}
QUESTIONS: dict[str, Callable[[StateReader], object]] = {
    "cuts": lambda store: store.cuts(),
    "marks": lambda store: store.marks(),
    "picture": lambda store: store.picture([HOUR_MS], []),
    "ledger": lambda store: store.ledger(),
    "slice_keys": lambda store: store.slice_keys(),
    "panes": lambda store: store.panes([PaneKey(Clock.EVENT, ALL_TIME, 0, SliceKey("ft"))]),
    "part of panes": lambda store: store.panes(
        [PaneKey(Clock.EVENT, ALL_TIME, 0, SliceKey("ft"))], Part.ANSWERS
    ),
    "pane_keys": lambda store: store.pane_keys(HOUR_MS),
    "evaluation": lambda store: store.evaluation(),
    "transitions": lambda store: store.transitions(),
    "journal": lambda store: store.journal(),
    "documents": lambda store: store.documents(),
    "heartbeats": lambda store: store.heartbeats(),
    "misses": lambda store: store.misses(),
    "backlog": lambda store: store.backlog(),
}
NEVER = {
    "ChildDeadlockedError": "of programs that fork while a connection is in use",
    "IncorrectPolicyType": "of policies read from the server, which this client does not do",
}
"""Exceptions that cannot come from the clients in use."""

FOREIGN = {
    name: kind
    for name, kind in vars(exceptions).items()
    if inspect.isclass(kind) and issubclass(kind, Exception) and name not in NEVER
}


@contextmanager
def client_of(
    url: str,
    namespace: str,
    *,
    shards: int = 1,
    buckets: int = 4096,
    timeout_s: float = 5.0,
    read_only: bool = False,
) -> Iterator[RedisStore]:
    store = RedisStore(
        RedisConnection(url, timeout_s=timeout_s),
        namespace,
        shards=shards,
        buckets=buckets,
        read_only=read_only,
    )
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def namespace() -> str:
    return f"redis-{next(_namespaces)}"


@pytest.fixture
def store(valkey_url: str, namespace: str) -> Iterator[RedisStore]:
    with client_of(valkey_url, namespace, buckets=BUCKETS) as store:
        yield store


@pytest.fixture
def server(valkey_url: str) -> Iterator["redis.Redis"]:
    """The server as an administrator sees it."""
    with redis.Redis.from_url(valkey_url) as client:
        yield client


def content_of(server: "redis.Redis") -> dict[bytes, object]:
    return {key: server.dump(key) for key in server.scan_iter()}


# What goes wrong outside


def refusal(url: str, *, timeout_s: float = 5.0) -> str:
    """What the operator reads when this server cannot be used."""
    with pytest.raises(StoreError) as error:
        RedisStore(RedisConnection(url, timeout_s=timeout_s), "never-written")
    return str(error.value)


@contextmanager
def answering(line: bytes, *, quoting: bool = False) -> Iterator[str]:
    """A server that gives one answer to every command; ``quoting`` adds the command to it."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    while command := connection.recv(65_536):
                        quote = repr(command).encode() if quoting else b""
                        connection.sendall(line + quote + b"\r\n")

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"redis://{HOST}:{listener.getsockname()[1]}/0"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_an_unreachable_server_is_named_with_a_remedy() -> None:
    place = f"{HOST}:{free_port()}/3"
    assert refusal(f"redis://:{SECRET}@{place}") == (
        f"redis://{place}: Redis is unreachable; check redis.url and that the server runs"
    )


def test_a_wrong_password_is_told_without_it(server: "redis.Redis", valkey_url: str) -> None:
    server.acl_setuser("someone", enabled=True, passwords=["+right"], keys=["*"])
    assert refusal(valkey_url.replace("//", f"//someone:{SECRET}@")) == (
        f"{valkey_url}: Redis refuses the password or user; check redis.url"
    )


def test_a_server_that_wants_a_password_is_told() -> None:
    with answering(b"-NOAUTH Authentication required.") as url:
        assert refusal(url) == f"{url}: Redis refuses the password or user; check redis.url"


def test_the_password_is_masked_when_a_server_quotes_the_command() -> None:
    line = b"-ERR unknown command 'HELLO', with args beginning with: "
    with answering(line, quoting=True) as url:
        said = refusal(url.replace("//", f"//someone:{SECRET}@"))
    assert said.startswith(f"{url}: Redis refused a command: unknown command 'HELLO'")
    assert "***" in said
    assert SECRET not in said


def test_a_server_that_is_not_redis_is_told() -> None:
    with answering(b"HTTP/1.1 400 Bad Request") as url:
        assert refusal(url).startswith(f"{url}: ")


def test_a_server_that_never_answers_is_told() -> None:
    with socket.create_server((HOST, 0)) as silent:
        url = f"redis://{HOST}:{silent.getsockname()[1]}/0"
        assert "does not answer in time" in refusal(url, timeout_s=0.05)


def test_a_server_that_stops_answering_is_told(
    server: "redis.Redis", valkey_url: str, namespace: str
) -> None:
    with client_of(valkey_url, namespace, timeout_s=0.05) as store:
        server.client_pause(60_000, all=False)
        try:
            with pytest.raises(StoreError, match="does not answer in time"):
                store.beat(Heartbeat("w1", 1, 2, 3))
        finally:
            server.client_unpause()


def test_a_commit_whose_answer_is_lost_is_sent_once(
    store: RedisStore, valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default the client sends a command again. It reads what came of the first one anew."""
    write(store, prediction("p0"))
    arguments = prepared(store, 0, [prediction()])
    sent = []
    receive: Callable[..., object] = redis.Redis.parse_response

    def loses_the_answer(*arguments: object, **options: object) -> object:
        sent.append(arguments[2])
        receive(*arguments, **options)
        raise exceptions.TimeoutError("Timeout reading from socket")

    with monkeypatch.context() as patched:
        patched.setattr(redis.Redis, "parse_response", loses_the_answer)
        with pytest.raises(StoreError, match="does not answer in time"):
            store.commit(*arguments)
    assert sent == ["EVALSHA"]
    with pytest.raises(StoreError, match="broke the connection; its state is read anew"):
        store.commit(*arguments)
    with client_of(valkey_url, namespace, buckets=BUCKETS) as other:
        with pytest.raises(CommitConflict):
            other.commit(*arguments)
        assert other.ledger()["predictions.received"] == 2


def test_every_exception_of_the_client_is_known() -> None:
    strangers = {name for name, kind in FOREIGN.items() if not issubclass(kind, FAILURES)}
    assert strangers == set()
    assert NEVER.keys() <= vars(exceptions).keys()


@pytest.mark.parametrize("operation", sorted(OPERATIONS | QUESTIONS))
def test_every_exception_of_the_client_is_translated(
    store: RedisStore, valkey_url: str, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    for kind in FOREIGN.values():
        error = kind.__new__(kind, "something about it")

        def fails(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(redis.Redis, "execute_command", fails)
            patched.setattr(redis.client.Pipeline, "execute", fails)
            with pytest.raises(StoreError, match=f"^{valkey_url}: Redis ") as translated:
                (OPERATIONS | QUESTIONS)[operation](store)
        assert translated.value.__cause__ is error


def test_a_failure_while_names_are_read_anew_is_translated(
    store: RedisStore, valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, prediction())

    def fails(*_: object, **__: object) -> None:
        raise exceptions.ConnectionError("gone")

    with client_of(valkey_url, namespace, buckets=BUCKETS) as other:
        monkeypatch.setattr(redis.Redis, "hgetall", fails)
        with pytest.raises(StoreError, match="unreachable"):
            other.load(0, [PredictionId("p1")])


# Batches that overlap


def test_what_was_loaded_ahead_is_compared_only_when_somebody_else_has_committed(
    store: RedisStore, valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bool] = []
    olds = RedisStore._olds

    def noting(self: RedisStore, changes: Changes, order: Sequence[int]) -> list[bytes]:
        compared.append(True)
        return olds(self, changes, order)

    monkeypatch.setattr(RedisStore, "_olds", noting)
    ends = [store.begin_load(0, [PredictionId(name)]) for name in ("p1", "p2")]
    for number, (end, name) in enumerate(zip(ends, ("p1", "p2"), strict=True), start=1):
        changes = stepped(end(), Batch([prediction(name)]), until=number)
        store.begin_commit(0, store.cuts()[0], changes)()
    assert compared == []
    end = store.begin_load(0, [PredictionId("p3")])
    with client_of(valkey_url, namespace, buckets=BUCKETS) as other:
        write(other, prediction("p4"))
    store.begin_commit(0, store.cuts()[0], stepped(end(), Batch([prediction("p3")])))()
    assert compared == [True]


def test_a_commit_that_could_not_be_packed_leaves_later_ones_uncompared(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OverflowError("too large")

    with monkeypatch.context() as patched:
        patched.setattr(adapter, "_in_binary", fails)
        with pytest.raises(OverflowError, match="too large"):
            store.begin_commit(*prepared(store, 0, [prediction("p1")]))
    monkeypatch.setattr(RedisStore, "_olds", fails)
    write(store, prediction("p1"))
    write(store, prediction("p2"))


def test_a_store_that_was_closed_with_a_load_under_way_says_so(store: RedisStore) -> None:
    for _ in range(3):
        store.begin_load(0, [PredictionId("p1")])
    store.close()
    with pytest.raises(StoreError):
        store.cuts()


# What was lost


def test_everything_is_told_again_when_the_server_has_lost_its_data(
    store: RedisStore, server: "redis.Redis", valkey_url: str, namespace: str
) -> None:
    write(store, prediction("p1"))
    late = prepared(store, 0, [prediction("p2")])
    server.delete(*server.scan_iter(f"{{{namespace}*"))
    with pytest.raises(CommitConflict):
        store.commit(*late)
    write(store, prediction("p3"))
    with client_of(valkey_url, namespace, buckets=BUCKETS) as other:
        assert other.load(0, [PredictionId("p3")]) == {"p3": Entry(prediction("p3"))}
        assert other.slice_keys() == [SliceKey("ft", "ALL"), SliceKey("ft", "channel=web")]


def test_lost_names_are_told_with_a_remedy(
    store: RedisStore, server: "redis.Redis", valkey_url: str, namespace: str
) -> None:
    write(store, prediction())
    server.delete(f"{{{namespace}:0}}:names")
    with (
        client_of(valkey_url, namespace, buckets=BUCKETS) as other,
        pytest.raises(StoreError, match=f"{namespace} has lost .* set maxmemory-policy"),
    ):
        other.load(0, [PredictionId("p1")])


# The journal


def test_the_journal_is_a_stream_whose_ids_are_sequences(
    store: RedisStore, server: "redis.Redis", namespace: str
) -> None:
    added = journal(store, 3)
    held = server.xrange(f"{{{namespace}:rules}}:journal")
    assert held == [(b"%d-0" % one.sequence, {b"e": pack_journal_entry(one)}) for one in added]


@contextmanager
def keeping(entries: int, rewritten: int = 2) -> Iterator[None]:
    """As if a store kept so many journal entries."""
    script = scripts.EVALUATE.replace(
        f"{scripts.JOURNAL_ENTRIES}, {scripts.REWRITTEN_ENTRIES}", f"{entries}, {rewritten}"
    )
    assert script != scripts.EVALUATE
    # Exactly, and not by whole nodes of the stream, which hold a hundred entries.
    exact = script.replace("'MINID', '~'", "'MINID', '='")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scripts, "EVALUATE", exact)
        yield


@pytest.mark.parametrize(
    ("published", "kept"),
    [(0, 12), (3, 9), (8, 4), (12, 4)],
    ids=["nothing published", "some", "just what is kept", "all"],
)
def test_old_entries_are_dropped_once_they_are_published(
    valkey_url: str, namespace: str, published: int, kept: int
) -> None:
    with keeping(4), client_of(valkey_url, namespace, buckets=BUCKETS) as store:
        added = journal(store, 11)
        store.published(published, leased(store))
        added += journal(store, 1)
        assert store.journal() == added[-kept:]
        assert store.unpublished() == added[min(published, 11) :]


def test_an_entry_above_the_sequence_that_holds_is_replaced(
    store: RedisStore, server: "redis.Redis", valkey_url: str, namespace: str
) -> None:
    """It is left when a log is cut off in the middle of a script; a stream takes no lower id."""
    added = journal(store, 6)
    store.published(3, leased(store))
    server.xadd(f"{{{namespace}:rules}}:journal", {"e": pack_journal_entry(entry(9))}, "9-0")
    assert store.unpublished() == added[3:]
    for _ in range(5):
        added += journal(store, 1)
    assert store.journal() == added
    with keeping(100), client_of(valkey_url, namespace, buckets=BUCKETS) as other:
        server.xadd(f"{{{namespace}:rules}}:journal", {"e": pack_journal_entry(entry(99))}, "99-0")
        added += journal(other, 1)
        assert other.journal() == added[3:], "those that were not published are kept"
    store.published(12, leased(store))
    server.xadd(f"{{{namespace}:rules}}:journal", {"e": pack_journal_entry(entry(99))}, "99-0")
    with keeping(100), client_of(valkey_url, namespace, buckets=BUCKETS) as other:
        added += journal(other, 1)
        assert other.journal() == added[-2:]


def test_what_is_beyond_the_sequence_that_holds_does_not_count_as_published(
    store: RedisStore, server: "redis.Redis", namespace: str
) -> None:
    journal(store, 5)
    server.hset(f"{{{namespace}:rules}}:evaluation", "published", "50")
    assert store.unpublished() == []
    added = journal(store, 1)
    assert store.unpublished() == added
    store.published(99, leased(store))
    assert store.unpublished() == []
    added = journal(store, 2)
    assert store.unpublished() == added


def test_a_commit_without_room_for_a_journal_changes_nothing(
    store: RedisStore, server: "redis.Redis", namespace: str
) -> None:
    server.set(f"{{{namespace}:rules}}:journal", "not ours")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        journal(store, 1)
    assert store.evaluation() == Evaluation()


# Marks


def test_marks_of_a_shard_are_of_one_instant_while_others_commit(
    valkey_url: str, namespace: str
) -> None:
    with (
        client_of(valkey_url, namespace, buckets=BUCKETS) as writer,
        client_of(valkey_url, namespace, read_only=True) as reader,
    ):
        thread = threading.Thread(
            target=lambda: write(writer, *(prediction(f"p{number}") for number in range(400)))
        )
        thread.start()
        seen = set()
        while thread.is_alive():
            (mark,) = reader.marks()
            reached = sum(progress.next_offset for progress in mark.cut.values())
            assert mark.ledger.get("predictions.received", 0) == reached
            seen.add(reached)
        thread.join()
        assert len(seen) > 1


def test_a_shard_that_moved_in_between_is_asked_again(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, prediction("p1"))
    execute: Callable[..., list[object]] = redis.client.Pipeline.execute
    asked = []

    def executed(*arguments: object, **options: object) -> list[object]:
        asked.append(1)
        rows = execute(*arguments, **options)
        if len(asked) == 1:
            write(store, prediction("p2"))
            rows[2:] = execute_again(store)
        return rows

    def execute_again(store: RedisStore) -> list[object]:
        return [{b"predictions.received": b"2"}, {b"begun": b"2", b"ended": b"2"}]

    monkeypatch.setattr(redis.client.Pipeline, "execute", executed)
    (mark,) = store.marks()
    assert (
        [p.next_offset for p in mark.cut.values()] == [mark.ledger["predictions.received"]] == [2]
    )


# What is refused


@pytest.mark.parametrize(("field", "other"), [("shards", 4), ("buckets", 17)])
def test_a_namespace_of_another_shape_is_refused_with_the_remedy(
    store: RedisStore, valkey_url: str, namespace: str, field: str, other: int
) -> None:
    write(store, prediction())
    before = observed(store)
    held = {"shards": 1, "buckets": BUCKETS}
    shape = held | {field: other}
    with pytest.raises(StoreError) as error:
        RedisStore(
            RedisConnection(valkey_url),
            namespace,
            shards=shape["shards"],
            buckets=shape["buckets"],
        )
    assert str(error.value) == (
        f"{valkey_url}: namespace {namespace} was created with {field} {held[field]}, but {other} "
        f"is asked for; set redis.{field} to {held[field]}, or choose another redis.namespace"
    )
    with client_of(valkey_url, namespace, buckets=BUCKETS) as again:
        assert observed(again) == before


EVER = PaneKey(Clock.EVENT, ALL_TIME, 0, SliceKey("ft"))


def test_a_reader_shows_the_counts_of_a_namespace_that_was_made_anew(
    server: "redis.Redis", valkey_url: str, namespace: str
) -> None:
    with client_of(valkey_url, namespace, read_only=True) as reader:
        for predicted in ("fraud", "balance"):
            with client_of(valkey_url, namespace) as writer:
                write(writer, prediction(predicted=predicted))
            assert reader.panes([EVER], Part.ANSWERS)[0].predicted == {predicted: 1}
            server.delete(*server.keys(f"{{{namespace}:*"))
            assert reader.panes([EVER], Part.ANSWERS) == [Counts()]


def test_a_reader_shows_the_counts_of_a_server_that_went_back(
    server: "redis.Redis", valkey_url: str, namespace: str
) -> None:
    with client_of(valkey_url, namespace, read_only=True) as reader:
        with client_of(valkey_url, namespace) as writer:
            write(writer, prediction("p1"))
            kept = {key: server.dump(key) for key in server.keys(f"{{{namespace}:*")}
            write(writer, prediction("p2"))
        assert reader.panes([EVER], Part.ANSWERS)[0].predicted == {"fraud": 2}
        server.delete(*server.keys(f"{{{namespace}:*"))
        for key, held in kept.items():
            assert held is not None
            server.restore(key, 0, held)
        assert reader.panes([EVER], Part.ANSWERS)[0].predicted == {"fraud": 1}
        with client_of(valkey_url, namespace) as writer:
            write(writer, prediction("p3", predicted="balance"))
        # As many commits and predictions as were read before, but others.
        assert reader.panes([EVER], Part.ANSWERS)[0].predicted == {"fraud": 1, "balance": 1}


def test_parts_are_right_when_more_are_asked_for_than_are_kept(
    monkeypatch: pytest.MonkeyPatch, valkey_url: str, namespace: str
) -> None:
    monkeypatch.setattr(redis_panes, "MOST_HELD", 3 * redis_panes.PANE_WEIGHT)
    monkeypatch.setattr(redis_panes, "READ_AT_ONCE", 2)
    with client_of(valkey_url, namespace) as store:
        write(store, *(prediction(f"p{n}", at_ms=T0_MS + n * HOUR_MS) for n in range(5)))
        keys = store.pane_keys(HOUR_MS)
        expected = [counts.of_part(Part.ANSWERS) for counts in store.panes(keys)]
        assert [store.panes(keys, Part.ANSWERS) for _ in range(2)] == [expected, expected]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_namespace_of_another_format_is_refused(
    server: "redis.Redis", valkey_url: str, namespace: str, read_only: bool
) -> None:
    server.hset(f"{{{namespace}:meta}}", mapping={"format": 99, "shards": 1, "buckets": 4096})
    with pytest.raises(StoreError, match=f"namespace {namespace} was created with format 99"):
        RedisStore(RedisConnection(valkey_url), namespace, read_only=read_only)


def test_a_namespace_that_holds_something_else_is_refused(
    server: "redis.Redis", valkey_url: str, namespace: str
) -> None:
    server.set(f"{{{namespace}:meta}}", "not ours")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        RedisStore(RedisConnection(valkey_url), namespace)


@pytest.mark.parametrize("read_only", [False, True])
def test_settings_that_shape_the_counts_cannot_change_below_a_namespace(
    valkey_url: str, namespace: str, read_only: bool
) -> None:
    RedisStore(
        RedisConnection(valkey_url), namespace, shape={"slices": "variant", "windows.pane": "1m"}
    ).close()
    again = {"slices": "variant", "windows.pane": "1m"}
    RedisStore(RedisConnection(valkey_url), namespace, shape=again, read_only=read_only).close()
    with pytest.raises(StoreError, match="has counted with slices variant, but variant,channel"):
        RedisStore(
            RedisConnection(valkey_url),
            namespace,
            shape={"slices": "variant,channel", "windows.pane": "1m"},
            read_only=read_only,
        )


@pytest.mark.parametrize(("counted", "asked"), [(1.0, 0.1), (0.1, 1.0), (0.1, 0.2)])
def test_the_share_of_ids_that_is_counted_cannot_change_below_a_namespace(
    valkey_url: str, namespace: str, counted: float, asked: float
) -> None:
    before, after = (shape_of(Settings(sampling=share)) for share in (counted, asked))
    for _ in range(2):
        RedisStore(RedisConnection(valkey_url), namespace, shape=before).close()
    remedy = (
        f"has counted with sampling {counted}, but {asked} is asked for: old and new counts would "
        "not fit together. Take sampling back, or choose another redis.namespace"
    )
    with pytest.raises(StoreError, match=remedy):
        RedisStore(RedisConnection(valkey_url), namespace, shape=after)


def test_namespaces_do_not_see_each_other(store: RedisStore, valkey_url: str) -> None:
    write(store, prediction())
    with client_of(valkey_url, "a-namespace-beside") as other:
        assert other.ledger() == {}


# Names that share a code

CLASH = r"two names have the same code \(fraud / balance\); rename one"


@pytest.fixture
def one_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All names have the same code, as two of them have once in 500 million."""

    def code_of(name: str) -> bytes:
        return b"clash!" if name else b""

    monkeypatch.setattr(adapter, "code_of", code_of)
    monkeypatch.setattr(snapshots, "code_of", code_of)
    snapshots.codes_of.cache_clear()
    yield
    snapshots.codes_of.cache_clear()


def only(name: str, predicted: str) -> Prediction:
    """A prediction with a single name in it."""
    return prediction(name, predicted=predicted, variant="", slices=("",))


@pytest.mark.usefixtures("one_code")
def test_two_names_of_one_code_are_refused_and_nothing_is_written(
    store: RedisStore, server: "redis.Redis"
) -> None:
    write(store, only("p1", "fraud"))
    before = content_of(server)
    with pytest.raises(StoreError, match=CLASH):
        write(store, only("p2", "balance"))
    assert content_of(server) == before


@pytest.mark.usefixtures("one_code")
def test_two_names_of_one_code_are_refused_when_another_client_wrote_the_first(
    store: RedisStore, valkey_url: str, namespace: str
) -> None:
    write(store, only("p1", "fraud"))
    with (
        client_of(valkey_url, namespace, buckets=BUCKETS) as other,
        pytest.raises(StoreError, match=CLASH),
    ):
        other.commit(*prepared(other, 0, [only("p2", "balance")]))


@pytest.mark.usefixtures("one_code")
def test_two_names_of_one_code_are_refused_when_they_come_at_once(store: RedisStore) -> None:
    both = CLASH.replace("fraud / balance", "balance / fraud")
    with pytest.raises(StoreError, match=both):
        store.commit(*prepared(store, 0, [only("p1", "fraud"), only("p2", "balance")]))
    assert store.ledger() == {}


# Reading only


@pytest.fixture
def filled(store: RedisStore) -> RedisStore:
    write(store, prediction(), label(), label("p2"))
    evaluate(store, Evaluation(1, T0_MS))
    journal(store, 2, document="{}")
    store.beat(Heartbeat("w1", 1, 2, 3))
    return store


def test_a_read_only_store_sends_no_command_that_writes(
    filled: RedisStore, server: "redis.Redis", valkey_url: str, namespace: str
) -> None:
    """The server refuses this user anything but reading, also by a script."""
    commands = ["+@read", "+@connection", "+eval_ro"]
    server.acl_setuser(
        "reader", enabled=True, passwords=[f"+{SECRET}"], keys=["*"], commands=commands
    )
    before = content_of(server)
    address = valkey_url.replace("//", f"//reader:{SECRET}@")
    with client_of(address, namespace, read_only=True) as reader:
        for name, ask in QUESTIONS.items():
            assert ask(reader) == ask(filled), name
        with pytest.raises(StoreError, match="permissions"):
            reader.beat(Heartbeat("w1", 1, 2, 3))
    assert content_of(server) == before


def test_a_read_only_store_leaves_no_trace_of_an_unknown_namespace(
    server: "redis.Redis", valkey_url: str, namespace: str
) -> None:
    before = content_of(server)
    with client_of(valkey_url, namespace, shards=4, read_only=True) as reader:
        assert reader.shards == 4
        for ask in QUESTIONS.values():
            ask(reader)
    assert content_of(server) == before


def test_a_read_only_store_reads_a_namespace_of_any_shape(valkey_url: str, namespace: str) -> None:
    with client_of(valkey_url, namespace, shards=4, buckets=32) as store:
        write(store, *(prediction(f"p{number}") for number in range(20)))
        with client_of(valkey_url, namespace, read_only=True) as reader:
            assert reader.shards == 4
            assert observed(reader) == observed(store)


# What it costs


def test_a_pending_prediction_takes_at_most_a_hundred_bytes(
    server: "redis.Redis",
    valkey_url: str,
    namespace: str,
    record_property: Callable[[str, object], None],
) -> None:
    """20,000 of them in 200 buckets, with the 16 characters of a usual id and one slice."""
    number, batch = 20_000, 4_000
    names = [f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}" for n in range(number)]
    with client_of(valkey_url, namespace, buckets=200) as store:
        for start in range(0, number, batch):
            said = [prediction(names[n], at_ms=T0_MS + 40 * n) for n in range(start, start + batch)]
            store.commit(*prepared(store, 0, said))
    used = sum(
        server.memory_usage(key, samples=0) or 0
        for key in server.scan_iter(f"{{{namespace}:0}}:e:*", count=1_000)
    )
    record_property("bytes_per_pending_prediction", used / number)
    assert 50 <= used / number <= 100


def test_swept_entries_leave_no_key_behind(
    store: RedisStore, server: "redis.Redis", namespace: str
) -> None:
    write(store, *(prediction(f"p{number}") for number in range(50)))
    assert list(server.scan_iter(f"{{{namespace}:0}}:e:*"))
    sweep_all(store, END_MS)
    assert not list(server.scan_iter(f"{{{namespace}:0}}:e:*"))


# The lease


def test_another_worker_takes_over_when_the_lease_has_run_out(
    store: RedisStore, valkey_url: str, namespace: str
) -> None:
    first = store.lead("w1", 1)
    assert first is not None
    with client_of(valkey_url, namespace, buckets=BUCKETS) as other:
        deadline = monotonic() + PATIENCE_S
        while (second := other.lead("w2", LEASE_MS)) is None:
            assert monotonic() < deadline
        assert second == Lease("w2", first.fence + 1)
        with pytest.raises(CommitConflict, match="fence 2 was given to w2"):
            store.commit_evaluation(Evaluation(1), [], first)


def test_a_lease_that_has_run_out_counts_until_another_worker_takes_over(
    store: RedisStore, server: "redis.Redis"
) -> None:
    lease = store.lead("w1", 1)
    assert lease is not None
    seconds, micros = server.time()
    while server.time() <= (seconds, micros + 2_000):
        pass
    store.commit_evaluation(Evaluation(1), [], lease)
    assert store.evaluation() == Evaluation(1)


def test_nothing_that_is_written_expires(
    filled: RedisStore, server: "redis.Redis", namespace: str
) -> None:
    filled.delivered([], leased(filled))
    filled.sweep(T0_MS, HORIZON_MS)
    keys = list(server.scan_iter(f"{{{namespace}:*"))
    assert len(keys) > 10
    assert {server.ttl(key) for key in keys} == {-1}


def test_transitions_that_were_read_are_not_read_again(
    store: RedisStore, server: "redis.Redis"
) -> None:
    moves = [replace(transition(1), id=f"t-{number}") for number in range(40)]
    evaluate(store, Evaluation(1), *moves)
    first = store.transitions()
    evaluate(store, Evaluation(2), transition(2))
    before = server.info("stats")["total_net_output_bytes"]
    again = store.transitions()
    sent = server.info("stats")["total_net_output_bytes"] - before
    assert again == [*moves, transition(2)]
    assert all(old is new for old, new in zip(first, again, strict=False))
    assert sent < sum(len(snapshots.pack_transition(move)) for move in moves)


def test_transitions_are_all_read_again_when_the_last_one_known_is_another_one(
    store: RedisStore, server: "redis.Redis"
) -> None:
    evaluate(store, Evaluation(1), transition(1), transition(2))
    assert store.transitions() == [transition(1), transition(2)]
    key = store._space.rules_key("transitions")
    server.delete(key)
    others = [replace(transition(3), id=f"t-{number}") for number in range(3)]
    server.rpush(key, *map(snapshots.pack_transition, others))
    assert store.transitions() == others
    server.delete(key)
    assert store.transitions() == []
