"""The Kubernetes API, as far as pods under KubeRay need it: what is read there, changed, and run in pods."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from pytest_serve_chaos.cluster.kubernetes.client.access import Access, Permit
from pytest_serve_chaos.cluster.kubernetes.client.connection import TIMEOUT, KubeConnection
from pytest_serve_chaos.cluster.kubernetes.client.errors import body_of, reason
from pytest_serve_chaos.cluster.kubernetes.client.records import (
    Pod,
    event_line,
    event_time,
    listed,
    mapped,
    name_of,
    node_is_ready,
    pod,
    text,
)
from pytest_serve_chaos.cluster.kubernetes.client.streaming import Answer, printed_lines
from pytest_serve_chaos.errors import CommandFailed, ObservationError
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

    Args:
        kubeconfig: The kubeconfig file; None takes kubectl's default.
        context: The context in it; None takes the current one.
        namespace: The namespace.
        permit: Asked before each request; None: all may be sent.

    Raises:
        MissingDependency: The Kubernetes client is not installed.
        ClusterError: The kubeconfig or the context in it cannot be used.
    """

    def __init__(
        self, kubeconfig: Path | None, *, context: str | None = None, namespace: str, permit: Permit | None = None
    ) -> None:
        self._connection = KubeConnection(kubeconfig, context=context, namespace=namespace, permit=permit)

    @property
    def namespace(self) -> str:
        """The namespace."""
        return self._connection.namespace

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
        answer = self._read("list_namespaced_pod", namespace or self.namespace, label_selector=selector, what="pods")
        return tuple(listed(answer.get("items")))

    def nodes(self) -> dict[str, bool]:
        """Kubernetes nodes: name -> whether it is Ready.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        answer = self._read("list_node", what="nodes")
        return {name_of(item): node_is_ready(item) for item in listed(answer.get("items"))}

    def version(self) -> str:
        """Kubernetes' version, which every user may read: ``v1.34.2``.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        return text(self._read("get_code", what="Kubernetes' version"), "gitVersion")

    def deployment_available(self, name: str) -> bool:
        """Whether all pods of a Deployment are there, ready and of its newest kind.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        answer = self._read("read_namespaced_deployment", name, self.namespace, what=f"Deployment {name}")
        status, wanted = mapped(answer.get("status")), mapped(answer.get("spec")).get("replicas")
        newest = status.get("observedGeneration") == mapped(answer.get("metadata")).get("generation")
        return newest and status.get("updatedReplicas") == status.get("availableReplicas") == wanted

    def pod_template(self, kind: Literal["Deployment", "StatefulSet"], name: str) -> dict[str, Json]:
        """What the pods of a Deployment or StatefulSet are made from, as plain data.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        method = f"read_namespaced_{'deployment' if kind == 'Deployment' else 'stateful_set'}"
        answer = self._read(method, name, self.namespace, what=f"{kind} {name}")
        return dict(mapped(mapped(answer.get("spec")).get("template")))

    def ray_service(self, name: str) -> dict[str, Json]:
        """A RayService as plain data.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        return self._read(
            "get_namespaced_custom_object",
            _GROUP,
            _VERSION,
            self.namespace,
            "rayservices",
            name,
            what=f"RayService {name}",
        )

    def warnings(self, *, namespace: str | None = None, limit: int = 6) -> tuple[str, ...]:
        """The newest events of type Warning in the namespace, a line each.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        where, selector = namespace or self.namespace, "type=Warning"
        answer = self._read("list_namespaced_event", where, field_selector=selector, what="events")
        events = sorted(listed(answer.get("items")), key=event_time)
        return tuple(event_line(event) for event in events[-limit:])

    def log(self, pod: str, *, namespace: str, tail: int) -> tuple[str, ...]:
        """The last lines, `tail` at the most, of the log of a pod that has one container only.

        Raises:
            ObservationError: There is no such pod or log.
        """
        log = self._connection.send(
            "read_namespaced_pod_log",
            pod,
            namespace,
            what=f"the log of pod {pod}",
            error=ObservationError,
            tail_lines=tail,
        )
        return tuple(log.decode("utf-8", "replace").splitlines())

    def proxy_get(self, pod: str, port: int, path: str, *, timeout: float) -> tuple[int, str]:
        """Sends GET to one port of one pod, through the API server; returns status and body.

        Raises:
            ObservationError: The API server did not reach the pod, or there was no answer in `timeout` seconds.
        """
        try:
            response = self._connection.method("connect_get_namespaced_pod_proxy_with_path")(
                f"{pod}:{port}",
                self.namespace,
                path.lstrip("/"),
                _preload_content=False,
                _request_timeout=timeout,
            )
            return int(response.status), bytes(response.data).decode("utf-8", "replace")
        except Exception as error:
            status, body = getattr(error, "status", None), body_of(error)
            # The API server's own errors are objects of kind Status; anything else is the pod's answer.
            if isinstance(status, int) and status and '"kind":"Status"' not in body:
                return status, body
            raise ObservationError(f"pod {pod} was not reached on port {port}: {reason(error)}") from error

    def proxy_url(self, pod: str, port: int) -> tuple[str, ssl.SSLContext]:
        """Where the API server passes requests on to one port of one pod, and what to show it there."""
        way = self.access()
        return f"{way.server}/api/v1/namespaces/{self.namespace}/pods/{pod}:{port}/proxy/", way.ssl_context

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
            "delete_namespaced_pod",
            name,
            self.namespace,
            body=options,
            what=f"deletion of pod {name}",
            error=CommandFailed,
        )

    def patch_ray_service(self, name: str, patch: Mapping[str, Json]) -> None:
        """Applies a merge patch to a RayService.

        Raises:
            CommandFailed: It was refused.
        """
        self._connection.send(
            "patch_namespaced_custom_object",
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

    def call(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        """Calls a method of the Kubernetes client, of its CoreV1Api, AppsV1Api or AuthorizationV1Api, by its name.

        Args:
            method: ``patch_node``, for example.
            *arguments: For the method.
            what: What it does, for the error.
            **options: For the method.

        Raises:
            CommandFailed: It was refused.
        """
        answer = self._connection.send(method, *arguments, what=what, error=CommandFailed, **options)
        return cast("dict[str, Json]", json.loads(answer))

    def open(self, method: str, *arguments: object, what: str, wait: float, **options: object) -> Answer:
        """Calls such a method for an answer that goes on: a watch, or a log that is followed.

        Args:
            method: ``list_namespaced_pod``, for example.
            *arguments: For the method.
            what: What it is, for the error.
            wait: Seconds between two pieces of it, after which it is given up.
            **options: For the method.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        options |= {"_preload_content": False, "_request_timeout": (TIMEOUT, wait)}
        try:
            return Answer(self._connection.method(method)(*arguments, **options), what)
        except Exception as error:
            raise ObservationError(f"{what}: {reason(error)}") from error

    def watch_pods(self, version: str, *, seconds: int) -> Iterator[dict[str, Json]]:
        """The changes of this namespace's pods since a version of them, as they come, for some seconds.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        what, options = "the watch of pods", {"watch": True, "resource_version": version, "timeout_seconds": seconds}
        answer = self.open("list_namespaced_pod", self.namespace, what=what, wait=seconds + TIMEOUT, **options)
        try:
            for lines in answer.batches():
                yield from (json.loads(line) for line in lines if line.strip())
        except ValueError as error:
            raise ObservationError(f"{what}: {reason(error)}") from error

    def run(self, pod: str, container: str, command: Sequence[str], *, timeout: float = 30.0) -> ExecResult:
        """Runs a program in a container and waits for it.

        Raises:
            CommandFailed: It could not be started, or did not end in `timeout` seconds.
        """
        with self._connection.exec(pod, container, command) as channel:
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

    def _read(self, method: str, *arguments: object, what: str, **options: object) -> dict[str, Json]:
        answer = self._connection.send(method, *arguments, what=what, error=ObservationError, **options)
        return cast("dict[str, Json]", json.loads(answer))
