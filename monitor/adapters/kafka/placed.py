"""What a log says of its ends and of where its reader stands, whichever client reads."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from monitor.adapters.kafka.connection import KafkaConnection
from monitor.adapters.kafka.faults import beyond_end
from monitor.domain.events import NextOffsets, Partition


class PlacedLog(ABC):
    """The part of a ``RecordLog`` that follows from places and ends."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._generation = 0
        self._assigned: frozenset[Partition] = frozenset()
        self._known_ends: dict[Partition, int] = {}

    @abstractmethod
    def places(self) -> NextOffsets:
        """The offset that is read next, for assigned partitions that have been sought."""

    @abstractmethod
    def oldest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """Offset of the oldest record that each partition still holds; its end if it holds none."""

    @abstractmethod
    def _asked_ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The ends as the broker knows them now."""

    @property
    def generation(self) -> int:
        """Rebalances met and places lost so far; being put out of the group counts, too."""
        return self._generation

    def assigned(self) -> frozenset[Partition]:
        """The partitions as of the last poll."""
        return self._assigned

    def newest(self, partitions: Iterable[Partition]) -> NextOffsets:
        """One past the newest record; with read_committed, where the oldest open transaction is."""
        return self._ends(partitions)

    def at_end(self) -> frozenset[Partition]:
        """Assigned partitions read to the end as the broker knows it now.

        Asks the broker only about partitions that have reached the last known end. BrokerError
        when an end lies before what was read.
        """
        places = dict(self.places())
        reached = {p: at for p, at in places.items() if at >= self._known_ends.get(p, 0)}
        ends = self._ends(reached) if reached else {}
        self._check_within(reached, ends)
        return frozenset(p for p, end in ends.items() if places[p] >= end)

    def lag(self) -> Mapping[Partition, int]:
        """Offsets between the next record and the end: transactions leave gaps, so at most.

        A partition that has no place yet counts from its oldest record.
        """
        if not self._assigned:
            return {}
        places = dict(self.places())
        if unplaced := self._assigned - places.keys():
            places |= self.oldest(unplaced)
        ends = self._ends(self._assigned)
        self._check_within(places, ends)
        return {p: end - places[p] for p, end in ends.items()}

    def _ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        ends = self._asked_ends(partitions)
        self._known_ends.update(ends)
        return ends

    def _check_within(self, places: NextOffsets, ends: NextOffsets) -> None:
        """BrokerError for a place beyond the end."""
        for partition, place in places.items():
            if place > ends[partition]:
                raise beyond_end(self._connection, partition, place, ends[partition])
