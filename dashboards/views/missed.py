"""Sections of the page "Missed urgent".

The address names the miss that somebody looks at; while it names one nothing is refreshed, so that
neither the list nor a text that was revealed moves under a reader's eyes.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Literal

import streamlit as st

from dashboards import identity, missed_tables, pictures, source, tables, words
from dashboards.banner import Notice
from dashboards.missed_models import Missed, Order, Shown
from dashboards.models import Choice
from dashboards.theme import Tone
from dashboards.views import common
from dashboards.views.common import Card
from monitor.domain import overlays
from monitor.domain.errors import ActRefused, RecallwatchError, StoreError
from monitor.domain.events import Intent
from monitor.domain.misses import Case
from monitor.domain.overlays import Action
from monitor.domain.slices import ALL
from monitor.ports import MISSES_KEPT

EVERY_S = 10
CARDS_HEIGHT = 120
EVERY_INTENT = "every intent"
EVERY_MISS = "all misses"
PAUSED = (
    "Updates are paused while a message is open: counts and list stand still until you go back to "
    "the list."
)
ID_DIGITS = 16
MOST_ROWS = 10
"""Of the list that are seen at once."""

_CHOSEN, _SHOWN, _INTENT, _ALERT, _ORDER = common.OPENED, "show", "intent", "alert", "order"
_TOLD, _LISTS = "missed-told", "missed-lists"
_TIME = st.column_config.DatetimeColumn(timezone="UTC", format="YYYY-MM-DD HH:mm:ss")


_FACTS = "display:flex;flex-wrap:wrap;gap:.7rem 2rem;margin:0;padding:0"
_TERM = "font-size:.85rem;opacity:.8"
_FACT = "margin:0;overflow-wrap:anywhere"


def page(choice: Choice) -> None:
    """The whole page: the list, then the message that is looked at."""
    picture, chosen = pictures.missed(choice), st.query_params.get(_CHOSEN, "")
    is_still = chosen and picture.view is not None
    every_s = EVERY_S if st.session_state["live"] and not is_still else None
    st.fragment(partial(_list, choice, chosen), run_every=every_s, key="missed")()
    if chosen and picture.view is not None:
        _details(picture.view, chosen)


def _list(choice: Choice, chosen: str) -> None:
    with common.loading(CARDS_HEIGHT, "missed-drawn"):
        picture = pictures.missed(choice)
    view = picture.view
    if view is None:
        common.about(picture, None, is_empty=False)
        return
    if pictures.note_variants(view.variants):
        st.rerun()
    is_empty = view.freshness.as_of_ms is None
    common.about(picture, view.freshness, is_empty=is_empty)
    if is_empty:
        return
    _drawn(view, choice, chosen, is_down=picture.fault is not None)
    common.last_known(picture)
    if st.query_params.get(_CHOSEN, "") != chosen:
        # The rest of the page depends on it, and whether the list moves.
        st.rerun()


def _drawn(every: Missed, choice: Choice, chosen: str, *, is_down: bool) -> None:
    """The answer, the numbers and the list, of one alert alone where that is asked for."""
    top = st.container()
    mark = _asked_alert(every)
    view = every.of_alert(every.alert(mark))
    with top:
        if not is_down:
            common.notice(standing(view))
        st.caption(common.plain(scope_text(every, choice, mark)))
        if view.cases:
            common.cards(_cards(view), is_down=is_down)
        if chosen:
            st.caption(PAUSED)
    if view.cases:
        _table(view, chosen, mark)


def _asked_alert(view: Missed) -> str:
    """The id of the alert whose misses are asked for, "" for all misses."""
    linked = st.query_params.get(_ALERT, EVERY_MISS)
    known = [alert.id for alert in view.alerts]
    if not known and linked == EVERY_MISS:
        return ""
    options = known if linked in {*known, EVERY_MISS} else [*known, linked]
    mark = st.selectbox(
        "Of alert", [EVERY_MISS, *options], key=_ALERT, bind="query-params", width=260
    )
    return "" if mark == EVERY_MISS else mark


def scope_text(view: Missed, choice: Choice, mark: str) -> str:
    """Which misses are counted and listed: of whom, and since when."""
    alert = view.alert(mark)
    of = "all variants" if choice.variant == ALL else choice.variant
    kept = f"All missed {view.of} messages that are kept, {of}, whatever the range in the sidebar."
    if alert is None:
        unknown = f"No alert {mark} about {view.of} is known. " if mark else ""
        return f"{unknown}{kept}"
    since = words.clock(alert.since_ms, near_ms=view.now_ms)
    said = f"Of alert {alert.id} on {alert.whose}: sent since {since}, when its evidence begins"
    if alert.until_ms is not None:
        said += f", and before {words.clock(alert.until_ms, near_ms=view.now_ms)}, when it was over"
    if alert.variant not in {ALL, choice.variant} and choice.variant != ALL:
        said += f"; none of them is of {choice.variant}, which is chosen in the sidebar"
    return f"{said}. The range in the sidebar changes nothing."


def standing(view: Missed) -> Notice:
    """The answer in a sentence, or why there is none."""
    if not view.is_listed:
        return Notice(
            Tone.NEUTRAL,
            f"{view.of} is no declared group, so that its misses are not listed.",
            "Declare it in intents.groups; the Live page counts them.",
        )
    if not view.labelled:
        return Notice(Tone.NEUTRAL, "No labels yet: nobody knows who was missed.", "")
    if view.open:
        return _waiting(view)
    n = len(view.handled)
    tone = Tone.NEUTRAL if view.freshness.is_stale else Tone.OK
    if not n:
        said = f"{words.count(view.labelled)} messages are labelled so far."
        return Notice(tone, f"No missed {view.of} message is known.", said)
    them = "The one missed" if n == 1 else f"All {words.count(n)} missed"
    return Notice(tone, f"{them} {view.of} message{'s' * (n > 1)} handled.", "")


def _waiting(view: Missed) -> Notice:
    n, oldest = len(view.open), view.open[0]
    wait = words.duration(oldest.waited_ms(view.now_ms))
    waits = "message waits" if n == 1 else "messages wait"
    return Notice(
        Tone.CRITICAL,
        f"{words.count(n)} missed {view.of} {waits} for somebody, the oldest for {wait}.",
        f"Sent {words.clock(oldest.miss.event_ms, near_ms=view.now_ms)}: {_way(oldest)}"
        f" · variant {words.one_line(oldest.miss.variant)}",
    )


def _way(case: Case) -> str:
    return f"{words.one_line(case.miss.actual)} → {words.one_line(case.miss.predicted)}"


def _cards(view: Missed) -> list[Card]:
    opened, handled = view.open, view.handled
    oldest = words.duration(opened[0].waited_ms(view.now_ms)) if opened else words.NONE
    since = min(case.miss.event_ms for case in view.cases)
    kept = f"since {words.clock(since, near_ms=view.now_ms)}"
    if view.is_full:
        kept = f"the newest {words.count(MISSES_KEPT)} or more; older ones are let go"
    return [
        Card("Open", words.count(len(opened)), "nobody has seen to them"),
        Card("Oldest open", oldest, "since the message was sent"),
        Card("Handled", words.count(len(handled)), f"of {words.count(len(view.cases))} missed"),
        Card(f"Missed {view.of}", words.count(len(view.cases)), kept),
    ]


def _table(view: Missed, chosen: str, mark: str) -> None:
    shown, intent, order = _asked(view)
    listed = view.listed(shown, intent, order)
    if not listed:
        common.notice(Notice(Tone.NEUTRAL, "Nothing is listed with this choice.", ""))
        return
    references = [case.miss.reference for case in listed]
    rows = missed_tables.cases(listed, view.now_ms)
    # While nothing is marked the table stays the same one as rows come, so that it keeps the order
    # that its head was clicked for. A row is marked by its number, which means something else in
    # another list: with a mark, another list is another table.
    marks = "".join(references) if chosen else ""
    what = f"{mark}\n{shown}\n{intent}\n{order}\n{marks}"
    digest = hashlib.sha256(what.encode()).hexdigest()[:ID_DIGITS]
    key = f"missed-{digest}-{st.session_state.get(_LISTS, 0)}"
    at = [references.index(chosen)] if chosen in references else []
    st.dataframe(
        rows, hide_index=True, height=_height(len(rows)), key=key,
        on_select=partial(_marked, key, references), selection_mode="single-row",
        selection_default={"selection": {"rows": at}},
        alt=f"Missed {view.of} messages, open ones first, the {order}",
        column_config={"Time (UTC)": _TIME},
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _chooser(listed, chosen)
        st.download_button(
            "CSV", tables.csv_of(missed_tables.download(listed, view.now_ms)),
            "recallwatch-missed.csv", "text/csv", key="missed-csv",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip


def _asked(view: Missed) -> tuple[Shown, Intent | None, Order]:
    intents = sorted({case.miss.actual for case in view.cases})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        shown = st.radio(
            "Show", list(map(str, Shown)), key=_SHOWN, bind="query-params", horizontal=True
        )
        linked = st.query_params.get(_INTENT, EVERY_INTENT)
        known = intents if linked in {*intents, EVERY_INTENT} else [*intents, linked]
        intent = st.selectbox(
            "True intent", [EVERY_INTENT, *known], key=_INTENT, bind="query-params", width=260
        )
        order = st.selectbox(
            "Order", list(map(str, Order)), key=_ORDER, bind="query-params", width=160
        )
    return Shown(shown), None if intent == EVERY_INTENT else intent, Order(order)


def _chooser(listed: tuple[Case, ...], chosen: str) -> None:
    """The same as marking a row, for those who do not point."""
    titles = {case.miss.reference: _title(case) for case in listed}
    st.session_state["missed-one"] = chosen if chosen in titles else None
    st.selectbox(
        "Look at one", list(titles), key="missed-one", format_func=titles.__getitem__,
        on_change=_picked, placeholder="mark a row, or choose here", width=380,
    )  # fmt: skip


def _title(case: Case) -> str:
    return f"{words.moment(case.miss.event_ms)} · {_way(case)}"


def _picked() -> None:
    _look_at(st.session_state["missed-one"])


def _look_at(reference: str | None) -> None:
    """Beside the list, which therefore has to be marked anew."""
    st.session_state[_LISTS] = st.session_state.get(_LISTS, 0) + 1
    _address(reference)


def _marked(key: str, references: list[str]) -> None:
    rows = st.session_state[key].selection.rows
    _address(references[rows[0]] if rows and rows[0] < len(references) else None)


def _address(reference: str | None) -> None:
    if reference:
        st.query_params[_CHOSEN] = reference
    else:
        st.query_params.pop(_CHOSEN, None)


def _details(view: Missed, chosen: str) -> None:
    case = view.find(chosen)
    st.header("The message")
    if case is None:
        said = (
            "Its label was corrected, another variant or group is chosen, or it is older than "
            "what is kept."
        )
        common.notice(Notice(Tone.NEUTRAL, "No such missed message is known.", said))
    else:
        _facts(case, view)
        _text(case)
        _trail(case)
        _acts(case)
    st.button("Back to the list", key="missed-back", on_click=_look_at, args=(None,))


def _facts(case: Case, view: Missed) -> None:
    miss, wait = case.miss, words.duration(case.waited_ms(view.now_ms))
    known = words.clock(miss.known_ms, near_ms=miss.event_ms)
    facts = {
        "Sent": words.moment(miss.event_ms),
        "True intent": miss.actual,
        "Sent to": miss.predicted,
        "State": missed_tables.state(case),
        "Waiting" if case.is_open else "Waited": wait,
        "Ticket": case.handling.ticket or words.NONE,
        "Truth known": f"{known}, by a label given {words.span(miss.delay_ms)} after the message",
        "Variant": miss.variant,
        "Prediction": miss.prediction_id,
    }
    cells = "".join(
        f'<div><dt style="{_TERM}">{escape(name)}</dt>'
        f'<dd style="{_FACT}">{escape(words.one_line(said))}</dd></div>'
        for name, said in facts.items()
    )
    st.html(f'<dl style="{_FACTS}">{cells}</dl>')


def _text(case: Case) -> None:
    """Masked, or once, right after somebody asked for it, as it was written."""
    told: tuple[str, str] | Notice | None = st.session_state.pop(_TOLD, None)
    if isinstance(told, Notice):
        common.notice(told)
    if isinstance(told, tuple) and told[0] == case.miss.reference:
        st.caption("Text, shown once: it is gone with your next step.")
        st.code(told[1], language=None, wrap_lines=True)
    else:
        st.caption(f"Text: {missed_tables.MASKED} masked")


def _trail(case: Case) -> None:
    lines = list(missed_tables.trail(case))
    if lines:
        st.subheader("What was done")
        for line in lines:
            st.text(line)


def _acts(case: Case) -> None:
    name, reason, _ = identity.viewer()
    if name is None or source.current().act is None:
        said = "Handling a message and looking at its text are entered with a name."
        common.notice(Notice(Tone.NEUTRAL, f"You can only look at it. {reason}", said))
        return
    left, right = st.columns(2, gap="large")
    with left:
        if case.is_open:
            _handling(case, name)
        else:
            _reopening(case, name)
    with right:
        _revealing(case, name)


def _handling(case: Case, name: str) -> None:
    with st.form("missed-handle", clear_on_submit=True):
        ticket = st.text_input("Ticket", placeholder="optional", max_chars=80)
        note = st.text_input("Note", placeholder="optional", max_chars=500)
        if st.form_submit_button("Mark as handled", icon=":material/check_circle:"):
            _enter(case, name, partial(overlays.handle, ticket=ticket), note)


def _reopening(case: Case, name: str) -> None:
    with st.form("missed-reopen", clear_on_submit=True):
        note = st.text_input("Reason", placeholder="why it is not handled", max_chars=500)
        if st.form_submit_button("Open it again", icon=":material/undo:"):
            _enter(case, name, overlays.reopen, note)


def _revealing(case: Case, name: str) -> None:
    with st.form("missed-reveal", clear_on_submit=True):
        note = st.text_input("Reason", placeholder="why you need to see it", max_chars=500)
        st.caption(f"Entered for good: {common.plain(name)}, the time and the reason.")
        if st.form_submit_button("Show the text", icon=":material/visibility:"):
            _enter(case, name, overlays.reveal, note, is_reveal=True)


def _enter(
    case: Case, name: str, deed: Callable[..., Action], note: str, *, is_reveal: bool = False
) -> None:
    """Enter a deed and draw what it has changed; a text is read once it stands in the store.

    A second click on the same picture is the same deed: its id says so.
    """
    found, reference = source.current(), case.miss.reference
    told: Notice | tuple[str, str] | None = None
    try:
        action = deed(
            action_id=id_of(case, name, is_reveal=is_reveal), reference=reference, who=name,
            note=note, at_ms=found.now_ms(),
        )  # fmt: skip
        if found.act is not None:
            found.act(action)
        told = _read(case) if is_reveal else None
    except ActRefused as refused:
        told = Notice(Tone.WARNING, f"Not entered: {refused}.", "")
    except StoreError as error:
        told = Notice(Tone.CRITICAL, "Not entered, and not shown: the store failed.", str(error))
    st.session_state[_TOLD] = told
    pictures.missed_anew()
    st.rerun()


def id_of(case: Case, name: str, *, is_reveal: bool) -> str:
    """The id of the next deed of a person about a miss, as it stands on their screen."""
    what = f"{case.miss.reference}\n{name}\n{len(case.handling.actions)}\n{is_reveal}"
    return hashlib.sha256(what.encode()).hexdigest()[:ID_DIGITS]


def _read(case: Case) -> Notice | tuple[str, str]:
    read = source.current().text_of
    if read is None:
        return Notice(Tone.NEUTRAL, "There is no log here that could be read.", "")
    try:
        text = read(case.miss)
    except RecallwatchError as error:
        return Notice(Tone.CRITICAL, "The log or its archive cannot be read.", str(error))
    has_archive = source.current().settings.dashboard.archive is not None
    if text is None and has_archive:
        said = "Kafka had dropped it before it was archived."
        return Notice(Tone.NEUTRAL, "Neither the log nor the archive has this message.", said)
    if text is None:
        said = "Its retention is over, and no archive is set (dashboard.archive)."
        return Notice(Tone.NEUTRAL, "The log no longer has this message.", said)
    if not text:
        said = "Or it was removed from the archive at a request." if has_archive else ""
        return Notice(Tone.NEUTRAL, "The record has no text: none was sent with it.", said)
    return case.miss.reference, text


def _height(rows: int) -> int | Literal["content"]:
    return "content" if rows <= MOST_ROWS else 36 * (MOST_ROWS + 1)
