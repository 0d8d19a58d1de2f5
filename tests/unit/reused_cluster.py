"""A kind cluster that was kept, of which there are only its machines, its API and its dashboard, as far as asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, cast

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import Container, Pod
from pytest_serve_chaos.cluster.kubernetes.install import render
from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
from pytest_serve_chaos.cluster.kubernetes.kind.record import Record, Wishes, fingerprint_of_spec, from_text, to_text
from pytest_serve_chaos.cluster.kubernetes.kind.reuse import Kept
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.cluster.rest import Dashboard, NodeRow, ReplicaRow, ServeStatus
from pytest_serve_chaos.errors import CommandFailed, ObservationError
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import Json
from tests.unit.kube_calls import KubeCalls

NAME = "serve-chaos"
CONTROL_PLANE = f"{NAME}-control-plane"
WORKER = f"{NAME}-worker"
RAY_SERVICE: Manifest = render.ray_service(
    render.RayServiceSettings(
        "ray:2.60.0", workers=1, gcs="redis", serve_config={"applications": [{"name": "app", "import_path": "m:app"}]}
    )
)
REDIS_TEMPLATE: Manifest = {"spec": {"containers": [{"image": "redis:7.0"}]}}
WANTED = Record(machines="of kindest/node:v1.34.2", base="b1", service="s1")
LEFT = replace(
    WANTED,
    spec=fingerprint_of_spec(RAY_SERVICE, REDIS_TEMPLATE),
    operator="kuberay",
    placement={"app#Pid": [2]},
    sound=True,
)
WISHES = Wishes(WANTED, RAY_SERVICE, redis=RedisStore(), number=2)


def pod(name: str, *, running: bool = True) -> Pod:
    """A pod on the worker's machine."""
    container = Container("ray", f"c-{name}", running, running, 0, "Running" if running else "Error")
    return Pod(name, name, WORKER, "10.0.0.1", "Running", name, False, {}, (container,))


@dataclass
class Machines:
    """The containers that are nodes.

    Attributes:
        done: What was done to them.
        states: Docker's word for each.
        ours: Whether the control plane publishes our node ports.
        forgot: Whether what was lost on the way to pods that are gone is forgotten.
    """

    done: list[str] = field(default_factory=list)
    states: dict[str, str] = field(
        default_factory=lambda: {CONTROL_PLANE: "running", WORKER: "running", f"{WORKER}2": "running"}
    )
    ours: bool = True
    name: str = NAME
    control_plane: str = CONTROL_PLANE
    kubeconfig: str = "kubeconfig"
    no_kubeconfig: bool = False
    forgot: bool = False

    @property
    def docker(self) -> Machines:
        return self

    @property
    def images(self) -> Machines:
        return self

    @property
    def taints(self) -> Machines:
        return self

    def machines(self) -> dict[str, str]:
        return dict(self.states)

    def publishes(self, *node_ports: int) -> bool:
        return self.ours

    def export_kubeconfig(self) -> None:
        if self.no_kubeconfig:
            raise CommandFailed("kind failed with exit status 1")

    def unpause_machine(self, node: str) -> None:
        self._now(node, "unpause")

    def start_machine(self, node: str) -> None:
        self._now(node, "start")

    def _now(self, node: str, what: str) -> None:
        self.done.append(f"{what} {node}")
        self.states[node] = "running"

    def restart_kubelet(self, node: str) -> None:
        self.done.append(f"kubelet {node}")

    def forget_connections(self) -> None:
        self.forgot = True

    def kubectl(self, *arguments: str, timeout: float = 60.0) -> str:
        self.done.append(" ".join(arguments))
        return ""

    def signal_container(self, node: str, container_id: str, signal: int) -> bool:
        self.done.append(f"signal {signal} to {container_id} on {node}")
        return False


def _holder(name: str, replicas: int, part: str) -> Json:
    """A Deployment or StatefulSet."""
    template: Json = {"metadata": {"labels": {names.PART: part}}}
    return {"metadata": {"name": name}, "spec": {"replicas": replicas, "template": template}}


@dataclass
class Api(KubeCalls):
    """What the API server has.

    Attributes:
        nodes_now: The name of each node and its spec.
        annotations: Those of our namespace; None: there is none.
        service: The RayService; None: there is none.
        redis: Whether all of Redis is there; None: there is no Redis.
        their_redis: How many pods the StatefulSet of a file's own Redis wants; None: there is none.
        scaled: What was given another number of pods.
        redis_template: What its pods are made from.
        ray_pods, redis_pods, operator_pods: The pods.
        tidied: What the program in a pod says that it mended.
        refuses: A method that is refused.
    """

    namespace: ClassVar[str] = names.NAMESPACE
    nodes_now: dict[str, dict[str, Json]] = field(
        default_factory=lambda: {CONTROL_PLANE: {}, WORKER: {}, f"{WORKER}2": {}}
    )
    annotations: dict[str, str] | None = field(default_factory=lambda: {names.KEPT: to_text(LEFT)})
    service: Manifest | None = field(default_factory=lambda: RAY_SERVICE)
    redis: bool | None = True
    their_redis: int | None = None
    scaled: dict[str, int] = field(default_factory=dict)
    redis_template: Manifest = field(default_factory=lambda: REDIS_TEMPLATE)
    ray_pods: tuple[Pod, ...] = (pod("head"), pod("worker"))
    redis_pods: tuple[Pod, ...] = (pod("redis"),)
    operator_pods: tuple[Pod, ...] = (pod("operator"),)
    tidied: dict[str, int] = field(default_factory=lambda: {"stopped": 0, "flags": 0})
    roles: bool = True
    refuses: str = ""
    closed: bool = False
    ran: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    @property
    def record(self) -> Record | None:
        """What stands on the namespace."""
        return from_text(str((self.annotations or {}).get(names.KEPT, "")))

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        self.calls.append(method)
        if method == self.refuses:
            raise CommandFailed(f"{what}: refused")
        if method == "list_node":
            return {"items": [self._node(name, spec) for name, spec in self.nodes_now.items()]}
        if method == "list_namespace":
            there = self.annotations is not None
            return {"items": [{"metadata": {"annotations": {**(self.annotations or {})}}}] if there else []}
        if method == "patch_namespace":
            patch = cast("dict[str, dict[str, dict[str, str]]]", arguments[1])
            self.annotations = (self.annotations or {}) | patch["metadata"]["annotations"]
        if method == "list_namespaced_deployment":
            redis = [] if self.redis is None else [_holder("redis", int(self.redis), "redis")]
            return {"items": [*redis, _holder("front", 0, "other")]}
        if method == "list_namespaced_stateful_set":
            return {"items": [] if self.their_redis is None else [_holder("theirs", self.their_redis, "redis")]}
        if method.endswith("_scale"):
            self._scale(str(arguments[0]), cast("dict[str, dict[str, int]]", arguments[2])["spec"]["replicas"])
        return {}

    def _scale(self, name: str, replicas: int) -> None:
        self.scaled[name] = replicas
        if name == "redis":
            self.redis = replicas > 0
        if name == "theirs":
            self.their_redis = replicas

    def _node(self, name: str, spec: dict[str, Json]) -> dict[str, Json]:
        role = "services" if name == CONTROL_PLANE else "ray"
        return {"metadata": {"name": name, "labels": {names.ROLE: role} if self.roles else {}}, "spec": spec}

    def ready_nodes(self) -> dict[str, bool]:
        return dict.fromkeys([CONTROL_PLANE, WORKER, f"{WORKER}2"], True)

    def ray_service(self, name: str) -> Manifest:
        if self.service is None:
            raise ObservationError(f"RayService {name}: not found")
        return self.service

    def patch_ray_service(self, name: str, patch: Manifest) -> None:
        self.service = merge(self.ray_service(name), patch)

    def deployment_available(self, name: str) -> bool:
        if self.redis is None:
            raise ObservationError(f"Deployment {name}: not found")
        return self.redis

    def pod_template(self, kind: str, name: str) -> Manifest:
        if self.redis is None:
            raise ObservationError(f"{kind} {name}: not found")
        return self.redis_template

    def pods(self, selector: str = "", *, namespace: str | None = None) -> tuple[Pod, ...]:
        if namespace is not None:
            return self.operator_pods if namespace == "kuberay" else ()
        return self.redis_pods if "part=redis" in selector else self.ray_pods

    def version(self) -> str:
        return "v1.34.2"

    def raw_pods(self, selector: str = "", *, namespace: str | None = None) -> tuple[Manifest, ...]:
        image = "redis:7.0" if "part=redis" in selector else f"operator-in-{namespace}:v1.6.2"
        return ({"spec": {"containers": [{"image": image}]}},)

    def run(self, name: str, container: str, command: Sequence[str], *, timeout: float = 30.0) -> ExecResult:
        self.ran.append(name)
        return ExecResult(json.dumps(self.tidied), "", 0)

    def warnings(self, *, namespace: str | None = None, limit: int = 6) -> tuple[str, ...]:
        return ()

    def close(self) -> None:
        self.closed = True


def status(*, states: Sequence[str] = ("RUNNING", "RUNNING"), nodes: Sequence[str] = ("w", "w")) -> ServeStatus:
    """What Serve says of an app with two replicas."""
    pairs = enumerate(zip(states, nodes, strict=True))
    return ServeStatus(
        apps={"app": "RUNNING"},
        targets={"app#Pid": 2},
        deployments={"app#Pid": "HEALTHY"},
        messages={},
        replicas=tuple(ReplicaRow(f"r{n}", "app", "Pid", state, None, node, 113) for n, (state, node) in pairs),
        proxies={"h": "HEALTHY", "w": "HEALTHY"},
        controller="c",
    )


class FakeDashboard:
    """A head that says what a test lets it say, one status after the other; the last one stays."""

    def __init__(self, *said: ServeStatus | ObservationError) -> None:
        self.said = list(said) or [status()]
        self.closed = False

    def serve(self) -> ServeStatus:
        found = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(found, ObservationError):
            raise found
        return found

    def nodes(self) -> tuple[NodeRow, ...]:
        return (NodeRow("h", "10.0.0.1", "ALIVE", True), NodeRow("w", "10.0.0.2", "ALIVE", False))

    def ray_version(self) -> str:
        return "2.60.0"

    def close(self) -> None:
        self.closed = True


def as_dashboard(fake: FakeDashboard) -> Dashboard:
    """The fake, for who wants a real one."""
    return cast("Dashboard", fake)


def kept(
    machines: Machines, api: Api, say: Callable[[str], None] = lambda _: None, *, lost: Sequence[str] = ()
) -> Kept:
    """It, opened."""
    return Kept(cast("KindNodes", machines), cast("KubeApi", api), WISHES, say, api.record, lost)
