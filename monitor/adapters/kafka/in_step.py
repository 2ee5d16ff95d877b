"""Partitions in step: what a reader far behind gets of all of them is from the same time.

A client hands over what it has fetched one partition at a time, a megabyte each, and the shorter
the records the more of them. So a reader that has much to catch up would see labels hours before
their predictions, and each batch would be spread over many minutes of one partition. The result
would be the same, but every label would have to wait in the store, and every minute would be
counted in many pieces. A reader that keeps up notices nothing: what is there is handed over.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Protocol

from monitor.domain.errors import BrokerError
from monitor.domain.events import NextOffsets, Partition, Record
from monitor.ports import RecordLog

MOST_WAITING = 100_000
"""Records in hand from which on nothing is waited for any more."""

_log_ms = itemgetter(3)


class FetchingLog(RecordLog, Protocol):
    """A log of which more can be asked than of others."""

    def behind(self) -> frozenset[Partition]:
        """Assigned partitions of which there is more, as far as is known without asking."""

    def hold(self, partitions: Iterable[Partition]) -> None:
        """Fetch only others than these from now on, where that can be chosen."""


class InStepLog:
    """The partitions of another log in step of their log times, each in its own order.

    A partition of which nothing has come, though there is more, is waited for as long as one poll
    waits; then, until something comes of it, the others go on without it. The other log belongs to
    this one, and is never asked for records by others.
    """

    def __init__(self, log: FetchingLog) -> None:
        self._log = log
        self._generation = log.generation
        self._waiting: dict[Partition, list[Record]] = {}
        self._silent: set[Partition] = set()
        self.partitions = log.partitions
        self.assigned = log.assigned
        self.oldest = log.oldest
        self.newest = log.newest
        self.commit = log.commit
        self.close = log.close

    @property
    def generation(self) -> int:
        """That of the log."""
        return self._log.generation

    def poll(self, max_records: int, wait_ms: int | None = None) -> list[Record]:
        """The next records up to some log time, each partition in offset order.

        With ``wait_ms`` nothing is handed over while a partition is waited for: that is done by a
        poll without it, which must come now and then.
        """
        fair = max(1, max_records // max(1, len(self._waiting)))
        self._log.hold(p for p, run in self._waiting.items() if len(run) > fair)
        if not self._fetch(max_records, wait_ms=0 if self._waiting else wait_ms):
            return []
        while missing := self._missing():
            if wait_ms is not None:
                return []
            before = self._in_hand()
            if before >= MOST_WAITING:
                break
            self._log.hold(self._waiting)
            if not self._fetch(max_records, wait_ms=None):
                return []
            if self._in_hand() == before:
                self._silent |= missing
        return self._taken(max_records)

    def places(self) -> NextOffsets:
        """The offset to be read next: where a partition's first record in hand stands, if any."""
        return {**self._log.places(), **self._begins()}

    def seek(self, next_offsets: NextOffsets) -> None:
        """Read on from these offsets; what is in hand of these partitions is dropped."""
        self._log.seek(next_offsets)
        for partition in next_offsets:
            self._waiting.pop(partition, None)

    def at_end(self) -> frozenset[Partition]:
        """Assigned partitions read to the end, of which nothing is in hand."""
        return self._log.at_end() - self._waiting.keys()

    def lag(self) -> Mapping[Partition, int]:
        """Offsets between the next record and the end."""
        lag, places = dict(self._log.lag()), self._log.places()
        for partition, begin in self._begins().items():
            lag[partition] += places[partition] - begin
        return lag

    def _begins(self) -> dict[Partition, int]:
        return {partition: run[0].offset for partition, run in self._waiting.items()}

    def _in_hand(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _missing(self) -> frozenset[Partition]:
        """Partitions that the others have to wait for."""
        if not self._waiting:
            return frozenset()
        return self._log.behind() - self._waiting.keys() - self._silent

    def _fetch(self, max_records: int, wait_ms: int | None) -> bool:
        """Take in what has come; False when the reader has to seek first."""
        room = max(max_records, MOST_WAITING - self._in_hand())
        found = self._log.poll(room, wait_ms)
        if self._log.generation != self._generation:
            self._generation = self._log.generation
            self._give_back()
            return False
        for place, run in groupby(found, itemgetter(0, 1)):
            partition = Partition(*place)
            self._waiting.setdefault(partition, []).extend(run)
            self._silent.discard(partition)
        return True

    def _give_back(self) -> None:
        """What is in hand is read again, where the log still has a place to read on from."""
        self._log.hold(())
        places, begins = self._log.places(), self._begins()
        self._waiting.clear()
        self._silent.clear()
        try:
            self._log.seek({p: begin for p, begin in begins.items() if p in places})
        except BrokerError:
            self.close()
            raise

    def _taken(self, most: int) -> list[Record]:
        taken: list[Record] = []
        for partition, past in self._cuts(most).items():
            run = self._waiting[partition]
            taken += run[:past]
            del run[:past]
            if not run:
                del self._waiting[partition]
        return taken

    def _cuts(self, most: int) -> dict[Partition, int]:
        """How many to take of each: up to one log time, and ``most`` in all."""
        if not self._waiting:
            return {}
        behind, longest = self._log.behind(), max(map(len, self._waiting.values()))
        share = max(1, most // len(self._waiting))
        cuts = self._capped(self._level(share, behind), share, most)
        # A few busy partitions among many are given more, as long as it is not too much.
        while share < longest:
            share += max(1, share // 4)
            further = self._level(share, behind)
            if sum(further.values()) > most:
                break
            cuts = further
        return cuts

    def _capped(self, cuts: Mapping[Partition, int], share: int, most: int) -> dict[Partition, int]:
        """Where many records bear the same time, or partitions are many, the earliest alone."""
        capped: dict[Partition, int] = {}
        for partition in sorted(cuts, key=lambda partition: _log_ms(self._waiting[partition][0])):
            if cut := min(cuts[partition], share, most):
                capped[partition] = cut
                most -= cut
        return capped

    def _level(self, share: int, behind: frozenset[Partition]) -> dict[Partition, int]:
        """How many of each are up to the earliest time at which one has given its share.

        One of which more is to come has given all that is in hand at the latest.
        """
        given = {
            partition: _log_ms(run[min(share, len(run)) - 1])
            for partition, run in self._waiting.items()
            if share < len(run) or partition in behind
        }
        if not given:
            return {partition: len(run) for partition, run in self._waiting.items()}
        slowest = min(given, key=lambda partition: given[partition])
        until_ms = given[slowest]
        cuts = {p: bisect_right(run, until_ms, key=_log_ms) for p, run in self._waiting.items()}
        # Clocks of producers may run backwards; something has to go on all the same.
        cuts[slowest] = max(1, cuts[slowest])
        return {partition: cut for partition, cut in cuts.items() if cut}
