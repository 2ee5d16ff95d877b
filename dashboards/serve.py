"""What the server serves: the dashboard behind its door. Streamlit finds ``app`` by its name."""

from pathlib import Path

from starlette.middleware import Middleware
from streamlit.starlette import App

from dashboards.gate import Gate

app = App(Path(__file__).with_name("app.py"), middleware=[Middleware(Gate)])
