"""Starting the Streamlit dashboard, which is a program of its own."""

import importlib.util
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from monitor.app.settings import DashboardSettings
from monitor.domain.errors import WorldError

TRUE_PEERS = {"FORWARDED_ALLOW_IPS": ""}
"""Keeps the web server from replacing addresses of proxies by what they forward."""


def entry() -> Path:
    """The dashboard's entry script; WorldError when the installation lacks it."""
    found = importlib.util.find_spec("dashboards")
    if found is None or not found.submodule_search_locations:
        raise WorldError("the dashboard is not installed; install recallwatch again")
    return Path(found.submodule_search_locations[0]) / "serve.py"


def command(settings: DashboardSettings) -> list[str]:
    """The command line that serves the dashboard; run it in the folder of ``entry``."""
    oidc = settings.identity.oidc
    return [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(entry()),
        f"--server.address={settings.host}",
        f"--server.port={settings.port}",
        f"--server.baseUrlPath={settings.base_path}",
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
        *([] if oidc is None else [f"--secrets.files={oidc.absolute()}"]),
    ]


def environment(config: Path | None) -> Mapping[str, str]:
    """The dashboard's environment: ours, with the settings file as an absolute path.

    Its server must see the true address of whoever connects: who may name viewers hangs on it.
    """
    own = {**os.environ, **TRUE_PEERS}
    if config is not None:
        own["RECALLWATCH_CONFIG"] = str(config.absolute())
    return own


def ensure_free(settings: DashboardSettings) -> None:
    """WorldError when the port cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise WorldError(
                f"dashboard port {settings.host}:{settings.port} cannot be used "
                f"({error.strerror}); stop what uses it, or choose another with --port"
            ) from error


def address(settings: DashboardSettings) -> str:
    """Where a browser finds it."""
    return f"http://{settings.host}:{settings.port}{settings.base_path}/"
