"""State <-> canonical bytes, and digests. Same state, same bytes: sorted, no floats, versioned."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from monitor.codec.vocabulary import code_of
from monitor.domain.alerts import AlertKey, AlertState, Transition, Vote
from monitor.domain.counts import Counts, without_zeros
from monitor.domain.events import Label, Prediction, PredictionId
from monitor.domain.join import HOUR_MS, Entry
from monitor.domain.slices import SliceKey
from monitor.domain.windows import PaneKey

DIGEST_VERSION = 1
FORMAT_VERSION = 1
"""Version of the packed forms; a store of another version is refused."""

HOUR_BYTES = 3
"""Bytes in front of a packed entry: its anchor hour since the epoch, big-endian."""

_LAST_HOUR = (1 << 8 * HOUR_BYTES) - 1

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
) -> str:
    """``sha256:...`` of everything that a replay of the same records must reproduce.

    Left out is what depends on how the records were read: partitions, offsets, batches, shards.
    """
    sha = hashlib.sha256(f"recallwatch digest {DIGEST_VERSION}\n".encode())
    sha.update(canonical({name: count for name, count in ledger.items() if count}))
    for pane, counts in sorted(panes, key=lambda item: item[0]):
        cells = [[*cell, count] for cell, count in without_zeros(counts.cells).items()]
        if cells:
            sha.update(canonical([pane.clock, pane.size_ms, pane.start_ms, *pane.key, cells]))
    for transition in transitions:
        sha.update(canonical(_transition_facts(transition)))
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
    ]


def pack_entry(entry: Entry) -> bytes:
    """One entry as bytes: three bytes for the hour it is counted from, then a MessagePack array.

    Names are codes of ``vocabulary``. The hour stands in front so that a store can find what has
    expired without decoding it.
    """
    prediction, labels = entry
    facts: tuple[object, ...] | None = None
    if prediction is not None:
        _, event_ms, log_ms, variant, predicted, slices, latency, relevance = prediction
        facts = (
            event_ms,
            log_ms - event_ms,
            code_of(variant),
            code_of(predicted),
            tuple(map(code_of, slices)),
            latency,
            relevance,
        )
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
        event_ms, log_delta, variant, predicted, slices, latency, relevance = facts
        prediction = Prediction(
            prediction_id,
            event_ms,
            event_ms + log_delta,
            name_of(variant),
            name_of(predicted),
            tuple(map(name_of, slices)),
            latency,
            relevance,
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
    states: list[tuple[str, SliceKey, AlertState]]
    releasing: tuple[Vote, ...]


def pack_evaluation(
    sequence: int,
    watermark_ms: int | None,
    states: Mapping[AlertKey, AlertState],
    releasing: tuple[Vote, ...],
) -> bytes:
    """What the evaluator knows, as canonical JSON."""
    rows = [(rule, key, state) for (rule, key), state in sorted(states.items(), key=_by_key)]
    return msgspec.json.encode(_EvaluationDocument(sequence, watermark_ms, rows, releasing))


def unpack_evaluation(
    data: bytes,
) -> tuple[int, int | None, dict[AlertKey, AlertState], tuple[Vote, ...]]:
    """What ``pack_evaluation`` packed."""
    document = msgspec.json.decode(data, type=_EvaluationDocument)
    states = {(rule, key): state for rule, key, state in document.states}
    return document.sequence, document.watermark_ms, states, document.releasing


def pack_vote(vote: Vote) -> bytes:
    """A waiting vote as JSON; equal votes give equal bytes."""
    return msgspec.json.encode(vote)


def unpack_vote(data: bytes) -> Vote:
    """What ``pack_vote`` packed."""
    return msgspec.json.decode(data, type=Vote)


def pack_transition(transition: Transition) -> bytes:
    """A transition as JSON."""
    return msgspec.json.encode(transition)


def unpack_transition(data: bytes) -> Transition:
    """What ``pack_transition`` packed."""
    return msgspec.json.decode(data, type=Transition)


def _by_key(item: tuple[AlertKey, AlertState]) -> AlertKey:
    return item[0]
