"""A file with a RayService of the user's own and all that belongs to it: read, and checked before anything is made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from pytest_serve_chaos import safe_yaml
from pytest_serve_chaos.cluster import yaml_lines, yaml_text
from pytest_serve_chaos.cluster.base import ClusterSpec
from pytest_serve_chaos.cluster.kubernetes import names
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, mapped, name_of, text
from pytest_serve_chaos.cluster.kubernetes.install.file_checks import FileChecks, problems_of
from pytest_serve_chaos.cluster.kubernetes.install.file_objects import PATCH, FileObject
from pytest_serve_chaos.cluster.kubernetes.install.file_patch import FilePatch, patched, read_patches
from pytest_serve_chaos.cluster.kubernetes.install.file_redis import lost_redis
from pytest_serve_chaos.cluster.kubernetes.rayservice.existing import FoundRayService, read_ray_service
from pytest_serve_chaos.cluster.problems import Problem, refuse
from pytest_serve_chaos.cluster.serve_config import applications, serve_config_text
from pytest_serve_chaos.errors import ClusterStartError, SettingsError
from pytest_serve_chaos.manifests import Manifest, merge
from pytest_serve_chaos.model import Json

_BY_THE_SERVER = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink",
                  "ownerReferences", "finalizers", "deletionTimestamp")  # fmt: skip
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_WAYS_OUT = (
    "change the file",
    "or leave it as it is, and write what is different for the test into a file of patches, a list of"
    " {kind, name, patch}: --serve-chaos-rayservice-patch=FILE",
)
_PATCHES = "; patches are a list of {kind, name, patch} in a file: --serve-chaos-rayservice-patch=FILE"


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

    @property
    def namespace(self) -> str:
        """The namespace in which all of it runs: that of its RayService, or else ours."""
        return text(mapped(self.ray_service.get("metadata")), "namespace") or names.NAMESPACE

    def of_kind(self, *kinds: str) -> tuple[Manifest, ...]:
        """The other objects of these kinds."""
        return tuple(item for item in self.others if item["kind"] in kinds)


def read_own_file(
    path: Path, *, app: str | None = None, patch: Path | None = None, checks: FileChecks | None = None
) -> OwnFile:
    """Reads the file and checks all that can be checked without a cluster.

    Args:
        path: A YAML file of one or several documents.
        app: Import path for the first app of the RayService, in place of its own.
        patch: A file of patches for its objects.
        checks: What the cluster has, and who is asked; None: nothing is known of it.

    Raises:
        SettingsError: It cannot be read, has not one RayService, or could not run; the message has every reason.
    """
    content = yaml_text.read_text(path, "the RayService file")
    patches = () if patch is None else read_patches(patch)
    return parse_own_file(content, path, app=app, patches=patches, checks=checks)


def parse_own_file(
    content: str,
    path: Path,
    *,
    app: str | None = None,
    patches: Sequence[FilePatch] = (),
    checks: FileChecks | None = None,
) -> OwnFile:
    """The same for a text; `path` says where it comes from."""
    given = list(_objects(content, path))
    items = [replace(item, manifest=_without_traces(item.manifest)) for item in given]
    notes = (
        ["what an API server wrote into the objects (status, uid and the like) is left out"] if items != given else []
    )
    notes += yaml_text.repeated_keys(content)
    changed, told = patched([item.manifest for item in items], patches)
    notes += told
    items = [replace(old, manifest=new) for old, new in zip(items, changed, strict=True) if new is not None]
    ray_service = _the_ray_service(items, path)
    if app is not None and (found := _app_of(ray_service.manifest)) is not None:
        notes.append(f"the first app is {app}, and not {found}, as the options say")
        ray_service = replace(ray_service, manifest=_with_app(ray_service.manifest, app))
        items = [ray_service if item.kind == "RayService" else item for item in items]
    others = tuple(item.manifest for item in items if item.kind != "RayService")
    problems = problems_of(items, checks or FileChecks(), _redis(ray_service, others, path))
    single = _PATCHES if any(PATCH in problem.fix for problem in problems) else ""
    refuse(f"{path} cannot run on kind as it is", problems, _WAYS_OUT, single=single)
    return OwnFile(path, ray_service.manifest, others, _read(ray_service.manifest, path), tuple(notes))


def _the_ray_service(items: Sequence[FileObject], path: Path) -> FileObject:
    services = [item for item in items if item.kind == "RayService"]
    if len(services) == 1:
        return services[0]
    found = f" ({', '.join(item.name for item in services)})" if services else ""
    raise SettingsError(
        f"{path} has {len(services)} RayServices{found}; one is needed, and no more",
        checked=[f"{item.kind} {item.name}" for item in items],
        fix=["give a file with one RayService and what belongs to it, Redis for example"],
    )


def _redis(ray_service: FileObject, others: tuple[Manifest, ...], path: Path) -> Iterator[Problem]:
    """Whether the Redis that the RayService names is in the file; it is nobody's where that cannot be read."""
    try:
        found = read_ray_service(ray_service.manifest)
    except ClusterStartError:
        return
    what, fix = lost_redis(OwnFile(path, ray_service.manifest, others, found))
    if what:
        options: tuple[str, ...] = ("spec", "rayClusterConfig", "gcsFaultToleranceOptions")
        has_options = inner(ray_service.manifest, *options)
        yield ray_service.problem((*options, "redisAddress") if has_options else (), what, fix)


def _read(ray_service: Manifest, path: Path) -> FoundRayService:
    try:
        return read_ray_service(ray_service)
    except ClusterStartError as error:
        raise SettingsError(f"{path}: {error.what}", checked=error.checked, fix=error.fix) from error


def _app_of(ray_service: Manifest) -> str | None:
    """The first app; None where the config has none, which is refused with all else."""
    try:
        return read_ray_service(ray_service).app
    except ClusterStartError:
        return None


def _with_app(ray_service: Manifest, app: str) -> Manifest:
    config = read_ray_service(ray_service).serve_config
    first, *others = applications(config)
    apps: list[Json] = [{**first, "import_path": app}, *others]
    return merge(ray_service, {"spec": {"serveConfigV2": serve_config_text({**config, "applications": apps})}})


def _objects(content: str, path: Path) -> Iterator[FileObject]:
    try:
        documents = safe_yaml.read_documents(content, _Loader)
    except yaml.YAMLError as error:
        raise SettingsError(
            f"{path} is not YAML: {yaml_text.problem(error)}",
            fix=yaml_text.ways_out(content, "correct the YAML; a line with --- separates documents"),
        ) from error
    lines = yaml_lines.documents(content)
    number = 0
    for document, where in zip(documents, lines, strict=True):
        if document is None:
            continue
        number += 1
        items = mapped(document).get("items") if mapped(document).get("kind") == "List" else None
        if not isinstance(items, list):
            yield FileObject(_checked(document, f"{path}: document {number}"), number, where)
            continue
        for index, item in enumerate(items):
            manifest = _checked(item, f"{path}: item {index + 1} of document {number}")
            yield FileObject(manifest, number, where.below("items", index))


def _checked(item: Json, where: str) -> Manifest:
    kind, name = text(mapped(item), "kind"), name_of(mapped(item))
    if not isinstance(item, dict) or not kind or not name or not item.get("apiVersion"):
        raise SettingsError(
            f"{where} is not a Kubernetes object",
            checked=["apiVersion, kind and metadata.name"],
            fix=["write it as `kubectl apply` takes it"],
        )
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
