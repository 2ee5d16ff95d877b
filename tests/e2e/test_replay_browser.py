"""The page "Replay and audit" in a real browser, over a filled memory store with a journal."""

import json
import re
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.test_dashboard_browser import (  # noqa: F401 - fixtures
    PATIENCE_MS,
    Server,
    browser,
    pytestmark,
    shots,
    whole,
)
from tests.e2e.visits import has_no_sideways_scroll

TITLE = "What did the monitor know at that time?"
FIRING = "urgent-recall (fine_tuned): firing since 11:36 UTC"


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server("replayed", tmp_path_factory.mktemp("replayed"))
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
    chart = page.locator("[data-testid=stVegaLiteChart] svg.marks")
    expect(chart).to_have_count(1, timeout=PATIENCE_MS)
    expect(page.get_by_role("heading", name="Take it away")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0, timeout=PATIENCE_MS)
    assert strangers == []
    return page


@pytest.mark.parametrize(
    ("known", "scheme", "width"),
    [("then", "light", 1440), ("compare", "dark", 1440), ("now", "light", 390)],
    ids=str,
)
def test_a_cold_link_shows_its_view_in_every_theme_and_width(
    browser: Browser,  # noqa: F811 - the fixture
    replayed: Server,
    shots: Path,  # noqa: F811 - the fixture
    known: str,
    scheme: str,
    width: int,
) -> None:
    """The server has drawn no other page before the first of these."""
    url = f"{replayed.url}/replay?at=2026-11-22T11:40Z&known={known}&variant=fine_tuned"
    page = opened(browser, url, width=width, scheme=scheme)
    expect(page.get_by_role("heading", name=TITLE)).to_be_visible()
    expect(page.get_by_role("note")).to_contain_text("Replay, not live · 2026-11-22 11:40 UTC")
    expect(page.get_by_text(FIRING)).to_be_visible()
    judged = page.get_by_text("in hindsight confirmed")
    expect(judged).to_have_count(0 if known == "then" else 1)
    axis = page.locator("[data-testid=stVegaLiteChart] svg").text_content() or ""
    assert "11:30" in axis
    assert "Time (UTC)" in axis
    assert has_no_sideways_scroll(page)
    whole(page, shots / f"replay-{known}-{scheme}-{width}.png")
    page.context.close()


def test_time_is_moved_by_keyboard_and_the_address_follows(
    browser: Browser,  # noqa: F811 - the fixture
    replayed: Server,
) -> None:
    page = opened(browser, f"{replayed.url}/replay?at=2026-11-22T11:40Z")
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile(r"at=2026-11-22T11%3A39Z"))
    page.get_by_role("button", name="−5 min").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"at=2026-11-22T11%3A34Z"))
    expect(page.get_by_text("firing since")).to_have_count(0)
    page.get_by_role("combobox", name="Jump to an alert").click()
    page.get_by_role("option", name=re.compile("11:36 UTC · firing")).click()
    expect(page).to_have_url(re.compile(r"at=2026-11-22T11%3A37Z.*alert=|alert=.*at=2026-11"))
    expect(page.get_by_text(FIRING)).to_be_visible()
    again = opened(browser, page.url)
    expect(again.get_by_role("note")).to_contain_text("2026-11-22 11:37 UTC")
    page.context.close()
    again.context.close()


def test_an_alert_is_recomputed_and_taken_away(
    browser: Browser,  # noqa: F811 - the fixture
    replayed: Server,
) -> None:
    page = opened(browser, f"{replayed.url}/replay?at=2026-11-22T11:40Z")
    page.get_by_role("button", name="Recompute from the log").click()
    expect(page.get_by_text(re.compile("Match: .* came out the same, bit for bit"))).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Bundle (ZIP)").click()
    assert download.value.suggested_filename == "recallwatch-20261122T1140Z-then.zip"
    with zipfile.ZipFile(download.value.path()) as packed:
        sums = packed.read("SHA256SUMS").decode().splitlines()
        held = {name: packed.read(name) for name in packed.namelist()}
    assert {line.split("  ")[1] for line in sums} == set(held) - {"SHA256SUMS"}
    assert all(sha256(held[name]).hexdigest() == d for d, name in (s.split("  ") for s in sums))
    assert json.loads(held["audit.json"])["holds"] is True
    page.context.close()


def test_the_chart_is_described_and_the_instant_kept_when_the_page_is_changed(
    browser: Browser,  # noqa: F811 - the fixture
    replayed: Server,
) -> None:
    page = opened(browser, f"{replayed.url}/replay?at=2026-11-22T11:40Z")
    described = re.compile("^urgent recall up to 2026-11-22 11:40 UTC, as known then")
    expect(page.get_by_label(described).first).to_be_attached()
    page.get_by_role("link", name="Live").click()
    expect(page.get_by_role("heading", name=re.compile("caught right now"))).to_be_visible()
    page.get_by_role("link", name="Replay and audit").click()
    expect(page.get_by_role("note")).to_contain_text("2026-11-22 11:40 UTC")
    page.context.close()
