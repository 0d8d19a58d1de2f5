"""A session is the cluster's only as long as it lives: then its id may become that of anybody else's process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.cluster.local import link, preflight, processes
from pytest_serve_chaos.cluster.local.commands import Command
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.local.unit import Unit
from pytest_serve_chaos.errors import CommandFailed, MissingDependency
from pytest_serve_chaos.model import Identity, Json


@pytest.fixture
def somebody() -> Iterator[Identity]:
    """A process of somebody else, in a session of its own."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        found = processes.read(process.pid)
        assert found is not None
        yield found.identity
        process.kill()


def earlier(identity: Identity) -> Identity:
    """The process that had that PID before."""
    boot, pid, started = identity.parts
    return Identity("process", (boot, pid, str(int(started) - 1)))


def pid(identity: Identity) -> int:
    return int(identity.parts[1])


# -- What the supervisor reports --


class Quiet(SupervisorLink):
    """One whose supervisor says what a test wants."""

    def says(self, name: str, state: str, session: int, leader: Identity | None) -> None:
        record: dict[str, Json] = {"event": "unit", "name": name, "state": state, "session": session, "at": 1.0}
        self._reported.take({**record, "identity": str(leader) if leader else None})


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Quiet]:
    def cat(log: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(link, "_spawn", cat)
    monkeypatch.setattr(SupervisorLink, "_send", lambda *_: None)
    plan = cast("Plan", type("NoPlan", (), {"directory": str(tmp_path / "gone"), "line": lambda _: ""})())
    quiet = Quiet(plan, tmp_path / "log", lambda _: None)
    yield quiet
    quiet.close()


def test_a_session_is_known_while_its_first_process_lives(reports: Quiet, somebody: Identity) -> None:
    reports.says("head", "up", pid(somebody), somebody)
    assert reports.sessions() == {pid(somebody): "head"}


def test_a_session_is_known_while_the_unit_ends_and_its_first_process_is_gone(reports: Quiet) -> None:
    gone = Identity("process", ("boot", str(2**22 + 1), "1"))
    reports.says("head", "up", pid(gone), gone)
    reports.says("head", "ending", pid(gone), None)
    assert reports.sessions() == {pid(gone): "head"}


def test_a_session_of_a_unit_that_is_down_is_forgotten(reports: Quiet, somebody: Identity) -> None:
    reports.says("head", "up", pid(somebody), somebody)
    reports.says("worker-1", "up", 1, None)
    reports.says("head", "down", 0, None)
    assert reports.sessions() == {1: "worker-1"}


def test_a_session_whose_id_is_another_process_by_now_is_not_the_clusters(reports: Quiet, somebody: Identity) -> None:
    reports.says("head", "up", pid(somebody), earlier(somebody))
    reports.says("head", "ending", pid(somebody), None)
    assert reports.sessions() == {}


# -- What the supervisor kills --


def unit(tmp_path: Path) -> Unit:
    return Unit(Command("redis", ("redis-server",), {}, tmp_path / "log"), 1.0, lambda: True)


def test_the_supervisor_takes_no_process_for_its_own_that_has_the_id_of_a_dead_session(
    tmp_path: Path, somebody: Identity
) -> None:
    of = unit(tmp_path)
    of.leader, of.first = pid(somebody), earlier(somebody)
    of.state = "ending"
    of.advance(1.0)
    assert of.leader == 0
    assert processes.alive(somebody)


# -- Signals --


class Refused:
    """A kernel that refuses a system call."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, *_: object) -> int:
        raise OSError(self._number, os.strerror(self._number))


REFUSALS = [errno.EPERM, errno.ENOSYS, errno.EMFILE]


@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
def test_a_process_to_which_the_kernel_lets_nobody_send_is_not_gone(
    monkeypatch: pytest.MonkeyPatch, somebody: Identity, number: int
) -> None:
    monkeypatch.setattr(os, "pidfd_open", Refused(number))
    with pytest.raises(CommandFailed, match="the kernel refused to send signal 9"):
        processes.send(somebody, signal.SIGKILL)
    assert processes.alive(somebody)


def test_only_a_process_that_is_not_there_is_gone(somebody: Identity) -> None:
    assert processes.send(somebody, 0)
    assert not processes.send(earlier(somebody), 0)
    assert not processes.send(Identity("process", ("boot", str(2**22 + 1), "1")), 0)


@pytest.mark.parametrize("call", ["os.pidfd_open", "signal.pidfd_send_signal"])
@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
def test_the_preflight_tries_what_will_end_all_processes(
    monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    assert preflight.check_platform()
    monkeypatch.setattr(call, Refused(number))
    with pytest.raises(MissingDependency, match="the kernel refuses pidfd_open") as caught:
        preflight.check_platform()
    assert ("ulimit" in caught.value.fix[0]) is (number == errno.EMFILE)
