"""Workers that come and go, because Ray's autoscaler scales them."""

from __future__ import annotations

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import workers_wanted


class ScaledWorkers:
    """The workers of a RayService with `enableInTreeAutoscaling`. Has the capability `AutoscalesWorkers`.

    Args:
        api: The Kubernetes API, in its namespace.
        ray_service: The RayService's name.
        worker_range: The least and the most workers that its spec allows.
    """

    def __init__(self, api: KubeApi, ray_service: str, worker_range: tuple[int, int]) -> None:
        self._api = api
        self._ray_service = ray_service
        self.worker_range = worker_range

    def workers_wanted(self) -> int | None:
        """How many the autoscaler wants now, by the RayService's status; None where that does not say.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        return workers_wanted(self._api.ray_service(self._ray_service))
