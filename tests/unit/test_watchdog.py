"""What was frozen goes on when its time is over, whatever has become of who froze it; with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.in_pod import freeze
from pytest_serve_chaos.cluster.watchdog import Watchdogs, expiry
from pytest_serve_chaos.errors import CommandFailed

SOON = "0.1"
"""Seconds that are over before a test is."""
LONG = "60"


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, which is killed when the test is over."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.fixture
def owned() -> Iterator[Watchdogs]:
    """Watchdogs that end what is over at once."""
    watchdogs = Watchdogs(grace=0.1)
    yield watchdogs
    watchdogs.end_all()


def claim_of(process: subprocess.Popen[bytes]) -> str:
    row = freeze.read(str(process.pid))
    assert row is not None
    return f"{row.pid}:{row.started}"


def is_stopped(process: subprocess.Popen[bytes]) -> bool:
    row = freeze.read(str(process.pid))
    return row is not None and row.stopped


def was_resumed(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child of ours was stopped and goes on, since this was asked last."""
    return os.waitid(os.P_PID, process.pid, os.WCONTINUED | os.WNOHANG) is not None


def watching(claim: str) -> list[int]:
    return [one.pid for one in freeze.watchdogs() if one.claim == claim]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run_in_pod(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program as an exec does; the shell is the container's runtime, which outlives no test."""
    program = [sys.executable, "-I", "-S", "-c", in_pod.short("freeze"), freeze.MARK, *arguments]
    shell = ["sh", "-c", '"$@"; exit $?', "sh", *program]
    return subprocess.run(shell, capture_output=True, text=True, timeout=20.0, check=False)


# -- in a pod ----------------------------------------------------------------------------------------------------------


def test_what_a_program_in_a_pod_has_stopped_goes_on_by_itself(victim: subprocess.Popen[bytes]) -> None:
    claim = claim_of(victim)
    done = run_in_pod("stop", SOON, claim)
    assert json.loads(done.stdout) == {"processes": 1, "left": []}, done.stderr
    wait_for(lambda: was_resumed(victim))
    wait_for(lambda: not watching(claim))


def test_a_heal_ends_the_watchdog(victim: subprocess.Popen[bytes]) -> None:
    claim = claim_of(victim)
    run_in_pod("stop", LONG, claim)
    assert len(watching(claim)) == 1
    done = run_in_pod("go", claim)
    assert json.loads(done.stdout) == {"processes": 1, "left": []}, done.stderr
    assert not is_stopped(victim)
    wait_for(lambda: not watching(claim))


def test_a_later_freeze_of_the_same_process_has_the_only_watchdog(victim: subprocess.Popen[bytes]) -> None:
    claim = claim_of(victim)
    run_in_pod("stop", SOON, claim)
    run_in_pod("stop", LONG, claim)
    wait_for(lambda: len(watching(claim)) == 1)
    time.sleep(float(SOON))
    assert is_stopped(victim)
    run_in_pod("go", claim)
    wait_for(lambda: not watching(claim))


@pytest.mark.parametrize("what", [("stop", LONG), ("go",)], ids=["stop", "go"])
def test_another_process_with_that_pid_is_left_alone(victim: subprocess.Popen[bytes], what: tuple[str, ...]) -> None:
    claim = f"{victim.pid}:1"
    assert run_in_pod(*what, claim).returncode == in_pod.GONE
    assert not is_stopped(victim)
    assert watching(claim) == []


def test_the_program_is_short_enough_for_a_url() -> None:
    assert len(quote(in_pod.short("freeze"))) < 6000


# -- on this machine ---------------------------------------------------------------------------------------------------

FREEZES_AND_THEN = """
import os, signal, sys
from pytest_serve_chaos.cluster.watchdog import Watchdogs
claim, then = sys.argv[1], int(sys.argv[2])
Watchdogs(grace=0.1).watch(claim, 0.0)
os.kill(int(claim.split(":")[0]), signal.SIGSTOP)
os.kill(os.getpid(), then)
"""


@pytest.mark.parametrize("then", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped, as by Ctrl-Z"])
def test_a_frozen_process_goes_on_where_who_froze_it_cannot_resume_it(
    victim: subprocess.Popen[bytes], then: signal.Signals
) -> None:
    claim = claim_of(victim)
    with subprocess.Popen([sys.executable, "-c", FREEZES_AND_THEN, claim, str(int(then))]) as owner:
        os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
        wait_for(lambda: was_resumed(victim))
        wait_for(lambda: not watching(claim))
        owner.kill()


def test_a_whole_session_goes_on(owned: Watchdogs) -> None:
    shell = "sleep 60 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        leader.stdout.readline()
        claim = f"session:{claim_of(leader)}"
        try:
            owned.watch(claim, 0.0)
            os.killpg(leader.pid, signal.SIGSTOP)
            wait_for(lambda: was_resumed(leader))
            wait_for(lambda: [row.stopped for row in freeze.members(claim)] == [False, False])
        finally:
            os.killpg(leader.pid, signal.SIGKILL)


def test_a_watchdog_leaves_alone_what_a_later_fault_has_frozen(
    victim: subprocess.Popen[bytes], owned: Watchdogs
) -> None:
    claim = claim_of(victim)
    owned.watch(f"session:{claim}", 0.0)
    owned.watch(claim, 60.0)
    victim.send_signal(signal.SIGSTOP)
    wait_for(lambda: not watching(f"session:{claim}"))
    assert is_stopped(victim)


def test_an_earlier_fault_does_not_keep_a_later_one_from_ending(
    victim: subprocess.Popen[bytes], owned: Watchdogs
) -> None:
    claim = claim_of(victim)
    owned.watch(f"session:{claim}", 60.0)
    owned.watch(claim, 0.0)
    victim.send_signal(signal.SIGSTOP)
    wait_for(lambda: was_resumed(victim))


def test_a_watchdog_with_a_command_runs_it_once_it_is_time(owned: Watchdogs, tmp_path: Path) -> None:
    healed, unhealed, later = (tmp_path / name for name in ("healed", "unhealed", "later"))
    for file, after in ((healed, 60.0), (unhealed, 0.0)):
        owned.watch(f"paused:{file}", after, command=("touch", str(file)))
    owned.watch(f"paused:{later}", 60.0, command=("touch", str(later)))
    owned.end(f"paused:{healed}")
    wait_for(unhealed.exists)
    wait_for(lambda: not watching(f"paused:{healed}"))
    assert len(watching(f"paused:{later}")) == 1
    assert not healed.exists()
    assert not later.exists()


def test_the_watchdogs_of_an_earlier_run_end_with_what_they_watched(owned: Watchdogs, tmp_path: Path) -> None:
    for what in ("repaired", "broken"):
        owned.watch(f"paused:{tmp_path}-{what}", 60.0, command=("true",))
    Watchdogs().end_of_all_runs(f"paused:{tmp_path}-repaired".__eq__)
    wait_for(lambda: not watching(f"paused:{tmp_path}-repaired"))
    assert len(watching(f"paused:{tmp_path}-broken")) == 1


def test_nothing_is_broken_if_no_watchdog_can_be_started(owned: Watchdogs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, b"999999999\n"))
    with pytest.raises(CommandFailed, match="so nothing was broken"):
        owned.watch("1:1", 20.0)


def test_a_fault_without_a_time_lasts_as_long_as_such_a_fault_may() -> None:
    assert (expiry(20.0), expiry(None), expiry(None, longest=3600.0)) == (50.0, 630.0, 3630.0)


# -- how it waits ------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that goes on while the machine sleeps, and a sleep that does not count how long that was."""

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def __init__(self, suspended: float = 0.0) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._suspended = suspended

    def clock_gettime(self, clock: int) -> float:
        assert clock == time.CLOCK_BOOTTIME
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds + self._suspended


def states(monkeypatch: pytest.MonkeyPatch, *seen: bool | None) -> list[tuple[int, int]]:
    """Has the watchdog see a process that is stopped, runs or (None) is gone, in that order; gives its signals."""
    left = list(seen)
    sent: list[tuple[int, int]] = []

    def members(claim: str) -> list[freeze.Row]:
        state = left.pop(0) if len(left) > 1 else left[0]
        return [] if state is None else [freeze.Row(113, 7, 1, 113, state)]

    monkeypatch.setattr(freeze, "members", members)
    monkeypatch.setattr(freeze, "watchdogs", list)
    monkeypatch.setattr(freeze, "send", lambda row, number: sent.append((row.pid, number)))
    return sent


def test_a_laptop_that_sleeps_makes_a_freeze_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sent = Clock(suspended=8 * 3600.0), states(monkeypatch, True)
    monkeypatch.setattr(freeze, "time", clock)
    freeze.watch(50.0, "113:7", [])
    assert (clock.slept, sent) == ([0.2], [(113, signal.SIGCONT)])


@pytest.mark.parametrize("end", [None, False], ids=["it is gone", "somebody resumed it"])
def test_a_watchdog_ends_when_there_is_nothing_to_watch(monkeypatch: pytest.MonkeyPatch, end: bool | None) -> None:
    clock, sent = Clock(), states(monkeypatch, False, True, True, end)
    monkeypatch.setattr(freeze, "time", clock)
    freeze.watch(3600.0, "113:7", [])
    assert (clock.slept, sent) == ([0.2, 5.0, 5.0, 5.0], [])


def test_where_the_kernel_gives_no_handle_a_signal_is_sent_by_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int) -> int:
        raise PermissionError(pid)

    sent: list[tuple[int, int]] = []
    functions = SimpleNamespace(pidfd_open=refused, kill=lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(freeze, "os", functions)
    freeze.send(freeze.Row(113, 7, 1, 113, True), signal.SIGCONT)
    assert sent == [(113, signal.SIGCONT)]


WATCHES_AND_THEN = """
import os, sys
from pytest_serve_chaos.cluster.watchdog import Watchdogs
claim, file, then = sys.argv[1:]
Watchdogs(grace=0.1).watch(claim, None, longest=3600.0, command=("touch", file), owned=True)
os.kill(os.getpid(), int(then))
"""


def test_what_has_an_owner_is_over_soon_after_its_end(tmp_path: Path) -> None:
    healed, claim = tmp_path / "healed", f"tainted:{tmp_path}"
    arguments = [claim, str(healed), str(int(signal.SIGKILL))]
    subprocess.run([sys.executable, "-c", WATCHES_AND_THEN, *arguments], check=False, timeout=20.0)
    wait_for(healed.exists)
    wait_for(lambda: not watching(claim))


def test_while_its_owner_lives_it_goes_on(owned: Watchdogs, tmp_path: Path) -> None:
    healed, claim = tmp_path / "healed", f"tainted:{tmp_path}"
    owned.watch(claim, None, longest=3600.0, command=("touch", str(healed)), owned=True)
    time.sleep(0.4)  # it has looked once by then
    assert len(watching(claim)) == 1
    assert not healed.exists()
