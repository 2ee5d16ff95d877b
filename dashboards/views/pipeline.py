"""Sections of the Pipeline page."""

import streamlit as st

from dashboards import pictures, pipeline_checks, pipeline_tables, sessions, tables, words
from dashboards.pipeline_models import Check, PipelineView
from dashboards.theme import Palette
from dashboards.views import books, common, grids
from dashboards.views.common import Card
from monitor.app.console import dump

CARDS_HEIGHT = 120


def page() -> None:
    """The whole page: the answer, the checks that it stands on, and the numbers behind them."""
    with common.loading(CARDS_HEIGHT, "pipeline-drawn"):
        picture = pictures.pipeline()
    view = picture.view
    common.about(
        picture, view.freshness if view else None, is_empty=view is not None and view.is_empty
    )
    if view is None or view.is_empty:
        return
    is_down = picture.fault is not None
    palette = common.colours_of(picture)
    found = pipeline_checks.checks(view)
    if not is_down:
        common.notice(pipeline_checks.verdict(found))
    _cards(view, is_down=is_down)
    _viewers()
    _checks(found, palette)
    _reading(view)
    books.section(view.books, is_down=is_down)
    _handing_on(view)
    _files(view, found)
    common.last_known(picture)


def _cards(view: PipelineView, *, is_down: bool) -> None:
    common.cards([
        _life_card(view), _lag_card(view), _complete_card(view), _rules_card(view),
        _answer_card(view), _memory_card(view),
    ], is_down=is_down)  # fmt: skip


def _viewers() -> None:
    if (open_now := sessions.open_now()) is not None:
        st.caption(sessions.told(open_now))


def _life_card(view: PipelineView) -> Card:
    age_ms = view.freshness.age_ms
    value = words.NONE if age_ms is None else words.duration(max(1000, age_ms))
    workers = words.counted(len(view.workers), "worker")
    note = f"{words.count(len(view.alive))} of {workers} alive"
    if view.freshness.is_stale:
        note = f"none of {workers} reports"
    return Card("Last write", value, note, hint="Workers write a sign of life every two seconds.")


def _lag_card(view: PipelineView) -> Card:
    value = words.NONE if view.freshness.is_stale else words.count(view.freshness.lag)
    return Card("Records behind", value, f"in {words.counted(len(view.partitions), 'partition')}")


def _complete_card(view: PipelineView) -> Card:
    near_ms, reached_ms = view.freshness.now_ms, view.watermark_ms
    hint = "The watermark: every record with an earlier log time has been counted."
    if reached_ms is None:
        return Card("Complete up to", words.NONE, "a partition has not been read", hint=hint)
    *date, clock, zone = words.clock_seconds(reached_ms, near_ms=near_ms).split()
    return Card("Complete up to", clock, " ".join([*date, zone]), hint=hint)


def _rules_card(view: PipelineView) -> Card:
    age_ms = view.evaluated_age_ms
    value = words.NONE if age_ms is None else words.duration(max(1000, age_ms))
    return Card("Rules evaluated", value, f"evaluation {words.count(view.journal.head)}")


def _answer_card(view: PipelineView) -> Card:
    if view.vitals is None:
        return Card("Redis answers in", words.NONE, "unknown, no server")
    servers = view.vitals.server.servers
    note = "one small read" if servers == 1 else f"one small read, {servers} servers"
    return Card("Redis answers in", f"{view.vitals.answer_ms:.1f} ms", note)


def _memory_card(view: PipelineView) -> Card:
    server = view.vitals.server if view.vitals else None
    if server is None or server.used_bytes is None:
        return Card("Redis memory", words.NONE, "unknown, not told")
    limit = f"of {words.size(server.limit_bytes)}" if server.limit_bytes else "no limit set"
    dropped = "" if server.evicted is None else f", {words.counted(server.evicted, 'key')} dropped"
    return Card("Redis memory", words.size(server.used_bytes), f"{limit}{dropped}")


def _checks(found: tuple[Check, ...], palette: Palette) -> None:
    st.header("What was checked")
    signs = {
        name: grids.sign(pipeline_tables.SIGNS[tone], name, palette.of(tone))
        for tone, name in pipeline_tables.STATES.items()
    }
    rows = pipeline_tables.checks(pipeline_checks.worst_first(found))
    grids.grid(rows, "What was checked", signs)


def _reading(view: PipelineView) -> None:
    st.header("Who reads what")
    grids.grid(pipeline_tables.workers(view), "Workers")
    st.caption(
        "Watermark: the earliest of what partitions are complete up to; idle ones do not count"
    )
    grids.grid(pipeline_tables.partitions(view), "Partitions")


def _handing_on(view: PipelineView) -> None:
    st.header("What is handed on")
    grids.grid(pipeline_tables.handing_on(view), "What is handed on")


def _files(view: PipelineView, found: tuple[Check, ...]) -> None:
    """Made when asked for: a page that redraws itself would make them again and again."""
    box = st.expander("Same numbers as files", key="pipeline-files", on_change="rerun")
    if not box.open:
        return
    document = f"{dump(pipeline_tables.document(view, found))}\n"
    files = {
        "checks.csv": tables.csv_of(pipeline_tables.checks(found)),
        "workers.csv": tables.csv_of(pipeline_tables.workers(view)),
        "partitions.csv": tables.csv_of(pipeline_tables.partitions(view)),
        "rejected.csv": tables.csv_of(tables.rejected(view.books)),
        "pipeline.json": document,
    }
    with box, st.container(horizontal=True):
        for name, content in files.items():
            if content:
                st.download_button(
                    name, content, f"recallwatch-{name}", key=f"pipeline-{name}",
                    icon=":material/download:", on_click="ignore",
                )  # fmt: skip
