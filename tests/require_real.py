"""A pytest plugin: what was skipped counts as failed.

In CI Java, redis-server and Chromium are installed, so a skipped test hides a broken
installation behind a green line.
"""

from collections.abc import Generator
from typing import TypeVar

import pytest

VARIABLE = "RECALLWATCH_REQUIRE_REAL"

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _failed_if_skipped((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _failed_if_skipped((yield))


def _failed_if_skipped(report: Report) -> Report:
    # pytest reports an expected failure (xfail) as skipped, too; that is not a missing service.
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}\n{VARIABLE} is set: a skipped test counts as failed."
    return report
