"""Machines that are Docker containers, as the nodes of kind are."""

from __future__ import annotations

import contextlib
import os
import re
from signal import SIGCONT, SIGSTOP
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.install.stack import Kubectl
from pytest_serve_chaos.cluster.kubernetes.kind.container_tasks import status_on, tasks_on
from pytest_serve_chaos.cluster.kubernetes.kind.first_processes import FirstProcesses
from pytest_serve_chaos.cluster.kubernetes.kind.late_undo import KindLateUndo
from pytest_serve_chaos.cluster.kubernetes.kind.programs import Run
from pytest_serve_chaos.cluster.watchdog import LONGEST_HOLD, Watchdogs
from pytest_serve_chaos.errors import CommandFailed, WaitTimeout

_SHUTDOWN = 30
"""Seconds that a node may take to shut down before it is ended by force."""

_RESUME = (
    'line=$(cat "/proc/$0/stat") && started=$1 && set -- ${line##*) } && [ "${20}" = "$started" ] && kill -CONT "$0"'
)
"""For a shell on a node: resumes a process, given its PID and its start time, if it is that very process."""


class DockerMachines:
    """The nodes of one cluster as Docker containers; implements `kubernetes.machines.Machines`.

    Args:
        run: Runs docker.
        kubectl: Runs kubectl against the cluster.
        control_plane: The node through which connections come in.
        docker: The program docker, as a path: watchdogs run it to repair what nobody has repaired in time.
    """

    def __init__(self, run: Run, kubectl: Kubectl, control_plane: str, *, docker: str = "docker") -> None:
        self._docker = docker
        self._watchdogs = Watchdogs()
        self._run = run
        self._kubectl = kubectl
        self._control_plane = control_plane
        self._first_processes = FirstProcesses(run, kubectl)
        self._late_undo = KindLateUndo(self._watchdogs, docker, control_plane)

    @property
    def late_undo(self) -> KindLateUndo:
        """Undoes changes of the Kubernetes objects that belong to these nodes, if the run cannot."""
        return self._late_undo

    @property
    def witness(self) -> str:
        """Who says in what state a machine is."""
        return "Docker"

    def ray_nodes(self) -> tuple[str, ...]:
        """The nodes for Ray's pods."""
        found = self._kubectl("get", "nodes", "-l", f"{names.ROLE}=ray", "-o", "name").split()
        return tuple(node.removeprefix("node/") for node in found)

    def first_processes(self) -> tuple[int, ...]:
        """The PID of each node's first process on this machine. Has the capability `OnThisMachine`."""
        return self._first_processes.pids()

    def limit_processors(self) -> None:
        """Gives each node for Ray half of this machine's processors at most.

        A Ray that starts takes all that it can get; what is left is for those that serve, and for what measures them.
        """
        half = f"{(os.cpu_count() or 2) / 2:g}"
        self._run("docker", "update", "--cpus", half, *self.ray_nodes())

    def end_watchdogs(self) -> None:
        """Ends all watchdogs of these nodes, those that earlier runs have left too: the nodes are gone."""
        ours = re.compile(
            rf"\w+:{re.escape(self._control_plane.removesuffix('control-plane'))}(control-plane|worker)\d*"
        )
        self._watchdogs.end_all()
        self._watchdogs.end_of_all_runs(lambda claim: ours.fullmatch(claim) is not None)

    def end_machine(self, node: str, how: Literal["kill", "stop"], *, lasts: float | None = None) -> str:
        """Ends the container that a node is, at once (``kill``) or as a shutdown (``stop``); returns its state then.

        Args:
            node: The node.
            how: In which way.
            lasts: Seconds that it is to stay away; soon after them, or after this process, a watchdog on this machine
                starts it.

        Raises:
            CommandFailed: It still runs.
        """
        start = (self._docker, "start", node)
        self._watchdogs.watch(f"ended:{node}", lasts, longest=LONGEST_HOLD, command=start, owned=True)
        command = ("kill",) if how == "kill" else ("stop", "--time", str(_SHUTDOWN))
        self._run("docker", *command, node, timeout=_SHUTDOWN + 30.0)

        return _wait_for_state(self._run, node, "end", "exited")

    def start_machine(self, node: str) -> None:
        """Starts a node that was ended; it registers by itself.

        Raises:
            CommandFailed: It did not start.
        """
        self._run("docker", "start", node)
        self._watchdogs.end_of_all_runs(f"ended:{node}".__eq__)

    def pause_machine(self, node: str, *, lasts: float | None = None) -> str:
        """Stops everything on a node; returns its state then.

        Args:
            node: The node.
            lasts: Seconds that it is to stand still; soon after them a watchdog on this machine resumes it.

        Raises:
            CommandFailed: It was not paused.
        """
        self._watchdogs.watch(f"paused:{node}", lasts, command=(self._docker, "unpause", node))
        self._run("docker", "pause", node)

        return _wait_for_state(self._run, node, "pause", "paused")

    def unpause_machine(self, node: str) -> None:
        """Resumes a paused node.

        Raises:
            CommandFailed: Docker refused.
        """
        if _state(self._run, node).startswith("paused"):
            self._run("docker", "unpause", node)
        self._watchdogs.end_of_all_runs(f"paused:{node}".__eq__)

    def restart_kubelet(self, node: str) -> None:
        """Starts a node's kubelet again: only then does a node register whose object was deleted.

        Raises:
            CommandFailed: It was refused.
        """
        self._run("docker", "exec", node, "systemctl", "restart", "kubelet")

    def container_end(self, node: str, container_id: str) -> str | None:
        """How a container on a node ended, as the node's own runtime says; None while it runs.

        None also if that cannot be found out.
        """
        tasks = tasks_on(self._run, node)
        if tasks is None:
            return None
        state = tasks[container_id].state if container_id in tasks else "gone from the runtime"
        return None if state in ("RUNNING", "CREATED", "PAUSED") else state.lower()

    def signal_container(self, node: str, container_id: str, signal: int, *, lasts: float | None = None) -> bool:
        """Sends a signal to the first process of a container on a node; returns whether it is stopped afterwards.

        Args:
            node: The node.
            container_id: The container.
            signal: The signal's number.
            lasts: For SIGSTOP: seconds that it is to stand still; soon after them a watchdog here resumes it.

        Raises:
            CommandFailed: There is no such container, or it was refused.
        """
        tasks = tasks_on(self._run, node) or {}
        if container_id not in tasks:
            raise CommandFailed(f"container {container_id[:12]} does not run on {node}", checked=[*tasks])
        pid = tasks[container_id].pid
        if signal == SIGSTOP:
            started = status_on(self._run, node, pid)[19]
            resume = (self._docker, "exec", node, "sh", "-c", _RESUME, pid, started)
            self._watchdogs.watch(f"stopped:{container_id}", lasts, command=resume)
        self._run("docker", "exec", node, "kill", f"-{int(signal)}", pid)
        if signal == SIGCONT:
            self._watchdogs.end_of_all_runs(f"stopped:{container_id}".__eq__)
        try:
            return status_on(self._run, node, pid)[0] in ("T", "t")
        except CommandFailed:
            return False  # it was killed

    def forget_connections(self) -> None:
        """Drops the connections through node ports that no pod has answered.

        The kernel keeps each for two minutes (`nf_conntrack_tcp_timeout_syn_sent`), with the pod that kube-proxy chose
        for it. A new connection that happens to have its port is led to that pod as well, also if it is gone by then. A
        node image without `conntrack` keeps them.
        """
        drop = ("conntrack", "--delete", "--proto", "tcp", "--state", "SYN_SENT")
        with contextlib.suppress(CommandFailed):  # its exit status is 1 also where there are none
            self._run("docker", "exec", self._control_plane, *drop)


def _state(run: Run, node: str) -> str:
    return run("docker", "inspect", "--format", "{{.State.Status}} ({{.State.ExitCode}})", node).strip()


def _wait_for_state(run: Run, node: str, verb: str, wanted: str) -> str:
    """Waits until Docker says that a node is in that state; returns it as it says it.

    Raises:
        CommandFailed: It does not come into it.
    """

    def there() -> str | NotYet:
        state = _state(run, node)
        return state if state.startswith(wanted) else NotYet(state)

    try:
        return clock.wait_until(f"{node} to {verb}", there, timeout=10.0, interval=0.1)
    except WaitTimeout as error:
        raise CommandFailed(f"the machine {node} did not {verb}", checked=[str(error)]) from error
