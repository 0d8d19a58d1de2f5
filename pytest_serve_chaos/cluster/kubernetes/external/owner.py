"""What the owner of a RayService does to it while it is tested: whether it is still the one that was connected to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.errors import NOT_FOUND, status_of
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, ray_clusters_of, text
from pytest_serve_chaos.errors import ObservationError
from pytest_serve_chaos.model import Json


@dataclass(frozen=True, slots=True)
class Pinned:
    """A RayService as it was at one moment.

    Attributes:
        name: Its name.
        uid: Which RayService of that name it is.
        generation: Which version of its spec; "" where the API server does not say.
        ray_cluster: The RayCluster that serves.
    """

    name: str
    uid: str
    generation: str
    ray_cluster: str

    @classmethod
    def of(cls, item: Mapping[str, Json]) -> Pinned:
        """The RayService as the API server gives it."""
        metadata = mapped(item.get("metadata"))
        serving, _ = ray_clusters_of(item)
        return cls(text(metadata, "name"), text(metadata, "uid"), text(metadata, "generation"), serving)

    def change(self, item: Mapping[str, Json]) -> str:
        """What was done to it since then, by what it is now, in words; "" if nothing was."""
        now, (_, pending) = Pinned.of(item), ray_clusters_of(item)
        if now.uid != self.uid:
            return f"RayService {self.name} was deleted and created again"
        if mapped(item.get("metadata")).get("deletionTimestamp"):
            return f"RayService {self.name} is being deleted"
        if pending:
            return f"RayService {self.name} is being upgraded to RayCluster {pending}"
        if now.ray_cluster != self.ray_cluster:
            serves = f"RayCluster {now.ray_cluster}" if now.ray_cluster else "no RayCluster"
            return f"{serves} serves for RayService {self.name} now, and no longer {self.ray_cluster}"
        if now.generation != self.generation:
            return f"the spec of RayService {self.name} was edited (generation {self.generation} to {now.generation})"
        return ""


class OwnerWatch:
    """Looks whether a RayService is as it was at the connection.

    Args:
        api: The Kubernetes API, in its namespace; it is only read.
        pinned: The RayService as it was.
    """

    def __init__(self, api: KubeApi, pinned: Pinned) -> None:
        self._api = api
        self._pinned = pinned

    def change(self) -> str:
        """What its owner has done to it since the connection, in words; "" if nothing.

        Raises:
            ObservationError: It cannot be looked at.
        """
        try:
            item = self._api.ray_service(self._pinned.name)
        except ObservationError as error:
            if status_of(error) == NOT_FOUND:
                return f"RayService {self._pinned.name} was deleted"
            raise
        return self._pinned.change(item)
