import pytest

from monitor.domain.slices import ALL, Groups, SliceKey, slices_of


def test_record_belongs_to_all_and_to_one_slice_for_each_value() -> None:
    found = list(slices_of(("channel", "locale"), ("web", "de")))
    assert found == [ALL, "channel=web", "locale=de"]


def test_missing_value_makes_no_slice() -> None:
    assert list(slices_of(("channel", "locale"), ("", "de"))) == [ALL, "locale=de"]


def test_without_declared_slices_there_is_only_all() -> None:
    assert list(slices_of((), ())) == [ALL]


def test_values_that_do_not_fit_the_declared_names_are_a_fault() -> None:
    with pytest.raises(ValueError, match="zip"):
        list(slices_of(("channel",), ()))


def test_key_is_everything_unless_said_otherwise() -> None:
    assert SliceKey() == (ALL, ALL)


def test_group_stands_for_its_intents_and_plain_intent_for_itself() -> None:
    groups = Groups({"urgent": frozenset({"lost_card", "report_fraud"})})
    assert groups.of("urgent") == {"lost_card", "report_fraud"}
    assert groups.of("balance") == {"balance"}
