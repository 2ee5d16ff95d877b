"""What every StateStore keeps, whatever is behind it.

A subclass names ``worlds``: each call makes an empty namespace, and each ``open`` of it one more
client. Shards show in no answer: what must add up over them is asked with one and with four.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.codec.journal import sealed
from monitor.codec.notices import pack_told, unpack_told
from monitor.domain import engine, join, ledger
from monitor.domain.alerts import CONVERSATION_MS, AlertKey, AlertState, Missed, Status, Transition
from monitor.domain.counts import Counts, Part, part_of
from monitor.domain.cut import IDLE, Cut, Progress
from monitor.domain.detectors import Evidence, Glance
from monitor.domain.engine import Changes, Spec, VoteChange
from monitor.domain.errors import CommitConflict
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import (
    Batch,
    Envelope,
    Kind,
    Label,
    Partition,
    Position,
    Prediction,
    PredictionId,
    Traits,
)
from monitor.domain.forgetting import FORGOTTEN, Request
from monitor.domain.join import RETENTION_SLACK_MS, Entry
from monitor.domain.journal import JournalEntry
from monitor.domain.maturity import MaturityBook
from monitor.domain.misses import Miss, MissChange
from monitor.domain.notice_text import News
from monitor.domain.notices import Last, Pending, Standing, Told
from monitor.domain.overlays import Action, Deed
from monitor.domain.rules import AlertRule, Severity
from monitor.domain.slices import ALL, Groups, SliceKey
from monitor.domain.votes import Vote
from monitor.domain.windows import (
    ALL_TIME,
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    Clock,
    PaneKey,
    WindowSpec,
    pane_start,
)
from monitor.ports import (
    EVALUATOR,
    MISSES_KEPT,
    Backlog,
    Heartbeat,
    Lease,
    Mark,
    Picture,
    StateStore,
    shard_of,
)

Fact = Prediction | Label

T0_MS = 472_222 * HOUR_MS
"""A full hour, so that hours and panes are easy to count from it."""

END_MS = 2**50
"""After everything."""

PREDICTIONS = Partition("predictions", 0)
MORE_PREDICTIONS = Partition("predictions", 1)
LABELS = Partition("labels", 0)

URGENT = frozenset({"fraud", "lost_card"})
HORIZON_MS = 4 * HOUR_MS
KEEP_MS: Mapping[int, int] = {MINUTE_MS: HOUR_MS, HOUR_MS: 24 * HOUR_MS}
SPEC = Spec(
    groups=Groups({"urgent": URGENT}),
    slice_names=("channel",),
    windows=WindowSpec(horizon_ms=HORIZON_MS, keep_ms=KEEP_MS),
    rules=(AlertRule("urgent-recall", "urgent", URGENT, 0.8, maturity_ms=10 * MINUTE_MS),),
)

ONE_AND_FOUR = pytest.mark.parametrize("shards", [1, 4])
MANY_NAMESPACES = (HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)
"""Each example takes a namespace of its own, and each store runs the property once."""


class StoreWorld(Protocol):
    """One namespace, at first empty."""

    def open(self, *, shards: int = 1) -> StateStore:
        """One more client; every one is asked for the same number of shards."""


def prediction(
    name: str = "p1",
    *,
    at_ms: int = T0_MS,
    predicted: str = "fraud",
    variant: str = "ft",
    slices: tuple[str, ...] = ("web",),
) -> Prediction:
    traits = Traits(variant, predicted, slices)
    return Prediction(PredictionId(name), at_ms, at_ms + 50, traits, 140)


def label(name: str = "p1", *, at_ms: int = T0_MS + 1, actual: str = "fraud") -> Label:
    return Label(PredictionId(name), actual, at_ms, at_ms + 50, f"l-{name}-{at_ms}")


def vote(name: str = "p1", *, release_ms: int = T0_MS, hit: bool = True) -> Vote:
    return Vote(release_ms, name, "urgent-recall", SliceKey("ft"), T0_MS, hit)


def miss(name: str = "p1", *, at_ms: int = T0_MS, predicted: str = "fees") -> Miss:
    """What ``prediction`` and ``label`` of the same name are when another intent was predicted."""
    known_ms = T0_MS + 51
    return Miss(at_ms, PredictionId(name), at_ms + 50, known_ms, 1, "ft", "fraud", predicted)


def kind_of(fact: Fact) -> Kind:
    return Kind.PREDICTIONS if isinstance(fact, Prediction) else Kind.LABELS


def partition_of(fact: Fact) -> Partition:
    return PREDICTIONS if isinstance(fact, Prediction) else LABELS


def stepped(known: Mapping[PredictionId, Entry], batch: Batch, *, until: int = 10) -> Changes:
    """What a batch of one topic changes, to be committed by hand."""
    partition = PREDICTIONS if batch.predictions else LABELS
    progress = {partition: Progress(until, T0_MS, T0_MS)}
    return engine.step(SPEC, known, batch, progress=progress, watermark_ms=None)


def prepared(
    store: StateStore, shard: int, facts: Sequence[Fact], partition: Partition | None = None
) -> tuple[int, Cut, Changes]:
    """What a writer is about to commit after it has loaded: the arguments of ``commit``.

    The facts are the next records of their partition; those of other shards are passed over.
    """
    partition = partition or partition_of(facts[0])
    cut = store.cuts()[shard]
    start = cut[partition].next_offset if partition in cut else 0
    mine = [fact for fact in facts if shard_of(fact.prediction_id, store.shards) == shard]
    position = Position(*partition, start)
    batch = Batch.of(Envelope(kind_of(fact), position, fact, fact.log_ms) for fact in mine)
    newest_ms = max(fact.log_ms for fact in facts)
    changes = engine.step(
        SPEC,
        store.load(shard, engine.ids_of(batch)),
        batch,
        progress={partition: Progress(start + len(facts), newest_ms, newest_ms)},
        watermark_ms=None,
    )
    return shard, cut, changes


def write(store: StateStore, *facts: Fact, partition: Partition | None = None) -> None:
    """Commit these facts, each as the next record of its partition."""
    for fact in facts:
        for shard in range(store.shards):
            store.commit(*prepared(store, shard, [fact], partition))


def plain(
    *,
    votes: Sequence[VoteChange] = (),
    cells: Mapping[PaneKey, Mapping[tuple[str, ...], int]] = {},
    misses: Sequence[MissChange] = (),
) -> Changes:
    """Changes made by hand that touch no entry and move no partition."""
    return Changes({}, {}, cells, {}, votes, {}, misses)


def observed(store: StateStore, ids: Iterable[str] = ("p1", "p2", "p3")) -> dict[str, object]:
    """Everything that a store can be asked."""
    sizes = (*KEEP_MS, ALL_TIME)
    keys = [key for size in sizes for key in store.pane_keys(size)]
    return {
        "cuts": store.cuts(),
        "ledger": dict(store.ledger()),
        "slices": store.slice_keys(),
        "panes": list(zip(keys, store.panes(keys), strict=True)),
        "votes": store.waiting(END_MS),
        "evaluation": store.evaluation(),
        "transitions": store.transitions(),
        "outbox": store.outbox(),
        "backlog": store.backlog(),
        "journal": store.journal(),
        "documents": store.documents(),
        "unpublished": store.unpublished(),
        "actions": store.actions(),
        "heartbeats": store.heartbeats(),
        "misses": store.misses(),
        "entries": loaded(store, ids),
    }


def loaded(store: StateStore, ids: Iterable[str]) -> dict[str, Entry]:
    """The entries of these ids, each asked of its shard."""
    found: dict[str, Entry] = {}
    for name in ids:
        found.update(store.load(shard_of(name, store.shards), [PredictionId(name)]).items())
    return found


def total(store: StateStore, variant: str = "ft", of: str = ALL) -> Counts:
    return store.panes([PaneKey(Clock.EVENT, ALL_TIME, 0, SliceKey(variant, of))])[0]


def sweep_all(store: StateStore, watermark_ms: int) -> None:
    """As much log time as a store may need to look at everything, ending at ``watermark_ms``."""
    for quarters in reversed(range(9)):
        store.sweep(watermark_ms - quarters * HORIZON_MS // 4, HORIZON_MS)


LEASE_MS = 60_000


def leased(store: StateStore, worker: str = "w1", office: str = EVALUATOR) -> Lease:
    """The lease of a worker that nobody keeps from it."""
    lease = store.lead(worker, LEASE_MS, office)
    assert lease is not None
    return lease


def evaluate(store: StateStore, evaluation: Evaluation, *transitions: Transition) -> None:
    """Commit as the evaluator."""
    store.commit_evaluation(evaluation, transitions, leased(store))


def transition(number: int) -> Transition:
    moves = (Status.NO_DATA, Status.OK, Status.FIRING, Status.RECOVERING)
    return Transition(
        id=f"0f1e2d3c-{number}",
        rule="urgent-recall",
        key=SliceKey("ft", "channel=web"),
        moved_from=moves[number - 1],
        moved_to=moves[number],
        at_ms=T0_MS - number,
        evidence=Evidence(9, 20, T0_MS, 0.79431, 0.8) if number > 1 else None,
        reason="9 of the last 20 mature urgent labels were hits",
        cut=(("labels[0]", 7), ("predictions[0]", 12)),
    )


def entry(sequence: int, previous: str = "", *, document: str = "") -> JournalEntry:
    """A sealed one."""
    unsealed = JournalEntry(
        sequence=sequence,
        tick_ms=T0_MS + sequence,
        cut=(("labels[0]", 7), ("predictions[0]", 12)),
        settings=f"settings of {document}" if document else "settings",
        code="1.2.3",
        state=f"stäte {sequence}",
        books="",
        transitions=(transition(1).id,),
        found="found",
        previous=previous,
        document=document,
    )
    return sealed(unsealed)


def ids(*names: str) -> tuple[PredictionId, ...]:
    return tuple(map(PredictionId, names))


def journal(store: StateStore, count: int, **options: str) -> list[JournalEntry]:
    """Commit so many evaluations more, each with its entry."""
    added: list[JournalEntry] = []
    for _ in range(count):
        before = store.evaluation()
        new = entry(before.sequence + 1, before.chain, **options)
        after = Evaluation(new.sequence, new.tick_ms, chain=new.hash)
        store.commit_evaluation(after, [], leased(store), entry=new)
        added.append(new)
    return added


class StateStoreContract:
    @pytest.fixture
    def worlds(self) -> Callable[[], StoreWorld]:
        raise NotImplementedError

    @pytest.fixture
    def world(self, worlds: Callable[[], StoreWorld]) -> StoreWorld:
        return worlds()

    @pytest.fixture
    def store(self, world: StoreWorld) -> StateStore:
        return world.open()

    # Nothing yet

    @ONE_AND_FOUR
    def test_a_new_namespace_is_empty(self, world: StoreWorld, shards: int) -> None:
        store = world.open(shards=shards)
        assert store.shards == shards
        assert observed(store) == {
            "cuts": [{}] * shards,
            "ledger": {},
            "slices": [],
            "panes": [],
            "votes": [],
            "evaluation": Evaluation(),
            "transitions": [],
            "outbox": [],
            "backlog": Backlog(0, 0, {}),
            "journal": [],
            "documents": {},
            "unpublished": [],
            "actions": [],
            "heartbeats": [],
            "misses": [],
            "entries": {},
        }

    def test_nothing_is_loaded_when_nothing_is_asked_for(self, store: StateStore) -> None:
        write(store, prediction())
        assert store.load(0, []) == {}

    def test_ids_without_an_entry_are_left_out_when_loading(self, store: StateStore) -> None:
        write(store, prediction("p2"))
        assert list(store.load(0, map(PredictionId, ["p1", "p2", "p3"]))) == ["p2"]

    def test_a_load_in_two_steps_finds_what_was_committed_before_it_began(
        self, store: StateStore
    ) -> None:
        write(store, prediction("p1"))
        end_of_commit = store.begin_commit(*prepared(store, 0, [prediction("p2")]))
        end = store.begin_load(0, map(PredictionId, ["p1", "p2", "p3"]))
        end_of_commit()
        assert set(end()) == {"p1", "p2"}

    def test_a_load_may_be_given_up(self, store: StateStore) -> None:
        for _ in range(3):
            store.begin_load(0, [PredictionId("p1")])
        write(store, prediction("p1"))
        assert loaded(store, ["p1"]) == {"p1": Entry(prediction("p1"))}

    def test_nothing_is_loaded_in_two_steps_when_nothing_is_asked_for(
        self, store: StateStore
    ) -> None:
        write(store, prediction())
        assert store.begin_load(0, [])() == {}

    def test_an_unknown_pane_is_empty(self, store: StateStore) -> None:
        write(store, prediction())
        unknown = PaneKey(Clock.LABEL, HOUR_MS, T0_MS + HOUR_MS, SliceKey("prompt"))
        assert store.panes([unknown]) == [Counts()]
        assert store.panes([]) == []

    # Commit and load

    @ONE_AND_FOUR
    def test_what_was_committed_is_loaded(self, world: StoreWorld, shards: int) -> None:
        store = world.open(shards=shards)
        write(store, prediction(), label("p2"), prediction("p3"), label("p3"))
        assert loaded(store, ["p1", "p2", "p3"]) == {
            "p1": Entry(prediction()),
            "p2": Entry(None, (label("p2"),)),
            "p3": Entry(prediction("p3"), (label("p3"),)),
        }

    def test_an_entry_is_replaced_when_it_is_committed_again(self, store: StateStore) -> None:
        second = label(at_ms=T0_MS + 2, actual="balance")._replace(revision=2, withdrawn=True)
        write(store, prediction(), label(), second)
        assert loaded(store, ["p1"]) == {"p1": Entry(prediction(), (label(), second))}

    def test_an_entry_stays_in_its_shard(self, world: StoreWorld) -> None:
        store = world.open(shards=4)
        write(store, prediction())
        home = shard_of("p1", 4)
        held = [shard for shard in range(4) if store.load(shard, [PredictionId("p1")])]
        assert held == [home]

    @settings(deadline=None, max_examples=25, suppress_health_check=MANY_NAMESPACES)
    @given(data=st.data())
    def test_any_entry_is_loaded_as_it_was_committed(
        self, worlds: Callable[[], StoreWorld], data: st.DataObject
    ) -> None:
        entries = {e.name: e for e in data.draw(st.lists(named_entries(), min_size=1, max_size=4))}
        facts = [fact for entry in entries.values() for fact in entry.facts]
        world = worlds()
        write(world.open(), *facts)
        reference = {name: entry.merged() for name, entry in entries.items()}
        assert loaded(world.open(), entries) == reference

    def test_names_of_any_characters_are_kept(self, world: StoreWorld) -> None:
        odd = ["", "a:b", 'say "hi"', "ü\n\t", "日本", "{x}:0", "\x00\x1f", "a" * 300, "-inf"]
        for number, name in enumerate(odd):
            said = prediction(
                f"p{number}", predicted=name or "x", variant=f"v{name}", slices=(name,)
            )
            write(world.open(), said, partition=Partition(f"t:{name}", 3))
        again = world.open()
        read = loaded(again, [f"p{number}" for number in range(len(odd))])
        assert [entry.prediction.slices for entry in read.values() if entry.prediction] == [
            (name,) for name in odd
        ]
        assert {Partition(f"t:{name}", 3) for name in odd} == set(again.cuts()[0])
        slices = {SliceKey(f"v{n}", f"channel={n}" if n else ALL) for n in odd}
        assert slices <= set(again.slice_keys())
        for key in slices:
            assert total(again, key.variant, key.slice).predictions == 1

    def test_a_second_client_reads_what_the_first_wrote(self, world: StoreWorld) -> None:
        first, second = world.open(), world.open()
        write(first, prediction(), label())
        assert observed(second) == observed(first)
        write(second, prediction("p2", predicted="a new name"))
        assert observed(first) == observed(second)

    def test_two_clients_write_by_turns(self, world: StoreWorld) -> None:
        clients = world.open(), world.open()
        for number in range(6):
            write(clients[number % 2], prediction("p1", at_ms=T0_MS + number), label(f"p{number}"))
        assert clients[0].ledger()["predictions.duplicate"] == 5
        assert clients[0].cuts()[0][LABELS].next_offset == 6

    # Conflicts: nothing is written

    def assert_refused(self, store: StateStore, late: tuple[int, Cut, Changes]) -> None:
        before = observed(store)
        with pytest.raises(CommitConflict):
            store.commit(*late)
        end = store.begin_commit(*late)
        with pytest.raises(CommitConflict):
            end()
        assert observed(store) == before

    def test_a_commit_in_two_steps_is_there_at_its_end_once(self, store: StateStore) -> None:
        first = prepared(store, 0, [prediction()])
        store.begin_commit(*first)()
        assert loaded(store, ["p1"]) == {"p1": Entry(prediction())}
        self.assert_refused(store, first)

    def label_ahead(
        self, store: StateStore, between: Callable[[], None] = lambda: None
    ) -> tuple[int, Cut, Changes]:
        """A label's commit that was loaded before that of its prediction was begun.

        ``between`` happens once that one has ended.
        """
        first, second = Batch([prediction()]), Batch([], [label()])
        ends = [store.begin_load(0, engine.ids_of(batch)) for batch in (first, second)]
        changes = stepped(ends[0](), first)
        end_of_commit = store.begin_commit(0, store.cuts()[0], changes)
        known = {**ends[1](), **changes.entries}
        end_of_commit()
        between()
        return 0, store.cuts()[0], stepped(known, second)

    def test_a_batch_loaded_before_another_was_committed_goes_on_from_there(
        self, store: StateStore
    ) -> None:
        store.begin_commit(*self.label_ahead(store))()
        assert loaded(store, ["p1"]) == {"p1": Entry(prediction(), (label(),))}

    def test_a_batch_loaded_ahead_is_refused_when_somebody_changed_its_entry(
        self, world: StoreWorld
    ) -> None:
        store, other = world.open(), world.open()
        late = label(at_ms=T0_MS + 9)
        ahead = self.label_ahead(store, lambda: write(other, late))
        before = observed(store)
        with pytest.raises(CommitConflict):
            store.begin_commit(*ahead)()
        assert observed(store) == before
        assert loaded(store, ["p1"]) == {"p1": Entry(prediction(), (late,))}

    def test_a_batch_loaded_ahead_of_a_commit_that_was_refused_is_compared(
        self, world: StoreWorld
    ) -> None:
        """That there were as many commits since as this client has begun proves nothing."""
        store, other = world.open(), world.open()
        end = store.begin_load(0, [PredictionId("p1")])
        late = prepared(store, 0, [prediction("p2")])
        write(other, prediction("p1"))
        with pytest.raises(CommitConflict):
            store.begin_commit(*late)()
        known = end()
        end_of_commit = store.begin_commit(0, store.cuts()[0], stepped(known, Batch([], [label()])))
        if not known:
            with pytest.raises(CommitConflict):
                end_of_commit()

    def test_a_commit_is_refused_when_its_partition_was_moved(self, world: StoreWorld) -> None:
        store, other = world.open(), world.open()
        write(store, prediction("p1"))
        late = prepared(store, 0, [prediction("p2")])
        write(other, prediction("p3"))
        self.assert_refused(store, late)

    def test_a_commit_is_refused_when_its_partition_has_appeared(self, world: StoreWorld) -> None:
        store, other = world.open(), world.open()
        late = prepared(store, 0, [prediction("p2")])
        write(other, prediction("p3"))
        self.assert_refused(store, late)

    def test_a_commit_is_refused_when_its_partition_is_not_there(self, store: StateStore) -> None:
        shard, _, changes = prepared(store, 0, [prediction()])
        self.assert_refused(store, (shard, {PREDICTIONS: Progress(0)}, changes))

    def test_a_commit_is_refused_when_only_the_frontier_differs(self, world: StoreWorld) -> None:
        store = world.open()
        write(store, prediction("p1"))
        late = prepared(store, 0, [prediction("p2")])
        idle = store.cuts()[0][PREDICTIONS]._replace(frontier_ms=IDLE)
        store.commit(0, store.cuts()[0], replace(plain(), progress={PREDICTIONS: idle}))
        self.assert_refused(store, late)

    def test_a_commit_is_refused_when_an_entry_was_changed(self, world: StoreWorld) -> None:
        store, other = world.open(), world.open()
        write(store, prediction("p1"), prediction("p2"))
        late = prepared(store, 0, [label("p1"), label("p2")])
        write(other, label("p2", actual="balance"), partition=Partition("labels", 1))
        self.assert_refused(store, late)

    def test_a_commit_is_refused_when_an_entry_has_appeared(self, world: StoreWorld) -> None:
        store, other = world.open(), world.open()
        late = prepared(store, 0, [prediction("p1"), prediction("p2")])
        write(other, label("p2"))
        self.assert_refused(store, late)

    def test_a_commit_is_refused_when_an_entry_was_swept(self, world: StoreWorld) -> None:
        store, other = world.open(), world.open()
        write(store, prediction())
        late = prepared(store, 0, [label()])
        sweep_all(other, T0_MS + 20 * HORIZON_MS + RETENTION_SLACK_MS)
        assert loaded(other, ["p1"]) == {}
        self.assert_refused(store, late)

    def test_a_commit_goes_through_when_it_is_stepped_again(self, world: StoreWorld) -> None:
        store, other = world.open(), world.open()
        write(store, prediction())
        late = prepared(store, 0, [label()])
        write(other, label(actual="balance", at_ms=T0_MS), partition=Partition("labels", 1))
        self.assert_refused(store, late)
        store.commit(*prepared(store, 0, [label()]))
        assert total(store).confusion == {("fraud", "fraud"): 1}
        assert store.ledger()["labels.superseded"] == 1

    def test_a_commit_goes_through_when_another_partition_was_moved(
        self, world: StoreWorld
    ) -> None:
        store, other = world.open(), world.open()
        late = prepared(store, 0, [prediction("p1")])
        write(other, prediction("p2"), partition=MORE_PREDICTIONS)
        store.commit(*late)
        assert {p: progress.next_offset for p, progress in store.cuts()[0].items()} == {
            PREDICTIONS: 1,
            MORE_PREDICTIONS: 1,
        }

    def test_a_commit_goes_through_when_another_shard_was_moved(self, world: StoreWorld) -> None:
        store = world.open(shards=4)
        late = [prepared(store, shard, [prediction()]) for shard in range(4)]
        for arguments in late:
            store.commit(*arguments)
        assert [cut[PREDICTIONS].next_offset for cut in store.cuts()] == [1] * 4

    def test_a_partition_that_a_commit_leaves_alone_is_not_compared(
        self, store: StateStore
    ) -> None:
        shard, _, changes = prepared(store, 0, [prediction()])
        store.commit(shard, {LABELS: Progress(99)}, changes)
        assert list(store.cuts()[0]) == [PREDICTIONS]

    # Sums

    def test_four_shards_count_what_one_counts(self, worlds: Callable[[], StoreWorld]) -> None:
        one, four = worlds().open(), worlds().open(shards=4)
        names = [f"p{number}" for number in range(24)]
        facts: list[Fact] = [
            prediction(name, at_ms=T0_MS + number * MINUTE_MS, predicted=["fraud", "balance"][odd])
            for number, name in enumerate(names)
            for odd in [number % 2]
        ]
        facts += [label(name, at_ms=T0_MS + HOUR_MS) for name in names[:20]]
        for store in (one, four):
            write(store, *facts)
        assert len({shard_of(name, 4) for name in names}) == 4
        expected, found = observed(one, names), observed(four, names)
        assert expected.pop("cuts") == found.pop("cuts")[:1]  # type: ignore[index] # cuts are a list
        received = {"predictions.received": 24, "labels.received": 20}
        assert {name: four.ledger()[name] for name in received} == received
        assert total(four).confusion == {("fraud", "balance"): 10, ("fraud", "fraud"): 10}
        assert found == expected

    def test_panes_come_in_the_order_asked_for(self, store: StateStore) -> None:
        write(store, prediction("p1"), prediction("p2", at_ms=T0_MS + HOUR_MS, predicted="balance"))
        first, second = store.pane_keys(HOUR_MS)[0], store.pane_keys(HOUR_MS)[-1]
        asked = [second, first, second]
        assert [list(counts.predicted) for counts in store.panes(asked)] == [
            ["balance"],
            ["fraud"],
            ["balance"],
        ]

    @ONE_AND_FOUR
    def test_parts_of_a_pane_are_its_cells_and_each_is_in_one(
        self, world: StoreWorld, shards: int
    ) -> None:
        store = world.open(shards=shards)
        write(store, prediction("p1"), prediction("p2"), label("p1"), label("p2", actual="fees"))
        keys = store.pane_keys(HOUR_MS)
        whole = [counts.cells for counts in store.panes(keys)]
        parts = [store.panes(keys, part) for part in Part]
        for number, cells in enumerate(whole):
            found = [cell for panes in parts for cell in panes[number].cells.items()]
            assert sorted(found) == sorted(cells.items())
        for part, panes in zip(Part, parts, strict=True):
            assert any(counts.cells for counts in panes)
            assert {part_of(cell) for counts in panes for cell in counts.cells} == {part}

    @ONE_AND_FOUR
    @pytest.mark.parametrize("part", Part)
    def test_a_part_that_was_read_before_shows_what_was_committed_since(
        self, world: StoreWorld, shards: int, part: Part
    ) -> None:
        writer, reader = world.open(shards=shards), world.open(shards=shards)
        for facts in (
            [prediction("p1"), prediction("p2"), prediction("p3")],
            [label("p1"), label("p2", at_ms=T0_MS + MINUTE_MS)],
            [label("p1", at_ms=T0_MS + 9, actual="balance")],
            [prediction("p4", predicted="balance")],
        ):
            write(writer, *facts)
            keys = writer.pane_keys(MINUTE_MS)
            expected = [counts.of_part(part) for counts in writer.panes(keys)]
            assert reader.panes(keys, part) == expected
            assert reader.panes(keys, part) == expected

    def test_a_part_that_was_read_before_is_empty_when_its_pane_is_dropped(
        self, store: StateStore
    ) -> None:
        write(store, prediction(), label())
        keys = store.pane_keys(MINUTE_MS)
        assert all(any(store.panes([key], part)[0].cells for part in Part) for key in keys)
        sweep_all(store, T0_MS + 9 * HOUR_MS)
        assert store.pane_keys(MINUTE_MS) == []
        for part in Part:
            assert not any(counts.cells for counts in store.panes(keys, part))

    def test_a_cell_that_is_taken_back_is_gone(self, store: StateStore) -> None:
        write(store, prediction(), label(actual="balance"))
        write(store, label(at_ms=T0_MS + 9))
        assert ("outcome", "balance", "fraud") not in total(store).cells
        assert total(store).confusion == {("fraud", "fraud"): 1}

    def test_a_counter_that_is_taken_back_is_gone(self, store: StateStore) -> None:
        write(store, prediction())
        assert f"predictions.pending@{T0_MS // HOUR_MS}" in store.ledger()
        write(store, label())
        assert f"predictions.pending@{T0_MS // HOUR_MS}" not in store.ledger()

    @ONE_AND_FOUR
    def test_pane_keys_are_sorted_and_of_one_size(self, world: StoreWorld, shards: int) -> None:
        store = world.open(shards=shards)
        write(store, *(prediction(f"p{n}", at_ms=T0_MS + n * 40 * MINUTE_MS) for n in range(5)))
        for size_ms, starts in ((MINUTE_MS, 5), (HOUR_MS, 3), (ALL_TIME, 1)):
            keys = store.pane_keys(size_ms)
            assert keys == sorted(set(keys))
            assert {key.size_ms for key in keys} == {size_ms}
            assert len({key.start_ms for key in keys}) == starts
        assert store.pane_keys(7 * MINUTE_MS) == []

    @ONE_AND_FOUR
    def test_slice_keys_are_sorted_and_name_every_slice_once(
        self, world: StoreWorld, shards: int
    ) -> None:
        store = world.open(shards=shards)
        for number, variant in enumerate(["prompt", "ft"] * 4):
            slices = ("" if number == 1 else "web",)
            write(store, prediction(f"p{number}", variant=variant, slices=slices))
        assert store.slice_keys() == [
            SliceKey("ft", ALL),
            SliceKey("ft", "channel=web"),
            SliceKey("prompt", ALL),
            SliceKey("prompt", "channel=web"),
        ]

    def test_a_slice_is_known_when_its_panes_are_dropped(self, store: StateStore) -> None:
        key = SliceKey("ft", "channel=web")
        pane = PaneKey(Clock.EVENT, MINUTE_MS, T0_MS, key)
        store.commit(0, {}, plain(cells={pane: {("prediction", "fraud"): 1}}))
        sweep_all(store, T0_MS + 9 * HOUR_MS)
        assert store.pane_keys(MINUTE_MS) == []
        assert store.slice_keys() == [key]

    # Votes

    def test_a_vote_is_replaced_when_it_still_waits(self, store: StateStore) -> None:
        first, second = vote(release_ms=T0_MS + 9), vote(release_ms=T0_MS + 4, hit=False)
        store.commit(0, {}, plain(votes=[VoteChange(None, first)]))
        store.commit(0, {}, plain(votes=[VoteChange(first, second)]))
        assert store.waiting(END_MS) == [second]

    def test_a_vote_is_not_replaced_when_it_was_released(self, store: StateStore) -> None:
        first, second = vote(release_ms=T0_MS + 9), vote(release_ms=T0_MS + 4, hit=False)
        store.commit(0, {}, plain(votes=[VoteChange(None, first)]))
        store.forget([first])
        store.commit(0, {}, plain(votes=[VoteChange(first, second)]))
        assert store.waiting(END_MS) == []

    def test_a_vote_is_withdrawn_when_it_still_waits(self, store: StateStore) -> None:
        store.commit(
            0, {}, plain(votes=[VoteChange(None, vote("p1")), VoteChange(None, vote("p2"))])
        )
        store.commit(0, {}, plain(votes=[VoteChange(vote("p1"), None)]))
        assert store.waiting(END_MS) == [vote("p2")]

    def test_a_vote_stands_once_when_it_is_committed_twice(self, store: StateStore) -> None:
        for _ in range(2):
            store.commit(0, {}, plain(votes=[VoteChange(None, vote())]))
        assert store.waiting(END_MS) == [vote()]

    @ONE_AND_FOUR
    def test_forgotten_votes_are_gone_however_often_it_is_said(
        self, world: StoreWorld, shards: int
    ) -> None:
        store = world.open(shards=shards)
        votes = [vote(f"p{number}", release_ms=T0_MS + number) for number in range(9)]
        for each in votes:
            shard = shard_of(each.prediction_id, shards)
            store.commit(shard, {}, plain(votes=[VoteChange(None, each)]))
        for _ in range(2):
            store.forget(votes[:5])
            store.forget([])
            assert store.waiting(END_MS) == votes[5:]

    @ONE_AND_FOUR
    def test_no_more_votes_are_given_than_asked_for_and_those_are_the_earliest(
        self, world: StoreWorld, shards: int
    ) -> None:
        store = world.open(shards=shards)
        votes = [vote(f"p{number}", release_ms=T0_MS + number) for number in range(30)]
        for each in reversed(votes):
            shard = shard_of(each.prediction_id, shards)
            store.commit(shard, {}, plain(votes=[VoteChange(None, each)]))
        assert store.waiting(END_MS, 7) == votes[:7]
        assert store.waiting(T0_MS + 5, 7) == votes[:5]

    @ONE_AND_FOUR
    def test_votes_wait_in_release_order_and_strictly_before(
        self, world: StoreWorld, shards: int
    ) -> None:
        store = world.open(shards=shards)
        votes = [vote(f"p{17 * n % 31}", release_ms=T0_MS + n // 2) for n in range(16)]
        for each in votes:
            shard = shard_of(each.prediction_id, shards)
            store.commit(shard, {}, plain(votes=[VoteChange(None, each)]))
        assert store.waiting(T0_MS) == []
        assert store.waiting(T0_MS + 1) == sorted(votes[:2])
        assert store.waiting(T0_MS + 7) == sorted(votes[:14])
        assert store.waiting(END_MS) == sorted(votes)

    def test_held_votes_wait_again_and_may_be_held_twice(self, store: StateStore) -> None:
        votes = [vote(f"p{n}", release_ms=T0_MS + n) for n in range(9)]
        store.hold(votes)
        store.hold(votes[:3])
        assert store.waiting(END_MS) == votes
        store.forget(votes[:8])
        assert store.waiting(END_MS) == votes[8:]

    # Evaluation

    def test_voices_have_spoken_once_the_evaluation_is_saved(self, store: StateStore) -> None:
        assert store.spoken([]) == {}
        assert store.spoken(["a", "b"]) == {}
        lease = leased(store)
        store.commit_evaluation(Evaluation(1), [], lease, {"a": T0_MS, "b": T0_MS + 1})
        with pytest.raises(CommitConflict):
            store.commit_evaluation(Evaluation(1), [], lease, {"c": T0_MS})
        store.commit_evaluation(Evaluation(2), [], lease, {"a": T0_MS + 7})
        assert store.spoken(["a", "b", "c"]) == {"a": T0_MS + 7, "b": T0_MS + 1}

    def test_voices_are_forgotten_after_a_week(self, store: StateStore) -> None:
        spoken = {"old": T0_MS, "new": T0_MS + 1}
        store.commit_evaluation(Evaluation(1), [], leased(store), spoken)
        store.sweep(T0_MS + CONVERSATION_MS, DAY_MS)
        assert store.spoken(["old", "new"]) == {"new": T0_MS + 1}

    def test_an_evaluation_is_read_as_it_was_saved(self, world: StoreWorld) -> None:
        ring = Glance(tuple((T0_MS + n, n % 3 > 0) for n in range(100)))
        state = AlertState(Status.FIRING, T0_MS + 5, T0_MS + 3, 4, ring)
        saved = Evaluation(
            1,
            T0_MS + 77,
            {
                AlertKey("urgent-recall", SliceKey("ft", "channel=web"), "m-2/t-1"): state,
                AlertKey("another", SliceKey()): AlertState(),
            },
            (vote("p1"), vote("p2", hit=False)),
            (vote("p3"),),
            {"urgent-recall": MaturityBook(5, 6, 7, 8, {1: {2: 3}}, {})},
        )
        evaluate(world.open(), saved, transition(1), transition(2))
        assert world.open().evaluation() == saved
        assert world.open().transitions() == [transition(1), transition(2)]

    def test_transitions_are_kept_in_the_order_of_their_commits(self, store: StateStore) -> None:
        for sequence in (1, 2):
            evaluate(store, Evaluation(sequence), transition(sequence))
        evaluate(store, Evaluation(3))
        assert store.transitions() == [transition(1), transition(2)]

    @pytest.mark.parametrize("sequence", [0, 1, 3], ids=["older", "same", "too new"])
    def test_an_evaluation_is_refused_when_it_does_not_follow_the_last(
        self, world: StoreWorld, sequence: int
    ) -> None:
        store, other = world.open(), world.open()
        evaluate(other, Evaluation(1, T0_MS), transition(1))
        before = observed(store)
        with pytest.raises(CommitConflict):
            evaluate(store, Evaluation(sequence, T0_MS + 9), transition(2))
        assert observed(store) == before

    # The lease of the evaluator

    def test_one_worker_at_a_time_leads(self, world: StoreWorld) -> None:
        assert world.open().lead("w1", LEASE_MS) == Lease("w1", 1)
        assert world.open().lead("w2", LEASE_MS) is None

    def test_a_worker_that_leads_already_keeps_its_fence(self, store: StateStore) -> None:
        assert {leased(store, "w1") for _ in range(3)} == {Lease("w1", 1)}

    def test_the_fence_grows_with_every_worker_that_takes_over(self, world: StoreWorld) -> None:
        store = world.open()
        for fence, worker in enumerate(["w1", "w2", "w1", "w3"], start=1):
            lease = leased(store, worker)
            assert lease == Lease(worker, fence)
            store.resign(lease)

    def test_a_lease_that_was_resigned_counts_until_another_worker_takes_over(
        self, world: StoreWorld
    ) -> None:
        store, other = world.open(), world.open()
        lease = leased(store, "w1")
        store.resign(lease)
        store.commit_evaluation(Evaluation(1), [], lease)
        leased(other, "w2")
        with pytest.raises(CommitConflict):
            store.commit_evaluation(Evaluation(2), [], lease)
        assert other.evaluation() == Evaluation(1)

    def test_resigning_takes_nothing_from_the_worker_that_has_taken_over(
        self, world: StoreWorld
    ) -> None:
        store = world.open()
        first = leased(store, "w1")
        store.resign(first)
        leased(store, "w2")
        store.resign(first)
        assert store.lead("w3", LEASE_MS) is None

    def test_a_worker_that_was_held_up_cannot_commit_when_it_comes_back(
        self, world: StoreWorld
    ) -> None:
        """It has all that an evaluation needs, sequence included; only its lease is an old one."""
        held_up, other = world.open(), world.open()
        lease = leased(held_up, "w1")
        evaluate_at = held_up.evaluation().sequence + 1
        held_up.resign(lease)
        leased(other, "w2")
        before = observed(other)
        with pytest.raises(CommitConflict):
            held_up.commit_evaluation(Evaluation(evaluate_at, T0_MS), [transition(1)], lease)
        assert observed(other) == before

    def test_a_lease_that_nobody_gave_is_refused(self, store: StateStore) -> None:
        for lease in (Lease("w1", 0), Lease("w1", 1), Lease("", 0)):
            with pytest.raises(CommitConflict):
                store.commit_evaluation(Evaluation(1), [transition(1)], lease)
        leased(store, "w1")
        for lease in (Lease("w1", 2), Lease("w2", 1)):
            with pytest.raises(CommitConflict):
                store.commit_evaluation(Evaluation(1), [transition(1)], lease)
        assert store.transitions() == []

    def test_a_worker_of_any_name_can_lead(self, store: StateStore) -> None:
        lease = leased(store, "wörker 1:\n{x}")
        store.commit_evaluation(Evaluation(1), [], lease)

    # Offices

    def test_offices_are_held_independently_of_each_other(self, world: StoreWorld) -> None:
        store = world.open()
        assert store.lead("w1", LEASE_MS) == Lease("w1", 1)
        assert store.lead("w2", LEASE_MS, "chat") == Lease("w2", 1, "chat")
        assert store.lead("w3", LEASE_MS, "pager") == Lease("w3", 1, "pager")
        assert world.open().lead("w1", LEASE_MS, "chat") is None

    def test_resigning_an_office_gives_up_no_other(self, store: StateStore) -> None:
        leased(store, "w1")
        store.resign(leased(store, "w1", "chat"))
        assert store.lead("w2", LEASE_MS) is None
        assert store.lead("w2", LEASE_MS, "chat") == Lease("w2", 2, "chat")

    def test_the_lease_of_another_office_neither_evaluates_nor_delivers(
        self, store: StateStore
    ) -> None:
        """Worker and fence are those of the evaluator's lease, only the office is not."""
        evaluate(store, Evaluation(1), transition(1))
        lease = leased(store, "w1", "chat")
        assert lease == leased(store, "w1")._replace(office="chat")
        with pytest.raises(CommitConflict):
            store.commit_evaluation(Evaluation(2), [], lease)
        with pytest.raises(CommitConflict):
            store.delivered([transition(1)], lease)
        assert store.evaluation() == Evaluation(1)
        assert store.outbox() == [transition(1)]

    # Deliveries to receivers

    def test_a_receiver_that_was_never_told_has_no_delivery(self, store: StateStore) -> None:
        assert store.delivery("chat") == ""

    def test_each_receiver_has_the_delivery_that_was_saved_last(self, world: StoreWorld) -> None:
        store = world.open()
        chat, pager = (leased(store, "w1", name) for name in ("chat", "pägers 1:{x}"))
        store.save_delivery("chat", "first", chat)
        store.save_delivery("chat", '{"told": "ünd\\n"}', chat)
        store.save_delivery("pägers 1:{x}", "another", pager)
        assert world.open().delivery("chat") == '{"told": "ünd\\n"}'
        assert world.open().delivery("pägers 1:{x}") == "another"

    def test_a_worker_that_was_held_up_saves_no_delivery(self, world: StoreWorld) -> None:
        held_up, other = world.open(), world.open()
        lease = leased(held_up, "w1", "chat")
        held_up.resign(lease)
        taken = leased(other, "w2", "chat")
        other.save_delivery("chat", "told by w2", taken)
        with pytest.raises(CommitConflict):
            held_up.save_delivery("chat", "told by w1", lease)
        assert other.delivery("chat") == "told by w2"

    def test_a_delivery_is_refused_when_the_lease_is_of_another_office(
        self, store: StateStore
    ) -> None:
        chat, pager = (leased(store, "w1", name) for name in ("chat", "pager"))
        for lease in (leased(store, "w1"), pager, chat._replace(fence=9)):
            with pytest.raises(CommitConflict):
                store.save_delivery("chat", "told", lease)
        assert store.delivery("chat") == ""

    # What people did

    def test_actions_are_kept_in_the_order_in_which_they_were_entered(
        self, world: StoreWorld
    ) -> None:
        """Their wall times are those of several machines and decide nothing."""
        entered = [
            Action("a3", Deed.SILENCE, T0_MS, "zoë", "wörk", "", (("rule", "r:{1}"),), T0_MS + 9),
            Action("a1", Deed.ACKNOWLEDGE, T0_MS - 5, "kim", "mine", "0f1e2d3c-2"),
            Action("a2", Deed.UNSILENCE, T0_MS + 1, "kim", "", "a3"),
        ]
        for action in entered:
            world.open().act(action)
        assert world.open().actions() == entered

    def test_an_action_counts_once_and_stays_as_it_was_entered_first(
        self, store: StateStore
    ) -> None:
        first = Action("a1", Deed.ACKNOWLEDGE, T0_MS, "kim", "mine", "0f1e2d3c-2")
        for action in (first, first, replace(first, who="lee")):
            store.act(action)
        assert store.actions() == [first]

    # The outbox

    def test_what_was_committed_waits_in_the_outbox_oldest_first(self, world: StoreWorld) -> None:
        evaluate(world.open(), Evaluation(1), transition(1))
        evaluate(world.open(), Evaluation(2), transition(2), transition(3))
        store = world.open()
        assert store.outbox() == [transition(1), transition(2), transition(3)]
        assert store.outbox(2) == [transition(1), transition(2)]

    def test_what_was_delivered_leaves_the_outbox_and_stays_a_transition(
        self, world: StoreWorld
    ) -> None:
        store = world.open()
        evaluate(store, Evaluation(1), transition(1), transition(2))
        store.delivered([transition(1)], leased(store))
        assert world.open().outbox() == [transition(2)]
        evaluate(store, Evaluation(2), transition(3))
        assert world.open().outbox() == [transition(2), transition(3)]
        assert world.open().transitions() == [transition(1), transition(2), transition(3)]

    def test_delivering_twice_does_no_harm(self, store: StateStore) -> None:
        """As when the answer of the first time was lost, in whole or after a part of it."""
        evaluate(store, Evaluation(1), transition(1), transition(2), transition(3))
        for _ in range(2):
            store.delivered([transition(1)], leased(store))
            assert store.outbox() == [transition(2), transition(3)]
        store.delivered([transition(1), transition(2)], leased(store))
        assert store.outbox() == [transition(3)]
        for _ in range(2):
            store.delivered([transition(1), transition(2), transition(3)], leased(store))
            assert store.outbox() == []

    def test_the_backlog_counts_what_is_yet_to_be_handed_on(self, world: StoreWorld) -> None:
        store, reader = world.open(), world.open()
        journal(store, 3)
        evaluate(store, Evaluation(4), transition(1), transition(2))
        assert reader.backlog() == Backlog(2, 3, {})
        lease = leased(store)
        store.delivered([transition(1)], lease)
        store.published(2, lease)
        store.save_delivery("notify:pager", "told", leased(store, office="notify:pager"))
        assert reader.backlog() == Backlog(1, 1, {"notify:pager": "told"})

    def test_what_does_not_head_the_outbox_stays_in_it(self, store: StateStore) -> None:
        evaluate(store, Evaluation(1), transition(1), transition(2))
        store.delivered([], leased(store))
        store.delivered([transition(2)], leased(store))
        store.delivered([replace(transition(1), id="another")], leased(store))
        assert store.outbox() == [transition(1), transition(2)]

    def test_what_is_delivered_is_known_by_its_id(self, store: StateStore) -> None:
        """An upgrade may read or write the other fields differently."""
        evaluate(store, Evaluation(1), transition(1), transition(2))
        store.delivered([replace(transition(1), reason="as we say it now")], leased(store))
        assert store.outbox() == [transition(2)]

    def test_the_outbox_outlives_the_worker_that_filled_it(self, world: StoreWorld) -> None:
        """It crashed between its commit and the delivery; the next evaluator delivers."""
        store = world.open()
        lease = leased(store, "w1")
        store.commit_evaluation(Evaluation(1), [transition(1)], lease)
        store.resign(lease)
        other = world.open()
        taken = leased(other, "w2")
        assert other.outbox() == [transition(1)]
        other.delivered(other.outbox(), taken)
        assert other.outbox() == []

    def test_a_worker_that_was_held_up_takes_nothing_out_of_the_outbox(
        self, world: StoreWorld
    ) -> None:
        held_up, other = world.open(), world.open()
        lease = leased(held_up, "w1")
        held_up.commit_evaluation(Evaluation(1), [transition(1)], lease)
        held_up.resign(lease)
        leased(other, "w2")
        with pytest.raises(CommitConflict):
            held_up.delivered([transition(1)], lease)
        assert other.outbox() == [transition(1)]

    # The journal

    def test_entries_come_back_as_they_were_sealed_oldest_first(self, world: StoreWorld) -> None:
        added = journal(world.open(), 3)
        held = world.open().journal()
        assert held == added
        assert [sealed(one) for one in held] == added
        assert world.open().evaluation().chain == added[-1].hash

    def test_entries_after_a_sequence_come_in_portions(self, store: StateStore) -> None:
        added = journal(store, 12)
        assert store.journal(after=4) == added[4:]
        assert store.journal(limit=3) == added[:3]
        assert store.journal(after=9, limit=2) == added[9:11]
        assert store.journal(after=12) == []

    def test_an_evaluation_without_an_entry_leaves_the_journal_alone(
        self, store: StateStore
    ) -> None:
        """As it was before there was a journal; the next one may have an entry again."""
        added = journal(store, 2)
        evaluate(store, Evaluation(3))
        assert store.journal() == added
        assert store.unpublished() == added
        assert store.journal(after=2) == []
        assert [one.sequence for one in [*added, *journal(store, 1)]] == [1, 2, 4]

    def test_an_entry_is_saved_with_its_evaluation_or_not_at_all(self, world: StoreWorld) -> None:
        store, other = world.open(), world.open()
        lease = leased(store, "w1")
        journal_before = entry(1, document="{}")
        store.commit_evaluation(Evaluation(1), [], lease, entry=journal_before)
        before = observed(other)
        with pytest.raises(CommitConflict):
            store.commit_evaluation(
                Evaluation(1), [transition(1)], lease, entry=entry(1, document="[]")
            )
        with pytest.raises(CommitConflict):
            store.commit_evaluation(Evaluation(3), [], lease, entry=entry(3, document="[]"))
        store.resign(lease)
        leased(other, "w2")
        with pytest.raises(CommitConflict):
            store.commit_evaluation(Evaluation(2), [], lease, entry=entry(2, document="[]"))
        assert observed(other) == before

    def test_documents_are_kept_by_the_digest_of_their_settings(self, world: StoreWorld) -> None:
        store = world.open()
        journal(store, 1, document='{"objective": 0.8, "of": "dringend ü"}')
        journal(store, 2)
        journal(store, 1, document="{}")
        assert world.open().documents() == {
            'settings of {"objective": 0.8, "of": "dringend ü"}': (
                '{"objective": 0.8, "of": "dringend ü"}'
            ),
            "settings of {}": "{}",
        }

    def test_entries_wait_until_they_are_published(self, world: StoreWorld) -> None:
        store = world.open()
        added = journal(store, 5)
        assert store.unpublished() == added
        assert store.unpublished(limit=2) == added[:2]
        store.published(2, leased(store))
        assert world.open().unpublished() == added[2:]
        store.published(5, leased(store))
        assert store.unpublished() == []
        added += journal(store, 1)
        assert store.unpublished() == added[5:]
        assert store.journal() == added

    def test_publishing_again_takes_nothing_back(self, store: StateStore) -> None:
        added = journal(store, 3)
        store.published(3, leased(store))
        store.published(1, leased(store))
        assert store.unpublished() == []
        assert store.journal() == added

    def test_a_worker_that_was_held_up_publishes_nothing(self, world: StoreWorld) -> None:
        held_up, other = world.open(), world.open()
        lease = leased(held_up, "w1")
        first = entry(1)
        held_up.commit_evaluation(Evaluation(1), [], lease, entry=first)
        held_up.resign(lease)
        leased(other, "w2")
        with pytest.raises(CommitConflict):
            held_up.published(1, lease)
        with pytest.raises(CommitConflict):
            other.published(1, leased(other, "w1", "chat"))
        assert other.unpublished() == [first]

    # Marks

    @ONE_AND_FOUR
    def test_marks_are_the_cuts_with_the_books(self, world: StoreWorld, shards: int) -> None:
        store = world.open(shards=shards)
        assert store.marks() == [Mark({}, {})] * shards
        write(store, *(prediction(f"p{n}") for n in range(9)), label("p1"), label("p20"))
        marks = world.open(shards=shards).marks()
        assert [mark.cut for mark in marks] == store.cuts()
        assert ledger.merged([mark.ledger for mark in marks]) == store.ledger()
        received = [mark.ledger.get("predictions.received", 0) for mark in marks]
        per_shard = Counter(shard_of(f"p{n}", shards) for n in range(9))
        assert received == [per_shard[shard] for shard in range(shards)]

    # Pictures

    def test_a_picture_holds_what_each_question_answers(self, store: StateStore) -> None:
        write(store, *(prediction(f"p{n}") for n in range(9)), label("p1"), label("p20"))
        store.commit_evaluation(Evaluation(1, T0_MS), [transition(1)], leased(store))
        asked = [*store.pane_keys(HOUR_MS), PaneKey(Clock.EVENT, ALL_TIME, 0, SliceKey("none"))]
        assert store.picture([HOUR_MS], asked) == Picture(
            store.marks(),
            store.evaluation(),
            store.transitions(),
            store.slice_keys(),
            {HOUR_MS: store.pane_keys(HOUR_MS)},
            dict(zip(asked, store.panes(asked), strict=True)),
        )

    def test_there_is_no_picture_when_shards_stand_at_different_places(
        self, world: StoreWorld
    ) -> None:
        store = world.open(shards=2)
        assert store.picture([], []) is not None
        store.commit(*prepared(store, 0, [prediction()]))
        assert store.picture([], []) is None

    def test_an_evaluation_committed_twice_counts_once(self, store: StateStore) -> None:
        lease = leased(store)
        store.commit_evaluation(Evaluation(1, T0_MS), [transition(1)], lease)
        with pytest.raises(CommitConflict):
            store.commit_evaluation(Evaluation(1, T0_MS), [transition(1)], lease)
        assert store.transitions() == store.outbox() == [transition(1)]

    # Sweeping

    def test_sweeping_nothing_does_no_harm(self, store: StateStore) -> None:
        sweep_all(store, T0_MS)
        assert store.ledger() == {}

    @settings(deadline=None, max_examples=20, suppress_health_check=MANY_NAMESPACES)
    @given(
        hours=st.lists(st.tuples(st.integers(-2, 2), st.integers(0, HOUR_MS - 100)), max_size=12),
        watermark_ms=st.integers(T0_MS - HOUR_MS, T0_MS + HOUR_MS),
    )
    def test_entries_are_dropped_exactly_when_nothing_can_find_them_any_more(
        self,
        worlds: Callable[[], StoreWorld],
        hours: list[tuple[int, int]],
        watermark_ms: int,
    ) -> None:
        """``instant's hour | hour | horizon | slack |`` and the entry is gone from the last bar on.

        The instant is the prediction's event time, an orphan's log time.
        """
        store = worlds().open()
        awaited_ms = HOUR_MS + HORIZON_MS + RETENTION_SLACK_MS
        ends: dict[str, int] = {}
        for number, (hour, rest_ms) in enumerate(hours):
            hour_ms = T0_MS + hour * HOUR_MS - awaited_ms
            name, at_ms = f"p{number}", hour_ms + rest_ms
            write(store, prediction(name, at_ms=at_ms) if number % 2 else label(name, at_ms=at_ms))
            ends[name] = hour_ms + awaited_ms
        sweep_all(store, watermark_ms)
        kept = [name for name, end_ms in ends.items() if watermark_ms < end_ms]
        assert list(loaded(store, ends)) == kept

    def test_an_orphan_is_kept_as_long_as_its_newest_label(self, store: StateStore) -> None:
        awaited_ms = HOUR_MS + HORIZON_MS + RETENTION_SLACK_MS
        write(store, label(at_ms=T0_MS), label(at_ms=T0_MS + 3 * HOUR_MS))
        sweep_all(store, T0_MS + awaited_ms + 3 * HOUR_MS - 1)
        assert list(loaded(store, ["p1"])) == ["p1"]
        sweep_all(store, T0_MS + awaited_ms + 3 * HOUR_MS)
        assert loaded(store, ["p1"]) == {}

    @ONE_AND_FOUR
    def test_panes_are_dropped_at_their_retention_and_all_time_never(
        self, world: StoreWorld, shards: int
    ) -> None:
        store = world.open(shards=shards)
        write(store, *(prediction(f"p{n}", at_ms=T0_MS + n * MINUTE_MS) for n in range(4)))
        before = total(store)
        for past, minutes in ((-1, 4), (0, 3), (MINUTE_MS, 2), (5 * MINUTE_MS, 0)):
            sweep_all(store, T0_MS + MINUTE_MS + KEEP_MS[MINUTE_MS] + past)
            assert len({key.start_ms for key in store.pane_keys(MINUTE_MS)}) == minutes
        hours = {key.start_ms for key in store.pane_keys(HOUR_MS)}
        assert hours == {pane_start(T0_MS, HOUR_MS)}
        sweep_all(store, T0_MS + HOUR_MS + KEEP_MS[HOUR_MS])
        assert store.pane_keys(HOUR_MS) == []
        sweep_all(store, END_MS)
        assert total(store) == before

    def test_any_number_of_panes_is_dropped_in_the_end(self, store: StateStore) -> None:
        starts = range(T0_MS, T0_MS + 1_200 * MINUTE_MS, MINUTE_MS)
        panes = [PaneKey(Clock.LABEL, MINUTE_MS, start_ms, SliceKey("ft")) for start_ms in starts]
        store.commit(0, {}, plain(cells={pane: {("delay", "7"): 1} for pane in panes}))
        assert store.pane_keys(MINUTE_MS) == panes
        sweep_all(store, END_MS)
        assert store.pane_keys(MINUTE_MS) == []

    def test_a_dropped_pane_is_empty(self, store: StateStore) -> None:
        write(store, prediction())
        keys = store.pane_keys(MINUTE_MS)
        sweep_all(store, T0_MS + MINUTE_MS + KEEP_MS[MINUTE_MS])
        assert store.panes(keys) == [Counts()] * len(keys)

    def test_sweeping_leaves_books_cuts_and_votes_alone(self, store: StateStore) -> None:
        write(store, prediction(), label(), label("p2"))
        before = observed(store)
        sweep_all(store, END_MS)
        after = observed(store)
        for name in ("cuts", "ledger", "slices", "votes", "evaluation", "transitions", "outbox"):
            assert after[name] == before[name]
        assert after["entries"] == {}

    # Forgetting by request

    def test_a_request_is_kept_until_it_is_fulfilled(self, world: StoreWorld) -> None:
        asked = [Request("r2", ids("p1", "pä:{1}")), Request("r1", ids("p3"))]
        for request in (*asked, asked[0]):
            world.open().ask_to_forget(request)
        assert world.open().to_forget() == asked[::-1]
        for _ in range(2):
            world.open().fulfilled("r2")
        assert world.open().to_forget() == asked[1:]

    @ONE_AND_FOUR
    def test_what_is_erased_is_gone_while_every_count_and_all_else_stays(
        self, world: StoreWorld, shards: int
    ) -> None:
        store, names = world.open(shards=shards), ("p1", "p2", "p3", "p4")
        write(store, *(prediction(name) for name in names), label("p1"), label("p2"), label("p5"))
        before = observed(store, (*names, "p5"))
        assert {each.prediction_id for each in store.waiting(END_MS)} == {"p1", "p2"}
        store.erase(Request("r1", ids("p1", "p3", "p5", "nobody")))
        after = observed(world.open(shards=shards), (*names, "p5"))
        assert after["entries"] == {
            "p2": Entry(prediction("p2"), (label("p2"),)),
            "p4": Entry(prediction("p4")),
        }
        assert {each.prediction_id for each in store.waiting(END_MS)} == {"p2"}
        for name in after.keys() - {"entries", "votes"}:
            assert after[name] == before[name]

    def test_a_label_of_what_was_erased_is_an_orphan(self, store: StateStore) -> None:
        write(store, prediction())
        store.erase(Request("r1", ids("p1")))
        write(store, label())
        assert loaded(store, ["p1"]) == {"p1": Entry(None, (label(),))}
        assert store.ledger()["predictions.received"] == 1
        assert (total(store).predictions, total(store).labelled) == (1, 0)

    def test_the_shards_concerned_say_where_they_stood(self, world: StoreWorld) -> None:
        store, concerned = world.open(shards=4), {shard_of(name, 4) for name in ("p1", "p2")}
        assert store.erase(Request("r0", ids("p1"))) == {shard_of("p1", 4): {}}
        write(store, prediction(), label())
        cuts = store.cuts()
        found = store.erase(Request("r1", ids("p1", "p2")))
        assert found == {shard: cuts[shard] for shard in sorted(concerned)}

    def test_a_request_that_is_carried_out_again_touches_nothing_and_says_what_it_said(
        self, world: StoreWorld
    ) -> None:
        """As after a crash: what has come since is not what the journal will say was forgotten."""
        store, request = world.open(), Request("r1", ids("p1"))
        write(store, prediction())
        found = store.erase(request)
        write(store, label())
        assert world.open().erase(request) == found
        assert loaded(store, ["p1"]) == {"p1": Entry(None, (label(),))}
        assert world.open().erase(Request("r2", ids("p1"))) == dict(enumerate(store.cuts()))
        assert loaded(store, ["p1"]) == {}

    def test_a_writer_that_had_loaded_what_was_erased_has_to_load_again(
        self, world: StoreWorld
    ) -> None:
        store = world.open()
        write(store, prediction())
        ready = prepared(store, 0, [label()])
        world.open().erase(Request("r1", ids("p1")))
        with pytest.raises(CommitConflict):
            store.commit(*ready)

    def test_examples_lose_their_id_wherever_they_are_told(self, world: StoreWorld) -> None:
        store = world.open()
        kept, gone = Missed("p2", T0_MS, "balance", "fraud"), Missed("p1", T0_MS, "card", "fraud")
        moved = [replace(transition(n), missed=(kept, gone)[n - 2 :]) for n in (2, 3)]
        evaluate(store, Evaluation(1), transition(1), *moved)
        told = Told(
            cursor=3,
            standing={"a": Standing(moved[0], Severity.PAGE)},
            told={"a": Last(moved[1], Severity.PAGE, T0_MS)},
            pending=(Pending("a", News.RAISED, moved[1], Severity.PAGE, T0_MS, moved[0]),),
        )
        for office, text in (("chat", pack_told(told)), ("other", 'no telling of "p1"')):
            store.save_delivery(office, text, leased(store, "w1", office))
        store.erase(Request("r1", ids("p1")))
        bare = gone._replace(prediction_id=FORGOTTEN)
        left = [replace(moved[0], missed=(kept, bare)), replace(moved[1], missed=(bare,))]
        assert world.open().transitions() == [transition(1), *left]
        assert store.outbox() == store.transitions()
        assert unpack_told(store.delivery("chat")) == Told(
            cursor=3,
            standing={"a": Standing(left[0], Severity.PAGE)},
            told={"a": Last(left[1], Severity.PAGE, T0_MS)},
            pending=(Pending("a", News.RAISED, left[1], Severity.PAGE, T0_MS, left[0]),),
        )
        assert store.delivery("other") == 'no telling of "p1"'

    def test_a_reader_of_the_history_sees_what_is_added_and_what_is_masked_later(
        self, world: StoreWorld
    ) -> None:
        store, reader = world.open(), world.open()
        gone = Missed("p1", T0_MS, "card", "fraud")
        first, second = replace(transition(1), missed=(gone,)), transition(2)
        evaluate(store, Evaluation(1), first, second)
        assert reader.transitions() == [first, second]
        evaluate(store, Evaluation(2), transition(3))
        assert reader.transitions() == [first, second, transition(3)]
        store.erase(Request("r1", ids("p1")))
        bare = replace(first, missed=(gone._replace(prediction_id=FORGOTTEN),))
        for each in (reader, store):
            assert each.transitions() == [bare, second, transition(3)]

    def test_what_a_reader_does_with_a_history_changes_nothing(self, store: StateStore) -> None:
        evaluate(store, Evaluation(1), transition(1))
        store.transitions().clear()
        assert store.transitions() == [transition(1)]

    def test_an_id_that_reads_as_the_word_for_forgotten_ones_is_erased_like_any(
        self, store: StateStore
    ) -> None:
        missed = (Missed(FORGOTTEN, T0_MS, "balance", "fraud"),)
        evaluate(store, Evaluation(1), replace(transition(1), missed=missed))
        write(store, prediction(FORGOTTEN))
        store.erase(Request("r1", (FORGOTTEN,)))
        assert loaded(store, [FORGOTTEN]) == {}

    # Misses

    @ONE_AND_FOUR
    def test_misses_are_kept_oldest_first_until_a_label_takes_them_back(
        self, world: StoreWorld, shards: int
    ) -> None:
        store = world.open(shards=shards)
        for number, name in ((3, "p3"), (1, "p1"), (2, "p2"), (4, "right")):
            went = "fraud" if name == "right" else "fees"
            write(store, prediction(name, at_ms=T0_MS + number, predicted=went))
            write(store, label(name, at_ms=T0_MS + 9))
        found = world.open(shards=shards).misses()
        assert [each.prediction_id for each in found] == ["p1", "p2", "p3"]
        assert found[0] == Miss(
            T0_MS + 1, PredictionId("p1"), T0_MS + 51, T0_MS + 59, 8, "ft", "fraud", "fees"
        )
        assert store.misses(2) == found[1:]
        assert store.misses(0) == []
        write(store, label("p2", at_ms=T0_MS + 10, actual="fees"))
        assert store.misses() == [found[0], found[2]]

    def test_a_miss_takes_the_place_of_another_and_one_that_is_gone_does_no_harm(
        self, store: StateStore
    ) -> None:
        old, new = miss(), miss(predicted="balance")
        store.commit(0, {}, plain(misses=[MissChange(None, old)]))
        store.commit(0, {}, plain(misses=[MissChange(old, new), MissChange(old, None)]))
        assert store.misses() == [new]
        store.commit(0, {}, plain(misses=[MissChange(None, new)]))
        assert store.misses() == [new]

    def test_a_shard_keeps_the_newest_misses_by_event_time(self, world: StoreWorld) -> None:
        store = world.open()
        many = [miss(f"m{n:05}", at_ms=T0_MS + n) for n in range(MISSES_KEPT + 3)]
        late = [many[0], *many[3:]]
        store.commit(0, {}, plain(misses=[MissChange(None, each) for each in many[1:]]))
        assert store.misses() == many[3:]
        store.commit(0, {}, plain(misses=[MissChange(None, late[0])]))
        assert world.open().misses(END_MS) == many[3:]

    def test_misses_are_dropped_when_they_are_older_than_the_horizon(
        self, store: StateStore
    ) -> None:
        old, young = miss("p1"), miss("p2", at_ms=T0_MS + 1)
        store.commit(0, {}, plain(misses=[MissChange(None, old), MissChange(None, young)]))
        sweep_all(store, T0_MS + HORIZON_MS)
        assert store.misses() == [old, young]
        sweep_all(store, T0_MS + HORIZON_MS + 1)
        assert store.misses() == [young]

    @ONE_AND_FOUR
    def test_misses_of_what_is_erased_are_gone_and_are_known_before(
        self, world: StoreWorld, shards: int
    ) -> None:
        store = world.open(shards=shards)
        for name in ("p1", "p2", "p3"):
            write(store, prediction(name, predicted="fees"), label(name))
        alone = miss("p4")
        changes = plain(misses=[MissChange(None, alone)])
        store.commit(shard_of("p4", shards), {}, changes)
        assert store.known(ids("p1", "p4", "p5")) == {"p1", "p4"}
        store.erase(Request("r1", ids("p1", "p3", "p4", "nobody")))
        assert [each.prediction_id for each in world.open(shards=shards).misses()] == ["p2"]

    # Signs of life

    def test_the_last_sign_of_life_of_each_worker_is_kept_sorted_by_name(
        self, world: StoreWorld
    ) -> None:
        signs = [Heartbeat("w2", 5, 0, 10), Heartbeat("w1", 6, 3, 9), Heartbeat("w2", 7, 1, 12)]
        for sign in signs:
            world.open().beat(sign)
        assert world.open().heartbeats() == [signs[1], signs[2]]

    def test_a_sign_of_life_says_what_waits_where_and_when_the_rules_were_asked(
        self, world: StoreWorld
    ) -> None:
        lags = ((LABELS, 0), (PREDICTIONS, 7))
        sign = Heartbeat("w1", 6, 7, 9, lags=lags, evaluated_ms=5)
        world.open().beat(sign)
        [read] = world.open().heartbeats()
        assert read == sign
        assert [str(partition) for partition, _ in read.lags or ()] == [
            "labels[0]",
            "predictions[0]",
        ]

    def test_closing_twice_does_no_harm(self, world: StoreWorld) -> None:
        write(world.open(), prediction())
        store = world.open()
        store.close()
        store.close()
        assert list(loaded(world.open(), ["p1"])) == ["p1"]


class NamedFacts:
    """The facts about one prediction id, in log order."""

    def __init__(self, name: str, said: Prediction | None, labels: Sequence[Label]) -> None:
        self.name, self._said = name, said
        self._labels = {one.label_key: one for one in reversed(labels)}

    @property
    def facts(self) -> list[Fact]:
        return [*([self._said] if self._said else []), *self._labels.values()]

    def merged(self) -> Entry:
        entry = Entry()
        for fact in self.facts:
            if isinstance(fact, Prediction):
                entry = join.with_prediction(entry, fact)
            else:
                entry = join.with_label(entry, fact)
        return entry


@st.composite
def named_entries(draw: st.DrawFn) -> NamedFacts:
    text = st.text(min_size=1, max_size=20)
    instants = st.integers(0, 2**42)
    micros = st.none() | st.integers(0, 1_000_000)
    name = PredictionId(draw(text))
    at_ms = draw(instants)
    said = Prediction(
        name,
        at_ms,
        at_ms + draw(st.integers(-HOUR_MS, HORIZON_MS)),
        Traits(draw(text), draw(text), (draw(st.just("") | text),)),
        draw(st.none() | st.integers(-400, math.ceil(1e4))),
        draw(micros),
    )
    labels = draw(
        st.lists(
            st.builds(
                Label,
                st.just(name),
                st.just("") | text,
                instants,
                instants,
                text,
                st.integers(1, 2**31),
                st.booleans(),
                micros,
            ),
            max_size=3,
        )
    )
    return NamedFacts(name, said if draw(st.booleans()) or not labels else None, labels)
