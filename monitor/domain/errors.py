"""Every error that Recallwatch raises on purpose.

::

    RecallwatchError           what happened, where, what to do
    |-- IllegalMove            an alert state that has no way to the one asked for
    |-- ActRefused             what a person asked to do about alerts cannot be done
    |-- CommitConflict         somebody else wrote first: reload and step again
    |-- WorldError             the outside failed; the command ends with exit code 3
    |   |-- BrokerError
    |   |-- StoreError
    |   `-- DeliveryError      a receiver of notifications was not reached: tried again later
    `-- TooManyRejects         a bad deploy, most likely: stop rather than divert everything

``SettingsError`` (``app.settings``), ``CaptureError`` (``adapters.files``) and ``EmbeddedError``
(``app.embedded``) belong to the rim.
"""


class RecallwatchError(Exception):
    """Base of all; its text is written for the person who reads it at night."""


class IllegalMove(RecallwatchError):  # noqa: N818 - the name says what happened
    """An alert was asked to go from one state to another that cannot follow it."""


class ActRefused(RecallwatchError):  # noqa: N818 - an answer rather than a fault
    """An acknowledgement or a silence that makes no sense; the text says why, nothing was done."""


class CommitConflict(RecallwatchError):  # noqa: N818 - an answer rather than a fault
    """What a commit compares had changed since it was loaded; nothing was written."""


class JournalError(RecallwatchError):
    """What was read as an entry of the journal is none, or of another release."""


class NotVerifiable(RecallwatchError):  # noqa: N818 - an answer rather than a fault
    """There is nothing to compare with: no journal, no such alert, or the log is gone."""


class CheckpointError(RecallwatchError):
    """A replay cannot go on from a file: damaged, or written for something else."""


class WorldError(RecallwatchError):
    """Broker or store did not do what was asked; the text names it and the remedy."""


class BrokerError(WorldError):
    """Kafka is unreachable, refuses, or lacks a topic."""


class StoreError(WorldError):
    """Redis is unreachable, refuses, or holds a namespace that does not fit the settings."""


class DeliveryError(WorldError):
    """A receiver did not take a notice; the text holds no secret: scheme and host at most."""


class TooManyRejects(RecallwatchError):  # noqa: N818 - the name says what happened
    """More records in a row were rejected than the settings allow."""
