"""What the supervisor of a local cluster starts when, and when its operator submits the Serve config."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_serve_chaos.cluster.kubernetes.in_pod import freeze
from pytest_serve_chaos.cluster.local import layout, preflight, units
from pytest_serve_chaos.cluster.local.layout import Claim, Layout
from pytest_serve_chaos.cluster.local.operator import Operator
from pytest_serve_chaos.cluster.local.plan import Plan
from pytest_serve_chaos.cluster.local.supervisor import Supervisor
from pytest_serve_chaos.cluster.rest import ActorRow, Dashboard
from pytest_serve_chaos.cluster.watchdog import Watchdogs
from pytest_serve_chaos.errors import CommandFailed
from pytest_serve_chaos.locks import FileLock
from pytest_serve_chaos.model import Json

LAYOUT = Layout(0)


class Listeners:
    """Which ports of the nodes are open."""

    def __init__(self) -> None:
        self.open: set[tuple[str, int]] = set()

    def __call__(self, host: str, port: int) -> bool:
        return (host, port) in self.open

    def gcs(self) -> None:
        self.open.add((LAYOUT.address(0), LAYOUT.gcs_port))

    def raylet(self, index: int) -> None:
        self.open.add((LAYOUT.address(index), LAYOUT.node_ports(index).node_manager))


@pytest.fixture
def listeners(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Listeners:
    listeners = Listeners()
    monkeypatch.setattr(units, "_listens", listeners)
    monkeypatch.setattr(layout, "claim", lambda nodes: Claim(LAYOUT, FileLock(tmp_path / "lock", 0)))
    return listeners


def supervised(directory: Path, *, one_directory: bool) -> Supervisor:
    """A head that runs and two workers that do not."""
    plan = Plan(
        run="run",
        directory=str(directory),
        workers=2,
        redis_server=None,
        redis_address=None,
        redis_password="",
        namespace="ours",
        secret="token",
        serve_config={},
        restart_delay=1.0,
        termination_grace=4.0,
        head_env={},
        worker_env={},
        one_directory=one_directory,
    )
    supervisor = Supervisor(plan)
    supervisor.units["head"].state = "up"
    return supervisor


def may_start(of: Supervisor, name: str) -> bool:
    return of.units[name].ready_to_start()


def test_workers_start_together_where_each_node_has_a_directory(tmp_path: Path, listeners: Listeners) -> None:
    run = supervised(tmp_path, one_directory=False)
    assert not may_start(run, "worker-1")
    listeners.gcs()
    run.units["worker-2"].state = "up"
    assert may_start(run, "worker-1")


def test_in_one_directory_a_worker_starts_when_no_other_node_is_without_a_raylet(
    tmp_path: Path, listeners: Listeners
) -> None:
    """They would choose the same names for their sockets, and one raylet would die of it."""
    run = supervised(tmp_path, one_directory=True)
    listeners.gcs()
    assert not may_start(run, "worker-1")
    listeners.raylet(0)
    assert may_start(run, "worker-1")
    run.units["worker-1"].state = "up"
    assert not may_start(run, "worker-2")
    listeners.raylet(1)
    assert may_start(run, "worker-2")


def test_a_frozen_node_goes_on_when_its_time_is_over(tmp_path: Path, listeners: Listeners) -> None:
    run = supervised(tmp_path, one_directory=False)
    run.watchdogs = Watchdogs(grace=0.1)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as node:
        try:
            run.units["worker-1"].leader = node.pid
            run._freeze(1, "worker-1", 0.0)
            os.waitid(os.P_PID, node.pid, os.WCONTINUED)
        finally:
            node.kill()


def test_the_watchdog_of_a_node_ends_when_it_is_resumed(tmp_path: Path, listeners: Listeners) -> None:
    run = supervised(tmp_path, one_directory=False)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as node:
        try:
            run.units["worker-1"].leader = node.pid
            run._freeze(1, "worker-1", None)
            watchdogs = [one for one in freeze.watchdogs() if one.claim == run.units["worker-1"].claim()]
            assert len(watchdogs) == 1
            run._thaw(2, "worker-1")
            deadline = time.monotonic() + 10.0
            while watchdogs[0] in freeze.watchdogs():
                assert time.monotonic() < deadline
        finally:
            node.kill()


@pytest.mark.parametrize(("version", "shared"), [("2.52.0", True), ("2.54.1", True), ("2.55.0", False)])
def test_which_ray_has_one_directory(monkeypatch: pytest.MonkeyPatch, version: str, shared: bool) -> None:
    monkeypatch.setattr(preflight, "ray_version", lambda: version)
    assert preflight.nodes_share_directory() is shared


class Head(Dashboard):
    """What the state API says of controllers, and what becomes of a config."""

    def __init__(self, *states: str, takes: bool = True) -> None:
        self.states = list(states)
        self.takes = takes
        self.submitted = 0

    def actors(self, *, class_name: str | None = None) -> tuple[ActorRow, ...]:
        return tuple(ActorRow(str(n), class_name or "", "", state, "", 0) for n, state in enumerate(self.states))

    def put_serve(self, config: Mapping[str, Json], *, timeout: float = 20.0) -> None:
        self.submitted += 1
        if not self.takes:
            raise CommandFailed("the Serve config was not taken: ReadTimeout timed out")


def operator(head: Head, said: list[str]) -> Operator:
    return Operator(head, {}, said.append)


def test_a_config_that_a_new_controller_did_not_get_is_submitted_again() -> None:
    """The head died after the request had made a controller, which comes back without any app."""
    head, said = Head(takes=False), list[str]()
    of = operator(head, said)
    of.look(0.0)
    head.states, head.takes = ["RESTARTING"], True
    of.look(5.0)
    assert head.submitted == 1
    head.states = ["ALIVE"]
    of.look(6.0)
    of.look(10.0)
    assert head.submitted == 2
    assert said[0] == "the Serve config was not taken: ReadTimeout timed out"


def test_a_config_that_was_taken_is_not_submitted_again() -> None:
    head = Head()
    of = operator(head, [])
    of.look(0.0)
    head.states = ["ALIVE"]
    for second in range(1, 30):
        of.look(float(second))
    assert head.submitted == 1


def test_a_config_that_is_refused_is_named_once() -> None:
    head, said = Head("ALIVE", "DEAD", takes=False), list[str]()
    head.states = []
    of = operator(head, said)
    of.look(0.0)
    head.states = ["ALIVE"]
    for second in range(1, 30):
        of.look(float(second))
    assert head.submitted == 15
    assert len(said) == 1


def test_without_a_controller_the_config_is_submitted_again_after_a_second_look() -> None:
    head = Head("ALIVE")
    of = operator(head, [])
    for second in range(3):
        of.look(float(second))
    assert head.submitted == 0
    head.states = ["DEAD"]
    of.look(10.0)
    of.look(12.5)
    of.look(13.0)
    assert head.submitted == 2
