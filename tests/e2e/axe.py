"""axe-core, which looks for what keeps people from using a page; its script comes as a package."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Page

PACKAGE = "axe_playwright_python"
NO_AXE = f"needs axe-core (pip install {PACKAGE.replace('_', '-')})"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

STREAMLITS = {
    "list": 'data-testid="stSidebarNavItems"',
    "listitem": '<li class="st-emotion-cache-',
    "svg-img-alt": "metric_chart_",
}
"""Rule -> part of the HTML of what breaks it: Streamlit draws it so, and gives no way to change it.

Everything else is ours.
"""


class Violation(NamedTuple):
    """One element that breaks one rule."""

    rule: str
    impact: str
    html: str

    @property
    def is_streamlits(self) -> bool:
        """Whether it is known, and nothing that this program can change."""
        part = STREAMLITS.get(self.rule)
        return part is not None and part in self.html


def script() -> Path | None:
    """Where axe-core is; None where it is not installed."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "axe.min.js"


def violations(page: Page) -> list[Violation]:
    """Every element that breaks a rule, sorted."""
    source = script()
    assert source is not None, NO_AXE
    if not page.evaluate("'axe' in window"):
        page.evaluate(source.read_text(encoding="utf-8"))
    told = page.evaluate(
        "(tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}})", TAGS
    )
    return sorted(
        Violation(each["id"], str(each["impact"]), node["html"])
        for each in told["violations"]
        for node in each["nodes"]
    )


def ours(found: Iterable[Violation]) -> list[Violation]:
    """Those that are not known to be Streamlit's."""
    return [each for each in found if not each.is_streamlits]
