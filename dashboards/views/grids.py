"""Tables of text as plain HTML: read aloud cell by cell, printed, and scrolled on a phone."""

from collections.abc import Mapping, Sequence
from html import escape

import streamlit as st

from dashboards.tables import Row

_CELL = "text-align:left;padding:.4rem 1rem .4rem 0;border-bottom:1px solid #8884"
_TABLE = "width:100%;border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums"
_NOTHING: Mapping[str, str] = {}


def grid(rows: Sequence[Row], name: str, signs: Mapping[str, str] = _NOTHING) -> None:
    """The rows under their heads; nothing for no rows. ``name`` is read aloud before them.

    ``signs`` is HTML to put in place of the texts of the first column, each with its own words.
    """
    if not rows:
        return
    heads = "".join(f'<th scope="col" style="{_CELL}">{escape(head)}</th>' for head in rows[0])
    body = "".join(_row([str(value) for value in row.values()], signs) for row in rows)
    # What can be scrolled can be reached by keyboard.
    st.html(
        f'<div role="region" tabindex="0" aria-label="{escape(name)}" style="overflow-x:auto">'
        f'<table style="{_TABLE}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _row(cells: Sequence[str], signs: Mapping[str, str]) -> str:
    first, *others = cells
    head = f'<td style="{_CELL};white-space:nowrap">{signs.get(first, escape(first))}</td>'
    return (
        "<tr>" + head + "".join(f'<td style="{_CELL}">{escape(c)}</td>' for c in others) + "</tr>"
    )


def sign(mark: str, text: str, colour: str) -> str:
    """A state as a sign and a word, in its colour."""
    return (
        f'<span style="color:{colour};font-weight:600"><span aria-hidden="true">{escape(mark)}'
        f"</span> {escape(text)}</span>"
    )
