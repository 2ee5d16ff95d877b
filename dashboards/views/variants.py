"""Sections of the page "Variants"."""

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Literal, NamedTuple

import streamlit as st

from dashboards import charts, pictures, tables, variants_tables, variants_words, words
from dashboards.banner import incomplete
from dashboards.models import Choice
from dashboards.theme import Palette
from dashboards.variants_models import Asked, Compared, Measure, Pair, Period, Unit, Variant
from dashboards.views import common
from monitor.app.comparing import told_evidence
from monitor.app.console import dump
from monitor.domain.comparison import Comparison, Finding
from monitor.domain.traps import Sign
from monitor.domain.verdict import Answer
from monitor.domain.verdict import Finding as Stand

EVERY_S = 10
MOST_CHANGES = 12
"""Of each variant, on the page; the table and the JSON file have all."""

HEIGHT = 420
_NBSP = "\N{NO-BREAK SPACE}"
MOST = "most messages"
"""Stands for the variant that answered most; in an address, too."""


class _Badge(NamedTuple):
    icon: str
    color: Literal["green", "red", "gray"]


_BADGES = {
    Answer.FIT: _Badge(":material/check_circle:", "green"),
    Answer.NOT_FIT: _Badge(":material/cancel:", "red"),
    Answer.NOT_ENOUGH_EVIDENCE: _Badge(":material/help:", "gray"),
}
_STANDS = {
    Stand.MET: ":green[:material/check_circle:]",
    Stand.MISSED: ":red[:material/cancel:]",
    Stand.OPEN: ":gray[:material/help:]",
}
_SIGNS_OF_TRAPS = {
    Sign.FOUND: ("✖", "found"),
    Sign.NOT_FOUND: ("✔", "not found"),
    Sign.UNKNOWN: ("?", "unknown"),
}
_SIGNS_OF_ANSWERS = {Answer.FIT: "✔", Answer.NOT_FIT: "✖", Answer.NOT_ENOUGH_EVIDENCE: "?"}


def page(choice: Choice) -> None:
    """The whole page; what somebody asks for stands in the address."""
    common.refreshed(partial(_drawn, choice, _asked()), EVERY_S, key="variants")


def _asked() -> Asked:
    known = pictures.variants()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        serving = _one_of("Serves now", "serving", known)
        is_choice = len(known) > 2 or "other" in st.query_params  # noqa: PLR2004 - a pair
        other = _one_of("Compare with", "other", known) if is_choice else ""
        period = st.radio(
            "Compare outcomes of", list(map(str, Period)), key="counted", bind="query-params",
            horizontal=True,
            help="The verdict's window is that of recallwatch verdict; the range is what the "
            "sidebar says, as far as both variants answered. Verdicts are of their window always.",
        )  # fmt: skip
    return Asked(serving, other, Period(period))


def _one_of(label: str, key: str, known: Sequence[str]) -> str:
    linked = st.query_params.get(key, MOST)
    # A link may be older than this process's first look at the store.
    options = [MOST, *known, *([] if linked in {MOST, *known} else [linked])]
    found = st.selectbox(label, options, key=key, bind="query-params", width=220)
    return "" if found == MOST else found


def _drawn(choice: Choice, asked: Asked) -> None:
    with common.loading(HEIGHT, "variants-drawn"):
        picture = pictures.compared(choice, asked)
    view = picture.view
    is_empty = view is not None and not view.variants
    common.about(picture, view.freshness if view else None, is_empty=is_empty)
    if view is None or is_empty:
        return
    if pictures.note_variants(tuple(sorted(variant.name for variant in view.variants))):
        st.rerun()
    if lost := incomplete(view.gaps):
        common.notice(lost)
    if picture.fault is None:
        _answer(view)
    palette = common.colours_of(picture)
    _verdicts(view)
    _traps(view)
    _changes(view)
    _finding(view, choice.span)
    _measures(view, choice.span)
    _lines(view, palette)
    _method(view)
    common.last_known(picture)


def _answer(view: Compared) -> None:
    if said := variants_words.advice(view):
        common.notice(said)
    if now := variants_words.up(view):
        common.notice(now)
        common.to_alert(view.alerts[0].alert)
    if view.advice.steps:
        st.header("What to do next", anchor=False)
        steps = (words.in_full(step.text) for step in view.advice.steps)
        st.markdown("\n".join(f"* {common.plain(step)}" for step in steps))


def _verdicts(view: Compared) -> None:
    st.header("Fit for production?", anchor=False)
    st.caption(common.plain(f"Verdicts of {variants_words.judged_window(view)}, by event time"))
    grid = st.grid(min(len(view.variants), 3), min_column_width=300, border=True)
    for variant in _ordered(view):
        with grid.cell():
            _verdict(view, variant)
    box = st.expander("Reasons, traps and changes as a table", key="verdicts", on_change="rerun")
    if box.open:
        rows = variants_tables.verdicts(view)
        with box:
            st.dataframe(rows, hide_index=True, height=260, alt="Reasons, traps and changes")
            st.download_button(
                "CSV", tables.csv_of(rows), "recallwatch-verdicts.csv", "text/csv",
                key="verdicts-csv", icon=":material/download:", on_click="ignore",
            )  # fmt: skip


def _ordered(view: Compared) -> list[Variant]:
    """The pair first."""
    names = [variant.name for variant in view.shown]
    return [*view.shown, *(v for v in view.variants if v.name not in names)]


def _role(view: Compared, variant: Variant) -> str:
    if view.pair is None:
        return ""
    names = {view.pair.serving.name: "taken to serve now", view.pair.other.name: "compared with it"}
    return names.get(variant.name, "")


def _verdict(view: Compared, variant: Variant) -> None:
    st.header(common.plain(variants_words.name_of(variant)), anchor=False)
    badge, since = _BADGES[variant.verdict.answer], variants_words.since(variant)
    is_doubtful = view.freshness.is_stale or bool(view.gaps or variant.alerts)
    color = "gray" if is_doubtful and badge.color == "green" else badge.color
    st.badge(variants_words.VERDICTS[variant.verdict.answer], icon=badge.icon, color=color)
    if not variant.is_present:
        st.caption("It answered nothing in this window, and does not count.")
        return
    st.markdown(common.plain(f"{since[:1].upper()}{since[1:]}."))
    if role := _role(view, variant):
        st.caption(common.plain(role))
    for reason in variant.verdict.reasons:
        sign = _STANDS[reason.finding]
        st.markdown(f"{sign} **{reason.finding}** · {common.plain(words.in_full(reason.text))}")
    st.caption(common.plain(variants_words.served(variant)))


def _traps(view: Compared) -> None:
    """Each trap, and below it each variant."""
    present = [variant for variant in _ordered(view) if variant.is_present]
    if not present:
        return
    st.header("The traps", anchor=False)
    st.caption("Ways in which a good number deceives, each checked. Unknown is never harmless.")
    body = ""
    for of_trap in zip(*(variant.traps for variant in present), strict=True):
        for number, (variant, trap) in enumerate(zip(present, of_trap, strict=True)):
            sign, word = _SIGNS_OF_TRAPS[trap.sign]
            name = _head(trap.name, rows=len(present)) if number == 0 else ""
            finding = _cell(f"{sign}{_NBSP}{word}", variants_words.name_of(variant))
            body += f"<tr>{name}{finding}{_text(trap.text)}</tr>"
    st.html(_region(["Trap", "Finding", "Evidence"], body, "Traps by variant"))


def _changes(view: Compared) -> None:
    """When the verdicts changed, the latest first."""
    st.header("How the verdicts changed", anchor=False)
    st.caption(
        "The same judgement at each full hour of the past, with all labels that are known now. "
        "Alerts are not in it."
    )
    body, left = "", 0
    for variant in _ordered(view):
        shown = list(reversed(variant.changes))[:MOST_CHANGES]
        left += len(variant.changes) - len(shown)
        for number, change in enumerate(shown):
            answer = change.verdict.answer
            said = f"{_SIGNS_OF_ANSWERS[answer]}{_NBSP}{variants_words.VERDICTS[answer]}"
            name = _head(variants_words.name_of(variant), rows=len(shown)) if number == 0 else ""
            why = variants_words.why(change.verdict) or "all limits are met"
            since = _cell(said, f"from {words.moment(change.at_ms)}")
            body += f"<tr>{name}{since}{_text(why)}</tr>"
    if not body:
        st.caption("No full hour is judged yet.")
        return
    st.html(_region(["Variant", "Verdict", "Why"], body, "Changes of verdicts"))
    if left:
        st.caption(f"{words.count(left)} earlier changes are in the table above and in the JSON.")


def _finding(view: Compared, span: str) -> None:
    if view.pair is None:
        return
    st.header("What differs", anchor=False)
    if said := variants_words.finding(view, span):
        common.notice(said)


def _lines(view: Compared, palette: Palette) -> None:
    if not view.of:
        return
    st.header(f"{view.of[:1].upper()}{view.of[1:]} recall over the range", anchor=False)
    st.caption(
        f"Rolling {words.duration(view.rolling_ms)} by event time, with 95% interval; paler while "
        "fewer than half the labels are in."
    )
    if not any(point.recall.value is not None for v in view.shown for point in v.points):
        st.caption(f"No {common.plain(view.of)} label in this range: there is no line to draw.")
        return
    _legend(view, palette)
    common.chart(charts.compared(view, palette), key="compared", alt=charts.compared_alt(view))
    common.same_numbers(partial(variants_tables.lines, view), key="variant-lines")


def _legend(view: Compared, palette: Palette) -> None:
    items = ""
    styles = ((palette.line, "solid"), (palette.second, "dashed"))
    for variant, (colour, style) in zip(view.shown, styles, strict=False):
        line = f'<span style="width:2.2rem;border-top:3px {style} {colour}"></span>'
        name = escape(variants_words.name_of(variant))
        items += f'<span style="{_ITEM}">{line}{name}</span>'
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:.3rem 1.4rem">{items}</div>')


def _measures(view: Compared, span: str) -> None:
    st.header("Side by side", anchor=False)
    of = variants_words.window(view, span)
    st.caption(common.plain(f"Of {of} · below each value its 95% interval and what it stands on"))
    st.html(_table(view))
    with st.container(horizontal=True):
        st.download_button(
            "CSV", tables.csv_of(variants_tables.measures(view)), "recallwatch-variants.csv",
            "text/csv", key="variants-csv", icon=":material/download:", on_click="ignore",
        )  # fmt: skip
        document = variants_tables.document(view)
        st.download_button(
            "JSON with digest", f"{dump(document)}\n", "recallwatch-variants.json",
            "application/json", key="variants-json", icon=":material/download:",
            on_click="ignore",
        )  # fmt: skip
    st.caption(common.plain(f"Digest of the JSON file: {document['digest']}"))


def _table(view: Compared) -> str:
    variants, pair = _ordered(view), view.pair
    names = [variants_words.name_of(variant) for variant in variants]
    if pair is not None:
        names.append(f"{names[1]} − {names[0]}")
    body = ""
    for row in zip(*(variant.measures for variant in variants), strict=True):
        body += f'<tr><th scope="row" style="{_CELL};font-weight:600">{escape(row[0].name)}</th>'
        body += "".join(map(_measured, row))
        body += "" if pair is None else _compared(pair, row[0])
        body += "</tr>"
    return _region(["Measure", *names], body, "Measures by variant")


def _region(columns: Sequence[str], body: str, label: str) -> str:
    """A table of these rows, reached by the keyboard, so that a wide one can be scrolled by it."""
    head = "".join(f'<th scope="col" style="{_CELL}">{escape(name)}</th>' for name in columns)
    style = "width:100%;border-collapse:collapse;font-size:.95rem"
    table = f'<table style="{style}"><tr>{head}</tr>{body}</table>'
    region = f'tabindex="0" role="region" aria-label="{escape(label)}"'
    return f'<div style="overflow-x:auto" {region}>{table}</div>'


def _head(name: str, rows: int) -> str:
    style = f"{_CELL};font-weight:600"
    return f'<th scope="row" rowspan="{rows}" style="{style}">{escape(name)}</th>'


def _text(text: str) -> str:
    """A cell of evidence, wide enough to be read on a phone."""
    return f'<td style="{_CELL};min-width:10rem">{escape(words.in_full(text))}</td>'


def _compared(pair: Pair, measure: Measure) -> str:
    found: Comparison | None = pair.comparisons.get(measure.name)
    if found is None or found.difference is None:
        return _cell(words.NONE, "")
    value = variants_words.told(found.difference, measure.name)
    bounds = variants_words.told_bounds(found, measure.name)
    paired = variants_words.basis(found)
    if found.is_paired:
        paired = f"{paired}, n = {words.count(found.n)}"
    return _cell(value, bounds, _sign(found, measure), paired)


def _sign(found: Comparison, measure: Measure) -> str:
    """In words, with an arrow that says where the value lies: a lower latency is better."""
    if measure.unit is Unit.SHARE:
        return _SIGNS[found.finding]
    if found.finding is Finding.TOO_FEW:
        return "too few messages"
    if found.finding is Finding.NO_DIFFERENCE:
        return _SIGNS[found.finding]
    return f"{'▲' if (found.difference or 0.0) > 0 else '▼'} {found.finding}"


def _measured(measure: Measure) -> str:
    n = f"n = {words.count(measure.n)}"
    return _cell(variants_words.value(measure), variants_words.bounds(measure), n)


def _cell(value: str, *below: str) -> str:
    """A value, and below it what is not to be torn apart on a phone."""
    parts = (f'<span style="white-space:nowrap">{escape(part)}</span>' for part in below if part)
    under = f'<br><span style="font-size:.82rem;opacity:.8">{", ".join(parts)}</span>'
    return f'<td style="{_CELL}">{escape(value)}{under if any(below) else ""}</td>'


def _method(view: Compared) -> None:
    st.header("How to read this", anchor=False)
    told = [variants_words.UNPAIRED, variants_words.ONE_LOOK]
    if view.pair is not None and view.pair.paired:
        told = [variants_words.PAIRED, variants_words.EVERY_LOOK, *told, *_pairs(view.pair)]
    told.append(variants_words.PRINCIPLE)
    told.append(
        "Intervals are of 95%: Wilson's of shares, the same carried over to F1, Hoeffding's of "
        "relevance, Woodruff's of latency, which is known to 1%. Differences in latency and "
        "relevance have wider ones of their own."
    )
    st.markdown("\n".join(f"* {common.plain(line)}" for line in told))


def _pairs(pair: Pair) -> list[str]:
    """The evidence in full, and what one look at a moment chosen beforehand says."""
    told = []
    for name, paired in pair.paired.items():
        judged = paired.judged
        evidence, bar = told_evidence(judged.evidence), told_evidence(judged.bar)
        told.append(
            f"Pairs in {name} ({paired.watch}): {variants_words.same_requests(paired)}. Evidence "
            f"{evidence:,.1f}, and a difference is claimed from {bar:,.0f} on. For one look alone: "
            f"exact McNemar test P = {judged.p_value:.3g}."
        )
    return told


_SIGNS = {
    Finding.BETTER: "▲ better",
    Finding.WORSE: "▼ worse",
    Finding.NO_DIFFERENCE: "no difference shown",
    Finding.TOO_FEW: "too few labels",
}
_ITEM = "display:inline-flex;gap:.5rem;align-items:center"
_CELL = (
    "text-align:left;vertical-align:top;padding:.45rem .8rem .45rem 0;"
    "border-bottom:1px solid #8884;font-variant-numeric:tabular-nums"
)
