"""What cannot be written costs a verdict, and never a heal nor the end of the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_serve_chaos import run as run_module
from pytest_serve_chaos.history import History
from tests.plugin.conftest import LOAD, RunChaos

TEST = """
import pytest

@pytest.mark.replica_failure
def test_it(experiment):
    experiment.run(availability=0.5, window="700ms")
"""

RAISES_EVERYWHERE = """
import pytest
from pathlib import Path
from pytest_serve_chaos.testing import FakeCluster

class Noted(FakeCluster):
    def close(self):
        super().close()
        Path("closed").touch()

def pytest_serve_chaos_start_cluster(spec):
    return Noted(spec)

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish():
    raise RuntimeError("another plugin does not come to its end")
    yield

@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure():
    raise RuntimeError("nor does it here")
"""


class Full(History):
    """A history on a full disk."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(None if path is None else Path("/dev/full"))


def test_an_experiment_whose_history_is_not_written_is_inconclusive(
    run_chaos: RunChaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "History", Full)
    ran = run_chaos(TEST)
    ran.outcomes(inconclusive=1)
    ran.result.stdout.fnmatch_lines(["*the history could not be written: /dev/full: * No space left on device*"])
    assert all(cluster.closed for cluster in ran.backend.clusters)


def test_without_a_place_for_the_report_nothing_is_started(run_chaos: RunChaos, pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("file").touch()
    ran = run_chaos(
        "def test_one(serve_cluster): pass\ndef test_two(serve_cluster): pass", "--serve-chaos-report-dir=file/inside"
    )
    ran.outcomes(errors=2)
    ran.result.stdout.fnmatch_lines(["*the run cannot write its report, so nothing is started: * Not a directory*"])
    assert ran.backend.clusters == []


@pytest.mark.usefixtures("fake_is_importable")
def test_a_plugin_whose_end_raises_everywhere_keeps_no_cluster_alive(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(RAISES_EVERYWHERE)
    pytester.makepyfile("def test_it(serve_cluster): pass")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "--serve-chaos", *LOAD], capture_output=True, text=True, timeout=120
    )
    assert "another plugin does not come to its end" in ended.stdout + ended.stderr
    assert (pytester.path / "closed").exists(), ended.stdout + ended.stderr
    assert [*Path(".serve-chaos").glob("*/summary.json")]
