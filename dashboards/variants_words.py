"""What the page "Variants" says first: which variant should serve, and how sure that is."""

from dashboards import words
from dashboards.banner import Notice
from dashboards.theme import Tone
from dashboards.variants_models import Compared, Measure, Pair, Period, Unit, Variant
from monitor.app.comparing import Paired
from monitor.domain.alerts import Status
from monitor.domain.comparison import Advice, Comparison, Finding, Ground
from monitor.domain.pairs import Side
from monitor.domain.verdict import Answer
from monitor.domain.verdict import Finding as Stand

METHOD, SEQUENTIAL = "Newcombe's hybrid score interval", "mixture test of pairs that differ"
PAIRED = (
    "Paired: both variants are judged by the same requests, those that both answered. Only the "
    "requests on which they differ tell which is better."
)
UNPAIRED = (
    "Unpaired: each variant is judged by the messages that it answered itself, and these may "
    "differ. Both are compared on the same requests, of all time, where the settings have such a "
    "comparison and both answered a request."
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
    "Fit goes before not fit, whatever the difference; then the decisive measure, unless accuracy "
    "shows the opposite."
)

VERDICTS = {
    Answer.FIT: "fit",
    Answer.NOT_FIT: "not fit",
    Answer.NOT_ENOUGH_EVIDENCE: "not enough evidence",
}
_TONES = {
    Advice.PREFER: Tone.OK,
    Advice.KEEP: Tone.OK,
    Advice.NO_CHOICE: Tone.WARNING,
    Advice.NO_DIFFERENCE: Tone.NEUTRAL,
    Advice.NOT_ENOUGH_EVIDENCE: Tone.NEUTRAL,
}


def verdict(view: Compared, span: str) -> Notice | None:
    """The sentence on top; None while there is no variant.

    Never green while the numbers are old or incomplete, which it says, or while an alert is up.
    """
    if not view.variants:
        return None
    said = _single(view.variants[0]) if view.pair is None else _advised(view, view.pair, span)
    is_doubtful = view.freshness.is_stale or view.gaps or view.alerts
    tone = Tone.NEUTRAL if said.tone is Tone.OK and is_doubtful else said.tone
    if not view.freshness.is_stale and not view.gaps:
        return Notice(tone, said.title, said.body)
    whose = "Last known" if view.freshness.is_stale else "As far as counted"
    return Notice(tone, f"{whose}: {said.title}", said.body)


def up(view: Compared) -> Notice | None:
    """What to say of alerts about those that are compared; None while nothing is up."""
    if not view.alerts:
        return None
    is_firing = any(alert.status is Status.FIRING for alert in view.alerts)
    named = ", ".join(f"{alert.whose} {alert.status} ({alert.rule.name})" for alert in view.alerts)
    body = "What follows is of the range."
    if view.period is Period.EVER:
        body = "What follows is of all time: choose the range to compare the present."
    when = "Last known" if view.freshness.is_stale else "Now"
    return Notice(Tone.CRITICAL if is_firing else Tone.WARNING, f"{when}: {named}.", body)


def name_of(variant: Variant) -> str:
    """Its name in one line: it comes from outside."""
    return words.one_line(variant.name)


def points(difference: float) -> str:
    """A difference of shares, signed, in points.

    >>> points(0.1234), points(-0.004)
    ('+12.3', '-0.4')
    """
    return f"{100 * difference:+.1f}"


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
    if found.is_paired:
        return f"{SEQUENTIAL}, paired, every look"
    return f"{METHOD}, unpaired, one look"


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
    if view.period is Period.EVER:
        return "all time"
    start = words.clock(view.window.start_ms, near_ms=view.window.end_ms).removesuffix(" UTC")
    until = words.clock(view.window.end_ms)
    parts = f"{start}–{until} ({span})"
    if view.pair is None or not view.left_out:
        return parts
    length = words.duration(view.pane_ms)
    whole = words.count(view.panes)
    left = words.count(view.left_out)
    return f"{parts}, without the {left} of {whole} windows of {length} that one did not answer in"


def _single(variant: Variant) -> Notice:
    title = f"There is one variant, {name_of(variant)}: nothing to compare it with."
    return Notice(Tone.NEUTRAL, title, f"It is judged by its limits: {_judged(variant)}.")


def _judged(variant: Variant) -> str:
    answer = variant.verdict.answer
    names = variant.reasons(Stand.MISSED if answer is Answer.NOT_FIT else Stand.OPEN)
    return f"{VERDICTS[answer]} ({', '.join(names)})" if names else VERDICTS[answer]


def _advised(view: Compared, pair: Pair, span: str) -> Notice:
    title = _TITLES[pair.advised.advice](pair)
    parts = [_difference(pair), method(pair.comparison), window(view, span)]
    return Notice(_TONES[pair.advised.advice], title, " · ".join(parts))


def _difference(pair: Pair) -> str:
    found = pair.comparison
    name = pair.decisive[:1].upper() + pair.decisive[1:]
    if paired := pair.paired.get(pair.decisive):
        return f"{name} {same_requests(paired)}"
    sides = " minus ".join(_side(variant, pair.decisive) for variant in (pair.other, pair.serving))
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


def _prefer(pair: Pair) -> str:
    serving, other = name_of(pair.serving), name_of(pair.other)
    if pair.advised.ground is Ground.MEASURE:
        return f"Prefer {other}: {_higher(pair, serving)}."
    return f"Prefer {other}: it is fit, and {serving} is not ({_missed(pair.serving)})."


def _keep(pair: Pair) -> str:
    serving, other = name_of(pair.serving), name_of(pair.other)
    if pair.advised.ground is Ground.MEASURE:
        return f"Keep {serving}: {_higher(pair, other)}."
    return f"Keep {serving}: {other} is not fit ({_missed(pair.other)})."


def _higher(pair: Pair, than: str) -> str:
    """By how much the better one is better, as a positive number."""
    found = pair.comparison
    low, high = found.interval or (0.0, 0.0)
    difference = found.difference or 0.0
    if difference < 0:
        difference, low, high = -difference, -high, -low
    by = f"{100 * difference:.1f} points (95% {100 * low:.1f} to {100 * high:.1f})"
    return f"its {pair.decisive} is higher than that of {than} by {by}"


def _no_difference(pair: Pair) -> str:
    names = f"{name_of(pair.serving)} and {name_of(pair.other)}"
    return f"No difference shown in {pair.decisive} between {names}."


def _not_enough(pair: Pair) -> str:
    if pair.advised.ground is Ground.OPEN:
        still = ", ".join(pair.other.reasons(Stand.OPEN))
        return f"Not enough evidence to prefer {name_of(pair.other)}: still open ({still})."
    found = pair.comparison
    if found.is_paired:
        return (
            f"Not enough evidence: both answered {words.count(found.n)} labelled requests so far."
        )
    sides = ((pair.serving, found.other_n), (pair.other, found.n))
    few = [f"{name_of(side)} {words.too_few(n)}" for side, n in sides if n < words.FEW]
    return f"Not enough evidence: {', '.join(few)}."


def _no_choice(pair: Pair) -> str:
    pair_of = (pair.serving, pair.other)
    if all(variant.verdict.answer is Answer.NOT_FIT for variant in pair_of):
        return f"No clear choice: neither {name_of(pair.serving)} nor {name_of(pair.other)} is fit."
    is_other = pair.comparison.finding is Finding.BETTER
    best, rest = (pair.other, pair.serving) if is_other else pair_of
    head = f"No clear choice: {name_of(best)} has the higher {pair.decisive}"
    if pair.advised.ground is Ground.ACCURACY:
        return f"{head}, {name_of(rest)} the higher accuracy."
    return f"{head}, but is not fit ({_missed(best)})."


def _missed(variant: Variant) -> str:
    return ", ".join(variant.reasons(Stand.MISSED))


_TITLES = {
    Advice.PREFER: _prefer,
    Advice.KEEP: _keep,
    Advice.NO_DIFFERENCE: _no_difference,
    Advice.NOT_ENOUGH_EVIDENCE: _not_enough,
    Advice.NO_CHOICE: _no_choice,
}
