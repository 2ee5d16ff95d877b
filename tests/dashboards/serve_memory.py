"""Serves the dashboard over a filled memory store: ``python -m tests.dashboards.serve_memory``.

The store is in this process, so Streamlit is started in it, too. The file given as
third argument is a switch: while it says ``down`` the store does not answer, while it holds a
number the viewer's clock is so many milliseconds ahead. A fourth argument holds settings of the
group ``dashboard`` as JSON; where these tell how viewers are known, the store takes their acts.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from streamlit.web import cli

import dashboards
from dashboards import identity, source
from dashboards.identity import Viewer
from monitor.app.dashboard import TRUE_PEERS
from monitor.app.settings import DashboardSettings
from tests.dashboards import piped, replayed, scenes

ACTING = "acting-"
"""Before the name of a scene: somebody is signed in, and texts can be read."""

SERVE = Path(dashboards.__file__).with_name("serve.py")


def main(scene: str, port: str, switch: str, settings: str = "{}") -> None:
    """Serve one scene until ended."""
    said = Path(switch)

    def told() -> str:
        return said.read_text() if said.exists() else ""

    if scene == "replayed":
        store = scenes.flaky(replayed.store(), lambda: told() == "down")
        found = replayed.source(store, replayed.recomputed)
    elif scene == "piped":
        store = scenes.flaky(piped.healthy(), lambda: told() == "down")
        found = piped.source_of(store)
    else:
        held = scenes.store_of(scene.removeprefix(ACTING))
        store = scenes.flaky(held, lambda: told() == "down")
        found = scenes.source_of(store, spec=scenes.spec_of(scene))
        found = replace(found, settings=scenes.SETTINGS)
        if scene.startswith(ACTING):
            found = replace(found, act=held.act, text_of=lambda miss: f"I said {miss.actual}!")
            identity.viewer = lambda: Viewer("ana")

    def now_ms() -> int:
        return found.now_ms() + (int(told()) if told().isdigit() else 0)

    own = DashboardSettings.model_validate(json.loads(settings))
    asked = found.settings.model_copy(update={"dashboard": own})
    act = store.act if own.identity.is_asked else found.act
    source.use(replace(found, now_ms=now_ms, settings=asked, act=act))
    os.environ.update(TRUE_PEERS)
    oidc = own.identity.oidc
    cli.main([
        "run", str(SERVE), "--server.address", "127.0.0.1", "--server.port", port,
        "--server.headless", "true", f"--server.baseUrlPath={own.base_path}",
        *([] if oidc is None else [f"--secrets.files={oidc}"]),
    ])  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
