"""Streamlit's entry: navigation and refresh. Start it with ``recallwatch dashboard``."""

from pathlib import Path

import streamlit as st

from dashboards.views import common

PAGES = Path(__file__).parent / "pages"

st.set_page_config(
    page_title="Recallwatch", page_icon="🛟", layout="wide", initial_sidebar_state=300
)
common.freeze_once()
page = st.navigation({
    "Now": [
        st.Page(
            PAGES / "live.py", title="Live", icon=":material/monitor_heart:", default=True
        ),
    ],
    "Explain": [
        st.Page(PAGES / "labels.py", title="Labels", icon=":material/label:", url_path="labels"),
    ],
})  # fmt: skip
common.check_settings()
common.sidebar()
page.run()
