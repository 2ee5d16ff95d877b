"""Which answers make a pair: by request, in release order, however the votes are split."""

from collections.abc import Iterable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.codec.snapshots import (
    pack_evaluation,
    pack_pairs,
    pack_vote,
    unpack_evaluation,
    unpack_vote,
)
from monitor.domain.alerts import CONVERSATION_MS, is_silent, voice_of
from monitor.domain.evaluation import Evaluation
from monitor.domain.pairing import PairBook, Paired, evaluate, names_asked
from monitor.domain.pairs import PairCounts, PairKey, Side
from monitor.domain.rules import Metric, PairRule
from monitor.domain.slices import SliceKey
from monitor.domain.votes import Role, Vote, pair_votes_of
from tests.builders import T0, URGENT, entry_of, label, prediction
from tests.domain.facts import REPEATABLE

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
RULE = PairRule("urgent-pairs", "urgent", URGENT)
A, B, C = Side("a"), Side("b"), Side("c")
FAR_MS = T0 + 100 * DAY_MS


def vote(
    request: str,
    side: Side,
    *,
    hit: bool = True,
    at_ms: int = T0,
    name: str = "",
    conversation: str = "",
    role: Role = Role.PAIR,
) -> Vote:
    return Vote(
        at_ms,
        name or f"{request}-{side.variant}",
        RULE.name,
        SliceKey(side.variant),
        at_ms,
        hit,
        role,
        side.version,
        conversation,
        request=request,
    )


class Evaluator:
    """Keeps voices as a store does, and lets go of those that are silent."""

    def __init__(self) -> None:
        self.books: Mapping[str, PairBook] = {}
        self.voices: dict[str, int] = {}

    def take(self, votes: Iterable[Vote], watermark_ms: int) -> PairBook:
        cast = list(votes)
        asked = names_asked([RULE], self.books, cast)
        spoken = {name: self.voices[name] for name in asked if name in self.voices}
        found: Paired = evaluate([RULE], self.books, cast, watermark_ms, spoken=spoken)
        self.voices |= found.spoken
        for name in [v for v, at_ms in self.voices.items() if is_silent(at_ms, watermark_ms)]:
            del self.voices[name]
        self.books = found.books
        return self.books.get(RULE.name, PairBook())


def taken(*votes: Vote, watermark_ms: int = T0 + 1) -> PairBook:
    return Evaluator().take(votes, watermark_ms)


def counts_of(book: PairBook) -> dict[PairKey, PairCounts]:
    return {key: state.counts for key, state in book.pairs.items()}


@pytest.mark.parametrize(
    ("one", "other", "counts"),
    [
        (True, True, PairCounts(both=1)),
        (True, False, PairCounts(only_one=1)),
        (False, True, PairCounts(only_other=1)),
        (False, False, PairCounts(neither=1)),
    ],
)
def test_two_answers_to_one_request_are_a_pair(one: bool, other: bool, counts: PairCounts) -> None:
    book = taken(vote("r", A, hit=one), vote("r", B, hit=other))
    assert counts_of(book) == {PairKey(A, B): counts}
    assert (book.waiting, book.unpaired) == ({}, 0)


def test_answers_to_different_requests_are_none() -> None:
    book = taken(vote("r", A), vote("q", B))
    assert (counts_of(book), book.waiting) == ({}, {T0 // HOUR_MS: 2})


#   first answer                       within
#   |----------------------------------|
#                               a pair | alone


@pytest.mark.parametrize(("late_ms", "pairs"), [(DAY_MS - 1, 1), (DAY_MS, 0)])
def test_answer_counts_with_one_that_was_released_within_the_time(late_ms: int, pairs: int) -> None:
    book = taken(vote("r", A), vote("r", B, at_ms=T0 + late_ms), watermark_ms=T0 + DAY_MS + 1)
    assert len(book.pairs) == pairs


def test_answer_that_nobody_can_meet_any_more_is_unpaired() -> None:
    at_work = Evaluator()
    assert at_work.take([vote("r", A)], T0 + DAY_MS).waiting == {T0 // HOUR_MS: 1}
    book = at_work.take([], T0 + DAY_MS + HOUR_MS)
    assert (book.waiting, book.unpaired) == ({}, 1)
    assert at_work.take([], T0 + 2 * DAY_MS).sides == {}


def test_answer_given_again_while_another_that_met_the_first_waits_is_repeated() -> None:
    again = vote("r", A, at_ms=T0 + DAY_MS, name="again")
    book = taken(vote("r", A), vote("r", B, at_ms=T0 + HOUR_MS), again, watermark_ms=FAR_MS)
    assert (book.repeated, book.unpaired) == (1, 0)
    assert [state.counts.n for state in book.pairs.values()] == [1]


def test_second_answer_of_a_variant_is_repeated() -> None:
    again = vote("r", A, hit=False, name="x", at_ms=T0 + 1)
    book = taken(vote("r", A), again, vote("r", B, at_ms=T0 + 2), watermark_ms=T0 + 3)
    assert counts_of(book) == {PairKey(A, B): PairCounts(both=1)}
    assert book.repeated == 1


def test_of_three_variants_each_pair_counts() -> None:
    book = taken(vote("r", A), vote("r", B, hit=False), vote("r", C))
    assert counts_of(book) == {
        PairKey(A, B): PairCounts(only_one=1),
        PairKey(A, C): PairCounts(both=1),
        PairKey(B, C): PairCounts(only_other=1),
    }
    assert sorted(state.number for state in book.pairs.values()) == [1, 2, 3]
    assert (book.waiting, book.unpaired) == ({}, 0)


def test_third_answer_does_not_take_a_paired_one_for_one_that_waits() -> None:
    """The first has expired when the third comes, the second has not, and was paired."""
    book = taken(
        vote("r", A),
        vote("r", B, at_ms=T0 + 20 * HOUR_MS),
        vote("r", C, at_ms=T0 + 30 * HOUR_MS),
        watermark_ms=T0 + 31 * HOUR_MS,
    )
    assert set(book.pairs) == {PairKey(A, B), PairKey(B, C)}
    assert (book.waiting, book.unpaired) == ({}, 0)


def test_each_pair_of_versions_stands_for_itself_with_the_number_of_its_variants() -> None:
    new = Side("a", "v2")
    book = taken(
        *(vote("r", A), vote("r", B)),
        *(vote("q", new), vote("q", B, hit=False)),
    )
    assert counts_of(book) == {
        PairKey(A, B): PairCounts(both=1),
        PairKey(new, B): PairCounts(only_one=1),
    }
    assert {state.number for state in book.pairs.values()} == {1}


@pytest.mark.parametrize(("days", "related"), [(6, 1), (7, 0)])
def test_one_pair_counts_for_a_conversation_in_a_week(days: int, related: int) -> None:
    late_ms = T0 + days * DAY_MS
    first = [vote("r", side, conversation="c") for side in (A, B)]
    second = [vote("q", side, at_ms=late_ms, conversation="c") for side in (A, B)]
    at_work = Evaluator()
    at_work.take(first, T0 + 1)
    book = at_work.take(second, late_ms + 1)
    assert (book.related, book.pairs[PairKey(A, B)].counts.n) == (related, 2 - related)


def test_label_that_changes_a_counted_answer_is_counted_and_rewinds_nothing() -> None:
    change = vote("", A, hit=False, name="r-a", at_ms=T0 + 5, role=Role.CORRECTION)
    book = taken(vote("r", A), vote("r", B), change, watermark_ms=T0 + 6)
    assert counts_of(book) == {PairKey(A, B): PairCounts(both=1)}
    assert book.corrected == 1


def test_difference_is_claimed_at_the_pair_that_brings_the_evidence_and_stays_so() -> None:
    votes = []
    for number in range(12):
        at_ms = T0 + number
        votes += [vote(f"r{number}", A, at_ms=at_ms), vote(f"r{number}", B, hit=False, at_ms=at_ms)]
    book = taken(*votes, watermark_ms=T0 + 20)
    state = book.pairs[PairKey(A, B)]
    # 7 of 7 are evidence of 26.8, and 8 of 8 of 50.3: the bar is 40.
    assert (state.claimed_ms, state.is_for_one) == (T0 + 7, True)
    assert state.counts == PairCounts(only_one=12)


# However votes come


def requests() -> st.SearchStrategy[list[Vote]]:
    """Few requests, answered by three variants of two versions, some hours or days apart."""
    one = st.builds(
        vote,
        st.sampled_from(["r", "q", "s", "t"]),
        st.sampled_from([A, B, C, Side("a", "v2")]),
        hit=st.booleans(),
        at_ms=st.integers(0, 80).map(lambda hours: T0 + hours * HOUR_MS),
        name=st.integers(0, 10**6).map(str),
        conversation=st.sampled_from(["", "", "c", "d"]),
    )
    return st.lists(one, max_size=30, unique_by=lambda v: v.prediction_id)


@REPEATABLE
@given(requests(), st.lists(st.integers(0, 90), max_size=6))
def test_neither_order_nor_the_moments_of_evaluation_show(
    votes: Sequence[Vote], looks: Sequence[int]
) -> None:
    at_once = Evaluator()
    at_once.take(reversed(votes), FAR_MS)
    step_by_step = Evaluator()
    last_ms = 0
    for until_ms in [*sorted({T0 + hours * HOUR_MS for hours in looks}), FAR_MS]:
        part = [v for v in votes if last_ms <= v.release_ms < until_ms]
        step_by_step.books = unpack_evaluation(
            pack_evaluation(Evaluation(pairs=step_by_step.books))
        ).pairs
        step_by_step.take(part, until_ms)
        last_ms = until_ms
    assert pack_pairs(step_by_step.books) == pack_pairs(at_once.books)


@REPEATABLE
@given(requests())
def test_each_answer_is_paired_or_repeated_or_left_over(votes: Sequence[Vote]) -> None:
    book = taken(*votes, watermark_ms=FAR_MS)
    assert book.waiting == {}
    two = [v for v in votes if v.key.variant in {"a", "b"} and not v.conversation]
    book = taken(*two, watermark_ms=FAR_MS)
    paired = 2 * sum(state.counts.n for state in book.pairs.values())
    assert paired + book.repeated + book.unpaired == len(two)


@REPEATABLE
@given(requests())
def test_to_change_names_changes_sides_and_nothing_else(votes: Sequence[Vote]) -> None:
    two = [v for v in votes if v.key.variant in {"a", "b"} and not v.version]
    names = {"a": "b", "b": "a"}
    swapped = [v._replace(key=SliceKey(names[v.key.variant])) for v in two]
    there, back = (taken(*found, watermark_ms=FAR_MS) for found in (two, swapped))
    assert counts_of(back) == {key: counts.swapped for key, counts in counts_of(there).items()}


# Votes


def test_outcome_with_a_request_votes_for_its_pair_once_mature() -> None:
    rule = PairRule("p", "urgent", URGENT, maturity_ms=2 * HOUR_MS)
    answer = prediction(log_ms=T0 + 100)._replace(request="ab" * 8)
    truth = label(log_ms=T0 + HOUR_MS)
    assert list(pair_votes_of(rule, DAY_MS, entry_of(answer))) == []
    assert list(pair_votes_of(rule, DAY_MS, entry_of(answer._replace(request=""), truth))) == []
    ((_, found),) = pair_votes_of(rule, DAY_MS, entry_of(answer, truth))
    assert (found.role, found.release_ms, found.hit) == (Role.PAIR, T0 + 2 * HOUR_MS, True)
    assert (found.request, found.predicted, found.actual) == ("ab" * 8, "", "")
    assert voice_of(found._replace(conversation="cd" * 8)) is None


@pytest.mark.parametrize(
    ("metric", "predicted", "actual", "hits"),
    [
        (Metric.RECALL, "report_fraud", "lost_card", [True]),
        (Metric.RECALL, "greeting", "lost_card", [False]),
        (Metric.RECALL, "lost_card", "greeting", []),
        (Metric.ACCURACY, "report_fraud", "lost_card", [False]),
        (Metric.ACCURACY, "greeting", "greeting", [True]),
    ],
)
def test_metric_says_whom_a_comparison_concerns(
    metric: Metric, predicted: str, actual: str, hits: list[bool]
) -> None:
    rule = PairRule("p", "urgent", URGENT, metric)
    answer = prediction(predicted=predicted)._replace(request="ab" * 8)
    found = pair_votes_of(rule, DAY_MS, entry_of(answer, label(actual=actual)))
    assert [each.hit for _, each in found] == hits


def test_label_that_changes_after_the_release_casts_a_correction() -> None:
    answer = prediction()._replace(request="ab" * 8)
    truths = (label(log_ms=T0 + 200), label(actual="greeting", log_ms=T0 + 300, revision=2))
    found = [v for _, v in pair_votes_of(RULE, DAY_MS, entry_of(answer, *truths))]
    assert [each.role for each in found] == [Role.PAIR, Role.CORRECTION]


def test_only_a_vote_with_a_request_is_stored_with_one() -> None:
    plain, paired = vote("", A, role=Role.LIVE), vote("r", A)
    assert pack_vote(plain).count(b",") == pack_vote(paired).count(b",") - 1
    assert [unpack_vote(pack_vote(each)) for each in (plain, paired)] == [plain, paired]


def test_what_knows_no_comparison_is_stored_as_before_there_were_any() -> None:
    assert pack_evaluation(Evaluation(3, T0)) == f'[3,{T0},[],[],[],[],[],""]'.encode()


def test_no_voice_of_a_pair_can_be_taken_for_one_of_an_alert() -> None:
    cast = [vote("r", side, conversation="c") for side in (A, B)]
    names = evaluate([RULE], {}, cast, T0 + 1, spoken={}).spoken
    assert {name[0] for name in names} == {"a", "c", "m"}
    assert all(T0 - CONVERSATION_MS <= at_ms <= T0 for at_ms in names.values())
