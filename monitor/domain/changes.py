"""Changes in a series of standardised values, as river's detectors find them."""

from collections.abc import Iterator, Sequence

from river import drift

Z_RANGE = 6.0
"""ADWIN takes values within 0..1: this many standard errors are laid over that."""


def detections(name: str, values: Sequence[float], *, least: int) -> Iterator[bool]:
    """For each value, in standard errors, whether a change is found with it.

    ``name`` is ``page_hinkley``, which says nothing before it has seen ``least`` values, or
    ``adwin``.
    """
    if name == "page_hinkley":
        hinkley = drift.PageHinkley(min_instances=least, delta=0.5, threshold=10.0)
        for value in values:
            hinkley.update(value)
            yield bool(hinkley.drift_detected)
        return
    adwin = drift.ADWIN(delta=0.05, clock=1, grace_period=10)
    for value in values:
        adwin.update(min(max(0.5 + value / Z_RANGE, 0.0), 1.0))
        yield bool(adwin.drift_detected)
