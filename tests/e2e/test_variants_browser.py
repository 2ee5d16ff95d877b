"""The page "Variants" in a real browser, over a filled memory store."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from dashboards.variants_tables import digest_of
from tests.e2e.test_dashboard_browser import (  # noqa: F401 - fixtures
    PATIENCE_MS,
    Server,
    browser,
    pytestmark,
    shots,
    whole,
)
from tests.e2e.visits import has_no_sideways_scroll

LOOKS = [("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)]


@pytest.fixture(scope="module")
def firing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server("firing", tmp_path_factory.mktemp("firing"))
    server.wait()
    yield server
    server.stop()


def opened(
    browser: Browser,  # noqa: F811 - the fixture
    url: str,
    *,
    width: int = 1440,
    scheme: str = "light",
) -> Page:
    """A fresh browser in New York, drawn to the end; fails when anything leaves this machine."""
    context = browser.new_context(
        viewport={"width": width, "height": 1000},
        timezone_id="America/New_York",
        color_scheme="dark" if scheme == "dark" else "light",
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    origin = re.match(r"https?://[^/]+", url)
    assert origin is not None
    strangers: list[str] = []

    def watch(address: str) -> None:
        if not address.startswith((origin[0], "data:", "blob:")):
            strangers.append(address)

    page.on("request", lambda request: watch(request.url))
    page.goto(url)
    drawn = page.locator("[data-testid=stVegaLiteChart] svg.marks")
    expect(drawn).to_have_count(1, timeout=PATIENCE_MS)
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0, timeout=PATIENCE_MS)
    assert strangers == []
    return page


@pytest.mark.parametrize(("scheme", "width"), LOOKS, ids=str)
def test_the_answer_its_numbers_and_both_lines_are_there_in_every_theme_and_width(
    browser: Browser,  # noqa: F811 - the fixture
    firing: Server,
    shots: Path,  # noqa: F811 - the fixture
    scheme: str,
    width: int,
) -> None:
    address = f"{firing.url}/variants?counted=range&range=1h"
    page = opened(browser, address, width=width, scheme=scheme)
    told = re.compile(r"^Let prompt serve: it alone is shown to be fit\.")
    expect(page.get_by_text(told)).to_be_visible()
    expect(page.get_by_text(re.compile(r"^fine_tuned is not fit \(alert")).first).to_be_visible()
    differs = re.compile(r"^prompt has the higher urgent recall than fine_tuned: \+\d")
    expect(page.get_by_text(differs)).to_be_visible()
    expect(page.get_by_text(re.compile("Now: fine_tuned firing"))).to_be_visible()
    expect(page.locator(".stMarkdownBadge", has_text="fit")).to_have_count(2)
    described = re.compile("^urgent recall by variant, rolling 15 min; fine_tuned: last .*; prompt")
    expect(page.get_by_label(described).first).to_be_attached()
    row = page.get_by_role("row", name=re.compile("^urgent recall"))
    expect(row.get_by_role("cell")).to_have_count(3)
    expect(row.get_by_text(re.compile("▲ better"))).to_be_visible()
    for name in ("Measures by variant", "Traps by variant", "Changes of verdicts"):
        expect(page.get_by_role("region", name=name)).to_be_visible()
    sign = re.compile(r"^(✖\sfound|✔\snot found|\?\sunknown)\s*(fine_tuned|prompt)$")
    expect(page.get_by_role("cell", name=sign)).to_have_count(10)
    legend = page.locator("[data-testid=stHtml] span[style*=dashed]")
    expect(legend).to_have_count(1)
    assert has_no_sideways_scroll(page)
    whole(page, shots / f"variants-{scheme}-{width}.png")
    page.context.close()


def test_the_document_that_is_taken_away_says_what_the_page_says(
    browser: Browser,  # noqa: F811 - the fixture
    firing: Server,
    shots: Path,  # noqa: F811 - the fixture
) -> None:
    page = opened(browser, f"{firing.url}/variants")
    with page.expect_download() as taken:
        page.get_by_role("button", name="JSON with digest").click()
    document = json.loads(taken.value.path().read_text("utf-8"))
    digest = document.pop("digest")
    assert digest_of(document) == digest
    expect(page.get_by_text(digest)).to_be_visible()
    found = document["comparison"]["differences"]["urgent recall"]
    row = page.get_by_role("row", name=re.compile("^urgent recall"))
    said = f"{100 * found['other_minus_serving']:+.1f} points"
    expect(row.get_by_role("cell").last).to_contain_text(said)
    told = document["verdicts"]["advice"]
    expect(page.get_by_text(re.compile(f"^{re.escape(told['text'])[:60]}"))).to_be_visible()
    for name, section in document["verdicts"]["variants"].items():
        answer = section["answer"].replace("_", " ")
        expect(page.get_by_text(re.compile(f"{name} is {answer}")).first).to_be_visible()
        assert len(section["traps"]) == 5
    page.get_by_text("Reasons, traps and changes as a table").click()
    expect(page.locator("[data-testid=stDataFrame] canvas").first).to_be_visible()
    page.get_by_text("Same numbers as a table").click()
    expect(page.locator("[data-testid=stDataFrame] canvas").first).to_be_visible()
    whole(page, shots / "variants-verdict-window.png")
    page.context.close()
