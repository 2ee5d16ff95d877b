"""Which intents are confused with which?"""

import streamlit as st

from dashboards.views import common, confusion

choice = common.choice()
st.title("Which intents are confused with which?", anchor=False)
confusion.page(choice)
