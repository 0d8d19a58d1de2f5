"""The tool that kills runs at random moments sees what they leave, and that it is repaired."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.plugin import ways_of_ending
from tests.plugin.outside_cluster import DIRECTORY
from tools import kill_often

BACKEND = ["outside", "-p", "pytest_serve_chaos.plugin", "-p", "tests.plugin.outside_cluster"]


@pytest.fixture(autouse=True)
def nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on it but the backend that the tool kills runs of."""
    for name in ("frozen", "report", "state", "run", "tmp", "home"):
        (tmp_path / name).mkdir(mode=0o700)
    for name, value in ways_of_ending.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(kill_often, "_marked", lambda: iter(()))
    monkeypatch.setattr(kill_often, "_kind_clusters", lambda: iter(()))
    assert os.environ[DIRECTORY] == str(tmp_path)
    return tmp_path


def test_what_a_killed_run_leaves_is_seen_and_who_repairs_it(
    nobody_else: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen = nobody_else / "frozen" / "worker-1"

    def wait_and_kill(run: subprocess.Popen[bytes], victim: str) -> None:
        while not frozen.exists():
            assert run.poll() is None, (nobody_else / "tmp").joinpath("pytest.log")
        os.kill(run.pid, signal.SIGKILL)
        run.wait(30)

    monkeypatch.setattr(kill_often, "kill", wait_and_kill)
    options = ["--kills", "1", "--within", "0.001", "--settle", "0.1", "--victims", "pytest"]
    status = kill_often.main([*BACKEND, *options, "--look", f"ls {frozen.parent}"])
    said = capsys.readouterr().out
    assert "journal: the node worker-1 is frozen" in said
    assert "`worker-1`" in said
    assert "lock cluster-" in said
    assert (status, frozen.exists()) == (0, False), said
    assert "| pytest | something | serve-chaos undo | 1 |" in said
