"""How much do we know, and how late?"""

from functools import partial

import streamlit as st

from dashboards.views import common, labels

st.title("How much do we know, and how late?", anchor=False)
common.refreshed(partial(labels.page, common.choice()), common.CHARTS_EVERY_S, key="labels")
