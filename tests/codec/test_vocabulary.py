from hypothesis import given
from hypothesis import strategies as st

from monitor.codec.vocabulary import CODE_BYTES, NOTHING, code_of
from tests.domain.facts import REPEATABLE


def test_code_of_a_name_is_the_same_on_every_machine() -> None:
    # Stored in Redis: another value here means that no existing store can be read any more.
    assert code_of("report_lost_card").hex() == "c49f713451e3"


def test_empty_name_has_the_empty_code() -> None:
    assert code_of("") == NOTHING == b""


@REPEATABLE
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_other_name_has_a_code_of_six_bytes(name: str) -> None:
    assert len(code_of(name)) == CODE_BYTES


def test_a_thousand_names_have_a_thousand_codes() -> None:
    assert len({code_of(f"intent_{number}") for number in range(1_000)}) == 1_000
