"""Objects of a Kubernetes cluster other than the pods of one namespace: nodes, workloads, Services, logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.connection import TIMEOUT, KubeConnection
from pytest_serve_chaos.cluster.kubernetes.client.errors import reason
from pytest_serve_chaos.cluster.kubernetes.client.records import (
    event_line,
    event_time,
    listed,
    mapped,
    name_of,
    node_is_ready,
    text,
)
from pytest_serve_chaos.cluster.kubernetes.client.streaming import Answer
from pytest_serve_chaos.errors import CommandFailed, ObservationError
from pytest_serve_chaos.json_text import read_json
from pytest_serve_chaos.model import Json

WorkloadKind: TypeAlias = Literal["Deployment", "StatefulSet"]
"""What keeps pods there."""
LimitsKind: TypeAlias = Literal["ResourceQuota", "LimitRange"]
"""What limits the pods of a namespace."""


class KubeNodes:
    """The Kubernetes nodes of a cluster.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: KubeConnection) -> None:
        self._connection = connection

    def ready(self) -> dict[str, bool]:
        """The name of each node, and whether it is Ready.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        answer = self._connection.read(self._connection.core.list_node, what="nodes", error=ObservationError)
        return {name_of(item): node_is_ready(item) for item in listed(answer.get("items"))}

    def items(self) -> list[dict[str, Json]]:
        """The nodes as plain data.

        Raises:
            CommandFailed: The API server gave no usable answer.
        """
        answer = self._connection.read(self._connection.core.list_node, what="nodes", error=CommandFailed)
        return listed(answer.get("items"))

    def read(self, name: str) -> dict[str, Json]:
        """A node as plain data.

        Raises:
            CommandFailed: The API server gave no usable answer.
        """
        read = self._connection.core.read_node
        return self._connection.read(read, name, what=f"node {name}", error=CommandFailed)

    def patch(self, name: str, patch: Mapping[str, Json], *, what: str) -> None:
        """Changes a node under the name of this plugin, which `managedFields` then has.

        Args:
            name: The node.
            patch: The merge patch.
            what: What it does, for the error.

        Raises:
            CommandFailed: It was refused.
        """
        core = self._connection.core
        self._connection.read(
            core.patch_node, name, dict(patch), what=what, error=CommandFailed, field_manager=names.PROJECT
        )

    def delete(self, name: str) -> None:
        """Deletes a node's object.

        Raises:
            CommandFailed: It was refused.
        """
        delete = self._connection.core.delete_node
        self._connection.read(delete, name, what=f"deletion of node {name}", error=CommandFailed)

    def create(self, node: Mapping[str, Json]) -> None:
        """Registers a node.

        Raises:
            CommandFailed: It was refused.
        """
        what = f"registration of node {name_of(node)}"
        self._connection.read(self._connection.core.create_node, node, what=what, error=CommandFailed)


class KubeWorkloads:
    """The Deployments and StatefulSets of a namespace.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: KubeConnection) -> None:
        self._connection = connection

    def is_available(self, deployment: str) -> bool:
        """Whether all pods of a Deployment are there, ready and of its newest kind.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        answer = self._read("Deployment", deployment)
        status, wanted = mapped(answer.get("status")), mapped(answer.get("spec")).get("replicas")
        newest = status.get("observedGeneration") == mapped(answer.get("metadata")).get("generation")
        return newest and status.get("updatedReplicas") == status.get("availableReplicas") == wanted

    def pod_template(self, kind: WorkloadKind, name: str) -> dict[str, Json]:
        """What its pods are made from, as plain data.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        return dict(mapped(mapped(self._read(kind, name).get("spec")).get("template")))

    def items(self, kind: WorkloadKind) -> list[dict[str, Json]]:
        """All of one kind, as plain data.

        Raises:
            CommandFailed: The API server gave no usable answer.
        """
        apps = self._connection.apps
        list_all = apps.list_namespaced_deployment if kind == "Deployment" else apps.list_namespaced_stateful_set
        namespace = self._connection.namespace
        return listed(self._connection.read(list_all, namespace, what=f"each {kind}", error=CommandFailed).get("items"))

    def patch(self, kind: WorkloadKind, name: str, patch: Mapping[str, Json], *, what: str) -> None:
        """Changes one by a merge patch.

        Args:
            kind: Its kind.
            name: Its name.
            patch: The merge patch.
            what: What it does, for the error.

        Raises:
            CommandFailed: It was refused.
        """
        apps = self._connection.apps
        change = apps.patch_namespaced_deployment if kind == "Deployment" else apps.patch_namespaced_stateful_set
        self._connection.read(change, name, self._connection.namespace, dict(patch), what=what, error=CommandFailed)

    def _read(self, kind: WorkloadKind, name: str) -> dict[str, Json]:
        apps = self._connection.apps
        read = apps.read_namespaced_deployment if kind == "Deployment" else apps.read_namespaced_stateful_set
        namespace = self._connection.namespace
        return self._connection.read(read, name, namespace, what=f"{kind} {name}", error=ObservationError)


class KubeObjects:
    """Services, namespaces, events and the rest.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: KubeConnection) -> None:
        self._connection = connection

    def version(self) -> str:
        """Kubernetes' version, which every user may read: ``v1.34.2``.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        get_code = self._connection.version.get_code
        answer = self._connection.read(get_code, what="Kubernetes' version", error=ObservationError)
        return text(answer, "gitVersion")

    def warnings(self, *, namespace: str | None = None, limit: int = 6) -> tuple[str, ...]:
        """The newest events of type Warning in a namespace, a line each.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        answer = self._connection.read(
            self._connection.core.list_namespaced_event,
            namespace or self._connection.namespace,
            what="events",
            error=ObservationError,
            field_selector="type=Warning",
        )
        events = sorted(listed(answer.get("items")), key=event_time)
        return tuple(event_line(event) for event in events[-limit:])

    def pod(self, name: str) -> dict[str, Json]:
        """A pod as plain data.

        Raises:
            CommandFailed: The API server gave no usable answer.
        """
        read = self._connection.core.read_namespaced_pod
        return self._connection.read(read, name, self._connection.namespace, what=f"pod {name}", error=CommandFailed)

    def service(self, name: str, namespace: str) -> dict[str, Json]:
        """A Service as plain data.

        Raises:
            CommandFailed: The API server gave no usable answer.
        """
        read = self._connection.core.read_namespaced_service
        return self._connection.read(read, name, namespace, what=f"Service {name}", error=CommandFailed)

    def limits(self, kind: LimitsKind) -> list[dict[str, Json]]:
        """All of one kind in this namespace, as plain data.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        core = self._connection.core
        list_all = core.list_namespaced_resource_quota if kind == "ResourceQuota" else core.list_namespaced_limit_range
        namespace = self._connection.namespace
        answer = self._connection.read(list_all, namespace, what=f"each {kind}", error=ObservationError)
        return listed(answer.get("items"))

    def patch_service(self, name: str, patch: Mapping[str, Json]) -> None:
        """Changes a Service of this namespace by a merge patch.

        Raises:
            CommandFailed: It was refused.
        """
        change, namespace = self._connection.core.patch_namespaced_service, self._connection.namespace
        what = f"a change of Service {name}"
        self._connection.read(change, name, namespace, dict(patch), what=what, error=CommandFailed)

    def namespaces(self, name: str) -> list[dict[str, Json]]:
        """The namespace of that name as plain data; none where there is none.

        Raises:
            CommandFailed: The API server gave no usable answer.
        """
        answer = self._connection.read(
            self._connection.core.list_namespace,
            what="the namespace",
            error=CommandFailed,
            field_selector=f"metadata.name={name}",
        )
        return listed(answer.get("items"))

    def patch_namespace(self, name: str, patch: Mapping[str, Json], *, what: str) -> None:
        """Changes a namespace by a merge patch.

        Args:
            name: The namespace.
            patch: The merge patch.
            what: What it does, for the error.

        Raises:
            CommandFailed: It was refused.
        """
        self._connection.read(self._connection.core.patch_namespace, name, dict(patch), what=what, error=CommandFailed)

    def review_access(self, attributes: Mapping[str, Json], *, what: str) -> bool:
        """Whether this user may do something, by a SelfSubjectAccessReview.

        Args:
            attributes: Its ``resourceAttributes``.
            what: What it is about, for the error.

        Raises:
            CommandFailed: The API server gave no usable answer.
        """
        body: Json = {"spec": {"resourceAttributes": dict(attributes)}}
        review = self._connection.authorization.create_self_subject_access_review
        answer = self._connection.read(review, body, what=what, error=CommandFailed)
        return mapped(answer.get("status")).get("allowed") is True


class KubeLeases:
    """The leases of a namespace.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: KubeConnection) -> None:
        self._connection = connection

    def read(self, name: str) -> dict[str, Json]:
        """A lease as plain data.

        Raises:
            CommandFailed: The API server gave no usable answer.
        """
        read, namespace = self._connection.coordination.read_namespaced_lease, self._connection.namespace
        return self._connection.read(read, name, namespace, what=f"lease {name}", error=CommandFailed)

    def create(self, lease: Mapping[str, Json]) -> dict[str, Json]:
        """Creates a lease; returns it as it is then.

        Raises:
            CommandFailed: It was refused.
        """
        create, namespace = self._connection.coordination.create_namespaced_lease, self._connection.namespace
        what = f"creation of lease {name_of(lease)}"
        return self._connection.read(create, namespace, dict(lease), what=what, error=CommandFailed)

    def replace(self, name: str, lease: Mapping[str, Json]) -> dict[str, Json]:
        """Replaces the version of a lease that is named in it, and no other; returns it as it is then.

        Raises:
            CommandFailed: It was refused, or has changed.
        """
        replace, namespace = self._connection.coordination.replace_namespaced_lease, self._connection.namespace
        what = f"renewal of lease {name}"
        return self._connection.read(replace, name, namespace, dict(lease), what=what, error=CommandFailed)

    def delete(self, name: str, *, uid: str, version: str) -> None:
        """Deletes that version of a lease.

        Raises:
            CommandFailed: It was refused, or has changed.
        """
        delete, namespace = self._connection.coordination.delete_namespaced_lease, self._connection.namespace
        body: Json = {"preconditions": {"uid": uid, "resourceVersion": version}}
        what = f"deletion of lease {name}"
        self._connection.send(delete, name, namespace, body=body, what=what, error=CommandFailed)


class KubeLogs:
    """What containers write to their output.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: KubeConnection) -> None:
        self._connection = connection

    def tail(self, pod: str, *, namespace: str, lines: int) -> tuple[str, ...]:
        """The last lines, `lines` at the most, of a pod that has one container only.

        Raises:
            ObservationError: There is no such pod or log.
        """
        log = self._connection.send(
            self._connection.core.read_namespaced_pod_log,
            pod,
            namespace,
            what=f"the log of pod {pod}",
            error=ObservationError,
            tail_lines=lines,
        )
        return tuple(log.decode("utf-8", "replace").splitlines())

    def open(
        self,
        pod: str,
        namespace: str,
        *,
        container: str,
        wait: float,
        follow: bool,
        previous: bool = False,
        **span: int,
    ) -> Answer:
        """What a container writes, with the time of each line, for as long as it goes on.

        Args:
            pod: The pod.
            namespace: Its namespace.
            container: The container.
            wait: Seconds between two pieces, after which it is given up.
            follow: Whether what comes is wanted, too.
            previous: Whether it is that of the container before.
            **span: ``since_seconds`` or ``tail_lines``: how much of what was written.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        return self._connection.open(
            self._connection.core.read_namespaced_pod_log,
            pod,
            namespace,
            what=f"the log of pod {pod}",
            wait=wait,
            container=container,
            follow=follow,
            timestamps=True,
            **span,
            **({"previous": True} if previous else {}),
        )


class KubePodChanges:
    """The pods of a namespace, and how they change.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: KubeConnection) -> None:
        self._connection = connection

    def all(self) -> dict[str, Json]:
        """All pods of the namespace as plain data, with the version of the list, for `since`.

        Raises:
            CommandFailed: The API server gave no usable answer.
        """
        list_all = self._connection.core.list_namespaced_pod
        return self._connection.read(list_all, self._connection.namespace, what="pods", error=CommandFailed)

    def since(self, version: str, *, seconds: int) -> Iterator[dict[str, Json]]:
        """The changes of this namespace's pods since a version of them, as they come, for some seconds.

        Raises:
            ObservationError: The API server gave no usable answer.
        """
        what, options = "the watch of pods", {"watch": True, "resource_version": version, "timeout_seconds": seconds}
        list_all = self._connection.core.list_namespaced_pod
        answer = self._connection.open(
            list_all, self._connection.namespace, what=what, wait=seconds + TIMEOUT, **options
        )
        try:
            for lines in answer.batches():
                yield from (_change(line) for line in lines if line.strip())
        except ValueError as error:
            raise ObservationError(f"{what}: {reason(error)}") from error


def _change(line: bytes) -> dict[str, Json]:
    """What one line of a watch says.

    Raises:
        ValueError: It is not an object.
    """
    change = read_json(line)
    if not isinstance(change, dict):
        raise ValueError(f"{change!r:.80} is not an object")
    return change
