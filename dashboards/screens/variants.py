"""Which variant should serve?"""

import streamlit as st

from dashboards.views import common, variants

choice = common.choice()
st.title("Which variant should serve?", anchor=False)
variants.page(choice)
