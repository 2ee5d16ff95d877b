"""Journal entries <-> lines of canonical JSON, sealed with a hash; digests of what they record."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import msgspec

from monitor.codec.snapshots import canonical, pack_evaluation, pack_transition
from monitor.domain import ledger as books
from monitor.domain.alerts import Transition
from monitor.domain.errors import JournalError
from monitor.domain.evaluation import Evaluation
from monitor.domain.journal import Break, Chain, Fault, Forgotten, JournalEntry, chain_of

JOURNAL_VERSION = 1


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    sequence: int
    tick_ms: int
    cut: tuple[tuple[str, int], ...]
    settings: str
    code: str
    state: str
    books: str
    transitions: tuple[str, ...]
    found: str
    previous: str
    document: str
    inputs: tuple[tuple[str, int], ...]
    forgot: tuple[Forgotten, ...]
    hash: str


_decode = msgspec.json.Decoder(_Line).decode


def sealed(entry: JournalEntry) -> JournalEntry:
    """The entry with its hash: SHA-256 of everything else in it, its predecessor's hash too."""
    return replace(entry, hash=hashlib.sha256(canonical(_content(entry))).hexdigest())


def pack_journal_entry(entry: JournalEntry) -> bytes:
    """A sealed entry as one line of canonical JSON, without the newline."""
    return canonical({**_content(entry), "hash": entry.hash})


def unpack_journal_entry(line: bytes) -> JournalEntry:
    """What ``pack_journal_entry`` packed; JournalError for anything else.

    The hash is not checked.
    """
    try:
        read = _decode(line)
    except (msgspec.MsgspecError, ValueError) as error:
        raise JournalError(f"not a journal entry: {error}") from None
    if read.version != JOURNAL_VERSION:
        raise JournalError(
            f"journal entry {read.sequence} has version {read.version}, this release reads "
            f"{JOURNAL_VERSION}"
        )
    fields = {name: getattr(read, name) for name in _Line.__struct_fields__ if name != "version"}
    return JournalEntry(**fields)


def entries_in(lines: Iterable[bytes]) -> Iterator[JournalEntry]:
    """The entries among lines; what cannot be read is left out."""
    for line in lines:
        with suppress(JournalError):
            yield unpack_journal_entry(line)


def chain_of_lines(lines: Iterable[bytes], *, head: str = "") -> Chain:
    """Read a journal in the order in which it was found, and follow its chain.

    A line that is no entry is a break of its own. ``head`` is the hash that the store knows as the
    last one, "" for unknown.
    """
    entries: list[JournalEntry] = []
    damaged: list[Break] = []
    for line in lines:
        try:
            entries.append(unpack_journal_entry(line))
        except JournalError as error:
            last = entries[-1].sequence if entries else 0
            text = f"what was found behind journal entry {last} cannot be read: {error}"
            damaged.append(Break(Fault.ALTERED, last + 1, text))
    altered = [entry.sequence for entry in entries if sealed(entry).hash != entry.hash]
    chain = chain_of(entries, altered=altered, head=head)
    return chain._replace(breaks=(*damaged, *chain.breaks))


def _content(entry: JournalEntry) -> dict[str, object]:
    return {
        "version": JOURNAL_VERSION,
        "sequence": entry.sequence,
        "tick_ms": entry.tick_ms,
        "cut": entry.cut,
        "settings": entry.settings,
        "code": entry.code,
        "state": entry.state,
        "books": entry.books,
        "transitions": entry.transitions,
        "found": entry.found,
        "previous": entry.previous,
        "document": entry.document,
        "inputs": entry.inputs,
        "forgot": entry.forgot,
    }


def forgotten_hash(request_id: str, prediction_id: str) -> str:
    """How the journal names a forgotten prediction: only who has the id can tell that it was it.

    The request's id stands in front, so that two requests about one person do not show as such.
    """
    return hashlib.sha256(f"{request_id}\n{prediction_id}".encode()).hexdigest()


def state_digest(evaluation: Evaluation) -> str:
    """Digest of where every alert and signal stands; the same whenever and however often asked.

    Left out is what depends on how often the rules were evaluated: the sequence, and votes in hand.
    """
    lasting = replace(evaluation, sequence=0, releasing=(), holding=(), chain="")
    return hashlib.sha256(pack_evaluation(lasting)).hexdigest()


def found_digest(transitions: Sequence[Transition]) -> str:
    """Digest of transitions with all that was said of them; "" for none. The cut is left out."""
    if not transitions:
        return ""
    sha = hashlib.sha256()
    for transition in transitions:
        sha.update(pack_transition(replace(transition, cut=())) + b"\n")
    return sha.hexdigest()


def books_digest(ledger: Mapping[str, int]) -> str:
    """Digest of the ledger: every record read, by its bytes, and where it has gone.

    Left out is what the log had dropped: a replay does not meet it.
    """
    kept = {name: count for name, count in ledger.items() if count and not books.is_gap(name)}
    return hashlib.sha256(canonical(kept)).hexdigest()
