"""An upgrade of a RayService: KubeRay brings up a second RayCluster, moves the traffic to it and deletes the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, ray_clusters_of, text
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import PodRedis
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.cluster.profiles import timing
from pytest_serve_chaos.errors import CommandFailed, Unsupported
from pytest_serve_chaos.model import Evidence, Json

_SWITCHED_WITHIN = 300.0
"""Seconds for the second RayCluster to run its apps, while the first one serves the traffic."""

_MARGIN = 60.0
"""Seconds for the first to go, beyond KubeRay's delay and the grace period of its pods."""

_LOOK_EVERY = 0.3
_DELAY = "rayClusterDeletionDelaySeconds"
_NEW_CLUSTER = "NewCluster"


class Upgrades:
    """Upgrades a RayService whose RayCluster's spec is ours to change. Has the capability `UpgradesRayService`.

    What is seen of it (pods, processes, the dashboard) is always the RayCluster to which KubeRay sends traffic: until
    an upgrade switches the first one, from then on the second.

    Args:
        view: The RayService.
        redis: Its Redis, where the GCS of each RayCluster has keys of its own.
    """

    def __init__(self, view: RayServiceView, redis: PodRedis) -> None:
        self._api = view.api
        self._pods = view.pods
        self._ref = view.ref
        self._redis = redis

    def serving(self) -> str:
        """The RayCluster to which KubeRay sends traffic, as the RayService's status has it; "" if to none.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        active, _ = ray_clusters_of(self._api.ray_service(self._ref.ray_service))
        return active

    def upgrade(self) -> Sequence[Evidence]:
        """Changes the RayCluster's spec, and waits until a new RayCluster serves and the old one's pods have ended.

        The change is an annotation of the head's pod, which alters nothing else; KubeRay makes a new RayCluster for
        any change.

        Returns:
            The sign from the old RayCluster's side.

        Raises:
            Unsupported: The RayService does not want a new RayCluster for a new spec; nothing was changed.
            CommandFailed: The change was refused, or another upgrade is under way.
            ObservationError: The API server gave no usable answer.
            WaitTimeout: The second RayCluster did not take over, or the first did not go.
        """
        item = self._api.ray_service(self._ref.ray_service)
        spec = mapped(item.get("spec"))
        self._check(spec, mapped(item.get("status")))
        old = self._pods.ray_cluster
        old_pods = self._pods.of(old)
        patch = change_for_upgrade(spec, timing(self._ref.spec.profile).deletion_delay)
        self._api.patch_ray_service(self._ref.ray_service, {"spec": patch})
        self._follow(self._wait_for_switch(old))
        delay = float(text(spec, _DELAY) or text(patch, _DELAY))
        grace = max((pod.grace for pod in old_pods), default=0.0)
        self._wait_until_gone(old, delay + grace + _MARGIN)
        # They are deleted gracefully: a pod's object goes when its kubelet has reported the end of its containers.
        ended = f"the kubelets reported the {len(old_pods)} pods of RayCluster {old} ended"
        return (Evidence(clock.now(), "victim", ended),)

    def _check(self, spec: Mapping[str, Json], status: Mapping[str, Json]) -> None:
        strategy = text(mapped(spec.get("upgradeStrategy")), "type") or _NEW_CLUSTER
        if strategy != _NEW_CLUSTER:
            raise Unsupported(
                f"the RayService's upgradeStrategy is {strategy}; only with {_NEW_CLUSTER} a new RayCluster takes over",
                fix=[f"set spec.upgradeStrategy.type: {_NEW_CLUSTER}"],
            )
        pending = text(_part(status, "pending"), "rayClusterName")
        if pending:
            raise CommandFailed(f"an upgrade is under way already, to RayCluster {pending}")

    def _wait_for_switch(self, old: str) -> str:
        def switched() -> str | NotYet:
            status = self._status()
            active = text(_part(status, "active"), "rayClusterName")
            return active if active not in ("", old) else NotYet(self._progress_of(_part(status, "pending")))

        return clock.wait_until(
            "a new RayCluster to take over",
            clock.patient(switched),
            timeout=_SWITCHED_WITHIN,
            interval=_LOOK_EVERY,
            checked=[f"status of RayService {self._ref.ray_service}"],
            fix=["two RayClusters at once take room: on nodes with one Ray pod each, Kubernetes 1.31 or newer"],
        )

    def _progress_of(self, pending: Mapping[str, Json]) -> str:
        name = text(pending, "rayClusterName")
        if not name:
            return "KubeRay has not made a second RayCluster"
        apps = mapped(pending.get("applicationStatuses"))
        seen = [pod.summary for pod in self._pods.of(name)] or [f"{name} has no pods"]
        return "; ".join([*seen, *(f"app {app} {text(mapped(said), 'status')}" for app, said in apps.items())])

    def _follow(self, ray_cluster: str) -> None:
        """From now on that RayCluster is the one that is looked at."""
        self._pods.ray_cluster = ray_cluster
        aim_dashboard(self._api, ray_cluster)
        if self._ref.redis_selector is not None:
            self._redis.read_namespace()

    def _wait_until_gone(self, ray_cluster: str, within: float) -> None:
        def gone() -> bool | NotYet:
            left = self._pods.of(ray_cluster)
            return not left or NotYet("; ".join(pod.summary for pod in left))

        what = f"the pods of RayCluster {ray_cluster} to end"
        clock.wait_until(what, clock.patient(gone), timeout=within, interval=_LOOK_EVERY)

    def _status(self) -> Mapping[str, Json]:
        return mapped(self._api.ray_service(self._ref.ray_service).get("status"))


def aim_dashboard(api: KubeApi, ray_cluster: str) -> None:
    """Points our Service for the dashboard at the head of that RayCluster, and of no other.

    KubeRay moves its own Services, but that of the head cannot have a node port: what `headService` specifies
    holds for the Service of each RayCluster, too, and two cannot have the same port.

    Raises:
        CommandFailed: It was refused.
    """
    api.objects.patch_service(names.DASHBOARD_SERVICE, {"spec": {"selector": {names.RAY_CLUSTER: ray_cluster}}})


def change_for_upgrade(spec: Mapping[str, Json], delay: float) -> dict[str, Json]:
    """The merge patch of a RayService's spec that is an upgrade.

    Args:
        spec: The spec as it is.
        delay: Seconds that the old RayCluster stays, where the spec says nothing of that.
    """
    head = mapped(mapped(spec.get("rayClusterConfig")).get("headGroupSpec"))
    annotations = mapped(mapped(mapped(head.get("template")).get("metadata")).get("annotations"))
    number = int(text(annotations, names.UPGRADE) or 0) + 1
    template: Json = {"metadata": {"annotations": {names.UPGRADE: str(number)}}}
    change: dict[str, Json] = {"rayClusterConfig": {"headGroupSpec": {"template": template}}}
    return change if _DELAY in spec else {**change, _DELAY: round(delay)}


def _part(status: Mapping[str, Json], which: str) -> Mapping[str, Json]:
    return mapped(status.get(f"{which}ServiceStatus"))
