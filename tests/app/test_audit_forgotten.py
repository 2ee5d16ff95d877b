"""What an audit says of forgotten predictions: that they were, and not which."""

from dataclasses import replace

from monitor.app.audit_forgotten import Names, nameless, notes_of
from monitor.codec.journal import forgotten_hash
from monitor.domain.forgetting import FORGOTTEN
from monitor.domain.journal import Forgotten
from tests.contracts.state_store import entry, vote

FORGOT = Forgotten("r1", (), (forgotten_hash("r1", "p1"),))


def test_a_vote_has_no_id_when_its_prediction_was_forgotten() -> None:
    gone, kept = vote()._replace(prediction_id="p1"), vote()._replace(prediction_id="p2")
    names = Names([FORGOT])
    assert nameless(gone, names) == gone._replace(prediction_id=FORGOTTEN)
    assert nameless(kept, names) == kept


def test_a_note_of_forgetting_and_a_full_reproduction_can_both_be_true() -> None:
    (note,) = notes_of([replace(entry(1), forgot=(FORGOT,))])
    assert "can leave a difference, which would be told here" in note
