"""What somebody asked to be forgotten: which predictions, and what is left where they stood.

Counts are sums, in which nobody is found any more; they stay. What names a prediction goes: its
entry and its waiting votes are removed by the store, and where it is shown as an example of a miss,
its id gives way to ``FORGOTTEN``.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple

from monitor.domain.alerts import Missed, Transition
from monitor.domain.evaluation import Evaluation
from monitor.domain.events import PredictionId
from monitor.domain.notices import Told

FORGOTTEN = PredictionId("forgotten")
"""Stands where the id of a forgotten prediction stood."""

MOST_IDS = 1_000
"""Ids of one request: one step of each shard carries it out, one journal entry tells of it."""


class Request(NamedTuple):
    """Somebody's wish that predictions be forgotten. ``id`` is unique, and never used again."""

    id: str
    ids: tuple[PredictionId, ...]


def masked(transition: Transition, is_forgotten: Callable[[str], bool]) -> Transition:
    """The transition without the ids of what is forgotten; itself when it names none."""
    missed = _missed(transition.missed, is_forgotten)
    return transition if missed is transition.missed else replace(transition, missed=missed)


def without(evaluation: Evaluation, is_forgotten: Callable[[str], bool]) -> Evaluation:
    """What the evaluator knows once it has forgotten, in examples and in votes in hand."""
    states = {
        alert: state
        if (missed := _missed(state.missed, is_forgotten)) is state.missed
        else replace(state, missed=missed)
        for alert, state in evaluation.states.items()
    }
    return replace(
        evaluation,
        states=states,
        releasing=tuple(v for v in evaluation.releasing if not is_forgotten(v.prediction_id)),
        holding=tuple(v for v in evaluation.holding if not is_forgotten(v.prediction_id)),
    )


def retold(told: Told, as_now: Callable[[Transition], Transition]) -> Told:
    """What a receiver knows, with each transition in it ``as_now`` has it."""
    return replace(
        told,
        standing={
            subject: each._replace(transition=as_now(each.transition))
            for subject, each in told.standing.items()
        },
        told={
            subject: each._replace(transition=as_now(each.transition))
            for subject, each in told.told.items()
        },
        pending=tuple(
            each._replace(
                transition=as_now(each.transition), began=each.began and as_now(each.began)
            )
            for each in told.pending
        ),
    )


def examples_in(transitions: Collection[Transition], evaluation: Evaluation) -> set[PredictionId]:
    """Ids of all predictions that are shown as examples of misses."""
    shown = [each.missed for each in transitions]
    shown += [state.missed for state in evaluation.states.values()]
    named = {missed.prediction_id for examples in shown for missed in examples} - {FORGOTTEN}
    return set(map(PredictionId, named))


def _missed(missed: tuple[Missed, ...], is_forgotten: Callable[[str], bool]) -> tuple[Missed, ...]:
    """The very same tuple when nothing in it is forgotten."""
    if not any(is_forgotten(each.prediction_id) for each in missed):
        return missed
    return tuple(
        each._replace(prediction_id=FORGOTTEN) if is_forgotten(each.prediction_id) else each
        for each in missed
    )
