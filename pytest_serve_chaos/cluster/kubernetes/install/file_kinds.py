"""The kinds of objects that a kind cluster with KubeRay takes, and what stands in for those that it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import text
from pytest_serve_chaos.cluster.kubernetes.install.file_objects import PATCH, FileObject
from pytest_serve_chaos.cluster.kubernetes.install.file_texts import texts
from pytest_serve_chaos.cluster.problems import Problem

_KINDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "v1": frozenset({
            "ConfigMap", "Endpoints", "LimitRange", "Namespace", "PersistentVolumeClaim", "Pod", "PodTemplate",
            "ReplicationController", "ResourceQuota", "Secret", "Service", "ServiceAccount",
        }),
        "apps/v1": frozenset({"ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"}),
        "autoscaling/v2": frozenset({"HorizontalPodAutoscaler"}),
        "autoscaling/v1": frozenset({"HorizontalPodAutoscaler"}),
        "batch/v1": frozenset({"CronJob", "Job"}),
        "coordination.k8s.io/v1": frozenset({"Lease"}),
        "discovery.k8s.io/v1": frozenset({"EndpointSlice"}),
        "networking.k8s.io/v1": frozenset({"Ingress", "NetworkPolicy"}),
        "policy/v1": frozenset({"PodDisruptionBudget"}),
        "ray.io/v1": frozenset({"RayCluster", "RayJob", "RayService"}),
        "ray.io/v1alpha1": frozenset({"RayCluster", "RayJob", "RayService"}),
        "rbac.authorization.k8s.io/v1": frozenset({"Role", "RoleBinding"}),
        "scheduling.k8s.io/v1": frozenset({"PriorityClass"}),
    }
)  # fmt: skip
"""What belongs to a namespace, and `OF_THE_CLUSTER`, by the version in which Kubernetes 1.25 and later have it."""

OF_THE_CLUSTER = frozenset({"Namespace", "PriorityClass"})
"""The kinds that belong to no namespace, and that the plugin can take away again."""

_OUTLIVES = frozenset({
    "APIService", "CSIDriver", "CSINode", "CertificateSigningRequest", "ClusterRole", "ClusterRoleBinding",
    "CustomResourceDefinition", "FlowSchema", "IngressClass", "MutatingWebhookConfiguration", "Node",
    "PersistentVolume", "PriorityLevelConfiguration", "RuntimeClass", "StorageClass", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration", "VolumeAttachment",
})  # fmt: skip

_MAKES_A_SECRET = frozenset({"ExternalSecret", "SealedSecret", "SecretProviderClass", "VaultStaticSecret"})

_TAKEN = frozenset({("Service", names.DASHBOARD_SERVICE), ("ConfigMap", names.CODE_CONFIG_MAP)})
"""What this package creates in addition to the file's objects."""


def kinds(objects: Sequence[FileObject]) -> Iterator[Problem]:
    """The objects that a kind cluster does not take, or that nothing would take away again."""
    seen: dict[tuple[str, str], FileObject] = {}
    for item in objects:
        yield from _kind(item)
        yield from texts(item)
        if (item.kind, item.name) in _TAKEN:
            yield item.problem((), f"{item.name} is a name that this plugin needs", "rename it")
        other = seen.setdefault((item.kind, item.name), item)
        if other is not item:
            yield item.problem(
                (),
                f"there are two objects of this kind and name (documents {other.number} and {item.number})",
                "remove or rename one: all objects of the file are in one namespace",
            )


def _kind(item: FileObject) -> Iterator[Problem]:
    version = text(item.manifest, "apiVersion")
    left_out = f"leave it out {PATCH}: {{kind: {item.kind}, name: {item.name}, patch: null}}"
    if item.kind in _OUTLIVES:
        yield item.problem(
            (),
            f"the {item.kind} belongs to no namespace, so it would outlive the RayService",
            f"{left_out}; or make a cluster that has it and take the backend `kubernetes`",
        )
    elif item.kind not in _KINDS.get(version, ()):
        if item.kind in _MAKES_A_SECRET:
            left_out = f"put the Secret that it makes into the file, and {left_out}"
        elif item.kind == "Kustomization":
            left_out = f"give the output of kustomize build, or {left_out}"
        elif there := _version_with(item.kind, version):
            left_out = f"write {there}, or {left_out}"
        is_known = version in _KINDS
        what = f"{version} has no kind {item.kind}" if is_known else f"kind does not know {item.kind} of {version}"
        yield item.problem(("apiVersion",), what, left_out)


def _version_with(kind: str, version: str) -> str:
    """The version that has a kind which another version, of its group or of a group that is gone, does not have."""
    found = [known for known, kinds in _KINDS.items() if kind in kinds]
    same_group = [known for known in found if known.rpartition("/")[0] == version.rpartition("/")[0]]
    old = version.startswith("extensions/") or version in _KINDS
    return next(iter(same_group or (found if old else [])), "")
