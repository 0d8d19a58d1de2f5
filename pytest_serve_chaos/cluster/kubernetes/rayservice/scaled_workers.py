"""Workers that come and go, because Ray's autoscaler scales them."""

from __future__ import annotations

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import workers_wanted
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.model import HEAD


class ScaledWorkers:
    """The workers of a RayService with `enableInTreeAutoscaling`. Has the capability `AutoscalesWorkers`.

    Args:
        api: The Kubernetes API, in its namespace.
        pods: Its pods.
        ray_service: The RayService's name.
        worker_range: The least and the most workers that its spec allows.
    """

    def __init__(self, api: KubeApi, pods: RayPods, ray_service: str, worker_range: tuple[int, int]) -> None:
        self._api = api
        self._pods = pods
        self._ray_service = ray_service
        self.worker_range = worker_range

    def workers_wanted(self) -> int | None:
        """How many the autoscaler wants now and can have, by the RayService's status; None where that does not say.

        It may want more than Kubernetes has nodes for, and then waits for one, perhaps for ever.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        wanted = workers_wanted(self._api.ray_service(self._ray_service))
        return None if wanted is None else wanted - self._without_a_node()

    def _without_a_node(self) -> int:
        """How many of them can be on no node. While one is being deleted, the next may only wait for its place."""
        workers = [pod for name, pod in self._pods.named() if name != HEAD]
        if any(pod.deleting for pod in workers):
            return 0
        return sum(pod.unschedulable for pod in workers)
