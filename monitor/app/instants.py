"""Instants as they are written for people and programs."""

from datetime import UTC, datetime

LATEST_MS = 253_402_300_799_999
"""The end of the year 9999, the latest instant that can be written."""


def iso(instant_ms: int | None) -> str | None:
    """ISO 8601 in UTC with milliseconds.

    >>> iso(0)
    '1970-01-01T00:00:00.000Z'
    """
    if instant_ms is None:
        return None
    instant_ms = min(instant_ms, LATEST_MS)
    instant = datetime.fromtimestamp(instant_ms // 1000, UTC)
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{instant_ms % 1000:03d}Z"
