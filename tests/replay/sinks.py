"""Where the dead letters of a replay go."""

from collections.abc import Iterable

from monitor.ports import OutRecord


class ListSink:
    """Keeps what is published, with headers."""

    def __init__(self) -> None:
        self.records: list[OutRecord] = []

    def publish(self, records: Iterable[OutRecord]) -> None:
        self.records += records

    def close(self) -> None:
        """Nothing to leave."""
