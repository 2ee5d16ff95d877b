"""The dashboard in a real browser, over a real Streamlit server and a filled memory store."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from tests.e2e.visits import has_no_sideways_scroll

CHROMIUM = "/usr/bin/chromium"
LAUNCH = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 30_000
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        shutil.which(CHROMIUM) is None, reason=f"no Chromium at {CHROMIUM}: install it to run this"
    ),
]


class Server:
    """One Streamlit server over one scene. ``say`` moves its clock or takes its store away.

    ``at`` is the port where it must be known beforehand; ``dashboard`` are settings of that group.
    """

    def __init__(
        self, scene: str, folder: Path, *, at: int | None = None, **dashboard: object
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", at or 0))
            port = free.getsockname()[1]
        self.port = int(port)
        self.url = f"http://127.0.0.1:{port}{dashboard.get('base_path', '')}"
        self._switch, self._log = folder / "switch", folder / "log"
        command = [sys.executable, "-m", "tests.dashboards.serve_memory"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, scene, str(port), str(self._switch), json.dumps(dashboard)],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        pytest.fail(f"the server did not start:\n{self._log.read_text()}")

    def say(self, words: str) -> None:
        self._switch.write_text(words)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=LAUNCH)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def firing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server("firing", tmp_path_factory.mktemp("firing"))
    server.wait()
    yield server
    server.stop()


@pytest.fixture
def server(firing: Server) -> Iterator[Server]:
    yield firing
    firing.say("")


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("RECALLWATCH_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def opened(browser: Browser, url: str, *, width: int = 1440, scheme: str = "light") -> Page:
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

    def watch(request: Request) -> None:
        if not request.url.startswith((origin[0], "data:", "blob:")):
            strangers.append(request.url)

    page.on("request", watch)
    page.goto(url)
    expect(page.locator("[data-testid=stVegaLiteChart] svg.marks")).to_have_count(
        3, timeout=PATIENCE_MS
    )
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0, timeout=PATIENCE_MS)
    assert strangers == []
    return page


def whole(page: Page, file: Path) -> None:
    """A picture of the page from its head to its foot."""
    main = page.locator("[data-testid=stMain]")
    height = main.evaluate("element => element.scrollHeight")
    assert page.viewport_size is not None
    page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
    page.screenshot(path=file, animations="disabled")


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 390)], ids=str
)
def test_live_says_what_is_firing_in_every_theme_and_width(
    browser: Browser, server: Server, shots: Path, scheme: str, width: int
) -> None:
    page = opened(browser, server.url, width=width, scheme=scheme)
    heading = page.get_by_role("heading", name="Is urgent traffic being caught right now?")
    expect(heading).to_be_visible()
    expect(page.get_by_text("fine_tuned firing: urgent recall")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Firing since 11:\d\d UTC, for \d+ min"))).to_be_visible()
    evidence = re.compile(r"fine_tuned since 11:\d\d UTC, the start of the evidence of alert")
    expect(page.get_by_text(evidence)).to_be_visible()
    expect(page.locator("[data-testid=stMetric]")).to_have_count(6)
    expect(page.get_by_role("cell", name="report_fraud")).to_be_visible()
    axis = page.locator("[data-testid=stVegaLiteChart] svg").nth(1)
    assert "11:30" in (axis.text_content() or "")
    assert "Time (UTC)" in (axis.text_content() or "")
    assert has_no_sideways_scroll(page)
    whole(page, shots / f"live-{scheme}-{width}.png")
    page.context.close()


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 390)], ids=str
)
def test_labels_shows_its_numbers_in_every_theme_and_width(
    browser: Browser, server: Server, shots: Path, scheme: str, width: int
) -> None:
    page = opened(browser, f"{server.url}/labels", width=width, scheme=scheme)
    expect(page.get_by_role("heading", name="How much do we know, and how late?")).to_be_visible()
    expect(page.get_by_text("predictions received")).to_be_visible()
    expect(page.get_by_text("The books balance")).to_be_visible()
    assert has_no_sideways_scroll(page)
    whole(page, shots / f"labels-{scheme}-{width}.png")
    page.context.close()


def test_cards_stand_two_in_a_row_on_a_phone(browser: Browser, server: Server) -> None:
    page = opened(browser, server.url, width=390)
    boxes = [card.bounding_box() for card in page.locator("[data-testid=stMetric]").all()]
    tops = [box["y"] for box in boxes if box is not None]
    assert len(tops) == 6
    assert tops[0] == tops[1] < tops[2] == tops[3] < tops[4] == tops[5]
    page.context.close()


def test_cards_stand_in_full_rows_on_a_wide_screen(browser: Browser, server: Server) -> None:
    page = opened(browser, server.url)
    boxes = [card.bounding_box() for card in page.locator("[data-testid=stMetric]").all()]
    tops = [box["y"] for box in boxes if box is not None]
    in_a_row = tops.count(tops[0])
    assert in_a_row in {3, 6}
    assert all(tops.count(top) == in_a_row for top in tops)
    page.context.close()


def test_a_link_shows_the_same_view_in_another_browser(browser: Browser, server: Server) -> None:
    first = opened(browser, server.url)
    first.get_by_role("combobox").nth(1).click()
    first.get_by_role("option", name="1h").click()
    expect(first).to_have_url(re.compile(r"range=1h"))
    first.get_by_text("Live updates").click()
    expect(first).to_have_url(re.compile(r"live=false"))
    second = opened(browser, f"{first.url}&variant=fine_tuned")
    expect(second.get_by_role("combobox").nth(1)).to_have_value("1h")
    expect(second.get_by_role("switch", name="Live updates")).not_to_be_checked()
    expect(second.get_by_role("combobox").first).to_have_value("fine_tuned")
    first.context.close()
    second.context.close()


def test_the_view_is_kept_when_the_page_is_changed(browser: Browser, server: Server) -> None:
    page = opened(browser, f"{server.url}/?variant=prompt&range=6h")
    page.get_by_role("link", name="Labels").click()
    expect(page.get_by_role("heading", name="How much do we know, and how late?")).to_be_visible()
    expect(page.get_by_text("Labels in, 6h")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/labels\?.*variant=prompt"))
    page.context.close()


def test_the_card_of_what_was_missed_leads_to_whom(browser: Browser, server: Server) -> None:
    page = opened(browser, server.url)
    page.get_by_role("link", name="See whom").click()
    heading = page.get_by_role("heading", name="Whom did we fail, and are they handled?")
    expect(heading).to_be_visible()
    expect(page).to_have_url(re.compile(r"/missed"))
    page.context.close()


def test_charts_are_described_for_those_who_cannot_see_them(
    browser: Browser, server: Server
) -> None:
    page = opened(browser, server.url)
    expect(
        page.get_by_label(re.compile("^urgent recall, rolling 15 min: last")).first
    ).to_be_attached()
    page.get_by_text("Same numbers as a table").first.click()
    expect(page.locator("[data-testid=stDataFrame]")).to_be_visible()
    with page.expect_download() as download:
        page.locator("[data-testid=stDownloadButton] button").click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert rows[0].startswith("Time (UTC),Recall,95% low,95% high,urgent labels (n)")
    assert rows[1].startswith("2026-11-22T12:00:00Z,")
    assert len(rows) == 181
    page.context.close()


def test_a_refresh_moves_nothing_and_keeps_every_chart(browser: Browser, server: Server) -> None:
    page = opened(browser, server.url)
    age = page.locator("[data-testid=stMetric]", has_text="Data age")
    server.say("10000")
    expect(age).to_contain_text("12 s")
    page.evaluate(
        """() => {
            window.charts = [...document.querySelectorAll("[data-testid=stVegaLiteChart]")];
            window.moved = 0;
            new PerformanceObserver((list) => {
                for (const shift of list.getEntries()) window.moved += shift.value;
            }).observe({type: "layout-shift"});
        }"""
    )
    for seconds in (20, 30, 40):
        server.say(f"{seconds}000")
        expect(age).to_contain_text(f"{seconds + 2} s")
    assert page.evaluate("window.charts.every((chart) => chart.isConnected)")
    assert page.evaluate("window.moved") < 0.01
    page.context.close()


def test_a_stale_page_says_so_by_itself(browser: Browser, server: Server, shots: Path) -> None:
    page = opened(browser, server.url)
    server.say("240000")
    expect(page.get_by_text("Stale — no new window for 4 min.")).to_be_visible()
    expect(page.get_by_text("Everything below describes 12:00 UTC, not now.")).to_be_visible()
    expect(page.get_by_text("Last known state: fine_tuned firing")).to_be_visible()
    whole(page, shots / "live-stale.png")
    server.say("0")
    expect(page.get_by_text("Stale —")).to_have_count(0)
    page.context.close()


def test_a_lost_store_is_told_and_its_return_needs_no_reload(
    browser: Browser, server: Server, shots: Path
) -> None:
    page = opened(browser, server.url)
    server.say("down")
    expect(page.get_by_text("Redis is unreachable — last known values of")).to_be_visible()
    expect(page.locator("[data-testid=stMetricValue]").first).to_have_text("–")
    whole(page, shots / "live-store-down.png")
    server.say("0")
    expect(page.get_by_text("Redis is unreachable")).to_have_count(0)
    expect(page.get_by_text("fine_tuned firing: urgent recall")).to_be_visible()
    page.context.close()
