"""Verdicts while somebody else burns processors of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_serve_chaos.experiment import Experiment

_BURN = """
import os, sys, time
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
end = time.monotonic() + 180
while time.monotonic() < end:
    pass
"""
"""Ends by itself, should the test not live to end it."""


@pytest.fixture
def others_work(tmp_path: Path) -> Iterator[None]:
    """Programs that are not of this run keep half of the processors busy: `setsid --fork` leaves them to init."""
    files = [tmp_path / f"burner-{n}" for n in range(max(1, (os.cpu_count() or 2) // 2))]
    try:
        for file in files:
            subprocess.run(["setsid", "--fork", sys.executable, "-c", _BURN, str(file)], check=True)
        yield
    finally:
        for file in files:
            with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGKILL)


@pytest.mark.worker_failure
def test_a_demand_that_a_quiet_machine_misses_too_is_inconclusive(experiment: Experiment, others_work: None) -> None:
    """A worker takes longer than 2 s to come back on any machine; nobody can know that while others hold it up."""
    result = experiment.measure(redundancy_back="2s", window="10s", availability=0.5)
    assert result.outcome == "inconclusive"
    assert "other processes used" in result.reasons[0]
    assert result.machine is not None
    assert result.machine.others > 0.4


@pytest.mark.worker_failure
def test_what_passes_says_that_others_worked(experiment: Experiment, others_work: None) -> None:
    result = experiment.run(availability=0.5, longest_outage=None, window="10s")
    assert any("since the fault, other processes used" in remark for remark in result.remarks)
