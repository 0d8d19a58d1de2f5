"""The signs that a deleted pod is really gone: from the API, from its node, from its network and from the GCS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes import in_pod, names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.pod_watch import PodWatch
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.errors import CommandFailed, ObservationError, WaitTimeout
from pytest_serve_chaos.model import HEAD, Evidence

_GONE_BY_FORCE = 30.0
_GRACEFUL_MARGIN = 60.0
_ASK_EVERY = 0.3
_LOOK_EVERY = 0.05
"""Seconds between two looks at what a watch has received, which costs the API server nothing."""
_GCS_PATIENCE = 5.0
"""Seconds that a node's death may take to show in the GCS before the plugin continues without that sign."""


ContainerProbe: TypeAlias = Callable[[str, str], "str | None"]
"""Says how a container ended (``exited with 137``), given its Kubernetes node and id; None while it runs."""


@dataclass(frozen=True, slots=True)
class Removals:
    """Watches pods go that are about to be deleted.

    Attributes:
        api: The Kubernetes API.
        dashboard: The head's dashboard.
        pods: The watch of the pods of its namespace; None asks the API server again and again.
        container_probe: Looks at containers on their node, where that can be done.
    """

    api: KubeApi
    dashboard: Dashboard
    pods: PodWatch | None
    container_probe: ContainerProbe | None

    def of(self, name: str, pod: Pod, port: int = names.AGENT_PORT) -> RemovalWatch:
        """Watches that pod of a node go. Made before its end is asked for."""
        return RemovalWatch(
            self.api,
            name,
            pod,
            container_probe=self.container_probe,
            dashboard=self.dashboard,
            port=port,
            pods=self.pods,
        )


class RemovalWatch:
    """Watches one pod go. Made before its deletion is asked for, while Ray can still say which node it is.

    Args:
        api: The Kubernetes API.
        name: The node's name.
        pod: The pod.
        container_probe: Says how a container on a Kubernetes node ended; None while it runs.
        dashboard: The head's dashboard.
        port: Where the pod listens on its own address.
        pods: The watch of the pods of its namespace; None asks the API server again and again.
    """

    def __init__(
        self,
        api: KubeApi,
        name: str,
        pod: Pod,
        *,
        container_probe: ContainerProbe | None,
        dashboard: Dashboard,
        port: int = names.AGENT_PORT,
        pods: PodWatch | None = None,
    ) -> None:
        self._api = api
        self._name = name
        self._pod = pod
        self._container_probe = container_probe
        self._dashboard = dashboard
        self._port = port
        self._pods = pods
        self._node_id = self._alive_node_id()

    def evidence(self, *, by_force: bool, within: float | None = None) -> tuple[Evidence, ...]:
        """Waits until the pod is gone, and returns every sign that was seen.

        Args:
            by_force: Whether its object goes before its containers do.
            within: Seconds for its object to go; None: as long as such a deletion can take.

        Raises:
            WaitTimeout: The pod, or its container, was still there at the deadline.
        """
        if within is None:
            within = _GONE_BY_FORCE if by_force else self._pod.grace + _GRACEFUL_MARGIN
        signs = [self._gone_from_api(within)]
        if by_force:
            signs += self._container_ended()
        else:
            # A graceful deletion ends with the kubelet, which gives the object up when the containers are gone.
            text = f"the kubelet of {self._pod.node} reported the containers of {self._pod.name} ended"
            signs.append(Evidence(signs[0].at, "victim", text))
        return (*signs, *self._dead_in_gcs())

    def _gone_from_api(self, within: float) -> Evidence:
        def probe() -> Evidence | NotYet:
            at = self._gone_at()
            if isinstance(at, NotYet):
                return at
            return Evidence(at, "cluster", f"pod {self._pod.name} ({self._pod.uid}) is gone from the API")

        interval = _ASK_EVERY if self._pods is None else _LOOK_EVERY
        what = f"pod {self._pod.name} to be gone"
        return clock.wait_until(what, clock.patient(probe), timeout=within, interval=interval)

    def _gone_at(self) -> float | NotYet:
        """When the API server said that this very pod is gone."""
        if self._pods is not None and (said := self._pods.gone(self._pod.uid)) is not None:
            return said
        pods = self._api.pods() if self._pods is None else self._pods.pods({})
        pod = next((p for p in pods if p.uid == self._pod.uid), None)
        if pod is not None:
            return NotYet(pod.summary)
        return clock.now() if self._pods is None else NotYet(f"the watch of pods does not know {self._pod.name} yet")

    def _container_ended(self) -> Sequence[Evidence]:
        container = self._pod.main
        if container is None:
            return ()
        if self._container_probe is None:
            return self._silent()
        look, node, container_id = self._container_probe, self._pod.node, container.id

        def probe() -> Evidence | NotYet:
            ended = look(node, container_id)
            if ended is None:
                return NotYet(f"container {container_id[:12]} still runs on {node}")
            return Evidence(clock.now(), "victim", f"container {container_id[:12]} on {node}: {ended}")

        what = f"the container of {self._pod.name} to end"
        return (clock.wait_until(what, probe, timeout=_GONE_BY_FORCE, interval=1.0),)

    def _silent(self) -> Sequence[Evidence]:
        """Knocks at the pod's address from another Ray pod: the only sign from its side without access to its node."""
        asking = next((p for p in self._wait_for_siblings() if p.runs), None)
        if asking is None or asking.main is None:
            return ()
        container = asking.main.name
        command = in_pod.command("knock", asking.uid, self._pod.ip, str(self._port), "1")

        def probe() -> Evidence | NotYet:
            answer = self._api.run(asking.name, container, command, timeout=10.0).stdout.strip()
            if answer in ("open", ""):
                return NotYet(f"{self._pod.ip}:{self._port} answers {asking.name}: {answer}")
            text = f"{self._pod.ip}:{self._port} does not answer {asking.name} any more: {answer}"
            return Evidence(clock.now(), "victim", text)

        try:
            return (clock.wait_until("the pod's address to fall silent", probe, timeout=_GONE_BY_FORCE, interval=0.5),)
        except CommandFailed:
            return ()

    def _wait_for_siblings(self) -> Sequence[Pod]:
        probe: Callable[[], Sequence[Pod] | NotYet] = clock.patient(self._siblings)
        return clock.wait_until("the pods of its cluster", probe, timeout=_GONE_BY_FORCE, interval=_ASK_EVERY)

    def _siblings(self) -> Sequence[Pod]:
        """The other nodes of the same Ray cluster: no program of ours runs in a pod of anybody else's."""
        cluster = self._pod.labels.get(names.RAY_CLUSTER)
        selector = f"{names.RAY_CLUSTER}={cluster},{names.RAY_NODES}"
        return [pod for pod in self._api.pods(selector) if pod.uid != self._pod.uid] if cluster else ()

    def _dead_in_gcs(self) -> Sequence[Evidence]:
        if self._name == HEAD or self._node_id is None:
            return ()  # a head takes its GCS along; the next one knows it as DEAD only when it is up

        def probe() -> Evidence | NotYet:
            states = {row.node_id: row.state for row in self._dashboard.nodes()}
            state = states.get(self._node_id or "", "DEAD")
            if state != "DEAD":
                return NotYet(f"the GCS says {state}")
            return Evidence(clock.now(), "cluster", f"the GCS says that node {self._node_id} is DEAD")

        try:
            return (clock.wait_until("the GCS to see it", clock.patient(probe), timeout=_GCS_PATIENCE, interval=0.2),)
        except WaitTimeout:
            return ()

    def _alive_node_id(self) -> str | None:
        try:
            rows = self._dashboard.nodes()
        except ObservationError:
            return None
        return next((row.node_id for row in rows if row.address == self._pod.ip and row.state == "ALIVE"), None)
