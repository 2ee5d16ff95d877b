"""A page of the dashboard as one viewer sees it."""

import re
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

PATIENCE_MS = 30_000
_FOCUSABLE = "a[href], button, input, [tabindex='0'], [role=combobox], [role=slider]"
MOST_TABS = 250

_UNREACHED = f"""() => {{
    const all = [...document.querySelectorAll("{_FOCUSABLE}")];
    return all.filter((one) => {{
        const box = one.getBoundingClientRect();
        const shown = box.width > 0 && box.height > 0 && one.checkVisibility(
            {{visibilityProperty: true, opacityProperty: true}});
        // A chart draws its parts as SVG; the chart itself is what is reached.
        const drawn = one.closest("svg") !== null || one.closest("[role=graphics-document]");
        const off = one.disabled || one.tabIndex < 0 || one.getAttribute("aria-hidden") === "true";
        const hidden = one.closest("[aria-hidden=true], [inert]") !== null;
        return shown && !drawn && !off && !hidden && !one.dataset.reached;
    }}).map((one) => one.outerHTML.slice(0, 160));
}}"""


_CUT_OFF = """(main) => {
    const edge = main.getBoundingClientRect().right + 1, cut = new Set();
    const texts = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
    for (let text; (text = texts.nextNode()); ) {
        const own = text.parentElement;
        const drawn = "svg, style, script, canvas, [data-testid=stDataFrame]";
        const icon = "[data-testid=stIconMaterial]";
        if (!text.data.trim() || own.closest(drawn) || own.closest(icon)) continue;
        const range = document.createRange();
        range.selectNodeContents(text);
        const box = range.getBoundingClientRect();
        // Heads of a table that stands as a list are there to be read aloud alone.
        const head = own.closest("thead");
        if (!box.width || (head && getComputedStyle(head).clipPath !== "none")) continue;
        for (let at = own; at && at !== main; at = at.parentElement) {
            const flow = getComputedStyle(at).overflowX;
            if (["auto", "scroll"].includes(flow)) break;
            const inside = at.getBoundingClientRect();
            const hides = flow !== "visible" && inside.width > 1 && inside.height > 1;
            if (box.right > edge || (hides && box.right > inside.right + 1)) {
                cut.add(text.data.trim().slice(0, 60));
                break;
            }
        }
    }
    return [...cut];
}"""


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
    """Wait for what every page has: its heading, no room kept for what is read, all charts."""
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0, timeout=PATIENCE_MS)
    expect(page.locator("[data-testid=stApp]")).to_have_attribute(
        "data-test-script-state", "notRunning", timeout=PATIENCE_MS
    )
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


def unreached(page: Page) -> list[str]:
    """The beginnings of what can be worked with a mouse, and not reached with the tab key."""
    page.locator("body").focus()
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        page.evaluate("document.activeElement.dataset.reached = 'yes'")
        if not page.evaluate(_UNREACHED):
            break
    left: list[str] = page.evaluate(_UNREACHED)
    return left


def cut_off(page: Page) -> list[str]:
    """The beginnings of texts that reach past the screen, or their box, and cannot be scrolled to.

    Tables of Streamlit and charts draw their own: they are looked at by other tests.
    """
    found: list[str] = page.locator("[data-testid=stMain]").evaluate(_CUT_OFF)
    return found


def has_no_sideways_scroll(page: Page) -> bool:
    """Whether the page fits its width."""
    return bool(
        page.locator("[data-testid=stMain]").evaluate("e => e.scrollWidth <= e.clientWidth")
    )
