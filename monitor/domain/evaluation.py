"""All that the evaluator knows between two evaluations."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from monitor.domain.alerts import AlertKey, AlertState
from monitor.domain.maturity import MaturityBook
from monitor.domain.pairing import PairBook
from monitor.domain.signals import SignalKey, SignalState
from monitor.domain.votes import Vote


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that the evaluator knows. ``sequence`` counts commits and guards them.

    ``releasing`` are votes that have been stepped but may still stand in the shards, ``holding``
    those that go back there until they are mature. The next evaluation adds the latter first of
    all, and passes over those of the former that are still there, so that a crash in between votes
    nobody twice. ``books`` hold what is known of delays, for rules that estimate their maturity;
    ``signals`` where signal rules stand, ``pairs`` where comparisons do; ``chain`` is the hash of
    the journal entry of this evaluation, "" for none.
    """

    sequence: int = 0
    watermark_ms: int | None = None
    states: Mapping[AlertKey, AlertState] = field(default_factory=dict)
    releasing: tuple[Vote, ...] = ()
    holding: tuple[Vote, ...] = ()
    books: Mapping[str, MaturityBook] = field(default_factory=dict)
    signals: Mapping[SignalKey, SignalState] = field(default_factory=dict)
    chain: str = ""
    pairs: Mapping[str, PairBook] = field(default_factory=dict)
