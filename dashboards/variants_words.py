"""What the page "Variants" says: who should serve, since when each is fit, what differs."""

from dashboards import words
from dashboards.banner import Notice
from dashboards.theme import Tone
from dashboards.variants_models import Compared, Measure, Pair, Period, Unit, Variant
from monitor.app.comparing import Paired
from monitor.domain.alerts import Status
from monitor.domain.comparison import Comparison, Finding
from monitor.domain.pairs import Side
from monitor.domain.verdict import Answer, Verdict
from monitor.domain.verdict import Finding as Stand

METHOD, SEQUENTIAL = "Newcombe's hybrid score interval", "mixture test of pairs that differ"
PAIRED = (
    "Paired: both variants are judged by the same requests, those that both answered. Only the "
    "requests on which they differ tell which is better. All count since the first of these "
    "versions, not those of the window alone."
)
UNPAIRED = (
    "Unpaired: each variant is judged by the messages that it answered itself, and these may "
    "differ. Both are compared on the same requests, outside of a range, where the settings have "
    "such a comparison and both answered enough requests."
)
EVERY_LOOK = (
    "Every look: the finding may be watched. If there is no difference, one is ever claimed at "
    "most 5% of the time, however often somebody looks."
)
ONE_LOOK = (
    "One look: the interval holds for looking once, at a moment chosen beforehand. Looking until "
    "a difference is shown finds one by chance more often than 5% of the time."
)
PRINCIPLE = (
    "Advice: fit goes before not fit, whatever the difference; of those that are fit the cheapest; "
    "then recall of watched groups, then accuracy, as far as a difference is shown."
)

VERDICTS = {
    Answer.FIT: "fit",
    Answer.NOT_FIT: "not fit",
    Answer.NOT_ENOUGH_EVIDENCE: "not enough evidence",
}


def advice(view: Compared) -> Notice | None:
    """The sentence on top, of the verdict's window; None while there is no variant.

    Green only while the variant that should serve is fit; never while the numbers are old or
    incomplete, which it says, or while an alert is up.
    """
    if not view.variants:
        return None
    title = words.in_full(view.advice.text)
    body = " · ".join([*map(_judged, view.variants), f"verdicts of {judged_window(view)}"])
    is_doubtful = view.freshness.is_stale or view.gaps or view.alerts
    tone = Tone.NEUTRAL if is_doubtful and _tone(view) is Tone.OK else _tone(view)
    if not view.freshness.is_stale and not view.gaps:
        return Notice(tone, title, body)
    whose = "Last known" if view.freshness.is_stale else "As far as counted"
    return Notice(tone, f"{whose}: {title}", body)


def _tone(view: Compared) -> Tone:
    """What should serve is fit, or nothing can that is, or nobody knows."""
    answers = {v.name: v.verdict.answer for v in view.variants if v.is_present}
    serve = view.advice.serve
    if serve is not None and answers.get(serve) is Answer.FIT:
        return Tone.OK
    if set(answers.values()) == {Answer.FIT}:
        return Tone.OK
    return Tone.WARNING if Answer.NOT_FIT in answers.values() else Tone.NEUTRAL


def judged_window(view: Compared) -> str:
    """How long the window of the verdicts is, and from when to when."""
    window, length_ms = view.judged.found.window, view.judged.found.window_ms
    start, end = words.moment(window.start_ms), words.moment(window.end_ms)
    length = "every hour that is kept" if length_ms is None else words.duration(length_ms)
    return f"{length}, {start.removesuffix(' UTC')} to {end}"


def _judged(variant: Variant) -> str:
    """``old is not fit (recall of urgent)``: the names of what decided."""
    if not variant.is_present:
        return f"{name_of(variant)} answered nothing in the window"
    answer = variant.verdict.answer
    names = variant.reasons(Stand.MISSED if answer is Answer.NOT_FIT else Stand.OPEN)
    said = f"{VERDICTS[answer]} ({', '.join(names)})" if names else VERDICTS[answer]
    verb = "has" if answer is Answer.NOT_ENOUGH_EVIDENCE else "is"
    return f"{name_of(variant)} {verb} {said}"


def since(variant: Variant) -> str:
    """Since when the verdict is what it is, and what it was before.

    Alerts are not in the history: where one decides, it says so.
    """
    if not variant.changes:
        return "no hour is judged yet"
    last = variant.changes[-1]
    when = words.moment(last.at_ms)
    answer, by_labels = variant.verdict.answer, last.verdict.answer
    if answer is not by_labels:
        said = f"{VERDICTS[answer]}, because an alert fires"
        return f"{said}; by the labels of the whole window {VERDICTS[by_labels]} since {when}"
    if len(variant.changes) == 1:
        return f"{VERDICTS[answer]} since {when}, the first hour that is judged"
    before = VERDICTS[variant.changes[-2].verdict.answer]
    return f"{VERDICTS[answer]} since {when}, {before} before"


def why(verdict: Verdict) -> str:
    """The reasons that decided, in full; "" where all is met."""
    missed = verdict.found(Stand.MISSED)
    return "; ".join(words.in_full(reason.text) for reason in missed or verdict.found(Stand.OPEN))


def served(variant: Variant) -> str:
    """The versions of the window, and those that alerts tell apart."""
    told = [
        f"{words.one_line(one.name)}: {words.count(one.predictions)} messages, "
        f"{VERDICTS[one.answer]}"
        for one in variant.served
    ]
    told += [
        f"{words.one_line(found.name)} (last mature label {words.moment(found.last_ms)})"
        for found in variant.versions
    ]
    if not told:
        return "No version known: no slice has them, and no rule has had a label of one."
    return f"Versions: {'; '.join(told)}"


def finding(view: Compared, span: str) -> Notice | None:
    """What the comparison of the chosen pair has found, with interval, n, method and when.

    None while there is no pair. It is no verdict, so never green.
    """
    if view.pair is None:
        return None
    found = view.pair.comparison
    parts = [_difference(view.pair), method(found), window(view, span)]
    if found.finding is Finding.TOO_FEW:
        parts.insert(0, _few(view.pair))
    return Notice(Tone.NEUTRAL, _TITLES[found.finding](view.pair), " · ".join(parts))


def up(view: Compared) -> Notice | None:
    """What to say of alerts about variants of the page; None while nothing is up."""
    if not view.alerts:
        return None
    is_firing = any(alert.status is Status.FIRING for alert in view.alerts)
    named = ", ".join(f"{alert.whose} {alert.status} ({alert.rule.name})" for alert in view.alerts)
    body = (
        "One that fires about all of a variant makes it not fit."
        if is_firing
        else "The verdicts do not count it until it fires."
    )
    when = "Last known" if view.freshness.is_stale else "Now"
    return Notice(Tone.CRITICAL if is_firing else Tone.WARNING, f"{when}: {named}.", body)


def name_of(variant: Variant) -> str:
    """Its name in one line: it comes from outside."""
    return words.one_line(variant.name)


def points(difference: float) -> str:
    """A difference of shares, signed, in points; never a minus before zero.

    >>> points(0.1234), points(-0.004), points(-0.0004)
    ('+12.3', '-0.4', '+0.0')
    """
    return f"{round(100 * difference, 1) + 0.0:+.1f}"


def difference_bounds(found: Comparison) -> str:
    """``+3.1 to +9.4``; "" without a label."""
    if found.interval is None:
        return ""
    low, high = found.interval
    return f"{points(low)} to {points(high)}"


def unit_of(name: str) -> Unit:
    """What a difference in a measure is counted in."""
    if name.startswith("latency "):
        return Unit.MS
    return Unit.SCORE if name == "relevance" else Unit.SHARE


def told(difference: float, name: str) -> str:
    """A difference in a measure, signed, with its unit.

    >>> told(0.1234, "accuracy"), told(-31.2, "latency p95"), told(0.01, "relevance")
    ('+12.3 points', '-31 ms', '+0.010')
    """
    unit = unit_of(name)
    if unit is Unit.MS:
        return f"{difference:+.0f} ms"
    return f"{difference:+.3f}" if unit is Unit.SCORE else f"{points(difference)} points"


def told_bounds(found: Comparison, name: str) -> str:
    """The interval of a difference without its unit; "" where there is none."""
    if found.interval is None:
        return ""
    low, high = (told(bound, name).split()[0] for bound in found.interval)
    return f"{low} to {high}"


def method(found: Comparison) -> str:
    """How a difference of shares was judged.

    >>> from monitor.domain.comparison import compare
    >>> from monitor.domain.scores import proportion
    >>> method(compare(proportion(1, 2), proportion(1, 2)))
    "Newcombe's hybrid score interval, unpaired, one look"
    """
    return f"{SEQUENTIAL if found.is_paired else METHOD}, {basis(found)}"


def basis(found: Comparison) -> str:
    """Of what, and how often it may be looked at."""
    made = "paired" if found.is_paired else "unpaired"
    return f"{made}, {'every look' if found.is_watched else 'one look'}"


def value(measure: Measure) -> str:
    """The number in its unit; a dash for None."""
    if measure.value is None:
        return words.NONE
    if measure.unit is Unit.MS:
        return f"{measure.value:.0f} ms"
    return words.percent(measure.value) if measure.unit is Unit.SHARE else f"{measure.value:.3f}"


def bounds(measure: Measure) -> str:
    """The 95 % interval in the unit of the measure; "" where there is none."""
    if measure.interval is None:
        return ""
    low, high = measure.interval
    if measure.unit is Unit.MS:
        return f"{low:.0f}–{high:.0f} ms"
    if measure.unit is Unit.SCORE:
        return f"{low:.3f}–{high:.3f}"
    return f"{100 * low:.1f}–{100 * high:.1f}%"


def window(view: Compared, span: str) -> str:
    """Of when the compared numbers are."""
    if view.period is Period.VERDICT:
        return judged_window(view)
    start = words.clock(view.window.start_ms, near_ms=view.window.end_ms).removesuffix(" UTC")
    until = words.clock(view.window.end_ms)
    parts = f"{start}–{until} ({span})"
    if view.pair is None or not view.left_out:
        return parts
    length = words.duration(view.pane_ms)
    whole = words.count(view.panes)
    left = words.count(view.left_out)
    return f"{parts}, without the {left} of {whole} windows of {length} that one did not answer in"


def _difference(pair: Pair) -> str:
    found = pair.comparison
    name = pair.watched[:1].upper() + pair.watched[1:]
    if paired := pair.paired.get(pair.watched):
        return f"{name} {same_requests(paired)}"
    sides = " minus ".join(_side(variant, pair.watched) for variant in (pair.other, pair.serving))
    if found.difference is None:
        return f"{name}: {sides}"
    difference = f"{points(found.difference)} points (95% {difference_bounds(found)})"
    return f"{name}: {sides} is {difference}"


def same_requests(paired: Paired) -> str:
    """The pairs of one measure in a sentence: what was counted, the difference, and since when."""
    counts = paired.judged.counts.swapped if paired.is_swapped else paired.judged.counts
    one, other = paired.sides
    hits, other_hits = counts.hits
    n, found = counts.n, paired.found
    said = (
        f"on the {words.count(n)} requests that both answered: {_who(one)} "
        f"{words.percent(hits / n)} minus {_who(other)} {words.percent(other_hits / n)} is "
        f"{points(found.difference or 0.0)} points (95% {difference_bounds(found)}); "
        f"only {_who(one)} right {words.count(counts.only_one)} times, only {_who(other)} "
        f"{words.count(counts.only_other)}"
    )
    if found.claimed_ms is None:
        return said
    return f"{said}; claimed on {words.instant(found.claimed_ms)}"


def _who(side: Side) -> str:
    name = words.one_line(side.variant)
    return f"{name} ({words.one_line(side.version)})" if side.version else name


def _side(variant: Variant, name: str) -> str:
    [found] = [measure for measure in variant.measures if measure.name == name]
    n = f"n = {words.count(found.n)}"
    ground = f"95% {bounds(found)}, {n}" if found.interval else n
    return f"{name_of(variant)} {value(found)} ({ground})"


def _higher(pair: Pair) -> str:
    serving, other = name_of(pair.serving), name_of(pair.other)
    return f"{other} has the higher {pair.watched} than {serving}: {_by(pair)}."


def _lower(pair: Pair) -> str:
    serving, other = name_of(pair.serving), name_of(pair.other)
    return f"{other} has the lower {pair.watched} than {serving}: {_by(pair)}."


def _by(pair: Pair) -> str:
    found = pair.comparison
    return f"{points(found.difference or 0.0)} points (95% {difference_bounds(found)})"


def _no_difference(pair: Pair) -> str:
    names = f"{name_of(pair.serving)} and {name_of(pair.other)}"
    return f"No difference shown in {pair.watched} between {names}."


def _too_few(pair: Pair) -> str:
    names = f"{name_of(pair.serving)} and {name_of(pair.other)}"
    return f"Too few labels to compare {names} in {pair.watched}."


def _few(pair: Pair) -> str:
    found = pair.comparison
    sides = ((pair.serving, found.other_n), (pair.other, found.n))
    return ", ".join(f"{name_of(side)} {words.too_few(n)}" for side, n in sides if n < words.FEW)


_TITLES = {
    Finding.BETTER: _higher,
    Finding.WORSE: _lower,
    Finding.NO_DIFFERENCE: _no_difference,
    Finding.TOO_FEW: _too_few,
}
