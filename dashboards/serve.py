"""What the server serves: the dashboard behind its door. Streamlit finds ``app`` by its name."""

from pathlib import Path

from starlette.middleware import Middleware
from streamlit.starlette import App

from dashboards import datasets
from dashboards.gate import Gate

# The first table makes Arrow load pandas, which takes a second: not while the first viewer waits.
datasets.table([{"is_loaded": True}])

app = App(Path(__file__).with_name("app.py"), middleware=[Middleware(Gate)])
