"""The Prometheus of the system: scrapes one target once a second, its data in its own folder."""

import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.servers.ports import HOST, free_port
from tests.servers.processes import Server, ServerError

PROGRAM, TOOL = "prometheus", "promtool"
NO_PROMETHEUS = f"needs {PROGRAM} and {TOOL} on PATH (Debian: apt-get install {PROGRAM})"
CLIENT_SECONDS = 2.0
JOB = "recallwatch"


class Prometheus(Server):
    """Evaluates ``rules`` once a second over what ``target``, ``host:port``, says."""

    name = "Prometheus"

    def __init__(self, target: str, rules: Path) -> None:
        found = shutil.which(PROGRAM)
        if found is None:
            raise ServerError(NO_PROMETHEUS)
        super().__init__()
        self._program, self._target, self._rules, self.port = found, target, rules, 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def choose_ports(self) -> None:
        self.port = free_port()

    def command(self) -> Sequence[str]:
        config = self.folder / "prometheus.yml"
        scrape = {"job_name": JOB, "static_configs": [{"targets": [self._target]}]}
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(self._rules)],
                    "scrape_configs": [scrape],
                }
            ),
            encoding="utf-8",
        )
        return [
            self._program,
            f"--config.file={config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
        ]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=CLIENT_SECONDS) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **query: str) -> Any:  # noqa: ANN401 - it is JSON
        """``data`` of what its API, version 1, answers."""
        asked = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(asked, timeout=CLIENT_SECONDS) as answer:
            return json.loads(answer.read())["data"]

    def value(self, expression: str) -> float | None:
        """The one value of an expression now; None while it has none."""
        found = self.ask("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None
