"""The kinds of objects that a kind cluster with KubeRay takes, and what stands in for those that it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, text
from pytest_serve_chaos.cluster.kubernetes.install.file_objects import PATCH, FileObject
from pytest_serve_chaos.cluster.problems import Problem

_KINDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "": frozenset({
            "ConfigMap", "Endpoints", "LimitRange", "Namespace", "PersistentVolumeClaim", "Pod", "PodTemplate",
            "ReplicationController", "ResourceQuota", "Secret", "Service", "ServiceAccount",
        }),
        "apps": frozenset({"ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"}),
        "autoscaling": frozenset({"HorizontalPodAutoscaler"}),
        "batch": frozenset({"CronJob", "Job"}),
        "coordination.k8s.io": frozenset({"Lease"}),
        "discovery.k8s.io": frozenset({"EndpointSlice"}),
        "networking.k8s.io": frozenset({"Ingress", "NetworkPolicy"}),
        "policy": frozenset({"PodDisruptionBudget"}),
        "ray.io": frozenset({"RayCluster", "RayJob", "RayService"}),
        "rbac.authorization.k8s.io": frozenset({"Role", "RoleBinding"}),
        "scheduling.k8s.io": frozenset({"PriorityClass"}),
    }
)  # fmt: skip
"""What belongs to a namespace, and `OF_THE_CLUSTER`."""

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
        held = [pair for part in ("data", "stringData") for pair in mapped(item.manifest.get(part)).items()]
        no_text = [key for key, value in held if not isinstance(value, str)]
        if item.kind == "Secret" and no_text:  # the API server would refuse it with the value in its words
            yield item.problem((), f"its {no_text[0]} is not text", "write the value in quotes")
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
    group, _, _ = text(item.manifest, "apiVersion").rpartition("/")
    left_out = f"leave it out {PATCH}: {{kind: {item.kind}, name: {item.name}, patch: null}}"
    if item.kind in _OUTLIVES:
        yield item.problem(
            (),
            f"the {item.kind} belongs to no namespace, so it would outlive the RayService",
            f"{left_out}; or make a cluster that has it and take the backend `kubernetes`",
        )
    elif group not in _KINDS:
        if item.kind in _MAKES_A_SECRET:
            left_out = f"put the Secret that it makes into the file, and {left_out}"
        yield item.problem((), f"kind does not know {item.kind} of {text(item.manifest, 'apiVersion')}", left_out)
    elif item.kind not in _KINDS[group]:
        yield item.problem(
            (), f"{text(item.manifest, 'apiVersion')} has no kind {item.kind}", f"correct it, or {left_out}"
        )
