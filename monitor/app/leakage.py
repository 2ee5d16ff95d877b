"""What ``recallwatch leakage`` does: a history through the engine, its predictions marked.

The mark says what a prediction is to the training texts. It is the one slice of this run, so that
join, corrections, expiry and scores are those of every other number: ``all`` of a check is what
``recallwatch replay`` says of the same history.
"""

import hashlib
from array import array
from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from monitor.adapters.memory import MemoryStore
from monitor.adapters.near_index import Near, NearIndex
from monitor.adapters.training import TrainingFormat, training_texts
from monitor.app import replaying
from monitor.app.flow import uncollected
from monitor.app.replay import OnProgress, Replay
from monitor.app.settings import Settings, SettingsError
from monitor.app.wiring import codec_of, spec_of
from monitor.codec.records import RecordCodec, Words
from monitor.domain.counts import Counts
from monitor.domain.events import Fact, Prediction, Record, Traits
from monitor.domain.leakage import (
    LEAKED,
    Asked,
    Finding,
    Kin,
    Kinship,
    LeakageCheck,
    answer_of,
    checks_of,
)
from monitor.domain.likeness import LEAST_WORDS, THRESHOLD, Hashing, words_of
from monitor.domain.sampling import EVERY
from monitor.domain.slices import Groups
from monitor.domain.windows import ALL_TIME, Clock, PaneKey

SLICE = "leakage"
REMEMBERED = 65_536
"""Live texts whose nearest training text is kept: chat messages repeat."""


class Training(NamedTuple):
    """Which files, how they are read and how texts are compared."""

    files: Sequence[Path]
    field: str = "text"
    form: TrainingFormat = TrainingFormat.AUTO
    hashing: Hashing = Hashing()
    threshold: float = THRESHOLD
    least_words: int = LEAST_WORDS


class Shown(NamedTuple):
    """How many examples are kept, and whether with what people wrote."""

    examples: int = 10
    texts: bool = False


class Match(NamedTuple):
    """What a message is to the training texts; the text it comes from, None without one."""

    kinship: Kinship
    number: int | None = None
    similarity: float | None = None


class Example(NamedTuple):
    """A leaked prediction; sorted by fields, examples are in log order. Texts only if asked for."""

    log_ms: int
    position: str
    prediction_id: str
    variant: str
    kinship: Kinship
    similarity: float
    training: str
    text: str | None
    training_text: str | None


class Library:
    """The training texts, indexed. ``too_short`` are left out, copies of one another count once.

    Without ``near`` only exact duplicates are found.
    """

    def __init__(
        self, training: Training, near: NearIndex | None, *, keeps_texts: bool = False
    ) -> None:
        self.training, self.near = training, near
        self.read = self.too_short = 0
        self._keeps_texts = keeps_texts
        self._numbers: dict[str, int] = {}
        self._file_of, self._line_of = array("H"), array("L")
        self._texts: list[str] = []
        self._digest = hashlib.sha256()
        self._nearest = lru_cache(REMEMBERED)(near.nearest if near is not None else _nothing)

    def __len__(self) -> int:
        """Different texts."""
        return len(self._line_of)

    @property
    def digest(self) -> str:
        """Of all texts in their order: which training data a check was about."""
        return f"sha256:{self._digest.hexdigest()}"

    def fill(self, on_progress: OnProgress) -> None:
        """Read all files. TrainingError when one cannot be read, SettingsError without a text."""
        training = self.training
        for number, path in enumerate(training.files):
            for line, text in training_texts(path, training.field, training.form):
                self._add(number, line, text)
                on_progress(self.read, None)
        if not len(self):
            raise SettingsError(
                f"--train: {self.read} texts were read, none has {training.least_words} words or "
                "more; give a file with training texts, see --least-words"
            )

    def match_of(self, words: Words) -> Match:
        """What a live message is to the training texts."""
        hashing = self.training.hashing
        text, told = words.text, words.text_hash
        if text is None:
            digest = None if told is None else hashing.read(told)
            if digest is None:
                return Match(Kinship.UNKNOWN)
            number = self._numbers.get(digest)
            if number is None:
                return Match(Kinship.NO_COPY_BY_HASH)
            return Match(Kinship.COPY_BY_HASH, number, 1.0)
        number = self._numbers.get(hashing.of(text))
        if number is not None:
            return Match(Kinship.COPY, number, 1.0)
        near = self._nearest(text)
        return Match(Kinship.NEW) if near is None else Match(Kinship.NEAR, *near)

    def place_of(self, number: int) -> str:
        """File and line of a training text."""
        return f"{self.training.files[self._file_of[number]].name}:{self._line_of[number]}"

    def text_of(self, number: int) -> str | None:
        """A training text; None unless texts are kept."""
        return self._texts[number] if self._keeps_texts else None

    def _add(self, file: int, line: int, text: str) -> None:
        self.read += 1
        self._digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
        if len(words_of(text)) < self.training.least_words:
            self.too_short += 1
            return
        number = len(self)
        if self._numbers.setdefault(self.training.hashing.of(text), number) != number:
            return
        self._file_of.append(file)
        self._line_of.append(line)
        if self.near is not None:
            self.near.add(text)
        if self._keeps_texts:
            self._texts.append(text)


@dataclass
class Live:
    """What live messages carried; copies that were delivered again count again.

    ``disagreeing`` are those whose digest is not that of their text; ``unusable`` have no text, and
    a digest that cannot be of the scheme.
    """

    with_text: int = 0
    hash_only: int = 0
    neither: int = 0
    unusable: int = 0
    disagreeing: int = 0

    def count(self, words: Words, hashing: Hashing) -> None:
        """One more message."""
        text, told = words.text, words.text_hash
        if text is not None:
            self.with_text += 1
            self.disagreeing += told is not None and hashing.read(told) != hashing.of(text)
        elif told is None:
            self.neither += 1
        else:
            self.hash_only += 1
            self.unusable += hashing.read(told) is None


class Marker:
    """Puts what a prediction is to the training texts into its slice; keeps the first examples."""

    def __init__(
        self, library: Library, codec: RecordCodec, variants: frozenset[str], shown: Shown
    ) -> None:
        self._library, self._codec, self._variants, self._shown = library, codec, variants, shown
        self._traits: dict[tuple[Traits, Kinship | None], Traits] = {}
        self.live = Live()
        self.examples: list[Example] = []

    def __call__(self, record: Record, prediction: Prediction) -> Prediction:
        """The prediction with its mark; with none for a variant that was not asked for."""
        if self._variants and prediction.variant not in self._variants:
            return self._marked(prediction, None)
        words = self._codec.words(record)
        self.live.count(words, self._library.training.hashing)
        match = self._library.match_of(words)
        if match.kinship in LEAKED:
            self._keep(record, prediction, match, words.text)
        return self._marked(prediction, match.kinship)

    def _marked(self, prediction: Prediction, kinship: Kinship | None) -> Prediction:
        key = prediction.traits, kinship
        traits = self._traits.get(key)
        if traits is None:
            # Many predictions share one, as the decoder has it.
            traits = self._traits[key] = key[0]._replace(slices=(kinship or "",))
        return prediction._replace(traits=traits)

    def _keep(self, record: Record, prediction: Prediction, match: Match, text: str | None) -> None:
        kept, most = self.examples, self._shown.examples
        if len(kept) >= most and (not most or record.log_ms > kept[-1].log_ms):
            return
        if match.number is None or any(e.prediction_id == prediction.prediction_id for e in kept):
            return
        insort(
            kept,
            Example(
                record.log_ms,
                str(record.position),
                prediction.prediction_id,
                prediction.variant,
                match.kinship,
                match.similarity or 0.0,
                self._library.place_of(match.number),
                text if self._shown.texts else None,
                self._library.text_of(match.number),
            ),
        )
        del kept[most:]


@dataclass(frozen=True, kw_only=True)
class MarkingCodec(RecordCodec):
    """Reads records as they are, and marks each prediction, once."""

    mark: Callable[[Record, Prediction], Prediction]

    def fact(self, record: Record) -> Fact | None:
        """What the record says, marked."""
        return self._with_mark(record, super().fact(record))

    def facts(self, records: Sequence[Record]) -> list[Fact | None]:
        """``fact`` of each record."""
        return list(map(self._with_mark, records, super().facts(records)))

    def _with_mark(self, record: Record, fact: Fact | None) -> Fact | None:
        if isinstance(fact, Prediction) and not fact.slices:
            return self.mark(record, fact)
        return fact


class Leakage(NamedTuple):
    """What was found. ``checks`` has ALL first; ``answer`` is that of the variants together."""

    answer: Finding
    asked: Asked
    checks: Sequence[LeakageCheck]
    library: Library
    live: Live
    examples: Sequence[Example]


def searched(
    settings: Settings,
    history: replaying.Asked,
    library: Library,
    asked: Asked,
    variants: Iterable[str],
    shown: Shown,
    on_progress: OnProgress,
) -> Leakage:
    """Compare a history with the training texts, which ``library`` holds.

    SettingsError when a variant has no prediction there.
    """
    codec = codec_of(settings)
    chosen = frozenset(variants)
    marker = Marker(library, codec, chosen, shown)
    end = replaying.named_place("--to", history.end)
    with uncollected(), replaying.opened(settings, history, end) as log:
        replay = Replay(
            log,
            settings,
            # Without groups, rules and signals nothing is kept for alerts and missed messages.
            # Every message is compared, whatever share of them is counted elsewhere.
            spec=replace(
                spec_of(settings),
                slice_names=(SLICE,),
                groups=Groups({}),
                rules=(),
                signals=(),
                sampling=EVERY,
            ),
            codec=_marking(codec, marker),
        )
        replay.read(on_progress)
        kin = _kin_in(replay.store)
    _check_known(chosen, kin)
    checks = checks_of(kin, spec_of(settings).groups, asked)
    return Leakage(answer_of(checks), asked, checks, library, marker.live, marker.examples)


def _nothing(_text: str) -> Near | None:
    """Near duplicates are not looked for."""
    return None


def _marking(codec: RecordCodec, marker: Marker) -> MarkingCodec:
    return MarkingCodec(
        predictions_topic=codec.predictions_topic,
        labels_topic=codec.labels_topic,
        known=codec.known,
        max_bytes=codec.max_bytes,
        predictions=codec.predictions,
        labels=codec.labels,
        mark=marker,
    )


def _kin_in(store: MemoryStore) -> dict[str, Kin]:
    """Variant -> what was counted of each kind."""
    keys = [key for key in store.slice_keys() if key.slice.startswith(f"{SLICE}=")]
    panes = store.panes([PaneKey(Clock.EVENT, ALL_TIME, 0, key) for key in keys])
    found: dict[str, dict[Kinship, Counts]] = {}
    for key, counts in zip(keys, panes, strict=True):
        kinship = Kinship(key.slice.partition("=")[2])
        found.setdefault(key.variant, {})[kinship] = counts
    return dict(found)


def _check_known(chosen: frozenset[str], kin: Mapping[str, Kin]) -> None:
    missing = sorted(chosen - kin.keys())
    if missing:
        raise SettingsError(
            f"--variant: no prediction of {', '.join(missing)} in this history; leave it out to "
            "see every variant"
        )
