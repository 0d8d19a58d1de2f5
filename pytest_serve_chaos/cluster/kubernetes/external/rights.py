"""What this user may do on an external cluster, as the API server itself says before the plugin does anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pytest_serve_chaos.cluster.kubernetes.client.api import KubeApi
from pytest_serve_chaos.model import Json

Named: TypeAlias = Literal["rayservice", "lease", "node"]
"""Objects whose names are known, so that a role can be limited to them by ``resourceNames``."""
Names: TypeAlias = "Mapping[Named, Callable[[], Sequence[str]]]"
"""Returns the names of such objects; called only where this user may not do something to all of them."""


@dataclass(frozen=True, slots=True)
class Right:
    """Something that a role can allow.

    Attributes:
        verb: ``delete``.
        resource: ``pods``, or ``pods/exec``.
        group: The API group; "" for the core.
        everywhere: Whether it is a right on the whole cluster, as those on nodes are.
        namespace: Where; None: in the RayService's namespace.
        named: Which objects it is about, if their names are known.
    """

    verb: str
    resource: str
    group: str = ""
    everywhere: bool = False
    namespace: str | None = None
    named: Named | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f" in namespace {self.namespace}" if self.namespace else "")


LOOK = (
    Right("get", "rayservices", "ray.io", named="rayservice"),
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
POD = Right("get", "pods")
"""Shows nothing that a list does not; kubectl asks for it before it shows a log or enters a pod."""
REDIS_SERVICE = Right("get", "services")
"""Without it nothing is known of a Redis behind a Service."""
LIMITS = (Right("list", "resourcequotas"), Right("list", "limitranges"))
"""Without these nobody knows before a fault whether Kubernetes would refuse a pod that has to replace another."""
DELETE = Right("delete", "pods")
RUN = (Right("get", "pods/exec"), Right("create", "pods/exec"))
"""For a program in a pod: which verb counts for a websocket depends on the version of Kubernetes."""
DRAIN = (
    Right("get", "nodes", everywhere=True, named="node"),
    Right("patch", "nodes", everywhere=True, named="node"),
    Right("create", "pods/eviction"),
)
_LEASES = "coordination.k8s.io"
LEASE = (
    Right("create", "leases", _LEASES),
    Right("get", "leases", _LEASES, named="lease"),
    Right("update", "leases", _LEASES, named="lease"),
    Right("delete", "leases", _LEASES, named="lease"),
)
"""Without these only the runs of this user on this machine are kept from testing the RayService at the same time."""
FIND_NODES = Right("list", "nodes", everywhere=True)
"""Without it `serve-chaos undo` finds, without a journal, only drained nodes that carry pods again."""
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


def missing(api: KubeApi, rights: Iterable[Right], names: Names | None = None) -> tuple[Right, ...]:
    """Those of the rights that this user has not, by a SelfSubjectAccessReview for each.

    A role may be limited to objects by their names, so what this user may not do in general is asked for by name.

    Raises:
        CommandFailed: The API server gave no usable answer.
    """
    return tuple(right for right in rights if not _may(api, right, names or {}))


def _may(api: KubeApi, right: Right, names: Names) -> bool:
    resource, _, part = right.resource.partition("/")
    asked: dict[str, Json] = {"verb": right.verb, "resource": resource, "subresource": part, "group": right.group}
    if not right.everywhere:
        asked["namespace"] = right.namespace or api.namespace
    what = f"whether this user may {right}"
    if api.objects.review_access(asked, what=what):
        return True
    look_up = None if right.named is None else names.get(right.named)
    named = () if look_up is None else look_up()
    return bool(named) and all(api.objects.review_access({**asked, "name": name}, what=what) for name in named)
