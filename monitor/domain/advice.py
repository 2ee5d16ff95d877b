"""Which variant should serve, and what to do next? Decided from verdicts and what they stand on.

**Who serves.** A variant that is fit goes before one that is not. Among those that are fit the
cheapest is enough, since all reach their limits; where costs are not known, the better one. Where
none is fit, the better one is the lesser evil, and is called so. **Better** is what is shown to be
better in the recall of a watched group, and in no other watched group worse; where no recall
differs, what is shown to be better in accuracy. No difference shown is an answer: nothing speaks
for a change.

Where two variants answered the same requests, what these pairs say decides about the measure that
they were watched in, and that holds at every look. Elsewhere it is Newcombe's interval of
independent proportions, each by itself at 95 %, for one look. The text says which it was.

**What next** follows from why the limits are open or missed: a prompt that is known not to reach
them is no case for more labels, and one that is not known is no case for fine-tuning.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import combinations
from typing import NamedTuple

from monitor.domain import comparison
from monitor.domain.comparison import Comparison, compare
from monitor.domain.scores import Score
from monitor.domain.verdict import (
    ALERT,
    PARADOX,
    Answer,
    Evidence,
    Finding,
    Judgement,
    Lacking,
    Verdict,
    VerdictLimits,
)

DAY_MS = 86_400_000
ACCURACY = "accuracy"

Paired = Mapping[tuple[str, str], Mapping[str, Comparison]]
"""(One, other) -> measure -> the one minus the other on the requests that both answered."""

NO_PAIRS: Paired = {}


def recall_of(group: str) -> str:
    """What the recall of a group is called."""
    return f"recall of {group}"


class Approach(StrEnum):
    """How a variant was made."""

    FINE_TUNED = "fine_tuned"
    PROMPT = "prompt"


class Step(StrEnum):
    """What to do next."""

    SERVE = "serve"
    FINE_TUNE = "fine_tune"
    IMPROVE = "improve"
    LABEL = "label"
    REPORT = "report"
    DECIDE = "decide"


class Ground(StrEnum):
    """Why this variant should serve."""

    FIT = "only one is fit"
    CHEAPER = "all that are fit reach their limits, and it is the cheapest"
    BETTER = "it is shown to be better"
    LESSER = "none is fit; it is shown to be better"
    SAME = "no difference shown"
    CONFLICT = "what is better in one measure is worse in another"
    ALONE = "there is no other"
    NOTHING = "nothing is known yet"


class Candidate(NamedTuple):
    """One variant as it stands. ``versions`` are the verdicts on its prompt versions, if kept.

    ``span_ms`` is how long the evidence took to come; ``cost`` is of 1,000 answers, None where it
    is not declared.
    """

    name: str
    approach: Approach | None
    cost: float | None
    verdict: Verdict
    evidence: Evidence
    limits: VerdictLimits
    span_ms: int
    versions: Mapping[str, Verdict] = {}


class Item(NamedTuple):
    """One thing to do, about one variant or, "", about all."""

    step: Step
    variant: str
    text: str


class Advice(NamedTuple):
    """``serve`` is the variant to prefer, None where nothing speaks for one before another."""

    serve: str | None
    ground: Ground
    text: str
    steps: tuple[Item, ...]


def advise(candidates: Sequence[Candidate], paired: Paired = NO_PAIRS) -> Advice:
    """What to do, from all variants; those that answered nothing in the window are left out.

    ``paired`` has both directions of each two variants that met, in each measure that was watched.

    >>> advise([]).ground
    <Ground.NOTHING: 'nothing is known yet'>
    """
    known = [one for one in candidates if one.evidence.predictions or one.evidence.accuracy.support]
    serve, ground, text = _serving(known, paired)
    fit = next((one for one in known if one.name == serve and _is_fit(one)), None)
    fit = fit or next(filter(_is_fit, known), None)
    steps = [item for one in known for item in _steps_of(one, known, fit)]
    return Advice(serve, ground, text, tuple(steps))


class Better(NamedTuple):
    """What one variant has over another, in words; ``against`` speaks for the other."""

    shown: tuple[str, ...]
    against: tuple[str, ...]

    @property
    def is_clear(self) -> bool:
        """Whether it is better in something and worse in nothing."""
        return bool(self.shown) and not self.against


def better(one: Candidate, other: Candidate, paired: Paired = NO_PAIRS) -> Better:
    """In which measures ``one`` is shown to be better, and in which worse; recall comes first."""
    groups = [recall_of(group) for group in _shared((one, other))]
    found = _better(one, other, groups, paired)
    return found if found.shown or found.against else _better(one, other, [ACCURACY], paired)


def difference(
    one: Candidate, other: Candidate, measure: str, paired: Paired = NO_PAIRS
) -> Comparison:
    """``one`` minus ``other``: on the same requests where they met, else each by its own."""
    found = paired.get((one.name, other.name), {}).get(measure)
    return compare(_score(one, measure), _score(other, measure)) if found is None else found


def _better(one: Candidate, other: Candidate, measures: Iterable[str], paired: Paired) -> Better:
    said: dict[comparison.Finding, list[str]] = {}
    for measure in measures:
        found = difference(one, other, measure, paired)
        said.setdefault(found.finding, []).append(_said(one, other, measure, found))
    better_in, worse_in = comparison.Finding.BETTER, comparison.Finding.WORSE
    return Better(tuple(said.get(better_in, ())), tuple(said.get(worse_in, ())))


def _said(one: Candidate, other: Candidate, measure: str, found: Comparison) -> str:
    low, high = found.interval or (-1.0, 1.0)
    if found.is_paired:
        return (
            f"{measure} differs by {found.difference or 0.0:+.1%} ({low:+.1%} to {high:+.1%}) on "
            f"the same requests ({_method(found)})"
        )
    mine, theirs = _score(one, measure), _score(other, measure)
    return (
        f"{measure} {mine.value or 0.0:.1%} (n={mine.support:,}) against "
        f"{theirs.value or 0.0:.1%} (n={theirs.support:,}), difference {low:+.1%} to {high:+.1%} "
        f"({_method(found)})"
    )


def _method(found: Comparison) -> str:
    """Paired or not, and that it is little where it is."""
    if found.is_paired:
        return f"paired, {found.n:,} requests"
    is_few = found.finding is comparison.Finding.TOO_FEW
    return "unpaired, too few labels" if is_few else "unpaired"


def _score(one: Candidate, measure: str) -> Score:
    if measure == ACCURACY:
        return one.evidence.accuracy
    return one.evidence.recall(measure.removeprefix(recall_of("")))


def _shared(known: Sequence[Candidate]) -> list[str]:
    """The groups in which all of them have a limit."""
    return [g for g in known[0].limits.groups if all(g in one.limits.groups for one in known)]


def _serving(known: Sequence[Candidate], paired: Paired) -> tuple[str | None, Ground, str]:
    """Whom to prefer, why, and in words."""
    if not known:
        return None, Ground.NOTHING, "No variant has answered anything in this window."
    if len(known) == 1:
        name = known[0].name
        return name, Ground.ALONE, f"{name} is the only variant: there is none to change to."
    fit = [one for one in known if one.verdict.answer is Answer.FIT]
    if len(fit) == 1:
        return fit[0].name, Ground.FIT, _alone(fit[0], known, paired)
    if fit:
        return _among_fit(fit, paired)
    return _best_of(known, Ground.LESSER, paired)


def _alone(one: Candidate, known: Sequence[Candidate], paired: Paired) -> str:
    """That it alone is fit, and what differs beside: it may even be worse than others in that."""
    told = [f"Let {one.name} serve: it alone is shown to be fit."]
    for other in known:
        way = better(one, other, paired)
        if way.shown or way.against:
            told.append(f"Against {other.name}: {'; '.join((*way.shown, *way.against))}.")
    return " ".join(told)


def _among_fit(fit: Sequence[Candidate], paired: Paired) -> tuple[str | None, Ground, str]:
    costs = {one.name: one.cost for one in fit}
    priced = [(cost, name) for name, cost in costs.items() if cost is not None]
    if len(priced) == len(fit) and len({cost for cost, _ in priced}) > 1:
        cost, name = min(priced)
        others = ", ".join(f"{other} {price:g}" for price, other in sorted(priced)[1:])
        text = (
            f"Let {name} serve: all that are fit reach their limits, and it costs the least "
            f"({cost:g} for 1,000 answers; {others})."
        )
        return name, Ground.CHEAPER, text
    return _best_of(fit, Ground.BETTER, paired)


def _best_of(
    known: Sequence[Candidate], ground: Ground, paired: Paired
) -> tuple[str | None, Ground, str]:
    """The one that is shown to be better than every other, if there is one."""
    found = {
        (one.name, other.name): better(one, other, paired)
        for one in known
        for other in known
        if other is not one
    }
    is_open = any(one.verdict.answer is Answer.NOT_ENOUGH_EVIDENCE for one in known)
    for one in known:
        ways = [way for (name, _), way in found.items() if name == one.name]
        if all(way.is_clear for way in ways):
            if one.verdict.answer is Answer.NOT_FIT and (is_open or _is_bad(one)):
                return None, Ground.CONFLICT, _no_case(one, known, ways[0])
            why = "; ".join(way.shown[0] for way in ways)
            return one.name, ground, f"Let {one.name} serve{_though(one)}: {why}."
    for (name, other_name), way in found.items():
        if way.shown and way.against:
            said = f"No clear choice between {name} and {other_name}"
            return None, Ground.CONFLICT, f"{said}: {way.shown[0]}, but {way.against[0]}."
    beaten = {name for (_, name), way in found.items() if way.is_clear}
    return None, Ground.SAME, _alike([one for one in known if one.name not in beaten], paired)


def _alike(known: Sequence[Candidate], paired: Paired) -> str:
    """That nothing is shown, in which measures, and how each was looked at."""
    if len(known) < 2:  # noqa: PLR2004 - a pair
        return "None is shown to be better than every other: nothing speaks for a change."
    names = " and ".join(one.name for one in known)
    told = []
    for measure in [*map(recall_of, _shared(known)), ACCURACY]:
        found = (difference(one, other, measure, paired) for one, other in combinations(known, 2))
        told.append(f"{measure} ({' or '.join(dict.fromkeys(map(_method, found)))})")
    where = " or in ".join(told)
    return f"No difference shown between {names} in {where}: nothing speaks for a change."


def _is_bad(one: Candidate) -> bool:
    """Whether its accuracy is bad: what answers *urgent* to everything has the best recall."""
    return ACCURACY in _names(one.verdict.found(Finding.MISSED))


def _no_case(one: Candidate, known: Sequence[Candidate], way: Better) -> str:
    """Why one that is better does not serve: it is known not to be fit, and another may be."""
    others = [c.name for c in known if c.verdict.answer is Answer.NOT_ENOUGH_EVIDENCE]
    but = f"{' or '.join(others)} may be" if others else "its accuracy is bad"
    return f"No clear choice: {one.name} is better ({way.shown[0]}), but it is not fit, and {but}."


def _though(one: Candidate) -> str:
    """What is to be said against one that is better than the others."""
    return _AGAINST[one.verdict.answer]


_AGAINST = {
    Answer.FIT: "",
    Answer.NOT_FIT: ", though it is not fit itself",
    Answer.NOT_ENOUGH_EVIDENCE: ", though it is not shown to be fit",
}


def _steps_of(one: Candidate, known: Sequence[Candidate], fit: Candidate | None) -> Iterable[Item]:
    verdict = one.verdict
    if verdict.answer is Answer.FIT:
        yield Item(Step.SERVE, one.name, f"{one.name} reaches all its limits: keep watching it.")
        return
    if one.approach is Approach.PROMPT and (stuck := _stuck(one)):
        yield _beyond_prompts(one, known, stuck, fit)
        return
    if verdict.answer is Answer.NOT_FIT:
        missed = ", ".join(n for n in _names(verdict.found(Finding.MISSED)) if n != PARADOX)
        if good := _good_versions(one):
            text = f"{one.name} is not fit ({missed}), but {good} alone is: let it serve."
            yield Item(Step.SERVE, one.name, text)
            return
        how = _HOW.get(one.approach, "improve it")
        if all(r.name.startswith(ALERT) for r in verdict.found(Finding.MISSED)):
            # What the whole window does not show came with something new.
            how = f"go back to what served before it fired, if it came with a change, or {how}"
        yield Item(Step.IMPROVE, one.name, f"{one.name} is not fit ({missed}): {how}.")
    yield from _open_steps(one)


_HOW: Mapping[Approach | None, str] = {
    Approach.FINE_TUNED: "train it again on labelled messages that it missed",
    Approach.PROMPT: "improve the prompt or its serving",
}


def _good_versions(one: Candidate) -> str:
    """The versions that are fit, in words; "" for none, and while an alert fires.

    An alert weighs the newest labels, and which version it fell to, none of the sums tells.
    """
    if any(name.startswith(ALERT) for name in _names(one.verdict.reasons)):
        return ""
    fit = (name for name, verdict in one.versions.items() if verdict.answer is Answer.FIT)
    return " or ".join(fit)


def _stuck(one: Candidate) -> list[str]:
    """What each version of a prompt is shown not to reach; [] when one of them still may.

    Where versions are not kept, the variant as a whole stands for its version.
    """
    verdicts = one.versions or {one.name: one.verdict}
    excluded = {name: _excluded(verdict) for name, verdict in verdicts.items()}
    if not all(excluded.values()):
        return []
    return [f"{name} ({', '.join(_names(reasons))})" for name, reasons in excluded.items()]


def _excluded(verdict: Verdict) -> list[Judgement]:
    """Limits of quality that enough evidence excludes: latency is no matter of training."""
    return [
        reason
        for reason in verdict.reasons
        if reason.name == "accuracy" or reason.name.startswith(("recall of", "precision of"))
        if reason.finding is Finding.MISSED or reason.lacking is Lacking.NOTHING
    ]


def _beyond_prompts(
    one: Candidate, known: Sequence[Candidate], stuck: Sequence[str], fit: Candidate | None
) -> Item:
    """Serve what is fit, the one to prefer if there are several; without one, fine-tune."""
    said = f"Every prompt version of {one.name} is shown to fall short: {'; '.join(stuck)}"
    tuned = [c.name for c in known if c.approach is Approach.FINE_TUNED]
    if fit is not None:
        how = ", which is fine-tuned," if fit.approach is Approach.FINE_TUNED else ""
        text = f"{said}. {fit.name}{how} reaches its limits: let it serve."
        return Item(Step.SERVE, fit.name, text)
    how = f"Go on with fine-tuning: train {tuned[0]} again" if tuned else "Fine-tune a model"
    return Item(Step.FINE_TUNE, one.name, f"{said}. {how}.")


def _is_fit(one: Candidate) -> bool:
    return one.verdict.answer is Answer.FIT


def _open_steps(one: Candidate) -> Iterable[Item]:
    """What is missing for each open limit; nothing, where a missed one decides already."""
    if one.verdict.answer is Answer.NOT_FIT:
        return
    for reason in one.verdict.found(Finding.OPEN):
        if reason.lacking is Lacking.REPORTS:
            yield Item(Step.REPORT, one.name, f"{one.name}: {reason.text}.")
        elif reason.lacking is Lacking.LABELS and reason.needed is not None:
            yield Item(Step.LABEL, one.name, f"{one.name}: {_labels(one, reason, reason.needed)}.")
        elif reason.lacking is Lacking.LABELS or one.approach is not Approach.PROMPT:
            text = f"{one.name}: {reason.text}. Decide whether that is good enough, or improve it."
            yield Item(Step.DECIDE, one.name, text)


def _labels(one: Candidate, reason: Judgement, needed: int) -> str:
    """How many labels are missing, and how long they take at the rate of the window."""
    what = _counted(reason.name)
    missing = f"{reason.name} needs about {needed:,} more labels of {what}"
    if not reason.n or one.span_ms <= 0:
        return f"{missing}; none came in this window, so nobody can say how long that takes"
    a_day = reason.n * DAY_MS / one.span_ms
    return (
        f"{missing}, if the share stays: about {_length(needed / a_day)} at the present rate of "
        f"{a_day:,.1f} a day"
    )


def _length(days: float) -> str:
    """How long, in whole hours or, from two days on, in whole days.

    >>> _length(0.01), _length(1.5), _length(2.1)
    ('1 hour', '36 hours', '3 days')
    """
    if days >= 2:  # noqa: PLR2004 - days are fine enough then
        return f"{math.ceil(days)} days"
    hours = math.ceil(days * 24)
    return f"{hours} hour" if hours == 1 else f"{hours} hours"


def _counted(name: str) -> str:
    """The labels that a judgement of this name counts."""
    if name.startswith("recall of "):
        return f"true {name.removeprefix('recall of ')} messages"
    if name.startswith("precision of "):
        return f"messages answered as {name.removeprefix('precision of ')}"
    if name.startswith("balance of "):
        return f"messages answered as {name.removeprefix('balance of ')}, or truly so"
    return "any message"


def _names(reasons: Iterable[Judgement]) -> list[str]:
    return [reason.name for reason in reasons]
