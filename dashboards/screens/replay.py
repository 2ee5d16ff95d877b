"""What did the monitor know at that time?"""

import streamlit as st

from dashboards.views import common, replay

st.title("What did the monitor know at that time?", anchor=False)
replay.page(common.choice())
