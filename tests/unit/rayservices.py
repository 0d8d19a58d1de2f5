"""A RayService cluster with an API and a dashboard that a test gives, and what such an API is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.capabilities import Offer
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import ExecResult, KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.objects import WorkloadKind
from pytest_serve_chaos.cluster.kubernetes.client.records import Container, Pod, listed, mapped, name_of
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import Ends, RayServiceCluster, config_of_ray_service
from pytest_serve_chaos.cluster.kubernetes.rayservice.parts import pod_parts
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayServiceRef
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView, Sight
from pytest_serve_chaos.cluster.rest import ActorRow, Dashboard, NodeRow, ServeStatus
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import ClusterDescription, Json


class KubeCalls:
    """Hands what is asked of the parts to `call`, as the Kubernetes client would be asked for it.

    What the parts return otherwise, they take from methods of the double, where it has them.
    """

    namespace: ClassVar[str] = "serve-chaos"

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        raise NotImplementedError(method)

    @property
    def nodes(self) -> _Nodes:
        return _Nodes(self)

    @property
    def workloads(self) -> _Workloads:
        return _Workloads(self)

    @property
    def objects(self) -> _Objects:
        return _Objects(self)

    def ready_nodes(self) -> dict[str, bool]:
        raise NotImplementedError

    def deployment_available(self, name: str) -> bool:
        raise NotImplementedError

    def pod_template(self, kind: str, name: str) -> dict[str, Json]:
        raise NotImplementedError

    def version(self) -> str:
        raise NotImplementedError

    def warnings(self, *, namespace: str | None = None, limit: int = 6) -> tuple[str, ...]:
        raise NotImplementedError

    def limits(self, kind: str) -> list[dict[str, Json]]:
        return []

    # -- of the API itself --

    def evict_pod(self, name: str, uid: str) -> None:
        only_this: Json = {"preconditions": {"uid": uid}}
        body: Json = {"metadata": {"name": name, "namespace": self.namespace}, "deleteOptions": only_this}
        self.call("create_namespaced_pod_eviction", name, self.namespace, body, what=f"eviction of pod {name}")


@dataclass(frozen=True)
class _Nodes:
    calls: KubeCalls

    def ready(self) -> dict[str, bool]:
        return self.calls.ready_nodes()

    def items(self) -> list[dict[str, Json]]:
        return listed(self.calls.call("list_node", what="nodes").get("items"))

    def read(self, name: str) -> dict[str, Json]:
        return self.calls.call("read_node", name, what=f"node {name}")

    def patch(self, name: str, patch: Mapping[str, Json], *, what: str) -> None:
        self.calls.call("patch_node", name, dict(patch), what=what)

    def delete(self, name: str) -> None:
        self.calls.call("delete_node", name, what=f"deletion of node {name}")

    def create(self, node: Mapping[str, Json]) -> None:
        self.calls.call("create_node", node, what=f"registration of node {name_of(node)}")


@dataclass(frozen=True)
class _Workloads:
    calls: KubeCalls

    def is_available(self, deployment: str) -> bool:
        return self.calls.deployment_available(deployment)

    def pod_template(self, kind: WorkloadKind, name: str) -> dict[str, Json]:
        return self.calls.pod_template(kind, name)

    def items(self, kind: WorkloadKind) -> list[dict[str, Json]]:
        method = "list_namespaced_deployment" if kind == "Deployment" else "list_namespaced_stateful_set"
        return listed(self.calls.call(method, self.calls.namespace, what=f"each {kind}").get("items"))

    def patch(self, kind: WorkloadKind, name: str, patch: Mapping[str, Json], *, what: str) -> None:
        workload = "deployment" if kind == "Deployment" else "stateful_set"
        self.calls.call(f"patch_namespaced_{workload}", name, self.calls.namespace, dict(patch), what=what)


@dataclass(frozen=True)
class _Objects:
    calls: KubeCalls

    def version(self) -> str:
        return self.calls.version()

    def warnings(self, *, namespace: str | None = None, limit: int = 6) -> tuple[str, ...]:
        return self.calls.warnings(namespace=namespace, limit=limit)

    def pod(self, name: str) -> dict[str, Json]:
        return self.calls.call("read_namespaced_pod", name, self.calls.namespace, what=f"pod {name}")

    def service(self, name: str, namespace: str) -> dict[str, Json]:
        return self.calls.call("read_namespaced_service", name, namespace, what=f"Service {name}")

    def limits(self, kind: str) -> list[dict[str, Json]]:
        return self.calls.limits(kind)

    def patch_service(self, name: str, patch: Mapping[str, Json]) -> None:
        what = f"a change of Service {name}"
        self.calls.call("patch_namespaced_service", name, self.calls.namespace, dict(patch), what=what)

    def namespaces(self, name: str) -> list[dict[str, Json]]:
        field = f"metadata.name={name}"
        return listed(self.calls.call("list_namespace", what="the namespace", field_selector=field).get("items"))

    def patch_namespace(self, name: str, patch: Mapping[str, Json], *, what: str) -> None:
        self.calls.call("patch_namespace", name, dict(patch), what=what)

    def review_access(self, attributes: Mapping[str, Json], *, what: str) -> bool:
        body: Json = {"spec": {"resourceAttributes": dict(attributes)}}
        answer = self.calls.call("create_self_subject_access_review", body, what=what)
        return mapped(answer.get("status")).get("allowed") is True


DESCRIPTION = ClusterDescription("kind", "2.60.0", 2, "redis", "app", "fast", 1, "http://127.0.0.1:1/")


def view_of(
    api: object,
    dashboard: object,
    *,
    spec: ClusterSpec | None = None,
    ray_cluster: str = "serve-chaos-abcde",
    redis_selector: str | None = "redis",
    sight: Sight | None = None,
    worker_range: tuple[int, int] | None = None,
) -> RayServiceView:
    ref = RayServiceRef(spec or ClusterSpec(), "serve-chaos", ray_cluster, redis_selector, worker_range)
    return RayServiceView(cast("KubeApi", api), cast("Dashboard", dashboard), ref, sight or Sight())


def cluster_on(
    view: RayServiceView,
    *offers: Offer,
    description: ClusterDescription = DESCRIPTION,
    on_close: Callable[[], None] | None = None,
) -> RayServiceCluster:
    config = config_of_ray_service(view.api, view.ref.ray_service, {})
    parts = pod_parts(view, config, description.ray_version)
    return RayServiceCluster(view, config, description, (*parts, *offers), Ends(last=on_close))


def pod(uid: str, role: str, ip: str, *, running: bool = True, restarts: int = 0, deleting: bool = False) -> Pod:
    container = Container(
        f"ray-{role}", f"container-{uid}", running, running, restarts, "Running" if running else "Error"
    )
    labels = {names.RAY_NODE_TYPE: role}
    return Pod(f"pod-{uid}", uid, "kind-worker", ip, "Running", uid, deleting, labels, (container,))


class FakeApi(KubeCalls):
    """Pods that are there, and a log of what was asked of them."""

    def __init__(self, *pods: Pod, redis: Sequence[Pod] = ()) -> None:
        self.ray_pods = list(pods)
        self.redis = tuple(redis)
        self.deleted: list[tuple[str, int | None]] = []
        self.asked: list[tuple[str, str]] = []
        self.logs: tuple[str, ...] = ()

    def pods(self, selector: str = "", *, namespace: str | None = None) -> tuple[Pod, ...]:
        return self.redis if selector == "redis" else tuple(self.ray_pods)

    def delete_pod(self, name: str, uid: str, *, grace: int | None) -> None:
        self.deleted.append((name, grace))
        self.ray_pods = [p for p in self.ray_pods if p.uid != uid]

    def proxy_get(self, name: str, port: int, path: str, *, timeout: float) -> tuple[int, str]:
        self.asked.append((name, path))
        return 200, "{}"

    def run(
        self, name: str, container: str, command: Sequence[str], *, timeout: float = 30.0, stdin: str | None = None
    ) -> ExecResult:
        return ExecResult(json.dumps({"began": 2.0, "asked": 5.0, "boot": "of another machine"}), "", 0)

    @property
    def pod_logs(self) -> FakeApi:
        return self

    def tail(self, name: str, **options: object) -> tuple[str, ...]:
        return self.logs


class FakeDashboard:
    """What Ray and Serve say; None stands for a head that is away."""

    url = "http://dashboard"

    def __init__(self, actors: Sequence[ActorRow] | None, nodes: Mapping[str, str], targets: Mapping[str, int]) -> None:
        self._actors = actors
        self._nodes = nodes
        self._targets = targets

    def actors(self) -> tuple[ActorRow, ...]:
        if self._actors is None:
            raise ObservationError("no head")
        return tuple(self._actors)

    def nodes(self) -> tuple[NodeRow, ...]:
        if self._actors is None:
            raise ObservationError("no head")
        return tuple(NodeRow(node_id, address, "ALIVE", False) for node_id, address in self._nodes.items())

    def serve(self) -> ServeStatus:
        return ServeStatus({}, self._targets, {}, {}, (), {}, None)

    def close(self) -> None:
        pass


def actor(actor_id: str, class_name: str, name: str, node_id: str, state: str = "ALIVE") -> ActorRow:
    return ActorRow(actor_id, class_name, name, state, node_id, 113)


def cluster(api: FakeApi, dashboard: FakeDashboard | None = None) -> RayServiceCluster:
    sight = Sight(container_probe=lambda node, container: "stopped")
    return cluster_on(view_of(api, dashboard or FakeDashboard(None, {}, {}), sight=sight))
