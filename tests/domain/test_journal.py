"""The journal's chain: what is missing, altered or moved is found and named."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.codec.journal import chain_of_lines, pack_journal_entry, sealed
from monitor.domain.journal import Chain, Fault, JournalEntry, chain_of

LENGTH = 6


def chained(
    count: int, after: JournalEntry | None = None, *, code: str = "1"
) -> list[JournalEntry]:
    """So many sealed entries that follow ``after``."""
    found: list[JournalEntry] = []
    last = after
    for _ in range(count):
        sequence, previous = (last.sequence + 1, last.hash) if last else (1, "")
        last = sealed(
            JournalEntry(
                sequence=sequence,
                tick_ms=1_000 * sequence,
                cut=(("predictions[0]", sequence),),
                settings="settings",
                code=code,
                state=f"state {sequence}",
                books="",
                transitions=(f"a-{sequence}",),
                found="found",
                previous=previous,
            )
        )
        found.append(last)
    return found


def read(entries: Sequence[JournalEntry]) -> Chain:
    """As they are read from a topic."""
    return chain_of_lines(map(pack_journal_entry, entries))


def faults(entries: Sequence[JournalEntry]) -> list[tuple[Fault, int]]:
    return [(one.fault, one.sequence) for one in read(entries).breaks]


WHOLE = chained(LENGTH)


def test_a_journal_without_entries_has_no_faults() -> None:
    assert read([]) == Chain((), (), 0)


@pytest.mark.parametrize("first", range(LENGTH))
def test_a_chain_holds_from_any_entry_on(first: int) -> None:
    """Those before it may have been dropped."""
    assert read(WHOLE[first:]) == Chain(tuple(WHOLE[first:]), (), 0)


@pytest.mark.parametrize(
    "copied",
    [
        [0, 0, 1, 2, 3, 4, 5],
        [0, 1, 2, 1, 2, 3, 4, 5],
        [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5],
        [0, 1, 2, 3, 4, 5, 5],
    ],
)
def test_copies_are_passed_over(copied: list[int]) -> None:
    assert read([WHOLE[place] for place in copied]) == Chain(tuple(WHOLE), (), 0)


@pytest.mark.parametrize("removed", range(1, LENGTH - 1))
def test_a_removed_entry_is_named(removed: int) -> None:
    left = WHOLE[:removed] + WHOLE[removed + 1 :]
    (found,) = read(left).breaks
    assert (found.fault, found.sequence) == (Fault.MISSING, removed + 1)
    assert found.text == (
        f"journal entry {removed + 1}, which journal entry {removed + 2} follows, is missing"
    )


@pytest.mark.parametrize("place", range(LENGTH))
def test_an_altered_entry_is_named(place: int) -> None:
    altered = [*WHOLE]
    altered[place] = replace(WHOLE[place], state="better")
    assert faults(altered) == [(Fault.ALTERED, place + 1)]


@pytest.mark.parametrize("place", range(1, LENGTH - 1))
def test_an_altered_entry_that_was_sealed_anew_breaks_the_chain_behind_it(place: int) -> None:
    altered = [*WHOLE]
    altered[place] = sealed(replace(WHOLE[place], state="better"))
    assert faults(altered) == [(Fault.MISSING, place + 1)]


@pytest.mark.parametrize("place", range(1, LENGTH - 1))
def test_entries_that_changed_places_are_named(place: int) -> None:
    moved = [*WHOLE]
    moved[place], moved[place + 1] = WHOLE[place + 1], WHOLE[place]
    found = read(moved).breaks
    assert (Fault.REORDERED, place + 2) in [(one.fault, one.sequence) for one in found]
    assert f"journal entry {place + 2} stands before entry {place + 1}" in found[0].text


@pytest.mark.parametrize("lost", range(1, LENGTH))
def test_a_branch_is_replaced_when_the_store_went_back(lost: int) -> None:
    kept = LENGTH - lost
    again = chained(2, WHOLE[kept - 1], code="2")
    assert read([*WHOLE, *again]) == Chain((*WHOLE[:kept], *again), (), lost)


def test_a_store_that_goes_back_twice_replaces_the_branch_of_the_first_time() -> None:
    again = chained(3, WHOLE[3], code="2")
    third = chained(2, again[0], code="3")
    chain = read([*WHOLE, *again, *third])
    assert chain == Chain((*WHOLE[:4], again[0], *third), (), 4)


def test_copies_of_a_replaced_branch_do_not_bring_it_back() -> None:
    again = chained(2, WHOLE[3], code="2")
    chain = read([*WHOLE, *again, *WHOLE[4:]])
    assert chain == Chain((*WHOLE[:4], *again), (), 2)


def test_altered_entries_are_named_by_who_knows_their_hashes() -> None:
    assert [one.sequence for one in chain_of(WHOLE, altered=[2, 5]).breaks] == [2, 5]


@given(st.integers(3, 12), st.data())
def test_any_removal_is_noticed(length: int, data: st.DataObject) -> None:
    entries = chained(length)
    del entries[data.draw(st.integers(1, length - 2))]
    assert read(entries).breaks


@given(st.integers(2, 12), st.data())
def test_any_two_entries_that_change_places_are_noticed(length: int, data: st.DataObject) -> None:
    entries = chained(length)
    places = st.integers(0, length - 1)
    one, other = data.draw(st.tuples(places, places).filter(lambda pair: pair[0] != pair[1]))
    entries[one], entries[other] = entries[other], entries[one]
    assert read(entries).breaks


CHANGES: dict[str, object] = {
    "sequence": 99,
    "tick_ms": 1,
    "cut": (),
    "settings": "other",
    "code": "other",
    "state": "other",
    "books": "other",
    "transitions": (),
    "found": "",
    "previous": "other",
    "document": "{}",
    "inputs": (("predictions[0]", 1),),
    "hash": "other",
}


@given(st.integers(1, 12), st.sampled_from(sorted(CHANGES)), st.data())
def test_any_change_of_a_field_is_noticed(length: int, name: str, data: st.DataObject) -> None:
    entries = chained(length)
    place = data.draw(st.integers(0, length - 1))
    entries[place] = replace(entries[place], **{name: CHANGES[name]})  # type: ignore[arg-type] # one of its fields
    assert read(entries).breaks
