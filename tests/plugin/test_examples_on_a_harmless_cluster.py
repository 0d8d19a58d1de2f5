"""What the docs show, and the suite, is never green where faults do nothing: every cluster survives that."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_serve_chaos.suite import autoscaled
from pytest_serve_chaos.testing import QUICK, FakeBackend, FakeBehaviour, FakeKubernetesCluster
from tests.plugin.conftest import LOAD, ROOT, RunChaos

PAGES = [
    page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if "def test_" in page.read_text()
]
EXAMPLES = [path.parent for path in (ROOT / "docs" / "examples").glob("*/pytest.ini")]
SUITE = ROOT / "pytest_serve_chaos" / "suite"

_BLOCK = re.compile(r"^```python\n(?:# (\w+\.py)\n)?(.*?)^```", re.MULTILINE | re.DOTALL)
"""An example; its first line may name its file, which then is there for the tests of the page."""


class Seen:
    """A plugin for pytest that keeps the reports of all tests that break something."""

    def __init__(self) -> None:
        self.breaking: set[str] = set()
        self.reports: list[pytest.TestReport] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Notes who has a marker of a fault, or a fixture that breaks something."""
        for item in items:
            marked = any(mark.name.endswith(("_failure", "_upgrade")) for mark in item.iter_markers())
            if marked or {"chaos", "experiment"} & set(getattr(item, "fixturenames", ())):
                self.breaking.add(item.nodeid)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keeps what became of it."""
        report = yield
        if report.nodeid in self.breaking:
            self.reports.append(report)
        return report

    @property
    def green(self) -> list[str]:
        """Tests that passed."""
        return [report.nodeid for report in self.reports if report.when == "call" and report.passed]

    @property
    def nothing_broken(self) -> list[str]:
        """Tests that noticed that the fault did nothing."""
        return [report.nodeid for report in self.reports if "did not land" in report.longreprtext]


@pytest.fixture
def seen() -> Seen:
    return Seen()


def run(pytester: pytest.Pytester, seen: Seen, files: dict[str, str], *args: str) -> None:
    """Runs these test files on a cluster in which no fault does anything."""
    for name, source in files.items():
        (pytester.path / name).write_text(source)
    # Among the examples is an app whose answers the fake does not give, so it is never steady.
    behaviour = FakeBehaviour(harmless=True, waits=replace(QUICK, steady_within=2.0))
    backend = FakeBackend(behaviour, FakeKubernetesCluster)
    args = ("--serve-chaos", *LOAD, "--serve-chaos-request-timeout=2s", *args)
    pytester.runpytest_inprocess(*args, plugins=[backend, seen])


def test_a_test_that_breaks_nothing_would_be_seen(pytester: pytest.Pytester, seen: Seen) -> None:
    source = "def test_green(chaos, traffic):\n    with traffic():\n        pass\n"
    run(pytester, seen, {"test_nothing.py": source})
    assert seen.green == ["test_nothing.py::test_green"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_example_is_green(pytester: pytest.Pytester, seen: Seen, page: Path) -> None:
    blocks = [(name, block) for name, block in _BLOCK.findall(page.read_text()) if name or "def test_" in block]
    blocks = [(name, block) for name, block in blocks if "pytest_serve_chaos.testing" not in block]  # these break fakes
    # What a test itself breaks is broken, whatever the cluster does: test_custom_faults.py has a harmless one.
    blocks = [(name, block) for name, block in blocks if "chaos.custom(" not in block]
    run(pytester, seen, {name or f"test_{number}.py": block for number, (name, block) in enumerate(blocks)})

    assert seen.green == []
    # Requests to an address of the example's own get no answer here, so that nothing is broken.
    assert seen.nothing_broken or "transport=" in page.read_text()


@pytest.mark.parametrize("directory", EXAMPLES, ids=lambda directory: directory.name)
def test_no_example_with_files_of_its_own_is_green(pytester: pytest.Pytester, seen: Seen, directory: Path) -> None:
    files = {path.name: path.read_text() for path in directory.iterdir() if path.is_file()}
    run(pytester, seen, files, "-x")  # the fake has no such app, so each of its tests ends in the same way

    assert seen.green == []
    assert any("no steady state" in report.longreprtext for report in seen.reports)


def test_no_test_of_the_suite_is_green(pytester: pytest.Pytester, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaled, "WANTED_WITHIN", 2.0)  # the fake scales nothing
    run(pytester, seen, {path.name: path.read_text() for path in SUITE.glob("test_*.py")})

    assert seen.green == []
    assert len(seen.nothing_broken) >= 12


def test_the_namespace_of_a_head_that_was_lost_is_the_same_afterwards(run_chaos: RunChaos) -> None:
    source = (SUITE / "test_1_head.py").read_text()
    run_chaos(source, "-k", "storage_namespace", "--serve-chaos-rate=4").outcomes(passed=1, deselected=3)
