"""The Pipeline page in a real browser."""

import csv
import io
import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.test_dashboard_browser import (  # noqa: F401 - fixtures
    Server,
    browser,
    pytestmark,
    shots,
    whole,
)
from tests.e2e.test_every_page import piped  # noqa: F401 - a fixture
from tests.e2e.visits import PATIENCE_MS, Visit, has_no_sideways_scroll


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 390)], ids=str
)
def test_pipeline_answers_its_question_in_every_theme_and_width(
    browser: Browser,  # noqa: F811 - the fixture of that name
    piped: Server,  # noqa: F811 - the same
    shots: Path,  # noqa: F811 - the same
    scheme: str,
    width: int,
) -> None:
    visit = Visit(browser, f"{piped.url}/pipeline", width=width, scheme=scheme)
    page = visit.page
    expect(page.get_by_role("heading", name="Can I trust the numbers?")).to_be_visible()
    expect(page.get_by_text("Yes: all 12 checks hold.")).to_be_visible()
    expect(page.get_by_role("cell", name="worker-1").first).to_be_visible()
    expect(page.get_by_text("predictions received")).to_be_visible()
    assert has_no_sideways_scroll(page)
    whole(page, shots / f"pipeline-{scheme}-{width}.png")
    visit.close()


def test_pipeline_gives_its_numbers_away_as_files(
    browser: Browser,  # noqa: F811 - the fixture of that name
    piped: Server,  # noqa: F811 - the same
) -> None:
    visit = Visit(browser, f"{piped.url}/pipeline")
    visit.page.get_by_text("Same numbers as files").click()
    texts = {}
    for name in ("partitions.csv", "pipeline.json"):
        with visit.page.expect_download() as download:
            visit.page.get_by_role("button", name=name).click()
        texts[name] = Path(download.value.path()).read_text()
    rows = list(csv.DictReader(io.StringIO(texts["partitions.csv"])))
    assert [row["Partition"] for row in rows] == ["labels[0]", "predictions[0]"]
    assert json.loads(texts["pipeline.json"])["ledger"]["predictions"]["difference"] == 0
    visit.close()


def test_pipeline_tells_a_lost_store_and_its_return(
    browser: Browser,  # noqa: F811 - the fixture of that name
    piped: Server,  # noqa: F811 - the same
    shots: Path,  # noqa: F811 - the same
) -> None:
    visit = Visit(browser, f"{piped.url}/pipeline")
    page = visit.page
    piped.say("down")
    expect(page.get_by_text("Redis is unreachable — last known values of")).to_be_visible(
        timeout=PATIENCE_MS
    )
    expect(page.get_by_text("Yes: all 12 checks hold.")).to_have_count(0)
    whole(page, shots / "pipeline-store-down.png")
    piped.say("400000")
    expect(page.get_by_text("No: 2 of 12 checks fail.")).to_be_visible(timeout=PATIENCE_MS)
    whole(page, shots / "pipeline-stale.png")
    piped.say("")
    expect(page.get_by_text("Yes: all 12 checks hold.")).to_be_visible(timeout=PATIENCE_MS)
    visit.close()
