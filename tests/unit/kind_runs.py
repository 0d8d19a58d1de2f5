"""Runs of pytest on a kind cluster, new or kept, of which there are only its machines, its API and its dashboard."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, cast

import pytest

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import Container, Pod
from pytest_serve_chaos.cluster.kubernetes.install import render
from pytest_serve_chaos.cluster.kubernetes.install.file_workload import OwnRayService
from pytest_serve_chaos.cluster.kubernetes.kind import reuse as kind_reuse
from pytest_serve_chaos.cluster.kubernetes.kind import start as kind_cluster
from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
from pytest_serve_chaos.cluster.kubernetes.kind.record import Record, Wishes, fingerprint_of_spec, from_text, to_text
from pytest_serve_chaos.cluster.kubernetes.kind.reuse import Kept
from pytest_serve_chaos.cluster.kubernetes.kind.settings import KindSettings
from pytest_serve_chaos.cluster.kubernetes.kind.start import start_kind_cluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.owned import BroughtUp
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import RedisStore
from pytest_serve_chaos.cluster.rest import Dashboard, NodeRow, ReplicaRow, ServeStatus
from pytest_serve_chaos.errors import CommandFailed, ObservationError
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import Json
from tests.unit.rayservices import KubeCalls

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
        unwatched: Whether nothing will repair them later.
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
    unwatched: bool = False

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

    def end_watchdogs(self) -> None:
        self.unwatched = True

    def kubectl(self, *arguments: str, timeout: float = 60.0) -> str:
        self.done.append(" ".join(arguments))
        return ""

    def signal_container(self, node: str, container_id: str, signal: int) -> bool:
        self.done.append(f"signal {signal} to {container_id} on {node}")
        return False


def _holder(name: str, replicas: int, part: str, annotations: Mapping[str, Json] | None = None) -> Json:
    """A Deployment or StatefulSet."""
    template: Json = {"metadata": {"labels": {names.PART: part}}}
    metadata: Json = {"name": name, "annotations": dict(annotations or {})}
    return {"metadata": metadata, "spec": {"replicas": replicas, "template": template}}


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
        patched: The changes of nodes.
        noted: The annotations of the Redis of a file's own.
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
    patched: list[tuple[str, Manifest]] = field(default_factory=list)
    noted: Mapping[str, Json] = field(default_factory=dict)

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
        if method == "patch_node":
            self.patched.append((str(arguments[0]), cast("Manifest", arguments[1])))
        if method == "patch_namespace":
            patch = cast("dict[str, dict[str, dict[str, str]]]", arguments[1])
            self.annotations = (self.annotations or {}) | patch["metadata"]["annotations"]
        if method == "list_namespaced_deployment":
            redis = [] if self.redis is None else [_holder("redis", int(self.redis), "redis")]
            return {"items": [*redis, _holder("front", 0, "other")]}
        if method == "list_namespaced_stateful_set":
            return {
                "items": [] if self.their_redis is None else [_holder("theirs", self.their_redis, "redis", self.noted)]
            }
        if method in ("patch_namespaced_deployment", "patch_namespaced_stateful_set"):
            patch = cast("dict[str, dict[str, dict[str, str]]]", arguments[2])
            self.noted = patch["metadata"]["annotations"]
            self._scale(str(arguments[0]), cast("dict[str, dict[str, int]]", patch)["spec"]["replicas"])
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

    def run(
        self, name: str, container: str, command: Sequence[str], *, timeout: float = 30.0, stdin: str | None = None
    ) -> ExecResult:
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


SPEC = ClusterSpec(workers=1)
ABOVE = ["check", "install redis", "install services", "install rayservice"]
ALL = ["install namespace", "load", "install operator", *ABOVE[:2], "load", *ABOVE[2:]]

OVER = ["remove", ALL[0], "remove operator", *ALL[1:]]

OPERATOR = """
kind: CustomResourceDefinition
metadata:
  name: rayservices.ray.io
---
kind: Deployment
spec: {template: {spec: {containers: [{name: manager, image: "registry.example/operator:v1.7.0"}]}}}
"""


@dataclass
class KindMachines(Machines):
    """Machines that kind makes and deletes, and what is installed on them.

    Attributes:
        api: What runs on them.
        fails: What does not work the next time: ``create``, ``load``, ``remove``, ``serve``, ``describe`` or ``close``.
        ids: Docker's ids of images; the others have one, too.
        loaded: The images that were loaded, each with the first of its nodes.
        documents: What was installed, by the name of its file.
        followed: The RayServices that were waited for.
    """

    states: dict[str, str] = field(default_factory=dict)
    api: Api = field(default_factory=Api)
    fails: dict[str, BaseException] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    loaded: list[tuple[str, str]] = field(default_factory=list)
    documents: dict[str, Sequence[Manifest]] = field(default_factory=dict)
    followed: list[str] = field(default_factory=list)

    def do(self, what: str) -> None:
        self.done.append(what)
        self.may_fail(what)

    def may_fail(self, what: str) -> None:
        if what in self.fails:
            raise self.fails.pop(what)

    def taken(self) -> list[str]:
        """What was done since the last time, but for the DNS, which is told where to be."""
        done, self.done = self.done, []
        return [what for what in done if "coredns" not in what and not what.startswith("signal")]

    def exists(self) -> bool:
        return bool(self.states)

    def last_said(self) -> str:
        return "Preparing nodes"

    def create(self, config: Mapping[str, Json]) -> None:
        workers = [WORKER, *(f"{WORKER}{number}" for number in range(2, 9))]
        number = len(cast("list[Json]", config["nodes"])) - 1
        self.states = dict.fromkeys([CONTROL_PLANE, *workers[:number]], "running")
        self.api.nodes_now = {name: {} for name in self.states}
        self.api.annotations = None
        self.do("create")

    def delete(self) -> None:
        self.states = {}
        self.do("delete")

    def kind_version(self) -> str:
        return "kind v0.30.0"

    def id_of(self, image: str) -> str:
        return self.ids.get(image, "1f")

    def environment_of(self, image: str) -> dict[str, str] | None:
        return {}

    def load(self, images: Sequence[str], nodes: Sequence[str]) -> tuple[str, ...]:
        self.loaded += [(image, nodes[0]) for image in images]
        self.do("load")
        return ()

    def ray_nodes(self) -> tuple[str, ...]:
        return tuple(name for name in self.states if name != CONTROL_PLANE)

    def host_port(self, node_port: int) -> int:
        return node_port

    def limit_processors(self) -> None:
        pass


class FakeStack:
    """Installs and removes, so that the fake API has it."""

    def __init__(self, machines: KindMachines, operator_namespace: str) -> None:
        self._machines = machines
        self.operator_namespace = operator_namespace

    def check(self, documents: Sequence[Manifest]) -> None:
        self._machines.do("check")

    def install(self, name: str, documents: Sequence[Manifest]) -> None:
        self._machines.documents[name] = documents
        self._machines.do(f"install {name}")
        if name == "namespace":
            self._machines.api.annotations = self._machines.api.annotations or {}
        if name == "rayservice":
            self._machines.api.service = documents[0]

    def install_operator(self, text: str) -> None:
        self._machines.do("install operator")
        self.operator_namespace = "kuberay"

    def install_redis(self, documents: Sequence[Manifest]) -> None:
        self._machines.documents["redis"] = documents
        self._machines.do("install redis")

    def wait_for_operator(self) -> None:
        pass

    def wait_for_redis(self) -> None:
        pass

    def complaints(self) -> Sequence[str]:
        return ()

    def remove_left_overs(self) -> None:
        self._machines.do("remove")

    def remove_operator(self) -> None:
        self._machines.do("remove operator")

    def remove(self) -> None:
        self._machines.may_fail("close")

    def describe(self) -> None:
        self._machines.may_fail("describe")


class FakeBringUp:
    """A RayService that serves at once, unless it is said to fail."""

    def __init__(self, machines: KindMachines) -> None:
        self._machines = machines

    def ray_cluster(self) -> str:
        return "serve-chaos-abcde"

    def pods(self, ray_cluster: str, number: int) -> None:
        self._machines.api.ray_pods = tuple(pod(f"pod-{n}") for n in range(number))

    def serve(self, dashboard: object) -> None:
        self._machines.may_fail("serve")

    def ready(self) -> None:
        pass

    def traffic(self, url: str, config: Mapping[str, Json] | None = None) -> None:
        del config


class FakeService:
    """The cluster that a start gives."""

    def __init__(
        self,
        of: BroughtUp,
        *_: object,
        on_close: Callable[[], None],
        on_vouch: Callable[[], None] | None = None,
        **__: object,
    ) -> None:
        self.vouch = on_vouch
        self.close = on_close
        self.of = of


@dataclass
class Runs:
    """Runs that use the same cluster, one after the other.

    Attributes:
        machines: The cluster.
        said: All progress.
        settings: What the next run is made of.
        journal: The names of the clusters that would be deleted if the run ended by force now.
        operator: The manifests of KubeRay's operator.
    """

    machines: KindMachines
    directory: Path
    said: list[str] = field(default_factory=list)
    settings: KindSettings = field(default_factory=lambda: KindSettings(keep=True, node_image="kindest/node:v1.34.2"))
    journal: list[str] = field(default_factory=list)
    operator: str = OPERATOR

    def start(self, spec: ClusterSpec = SPEC, own: OwnRayService | None = None) -> FakeService:
        """Starts one."""
        (self.directory / "operator.yaml").write_text(self.operator)
        settings = replace(self.settings, kuberay_manifests=str(self.directory / "operator.yaml"))
        cluster = start_kind_cluster(
            spec, settings, self.directory, self.said.append, own=own, on_create=self.journal.append, on_done=self.done
        )
        return cast("FakeService", cluster)

    def done(self, name: str) -> None:
        """Nothing more is to be undone of that cluster."""
        self.journal = [other for other in self.journal if other != name]

    def run(self, spec: ClusterSpec = SPEC, own: OwnRayService | None = None) -> list[str]:
        """A whole run that ends well; returns what was done to the machines."""
        cluster = self.start(spec, own)
        if cluster.vouch is not None:
            cluster.vouch()
        cluster.close()
        return self.machines.taken()


def fake_runs(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs whose machines, API and RayService are fakes."""
    machines = KindMachines()
    for module in (kind_cluster, kind_reuse):
        monkeypatch.setattr(module, "KubeApi", lambda *_, **__: machines.api)
    monkeypatch.setattr(kind_cluster, "find_programs", lambda: None)
    monkeypatch.setattr(kind_cluster, "KindNodes", lambda *_: machines)
    monkeypatch.setattr(kind_cluster, "Stack", lambda *arguments: FakeStack(machines, arguments[-1]))

    def bring_up(_: object, ray_service: str, **__: object) -> FakeBringUp:
        machines.followed.append(ray_service)
        return FakeBringUp(machines)

    monkeypatch.setattr(kind_cluster, "BringUp", bring_up)
    said = replace(status(), apps={"sleepy_pid": "RUNNING"})
    monkeypatch.setattr(kind_cluster, "Dashboard", lambda *_: FakeDashboard(said))
    monkeypatch.setattr(kind_cluster, "sight_from_machines", lambda *_: None)
    monkeypatch.setattr(kind_cluster, "owned_rayservice", FakeService)
    return Runs(machines, directory)
