"""State <-> canonical bytes, and digests. Same state, same bytes: sorted, no floats, versioned."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
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
FORMAT_VERSION = 4
"""Version of the packed forms; a store of another version is refused."""

HOUR_BYTES = 3
"""Bytes in front of a packed entry: its anchor hour since the epoch, big-endian."""

_TWO = b"\x92"
"""How an array of two begins in MessagePack, where that of one begins with another byte."""

_LAST_HOUR = (1 << 8 * HOUR_BYTES) - 1

_Name = TypeVar("_Name")
_make = tuple.__new__  # A NamedTuple's own constructor takes twice as long.
_encode = msgspec.json.Encoder().encode
_vote_of = msgspec.json.Decoder(Vote).decode
_miss_of = msgspec.json.Decoder(Miss).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


Known = Mapping[PredictionId, tuple[Entry, bytes]]
"""Entries, and what they are packed as."""


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
        variant, predicted, slices, version, scores = codes_of(traits)
        facts = event_ms, log_ms - event_ms, variant, predicted, slices, latency, relevance
        if version or conversation or scores or request:
            facts += (version, bytes.fromhex(conversation), scores)
        if request:
            facts += (bytes.fromhex(request),)
    packed = _pack((facts, list(map(_truth_of, labels))) if labels else (facts,))
    return anchor_hour(entry).to_bytes(HOUR_BYTES, "big") + packed


def pack_entries(entries: Mapping[PredictionId, Entry], known: Known) -> list[bytes]:
    """``pack_entry`` of each, most of them in half the time.

    What is ``known`` of a prediction without labels is not packed anew once it has some.
    """
    hours, codes = dict[int, bytes](), dict[int, _Codes]()
    packed: list[bytes] = []
    for key, entry in entries.items():
        said, labels = entry
        if labels and said is not None and key in known and known[key][0] == (said, ()):
            packed.append(_labelled(known[key][1], labels))
            continue
        if said is None or said[7]:
            packed.append(pack_entry(entry))
            continue
        _, event_ms, log_ms, traits, latency, relevance, conversation, _ = said
        # By identity: traits are shared, and to hash them takes longer than to look twice.
        mark = id(traits)
        if mark not in codes:
            codes[mark] = codes_of(traits)
        variant, predicted, slices, version, scores = codes[mark]
        facts: tuple[object, ...]
        if version or conversation or scores:
            told = bytes.fromhex(conversation) if conversation else b""
            facts = (
                *(event_ms, log_ms - event_ms, variant, predicted, slices, latency, relevance),
                *(version, told, scores),
            )
        else:
            facts = event_ms, log_ms - event_ms, variant, predicted, slices, latency, relevance
        hour = event_ms // HOUR_MS
        if hour not in hours:
            hours[hour] = anchor_hour(entry).to_bytes(HOUR_BYTES, "big")
        truths = (facts, list(map(_truth_of, labels))) if labels else (facts,)
        packed.append(hours[hour] + _pack(truths))
    return packed


def _labelled(pending: bytes, labels: Sequence[Label]) -> bytes:
    """An entry with labels, from what it was packed as when there were none."""
    hour, facts = pending[:HOUR_BYTES], pending[HOUR_BYTES + 1 :]
    return b"".join((hour, _TWO, facts, _pack(list(map(_truth_of, labels)))))


_Scores = tuple[tuple[bytes, int], ...]
_Codes = tuple[bytes, bytes, tuple[bytes, ...], bytes, _Scores]


@lru_cache(maxsize=100_000)
def codes_of(traits: Traits) -> _Codes:
    """The codes of all names in traits."""
    variant, predicted, slices, version, scores = traits
    return (
        code_of(variant),
        code_of(predicted),
        tuple(map(code_of, slices)),
        code_of(version),
        tuple((code_of(name), number) for name, number in scores),
    )


def _truth_of(label: Label) -> tuple[object, ...]:
    _, actual, label_ms, log_ms, key, revision, withdrawn, micros = label
    return code_of(actual), label_ms, log_ms - label_ms, key, revision, withdrawn, micros


class _Facts(msgspec.Struct, array_like=True, gc=False):
    """What is packed of a prediction; what most lack stands last, and may be left out."""

    event_ms: int
    log_delta: int
    variant: bytes
    predicted: bytes
    slices: tuple[bytes, ...]
    latency: int | None
    relevance: int | None
    version: bytes = NOTHING
    conversation: bytes = b""
    scores: _Scores = ()
    request: bytes = b""


_Truth = tuple[bytes, int, int, str, int, bool, int | None]


class _Packed(msgspec.Struct, array_like=True, gc=False):
    facts: _Facts | None
    truths: tuple[_Truth, ...] = ()


_unpack_entry = msgspec.msgpack.Decoder(_Packed).decode


class Unpacker:
    """Turns back what ``pack_entry`` packed, many at once; ``name_of`` turns codes back into names.

    Traits that are alike are one object, as those that the codec makes are.
    """

    MOST = 100_000
    """Traits that are remembered; then it is begun anew."""

    def __init__(self, name_of: Callable[[bytes], str]) -> None:
        self._name_of = name_of
        self._traits: dict[object, Traits] = {}

    def entries(self, packed: Mapping[PredictionId, bytes]) -> dict[PredictionId, Entry]:
        """One entry of each id. Whatever ``name_of`` raises for a code that it does not know."""
        known, entries, decode = self._traits, dict[PredictionId, Entry](), _unpack_entry
        for key, data in packed.items():
            row = decode(data[HOUR_BYTES:])
            facts, truths = row.facts, row.truths
            prediction = None
            if facts is not None:
                codes = facts.variant, facts.predicted, facts.slices, facts.version, facts.scores
                event_ms, conversation, request = facts.event_ms, facts.conversation, facts.request
                said = (
                    key,
                    event_ms,
                    event_ms + facts.log_delta,
                    known.get(codes) or self._named(codes),
                    facts.latency,
                    facts.relevance,
                    conversation.hex() if conversation else "",
                    request.hex() if request else "",
                )
                prediction = _make(Prediction, said)
            labels = tuple([self._label(key, truth) for truth in truths]) if truths else ()
            entries[key] = _make(Entry, (prediction, labels))
        return entries

    def _label(self, prediction_id: PredictionId, truth: _Truth) -> Label:
        actual, label_ms, delta, key, revision, withdrawn, micros = truth
        return Label(
            prediction_id,
            self._name_of(actual),
            label_ms,
            label_ms + delta,
            key,
            revision,
            withdrawn,
            micros,
        )

    def _named(self, codes: _Codes) -> Traits:
        if len(self._traits) >= self.MOST:
            self._traits.clear()
        variant, predicted, slices, version, scores = codes
        name_of = self._name_of
        traits = self._traits[codes] = Traits(
            name_of(variant),
            name_of(predicted),
            tuple(map(name_of, slices)),
            name_of(version),
            tuple((name_of(code), number) for code, number in scores),
        )
        return traits


def names_in(entries: Iterable[Entry]) -> set[str]:
    """Every name that ``pack_entry`` writes as a code, in any of these entries."""
    entries = list(entries)
    names = {label[1] for _, labels in entries for label in labels}
    # By identity: most of them are shared, and to compare them takes longer than to look twice.
    traits = {id(said[3]): said[3] for said, _ in entries if said is not None}
    for variant, predicted, slices, version, scores in traits.values():
        names.update((variant, predicted, version, *slices))
        names.update(name for name, _ in scores)
    return names


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
    return _vote_of(data)


def pack_miss(miss: Miss) -> bytes:
    """A miss as JSON; equal misses give equal bytes."""
    return msgspec.json.encode(miss)


def unpack_miss(data: bytes) -> Miss:
    """What ``pack_miss`` packed."""
    return _miss_of(data)


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
