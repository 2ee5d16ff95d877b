"""Sections of the page "Confusion"."""

from functools import partial

import streamlit as st

from dashboards import confusion_charts, confusion_tables, pictures, tables, words
from dashboards.banner import Notice
from dashboards.confusion_models import Against, Asked, By, Confused, Period
from dashboards.models import Choice
from dashboards.theme import Palette, Tone
from dashboards.views import common

EVERY_S = 10
HEIGHT = 420
FEW_PAIRS = 8
"""Of the list of pairs where the matrix shows them all."""

_SHARES = ("Share", "95% low", "95% high", "Share then")
_COLUMNS = {
    **dict.fromkeys(_SHARES, common.SHARE),
    "Change (points)": st.column_config.NumberColumn(format="%+.1f"),
}


def page(choice: Choice) -> None:
    """The whole page; what somebody asks for stands in the address."""
    asked, by = _asked()
    draw = partial(_drawn, choice, asked, by)
    common.refreshed(draw, EVERY_S, key="confusion")


def _asked() -> tuple[Asked, By]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        period = st.radio(
            "Outcomes of", list(map(str, Period)), key="period", bind="query-params",
            horizontal=True,
        )  # fmt: skip
        by = st.radio(
            "Share of", list(map(str, By)), key="by", bind="query-params", horizontal=True
        )
        against = st.selectbox(
            "Compare with", list(map(str, Against)), key="against", bind="query-params", width=200,
            disabled=period == Period.EVER,
            help="A period as long as the range; all time is all that was ever counted.",
        )  # fmt: skip
    return Asked(Period(period), Against(against)), By(by)


def _drawn(choice: Choice, asked: Asked, by: By) -> None:
    with common.loading(HEIGHT, "confusion-drawn"):
        picture = pictures.confused(choice, asked)
    view = picture.view
    is_empty = view is not None and view.freshness.as_of_ms is None
    common.about(picture, view.freshness if view else None, is_empty=is_empty)
    if view is None or is_empty:
        return
    if pictures.note_variants(view.variants):
        st.rerun()
    common.firing()
    if picture.fault is None and (said := standing(view, choice.span)):
        common.notice(said)
    if not view.labelled:
        return
    _counted(view, choice.span)
    _matrix(view, by, common.colours_of(picture))
    _pairs(view, by)
    common.same_numbers(partial(confusion_tables.every_cell, view, by), key="confusion")
    common.last_known(picture)


def standing(view: Confused, span: str) -> Notice | None:
    """Why there is no matrix, or nothing in it, or nothing to compare; None when all is there."""
    where = "so far" if view.window is None else f"in the last {span}"
    if not view.labelled:
        of = f"0 of {words.count(view.predictions)} messages are labelled {where}."
        return Notice(Tone.NEUTRAL, "Nothing to compare answers with.", of)
    if view.is_gone:
        return Notice(Tone.NEUTRAL, f"The period {view.against} is not kept any more.", "")
    if view.reference is not None and not view.is_compared:
        return Notice(Tone.NEUTRAL, f"There is no labelled message {view.against}.", "")
    if not any(row != column for row, column in view.matrix.counts):
        n = words.count(view.labelled)
        tone = Tone.NEUTRAL if view.freshness.is_stale else Tone.OK
        return Notice(tone, f"Nothing is confused: {n} of {n} went to their true intent.", "")
    return None


def _counted(view: Confused, span: str) -> None:
    share = view.labelled / view.predictions if view.predictions else None
    of = f"{words.count(view.labelled)} labelled of {words.count(view.predictions)} messages"
    parts = [_when(view, span), f"{of} ({words.percent(share, 0)})"]
    if view.is_compared and view.reference is not None:
        then = view.reference_window
        when = "all time" if then is None else _between(then.start_ms, then.end_ms, view)
        n = words.count(view.reference.total)
        parts.append(f"compared with {when}, {n} labelled, in points: + is more than then")
    if view.group & set(view.intents):
        parts.append(f"▲ {view.of} intents, outlined where missed")
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    left.caption(" · ".join(common.plain(part) for part in parts))
    rows = confusion_tables.every_cell(view, By.ROW)
    right.download_button(
        "CSV", tables.csv_of(rows), "recallwatch-confusion.csv", "text/csv",
        key="confusion-counts", icon=":material/download:", on_click="ignore", width="stretch",
    )  # fmt: skip


def _when(view: Confused, span: str) -> str:
    if view.window is None:
        return "all time"
    return f"{_between(view.window.start_ms, view.window.end_ms, view)} ({span})"


def _between(start_ms: int, end_ms: int, view: Confused) -> str:
    near_ms = view.window.end_ms if view.window else end_ms
    start = words.clock(start_ms, near_ms=near_ms).removesuffix(" UTC")
    return f"{start}–{words.clock(end_ms, near_ms=near_ms)}"


def _matrix(view: Confused, by: By, palette: Palette) -> None:
    if not view.shown_rows:
        return
    if view.is_wide:
        st.header(f"Where {view.of} messages went")
        st.caption(f"{len(view.intents)} intents: only the rows of {view.of} ones are drawn.")
    spec = confusion_charts.matrix(view, by, palette)
    common.chart(spec, key="confusion", alt=confusion_charts.matrix_alt(view, by))


def _pairs(view: Confused, by: By) -> None:
    rows = confusion_tables.pairs(view, by)
    shown = rows if view.is_wide else rows[:FEW_PAIRS]
    if not shown:
        return
    st.header("Grown most" if view.is_compared else "Most often confused")
    if not view.is_compared and rows and view.group & set(view.intents):
        st.caption(common.plain(f"Missed {view.of} messages first, then by count"))
    st.dataframe(
        common.in_percent(shown, _SHARES), hide_index=True, height="content",
        column_config={**common.whole_numbers(shown), **_COLUMNS},
        alt="The worst pairs of intents, worst first",
    )  # fmt: skip
