"""The login with OpenID Connect, in a real browser, against a provider of the tests."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.e2e.test_dashboard_browser import (  # noqa: F401 - fixtures
    PATIENCE_MS,
    Server,
    browser,
    pytestmark,
)
from tests.servers.identity_provider import Provider, provider
from tests.servers.ports import HOST, free_port

BASE = "/watch"
CLIENT_ID, CLIENT_SECRET = "recallwatch", "s3cret"
CLAIMS = {"email": "ana@example.com", "email_verified": True, "name": "Ana"}


@contextmanager
def asking(folder: Path, *, is_lying: bool = False) -> Iterator[Server]:
    """A dashboard below a path, whose viewers log in at a provider."""
    port = free_port()
    return_to = f"http://{HOST}:{port}{BASE}/oauth2callback"
    told = Provider(CLIENT_ID, CLIENT_SECRET, return_to, CLAIMS, is_lying=is_lying)
    with provider(told):
        secrets = folder / "oidc.toml"
        secrets.write_text(
            f'[auth]\nredirect_uri = "{return_to}"\ncookie_secret = "{"x" * 40}"\n'
            f'client_id = "{CLIENT_ID}"\nclient_secret = "{CLIENT_SECRET}"\n'
            f'server_metadata_url = "{told.discovery}"\n'
        )
        identity = {"oidc": str(secrets)}
        server = Server("firing", folder, at=port, base_path=BASE, identity=identity)
        try:
            server.wait()
            yield server
        finally:
            server.stop()


@contextmanager
def alerts(browser: Browser, server: Server) -> Iterator[Page]:  # noqa: F811 - the fixture
    """The page in a fresh browser, before anybody has logged in."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{server.url}/alerts")
    expect(page.get_by_text("You are not logged in.")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_role("button", name="Acknowledge…")).to_have_count(0)
    yield page
    context.close()


def test_whoever_logs_in_can_act_under_the_name_of_the_provider_until_logging_out(
    browser: Browser,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    with asking(tmp_path) as server, alerts(browser, server) as page:
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(re.compile(rf"{BASE}/?(\?.*)?$"))
        page.get_by_role("link", name="Alerts", exact=True).click()
        expect(page.get_by_text("ana@example.com")).to_be_visible(timeout=PATIENCE_MS)
        page.get_by_role("button", name="Acknowledge…").click()
        page.get_by_label("What you do about it").fill("rolling back")
        page.get_by_label("What you do about it").press("Enter")
        acknowledged = page.get_by_text(
            re.compile(r"Acknowledged by ana@example\.com at \d\d:\d\d UTC: rolling back")
        )
        expect(acknowledged).to_be_visible(timeout=PATIENCE_MS)

        page.get_by_role("button", name="Log out").click()
        page.wait_for_url(re.compile(rf"{BASE}/?(\?.*)?$"))
        page.goto(f"{server.url}/alerts")
        expect(page.get_by_text("You are not logged in.")).to_be_visible(timeout=PATIENCE_MS)
        expect(page.get_by_role("button", name="Silence…")).to_have_count(0)


def test_nobody_is_logged_in_when_the_token_is_signed_with_another_key(
    browser: Browser,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    with asking(tmp_path, is_lying=True) as server, alerts(browser, server) as page:
        with page.expect_response(re.compile("oauth2callback")):
            page.get_by_role("button", name="Log in").click()
        page.goto(f"{server.url}/alerts")
        expect(page.get_by_text("You are not logged in.")).to_be_visible(timeout=PATIENCE_MS)
        expect(page.get_by_role("button", name="Acknowledge…")).to_have_count(0)
