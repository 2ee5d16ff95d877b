"""The pages "Missed" and "Confusion" in a real browser, over a filled memory store."""

import re
from collections.abc import Iterator
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

LOOKS = [("light", 1440), ("dark", 1440), ("light", 390)]
OPEN = re.compile(r"\d+ missed urgent messages wait for somebody, the oldest for ")


@pytest.fixture(scope="module")
def acting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server("acting-firing", tmp_path_factory.mktemp("acting"))
    server.wait()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server("wide", tmp_path_factory.mktemp("wide"))
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
    expect(page.locator("[data-testid=stDataFrame] canvas").first).to_be_visible(
        timeout=PATIENCE_MS
    )
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0, timeout=PATIENCE_MS)
    assert strangers == []
    return page


@pytest.mark.parametrize(("scheme", "width"), LOOKS, ids=str)
def test_missed_messages_are_listed_in_every_theme_and_width(
    browser: Browser,  # noqa: F811 - the fixture
    acting: Server,
    shots: Path,  # noqa: F811 - the fixture
    scheme: str,
    width: int,
) -> None:
    page = opened(browser, f"{acting.url}/missed", width=width, scheme=scheme)
    expect(page.get_by_text(OPEN)).to_be_visible()
    expect(page.locator("[data-testid=stMetric]")).to_have_count(4)
    assert has_no_sideways_scroll(page)
    whole(page, shots / f"missed-{scheme}-{width}.png")
    page.context.close()


def test_a_message_is_looked_at_and_handled_by_keyboard(
    browser: Browser,  # noqa: F811 - the fixture
    acting: Server,
    shots: Path,  # noqa: F811 - the fixture
) -> None:
    """The text is there once, and a link to the message leads another browser to it, masked."""
    page = opened(browser, f"{acting.url}/missed")
    page.get_by_role("combobox", name="Look at one").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="The message")).to_be_visible()
    expect(page).to_have_url(re.compile(r"miss=[0-9a-f]{16}"))
    page.get_by_label("Reason").focus()
    page.keyboard.type("complaint 12")
    page.keyboard.press("Enter")
    text = page.get_by_text(re.compile(r"^I said \w+!$"))
    expect(text).to_be_visible()
    expect(page.get_by_text(re.compile("ana looked at the text: complaint 12"))).to_be_visible()
    whole(page, shots / "missed-revealed.png")
    again = opened(browser, page.url)
    expect(again.get_by_role("heading", name="The message")).to_be_visible()
    expect(again.get_by_text(re.compile(r"^I said \w+!$"))).to_have_count(0)
    page.get_by_label("Ticket").focus()
    page.keyboard.type("4711")
    page.keyboard.press("Enter")
    expect(page.get_by_text("ana marked it as handled, ticket 4711")).to_be_visible()
    expect(text).to_have_count(0)
    expect(page.get_by_role("button", name="Open it again")).to_be_visible()
    page.get_by_role("button", name="Back to the list").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="The message")).to_have_count(0)
    expect(page).not_to_have_url(re.compile("miss="))
    page.context.close()
    again.context.close()


def test_a_row_that_is_marked_stops_the_list_and_letting_it_go_moves_it_again(
    browser: Browser,  # noqa: F811 - the fixture
    acting: Server,
) -> None:
    page = opened(browser, f"{acting.url}/missed")
    oldest = page.locator("[data-testid=stMetric]", has_text="Oldest open")
    before = oldest.locator("[data-testid=stMetricValue]").inner_text()
    grid = page.locator("[data-testid=stDataFrame]").first
    grid.click(position={"x": 16, "y": 52})
    expect(page.get_by_role("heading", name="The message")).to_be_visible()
    other = opened(browser, f"{acting.url}/missed")
    seen = other.locator("[data-testid=stMetric]", has_text="Oldest open")
    moving = seen.locator("[data-testid=stMetricValue]")
    acting.say(str(60 * 60_000))
    expect(moving).not_to_have_text(before, timeout=PATIENCE_MS)
    expect(oldest.locator("[data-testid=stMetricValue]")).to_have_text(before)
    page.get_by_role("button", name="Back to the list").click()
    value = oldest.locator("[data-testid=stMetricValue]")
    expect(value).not_to_have_text(before, timeout=PATIENCE_MS)
    acting.say("")
    page.context.close()
    other.context.close()


@pytest.mark.parametrize(("scheme", "width"), LOOKS, ids=str)
def test_the_matrix_is_drawn_in_every_theme_and_width(
    browser: Browser,  # noqa: F811 - the fixture
    acting: Server,
    shots: Path,  # noqa: F811 - the fixture
    scheme: str,
    width: int,
) -> None:
    page = opened(browser, f"{acting.url}/confusion", width=width, scheme=scheme)
    drawn = page.locator("[data-testid=stVegaLiteChart] svg.marks")
    expect(drawn).to_have_count(1)
    said = drawn.text_content() or ""
    assert "▲ report_fraud" in said
    assert "True intent" in said
    assert has_no_sideways_scroll(page)
    whole(page, shots / f"confusion-{scheme}-{width}.png")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_comparison_is_drawn_and_described(
    browser: Browser,  # noqa: F811 - the fixture
    acting: Server,
    shots: Path,  # noqa: F811 - the fixture
    scheme: str,
) -> None:
    address = f"{acting.url}/confusion?against=just+before&range=1h&variant=fine_tuned"
    page = opened(browser, address, scheme=scheme)
    described = re.compile("^Confusion matrix, .* labelled outcomes of 10 intents; grown most: ")
    expect(page.get_by_label(described).first).to_be_attached()
    expect(page.get_by_role("heading", name="Grown most")).to_be_visible()
    whole(page, shots / f"confusion-compared-{scheme}.png")
    page.context.close()


@pytest.mark.parametrize("width", [1440, 390])
def test_many_intents_are_a_list_and_the_rows_of_the_urgent_ones(
    browser: Browser,  # noqa: F811 - the fixture
    wide: Server,
    shots: Path,  # noqa: F811 - the fixture
    width: int,
) -> None:
    page = opened(browser, f"{wide.url}/confusion", width=width)
    expect(page.get_by_role("heading", name="Where urgent messages went")).to_be_visible()
    assert "57 others" in (page.locator("svg.marks").first.text_content() or "")
    assert has_no_sideways_scroll(page)
    whole(page, shots / f"confusion-wide-{width}.png")
    page.context.close()
