"""`make test-real` and CI must not pass because something was left out."""

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\naddopts = -p tests.require_real")
    return pytester


def test_a_test_skipped_by_a_mark_fails_and_tells_the_reason(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        import pytest

        @pytest.mark.skip(reason="no Java here")
        def test_marked(): ...
    """)
    result = suite.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no Java here*", "*a skipped test counts as failed*"])


def test_a_test_skipped_while_it_runs_fails(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        import pytest

        def test_running():
            pytest.skip("no Chromium here")
    """)
    suite.runpytest_inprocess().assert_outcomes(failed=1)


def test_a_module_skipped_as_a_whole_fails(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        import pytest

        pytest.importorskip("a_package_that_is_not_installed")
    """)
    suite.runpytest_inprocess().assert_outcomes(errors=1)


def test_a_skipped_doctest_fails(suite: pytest.Pytester) -> None:
    suite.makepyfile('''
        """
        >>> 1 + 1  # doctest: +SKIP
        2
        """
    ''')
    suite.runpytest_inprocess("--doctest-modules").assert_outcomes(failed=1)


def test_passed_failed_and_expected_failures_stay_what_they_are(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        import pytest

        def test_passes(): ...

        def test_fails():
            assert False

        @pytest.mark.xfail(reason="known")
        def test_is_known_to_fail():
            assert False
    """)
    suite.runpytest_inprocess().assert_outcomes(passed=1, failed=1, xfailed=1)
