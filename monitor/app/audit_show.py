"""Why an alert was raised, in words and numbers, down to the records."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from monitor.app.report import iso
from monitor.app.settings import RuleSettings
from monitor.domain.alerts import Event, Transition
from monitor.domain.forgetting import FORGOTTEN
from monitor.domain.journal import JournalEntry
from monitor.domain.slices import ALL
from monitor.domain.votes import Vote


class Witness(NamedTuple):
    """A vote that counts as evidence, and where its records stand: predictions and labels."""

    vote: Vote
    predictions: list[str]
    labels: list[str]


class Shown(NamedTuple):
    """One transition with all that it stands on.

    ``rule`` is None for a signal. ``witnesses`` are in the order in which they counted, [] where
    the transition stands on no votes. ``differences`` are what the replay did not reproduce.
    """

    transition: Transition
    rule: RuleSettings | None
    entry: JournalEntry
    witnesses: list[Witness]
    hindsight: Event | None
    differences: list[str]


def document_of(shown: Shown) -> dict[str, Any]:
    """As JSON."""
    each, evidence = shown.transition, shown.transition.evidence
    return {
        "id": each.id,
        "rule": each.rule,
        "variant": each.key.variant,
        "slice": each.key.slice,
        "version": each.version,
        "event": each.event,
        "from": each.moved_from,
        "to": each.moved_to,
        "at": iso(each.at_ms),
        "reason": each.reason,
        "evidence": None
        if evidence is None
        else {
            "value": evidence.value,
            "bar": evidence.bar,
            "since": iso(evidence.since_ms),
            "hits": evidence.hits,
            "n": evidence.n,
        },
        "rule_then": None if shown.rule is None else shown.rule.model_dump(mode="json"),
        "hindsight": shown.hindsight,
        "journal_entry": shown.entry.sequence,
        "settings": f"sha256:{shown.entry.settings}",
        "cut": dict(shown.entry.cut),
        "records": [
            {
                "prediction_id": witness.vote.prediction_id,
                "hit": witness.vote.hit,
                "event_time": iso(witness.vote.event_ms),
                "counted_at": iso(witness.vote.release_ms),
                "predicted": witness.vote.predicted or None,
                "actual": witness.vote.actual or None,
                "predictions": witness.predictions,
                "labels": witness.labels,
            }
            for witness in shown.witnesses
        ],
        "differences": shown.differences,
    }


def lines_of(shown: Shown) -> Iterator[str]:
    """In words."""
    each, evidence = shown.transition, shown.transition.evidence
    parts = (each.key.variant, each.key.slice, each.version)
    whose = " ".join(part for part in parts if part and part != ALL) or "all traffic"
    moved = f"{each.moved_from} -> {each.moved_to}" if each.event is Event.MOVED else each.event
    yield f"{each.id}: {each.rule} for {whose}: {moved} at {iso(each.at_ms)} (log time)"
    yield f"why: {each.reason}"
    if evidence is not None:
        yield (
            f"evidence: {evidence.value:,.4g} against a bar of {evidence.bar:,.4g}; "
            f"{evidence.hits} hits of {evidence.n} since {iso(evidence.since_ms)} (event time)"
        )
    yield from _rule_lines(shown.rule)
    yield f"in hindsight: {shown.hindsight or 'not judged yet'}"
    if each.corrected:
        yield f"{each.corrected} of these votes were changed by a later label"
    yield (
        f"journal entry {shown.entry.sequence}, settings sha256:{shown.entry.settings[:16]}, "
        f"read up to {', '.join(f'{name}@{past}' for name, past in shown.entry.cut)}"
    )
    if shown.witnesses:
        yield f"the {len(shown.witnesses)} records that count, in the order in which they counted:"
    else:
        yield "no single records: it stands on counts of the whole window, or on none"
    for witness in shown.witnesses:
        yield f"  {_vote_line(witness)}"
    if any(witness.vote.prediction_id == FORGOTTEN for witness in shown.witnesses):
        yield f"{FORGOTTEN}: this prediction was forgotten by request, and its id is not shown"
    for difference in shown.differences:
        yield f"NOT REPRODUCED: {difference}"


def _rule_lines(rule: RuleSettings | None) -> Iterator[str]:
    if rule is None:
        return
    told = rule.model_dump(mode="json", exclude_defaults=True)
    yield "rule then: " + ", ".join(f"{name} {value}" for name, value in told.items())


def _vote_line(witness: Witness) -> str:
    vote = witness.vote
    what = "hit " if vote.hit else f"MISS {vote.actual} taken for {vote.predicted}"
    return (
        f"{iso(vote.release_ms)}  {what}  {vote.prediction_id} of {iso(vote.event_ms)}: prediction "
        f"{', '.join(witness.predictions) or 'not found'}, label "
        f"{', '.join(witness.labels) or 'not found'}"
    )
