"""What needs a human?"""

import streamlit as st

from dashboards.views import alerts

st.title("What needs a human?", anchor=False)
alerts.page()
