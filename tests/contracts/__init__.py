"""One suite for each port, run on every adapter: what holds for one holds for all."""

import pytest

pytest.register_assert_rewrite("tests.contracts.record_log", "tests.contracts.state_store")
