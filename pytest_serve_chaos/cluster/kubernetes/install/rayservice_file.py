"""A file with a RayService of the user's own and all that belongs to it: read, and checked before anything is made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, name_of, text
from pytest_serve_chaos.cluster.kubernetes.install import file_rules
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import FoundRayService, read_ray_service
from pytest_serve_chaos.cluster.proxy_location import check_proxy_location
from pytest_serve_chaos.cluster.serve_config import applications, serve_config_text
from pytest_serve_chaos.errors import ClusterStartError, SettingsError
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import Json

_NO_NAMESPACE = frozenset({
    "APIService", "CSIDriver", "CSINode", "CertificateSigningRequest", "ClusterIssuer", "ClusterRole",
    "ClusterRoleBinding", "CustomResourceDefinition", "FlowSchema", "GatewayClass", "IngressClass",
    "MutatingWebhookConfiguration", "Namespace", "Node", "PersistentVolume", "PriorityClass",
    "PriorityLevelConfiguration", "RuntimeClass", "StorageClass", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration", "VolumeAttachment",
})  # fmt: skip
"""The kinds that belong to the whole cluster."""

_TAKEN = frozenset({("Service", names.DASHBOARD_SERVICE), ("ConfigMap", names.CODE_CONFIG_MAP)})
"""What this package creates in addition to the file's objects."""

_BY_THE_SERVER = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink",
                  "ownerReferences", "finalizers", "deletionTimestamp")  # fmt: skip
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class OwnFile:
    """What a file says.

    Attributes:
        path: Where it is.
        ray_service: Its one RayService.
        others: All its other objects, in its order.
        found: What the RayService is, as for one that runs.
        notes: What of it is otherwise than in the file, a sentence each.
    """

    path: Path
    ray_service: Manifest = field(repr=False)
    others: tuple[Manifest, ...] = field(repr=False)
    found: FoundRayService
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> ClusterSpec:
        """The cluster that it describes."""
        return self.found.spec

    def of_kind(self, *kinds: str) -> tuple[Manifest, ...]:
        """The other objects of these kinds."""
        return tuple(item for item in self.others if item["kind"] in kinds)


def read_own_file(path: Path, *, app: str | None = None) -> OwnFile:
    """Reads the file and checks all that can be checked without a cluster.

    Args:
        path: A YAML file of one or several documents.
        app: Import path for the first app of the RayService, in place of its own.

    Raises:
        SettingsError: It cannot be read, has not one RayService, or KubeRay would refuse that.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the RayService file {path} cannot be read: {error}") from error
    return parse_own_file(content, path, app=app)


def parse_own_file(content: str, path: Path, *, app: str | None = None) -> OwnFile:
    """The same for a text; `path` says where it comes from."""
    given = list(_objects(content, path))
    items = [_without_traces(item) for item in given]
    notes = (
        ["what an API server wrote into the objects (status, uid and the like) is left out"] if items != given else []
    )
    ray_service = _the_ray_service(items, path)
    file_rules.check(ray_service, str(path))
    if app is not None:
        notes.append(f"the first app is {app}, and not {_read(ray_service, path).app}, as the options say")
        ray_service = _with_app(ray_service, app, path)
    others = tuple(item for item in items if item["kind"] != "RayService")
    return OwnFile(path, ray_service, others, _read(ray_service, path), tuple(notes))


def _the_ray_service(items: Sequence[Manifest], path: Path) -> Manifest:
    services = [item for item in items if item["kind"] == "RayService"]
    if len(services) == 1:
        return services[0]
    found = f" ({', '.join(name_of(item) for item in services)})" if services else ""
    raise SettingsError(
        f"{path} has {len(services)} RayServices{found}; one is needed, and no more",
        checked=[f"{item['kind']} {name_of(item)}" for item in items],
        fix=["give a file with one RayService and what belongs to it, Redis for example"],
    )


def _read(ray_service: Manifest, path: Path) -> FoundRayService:
    try:
        found = read_ray_service(ray_service)
    except ClusterStartError as error:
        raise SettingsError(error.what, checked=[str(path)], fix=error.fix) from error
    file_rules.check_serve_config(found.serve_config, str(path))
    check_proxy_location(found.serve_config, f"{path}, serveConfigV2")
    return found


def _with_app(ray_service: Manifest, app: str, path: Path) -> Manifest:
    config = _read(ray_service, path).serve_config
    first, *others = applications(config)
    apps: list[Json] = [{**first, "import_path": app}, *others]
    return merge(ray_service, {"spec": {"serveConfigV2": serve_config_text({**config, "applications": apps})}})


def _objects(content: str, path: Path) -> Iterator[Manifest]:
    try:
        documents = [d for d in yaml.load_all(content, Loader=_Loader) if d is not None]
    except yaml.YAMLError as error:
        raise SettingsError(
            f"{path} is not YAML: {_problem(error)}",
            fix=["correct the YAML; a line with --- separates documents"],
        ) from error
    for number, document in enumerate(documents, 1):
        items = mapped(document).get("items") if mapped(document).get("kind") == "List" else [document]
        for item in items if isinstance(items, list) else [items]:
            yield _checked(item, f"document {number} of {path}")


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong, and where, without the line itself: it may be that of a Secret."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    return f"{problem or type(error).__name__}" + (f" in line {mark.line + 1}" if mark is not None else "")


def _checked(item: Json, where: str) -> Manifest:
    kind, name = text(mapped(item), "kind"), name_of(mapped(item))
    if not isinstance(item, dict) or not kind or not name or not item.get("apiVersion"):
        raise SettingsError(
            f"{where} is not a Kubernetes object",
            checked=["apiVersion, kind and metadata.name"],
            fix=["write it as `kubectl apply` takes it"],
        )
    if kind in _NO_NAMESPACE:
        raise SettingsError(
            f"{where} is the {kind} {name}, which belongs to no namespace, so it would outlive the RayService",
            fix=[
                f"leave it out: all else goes into the namespace {names.NAMESPACE}"
                if kind == "Namespace"
                else "leave it out, or make a cluster that has it and take the backend `kubernetes`"
            ],
        )
    held = [pair for part in ("data", "stringData") for pair in mapped(item.get(part)).items()]
    no_text = [key for key, value in held if not isinstance(value, str)]
    if kind == "Secret" and no_text:  # the API server would refuse it with the value in its words
        raise SettingsError(
            f"{where} is the Secret {name}, and its {no_text[0]} is not text", fix=["write the value in quotes"]
        )
    if (kind, name) in _TAKEN:
        raise SettingsError(f"{where} is the {kind} {name}, a name that this plugin needs", fix=["rename it"])
    return item


def _without_traces(item: Manifest) -> Manifest:
    """Without what the API server wrote into an object that somebody has got from a cluster."""
    metadata: Mapping[str, Json] = mapped(item.get("metadata"))
    kept: Manifest = {key: value for key, value in metadata.items() if key not in _BY_THE_SERVER}
    annotations = {k: v for k, v in mapped(kept.get("annotations")).items() if k != _LAST_APPLIED}
    if "annotations" in kept:
        kept["annotations"] = annotations
    return {**{key: value for key, value in item.items() if key != "status"}, "metadata": kept}


class _Loader(yaml.SafeLoader):
    """Reads as Kubernetes does: dates are texts, and 0o644 is a number."""

    def text(self, node: yaml.ScalarNode) -> str:
        """What is written there."""
        return str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.text)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile("0o[0-7]+$"), ["0"])
