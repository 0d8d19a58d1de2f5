"""A RayService on kind nodes, with an API and nodes that only remember what was asked of them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest

from pytest_serve_chaos.cluster import kind_rayservice
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec
from pytest_serve_chaos.cluster.capabilities import SharesRedis
from pytest_serve_chaos.cluster.kind import KindNodes
from pytest_serve_chaos.cluster.kind_rayservice import KindRayService
from pytest_serve_chaos.cluster.kuberay import in_pod, names
from pytest_serve_chaos.cluster.kuberay.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kuberay.process_watch import Place, Row
from pytest_serve_chaos.cluster.kuberay.records import Pod
from pytest_serve_chaos.cluster.kuberay.redis_store import RedisStore
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, ObservationError, Unsupported
from pytest_serve_chaos.model import ClusterDescription, Component, Identity, Json
from pytest_serve_chaos.observe.observer import Observer
from tests.unit.test_kuberay_pods import FakeApi, FakeDashboard, actor, pod

DESCRIPTION = ClusterDescription("kind", "2.60.0", 2, "redis", "app", "fast", 1, "http://127.0.0.1:1/")


class Api(FakeApi):
    """Programs in pods end with a status that a test chooses."""

    namespace = "serve-chaos"

    def __init__(self, *pods: Pod, redis: Sequence[Pod] = ()) -> None:
        super().__init__(*pods, redis=redis)
        self.calls: list[tuple[object, ...]] = []
        self.ran: list[tuple[str, tuple[str, ...]]] = []
        self.result = ExecResult("", "", 0)
        self.on_call: Callable[[], object] = lambda: None

    def pods(self, selector: str = "", *, namespace: str | None = None) -> tuple[Pod, ...]:
        return self.redis if "redis" in selector else tuple(self.ray_pods)

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        self.calls.append((method, *arguments))
        self.on_call()
        return {}

    def run(self, name: str, container: str, command: Sequence[str], *, timeout: float = 30.0) -> ExecResult:
        self.ran.append((name, tuple(command[3:])))
        return self.result

    def close(self) -> None:
        pass


class Nodes:
    """The machines of a kind cluster."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ray_nodes(self) -> tuple[str, ...]:
        return ("kind-worker", "kind-worker2")

    def container_end(self, node: str, container_id: str) -> str | None:
        return "stopped"

    def keep_away(self, taint: str) -> None:
        self.asked.append(f"+{taint}")

    def let_back(self, taint: str) -> None:
        self.asked.append(f"-{taint}")

    def end_machine(self, node: str, how: str) -> str:
        self.asked.append(f"{how} {node}")
        return "exited (137)"

    def start_machine(self, node: str) -> None:
        self.asked.append(f"start {node}")

    def restart_kubelet(self, node: str) -> None:
        self.asked.append(f"kubelet {node}")

    def signal_container(self, node: str, container_id: str, number: int) -> bool:
        self.asked.append(f"{number} {container_id} {node}")
        return number == signal.SIGSTOP


class Pods:
    """Pods as the API has them at this moment, instead of a watch."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    def pods(self, labels: Mapping[str, str]) -> tuple[Pod, ...]:
        return self._api.pods("redis" if names.PART in labels else "ray")

    def close(self) -> None:
        pass


class Watch:
    """Processes in containers, as a test has them."""

    def __init__(self, api: KubeApi) -> None:
        self.told: dict[str, tuple[Row, ...]] = {}

    def rows(self, containers: Mapping[str, Place]) -> dict[str, tuple[Row, ...]]:
        return {key: rows for key, rows in self.told.items() if key in containers}

    def close(self) -> None:
        pass


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def api() -> Api:
    return Api(
        pod("h", "head", "10.0.0.1"),
        pod("a", "worker", "10.0.0.2"),
        pod("b", "worker", "10.0.0.3"),
        redis=[pod("r", "redis", "10.0.0.9")],
    )


@pytest.fixture
def dashboard() -> FakeDashboard:
    return FakeDashboard(None, {}, {})


@pytest.fixture
def closed() -> list[str]:
    """What was closed, in order."""
    return []


@pytest.fixture
def service(
    api: Api, nodes: Nodes, dashboard: FakeDashboard, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> KindRayService:
    monkeypatch.setattr(kind_rayservice, "ProcessWatch", Watch)
    monkeypatch.setattr(kind_rayservice, "PodWatch", Pods)
    return KindRayService(
        ClusterSpec(),
        cast("KindNodes", nodes),
        api=cast("KubeApi", api),
        ray_cluster="serve-chaos-abcde",
        dashboard=cast("Dashboard", dashboard),
        serve_config={},
        description=DESCRIPTION,
        redis_selector=f"{names.PART}=redis",
        operator_namespace="operator",
        start_beside=lambda spec, namespace: cast("Cluster", Neighbour(spec, namespace, closed)),
        on_close=lambda: closed.append("the RayService"),
    )


class Neighbour:
    """A head alone on the same Redis."""

    def __init__(self, spec: ClusterSpec, namespace: str | None, closed: list[str]) -> None:
        self.spec = spec
        self.namespace = namespace
        self._closed = closed

    def close(self) -> None:
        self._closed.append(f"beside it: {self.namespace}")


def tell(service: KindRayService, **told: tuple[Row, ...]) -> None:
    watch = cast("Watch", service._processes)
    watch.told = {f"container-{uid}": rows for uid, rows in told.items()}


REPLICA = Row(113, 7000, "replica", "app#Pid", frozen=False)


# -- who is alive --


def test_an_actor_is_alive_because_its_process_is(service: KindRayService) -> None:
    tell(service, h=(Row(50, 6000, "gcs", None, frozen=False),), a=(REPLICA,))
    seen = service.components()
    (replica,) = [c for c in seen if c.role == "replica"]
    assert (replica.node, replica.pid, replica.deployment) == ("worker-1", 113, "app#Pid")
    assert replica.identity == Identity("process", ("a", "container-a", "113", "7000"))
    assert [c.pid for c in seen if c.role == "gcs"] == [50]


def test_the_gcs_adds_ids_and_is_not_asked_who_is_alive(service: KindRayService, dashboard: FakeDashboard) -> None:
    dashboard._actors = [
        actor("r1", "ServeReplica:app:Pid", "SERVE_REPLICA::app#Pid#x7", "n-a"),
        actor("r2", "ServeReplica:app:Pid", "SERVE_REPLICA::app#Pid#x8", "n-b"),
        actor("c1", "ServeController", "SERVE_CONTROLLER_ACTOR", "n-a"),
    ]
    dashboard._nodes = {"n-a": "10.0.0.2", "n-b": "10.0.0.3"}
    observer = Observer(service)
    assert observer.see().of("replica") == ()
    tell(service, a=(REPLICA,))
    (replica,) = observer.see().of("replica")
    assert (replica.actor_id, replica.replica) == ("r1", "app#Pid#x7")


def test_the_containers_of_a_lost_machine_are_dead_whatever_kubernetes_says(
    service: KindRayService, nodes: Nodes
) -> None:
    (sign,) = service.kill_machine("worker-1", how="kill")
    assert sign.side == "victim"
    assert not any(c.role in ("head", "worker") for c in service.components()), "all pods are on that machine here"
    service.revive_machine("worker-1")
    service.revive_machine("worker-1")
    assert nodes.asked == ["kill kind-worker", "start kind-worker"]
    assert not any(c.role == "worker" for c in service.components()), "until its containers are new ones"


# -- signals --


def test_a_signal_goes_to_the_container_of_the_process(service: KindRayService, api: Api) -> None:
    service.signal_process(Identity("process", ("a", "container-a", "113", "7000")), signal.SIGKILL)
    assert api.ran == [("pod-a", ("113", "7000", "9"))]


@pytest.mark.parametrize(
    ("container", "status"), [("container-a", in_pod.GONE), ("another", 0)], ids=["process-gone", "container-gone"]
)
def test_a_process_that_is_gone_is_no_target(service: KindRayService, api: Api, container: str, status: int) -> None:
    api.result = ExecResult("", "", status)
    with pytest.raises(NoSuchTarget, match="is gone"):
        service.signal_process(Identity("process", ("a", container, "113", "7000")), signal.SIGKILL)


def test_the_first_process_of_a_container_is_signalled_from_its_machine(service: KindRayService, nodes: Nodes) -> None:
    (redis,) = [c for c in service.components() if c.role == "redis"]
    service.signal_process(redis.identity, signal.SIGSTOP)
    assert nodes.asked == [f"{int(signal.SIGSTOP)} container-r kind-worker"]
    assert [c.state for c in service.components() if c.role == "redis"] == ["frozen"]
    service.signal_process(redis.identity, signal.SIGCONT)
    assert [c.state for c in service.components() if c.role == "redis"] == ["Ready"]


def test_a_node_that_is_not_wholly_frozen_is_an_error(service: KindRayService, api: Api) -> None:
    api.result = ExecResult('{"processes": 9, "left": [113]}', "", 0)
    with pytest.raises(CommandFailed, match="could not be frozen"):
        service.freeze_node("worker-1")


def test_a_health_flag_is_set_by_the_replicas_pid(service: KindRayService, api: Api) -> None:
    replica = Component("replica", "worker-1", Identity("process", ("a", "container-a", "113", "7000")), 113)
    service.set_health_flag(replica, "hang")
    service.clear_health_flag(replica)
    assert api.ran == [("pod-a", ("113", "hang")), ("pod-a", ("113", ""))]
    api.result = ExecResult("", "", in_pod.NO_DIRECTORY)
    with pytest.raises(Unsupported, match="no directory for health flags"):
        service.set_health_flag(replica, "raise")


# -- what stays away --


def test_a_held_node_is_kept_away_before_its_pod_goes_and_let_back_when_it_may(
    service: KindRayService, api: Api, nodes: Nodes
) -> None:
    delete = api.delete_pod

    def delete_pod(name: str, uid: str, *, grace: int | None) -> None:
        nodes.asked.append(f"delete {name}")
        delete(name, uid, grace=grace)

    api.delete_pod = delete_pod  # type: ignore[method-assign]
    service.kill_node("worker-1", how="kill", hold=True)
    service.kill_node("worker-2", how="kill", hold=True)
    service.kill_node("head", how="kill", hold=True)
    service.restore_node("worker-1")
    service.restore_node("head")
    service.restore_node("worker-2")
    service.restore_node("worker-2")
    assert nodes.asked == [
        f"+{names.NO_WORKER}", "delete pod-a", f"+{names.NO_WORKER}", "delete pod-b", f"+{names.NO_HEAD}",
        "delete pod-h", f"-{names.NO_HEAD}", f"-{names.NO_WORKER}",
    ]  # fmt: skip


def test_a_node_that_nobody_held_is_let_alone(service: KindRayService, nodes: Nodes) -> None:
    service.restore_node("head")
    service.revive_machine("head")
    service.register_machine("head")
    service.reopen_machine("head")
    assert nodes.asked == []


def test_a_deleted_node_has_lost_its_pods_only_when_they_are_gone(
    service: KindRayService, api: Api, nodes: Nodes
) -> None:
    assert service.delete_machine("worker-1", within=0.1) == ()
    assert ("delete_node", "kind-worker") in api.calls
    service.register_machine("worker-1")
    assert nodes.asked == ["kubelet kind-worker"]

    api.on_call = api.ray_pods.clear
    signs = service.delete_machine("worker-1", within=5.0)
    assert {sign.side for sign in signs} == {"cluster", "victim"}


def test_a_drained_node_is_cordoned_its_pods_are_evicted_and_it_is_opened_again(
    service: KindRayService, api: Api
) -> None:
    evicted: list[object] = []

    def evict() -> None:
        if api.calls[-1][0] == "create_namespaced_pod_eviction":
            evicted.append(api.calls[-1][1])
            if len(evicted) == 3:
                api.ray_pods.clear()

    api.on_call = evict
    signs = service.drain_machine("worker-1")
    service.reopen_machine("worker-1")
    assert evicted == ["pod-h", "pod-a", "pod-b"]
    cordons = [call[2] for call in api.calls if call[0] == "patch_node"]
    assert cordons == [{"spec": {"unschedulable": True}}, {"spec": {"unschedulable": None}}]
    assert {sign.side for sign in signs} == {"cluster", "victim"}


# -- Redis --


def test_what_is_started_beside_it_is_a_head_alone_and_goes_before_it(
    service: KindRayService, closed: list[str]
) -> None:
    assert isinstance(service, SharesRedis)
    other = service.start_beside()
    assert other.spec == ClusterSpec(workers=0)
    service.start_beside("somebody's")
    service.close()
    assert closed == ["beside it: somebody's", "beside it: None", "the RayService"]


def test_what_is_beside_it_and_cannot_be_closed_keeps_nothing_else_from_its_end(
    service: KindRayService, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(self: Neighbour) -> None:
        raise CommandFailed("it did not go")

    monkeypatch.setattr(Neighbour, "close", close)
    service.start_beside()
    with pytest.raises(CommandFailed, match="did not go"):
        service.close()
    assert closed == ["the RayService"]


def test_without_redis_there_is_nothing_to_share(service: KindRayService) -> None:
    service._redis_selector = None
    with pytest.raises(Unsupported, match="no Redis"):
        service.start_beside()


def test_redis_is_held_by_its_deployment(service: KindRayService, api: Api) -> None:
    api.on_call = lambda: setattr(api, "redis", ())
    service.kill_redis(how="kill", hold=True)
    service.restore_redis()
    service.restore_redis()
    scales = [call[3] for call in api.calls if call[0] == "patch_namespaced_deployment_scale"]
    assert scales == [{"spec": {"replicas": 0}}, {"spec": {"replicas": 1}}]


def test_the_keys_of_redis_are_asked_in_its_own_pod(service: KindRayService, api: Api) -> None:
    api.result = ExecResult("RAYx@KV\nRAYx@NODE\n", "", 0)
    assert service.redis_keys() == ("RAYx@KV", "RAYx@NODE")
    api.result = ExecResult("NOAUTH Authentication required.\n", "", 0)
    with pytest.raises(ObservationError, match="NOAUTH"):
        service.redis_keys()
    api.redis = ()
    with pytest.raises(ObservationError, match="not running"):
        service.redis_keys()


def test_the_redis_of_a_users_own_is_held_by_what_runs_it_and_asked_as_the_rayservice_does(
    service: KindRayService, api: Api
) -> None:
    service.redis_store = RedisStore("StatefulSet", "store", 3, 6400, "ray", "open sesame")
    api.on_call = lambda: setattr(api, "redis", ())
    service.kill_redis(how="kill", hold=True)
    service.restore_redis()
    scales = [call for call in api.calls if call[0] == "patch_namespaced_stateful_set_scale"]
    assert [(call[1], call[3]) for call in scales] == [
        ("store", {"spec": {"replicas": 0}}),
        ("store", {"spec": {"replicas": 3}}),
    ]
    assert service.redis_store.list_keys[-8:] == ("redis-cli", "-p", "6400", "--user", "ray", "--raw", "KEYS", "*")


def test_keys_of_a_redis_whose_password_is_not_known_cannot_be_listed(service: KindRayService, api: Api) -> None:
    service.redis_store = RedisStore(untold="it comes from fieldRef")
    with pytest.raises(Unsupported, match="cannot be told: it comes from fieldRef"):
        service.redis_keys()
    assert api.ran == []


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (RedisStore(password="open sesame"), "open sesame|-p 6379 --raw KEYS *"),
        (RedisStore(password="", port=6400), "|-p 6400 --raw KEYS *"),
        (RedisStore(), "of the container|-p 6379 --raw KEYS *"),
    ],
)
def test_a_client_of_redis_gets_the_password_by_its_environment(store: RedisStore, said: str, tmp_path: Path) -> None:
    client = tmp_path / "redis-cli"
    client.write_text('#!/bin/sh\necho "$REDISCLI_AUTH|$*"\n')
    client.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "REDIS_PASSWORD": "of the container"}
    ran = subprocess.run(store.list_keys, env=env, check=True, capture_output=True, text=True)
    assert ran.stdout == f"{said}\n"
