"""Machines that are Docker containers, as the nodes of kind are."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.install.stack import Kubectl
from pytest_serve_chaos.cluster.kubernetes.kind.programs import Run
from pytest_serve_chaos.cluster.watchdog import LONGEST_HOLD, Watchdogs
from pytest_serve_chaos.errors import CommandFailed, WaitTimeout

_SHUTDOWN = 30
"""Seconds that a node may take to shut down before it is ended by force."""

_RESUME = (
    'line=$(cat "/proc/$0/stat") && started=$1 && set -- ${line##*) } && [ "${20}" = "$started" ] && kill -CONT "$0"'
)
"""For a shell on a node: resumes a process, given its PID and its start time, if it is that very process."""


@dataclass(frozen=True, slots=True)
class _Task:
    """A container as its runtime has it: the PID of its first process on the node, and its state."""

    pid: str
    state: str


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
        self._nodes: tuple[str, ...] = ()
        self._pids: tuple[int, ...] = ()
        self._elsewhere = False

    @property
    def witness(self) -> str:
        """Who says in what state a machine is."""
        return "Docker"

    def ray_nodes(self) -> tuple[str, ...]:
        """The nodes for Ray's pods."""
        found = self._kubectl("get", "nodes", "-l", f"{names.ROLE}=ray", "-o", "name").split()
        return tuple(node.removeprefix("node/") for node in found)

    def first_processes(self) -> tuple[int, ...]:
        """The PID of each node's first process on this machine.

        Docker is asked again while a node has none, and when one of them has ended. Where Docker runs elsewhere (in a
        virtual machine, on another host) its PIDs mean nothing here, so only those count that are an `init`.
        """
        if not self._elsewhere and not self._all_run():
            with contextlib.suppress(CommandFailed):
                self._ask_for_first_processes()
        return self._pids

    def _all_run(self) -> bool:
        return bool(self._nodes) and len(self._pids) == len(self._nodes) and all(map(_is_init, self._pids))

    def _ask_for_first_processes(self) -> None:
        if not self._nodes:  # only once: a node that Kubernetes forgets still has its machine
            found = self._kubectl("get", "nodes", "-o", "name").split()
            self._nodes = tuple(node.removeprefix("node/") for node in found)
        words = self._run("docker", "inspect", "--format", "{{.State.Pid}}", *self._nodes).split()
        if not all(word.isdecimal() for word in words):
            raise CommandFailed(f"Docker does not say which processes the nodes are: {' '.join(words)[:80]!r}")
        said = [int(pid) for pid in words]
        self._pids = tuple(filter(_is_init, said))
        self._elsewhere = all(said) and not self._pids

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
            lasts: Seconds that it is to stay away; soon after them a watchdog on this machine starts it.

        Raises:
            CommandFailed: It still runs.
        """
        start = (self._docker, "start", node)
        self._watchdogs.watch(f"ended:{node}", lasts, longest=LONGEST_HOLD, command=start)
        command = ("kill",) if how == "kill" else ("stop", "--time", str(_SHUTDOWN))
        self._run("docker", *command, node, timeout=_SHUTDOWN + 30.0)

        def ended() -> str | NotYet:
            state = self._machine_state(node)
            return state if state.startswith("exited") else NotYet(state)

        return self._wait_machine(node, "end", ended)

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

        def paused() -> str | NotYet:
            state = self._machine_state(node)
            return state if state.startswith("paused") else NotYet(state)

        return self._wait_machine(node, "pause", paused)

    def unpause_machine(self, node: str) -> None:
        """Resumes a paused node.

        Raises:
            CommandFailed: Docker refused.
        """
        if self._machine_state(node).startswith("paused"):
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

        None also if that cannot be found out. It asks containerd itself, since `crictl` is not in every node image.
        """
        tasks = self._tasks(node)
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
        tasks = self._tasks(node) or {}
        if container_id not in tasks:
            raise CommandFailed(f"container {container_id[:12]} does not run on {node}", checked=[*tasks])
        pid = tasks[container_id].pid
        if signal == SIGSTOP:
            started = self._status(node, pid)[19]
            resume = (self._docker, "exec", node, "sh", "-c", _RESUME, pid, started)
            self._watchdogs.watch(f"stopped:{container_id}", lasts, command=resume)
        self._run("docker", "exec", node, "kill", f"-{int(signal)}", pid)
        if signal == SIGCONT:
            self._watchdogs.end_of_all_runs(f"stopped:{container_id}".__eq__)
        try:
            return self._status(node, pid)[0] in ("T", "t")
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

    def _tasks(self, node: str) -> dict[str, _Task] | None:
        """Container id -> task of all containers on a node; None where its runtime does not tell."""
        try:
            listed = self._run("docker", "exec", node, "ctr", "--namespace", "k8s.io", "tasks", "ls", timeout=10.0)
        except CommandFailed:
            return None
        header, *tasks = [line.split() for line in listed.splitlines() if line.strip()] or [[]]
        if header[:1] != ["TASK"]:
            return None
        return {task[0]: _Task(task[1], task[-1]) for task in tasks if len(task) >= 3}

    def _status(self, node: str, pid: str) -> list[str]:
        """The state of a process on a node, and what follows it in /proc; the 20th of these is its start time."""
        status = self._run("docker", "exec", node, "cat", f"/proc/{pid}/stat", timeout=10.0)
        return status.rpartition(")")[2].split()

    def _machine_state(self, node: str) -> str:
        return self._run("docker", "inspect", "--format", "{{.State.Status}} ({{.State.ExitCode}})", node).strip()

    def _wait_machine(self, node: str, verb: str, probe: Callable[[], str | NotYet]) -> str:
        try:
            return clock.wait_until(f"{node} to {verb}", probe, timeout=10.0, interval=0.1)
        except WaitTimeout as error:
            raise CommandFailed(f"the machine {node} did not {verb}", checked=[str(error)]) from error


def _is_init(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() in ("systemd", "init")
    except OSError:
        return False
