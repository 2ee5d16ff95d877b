"""State <-> canonical bytes, and digests. Same state, same bytes: sorted, no floats, versioned."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from monitor.codec.vocabulary import NOTHING, code_of
from monitor.domain import ledger as books
from monitor.domain.alerts import AlertKey, AlertState, Transition
from monitor.domain.counts import Counts, without_zeros
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import Label, Prediction, PredictionId, Traits
from monitor.domain.join import HOUR_MS, Entry
from monitor.domain.maturity import MaturityBook
from monitor.domain.misses import Miss
from monitor.domain.overlays import Action
from monitor.domain.pairing import PairBook
from monitor.domain.pairs import PairKey, PairState, Side
from monitor.domain.signals import SignalKey, SignalState
from monitor.domain.votes import Vote
from monitor.domain.windows import PaneKey

DIGEST_VERSION = 2
FORMAT_VERSION = 3
"""Version of the packed forms; a store of another version is refused."""

HOUR_BYTES = 3
"""Bytes in front of a packed entry: its anchor hour since the epoch, big-endian."""

_LAST_HOUR = (1 << 8 * HOUR_BYTES) - 1

_Name = TypeVar("_Name")
_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


def canonical(value: object) -> bytes:
    """JSON with sorted keys, no spaces and no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_of(
    ledger: Mapping[str, int],
    panes: Iterable[tuple[PaneKey, Counts]],
    transitions: Sequence[Transition],
    pairs: Mapping[str, PairBook] | None = None,
) -> str:
    """``sha256:...`` of everything that a replay of the same records must reproduce.

    Left out is what depends on how the records were read: partitions, offsets, batches, shards.
    """
    sha = hashlib.sha256(f"recallwatch digest {DIGEST_VERSION}\n".encode())
    kept = {name: count for name, count in ledger.items() if count and not books.is_input(name)}
    sha.update(canonical(kept))
    for pane, counts in sorted(panes, key=lambda item: item[0]):
        cells = [[*cell, count] for cell, count in without_zeros(counts.cells).items()]
        if cells:
            sha.update(canonical([pane.clock, pane.size_ms, pane.start_ms, *pane.key, cells]))
    for transition in transitions:
        sha.update(canonical(_transition_facts(transition)))
    if pairs:
        sha.update(pack_pairs(pairs))
    return f"sha256:{sha.hexdigest()}"


def _transition_facts(transition: Transition) -> list[object]:
    evidence = transition.evidence
    return [
        transition.id,
        transition.rule,
        *transition.key,
        transition.moved_from,
        transition.moved_to,
        transition.at_ms,
        None if evidence is None else [evidence.hits, evidence.n, evidence.since_ms],
        transition.version,
        transition.event,
        transition.judges,
    ]


def pack_entry(entry: Entry) -> bytes:
    """One entry as bytes: three bytes for the hour it is counted from, then a MessagePack array.

    Names are codes of ``vocabulary``. The hour stands in front so that a store can find what has
    expired without decoding it.
    """
    prediction, labels = entry
    facts: tuple[object, ...] | None = None
    if prediction is not None:
        _, event_ms, log_ms, traits, latency, relevance, conversation, request = prediction
        variant, predicted, slices, version, scores = traits
        facts = (
            event_ms,
            log_ms - event_ms,
            code_of(variant),
            code_of(predicted),
            tuple(map(code_of, slices)),
            latency,
            relevance,
        )
        if version or conversation or scores or request:
            named = tuple((code_of(name), number) for name, number in scores)
            facts += (code_of(version), bytes.fromhex(conversation), named)
        if request:
            facts += (bytes.fromhex(request),)
    truths = tuple(
        (
            code_of(label.actual),
            label.label_ms,
            label.log_ms - label.label_ms,
            label.label_key,
            label.revision,
            label.withdrawn,
            label.relevance_micros,
        )
        for label in labels
    )
    packed = _pack((facts, truths) if truths else (facts,))
    return anchor_hour(entry).to_bytes(HOUR_BYTES, "big") + packed


def unpack_entry(
    prediction_id: PredictionId, data: bytes, name_of: Callable[[bytes], str]
) -> Entry:
    """What ``pack_entry`` packed; ``name_of`` turns codes back into names."""
    facts, *rest = _unpack(data[HOUR_BYTES:])
    prediction = None
    if facts is not None:
        event_ms, log_delta, variant, predicted, slices, latency, relevance, *more = facts
        version, conversation, scores, *last = more or (NOTHING, b"", ())
        traits = Traits(
            name_of(variant),
            name_of(predicted),
            tuple(map(name_of, slices)),
            name_of(version),
            tuple((name_of(code), number) for code, number in scores),
        )
        prediction = Prediction(
            prediction_id,
            event_ms,
            event_ms + log_delta,
            traits,
            latency,
            relevance,
            conversation.hex(),
            last[0].hex() if last else "",
        )
    labels = tuple(
        Label(
            prediction_id,
            name_of(actual),
            label_ms,
            label_ms + delta,
            key,
            revision,
            withdrawn,
            micros,
        )
        for actual, label_ms, delta, key, revision, withdrawn, micros in (rest[0] if rest else ())
    )
    return Entry(prediction, labels)


def names_in(entry: Entry) -> Iterator[str]:
    """Every name that ``pack_entry`` writes as a code."""
    if entry.prediction is not None:
        yield entry.prediction.variant
        yield entry.prediction.predicted
        yield from entry.prediction.slices
        yield entry.prediction.version
        for name, _ in entry.prediction.scores:
            yield name
    for label in entry.labels:
        yield label.actual


def anchor_hour(entry: Entry) -> int:
    """The hour since the epoch from which the entry's expiry counts; within three bytes.

    Log time is what a producer wrote, unless the topic is set to LogAppendTime: it may be -1 or
    in the wrong unit.
    """
    if entry.prediction is not None:
        instant_ms = entry.prediction.event_ms
    else:
        instant_ms = max(label.log_ms for label in entry.labels)
    return min(max(instant_ms // HOUR_MS, 0), _LAST_HOUR)


class _EvaluationDocument(msgspec.Struct, array_like=True):
    sequence: int
    watermark_ms: int | None
    states: list[tuple[AlertKey, AlertState]]
    releasing: tuple[Vote, ...]
    holding: tuple[Vote, ...]
    books: list[tuple[str, MaturityBook]]
    signals: list[tuple[SignalKey, SignalState]]
    chain: str = ""


class _BookDocument(msgspec.Struct, array_like=True):
    pairs: list[tuple[PairKey, PairState]]
    sides: list[tuple[Side, int]]
    waiting: list[tuple[int, int]]
    unpaired: int
    repeated: int
    related: int
    corrected: int


class _PairedDocument(_EvaluationDocument, array_like=True):
    """With comparisons, if there are any: else it is what it was before there were."""

    pairs: list[tuple[str, _BookDocument]] = []


def pack_evaluation(evaluation: Evaluation) -> bytes:
    """What the evaluator knows, as canonical JSON; a float is written so that it is read alike."""
    told = (
        evaluation.sequence,
        evaluation.watermark_ms,
        sorted(evaluation.states.items(), key=_first),
        evaluation.releasing,
        evaluation.holding,
        sorted(evaluation.books.items(), key=_first),
        sorted(evaluation.signals.items(), key=_first),
        evaluation.chain,
    )
    if not evaluation.pairs:
        return _encode(_EvaluationDocument(*told))
    pairs = [(name, _document_of(book)) for name, book in sorted(evaluation.pairs.items())]
    return _encode(_PairedDocument(*told, pairs))


def _document_of(book: PairBook) -> _BookDocument:
    return _BookDocument(
        sorted(book.pairs.items(), key=_first),
        sorted(book.sides.items()),
        sorted(book.waiting.items()),
        book.unpaired,
        book.repeated,
        book.related,
        book.corrected,
    )


def _book_of(document: _BookDocument) -> PairBook:
    return PairBook(
        dict(document.pairs),
        dict(document.sides),
        dict(document.waiting),
        document.unpaired,
        document.repeated,
        document.related,
        document.corrected,
    )


def pack_pairs(pairs: Mapping[str, PairBook]) -> bytes:
    """Comparisons alone, as canonical JSON."""
    return _encode([(name, _document_of(book)) for name, book in sorted(pairs.items())])


def unpack_evaluation(data: bytes) -> Evaluation:
    """What ``pack_evaluation`` packed."""
    document = msgspec.json.decode(data, type=_PairedDocument)
    return Evaluation(
        document.sequence,
        document.watermark_ms,
        dict(document.states),
        document.releasing,
        document.holding,
        dict(document.books),
        dict(document.signals),
        document.chain,
        {name: _book_of(book) for name, book in document.pairs},
    )


def pack_vote(vote: Vote) -> bytes:
    """A waiting vote as JSON; equal votes give equal bytes.

    A vote without a request is what it was before there were comparisons: stores hold such.
    """
    return _encode(vote if vote.request else vote[:-1])


def unpack_vote(data: bytes) -> Vote:
    """What ``pack_vote`` packed."""
    return msgspec.json.decode(data, type=Vote)


def pack_miss(miss: Miss) -> bytes:
    """A miss as JSON; equal misses give equal bytes."""
    return msgspec.json.encode(miss)


def unpack_miss(data: bytes) -> Miss:
    """What ``pack_miss`` packed."""
    return msgspec.json.decode(data, type=Miss)


def pack_transition(transition: Transition) -> bytes:
    """A transition as JSON."""
    return msgspec.json.encode(transition)


def unpack_transition(data: bytes) -> Transition:
    """What ``pack_transition`` packed."""
    return msgspec.json.decode(data, type=Transition)


def pack_action(action: Action) -> bytes:
    """What somebody did, as JSON."""
    return msgspec.json.encode(action)


def unpack_action(data: bytes) -> Action:
    """What ``pack_action`` packed."""
    return msgspec.json.decode(data, type=Action)


def _first(item: tuple[_Name, object]) -> _Name:
    return item[0]
