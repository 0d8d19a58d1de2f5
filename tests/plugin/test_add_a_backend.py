"""The example of `docs/add-a-backend.md`: a plugin of somebody else's adds a backend through the hook alone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_serve_chaos.cli import main
from pytest_serve_chaos.safety.journal import journal_of
from tests.plugin.conftest import LOAD, ROOT
from tests.plugin.test_off import HEAVY
from tests.unit.test_safety import of_a_dead_run

PAGE = (ROOT / "docs" / "add-a-backend.md").read_text()
(FARM,) = re.findall(r"^```python\n(# farm\.py\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

(CONFORMANCE,) = re.findall(r"^```python\n(# test_farm\.py\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

CLUSTER = """
from dataclasses import replace
from pathlib import Path

from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster


class FarmCluster(FakeCluster):
    def __init__(self, spec, host, machines, on_close):
        super().__init__(spec, FakeBehaviour())
        self.host, self.machines, self.on_close = host, machines, on_close

    @property
    def description(self):
        return replace(super().description, backend="farm", details={"machines": f"{self.machines} of {self.host}"})

    def close(self):
        super().close()
        self.on_close()


def free_machines(host):
    return 4


def release_machines(host):
    Path("released").write_text(host)
"""

EXPERIMENT = """
import pytest

@pytest.mark.worker_failure
def test_a_worker_may_go(experiment, serve_cluster):
    assert serve_cluster.backend.machines == 5
    experiment.run(availability=0.5, window="700ms")
"""

BACKEND = ("--serve-chaos-backend=farm", "--serve-chaos-farm-host=farm.example.com")
NONE = "def test_it(chaos): pass"


@pytest.fixture(autouse=True)
def farm(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin, and the author's own code, in the current directory."""
    monkeypatch.setenv("COLUMNS", "300")
    pytester.path.joinpath("farm.py").write_text(FARM)
    pytester.path.joinpath("farm_cluster.py").write_text(CLUSTER)
    monkeypatch.syspath_prepend(pytester.path)
    yield
    for name in ("farm", "farm_cluster"):
        sys.modules.pop(name, None)


def test_it_conforms(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_farm=CONFORMANCE)

    ran = pytester.runpytest_inprocess("-p", "farm", "-rs")

    ran.assert_outcomes(passed=25, skipped=5)
    ran.stdout.fnmatch_lines(["SKIPPED*the cluster has no KillsMachines"])


def left_behind(directory: Path) -> tuple[object, ...]:
    return journal_of(directory / ".serve-chaos").entries()


def test_an_experiment_passes_on_it(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(EXPERIMENT)

    ran = pytester.runpytest_inprocess(
        "-p", "farm", "--serve-chaos", *LOAD, *BACKEND, "--serve-chaos-farm-machines=5", "--serve-chaos-workers=2"
    )

    ran.assert_outcomes(passed=1)
    ran.stdout.fnmatch_lines(
        [
            "serve-chaos: farm: leasing 5 machines from farm.example.com",
            "serve-chaos: farm backend*",
            "a_worker_may_go*passed*",
        ]
    )
    (summary,) = pytester.path.glob(".serve-chaos/2*/summary.json")
    assert json.loads(summary.read_text())["run"]["details"] == {"machines": "5 of farm.example.com"}
    assert left_behind(pytester.path) == ()


def test_a_conftest_may_have_the_hook(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from farm import pytest_serve_chaos_backends")
    pytester.makepyfile(NONE)

    ran = pytester.runpytest_inprocess("--serve-chaos", *BACKEND, "--serve-chaos-farm-machines=2")

    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(
        ["*Invalid --serve-chaos-farm-machines '2' from the command line: it must be a whole number, 3 or more*"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--serve-chaos-backend=fram",),
            "*--serve-chaos-backend 'fram'*one of local, kind, kubernetes, farm*",
        ),
        (("--serve-chaos-backend=farm",), "*The farm backend needs --serve-chaos-farm-host: the host that leases*"),
        (
            ("--serve-chaos-farm-machines=3",),
            "*--serve-chaos-farm-machines was given, and the local backend does not use it*",
        ),
        ((*BACKEND, "--serve-chaos-keep"), "*--serve-chaos-keep was given, and the farm backend does not use it*"),
    ],
)
def test_its_options_are_checked_as_all_others(
    pytester: pytest.Pytester, arguments: tuple[str, ...], message: str
) -> None:
    pytester.makepyfile(NONE)

    ran = pytester.runpytest_inprocess("-p", "farm", "--serve-chaos", *arguments)

    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines([message])


def test_the_help_has_its_options(pytester: pytest.Pytester) -> None:
    shown = " ".join(pytester.runpytest_inprocess("-p", "farm", "--help").stdout.str().split())

    assert "chaos tests of Ray Serve, backend farm: machines of our farm: --serve-chaos-farm-host=HOST" in shown
    assert "--serve-chaos-farm-machines=N Machines in a cluster. Default: 3. Backend: farm." in shown


def test_without_serve_chaos_its_options_are_known_and_nothing_heavy_is_imported(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nserve_chaos_farm_machines = 4\naddopts = --serve-chaos-backend=farm")
    pytester.makepyfile(
        f"""
        import sys

        def test_skipped(chaos): pass

        def test_nothing_heavy_is_there(pytestconfig):
            assert pytestconfig.getini("serve_chaos_farm_machines") == 4
            assert not {{name for name in ({", ".join(map(repr, HEAVY))}, "farm_cluster") if name in sys.modules}}
            assert not {{name for name in sys.modules if name.startswith("pytest_serve_chaos.cluster")}}
        """
    )

    pytester.runpytest_subprocess("-p", "farm", "--strict-config").assert_outcomes(passed=1, skipped=1)


def test_two_plugins_that_take_one_name_are_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(NONE)
    pytester.path.joinpath("other.py").write_text(FARM)

    ran = pytester.runpytest_inprocess("-p", "farm", "-p", "other")

    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(["*a backend cannot have the name 'farm'*"])


# -- serve-chaos -------------------------------------------------------------------------------------------------------


def test_the_doctor_examines_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-p", "farm", "farm", "--farm-host", "farm.example.com"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("farm: ready\n")
    assert "  ok       machines             4 are free, 3 are needed\n" in said


def test_the_doctor_says_what_it_lacks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["doctor", "-p", "farm", "farm"]) == 1
    assert "missing  --farm-host          not given: the host that leases the machines. To fix this: --farm-host" in (
        capsys.readouterr().out
    )
    monkeypatch.setenv("PYTEST_PLUGINS", "farm")
    monkeypatch.setenv("SERVE_CHAOS_FARM_HOST", "farm.example.com")
    monkeypatch.setenv("SERVE_CHAOS_FARM_MACHINES", "5")
    assert main(["doctor", "farm"]) == 1
    assert "missing  machines             4 are free, 5 are needed. To fix this: wait until a run has ended" in (
        capsys.readouterr().out
    )


def test_a_plugin_that_cannot_be_loaded_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-p", "no_such_farm", "farm"]) == 2
    assert "a plugin cannot be loaded: No module named 'no_such_farm'" in capsys.readouterr().err


def test_what_a_killed_run_left_is_undone(pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    of_a_dead_run(journal_of(pytester.path / ".serve-chaos"), "release_machines", host="farm.example.com")

    assert main(["undo"]) == 1
    assert "could not be undone: what release_machines mends" in capsys.readouterr().out
    assert main(["undo", "-p", "farm"]) == 0
    assert Path("released").read_text() == "farm.example.com"
    assert left_behind(pytester.path) == ()
