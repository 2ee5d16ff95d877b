"""Recallwatch: recall of the intents that matter, from live predictions and late labels.

The flow is a row of files. A record comes from ``adapters`` (Kafka or captured files), ``codec``
turns its bytes into a fact (``domain.events``), ``domain.join`` lets label meet prediction,
``domain.windows`` says which panes that touches, ``domain.counts`` and ``domain.scores`` say what
it means, ``domain.alerts`` whether somebody should be told. ``domain.engine`` is that flow on one
page; it is pure. ``app.live`` and ``app.replay`` drive the very same engine, one from Kafka into
Redis, the other from captured files into memory, and ``dashboards`` draws what the store holds.
"""

__version__ = "0.1.0"
