"""Streamlit's entry: navigation and refresh. Start it with ``recallwatch dashboard``."""

from pathlib import Path

import streamlit as st

from dashboards.views import common

SCREENS = Path(__file__).parent / "screens"

st.set_page_config(
    page_title="Recallwatch", page_icon="🛟", layout="wide", initial_sidebar_state=300
)
common.freeze()
page = st.navigation({
    "Now": [
        st.Page(
            SCREENS / "live.py", title="Live", icon=":material/monitor_heart:", default=True
        ),
        st.Page(
            SCREENS / "alerts.py", title="Alerts", icon=":material/notifications_active:",
            url_path="alerts",
        ),
    ],
    "Explain": [
        st.Page(
            SCREENS / "missed.py", title="Missed", icon=":material/person_alert:",
            url_path="missed",
        ),
        st.Page(
            SCREENS / "confusion.py", title="Confusion", icon=":material/grid_on:",
            url_path="confusion",
        ),
        st.Page(SCREENS / "labels.py", title="Labels", icon=":material/label:", url_path="labels"),
    ],
    "Prove": [
        st.Page(
            SCREENS / "variants.py", title="Variants", icon=":material/compare_arrows:",
            url_path="variants",
        ),
        st.Page(
            SCREENS / "replay.py", title="Replay and audit", icon=":material/history:",
            url_path="replay",
        ),
        st.Page(
            SCREENS / "pipeline.py", title="Pipeline", icon=":material/verified:",
            url_path="pipeline",
        ),
    ],
})  # fmt: skip
common.steady()
common.check_settings()
common.sidebar(page.title)
common.tell_sample()
common.watched(page.url_path)
page.run()
common.freeze()
