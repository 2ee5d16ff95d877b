"""The dashboard in a headless Chromium: first paint, calm, new windows, loss of the store, axe."""

import re
import statistics
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from benchmarks.dashboard_stage import Stage, clock
from tests.e2e import axe
from tests.e2e.test_dashboard_browser import CHROMIUM, LAUNCH
from tests.e2e.visits import Visit, addresses, has_no_sideways_scroll, unreached

BANNER, CHARTS = "[data-testid=stAlert]", "[data-testid=stVegaLiteChart] svg.marks"
LIVE_CHARTS = 3
NO_LONGER_S = 150.0
POLL_MS = 50

WATCH = """() => {
    const kept = [...document.querySelectorAll("[data-testid=stVegaLiteChart]")];
    const seen = window.seen = {frames: 0, faded: 0, least: 1, shift: 0, charts: kept};
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) seen.shift += entry.value;
    }).observe({type: "layout-shift"});
    const look = () => {
        let least = 1;
        for (const one of document.querySelectorAll("[data-testid=stElementContainer]")) {
            // An empty element keeps a place and shows nothing, faded or not.
            if (one.offsetHeight) least = Math.min(least, Number(getComputedStyle(one).opacity));
        }
        seen.frames += 1;
        seen.faded += least < 0.9 ? 1 : 0;
        seen.least = Math.min(seen.least, least);
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""


@dataclass(frozen=True)
class Paint:
    """Seconds from asking for the address until banner and charts are there."""

    banner_s: float
    charts_s: float


@dataclass(frozen=True)
class Calm:
    """What moved while the page refreshed itself."""

    frames: int
    faded: int
    least_opacity: float
    shift: float
    replaced: int


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium of the system."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=LAUNCH)
        yield launched
        launched.close()


def paints(browser: Browser, url: str, rounds: int) -> tuple[list[Paint], list[Paint]]:
    """First views with an empty cache, and second views in the same browser."""
    cold, warm = [], []
    for _ in range(rounds):
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        cold.append(_paint(context, url))
        warm.append(_paint(context, url))
        context.close()
    return cold, warm


def _paint(context: BrowserContext, url: str) -> Paint:
    page = context.new_page()
    page.set_default_timeout(60_000)
    began = clock()
    page.goto(url, wait_until="commit")
    page.locator(BANNER).first.wait_for()
    banner_s = clock() - began
    page.wait_for_function(
        "([charts, n]) => document.querySelectorAll(charts).length >= n", arg=[CHARTS, LIVE_CHARTS]
    )
    found = Paint(banner_s, clock() - began)
    page.close()
    return found


def median(paints_of: list[Paint]) -> Paint:
    """The middle of each of both times."""
    return Paint(
        statistics.median(paint.banner_s for paint in paints_of),
        statistics.median(paint.charts_s for paint in paints_of),
    )


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """The Live page, drawn."""
    visit = Visit(browser, url)
    yield visit.page
    visit.close()


def calm(page: Page, seconds: float) -> Calm:
    """Watch every frame for so long."""
    page.evaluate(WATCH)
    page.wait_for_timeout(1000 * seconds)
    seen = page.evaluate(
        "() => ({...seen, charts: seen.charts.filter((one) => !one.isConnected).length})"
    )
    return Calm(
        seen["frames"], seen["faded"], seen["least"], seen["shift"], replaced=seen["charts"]
    )


def new_window(page: Page, found: Stage) -> tuple[float, float]:
    """Seconds from the commit that completes a pane until cards and charts show it."""
    coverage = page.get_by_label(re.compile("^Labels in: "))
    before = len(found.windows)
    card, chart = _card_text(page), coverage.first.get_attribute("aria-label")
    seen_card = seen_chart = None
    limit = clock() + NO_LONGER_S
    while len(found.windows) == before and clock() < limit:
        page.wait_for_timeout(POLL_MS)
        card, chart = _card_text(page), coverage.first.get_attribute("aria-label")
    while (seen_card is None or seen_chart is None) and clock() < limit:
        page.wait_for_timeout(POLL_MS)
        if seen_card is None and _card_text(page) != card:
            seen_card = clock()
        if seen_chart is None and coverage.first.get_attribute("aria-label") != chart:
            seen_chart = clock()
    if seen_card is None or seen_chart is None or len(found.windows) <= before:
        raise SystemExit("no new window was seen")
    written = found.windows[before]
    return seen_card - written, seen_chart - written


def _card_text(page: Page) -> str:
    """The span of the window beside the card, such as 11:45–12:00 UTC."""
    texts = page.locator("[data-testid=stCaptionContainer]").all_text_contents()
    spans = [text for text in texts if re.fullmatch(r"\d\d:\d\d–\d\d:\d\d UTC", text.strip())]
    return spans[0] if spans else ""


def loss(page: Page, found: Stage) -> tuple[float, float]:
    """Seconds until a frozen store is told, and until its return is."""
    gone = page.get_by_text("Redis is unreachable")
    began = clock()
    found.redis.pause()
    try:
        expect(gone).to_be_visible(timeout=60_000)
        told_s = clock() - began
    finally:
        found.redis.resume()
    began = clock()
    expect(gone).to_have_count(0, timeout=60_000)
    return told_s, clock() - began


@dataclass(frozen=True)
class Access:
    """One page: axe's findings by rule, what no key reaches, where it scrolls sideways."""

    page: str
    ours: Counter[str]
    streamlits: Counter[str]
    unreached: int
    sideways: tuple[str, ...]
    strangers: int


def access(browser: Browser, url: str) -> list[Access]:
    """Every page, in light and dark, on a phone and at 200 %."""
    visit = Visit(browser, url)
    found = addresses(visit.page)
    visit.close()
    return [_access(browser, address) for address in found]


def _access(browser: Browser, url: str) -> Access:
    breaks: list[axe.Violation] = []
    strangers = 0
    for scheme in ("light", "dark"):
        visit = Visit(browser, url, scheme=scheme)
        breaks += axe.violations(visit.page)
        strangers += len(visit.strangers)
        visit.close()
    visit = Visit(browser, f"{url}?live=false")
    left = unreached(visit.page)
    visit.close()
    sideways = []
    for name, width, scale in (("390 px", 390, 1), ("200 %", 720, 2)):
        visit = Visit(browser, url, width=width, height=500, scale=scale)
        if not has_no_sideways_scroll(visit.page):
            sideways.append(name)
        visit.close()
    own = axe.ours(breaks)
    return Access(
        page=url.partition("//")[2].partition("/")[2] or "live",
        ours=Counter(each.rule for each in own),
        streamlits=Counter(each.rule for each in breaks if each not in own),
        unreached=len(left),
        sideways=tuple(sideways),
        strangers=strangers,
    )
