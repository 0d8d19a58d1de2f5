"""Manifests that give a service account what tests of one RayService take, in tiers, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.lease import lease_name
from pytest_serve_chaos.cluster.kubernetes.external import rights
from pytest_serve_chaos.cluster.kubernetes.external.rights import Named, Right
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Json

Tier: TypeAlias = Literal["look", "break", "drain"]
"""``look`` changes nothing, ``break`` deletes pods and runs programs in them, ``drain`` also drains nodes."""
TIERS: tuple[Tier, ...] = get_args(Tier)

_GROUP = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """Who is to test what.

    Attributes:
        namespace: The RayService's namespace, which also gets the service account.
        name: The RayService.
        tier: How far tests may go.
        nodes: The nodes that may be drained; none: all, since their names are not known.
        method: The HTTP method of the traffic.
        operator_namespace: Where KubeRay's operator is, whose log is kept; None: it is not.
        admission: Whether an admission policy limits what roles cannot, such as which pods may be deleted.

    Raises:
        SettingsError: A name is not one that Kubernetes allows.
    """

    namespace: str
    name: str
    tier: Tier
    nodes: Sequence[str] = ()
    method: str = "GET"
    operator_namespace: str | None = None
    admission: bool = False

    def __post_init__(self) -> None:
        operator = () if self.operator_namespace is None else (self.operator_namespace,)
        for one in (self.namespace, self.name, *self.nodes, *operator):
            if not _NAME.fullmatch(one):
                raise SettingsError(
                    f"{one!r} is not a name that Kubernetes allows",
                    fix=["write it as kubectl shows it, and the RayService as NAMESPACE/NAME"],
                )

    @property
    def account(self) -> str:
        """The name of the service account, and of all roles and bindings."""
        return f"serve-chaos-{self.name}"[:63].rstrip("-.")

    @property
    def user(self) -> str:
        """What the API server calls the service account."""
        return f"system:serviceaccount:{self.namespace}:{self.account}"


def rights_of(tier: Tier, method: str = "GET") -> tuple[Right, ...]:
    """All rights of a tier, with those of the tiers below it."""
    found = (*rights.look(method), rights.POD, rights.WATCH, rights.LOGS, rights.REDIS_SERVICE, *rights.LIMITS)
    if tier != "look":
        found += (rights.DELETE, *rights.RUN, *rights.LEASE)
    if tier == "drain":
        found += (*rights.DRAIN, rights.FIND_NODES)
    return found


def manifests(request: AccessRequest) -> list[Manifest]:
    """The objects to apply, in an order in which each finds what it refers to."""
    given = rights_of(request.tier, request.method)
    everywhere = [right for right in given if right.everywhere]
    objects: list[Manifest] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(request, request.namespace)},
        *_role(request, request.namespace, [right for right in given if not right.everywhere]),
    ]
    if request.operator_namespace is not None:
        objects += _role(request, request.operator_namespace, rights.operator_log(request.operator_namespace))
    if everywhere:
        objects += _role(request, None, everywhere)
    if request.admission:
        objects += [part for policy in _policies(request) for part in _bound(request, *policy)]
    return objects


# -- roles ------------------------------------------------------------------------------------------------------------


def _metadata(request: AccessRequest, namespace: str | None, suffix: str = "") -> dict[str, Json]:
    labels: Json = {names.MANAGED_BY: names.PROJECT}
    if namespace is None:  # what belongs to the whole cluster has a name of its own there
        return {"name": f"{request.namespace}-{request.account}{suffix}", "labels": labels}
    return {"name": request.account, "namespace": namespace, "labels": labels}


def _role(request: AccessRequest, namespace: str | None, given: Iterable[Right]) -> list[Manifest]:
    """A role and its binding; in the whole cluster where there is no namespace."""
    kind = "ClusterRole" if namespace is None else "Role"
    metadata = _metadata(request, namespace)
    account: Json = {"kind": "ServiceAccount", "name": request.account, "namespace": request.namespace}
    role: Json = {"apiGroup": _GROUP, "kind": kind, "name": metadata["name"]}
    rules: list[Json] = [*_rules(request, given)]
    return [
        {"apiVersion": f"{_GROUP}/v1", "kind": kind, "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": role,
            "subjects": [account],
        },
    ]


def _rules(request: AccessRequest, given: Iterable[Right]) -> Iterable[dict[str, Json]]:
    """Rules of a role: a resource each, with all that may be done to it."""
    verbs: dict[tuple[str, str, tuple[str, ...]], list[Json]] = {}
    for right in given:
        known = tuple(_names_of(request, right.named))
        verbs.setdefault((right.group, right.resource, known), []).append(right.verb)
    for (group, resource, known), allowed in verbs.items():
        listed: list[Json] = [*known]
        limit: dict[str, Json] = {"resourceNames": listed} if listed else {}
        yield {"apiGroups": [group], "resources": [resource], **limit, "verbs": allowed}


def _names_of(request: AccessRequest, named: Named | None) -> Sequence[str]:
    if named is None:
        return ()
    return {"rayservice": (request.name,), "lease": (lease_name(request.name),), "node": request.nodes}[named]


# -- the admission policy ---------------------------------------------------------------------------------------------


def _policies(request: AccessRequest) -> Iterable[tuple[str, Sequence[Manifest], Sequence[tuple[str, str]]]]:
    """Name, the requests that it is about, and what must be true of them with the message if it is not."""
    cluster = rf"^{re.escape(request.name)}-(raycluster-)?{_SUFFIX}"
    whose = f"of RayService {request.namespace}/{request.name}"
    named = (f"request.name.matches({_cel(cluster + '-.+$')})", f"it is not named as those {whose} are")
    yield "proxy", [_requests(["CONNECT"], ["pods/proxy", "services/proxy"])], [named]
    if request.tier == "look":
        return
    yield "exec", [_requests(["CONNECT"], ["pods/exec"])], [named]
    owned = (
        "has(oldObject.metadata.ownerReferences) && oldObject.metadata.ownerReferences.exists(o,"
        f" o.kind == 'RayCluster' && o.apiVersion.startsWith('ray.io/') && o.name.matches({_cel(cluster + '$')}))"
    )
    yield "delete", [_requests(["DELETE"], ["pods"])], [(owned, f"the pod is not one {whose}")]
    lease = f"object.metadata.name == {_cel(lease_name(request.name))}"
    leases = [_requests(["CREATE"], ["leases"], group="coordination.k8s.io")]
    yield "lease", leases, [(lease, f"it is not the lease {whose}")]
    if request.tier == "drain":
        yield "evict", [_requests(["CREATE"], ["pods/eviction"])], [named]
        yield "nodes", [_requests(["UPDATE"], ["nodes"])], list(_only_cordons())


_SUFFIX = "[bcdfghjklmnpqrstvwxz2456789]{5}"
"""What KubeRay (1.6) adds to the name of a RayService for its RayClusters: `rand.String(5)` of k8s.io/apimachinery."""
_UNCHANGED: Mapping[str, Mapping[str, str]] = MappingProxyType({
    "metadata": {"labels": "{}", "finalizers": "[]", "ownerReferences": "[]"},
    "spec": {"taints": "[]", "providerID": "''", "podCIDR": "''", "podCIDRs": "[]"},
})  # fmt: skip
"""What of a node must stay as it is, and what stands for nothing. Kubernetes deletes a node whose owner is gone."""


def _only_cordons() -> Iterable[tuple[str, str]]:
    said = "nothing but spec.unschedulable of a node, and annotations of pytest-serve-chaos, may change"
    for whole, fields in _UNCHANGED.items():
        for name, empty in fields.items():
            yield f"{_or('object', whole, name, empty)} == {_or('oldObject', whole, name, empty)}", said
    new, old = (_or(which, "metadata", "annotations", "{}") for which in ("object", "oldObject"))
    ours = f"k.startsWith({_cel('pytest-serve-chaos/')})"
    yield f"({new}).all(k, {ours} || (k in ({old}) && ({old})[k] == ({new})[k]))", said
    yield f"({old}).all(k, {ours} || k in ({new}))", said


def _or(which: str, whole: str, name: str, empty: str) -> str:
    """What an object has there, or what stands for nothing."""
    return f"(has({which}.{whole}.{name}) ? {which}.{whole}.{name} : {empty})"


def _cel(text: str) -> str:
    """A string of the Common Expression Language."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _requests(operations: list[Json], resources: list[Json], *, group: str = "") -> Manifest:
    return {"apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": resources}


def _bound(
    request: AccessRequest, part: str, about: Sequence[Manifest], demands: Sequence[tuple[str, str]]
) -> list[Manifest]:
    """A policy and its binding. It is about requests of the service account alone."""
    metadata = _metadata(request, None, f"-{part}")
    of_account: Json = {"name": "account", "expression": f"request.userInfo.username == {_cel(request.user)}"}
    validations: list[Json] = [
        {"expression": expression, "message": said, "reason": "Forbidden"} for expression, said in demands
    ]
    return [
        {
            "apiVersion": f"{_ADMISSION}/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [*about]},
                "matchConditions": [of_account],
                "validations": validations,
            },
        },
        {
            "apiVersion": f"{_ADMISSION}/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {"policyName": metadata["name"], "validationActions": ["Deny"]},
        },
    ]
