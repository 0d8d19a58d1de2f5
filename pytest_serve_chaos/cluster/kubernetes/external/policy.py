"""What a fault may break of an external RayService, and why not: its owner's policy, rights, and common sense."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.external import rights
from pytest_serve_chaos.cluster.policy import Action, Touch
from pytest_serve_chaos.cluster.proxy_location import HEAD_ONLY
from pytest_serve_chaos.cluster.total_loss import with_a_way_out
from pytest_serve_chaos.model import HEAD

DRAIN = Touch(actions=("drain nodes",))
"""What draining a node does, whichever node it is."""

_HEAD_ONLY = f"proxy_location: {HEAD_ONLY}"

_NEEDED: Mapping[Action, tuple[rights.Right, ...]] = {
    "delete pods": (rights.DELETE,),
    "run in pods": rights.RUN,
    "drain nodes": rights.DRAIN,
}


def needed(touch: Touch) -> tuple[rights.Right, ...]:
    """The rights that a fault takes; none for one that is refused, or whose actions are unknown."""
    return tuple(dict.fromkeys(right for action in touch.actions for right in _NEEDED.get(action, ())))


@dataclass(frozen=True, slots=True)
class Grants:
    """What an owner, and the rights of this user, allow.

    Attributes:
        lacking: The rights that this user does not have.
        allow: What may be broken in addition to pods: ``node``.
        shared_processes: Which field of the pods has their containers see processes of others; "" where none does.
    """

    lacking: Collection[rights.Right] = ()
    allow: Collection[str] = ()
    shared_processes: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """The policy of an external cluster.

    Attributes:
        spec: What the RayService is.
        grants: What its owner, and the rights of this user, allow.
        targets: Returns ``app#Deployment`` -> wanted replicas, as far as Serve says.
        has_flags: Returns whether its workers have the directory for health flags.
        live_workers: Returns how many workers there are now, where an autoscaler scales them; None: as in the spec.
        proxy_location: Where its proxies are, as its Serve config says.
    """

    spec: ClusterSpec
    grants: Grants
    targets: Callable[[], Mapping[str, int]]
    has_flags: Callable[[], bool]
    live_workers: Callable[[], int] | None = None
    proxy_location: str = ""

    def why_not(self, touch: Touch, asked_for: Collection[str]) -> str:
        """Why a fault cannot, or must not, be injected; "" if it can. Arguments: see `capabilities.IsExternal`."""
        return self.forbidden(touch) or self._no_sense(touch, asked_for)

    def forbidden(self, touch: Touch) -> str:
        """Why a fault cannot be injected whatever the test says; "" if it can."""
        return touch.refused or self._not_allowed(touch) or self._no_right(touch)

    def _not_allowed(self, touch: Touch) -> str:
        if not touch.actions or any(action not in _NEEDED for action in touch.actions):
            return "it is unknown what this fault does to the RayService, so it is refused"
        if "drain nodes" in touch.actions and "node" not in self.grants.allow:
            return "faults on nodes are not allowed: --serve-chaos-allow=node"
        return ""

    def _no_right(self, touch: Touch) -> str:
        if self.grants.shared_processes and "run in pods" in touch.actions:
            return (
                f"the pods have {self.grants.shared_processes}, so a program in them could reach processes of others,"
                " and none is run there"
            )
        lacking = [str(right) for right in needed(touch) if right in self.grants.lacking]
        return f"this user may not {', '.join(lacking)} (SelfSubjectAccessReview)" if lacking else ""

    def _no_sense(self, touch: Touch, asked_for: Collection[str]) -> str:
        if "head" in touch.loses and self.spec.gcs == "none" and "gcs" not in asked_for and not touch.allow_total_loss:
            return (
                "the RayService has no GCS fault tolerance, so losing the head restarts all of it;"
                " to measure that, mark the test with serve_cluster(gcs='none')"
            )
        if "worker" in touch.loses and self._workers() < 2 and not touch.allow_total_loss:
            return with_a_way_out(f"the RayService has {number(self._workers(), 'worker')}, so losing one leaves none")
        reason = self._closes_the_only_proxy(touch)
        if reason:
            return reason
        deployments = self._targets_of(touch.deployment) if "replica" in touch.loses or touch.new_controller else None
        if deployments == {}:
            return "Serve does not say how many replicas there are, so it is unknown what would be left"
        if touch.new_controller and self._is_composed():
            return "handles in replicas would stay stale (ray#63784), and only a cluster of our own can be rebuilt"
        if touch.health_flags and not self.has_flags():
            return f"the workers have no {names.FLAGS_VARIABLE}, which a health check that can be made to fail reads"
        if "replica" in touch.loses and not touch.allow_total_loss:
            single = [name for name, n in self._targets_of(touch.deployment).items() if n == 1]
            return with_a_way_out(f"{', '.join(single)} has one replica, so losing it leaves none") if single else ""
        return ""

    def _closes_the_only_proxy(self, touch: Touch) -> str:
        if self.proxy_location != HEAD_ONLY:
            return ""
        if touch.new_controller:
            return f"the only proxy ({_HEAD_ONLY}) may not hear a new controller (ray#63784), and there is no other"
        closes = {"head", "proxy"}.intersection(touch.loses) and not touch.allow_total_loss
        return with_a_way_out(f"only the head has a proxy ({_HEAD_ONLY}), so losing it leaves none") if closes else ""

    def taken_along(self, target: str, on_machine: Collection[str]) -> str:
        """Why a machine must not be drained because of what else runs on it; "" if it may.

        Args:
            target: The Ray node that is to be drained.
            on_machine: All Ray nodes on that machine.
        """
        if target != HEAD and HEAD in on_machine and self.spec.gcs == "none":
            return f"the head is on the machine of {target}, and without GCS fault tolerance its loss restarts all"
        if len(set(on_machine) - {HEAD}) >= self._workers():
            return with_a_way_out(
                f"all workers of the RayService are on the machine of {target}, so draining it leaves none"
            )
        return ""

    def _workers(self) -> int:
        return self.spec.workers if self.live_workers is None else self.live_workers()

    def _targets_of(self, deployment: str) -> dict[str, int]:
        return {name: n for name, n in self.targets().items() if deployment in ("", name, name.partition("#")[2])}

    def _is_composed(self) -> bool:
        deployments = list(self.targets())
        return len(deployments) > len({name.partition("#")[0] for name in deployments})
