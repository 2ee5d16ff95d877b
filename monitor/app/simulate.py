"""A believable bank chatbot: an endless, seeded stream of captured records in log-time order.

Two variants answer customers; labels follow minutes to hours later. At the release (the incident)
`fine_tuned` starts to send most urgent requests to a look-alike routine intent, while everything
else stays as it was: accuracy hardly moves.

No I/O and no clock: the start instant is an argument, and the daily rhythm hangs on it, so a seed
gives the same schedule relative to `t0` whatever the time of day. The file is long because it
holds the tables of what customers say and which intents are confused.
"""

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from heapq import heappop, heappush
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

Topic = Literal["predictions", "labels"]


@dataclass(frozen=True, slots=True)
class SimulatedRecord:
    """One record as the broker would have written it; `log_ms` is its log time, epoch ms."""

    topic: Topic
    key: bytes | None
    value: bytes | None
    log_ms: int


@dataclass(frozen=True)
class Scenario:
    """What the simulated bank is like. A *share* is a chance in 0..1.

    `incident_ago=None` means no incident: `fine_tuned` stays healthy for ever. With `rhythm=0` and
    the duplicate, correction, early-label and malformed shares 0 the stream is steady and clean.
    The default values are tuned together: the e-detector fires for `fine_tuned` 60 to 150
    seconds after `t0`. Raises ValueError if a knob is out of bounds.
    """

    seed: int = 7
    history: timedelta = timedelta(hours=24)
    """How long before `t0` the stream starts."""
    incident_ago: timedelta | None = timedelta(minutes=26)
    """How long before `t0` the release happened; negative: that long after `t0`."""
    mean_rate: float = 0.9
    """Predictions per second, averaged over a day; greater than 0."""
    rhythm: float = 0.75
    """Swing of the daily sinusoid around the mean rate: 0 is flat, 1 touches zero at night."""
    peak_after: timedelta = timedelta(minutes=75)
    """The busiest instant of each day, counted from `t0`."""
    fine_tuned_share: float = 0.6
    """Conversations answered by `fine_tuned`; `prompt` answers the others."""
    urgent_share: float = 0.03
    """Urgent among new requests; with those that customers repeat, 3.5 % of predictions."""
    incident_recall: float = 0.12
    """Recall of the urgent intents of `fine_tuned` after the release."""
    escalation_median: timedelta = timedelta(minutes=12)
    """Label delay when an agent took over at once."""
    callback_median: timedelta = timedelta(minutes=25)
    """Label delay of a missed urgent request: the customer calls back."""
    review_median: timedelta = timedelta(minutes=100)
    """Label delay in the review queue."""
    routine_escalated_share: float = 0.4
    """Routine requests that an agent takes over and labels; the review queue gets the others."""
    unlabelled_share: float = 0.03
    """Predictions that never get a label."""
    correction_share: float = 0.005
    """Labels that a second annotator revises."""
    duplicate_share: float = 0.005
    """Records that are delivered twice, with the same bytes."""
    early_label_share: float = 0.001
    """Predictions held up on their way to the log until after their own label."""
    malformed_share: float = 0.0005
    """Records followed by a damaged copy of themselves."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            is_chance = name.endswith("_share") or name in {"rhythm", "incident_recall"}
            if is_chance and not 0 <= value <= 1:
                raise ValueError(f"{name}={value}: give a value in 0..1")
            is_duration = name.endswith("_median") or name == "history"
            if is_duration and value < timedelta(0):
                raise ValueError(f"{name}={value}: give a duration of 0 or more")
        if not 0 < self.mean_rate < math.inf:
            raise ValueError(f"mean_rate={self.mean_rate}: give predictions per second above 0")


@dataclass(frozen=True, slots=True)
class _Intent:
    """`weight` counts among the urgent or among the routine intents; misses go to look-alikes."""

    name: str
    weight: float
    look_alikes: tuple[str, ...]
    sentences: tuple[str, ...]


_URGENT_INTENTS = (
    _Intent(
        "report_fraud",
        0.3,
        ("transfer", "fees_question"),
        (
            "someone bought {thing} with my card and it was not me",
            "I never authorised the {amount} taken from my account {when}",
            "there is a payment of {amount} I do not recognise",
            "I think my account has been hacked {when}",
        ),
    ),
    _Intent(
        "lost_card",
        0.3,
        ("card_activation", "change_address"),
        (
            "I left my card at {place} and it is gone",
            "my wallet was stolen {when}, please block the card",
            "I cannot find my bank card since {when}",
            "the cash machine at {place} swallowed my card",
        ),
    ),
    _Intent(
        "account_locked",
        0.2,
        ("change_address", "balance"),
        (
            "I am locked out of my account since {when}",
            "the app says my access is suspended and I am at {place}",
            "my password was refused three times {when}, now nothing works",
            "please unlock my online banking, I have to pay {amount} today",
        ),
    ),
    _Intent(
        "payment_failed",
        0.2,
        ("transfer", "fees_question"),
        (
            "my card was declined at {place}",
            "the rent of {amount} did not go through {when}",
            "I am at {place} and the payment keeps failing",
            "paying {amount} ends with an error every time",
        ),
    ),
)
_ROUTINE_INTENTS = (
    _Intent(
        "balance",
        0.24,
        ("transfer", "fees_question"),
        (
            "how much money do I have left {when}",
            "do I have enough for {thing}",
            "show me the balance of my savings account",
            "is there more than {amount} on my account",
        ),
    ),
    _Intent(
        "transfer",
        0.2,
        ("balance", "fees_question"),
        (
            "send {amount} to my sister",
            "I want to move {amount} to my savings {when}",
            "set up a monthly transfer of {amount}",
            "when does the money I sent {when} arrive",
        ),
    ),
    _Intent(
        "card_activation",
        0.1,
        ("change_address", "opening_hours"),
        (
            "my new card came {when}, how do I switch it on",
            "activate the card I got in the post",
            "where do I set the code of my new card",
            "can I use the new card at {place} already",
        ),
    ),
    _Intent(
        "fees_question",
        0.12,
        ("balance", "loan_info"),
        (
            "why was I charged {amount} {when}",
            "what does it cost to take out cash at {place}",
            "is there a monthly fee for the current account",
            "which fee do you take for sending {amount} abroad",
        ),
    ),
    _Intent(
        "opening_hours",
        0.12,
        ("loan_info", "change_address"),
        (
            "when does the branch near {place} open",
            "are you open on Saturday",
            "until what time can I talk to somebody {when}",
            "is the counter closed over the holidays",
        ),
    ),
    _Intent(
        "change_address",
        0.08,
        ("close_account", "opening_hours"),
        (
            "I moved {when}, please update my address",
            "where do I enter my new street",
            "send my letters to the new flat from now on",
            "my postcode on file is wrong",
        ),
    ),
    _Intent(
        "loan_info",
        0.09,
        ("fees_question", "transfer"),
        (
            "can I borrow {amount} for {thing}",
            "what is the rate for a loan of {amount}",
            "how long do I pay back {amount}",
            "do you finance {thing}",
        ),
    ),
    _Intent(
        "close_account",
        0.05,
        ("change_address", "card_activation"),
        (
            "I want to close my account",
            "please end my contract, I am switching banks",
            "how do I get my last {amount} out and leave",
            "cancel the second account I opened {when}",
        ),
    ),
)
_FILLERS = {
    "{amount}": ("40 euros", "85 euros", "250 euros", "620 euros", "1 900 euros"),
    "{thing}": ("a phone", "concert tickets", "a used car", "a new kitchen"),
    "{place}": ("the station", "the supermarket", "the airport", "the petrol station"),
    "{when}": ("today", "this morning", "yesterday evening", "last Friday"),
}

URGENT: tuple[str, ...] = tuple(intent.name for intent in _URGENT_INTENTS)
INTENTS: tuple[str, ...] = URGENT + tuple(intent.name for intent in _ROUTINE_INTENTS)


def _texts(sentences: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Every sentence with every filler, each beside the first half of its SHA-256."""
    texts = sentences
    for slot, fillers in _FILLERS.items():
        filled = (
            (text.replace(slot, word) for word in fillers) if slot in text else (text,)
            for text in texts
        )
        texts = tuple(text for group in filled for text in group)
    return tuple((text, sha256(text.encode()).hexdigest()[:16]) for text in texts)


_TEXTS = {i.name: _texts(i.sentences) for i in _URGENT_INTENTS + _ROUTINE_INTENTS}
_LOOK_ALIKES = {i.name: i.look_alikes for i in _URGENT_INTENTS + _ROUTINE_INTENTS}
_URGENT_WEIGHTS = [intent.weight for intent in _URGENT_INTENTS]
_ROUTINE_WEIGHTS = [intent.weight for intent in _ROUTINE_INTENTS]
_ROUTINE = INTENTS[len(URGENT) :]
# Equally likely answers. An urgent request that is noticed is taken for another urgent one in 3 of
# 100 cases; a routine request that is mistaken is taken for an urgent one in 4 of 40.
_FOUND = {name: (name,) for name in _ROUTINE} | {name: (name,) * 96 + URGENT for name in URGENT}
_MISSED = {name: _LOOK_ALIKES[name] * 18 + URGENT for name in _ROUTINE} | {
    name: _LOOK_ALIKES[name] for name in URGENT
}


@dataclass(frozen=True, slots=True)
class _Variant:
    name: str
    model_version: str
    released_version: str
    prompt_version: str | None
    urgent_miss: float
    routine_error: float
    latency_median_ms: float
    latency_sigma: float


_FINE_TUNED = _Variant("fine_tuned", "ft-2.3", "ft-2.4", None, 0.06, 0.008, 40.0, 0.35)
_PROMPT = _Variant("prompt", "base-1", "base-1", "tmpl-7", 0.07, 0.012, 350.0, 0.45)

_TURN_WEIGHTS = (0.45, 0.3, 0.17, 0.08)
_MEAN_TURNS = sum(turns * weight for turns, weight in enumerate(_TURN_WEIGHTS, start=1))
_REPEATED_URGENT_SHARE = 0.3
_TURN_GAP_MEDIAN_MS, _TURN_GAP_SIGMA = 35_000.0, 0.5
_CHANNELS, _CHANNEL_WEIGHTS = ("web", "mobile", "voice"), (0.45, 0.4, 0.15)
_SCORES_SHARE = 0.03
_RELEVANCE_SHARE = 0.85
_URGENT_ESCALATED_SHARE = 0.94
_ESCALATION_SIGMA, _CALLBACK_SIGMA, _REVIEW_SIGMA = 0.6, 0.8, 0.7
_CORRECTION_MEDIAN_MS, _CORRECTION_SIGMA = 7_200_000.0, 0.6
_WRONG_FIRST_LABEL_SHARE = 0.6
_INGESTION_MIN_MS, _INGESTION_MAX_MS = 20, 400
_DAY_MS = 86_400_000.0
_ID_MASK, _ID_STEP = (1 << 60) - 1, 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class _Conversation:
    conversation_id: str
    variant: _Variant
    channel: str


class _PredictionWire(msgspec.Struct, gc=False):
    schema_version: int
    prediction_id: str
    request_id: str
    conversation_id: str
    event_time: str
    variant: str
    model_version: str
    prompt_version: str | None
    predicted_intent: str
    confidence: float
    latency_ms: float
    channel: str
    text_hash: str
    text: str
    relevance: float | UnsetType = UNSET
    scores: dict[str, float] | UnsetType = UNSET


class _LabelWire(msgspec.Struct, gc=False):
    schema_version: int
    label_id: str
    prediction_id: str
    true_intent: str
    label_time: str
    annotator: str
    source: str
    revision: int
    supersedes: str | UnsetType = UNSET


_Wire = _PredictionWire | _LabelWire
_Fault = Callable[[bytes], bytes | None]
# Log time in ms from t0; order of creation, so that equal times never compare the rest; the record;
# the damage to do to it.
_Due = tuple[int, int, _Wire, _Fault | None]


def _with(field: str, value: object) -> _Fault:
    # json, not msgspec: only the former writes the bare NaN that broken producers send.
    return lambda record: json.dumps({**json.loads(record), field: value}).encode()


def _without(field: str) -> _Fault:
    def damage(record: bytes) -> bytes:
        return json.dumps({k: v for k, v in json.loads(record).items() if k != field}).encode()

    return damage


_COMMON_FAULTS: tuple[_Fault, ...] = (
    lambda record: record[: len(record) // 2],
    lambda record: b"[" + record + b"]",
    lambda record: record[:-1] + b',"note":"caf\xe9"}',
    lambda _: None,
    _without("prediction_id"),
    _with("prediction_id", ""),
)
_PREDICTION_FAULTS: tuple[_Fault, ...] = (
    *_COMMON_FAULTS,
    _with("confidence", math.nan),
    _with("confidence", 1.7),
    _with("latency_ms", -12.5),
    _with("predicted_intent", 17),
    _with("event_time", "yesterday"),
)
_LABEL_FAULTS: tuple[_Fault, ...] = (
    *_COMMON_FAULTS,
    _with("true_intent", {"name": "balance"}),
    _with("revision", 0),
    _with("label_time", "soon"),
)


def simulate(scenario: Scenario, t0_ms: int) -> Iterator[SimulatedRecord]:
    """Records from `t0_ms - history` on, for ever; `t0_ms` is epoch milliseconds.

    Log time never decreases. Same arguments, same bytes. Only ids and times depend on `t0_ms`; the
    ids of two starts differ, so that a second run into the same topics is new traffic. Memory grows
    with the labels that are still due, not with the records sent.
    """
    encode = msgspec.json.Encoder().encode
    bank = _Bank(scenario, t0_ms)
    pending: list[_Due] = []
    for start_ms in bank.conversation_starts():
        while pending and pending[0][0] <= start_ms:
            due_ms, _, wire, fault = heappop(pending)
            topic: Topic = "predictions" if isinstance(wire, _PredictionWire) else "labels"
            value = encode(wire)
            sent = value if fault is None else fault(value)
            yield SimulatedRecord(topic, wire.prediction_id.encode(), sent, t0_ms + due_ms)
        for due in bank.conversation(start_ms):
            heappush(pending, due)


class _Bank:
    """Customers, chatbot and annotators, drawn from one random stream.

    Times are ms from t0; the past is negative.
    """

    def __init__(self, scenario: Scenario, t0_ms: int) -> None:
        self._scenario = scenario
        self._t0_ms = t0_ms
        self._random = random.Random(scenario.seed)
        # Apart, so that fewer faults leave the traffic as it was.
        self._faults = random.Random(f"faults of {scenario.seed}")
        self._id_offset = random.Random(f"{scenario.seed}@{t0_ms}").getrandbits(60)
        self._ids = 0
        self._dues = 0
        ago = scenario.incident_ago
        self._release_ms = math.inf if ago is None else -_ms(ago)

    def conversation_starts(self) -> Iterator[float]:
        """Poisson arrivals that follow the daily rhythm: candidates at the peak rate, thinned."""
        scenario, draw = self._scenario, self._random.random
        peak_per_ms = scenario.mean_rate * (1 + scenario.rhythm) / _MEAN_TURNS / 1000
        peak_ms = _ms(scenario.peak_after)
        at_ms = -_ms(scenario.history)
        while True:
            at_ms += self._random.expovariate(peak_per_ms)
            level = 1 + scenario.rhythm * math.cos((at_ms - peak_ms) * math.tau / _DAY_MS)
            if draw() * (1 + scenario.rhythm) < level:
                yield at_ms

    def conversation(self, start_ms: float) -> Iterator[_Due]:
        """All records of one conversation, unordered; none is due before `start_ms`."""
        rng = self._random
        variant = _FINE_TUNED if rng.random() < self._scenario.fine_tuned_share else _PROMPT
        channel = rng.choices(_CHANNELS, _CHANNEL_WEIGHTS)[0]
        talk = _Conversation("c" + self._next_id(), variant, channel)
        turns = rng.choices((1, 2, 3, 4), _TURN_WEIGHTS)[0]
        at_ms, intent = start_ms, self._new_intent()
        yield from self._request(math.floor(at_ms), intent, talk)
        for _ in range(turns - 1):
            at_ms += self._delay_ms(_TURN_GAP_MEDIAN_MS, _TURN_GAP_SIGMA)
            intent = self._next_intent(intent)
            yield from self._request(math.floor(at_ms), intent, talk)

    def _new_intent(self) -> str:
        if self._random.random() < self._scenario.urgent_share:
            return self._random.choices(URGENT, _URGENT_WEIGHTS)[0]
        return self._random.choices(_ROUTINE, _ROUTINE_WEIGHTS)[0]

    def _next_intent(self, previous: str) -> str:
        repeated = previous in URGENT and self._random.random() < _REPEATED_URGENT_SHARE
        return previous if repeated else self._new_intent()

    def _request(self, event_ms: int, intent: str, talk: _Conversation) -> Iterator[_Due]:
        prediction = self._prediction(event_ms, intent, talk)
        log_ms = event_ms + self._ingestion_ms()
        if self._random.random() < self._scenario.unlabelled_share:
            yield from self._deliveries(prediction, log_ms)
            return
        held_up = self._random.random() < self._scenario.early_label_share
        delay_ms, source = self._label_delay(intent, prediction.predicted_intent, held_up)
        label = self._label(prediction.prediction_id, intent, event_ms + delay_ms, source)
        label_log_ms = event_ms + delay_ms + self._ingestion_ms()
        if held_up:
            log_ms = label_log_ms + self._ingestion_ms()
        yield from self._deliveries(prediction, log_ms)
        if self._random.random() < self._scenario.correction_share:
            yield from self._correction(label, event_ms + delay_ms)
        yield from self._deliveries(label, label_log_ms)

    def _answer(self, intent: str, variant: _Variant, released: bool) -> tuple[str, float]:
        """Predicted intent and confidence c; a healthy answer is right with chance c.

        The release changes what the draws mean, never how many there are: a scenario with and one
        without the incident have the same customers, texts and event times.
        """
        draw, urgent = self._random.random, intent in URGENT
        error = self._error_chance(variant.urgent_miss if urgent else variant.routine_error)
        luck, choice = draw(), draw()
        confidence = 1 - error
        missed = luck < error
        if released and urgent and variant is _FINE_TUNED:
            missed = luck >= self._scenario.incident_recall
            confidence = 0.97 - 0.42 * luck
        answers = (_MISSED if missed else _FOUND)[intent]
        return answers[math.floor(choice * len(answers))], confidence

    def _error_chance(self, mean: float) -> float:
        """Most requests are easy and a few are hard (5 to 65 %); the mean over both is `mean`."""
        easy_mean, hard_mean = 0.4 * mean, 0.35
        hard_share = (mean - easy_mean) / (hard_mean - easy_mean)
        hard, level = self._random.random() < hard_share, self._random.random()
        return 0.05 + 0.6 * level if hard else 2 * easy_mean * level

    def _prediction(self, event_ms: int, intent: str, talk: _Conversation) -> _PredictionWire:
        rng, variant = self._random, talk.variant
        released = event_ms >= self._release_ms
        predicted, confidence = self._answer(intent, variant, released)
        text, text_hash = rng.choice(_TEXTS[intent])
        name = self._next_id()
        relevant = rng.random() < _RELEVANCE_SHARE
        scored = rng.random() < _SCORES_SHARE
        return _PredictionWire(
            schema_version=1,
            prediction_id="p" + name,
            request_id="r" + name,
            conversation_id=talk.conversation_id,
            event_time=self._iso(event_ms),
            variant=variant.name,
            model_version=variant.released_version if released else variant.model_version,
            prompt_version=variant.prompt_version,
            predicted_intent=predicted,
            confidence=round(confidence, 4),
            latency_ms=round(self._delay_ms(variant.latency_median_ms, variant.latency_sigma), 3),
            channel=talk.channel,
            text_hash=text_hash,
            text=text,
            relevance=self._relevance(predicted == intent) if relevant else UNSET,
            scores=self._scores(predicted, confidence) if scored else UNSET,
        )

    def _relevance(self, right: bool) -> float:
        best = 1.0 if right else 0.6
        return round(best * (1 - 0.45 * self._random.random() ** 2), 3)

    def _scores(self, predicted: str, confidence: float) -> dict[str, float]:
        """Class scores that sum to 1 up to rounding; the predicted intent has `confidence`."""
        others = {name: self._random.random() for name in INTENTS if name != predicted}
        left = (1 - confidence) / sum(others.values())
        scores = {name: others.get(name, 0.0) * left for name in INTENTS} | {predicted: confidence}
        return {name: round(score, 4) for name, score in scores.items()}

    def _label_delay(self, intent: str, predicted: str, held_up: bool) -> tuple[int, str]:
        """From prediction to label, in ms, and the label's source; seconds if `held_up`."""
        scenario, urgent = self._scenario, intent in URGENT
        if held_up:
            return math.floor(1_000 + 29_000 * self._random.random()), "agent_escalation"
        escalated = _URGENT_ESCALATED_SHARE if urgent else scenario.routine_escalated_share
        if self._random.random() >= escalated:
            return math.floor(
                self._delay_ms(_ms(scenario.review_median), _REVIEW_SIGMA)
            ), "review_queue"
        if urgent and predicted not in URGENT:
            delay_ms = self._delay_ms(_ms(scenario.callback_median), _CALLBACK_SIGMA)
        else:
            delay_ms = self._delay_ms(_ms(scenario.escalation_median), _ESCALATION_SIGMA)
        return math.floor(delay_ms), "agent_escalation"

    def _label(self, prediction_id: str, intent: str, label_ms: int, source: str) -> _LabelWire:
        return _LabelWire(
            schema_version=1,
            label_id="l" + prediction_id[1:],
            prediction_id=prediction_id,
            true_intent=intent,
            label_time=self._iso(label_ms),
            annotator=f"a{self._random.randint(1, 24):02}",
            source=source,
            revision=1,
        )

    def _correction(self, first: _LabelWire, first_ms: int) -> Iterator[_Due]:
        """The second annotator's label, with the true intent; may turn `first` into a wrong one."""
        rng, intent = self._random, first.true_intent
        if rng.random() < _WRONG_FIRST_LABEL_SHARE:
            # A look-alike is always routine: an annotator's slip never invents an urgent request.
            first.true_intent = rng.choice(_LOOK_ALIKES[intent])
        label_ms = first_ms + math.floor(self._delay_ms(_CORRECTION_MEDIAN_MS, _CORRECTION_SIGMA))
        second = self._label(first.prediction_id, intent, label_ms, "second_annotator")
        second.label_id, second.supersedes = "k" + first.label_id[1:], first.label_id
        second.revision = 2
        # Later than the first label's slowest way into the log: revisions arrive in order.
        yield from self._deliveries(second, label_ms + _INGESTION_MAX_MS + self._ingestion_ms())

    def _deliveries(self, wire: _Wire, log_ms: int) -> Iterator[_Due]:
        """The record; now and then again up to half a minute later, or a damaged copy of it."""
        rng, scenario = self._faults, self._scenario
        yield self._due(log_ms, wire)
        if rng.random() < scenario.duplicate_share:
            yield self._due(log_ms + 200 + math.floor(30_000 * rng.random()), wire)
        if rng.random() < scenario.malformed_share:
            faults = _PREDICTION_FAULTS if isinstance(wire, _PredictionWire) else _LABEL_FAULTS
            yield self._due(log_ms, wire, rng.choice(faults))

    def _due(self, log_ms: int, wire: _Wire, fault: _Fault | None = None) -> _Due:
        self._dues += 1
        return log_ms, self._dues, wire, fault

    def _delay_ms(self, median_ms: float, sigma: float) -> float:
        return median_ms * math.exp(sigma * self._random.gauss(0.0, 1.0))

    def _ingestion_ms(self) -> int:
        spread = _INGESTION_MAX_MS - _INGESTION_MIN_MS
        return _INGESTION_MIN_MS + math.floor(spread * self._random.random())

    def _iso(self, at_ms: int) -> str:
        at = datetime.fromtimestamp((self._t0_ms + at_ms) / 1000, UTC)
        return at.isoformat(timespec="milliseconds")[:-6] + "Z"

    def _next_id(self) -> str:
        """15 hexadecimal digits: the counter, permuted by an odd step, so that none comes twice."""
        self._ids += 1
        return f"{(self._ids * _ID_STEP + self._id_offset) & _ID_MASK:015x}"


def _ms(duration: timedelta) -> float:
    return duration.total_seconds() * 1000
