"""What may be broken of an external RayService; asked again for each fault."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import listed, mapped, text
from pytest_serve_chaos.cluster.kubernetes.external.policy import DRAIN, Grants, Terms
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.cluster.policy import Touch, touch_pod
from pytest_serve_chaos.cluster.total_loss import closed_nodes, lost_nodes, with_a_way_out
from pytest_serve_chaos.errors import ObservationError, Unsupported
from pytest_serve_chaos.model import HEAD, Component, Identity, Json, Loss

_IN_CONTAINERS = ("process", "container")
"""The kinds of identities that begin with the UID of a pod and the id of a container."""


class Admission:
    """Lets faults pass, or refuses them.

    Args:
        view: The RayService.
        spec: What it is.
        grants: What its owner and this user's rights allow.
        targets: ``app#Deployment`` -> wanted replicas, as Serve said at the beginning.
        proxy_location: Where its proxies are, as its Serve config says.
    """

    def __init__(
        self,
        view: RayServiceView,
        spec: ClusterSpec,
        grants: Grants,
        targets: Mapping[str, int],
        proxy_location: str = "",
    ) -> None:
        self._view = view
        self._last_targets = targets
        scaled = view.ref.worker_range is not None
        live_workers = self._live_workers if scaled else None
        self._terms = Terms(spec, grants, self._targets, self._has_flags, live_workers, proxy_location)
        self._asked_for: Collection[str] = ()
        self._admitted = Touch()

    def why_not(self, touch: Touch, asked_for: Collection[str]) -> str:
        """Why a fault cannot, or must not, be injected into this cluster; "" if it can."""
        return self._terms.why_not(touch, asked_for)

    def admit(self, touch: Touch, asked_for: Collection[str]) -> None:
        """Lets a fault pass, or refuses it.

        Raises:
            Unsupported: It cannot, or must not, be injected into this cluster.
        """
        self._asked_for, self._admitted = asked_for, Touch()
        _refuse(self.why_not(touch, asked_for))
        if not touch.allow_total_loss:
            _refuse(self._closes_the_way_in(closed_nodes(touch)))
        self._admitted = touch

    def admit_loss(self, node: str, how: str, *, hold: bool = False) -> None:
        """The same for a Ray node: a caller that has the cluster itself can do no more than a fault.

        Raises:
            Unsupported: It must not be done to this cluster, or no fault was admitted that takes that node away.
        """
        # As Serve said last: an injection has asked it just now, and to ask again would take from its timing.
        policy = replace(self._terms, targets=lambda: self._last_targets)
        loses: tuple[Loss, ...] = ("head", "Ray node") if node == HEAD else ("worker", "Ray node", "replica")
        touch = replace(touch_pod(how, hold=hold, loses=loses), allow_total_loss=self._admitted.allow_total_loss)
        _refuse(policy.why_not(touch, self._asked_for))
        if not touch.allow_total_loss:
            _refuse(self._closes_the_way_in({node}))
        self._require_victims_on(node)

    def admit_signal(self, process: Identity) -> None:
        """The same for a signal, or a health flag: it goes only into a container of what an admitted fault hits.

        Raises:
            Unsupported: No fault was admitted, or it hits something else.
        """
        # By the container: HAProxy replaces its process, and below a replica there are others.
        places = {victim.identity.parts[:2] for victim in self._victims() if victim.identity.kind in _IN_CONTAINERS}
        if process.parts[:2] not in places:
            raise Unsupported(f"{process} is not a victim of the fault that was admitted last, so it is left alone")

    def admit_kill(self, actor_id: str) -> None:
        """The same for an actor.

        Raises:
            Unsupported: No fault was admitted, or it hits something else.
        """
        if actor_id not in {victim.actor_id for victim in self._victims()}:
            raise Unsupported(f"actor {actor_id} is not a victim of the fault that was admitted last")

    def _victims(self) -> Sequence[Component]:
        return self._admitted.victims if "run in pods" in self._admitted.actions else ()

    def admit_drain(self) -> None:
        """The same for draining any node.

        Raises:
            Unsupported: The user did not allow it, or has no right to it.
        """
        _refuse(self._terms.forbidden(DRAIN))

    def _require_victims_on(self, node: str) -> None:
        if node not in lost_nodes(self._admitted):
            raise Unsupported(f"{node} is not a victim of the fault that was admitted last, so it is left alone")

    def admit_company(self, target: str, on_machine: Collection[str]) -> None:
        """The same for what goes along with a Ray node when its machine is drained.

        Raises:
            Unsupported: Too much of the RayService is on that machine, or no fault was admitted that takes the node
                away.
        """
        if not self._admitted.allow_total_loss:
            _refuse(self._terms.taken_along(target, on_machine) or self._closes_the_way_in(on_machine))
        self._require_victims_on(target)

    def _closes_the_way_in(self, nodes: Collection[str]) -> str:
        """Why the proxies of these nodes must not go: KubeRay's Service would have no other; "" if they may.

        Where it has no pod at all, requests come in by a way that nobody here knows.
        """
        pods = self._view.pods
        serving = [one for one in (pods.live_named() if nodes else ()) if one[1].labels.get(names.SERVES) == "true"]
        ways_in = {name for name, pod, container in serving if pods.state(pod, container) == "Ready"}
        if not ways_in or ways_in - set(nodes):
            return ""
        alone = f"the pod of {', '.join(sorted(ways_in))}"
        return with_a_way_out(f"KubeRay's Service sends requests to {alone} alone, so losing its proxy leaves none")

    def _targets(self) -> Mapping[str, int]:
        """Those of now; where Serve does not say, or says that it has none, those that it said last.

        Without an answer nobody could tell the only replica from one of many, and it would be broken.
        """
        with contextlib.suppress(ObservationError):
            self._last_targets = self._view.dashboard.serve().targets or self._last_targets
        return self._last_targets

    def _live_workers(self) -> int:
        return sum(name != HEAD and not pod.deleting for name, pod, _ in self._view.pods.live_named())

    def _has_flags(self) -> bool:
        selector = f"{names.RAY_CLUSTER}={self._view.pods.ray_cluster},{names.RAY_NODE_TYPE}=worker"
        return any(_reads_flags(pod) for pod in self._view.api.raw_pods(selector))


def _refuse(reason: str) -> None:
    if reason:
        raise Unsupported(reason)


def _reads_flags(pod: Mapping[str, Json]) -> bool:
    containers = listed(mapped(pod.get("spec")).get("containers"))
    return any(text(v, "name") == names.FLAGS_VARIABLE for c in containers for v in listed(c.get("env")))
