"""An option value that pytest takes for a test path must not cost the user their configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_serve_chaos.backends import Backend, Option
from pytest_serve_chaos.backends.local import LOCAL
from pytest_serve_chaos.kinds import File, anything
from pytest_serve_chaos.testing import FakeBackend
from tests.plugin.conftest import LOAD

TEST = "def test_it(serve_cluster): pass"
CONFIG = "applications: [{name: sleepy_pid, route_prefix: /, import_path: 'ranker:app'}]"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: a project with a configuration, alongside a directory with a Serve config."""
    (pytester.path / "deploy").mkdir()
    (pytester.path / "deploy" / "serve.yaml").write_text(CONFIG)
    directory = pytester.path / "project"
    (directory / "tests").mkdir(parents=True)
    (directory / "pytest.ini").write_text("[pytest]\nserve_chaos_workers = 3")
    (directory / "tests" / "test_it.py").write_text(TEST)
    monkeypatch.chdir(directory)
    return directory


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("--serve-chaos", *LOAD, *args, plugins=[FakeBackend()])


def refused(result: pytest.RunResult, project: Path, option: str, value: str) -> None:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            f"*pytest takes {value} for a test path, so its root directory is {project.parent} instead of {project}"
            f" and does not read {project / 'pytest.ini'}",
            f"*{option} {value} on the command line",
            f"*write {option}={value} as one word",
        ]
    )
    assert not (project.parent / ".serve-chaos").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--serve-chaos-app", "../deploy/serve.yaml"),
        ("--serve-chaos-report-dir", "../deploy"),
        ("--serve-chaos-redis-server", "../deploy/serve.yaml"),
        ("--serve-chaos-rayservice-file", "../deploy/serve.yaml"),
        ("--serve-chaos-kuberay-manifests", "../deploy"),
    ],
)
def test_a_path_of_its_own_that_moves_the_root_directory_is_refused(
    pytester: pytest.Pytester, project: Path, option: str, value: str
) -> None:
    refused(run(pytester, option, value), project, option, value)


class Farm:
    """A plugin with a backend that has an option for a file."""

    def pytest_serve_chaos_backends(self) -> list[Backend]:
        inventory = Option("farm_inventory", File("a file", anything), None, "the machines")
        return [replace(LOCAL, name="farm", options=(*LOCAL.options, inventory))]


def test_so_is_one_for_an_option_of_another_plugin(pytester: pytest.Pytester, project: Path) -> None:
    option, value = "--serve-chaos-farm-inventory", "../deploy/serve.yaml"
    arguments = ("--serve-chaos-backend=farm", option, value)
    ran = pytester.runpytest_inprocess("--serve-chaos", *LOAD, *arguments, plugins=[FakeBackend(), Farm()])
    refused(ran, project, option, value)


def test_in_the_environment_it_is_refused_too(
    pytester: pytest.Pytester, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = "../deploy/serve.yaml"
    monkeypatch.setenv("PYTEST_ADDOPTS", f"-p pytest_serve_chaos.plugin --serve-chaos-app {value}")
    refused(run(pytester), project, "--serve-chaos-app", value)


def test_it_is_refused_where_only_the_configuration_says_serve_chaos(pytester: pytest.Pytester, project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\naddopts = --serve-chaos")
    value = "../deploy/serve.yaml"
    result = pytester.runpytest_inprocess("--serve-chaos-app", value, plugins=[FakeBackend()])

    refused(result, project, "--serve-chaos-app", value)


@pytest.mark.parametrize(
    "args",
    [
        ("--serve-chaos-app=../deploy/serve.yaml",),
        ("--serve-chaos-app", "serve.yaml"),
        ("--serve-chaos-app", "serve.yaml", "tests"),
        ("--serve-chaos-app", "../deploy/serve.yaml", "tests"),
        ("--serve-chaos-app", "../deploy/serve.yaml", "-c", "pytest.ini"),
        ("--serve-chaos-report-dir", "reports"),
        ("--serve-chaos-body", "tests"),
        ("-k", "it", "--serve-chaos-report-dir", "."),
    ],
    ids=" ".join,
)
def test_what_leaves_the_root_directory_where_it_is_is_no_matter(
    pytester: pytest.Pytester, project: Path, args: tuple[str, ...]
) -> None:
    (project / "serve.yaml").write_text(CONFIG)
    result = run(pytester, *args)

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"rootdir: {project}", "configfile: pytest.ini"])


def test_a_test_path_may_move_the_root_directory(pytester: pytest.Pytester, project: Path) -> None:
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "test_it.py").write_text(TEST)
    result = run(pytester, "../elsewhere", "--serve-chaos-report-dir", "tests")

    result.assert_outcomes(passed=1)


def test_where_there_is_no_configuration_the_report_stays_with_the_user_too(
    pytester: pytest.Pytester, project: Path
) -> None:
    (project / "pytest.ini").unlink()
    result = run(pytester, "--serve-chaos-app", "../deploy/serve.yaml")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*so its root directory is {project.parent} instead of {project}"])
