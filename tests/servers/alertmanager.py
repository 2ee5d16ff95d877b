"""The Alertmanager of the system, alone: no cluster, its data in its own folder."""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from tests.servers.ports import HOST, free_port
from tests.servers.processes import Server, ServerError

PROGRAM = "prometheus-alertmanager"
NO_ALERTMANAGER = f"needs {PROGRAM} on PATH (Debian: apt-get install {PROGRAM})"
CLIENT_SECONDS = 2.0


class Alertmanager(Server):
    """Sends what it tells to ``hook``; groups by rule and version, without waiting."""

    name = "Alertmanager"

    def __init__(self, hook: str) -> None:
        found = shutil.which(PROGRAM)
        if found is None:
            raise ServerError(NO_ALERTMANAGER)
        super().__init__()
        self._program, self._hook, self.port = found, hook, 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def choose_ports(self) -> None:
        self.port = free_port()

    def command(self) -> Sequence[str]:
        config = self.folder / "alertmanager.yml"
        config.write_text(
            json.dumps(
                {
                    "route": {
                        "receiver": "hook",
                        "group_by": ["rule", "version"],
                        "group_wait": "10ms",
                        "group_interval": "10ms",
                    },
                    "receivers": [{"name": "hook", "webhook_configs": [{"url": self._hook}]}],
                }
            ),
            encoding="utf-8",
        )
        return [
            self._program,
            f"--config.file={config}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            "--cluster.listen-address=",
        ]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=CLIENT_SECONDS) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, body: object = None) -> Any:  # noqa: ANN401 - it is JSON
        """What its API, version 2, answers; POST when there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/api/v2/{path}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=CLIENT_SECONDS) as answer:
            return json.loads(answer.read() or "null")
