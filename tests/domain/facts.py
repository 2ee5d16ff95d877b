"""Random facts about few predictions at few instants, so that they meet, tie and collide."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from monitor.adapters.memory import MemoryStore
from monitor.domain import engine, ledger
from monitor.domain.counts import Cells
from monitor.domain.cut import Progress
from monitor.domain.engine import Spec
from monitor.domain.events import Batch, Envelope, Kind, Label, Partition, Prediction, Rejected
from monitor.domain.events import Reason as RejectReason
from monitor.domain.join import HOUR_MS, expiry_ms
from monitor.domain.votes import Vote
from monitor.domain.windows import ALL_TIME, PaneKey
from tests.builders import T0, envelope, label, prediction

HORIZON_MS = 2 * HOUR_MS
EXPIRY_MS = expiry_ms(T0, HORIZON_MS)
FOREVER_MS = T0 + 1_000 * HOUR_MS

REPEATABLE = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.too_slow],
)
"""The same examples in every run: a test that fails once fails always."""

_MICROS = st.sampled_from([None, 0, 250_000, 1_000_000])
_INTENTS = st.sampled_from(["lost_card", "report_fraud", "balance", "greeting"])
_LOG_MS = st.sampled_from(
    [
        T0 - HOUR_MS,
        T0 + 99,
        T0 + 100,
        T0 + 101,
        T0 + HOUR_MS,
        EXPIRY_MS - 1,
        EXPIRY_MS,
        EXPIRY_MS + 1,
    ]
)


def predictions(ids: Sequence[str]) -> st.SearchStrategy[Prediction]:
    """Copies that agree and copies that do not, some of them past the horizon."""
    return st.builds(
        prediction,
        st.sampled_from(ids),
        _INTENTS,
        at_ms=st.sampled_from([T0, T0 + HOUR_MS - 1, T0 + HOUR_MS]),
        log_ms=_LOG_MS,
        variant=st.sampled_from(["fine_tuned", "prompt"]),
        slices=st.sampled_from([("web",), ("voice",), ("",)]),
        latency_bucket=st.sampled_from([None, 100, 200]),
        relevance_micros=_MICROS,
    )


def labels(ids: Sequence[str]) -> st.SearchStrategy[Label]:
    """Early and late, corrected and withdrawn, copied with equal and with different content."""
    return st.builds(
        label,
        st.sampled_from(ids),
        _INTENTS,
        at_ms=st.sampled_from([T0 - 1, T0 + 5, T0 + HOUR_MS]),
        log_ms=_LOG_MS,
        key=st.sampled_from(["a", "b", "c"]),
        revision=st.integers(1, 3),
        withdrawn=st.booleans(),
        relevance_micros=_MICROS,
    )


def facts(ids: Sequence[str] = ("p1",)) -> st.SearchStrategy[Prediction | Label]:
    """Either."""
    return st.one_of(predictions(ids), labels(ids))


def streams(ids: Sequence[str] = ("p1", "p2")) -> st.SearchStrategy[list[Envelope]]:
    """Envelopes with redelivered copies among them, and rejected records."""
    rejected = st.builds(Rejected, st.sampled_from(RejectReason), st.just("for a test"))
    single = st.one_of(
        st.builds(envelope, facts(ids)),
        st.builds(envelope, rejected, kind=st.sampled_from(Kind)),
    )
    return st.lists(single, max_size=14).flatmap(
        lambda known: (
            st.lists(st.sampled_from(known), max_size=3).map(lambda again: known + again)
            if known
            else st.just(known)
        )
    )


@dataclass(frozen=True)
class Sums:
    """All that a stream leaves behind: what must not depend on how it was read."""

    cells: dict[PaneKey, Cells]
    ledger: dict[str, int]
    waiting: list[Vote]


def carry(store: MemoryStore, spec: Spec, batch: Sequence[Envelope]) -> engine.Changes:
    """One step over one batch, committed; the cut is a count of batches."""
    (cut,) = store.cuts()
    partition = Partition("predictions", 0)
    read = cut[partition].next_offset if partition in cut else 0
    facts = Batch.of(batch)
    changes = engine.step(
        spec,
        store.load(0, engine.ids_of(facts)),
        facts,
        progress={partition: Progress(read + len(batch))},
        watermark_ms=None,
    )
    store.commit(0, cut, changes)
    return changes


def carried(spec: Spec, batches: Iterable[Sequence[Envelope]]) -> MemoryStore:
    """A store after all ``batches``."""
    store = MemoryStore()
    for batch in batches:
        carry(store, spec, batch)
    return store


def sums_of(store: MemoryStore, spec: Spec) -> Sums:
    """What the store holds, empty panes left out."""
    keys = [key for size in (*spec.windows.keep_ms, ALL_TIME) for key in store.pane_keys(size)]
    cells = {key: counts.cells for key, counts in zip(keys, store.panes(keys), strict=True)}
    return Sums(
        {key: held for key, held in cells.items() if held},
        dict(store.ledger()),
        store.waiting(FOREVER_MS),
    )


def differences(books: ledger.Ledger, watermark_ms: int) -> tuple[int, int]:
    """By how much the two sides of the books do not balance."""
    first, second = (
        ledger.balance_of(books, kind, watermark_ms=watermark_ms, horizon_ms=HORIZON_MS).difference
        for kind in Kind
    )
    return first, second
