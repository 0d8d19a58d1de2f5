"""Ctrl-C ends the cluster, and what was seen until then is written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from tests.plugin.conftest import LOAD

CONFTEST = """
from pathlib import Path
from tests.plugin.fake import FakeBehaviour, FakeCluster

class Noted(FakeCluster):
    def close(self):
        super().close()
        Path("closed").touch()

def pytest_serve_chaos_start_cluster(spec):
    return Noted(spec, FakeBehaviour(keeps_holes=True))
"""

TEST = """
import pytest

@pytest.mark.replica_failure
def test_it(experiment):
    experiment.run()
"""


def wait_for_line(process: subprocess.Popen[str], wanted: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if wanted in line:
            return
    raise AssertionError(f"it ended without {wanted!r}")


@pytest.mark.usefixtures("fake_is_importable")
def test_an_interrupt_ends_the_cluster_and_writes_the_summary(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TEST)
    command = [sys.executable, "-m", "pytest", "--serve-chaos", *LOAD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_for_line(process, "inject: SIGKILL")
        begun = clock.now()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)

    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert clock.now() - begun < 30, "it waited for a cluster that ends"
    assert (pytester.path / "closed").exists()
    assert "KeyboardInterrupt" in output
    (summary,) = Path(".serve-chaos").glob("*/summary.json")
    assert json.loads(summary.read_text())["schema"] == 1
    assert str(summary.parent) in output
