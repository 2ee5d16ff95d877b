"""What was forgotten by request is forgotten again in a replay, at the very same place of the log.

The journal names predictions by hash. The replay has met them, so it finds them among those that it
holds: each shard's when its cut of then is reached, with whatever the shard had read by then.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from monitor.adapters.memory import END_MS
from monitor.app.replay import OffsetHistory, Replay
from monitor.app.report import iso
from monitor.codec.journal import forgotten_hash
from monitor.domain.events import Partition
from monitor.domain.forgetting import FORGOTTEN, Request
from monitor.domain.journal import Forgotten, JournalEntry, Offsets
from monitor.domain.votes import Vote


class Names:
    """Tells the forgotten predictions by hash."""

    def __init__(self, forgotten: Iterable[Forgotten]) -> None:
        self._hashes: dict[str, set[str]] = {}
        for each in forgotten:
            self._hashes.setdefault(each.request, set()).update(each.hashes)

    def __contains__(self, prediction_id: str) -> bool:
        return any(
            forgotten_hash(request, prediction_id) in hashes
            for request, hashes in self._hashes.items()
        )


def nameless(vote: Vote, names: Names) -> Vote:
    """The vote without its id, if its prediction was forgotten."""
    return vote._replace(prediction_id=FORGOTTEN) if vote.prediction_id in names else vote


class Forgetting:
    """Carries out in a replay what the journal says was forgotten.

    Shards that stood further than others when they forgot are waited for: until their place is
    reached nothing of theirs is released.
    """

    def __init__(
        self, log: OffsetHistory, parse: Callable[[Offsets], Mapping[Partition, int]]
    ) -> None:
        self._log, self._parse = log, parse
        self._known: set[Forgotten] = set()
        self._due: list[Forgotten] = []

    def read_to(self, entry: JournalEntry, replay: Replay) -> None:
        """Read up to the entry's cut, and forget on the way what was forgotten on the way."""
        self._due += [each for each in entry.forgot if each not in self._known]
        self._known.update(entry.forgot)
        reached = dict(entry.cut)
        for number, each in enumerate(self._due):
            if all(past <= reached.get(name, 0) for name, past in each.cut):
                self._read(each.cut, replay)
                self._erase(each, f"{entry.sequence}-{number}", replay)
        self._due = [
            each for each in self._due if any(p > reached.get(name, 0) for name, p in each.cut)
        ]
        self._read(entry.cut, replay)
        self._withhold(replay)

    @staticmethod
    def apply(entry: JournalEntry, replay: Replay) -> None:
        """Let the evaluator of the replay forget, too."""
        replay.flow.leave_out(Names(entry.forgot).__contains__)

    def _read(self, cut: Offsets, replay: Replay) -> None:
        self._log.bound(self._parse(cut), strict=True)
        replay.read()

    @staticmethod
    def _erase(forgotten: Forgotten, step: str, replay: Replay) -> None:
        names = Names([forgotten])
        found = tuple(sorted(key for key in replay.store.held() if key in names))
        replay.store.erase(Request(step, found))

    def _withhold(self, replay: Replay) -> None:
        """Take back the votes of what is still to be forgotten."""
        if self._due:
            names = Names(self._due)
            waiting = replay.store.waiting(END_MS)
            replay.store.forget([vote for vote in waiting if vote.prediction_id in names])


def notes_of(entries: Iterable[JournalEntry]) -> Iterator[str]:
    """How many predictions were forgotten, and when, one line for each request."""
    told: set[str] = set()
    for entry in entries:
        requests = {each.request: 0 for each in entry.forgot if each.request not in told}
        for each in entry.forgot:
            if each.request in requests:
                requests[each.request] += len(each.hashes)
        told |= requests.keys()
        for request, count in requests.items():
            yield (
                f"{count:,} predictions were forgotten by request {request} at "
                f"{iso(entry.tick_ms)} ({entry}); a record of theirs that came in that very moment "
                "can leave a difference, which would be told here"
            )
