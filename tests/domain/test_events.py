from monitor.domain.events import Kind, Partition, Position, Reason
from tests.builders import record


def test_partition_reads_as_topic_and_number() -> None:
    assert str(Partition("predictions", 3)) == "predictions[3]"


def test_position_reads_as_partition_and_offset() -> None:
    assert str(Position("labels", 0, 12)) == "labels[0]@12"


def test_record_knows_where_it_stands() -> None:
    assert record(b"{}", topic="labels", partition=2, offset=7).position == ("labels", 2, 7)


def test_kinds_are_the_names_of_the_two_logs() -> None:
    assert [str(kind) for kind in Kind] == ["predictions", "labels"]


def test_reasons_are_the_words_of_the_contract() -> None:
    assert {str(reason) for reason in Reason} == {
        "not_utf8",
        "not_json",
        "not_an_object",
        "missing_field",
        "wrong_type",
        "empty_id",
        "not_finite",
        "out_of_range",
        "unknown_intent",
        "bad_time",
        "future_time",
        "too_large",
        "null_value",
        # Not in the message but in our code: it failed on the record.
        "unprocessable",
    }
