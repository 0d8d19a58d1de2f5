"""A RayService on kind nodes, with an API and nodes that only remember what was asked of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from signal import SIGSTOP
from typing import Literal, cast

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.pod_watch import PodWatch
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, name_of
from pytest_serve_chaos.cluster.kubernetes.logs.stream import LogAccess
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.owned import BroughtUp, owned_rayservice
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayServiceRef
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_watch import Place, ProcessWatch, Row
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import Sight
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.model import ClusterDescription, Json
from tests.unit.rayservices import FakeApi, FakeDashboard, pod

DESCRIPTION = ClusterDescription("kind", "2.60.0", 2, "redis", "app", "fast", 1, "http://127.0.0.1:1/")


class Api(FakeApi):
    """Programs in pods end with a status that a test chooses."""

    namespace = "serve-chaos"

    def __init__(self, *pods: Pod, redis: Sequence[Pod] = ()) -> None:
        super().__init__(*pods, redis=redis)
        self.calls: list[tuple[object, ...]] = []
        self.ran: list[tuple[str, tuple[str, ...]]] = []
        self.read: list[str | None] = []
        self.result = ExecResult("", "", 0)
        self.on_call: Callable[[], object] = lambda: None

    def pods(self, selector: str = "", *, namespace: str | None = None) -> tuple[Pod, ...]:
        if "redis" in selector:
            return self.redis
        return tuple(self.ray_pods) if selector else (*self.ray_pods, *self.redis)

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        self.calls.append((method, *arguments))
        self.on_call()
        return {}

    def run(
        self, name: str, container: str, command: Sequence[str], *, timeout: float = 30.0, stdin: str | None = None
    ) -> ExecResult:
        self.ran.append((name, tuple(command[3:])))
        self.read.append(stdin)
        return self.result

    def close(self) -> None:
        pass


class Nodes:
    """The machines of a kind cluster."""

    witness = "Docker"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.late: list[str] = []

    @property
    def late_undo(self) -> Nodes:
        return self

    def of_taint(self, taint: str) -> None:
        self.late.append(taint)

    def of_cordon(self, node: str) -> None:
        self.late.append(f"cordon {node}")

    def of_deletion(self, registration: Mapping[str, Json]) -> None:
        self.late.append(f"deletion {name_of(registration)}")

    def of_scaling(self, workload: str, namespace: str, replicas: int) -> None:
        self.late.append(f"{workload} in {namespace} to {replicas}")

    def not_needed(self, what: str) -> None:
        self.late.append(f"not {what}")

    def ray_nodes(self) -> tuple[str, ...]:
        return ("kind-worker", "kind-worker2")

    def first_processes(self) -> tuple[int, ...]:
        return ()

    def container_end(self, node: str, container_id: str) -> str | None:
        return "stopped"

    def keep_away(self, taint: str) -> None:
        self.asked.append(f"+{taint}")

    def let_back(self, taint: str) -> None:
        self.asked.append(f"-{taint}")

    def end_machine(self, node: str, how: Literal["kill", "stop"], *, lasts: float | None = None) -> str:
        self.asked.append(f"{how} {node}")
        return "exited (137)"

    def start_machine(self, node: str) -> None:
        self.asked.append(f"start {node}")

    def pause_machine(self, node: str, *, lasts: float | None = None) -> str:
        self.asked.append(f"pause {node}")
        return "paused (0)"

    def unpause_machine(self, node: str) -> None:
        self.asked.append(f"unpause {node}")

    def restart_kubelet(self, node: str) -> None:
        self.asked.append(f"kubelet {node}")

    def forget_connections(self) -> None:
        self.asked.append("forget")

    def signal_container(self, node: str, container_id: str, signal: int, *, lasts: float | None = None) -> bool:
        self.asked.append(f"{int(signal)} {container_id} {node}")
        return signal == SIGSTOP


class Pods:
    """Pods as the API has them at this moment, instead of a watch."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    def pods(self, labels: Mapping[str, str]) -> tuple[Pod, ...]:
        return self._api.pods("" if not labels else "redis" if names.PART in labels else "ray")

    def gone(self, uid: str) -> float | None:
        return None if any(pod.uid == uid for pod in self._api.pods()) else clock.now()

    def close(self) -> None:
        pass


class Watch:
    """Processes in containers, as a test has them."""

    def __init__(self) -> None:
        self.told: dict[str, tuple[Row, ...]] = {}

    def rows(self, containers: Mapping[str, Place]) -> dict[str, tuple[Row, ...]]:
        return {key: rows for key, rows in self.told.items() if key in containers}

    def close(self) -> None:
        pass


def fake_api() -> Api:
    """Three pods of Ray and one of Redis."""
    return Api(
        pod("h", "head", "10.0.0.1"),
        pod("a", "worker", "10.0.0.2"),
        pod("b", "worker", "10.0.0.3"),
        redis=[pod("r", "redis", "10.0.0.9")],
    )


def fake_service(
    api: Api,
    nodes: Nodes,
    dashboard: FakeDashboard,
    closed: list[str],
    *,
    watch: Watch | None = None,
    redis: RedisStore | None = None,
    has_redis: bool = True,
) -> RayServiceCluster:
    """A RayService on them; `closed` gets what was closed, in order."""
    kube_api = cast("KubeApi", api)
    selector = f"{names.PART}=redis" if has_redis else None
    of = BroughtUp(
        RayServiceRef(ClusterSpec(), names.RAY_SERVICE, "serve-chaos-abcde", selector),
        kube_api,
        cast("Dashboard", dashboard),
        {},
        DESCRIPTION,
        redis,
        "operator",
    )
    pods, processes = cast("PodWatch", Pods(kube_api)), cast("ProcessWatch", watch or Watch())
    service = owned_rayservice(
        of,
        Sight(pods, processes, LogAccess(operator_namespace="operator"), nodes.container_end),
        nodes,
        nodes,
        start_second=lambda spec, namespace: cast("Cluster", Neighbour(spec, namespace, closed)),
        on_close=lambda: closed.append("the RayService"),
    )
    api.calls.clear()
    return service


class Neighbour:
    """A head alone on the same Redis."""

    def __init__(self, spec: ClusterSpec, namespace: str | None, closed: list[str]) -> None:
        self.spec = spec
        self.namespace = namespace
        self._closed = closed

    def close(self) -> None:
        self._closed.append(f"alongside it: {self.namespace}")


def tell(watch: Watch, **told: tuple[Row, ...]) -> None:
    watch.told = {f"container-{uid}": rows for uid, rows in told.items()}


REPLICA = Row(113, 7000, "replica", "app#Pid", frozen=False)
