"""What people use instead, over the very votes that our alert saw: who cries wolf, who is late."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from river.drift import ADWIN, PageHinkley

from benchmarks.courses import OBJECTIVE, Course, Found
from monitor.domain.windows import HOUR_MS

Votes = npt.NDArray[np.int64]
Hits = npt.NDArray[np.bool_]
Alarms = npt.NDArray[np.int64]
"""Numbers of the votes at which an alarm began."""

Z95 = 1.959964


def _in_window(ats: Votes, hits: Hits, first: npt.NDArray[np.intp]) -> tuple[Votes, Votes]:
    """Hits and votes from ``first`` of each vote on, that one included."""
    seen = np.concatenate(([0], np.cumsum(hits)))
    numbers = np.arange(1, len(ats) + 1)
    return (seen[numbers] - seen[first]).astype(np.int64), (numbers - first).astype(np.int64)


def _beginnings(is_alarming: Hits) -> Alarms:
    risen = np.flatnonzero(is_alarming[1:] & ~is_alarming[:-1]) + 1
    first = np.flatnonzero(is_alarming[:1])
    return np.concatenate((first, risen)).astype(np.int64)


def naive(ats: Votes, hits: Hits) -> Alarms:
    """The recall of the last hour is below the objective."""
    good, n = _in_window(ats, hits, np.searchsorted(ats, ats - HOUR_MS, side="right"))
    return _beginnings(good / n < OBJECTIVE)


def _wilson_upper(good: Votes, n: Votes) -> npt.NDArray[np.float64]:
    share, z2 = good / n, Z95 * Z95
    spread = np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    upper: npt.NDArray[np.float64] = (share + z2 / (2 * n) + Z95 * spread) / (1 + z2 / n)
    return upper


def wilson_hour(ats: Votes, hits: Hits) -> Alarms:
    """Wilson's upper bound at 95 % over the last hour is below the objective."""
    good, n = _in_window(ats, hits, np.searchsorted(ats, ats - HOUR_MS, side="right"))
    return _beginnings(_wilson_upper(good, n) < OBJECTIVE)


def wilson_hundred(ats: Votes, hits: Hits) -> Alarms:
    """The same over the last 100 votes."""
    good, n = _in_window(ats, hits, np.maximum(np.arange(1, len(ats) + 1) - 100, 0))
    return _beginnings((n == 100) & (_wilson_upper(good, n) < OBJECTIVE))


def adwin(_: Votes, hits: Hits) -> Alarms:
    """ADWIN of river over misses, as it comes, where it sees them become more."""
    detector, found, before = ADWIN(), list[int](), 0.0
    for number, hit in enumerate(hits.tolist()):
        detector.update(0.0 if hit else 1.0)
        mean = float(detector.estimation)
        if detector.drift_detected and mean > before:
            found.append(number)
        before = mean
    return np.array(found, dtype=np.int64)


def page_hinkley(_: Votes, hits: Hits) -> Alarms:
    """Page-Hinkley of river over misses, as it comes, where it sees them become more."""
    detector, found = PageHinkley(mode="up"), list[int]()
    for number, hit in enumerate(hits.tolist()):
        detector.update(0.0 if hit else 1.0)
        if detector.drift_detected:
            found.append(number)
    return np.array(found, dtype=np.int64)


RIVALS: dict[str, Callable[[Votes, Hits], Alarms]] = {
    "naive threshold, 1 h": naive,
    "Wilson 95 %, 1 h": wilson_hour,
    "Wilson 95 %, last 100": wilson_hundred,
    "ADWIN": adwin,
    "Page-Hinkley": page_hinkley,
}


def false_alarms(course: Course) -> Found:
    """Alarms of each over a course on which nothing was wrong."""
    ats, hits = _votes_of(course)
    return {f"{name}: false": [float(len(of(ats, hits)))] for name, of in RIVALS.items()}


def labels_to_alarm(course: Course, recall: float, before: int) -> Found:
    """Labels from the fall, after ``before`` votes, to the first alarm of each."""
    ats, hits = _votes_of(course)
    found: Found = {}
    for name, of in RIVALS.items():
        alarms = of(ats, hits)
        after = alarms[alarms >= before]
        late = float(after[0] - before + 1) if len(after) else float("inf")
        found[f"{name}: {recall}"] = [late]
    return found


def _votes_of(course: Course) -> tuple[Votes, Hits]:
    return (
        np.concatenate([ats for ats, _ in course.cast]),
        np.concatenate([hits for _, hits in course.cast]),
    )
