"""The same join in Quix Streams, with its state in RocksDB and a changelog topic in Kafka.

Only what it does best is asked of it: predictions and labels meet in its state, by their key, at
least once. The matrices are counted in memory, as the plain loop does, and lost in a crash; so its
figure is one of a program that keeps less than ours. Measured where ``quixstreams`` is installed.
"""

import logging
import tempfile
from collections import Counter
from typing import Any

from quixstreams import Application, State

from benchmarks.replay_runs import Cell, Order
from benchmarks.replay_stream import settings_of
from monitor.app.wiring import topics_of
from monitor.domain.events import Kind


def run(order: Order) -> list[Cell]:
    """Read all of both topics, and count."""
    counted: Counter[tuple[str, str, str, str]] = Counter()
    read = 0

    def met(message: dict[str, Any], state: State) -> None:
        nonlocal read
        read += 1
        if "true_intent" in message:
            _count(counted, state, "prediction", "label", message["true_intent"], is_label=True)
        else:
            said = [message["event_time"][:16], message["variant"], message["predicted_intent"]]
            _count(counted, state, "label", "prediction", said, is_label=False)
        if read == order.events:
            app.stop()

    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=order.bootstrap,
            consumer_group=f"quix-{order.namespace}",
            auto_offset_reset="earliest",
            state_dir=folder,
            loglevel=logging.WARNING,
        )
        topics = topics_of(settings_of())
        said, labels = (
            app.dataframe(app.topic(topics[kind], key_deserializer="str")) for kind in Kind
        )
        said.concat(labels).update(met, stateful=True)
        app.run()
    return sorted((*place, count) for place, count in counted.items())


def _count(
    counted: Counter[tuple[str, str, str, str]],
    state: State,
    other: str,
    mine: str,
    told: Any,  # noqa: ANN401 - what the state holds
    *,
    is_label: bool,
) -> None:
    held = state.get(other)
    if held is None:
        state.set(mine, told)
        return
    state.delete(other)
    actual, (minute, variant, predicted) = (told, held) if is_label else (held, told)
    counted[minute, variant, actual, predicted] += 1
