"""Tables of text as plain HTML: read aloud cell by cell, printed, and scrolled on a phone."""

from collections.abc import Mapping, Sequence
from html import escape

import streamlit as st

from dashboards.tables import Row

_CELL = "text-align:left;padding:.4rem 1rem .4rem 0;border-bottom:1px solid #8884"
_TABLE = "width:100%;border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums"
_NOTHING: Mapping[str, str] = {}

MOST_BESIDE = 4
"""Columns that fit beside each other on a phone."""

_STACK = "rw-stack"
STACKED = f"""
@media (max-width: 640px) {{
  .{_STACK} {{ position: relative }}
  .{_STACK} thead {{ position: absolute; clip-path: inset(50%); width: 1px; height: 1px;
    overflow: hidden }}
  .{_STACK} :is(table, tbody) {{ display: block }}
  .{_STACK} tr {{ display: block; padding: .4rem 0; border-bottom: 1px solid #8884 }}
  .{_STACK} td {{ display: flex; gap: 1rem; justify-content: space-between; text-align: right;
    padding: .15rem 0 !important; border: 0 !important }}
  .{_STACK} td::before {{ content: attr(data-head) / ""; font-weight: 600; text-align: left }}
}}"""
"""On a phone the cells of a row stand below each other, each beside its head."""


def grid(rows: Sequence[Row], name: str, signs: Mapping[str, str] = _NOTHING) -> None:
    """The rows under their heads; nothing for no rows. ``name`` is read aloud before them.

    ``signs`` is HTML to put in place of the texts of the first column, each with its own words.
    """
    if not rows:
        return
    heads = "".join(
        f'<th scope="col" role="columnheader" style="{_CELL}">{escape(head)}</th>'
        for head in rows[0]
    )
    body = "".join(_row(row, signs) for row in rows)
    stack = _STACK if len(rows[0]) > MOST_BESIDE else ""
    # What can be scrolled can be reached by keyboard. Cells that are stacked are no table to a
    # screen reader any more unless they are said to be one.
    st.html(
        f'<div role="region" tabindex="0" aria-label="{escape(name)}" class="{stack}" '
        f'style="overflow-x:auto"><table role="table" style="{_TABLE}"><thead role="rowgroup">'
        f'<tr role="row">{heads}</tr></thead><tbody role="rowgroup">{body}</tbody></table></div>'
    )


def _row(row: Row, signs: Mapping[str, str]) -> str:
    cells = ""
    for number, (head, value) in enumerate(row.items()):
        text = str(value)
        shown = signs.get(text) if number == 0 else None
        style = f"{_CELL};white-space:nowrap" if shown else f"{_CELL};overflow-wrap:anywhere"
        told = shown or escape(text)
        cells += f'<td role="cell" data-head="{escape(head)}" style="{style}">{told}</td>'
    return f'<tr role="row">{cells}</tr>'


def sign(mark: str, text: str, colour: str) -> str:
    """A state as a sign and a word, in its colour."""
    return (
        f'<span style="color:{colour};font-weight:600"><span aria-hidden="true">{escape(mark)}'
        f"</span> {escape(text)}</span>"
    )
