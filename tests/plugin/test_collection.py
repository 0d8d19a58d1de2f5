"""Where there are no tests, the suite is run."""

from __future__ import annotations

import pytest

COLLECT = ("--serve-chaos", "--collect-only", "-q")
SAYS_SO = "serve-chaos: no tests here, so the plugin runs Ray's guide as tests: pytest_serve_chaos.suite"


def test_in_an_empty_directory_the_suite_is_collected(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess(*COLLECT)

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([SAYS_SO, "*test_1_head.py::test_head_lost"])


def test_markers_select_from_the_suite(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess(*COLLECT, "-m", "proxy_failure")

    result.stdout.fnmatch_lines([SAYS_SO, "*test_4_proxies.py::*", "*deselected*"])
    result.stdout.no_fnmatch_line("*test_1_head*")


def test_the_suite_has_a_name(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess(*COLLECT, "--pyargs", "pytest_serve_chaos.suite")

    result.stdout.fnmatch_lines(["*test_1_head.py::test_head_lost"])
    result.stdout.no_fnmatch_line(SAYS_SO)


def test_tests_of_ones_own_are_run_instead(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_own(): pass")

    for arguments in ((), ("-k", "nothing")):
        result = pytester.runpytest_inprocess(*COLLECT, *arguments)
        result.stdout.no_fnmatch_line("*test_head_lost*")


def test_a_path_that_is_given_is_meant(pytester: pytest.Pytester) -> None:
    pytester.mkdir("empty")

    result = pytester.runpytest_inprocess(*COLLECT, "empty")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.no_fnmatch_line("*test_head_lost*")


def test_broken_tests_are_not_replaced_by_the_suite(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import a_module_that_there_is_not")

    result = pytester.runpytest_inprocess(*COLLECT)

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.no_fnmatch_line("*test_head_lost*")


def test_without_the_option_an_empty_directory_stays_empty(pytester: pytest.Pytester) -> None:
    assert pytester.runpytest_inprocess("--collect-only").ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize("marker", ["worker_failure(which='worker-3')", "proxy_failure(on='worker-3')"])
def test_a_node_that_the_cluster_will_not_have_is_refused_before_there_is_one(
    pytester: pytest.Pytester, marker: str
) -> None:
    pytester.makepyfile(f"""
        import pytest

        @pytest.mark.{marker}
        def test_it(experiment): experiment.run()
    """)

    refused = pytester.runpytest_inprocess("--serve-chaos")
    collected = pytester.runpytest_inprocess(*COLLECT, "--serve-chaos-workers=3")

    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*'worker-3'*the cluster will not have such a node*", "*worker-1, worker-2*"])
    assert collected.ret == pytest.ExitCode.OK
