"""The Streamlit dashboard: it draws, it does not compute.

::

    store -> source -> queries -> models -> pictures (cache, last good) -> charts, views -> screens

``source`` is the only file that opens a store, read-only; ``queries``, ``banner``, ``signals`` and
``overlays`` know neither Streamlit nor a clock; ``charts`` turns view models into Vega-Lite specs
and table rows.
"""
