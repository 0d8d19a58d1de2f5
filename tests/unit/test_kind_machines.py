"""Faults on the machines under a RayService on kind, and that each machine which was taken is given back."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Literal

import pytest

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.capabilities import (
    DELETES_MACHINES,
    DRAINS_MACHINES,
    FREEZES_MACHINES,
    HAS_REDIS,
    KILLS_MACHINES,
    KILLS_NODES,
)
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.kind import first_processes
from pytest_serve_chaos.cluster.kubernetes.kind.docker_machines import DockerMachines
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.machine_faults import TakenMachines
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, WaitTimeout
from tests.capabilities import part
from tests.unit.kind_services import Api, Nodes, fake_api, fake_service
from tests.unit.quick_time import QuickTime
from tests.unit.rayservices import FakeDashboard, pod

MACHINES = {"h": "kind-worker3", "a": "kind-worker", "b": "kind-worker2"}


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def api() -> Api:
    """Each Ray pod has a machine of its own, Redis is alongside the head's."""
    found = fake_api()
    found.ray_pods = [replace(p, node=MACHINES[p.uid]) for p in found.ray_pods]
    found.redis = tuple(replace(p, node="kind-control-plane") for p in found.redis)
    return found


@pytest.fixture
def service(api: Api, nodes: Nodes) -> RayServiceCluster:
    return fake_service(api, nodes, FakeDashboard(None, {}, {}), [])


def moved(api: Api, uid: str, machine: str) -> None:
    """The pod's successor is on another machine."""
    api.ray_pods = [p for p in api.ray_pods if p.uid != uid]
    api.ray_pods.append(replace(pod(f"{uid}2", "worker", "10.0.0.7"), node=machine))


# -- which machine --


def test_each_machine_that_was_lost_under_the_same_name_is_revived(
    service: RayServiceCluster, api: Api, nodes: Nodes
) -> None:
    part(service, KILLS_MACHINES).kill_machine("worker-1", how="kill")
    moved(api, "a", "kind-worker2")
    part(service, KILLS_MACHINES).kill_machine("worker-1", how="kill")
    part(service, KILLS_MACHINES).revive_machine("worker-1")
    part(service, KILLS_MACHINES).revive_machine("worker-1")
    part(service, KILLS_MACHINES).revive_machine("worker-1")
    assert nodes.asked == ["kill kind-worker", "kill kind-worker2", "start kind-worker2", "start kind-worker"]


def test_another_fault_under_the_same_name_is_another_machine(
    service: RayServiceCluster, api: Api, nodes: Nodes
) -> None:
    part(service, FREEZES_MACHINES).freeze_machine("worker-1")
    moved(api, "a", "kind-worker2")
    part(service, KILLS_MACHINES).kill_machine("worker-1", how="stop")
    part(service, FREEZES_MACHINES).thaw_machine("worker-1")
    part(service, KILLS_MACHINES).revive_machine("worker-1")
    assert nodes.asked == ["pause kind-worker", "stop kind-worker2", "unpause kind-worker", "start kind-worker2"]


def test_a_machine_that_cannot_be_revived_keeps_no_other_from_it_and_is_tried_again(
    service: RayServiceCluster, api: Api, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    part(service, KILLS_MACHINES).kill_machine("worker-1", how="kill")
    moved(api, "a", "kind-worker2")
    part(service, KILLS_MACHINES).kill_machine("worker-1", how="kill")
    start, refused = nodes.start_machine, ["kind-worker2"]

    def start_machine(node: str) -> None:
        start(node)
        if node in refused:
            refused.remove(node)
            raise CommandFailed("docker failed")

    monkeypatch.setattr(nodes, "start_machine", start_machine)
    with pytest.raises(CommandFailed, match="docker failed"):
        part(service, KILLS_MACHINES).revive_machine("worker-1")
    part(service, KILLS_MACHINES).revive_machine("worker-1")
    part(service, KILLS_MACHINES).revive_machine("worker-1")
    assert nodes.asked[2:] == ["start kind-worker2", "start kind-worker", "start kind-worker2"]


@pytest.mark.parametrize(
    "strike",
    [
        lambda service: part(service, KILLS_MACHINES).kill_machine("worker-1", how="kill"),
        lambda service: part(service, KILLS_MACHINES).kill_machine("worker-1", how="stop"),
        lambda service: part(service, FREEZES_MACHINES).freeze_machine("worker-1"),
        lambda service: part(service, DELETES_MACHINES).delete_machine("worker-1", within=0.0),
        lambda service: part(service, DRAINS_MACHINES).drain_machine("worker-1"),
    ],
    ids=["kill", "stop", "freeze", "delete", "drain"],
)
def test_the_machine_of_the_control_plane_is_never_a_target(
    strike: Callable[[RayServiceCluster], object], service: RayServiceCluster, api: Api, nodes: Nodes
) -> None:
    api.ray_pods = [replace(p, node="kind-control-plane") for p in api.ray_pods]
    with pytest.raises(NoSuchTarget, match="kind-control-plane, which is not a machine for faults"):
        strike(service)
    for heal in (
        part(service, KILLS_MACHINES).revive_machine,
        part(service, FREEZES_MACHINES).thaw_machine,
        part(service, DELETES_MACHINES).register_machine,
        part(service, DRAINS_MACHINES).reopen_machine,
    ):
        heal("worker-1")
    assert (nodes.asked, api.calls) == ([], [])


# -- what undoes it if the run cannot --


CHANGES: dict[str, tuple[list[str], Callable[[RayServiceCluster], object], Callable[[RayServiceCluster], object]]] = {
    "a taint": (
        [names.NO_WORKER],
        lambda service: part(service, KILLS_NODES).kill_node("worker-1", how="kill", hold=True),
        lambda service: part(service, KILLS_NODES).restore_node("worker-1"),
    ),
    "a cordon": (
        ["cordon kind-worker"],
        lambda service: part(service, DRAINS_MACHINES).drain_machine("worker-1"),
        lambda service: part(service, DRAINS_MACHINES).reopen_machine("worker-1"),
    ),
    "a deleted Node": (
        ["deletion kind-worker"],
        lambda service: part(service, DELETES_MACHINES).delete_machine("worker-1", within=0.0),
        lambda service: part(service, DELETES_MACHINES).register_machine("worker-1"),
    ),
    "Redis without pods": (
        ["deployment/redis in serve-chaos to 1"],
        lambda service: part(service, HAS_REDIS).kill_redis(how="kill", hold=True),
        lambda service: part(service, HAS_REDIS).restore_redis(),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_does_not_end_by_itself_is_undone_by_somebody_else_until_it_is_healed(
    what: str, service: RayServiceCluster, api: Api, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "time", QuickTime())
    arranged, strike, heal = CHANGES[what]
    before: list[tuple[object, ...]] = []
    monkeypatch.setattr(api, "on_call", lambda: before.append((*nodes.late, api.calls[-1][0])))
    monkeypatch.setattr(nodes, "keep_away", lambda taint: before.append((*nodes.late, "keep_away")))
    with suppress(WaitTimeout):  # the fakes bring nobody back
        strike(service)
    changes = [one for one in before if one[-1] != "read_node"]
    assert changes[0][:-1] == tuple(arranged), "it was arranged before the change"
    assert nodes.late == arranged
    heal(service)
    assert len(nodes.late) == 2
    assert nodes.late[1].startswith("not ")
    heal(service)
    assert len(nodes.late) == 2


def test_nobody_undoes_what_cannot_be_arranged(
    service: RayServiceCluster, api: Api, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(taint: str) -> None:
        raise CommandFailed("no watchdog could be started, so nothing was broken")

    monkeypatch.setattr(nodes, "of_taint", refuse)
    with pytest.raises(CommandFailed, match="so nothing was broken"):
        part(service, KILLS_NODES).kill_node("worker-1", how="kill", hold=True)
    assert (nodes.asked, api.deleted) == ([], [])


# -- what is on it --


def test_redis_on_a_machine_that_is_lost_is_dead_at_once(service: RayServiceCluster, api: Api) -> None:
    assert [c.state for c in service.components() if c.role == "redis"] == ["Ready"]
    part(service, KILLS_MACHINES).kill_machine("worker-2", how="kill")
    assert [c.state for c in service.components() if c.role == "redis"] == ["Ready"], "it is on another machine"
    api.redis = tuple(replace(p, node="kind-worker") for p in api.redis)
    part(service, KILLS_MACHINES).kill_machine("worker-1", how="kill")
    assert not [c for c in service.components() if c.role == "redis"]


def test_a_drain_takes_all_of_our_pods_on_that_machine_but_those_that_would_come_back(
    service: RayServiceCluster, api: Api
) -> None:
    alongside = replace(pod("x", "none", "10.0.0.8"), node="kind-worker", labels={})
    agent = replace(alongside, uid="d", name="agent", owner="DaemonSet")
    api.ray_pods += [alongside, agent]
    api.redis = tuple(replace(p, node="kind-worker") for p in api.redis)
    evicted: list[object] = []

    def evict() -> None:
        if api.calls[-1][0] == "create_namespaced_pod_eviction":
            evicted.append(api.calls[-1][1])
            api.ray_pods = [p for p in api.ray_pods if p.name not in evicted]
            api.redis = tuple(p for p in api.redis if p.name not in evicted)

    api.on_call = evict
    signs = part(service, DRAINS_MACHINES).drain_machine("worker-1")
    assert evicted == ["pod-a", "pod-x", "pod-r"]
    assert "pod-a" in signs[0].text, "the Ray node is what the fault is about"
    assert {name for name in evicted if any(str(name) in sign.text for sign in signs)} == set(evicted)


def test_one_that_cannot_be_given_back_keeps_no_other() -> None:
    taken = TakenMachines()
    for name, machine in (("head", "n-1"), ("worker-1", "n-2"), ("worker-1", "n-3"), ("worker-2", "n-4")):
        taken.take("drain", name, machine)
    opened = []

    def undo(machine: str) -> None:
        if machine in ("n-1", "n-3"):
            raise CommandFailed(f"{machine} was refused")
        opened.append(machine)

    with pytest.raises(CommandFailed, match="n-1 was refused"):
        taken.give_all_back("drain", undo)
    assert opened == ["n-2", "n-4"]
    assert taken.left("drain") == ["n-1", "n-3"]
    taken.give_all_back("drain", opened.append)
    assert (opened, taken.left("drain")) == (["n-2", "n-4", "n-1", "n-3"], [])


def test_what_was_done_in_another_way_is_left_alone() -> None:
    taken = TakenMachines()
    taken.take("freeze", "worker-1", "n-1")
    taken.give_all_back("drain", lambda machine: pytest.fail(machine))
    assert taken.left("freeze") == ["n-1"]


# -- whose processes are the cluster's --


class Docker:
    """Docker and kubectl with two nodes, whose first processes have these PIDs."""

    def __init__(self, *pids: int) -> None:
        self.pids = pids
        self.asked = 0

    def run(self, program: Literal["docker", "kind", "kubectl"], *arguments: str, timeout: float = 60.0) -> str:
        self.asked += 1
        return "\n".join(map(str, self.pids))

    def kubectl(self, *arguments: str, timeout: float = 60.0) -> str:
        return "node/kind-control-plane\nnode/kind-worker\n"

    def machines(self) -> DockerMachines:
        return DockerMachines(self.run, self.kubectl, "kind-control-plane")


@pytest.fixture
def inits(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The PIDs on this machine that are the first process of a container."""
    found = {11, 12}
    monkeypatch.setattr(first_processes, "_is_init", found.__contains__)
    return found


def test_docker_is_asked_for_the_first_processes_again_only_when_one_has_ended(inits: set[int]) -> None:
    docker = Docker(11, 12)
    machines = docker.machines()
    assert [machines.first_processes(), machines.first_processes(), docker.asked] == [(11, 12), (11, 12), 1]
    inits.remove(12)
    inits.add(13)
    docker.pids = (11, 13)
    assert (machines.first_processes(), docker.asked) == ((11, 13), 2)


def test_the_processes_of_a_docker_elsewhere_are_not_known_and_not_asked_for_again(inits: set[int]) -> None:
    docker = Docker(4711, 4712)
    machines = docker.machines()
    assert [machines.first_processes(), machines.first_processes(), docker.asked] == [(), (), 1]


def test_a_node_that_was_killed_has_no_first_process_until_it_is_started_again(inits: set[int]) -> None:
    docker = Docker(11, 0)
    machines = docker.machines()
    assert machines.first_processes() == (11,)
    inits.add(13)
    docker.pids = (11, 13)
    assert machines.first_processes() == (11, 13)


def test_while_all_nodes_are_down_their_docker_is_not_taken_for_one_that_is_elsewhere(inits: set[int]) -> None:
    docker = Docker(0, 0)
    machines = docker.machines()
    assert machines.first_processes() == ()
    docker.pids = (11, 12)
    assert machines.first_processes() == (11, 12)


def test_no_process_of_this_test_is_the_first_of_a_container() -> None:
    assert not first_processes._is_init(os.getpid())
    assert not first_processes._is_init(0)
