"""The machines under a cluster's pods, as faults need them: what a way of making clusters has to provide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from pytest_serve_chaos.model import Json


class Taints(Protocol):
    """Makes machines refuse pods."""

    def keep_away(self, taint: str) -> None:
        """No machine for Ray takes a new pod any more that does not tolerate that taint.

        Raises:
            CommandFailed: It was refused.
        """
        ...

    def let_back(self, taint: str) -> None:
        """Removes the taint from all machines that have it.

        Raises:
            CommandFailed: It was refused.
        """
        ...


class LateUndo(Protocol):
    """Undoes changes of Kubernetes objects in place of a run that cannot do so any more.

    Each method is called before the change. So the object must be as it was when nobody is alive who knows of it:
    neither a taint, nor a cordon, nor a number of replicas has an end of its own in Kubernetes.
    """

    def of_taint(self, taint: str) -> None:
        """Will remove a taint from all machines that have it.

        Raises:
            CommandFailed: Nothing would do so; the change must not be made.
        """
        ...

    def of_cordon(self, node: str) -> None:
        """Will let pods onto a machine again. Raises: as `of_taint`."""
        ...

    def of_deletion(self, registration: Mapping[str, Json]) -> None:
        """Will register a Kubernetes node again as it was, and start its kubelet. Raises: as `of_taint`."""
        ...

    def of_scaling(self, workload: str, namespace: str, replicas: int) -> None:
        """Will have a workload (``deployment/redis``) want so many pods again. Raises: as `of_taint`."""
        ...

    def not_needed(self, what: str) -> None:
        """The change of that taint, node or workload is undone."""
        ...


class Machines(Protocol):
    """The machines of one cluster, each by the name of its Kubernetes node.

    `kind` implements it with the Docker containers that are its nodes; another way of making clusters (k3d, virtual
    machines) implements it once, and all faults on machines work there.
    """

    @property
    def late_undo(self) -> LateUndo:
        """Undoes changes of the Kubernetes objects that belong to them, if the run cannot."""
        ...

    @property
    def witness(self) -> str:
        """Who says in what state a machine is: ``Docker``."""
        ...

    def ray_nodes(self) -> tuple[str, ...]:
        """The machines for Ray's pods: only these are broken."""
        ...

    def first_processes(self) -> tuple[int, ...]:
        """PIDs, on the machine that tests run on, of the first process of each node; those elsewhere have none here."""
        ...

    def end_machine(self, node: str, how: Literal["kill", "stop"], *, lasts: float | None = None) -> str:
        """Ends a machine, at once (``kill``) or as a shutdown (``stop``); returns its state then, in words.

        Args:
            node: The machine.
            how: In which way.
            lasts: Seconds that it is to stay away, after which something of this machine starts it whatever has become
                of the run; None: nobody knows, so that it does so long after.

        Raises:
            CommandFailed: It still runs.
        """
        ...

    def start_machine(self, node: str) -> None:
        """Starts a machine that was ended; it registers by itself.

        Raises:
            CommandFailed: It did not start.
        """
        ...

    def pause_machine(self, node: str, *, lasts: float | None = None) -> str:
        """Stops everything on a machine; returns its state then, in words.

        Args:
            node: The machine.
            lasts: Seconds that it is to stand still, as those of `end_machine`.

        Raises:
            CommandFailed: It was not paused.
        """
        ...

    def unpause_machine(self, node: str) -> None:
        """Resumes a machine; does nothing for one that is not paused.

        Raises:
            CommandFailed: It was refused.
        """
        ...

    def restart_kubelet(self, node: str) -> None:
        """Starts a machine's kubelet again: only then does a node register whose object was deleted.

        Raises:
            CommandFailed: It was refused.
        """
        ...

    def container_end(self, node: str, container_id: str) -> str | None:
        """How a container on a machine ended; None while it runs, and where that cannot be found out."""
        ...

    def signal_container(self, node: str, container_id: str, signal: int, *, lasts: float | None = None) -> bool:
        """Sends a signal to the first process of a container; returns whether that is stopped afterwards.

        Args:
            node: The machine on which it is.
            container_id: The container.
            signal: The signal's number.
            lasts: For SIGSTOP: seconds that it is to stand still, as those of `end_machine`.

        Raises:
            CommandFailed: There is no such container, or it was refused.
        """
        ...

    def forget_connections(self) -> None:
        """Drops the connections into the cluster that no pod has answered."""
        ...
