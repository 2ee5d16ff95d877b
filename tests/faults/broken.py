"""One guarantee taken away at a time, to show that the rig would notice.

Each of ``BREAKS`` changes the modules of a worker's process before it begins.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import TopicPartition

from monitor.adapters import redis_scripts
from monitor.app import live
from monitor.app.flow import Decoded, Flow, Turn
from monitor.domain.alerts import Transition


class OffsetsEarly(Flow):
    """Offsets are committed before the store has the records; reading still follows the cut."""

    def _bring(self, decoded: Decoded) -> Turn:
        self._log.commit(decoded.next_offsets)
        return super()._bring(decoded)


class OffsetsFirst(OffsetsEarly):
    """Offsets are committed before the store has the records, and are where reading goes on."""

    def _bring(self, decoded: Decoded) -> Turn:
        # Whoever believes the offsets does not ask whether the store is behind them.
        self._place = dict.fromkeys(self._place, 0)
        return super()._bring(decoded)

    def _follow_assignment(self) -> None:
        if self._log.generation == self._generation:
            return
        super()._follow_assignment()
        log: Any = self._log
        for partition in self._log.assigned():
            committed = log._log._consumer.committed(TopicPartition(*partition))
            if committed is not None:
                self._log.seek({partition: committed})


class NoOutbox(Flow):
    """A transition is announced by the process that found it, or by nobody."""

    _found: Sequence[Transition] = ()

    def evaluate(
        self,
        until_ms: int | None = None,
        *,
        is_anew: bool = False,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> list[Transition]:
        self._found = super().evaluate(until_ms, is_anew=is_anew, goes_on=goes_on)
        return self._found

    def deliver(self, to: Callable[[Transition], None]) -> None:
        for transition in self._found:
            to(transition)
        self._found = ()


def _use(flow: type[Flow]) -> Callable[[], None]:
    return lambda: setattr(live, "Flow", flow)


def _skip_compare() -> None:
    """The store takes every commit, whatever was loaded."""
    for answer in ("return {'CUT ' .. row[1]}", "return {'ENTRY ' .. key}"):
        if answer not in redis_scripts.COMMIT:
            raise AssertionError(f"the script does not compare: {answer}")
        redis_scripts.COMMIT = redis_scripts.COMMIT.replace(answer, "local skipped = 1")


BREAKS: Mapping[str, Callable[[], None]] = {
    "offsets-early": _use(OffsetsEarly),
    "offsets-first": _use(OffsetsFirst),
    "skip-compare": _skip_compare,
    "no-outbox": _use(NoOutbox),
}
"""Name -> what takes the guarantee away. ``offsets-early`` alone must do no harm."""
