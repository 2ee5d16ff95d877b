import pytest

from monitor.domain.events import Kind, Partition, Reason
from monitor.domain.join import HOUR_MS
from monitor.domain.ledger import (
    RECEIVED,
    Gap,
    balance_of,
    duplicate,
    expired,
    gap,
    gaps_of,
    merged,
    rejected,
)

HOUR = 491_234


def test_counters_are_named_after_kind_and_reason() -> None:
    assert RECEIVED[Kind.PREDICTIONS] == "predictions.received"
    assert duplicate(Kind.LABELS) == "labels.duplicate"
    assert expired(Kind.LABELS) == "labels.expired"
    assert rejected(Kind.LABELS, Reason.NOT_UTF8) == "labels.rejected.not_utf8"


def test_empty_books_balance_and_hold_nothing() -> None:
    for kind in Kind:
        balance = balance_of({}, kind, watermark_ms=0, horizon_ms=HOUR_MS)
        assert (balance.received, balance.accepted, balance.difference) == (0, 0, 0)
        assert balance.rejected == {}


def test_predictions_are_split_into_all_that_can_become_of_them() -> None:
    books = {
        "predictions.received": 20,
        "predictions.labelled": 7,
        f"predictions.pending@{HOUR}": 5,
        f"predictions.pending@{HOUR + 1}": 1,
        "predictions.expired": 2,
        "predictions.duplicate": 3,
        "predictions.rejected.not_json": 2,
        "labels.received": 99,
    }
    balance = balance_of(
        books, Kind.PREDICTIONS, watermark_ms=HOUR * HOUR_MS, horizon_ms=2 * HOUR_MS
    )
    assert balance.parts == {"labelled": 7, "pending": 6}
    assert (balance.expired, balance.duplicate, balance.accepted) == (2, 3, 15)
    assert balance.rejected == {"not_json": 2}
    assert balance.difference == 0


def test_labels_are_split_into_all_that_can_become_of_them() -> None:
    books = {
        "labels.received": 15,
        "labels.applied": 4,
        "labels.superseded": 1,
        f"labels.orphan@{HOUR}": 3,
        "labels.expired": 2,
        "labels.duplicate": 1,
        "labels.rejected.bad_time": 3,
        "labels.rejected.empty_id": 1,
        "labels.early": 4,
        "labels.corrected": 1,
    }
    balance = balance_of(books, Kind.LABELS, watermark_ms=0, horizon_ms=HOUR_MS)
    assert balance.parts == {"applied": 4, "superseded": 1, "orphan": 3}
    assert list(balance.rejected) == ["bad_time", "empty_id"]
    assert (balance.accepted, balance.difference) == (10, 0)


def test_difference_shows_a_record_that_was_lost() -> None:
    books = {"predictions.received": 3, "predictions.labelled": 2}
    assert balance_of(books, Kind.PREDICTIONS, watermark_ms=0, horizon_ms=HOUR_MS).difference == 1


#   event hour [HOUR, HOUR + 1)     horizon of 2 h                  expiry
#   |---------------------------|--------------|--------------|------> expired
#   HOUR                     HOUR + 1                      HOUR + 3


@pytest.mark.parametrize(
    ("kind", "counter"), [(Kind.PREDICTIONS, "pending"), (Kind.LABELS, "orphan")]
)
@pytest.mark.parametrize(("past_ms", "gone"), [(-1, 0), (0, 4)])
def test_what_waits_reads_as_expired_from_the_end_of_its_hour_plus_horizon_on(
    kind: Kind, counter: str, past_ms: int, gone: int
) -> None:
    books = {RECEIVED[kind]: 4, f"{kind}.{counter}@{HOUR}": 4}
    watermark_ms = (HOUR + 3) * HOUR_MS + past_ms
    balance = balance_of(books, kind, watermark_ms=watermark_ms, horizon_ms=2 * HOUR_MS)
    assert (balance.expired, balance.parts[counter]) == (gone, 4 - gone)
    assert (balance.accepted, balance.difference) == (4, 0)


def test_shards_are_added_up_and_empty_counters_left_out() -> None:
    total = merged([{"b": 2, "gone": 1}, {"a": 1, "gone": -1}, {"b": 3}])
    assert total == {"a": 1, "b": 5}
    assert list(total) == ["a", "b"]


# Gaps


def test_gap_reads_as_partition_and_offsets_in_messages() -> None:
    assert str(Gap(Partition("predictions", 0), 100, 1_000)) == "predictions[0]@100-999"
    assert str(Gap(Partition("labels", 12), 7, 8)) == "labels[12]@7-7"


@pytest.mark.parametrize("topic", ["labels", "eu.chat-labels_v2", "7", "gap"])
def test_gap_that_was_entered_is_found_again(topic: str) -> None:
    found = Gap(Partition(topic, 31), 9_007_199_254_740_993, 9_007_199_254_740_999)
    assert gaps_of({gap(found): 1, f"{topic}.received": 4}) == [found]


def test_books_without_a_gap_lack_nothing() -> None:
    assert gaps_of({"labels.received": 3}) == []


def test_gaps_that_overlap_or_adjoin_are_one() -> None:
    """Shards that stood at different places miss different parts of what was dropped."""
    place = Partition("labels", 0)
    runs = [(7, 9), (9, 12), (8, 10), (20, 21), (3, 30)]
    assert gaps_of({gap(Gap(place, *run)): 1 for run in runs[:4]}) == [
        Gap(place, 7, 12),
        Gap(place, 20, 21),
    ]
    assert gaps_of({gap(Gap(place, *run)): 1 for run in runs}) == [Gap(place, 3, 30)]


def test_gaps_of_different_partitions_stay_apart_and_in_order() -> None:
    gaps = [
        Gap(Partition("labels", 2), 5, 6),
        Gap(Partition("labels", 10), 0, 5),
        Gap(Partition("predictions", 0), 5, 7),
    ]
    assert gaps_of({gap(each): 2 for each in reversed(gaps)}) == gaps


@pytest.mark.parametrize("kind", Kind)
def test_gap_is_part_of_no_balance(kind: Kind) -> None:
    books = {RECEIVED[kind]: 4, f"{kind}.duplicate": 4, gap(Gap(Partition(kind, 0), 0, 9)): 1}
    balance = balance_of(books, kind, watermark_ms=0, horizon_ms=HOUR_MS)
    assert (balance.received, balance.accepted, balance.difference) == (4, 0, 0)
    assert balance.rejected == {}
