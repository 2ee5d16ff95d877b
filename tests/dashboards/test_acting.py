"""Acts of viewers: checked against the store of now, entered once, with a name or not at all."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from dashboards import acting, identity, source
from dashboards.identity import Viewer
from monitor.adapters.memory import MemoryStore
from monitor.domain.errors import ActRefused, StoreError
from monitor.domain.overlays import Action, Deed, silences_of
from monitor.domain.windows import HOUR_MS
from tests.dashboards import scenes, told
from tests.dashboards.scenes import NOON_MS

NAME = told.name("a")
RAISED = f"{NAME}-2"
ONE = {"rule": told.RULE.name, "variant": "a", "slice": "ALL"}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    monkeypatch.setattr(identity, "viewer", lambda: Viewer("ana"))
    made = told.store_of({"a": told.FIRED})
    source.use(told.source_of(made))
    return made


def later(store: MemoryStore, age_ms: int) -> None:
    source.use(told.source_of(store, age_ms=age_ms))


def test_an_acknowledgement_has_name_note_and_what_raised_the_alert(store: MemoryStore) -> None:
    acting.acknowledge(NAME, RAISED, " rolling back ")
    [action] = store.actions()
    assert (action.deed, action.who, action.note) == (Deed.ACKNOWLEDGE, "ana", "rolling back")
    assert (action.target, action.at_ms) == (RAISED, NOON_MS + 2_000)


def test_an_act_is_entered_once_when_it_is_clicked_twice(store: MemoryStore) -> None:
    acting.acknowledge(NAME, RAISED, "mine")
    acting.silence(ONE, HOUR_MS, "why", seen="")
    later(store, 3_000)
    acting.acknowledge(NAME, RAISED, "mine")
    acting.silence(ONE, HOUR_MS, "why", seen="")
    assert [action.at_ms for action in store.actions()] == [NOON_MS + 2_000] * 2
    [silence] = silences_of(store.actions(), NOON_MS + 2_000)
    acting.unsilence(silence.id, "")
    acting.unsilence(silence.id, "")
    assert len(store.actions()) == 3


def test_a_silence_is_entered_again_when_the_first_one_is_over(store: MemoryStore) -> None:
    first = acting.silence(ONE, HOUR_MS, "why", seen="")
    later(store, 2 * HOUR_MS)
    second = acting.silence(ONE, HOUR_MS, "why", seen=first.id)
    assert first.id != second.id
    assert len(store.actions()) == 2


def test_an_alert_that_was_raised_anew_is_not_taken_on_unseen(store: MemoryStore) -> None:
    again = (*told.FIRED, (told.OK, 5), (told.FIRING, 1))
    told.tell(store, {"a": again}, sequence=3)
    with pytest.raises(ActRefused, match="raised anew since you looked"):
        acting.acknowledge(NAME, RAISED, "mine")
    assert store.actions() == []


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (lambda: acting.acknowledge(NAME, RAISED, " "), "note must not be empty"),
        (lambda: acting.acknowledge("0" * 8, RAISED, "x"), "no alert 00000000; known are"),
        (lambda: acting.silence(ONE, HOUR_MS, "", seen=""), "reason must not be empty"),
        (lambda: acting.silence({"rule": "x"}, 1, "y", seen=""), "no rule x"),
        (lambda: acting.unsilence("5e0c9a11", ""), "no silence 5e0c9a11 holds"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(
    store: MemoryStore, act: Callable[[], Action], why: str
) -> None:
    with pytest.raises(ActRefused, match=why):
        act()
    assert store.actions() == []


def test_nobody_acts_without_a_name(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "viewer", lambda: Viewer(None, "You are not logged in."))
    with pytest.raises(ActRefused, match="not logged in"):
        acting.acknowledge(NAME, RAISED, "mine")
    assert store.actions() == []


def test_nobody_acts_on_a_dashboard_that_only_reads(store: MemoryStore) -> None:
    source.use(scenes.source_of(store, spec=told.SPEC))
    with pytest.raises(ActRefused):
        acting.acknowledge(NAME, RAISED, "mine")


def test_an_act_is_entered_once_when_the_store_did_not_say_whether_it_was(
    store: MemoryStore,
) -> None:
    def lost(action: Action) -> None:
        store.act(action)
        raise StoreError("redis://localhost:6379/0 did not answer in time")

    source.use(replace(told.source_of(store), act=lost))
    with pytest.raises(StoreError):
        acting.silence(ONE, HOUR_MS, "why", seen="")
    later(store, 9_000)
    acting.silence(ONE, HOUR_MS, "why", seen="")
    assert len(store.actions()) == 1
