"""The facts that arrive: what a record says once its bytes are understood.

All instants are whole milliseconds since 1970-01-01T00:00Z, UTC. ``event_ms`` is when the chatbot
predicted, ``log_ms`` when the broker wrote the record, ``label_ms`` when the annotator decided.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, StrEnum, auto
from typing import NamedTuple, NewType

PredictionId = NewType("PredictionId", str)
Intent = str


class Kind(StrEnum):
    """Which of the two logs a record belongs to."""

    PREDICTIONS = "predictions"
    LABELS = "labels"


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        """``topic[partition]``, as in every message and report."""
        return f"{self.topic}[{self.partition}]"


class Position(NamedTuple):
    """Where one record stands in the log."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """``topic[partition]@offset``, as in every message and report."""
        return f"{self.topic}[{self.partition}]@{self.offset}"


class Record(NamedTuple):
    """What the log holds, still bytes. ``value`` is None for a tombstone."""

    topic: str
    partition: int
    offset: int
    log_ms: int
    key: bytes | None
    value: bytes | None
    log_append_time: bool = False

    @property
    def position(self) -> Position:
        """Where the record stands."""
        return Position(self.topic, self.partition, self.offset)


class Traits(NamedTuple):
    """What many predictions have in common: a stream knows few of these, and they are shared.

    ``slices`` holds the values of the declared slice attributes in the order of the settings
    ("" where the record has none). ``version`` names model and prompt template together
    (``model/template``, or the one there is). ``scores`` are pairs of a watched group's score name
    and the bin of its score, see ``domain.estimate``; empty where the record told no probability.
    """

    variant: str
    predicted: Intent
    slices: tuple[str, ...] = ()
    version: str = ""
    scores: tuple[tuple[str, int], ...] = ()


class Prediction(NamedTuple):
    """One answer of one variant, reduced to what is counted.

    ``latency_bucket`` is a bucket of ``counts.bucket_of``; ``relevance_micros`` is relevance in
    millionths, so that sums stay exact in any order. ``conversation`` is a digest of the
    conversation's id, 16 hexadecimal digits ("" for none); so is ``request`` of the request's id,
    "" also where nothing compares the answers to one request.
    """

    prediction_id: PredictionId
    event_ms: int
    log_ms: int
    traits: Traits
    latency_bucket: int | None = None
    relevance_micros: int | None = None
    conversation: str = ""
    request: str = ""

    @property
    def variant(self) -> str:
        """Which variant answered."""
        return self.traits.variant

    @property
    def predicted(self) -> Intent:
        """Its answer."""
        return self.traits.predicted

    @property
    def slices(self) -> tuple[str, ...]:
        """Values of the declared slice attributes."""
        return self.traits.slices

    @property
    def version(self) -> str:
        """Model and prompt template."""
        return self.traits.version

    @property
    def scores(self) -> tuple[tuple[str, int], ...]:
        """Bins of its probabilities, by score name."""
        return self.traits.scores


class Label(NamedTuple):
    """The true intent of one prediction, as one annotator saw it.

    ``label_key`` tells copies of one label from different labels: the record's ``label_id``, or its
    content where it has none. ``withdrawn`` takes the truth back: the prediction is unlabelled
    again.
    """

    prediction_id: PredictionId
    actual: Intent
    label_ms: int
    log_ms: int
    label_key: str
    revision: int = 1
    withdrawn: bool = False
    relevance_micros: int | None = None


class Reason(StrEnum):
    """Why a record was rejected; the words of the ledger, the dead letters and the dashboard."""

    NULL_VALUE = "null_value"
    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    EMPTY_ID = "empty_id"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    BAD_TIME = "bad_time"
    FUTURE_TIME = "future_time"
    UNKNOWN_INTENT = "unknown_intent"
    UNPROCESSABLE = "unprocessable"


class Rejected(NamedTuple):
    """A record that could not be understood; ``detail`` never quotes message content."""

    reason: Reason
    detail: str


Fact = Prediction | Label | Rejected


class PassedOver(Enum):
    """What takes the place of a fact whose prediction id is not in the sample."""

    NOT_SAMPLED = auto()


class Envelope(NamedTuple):
    """A decoded record with the log it came from, its position and its log time."""

    kind: Kind
    position: Position
    fact: Fact
    log_ms: int = 0


class Batch(NamedTuple):
    """What one step counts; the order is of no matter. Each fact is received at its log time.

    ``rejected`` holds the topic's kind, the reason and the log time of each rejected record,
    ``passed_over`` kind and log time of each that is understood, but not in the sample.
    """

    predictions: Sequence[Prediction] = ()
    labels: Sequence[Label] = ()
    rejected: Sequence[tuple[Kind, Reason, int]] = ()
    passed_over: Sequence[tuple[Kind, int]] = ()

    @classmethod
    def of(cls, envelopes: Iterable[Envelope]) -> "Batch":
        """The facts in these envelopes."""
        predictions, labels, rejected = list[Prediction](), list[Label](), []
        for kind, _, fact, log_ms in envelopes:
            if isinstance(fact, Prediction):
                predictions.append(fact)
            elif isinstance(fact, Label):
                labels.append(fact)
            else:
                rejected.append((kind, fact.reason, log_ms))
        return cls(predictions, labels, rejected)


NextOffsets = Mapping[Partition, int]
"""For each partition the offset of the next record to read."""
