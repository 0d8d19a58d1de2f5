"""What a RayService that exists is: read from its object, so that tests can be held against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import yaml

from pytest_serve_chaos import safe_yaml
from pytest_serve_chaos.cluster import yaml_text
from pytest_serve_chaos.cluster.base import ClusterSpec, Gcs, Ingress
from pytest_serve_chaos.cluster.kubernetes.client.records import listed, mapped, name_of, text
from pytest_serve_chaos.cluster.kubernetes.rayservice.gcs_storage import storage_of
from pytest_serve_chaos.cluster.kubernetes.rayservice.ray_token import wants_token
from pytest_serve_chaos.cluster.profiles import HAPROXY
from pytest_serve_chaos.cluster.serve_config import applications
from pytest_serve_chaos.errors import ClusterStartError
from pytest_serve_chaos.model import Json

_NO_LIMIT = 2**31 - 1
"""What `maxReplicas` is by default (KubeRay's resource definition)."""


@dataclass(frozen=True, slots=True)
class FoundRayService:
    """A RayService.

    Attributes:
        name: Its name.
        gcs: Where its GCS keeps its state, so that it has it again after the loss of the head's pod.
        lost: What of that goes with the head's pod; "" where nothing does.
        workers: Number of its Ray workers now.
        worker_range: The least and the most workers where Ray's autoscaler scales them; None where nothing does.
        serve_config: What is in its `serveConfigV2`.
        redis: Where its Redis is, ``host:port``; "" where it has none.
        ray_cluster: The RayCluster that serves; "" where none does yet.
        pending: The RayCluster that is to take over; "" where there is none.
        head_service: The Service of the head of the one that serves.
        wants_token: Whether Ray answers only those who have its token.
        redis_tls: Whether Ray speaks TLS with its Redis.
        ingress: What takes the requests on each node, as the environment of the head says.
    """

    name: str
    gcs: Gcs
    workers: int
    serve_config: dict[str, Json] = field(repr=False)
    redis: str = field(default="", repr=False)
    ray_cluster: str = ""
    pending: str = ""
    head_service: str = ""
    wants_token: bool = False
    ingress: Ingress = "python"
    lost: str = ""
    redis_tls: bool = False
    worker_range: tuple[int, int] | None = None

    def as_wanted(self, wanted: ClusterSpec) -> FoundRayService:
        """The same with the number of workers that a test wants, if an autoscaler may give it that number."""
        least, most = (self.workers, self.workers) if self.worker_range is None else self.worker_range
        return replace(self, workers=wanted.workers) if least <= wanted.workers <= most else self

    @property
    def app(self) -> str:
        """Its first app, as it is imported."""
        return text(applications(self.serve_config)[0], "import_path")

    @property
    def spec(self) -> ClusterSpec:
        """The cluster that a test would have to want. Its periods are not ours, so Ray's own are expected."""
        return ClusterSpec(gcs=self.gcs, workers=self.workers, profile="guide", app=self.app, ingress=self.ingress)


def read_ray_service(item: Mapping[str, Json]) -> FoundRayService:
    """Reads a RayService.

    Args:
        item: The object: that of the API server, or one in a file.

    Raises:
        ClusterStartError: Its `serveConfigV2` has no app.
    """
    spec, status = mapped(item.get("spec")), mapped(item.get("status"))
    cluster = mapped(spec.get("rayClusterConfig"))
    active, pending = (mapped(status.get(f"{which}ServiceStatus")) for which in ("active", "pending"))
    of_cluster = mapped(active.get("rayClusterStatus"))
    storage = storage_of(item)
    name, ray_cluster = name_of(item), text(active, "rayClusterName")
    # With an autoscaler there may be more workers than the spec says.
    workers = workers_wanted(item)
    return FoundRayService(
        name=name,
        gcs=storage.gcs,
        workers=workers or _workers(cluster),
        worker_range=worker_range(item),
        serve_config=_serve_config(name, text(spec, "serveConfigV2")),
        redis=storage.address,
        ray_cluster=ray_cluster,
        pending=text(pending, "rayClusterName"),
        head_service=text(mapped(of_cluster.get("head")), "serviceName") or f"{ray_cluster}-head-svc",
        wants_token=wants_token(cluster),
        lost=storage.lost,
        redis_tls=storage.tls,
        ingress="haproxy" if "1" in _head_variables(cluster, HAPROXY) else "python",
    )


def workers_wanted(item: Mapping[str, Json]) -> int | None:
    """How many workers the RayCluster that serves should have now, by a RayService's status; None: it does not say."""
    active = mapped(mapped(item.get("status")).get("activeServiceStatus"))
    number = mapped(active.get("rayClusterStatus")).get("desiredWorkerReplicas")
    return number if isinstance(number, int) else None


def differences(wanted: ClusterSpec, found: ClusterSpec) -> list[str]:
    """What a test wants otherwise than it is, in words."""
    pairs: dict[str, tuple[object, object]] = {
        "gcs": (wanted.gcs, found.gcs),
        "workers": (wanted.workers, found.workers),
        "app": (wanted.app, found.app),
        "profile": (wanted.profile, found.profile),
        "ingress": (wanted.ingress, found.ingress),
        "app_args": (dict(wanted.app_args), {}),
        "env": (dict(wanted.env), {}),
    }
    return [f"{name}={w!r} and not {f!r}" for name, (w, f) in pairs.items() if w != f]


def _workers(cluster: Mapping[str, Json]) -> int:
    total = 0
    for group in listed(cluster.get("workerGroupSpecs")):
        replicas = group.get("replicas", group.get("minReplicas"))
        hosts = group.get("numOfHosts") or 1
        if isinstance(replicas, int) and isinstance(hosts, int):  # what is not a number is refused elsewhere
            total += replicas * hosts
    return total


def worker_range(item: Mapping[str, Json]) -> tuple[int, int] | None:
    """The least and the most workers of a RayService, where Ray's autoscaler scales them; None where nothing does."""
    cluster = mapped(mapped(item.get("spec")).get("rayClusterConfig"))
    if not cluster.get("enableInTreeAutoscaling"):
        return None
    least = most = 0
    for group in listed(cluster.get("workerGroupSpecs")):
        if group.get("suspend"):
            continue
        hosts = group.get("numOfHosts") or 1
        bounds = [group.get("minReplicas", 0), group.get("maxReplicas", _NO_LIMIT)]
        low, high = (n * hosts if isinstance(n, int) and isinstance(hosts, int) else 0 for n in bounds)
        least, most = least + low, most + max(low, high)
    return least, most


def _head_variables(cluster: Mapping[str, Json], name: str) -> list[str]:
    """The values that an environment variable has in the containers of the head."""
    head = mapped(mapped(mapped(cluster.get("headGroupSpec")).get("template")).get("spec"))
    return [
        text(variable, "value")
        for container in listed(head.get("containers"))
        for variable in listed(container.get("env"))
        if text(variable, "name") == name
    ]


def _serve_config(name: str, config: str) -> dict[str, Json]:
    try:
        found = safe_yaml.read_document(config)
    except yaml.YAMLError as error:
        raise ClusterStartError(
            f"the serveConfigV2 of RayService {name} is not YAML: {yaml_text.problem(error)}",
            fix=["correct the YAML; KubeRay reports the error only in the operator's log"],
        ) from error
    if not isinstance(found, dict) or not applications(found):
        raise ClusterStartError(
            f"RayService {name} has no app to test", checked=["spec.serveConfigV2"], fix=["give it applications"]
        )
    return found
