"""One file a page; Streamlit runs them as scripts.

The folder must not be named ``pages``: a server that has not drawn anything yet would take its
files for the whole application, and answer a link to one of them without ``app.py``.
"""
