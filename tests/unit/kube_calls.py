"""The parts of a `KubeApi` for a double that answers in one method, by the names that the Kubernetes client has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.cluster.kubernetes.client.objects import WorkloadKind
from pytest_serve_chaos.cluster.kubernetes.client.records import listed, mapped, name_of
from pytest_serve_chaos.model import Json


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

    # -- of the API itself --

    def evict_pod(self, name: str) -> None:
        body: Json = {"metadata": {"name": name, "namespace": self.namespace}}
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

    def scale(self, kind: WorkloadKind, name: str, replicas: int) -> None:
        workload = "deployment" if kind == "Deployment" else "stateful_set"
        scale: Json = {"spec": {"replicas": replicas}}
        method = f"patch_namespaced_{workload}_scale"
        self.calls.call(method, name, self.calls.namespace, scale, what=f"scaling of the {kind} {name}")


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
