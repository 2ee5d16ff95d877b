"""Serves the dashboard over a filled memory store: ``python -m tests.dashboards.serve_memory``.

The store is in this process, so Streamlit is started in it, too. The file given as
third argument is a switch: while it says ``down`` the store does not answer, while it holds a
number the viewer's clock is so many milliseconds ahead.
"""

import sys
from dataclasses import replace
from pathlib import Path

from streamlit.web import cli

import dashboards
from dashboards import source
from tests.dashboards import piped, replayed, scenes

APP = Path(dashboards.__file__).with_name("app.py")


def main(scene: str, port: str, switch: str) -> None:
    """Serve one scene until ended."""
    said = Path(switch)

    def told() -> str:
        return said.read_text() if said.exists() else ""

    if scene == "replayed":
        store = scenes.flaky(replayed.store(), lambda: told() == "down")
        found = replayed.source(store, replayed.recomputed)
    elif scene == "piped":
        store = scenes.flaky(piped.healthy(), lambda: told() == "down")
        found = replace(scenes.source_of(store), vitals=lambda: piped.WELL)
    else:
        store = scenes.flaky(scenes.store_of(scene), lambda: told() == "down")
        found = scenes.source_of(store, spec=scenes.spec_of(scene))

    def now_ms() -> int:
        return found.now_ms() + (int(told()) if told().isdigit() else 0)

    source.use(replace(found, now_ms=now_ms))
    cli.main([
        "run", str(APP), "--server.address", "127.0.0.1", "--server.port", port,
        "--server.headless", "true",
    ])  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
