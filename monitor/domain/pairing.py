"""Which answers belong together: votes of comparisons, in release order -> pairs.

An answer waits for another variant's answer to its request until ``within_ms`` after its own
release. What waits is a *voice* of the store, like a conversation that has voted: the state of the
evaluator is written at every evaluation, and would grow with the traffic. A voice is named by
hashes alone, and holds no id of a prediction.

* The first answer of a variant to a request counts; another one within twice ``within_ms``, as long
  as an answer that has met the first may wait, is ``repeated``.
* Of more than two variants each pair counts, always the answers that are known by then.
* One pair of two versions counts for each conversation, as with alerts: its messages are too much
  alike to be evidence each. The others are ``related``.
* Once a pair was counted, a label that changes is ``corrected``: counted, and never rewound.

Everything here is a function of the votes and of the watermark, so it makes no difference how the
votes were split over calls.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from monitor.domain.alerts import CONVERSATION_MS, is_silent
from monitor.domain.pairs import PairKey, PairState, Side, with_pair
from monitor.domain.rules import PairRule
from monitor.domain.votes import Role, Vote

HOUR_MS = 3_600_000


@dataclass(slots=True)
class PairBook:
    """Where one comparison stands.

    ``waiting`` counts answers without another one, by the hour of their release; those that nobody
    can answer any more are ``unpaired``. ``sides`` are who answered of late, with their last
    release.
    """

    pairs: dict[PairKey, PairState] = field(default_factory=dict)
    sides: dict[Side, int] = field(default_factory=dict)
    waiting: dict[int, int] = field(default_factory=dict)
    unpaired: int = 0
    repeated: int = 0
    related: int = 0
    corrected: int = 0

    def copy(self) -> "PairBook":
        """One of its own that can be changed."""
        return replace(
            self,
            pairs=self.pairs.copy(),
            sides=self.sides.copy(),
            waiting=self.waiting.copy(),
        )


class Paired(NamedTuple):
    """What the votes leave; ``spoken`` are voices for the store to keep."""

    books: dict[str, PairBook]
    spoken: dict[str, int]


def names_asked(
    rules: Iterable[PairRule], books: Mapping[str, PairBook], votes: Iterable[Vote]
) -> set[str]:
    """The voices that ``evaluate`` has to know of, to pair these votes."""
    known = {rule.name: set(books[rule.name].sides if rule.name in books else ()) for rule in rules}
    cast = [vote for vote in votes if vote.role is Role.PAIR and vote.rule in known]
    for vote in cast:
        known[vote.rule].add(_side_of(vote))
    asked = set[str]()
    for vote in cast:
        asked.add(_met(vote))
        for side in known[vote.rule]:
            asked |= {_answer(vote, side, hit=True), _answer(vote, side, hit=False)}
            if vote.conversation and side.variant != vote.key.variant:
                asked.add(_talk(vote, _key_of(_side_of(vote), side)))
    return asked


def evaluate(
    rules: Iterable[PairRule],
    books: Mapping[str, PairBook],
    votes: Iterable[Vote],
    watermark_ms: int,
    *,
    spoken: Mapping[str, int],
) -> Paired:
    """Pair the votes, in release order, and let go of what waits no longer at ``watermark_ms``.

    ``spoken`` are those among ``names_asked`` that the store knows. Books and votes of comparisons
    that are not among ``rules`` are dropped.
    """
    watched = {rule.name: rule for rule in rules}
    found = {name: book.copy() for name, book in books.items() if name in watched}
    new = dict[str, int]()
    for vote in sorted(vote for vote in votes if vote.rule in watched):
        book = found.setdefault(vote.rule, PairBook())
        if vote.role is Role.CORRECTION:
            book.corrected += 1
        else:
            _Meeting(watched[vote.rule], book, vote, spoken, new, len(watched)).hold()
    for name, book in found.items():
        _let_go(watched[name], book, watermark_ms)
    return Paired(found, new)


class _Meeting(NamedTuple):
    """One answer, and where others to the same request may stand."""

    rule: PairRule
    book: PairBook
    vote: Vote
    spoken: Mapping[str, int]
    new: dict[str, int]
    comparisons: int

    def hold(self) -> None:
        """Count the pairs that the answer makes, or let it wait."""
        vote, book, me = self.vote, self.book, _side_of(self.vote)
        others = sorted(self._others())
        book.sides[me] = vote.release_ms
        if any(side.variant == me.variant for side, *_ in others):
            book.repeated += 1
            return
        self._keep(_answer(vote, me, hit=vote.hit))
        if not others:
            self._wait(vote.release_ms, 1)
            return
        met_ms = self._released(_met(vote))
        for side, at_ms, hit in others:
            if met_ms is None or at_ms > met_ms:
                self._wait(at_ms, -1)
            self._pair(me, side, is_other_hit=hit)
        self._keep(_met(vote))

    def _others(self) -> Iterator[tuple[Side, int, bool]]:
        """Answers to the request that still wait, and the variant's own: whose, when, if right."""
        vote = self.vote
        for side in self.book.sides:
            is_own = side.variant == vote.key.variant
            reach_ms = self._known_ms if is_own else self.rule.within_ms
            for hit in (False, True):
                at_ms = self._released(_answer(vote, side, hit=hit))
                if at_ms is not None and vote.release_ms < at_ms + reach_ms:
                    yield side, at_ms, hit

    def _pair(self, me: Side, side: Side, *, is_other_hit: bool) -> None:
        vote, pairs, key = self.vote, self.book.pairs, _key_of(me, side)
        if self._has_talked(key):
            self.book.related += 1
            return
        state = pairs.get(key) or PairState(number=_number_of(key, pairs))
        one, other = (vote.hit, is_other_hit) if key.one == me else (is_other_hit, vote.hit)
        pairs[key] = with_pair(
            state, vote.release_ms, one=one, other=other, comparisons=self.comparisons
        )

    def _has_talked(self, key: PairKey) -> bool:
        """Whether the conversation has given a pair before, a week ago at most; it has now."""
        vote = self.vote
        if not vote.conversation:
            return False
        name = _talk(vote, key)
        last_ms = self.new.get(name, self.spoken.get(name))
        if last_ms is not None and not is_silent(last_ms, vote.release_ms):
            return True
        self.new[name] = vote.release_ms
        return False

    def _wait(self, at_ms: int, change: int) -> None:
        hour, waiting = at_ms // HOUR_MS, self.book.waiting
        waiting[hour] = waiting.get(hour, 0) + change
        if not waiting[hour]:
            del waiting[hour]

    def _keep(self, name: str) -> None:
        """Voices are kept for a week from when they spoke: this one is to go sooner."""
        self.new[name] = self.vote.release_ms - CONVERSATION_MS + self._known_ms

    def _released(self, name: str) -> int | None:
        at_ms = self.new.get(name, self.spoken.get(name))
        return None if at_ms is None else at_ms + CONVERSATION_MS - self._known_ms

    @property
    def _known_ms(self) -> int:
        return _known_ms(self.rule)


def _let_go(rule: PairRule, book: PairBook, watermark_ms: int) -> None:
    """Of what can meet nobody any more."""
    gone_ms = watermark_ms - rule.within_ms
    for hour in [hour for hour in book.waiting if (hour + 1) * HOUR_MS <= gone_ms]:
        book.unpaired += book.waiting.pop(hour)
    gone_ms = watermark_ms - _known_ms(rule)
    for side in [side for side, last_ms in book.sides.items() if last_ms <= gone_ms]:
        del book.sides[side]


def _known_ms(rule: PairRule) -> int:
    """How long an answer is known: until one that has met it waits no longer."""
    return 2 * rule.within_ms


def _number_of(key: PairKey, pairs: Mapping[PairKey, PairState]) -> int:
    """Which pair of variants, of whatever versions, it is in order of appearance."""
    variants = {key.one.variant, key.other.variant}
    for known, state in pairs.items():
        if {known.one.variant, known.other.variant} == variants:
            return state.number
    return 1 + max((state.number for state in pairs.values()), default=0)


def _key_of(me: Side, side: Side) -> PairKey:
    return PairKey(me, side) if me < side else PairKey(side, me)


def _side_of(vote: Vote) -> Side:
    return Side(vote.key.variant, vote.version)


def _answer(vote: Vote, side: Side, *, hit: bool) -> str:
    """The voice of an answer of ``side`` to the vote's request."""
    return f"a{_mark(vote.rule, *side)}{vote.request}{hit:d}"


def _met(vote: Vote) -> str:
    """The voice of the latest pair of answers to the vote's request."""
    return f"m{_mark(vote.rule)}{vote.request}"


def _talk(vote: Vote, key: PairKey) -> str:
    """The voice of the vote's conversation, where it has given a pair."""
    return f"c{_mark(vote.rule, *key.one, *key.other)}{vote.conversation}"


@lru_cache(maxsize=4096)
def _mark(*names: str) -> str:
    return hashlib.sha256("\x1f".join(names).encode()).hexdigest()[:8]
