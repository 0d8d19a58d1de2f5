"""All processes of a run are ended, also one that is becoming another program while the others are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pytest_serve_chaos.cluster.local import processes

MARK = "0123abcd4567"


@pytest.fixture
def newcomer() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the run."""
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    process = subprocess.Popen(command, env={**os.environ, processes.MARK: MARK}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_process_that_has_no_environment_yet_is_waited_for(
    newcomer: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, looks = processes.marked, iter(range(20))
    seen: list[bool] = []

    def not_yet(mark: str) -> tuple[processes.Process, ...]:
        seen.append(next(looks) >= 10)
        return usual(mark) if seen[-1] else ()

    monkeypatch.setattr(processes, "marked", not_yet)
    monkeypatch.setattr(processes, "_becomes_another_program", lambda pid: pid == newcomer.pid and not seen[-1])
    assert processes.end_marked(MARK) == ()
    assert newcomer.wait(5.0) < 0


def test_a_process_within_execve_is_seen() -> None:
    for _ in range(1000):
        with subprocess.Popen(["/bin/true"]) as process:
            if any(processes._becomes_another_program(process.pid) for _ in range(50)):
                return
    pytest.fail("none of a thousand processes was seen while it became /bin/true")


def test_a_process_without_an_environment_is_not_taken_for_one() -> None:
    with subprocess.Popen(["/bin/cat"], env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"a\n"
        assert not processes._becomes_another_program(process.pid)
