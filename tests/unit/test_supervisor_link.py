"""What the plugin notices when the supervisor of a local cluster ends although nobody asked it to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.local import link
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from tests.unit.test_local import plan


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SupervisorLink:
    """A program that does nothing until its input ends."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]

    def spawn(_: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(link, "_spawn", spawn)
    return SupervisorLink(plan(tmp_path / "gone"), tmp_path / "log", print)


def test_a_supervisor_that_was_killed_is_noticed(supervisor: SupervisorLink) -> None:
    assert supervisor.dead_watches() == ()
    supervisor._process.kill()

    def noticed() -> tuple[str, ...] | NotYet:
        return supervisor.dead_watches() or NotYet("nothing")

    (said,) = clock.wait_until("its end to be noticed", noticed, timeout=10.0, interval=0.01)
    assert said == "the supervisor of the local cluster ended with status -9, and the cluster with it"
    supervisor.close()


def test_one_that_was_asked_to_end_is_not_missed(supervisor: SupervisorLink) -> None:
    supervisor.close()
    assert supervisor.dead_watches() == ()
