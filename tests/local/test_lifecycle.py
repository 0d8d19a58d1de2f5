"""What a local cluster leaves behind, and whom it meets."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.backends.registry import BUILT_IN as BACKENDS
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import HAS_REDIS, KILLS_NODES, ON_THIS_MACHINE, SHARES_REDIS
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.cluster import LocalCluster
from pytest_serve_chaos.cluster.local.start import LocalSettings, start_local_cluster
from pytest_serve_chaos.cluster.watchdog import GRACE
from tests.capabilities import part

MOMENTS = int(os.environ.get("SERVE_CHAOS_TEST_MOMENTS", "1"))
"""Random moments for each victim; a release tries ten."""

SMALL = ClusterSpec(workers=1, app_args=(("options", {"num_replicas": 2}),))

EXPERIMENT = """
import pytest

@pytest.mark.serve_cluster(workers=1, app_args={"options": {"num_replicas": 2}})
@pytest.mark.head_failure
def test_head(experiment):
    experiment.measure(window="60s")
"""

FROZEN = """
import pytest

@pytest.mark.serve_cluster(workers=1, app_args={"options": {"num_replicas": 2}})
@pytest.mark.controller_failure(how="freeze", for_="10s")
def test_frozen(experiment):
    experiment.measure()
"""

LONGEST = 35.0
"""Seconds until a victim is killed, at most: a cluster is up after some 20, and its head is killed soon after."""


class Start(Protocol):
    """Starts pytest with a test."""

    def __call__(self, test: str = EXPERIMENT) -> subprocess.Popen[bytes]: ...


def runs() -> set[str]:
    """The ids of the runs that have processes on this machine."""
    mark = f"{processes.MARK}=".encode()
    found = (v for _, variables in processes.environments() for v in variables if v.startswith(mark))
    return {variable.removeprefix(mark).decode() for variable in found}


def directories() -> set[str]:
    return {p.name for p in Path(tempfile.gettempdir()).glob("serve-chaos-*") if "locks" not in p.name and p.is_dir()}


def supervisor_of(pid: int) -> int | None:
    for child in processes.all_pids():
        process = processes.read(child)
        if process is not None and process.parent == pid and "local.supervisor" in process.command:
            return child
    return None


def supervisor_or_end(process: subprocess.Popen[bytes]) -> int | NotYet:
    assert process.poll() is None, "pytest has ended"
    return supervisor_of(process.pid) or NotYet("there is none")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def go(test: str = EXPERIMENT) -> subprocess.Popen[bytes]:
        (tmp_path / "test_head.py").write_text(test)
        options = ("--serve-chaos", "--serve-chaos-rate=10", f"--rootdir={tmp_path}")
        with (tmp_path / "pytest.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "test_head.py"],
                cwd=tmp_path,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize("victim", ["pytest", "supervisor"])
def test_nothing_is_left_after_kill_9(start: Start, victim: str, moment: int) -> None:
    """At a random moment of a run, in which the head is killed and comes back, in one process or the other."""
    before_runs, before_directories = runs(), directories()
    delay = random.Random(f"{victim}{moment}").uniform(0.5, LONGEST)
    process = start()
    deadline = time.monotonic() + delay
    supervisor = clock.wait_until("the supervisor", lambda: supervisor_or_end(process), timeout=60.0, interval=0.02)
    time.sleep(max(0.0, deadline - time.monotonic()))
    os.kill(process.pid if victim == "pytest" else supervisor, signal.SIGKILL)

    def clean() -> bool | NotYet:
        left, there = runs() - before_runs, directories() - before_directories
        return NotYet(f"runs {left}, directories {there}") if left or there else True

    clock.wait_until("all to be gone", clean, timeout=10.0, interval=0.1)


def test_a_frozen_controller_goes_on_while_pytest_is_stopped(start: Start) -> None:
    """As by Ctrl-Z: nobody heals it, and the supervisor waits for commands."""
    process = start(FROZEN)

    def frozen() -> processes.Process | NotYet:
        assert process.poll() is None, "pytest has ended"
        stopped = [one for one in map(processes.read, processes.all_pids()) if one is not None and one.state == "T"]
        controllers = [one for one in stopped if one.command.startswith("ray::ServeController")]
        return controllers[0] if controllers else NotYet("no controller is stopped")

    victim = clock.wait_until("the controller to be frozen", frozen, timeout=120.0)
    os.kill(process.pid, signal.SIGSTOP)

    def resumed() -> bool | NotYet:
        now = processes.read(victim.pid)
        assert now is not None, "it is gone"
        return now.state != "T" or NotYet("it is stopped")

    clock.wait_until("it to go on", resumed, timeout=10.0 + GRACE + 15.0)


def janitors_below(pid: int) -> list[int]:
    return [process.pid for process in processes.below(pid) if "local.janitor" in process.command]


def test_the_next_run_removes_what_is_left_if_the_janitor_is_killed_too(start: Start) -> None:
    before_runs, before_directories = runs(), directories()
    process = start()
    supervisor = clock.wait_until("the supervisor", lambda: supervisor_or_end(process), timeout=60.0, interval=0.02)
    clock.wait_until("a node", lambda: bool(runs() - before_runs) or NotYet("none"), timeout=60.0)
    pids = [*janitors_below(process.pid), supervisor, process.pid]
    assert len(pids) == 3
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    process.wait()
    assert directories() - before_directories
    said: list[str] = []
    assert BACKENDS.sweep(said.append) == []
    assert len(said) >= 1
    assert (runs() - before_runs, directories() - before_directories) == (set(), set())


def nodes_and_replicas(cluster: LocalCluster) -> tuple[int, int]:
    """How many there are, as soon as a dashboard that may be busy says so."""

    def said() -> tuple[int, int]:
        alive = [node for node in cluster.dashboard.nodes() if node.state == "ALIVE"]
        return len(alive), len(cluster.dashboard.serve().replicas)

    return clock.wait_until("the dashboard to answer", clock.patient(said), timeout=30.0)


def test_every_process_of_ray_carries_the_mark(tmp_path: Path) -> None:
    """Without it, neither the janitor nor the next run finds a process that outlives its node."""
    with closing(start_local_cluster(SMALL, LocalSettings(logs=tmp_path), print)) as cluster:
        (supervisor,) = part(cluster, ON_THIS_MACHINE).first_processes()
        mark = f"{processes.MARK}=".encode()
        variables = dict(processes.environments())
        found = {one: any(v.startswith(mark) for v in variables[one.pid]) for one in processes.below(supervisor)}
    assert any("DashboardAgent" in one.command for one in found)
    without = [one.command for one, marked in found.items() if not marked]
    # Redis writes its title over its environment. The kernel ends it with the supervisor, whose child it is.
    assert all("redis-server" in command or "local.janitor" in command for command in without), without


def test_two_runs_and_a_foreign_cluster_do_not_meet(tmp_path: Path) -> None:
    """A Ray cluster of somebody else at Ray's default ports is neither touched nor joined; nor do two runs meet."""
    foreign = start_foreign(tmp_path / "ray")
    try:
        before = members(foreign)
        assert before
        one = start_local_cluster(SMALL, LocalSettings(logs=tmp_path / "one"), print)
        try:
            two = start_local_cluster(SMALL, LocalSettings(logs=tmp_path / "two"), print)
            try:
                assert one.url != two.url
                for cluster in (one, two):
                    assert nodes_and_replicas(cluster) == (2, 2)
            finally:
                two.close()
            assert nodes_and_replicas(one) == (2, 2)
        finally:
            one.close()
        assert members(foreign) == before
    finally:
        for pid, _ in members(foreign):
            os.kill(pid, signal.SIGKILL)
        foreign.wait()


def start_foreign(directory: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", "RAY_TMPDIR": str(directory)}
    short = Path(tempfile.mkdtemp(prefix="fr-"))  # the paths of its sockets must be short
    command = ["start", "--head", "--block", "--num-cpus=1", f"--temp-dir={short}", "--disable-usage-stats"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment,
    )

    def ready() -> bool | NotYet:
        there = {p.rpartition("/")[2] for _, p in members(process)}
        return True if {"gcs_server", "raylet"} <= there else NotYet(f"its processes are {there}")

    clock.wait_until("the foreign cluster", ready, timeout=60.0)
    time.sleep(3.0)  # its agents start after the raylet; a later one is no sign that it was touched
    return process


def members(process: subprocess.Popen[bytes]) -> set[tuple[int, str]]:
    """GCS, raylet and agents; idle Python workers come and go."""
    found = processes.in_sessions({process.pid})
    names = {(p.pid, p.command.split(" ")[0]) for p in found}
    return {(pid, name) for pid, name in names if name.endswith(("gcs_server", "raylet"))} | {(process.pid, "start")}


def test_a_run_under_the_same_namespace_inherits_what_another_one_must_not(tmp_path: Path) -> None:
    """The counterpart of the suite's `test_storage_namespace`: what it looks at does show inherited state."""
    with closing(start_local_cluster(SMALL, LocalSettings(logs=tmp_path), print)) as cluster:
        part(cluster, KILLS_NODES).kill_node("head", how="kill", hold=True)
        namespace = part(cluster, HAS_REDIS).redis_namespace
        with closing(part(cluster, SHARES_REDIS).start_alongside(namespace)) as heir:

            def inherited() -> bool | NotYet:
                classes = [actor.class_name for actor in heir.dashboard.actors()]
                return "ServeController" in classes or NotYet(f"its actors: {classes}")

            clock.wait_until("the controller to be inherited", clock.patient(inherited), timeout=20.0)
            nodes = clock.wait_until("it to say who is there", clock.patient(heir.dashboard.nodes), timeout=20.0)
            assert len(nodes) > 1
