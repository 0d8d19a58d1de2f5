"""What must be text, a name or base64 in every object: numbers and words like `yes` are YAML's most frequent trap."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator

from pytest_serve_chaos.cluster.kubernetes.client.records import inner, mapped, text
from pytest_serve_chaos.cluster.kubernetes.install.file_objects import FileObject
from pytest_serve_chaos.cluster.kubernetes.install.file_templates import is_template
from pytest_serve_chaos.cluster.problems import Problem
from pytest_serve_chaos.cluster.yaml_lines import Path
from pytest_serve_chaos.model import Json

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_ANY_NAME = frozenset({"Role", "RoleBinding", "RayService"})
"""Names with other letters (Role), or with a rule of KubeRay's (RayService)."""
_OF_TEMPLATES: tuple[Path, ...] = (
    ("metadata",),
    ("spec", "template", "metadata"),
    ("spec", "jobTemplate", "spec", "template", "metadata"),
)


def texts(item: FileObject) -> Iterator[Problem]:
    """What of an object is not text, and must be, without what it holds: it may be that of a Secret."""
    yield from _names(item)
    for path in _OF_TEMPLATES:
        holder = inner(item.manifest, *map(str, path))
        for part in ("labels", "annotations"):
            yield from _no_texts(item, (*path, part), mapped(holder.get(part)).items())
    if item.kind in ("Secret", "ConfigMap"):
        for part in ("data", "stringData", "binaryData"):
            yield from _no_texts(item, (part,), mapped(item.manifest.get(part)).items())
        part = "data" if item.kind == "Secret" else "binaryData"
        for key, value in mapped(item.manifest.get(part)).items():
            if isinstance(value, str) and not is_template(value) and not _is_base64(value):
                fix = "write it into stringData" if item.kind == "Secret" else "write it into data"
                yield item.problem((part, key), f"the {part} {key} is not base64", f"encode it, or {fix}")


def _names(item: FileObject) -> Iterator[Problem]:
    metadata = mapped(item.manifest.get("metadata"))
    if item.kind not in _ANY_NAME and not _NAME.fullmatch(item.name):
        what = f"{item.name} is not the name of a {item.kind}"
        yield item.problem(("metadata", "name"), what, "take lower-case letters, digits, hyphens and dots")
    namespace = text(metadata, "namespace")
    if namespace and not _LABEL.fullmatch(namespace):
        what = f"{namespace} is not the name of a namespace"
        yield item.problem(("metadata", "namespace"), what, "take lower-case letters, digits and hyphens, 63 at most")


def _no_texts(item: FileObject, path: Path, given: Iterable[tuple[object, Json]]) -> Iterator[Problem]:
    """YAML takes words like `yes` for keys that are not text, too."""
    for key, value in given:
        if not isinstance(key, str):
            yield item.problem(path, f"its {path[-1]} have the key {key}, which is not text", "write the key in quotes")
        elif not isinstance(value, str | None):  # Kubernetes takes null for an empty text
            yield item.problem((*path, key), f"its {key} is not text", "write the value in quotes")


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode("".join(value.split()), validate=True)
    except binascii.Error:
        return False
    return True
