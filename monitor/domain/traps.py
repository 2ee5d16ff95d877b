"""Five ways in which a good number deceives, each a check with its own evidence.

A trap is **found**, **not found**, or **unknown**: what was not declared or reported is never taken
for harmless.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from monitor.domain.intervals import normal_z
from monitor.domain.scores import Score, difference_interval, proportion
from monitor.domain.slices import ALL
from monitor.domain.verdict import (
    LEAST_LABELS,
    PARADOX,
    Evidence,
    Finding,
    Judgement,
    Lacking,
    Verdict,
    VerdictLimits,
)

ALPHA = 0.05
"""How often one difference or more is shown among all looks when there is none."""


LEAKAGE = "data leakage"


class Sign(StrEnum):
    """Whether a trap was found."""

    FOUND = "found"
    NOT_FOUND = "not found"
    UNKNOWN = "unknown"


class Trap(NamedTuple):
    """One check: its name, what was found, in words, and the numbers that it stands on."""

    name: str
    sign: Sign
    text: str
    numbers: Mapping[str, float | int | str | None]


class Offline(NamedTuple):
    """A score from before a model served: ``of`` "" for accuracy, ``n`` None where not known."""

    model_version: str
    metric: str
    of: str
    value: float
    n: int | None


def accuracy_paradox(evidence: Evidence, verdict: Verdict, limits: VerdictLimits) -> Trap:
    """Accuracy is good while a watched group fails; beside it the constant answer's accuracy."""
    accuracy, constant = evidence.accuracy, evidence.constant
    numbers: dict[str, float | int | str | None] = {
        "accuracy": accuracy.value,
        "n": accuracy.support,
        "constant_intent": None if constant is None else constant[0],
        "constant_accuracy": None if constant is None else constant[1],
    }
    for reason in verdict.reasons:
        if reason.name == PARADOX:
            return Trap(PARADOX, Sign.FOUND, reason.text, numbers)
    if constant is None or accuracy.value is None:
        return Trap(PARADOX, Sign.UNKNOWN, "no labels yet", numbers)
    always = f"always answering {constant[0]} would be right in {constant[1]:.1%}"
    if not limits.groups:
        text = f"no group is declared that accuracy could hide; {always}"
        return Trap(PARADOX, Sign.UNKNOWN, text, numbers)
    if accuracy.interval is None or accuracy.support < LEAST_LABELS:
        text = f"{accuracy.support:,} labels are too few to say how good accuracy is; {always}"
        return Trap(PARADOX, Sign.UNKNOWN, text, numbers)
    if accuracy.interval[1] < limits.accuracy_good:
        text = f"accuracy is not good itself, so nothing can hide behind it; {always}"
        return Trap(PARADOX, Sign.NOT_FOUND, text, numbers)
    still = [r.name for r in verdict.reasons if r.name in _watched(limits) and _is_open(r)]
    if still:
        text = f"accuracy may look good, and nobody knows yet: {', '.join(still)} is open; {always}"
        return Trap(PARADOX, Sign.UNKNOWN, text, numbers)
    failing = [r.name for r in verdict.found(Finding.MISSED) if r.name in _watched(limits)]
    if failing:
        text = f"accuracy may be good, and hide {' and '.join(failing)}; {always}"
        return Trap(PARADOX, Sign.UNKNOWN, text, numbers)
    text = f"every watched group is good, whatever accuracy is; {always}"
    return Trap(PARADOX, Sign.NOT_FOUND, text, numbers)


def ignored_latency(verdict: Verdict) -> Trap:
    """Recall reaches its limit, but only with answers that come too late to be accepted."""
    name = "ignored latency"
    (latency,) = [reason for reason in verdict.reasons if reason.name == "latency p95"]
    numbers = {"p95_ms": latency.value, "limit_ms": latency.limit, "n": latency.n}
    if latency.finding is Finding.OPEN:
        return Trap(name, Sign.UNKNOWN, latency.text, numbers)
    held = [r for r in verdict.found(Finding.MET) if r.name.startswith("recall of ")]
    if latency.finding is Finding.MET:
        return Trap(name, Sign.NOT_FOUND, latency.text, numbers)
    recalls = [reason for reason in verdict.reasons if reason.name.startswith("recall of ")]
    if not held and (not recalls or any(map(_is_open, recalls))):
        text = f"{latency.text}; nobody knows yet whether any recall reaches its limit"
        return Trap(name, Sign.UNKNOWN, text, numbers)
    if not held:
        text = f"{latency.text}; no recall is shown to reach its limit at that price either"
        return Trap(name, Sign.NOT_FOUND, text, numbers)
    names = " and ".join(reason.name for reason in held)
    text = f"{names} holds only at a latency that nobody accepts: {latency.text}"
    return Trap(name, Sign.FOUND, text, numbers)


def overfitting(offline: Sequence[Offline], versions: Mapping[str, Evidence]) -> Trap:
    """A model version that was better offline than it is live, by more than chance explains.

    ``versions`` are what is known live, by model version. Newcombe's interval of the difference,
    at 95 % for all declared scores together (Bonferroni); an offline score without ``n`` is taken
    as exact.
    """
    name = "overfitting"
    if not offline:
        text = "no offline score is declared (verdict.variants.NAME.offline)"
        return Trap(name, Sign.UNKNOWN, text, {"declared": 0})
    z = normal_z(ALPHA / len(offline))
    seen = [_against_live(score, versions.get(score.model_version), z) for score in offline]
    known = [one for one in seen if one.is_known]
    worse = [one for one in known if one.high < 0]
    numbers: dict[str, float | int | str | None] = {"declared": len(offline), "known": len(known)}
    for one in known:
        numbers[f"{one.what}: difference"] = one.value
        numbers[f"{one.what}: low"], numbers[f"{one.what}: high"] = one.low, one.high
    sign = Sign.FOUND if worse else Sign.NOT_FOUND if len(known) == len(seen) else Sign.UNKNOWN
    return Trap(name, sign, "; ".join(one.text for one in (worse or seen)), numbers)


def prompt_bias(slices: Mapping[str, Evidence], whole: Evidence, limits: VerdictLimits) -> Trap:
    """A slice, a prompt version for instance, in which a group fares worse than elsewhere.

    Each slice with enough labels on both sides is compared with the rest of the variant. With m
    such looks each interval is one at 1 - 0.05/m (Bonferroni), so that by chance alone one or more
    is claimed in at most 5 of 100 cases, whatever slices have in common.
    """
    name = "prompt bias"
    looks = [
        (whose, group, evidence.recall(group), _rest(whole.recall(group), evidence.recall(group)))
        for whose, evidence in sorted(slices.items())
        if whose != ALL
        for group in limits.recall
    ]
    able = [look for look in looks if min(look[2].support, look[3].support) >= LEAST_LABELS]
    numbers: dict[str, float | int | str | None] = {"slices": len(looks), "looks": len(able)}
    if not able:
        text = (
            f"no slice has {LEAST_LABELS} labels of a watched group, and the rest as many"
            if looks
            else "no slice is declared: add prompt_version, model_version or others to slices"
        )
        return Trap(name, Sign.UNKNOWN, text, numbers)
    z = normal_z(ALPHA / len(able))
    weak = [said for look in able if (said := _weakness(*look, z, limits))]
    m = f"{len(able)} looks, each at {1 - ALPHA / len(able):.2%}"
    for at, (whose, group, score, _) in enumerate(able):
        numbers[f"{at + 1}. {group} in {whose}"] = score.value
    if weak:
        return Trap(name, Sign.FOUND, f"{'; '.join(weak)} ({m})", numbers)
    few = len(looks) - len(able)
    left = f"; {few} more looks have too few labels to tell" if few else ""
    sign = Sign.UNKNOWN if few else Sign.NOT_FOUND
    return Trap(name, sign, f"no slice is shown to be weaker ({m}){left}", numbers)


def leaked(checked: Trap | None) -> Judgement | None:
    """What leakage that was found does to a verdict: its scores prove nothing about new messages.

    So a variant with it is never fit, and is still not fit where they are too low even so.
    """
    if checked is None or checked.sign is not Sign.FOUND:
        return None
    return Judgement(
        name=LEAKAGE,
        finding=Finding.OPEN,
        text=f"{checked.text}. What it knew by heart says nothing about new messages",
        value=_number(checked, "share"),
        limit=_number(checked, "limit") or 0.0,
        interval=None,
        n=int(_number(checked, "n") or 0),
        lacking=Lacking.REPORTS,
    )


def _number(trap: Trap, name: str) -> float | None:
    found = trap.numbers.get(name)
    return None if found is None else float(found)


def data_leakage(checked: Trap | None) -> Trap:
    """Live texts that the model had seen before: its scores on them say nothing.

    Texts are not counted here: ``checked`` is what a check of them has found, None for none.
    """
    if checked is not None:
        return checked._replace(name=LEAKAGE)
    text = (
        "not checked: run recallwatch leakage --train FILE --out leakage.json, then give --leakage"
    )
    return Trap(LEAKAGE, Sign.UNKNOWN, text, {})


class _Live(NamedTuple):
    """An offline score against the live one; the difference is live minus offline."""

    what: str
    text: str
    is_known: bool
    value: float = 0.0
    low: float = 0.0
    high: float = 0.0


def _against_live(offline: Offline, evidence: Evidence | None, z: float) -> _Live:
    what = f"{offline.metric} of {offline.of}" if offline.of else offline.metric
    what = f"{what} of {offline.model_version}"
    live = None if evidence is None else _scored(evidence, offline)
    if live is None or live.value is None or live.support < LEAST_LABELS:
        n = 0 if live is None else live.support
        return _Live(what, f"{what}: {n} live labels, {LEAST_LABELS} are needed", False)
    sure = proportion(round(live.value * live.support), live.support, z)
    low, high = difference_interval(sure, _declared(offline, z)) or (-1.0, 1.0)
    difference = live.value - offline.value
    on = f"n={offline.n:,}" if offline.n else "taken as exact"
    worse = "is shown to be worse live" if high < 0 else "is not shown to be worse live"
    text = (
        f"{what} {worse}: {live.value:.1%} (n={live.support:,}) against {offline.value:.1%} "
        f"offline ({on}), difference {difference:+.1%} ({low:+.1%} to {high:+.1%})"
    )
    return _Live(what, text, True, difference, low, high)


def _scored(evidence: Evidence, offline: Offline) -> Score:
    if offline.metric == "accuracy":
        return evidence.accuracy
    of = evidence.recall if offline.metric == "recall" else evidence.precision
    return of(offline.of)


def _declared(offline: Offline, z: float) -> Score:
    if offline.n is None:
        return Score(offline.value, 0, (offline.value, offline.value))
    hits = offline.value * offline.n
    exact = proportion(math.floor(hits + 0.5), offline.n, z)
    return exact._replace(value=offline.value)


def _rest(whole: Score, part: Score) -> Score:
    """What is left of a proportion without a part of it."""
    n = whole.support - part.support
    hits = round((whole.value or 0) * whole.support) - round((part.value or 0) * part.support)
    return proportion(hits, n) if n > 0 else proportion(0, 0)


def _weakness(
    whose: str, group: str, part: Score, rest: Score, z: float, limits: VerdictLimits
) -> str:
    """Words for a slice that is shown to be weaker than the rest; "" for one that is not."""
    inside, outside = (
        proportion(round((score.value or 0) * score.support), score.support, z)
        for score in (part, rest)
    )
    bounds = difference_interval(inside, outside)
    if bounds is None or bounds[1] >= 0 or inside.value is None or outside.value is None:
        return ""
    limit = limits.recall[group]
    total = (inside.value * part.support + outside.value * rest.support) / (
        part.support + rest.support
    )
    hidden = ", hidden by a total that reaches it" if total >= limit > inside.value else ""
    below = f", below its limit {limit:.1%}{hidden}" if inside.value < limit else ""
    return (
        f"recall of {group} is {inside.value:.1%} in {whose} (n={part.support:,}) against "
        f"{outside.value:.1%} elsewhere (n={rest.support:,}){below}"
    )


def _watched(limits: VerdictLimits) -> frozenset[str]:
    recalls = (f"recall of {name}" for name in limits.recall)
    return frozenset({*recalls, *(f"precision of {name}" for name in limits.precision)})


def _is_open(reason: Judgement) -> bool:
    return reason.finding is Finding.OPEN
