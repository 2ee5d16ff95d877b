"""What an audit says of forgotten predictions: that they were, and not which."""

from monitor.app.audit_forgotten import Names, nameless
from monitor.codec.journal import forgotten_hash
from monitor.domain.forgetting import FORGOTTEN
from monitor.domain.journal import Forgotten
from tests.contracts.state_store import vote

FORGOT = Forgotten("r1", (), (forgotten_hash("r1", "p1"),))


def test_a_vote_has_no_id_when_its_prediction_was_forgotten() -> None:
    gone, kept = vote()._replace(prediction_id="p1"), vote()._replace(prediction_id="p2")
    names = Names([FORGOT])
    assert nameless(gone, names) == gone._replace(prediction_id=FORGOTTEN)
    assert nameless(kept, names) == kept
