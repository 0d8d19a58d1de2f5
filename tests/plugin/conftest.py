"""Runs pytest inside pytest, with a fake cluster under the plugin, and keeps what came of it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

# pytester forgets what was imported inside a run: what traffic needs would be read from disk again for each.
import httpcore  # noqa: F401
import pytest

from pytest_serve_chaos.model import Json
from pytest_serve_chaos.runs.directory import runs_in
from pytest_serve_chaos.testing import QUICK, FakeBackend, FakeBehaviour, FakeCluster
from pytest_serve_chaos.traffic import generator  # noqa: F401

SOON_GIVEN_UP = FakeBehaviour(waits=replace(QUICK, signs_within=0.3))
"""Nobody waits for long for a sign of a fault."""

ROOT = Path(__file__).parents[2]

LOAD = (
    # Client, proxies and replicas are threads of one process here. On a busy machine more requests than it can answer
    # are never in steady state; fewer could not show in 700 ms the availability that most tests demand.
    "--serve-chaos-rate=16",
    "--serve-chaos-persistent-rate=2",
    # The machine may be busy with other things, and stand still for seconds. What is frozen here goes on after one, so
    # nobody waits for the timeout; tests of late traffic set its limit themselves.
    "--serve-chaos-request-timeout=5s",
    "--serve-chaos-send-lag-limit=30s",
    # The fake's processes would be read fifty times a second. Tests of what is read turn it on.
    "--serve-chaos-watch-for=0",
)

CONFTEST = """
from pytest_serve_chaos.testing import FakeBehaviour, FakeCluster

def pytest_serve_chaos_start_cluster(spec):
    return FakeCluster(spec, FakeBehaviour({}))
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """A run of pytest that has ended.

    Attributes:
        result: What pytest said.
        backend: Has the clusters.
        path: pytest's root directory.
    """

    result: pytest.RunResult
    backend: FakeBackend
    path: Path

    @property
    def text(self) -> str:
        """All of its output."""
        return self.result.stdout.str()

    @property
    def directory(self) -> Path:
        """Where its report is."""
        (directory,) = runs_in(self.path / ".serve-chaos")
        return directory

    @property
    def summary(self) -> dict[str, Json]:
        """The JSON document."""
        return cast("dict[str, Json]", json.loads((self.directory / "summary.json").read_text()))

    def outcomes(self, **expected: int) -> None:
        """Demands these numbers of outcomes, and no others."""
        assert self.result.parseoutcomes() == expected, self.text


def junit_properties(ran: Ran) -> list[tuple[str | None, str | None]]:
    """Those of the only test."""
    (case,) = ElementTree.parse(ran.path / "junit.xml").getroot()[0].iter("testcase")
    return [(p.get("name"), p.get("value")) for p in case.iter("property")]


class RunChaos(Protocol):
    """Runs tests against a fake cluster, in this process; with a seed, requests and victim are the same in each run."""

    def __call__(
        self,
        source: str,
        *args: str,
        behaviour: FakeBehaviour | None = None,
        cluster: type[FakeCluster] = FakeCluster,
        backend: FakeBackend | None = None,
        seed: int | None = 7,
    ) -> Ran: ...


@pytest.fixture(autouse=True)
def no_other_plugins(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside, pytest has the plugin and no others: some take longer to import than a test takes."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p pytest_serve_chaos.plugin -p no:cacheprovider")


@pytest.fixture(autouse=True)
def no_other_runs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are in a directory that each test has for itself, so that tests may use clusters of one name at once."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))


@pytest.fixture
def run_chaos(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> RunChaos:
    """Runs a test file with ``--serve-chaos`` against a fake cluster, which is quicker than a real one."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(
        source: str,
        *args: str,
        behaviour: FakeBehaviour | None = None,
        cluster: type[FakeCluster] = FakeCluster,
        backend: FakeBackend | None = None,
        seed: int | None = 7,
    ) -> Ran:
        backend = backend or FakeBackend(behaviour or FakeBehaviour(), cluster)
        pytester.makepyfile(source)
        seeded = () if seed is None else (f"--serve-chaos-seed={seed}",)
        result = pytester.runpytest_inprocess("--serve-chaos", *LOAD, *seeded, *args, plugins=[backend])
        return Ran(result, backend, pytester.path)

    return run


@pytest.fixture
def fake_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """For pytest in a process of its own: a conftest.py there can import the fake."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
