"""Faults of whole Ray nodes: their pods are deleted, kept away, or stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.capabilities import KillsNodes
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.cluster.kubernetes.in_pod import freeze
from pytest_serve_chaos.cluster.kubernetes.machines import LateUndo, Taints
from pytest_serve_chaos.cluster.kubernetes.rayservice.pods import RayPods
from pytest_serve_chaos.cluster.kubernetes.rayservice.programs import answer_of, freeze_program
from pytest_serve_chaos.cluster.kubernetes.rayservice.removal import Removals
from pytest_serve_chaos.errors import CommandFailed, NoSuchTarget, Unsupported
from pytest_serve_chaos.model import HEAD, Evidence


class PodDeletions:
    """Takes Ray nodes down by deleting their pods. Has the capability `KillsNodes`.

    Args:
        api: The Kubernetes API.
        pods: The pods.
        removals: Watches them go.
    """

    def __init__(self, api: KubeApi, pods: RayPods, removals: Removals) -> None:
        self._api = api
        self._pods = pods
        self._removals = removals

    def kill_node(self, name: str, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Deletes the node's pod and waits until nothing of it is left; KubeRay makes another one by itself.

        Args:
            name: ``head``, ``worker-1``, ...
            how: ``kill`` deletes by force (grace 0): the API forgets the pod at once, and the kubelet, when it hears of
                it, sends SIGTERM to its containers, and SIGKILL 2 s later. ``stop`` deletes gracefully.
            hold: Must be False.

        Raises:
            Unsupported: It was to be kept down.
            NoSuchTarget: There is no such pod.
            CommandFailed: The deletion was refused.
            WaitTimeout: The pod was not gone in time.
        """
        if hold:
            raise Unsupported(
                f"{name} cannot be kept down: KubeRay makes a new pod at once",
                fix=["run it without hold", "or use the backend `local`, where a node can stay down"],
            )
        pod = self._pods.running(name)
        watch = self._removals.of(name, pod)
        self._api.delete_pod(pod.name, pod.uid, grace=0 if how == "kill" else None)
        return watch.evidence(by_force=how == "kill")

    def restore_node(self, name: str) -> None:
        """Does nothing: no node is ever held."""


class HeldNodes:
    """The same where machines can refuse pods, so that a node can be kept down. Has the capability `KillsNodes`.

    Args:
        deletions: Takes them down.
        taints: Makes the machines refuse pods.
        late_undo: Lets them take pods again if the run cannot.
    """

    def __init__(self, deletions: KillsNodes, taints: Taints, late_undo: LateUndo) -> None:
        self._deletions = deletions
        self._taints = taints
        self._late_undo = late_undo
        self._held: set[str] = set()

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
            self._late_undo.of_taint(_taint(name))
            self._taints.keep_away(_taint(name))
        return self._deletions.kill_node(name, how=how, hold=False)

    def restore_node(self, name: str) -> None:
        """Ends a hold. While another worker is held, a worker is still kept away."""
        if name in self._held:
            if _taint(name) not in {_taint(other) for other in self._held - {name}}:
                self._taints.let_back(_taint(name))
                self._late_undo.not_needed(_taint(name))
            self._held.discard(name)


class NodeFreezes:
    """Stops the processes of Ray nodes, by programs in their pods. Has the capability `FreezesNodes`.

    Args:
        api: The Kubernetes API.
        pods: The pods.
    """

    def __init__(self, api: KubeApi, pods: RayPods) -> None:
        self._api = api
        self._pods = pods

    def freeze_node(self, name: str, *, lasts: float | None = None) -> Sequence[Evidence]:
        """Stops every process in the node's container but PID 1, which takes no SIGSTOP from inside.

        PID 1 is `ray start --block`, or the shell around it: it waits for the others and does nothing else.

        Args:
            name: ``head``, ``worker-1``, ...
            lasts: Seconds that they are to stand still. A watchdog in the container resumes them soon after.

        Raises:
            NoSuchTarget: The node is not running.
            CommandFailed: Some of them could not be stopped.
        """
        pod, program = self._pods.running(name), freeze_program("stop", freeze.ALL, lasts=lasts)
        said = answer_of(self._api, pod, *program, keys=("left", "processes"))
        if said["left"] or not said["processes"]:
            raise CommandFailed(f"{name} could not be frozen", checked=[f"PIDs that still run: {said['left']}"])
        what = f"all {said['processes']} processes that PID 1 of {name} has started are stopped (state T)"
        return (Evidence(clock.now(), "victim", what),)

    def thaw_node(self, name: str) -> None:
        """Resumes them; a container that was started since then has no stopped processes.

        Raises:
            CommandFailed: Some of them are still stopped.
        """
        try:
            pod = self._pods.running(name)
            said = answer_of(self._api, pod, *freeze_program("go", freeze.ALL), keys=("left",))
        except NoSuchTarget:
            return
        if said["left"]:
            raise CommandFailed(f"{name} is still frozen", checked=[f"PIDs that are still stopped: {said['left']}"])


def _taint(name: str) -> str:
    return names.NO_HEAD if name == HEAD else names.NO_WORKER
