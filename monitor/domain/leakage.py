"""Data leakage: how much of the live traffic the model had seen in training, and what it flatters.

A live text is a **copy** of a training text when their digests are equal, and **near** one when
they are alike (see ``domain.likeness``). A message that carries a digest and no text can be a copy,
but nothing can be said of near ones: it is counted among what is **open**, never among what is new.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from monitor.domain.counts import Counts, merge
from monitor.domain.intervals import wilson
from monitor.domain.likeness import LIMIT
from monitor.domain.scores import ClassScores, Score, group_scores, headline, proportion
from monitor.domain.slices import ALL, Groups


class Kinship(StrEnum):
    """What a live message is to the training texts; ``..._by_hash`` where it carries no text."""

    COPY = "exact"
    COPY_BY_HASH = "exact_by_hash"
    NEAR = "near"
    NEW = "none"
    NO_COPY_BY_HASH = "not_exact_by_hash"
    UNKNOWN = "unknown"


COPIES = frozenset({Kinship.COPY, Kinship.COPY_BY_HASH})
LEAKED = COPIES | {Kinship.NEAR}
WITH_TEXT = frozenset({Kinship.COPY, Kinship.NEAR, Kinship.NEW})


class Finding(StrEnum):
    """How a leaked share stands to the limit."""

    WITHIN = "within"
    ABOVE = "above"
    OPEN = "not_enough_evidence"


class Asked(NamedTuple):
    """What a check is to find: ``limit`` is a share 0..1; ``near`` ones only if asked for."""

    limit: float = LIMIT
    near: bool = True


@dataclass(frozen=True, slots=True)
class Metrics:
    """Scores of some outcomes, None and 0 where there is none. Group name -> its scores."""

    accuracy: Score
    groups: Mapping[str, ClassScores]


@dataclass(frozen=True, slots=True)
class LeakedShare:
    """How much leaked of ``n`` predictions, or of ``n`` outcomes of a group.

    ``near`` is None where nothing is known about near ones, ``value`` None where nothing is known
    at all; it is the least that is certain, and ``open`` more may have leaked. ``interval`` is that
    of 95 %, from none of the open ones up to all of them.
    """

    copies: int
    near: int | None
    open: int
    n: int
    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class LeakageCheck:
    """One variant: its leaked share, of all predictions and of each group, and what it flatters.

    ``groups`` counts outcomes by their actual intent. ``all``, ``leaked`` and ``without`` are the
    scores of all outcomes, of the leaked ones, and of all but these.
    """

    variant: str
    finding: Finding
    text: str
    limit: float
    share: LeakedShare
    groups: Mapping[str, LeakedShare]
    all: Metrics
    leaked: Metrics
    without: Metrics


Kin = Mapping[Kinship, Counts]
"""Kinship -> what was counted of the predictions of that kind."""


def check_of(variant: str, kin: Kin, groups: Groups, asked: Asked) -> LeakageCheck:
    """Judge one variant, or ALL.

    >>> check_of(ALL, {}, Groups({}), Asked()).finding
    <Finding.OPEN: 'not_enough_evidence'>
    """
    share = _share({kind: counts.predictions for kind, counts in kin.items()}, asked)
    finding = _finding(share, asked)
    leaked = merge(counts for kind, counts in sorted(kin.items()) if kind in LEAKED)
    without = merge(counts for kind, counts in sorted(kin.items()) if kind not in LEAKED)
    return LeakageCheck(
        variant=variant,
        finding=finding,
        text=_text(share, finding, asked),
        limit=asked.limit,
        share=share,
        groups={
            name: _share({kind: _support(counts, group) for kind, counts in kin.items()}, asked)
            for name, group in groups.members.items()
        },
        all=_metrics(merge((leaked, without)), groups),
        leaked=_metrics(leaked, groups),
        without=_metrics(without, groups),
    )


def checks_of(variants: Mapping[str, Kin], groups: Groups, asked: Asked) -> list[LeakageCheck]:
    """ALL first, then each variant by name."""
    kinds = sorted({kind for kin in variants.values() for kind in kin})
    total = {
        kind: merge(kin[kind] for _, kin in sorted(variants.items()) if kind in kin)
        for kind in kinds
    }
    every = {ALL: total, **dict(sorted(variants.items()))}
    return [check_of(variant, kin, groups, asked) for variant, kin in every.items()]


def answer_of(checks: list[LeakageCheck]) -> Finding:
    """Above when one variant is, within when each is, else open; ALL hides and does not count."""
    found = {check.finding for check in checks if check.variant != ALL}
    if Finding.ABOVE in found:
        return Finding.ABOVE
    return Finding.WITHIN if found == {Finding.WITHIN} else Finding.OPEN


def _support(counts: Counts, group: frozenset[str]) -> int:
    return counts.hits_and_support(group)[1]


def _share(found: Mapping[Kinship, int], asked: Asked) -> LeakedShare:
    n = sum(found.values())
    copies = sum(found.get(kind, 0) for kind in COPIES)
    unknown = found.get(Kinship.UNKNOWN, 0)
    by_hash = found.get(Kinship.NO_COPY_BY_HASH, 0)
    texts = sum(found.get(kind, 0) for kind in WITH_TEXT)
    near = found.get(Kinship.NEAR, 0) if asked.near and texts else None
    leaked, waiting = copies + (near or 0), unknown + (by_hash if asked.near else 0)
    if not n or n == unknown:
        return LeakedShare(copies, near, waiting, n, None, None)
    interval = wilson(leaked, n)[0], wilson(leaked + waiting, n)[1]
    return LeakedShare(copies, near, waiting, n, leaked / n, interval)


def _finding(share: LeakedShare, asked: Asked) -> Finding:
    if share.interval is None:
        return Finding.OPEN
    low, high = share.interval
    if low > asked.limit:
        return Finding.ABOVE
    return Finding.WITHIN if high <= asked.limit else Finding.OPEN


def _text(share: LeakedShare, finding: Finding, asked: Asked) -> str:
    if not share.n:
        return "leaked share: no predictions"
    if share.value is None or share.interval is None:
        return f"leaked share: unknown, none of {share.n} predictions carries a text or a hash"
    low, high = share.interval
    says = {
        Finding.WITHIN: "stays within",
        Finding.ABOVE: "is above",
        Finding.OPEN: "cannot yet be told from",
    }[finding]
    least = "at least " if share.open else ""
    text = (
        f"leaked share {least}{share.value:.2%} (95 % interval {low:.2%} to {high:.2%}, "
        f"n={share.n}) {says} {asked.limit:.2%}"
    )
    if asked.near and share.near is None:
        return f"{text}; near duplicates: unknown, live messages carry no text"
    return f"{text}; {share.open} carry too little to tell" if share.open else text


def _metrics(counts: Counts, groups: Groups) -> Metrics:
    confusion = counts.confusion
    accuracy = headline(confusion).accuracy if confusion else proportion(0, 0)
    return Metrics(
        accuracy, {name: group_scores(confusion, of) for name, of in groups.members.items()}
    )
