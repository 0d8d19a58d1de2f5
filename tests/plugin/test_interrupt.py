"""Ctrl-C and SIGTERM end the cluster, and what was seen until then is written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.restore import SHAPE_WITHIN
from tests.plugin import quick
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


def landed() -> bool | NotYet:
    """Whether the fault has landed, so that the cluster lacks a replica that will never come back."""
    histories = [file.read_text() for file in Path(".serve-chaos").glob("*/history.jsonl")]
    return any('"kind":"landed"' in text for text in histories) or NotYet(f"{len(histories)} histories")


def heed_interrupts() -> None:
    """A shell's background jobs ignore SIGINT, and so do all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What became of a run of pytest that was interrupted; `took`: seconds from Ctrl-C to its end."""

    status: int
    output: str
    took: float


def interrupted(pytester: pytest.Pytester, conftest: str, by: signal.Signals = signal.SIGINT) -> Interrupted:
    """Runs `TEST`, and interrupts it once its fault has landed."""
    pytester.makeconftest(quick.CONFTEST + conftest)
    pytester.makepyfile(TEST)
    command = [sys.executable, "-m", "pytest", "--serve-chaos", *LOAD]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=heed_interrupts
    ) as process:
        clock.wait_until("the fault to land", landed, timeout=120)
        begun = clock.now()
        process.send_signal(by)
        output, _ = process.communicate(timeout=150)
    return Interrupted(process.returncode, output, clock.now() - begun)


@pytest.mark.usefixtures("fake_is_importable")
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_cluster_and_writes_the_summary(pytester: pytest.Pytester, by: signal.Signals) -> None:
    run = interrupted(pytester, CONFTEST, by)
    assert run.status == pytest.ExitCode.INTERRUPTED, run.output
    assert run.took < SHAPE_WITHIN / 2, "it waited for a cluster that ends"
    assert (pytester.path / "closed").exists()
    (summary,) = Path(".serve-chaos").glob("*/summary.json")
    assert json.loads(summary.read_text())["schema"] == 1
    assert str(summary.parent) in run.output
