"""What holds for every page, whatever it shows, in a real browser."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e import axe
from tests.e2e.test_dashboard_browser import (  # noqa: F401 - fixtures
    PATIENCE_MS,
    Server,
    browser,
    has_no_sideways_scroll,
    pytestmark,
    shots,
    whole,
)

FOCUSABLE = "a[href], button, input, [tabindex='0'], [role=combobox], [role=slider]"
MOST_TABS = 250

UNREACHED = f"""() => {{
    const all = [...document.querySelectorAll("{FOCUSABLE}")];
    return all.filter((one) => {{
        const box = one.getBoundingClientRect();
        const shown = box.width > 0 && box.height > 0 && one.checkVisibility();
        // A chart draws its parts as SVG; the chart itself is what is reached.
        const drawn = one.closest("svg") !== null || one.closest("[role=graphics-document]");
        const off = one.disabled || one.tabIndex < 0 || one.getAttribute("aria-hidden") === "true";
        const hidden = one.closest("[aria-hidden=true], [inert]") !== null;
        return shown && !drawn && !off && !hidden && !one.dataset.reached;
    }}).map((one) => one.outerHTML.slice(0, 160));
}}"""


@pytest.fixture(scope="module")
def piped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server("piped", tmp_path_factory.mktemp("piped"))
    server.wait()
    yield server
    server.stop()


class Visit:
    """A fresh browser in New York; what it asked of others than the server is kept, and refused."""

    def __init__(
        self, browser: Browser, url: str, *, width: int = 1440, height: int = 1000,
        scheme: str = "light", scale: float = 1,
    ) -> None:  # fmt: skip
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            timezone_id="America/New_York",
            color_scheme="dark" if scheme == "dark" else "light",
            device_scale_factor=scale,
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.strangers: list[str] = []
        home = urlsplit(url).netloc
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self._note(request.url, home))
        self.page.on("websocket", lambda socket: self._note(socket.url, home))
        self.go(url)

    def _note(self, url: str, home: str) -> None:
        at = urlsplit(url)
        if at.scheme not in {"data", "blob"} and at.netloc != home:
            self.strangers.append(url)

    def go(self, url: str) -> None:
        """To another address, drawn to the end."""
        self.page.goto(url)
        drawn(self.page)

    def close(self) -> None:
        self.context.close()


def drawn(page: Page) -> None:
    """Wait for what a page shows first."""
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0, timeout=PATIENCE_MS)
    expect(page.locator("[data-testid=stMetric]").first).to_be_visible(timeout=PATIENCE_MS)
    for chart in page.locator("[data-testid=stVegaLiteChart]").all():
        expect(chart.locator("svg.marks")).to_be_visible(timeout=PATIENCE_MS)


def addresses(page: Page) -> list[str]:
    """Every page, as the navigation names them."""
    links = page.locator("[data-testid=stSidebarNavLink]")
    expect(links.first).to_be_attached()
    found = [link.get_attribute("href") or "" for link in links.all()]
    root = re.match(r"https?://[^/]+", page.url)
    assert root is not None
    return [href if href.startswith("http") else root[0] + href for href in found]


@pytest.fixture
def pages(browser: Browser, piped: Server) -> list[str]:  # noqa: F811 - the fixture of that name
    visit = Visit(browser, piped.url)
    found = addresses(visit.page)
    visit.close()
    assert len(found) >= 4
    return found


def test_no_page_asks_anything_of_anybody_but_its_server(
    browser: Browser,  # noqa: F811 - the fixture of that name
    pages: list[str],
) -> None:
    for url in pages:
        visit = Visit(browser, url)
        for box in visit.page.locator("[data-testid=stExpander] summary").all():
            box.click()
        expect(visit.page.locator("[data-testid=stExpander] details[open]")).to_have_count(
            visit.page.locator("[data-testid=stExpander] summary").count()
        )
        assert visit.strangers == [], url
        visit.close()


@pytest.mark.skipif(axe.script() is None, reason=axe.NO_AXE)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_keeps_anybody_out(
    browser: Browser,  # noqa: F811 - the fixture of that name
    pages: list[str],
    scheme: str,
) -> None:
    for url in pages:
        visit = Visit(browser, url, scheme=scheme)
        assert axe.ours(axe.violations(visit.page)) == [], url
        visit.close()


def test_everything_on_a_page_is_reached_by_keyboard(
    browser: Browser,  # noqa: F811 - the fixture of that name
    pages: list[str],
) -> None:
    for url in pages:
        visit = Visit(browser, f"{url}?live=false")
        page = visit.page
        page.locator("body").focus()
        for _ in range(MOST_TABS):
            page.keyboard.press("Tab")
            page.evaluate("document.activeElement.dataset.reached = 'yes'")
            if not page.evaluate(UNREACHED):
                break
        assert page.evaluate(UNREACHED) == [], url
        visit.close()


@pytest.mark.parametrize(("width", "scale"), [(390, 1), (720, 2)], ids=["phone", "zoom-200"])
def test_no_page_scrolls_sideways(
    browser: Browser,  # noqa: F811 - the fixture of that name
    pages: list[str],
    width: int,
    scale: float,
) -> None:
    for url in pages:
        visit = Visit(browser, url, width=width, height=500, scale=scale)
        assert has_no_sideways_scroll(visit.page), url
        visit.close()
