"""The objects of a file, each with its place in it, and what a kind cluster has for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_serve_chaos.cluster.kubernetes.client.records import listed, mapped, name_of, text
from pytest_serve_chaos.cluster.problems import Problem
from pytest_serve_chaos.cluster.yaml_lines import Lines, Path, shown
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Json

PATCH = "in a patch"
"""The way out for which the file itself stays as it is; the error says once how to give one."""


@dataclass(frozen=True, slots=True)
class KindOffers:
    """What the kind cluster of a run has.

    Attributes:
        processors: How many a node has; None: unknown.
        memory: Bytes of memory of a node; None: unknown.
        operator: Which KubeRay is installed, ``(1, 6)``; None: unknown.
        schema: KubeRay's schema of a RayService, as OpenAPI; None: not at hand, so the API server checks the fields.
    """

    processors: float | None = None
    memory: int | None = None
    operator: tuple[int, int] | None = None
    schema: Mapping[str, Json] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class FileObject:
    """One object of the file.

    Attributes:
        manifest: The object.
        number: The number of its document.
        lines: Where its values stand.
    """

    manifest: Manifest = field(repr=False)
    number: int
    lines: Lines = field(default_factory=Lines, repr=False)

    @property
    def kind(self) -> str:
        """Its kind."""
        return text(self.manifest, "kind")

    @property
    def name(self) -> str:
        """Its name."""
        return name_of(self.manifest)

    def problem(self, path: Path, what: str, fix: str, *, refuses: bool = True) -> Problem:
        """A problem with the value at a path."""
        line = self.lines.line(path)
        place = f"document {self.number}" + ("" if line is None else f", line {line}")
        field_of = f", {shown(path, self.manifest)}" if path else ""
        return Problem(what, fix, f"{place}: {self.kind} {self.name}{field_of}", refuses)


@dataclass(frozen=True, slots=True)
class PodPlace:
    """A pod that an object makes.

    Attributes:
        of: The object.
        path: The path of the pod's spec in it.
        spec: That spec.
        group: The head group or the group of workers; empty for a pod that is not Ray's.
        role: ``head`` or ``worker``; "" for a pod that is not Ray's.
    """

    of: FileObject
    path: Path
    spec: Mapping[str, Json] = field(repr=False)
    group: Mapping[str, Json] = field(default_factory=dict, repr=False)
    role: str = ""

    def problem(self, path: Path, what: str, fix: str, *, refuses: bool = True) -> Problem:
        """A problem with the value at a path below the pod's spec."""
        return self.of.problem((*self.path, *path), what, fix, refuses=refuses)

    def containers(self) -> Iterator[tuple[Path, dict[str, Json]]]:
        """All containers, each with its path below the spec."""
        for key in ("initContainers", "containers"):
            given = self.spec.get(key)
            for number, item in enumerate(given if isinstance(given, list) else []):
                yield (key, number), mapped(item)


def pods(objects: Sequence[FileObject]) -> Iterator[PodPlace]:
    """All pods that the objects make."""
    for item in objects:
        if item.kind in ("RayService", "RayCluster", "RayJob"):
            yield from _ray_pods(item)
            continue
        spec = mapped(item.manifest.get("spec"))
        for path in (("spec",), ("spec", "template", "spec"), ("spec", "jobTemplate", "spec", "template", "spec")):
            found = spec if item.kind == "Pod" else _at(item.manifest, path)
            if found.get("containers") and (item.kind == "Pod") == (path == ("spec",)):
                yield PodPlace(item, path, found)


def _ray_pods(item: FileObject) -> Iterator[PodPlace]:
    base: Path = ("spec",) if item.kind == "RayCluster" else ("spec", _CLUSTER[item.kind])
    cluster = _at(item.manifest, base)
    head = mapped(cluster.get("headGroupSpec"))
    yield PodPlace(item, (*base, "headGroupSpec", "template", "spec"), _at(head, ("template", "spec")), head, "head")
    groups = cluster.get("workerGroupSpecs")
    for number, group in enumerate(groups if isinstance(groups, list) else []):
        path: Path = (*base, "workerGroupSpecs", number, "template", "spec")
        yield PodPlace(item, path, _at(mapped(group), ("template", "spec")), mapped(group), "worker")


_CLUSTER = {"RayService": "rayClusterConfig", "RayJob": "rayClusterSpec"}


def _at(item: Mapping[str, Json], path: Path) -> dict[str, Json]:
    found: Json = dict(item)
    for key in path:
        found = mapped(found).get(str(key))
    return mapped(found)


def given_names(objects: Sequence[FileObject], kind: str) -> dict[str, dict[str, Json]]:
    """The objects of a kind that the file has, by name."""
    return {item.name: item.manifest for item in objects if item.kind == kind}


def keys_of(item: Mapping[str, Json]) -> set[str]:
    """The keys that a Secret or a ConfigMap has."""
    return {key for part in ("data", "stringData", "binaryData") for key in mapped(item.get(part))}


def names_in(items: Json, key: str = "name") -> list[str]:
    """The names of a list of objects."""
    return [text(item, key) for item in listed(items)]
