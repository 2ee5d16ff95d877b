import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain import join
from monitor.domain.events import Label, Prediction
from monitor.domain.join import HOUR_MS, Entry, Outcome, expiry_ms
from tests.builders import T0, entry_of, label, prediction
from tests.domain.facts import EXPIRY_MS, HORIZON_MS, REPEATABLE, facts, labels, predictions

FIRST = label(actual="balance", at_ms=T0 + 10, log_ms=T0 + 500)
CORRECTION = label(actual="lost_card", at_ms=T0 + 20, log_ms=T0 + 600, revision=2)
WITHDRAWAL = label(actual="", at_ms=T0 + 30, log_ms=T0 + 700, revision=3, withdrawn=True)


def books_of(entry: Entry) -> dict[str, int]:
    return dict(join.standing(entry, HORIZON_MS))


def outcome_of(*facts: Prediction | Label) -> Outcome | None:
    return join.outcome_of(entry_of(*facts), HORIZON_MS)


@pytest.mark.parametrize(
    "order",
    [
        (prediction(), FIRST, CORRECTION),
        (prediction(), CORRECTION, FIRST),
        (FIRST, prediction(), CORRECTION),
        (CORRECTION, FIRST, prediction()),
        (FIRST, prediction(), FIRST, CORRECTION, prediction(), CORRECTION),
    ],
    ids=["in order", "correction overtakes", "label first", "prediction last", "redelivered"],
)
def test_highest_revision_decides_whatever_the_order(order: tuple[Prediction | Label, ...]) -> None:
    entry = entry_of(*order)
    assert entry == Entry(prediction(), (FIRST, CORRECTION))
    assert join.outcome_of(entry, HORIZON_MS) == Outcome("lost_card", "lost_card", T0 + 600, 20)


def test_later_label_time_decides_between_equal_revisions() -> None:
    earlier = label(actual="balance", at_ms=T0 + 10, log_ms=T0 + 900, key="a")
    later = label(actual="greeting", at_ms=T0 + 11, log_ms=T0 + 300, key="b")
    outcome = outcome_of(prediction(), later, earlier)
    assert outcome is not None
    assert outcome.actual == "greeting"


def test_copy_that_is_first_in_the_log_counts_even_if_it_is_read_last() -> None:
    first, second = prediction(predicted="balance", log_ms=T0 + 1), prediction(log_ms=T0 + 2)
    assert entry_of(second, first).prediction == first
    early = label(actual="balance", key="same", log_ms=T0 + 5)
    late = label(actual="lost_card", key="same", log_ms=T0 + 6)
    assert entry_of(late, early).labels == (early,)


def test_copies_of_one_instant_that_differ_are_told_apart_whatever_the_order() -> None:
    twins = [label(key="same", relevance_micros=micros) for micros in (7, None, 0)]
    assert len({entry_of(*order).labels for order in itertools.permutations(twins)}) == 1
    doubles = [prediction(), prediction(latency_bucket=0), prediction(slices=("web",))]
    assert len({entry_of(*order).prediction for order in itertools.permutations(doubles)}) == 1


def test_withdrawal_makes_the_prediction_unlabelled_again() -> None:
    entry = entry_of(prediction(), FIRST, WITHDRAWAL)
    assert join.outcome_of(entry, HORIZON_MS) is None
    assert join.deciding(entry, HORIZON_MS) is None


def test_higher_revision_after_a_withdrawal_counts_again() -> None:
    again = label(actual="report_fraud", revision=4)
    outcome = outcome_of(prediction(), again, WITHDRAWAL, FIRST)
    assert outcome is not None
    assert outcome.actual == "report_fraud"


def test_verification_latency_is_never_below_zero() -> None:
    outcome = outcome_of(prediction(), label(at_ms=T0 - 5_000))
    assert outcome is not None
    assert outcome.delay_ms == 0


@pytest.mark.parametrize(
    ("entry", "books"),
    [
        (Entry(), {}),
        (entry_of(prediction()), {f"predictions.pending@{T0 // HOUR_MS}": 1}),
        (
            entry_of(FIRST, CORRECTION),
            {f"labels.orphan@{T0 // HOUR_MS}": 1},
        ),
        (
            entry_of(prediction(), FIRST),
            {"predictions.labelled": 1, "labels.applied": 1},
        ),
        (
            entry_of(prediction(), FIRST, CORRECTION),
            {
                "predictions.labelled": 1,
                "labels.applied": 1,
                "labels.superseded": 1,
                "labels.corrected": 1,
            },
        ),
        (
            entry_of(prediction(), FIRST, WITHDRAWAL),
            {
                f"predictions.pending@{T0 // HOUR_MS}": 1,
                "labels.applied": 1,
                "labels.superseded": 1,
                "labels.corrected": 1,
            },
        ),
        (
            entry_of(prediction(), label(log_ms=EXPIRY_MS)),
            {f"predictions.pending@{T0 // HOUR_MS}": 1, "labels.expired": 1},
        ),
        (
            entry_of(prediction(log_ms=T0 + 100), label(log_ms=T0 + 99)),
            {"predictions.labelled": 1, "labels.applied": 1, "labels.early": 1},
        ),
    ],
    ids=[
        "nothing",
        "pending",
        "orphans",
        "labelled",
        "corrected",
        "withdrawn",
        "expired label",
        "early label",
    ],
)
def test_standing_books_every_fact_once(entry: Entry, books: dict[str, int]) -> None:
    assert books_of(entry) == books


def test_label_in_the_log_with_its_prediction_is_not_early() -> None:
    books = books_of(entry_of(prediction(log_ms=T0 + 100), label(log_ms=T0 + 100)))
    assert "labels.early" not in books


#   event hour            horizon of 2 h             EXPIRY_MS
#   [T0 ----- T0 + 1 h)-------------|-----------------)   labels from here on are expired
#                          EXPIRY_MS - 1 still counts


@pytest.mark.parametrize("event_ms", [T0, T0 + 1, T0 + HOUR_MS - 1])
def test_whole_hour_of_predictions_expires_together(event_ms: int) -> None:
    assert expiry_ms(event_ms, HORIZON_MS) == T0 + 3 * HOUR_MS


def test_next_hour_expires_an_hour_later() -> None:
    assert expiry_ms(T0 + HOUR_MS, HORIZON_MS) == T0 + 4 * HOUR_MS


def test_instant_before_the_epoch_expires_after_the_hour_it_lies_in() -> None:
    assert expiry_ms(-1, HORIZON_MS) == HORIZON_MS


@pytest.mark.parametrize(("log_ms", "counts"), [(EXPIRY_MS - 1, True), (EXPIRY_MS, False)])
def test_label_counts_up_to_the_last_millisecond_before_expiry(log_ms: int, counts: bool) -> None:
    entry = entry_of(prediction(), label(log_ms=log_ms))
    assert (join.outcome_of(entry, HORIZON_MS) is not None) is counts
    assert len(join.applicable(entry, HORIZON_MS)) == counts


#   EXPIRY_MS                      EXPIRY_MS + slack
#   ---applied---|-----expired-----|---orphan: the store may have dropped the prediction---
@pytest.mark.parametrize(
    ("log_ms", "counter"),
    [
        (EXPIRY_MS - 1, "labels.applied"),
        (EXPIRY_MS, "labels.expired"),
        (EXPIRY_MS + join.RETENTION_SLACK_MS - 1, "labels.expired"),
        (EXPIRY_MS + join.RETENTION_SLACK_MS, "labels.orphan"),
    ],
)
def test_label_too_late_for_any_stored_prediction_is_an_orphan_whether_it_is_stored_or_not(
    log_ms: int, counter: str
) -> None:
    with_prediction = books_of(entry_of(prediction(), label(log_ms=log_ms)))
    assert [name for name in with_prediction if name.partition("@")[0] == counter]
    if counter == "labels.orphan":
        alone = books_of(entry_of(label(log_ms=log_ms)))
        assert alone.items() <= with_prediction.items()


def test_correction_past_the_horizon_leaves_the_truth_as_it_was() -> None:
    late = label(actual="greeting", revision=9, log_ms=EXPIRY_MS)
    outcome = outcome_of(prediction(), FIRST, late)
    assert outcome is not None
    assert outcome.actual == "balance"


#   mature_ms = T0 + 1_000
#   T0 +  500  first label        known before it is mature: waits for T0 + 1_000
#   T0 + 2_000 first label        known after it is mature: released at once


@pytest.mark.parametrize(
    ("label_log_ms", "release_ms"), [(500, 1_000), (1_000, 1_000), (2_000, 2_000)]
)
def test_outcome_is_evidence_once_it_is_both_known_and_mature(
    label_log_ms: int, release_ms: int
) -> None:
    entry = entry_of(prediction(), label(log_ms=T0 + label_log_ms))
    decided = join.first_decided(entry, mature_ms=T0 + 1_000, horizon_ms=HORIZON_MS)
    assert decided == (T0 + release_ms, "lost_card")


def test_correction_before_release_changes_the_evidence_and_one_after_it_does_not() -> None:
    entry = entry_of(prediction(), FIRST, CORRECTION)
    known = join.first_decided(entry, mature_ms=T0 + 600, horizon_ms=HORIZON_MS)
    assert known == (T0 + 600, "lost_card")
    not_yet = join.first_decided(entry, mature_ms=T0 + 599, horizon_ms=HORIZON_MS)
    assert not_yet == (T0 + 599, "balance")


def test_withdrawn_label_is_no_evidence_until_another_comes() -> None:
    entry = entry_of(prediction(), FIRST, WITHDRAWAL)
    assert join.first_decided(entry, mature_ms=T0 + 800, horizon_ms=HORIZON_MS) is None
    after = join.with_label(entry, label(revision=4, log_ms=T0 + 900))
    decided = join.first_decided(after, mature_ms=T0 + 800, horizon_ms=HORIZON_MS)
    assert decided == (T0 + 900, "lost_card")


@pytest.mark.parametrize("entry", [Entry(), entry_of(FIRST), entry_of(prediction())])
def test_entry_without_both_sides_decides_nothing(entry: Entry) -> None:
    assert join.applicable(entry, HORIZON_MS) == ()
    assert join.outcome_of(entry, HORIZON_MS) is None
    assert join.first_decided(entry, mature_ms=0, horizon_ms=HORIZON_MS) is None


@REPEATABLE
@given(st.data())
def test_any_order_of_facts_ends_in_the_same_entry(data: st.DataObject) -> None:
    known = data.draw(st.lists(facts(), max_size=8))
    read = data.draw(st.permutations(known))
    first, second = entry_of(*known), entry_of(*read)
    assert first == second
    assert books_of(first) == books_of(second)
    assert join.outcome_of(first, HORIZON_MS) == join.outcome_of(second, HORIZON_MS)


@REPEATABLE
@given(st.lists(facts(), max_size=6), predictions(["p1"]), labels(["p1"]))
def test_same_fact_again_changes_nothing(
    known: list[Prediction | Label], again: Prediction, truth: Label
) -> None:
    entry = entry_of(*known)
    with_both = join.with_label(join.with_prediction(entry, again), truth)
    assert join.with_prediction(with_both, again) is with_both
    assert join.with_label(with_both, truth) is with_both


@REPEATABLE
@given(st.lists(labels(["p1"]), max_size=6))
def test_labels_are_kept_once_a_key_with_the_winner_last(known: list[Label]) -> None:
    held = entry_of(*known).labels
    assert len({one.label_key for one in held}) == len(held)
    assert list(held) == sorted(held, key=join.precedence)
