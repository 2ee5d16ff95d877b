"""What all tests share."""

import os

import pytest

from tests import require_real

pytest_plugins = ["tests.fixtures.broker", "tests.fixtures.stores"]


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get(require_real.VARIABLE):
        config.pluginmanager.register(require_real)
