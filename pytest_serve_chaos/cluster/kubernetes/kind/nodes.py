"""The nodes of a kind cluster: made, filled with images, looked into and deleted.

The only module that imports `pytest_kind`, and that only when a cluster is made.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_serve_chaos import clock, manifests
from pytest_serve_chaos.clock import NotYet
from pytest_serve_chaos.cluster import commands
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.kind.programs import Programs
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed, WaitTimeout
from pytest_serve_chaos.model import Json

_CREATED = 900.0
"""Seconds for making the nodes; their image may have to be pulled first."""
_DELETED = 180.0
"""Seconds for deleting them."""
_LOADED = 600.0
"""Seconds for copying images onto nodes."""

_SHUTDOWN = 30
"""Seconds that a node may take to shut down before it is ended by force."""


@dataclass(frozen=True, slots=True)
class _Task:
    """A container as its runtime has it: the PID of its first process on the node, and its state."""

    pid: str
    state: str


def free_ports(number: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody has; they are all held until all are found, so no two are equal."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


class KindNodes:
    """The nodes of one kind cluster.

    Args:
        name: The cluster's name.
        image: The nodes' image; None takes kind's own.
        directory: Where config, kubeconfig and logs are kept.
        programs: docker, kind and kubectl.
    """

    def __init__(self, name: str, image: str | None, directory: Path, programs: Programs) -> None:
        self.name = name
        self.kubeconfig = directory / "kubeconfig"
        self.log = directory / "kind.log"
        self._config = directory / "kind-config.yaml"
        self._pid = directory / "kind.pid"
        self._programs = programs
        self._kind = self._pytest_kind(image, directory)

    @property
    def control_plane(self) -> str:
        """The node for all that no fault touches."""
        return f"{self.name}-control-plane"

    @property
    def witness(self) -> str:
        """Who says in what state a machine is."""
        return "Docker"

    def kind_version(self) -> str:
        """What kind says of itself; it decides which node image is kind's own."""
        return " ".join(self._run("kind", "version").split()[:2])

    def image_id(self, image: str) -> str:
        """The beginning of Docker's id for an image; "" where it does not have it."""
        try:
            found = self._run("docker", "image", "inspect", "--format", "{{.Id}}", image)
            return found.strip().removeprefix("sha256:")[:16]
        except CommandFailed:
            return ""

    def image_environment(self, image: str) -> dict[str, str] | None:
        """The environment that an image sets; None where Docker does not have that image."""
        try:
            said = self._run("docker", "image", "inspect", "--format", "{{json .Config.Env}}", image)
        except CommandFailed:
            return None
        return dict(variable.split("=", 1) for variable in json.loads(said or "null") or ())

    def exists(self) -> bool:
        """Whether kind knows a cluster of that name."""
        return self.name in self._run("kind", "get", "clusters").split()

    def create(self, config: Mapping[str, Json]) -> None:
        """Makes the nodes; the control plane is up when it returns, the nodes may not be Ready yet.

        Raises:
            ClusterStartError: kind failed.
        """
        self._config.write_text(manifests.dump((dict(config),)), encoding="utf-8")
        try:
            # `KindCluster` itself waits for kind without a deadline.
            with commands.killed_after(_CREATED, self._pid, log=self.log):
                self._kind.create(self._config)
        except (OSError, subprocess.SubprocessError) as error:
            raise ClusterStartError(
                f"kind did not create the cluster {self.name}: {error}", checked=[self._end_of_log(), str(self.log)]
            ) from error

    def limit_processors(self) -> None:
        """Gives each node for Ray half of this machine's processors at most.

        A Ray that starts takes all that it can get; what is left is for those that serve, and for what measures them.
        """
        half = f"{(os.cpu_count() or 2) / 2:g}"
        self._run("docker", "update", "--cpus", half, *self.ray_nodes())

    def export_kubeconfig(self) -> None:
        """Writes the kubeconfig of a cluster that an earlier run made.

        Raises:
            CommandFailed: There is none; its control plane does not run, or was never finished.
        """
        self._run("kind", "export", "kubeconfig", "--name", self.name, "--kubeconfig", str(self.kubeconfig))

    def machines(self) -> dict[str, str]:
        """The container of each node, and Docker's word for its state: ``running``, ``paused``, ``exited``."""
        label, form = f"label=io.x-k8s.kind.cluster={self.name}", "{{.Names}} {{.State}}"
        lines = self._run("docker", "ps", "--all", "--filter", label, "--format", form).splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def publishes(self, *node_ports: int) -> bool:
        """Whether the control plane was made with these node ports on this machine; it need not run."""
        form = "{{json .HostConfig.PortBindings}}"
        try:
            bindings = json.loads(self._run("docker", "inspect", "--format", form, self.control_plane))
        except (CommandFailed, ValueError):
            return False
        return all(f"{port}/tcp" in (bindings or {}) for port in node_ports)

    def host_port(self, node_port: int) -> int:
        """The port on 127.0.0.1 that leads to a node port."""
        line = self._run("docker", "port", self.control_plane, f"{node_port}/tcp")
        return int(line.split()[0].rpartition(":")[2])

    def ray_nodes(self) -> tuple[str, ...]:
        """The nodes for Ray's pods."""
        found = self.kubectl("get", "nodes", "-l", f"{names.ROLE}=ray", "-o", "name").split()
        return tuple(node.removeprefix("node/") for node in found)

    def load(self, images: Sequence[str], nodes: Sequence[str]) -> tuple[str, ...]:
        """Copies those images that Docker has onto nodes; kind leaves out the nodes that have them.

        Returns:
            The images that Docker does not have; the nodes will pull them.

        Raises:
            CommandFailed: They could not be copied.
        """
        here = [image for image in images if self.image_id(image)]
        if here and nodes:
            options = ("--name", self.name, "--nodes", ",".join(nodes))
            try:
                self._run("kind", "load", "docker-image", *options, *here, timeout=_LOADED)
            except CommandFailed as error:
                self._load_archive(here, options, error)
        return tuple(image for image in images if image not in here)

    def _load_archive(self, images: Sequence[str], options: Sequence[str], refusal: CommandFailed) -> None:
        """Copies images by way of a file, with this machine's platform alone.

        Docker's containerd image store, the default since Docker 29, saves an image with the index of all its
        platforms, of which it has one. kind wants all: https://github.com/kubernetes-sigs/kind/issues/3795.
        """
        with tempfile.TemporaryDirectory(prefix="serve-chaos-images-") as directory:
            archive = str(Path(directory, "images.tar"))
            try:
                platform = self._run("docker", "version", "--format", "{{.Server.Os}}/{{.Server.Arch}}").strip()
                save = ("image", "save", "--platform", platform, "--output", archive)
                self._run("docker", *save, *images, timeout=_LOADED)
                self._run("kind", "load", "image-archive", *options, archive, timeout=_LOADED)
            except CommandFailed as error:
                raise CommandFailed(
                    f"{', '.join(images)} could not be copied onto the nodes",
                    checked=[*refusal.checked, *error.checked],
                    fix=["check that the disk has room", "or give images that only the nodes pull, not Docker"],
                ) from refusal

    def kubectl(self, *arguments: str, timeout: float = 60.0) -> str:
        """Runs kubectl against the cluster and returns what it printed.

        Raises:
            CommandFailed: It failed, or took too long.
        """
        return self._run("kubectl", "--kubeconfig", str(self.kubeconfig), *arguments, timeout=timeout)

    def container_end(self, node: str, container_id: str) -> str | None:
        """How a container on a node ended, as the node's own runtime says; None while it runs.

        None also if that cannot be found out. It asks containerd itself, since `crictl` is not in every node image.
        """
        tasks = self._tasks(node)
        if tasks is None:
            return None
        state = tasks[container_id].state if container_id in tasks else "gone from the runtime"
        return None if state in ("RUNNING", "CREATED", "PAUSED") else state.lower()

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

    # -- faults -----------------------------------------------------------------------------------------------

    def keep_away(self, taint: str) -> None:
        """No node for Ray takes a new pod any more that does not tolerate that taint.

        Raises:
            CommandFailed: kubectl failed.
        """
        self.kubectl("taint", "nodes", "-l", f"{names.ROLE}=ray", f"{taint}=held:NoSchedule", "--overwrite")

    def let_back(self, taint: str) -> None:
        """Takes the taint away from all nodes that have it.

        Raises:
            CommandFailed: kubectl failed.
        """
        keys = 'jsonpath={range .items[*]}{.metadata.name}{" "}{.spec.taints[*].key}{"\\n"}{end}'
        for line in self.kubectl("get", "nodes", "-o", keys).splitlines():
            node, *found = line.split() or [""]
            if taint in found:
                self.kubectl("taint", "nodes", node, f"{taint}:NoSchedule-")

    def end_machine(self, node: str, how: Literal["kill", "stop"]) -> str:
        """Ends the container that a node is, at once (``kill``) or as a shutdown (``stop``); returns its state then.

        Raises:
            CommandFailed: It still runs.
        """
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

    def pause_machine(self, node: str) -> str:
        """Stops everything on a node; returns its state then.

        Raises:
            CommandFailed: It was not paused.
        """
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

    def restart_kubelet(self, node: str) -> None:
        """Starts a node's kubelet again: only then does a node register whose object was deleted.

        Raises:
            CommandFailed: It was refused.
        """
        self._run("docker", "exec", node, "systemctl", "restart", "kubelet")

    def signal_container(self, node: str, container_id: str, signal: int) -> bool:
        """Sends a signal to the first process of a container on a node; returns whether it is stopped afterwards.

        Raises:
            CommandFailed: There is no such container, or it was refused.
        """
        tasks = self._tasks(node) or {}
        if container_id not in tasks:
            raise CommandFailed(f"container {container_id[:12]} does not run on {node}", checked=[*tasks])
        pid = tasks[container_id].pid
        self._run("docker", "exec", node, "kill", f"-{int(signal)}", pid)
        try:
            status = self._run("docker", "exec", node, "cat", f"/proc/{pid}/stat", timeout=10.0)
        except CommandFailed:
            return False  # it was killed
        return status.rpartition(")")[2].split()[0] in ("T", "t")

    def forget_connections(self) -> None:
        """Drops the connections through node ports that no pod has answered.

        The kernel keeps each for two minutes (`nf_conntrack_tcp_timeout_syn_sent`), with the pod that kube-proxy chose
        for it. A new connection that happens to have its port is led to that pod as well, also if it is gone by then. A
        node image without `conntrack` keeps them.
        """
        drop = ("conntrack", "--delete", "--proto", "tcp", "--state", "SYN_SENT")
        with contextlib.suppress(CommandFailed):  # its exit status is 1 also where there are none
            self._run("docker", "exec", self.control_plane, *drop)

    def _machine_state(self, node: str) -> str:
        return self._run("docker", "inspect", "--format", "{{.State.Status}} ({{.State.ExitCode}})", node).strip()

    def _wait_machine(self, node: str, verb: str, probe: Callable[[], str | NotYet]) -> str:
        try:
            return clock.wait_until(f"{node} to {verb}", probe, timeout=10.0, interval=0.1)
        except WaitTimeout as error:
            raise CommandFailed(f"the machine {node} did not {verb}", checked=[str(error)]) from error

    def delete(self) -> None:
        """Deletes the nodes and all that is on them.

        Raises:
            CommandFailed: kind failed.
        """
        options = ("--name", self.name, "--kubeconfig", str(self.kubeconfig))
        try:
            # Not by `KindCluster`, which has no deadline for it.
            self._run("kind", "delete", "cluster", *options, timeout=_DELETED)
        except CommandFailed as error:
            raise CommandFailed(
                f"kind did not delete the cluster {self.name}: {error.what}",
                checked=error.checked,
                fix=[f"kind delete cluster --name {self.name}"],
            ) from error

    def _pytest_kind(self, image: str | None, directory: Path) -> Any:
        from pytest_kind import KindCluster

        wrapper = directory / "kind"
        # `KindCluster` lets kind write to our terminal; this sends it to the log instead, and says which process it is.
        wrapper.write_text(
            f"#!/bin/sh\necho $$ >{shlex.quote(str(self._pid))}\n"
            f'exec {shlex.quote(self._programs.kind)} "$@" 2>>{shlex.quote(str(self.log))}\n',
            encoding="utf-8",
        )
        wrapper.chmod(0o755)
        cluster = KindCluster(
            self.name,
            kubeconfig=self.kubeconfig,
            image=image,
            kind_path=wrapper,
            kubectl_path=Path(self._programs.kubectl),
        )
        # It makes a directory for downloads, which are never made, in the directory that we happen to be in.
        for left_over in (cluster.path, cluster.path.parent):
            with contextlib.suppress(OSError):
                left_over.rmdir()
        return cluster

    def _run(self, program: str, *arguments: str, timeout: float = 60.0) -> str:
        return commands.run([getattr(self._programs, program), *arguments], log=self.log, timeout=timeout)

    def last_said(self) -> str:
        """The last line that kind has written."""
        lines = self._end_of_log().splitlines()
        return lines[-1].strip() if lines else ""

    def _end_of_log(self) -> str:
        return self.log.read_text(encoding="utf-8")[-1200:] if self.log.is_file() else "no log"
