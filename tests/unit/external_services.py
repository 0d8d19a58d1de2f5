"""A RayService as somebody else has it, with an API and a dashboard that say what a test wants."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import cast

from pytest_serve_chaos.cluster.base import Cluster
from pytest_serve_chaos.cluster.capabilities import IS_EXTERNAL
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped
from pytest_serve_chaos.cluster.kubernetes.external import rights
from pytest_serve_chaos.cluster.kubernetes.external.owner import Pinned
from pytest_serve_chaos.cluster.kubernetes.external.policy import Grants
from pytest_serve_chaos.cluster.kubernetes.external.rayservice import Connected, external_rayservice
from pytest_serve_chaos.cluster.kubernetes.external.recorded_faults import Record, UndoRecords
from pytest_serve_chaos.cluster.kubernetes.rayservice.cluster import RayServiceCluster
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import FoundRayService
from pytest_serve_chaos.cluster.kubernetes.rayservice.probe import Probe
from pytest_serve_chaos.cluster.policy import Touch
from pytest_serve_chaos.cluster.rest import Dashboard, NodeRow, ServeStatus
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.faults.catalogue import BUILT_IN
from pytest_serve_chaos.model import HEAD, ClusterDescription, Component, Identity, Json, Loss, Role
from tests.capabilities import part
from tests.unit.rayservices import FakeApi

CONFIG: dict[str, Json] = {"applications": [{"name": "ranker", "route_prefix": "/rank", "import_path": "ranker:app"}]}
SERVE_CONFIG = "applications: [{name: ranker, route_prefix: /rank, import_path: 'ranker:app'}]"


def ray_service(**changes: Json) -> dict[str, Json]:
    """A RayService as the API server gives it, with a Redis."""
    head: dict[str, Json] = {"template": {"spec": {"containers": [{"name": "ray-head", "env": []}]}}}
    cluster: dict[str, Json] = {
        "headGroupSpec": head,
        "workerGroupSpecs": [{"replicas": 2}, {"minReplicas": 1, "numOfHosts": 2}],
        "gcsFaultToleranceOptions": {"redisAddress": "redis:6379"},
        **changes,
    }
    return {
        "metadata": {"name": "ranker", "uid": "uid-of-ranker", "generation": 1},
        "spec": {"serveConfigV2": SERVE_CONFIG, "rayClusterConfig": cluster},
        "status": {"activeServiceStatus": {"rayClusterName": "ranker-abcde"}},
    }


def owned_by(ray_cluster: str, **changes: Json) -> dict[str, Json]:
    """What KubeRay writes into a pod: which RayCluster it belongs to."""
    owner: dict[str, Json] = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": ray_cluster}
    return {**owner, "uid": f"uid-of-{ray_cluster}", "controller": True, **changes}


def owned_pod(name: str, owner: str = "ranker-abcde", node: str = "node-1") -> dict[str, Json]:
    return {
        "metadata": {"name": name, "ownerReferences": [owned_by(owner)]},
        "spec": {"nodeName": node},
    }


def cordoned_by(*managers: str) -> dict[str, Json]:
    """A node that takes no pods, as the API server gives it: each manager has set that."""
    kubelet: dict[str, Json] = {"f:status": {"f:conditions": {}}}
    cordon: dict[str, Json] = {"f:spec": {"f:unschedulable": {}}}
    taint: dict[str, Json] = {"f:spec": {"f:taints": {}}}
    owned = [(manager, cordon) for manager in managers]
    entries: list[Json] = [
        {"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields}
        for manager, fields in (("kube-controller-manager", taint), *owned, ("kubelet", kubelet))
    ]
    return {"metadata": {"name": "node-1", "uid": "n", "managedFields": entries}, "spec": {"unschedulable": True}}


class Status:
    """A dashboard that knows how many replicas there are, and no nodes; None: it does not answer."""

    url = "http://dashboard"

    def __init__(self, targets: Mapping[str, int] | None) -> None:
        self.targets = targets

    def serve(self) -> ServeStatus:
        if self.targets is None:
            raise ObservationError("no answer")
        return ServeStatus({}, self.targets, {}, {}, (), {}, None)

    def nodes(self) -> tuple[NodeRow, ...]:
        return ()

    def close(self) -> None:
        pass


class WithFlags(FakeApi):
    """Pods that have the directory for health flags."""

    def raw_pods(self, selector: str) -> tuple[dict[str, Json], ...]:
        return ({"spec": {"containers": [{"env": [{"name": "SERVE_CHAOS_FLAGS", "value": "/tmp/f"}]}]}},)


def external(
    *,
    gcs: str = "redis",
    workers: int = 2,
    lacking: Sequence[rights.Right] = (),
    allow: Sequence[str] = (),
    targets: Mapping[str, int] | None = None,
    api: FakeApi | None = None,
    on_break: Record = lambda _: lambda: None,
    shared_processes: str = "",
    on_stale: Callable[[], Callable[[], None]] = lambda: lambda: None,
    proxy_location: str = "EveryNode",
) -> RayServiceCluster:
    config = {**CONFIG, "proxy_location": proxy_location}
    found = FoundRayService("ranker", gcs, workers, config)  # type: ignore[arg-type]
    targets = {"ranker#Ranker": 4} if targets is None else targets
    to = Connected(
        found,
        cast("KubeApi", api or WithFlags()),
        cast("Dashboard", Status(targets)),
        ClusterDescription("kubernetes", "2.60.0", workers, gcs, "ranker:app", "guide", 4, "http://x/rank"),
        Probe(),
        targets,
        Pinned.of(ray_service()),
    )
    grants = Grants([*lacking, rights.WATCH], allow, shared_processes)
    return external_rayservice(to, grants, UndoRecords(on_break, stale=on_stale))


def why_not(cluster: Cluster, kind: str, options: Mapping[str, object], asked_for: Collection[str] = ()) -> str:
    """Why a fault of this package cannot be injected into somebody else's cluster."""
    return part(cluster, IS_EXTERNAL).why_not(BUILT_IN.choose(kind, options).touch(), asked_for)


def running(name: str, owner: str = "ranker-abcde") -> dict[str, Json]:
    """A pod of a RayCluster, as the API server gives it."""
    item = owned_pod(name, owner)
    status: Json = {"name": "ray-head", "ready": True, "state": {"running": {}}, "containerID": "containerd://abc"}
    metadata: Json = {**mapped(item["metadata"]), "uid": "u", "labels": {"ray.io/node-type": "head"}}
    spec: Json = {"nodeName": "node-1", "containers": [{"name": "ray-head"}]}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Running", "containerStatuses": [status]}}


def losing(cluster: RayServiceCluster, node: str) -> RayServiceCluster:
    """The cluster, whose policy has let a fault pass that takes that Ray node away."""
    role: Role = "head" if node == HEAD else "worker"
    victim = Component(role, node, Identity("container", (node, "ray", "1")))
    loses: tuple[Loss, ...] = ("head" if node == HEAD else "worker", "Ray node")
    part(cluster, IS_EXTERNAL).admit(Touch(actions=("delete pods",), loses=loses, victims=(victim,)), ())
    return cluster
