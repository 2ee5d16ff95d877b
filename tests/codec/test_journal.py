"""Journal entries as lines: packed, read back, sealed, and what their digests leave out."""

from dataclasses import fields, replace

import msgspec
import pytest

from monitor.codec.journal import (
    books_digest,
    chain_of_lines,
    found_digest,
    pack_journal_entry,
    sealed,
    state_digest,
    unpack_journal_entry,
)
from monitor.domain import ledger
from monitor.domain.errors import JournalError
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import Partition
from monitor.domain.journal import Fault, Forgotten, JournalEntry
from monitor.domain.ledger import Gap
from tests.contracts.state_store import T0_MS, entry, transition, vote

FULL = sealed(
    JournalEntry(
        sequence=7,
        tick_ms=T0_MS,
        cut=(("labels[0]", 7), ("predictions[0]", 12)),
        settings="5e771465",
        code="1.2.3",
        state="57a7e",
        books="b00c5",
        transitions=("0f1e2d3c-1", "0f1e2d3c-2"),
        found="f0d",
        previous="9e",
        document='{"of": "dringend ü"}',
        inputs=(("labels[0]", 2**63), ("predictions[0]", 12)),
        forgot=(Forgotten("r1", (("labels[0]", 6),), ("4a54", "4a55")),),
    )
)
OTHER = {
    "sequence": 8,
    "tick_ms": T0_MS + 1,
    "cut": (("labels[0]", 7), ("predictions[0]", 13)),
    "settings": "5e771466",
    "code": "1.2.4",
    "state": "57a7f",
    "books": "",
    "transitions": ("0f1e2d3c-2", "0f1e2d3c-1"),
    "found": "f0e",
    "previous": "",
    "document": "{}",
    "inputs": (),
    "forgot": (Forgotten("r1", (("labels[0]", 7),), ("4a54", "4a55")),),
}


def test_an_entry_is_read_as_it_was_packed() -> None:
    assert unpack_journal_entry(pack_journal_entry(FULL)) == FULL


def test_a_line_is_one_line_of_canonical_json() -> None:
    line = pack_journal_entry(FULL)
    assert b"\n" not in line
    assert list(msgspec.json.decode(line)) == sorted(msgspec.json.decode(line))
    assert "dringend ü".encode() in line


def test_a_sealed_entry_keeps_its_hash_when_it_is_sealed_again() -> None:
    assert len(FULL.hash) == 64
    assert sealed(FULL) == FULL


@pytest.mark.parametrize("name", OTHER)
def test_every_field_counts_in_the_hash(name: str) -> None:
    altered = replace(FULL, **{name: OTHER[name]})  # type: ignore[arg-type] # one of its fields
    assert altered != FULL
    assert sealed(altered).hash != FULL.hash


def test_no_field_is_forgotten_here() -> None:
    assert {*OTHER, "hash"} == {field.name for field in fields(JournalEntry)}


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"{}", b"null", pack_journal_entry(FULL)[:-1], b'{"version": 1}'],
)
def test_what_is_no_entry_is_refused(line: bytes) -> None:
    with pytest.raises(JournalError, match="not a journal entry"):
        unpack_journal_entry(line)


def test_a_field_that_is_not_ours_is_refused() -> None:
    told = {**msgspec.json.decode(pack_journal_entry(FULL)), "comment": "harmless"}
    with pytest.raises(JournalError, match="comment"):
        unpack_journal_entry(msgspec.json.encode(told))


def test_an_entry_of_another_release_is_told() -> None:
    told = {**msgspec.json.decode(pack_journal_entry(FULL)), "version": 99}
    with pytest.raises(JournalError, match="journal entry 7 has version 99"):
        unpack_journal_entry(msgspec.json.encode(told))


def test_a_changed_line_is_found_and_named() -> None:
    first = entry(1)
    second = entry(2, first.hash)
    lines = [pack_journal_entry(one) for one in (first, second)]
    assert chain_of_lines(lines) == ((first, second), (), 0)
    chain = chain_of_lines([lines[0].replace(b'"found":"found"', b'"found":"other"'), lines[1]])
    assert [(one.fault, one.sequence) for one in chain.breaks] == [(Fault.ALTERED, 1)]
    assert "journal entry 1 was altered" in chain.breaks[0].text


# Digests


def test_the_state_is_the_same_however_often_it_was_evaluated() -> None:
    lasting = Evaluation(3, T0_MS)
    often = Evaluation(9, T0_MS, releasing=(vote(),), holding=(vote("p2"),), chain="abc")
    assert state_digest(lasting) == state_digest(often)
    assert state_digest(lasting) != state_digest(replace(lasting, watermark_ms=T0_MS + 1))


def test_what_was_found_counts_in_its_order_and_the_cut_does_not() -> None:
    found = [transition(1), transition(2)]
    assert found_digest([]) == ""
    assert found_digest(found) == found_digest([replace(one, cut=()) for one in found])
    assert found_digest(found) != found_digest(found[::-1])
    assert found_digest(found) != found_digest([found[0], replace(found[1], reason="other")])


def test_books_leave_out_what_the_log_had_dropped_and_what_is_none() -> None:
    books = {"predictions.received": 3, "labels.received": 2}
    gap = ledger.gap(Gap(Partition("labels", 0), 7, 9))
    assert books_digest(books) == books_digest({**books, gap: 1, "late": 0})
    assert books_digest(books) != books_digest({**books, "labels.received": 3})
