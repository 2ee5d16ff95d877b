"""What holds for every page, whatever it shows, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e import axe
from tests.e2e.test_dashboard_browser import (  # noqa: F401 - fixtures
    Server,
    browser,
    has_no_sideways_scroll,
    pytestmark,
)
from tests.e2e.visits import Visit, addresses

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
