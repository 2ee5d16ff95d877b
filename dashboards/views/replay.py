"""Sections of the page "Replay and audit".

The address holds instant and alert; widgets are set from it, and write to it, before each run.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from html import escape

import streamlit as st

from dashboards import bundle, charts, pictures, replay_tables, source, words
from dashboards.banner import Notice
from dashboards.models import Choice
from dashboards.recompute import Answer, Desk, Progress, Question
from dashboards.replay_models import (
    Ask,
    GroupScore,
    Known,
    Moments,
    Numbers,
    Proof,
    Replayed,
    Standing,
)
from dashboards.replay_queries import name_of
from dashboards.theme import Palette, Tone
from dashboards.views import common
from dashboards.views.common import Card
from monitor.codec.journal import pack_journal_entry
from monitor.domain.alerts import Event, Status, Transition
from monitor.domain.windows import HOUR_MS, MINUTE_MS

STEPS = (
    ("−1 h", -HOUR_MS),
    ("−5 min", -5 * MINUTE_MS),
    ("+5 min", 5 * MINUTE_MS),
    ("+1 h", HOUR_MS),
)
MOST_MOVES = 200
MOST_STANDINGS = 8
CARDS_HEIGHT = 190
RECOMPUTING_EVERY_S = 1
DIGEST = 16
"""Characters of a digest that are shown; the bundle and the entry have all of them."""

_TONES = {
    Status.FIRING: Tone.CRITICAL,
    Status.RECOVERING: Tone.WARNING,
    Status.WARNING: Tone.WARNING,
    Status.OK: Tone.OK,
    Status.NO_DATA: Tone.NEUTRAL,
}


def page(choice: Choice) -> None:
    """The whole page."""
    with common.loading(CARDS_HEIGHT, "replay-drawn"):
        found = pictures.moments()
    if found.view is None or found.view.newest_ms is None:
        common.about(found, None, is_empty=found.view is not None)
        return
    at_ms = _asked_ms(found.view)
    _controls(found.view, at_ms)
    known = Known(st.session_state.get("known") or Known.THEN)
    picture = pictures.replayed(choice, Ask(at_ms, known))
    common.about(picture, None, is_empty=False)
    if picture.view is None:
        return
    if pictures.note_variants(picture.view.variants):
        st.rerun()
    _band(picture.view)
    if picture.view.at_ms != at_ms:
        shown = words.moment(picture.view.at_ms)
        pane = words.duration(picture.view.pane_ms)
        st.caption(f"Counted in panes of {pane}, so that this is what was known at {shown}.")
    _numbers(picture.view, common.colours_of(picture), is_down=picture.fault is not None)
    _alerts(picture.view)
    _history(picture.view)
    _proof(picture.view)
    _recompute(picture.view)
    _download(picture.view, choice)
    common.last_known(picture)


def _asked_ms(moments: Moments) -> int:
    """The instant of the address, or of the alert that it names; else the last one looked at.

    In a new session that is the newest one.
    """
    asked_ms = words.instant_of(st.query_params.get("at", ""))
    if asked_ms is None:
        came_for = moments.moment_of(st.query_params.get("alert", ""))
        asked_ms = came_for.at_ms if came_for else st.session_state.get("replay-last")
    at_ms = moments.nearest(asked_ms)
    st.query_params["at"] = words.link(at_ms)
    st.session_state["replay-last"] = at_ms
    return at_ms


def _controls(moments: Moments, at_ms: int) -> None:
    newest_ms = moments.newest_ms or 0
    if moments.oldest_ms < newest_ms:
        st.session_state["replay-at"] = _naive(at_ms)
        st.slider(
            f"Time (UTC), kept from {words.moment(moments.oldest_ms)} on",
            _naive(moments.oldest_ms), _naive(newest_ms),
            step=timedelta(milliseconds=moments.pane_ms), format="YYYY-MM-DD HH:mm",
            key="replay-at", on_change=_slid,
        )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for label, step_ms in STEPS:
            to_ms = min(max(at_ms + step_ms, moments.oldest_ms), newest_ms)
            st.button(
                label, key=f"replay{step_ms}", on_click=_go, args=(to_ms,), disabled=to_ms == at_ms
            )
        _jumps(moments)
        st.radio(
            "As known", list(map(str, Known)), key="known", bind="query-params", horizontal=True,
            help="then: what the log had told by that time. now: with all labels and judgements "
            "that came later. compare: both, side by side.",
        )  # fmt: skip


def _jumps(moments: Moments) -> None:
    titles = {jump.id: jump.title for jump in moments.jumps}
    came_for = moments.moment_of(st.query_params.get("alert", ""))
    st.session_state["replay-jump"] = came_for.id if came_for else None
    st.selectbox(
        "Jump to an alert", list(titles), key="replay-jump", format_func=titles.__getitem__,
        on_change=_jumped, args=(moments,), placeholder="any time, also later than shown",
        disabled=not titles, width=380,
    )  # fmt: skip


def _slid() -> None:
    chosen: datetime = st.session_state["replay-at"]
    st.query_params["at"] = words.link(words.instant_of(chosen.isoformat()) or 0)


def _go(at_ms: int) -> None:
    st.query_params["at"] = words.link(at_ms)


def _jumped(moments: Moments) -> None:
    chosen = moments.moment_of(st.session_state["replay-jump"] or "")
    if chosen is None:
        st.query_params.pop("alert", None)
        return
    st.query_params["alert"], st.query_params["at"] = chosen.id, words.link(chosen.at_ms)


def _naive(at_ms: int) -> datetime:
    """What the slider takes for UTC, wherever the browser is."""
    return words.instant(at_ms).replace(tzinfo=None)


def _band(view: Replayed) -> None:
    said = {
        Known.THEN: "as known then. Nothing below was told by the log any later.",
        Known.NOW: "as known now, in hindsight: with labels and judgements that came later.",
        Known.COMPARE: "as known then, and beside it, in hindsight, as known now.",
    }
    is_dark = st.context.theme.type == "dark"
    paint = "#12304A;color:#D3E9FF" if is_dark else "#E1F0FB;color:#0B3A5B"
    edge = common.palette().line
    st.html(
        f'<div role="note" style="background:{paint};border-left:6px solid {edge};'
        'border-radius:.3rem;padding:.7rem 1rem">'
        f"<strong>Replay, not live · {words.moment(view.at_ms)}</strong> — {said[view.known]}</div>"
    )


def _numbers(view: Replayed, palette: Palette, *, is_down: bool) -> None:
    if not view.is_kept:
        _gone(view)
        return
    shown = view.shown
    if shown is None:
        return
    st.caption(_counted(view, shown))
    if view.known is Known.COMPARE:
        _compared(view)
    else:
        common.cards(_cards(view, shown), is_down=is_down)
        if len(shown.groups) > 1:
            _table(("Group", "Recall"), _every_group(shown))
    st.header(f"{_title(view.of)} recall up to that time")
    st.caption(_lines(view))
    common.chart(charts.replayed(view, palette), key="replayed", alt=charts.replayed_alt(view))
    common.same_numbers(partial(replay_tables.recall, view), key="replay")


def _gone(view: Replayed) -> None:
    common.notice(
        Notice(
            Tone.NEUTRAL,
            "These numbers are no longer kept in the store.",
            "The log, or an archive of it, still has them. This command derives them again:",
        )
    )
    at = words.iso(view.at_ms)
    st.code(f"recallwatch replay --as-of {at} --out replay-{at.replace(':', '')}", language=None)


def _span(view: Replayed) -> str:
    start_ms, end_ms = view.window
    return f"{words.clock(start_ms, near_ms=end_ms).removesuffix(' UTC')} and {words.clock(end_ms)}"


def _counted(view: Replayed, shown: Numbers) -> str:
    """What is counted, in words."""
    labels = words.count(shown.labelled)
    if view.known is Known.NOW:
        return (
            f"Counted: the {labels} labels known today about the {words.count(shown.predictions)} "
            f"messages sent between {_span(view)}, corrections included."
        )
    said = (
        f"Counted as known then: the {labels} labels that became known between {_span(view)}, each "
        "as the log first told it; later corrections are not in it."
    )
    if view.known is Known.COMPARE:
        return f"{said} As known now: today's labels about the messages sent in that time."
    return said


def _cards(view: Replayed, shown: Numbers) -> list[Card]:
    row, is_now = shown.group(view.of), view.known is Known.NOW
    about = "" if is_now else "about "
    counted = Card(
        "Labels counted",
        words.count(shown.labelled),
        "known today" if is_now else "learned in that time",
    )
    of_window, sent = words.count(shown.of_window), words.count(shown.predictions)
    coverage = Card(
        "Labels in",
        words.percent(shown.coverage, 0),
        f"{about}{of_window} of {sent} messages of that time",
    )
    missing = Card(
        "Missing today" if is_now else "Missing then",
        f"{'' if is_now else '≈ '}{words.count(shown.missing)}",
        "messages of that time without a label",
    )
    return [*_recall_cards(row), counted, coverage, missing]


def _recall_cards(row: GroupScore | None) -> list[Card]:
    if row is None:
        return []
    n = row.recall.support
    verdict = words.interval(row.recall) if n >= words.FEW else words.too_few(n)
    against = f" · objective {words.limit(row.objective)}" if row.objective is not None else ""
    return [
        Card(f"{_title(row.name)} recall", words.percent(row.recall.value), verdict + against),
        Card(f"Missed {row.name}", words.count(n - row.hits), f"of {words.count(n)} labelled"),
    ]


def _every_group(shown: Numbers) -> list[tuple[str, str]]:
    return [(row.name, replay_tables.recall_text(row)) for row in shown.groups]


def _compared(view: Replayed) -> None:
    _table(("Measure", "As known then", "As known now"), replay_tables.compared(view))
    if view.then is None or view.now is None:
        return
    came = max(0, view.now.of_window - view.then.of_window)
    other = view.then.labelled - view.then.of_window
    st.markdown(
        f"**Labels still missing then: about {words.count(came)}**, known by now. Of those "
        f"counted then, about {words.count(max(0, other))} are about messages sent before "
        f"{words.clock(view.window.start_ms, near_ms=view.at_ms)}."
    )


def _lines(view: Replayed) -> str:
    rolling = f"rolling {words.duration(view.rolling_ms)}, with 95% interval"
    if view.known is Known.THEN:
        return f"By the time at which labels became known, {rolling}. Grey: not known yet."
    if view.known is Known.NOW:
        return f"By event time, with today's labels, {rolling}. Grey: after that time."
    return (
        f"Solid: as known then, by the time at which labels became known, {rolling}. "
        "Dashed: as known now, by event time."
    )


def _alerts(view: Replayed) -> None:
    st.header("Where alerts stood")
    if not view.standings:
        common.notice(Notice(Tone.NEUTRAL, "No alert had seen a mature label by then.", ""))
    wanting = [each for each in view.standings if each.status is not Status.OK or each.is_stalled]
    quiet = [each for each in view.standings if each not in wanting]
    for standing in wanting[:MOST_STANDINGS]:
        common.notice(_standing(standing, view))
    if len(wanting) > MOST_STANDINGS:
        st.caption(f"{len(wanting) - MOST_STANDINGS} more wanted attention; the table has them.")
    if quiet:
        named = [
            f"{name_of(each.alert)} since {words.clock(each.last.at_ms, near_ms=view.at_ms)}"
            for each in quiet[:MOST_STANDINGS]
        ]
        more = f" · and {len(quiet) - len(named)} more" if len(quiet) > len(named) else ""
        common.notice(Notice(Tone.OK, "OK", " · ".join(named) + more))
    raised = [found for found in view.judged if found.event is Event.RAISED]
    for found in raised[-MOST_STANDINGS:]:
        title = f"Found later, and nobody was told then: {name_of(found.alert)}."
        at = words.clock(found.at_ms, near_ms=view.at_ms)
        common.notice(Notice(Tone.WARNING, title, f"{found.reason} · found {at}, in hindsight"))


def _standing(standing: Standing, view: Replayed) -> Notice:
    move, near_ms = standing.last, view.at_ms
    stalled = ", stalled" if standing.is_stalled else ""
    since = words.clock(move.at_ms, near_ms=near_ms)
    ago = words.duration(max(1000, near_ms - move.at_ms))
    said = [words.one_line(move.reason)]
    if move.evidence is not None and move.evidence.n:
        began = words.clock(move.evidence.since_ms, near_ms=near_ms)
        said.append(f"of messages sent since {began}")
    if standing.hindsight is not None:
        later = standing.hindsight
        at = words.clock(later.at_ms, near_ms=near_ms)
        said.append(f"in hindsight {later.event} at {at}: {words.one_line(later.reason)}")
    said.append(f"transition {move.id}")
    title = f"{name_of(standing.alert)}: {standing.status}{stalled} since {since}, {ago} by then."
    tone = Tone.WARNING if standing.status is Status.OK else _TONES[standing.status]
    return Notice(tone, title, " · ".join(said))


def _history(view: Replayed) -> None:
    name = f"Transitions up to {words.moment(view.at_ms)} ({words.count(len(view.moves))})"
    box = st.expander(name, key="replay-moves", on_change="rerun")
    if not box.open:
        return
    rows = list(replay_tables.moves(reversed(view.moves[-MOST_MOVES:])))
    with box:
        if not rows:
            st.caption("None.")
            return
        at = st.column_config.DatetimeColumn(timezone="UTC", format="YYYY-MM-DD HH:mm:ss")
        st.dataframe(
            rows, hide_index=True, height=260, alt="What happened to alerts up to that time",
            column_config={"Time (UTC)": at},
        )  # fmt: skip


def _proof(view: Replayed) -> None:
    st.header("What proves it")
    proof = view.proof
    if view.journal_fault:
        title = "The journal in the store cannot be read."
        common.notice(Notice(Tone.CRITICAL, title, view.journal_fault))
        return
    if proof is None:
        common.notice(
            Notice(
                Tone.NEUTRAL,
                "The store keeps no journal entry of that time.",
                "Its topic keeps all of them: recallwatch audit verify --all reads it there.",
            )
        )
        return
    _table(("What", "As journaled"), _proof_rows(view, proof))
    if not (proof.is_sealed and proof.is_document and proof.follows is not False):
        common.notice(_broken(proof))
    with st.expander("The entry, and the settings it was made with"):
        st.code(pack_journal_entry(proof.entry).decode(), language="json", wrap_lines=True)
        st.code(proof.document or "not kept", language="json", wrap_lines=True)


def _proof_rows(view: Replayed, proof: Proof) -> list[tuple[str, str]]:
    entry = proof.entry
    follows = {
        True: f"follows entry {words.count(entry.sequence - 1)}, whose hash it names",
        False: f"does not follow entry {words.count(entry.sequence - 1)}",
        None: "begins the journal" if not entry.previous else "the entry before is not kept",
    }[proof.follows]
    seal = "its hash is that of its content" if proof.is_sealed else "ITS HASH IS NOT ITS CONTENT'S"
    rows = [
        ("Journal entry", f"{words.count(entry.sequence)}, the last evaluation by then"),
        ("Tick", f"{words.iso(entry.tick_ms)}: the log was complete up to here"),
        ("Cut", ", ".join(f"{place}@{offset}" for place, offset in entry.cut) or "nothing read"),
        ("State", _short(entry.state)),
        ("Chain", f"{_short(entry.hash)}: {seal}; {follows}"),
        ("Code", f"release {entry.code}"),
        ("Settings", _settings(proof)),
        *((f"Rule {rule.name}", rule.text) for rule in view.rules),
        ("Versions watched", _versions(view)),
    ]
    if proof.later is not None:
        rows.append(("Changed since", "; ".join(proof.later) or "nothing"))
    return rows


def _settings(proof: Proof) -> str:
    digest = _short(proof.entry.settings)
    if not proof.document:
        return f"{digest}: not kept"
    return f"{digest}: {'kept whole' if proof.is_document else 'ALTERED SINCE'}"


def _versions(view: Replayed) -> str:
    named = [f"{variant}: {', '.join(names)}" for variant, names in view.versions.items()]
    return "; ".join(named) or "the records name none"


def _broken(proof: Proof) -> Notice:
    entry = proof.entry
    return Notice(
        Tone.CRITICAL,
        f"Journal entry {words.count(entry.sequence)} does not hold.",
        "Entry, predecessor or settings are not what was written. recallwatch audit verify --all "
        "compares the store with the journal's topic.",
    )


def _short(digest: str) -> str:
    return f"sha256:{digest[:DIGEST]}…" if digest else "none"


@st.cache_resource
def _desk() -> Desk:
    return Desk()


def _recompute(view: Replayed) -> None:
    st.header("Recompute from the log")
    raised = {move.id: move for move in view.raised}
    if not raised:
        st.caption("No alert had been raised by then.")
        return
    marked = _marked(view)
    st.session_state["replay-proved"] = marked
    st.selectbox(
        "Alert, raised by then", list(raised), key="replay-proved", on_change=_proved,
        format_func=lambda mark: _raised_title(raised[mark]),
    )  # fmt: skip
    every = RECOMPUTING_EVERY_S if _desk().running else None
    st.fragment(partial(_bench, marked, view), run_every=every, key="recompute")()


def _marked(view: Replayed) -> str:
    """The transition that the address names, if it had been told by then; else the latest one."""
    mark = st.query_params.get("alert", "")
    ids = [move.id for move in view.raised]
    return next((i for i in ids if mark in {i, i.rsplit("-", 1)[0]}), ids[0] if ids else "")


def _proved() -> None:
    st.query_params["alert"] = st.session_state["replay-proved"]


def _raised_title(move: Transition) -> str:
    return f"{words.moment(move.at_ms)} · {move.moved_to} · {name_of(move.alert)} · {move.id}"


def _bench(mark: str, view: Replayed) -> None:
    """Button, progress and answer; drawn again each second while something runs."""
    desk, verify = _desk(), source.current().verify
    running = desk.running
    if running is None and st.session_state.pop("replay-running", False):
        st.rerun()
    st.session_state["replay-running"] = running is not None
    question = Question(source.serial(), mark, view.proof.head.hash if view.proof else "")
    answer = desk.answer(question.serial, mark)
    st.caption(
        "Replays the history of this alert from Kafka, outside of the consumer group and into "
        "memory, and compares every digest on the way. Nothing live is changed."
    )
    is_known = answer is not None and answer.question == question and answer.result is not None
    label = "Recompute again" if answer else "Recompute from the log"
    if st.button(
        label, key="replay-recompute", icon=":material/replay:",
        disabled=verify is None or running is not None or is_known,
    ) and verify is not None:  # fmt: skip
        desk.ask(question, verify)
        st.rerun()
    if verify is None:
        common.notice(_NO_LOG)
    elif running is not None:
        _running(running, mark)
    elif answer is not None:
        common.notice(_answered(answer))


_NO_LOG = Notice(
    Tone.NEUTRAL,
    "There is no log to recompute from.",
    "These settings name a store alone. recallwatch audit verify ALERT --archive PATH --offline "
    "recomputes from an archive.",
)


def _running(running: Progress, mark: str) -> None:
    asked = running.question.alert
    other = "" if asked == mark else f" Another one first: {asked}."
    left = "" if running.left is None else f", {words.count(running.left)} to go"
    done = f"{words.count(running.done)} records{left}" if running.done else "reading the log"
    st.progress(running.share, f"Replaying: {done}.{other}")


def _answered(answer: Answer) -> Notice:
    result, asked = answer.result, answer.question.alert
    if result is None:
        return Notice(Tone.WARNING, f"{asked} could not be recomputed.", answer.fault)
    compared = (
        f"replayed {words.count(result.records)} records over {words.count(result.entries)} "
        f"journal entries · {words.count(result.digests)} digests and "
        f"{words.count(result.transitions)} transitions compared"
    )
    body = " · ".join([compared, *result.notes])
    if result.holds:
        return Notice(Tone.OK, f"Match: {asked} came out the same, bit for bit.", body)
    n = len(result.differences)
    title = f"{n} {'differs' if n == 1 else 'differ'}. First difference: {result.differences[0]}"
    return Notice(Tone.CRITICAL, title, body)


def _download(view: Replayed, choice: Choice) -> None:
    st.header("Take it away")
    st.caption(
        "Numbers, transitions, journal entries, settings and the audit of this view, with their "
        "hashes; ids of requests masked."
    )
    answer = _desk().answer(source.serial(), _marked(view))
    st.download_button(
        "Bundle (ZIP)", partial(bundle.bundle, view, choice, answer), bundle.name_of(view),
        "application/zip", key="replay-bundle", icon=":material/download:", on_click="ignore",
    )  # fmt: skip


def _title(name: str) -> str:
    return name[:1].upper() + name[1:]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Names on the left, values beside them; breaks lines rather than leave the screen."""
    heads = "".join(f'<th scope="col" style="{_CELL};opacity:.75">{escape(n)}</th>' for n in head)
    body = ""
    for name, *values in rows:
        cells = "".join(f'<td style="{_CELL}">{escape(value)}</td>' for value in values)
        body += f'<tr><th scope="row" style="{_CELL};{_NAME}">{escape(name)}</th>{cells}</tr>'
    style = "width:100%;border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums"
    st.html(f'<table style="{style}"><tr>{heads}</tr>{body}</table>')


_CELL = (
    "text-align:left;vertical-align:top;padding:.45rem .8rem .45rem 0;"
    "border-bottom:1px solid #8884;overflow-wrap:anywhere"
)
_NAME = "font-weight:600;overflow-wrap:normal"
