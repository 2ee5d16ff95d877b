"""What pages have in common: sidebar, notices, charts with their table, refresh."""

import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from html import escape
from typing import Literal, TypeVar

import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from dashboards import charts, datasets, pictures, queries, source, tables, words
from dashboards.alerts_models import Place
from dashboards.banner import Freshness, Notice, staleness, unwritten
from dashboards.models import Choice
from dashboards.pictures import Picture
from dashboards.theme import DARK, LIGHT, Palette, Tone, muted
from dashboards.views import grids
from monitor.app.settings import SettingsError
from monitor.domain.alerts import AlertKey, fingerprint
from monitor.domain.sampling import in_words
from monitor.domain.slices import ALL

HOME = "live"
"""The screen of the start page."""

SPAN = "3h"
"""The range of a fresh browser."""

NOW_EVERY_S, CHARTS_EVERY_S = 2, 5
FADES_AFTER_S = 5

OPENED = "miss"
"""In the address while a message is open."""

_QUICK = {"", "pipeline"}
"""Paths of pages that look for themselves all the time."""

_PAGE, _DOWN = "page-shown", "store-down"

V = TypeVar("V")

_DRAWN = {
    Tone.CRITICAL: (st.error, ":material/error:"),
    Tone.WARNING: (st.warning, ":material/warning:"),
    Tone.OK: (st.success, ":material/check_circle:"),
    Tone.NEUTRAL: (st.info, ":material/info:"),
}

_EXAMPLE = """\
intents:
  groups:
    urgent: [report_fraud, lost_card]
rules:
  - {name: urgent-recall, metric: recall, of: urgent, per: [variant], objective: 0.80}"""


def freeze() -> None:
    """Take all that is imported by now out of garbage collection.

    Streamlit collects after every run of a script, which would walk some hundred thousand objects
    of pandas and others each time, several times a second. Some of it is imported while the first
    page is drawn, so it is asked for before and after.
    """
    _freeze(len(sys.modules))


@st.cache_resource(show_spinner=False)
def _freeze(modules: int) -> None:
    """Once for each number of ``modules``, which soon grows no more."""
    del modules
    gc.collect()
    gc.freeze()


def steady() -> None:
    """Let what is drawn again stand as it is, unless the new picture is long in coming.

    Streamlit fades what half a second of a run has not drawn again, which on a slow line or a busy
    machine makes a page that refreshes itself flicker. It also cuts links that are wider than the
    screen, where these take another line.
    """
    late = f"[data-stale=true] {{ transition-delay: {FADES_AFTER_S}s !important }}"
    whole = "[data-testid=stPageLink-NavLink] span { white-space: normal }"
    st.html(f"<style>{late} {whole} {grids.STACKED}</style>")


def check_settings() -> None:
    """Say what is wrong with the settings, and stop, when they cannot be read."""
    try:
        source.current()
    except SettingsError as error:
        notice(Notice(Tone.CRITICAL, "The settings cannot be used.", ""))
        st.code(str(error), language=None)
        st.stop()


def sidebar(page: str) -> None:
    """The widgets that all pages share; the address holds what they say."""
    found = source.current()
    names = queries.watched_names(found.spec)
    _follow_link(page, names)
    variants = [ALL, *pictures.variants()]
    linked = st.query_params.get("variant", ALL)
    # A link may be older than this process's first look at the store.
    options = variants if linked in variants else [*variants, linked]
    with st.sidebar:
        st.selectbox("Variant", options, key="variant", bind="query-params")
        if len(names) > 1:
            st.selectbox("Watched", names, key="of", bind="query-params")
        spans = list(queries.RANGES)
        st.selectbox("Range", spans, spans.index(SPAN), key="range", bind="query-params")
        st.toggle("Live updates", value=True, key="live", bind="query-params")
        pane = words.duration(found.spec.windows.pane_ms)
        st.caption(f"All times UTC · windows of {pane} · this address shows this view again")


def tell_sample() -> None:
    """Above every page, where counts are those of a sample."""
    if said := in_words(source.current().spec.sampling):
        st.caption(f":material/filter_alt: {plain(said)}")


def _follow_link(page: str, names: Sequence[str]) -> None:
    """Let the sidebar say what a link from another page asks for.

    Within a page widgets have the last word: what they say comes before the address has changed.
    """
    if st.session_state.get(_PAGE) == page:
        return
    if _PAGE in st.session_state:
        if variant := st.query_params.get("variant"):
            st.session_state["variant"] = variant
        if len(names) > 1 and (of := st.query_params.get("of")) in names:
            st.session_state["of"] = of
    st.session_state[_PAGE] = page


def choice() -> Choice:
    """What the sidebar says; what it says at first, to a part that asks again without it."""
    names = queries.watched_names(source.current().spec)
    of = st.session_state.get("of") or (names[0] if names else "")
    return Choice(st.session_state.get("variant", ALL), of, st.session_state.get("range", SPAN))


def palette() -> Palette:
    """The colours of the viewer's theme."""
    return DARK if st.context.theme.type == "dark" else LIGHT


def refreshed(draw: Callable[[], None], every_s: int, key: str) -> None:
    """Draw, and draw again every so many seconds unless live updates are off."""
    every = every_s if st.session_state["live"] else None
    st.fragment(draw, run_every=every, key=key)()


def watched(page: str) -> None:
    """Have a page that looks rarely drawn anew as soon as the store goes away or comes back.

    Not while a message is open on it, where nothing moves.
    """
    if page not in _QUICK and not st.query_params.get(OPENED):
        st.session_state[_DOWN] = pictures.is_down()
        refreshed(_look, NOW_EVERY_S, key="store")


def _look() -> None:
    if pictures.is_down() != st.session_state[_DOWN]:
        st.rerun()


def loading(height: int, key: str) -> AbstractContextManager[object]:
    """Room for what is read within, when it is read for the first time in this session.

    Later an empty element keeps the place, so that what follows is the same elements as before.
    """
    if key in st.session_state:
        st.empty()
        return nullcontext()
    st.session_state[key] = True
    return st.skeleton(height=height)


def notice(said: Notice, *, is_listed: bool = False) -> None:
    """One notice in its tone: icon, words and colour.

    When it ``is_listed``, what its last paragraph strings together stands below each other.
    """
    show, icon = _DRAWN[said.tone]
    body = plain(said.body)
    if is_listed:
        first, gap, last = body.rpartition("\n\n")
        body = first + gap + "".join(f"- {part}\n" for part in last.split(" · "))
    show(body or " ", title=plain(said.title), icon=icon)


class _Home(st.Page):
    """The start page as the target of a link.

    Streamlit makes the address of a link from this path, and that of the start page is "": a link
    with questions alone leads from another page to that page again.
    """

    @property
    def url_path(self) -> str:
        """Relative to any page, since all stand side by side, also below a path."""
        return "./"


def link(page: str, label: str, icon: str, asking: Iterable[tuple[str, str]] = ()) -> None:
    """A link to another page, by the name of its screen, whose address shows what a click shows.

    ``asking`` is what the page is asked for; what the sidebar says stands in the address, too.
    """
    file = f"screens/{page}.py"
    asked = dict(asking)
    kept = {name: said for name, said in _sidebar_says() if name not in asked}
    st.page_link(
        _Home(file, default=True) if page == HOME else file,
        label=label, icon=icon, query_params={**asked, **kept},
    )  # fmt: skip


def _sidebar_says() -> Iterator[tuple[str, str]]:
    """What stands there otherwise than in a fresh browser, as the address has it."""
    said, names = choice(), queries.watched_names(source.current().spec)
    if said.variant != ALL:
        yield "variant", said.variant
    if said.of not in names[:1]:
        yield "of", said.of
    if said.span != SPAN:
        yield "range", said.span
    if not st.session_state.get("live", True):
        yield "live", "false"


def to_alert(alert: AlertKey) -> None:
    """A link to where the alert is handled."""
    name = fingerprint(alert)
    label = f"Alert {name}: see who handles it, acknowledge, silence"
    link("alerts", label, ":material/notifications_active:", [("alert", name)])


def misses_address(alert: AlertKey, of: str) -> tuple[tuple[str, str], ...]:
    """What the address of the page "Missed" says of an alert."""
    return ("alert", fingerprint(alert)), ("variant", alert.key.variant), ("of", of)


def to_misses(alert: AlertKey, of: str) -> None:
    """A link to the messages of ``of`` that were missed since the evidence of the alert began."""
    link("missed", "Its missed messages", ":material/person_alert:", misses_address(alert, of))


def firing() -> None:
    """A link to what fires, whatever variant is chosen, on a page about something else."""
    picture = pictures.alerts()
    view = picture.view
    up = [card for card in view.cards if card.place is Place.FIRING] if view else []
    if not up or picture.fault is not None:
        return
    more = f" {len(up) - 1} more fire." if len(up) > 1 else ""
    said = plain(f"Alert {up[0].id}: {up[0].said.title}{more}")
    link("alerts", said, ":material/error:", [("alert", up[0].id)])


def is_watching(of: str) -> bool:
    """Whether anything is watched; says what to add to the settings otherwise."""
    if of:
        return True
    notice(
        Notice(
            Tone.NEUTRAL, "Nothing is watched yet.", "Add a group and a rule to recallwatch.yaml:"
        )
    )
    st.code(_EXAMPLE, language="yaml")
    return False


def about(picture: Picture[V], freshness: Freshness | None, *, is_empty: bool) -> None:
    """Say what is missing or old: the store is away, nobody writes to it, nothing is in it."""
    if picture.fault is not None:
        notice(_unreachable(picture))
    elif is_empty:
        notice(unwritten(freshness or Freshness(None, None)))
    elif freshness is not None and (stale := staleness(freshness)) is not None:
        notice(stale)


def colours_of(picture: Picture[V]) -> Palette:
    """The viewer's palette, grey while the store is away."""
    return palette() if picture.fault is None else muted(palette())


def last_known(picture: Picture[V]) -> None:
    """Beside what is drawn from memory: when that was."""
    if picture.fault is not None and picture.read_ms is not None:
        read = words.clock_seconds(picture.read_ms, near_ms=picture.asked_ms)
        st.caption(f"last known {read}")


def chart(spec: charts.Spec, *, key: str, alt: str) -> None:
    """A chart that stays in place while its data changes."""
    st.vega_lite_chart(spec=datasets.packed(spec), key=key, alt=alt, width="stretch")


@dataclass(frozen=True, slots=True)
class Card:
    """A number with a name. ``change`` stands in a pill, with ``beside`` next to it.

    Where ``beside`` says what is compared, and it changed, the pill has an arrow and a colour.
    ``more`` is a link at the foot: the name of a screen, and its words; ``asking`` is what stands
    in its address.
    """

    label: str
    value: str
    note: str = ""
    change: str | None = None
    beside: str | None = None
    colour: Literal["normal", "inverse", "off"] = "off"
    spark: Sequence[float] = ()
    kind: Literal["line", "bar", "area"] = "line"
    hint: str | None = None
    more: tuple[str, str] | None = None
    asking: tuple[tuple[str, str], ...] = ()


def cards(of_page: Sequence[Card], *, is_down: bool) -> None:
    """The cards side by side, on a phone two in a row.

    Without the store each value is a dash, and what was last known stands below.
    """
    grid = st.grid(len(of_page), min_column_width=128, border=True)
    for card in of_page:
        with grid.cell():
            _card(_last_known(card) if is_down else card)


def _card(card: Card) -> None:
    st.metric(
        card.label, card.value, card.change,
        delta_color=card.colour,
        delta_arrow="auto" if card.beside and card.change != words.SAME else "off",
        delta_description=card.beside if card.change else None, help=card.hint,
        chart_data=list(card.spark) if len(card.spark) > 1 else None, chart_type=card.kind,
    )  # fmt: skip
    if card.note:
        # A line may end before or after the number of labels, not within.
        st.caption(plain(card.note).replace("n = ", "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"))
    if card.more:
        link(*card.more, ":material/arrow_forward:", card.asking)


def _last_known(card: Card) -> Card:
    known = card.note if card.value == words.NONE else f"last known {card.value}"
    return Card(card.label, words.NONE, known, more=card.more, asking=card.asking)


def same_numbers(rows_of: Callable[[], Sequence[tables.Row]], *, key: str) -> None:
    """The numbers of the chart above as a table, made when opened, and as a file."""
    box = st.expander("Same numbers as a table", key=f"{key}-table", on_change="rerun")
    if not box.open:
        return
    rows = rows_of()
    shares = dict.fromkeys(("Recall", "95% low", "95% high", "Labels in"), SHARE)
    with box:
        st.dataframe(
            in_percent(rows, shares), hide_index=True, height=260,
            alt="The numbers of the chart above",
            column_config={**whole_numbers(rows), "Time (UTC)": _TIME, **shares},
        )  # fmt: skip
        st.download_button(
            "CSV", tables.csv_of(rows), f"recallwatch-{key}.csv", "text/csv",
            key=f"{key}-csv", icon=":material/download:", on_click="ignore",
        )  # fmt: skip


def in_percent(rows: Sequence[tables.Row], shares: Iterable[str]) -> list[tables.Row]:
    """The rows with these shares, 0..1, as percentages: for the eye, never for a file."""
    names = set(shares)

    def shown(name: str, value: object) -> object:
        return 100 * value if name in names and isinstance(value, float | int) else value

    return [{name: shown(name, value) for name, value in row.items()} for row in rows]


def whole_numbers(rows: Sequence[tables.Row]) -> dict[str, ColumnConfig]:
    """For a table: thousands apart, as the viewer's country writes them, where all are whole."""
    names = rows[0] if rows else ()
    return {
        name: _WHOLE
        for name in names
        if all(type(row[name]) is int for row in rows)  # a bool is no number here
    }


def bars(rows: Sequence[tables.Row], of: str, most: int, colour: str) -> None:
    """A table whose last column, ``of``, is drawn as bars, the longest for ``most``."""
    names = [name for name in rows[0] if name != of]
    head = "".join(f'<th scope="col" style="{_CELL}">{escape(name)}</th>' for name in names)
    body = ""
    for row in rows:
        cells = "".join(f'<td style="{_CELL}">{escape(str(row[name]))}</td>' for name in names)
        body += f"<tr>{cells}{_bar(int(str(row[of])), most, colour)}</tr>"
    last = f'<th scope="col" style="{_CELL};width:38%">{escape(of)}</th>'
    style = "width:100%;border-collapse:collapse;font-size:.9rem"
    st.html(f'<table style="{style}"><tr>{head}{last}</tr>{body}</table>')


def _bar(n: int, most: int, colour: str) -> str:
    length = f"width:{100 * n / most:.0f}%;background:{colour};height:.5rem;border-radius:.25rem"
    track = f'<span style="flex:1"><span style="display:block;{length}"></span></span>'
    count = f'<span style="min-width:1.5rem;text-align:right">{words.count(n)}</span>'
    row = "display:flex;align-items:center;gap:.6rem;font-variant-numeric:tabular-nums"
    return f'<td style="{_CELL}"><span style="{row}">{track}{count}</span></td>'


def equation(left: tuple[str, int], right: Sequence[tuple[str, int]], difference: int) -> None:
    """A balance: what came in on the left, what it has become on the right."""
    said = ["+"] * len(right)
    said[0] = "=" if difference == 0 else "≠"
    terms = [_term(left)]
    for sign, term in zip(said, right, strict=True):
        terms += [f'<span style="font-size:1.3rem;opacity:.75">{sign}</span>', _term(term)]
    style = "display:flex;flex-wrap:wrap;gap:.35rem 1rem;align-items:center"
    st.html(f'<div style="{style}">{"".join(terms)}</div>')


def _term(term: tuple[str, int]) -> str:
    name, n = term
    return (
        '<span style="display:inline-flex;flex-direction:column">'
        f'<span style="font-size:1.35rem;font-variant-numeric:tabular-nums">{words.count(n)}</span>'
        f'<span style="font-size:.85rem;opacity:.8">{escape(name)}</span></span>'
    )


def _unreachable(picture: Picture[V]) -> Notice:
    shown = "live numbers are hidden"
    if picture.read_ms is not None:
        read = words.clock_seconds(picture.read_ms, near_ms=picture.asked_ms)
        shown = f"last known values of {read}"
    body = f"{picture.fault} · retrying every {NOW_EVERY_S} s"
    return Notice(Tone.CRITICAL, f"Redis is unreachable — {shown}.", body)


def plain(text: str) -> str:
    """Text with nothing that Markdown would take for a mark: names come from outside."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>#|~$:" else sign for sign in text)


_CELL = (
    "text-align:left;padding:.45rem .6rem .45rem 0;border-bottom:1px solid #8884;"
    "overflow-wrap:anywhere"
)
_TIME = st.column_config.DatetimeColumn(timezone="UTC", format="YYYY-MM-DD HH:mm:ss")
_WHOLE = st.column_config.NumberColumn(format="localized")
SHARE = st.column_config.NumberColumn(format="%.1f%%")
"""Of a column that ``in_percent`` has made: always one decimal, as in words."""
