"""The books, as they stand on more than one page."""

from collections.abc import Sequence

import streamlit as st

from dashboards import tables, words
from dashboards.banner import Notice
from dashboards.models import Books
from dashboards.theme import Tone
from dashboards.views import common


def section(books: Books, *, is_down: bool) -> None:
    """Both balances, what was lost, and why records were rejected; green only while it is so."""
    st.header("Where every record went")
    st.caption("All variants, since the store was created")
    for name, side in (("predictions", books.predictions), ("labels", books.labels)):
        terms = tables.terms(side)
        common.equation((f"{name} received", side.received), terms, side.difference)
    _balance(books, is_down=is_down)
    st.caption(
        f"{words.count(books.corrected)} predictions had their label corrected · "
        f"{words.count(books.early)} labels came before their prediction"
    )
    if books.gaps:
        st.subheader("Lost: dropped by the log before they were counted")
        _table(tables.gaps(books), "Lost records by offset")
    reasons = tables.rejected(books)
    if reasons:
        st.subheader("Rejected, by reason")
        _table(reasons, "Rejected records by reason")


def _table(rows: Sequence[tables.Row], alt: str) -> None:
    numbers = common.whole_numbers(rows)
    st.dataframe(rows, hide_index=True, width=480, alt=alt, column_config=numbers)


def _balance(books: Books, *, is_down: bool) -> None:
    off = [
        f"{words.count(abs(side.difference))} {name} {_amiss(side.difference)}"
        for name, side in (("predictions", books.predictions), ("labels", books.labels))
        if side.difference
    ]
    if off:
        said = Notice(
            Tone.CRITICAL,
            f"The books do not balance: {', '.join(off)}.",
            "Records were lost or counted twice. Please report this.",
        )
        common.notice(said)
    elif is_down:
        st.badge("The books balanced, last known", icon=":material/help:", color="gray")
    else:
        st.badge("The books balance", icon=":material/check_circle:", color="green")


def _amiss(difference: int) -> str:
    return "missing" if difference > 0 else "too many"
