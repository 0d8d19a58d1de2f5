"""What may be broken of a RayService that is somebody else's, and why not: by its owner, by rights, by common sense."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kuberay import names, rights
from pytest_serve_chaos.model import HEAD

_NO_FAULT_TOLERANCE = ("head_failure", "gcs_failure")
_IN_A_POD = ("controller_failure", "replica_failure", "proxy_failure", "gcs_failure", "health_check_failure")
_TAKES_REPLICAS = ("replica_failure", "health_check_failure", "worker_failure", "node_failure")


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a loan.

    Attributes:
        spec: What the RayService is.
        lacking: The rights that this user has not.
        allow: What may be broken beside pods: ``node``.
        targets: Gives ``app#Deployment`` -> wanted replicas, as far as Serve says.
        has_flags: Says whether its workers have the directory for health flags.
    """

    spec: ClusterSpec
    lacking: Collection[rights.Right]
    allow: Collection[str]
    targets: Callable[[], Mapping[str, int]]
    has_flags: Callable[[], bool]

    def why_not(self, kind: str, options: Mapping[str, str | float], asked_for: Collection[str]) -> str:
        """Why a fault cannot, or must not, be injected; "" if it can. Arguments: see `capabilities.IsBorrowed`."""
        return self.forbidden(kind, options) or self._no_sense(kind, options, asked_for)

    def forbidden(self, kind: str, options: Mapping[str, str | float]) -> str:
        """Why a fault cannot be injected whatever the test says; "" if it can."""
        how = str(options.get("how", ""))
        return self._not_possible(kind, how, options) or self._no_right(kind, how)

    def _not_possible(self, kind: str, how: str, options: Mapping[str, str | float]) -> str:
        if kind == "redis_failure":
            return "Redis does not belong to the RayService, so it is left alone"
        if kind == "rayservice_upgrade":
            return "the spec of a borrowed RayService is not ours to change, so it is not upgraded"
        if options.get("hold"):
            return "KubeRay makes a new pod at once, so none can be kept down"
        if kind != "node_failure":
            return ""
        if how != "drain":
            return f"how={how!r} needs the machines under a cluster of your own; how='drain' works here"
        return "" if "node" in self.allow else "faults on nodes are not allowed: --serve-chaos-allow node"

    def _no_right(self, kind: str, how: str) -> str:
        lacking = [str(right) for right in _needed(kind, how) if right in self.lacking]
        return f"this user may not {', '.join(lacking)} (SelfSubjectAccessReview)" if lacking else ""

    def _no_sense(self, kind: str, options: Mapping[str, str | float], asked_for: Collection[str]) -> str:
        takes_head = kind in _NO_FAULT_TOLERANCE or options.get("which") == HEAD
        if takes_head and self.spec.gcs == "none" and "gcs" not in asked_for:
            return (
                "the RayService has no GCS fault tolerance, so losing the head restarts all of it;"
                " to measure that, mark the test with serve_cluster(gcs='none')"
            )
        if kind in ("worker_failure", "node_failure") and self.spec.workers < 2:
            return f"the RayService has {number(self.spec.workers, 'worker')}, so losing one leaves none"
        if kind == "controller_failure" and options.get("replacement") == "new_actor" and self._is_composed():
            return "handles in replicas would stay deaf (ray#63784), and this cluster is not ours to build anew"
        if kind == "health_check_failure" and not self.has_flags():
            return f"the workers have no {names.FLAGS_VARIABLE}, which a health check that can be made to fail reads"
        if kind in _TAKES_REPLICAS:
            single = [name for name, n in self._targets_of(str(options.get("deployment", ""))).items() if n == 1]
            return f"{', '.join(single)} has one replica, so losing it leaves none" if single else ""
        return ""

    def taken_along(self, target: str, on_machine: Collection[str]) -> str:
        """Why a machine must not be drained for what it carries beside a Ray node; "" if it may.

        Args:
            target: The Ray node that is to be drained.
            on_machine: All Ray nodes on that machine.
        """
        if target != HEAD and HEAD in on_machine and self.spec.gcs == "none":
            return f"the head is on the machine of {target}, and without GCS fault tolerance its loss restarts all"
        if len(set(on_machine) - {HEAD}) >= self.spec.workers:
            return f"all workers of the RayService are on the machine of {target}, so draining it leaves none"
        return ""

    def _targets_of(self, deployment: str) -> dict[str, int]:
        return {name: n for name, n in self.targets().items() if deployment in ("", name, name.partition("#")[2])}

    def _is_composed(self) -> bool:
        deployments = list(self.targets())
        return len(deployments) > len({name.partition("#")[0] for name in deployments})


def _needed(kind: str, how: str) -> tuple[rights.Right, ...]:
    if kind == "node_failure":
        return rights.DRAIN
    if kind in _IN_A_POD or how == "freeze":
        return rights.RUN
    # What was deleted by force is proved to be gone by a knock at its address, from another pod.
    return (rights.DELETE,) if how == "stop" else (rights.DELETE, *rights.RUN)
