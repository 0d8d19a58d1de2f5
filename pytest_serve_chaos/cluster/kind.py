"""The nodes of a kind cluster: made, filled with images, looked into and deleted.

The only module that imports `pytest_kind`, and that only when a cluster is made.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_serve_chaos import manifests
from pytest_serve_chaos.cluster import commands
from pytest_serve_chaos.cluster.kuberay import names
from pytest_serve_chaos.errors import ClusterStartError, CommandFailed, MissingDependency, SafetyError
from pytest_serve_chaos.model import Json

_LOADED = 600.0
"""Seconds for copying images onto nodes."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs that are needed, as paths."""

    docker: str
    kind: str
    kubectl: str


def find_programs() -> Programs:
    """Finds docker, kind and kubectl on the PATH, and asks Docker whether it runs.

    Raises:
        MissingDependency: One of them, or a Python package, is not here; nothing was made.
    """
    missing = [program for program in ("docker", "kind", "kubectl") if shutil.which(program) is None]
    try:
        import pytest_kind  # noqa: F401
    except ImportError:
        missing.append("the Python package pytest-kind-ng")
    if missing:
        raise MissingDependency(
            f"the kind backend needs {', '.join(missing)}",
            looked_at=["PATH, and the packages of this Python"],
            mend=[
                "install Docker, kind (https://kind.sigs.k8s.io) and kubectl",
                "pip install 'pytest-serve-chaos[kind]'",
                "or use the backend `local`, which needs none of them",
            ],
        )
    programs = Programs(*(str(shutil.which(program)) for program in ("docker", "kind", "kubectl")))
    _ask_docker(programs.docker)
    return programs


def _ask_docker(docker: str) -> None:
    command = [docker, "version", "--format", "{{.Server.Version}}"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=20.0, start_new_session=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        raise MissingDependency(
            "Docker does not answer",
            looked_at=[" ".join(command), bytes(said).decode("utf-8", "replace").strip()[-300:]],
            mend=["start Docker, and see whether this user may use it"],
        ) from error


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
        self._programs = programs
        self._kind = self._pytest_kind(image, directory)

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
            self._kind.create(self._config)
        except (OSError, subprocess.SubprocessError) as error:
            raise ClusterStartError(
                f"kind did not create the cluster {self.name}: {error}", looked_at=[self._end_of_log(), str(self.log)]
            ) from error

    def limit_processors(self) -> None:
        """Gives each node for Ray half of this machine's processors at most.

        A Ray that starts takes all that it can get; what is left is for those that serve, and for what measures them.
        """
        half = f"{(os.cpu_count() or 2) / 2:g}"
        self._run("docker", "update", "--cpus", half, *self.ray_nodes())

    def adopt(self) -> None:
        """Takes over a cluster that an earlier run left on purpose.

        Raises:
            SafetyError: It does not carry our label, so it is somebody else's.
        """
        self._run("kind", "export", "kubeconfig", "--name", self.name, "--kubeconfig", str(self.kubeconfig))
        if not self.kubectl("get", "nodes", "-l", f"{names.ROLE}=services", "-o", "name").strip():
            raise SafetyError(
                f"there is a kind cluster {self.name} that this plugin did not make",
                looked_at=[f"its nodes have no label {names.ROLE}"],
                mend=["give another name", f"or delete it: kind delete cluster --name {self.name}"],
            )

    def host_port(self, node_port: int) -> int:
        """The port on 127.0.0.1 that leads to a node port."""
        line = self._run("docker", "port", f"{self.name}-control-plane", f"{node_port}/tcp")
        return int(line.split()[0].rpartition(":")[2])

    def ray_nodes(self) -> tuple[str, ...]:
        """The nodes for Ray's pods."""
        found = self.kubectl("get", "nodes", "-l", f"{names.ROLE}=ray", "-o", "name").split()
        return tuple(node.removeprefix("node/") for node in found)

    def load(self, images: Sequence[str], nodes: Sequence[str]) -> tuple[str, ...]:
        """Copies those images that Docker has onto nodes; kind leaves out the nodes that have them.

        Returns:
            The images that Docker does not have; the nodes will pull them.
        """
        here = [image for image in images if self._has_image(image)]
        if here and nodes:
            options = ("--name", self.name, "--nodes", ",".join(nodes))
            self._run("kind", "load", "docker-image", *options, *here, timeout=_LOADED)
        return tuple(image for image in images if image not in here)

    def kubectl(self, *arguments: str, timeout: float = 60.0) -> str:
        """Runs kubectl against the cluster and returns what it printed.

        Raises:
            CommandFailed: It failed, or took too long.
        """
        return self._run("kubectl", "--kubeconfig", str(self.kubeconfig), *arguments, timeout=timeout)

    def container_end(self, node: str, container_id: str) -> str | None:
        """How a container on a node ended, as the node's own runtime says; None while it runs.

        None, too, where that cannot be told. It asks containerd itself, since `crictl` is not in every node image.
        """
        try:
            listed = self._run("docker", "exec", node, "ctr", "--namespace", "k8s.io", "tasks", "ls", timeout=10.0)
        except CommandFailed:
            return None
        header, *tasks = [line.split() for line in listed.splitlines() if line.strip()] or [[]]
        if header[:1] != ["TASK"]:
            return None
        states = {task[0]: task[-1] for task in tasks}
        state = states.get(container_id, "gone from the runtime")
        return None if state in ("RUNNING", "CREATED", "PAUSED") else state.lower()

    def delete(self) -> None:
        """Deletes the nodes and all that is on them.

        Raises:
            CommandFailed: kind failed.
        """
        try:
            self._kind.delete()
        except (OSError, subprocess.SubprocessError) as error:
            raise CommandFailed(
                f"kind did not delete the cluster {self.name}: {error}",
                looked_at=[self._end_of_log(), str(self.log)],
                mend=[f"kind delete cluster --name {self.name}"],
            ) from error

    def _pytest_kind(self, image: str | None, directory: Path) -> Any:
        from pytest_kind import KindCluster

        wrapper = directory / "kind"
        # `KindCluster` lets kind write to our terminal; this sends it to the log instead.
        wrapper.write_text(
            f'#!/bin/sh\nexec {shlex.quote(self._programs.kind)} "$@" 2>>{shlex.quote(str(self.log))}\n',
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

    def _has_image(self, image: str) -> bool:
        try:
            self._run("docker", "image", "inspect", "--format", "{{.Id}}", image)
        except CommandFailed:
            return False
        return True

    def _run(self, program: str, *arguments: str, timeout: float = 60.0) -> str:
        return commands.run([getattr(self._programs, program), *arguments], log=self.log, timeout=timeout)

    def _end_of_log(self) -> str:
        return self.log.read_text(encoding="utf-8")[-1200:] if self.log.is_file() else "no log"
