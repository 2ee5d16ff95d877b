"""What Streamlit draws: ``common`` for every page, then one module a page."""
