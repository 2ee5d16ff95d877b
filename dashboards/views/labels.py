"""Sections of the Labels page."""

from functools import partial

import streamlit as st

from dashboards import banner, charts, pictures, tables, words
from dashboards.banner import AlertView, Notice
from dashboards.models import Choice, Known, LabelsView
from dashboards.theme import Palette, Tone
from dashboards.views import books, common
from dashboards.views.common import Card
from monitor.domain.alerts import fingerprint

CARDS_HEIGHT = 120


def page(choice: Choice) -> None:
    """The whole page: cards, charts, books."""
    with common.loading(CARDS_HEIGHT, "labels-drawn"):
        picture = pictures.labels(choice)
    view = picture.view
    is_empty = view is not None and not view.books.predictions.received
    common.about(picture, view.freshness if view else None, is_empty=is_empty)
    if view is None or is_empty:
        return
    is_down = picture.fault is not None
    if not is_down:
        common.notice(enough(view, choice) if view.labelled else _no_labels(view))
    _cards(view, choice.span, is_down=is_down)
    _charts(view, common.colours_of(picture))
    books.section(view.books, is_down=is_down)
    common.last_known(picture)


def enough(view: LabelsView, choice: Choice) -> Notice:
    """Whether labels are complete enough to believe what fires, or that nothing does."""
    up = next((alert for alert in view.alerts if alert.is_up), None)
    if up is not None:
        return _enough_for(up, view)
    if not view.is_evaluated:
        return Notice(Tone.NEUTRAL, banner.UNEVALUATED, _known_text(view, choice))
    stalled = next((alert for alert in view.alerts if alert.overlays.stalled), None)
    if stalled is not None:
        since = words.clock(stalled.last_ms, near_ms=view.window.end_ms)
        title = f"No: no {view.of} label has come since {since}, so nothing new can fire."
        return Notice(Tone.WARNING, title, _known_text(view, choice))
    after = view.known.half_ms
    young = "" if after is None else f" A drop younger than {words.span(after)} may not show yet."
    title = f"Nothing is up by the labels that are in.{young}"
    return Notice(Tone.NEUTRAL, title, _known_text(view, choice))


def _enough_for(up: AlertView, view: LabelsView) -> Notice:
    name, n = fingerprint(up.alert), words.count(up.score.support)
    whose = f" on {up.whose}" if up.whose else ""
    if up.overlays.stalled:
        since = words.clock(up.last_ms, near_ms=view.window.end_ms)
        title = f"Enough to have raised alert {name}{whose}, not to tell how it goes on:"
        return Notice(Tone.WARNING, f"{title} no label since {since}.", "")
    kept = f"{up.measured} {words.percent(up.score.value)}, {words.bounds(up.score)}"
    title = f"Yes, for alert {name}{whose}: it stands on {n} mature {view.of} labels ({kept})."
    return Notice(Tone.NEUTRAL, title, banner.labelled_text(up, view.window.end_ms))


def _known_text(view: LabelsView, choice: Choice) -> str:
    share = view.labelled / view.predictions if view.predictions else None
    return (
        f"{words.percent(share, 0)} of the messages of the last {choice.span} are labelled; "
        f"{words.count(view.watched)} of them are {view.of} ones."
    )


def _no_labels(view: LabelsView) -> Notice:
    known = f"0 of {words.count(view.predictions)} labelled"
    return Notice(Tone.NEUTRAL, f"No labels yet: {known} in this range.", "Recall is not known.")


def _cards(view: LabelsView, span: str, *, is_down: bool) -> None:
    now, known = view.now, view.known
    coverage = view.labelled / view.predictions if view.predictions else None
    counts = f"{words.count(view.labelled)} of {words.count(view.predictions)} labelled"
    if view.of:
        counts += f", {words.count(view.watched)} of them {view.of}"
    window = words.duration(view.rolling_ms)
    arrived = f"{words.count(now.n if now else 0)} labels in {window}"
    common.cards([
        Card(f"Labels in, {span}", words.percent(coverage, 0), counts),
        Card("Label delay p50", _delay(now.p50_ms if now else None), arrived),
        Card("Label delay p90", _delay(now.p90_ms if now else None), arrived),
        Card("Label delay p99", _delay(now.p99_ms if now else None), arrived),
        Card("Half known after", *_known(known, known.half_ms, span)),
        Card("90% known after", *_known(known, known.ninety_ms, span)),
    ], is_down=is_down)  # fmt: skip


def _delay(delay_ms: float | None) -> str:
    return words.NONE if delay_ms is None else words.span(delay_ms)


def _known(known: Known, after_ms: float | None, span: str) -> tuple[str, str]:
    if after_ms is None:
        return words.NONE, f"{words.percent(known.share, 0)} known within {span}"
    return words.span(after_ms), "of predictions, by age"


def _charts(view: LabelsView, palette: Palette) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.header("How much is known")
        st.caption("Share of the predictions of each minute that have a label, by event time")
        spec = charts.coverage(view, palette, charts.LABELS_HEIGHT)
        common.chart(spec, key="labels-in", alt=charts.coverage_alt(view))
    with right:
        st.header("How late labels are")
        st.caption(
            f"From prediction to label, of the labels that arrived in the last "
            f"{words.duration(view.rolling_ms)}"
        )
        common.chart(charts.delays(view, palette), key="delays", alt=charts.delays_alt(view))
    st.header("Labels by arrival")
    st.caption("By log time: what was learned when, whatever the age of the prediction")
    common.chart(charts.arrivals(view, palette), key="arrivals", alt=charts.arrivals_alt(view))
    common.same_numbers(partial(tables.arrivals, view), key="labels")
