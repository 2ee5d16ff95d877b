"""Sections of the page "Alerts".

A dialog belongs to the whole page and not to the part that is drawn anew every few seconds, which
would close it: a button says what is asked for, and the page opens the dialog.
"""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Literal

import streamlit as st

from dashboards import acting, alerts_tables, banner, identity, pictures, source, words
from dashboards.alerts_models import AlertCard, AlertsView, Entry, Place
from dashboards.banner import Notice
from dashboards.identity import Viewer
from dashboards.theme import Tone
from dashboards.views import common
from monitor.domain.errors import ActRefused, StoreError
from monitor.domain.overlays import Deed, Silence
from monitor.domain.slices import ALL
from monitor.domain.windows import HOUR_MS, MINUTE_MS, pane_start

EVERY_S = 5
CARDS_HEIGHT = 150
LENGTHS: Mapping[str, int] = {"30 min": 30 * MINUTE_MS, "1 h": HOUR_MS, "4 h": 4 * HOUR_MS}
MOST_KNOWN, MOST_ACTS, MOST_NOTE = 8, 200, 200

_ASKED, _OPENING, _SAID = "alerts-asked", "alerts-opening", "alerts-said"
BadgeColour = Literal["red", "orange", "violet", "green", "gray"]
_BADGES: Mapping[Place, tuple[str, BadgeColour]] = {
    Place.FIRING: (":material/error:", "red"),
    Place.RECOVERING: (":material/trending_up:", "orange"),
    Place.WARNING: (":material/warning:", "orange"),
    Place.NO_DATA: (":material/help:", "gray"),
    Place.SILENCED: (":material/notifications_off:", "violet"),
    Place.RESOLVED: (":material/check_circle:", "green"),
    Place.WELL: (":material/check_circle:", "green"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a button asks for. ``seen`` is the last act that the viewer knew of then."""

    deed: Deed
    title: str
    about: str
    target: str = ""
    raised: str = ""
    matchers: tuple[tuple[str, str], ...] = ()
    seen: str = ""


def page() -> None:
    """The whole page: cards, silences, what people did, and the dialog that is open."""
    mark = st.query_params.get("alert", "")
    common.refreshed(partial(_board, mark), EVERY_S, key="alerts")
    view = pictures.alerts().view
    asked_for = view.named(mark) if view and mark else None
    if asked_for is not None:
        st.html(_FOCUS.replace("ALERT", asked_for.id), unsafe_allow_javascript=True)
    if said := st.session_state.pop(_SAID, None):
        st.toast(said, icon=":material/check:")
    asked: Asked | None = st.session_state.get(_ASKED)
    if asked is not None:
        _dialog(asked)


_FOCUS = """
<style>.st-key-alert-ALERT{outline:2px solid currentColor;outline-offset:3px}</style>
<script>
(() => {
  let tries = 0;
  const look = () => {
    const card = document.querySelector(".st-key-alert-ALERT");
    if (card) {
      card.tabIndex = -1;
      card.setAttribute("role", "group");
      card.setAttribute("aria-label", "Alert ALERT");
      card.scrollIntoView({block: "center"});
      card.focus({preventScroll: true});
    } else if (tries++ < 100) {
      setTimeout(look, 50);
    }
  };
  look();
})();
</script>"""
"""Moves the focus to a card. ALERT stands for the id of an alert that is there: hex digits."""


def _board(mark: str) -> None:
    if st.session_state.pop(_OPENING, False):
        st.rerun()
    with common.loading(CARDS_HEIGHT, "alerts-drawn"):
        picture = pictures.alerts()
    view = picture.view
    is_empty = view is not None and view.freshness.as_of_ms is None
    common.about(picture, view.freshness if view else None, is_empty=is_empty)
    if view is None:
        return
    if is_empty:
        _before_any(view)
        return
    viewer, is_down = identity.viewer(), picture.fault is not None
    _viewer(viewer)
    if mark and view.named(mark) is None:
        common.notice(_unknown(view, mark))
    if not view.is_any_up:
        _calm(view, is_down=is_down)
    can_act = viewer.name is not None and not is_down
    for card in view.shown(mark):
        _card(_of_then(card) if is_down else card, view, can_act=can_act)
    if viewer.name is None:
        _unnamed(viewer, view)
    _silences(view, can_act=can_act)
    _trail(view.trail)
    common.last_known(picture)


def _before_any(view: AlertsView) -> None:
    """What is there before any record: rules of which nobody knows anything, and silences."""
    if not view.cards:
        common.is_watching("")
        return
    rules = words.count(len(view.cards))
    watch = "rule waits" if len(view.cards) == 1 else "rules wait"
    st.caption(f"No rule was evaluated yet: {rules} {watch} for the first record.")
    _silences(view, can_act=False)
    _trail(view.trail)


def _viewer(viewer: Viewer) -> None:
    st.caption("All rules and variants, whatever is chosen in the sidebar.")
    if viewer.name is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(f"<span>What you do here is entered as <b>{escape(viewer.name)}</b>.</span>")
        if source.current().settings.dashboard.identity.oidc is not None:
            st.button("Log out", on_click=st.logout, type="tertiary")


def _unnamed(viewer: Viewer, view: AlertsView) -> None:
    """Why there are no buttons, and what does the same; below the alerts, which come first."""
    waiting = [c for c in view.cards if c.is_up and c.overlays.acknowledged is None]
    title, body = "You can look, but not act.", f"{viewer.reason} An act needs a name beside it."
    if not waiting:
        st.caption(common.plain(f"{title} {body}"))
    else:
        does = f"{body} On the machine of the settings this does the same:"
        common.notice(Notice(Tone.NEUTRAL, title, does))
        command = acknowledgement_command(waiting[0].id, source.current().config)
        st.code(command, language=None, wrap_lines=True)
    if viewer.can_log_in and st.button("Log in", icon=":material/login:"):
        st.login()


def acknowledgement_command(alert: str, config: Path | None) -> str:
    """What to type to take on an alert, as it stands; ``config`` is the file of the settings."""
    file = f" --config {shlex.quote(str(config.absolute()))}" if config else ""
    return f'recallwatch alerts ack {alert} --note "looking into it"{file}'


def _unknown(view: AlertsView, mark: str) -> Notice:
    known = [card.id for card in view.shown("")] or [card.id for card in view.cards]
    more = f" and {len(known) - MOST_KNOWN} more" if len(known) > MOST_KNOWN else ""
    body = f"Known are: {', '.join(known[:MOST_KNOWN])}{more}." if known else "There is none yet."
    return Notice(Tone.WARNING, f"There is no alert {words.one_line(mark)}.", body)


def _calm(view: AlertsView, *, is_down: bool) -> None:
    """That nothing is up, which is green only where that is known."""
    if not view.cards:
        common.is_watching("")
        return
    if view.evaluated_ms is None:
        body = banner.unevaluated(view.freshness, view.unread)
        common.notice(Notice(Tone.NEUTRAL, banner.UNEVALUATED, body))
        return
    title, is_sure = "Nothing is firing.", view.is_calm
    if view.freshness.is_stale or is_down:
        title, is_sure = "Last known state: nothing is firing.", False
    elif not view.is_complete:
        title, is_sure = "As far as counted: nothing is firing.", False
    tone = Tone.OK if is_sure else Tone.NEUTRAL
    common.notice(Notice(tone, title, " ".join(_calm_words(view, is_down=is_down))))


def _calm_words(view: AlertsView, *, is_down: bool) -> Iterator[str]:
    """What was up last, and how fresh it is that nothing is."""
    fresh = view.freshness
    if view.last is not None:
        at = words.clock(view.last.at_ms, near_ms=fresh.as_of_ms)
        yield f"Last alert {view.last.id} resolved {at}."
    if view.evaluated_ms is not None:
        at = words.clock_seconds(view.evaluated_ms, near_ms=fresh.now_ms)
        yield f"Rules evaluated up to {at}."
    if fresh.age_ms is not None and not is_down:
        yield f"A worker reported {words.duration(max(1000, fresh.age_ms))} ago."


def _of_then(card: AlertCard) -> AlertCard:
    """As it was when the store last answered, and says so."""
    return replace(card, said=banner.last_known(card.said), badge=f"{card.badge}, last known")


def _card(card: AlertCard, view: AlertsView, *, can_act: bool) -> None:
    icon, colour = _BADGES[card.place]
    with st.container(border=True, key=f"alert-{card.id}", gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(card.badge, icon=icon, color=colour)
            st.html(
                f'<h2 style="{_HEADING}">{card.id} · {escape(words.one_line(card.rule))}</h2>',
                width="content",
            )
        st.html(_text(card, view))
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            if can_act:
                _buttons(card, view)
            _links(card, view)


def _text(card: AlertCard, view: AlertsView) -> str:
    """State, value with interval and n, since when, and who handles it."""
    parts = [f"<strong>{escape(card.said.title)}</strong>"]
    parts += [escape(part) for part in card.said.body.split("\n\n") if part]
    if taken := card.was_taken:
        at = words.clock(taken.at_ms, near_ms=view.freshness.as_of_ms)
        parts.append(f"Was acknowledged by {escape(taken.who)} at {at}")
    return "".join(f'<p style="{_LINE}">{part}</p>' for part in parts)


def _buttons(card: AlertCard, view: AlertsView) -> None:
    seen = view.trail[0].action.id if view.trail else ""
    ask = partial(Asked, about=card.said.title, target=card.id, raised=card.raised, seen=seen)
    if card.is_up and card.overlays.acknowledged is None:
        asked = ask(Deed.ACKNOWLEDGE, f"Acknowledge {card.id}")
        _button("Acknowledge…", asked, ":material/check:", f"ack-{card.id}")
    if (silence := card.overlays.silenced) is not None:
        _button("End silence…", _ending(silence), ":material/notifications:", f"end-{card.id}")
    elif card.place in {Place.FIRING, Place.RECOVERING, Place.WARNING, Place.NO_DATA}:
        asked = ask(Deed.SILENCE, f"Silence {card.id}", matchers=card.matchers)
        _button("Silence…", asked, ":material/notifications_off:", f"silence-{card.id}")


def _button(label: str, asked: Asked, icon: str, key: str) -> None:
    # Not a primary one: Streamlit writes white on the light blue of the dark theme.
    st.button(label, key=key, icon=icon, on_click=_ask, args=(asked,))


def _links(card: AlertCard, view: AlertsView) -> None:
    about = [("variant", card.variant), *([("of", card.of)] if card.of else [])]
    if card.mark:
        at_ms = pane_start(card.mark_ms, view.pane_ms) + view.pane_ms
        asked = [("at", words.link(at_ms)), ("alert", card.mark), *about]
        common.link("replay", "Replay", ":material/history:", asked)
    if card.misses_of:
        asked = [("alert", card.id), *about]
        common.link("missed", "Missed messages", ":material/person_alert:", asked)
    whose = "" if card.variant == ALL else f" of {words.one_line(card.variant)}"
    name = common.plain(f"Charts{whose}")
    common.link(common.HOME, name, ":material/monitor_heart:", about)
    if card.runbook.startswith(("http://", "https://")):
        st.link_button("Runbook", card.runbook, icon=":material/menu_book:", type="tertiary")
    elif card.runbook:
        st.html(f"<span>Runbook: {escape(card.runbook)}</span>")


def _silences(view: AlertsView, *, can_act: bool) -> None:
    if not view.silences:
        return
    st.header("Silences that hold", anchor=False)
    for silence in view.silences:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.html(f"<span>{escape(_silence_text(silence, view.freshness.as_of_ms))}</span>")
            if can_act:
                key = f"end-silence-{silence.id}"
                _button("End…", _ending(silence), ":material/notifications:", key)


def _silence_text(silence: Silence, near_ms: int | None) -> str:
    until = words.clock(silence.until_ms, near_ms=near_ms)
    who, why = words.one_line(silence.who), words.one_line(silence.note)
    return f"{_matchers_text(silence.matchers)} · until {until} · by {who}: {why} · {silence.id}"


def _matchers_text(matchers: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {words.one_line(value)}" for name, value in matchers)


def _ending(silence: Silence) -> Asked:
    about = _matchers_text(silence.matchers)
    return Asked(Deed.UNSILENCE, f"End silence {silence.id}", about, silence.id)


def _trail(trail: Sequence[Entry]) -> None:
    st.header("What people did", anchor=False)
    if not trail:
        st.caption("Nobody has acknowledged or silenced anything yet.")
        return
    st.dataframe(
        alerts_tables.trail(trail[:MOST_ACTS]), hide_index=True, key="alerts-trail",
        alt="What people did about alerts, the newest first", placeholder=words.NONE,
        column_config={"Time (UTC)": _TIME, "Until (UTC)": _TIME},
    )  # fmt: skip
    if len(trail) > MOST_ACTS:
        st.caption(f"The latest {MOST_ACTS} of {words.count(len(trail))}; the files have all.")
    with st.container(horizontal=True):
        for name, kind, data in (
            ("CSV", "text/csv", partial(alerts_tables.trail_csv, trail)),
            ("JSON", "application/json", partial(alerts_tables.trail_json, trail)),
        ):
            st.download_button(
                f"Trail ({name})", data, f"recallwatch-trail.{name.lower()}", kind,
                key=f"alerts-{name}", icon=":material/download:", on_click="ignore",
            )  # fmt: skip


def _ask(asked: Asked) -> None:
    st.session_state[_ASKED], st.session_state[_OPENING] = asked, True


def _close() -> None:
    st.session_state.pop(_ASKED, None)


def _dialog(asked: Asked) -> None:
    """The dialog for what is asked for; it closes when that has been entered, or by Escape."""
    forms = {
        Deed.ACKNOWLEDGE: _acknowledge,
        Deed.SILENCE: _silence,
        Deed.UNSILENCE: _unsilence,
    }
    st.dialog(asked.title, on_dismiss=_close)(forms[asked.deed])(asked)


def _carry_out(act: Callable[[], object], said: str) -> None:
    """Close the dialog once it is entered; else say in it what was wrong."""
    try:
        act()
    except ActRefused as refused:
        common.notice(Notice(Tone.WARNING, "Nothing was done.", f"{refused}."))
    except StoreError as error:
        title = "It is not known whether this was entered."
        body = f"{error} Trying again does no harm: it is entered once."
        common.notice(Notice(Tone.CRITICAL, title, body))
    else:
        pictures.forget_alerts()
        _close()
        st.session_state[_SAID] = said
        st.rerun()


def _acknowledge(asked: Asked) -> None:
    st.html(f"<p>{escape(asked.about)}</p>")
    with st.form("alerts-acknowledge", border=False):
        note = st.text_input("What you do about it", key="alerts-note", max_chars=MOST_NOTE)
        if st.form_submit_button("Acknowledge", icon=":material/check:"):
            act = partial(acting.acknowledge, asked.target, asked.raised, note)
            _carry_out(act, f"Alert {asked.target} is acknowledged.")


def _silence(asked: Asked) -> None:
    st.html(
        f"<p>Mutes {escape(_matchers_text(asked.matchers))}. Nobody is told of it for so long; "
        "rules are evaluated and shown as before.</p>"
    )
    with st.form("alerts-silence", border=False):
        length = st.radio("For how long", list(LENGTHS), key="alerts-length", horizontal=True)
        note = st.text_input("Why nobody need hear of it", key="alerts-why", max_chars=MOST_NOTE)
        if st.form_submit_button("Silence", icon=":material/notifications_off:"):
            act = partial(
                acting.silence, dict(asked.matchers), LENGTHS[length], note, seen=asked.seen
            )
            _carry_out(act, f"Alert {asked.target} is silenced for {length}.")


def _unsilence(asked: Asked) -> None:
    st.html(f"<p>{escape(asked.about)}. What still fires is told at once.</p>")
    with st.form("alerts-unsilence", border=False):
        note = st.text_input("Why (may be empty)", key="alerts-end", max_chars=MOST_NOTE)
        if st.form_submit_button("End silence", icon=":material/notifications:"):
            act = partial(acting.unsilence, asked.target, note)
            _carry_out(act, f"Silence {asked.target} has ended.")


_HEADING = "font-size:1.05rem;font-weight:650;margin:0;padding:0"
_LINE = "margin:0 0 .3rem 0;overflow-wrap:anywhere"
_TIME = st.column_config.DatetimeColumn(timezone="UTC", format="YYYY-MM-DD HH:mm:ss")
