"""Faults on the machines under Ray nodes: ended, frozen, their Node objects deleted, drained.

Which machines these are is kept in mind until it is undone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.kubernetes.client.drain import (
    EVICTED_WITHIN,
    CordonNote,
    cordon,
    evict_all,
    uncordon,
)
from pytest_serve_chaos.cluster.kubernetes.client.node_objects import register, registration
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod
from pytest_serve_chaos.cluster.kubernetes.machines import Machines
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.view import RayServiceView
from pytest_serve_chaos.errors import NoSuchTarget, ServeChaosError, WaitTimeout
from pytest_serve_chaos.model import Evidence, Identity, Json


class TakenMachines:
    """Which machine was under a Ray node when it was taken. Safe to use from several threads.

    A Ray node's name does not tell later: the next ``worker-1`` is on another machine, which may be taken, too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[tuple[str, str], list[str]] = {}

    def take(self, how: str, name: str, machine: str) -> None:
        """Keeps in mind that this is done to the machine under a Ray node.

        Args:
            how: What: ``kill``, ``freeze``, ``delete`` or ``drain``.
            name: The Ray node.
            machine: The machine.
        """
        with self._lock:
            self._taken.setdefault((how, name), []).append(machine)

    def give_back(self, how: str, name: str, undo: Callable[[str], None]) -> None:
        """Undoes it for the machine that was taken last; does nothing where none is.

        Where that fails, it stays in mind, and those before it are given back now, so that none is lost behind it.

        Raises:
            ServeChaosError: What `undo` raised.
        """
        failed: ServeChaosError | None = None
        with self._lock:
            taken = self._taken.get((how, name), [])
            for number in reversed(range(len(taken))):
                try:
                    undo(taken[number])
                except ServeChaosError as error:
                    failed = failed or error
                    continue
                del taken[number]
                if failed is None:
                    return
        if failed is not None:
            raise failed

    def left(self, how: str) -> list[str]:
        """The machines to which this was done and which were not given back."""
        with self._lock:
            return sorted(m for (done, _), machines in self._taken.items() if done == how for m in machines)

    def give_all_back(self, how: str, undo: Callable[[str], None]) -> None:
        """Undoes it for all of them, whatever Ray node they were under; one that fails keeps no other.

        Raises:
            ServeChaosError: What `undo` raised first; then some are left.
        """
        failed: ServeChaosError | None = None
        with self._lock:
            names = [name for (done, name), machines in self._taken.items() if done == how for _ in machines]
        for name in names:
            try:
                self.give_back(how, name, undo)
            except ServeChaosError as error:
                failed = failed or error
        if failed is not None:
            raise failed


class _Targets:
    """The machines under Ray nodes, each kept in mind for the way back before anything is done to it."""

    def __init__(self, pods: RayPods, machines: Machines) -> None:
        self._pods = pods
        self._machines = machines
        self._taken = TakenMachines()

    def take(self, how: str, name: str) -> str:
        """The machine on which the Ray node is.

        Raises:
            NoSuchTarget: The Ray node is not running, or its machine is not one for faults.
        """
        machine = self._pods.running(name).node
        if machine not in self._machines.ray_nodes():
            raise NoSuchTarget(f"{name} is on {machine}, which is not a machine for faults")
        self._taken.take(how, name, machine)
        return machine

    def give_back(self, how: str, name: str, undo: Callable[[str], None]) -> None:
        """Undoes it; does nothing where nothing was done."""
        self._taken.give_back(how, name, undo)


class MachineFaults:
    """Ends machines, and freezes them. Has the capabilities `KillsMachines` and `FreezesMachines`.

    Args:
        pods: The RayService's pods.
        machines: The machines.
    """

    def __init__(self, pods: RayPods, machines: Machines) -> None:
        self._pods = pods
        self._machines = machines
        self._targets = _Targets(pods, machines)

    def kill_machine(
        self, name: str, *, how: Literal["kill", "stop"], lasts: float | None = None
    ) -> Sequence[Evidence]:
        """Ends the machine under a Ray node: ``kill`` at once, ``stop`` as a shutdown.

        Args:
            name: The Ray node.
            how: In which way.
            lasts: Seconds that it is to stay away.

        Raises:
            NoSuchTarget: The Ray node is not running.
            CommandFailed: The machine did not go.
        """
        machine = self._targets.take("kill", name)
        pods = [*(pod for _, pod in self._pods.named()), *self._pods.redis()]
        lost = {container.id for pod in pods if pod.node == machine for container in pod.containers}
        state = self._machines.end_machine(machine, how, lasts=lasts)
        at = clock.now()
        # For 40 s or more Kubernetes calls them Running: it hears nothing of a machine, and so takes its last word.
        self._pods.lose(lost)
        return (self._sign(at, machine, name, state),)

    def revive_machine(self, name: str) -> None:
        """Starts it again; its pods start again in place."""
        self._targets.give_back("kill", name, self._machines.start_machine)

    def freeze_machine(self, name: str, *, lasts: float | None = None) -> Sequence[Evidence]:
        """Stops everything on the machine under a Ray node, kubelet and all, for so many seconds."""
        machine = self._targets.take("freeze", name)
        state = self._machines.pause_machine(machine, lasts=lasts)
        return (self._sign(clock.now(), machine, name, state),)

    def thaw_machine(self, name: str) -> None:
        """Resumes it."""
        self._targets.give_back("freeze", name, self._machines.unpause_machine)

    def _sign(self, at: float, machine: str, name: str, state: str) -> Evidence:
        said = f"{self._machines.witness} says that {machine}, the machine under {name}, is {state}"
        return Evidence(at, "victim", said)


class NodeDeletions:
    """Deletes Kubernetes nodes. Has the capability `DeletesMachines`.

    Args:
        view: The RayService.
        machines: The machines.
    """

    def __init__(self, view: RayServiceView, machines: Machines) -> None:
        self._api = view.api
        self._pods = view.pods
        self._removals = view.removals
        self._machines = machines
        self._targets = _Targets(view.pods, machines)
        self._registrations: dict[str, dict[str, Json]] = {}

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
        machine = self._targets.take("delete", name)
        self._registrations[machine] = registration(self._api, machine)
        self._machines.late_undo.of_deletion(self._registrations[machine])
        watches = [self._removals.of(n, pod) for n, pod, _ in self._pods.live_named() if pod.node == machine]
        begun = clock.now()
        self._api.nodes.delete(machine)
        signs: list[Evidence] = []
        try:
            for watch in watches:
                signs += watch.evidence(by_force=True, within=max(0.0, begun + within - clock.now()))
        except WaitTimeout:
            return ()
        return signs

    def register_machine(self, name: str) -> None:
        """Makes the node's object again, and starts the kubelet, which looks for it only then."""
        self._targets.give_back("delete", name, self._register)

    def _register(self, machine: str) -> None:
        if machine in self._registrations:
            register(self._api, self._registrations[machine])
        self._machines.restart_kubelet(machine)
        self._machines.late_undo.not_needed(machine)


class NodeDrains:
    """Drains Kubernetes nodes of a cluster of our own. Has the capability `DrainsMachines`.

    Args:
        view: The RayService.
        machines: The machines.
    """

    def __init__(self, view: RayServiceView, machines: Machines) -> None:
        self._api = view.api
        self._pods = view.pods
        self._removals = view.removals
        self._targets = _Targets(view.pods, machines)
        self._late_undo = machines.late_undo
        self._note = str(CordonNote(f"{view.api.namespace}/{view.ref.ray_service}"))

    def drain_machine(self, name: str) -> Sequence[Evidence]:
        """Cordons the Kubernetes node under a Ray node and evicts all pods of our namespace; waits for their end.

        Raises:
            NoSuchTarget: The Ray node is not running.
            CommandFailed: It was refused.
            ObservationError: The API server does not say which pods are on it; nothing was done.
            WaitTimeout: A PodDisruptionBudget did not allow it in time, or they did not go in their grace period.
        """
        machine = self._targets.take("drain", name)
        pods = self._tenants(machine)
        watches = [self._removals.of(pod_name, pod) for pod_name, pod in pods if self._pods.live(pod)]
        self._late_undo.of_cordon(machine)
        cordon(self._api, machine, note=self._note)
        evict_all(self._api, [pod for _, pod in pods], within=EVICTED_WITHIN)
        return [sign for watch in watches for sign in watch.evidence(by_force=False)]

    def reopen_machine(self, name: str) -> None:
        """Lets pods onto the node again."""
        self._targets.give_back("drain", name, self._open)

    def _open(self, machine: str) -> None:
        uncordon(self._api, machine)
        self._late_undo.not_needed(machine)

    def _tenants(self, machine: str) -> list[tuple[str, Pod]]:
        """All pods of our namespace on a machine that can be elsewhere: Ray's with their names, then the others."""
        known = {pod.uid: name for name, pod in self._pods.named()}
        # What a DaemonSet runs would come back at once: `kubectl drain` leaves it there.
        pods = [pod for pod in self._api.pods() if pod.node == machine and pod.owner != "DaemonSet"]
        return sorted(((known.get(p.uid, p.name), p) for p in pods), key=lambda found: found[1].uid not in known)


class ContainerSignals:
    """Signals the first process of a container from its machine, where it is a process like others.

    Args:
        pods: The RayService's pods.
        machines: The machines.
    """

    def __init__(self, pods: RayPods, machines: Machines) -> None:
        self._pods = pods
        self._machines = machines

    def send(self, identity: Identity, signal: int, lasts: float | None) -> None:
        """Sends the signal.

        Args:
            identity: The container.
            signal: The signal's number.
            lasts: For SIGSTOP: seconds that it is to stand still.

        Raises:
            NoSuchTarget: The container does not run any more.
            CommandFailed: It was refused.
        """
        pod, container = self._pods.with_container(identity)
        stopped = self._machines.signal_container(pod.node, container.id, signal, lasts=lasts)
        self._pods.stop(container.id, stopped=stopped)
