from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_serve_chaos.analysis.configuration import Setup
from pytest_serve_chaos.cluster.capabilities import KILLS_ACTORS, KILLS_NODES, KNOWS_ITS_SETUP
from pytest_serve_chaos.cluster.kubernetes.client import records
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.logs.operator import operator_errors, read_manifests
from pytest_serve_chaos.errors import ClusterStartError, NoSuchTarget, ObservationError, Unsupported
from pytest_serve_chaos.model import Component, Identity, Json
from pytest_serve_chaos.observe.observer import Observer
from tests.capabilities import part
from tests.unit.rayservices import FakeApi, FakeDashboard, actor, cluster, cluster_on, pod, view_of


def three_pods() -> FakeApi:
    return FakeApi(pod("h", "head", "10.0.0.1"), pod("a", "worker", "10.0.0.2"), pod("b", "worker", "10.0.0.3"))


def test_a_node_is_a_pod_and_its_gcs_goes_with_its_container() -> None:
    seen = cluster(three_pods()).components()
    assert {(c.role, c.node) for c in seen} == {
        ("head", "head"),
        ("gcs", "head"),
        ("worker", "worker-1"),
        ("worker", "worker-2"),
    }


def test_an_error_while_the_watches_end_does_not_keep_the_rest_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    service = cluster_on(
        view_of(
            SimpleNamespace(close=lambda: ended.append("api")),
            SimpleNamespace(close=lambda: ended.append("dashboard")),
        ),
        on_close=lambda: ended.append("all that was made"),
    )

    def full_disk() -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(service, "stop_watching", full_disk)
    with pytest.raises(OSError, match="no space"):
        service.close()
    assert ended == ["all that was made", "dashboard", "api"]


def test_a_container_that_was_started_again_is_another_incarnation_of_the_same_pod() -> None:
    before = cluster(FakeApi(pod("h", "head", "10.0.0.1"))).components()[0].identity
    after = cluster(FakeApi(pod("h", "head", "10.0.0.1", restarts=1))).components()[0].identity
    assert before != after
    assert before.parts[0] == after.parts[0] == "h"


def test_a_node_whose_container_does_not_run_is_expected_and_not_alive() -> None:
    api = FakeApi(pod("h", "head", "10.0.0.1"), pod("a", "worker", "10.0.0.2", running=False))
    nodes = cluster(api).nodes()
    assert [(node.name, node.alive) for node in nodes] == [("head", True), ("worker-1", False), ("worker-2", False)]
    assert nodes[1].identity is None


def test_redis_is_a_component_of_its_own() -> None:
    api = FakeApi(redis=[pod("r", "redis", "10.0.0.9")])
    assert [(c.role, c.node) for c in cluster(api).components()] == [("redis", "redis")]


def test_what_a_pod_is_has_the_machine_under_it_which_identifies_nothing() -> None:
    here, there = (
        {c.role: c for c in cluster(FakeApi(p, redis=[replace(p, uid="r")])).components()}
        for one in [pod("h", "head", "10.0.0.1")]
        for p in (one, replace(one, node="kind-worker2"))
    )
    assert {role: c.machine for role, c in here.items()} == {
        "head": "kind-worker",
        "redis": "kind-worker",
        "gcs": None,
    }
    assert there["head"].machine == "kind-worker2"
    assert there["head"].identity == here["head"].identity


def test_the_topology_says_which_pod_an_actor_is_on() -> None:
    actors = [
        actor("c1", "ServeController", "SERVE_CONTROLLER_ACTOR", "n-h"),
        actor("p1", "ProxyActor", "SERVE_PROXY_ACTOR-n-a", "n-a"),
        actor("r1", "ServeReplica:app:Pid", "SERVE_REPLICA::app#Pid#x7", "n-a"),
        actor("r2", "ServeReplica:app:Pid", "SERVE_REPLICA::app#Pid#x8", "n-b", state="RESTARTING"),
        actor("j1", "JobSupervisor", "a job", "n-h"),
    ]
    addresses = {"n-h": "10.0.0.1", "n-a": "10.0.0.2", "n-b": "10.0.0.3"}
    seen = Observer(cluster(three_pods(), FakeDashboard(actors, addresses, {"app#Pid": 2}))).see()
    assert [(c.node, c.identity) for c in seen.of("replica")] == [("worker-1", Identity("actor", ("r1", "113", "n-a")))]
    assert [c.node for c in seen.of("controller")] == ["head"]
    assert (seen.of("replica")[0].deployment, seen.of("replica")[0].replica) == ("app#Pid", "app#Pid#x7")
    assert seen.pending == {"app#Pid": 1}
    assert seen.sources == ("backend", "actors", "serve")


def test_an_actor_whose_pod_is_gone_is_not_alive_whatever_the_gcs_says() -> None:
    replica = actor("r1", "ServeReplica:app:Pid", "SERVE_REPLICA::app#Pid#x7", "n-old")
    seen = Observer(cluster(three_pods(), FakeDashboard([replica], {"n-old": "10.0.0.77"}, {}))).see()
    assert seen.of("replica") == ()


def test_without_a_head_only_pods_are_seen_and_the_topology_says_so() -> None:
    seen = Observer(cluster(three_pods())).see()
    assert seen.sources == ("backend",)
    assert {c.role for c in seen.components} == {"head", "gcs", "worker"}


@pytest.mark.parametrize(("how", "grace"), [("kill", 0), ("stop", None)])
def test_a_pod_is_deleted_by_force_or_gracefully_with_signs_from_both_sides(how: str, grace: int | None) -> None:
    api = three_pods()
    signs = part(cluster(api), KILLS_NODES).kill_node("worker-1", how=how, hold=False)  # type: ignore[arg-type]
    assert api.deleted == [("pod-a", grace)]
    assert {sign.side for sign in signs} == {"cluster", "victim"}


def test_a_node_that_is_not_there_cannot_be_killed() -> None:
    with pytest.raises(NoSuchTarget, match="worker-2 is not running"):
        part(cluster(FakeApi(pod("h", "head", "10.0.0.1"))), KILLS_NODES).kill_node("worker-2", how="kill", hold=False)


def test_a_pod_cannot_be_held_down() -> None:
    api = three_pods()
    with pytest.raises(Unsupported, match="KubeRay makes a new pod"):
        part(cluster(api), KILLS_NODES).kill_node("head", how="kill", hold=True)
    assert api.deleted == []


def test_a_proxy_is_asked_in_the_pod_that_its_identity_names() -> None:
    api = FakeApi(pod("old", "worker", "10.0.0.2", deleting=True), pod("b", "worker", "10.0.0.3"))
    external = cluster(api)
    external.nodes()
    api.ray_pods.append(pod("new", "worker", "10.0.0.4"))
    for uid in ("old", "new"):
        external.ask_proxy(
            Component("proxy", "worker-1", Identity("actor", ("p", "113", uid))), "/-/routes", timeout=1.0
        )
    assert [name for name, _ in api.asked] == ["pod-old", "pod-new"]


def test_an_actor_that_the_gcs_does_not_know_cannot_be_killed() -> None:
    with pytest.raises(NoSuchTarget, match="no actor c9"):
        part(cluster(three_pods(), FakeDashboard([], {}, {})), KILLS_ACTORS).kill_actor("c9", no_restart=True)


def test_a_kill_on_another_machine_is_dated_early_and_never_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program was started at 100 s, killed 3 s after it had begun, and its end was heard of at 110 s."""
    times = iter([100.0])
    monkeypatch.setattr("pytest_serve_chaos.clock.now", lambda: next(times, 110.0))
    controller = actor("c1", "ServeController", "SERVE_CONTROLLER_ACTOR", "n-h")
    killed = part(cluster(three_pods(), FakeDashboard([controller], {}, {})), KILLS_ACTORS).kill_actor(
        "c1", no_restart=True
    )
    assert killed == 103.0


def test_a_pod_that_cannot_be_scheduled_says_why() -> None:
    item: dict[str, Json] = {
        "metadata": {"name": "head", "uid": "u", "creationTimestamp": "2026-11-22T10:00:00Z"},
        "spec": {"containers": [{"name": "ray-head"}]},
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/4 nodes are available"}],
        },
    }
    assert records.pod(item).summary == "head: Pending (0/4 nodes are available)"


def test_a_waiting_container_says_what_it_waits_for() -> None:
    item: dict[str, Json] = {
        "metadata": {"name": "head", "uid": "u", "deletionTimestamp": None},
        "spec": {"containers": [{"name": "ray-head"}]},
        "status": {
            "containerStatuses": [
                {"name": "ray-head", "state": {"waiting": {"reason": "ErrImagePull"}}, "restartCount": 2}
            ]
        },
    }
    record = records.pod(item)
    assert record.main is not None
    assert (record.summary, record.main.restarts, record.main.running) == ("head: ErrImagePull", 2, False)


def test_an_api_server_that_does_not_answer_tells_nothing_of_the_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    api = three_pods()
    service = cluster(api)

    def no_answer(*_: str, **__: str) -> None:
        raise ObservationError("pods: timed out")

    monkeypatch.setattr(api, "pods", no_answer)
    assert part(service, KNOWS_ITS_SETUP).setup() == Setup()


def test_init_containers_are_told_from_the_others() -> None:
    ended: Json = {"name": "wait", "state": {"terminated": {"reason": "Completed"}}, "containerID": "containerd://1f"}
    item: dict[str, Json] = {
        "metadata": {"name": "worker"},
        "spec": {"initContainers": [{"name": "wait"}, {"name": "next"}], "containers": [{"name": "ray-worker"}]},
        "status": {"initContainerStatuses": [ended]},
    }
    record = records.pod(item)
    assert [(c.name, c.id, c.state) for c in record.init_containers] == [
        ("wait", "1f", "Completed"),
        ("next", "", "Pending"),
    ]
    assert [c.name for c in record.containers] == ["ray-worker"]


def test_only_different_errors_of_the_operator_are_shown_the_newest_last() -> None:
    api = FakeApi(pod("o", "operator", "10.0.0.5"))
    yaml_error = {"level": "error", "msg": "Reconciler error", "error": "converting YAML to JSON"}
    lines = [{**yaml_error, "error": "old"}, {"level": "info", "msg": "fine"}, yaml_error, yaml_error]
    api.logs = (*map(json.dumps, lines), "not JSON")
    said = operator_errors(cast("KubeApi", api), "default")
    assert said == ["operator: Reconciler error: old", "operator: Reconciler error: converting YAML to JSON"]


def test_the_operators_manifests_are_a_file_a_directory_or_a_kustomization(tmp_path: Path) -> None:
    rendered = SimpleNamespace(of=[])

    def kustomize(source: str) -> str:
        rendered.of.append(source)
        return "rendered"

    plain, kustomized = tmp_path / "plain", tmp_path / "kustomized"
    for directory in (plain, kustomized):
        directory.mkdir()
        (directory / "a.yaml").write_text("kind: A")
    (plain / "b.yaml").write_text("kind: B")
    (kustomized / "kustomization.yaml").write_text("")
    assert read_manifests(str(plain / "a.yaml"), kustomize) == "kind: A"
    assert read_manifests(str(plain), kustomize) == "kind: A\n---\nkind: B"
    assert read_manifests(str(kustomized), kustomize) == "rendered"
    assert read_manifests("github.com/ray-project/kuberay/x?ref=v1", kustomize) == "rendered"
    assert rendered.of == [str(kustomized), "github.com/ray-project/kuberay/x?ref=v1"]


def test_an_empty_directory_has_no_manifests(tmp_path: Path) -> None:
    with pytest.raises(ClusterStartError, match="not there"):
        read_manifests(str(tmp_path), lambda source: "")
