"""The page "Alerts" in a real browser, behind a proxy that names who has logged in, or does not."""

import csv
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.dashboards.scenes import RULE
from tests.e2e.test_dashboard_browser import (  # noqa: F401 - fixtures
    PATIENCE_MS,
    Server,
    browser,
    pytestmark,
    shots,
    whole,
)
from tests.e2e.visits import has_no_sideways_scroll
from tests.servers.naming import HEADER, naming

TITLE = "What needs a human?"
BASE = "/watch"
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that is only looked at, at the root, under one name."""
    folder = tmp_path_factory.mktemp("looked-at")
    server = Server("acknowledged", folder, allowed_hosts=["127.0.0.1"])
    server.wait()
    yield server
    server.stop()


@pytest.fixture
def handled(tmp_path: Path) -> Iterator[Server]:
    """One on which people act, below a path."""
    server = Server("firing", tmp_path, base_path=BASE, identity={"header": HEADER})
    server.wait()
    yield server
    server.stop()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:  # noqa: F811 - the fixture
    """Opens a page in a fresh browser in New York; fails when anything leaves this machine."""
    pages: list[Page] = []

    def open_(url: str, *, width: int = 1440, scheme: str = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            timezone_id="America/New_York",
            color_scheme="dark" if scheme == "dark" else "light",
        )
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        origin = re.match(r"https?://[^/]+", url)
        assert origin is not None
        allowed = (origin[0], "data:", "blob:")
        page.on(
            "request",
            lambda request: None if request.url.startswith(allowed) else strangers.append(request),
        )
        page.goto(url)
        expect(page.get_by_role("heading", name=TITLE)).to_be_visible(timeout=PATIENCE_MS)
        expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0, timeout=PATIENCE_MS)
        pages.append(page)
        return page

    strangers: list[object] = []
    yield open_
    for page in pages:
        page.context.close()
    assert strangers == []


def card_of(page: Page) -> str:
    """Id of the alert of the rule."""
    heading = page.get_by_role("heading", name=f"{RULE.of} {RULE.metric} below 80%").first
    expect(heading).to_be_visible()
    return (heading.text_content() or "").partition(" ")[0]


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 390)], ids=str
)
def test_the_page_tells_what_is_up_in_every_theme_and_width(
    opened: Open,
    looked_at: Server,
    shots: Path,  # noqa: F811 - the fixture
    scheme: str,
    width: int,
) -> None:
    page = opened(f"{looked_at.url}/alerts", width=width, scheme=scheme)
    taken = re.compile(r"Acknowledged by ana at \d\d:\d\d UTC: rolling back")
    expect(page.get_by_text(taken)).to_be_visible()
    expect(page.get_by_text("You can look, but not act.")).to_be_visible()
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    expect(page.get_by_role("heading", name="What people did")).to_be_visible()
    assert has_no_sideways_scroll(page)
    whole(page, shots / f"alerts-{scheme}-{width}.png")


def test_an_alert_is_taken_on_and_silenced_by_keyboard_behind_a_proxy_and_a_path(
    opened: Open,
    handled: Server,
    shots: Path,  # noqa: F811 - the fixture
) -> None:
    with naming(handled.port, "ana") as proxy:
        page = opened(f"{proxy}{BASE}/alerts")
        name = card_of(page)
        page = opened(f"{proxy}{BASE}/alerts?alert={name}")
        card = page.locator(f".st-key-alert-{name}")
        expect(card).to_be_focused()
        expect(card).to_contain_text("Not acknowledged")
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Acknowledge…")).to_be_focused()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        page.get_by_label("What you do about it").focus()
        page.keyboard.press("Enter")
        expect(dialog.get_by_text("note must not be empty")).to_be_visible()
        whole(page, shots / "alerts-dialog.png")
        page.get_by_label("What you do about it").focus()
        page.keyboard.type("rolling back")
        page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        expect(card).to_contain_text(
            re.compile(r"Acknowledged by ana at \d\d:\d\d UTC: rolling back")
        )
        expect(page.get_by_role("button", name="Acknowledge…")).to_have_count(0)

        page.get_by_role("button", name="Silence…").focus()
        page.keyboard.press("Enter")
        expect(dialog).to_be_visible()
        dialog.get_by_role("radio").first.focus()
        page.keyboard.press("ArrowRight")
        page.get_by_label("Why nobody need hear of it").focus()
        page.keyboard.type("retraining")
        page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        expect(card).to_contain_text("silenced by ana until 13:00 UTC: retraining")
        expect(page.get_by_role("heading", name="Silences that hold")).to_be_visible()
        whole(page, shots / "alerts-handled.png")

        with page.expect_download() as download:
            page.get_by_role("button", name="Trail (CSV)").click()
        with Path(download.value.path()).open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["Who"], row["Action"], row["Reason"]) for row in rows] == [
            ("ana", "silenced", "retraining"),
            ("ana", "acknowledged", "rolling back"),
        ]
        with page.expect_download() as download:
            page.get_by_role("button", name="Trail (JSON)").click()
        deeds = [act["deed"] for act in json.loads(Path(download.value.path()).read_text())]
        assert deeds == ["silence", "acknowledge"]

        page.get_by_role("button", name="End silence…").focus()
        page.keyboard.press("Enter")
        expect(dialog).to_be_visible()
        page.get_by_label("Why (may be empty)").focus()
        page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        expect(page.get_by_role("heading", name="Silences that hold")).to_have_count(0)


def test_a_dialog_stays_while_the_page_is_refreshed_and_closes_by_escape(
    opened: Open, handled: Server
) -> None:
    with naming(handled.port, "ana") as proxy:
        page = opened(f"{proxy}{BASE}/alerts")
        page.get_by_role("button", name="Silence…").click()
        dialog = page.get_by_role("dialog")
        page.get_by_label("Why nobody need hear of it").fill("half a reason")
        handled.say("240000")
        stale = page.get_by_text("Stale — no new window for 4 min.")
        expect(stale).to_be_attached(timeout=PATIENCE_MS)
        expect(dialog).to_be_visible()
        expect(page.get_by_label("Why nobody need hear of it")).to_have_value("half a reason")
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        handled.say("0")
        expect(stale).to_have_count(0, timeout=PATIENCE_MS)
        expect(dialog).to_have_count(0)


def test_there_are_no_buttons_when_the_proxy_names_nobody(opened: Open, handled: Server) -> None:
    with naming(handled.port, None) as proxy:
        page = opened(f"{proxy}{BASE}/alerts")
        expect(
            page.get_by_text(f"No trusted proxy names you in the header {HEADER}")
        ).to_be_visible()
        expect(page.get_by_role("button", name="Acknowledge…")).to_have_count(0)


def test_the_banner_of_the_live_page_leads_to_the_alert_and_that_to_its_replay(
    opened: Open, looked_at: Server
) -> None:
    page = opened(f"{looked_at.url}/alerts")
    name = card_of(page)
    page.get_by_role("link", name="Live").click()
    page.get_by_role("link", name=re.compile(f"Alert {name}")).click()
    expect(page).to_have_url(re.compile(f"/alerts\\?.*alert={name}"))
    card = page.locator(f".st-key-alert-{name}")
    expect(card).to_be_focused()
    card.get_by_role("link", name="Replay").click()
    expect(page).to_have_url(re.compile(rf"/replay\?.*alert={name}-\d"))
    heading = page.get_by_role("heading", name="What did the monitor know at that time?")
    expect(heading).to_be_visible()


def test_another_host_name_is_refused_in_words(
    browser: Browser,  # noqa: F811 - the fixture
    looked_at: Server,
) -> None:
    page = browser.new_page()
    answer = page.goto(f"http://localhost:{looked_at.port}/alerts")
    assert answer is not None
    assert answer.status == 403
    expect(page.get_by_text("Recallwatch is not served under this name")).to_be_visible()
    page.close()
    upgrade = urllib.request.Request(
        f"http://localhost:{looked_at.port}/_stcore/stream",
        headers={
            "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        },
    )  # fmt: skip
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(upgrade, timeout=10)
    health = f"http://localhost:{looked_at.port}/_stcore/health"
    assert urllib.request.urlopen(health, timeout=10).status == 200
