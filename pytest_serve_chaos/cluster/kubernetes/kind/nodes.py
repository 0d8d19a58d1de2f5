"""The nodes of a kind cluster: made, filled with images, looked into, tainted and deleted.

The only module that imports `pytest_kind`, and that only when a cluster is made.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pytest_serve_chaos import manifests
from pytest_serve_chaos.cluster import commands
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.install.stack import Kubectl
from pytest_serve_chaos.cluster.kubernetes.kind.docker_machines import DockerMachines
from pytest_serve_chaos.cluster.kubernetes.kind.images import DockerImages
from pytest_serve_chaos.cluster.kubernetes.kind.programs import Programs, Run, run_program
from pytest_serve_chaos.cluster.private_files import private_directory
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Json

_CREATED = 900.0
"""Seconds for making the nodes; their image may have to be pulled first."""
_DELETED = 180.0
"""Seconds for deleting them."""


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
        directory: Where config and logs are kept, and the kubeconfig in its private part.
        programs: docker, kind and kubectl.

    Attributes:
        name: The cluster's name.
        kubeconfig: Leads to its API server.
        log: What the programs wrote.
        docker: The nodes as machines.
        images: What can be copied onto them.
        taints: Makes them refuse pods.
    """

    def __init__(self, name: str, image: str | None, directory: Path, programs: Programs) -> None:
        self.name = name
        self.kubeconfig = private_directory(directory) / "kubeconfig"
        self.log = directory / "kind.log"
        self._config = directory / "kind-config.yaml"
        self._pid = directory / "kind.pid"
        self._programs = programs
        self._run: Run = partial(run_program, programs, self.log)
        self.docker = DockerMachines(self._run, self.kubectl, self.control_plane, docker=programs.docker)
        self.images = DockerImages(self._run, name)
        self.taints = NodeTaints(self.kubectl)
        self._kind = self._pytest_kind(image, directory)

    @property
    def control_plane(self) -> str:
        """The node for all that no fault touches."""
        return f"{self.name}-control-plane"

    def kind_version(self) -> str:
        """What kind says of itself; it decides which node image is kind's own."""
        return " ".join(self._run("kind", "version").split()[:2])

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
        return {words[0]: words[1] for line in lines if len(words := line.split()) > 1}

    def publishes(self, *node_ports: int) -> bool:
        """Whether the control plane was made with these node ports on this machine; it need not run."""
        form = "{{json .HostConfig.PortBindings}}"
        try:
            bindings = read_json(self._run("docker", "inspect", "--format", form, self.control_plane))
        except (CommandFailed, ValueError):
            return False
        return all(isinstance(bindings, dict) and f"{port}/tcp" in bindings for port in node_ports)

    def host_port(self, node_port: int) -> int:
        """The port on 127.0.0.1 that leads to a node port."""
        said = self._run("docker", "port", self.control_plane, f"{node_port}/tcp")
        port = (said.split() or [""])[0].rpartition(":")[2]
        if not port.isdecimal():
            raise CommandFailed(f"docker does not say which port leads to {node_port}: {said[:80]!r}")
        return int(port)

    def kubectl(self, *arguments: str, timeout: float = 60.0) -> str:
        """Runs kubectl against the cluster and returns what it printed.

        Raises:
            CommandFailed: It failed, or took too long.
        """
        # By default what it learns of an API server stays in the home directory for ever.
        cache = self.kubeconfig.with_name("kubectl-cache")
        options = ("--kubeconfig", str(self.kubeconfig), "--cache-dir", str(cache))
        return self._run("kubectl", *options, *arguments, timeout=timeout)

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
        self.docker.end_watchdogs()

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

    def last_said(self) -> str:
        """The last line that kind has written."""
        lines = self._end_of_log().splitlines()
        return lines[-1].strip() if lines else ""

    def _end_of_log(self) -> str:
        return self.log.read_text(encoding="utf-8")[-1200:] if self.log.is_file() else "no log"


class NodeTaints:
    """Makes the nodes for Ray refuse pods; implements `kubernetes.machines.Taints`.

    Args:
        kubectl: Runs kubectl against the cluster.
    """

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def keep_away(self, taint: str) -> None:
        """No node for Ray takes a new pod any more that does not tolerate that taint.

        Raises:
            CommandFailed: kubectl failed.
        """
        self._kubectl("taint", "nodes", "-l", f"{names.ROLE}=ray", f"{taint}=held:NoSchedule", "--overwrite")

    def let_back(self, taint: str) -> None:
        """Takes the taint away from all nodes that have it.

        Raises:
            CommandFailed: kubectl failed.
        """
        keys = 'jsonpath={range .items[*]}{.metadata.name}{" "}{.spec.taints[*].key}{"\\n"}{end}'
        for line in self._kubectl("get", "nodes", "-o", keys).splitlines():
            node, *found = line.split() or [""]
            if taint in found:
                self._kubectl("taint", "nodes", node, f"{taint}:NoSchedule-")
