"""Faults on the machines under a RayService on kind nodes that only remember what was asked of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pytest_serve_chaos.cluster.kubernetes.kind.rayservice import KindRayService
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget
from tests.unit.kind_services import Api, Nodes, fake_api, fake_service
from tests.unit.test_kuberay_pods import FakeDashboard, pod

MACHINES = {"h": "kind-worker3", "a": "kind-worker", "b": "kind-worker2"}


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def api() -> Api:
    """Each Ray pod has a machine of its own, Redis is beside the head's."""
    found = fake_api()
    found.ray_pods = [replace(p, node=MACHINES[p.uid]) for p in found.ray_pods]
    found.redis = tuple(replace(p, node="kind-control-plane") for p in found.redis)
    return found


@pytest.fixture
def service(api: Api, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> KindRayService:
    return fake_service(api, nodes, FakeDashboard(None, {}, {}), [], monkeypatch)


def moved(api: Api, uid: str, machine: str) -> None:
    """The pod's successor is on another machine."""
    api.ray_pods = [p for p in api.ray_pods if p.uid != uid]
    api.ray_pods.append(replace(pod(f"{uid}2", "worker", "10.0.0.7"), node=machine))


# -- which machine --


def test_each_machine_that_was_lost_under_the_same_name_is_revived(
    service: KindRayService, api: Api, nodes: Nodes
) -> None:
    service.kill_machine("worker-1", how="kill")
    moved(api, "a", "kind-worker2")
    service.kill_machine("worker-1", how="kill")
    service.revive_machine("worker-1")
    service.revive_machine("worker-1")
    service.revive_machine("worker-1")
    assert nodes.asked == ["kill kind-worker", "kill kind-worker2", "start kind-worker2", "start kind-worker"]


def test_another_fault_under_the_same_name_is_another_machine(service: KindRayService, api: Api, nodes: Nodes) -> None:
    service.freeze_machine("worker-1")
    moved(api, "a", "kind-worker2")
    service.kill_machine("worker-1", how="stop")
    service.thaw_machine("worker-1")
    service.revive_machine("worker-1")
    assert nodes.asked == ["pause kind-worker", "stop kind-worker2", "unpause kind-worker", "start kind-worker2"]


def test_a_machine_that_cannot_be_revived_keeps_no_other_from_it_and_is_tried_again(
    service: KindRayService, api: Api, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.kill_machine("worker-1", how="kill")
    moved(api, "a", "kind-worker2")
    service.kill_machine("worker-1", how="kill")
    start, refused = nodes.start_machine, ["kind-worker2"]

    def start_machine(node: str) -> None:
        start(node)
        if node in refused:
            refused.remove(node)
            raise CommandFailed("docker failed")

    monkeypatch.setattr(nodes, "start_machine", start_machine)
    with pytest.raises(CommandFailed, match="docker failed"):
        service.revive_machine("worker-1")
    service.revive_machine("worker-1")
    service.revive_machine("worker-1")
    assert nodes.asked[2:] == ["start kind-worker2", "start kind-worker", "start kind-worker2"]


@pytest.mark.parametrize(
    "strike",
    [
        lambda service: service.kill_machine("worker-1", how="kill"),
        lambda service: service.kill_machine("worker-1", how="stop"),
        lambda service: service.freeze_machine("worker-1"),
        lambda service: service.delete_machine("worker-1", within=0.0),
        lambda service: service.drain_machine("worker-1"),
    ],
    ids=["kill", "stop", "freeze", "delete", "drain"],
)
def test_the_machine_of_the_control_plane_is_never_a_target(
    strike: Callable[[KindRayService], object], service: KindRayService, api: Api, nodes: Nodes
) -> None:
    api.ray_pods = [replace(p, node="kind-control-plane") for p in api.ray_pods]
    with pytest.raises(NoSuchTarget, match="kind-control-plane, which is not a machine for faults"):
        strike(service)
    for heal in (service.revive_machine, service.thaw_machine, service.register_machine, service.reopen_machine):
        heal("worker-1")
    assert (nodes.asked, api.calls) == ([], [])


# -- what is on it --


def test_redis_on_a_machine_that_is_lost_is_dead_at_once(service: KindRayService, api: Api) -> None:
    assert [c.state for c in service.components() if c.role == "redis"] == ["Ready"]
    service.kill_machine("worker-2", how="kill")
    assert [c.state for c in service.components() if c.role == "redis"] == ["Ready"], "it is on another machine"
    api.redis = tuple(replace(p, node="kind-worker") for p in api.redis)
    service.kill_machine("worker-1", how="kill")
    assert not [c for c in service.components() if c.role == "redis"]


def test_a_drain_takes_all_of_our_pods_on_that_machine_but_those_that_would_come_back(
    service: KindRayService, api: Api
) -> None:
    beside = replace(pod("x", "none", "10.0.0.8"), node="kind-worker", labels={})
    agent = replace(beside, uid="d", name="agent", owner="DaemonSet")
    api.ray_pods += [beside, agent]
    api.redis = tuple(replace(p, node="kind-worker") for p in api.redis)
    evicted: list[object] = []

    def evict() -> None:
        if api.calls[-1][0] == "create_namespaced_pod_eviction":
            evicted.append(api.calls[-1][1])
            api.ray_pods = [p for p in api.ray_pods if p.name not in evicted]
            api.redis = tuple(p for p in api.redis if p.name not in evicted)

    api.on_call = evict
    signs = service.drain_machine("worker-1")
    assert evicted == ["pod-a", "pod-x", "pod-r"]
    assert "pod-a" in signs[0].text, "the Ray node is what the fault is about"
    assert {name for name in evicted if any(str(name) in sign.text for sign in signs)} == set(evicted)
