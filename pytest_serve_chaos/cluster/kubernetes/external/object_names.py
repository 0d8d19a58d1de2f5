"""The names of the objects that a role may be limited to: those of one RayService."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.lease import lease_name
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, ray_clusters_of, text
from pytest_serve_chaos.cluster.kubernetes.external.rights import Names
from pytest_serve_chaos.errors import ObservationError


def names_there(api: KubeApi, rayservice: str) -> Names:
    """The names of such objects, looked up when they are asked for.

    Args:
        api: The Kubernetes API, in the RayService's namespace.
        rayservice: The RayService.
    """

    def nodes() -> Sequence[str]:
        """The nodes that carry its pods; none where nobody says."""
        try:
            clusters = set(ray_clusters_of(api.ray_service(rayservice))) - {""}
            pods = [pod for cluster in clusters for pod in api.raw_pods(f"{names.RAY_CLUSTER}={cluster}")]
        except ObservationError:
            return ()
        return sorted({text(mapped(pod.get("spec")), "nodeName") for pod in pods} - {""})

    return {"rayservice": lambda: (rayservice,), "lease": lambda: (lease_name(rayservice),), "node": nodes}
