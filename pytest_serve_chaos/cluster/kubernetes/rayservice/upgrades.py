"""An upgrade of a RayService: KubeRay brings up a second RayCluster, moves the traffic to it and deletes the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_serve_chaos import clock, manifests
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, ray_clusters_of, seconds, text
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis import PodRedis
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.cluster.profiles import timing
from pytest_serve_chaos.errors import CommandFailed, Unsupported
from pytest_serve_chaos.model import Evidence, Json

_SWITCHED_WITHIN = 300.0
"""Seconds for the second RayCluster to run its apps, while the first one serves the traffic."""

_MARGIN = 60.0
"""Seconds for the first to go, beyond KubeRay's delay and the grace period of its pods."""

_STUCK_WITHIN = 60.0
_LONGEST_DELAY = 60.0
"""Seconds for which KubeRay keeps a RayCluster that is not needed, where the RayService says nothing of that."""

_LOOK_EVERY = 0.3
_DELAY = "rayClusterDeletionDelaySeconds"
_NEW_CLUSTER = "NewCluster"


class Upgrades:
    """Upgrades a RayService whose RayCluster's spec is ours to change.

    Has the capabilities `UpgradesRayService` and `FailsUpgrades`.

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
        self._in_vain: tuple[str, dict[str, Json]] | None = None

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
        delay = seconds(spec, _DELAY, seconds(patch, _DELAY, _LONGEST_DELAY))
        grace = max((pod.grace for pod in old_pods), default=0.0)
        self._wait_until_gone(old, delay + grace + _MARGIN)
        # They are deleted gracefully: a pod's object goes when its kubelet has reported the end of its containers.
        ended = f"the kubelets reported the {len(old_pods)} pods of RayCluster {old} ended"
        return (Evidence(clock.now(), "victim", ended),)

    def pending(self) -> str:
        """The RayCluster that is to take over, as the RayService's status has it; "" if none is.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        return text(_part(self._status(), "pending"), "rayClusterName")

    def begin_in_vain(self) -> Sequence[Evidence]:
        """Changes the RayCluster's spec so that no node takes its head, and waits for that head's pod.

        Returns:
            The sign from the new RayCluster's side.

        Raises:
            Unsupported: The RayService does not want a new RayCluster for a new spec; nothing was changed.
            CommandFailed: The change was refused, or another upgrade is under way.
            ObservationError: The API server gave no usable answer.
            WaitTimeout: KubeRay made no such pod.
        """
        item = self._api.ray_service(self._ref.ray_service)
        spec = mapped(item.get("spec"))
        self._check(spec, mapped(item.get("status")))
        patch, undone = change_in_vain(spec, timing(self._ref.spec.profile).deletion_delay)
        self._in_vain = self._pods.ray_cluster, undone
        self._api.patch_ray_service(self._ref.ray_service, {"spec": patch})

        def stuck() -> str | NotYet:
            pending = self.pending()
            pods = self._pods.of(pending) if pending else ()
            heads = [p.summary for p in pods if not p.node and p.labels.get(names.RAY_NODE_TYPE) == "head"]
            return heads[0] if heads else NotYet("; ".join(pod.summary for pod in pods) or "no second RayCluster")

        head = clock.wait_until(
            "the head of a new RayCluster, which no node takes", clock.patient(stuck), timeout=_STUCK_WITHIN,
            interval=_LOOK_EVERY, checked=[f"status of RayService {self._ref.ray_service}"],
        )  # fmt: skip
        return (Evidence(clock.now(), "victim", f"no node takes the head of the new RayCluster: {head}"),)

    def end_in_vain(self) -> None:
        """Puts the spec of before back, and waits until one RayCluster serves and the pods of all others have ended.

        KubeRay compares a new spec with that of the RayCluster that is to take over, never with that of the one that
        serves, and so makes a third one, which takes over (1.6.2).

        Raises:
            CommandFailed: It was refused.
            WaitTimeout: The third RayCluster did not take over, or another did not go.
        """
        if self._in_vain is None:
            return
        old, undone = self._in_vain
        stuck, old_pods = self.pending(), self._pods.of(old)
        self._api.patch_ray_service(self._ref.ray_service, {"spec": undone})
        self._follow(self._wait_for_switch(old))
        spec = mapped(self._api.ray_service(self._ref.ray_service).get("spec"))
        grace = max((pod.grace for pod in old_pods), default=0.0)
        for name in filter(None, (old, stuck)):
            self._wait_until_gone(name, seconds(spec, _DELAY, _LONGEST_DELAY) + grace + _MARGIN)
        self._in_vain = None

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
    before = text(annotations, names.UPGRADE)
    number = int(before) + 1 if before.isdecimal() else 1
    template: Json = {"metadata": {"annotations": {names.UPGRADE: str(number)}}}
    change: dict[str, Json] = {"rayClusterConfig": {"headGroupSpec": {"template": template}}}
    return change if _DELAY in spec else {**change, _DELAY: round(delay)}


def change_in_vain(spec: Mapping[str, Json], delay: float) -> tuple[dict[str, Json], dict[str, Json]]:
    """The merge patch of a RayService's spec that is an upgrade whose head no node takes, and the one that undoes it.

    Args:
        spec: The spec as it is.
        delay: Seconds that a RayCluster stays that is not needed, where the spec says nothing of that.
    """
    head = mapped(mapped(spec.get("rayClusterConfig")).get("headGroupSpec"))
    annotations = mapped(mapped(mapped(head.get("template")).get("metadata")).get("annotations"))
    change = change_for_upgrade(spec, delay)
    nowhere: dict[str, Json] = {"spec": {"nodeSelector": {names.NOWHERE: "true"}}}
    before: Json = {"metadata": {"annotations": {names.UPGRADE: annotations.get(names.UPGRADE)}}}
    return (
        manifests.merge(change, {"rayClusterConfig": {"headGroupSpec": {"template": nowhere}}}),
        manifests.merge(lets_the_head_start(), {"rayClusterConfig": {"headGroupSpec": {"template": before}}}),
    )


def lets_the_head_start() -> dict[str, Json]:
    """The merge patch of a RayService's spec with which nodes take its head again."""
    template: Json = {"spec": {"nodeSelector": {names.NOWHERE: None}}}
    return {"rayClusterConfig": {"headGroupSpec": {"template": template}}}


def _part(status: Mapping[str, Json], which: str) -> Mapping[str, Json]:
    return mapped(status.get(f"{which}ServiceStatus"))
