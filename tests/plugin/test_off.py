"""Without ``--serve-chaos`` the plugin is not in anybody's way."""

from __future__ import annotations

import pytest

HEAVY = ("ray", "kubernetes", "httpx", "pytest_kind", "yaml", "jinja2", "psutil", "asyncio")


@pytest.mark.parametrize("fixture", ["chaos", "traffic", "experiment", "serve_cluster"])
def test_tests_with_our_fixtures_are_skipped(pytester: pytest.Pytester, fixture: str) -> None:
    pytester.makepyfile(f"import pytest\n\n@pytest.mark.head_failure\ndef test_it({fixture}): assert False")

    result = pytester.runpytest_inprocess("-rs")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs --serve-chaos: it brings up a Ray Serve cluster and breaks it"])


def test_a_fixture_that_is_asked_for_late_skips_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(request): request.getfixturevalue('chaos')")

    result = pytester.runpytest_inprocess("-rs")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs --serve-chaos*"])


def test_options_that_have_no_effect_are_named_without_their_values(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--serve-chaos-dry-run", "--serve-chaos-body=secret")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(
        ["serve-chaos: without --serve-chaos these have no effect: --serve-chaos-dry-run, --serve-chaos-body"]
    )


def test_tests_of_others_with_our_names_run_untouched(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers = worker_failure: theirs, with arguments of their own")
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def traffic():
            return "theirs"

        @pytest.mark.worker_failure("their", own=arguments) if (arguments := 1) else None
        def test_marked(): pass

        def test_their_fixture(traffic):
            assert traffic == "theirs"

        @pytest.mark.parametrize("experiment", ["a", "b"])
        def test_their_parameter(experiment):
            assert experiment in "ab"
        """
    )

    pytester.runpytest_inprocess("--strict-markers").assert_outcomes(passed=4)
    pytester.runpytest_inprocess("--serve-chaos").assert_outcomes(passed=4)


def test_markers_are_known(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--markers")

    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.head_failure(how, hold, for_, *): the test breaks the head*Provided by pytest-serve-chaos.",
            "@pytest.mark.serve_cluster(*): the Serve cluster that this test wants. Provided by pytest-serve-chaos.",
        ]
    )


def test_the_plugin_is_there_once_installed_and_can_be_disabled(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name)

    pytester.runpytest_subprocess("--help").stdout.fnmatch_lines(["*--serve-chaos *"])
    pytester.runpytest_subprocess("--help", "-p", "no:serve_chaos").stdout.no_fnmatch_line("*--serve-chaos*")


def test_the_plugin_can_be_loaded_by_its_short_name(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS")
    pytester.makepyfile("def test_it(chaos): pass")

    pytester.runpytest_subprocess("-p", "serve_chaos").assert_outcomes(skipped=1)


def test_hardly_anything_is_imported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        import sys

        def test_skipped(chaos): pass

        def test_nothing_else_is_there():
            ours = {{name.partition(".")[2] for name in sys.modules if name.startswith("pytest_serve_chaos")}}
            assert ours == {{"", "plugin", "names", "fixtures", "hookspecs"}}
            assert not {{name for name in {HEAVY} if name in sys.modules}}
        """
    )

    pytester.runpytest_subprocess().assert_outcomes(passed=1, skipped=1)


def test_the_plugin_brings_no_module_but_its_own(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them costs whoever has it installed, in every run of pytest. What pytest itself imports costs nothing."""
    pytester.makepyfile(
        """
        import os, pathlib, sys

        def test_all_that_is_there(request):
            names = {name.partition(".")[0] if name.startswith("pytest_serve_chaos") else name for name in sys.modules}
            pathlib.Path(os.environ["MODULES"]).write_text("\\n".join(sorted(names)))
        """
    )

    def imported(options: str) -> set[str]:
        file = pytester.path / "modules.txt"
        monkeypatch.setenv("MODULES", str(file))
        monkeypatch.setenv("PYTEST_ADDOPTS", f"{options} -p no:cacheprovider")
        pytester.runpytest_subprocess().assert_outcomes(passed=1)
        return set(file.read_text().split())

    assert imported("-p pytest_serve_chaos.plugin") - imported("") == {"pytest_serve_chaos"}
