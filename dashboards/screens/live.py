"""Is urgent traffic being caught right now?"""

from functools import partial

import streamlit as st

from dashboards.views import common, live

choice = common.choice()
st.title(f"Is {choice.of or 'urgent'} traffic being caught right now?", anchor=False)
if common.is_watching(choice.of):
    common.refreshed(partial(live.now, choice), common.NOW_EVERY_S, key="now")
    common.refreshed(partial(live.trend, choice), common.CHARTS_EVERY_S, key="trend")
