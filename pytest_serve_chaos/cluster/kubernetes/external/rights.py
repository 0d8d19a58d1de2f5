"""What this user may do on an external cluster, as the API server itself says before the plugin does anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.model import Json


@dataclass(frozen=True, slots=True)
class Right:
    """Something that a role can allow.

    Attributes:
        verb: ``delete``.
        resource: ``pods``, or ``pods/exec``.
        group: The API group; "" for the core.
        everywhere: Whether it is a right on the whole cluster, as those on nodes are.
        namespace: Where; None: in the RayService's namespace.
    """

    verb: str
    resource: str
    group: str = ""
    everywhere: bool = False
    namespace: str | None = None

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f" in namespace {self.namespace}" if self.namespace else "")


LOOK = (
    Right("get", "rayservices", "ray.io"),
    Right("list", "pods"),
    Right("get", "pods/proxy"),
    Right("get", "services/proxy"),
)
"""Without these nothing can be observed."""
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "OPTIONS": "*"}
"""What Kubernetes calls a request that it passes on, by its HTTP method."""
WATCH = Right("watch", "pods")
"""Without it they are listed, again and again."""
LOGS = Right("get", "pods/log")
"""Without it what containers write to their output is not kept."""
DELETE = Right("delete", "pods")
RUN = (Right("get", "pods/exec"), Right("create", "pods/exec"))
"""For a program in a pod: which verb counts for a websocket depends on the version of Kubernetes."""
DRAIN = (
    Right("get", "nodes", everywhere=True),
    Right("patch", "nodes", everywhere=True),
    Right("create", "pods/eviction"),
)
BREAK = (WATCH, LOGS, DELETE, *RUN, *DRAIN)
"""Without one of these some faults, or some logs, are left out."""


def look(method: str) -> tuple[Right, ...]:
    """The rights without which nothing can be observed, where each proxy is asked with that HTTP method."""
    return tuple(dict.fromkeys((*LOOK, Right(_VERBS.get(method, "get"), "pods/proxy"))))


def operator_log(namespace: str | None) -> tuple[Right, ...]:
    """The rights without which the log of KubeRay's operator in that namespace is not kept; None: it was not said."""
    if namespace is None:
        return ()
    return Right("list", "pods", namespace=namespace), Right("get", "pods/log", namespace=namespace)


def missing(api: KubeApi, rights: Iterable[Right]) -> tuple[Right, ...]:
    """Those of the rights that this user has not, by a SelfSubjectAccessReview for each.

    Raises:
        CommandFailed: The API server gave no usable answer.
    """
    return tuple(right for right in rights if not _may(api, right))


def _may(api: KubeApi, right: Right) -> bool:
    resource, _, part = right.resource.partition("/")
    asked: dict[str, Json] = {"verb": right.verb, "resource": resource, "subresource": part, "group": right.group}
    if not right.everywhere:
        asked["namespace"] = right.namespace or api.namespace
    return api.objects.review_access(asked, what=f"whether this user may {right}")
