"""A file of patches for a RayService file: what kind lacks is left out or replaced, and the file stays as it is.

A patch is a JSON merge patch (RFC 7386), with one difference that users of Kubernetes expect: a list whose items have
names is merged item by item, as strategic merge does, and not replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import yaml

from pytest_serve_chaos import safe_yaml
from pytest_serve_chaos.cluster import yaml_text
from pytest_serve_chaos.cluster.kubernetes.client.records import mapped, name_of, text
from pytest_serve_chaos.cluster.serve_config import serve_config_text
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.manifests import Manifest
from pytest_serve_chaos.model import Json

_KEYS: Mapping[str, str] = MappingProxyType(
    {"workerGroupSpecs": "groupName", "volumeMounts": "mountPath", "ports": "containerPort"}
)
"""By what the items of a list are found, where that is not `name`."""
_NOT_ADDED = ("containers", "workerGroupSpecs")
"""The lists to which a patch adds nothing: an unknown name in them is a typing error."""
_DIRECTIVE = "$patch"
_EXAMPLE = "write a list: - {kind: RayService, name: NAME, patch: {spec: ...}}"


@dataclass(frozen=True, slots=True)
class FilePatch:
    """What is changed in one object.

    Attributes:
        source: Which patch of which file, for messages.
        kind: The kind of the object.
        name: Its name; "" for the only one of its kind.
        patch: The merge patch; None: the object is left out.
    """

    source: str
    kind: str
    name: str
    patch: Mapping[str, Json] | None = field(repr=False)


def read_patches(path: Path) -> tuple[FilePatch, ...]:
    """Reads a file of patches.

    Raises:
        SettingsError: It cannot be read, or is not a list of patches.
    """
    return parse_patches(yaml_text.read_text(path, "the patch file"), path)


def parse_patches(content: str, path: Path) -> tuple[FilePatch, ...]:
    """The same for a text; `path` says where it comes from."""
    try:
        found = [document for document in safe_yaml.read_documents(content) if document is not None]
    except yaml.YAMLError as error:
        raise SettingsError(f"the patch file {path} is not YAML: {yaml_text.problem(error)}", fix=[_EXAMPLE]) from error
    items = [item for document in found for item in (document if isinstance(document, list) else [document])]
    return tuple(_patch(item, f"patch {number} of {path}") for number, item in enumerate(items, 1))


def _patch(item: Json, source: str) -> FilePatch:
    given = mapped(item)
    kind, name = text(given, "kind"), text(given, "name") or name_of(given)
    if not kind:
        raise SettingsError(f"{source} names no kind", checked=[f"{given or item!r:.200}"], fix=[_EXAMPLE])
    if "patch" in given:
        unknown = sorted({*given} - {"kind", "name", "patch", "apiVersion", "metadata"})
        patch = given["patch"]
        if unknown or not isinstance(patch, dict | None):
            wrong = f"has {', '.join(unknown)} in addition to patch" if unknown else "has a patch that is not a mapping"
            raise SettingsError(f"{source} {wrong}", fix=[_EXAMPLE])
        return FilePatch(source, kind, name, patch)
    if given.get(_DIRECTIVE) == "delete":
        return FilePatch(source, kind, name, None)
    metadata = {key: value for key, value in mapped(given.get("metadata")).items() if key != "name"}
    rest = {key: value for key, value in given.items() if key not in ("apiVersion", "kind", "name", "metadata")}
    if not rest and not metadata:
        raise SettingsError(f"{source} changes nothing: it has no patch", fix=[_EXAMPLE])
    return FilePatch(source, kind, name, {**rest, **({"metadata": metadata} if metadata else {})})


def patched(objects: Sequence[Manifest], patches: Sequence[FilePatch]) -> tuple[list[Manifest | None], list[str]]:
    """The objects with all patches, in their places, and a sentence about each change; None for one that is left out.

    Raises:
        SettingsError: A patch is for no object, or for an unknown container or group of workers.
    """
    found: list[Manifest | None] = [*objects]
    notes: list[str] = []
    for patch in patches:
        for number in _targets(found, patch):
            item = found[number] or {}
            what = f"{patch.kind} {name_of(item)}"
            if patch.patch is None:
                found[number] = None
                notes.append(f"{what} is left out, as {patch.source} says")
                continue
            found[number] = _with_patch(item, patch)
            notes.append(f"{what} is changed, as {patch.source} says")
            notes += [f"{patch.source} removes {path}, which {what} does not have" for path in _absent(item, patch)]
    return found, notes


def _targets(objects: Sequence[Manifest | None], patch: FilePatch) -> list[int]:
    of_kind = [n for n, item in enumerate(objects) if item is not None and item["kind"] == patch.kind]
    named = [n for n in of_kind if patch.name in ("", name_of(objects[n] or {}))]
    if not named or (len(named) > 1 and not patch.name):
        what = f"{patch.kind} {patch.name}".strip()
        raise SettingsError(
            f"{patch.source} is for {what}, and the file has {len(named) or 'no'} such object{'s' * (len(named) > 1)}",
            checked=[f"{item['kind']} {name_of(item)}" for item in objects if item is not None],
            fix=["give kind and name of one of these"],
        )
    return named


def _with_patch(item: Manifest, patch: FilePatch) -> Manifest:
    changes = dict(patch.patch or {})
    spec = mapped(changes.get("spec"))
    config = spec.get("serveConfigV2")
    if isinstance(config, dict):  # it is a text of YAML, and is changed as what it says
        given = _given_config(mapped(item.get("spec")), patch)
        merged = merge_named(mapped(given), config, patch.source)
        changes["spec"] = {**spec, "serveConfigV2": serve_config_text(merged)}
    return merge_named(item, changes, patch.source)


def _given_config(spec: Mapping[str, Json], patch: FilePatch) -> Json:
    """What the Serve config of the file says.

    Raises:
        SettingsError: It is not YAML.
    """
    try:
        return safe_yaml.read_document(text(spec, "serveConfigV2") or "{}")
    except yaml.YAMLError as error:
        raise SettingsError(
            f"{patch.source} changes a serveConfigV2 that is not YAML: {yaml_text.problem(error)}",
            fix=["correct the YAML, or give serveConfigV2 as a whole in the patch"],
        ) from error


def merge_named(base: Mapping[str, Json], patch: Mapping[str, Json], source: str) -> Manifest:
    """The merge patch applied, with lists of named items merged by these names.

    Args:
        base: What is changed.
        patch: The patch. In a list, an item ``{name: X, $patch: delete}`` removes X.
        source: Where it comes from, for messages.

    Raises:
        SettingsError: It is for a container or a group of workers that `base` does not have.
    """
    merged = dict(base)
    for key, value in patch.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = merge_named(below if isinstance(below, dict) else {}, value, source)
        elif isinstance(value, list):
            merged[key] = _merged_list(key, below, value, source)
        else:
            merged[key] = value
    return merged


def _merged_list(name: str, base: Json, patch: list[Json], source: str) -> list[Json]:
    key = _key(name, base, patch)
    if key is None or not isinstance(base, list):
        return patch
    merged = list(base)
    for item in patch:
        change = mapped(item)
        at = [n for n, there in enumerate(merged) if mapped(there).get(key) == change[key]]
        if not at:
            if name in _NOT_ADDED and "image" not in change and "template" not in change:
                raise SettingsError(
                    f"{source} is for {key} {change[key]!r} of {name}, and there is none",
                    checked=[f"{key} {mapped(there).get(key)}" for there in merged],
                    fix=["give the name of one that is there", "or a whole one, which is added"],
                )
            merged += [item] if change.get(_DIRECTIVE) != "delete" else []
        elif change.get(_DIRECTIVE) == "delete":
            merged = [there for n, there in enumerate(merged) if n not in at]
        else:
            for n in at:
                merged[n] = merge_named(mapped(merged[n]), change, source)
    return merged


def _key(name: str, base: Json, patch: Sequence[Json]) -> str | None:
    """By what the items of both lists are found; None where they are replaced as a whole."""
    items = [*patch, *(base if isinstance(base, list) else [])]
    for key in (_KEYS.get(name, "name"), "name"):
        if patch and all(isinstance(item, dict) and isinstance(item.get(key), str | int) for item in items):
            return key
    return None


def _absent(item: Manifest, patch: FilePatch) -> Iterator[str]:
    """What a patch removes that is not there: a typing error, most likely."""
    spec = mapped(item.get("spec"))
    base: Manifest = {**item, "spec": {**spec, "serveConfigV2": _read(spec.get("serveConfigV2"))}} if spec else item
    yield from _removed(base, dict(patch.patch or {}), "", "")


def _read(config: Json) -> Json:
    try:
        found: Json = safe_yaml.read_document(config) if isinstance(config, str) else config
    except yaml.YAMLError:
        return config
    return found


def _removed(base: Json, patch: Json, path: str, name: str) -> Iterator[str]:
    if isinstance(patch, dict):
        there = mapped(base)
        for key, value in patch.items():
            below = f"{path}.{key}" if path else key
            if value is None and key not in there:
                yield below
            yield from _removed(there.get(key), value, below, key)
    elif isinstance(patch, list):
        key_of = _key(name, base, patch)
        for item in patch if key_of and isinstance(base, list) else ():
            named = mapped(item)[key_of or ""]
            same = [one for one in base if mapped(one).get(key_of or "") == named] if isinstance(base, list) else []
            for one in same:
                yield from _removed(
                    one, {k: v for k, v in mapped(item).items() if k != _DIRECTIVE}, f"{path}[{named}]", ""
                )
