"""The documents name tests and files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    for file, name in NAMED_TEST.findall(page.read_text("utf-8")):
        path = ROOT / file
        assert path.is_file(), f"{page.name}: {file}"
        assert f"def {name}" in path.read_text("utf-8"), f"{page.name}: {file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_promise_names_a_test() -> None:
    page = (ROOT / "docs/guarantees.md").read_text("utf-8")
    rows = page.split("| Promise | Test |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rows) > 20
    assert [row for row in rows if not NAMED_TEST.search(row)] == []
