"""``docs/sizing.md``: the worked example follows from its constants by its formulas."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import BENCHMARKS

PAGE = (Path(__file__).parents[1] / "docs/sizing.md").read_text("utf-8")
DAY = 86_400
DELAY_S = 2 * 3_600
"""The mean label delay of the worked example."""


def table(section: str, first: str) -> list[list[str]]:
    """The cells of the table in a section whose first column has that name."""
    lines = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0].splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def sized() -> Callable[..., tuple[float, ...]]:
    """The function that stands in the page, with the constants that stand there."""
    constants = {name: float(value) for name, value, *_ in table("Constants", "constant")}
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"c": constants}
    exec(code, names)
    found: Callable[..., tuple[float, ...]] = names["sized"]
    return found


EXAMPLE = table("Worked example", "predictions/s")


@pytest.mark.parametrize("row", EXAMPLE, ids=lambda row: " ".join(row[:3]))
def test_the_worked_example_follows_from_the_constants_by_the_formulas(row: list[str]) -> None:
    per_s, days, share = int(row[0].replace(",", "")), int(row[1].removesuffix("d")), float(row[2])
    *counts, memory_gb = sized()(per_s, DELAY_S, days * DAY, share)
    assert [f"{count:,}" for count in counts] + [f"{memory_gb:.1f}"] == row[3:]


def test_the_worked_example_reaches_from_ten_to_five_thousand_a_second() -> None:
    assert {row[0] for row in EXAMPLE} == {"10", "100", "1,000", "5,000"}


def test_every_constant_names_a_command_that_there_is() -> None:
    rows = table("Constants", "constant")
    assert len(rows) > 10
    for name, _, _, command in rows:
        [benchmark] = re.findall(r"`python -m benchmarks (\w+)", command)
        assert benchmark in BENCHMARKS, name


@pytest.mark.parametrize("per_s", [10, 1_000, 50_000])
def test_more_of_anything_never_needs_less(per_s: int) -> None:
    size = sized()
    base = size(per_s, DELAY_S, 7 * DAY, 0.5)
    for more in (
        size(2 * per_s, DELAY_S, 7 * DAY, 0.5),
        size(per_s, DELAY_S, 14 * DAY, 0.5),
        size(per_s, DELAY_S, 7 * DAY, 1.0),
        size(per_s, DELAY_S, 7 * DAY, 0.5, slices=3),
    ):
        workers, _, servers, _, _, memory_gb = zip(base, more, strict=True)
        assert all(one <= other for one, other in (workers, servers, memory_gb))
