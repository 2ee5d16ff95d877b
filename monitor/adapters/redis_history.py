"""The history of transitions in Redis, of which a reader keeps what it has read.

Transitions are added at the end and stay as they are, but for one thing: when predictions are
forgotten by request, their ids give way. Whoever does that leaves another random text in the field
``masked`` of the evaluation. So a reader asks for that field, the last transition that it knows and
what has come since; where either is another one than before, it reads all of them again. The field
is asked for before the rows: what is masked in between shows at the next look. Nothing here goes by
time.
"""

import threading
from collections.abc import Sequence
from typing import NamedTuple, cast

from monitor.adapters.redis_client import RedisClient
from monitor.adapters.redis_namespace import RedisNamespace
from monitor.codec import snapshots
from monitor.domain.alerts import Transition

MASKED = "masked"
"""Field of the evaluation with the mark of who masked ids last; absent before the first time."""


class _Kept(NamedTuple):
    """What was read: the mark then, the transitions, and the last of them as it is held."""

    mark: bytes | None
    transitions: tuple[Transition, ...]
    last: bytes


_NOTHING = _Kept(None, (), b"")


class RedisHistory:
    """Reads the transitions of one namespace; for threads."""

    def __init__(self, client: RedisClient, space: RedisNamespace) -> None:
        self._client, self._space = client, space
        self._lock = threading.Lock()
        self._kept = _NOTHING

    def read(self) -> list[Transition]:
        """Every transition, oldest first; those that were read before are the same objects."""
        with self._lock:
            kept = self._kept
            mark, rows = self._asked(max(0, len(kept.transitions) - 1))
            if kept.transitions and (mark != kept.mark or rows[:1] != [kept.last]):
                kept = _NOTHING
                mark, rows = self._asked(0)
            new = rows[1:] if kept.transitions else rows
            read = (*kept.transitions, *map(snapshots.unpack_transition, new))
            self._kept = _Kept(mark, read, new[-1] if new else kept.last)
            return list(read)

    def _asked(self, first: int) -> tuple[bytes | None, Sequence[bytes]]:
        """The mark, and what is held of the transitions from this place on."""
        pipe = self._client.commands.pipeline(transaction=False)
        pipe.hget(self._space.rules_key("evaluation"), MASKED)
        pipe.lrange(self._space.rules_key("transitions"), first, -1)
        mark, rows = pipe.execute()
        return cast("bytes | None", mark), cast("list[bytes]", rows)
