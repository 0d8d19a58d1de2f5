"""A RayService on kind nodes: with Docker beneath, its pods can be kept away and the machines under them be lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.base import Cluster, ClusterSpec
from pytest_serve_chaos.cluster.capabilities import (
    DELETES_MACHINES,
    DRAINS_MACHINES,
    FREEZES_MACHINES,
    KILLS_MACHINES,
    OUTLIVES_RUNS,
    REMEMBERS_CONNECTIONS,
    SHARES_REDIS,
    Offer,
)
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.client.drain import EVICTED_WITHIN, cordon, evict_all, uncordon
from pytest_serve_chaos.cluster.kubernetes.client.node_objects import register, registration
from pytest_serve_chaos.cluster.kubernetes.client.pod_watch import PodWatch
from pytest_serve_chaos.cluster.kubernetes.client.records import Container, Pod
from pytest_serve_chaos.cluster.kubernetes.kind.nodes import KindNodes
from pytest_serve_chaos.cluster.kubernetes.logs.stream import LogAccess
from pytest_serve_chaos.cluster.kubernetes.rayservice.lost_machines import TakenMachines
from pytest_serve_chaos.cluster.kubernetes.rayservice.process_watch import ProcessWatch
from pytest_serve_chaos.cluster.kubernetes.rayservice.redis_store import RedisStore
from pytest_serve_chaos.cluster.kubernetes.rayservice.removal import RemovalWatch
from pytest_serve_chaos.cluster.kubernetes.rayservice.upgrade import UpgradableRayService
from pytest_serve_chaos.cluster.rest import Dashboard
from pytest_serve_chaos.errors import NoSuchTarget, WaitTimeout
from pytest_serve_chaos.model import HEAD, ClusterDescription, Evidence, Identity, Json


class KindRayService(UpgradableRayService):
    """A RayService on a kind cluster of our own.

    Args:
        spec: Which cluster was wanted.
        nodes: The kind nodes.
        api: The Kubernetes API, in the RayService's namespace.
        ray_cluster: The name of the RayCluster that KubeRay made for it.
        dashboard: The dashboard of its head.
        serve_config: The Serve config that it runs.
        description: What it is, for reports; has the address for traffic.
        redis_selector: Labels of the Redis pod; None where there is none.
        operator_namespace: Where KubeRay's operator is.
        start_beside: Starts a head alone on its Redis: given what it is, and the namespace of its keys.
        on_close: What ends all that was made for it, or leaves it.
        on_vouch: What writes down that it is as it was at first; None where that does not matter.
        ray_service: The RayService's name.
        redis_store: What runs Redis, where there is one.
    """

    def __init__(
        self,
        spec: ClusterSpec,
        nodes: KindNodes,
        *,
        api: KubeApi,
        ray_cluster: str,
        dashboard: Dashboard,
        serve_config: Mapping[str, Json],
        description: ClusterDescription,
        redis_selector: str | None,
        operator_namespace: str,
        start_beside: Callable[[ClusterSpec, str | None], Cluster],
        on_close: Callable[[], None],
        on_vouch: Callable[[], None] | None = None,
        ray_service: str = names.RAY_SERVICE,
        redis_store: RedisStore | None = None,
    ) -> None:
        super().__init__(
            spec,
            api=api,
            ray_service=ray_service,
            ray_cluster=ray_cluster,
            dashboard=dashboard,
            serve_config=serve_config,
            description=description,
            redis_selector=redis_selector,
            container_probe=nodes.container_end,
            pods=PodWatch(api),
            processes=ProcessWatch(api),
            logs=LogAccess(operator_namespace=operator_namespace),
            on_close=on_close,
        )
        self._nodes = nodes
        self.redis_store = redis_store or RedisStore()
        self._start_beside = start_beside
        self._beside: list[Cluster] = []
        self._on_vouch = on_vouch
        self._taken = TakenMachines()
        self._registrations: dict[str, dict[str, Json]] = {}
        self._held: set[str] = set()
        self._dead: frozenset[str] = frozenset()
        self._stopped: frozenset[str] = frozenset()

    def offers(self) -> tuple[Offer, ...]:
        """What it can do."""
        return (
            *super().offers(),
            DELETES_MACHINES.by(self),
            DRAINS_MACHINES.by(self),
            FREEZES_MACHINES.by(self),
            KILLS_MACHINES.by(self),
            OUTLIVES_RUNS.by(self),
            REMEMBERS_CONNECTIONS.by(self),
            SHARES_REDIS.by(self),
        )

    # -- another one --------------------------------------------------------------------------------------------

    def start_beside(self, namespace: str | None = None) -> Cluster:
        """Starts a head alone on the same Redis, as a RayCluster of its own; when it is closed, its keys go, too.

        Args:
            namespace: Under which its GCS keeps its keys; None: its UID, as KubeRay has it.

        Raises:
            Unsupported: The cluster has no Redis.
            ClusterStartError: It did not come up.
        """
        self._check_redis()
        other = self._start_beside(replace(self.spec, workers=0), namespace)
        self._beside.append(other)
        return other

    def close(self) -> None:
        """Ends everything that was made for this cluster, and first the additional clusters that nobody closed."""
        with contextlib.ExitStack() as last_first:
            last_first.callback(super().close)
            for other in self._beside:
                last_first.callback(other.close)

    def vouch(self) -> None:
        """Says that it is as it was at first, so that a later run may take it over as it is."""
        if self._on_vouch is not None:
            self._on_vouch()

    def forget_connections(self) -> None:
        """Drops what the way in knows of connections that no pod has answered."""
        self._nodes.forget_connections()

    # -- pods that stay away ----------------------------------------------------------------------------------

    def kill_node(self, name: str, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Deletes the node's pod; with `hold` no machine takes another head (or another worker) until `restore_node`.

        What runs goes on, and KubeRay still makes the new pod, which then waits for a machine.

        Args:
            name: ``head``, ``worker-1``, ...
            how: ``kill`` deletes by force, ``stop`` gracefully.
            hold: Whether it stays away.

        Raises:
            NoSuchTarget: There is no such pod.
            CommandFailed: The deletion, or the taint, was refused.
            WaitTimeout: The pod was not gone in time.
        """
        if hold:
            self._held.add(name)
            self._nodes.keep_away(_taint(name))
        return super().kill_node(name, how=how, hold=False)

    def restore_node(self, name: str) -> None:
        """Ends a hold. While another worker is held, a worker is still kept away."""
        if name in self._held:
            if _taint(name) not in {_taint(other) for other in self._held - {name}}:
                self._nodes.let_back(_taint(name))
            self._held.discard(name)

    # -- machines ---------------------------------------------------------------------------------------------

    def kill_machine(self, name: str, *, how: Literal["kill", "stop"]) -> Sequence[Evidence]:
        """Ends the container that is the kind node under a Ray node: ``kill`` at once, ``stop`` as a shutdown.

        Raises:
            NoSuchTarget: The Ray node is not running.
            CommandFailed: The machine did not go.
        """
        machine = self._take("kill", name)
        pods = [*(pod for _, pod in self._named_pods()), *self._redis_pods()]
        lost = {container.id for pod in pods if pod.node == machine for container in pod.containers}
        state = self._nodes.end_machine(machine, how)
        at = clock.now()
        # For 40 s or more Kubernetes calls them Running: it hears nothing of a machine, and so takes its last word.
        self._dead |= lost
        return (Evidence(at, "victim", f"Docker says that {machine}, the machine under {name}, is {state}"),)

    def revive_machine(self, name: str) -> None:
        """Starts it again; its pods start again in place."""
        self._taken.give_back("kill", name, self._nodes.start_machine)

    def freeze_machine(self, name: str) -> Sequence[Evidence]:
        """Stops everything on the machine under a Ray node, kubelet and all."""
        machine = self._take("freeze", name)
        state = self._nodes.pause_machine(machine)
        return (Evidence(clock.now(), "victim", f"Docker says that {machine}, the machine under {name}, is {state}"),)

    def thaw_machine(self, name: str) -> None:
        """Resumes it."""
        self._taken.give_back("freeze", name, self._nodes.unpause_machine)

    def delete_machine(self, name: str, *, within: float) -> Sequence[Evidence]:
        """Deletes the Kubernetes node under a Ray node, and waits until its pods and their containers are gone.

        The Node's object goes at once, and nothing happens: its pods go on until Kubernetes collects them, which it
        does 40 to 60 s later, and only if the node has not come back.

        Args:
            name: ``head``, ``worker-1``, ...
            within: Seconds for the pods to go.

        Returns:
            No sign where they were not gone in time.
        """
        machine = self._take("delete", name)
        self._registrations[machine] = registration(self._api, machine)
        watches = self._removals(machine)
        begun = clock.now()
        self._api.call("delete_node", machine, what=f"deletion of node {machine}")
        signs: list[Evidence] = []
        try:
            for watch in watches:
                signs += watch.evidence(by_force=True, within=max(0.0, begun + within - clock.now()))
        except WaitTimeout:
            return ()
        return signs

    def register_machine(self, name: str) -> None:
        """Makes the node's object again, and starts the kubelet, which looks for it only then."""
        self._taken.give_back("delete", name, self._register)

    def drain_machine(self, name: str) -> Sequence[Evidence]:
        """Cordons the Kubernetes node under a Ray node and evicts all pods of our namespace; waits for their end.

        Raises:
            NoSuchTarget: The Ray node is not running.
            CommandFailed: It was refused.
            ObservationError: The API server does not say which pods are on it; nothing was done.
            WaitTimeout: A PodDisruptionBudget did not allow it in time, or they did not go in their grace period.
        """
        machine = self._take("drain", name)
        pods = self._tenants(machine)
        watches = [self._removal(pod_name, pod) for pod_name, pod in pods if self._live(pod)]
        cordon(self._api, machine)
        evict_all(self._api, [pod for _, pod in pods], within=EVICTED_WITHIN)
        return [sign for watch in watches for sign in watch.evidence(by_force=False)]

    def reopen_machine(self, name: str) -> None:
        """Lets pods onto the node again."""
        self._taken.give_back("drain", name, lambda machine: uncordon(self._api, machine))

    def _register(self, machine: str) -> None:
        if machine in self._registrations:
            register(self._api, self._registrations[machine])
        self._nodes.restart_kubelet(machine)

    def _removals(self, machine: str) -> list[RemovalWatch]:
        live = [(name, pod) for name, pod in self._named_pods() if pod.node == machine and self._live(pod)]
        return [self._removal(name, pod) for name, pod in live]

    def _take(self, how: str, name: str) -> str:
        """The machine on which the Ray node is, kept in mind for the way back before anything is done to it."""
        machine = self._running_pod(name).node
        if machine not in self._nodes.ray_nodes():
            raise NoSuchTarget(f"{name} is on {machine}, which is not a machine for faults")
        self._taken.take(how, name, machine)
        return machine

    def _tenants(self, machine: str) -> list[tuple[str, Pod]]:
        """All pods of our namespace on a machine that can be elsewhere: Ray's with their names, then the others."""
        known = {pod.uid: name for name, pod in self._named_pods()}
        # What a DaemonSet runs would come back at once: `kubectl drain` leaves it there.
        pods = [pod for pod in self._api.pods() if pod.node == machine and pod.owner != "DaemonSet"]
        return sorted(((known.get(p.uid, p.name), p) for p in pods), key=lambda found: found[1].uid not in known)

    # -- containers, from their machine -----------------------------------------------------------------------

    def _live(self, pod: Pod) -> Container | None:
        container = super()._live(pod)
        return None if container is None or container.id in self._dead else container

    def _state(self, pod: Pod, container: Container) -> str:
        return "frozen" if container.id in self._stopped else super()._state(pod, container)

    def _signal_container(self, identity: Identity, signal: int) -> None:
        """Signals the first process of a container from its machine, where it is a process like others."""
        pods = [*(pod for _, pod in self._named_pods()), *self._redis_pods()]
        found = [(p, c) for p in pods if (c := self._live(p)) and (p.uid, c.id[:12]) == identity.parts[:2]]
        if not found:
            raise NoSuchTarget(f"{identity} is gone")
        pod, container = found[0]
        stopped = self._nodes.signal_container(pod.node, container.id, signal)
        self._stopped = self._stopped | {container.id} if stopped else self._stopped - {container.id}


def _taint(name: str) -> str:
    return names.NO_HEAD if name == HEAD else names.NO_WORKER
