"""The Kubernetes API, as far as pods under KubeRay need it: what is read there, changed, and run in pods."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pytest_serve_chaos.cluster.kubernetes.client.access import Access, Permit
from pytest_serve_chaos.cluster.kubernetes.client.api_path import proxy_path
from pytest_serve_chaos.cluster.kubernetes.client.connection import KubeConnection
from pytest_serve_chaos.cluster.kubernetes.client.errors import body_of, reason
from pytest_serve_chaos.cluster.kubernetes.client.objects import (
    KubeLeases,
    KubeLogs,
    KubeNodes,
    KubeObjects,
    KubePodChanges,
    KubeWorkloads,
)
from pytest_serve_chaos.cluster.kubernetes.client.records import Pod, listed, pod
from pytest_serve_chaos.cluster.kubernetes.client.server_identity import FirstServer, ServerIdentity
from pytest_serve_chaos.cluster.kubernetes.client.streaming import printed_lines
from pytest_serve_chaos.errors import CommandFailed, ObservationError, SafetyError
from pytest_serve_chaos.model import Json

_GROUP, _VERSION = "ray.io", "v1"


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a program that ran in a pod gave."""

    stdout: str = field(repr=False)
    stderr: str
    returncode: int


class KubeApi:
    """One namespace of one Kubernetes cluster. Safe to call from several threads.

    It has a method for each request about pods, their programs and RayServices; its attributes have the others.

    Args:
        kubeconfig: The kubeconfig file; None takes kubectl's default.
        context: The context in it; None takes the current one.
        namespace: The namespace.
        permit: Asked before each request; None: all may be sent.
        first: The server that other connections of this run lead to; None: it may be any, and stays the same one.

    Raises:
        MissingDependency: The Kubernetes client is not installed.
        ClusterError: The kubeconfig or the context in it cannot be used.
        SafetyError: The kubeconfig leads to another server than `first`.

    Attributes:
        nodes: The nodes of the cluster.
        workloads: The namespace's Deployments and StatefulSets.
        objects: Services, namespaces, events and the rest.
        leases: The namespace's leases.
        pod_logs: What containers write to their output.
        pod_changes: How the pods of the namespace change.
    """

    def __init__(
        self,
        kubeconfig: Path | None,
        *,
        context: str | None = None,
        namespace: str,
        permit: Permit | None = None,
        first: FirstServer | None = None,
    ) -> None:
        self._connection = connection = KubeConnection(
            kubeconfig, context=context, namespace=namespace, permit=permit, first=first
        )
        self.nodes = KubeNodes(connection)
        self.workloads = KubeWorkloads(connection)
        self.objects = KubeObjects(connection)
        self.leases = KubeLeases(connection)
        self.pod_logs = KubeLogs(connection)
        self.pod_changes = KubePodChanges(connection)

    @property
    def namespace(self) -> str:
        """The namespace."""
        return self._connection.namespace

    @property
    def server(self) -> ServerIdentity:
        """Which API server it is."""
        return self._connection.server

    def check_server(self) -> None:
        """Looks whether the kubeconfig still leads to the first server; what is sent goes there in any case.

        Raises:
            SafetyError: It leads to another one.
        """
        self._connection.check_server()

    def close(self) -> None:
        """Closes all connections."""
        self._connection.close()

    # -- reading ----------------------------------------------------------------------------------------------

    def pods(self, selector: str = "", *, namespace: str | None = None) -> tuple[Pod, ...]:
        """The pods with those labels, oldest first.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        found = [pod(item) for item in self.raw_pods(selector, namespace=namespace)]
        return tuple(sorted(found, key=lambda p: (p.created, p.name)))

    def raw_pods(self, selector: str = "", *, namespace: str | None = None) -> tuple[dict[str, Json], ...]:
        """The pods with those labels as plain data.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        answer = self._connection.read(
            self._connection.core.list_namespaced_pod,
            namespace or self.namespace,
            what="pods",
            error=ObservationError,
            label_selector=selector,
        )
        return tuple(listed(answer.get("items")))

    def ray_service(self, name: str) -> dict[str, Json]:
        """A RayService as plain data.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        return self._connection.read(
            self._connection.custom.get_namespaced_custom_object,
            _GROUP,
            _VERSION,
            self.namespace,
            "rayservices",
            name,
            what=f"RayService {name}",
            error=ObservationError,
        )

    def proxy_get(self, pod: str, port: int, path: str, *, timeout: float) -> tuple[int, str]:
        """Sends GET to one port of one pod, through the API server; returns status and body.

        Raises:
            ObservationError: The API server did not reach the pod, or there was no answer in `timeout` seconds.
        """
        proxy_path(self.namespace, "pods", pod, port)  # of names only
        try:
            response = self._connection.core.connect_get_namespaced_pod_proxy_with_path(
                f"{pod}:{port}",
                self.namespace,
                path.lstrip("/"),
                _preload_content=False,
                _request_timeout=timeout,
            )
            return int(response.status), bytes(response.data).decode("utf-8", "replace")
        except SafetyError:
            raise
        except Exception as error:
            status, body = getattr(error, "status", None), body_of(error)
            # The API server's own errors are objects of kind Status; anything else is the pod's answer.
            if isinstance(status, int) and status and '"kind":"Status"' not in body:
                return status, body
            raise ObservationError(f"pod {pod} was not reached on port {port}: {reason(error)}") from error

    def proxy_url(self, kind: Literal["pods", "services"], name: str, port: int) -> str:
        """Where the API server passes requests on to one port of a pod or Service of the namespace.

        Raises:
            SafetyError: That is not a name.
        """
        return f"{self._connection.address}{proxy_path(self.namespace, kind, name, port)}"

    def access(self) -> Access:
        """How to reach the API server, for requests that it passes on."""
        return self._connection.access()

    # -- changing ---------------------------------------------------------------------------------------------

    def delete_pod(self, name: str, uid: str, *, grace: int | None) -> None:
        """Deletes that very pod, and not a successor of the same name.

        Args:
            name: Its name.
            uid: Its UID.
            grace: Seconds between SIGTERM and SIGKILL; 0 removes the object at once; None takes the pod's own.

        Raises:
            CommandFailed: It was refused, or the pod is another one.
        """
        options: dict[str, object] = {"preconditions": {"uid": uid}}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        self._connection.send(
            self._connection.core.delete_namespaced_pod,
            name,
            self.namespace,
            body=options,
            what=f"deletion of pod {name}",
            error=CommandFailed,
        )

    def evict_pod(self, name: str, uid: str) -> None:
        """Asks for a pod's graceful end, which a PodDisruptionBudget can refuse.

        Raises:
            CommandFailed: It was refused; with status 409, since a pod with another UID has the name now.
        """
        only_this: Json = {"preconditions": {"uid": uid}}
        body: Json = {"metadata": {"name": name, "namespace": self.namespace}, "deleteOptions": only_this}
        evict = self._connection.core.create_namespaced_pod_eviction
        self._connection.read(evict, name, self.namespace, body, what=f"eviction of pod {name}", error=CommandFailed)

    def patch_ray_service(self, name: str, patch: Mapping[str, Json]) -> None:
        """Applies a merge patch to a RayService.

        Raises:
            CommandFailed: It was refused.
        """
        self._connection.send(
            self._connection.custom.patch_namespaced_custom_object,
            _GROUP,
            _VERSION,
            self.namespace,
            "rayservices",
            name,
            dict(patch),
            _content_type="application/merge-patch+json",
            what=f"a change of RayService {name}",
            error=CommandFailed,
        )

    def run(
        self, pod: str, container: str, command: Sequence[str], *, timeout: float = 30.0, stdin: str | None = None
    ) -> ExecResult:
        """Runs a program in a container and waits for it.

        Args:
            pod: The pod.
            container: The container.
            command: The program.
            timeout: Seconds until it is given up.
            stdin: What it reads, which has no end; None: nothing.

        Raises:
            CommandFailed: It could not be started, or did not end in `timeout` seconds.
        """
        with self._connection.exec(pod, container, command, stdin=stdin is not None) as channel:
            if stdin is not None:
                channel.write_stdin(stdin)
            channel.run_forever(timeout=timeout)
            ended = not channel.is_open()
            stdout, stderr = channel.read_stdout(timeout=0) or "", channel.read_stderr(timeout=0) or ""
            returncode = int(channel.returncode or 0) if ended else -1
        if not ended:
            raise CommandFailed(f"a program in pod {pod} did not end in {timeout:g} s", checked=[stderr[-600:]])
        return ExecResult(stdout, stderr, returncode)

    def follow(
        self, pod: str, container: str, command: Sequence[str], *, until: threading.Event, patience: float
    ) -> Iterator[str]:
        """Runs a program in a container and gives each line that it prints, when it does.

        Args:
            pod: The pod.
            container: The container.
            command: The program; it gets a line on its standard input now and then, and must end by itself without.
            until: Set when nothing more is wanted.
            patience: Seconds without a line after which it is given up.

        Raises:
            CommandFailed: It could not be started, or was given up.
        """
        with self._connection.exec(pod, container, command, stdin=True) as channel:
            yield from printed_lines(channel, pod, until, patience)
