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
from tests.e2e.visits import (
    PATIENCE_MS,
    Visit,
    addresses,
    cut_off,
    drawn,
    has_no_sideways_scroll,
    unreached,
)

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
        assert cut_off(visit.page) == [], url
        visit.close()


def heading_of(visit: Visit) -> str:
    return visit.page.get_by_role("heading", level=1).inner_text()


def sidebar_of(visit: Visit) -> list[str]:
    """What it says: variant, range, and whether the page is live."""
    said = [box.input_value() for box in visit.page.get_by_role("combobox").all()[:2]]
    return [*said, str(visit.page.get_by_role("switch", name="Live updates").is_checked())]


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard below a path, where something fires."""
    server = Server("firing", tmp_path_factory.mktemp("below"), base_path="/watch")
    server.wait()
    yield server
    server.stop()


def test_a_link_opened_in_a_new_tab_shows_what_a_click_shows(
    browser: Browser,  # noqa: F811 - the fixture of that name
    below: Server,
) -> None:
    visit = Visit(browser, f"{below.url}/")
    every = addresses(visit.page)
    visit.close()
    seen: dict[str, str] = {}
    for url in every:
        visit = Visit(browser, f"{url}?range=6h&live=false")
        links = visit.page.locator("[data-testid=stPageLink-NavLink]")
        found = {str(link.evaluate("link => link.href")): link for link in links.all()}
        for href in found:
            if href in seen:
                continue
            visit.go(f"{url}?range=6h&live=false")
            at = [str(link.evaluate("link => link.href")) for link in links.all()].index(href)
            title = heading_of(visit)
            links.nth(at).click()
            expect(visit.page.get_by_role("heading", level=1)).not_to_have_text(title)
            drawn(visit.page)
            tab = Visit(browser, href)
            assert heading_of(tab) == heading_of(visit), href
            assert sidebar_of(tab) == sidebar_of(visit), href
            assert sidebar_of(tab)[1:] == ["6h", "False"], href
            seen[href] = heading_of(tab)
            tab.close()
        visit.close()
    assert len(set(seen.values())) == 4
    assert all(href.startswith(f"{below.url}/") for href in seen)


def test_every_page_tells_a_lost_store_and_its_return_without_a_reload(
    browser: Browser,  # noqa: F811 - the fixture of that name
    pages: list[str],
    piped: Server,
) -> None:
    away = "Redis is unreachable — last known values of"
    visits = [Visit(browser, url) for url in pages]
    for visit in visits:
        expect(visit.page.get_by_text(away)).to_have_count(0)
    piped.say("down")
    for visit in visits:
        expect(visit.page.get_by_text(away)).to_be_visible(timeout=PATIENCE_MS)
        for value in visit.page.locator("[data-testid=stMetricValue]").all():
            expect(value).to_have_text("–")
    piped.say("")
    for visit in visits:
        expect(visit.page.get_by_text(away)).to_have_count(0, timeout=PATIENCE_MS)
        visit.close()
