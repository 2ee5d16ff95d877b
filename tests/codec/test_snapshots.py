from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.codec.snapshots import (
    HOUR_BYTES,
    Unpacker,
    anchor_hour,
    canonical,
    digest_of,
    names_in,
    pack_entries,
    pack_entry,
    pack_evaluation,
    pack_transition,
    pack_vote,
    unpack_evaluation,
    unpack_transition,
    unpack_vote,
)
from monitor.codec.vocabulary import NOTHING, code_of
from monitor.domain.alerts import (
    AlertKey,
    AlertState,
    Judgement,
    Missed,
    Shadow,
    Status,
    Transition,
    evaluate,
)
from monitor.domain.counts import Counts
from monitor.domain.detectors import Glance, Mixture
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import Label, Prediction, PredictionId
from monitor.domain.join import HOUR_MS, Entry
from monitor.domain.maturity import MaturityBook
from monitor.domain.slices import SliceKey
from monitor.domain.votes import Role, Vote
from monitor.domain.windows import ALL_TIME, Clock, PaneKey
from tests.builders import T0, entry_of, label, outcomes, prediction, ring, rule, vote, votes
from tests.domain.facts import REPEATABLE

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
IDS = st.one_of(NAMES, st.sampled_from(["1", "é", "\x00", "'", "😀", "x" * 300]))
INSTANTS = st.integers(0, 2**41)
MICROS = st.one_of(st.none(), st.integers(0, 10**6))
COUNTS = st.integers(0, 99)


def all_predictions(prediction_id: str) -> st.SearchStrategy[Prediction]:
    return st.builds(
        prediction,
        st.just(prediction_id),
        NAMES,
        at_ms=INSTANTS,
        log_ms=st.one_of(INSTANTS, st.sampled_from([-1, 2**62])),
        variant=NAMES,
        slices=st.lists(st.one_of(NAMES, st.just("")), max_size=3).map(tuple),
        latency_bucket=st.one_of(st.none(), st.integers(-346, 1_400)),
        relevance_micros=MICROS,
        version=st.one_of(NAMES, st.just("")),
        conversation=st.sampled_from(["", "0123456789abcdef"]),
        request=st.sampled_from(["", "fedcba9876543210"]),
        scores=st.lists(st.tuples(NAMES, st.integers(0, 79)), max_size=2).map(tuple),
    )


def all_labels(prediction_id: str) -> st.SearchStrategy[Label]:
    return st.builds(
        label,
        st.just(prediction_id),
        st.one_of(NAMES, st.just("")),
        at_ms=INSTANTS,
        log_ms=st.one_of(INSTANTS, st.sampled_from([-1, 2**62])),
        key=st.one_of(NAMES, st.just("l1")),
        revision=st.one_of(st.integers(1, 4), st.just(2**63 - 1)),
        withdrawn=st.booleans(),
        relevance_micros=MICROS,
    )


def entries() -> st.SearchStrategy[Entry]:
    """Pending, orphans, labelled, corrected; never empty, since an empty entry is not stored."""
    return IDS.flatmap(
        lambda one: st.lists(
            st.one_of(all_predictions(one), all_labels(one)), min_size=1, max_size=6
        ).map(lambda facts: entry_of(*facts))
    )


def id_of(entry: Entry) -> PredictionId:
    return entry.prediction.prediction_id if entry.prediction else entry.labels[0].prediction_id


def unpacked(entry: Entry) -> Entry:
    names = {NOTHING: ""} | {code_of(name): name for name in names_in([entry])}
    one = id_of(entry)
    return Unpacker(names.__getitem__).entries({one: pack_entry(entry)})[one]


@REPEATABLE
@given(entries())
def test_entry_comes_back_as_it_was_packed(entry: Entry) -> None:
    assert unpacked(entry) == entry


@pytest.mark.parametrize(
    "entry",
    [
        entry_of(prediction()),
        entry_of(prediction(slices=("", "web", ""), latency_bucket=-346, relevance_micros=0)),
        entry_of(label()),
        entry_of(label(), label(revision=2), label(revision=3, actual="", withdrawn=True)),
        entry_of(prediction(), label(actual="greeting", relevance_micros=0), label(revision=2)),
        entry_of(prediction("1"), label("1", key="\x00'😀")),
    ],
    ids=["pending", "odd slices", "orphan", "orphans", "corrected", "odd names"],
)
def test_every_kind_of_entry_comes_back(entry: Entry) -> None:
    assert unpacked(entry) == entry


@REPEATABLE
@given(st.data())
def test_equal_entries_give_equal_bytes_whatever_the_order_of_their_facts(
    data: st.DataObject,
) -> None:
    facts = data.draw(
        st.lists(st.one_of(all_predictions("p1"), all_labels("p1")), min_size=1, max_size=5)
    )
    again = data.draw(st.permutations(facts))
    assert pack_entry(entry_of(*facts)) == pack_entry(entry_of(*again))


def named(names: str, entry: Entry) -> Entry:
    """The same of another prediction."""
    one = PredictionId(names)
    said, labels = entry
    return Entry(
        said and said._replace(prediction_id=one),
        tuple(held._replace(prediction_id=one) for held in labels),
    )


@REPEATABLE
@given(st.lists(entries(), max_size=8), st.data())
def test_many_entries_are_packed_and_come_back_as_each_does_by_itself(
    found: list[Entry], data: st.DataObject
) -> None:
    many = {PredictionId(f"p{n}"): named(f"p{n}", entry) for n, entry in enumerate(found)}
    # Each was known before by some of its labels, or by none, or not at all.
    labels = st.integers(0, 2)
    known = {
        key: (before, pack_entry(before))
        for key, (said, now) in many.items()
        if (before := Entry(said, now[: data.draw(labels)])) != Entry() and data.draw(st.booleans())
    }
    packed = [pack_entry(entry) for entry in many.values()]
    assert pack_entries(many, known) == pack_entries(many, {}) == packed
    names = {NOTHING: ""} | {code_of(name): name for name in names_in(many.values())}
    assert Unpacker(names.__getitem__).entries(dict(zip(many, packed, strict=True))) == many


def test_entry_that_is_not_as_it_was_known_is_packed_as_it_is() -> None:
    known, other = entry_of(prediction()), entry_of(prediction(predicted="greeting"), label())
    key = id_of(known)
    assert pack_entries({key: other}, {key: (known, pack_entry(known))}) == [pack_entry(other)]


@settings(REPEATABLE, max_examples=60)
@given(entries(), entries())
def test_different_entries_of_one_id_give_different_bytes(one: Entry, other: Entry) -> None:
    same_id = [named("p1", entry) for entry in (one, other)]
    assert (pack_entry(same_id[0]) == pack_entry(same_id[1])) is (same_id[0] == same_id[1])


def test_pending_entry_is_small() -> None:
    entry = entry_of(prediction("0123456789abcdef", slices=("web",), latency_bucket=250))
    assert len(pack_entry(entry)) <= 48


#   [T0 -- event -- T0 + 1 h)   the hour in front is the one that expiry counts from


@pytest.mark.parametrize(
    ("entry", "hour"),
    [
        (entry_of(prediction(at_ms=T0 + HOUR_MS - 1)), T0 // HOUR_MS),
        (entry_of(prediction(at_ms=T0 + HOUR_MS)), T0 // HOUR_MS + 1),
        (entry_of(prediction(at_ms=T0), label(log_ms=T0 + 9 * HOUR_MS)), T0 // HOUR_MS),
        (entry_of(label(log_ms=T0), label(revision=2, log_ms=T0 + HOUR_MS)), T0 // HOUR_MS + 1),
        (entry_of(label(log_ms=-1)), 0),
        (entry_of(label(log_ms=T0 * 1_000)), 2**24 - 1),
    ],
    ids=[
        "event",
        "next hour",
        "label does not count",
        "newest orphan",
        "no log time",
        "microseconds",
    ],
)
def test_hour_in_front_says_from_when_expiry_counts(entry: Entry, hour: int) -> None:
    assert anchor_hour(entry) == hour
    assert int.from_bytes(pack_entry(entry)[:HOUR_BYTES], "big") == hour


def test_names_of_an_entry_are_all_that_is_written_as_a_code() -> None:
    entry = entry_of(prediction(slices=("web", "")), label(actual="balance"))
    assert names_in([entry]) == {"", "balance", "fine_tuned", "lost_card", "web"}


ROLES = st.sampled_from(Role)
KEYS = st.builds(AlertKey, NAMES, st.builds(SliceKey, NAMES, NAMES), NAMES)
VOTES = st.builds(
    Vote,
    INSTANTS,
    IDS,
    NAMES,
    st.builds(SliceKey, NAMES, NAMES),
    INSTANTS,
    st.booleans(),
    ROLES,
    NAMES,
    st.sampled_from(["", "0123456789abcdef"]),
    NAMES,
    NAMES,
)
CAPITALS = st.floats(0, 1e12)
MIXTURES = st.builds(
    Mixture,
    st.lists(CAPITALS, min_size=4, max_size=4),
    st.lists(CAPITALS, min_size=4, max_size=4),
    st.lists(st.tuples(COUNTS, COUNTS, INSTANTS), min_size=4, max_size=4),
    COUNTS,
    COUNTS,
)
SHADOWS = st.builds(
    Shadow,
    MIXTURES,
    is_firing=st.booleans(),
    judgements=st.lists(
        st.builds(Judgement, IDS, st.floats(0, 1), INSTANTS, INSTANTS, COUNTS, COUNTS, INSTANTS),
        max_size=2,
    ),
    episodes=st.lists(st.tuples(INSTANTS, INSTANTS), max_size=2),
)
STATES = st.builds(
    AlertState,
    st.sampled_from(Status),
    INSTANTS,
    INSTANTS,
    COUNTS,
    st.lists(st.tuples(INSTANTS, st.booleans()), max_size=100).map(lambda r: Glance(tuple(r))),
    MIXTURES,
    MIXTURES,
    recent=st.integers(0, 2**60 - 1),
    gap_ms=CAPITALS,
    missed=st.lists(st.builds(Missed, IDS, INSTANTS, NAMES, NAMES), max_size=2).map(tuple),
    shadow=SHADOWS,
)
ALERTS = st.dictionaries(KEYS, STATES, max_size=2)
BINS = st.dictionaries(st.integers(0, 9), st.dictionaries(st.integers(0, 9), COUNTS, max_size=2))
BOOKS = st.dictionaries(
    NAMES, st.builds(MaturityBook, INSTANTS, INSTANTS, INSTANTS, COUNTS, BINS, BINS), max_size=2
)


@REPEATABLE
@given(VOTES)
def test_vote_comes_back_as_it_was_packed(one: Vote) -> None:
    found = unpack_vote(pack_vote(one))
    assert found == one
    assert isinstance(found.key, SliceKey)


@REPEATABLE
@given(
    st.integers(0, 2**53),
    st.one_of(st.none(), INSTANTS),
    ALERTS,
    st.lists(VOTES, max_size=3),
    BOOKS,
)
def test_evaluation_comes_back_bit_by_bit_as_it_was_packed(
    sequence: int,
    watermark_ms: int | None,
    states: dict[AlertKey, AlertState],
    found: list[Vote],
    books: dict[str, MaturityBook],
) -> None:
    given_ = Evaluation(sequence, watermark_ms, states, tuple(found), tuple(found), books)
    assert unpack_evaluation(pack_evaluation(given_)) == given_


def test_equal_evaluations_give_equal_bytes_whatever_the_order_of_alerts() -> None:
    one, other = AlertKey("a", SliceKey("x")), AlertKey("b", SliceKey("y"), "v2")
    states = {
        one: AlertState(Status.OK, T0),
        other: AlertState(Status.FIRING, T0, T0, 2, ring(1, 2)),
    }
    backwards = dict(reversed(states.items()))
    there, back = (pack_evaluation(Evaluation(1, T0, found)) for found in (states, backwards))
    assert there == back


def some_transitions() -> list[Transition]:
    moved = evaluate([rule(is_glance=True)], {}, votes([False] * 20), T0 + 10**6).transitions
    return [replace(one, cut=(("labels[0]", 7), ("predictions[0]", 9))) for one in moved]


@pytest.mark.parametrize(
    "transition", [*some_transitions(), replace(some_transitions()[0], evidence=None)]
)
def test_transition_comes_back_as_it_was_packed(transition: Transition) -> None:
    assert unpack_transition(pack_transition(transition)) == transition


def test_canonical_json_is_sorted_compact_and_unescaped() -> None:
    assert canonical({"b": [1, None], "a": "é"}) == '{"a":"é","b":[1,null]}'.encode()


def test_canonical_json_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical([float("nan")])


LEDGER = {"predictions.received": 3, "predictions.labelled": 3}
PANES = [
    (
        PaneKey(Clock.EVENT, ALL_TIME, 0, SliceKey("fine_tuned")),
        outcomes({("a", "a"): 2, ("a", "b"): 1}),
    ),
    (PaneKey(Clock.LABEL, HOUR_MS, T0, SliceKey("fine_tuned")), outcomes({("a", "a"): 2})),
]


def digest(
    *,
    ledger: dict[str, int] = LEDGER,
    panes: Sequence[tuple[PaneKey, Counts]] = PANES,
    transitions: Sequence[Transition] | None = None,
) -> str:
    return digest_of(ledger, panes, some_transitions() if transitions is None else transitions)


def test_digest_of_known_numbers_is_known() -> None:
    # Golden: a change here makes every digest of earlier versions incomparable.
    assert digest() == "sha256:d86d100852625294a191997d5c4230cedef249b3a067e07ea10f5de4b92f0810"


def test_digest_does_not_depend_on_order_empty_counts_or_where_the_log_stood() -> None:
    empty = (PaneKey(Clock.EVENT, HOUR_MS, T0, SliceKey("gone")), Counts({("prediction", "a"): 0}))
    assert digest(panes=[*reversed(PANES), empty]) == digest()
    assert digest(ledger={"labels.orphan@1": 0, **dict(reversed(LEDGER.items()))}) == digest()
    elsewhere = [replace(one, cut=(("predictions[5]", 1),)) for one in some_transitions()]
    assert digest(transitions=elsewhere) == digest()


def test_digest_shows_every_difference_that_counts() -> None:
    first, second = some_transitions()
    (key, counts), other = PANES
    changed = [
        digest(ledger={**LEDGER, "labels.received": 1}),
        digest(panes=PANES[:1]),
        digest(panes=[(key, outcomes({("a", "a"): 1, ("a", "b"): 2})), other]),
        digest(panes=[(key._replace(start_ms=1), counts), other]),
        digest(panes=[(key._replace(clock=Clock.LABEL), counts), other]),
        digest(transitions=[first]),
        digest(transitions=[second, first]),
        digest(transitions=[first, replace(second, at_ms=second.at_ms + 1)]),
        digest(transitions=[first, replace(second, evidence=None)]),
    ]
    assert len({digest(), *changed}) == len(changed) + 1


def test_vote_of_one_alert_packs_apart_from_the_same_vote_of_another() -> None:
    assert pack_vote(vote()) != pack_vote(vote(rule_name="other"))
