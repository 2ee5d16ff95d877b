"""Can I trust the numbers?"""

import streamlit as st

from dashboards.views import common, pipeline

st.title("Can I trust the numbers?", anchor=False)
common.refreshed(pipeline.page, common.NOW_EVERY_S, key="pipeline")
