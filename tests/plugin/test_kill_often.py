"""The tool that kills runs at random moments sees what they leave, and that it is repaired."""

from __future__ import annotations

import os
import re
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


def killed_with_a_frozen_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], frozen: Path, *options: str
) -> tuple[int, str]:
    """The exit status and the output of the tool, which ends one run as soon as a worker is frozen, and on record."""
    usual = kill_often.end

    def is_on_record() -> bool:  # a thread of the run writes that, a moment later
        return any('"kind":"asked"' in path.read_text() for path in frozen.parents[1].rglob("history.jsonl"))

    def wait_and_end(run: subprocess.Popen[bytes], signals: str, victim: str) -> str:
        while not (frozen.exists() and is_on_record()):
            assert run.poll() is None, frozen.parents[1] / "tmp"
        return usual(run, signals, victim)

    monkeypatch.setattr(kill_often, "end", wait_and_end)
    given = ["--kills", "1", "--within", "0.001", "--settle", "0.1", "--victims", "pytest", *options]
    status = kill_often.main([*BACKEND, *given, "--look", f"ls {frozen.parent}"])
    return status, capsys.readouterr().out


def test_what_a_killed_run_leaves_is_seen_and_who_repairs_it(
    nobody_else: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen = nobody_else / "frozen" / "worker-1"
    status, said = killed_with_a_frozen_worker(monkeypatch, capsys, frozen)
    assert "journal: the node worker-1 is frozen" in said
    assert "`worker-1`" in said
    assert "lock cluster-" in said
    assert (status, frozen.exists()) == (0, False), said
    assert re.search(r"\| pytest \| (asked|landed) \| something \| serve-chaos undo \| 1 \|", said)


def test_a_run_that_is_asked_to_end_repairs_what_it_broke(
    nobody_else: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen = nobody_else / "frozen" / "worker-1"
    status, said = killed_with_a_frozen_worker(monkeypatch, capsys, frozen, "--signals", "INT")
    assert (status, frozen.exists()) == (0, False), said
    assert "| by INT | healed | nothing | the run itself, or its janitor | 1 |" in said


@pytest.mark.parametrize("signals", ["KILL,TERM", "STOPP"])
def test_other_signals_are_refused(signals: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        kill_often.main([*BACKEND, "--signals", signals])
    assert "is neither KILL alone nor names of signals" in capsys.readouterr().err
