"""Sections of the Live page."""

from dataclasses import replace
from functools import partial

import streamlit as st

from dashboards import banner, charts, pictures, signals, tables, words
from dashboards.banner import Freshness, Notice
from dashboards.models import Choice, LiveNow, Trend, is_changed
from dashboards.theme import Palette, Tone
from dashboards.views import common
from dashboards.views.common import Card
from monitor.domain.alerts import fingerprint
from monitor.domain.estimate import ASSUMPTION
from monitor.domain.rules import Metric
from monitor.domain.scores import Score
from monitor.domain.signals import SignalState
from monitor.domain.slices import ALL

CARDS_HEIGHT = 190
MOST_NOTICES = 3
MOST_WORST = 3
"""Intents named in the sentence above their chart."""


def now(choice: Choice) -> None:
    """Banner and cards."""
    with common.loading(CARDS_HEIGHT, "now-drawn"):
        picture = pictures.now(choice)
    view = picture.view
    is_empty = view is not None and view.window is None
    common.about(picture, view.freshness if view else None, is_empty=is_empty)
    if view is None:
        return
    if pictures.note_variants(view.variants):
        st.rerun()
    if picture.fault is None:
        _notices(view, choice)
    else:
        _alerts(view, is_down=True)
    if not is_empty:
        if said := tiles_text(view, choice):
            st.caption(common.plain(said))
        _cards(view, choice, is_down=picture.fault is not None)
        if view.estimate is not None:
            measured = view.recent.recall
            st.caption(common.plain(estimate_text(view.estimate, choice.of, measured)))


def trend(choice: Choice) -> None:
    """The charts."""
    with common.loading(charts.RECALL_HEIGHT, "trend-drawn"):
        picture = pictures.trend(choice)
    view = picture.view
    if view is None or not view.points:
        return
    palette = common.colours_of(picture)
    left, right = st.columns([5, 3], gap="large")
    with left:
        _recall(view, palette)
    with right:
        _intents(view, palette)
        _routes(view, palette)
    common.last_known(picture)


def _notices(view: LiveNow, choice: Choice) -> None:
    """Whatever wants attention, what is lost, how the watched group stands if well, signals."""
    _alerts(view, is_down=False)
    if lost := banner.incomplete(view.gaps):
        common.notice(lost)
    if view.window is not None:
        _standing(view, choice)
    if warned := signals.describe(view.signals, view.freshness):
        common.notice(warned)


def _alerts(view: LiveNow, *, is_down: bool) -> None:
    """What wants attention, or did when the store last answered."""
    wanting = view.attention
    for alert in wanting[:MOST_NOTICES]:
        said = banner.describe(alert, view.freshness)
        common.notice(banner.last_known(said) if is_down else said, is_listed=True)
        with st.container(horizontal=True):
            common.to_alert(alert.alert)
            if alert.is_up and alert.rule.metric is Metric.RECALL:
                common.to_misses(alert.alert, alert.rule.of)
    if len(wanting) > MOST_NOTICES:
        st.caption(f"{len(wanting) - MOST_NOTICES} more alerts want attention.")


def _standing(view: LiveNow, choice: Choice) -> None:
    if not view.alerts:
        common.notice(banner.unwatched(choice.of, view.recent.recall))
    elif not view.is_evaluated:
        body = banner.unevaluated(view.freshness, view.unread)
        common.notice(Notice(Tone.NEUTRAL, banner.UNEVALUATED, body))
    elif not view.alerts[0].wants_attention:
        common.notice(banner.describe(view.alerts[0], view.freshness, is_complete=not view.gaps))


def tiles_text(view: LiveNow, choice: Choice) -> str:
    """Whose numbers the tiles are, where an alert above speaks of something else; else ""."""
    up = next((alert for alert in view.attention if alert.is_up), None)
    if up is None or view.window is None:
        return ""
    span = words.duration(view.window.end_ms - view.window.start_ms)
    few = view.recent.recall.support < words.FEW
    said = f"Tiles: {_of_variant(choice.variant)}, the last {span}. "
    about = f"The alert: {up.whose or 'all variants'}, all its evidence"
    return f"{said}{about}{'; few labels in a tile do not weaken it' if few else ''}."


def _of_variant(variant: str) -> str:
    return "all variants" if variant == ALL else words.one_line(variant)


def _cards(view: LiveNow, choice: Choice, *, is_down: bool) -> None:
    window, of = view.window, choice.of
    span = words.duration(window.end_ms - window.start_ms) if window else ""
    common.cards([
        _recall_card(view, f"{_title(of)} recall, {span}", choice.variant),
        _accuracy_card(view, f"Accuracy, {span}", choice.variant),
        _missed_card(view, f"Missed {of}, {span}", of),
        _labels_card(view, f"Labels in, {span}"),
        _rate_card(view),
        _age_card(view, is_down=is_down),
    ], is_down=is_down)  # fmt: skip


def estimate_text(state: SignalState, of: str, measured: Score) -> str:
    """The label-free estimate in a line; unknown with its reason where there is none.

    Where what was ``measured`` excludes it, the measurement counts.
    """
    if state.value is None or state.error is None:
        return f"Label-free estimate of {of} recall: unknown, {state.reason}."
    past = "past error unknown"
    if state.past_error is not None:
        past = f"past error {100 * state.past_error:.0f}"
    estimate = f"{words.percent(state.value, 0)} ± {100 * state.error:.0f} ({past})"
    text = f"Label-free estimate of {of} recall: {estimate}; {ASSUMPTION.format(of=of)}."
    low, high = measured.interval or (0.0, 1.0)
    if low <= state.value <= high:
        return text
    found = f"{words.percent(measured.value)} ({words.interval(measured)})"
    return f"{text} Labels contradict it: measured {found}. What is measured counts."


def _recall_card(view: LiveNow, label: str, variant: str) -> Card:
    card = _score_card(label, view.recent.recall, view.before.recall, variant)
    return replace(card, spark=view.sparks.recall)


def _accuracy_card(view: LiveNow, label: str, variant: str) -> Card:
    card = _score_card(label, view.recent.accuracy, view.before.accuracy, variant)
    hint = "Share of all labelled messages that were sent to their very intent."
    return replace(card, spark=view.sparks.accuracy, hint=hint)


def _score_card(label: str, score: Score, before: Score, variant: str) -> Card:
    change = None
    if score.value is not None and before.value is not None:
        change = words.points(score.value - before.value)
    note = words.interval(score)
    if score.support < words.FEW:
        note = f"{note.rpartition('n = ')[0]}{words.too_few(score.support)}"
    return Card(
        label,
        words.percent(score.value),
        f"{_of_variant(variant)}: {note}",
        change=change or "no comparison yet",
        beside="in 1 h" if change else None,
        colour="normal" if is_changed(score, before) else "off",
    )


def _missed_card(view: LiveNow, label: str, of: str) -> Card:
    now, before = view.recent, view.before
    has_both = now.recall.support and before.recall.support
    return Card(
        label,
        words.count(now.missed) if now.recall.support else words.NONE,
        f"of {words.count(now.recall.support)} labelled {of}",
        change=words.change(now.missed - before.missed) if has_both else "no comparison yet",
        beside="vs 1 h before" if has_both else None,
        colour="inverse" if is_changed(now.recall, before.recall) else "off",
        spark=view.sparks.missed,
        kind="bar",
        more=("missed", "See whom"),
        asking=_missed_by(view, of),
    )


def _missed_by(view: LiveNow, of: str) -> tuple[tuple[str, str], ...]:
    """The misses of the alert that is told first, where it is about this group."""
    up = next((a for a in view.attention if a.is_up and a.rule.metric is Metric.RECALL), None)
    return common.misses_address(up.alert, of) if up is not None and up.rule.of == of else ()


def _labels_card(view: LiveNow, label: str) -> Card:
    window, recent = view.window, view.recent
    span = f"{words.clock(window.start_ms)[:5]}–{words.clock(window.end_ms)}" if window else ""
    return Card(
        label,
        words.percent(recent.coverage, 0),
        span,
        change=f"{words.count(recent.labelled)} of {words.count(recent.predictions)} labelled",
        spark=view.sparks.coverage,
        kind="area",
    )


def _rate_card(view: LiveNow) -> Card:
    p95 = view.recent.p95_ms
    return Card(
        "Messages per minute",
        words.count(round(view.recent.per_minute)),
        f"{words.count(view.recent.predictions)} messages",
        change="no latency known" if p95 is None else f"p95 {words.count(round(p95))} ms",
        spark=view.sparks.per_minute,
    )


def _age_card(view: LiveNow, *, is_down: bool) -> Card:
    fresh = view.freshness
    return Card(
        "Data age",
        words.NONE if is_down or fresh.age_ms is None else words.duration(max(1000, fresh.age_ms)),
        _newest(fresh),
        change=_lag(fresh),
        hint="Time since a worker last gave a sign of life.",
    )


def _newest(fresh: Freshness) -> str:
    if fresh.as_of_ms is None:
        return ""
    return f"newest record {words.clock_seconds(fresh.as_of_ms, near_ms=fresh.now_ms)}"


def _lag(fresh: Freshness) -> str:
    if fresh.is_stale:
        return "stale"
    behind = "record behind" if fresh.lag == 1 else "records behind"
    return f"{words.count(fresh.lag)} {behind}" if fresh.lag else "up to date"


def _recall(view: Trend, palette: Palette) -> None:
    st.header(f"{_title(view.of)} recall, and how much of it is known")
    st.caption(
        f"Rolling {words.duration(view.rolling_ms)} by event time, with 95% interval; dashed while "
        "fewer than half the labels are in."
    )
    common.chart(charts.recall(view, palette), key="recall", alt=charts.recall_alt(view))
    common.chart(charts.coverage(view, palette), key="coverage", alt=charts.coverage_alt(view))
    common.same_numbers(partial(tables.recall, view), key="recall")


def _intents(view: Trend, palette: Palette) -> None:
    st.header(f"Which {view.of} intent")
    st.markdown(common.plain(worst_text(view)))
    st.caption(common.plain(detail_text(view)))
    shown = view.intents[: charts.MOST_INTENTS]
    spec = charts.intents(shown, view.objective, palette)
    common.chart(spec, key="intents", alt=charts.intents_alt(shown))
    if len(view.intents) > len(shown):
        st.caption(f"and {len(view.intents) - len(shown)} more, in the table")
    common.same_numbers(partial(tables.intents, view.intents), key="intents")


def worst_text(view: Trend) -> str:
    """Which intents broke, in a sentence: those whose value is below the objective, worst first."""
    labelled = [row for row in view.intents if row.recall.interval is not None]
    if not labelled:
        return f"No labelled {view.of} message is known in this time."
    if view.objective is None:
        return f"No rule says how much {view.of} recall there must be."
    objective = words.limit(view.objective)
    below = [row for row in labelled if (row.recall.value or 0.0) < (view.objective or 0.0)]
    if not below:
        return f"No intent is below the objective of {objective}."
    below.sort(key=lambda row: ((row.recall.interval or (0.0, 1.0))[1], row.intent))
    named = "; ".join(f"{words.one_line(r.intent)}, {charts.caught(r)}" for r in below[:MOST_WORST])
    more = f"; and {len(below) - MOST_WORST} more" if len(below) > MOST_WORST else ""
    n = len(labelled)
    how_many = f"{len(below)} of {n}" if len(below) < n else f"All {n}" if n > 1 else "The one"
    return f"Worst: {named}{more}. {how_many} below the objective of {objective}."


def detail_text(view: Trend) -> str:
    """Whose numbers they are, and since when."""
    start_ms, end_ms = view.detail
    whose = ", ".join(words.one_line(name) for name in view.whose if name != ALL) or "all variants"
    alert = view.alert
    if alert is None or alert.evidence_ms is None:
        of_alert = f", of alert {fingerprint(alert.alert)}" if alert else ""
        return f"{whose}, last {words.duration(end_ms - start_ms)}{of_alert}"
    since = words.clock(start_ms, near_ms=end_ms)
    text = f"{whose} since {since}, the start of the evidence of alert {fingerprint(alert.alert)}"
    if alert.key != view.whose:
        return f"{text} on {alert.whose or 'all variants'}"
    return f"{text} on version {words.one_line(alert.version)}" if alert.version else text


def _routes(view: Trend, palette: Palette) -> None:
    st.header("Where the misses went")
    if not view.routes:
        st.caption(f"No missed {view.of} message is known in this time.")
        return
    st.caption(f"{routes_text(view)}, of the same messages")
    common.bars(tables.routes(view.routes), "Missed", view.routes[0].missed, palette.line)


def routes_text(view: Trend) -> str:
    """How many of the misses the routes shown tell of."""
    shown, n = sum(route.missed for route in view.routes), view.missed
    if shown == n:
        return "The only miss" if n == 1 else f"All {words.count(n)} misses"
    return f"{words.count(shown)} of {words.count(n)} misses; the rest go elsewhere"


def _title(name: str) -> str:
    return name[:1].upper() + name[1:]
