"""Label meets prediction: one ``Entry`` per prediction id, whatever order the records come in.

An entry is a *set* of facts, merged: reading the same records in another order, in other batches or
from more partitions ends in the same entry, and everything counted is a function of the entry.

::

    nothing --prediction--> pending --label--> labelled --higher revision--> labelled (corrected)
       |                       ^                  |
       +--label--> orphan -----+                  +--withdrawn--> pending

First means first by log time, never by reading order. Of several copies of a prediction the first
counts; of several copies of a label (same ``label_key``) the first counts; of several labels the
highest ``revision`` wins, then the latest ``label_ms``.

**Expiry.** A prediction waits for labels until the end of the hour of its ``event_ms`` plus the
label horizon; hours, so that whole hours of pending predictions expire together and the ledger
need not look at each. A label past that instant is expired: counted, not applied. A label without
prediction waits as long, counted from its ``log_ms``. Past a slack of an hour the store may have
dropped an entry, and nothing counts differently for it; only a *copy* of a label that is delivered
again so late is a duplicate if the entry is still there, and an orphan if not.
"""

from collections.abc import Iterator
from typing import NamedTuple

from monitor.domain.events import Intent, Label, Prediction

HOUR_MS = 3_600_000
RETENTION_SLACK_MS = HOUR_MS
"""How long an expired entry is kept, so that a label that is too late is told from an orphan."""


class Entry(NamedTuple):
    """All that is known of one prediction id. ``labels`` is sorted by precedence, winner last."""

    prediction: Prediction | None = None
    labels: tuple[Label, ...] = ()


class Outcome(NamedTuple):
    """A prediction with its truth. ``delay_ms`` is the verification latency, never below 0."""

    actual: Intent
    predicted: Intent
    decided_log_ms: int
    delay_ms: int


EMPTY = Entry()


def expiry_ms(instant_ms: int, horizon_ms: int) -> int:
    """First log time at which something of ``instant_ms`` is no longer awaited.

    >>> expiry_ms(30 * 60_000, horizon_ms=2 * HOUR_MS) // HOUR_MS
    3
    """
    return instant_ms - instant_ms % HOUR_MS + HOUR_MS + horizon_ms


def with_prediction(entry: Entry, prediction: Prediction) -> Entry:
    """``entry`` after ``prediction``; of two copies the one earlier in the log stays."""
    held = entry.prediction
    if held is None or _log_order(prediction) < _log_order(held):
        return Entry(prediction, entry.labels)
    return entry


def with_label(entry: Entry, label: Label) -> Entry:
    """``entry`` after ``label``; of two copies the one earlier in the log stays."""
    if not entry.labels:
        return Entry(entry.prediction, (label,))
    for held in entry.labels:
        if held.label_key == label.label_key:
            if (label.log_ms, precedence(label)) >= (held.log_ms, precedence(held)):
                return entry
            others = tuple(other for other in entry.labels if other is not held)
            return Entry(entry.prediction, tuple(sorted((*others, label), key=precedence)))
    return Entry(entry.prediction, tuple(sorted((*entry.labels, label), key=precedence)))


def precedence(label: Label) -> tuple[int, int, int, str, str, bool, int]:
    """Sort key of labels of one prediction: the greatest decides. Different labels never tie."""
    return (
        label.revision,
        label.label_ms,
        label.log_ms,
        label.label_key,
        label.actual,
        label.withdrawn,
        -1 if label.relevance_micros is None else label.relevance_micros,
    )


def applicable(entry: Entry, horizon_ms: int) -> tuple[Label, ...]:
    """Labels that met the prediction while either was awaited, winner last; none for an orphan."""
    prediction, labels = entry
    if prediction is None or not labels:
        return ()
    end_ms, log_ms = expiry_ms(prediction.event_ms, horizon_ms), prediction.log_ms
    if len(labels) == 1 and log_ms <= labels[0].log_ms < end_ms:
        return labels
    if all(log_ms <= label.log_ms < end_ms for label in labels):
        return labels
    return tuple(
        label
        for label in labels
        if label.log_ms < end_ms and log_ms < expiry_ms(label.log_ms, horizon_ms)
    )


def deciding(entry: Entry, horizon_ms: int) -> Label | None:
    """The label that says what is true now; None while pending, orphaned or withdrawn."""
    labels = applicable(entry, horizon_ms)
    return labels[-1] if labels and not labels[-1].withdrawn else None


def outcome_of(entry: Entry, horizon_ms: int) -> Outcome | None:
    """What the entry counts as in a confusion matrix; None while there is no truth."""
    if not entry.labels:
        return None
    label = deciding(entry, horizon_ms)
    prediction = entry.prediction
    if label is None or prediction is None:
        return None
    delay_ms = max(0, label.label_ms - prediction.event_ms)
    return Outcome(label.actual, prediction.predicted, label.log_ms, delay_ms)


def first_decided(entry: Entry, *, mature_ms: int, horizon_ms: int) -> tuple[int, Intent] | None:
    """When an outcome first counts as evidence and what was true then, as ``(release_ms, actual)``.

    The release is the first instant, not before ``mature_ms``, at which the labels that had come by
    then name a truth. A later correction does not change it: evidence is never rewound.
    """
    labels = applicable(entry, horizon_ms)
    if len(labels) == 1:
        label = labels[0]
        return None if label.withdrawn else (max(mature_ms, label.log_ms), label.actual)
    for release_ms in sorted({max(mature_ms, label.log_ms) for label in labels}):
        known = [label for label in labels if label.log_ms <= release_ms]
        if not known[-1].withdrawn:
            return release_ms, known[-1].actual
    return None


def standing(entry: Entry, horizon_ms: int) -> Iterator[tuple[str, int]]:
    """How the ledger counts the entry: pairs of (counter, count), see ``domain.ledger``.

    Pending predictions and orphans carry the hour at whose end plus horizon they expire. A label so
    late that the store may have dropped the prediction, or so early that it may have been dropped
    itself, is an orphan whether it was dropped or not.
    """
    prediction, labels = entry
    if prediction is None:
        for label in labels:
            yield f"labels.orphan@{label.log_ms // HOUR_MS}", 1
        return
    if not labels:
        yield f"predictions.pending@{prediction.event_ms // HOUR_MS}", 1
        return
    valid = applicable(entry, horizon_ms)
    if valid and not valid[-1].withdrawn:
        yield "predictions.labelled", 1
    else:
        yield f"predictions.pending@{prediction.event_ms // HOUR_MS}", 1
    gone_ms = expiry_ms(prediction.event_ms, horizon_ms) + RETENTION_SLACK_MS
    for label in labels if len(labels) > len(valid) else ():
        if label not in valid:
            is_expired = expiry_ms(prediction.event_ms, horizon_ms) <= label.log_ms < gone_ms
            orphan = f"labels.orphan@{label.log_ms // HOUR_MS}"
            yield "labels.expired" if is_expired else orphan, 1
    if valid:
        yield "labels.applied", 1
    if len(valid) > 1:
        yield "labels.superseded", len(valid) - 1
        yield "labels.corrected", 1
    early = sum(label.log_ms < prediction.log_ms for label in valid)
    if early:
        yield "labels.early", early


def _log_order(prediction: Prediction) -> tuple[object, ...]:
    """Of copies with one log time any one may count, but always the same one."""
    _, event_ms, log_ms, traits, *others = prediction
    return log_ms, event_ms, traits, tuple((value is not None, value) for value in others)
