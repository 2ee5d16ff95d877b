"""What holds for every page, whatever it shows, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e import axe
from tests.e2e.test_dashboard_browser import (  # noqa: F401 - fixtures
    Server,
    browser,
    pytestmark,
)
from tests.e2e.visits import Visit, addresses, has_no_sideways_scroll, unreached

SAME = "Same numbers as"


@pytest.fixture(scope="module")
def piped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server("piped", tmp_path_factory.mktemp("piped"))
    server.wait()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def pages(browser: Browser, piped: Server) -> list[str]:  # noqa: F811 - the fixture of that name
    visit = Visit(browser, piped.url)
    found = addresses(visit.page)
    visit.close()
    assert len(found) == 8
    return found


def test_no_page_asks_anything_of_anybody_but_its_server(
    browser: Browser,  # noqa: F811 - the fixture of that name
    pages: list[str],
) -> None:
    for url in pages:
        visit = Visit(browser, url)
        boxes = visit.page.locator("[data-testid=stExpander]").all()
        for box in boxes:
            box.locator("summary").click()
        for box in boxes:
            expect(box.locator("[data-testid=stExpanderDetails] > *").first).to_be_visible()
        for numbers in visit.page.locator("[data-testid=stExpander]", has_text=SAME).all():
            expect(numbers.locator("[data-testid=stDownloadButton]").first).to_be_visible()
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
        assert unreached(visit.page) == [], url
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
