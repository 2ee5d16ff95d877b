"""What was forgotten by request while the monitor ran is forgotten in an audit: all else holds.

The live side is that of ``test_audit``: evaluations, and with them forgetting, come at any moment,
also between the commits of two shards.
"""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from monitor.adapters.memory import MemoryStore
from monitor.app.audit import Verification
from monitor.codec.journal import forgotten_hash, pack_journal_entry, sealed
from monitor.codec.records import RecordCodec
from monitor.domain.events import Label, Prediction, PredictionId, Record
from monitor.domain.forgetting import FORGOTTEN, Request, examples_in
from tests.app.test_audit import (
    Between,
    Watched,
    any_order,
    audited,
    flow_on,
    left_by,
    stream,
    usual,
)
from tests.replay.streams import SETTINGS, SPEC, PickedLog, at_random, by_key

CODEC = RecordCodec("predictions", "labels", ("channel",))


def ids_in(records: Sequence[Record]) -> list[PredictionId]:
    """Of all predictions and labels that can be read."""
    facts = CODEC.facts(records)
    found = [fact.prediction_id for fact in facts if isinstance(fact, Prediction | Label)]
    return list(dict.fromkeys(found))


class Crashing(Between):
    """Breaks off once at the end of an evaluation that forgets, before the request is dropped."""

    has_crashed = True

    def fulfilled(self, request_id: str) -> None:
        if not self.has_crashed:
            self.has_crashed = True
            raise ConnectionError
        super().fulfilled(request_id)


def live(
    records: Sequence[Record], *, seed: int, shards: int, crashes: bool = False
) -> tuple[Watched, MemoryStore, list[Request]]:
    """A run in which a few predictions are asked to be forgotten again and again."""
    dice, store = random.Random(seed), Crashing(shards, SPEC.windows.keep_ms)
    store.has_crashed = not crashes
    log = PickedLog(records, any_order(seed))
    reader = flow_on(log, store, SETTINGS, batch=30)
    idler = flow_on(PickedLog(records, any_order(0)), store, SETTINGS, batch=1, worker="idler")
    known, asked = ids_in(records), []

    def interrupt() -> None:
        if dice.random() < 0.6 / shards:
            held = sorted(store.held()) or known
            wish = Request(f"{dice.random()}", tuple(dice.sample(held, min(3, len(held)))))
            asked.append(wish)
            store.ask_to_forget(wish)
        if dice.random() < 0.8 / shards:
            with suppress(ConnectionError):
                idler.evaluate()
            idler.resign()

    store.between = interrupt
    while reader.turn().records:
        pass
    reader.mark_idle(log.at_end())
    reader.evaluate()
    return left_by(records, store), store, asked


def explained(result: Verification) -> str:
    return "\n".join(map(str, result.differences))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shards", [1, 4])
def test_every_digest_is_reproduced_whatever_was_forgotten_meanwhile(
    seed: int, shards: int
) -> None:
    partitions = (1, 2, 3)[seed % 3]
    spread = at_random(stream(), partitions, seed) if seed % 2 else by_key(stream(), partitions)
    watched, store, asked = live(spread, seed=seed, shards=shards, crashes=seed % 3 == 0)
    assert len(asked) > 5
    assert store.to_forget() == []
    told = [each for entry in watched.entries for each in entry.forgot]
    hashes = {forgotten_hash(wish.id, key) for wish in asked for key in wish.ids}
    assert {found for each in told for found in each.hashes} == hashes
    result = audited(watched, settings_for=lambda _: SETTINGS)
    assert not result.differences, explained(result)
    assert result.entries == len(watched.entries)
    assert sum("forgotten by request" in note for note in result.notes) == len(asked)


@pytest.fixture
def shown() -> tuple[Watched, MemoryStore, list[PredictionId]]:
    """A run half-way through which all that is shown as an example is asked to be forgotten."""
    records, store = by_key(stream(), 2), MemoryStore(2, SPEC.windows.keep_ms)
    flow = flow_on(log := PickedLog(records, any_order(3)), store, SETTINGS, batch=50)
    while not any(moved.missed for moved in store.transitions()):
        flow.turn()
        flow.evaluate()
    names = sorted(examples_in(store.transitions(), store.evaluation()))
    store.ask_to_forget(Request("r1", tuple(names)))
    while flow.turn().records:
        flow.evaluate()
    flow.mark_idle(log.at_end())
    flow.evaluate()
    return left_by(records, store), store, names


def test_examples_of_what_was_forgotten_are_named_no_more_and_reproduced_all_the_same(
    shown: tuple[Watched, MemoryStore, list[PredictionId]],
) -> None:
    watched, store, names = shown
    left = [each for moved in store.transitions() for each in moved.missed]
    assert {each.prediction_id for each in left} >= {FORGOTTEN}
    assert not set(names) & examples_in(store.transitions(), store.evaluation())
    entries = [entry for shard in range(2) for entry in store.load(shard, names).values()]
    assert all(entry.prediction is None for entry in entries), "only labels that came later"
    assert not any(name.encode() in line for line in watched.lines for name in names)
    result = audited(watched, settings_for=lambda _: SETTINGS)
    assert not result.differences, explained(result)
    (note,) = [note for note in result.notes if "by request" in note]
    assert note.startswith(f"{len(names)} predictions were forgotten by request r1 at ")


def test_an_example_taken_out_though_nobody_asked_is_named() -> None:
    watched = usual()
    found = next(each for each in watched.stored.values() if each.missed)
    bare = tuple(each._replace(prediction_id=FORGOTTEN) for each in found.missed)
    stored = {**watched.stored, found.id: replace(found, missed=bare)}
    result = audited(replace(watched, stored=stored), settings_for=lambda _: SETTINGS)
    assert str(result.differences[0]).startswith(f"stored transition {found.id}, missed: ")


def test_an_entry_that_says_less_was_forgotten_than_was_is_noticed(
    shown: tuple[Watched, MemoryStore, list[PredictionId]],
) -> None:
    watched, _, _ = shown
    entries = watched.entries
    place = next(n for n, entry in enumerate(entries) if entry.forgot)
    silent = [each._replace(hashes=()) for each in entries[place].forgot]
    entries[place] = sealed(replace(entries[place], forgot=tuple(silent)))
    lines = [pack_journal_entry(entry) for entry in entries[: place + 1]]
    result = audited(replace(watched, lines=tuple(lines)), settings_for=lambda _: SETTINGS)
    assert not result.holds
