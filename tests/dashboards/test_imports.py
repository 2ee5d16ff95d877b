"""What a dashboard loads stays in its memory, for as long as it serves."""

import json
import subprocess
import sys

SHOWN = """
import json, sys
from tests.dashboards import scenes
from tests.dashboards.test_pages import run

for page in {pages}:
    run(scenes.source_of(scenes.store_of("firing")), page)
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
PAGES = ("live", "alerts", "missed", "confusion", "labels", "replay", "pipeline")
HEAVY = {"altair", "apprise", "kafka", "river", "scipy", "sklearn"}


def loaded(*pages: str) -> set[str]:
    """The packages that a process holds which has shown these pages."""
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN.format(pages=pages)],
        capture_output=True,
        check=True,
        text=True,
    )
    return set(json.loads(shown.stdout))


def test_dashboard_loads_no_metrics_library_and_no_broker_client_while_it_shows_the_store() -> None:
    assert loaded(*PAGES) & HEAVY == set()


def test_averages_of_variants_load_river_when_they_are_asked_for() -> None:
    assert loaded("variants") & HEAVY == {"river", "scipy"}
