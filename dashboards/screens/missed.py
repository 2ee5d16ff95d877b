"""Whom did we fail, and are they handled?"""

import streamlit as st

from dashboards.views import common, missed

choice = common.choice()
st.title("Whom did we fail, and are they handled?", anchor=False)
if common.is_watching(choice.of):
    missed.page(choice)
