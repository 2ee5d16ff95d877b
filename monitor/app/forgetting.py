"""What ``recallwatch forget`` does: predictions are forgotten by the store and by archives.

The store's part is a request, which the evaluator carries out between two evaluations, so that the
journal can say at which place of the log it was done. Where no worker evaluates, the command takes
that office itself.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any, NamedTuple

from monitor import __version__
from monitor.adapters.archive import Redacted, open_archive
from monitor.adapters.kafka import KafkaTopics
from monitor.adapters.memory import MemoryLog
from monitor.app.archive import kept_by
from monitor.app.brokers import connection_of
from monitor.app.flow import Flow, Provenance
from monitor.app.report import iso
from monitor.app.settings import Settings
from monitor.app.settings.values import format_duration
from monitor.app.wiring import codec_of, limits_of, provenance_of, spec_of, topics_of
from monitor.codec.journal import forgotten_hash
from monitor.domain import overlays
from monitor.domain.errors import BrokerError, StoreError
from monitor.domain.events import PredictionId
from monitor.domain.forgetting import MOST_IDS, Request
from monitor.domain.overlays import Deed
from monitor.ports import Clock, StateReader, StateStore

PATIENCE_MS = 60_000
"""How long a worker that evaluates is waited for."""

LOOK_S = 0.2
REQUEST_BYTES = 8


@dataclass
class Forgot:
    """What came of it. ``known`` are the ids of which the store held something."""

    asked: int
    known: int = 0
    requests: list[str] = field(default_factory=list)
    archives: dict[str, Redacted] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Whether any of the ids was found anywhere."""
        return self.known > 0 or any(each.positions for each in self.archives.values())


class Asked(NamedTuple):
    """Who wants what to be forgotten, and why."""

    ids: Sequence[PredictionId]
    who: str
    note: str


def enter(store: StateStore, asked: Asked, now_ms: int) -> list[Request]:
    """Enter requests for these ids, and who made them; nobody has carried them out yet."""
    entered, ids = [], iter(sorted(set(asked.ids)))
    while part := tuple(islice(ids, MOST_IDS)):
        request = Request(secrets.token_hex(REQUEST_BYTES), part)
        store.ask_to_forget(request)
        hashes = tuple(sorted(forgotten_hash(request.id, key) for key in part))
        store.act(
            overlays.forget(
                action_id=request.id, hashes=hashes, who=asked.who, note=asked.note, at_ms=now_ms
            )
        )
        entered.append(request)
    return entered


def await_all(
    store: StateStore,
    settings: Settings,
    requests: Iterable[Request],
    *,
    clock: Clock,
    wait: Callable[[float], object],
) -> None:
    """Return once all are carried out, by the worker that evaluates or, if none does, by us.

    StoreError when a worker evaluates, but does not carry them out.
    """
    wanted, began_ms = {request.id for request in requests}, clock.now_ms()
    flow = _evaluator(store, settings)
    try:
        while wanted & {request.id for request in store.to_forget()}:
            if clock.now_ms() - began_ms > PATIENCE_MS:
                raise StoreError(
                    "a worker evaluates, but has not carried out the request in "
                    f"{PATIENCE_MS // 1000} s: its release may not know how. The request stands, "
                    "and the next worker that does carries it out; or stop the workers, and give "
                    "the command again"
                )
            flow.forget()
            if wanted & {request.id for request in store.to_forget()}:
                wait(LOOK_S)
    finally:
        flow.resign()


def _evaluator(store: StateStore, settings: Settings) -> Flow:
    """A flow that reads nothing: it can only be the evaluator."""
    topics = dict.fromkeys(topics_of(settings).values(), 1)
    flow = Flow(
        spec_of(settings),
        codec_of(settings),
        MemoryLog(topics),
        store,
        limits=limits_of(settings),
        worker=f"forget-{secrets.token_hex(REQUEST_BYTES)}",
    )
    flow.provenance = _provenance(store, settings)
    return flow


def _provenance(store: StateReader, settings: Settings) -> Provenance:
    """That of the last evaluation: what is counted meanwhile is counted under those settings."""
    last = store.journal(max(0, store.evaluation().sequence - 1))
    document = store.documents().get(last[-1].settings) if last else None
    return Provenance(document, __version__) if document else provenance_of(settings)


def history_of(store: StateReader) -> list[dict[str, Any]]:
    """Every request there ever was, oldest first, as JSON; of ids the hashes alone."""
    waiting = {request.id for request in store.to_forget()}
    return [
        {
            "id": action.id,
            "at": iso(action.at_ms),
            "who": action.who,
            "note": action.note,
            "is_carried_out": action.id not in waiting,
            "hashes": list(action.hashes),
        }
        for action in store.actions()
        if action.deed is Deed.FORGET
    ]


def archived(settings: Settings, place: str, ids: Set[str]) -> int:
    """Records of these ids in an archive whose content is still there."""
    archive = open_archive(place)
    gone = archive.redacted()
    kept = {archive.manifest.topics[str(kind)]: what for kind, what in kept_by(settings).items()}
    found = 0
    for partition, source in archive.sources().items():
        id_of = kept[partition.topic].id_of
        try:
            while chunk := source.read():
                found += sum(
                    record.value is not None
                    and id_of(record.value) in ids
                    and record.position not in gone
                    for record in chunk
                )
        finally:
            source.close()
    return found


def kafka_lines(settings: Settings) -> Iterator[str]:
    """How long Kafka keeps what nobody can take out of it, topic by topic."""
    names = [*topics_of(settings).values(), settings.kafka.dead_letters.topic]
    try:
        with KafkaTopics(connection_of(settings)) as topics:
            known = topics.describe(names)
    except BrokerError as error:
        yield f"how long the topics keep records is not known: {error}"
        return
    for name in names:
        if name in known:
            yield f"topic {name}: records are {_kept(known[name].retention_ms)}"


def _kept(retention_ms: int | None) -> str:
    if retention_ms is None:
        return "kept for a time that the broker does not tell (retention.ms)"
    if retention_ms < 0:
        return "kept for ever (retention.ms=-1): only deleting the topic removes them"
    return f"dropped when they are {format_duration(timedelta(milliseconds=retention_ms))} old"


def lines_of(done: Forgot) -> Iterator[str]:
    """What was done, in words."""
    by = f", by request {', '.join(done.requests)}" if done.requests else ""
    yield f"store     {done.known} of {done.asked} predictions forgotten{by}"
    for place, redacted in done.archives.items():
        yield f"archive   {place}: {len(redacted.positions)} records redacted"
        yield f"digest    {redacted.digest}"
        for position in redacted.unreadable:
            yield f"left      {position}: mentions an id, but is no JSON; see docs/forgetting.md"


def document_of(done: Forgot, kafka: Iterable[str]) -> dict[str, object]:
    """What was done, as JSON."""
    return {
        "asked": done.asked,
        "forgotten": done.known,
        "requests": done.requests,
        "archives": [
            {
                "place": place,
                "redacted": [str(each) for each in redacted.positions],
                "left": [str(each) for each in redacted.unreadable],
                "digest": redacted.digest,
            }
            for place, redacted in done.archives.items()
        ],
        "kafka": list(kafka),
    }
