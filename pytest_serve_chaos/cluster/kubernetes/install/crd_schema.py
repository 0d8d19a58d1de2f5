"""KubeRay's own schema of a RayService, from the manifests that the run installs, and what breaks it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from types import MappingProxyType

import yaml

from pytest_serve_chaos import safe_yaml
from pytest_serve_chaos.cluster.kubernetes.client.records import inner, listed, mapped, name_of, text
from pytest_serve_chaos.cluster.yaml_lines import Path
from pytest_serve_chaos.model import Json

_NAME = "rayservices.ray.io"
_VERSION = "v1"
_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "object": "a mapping",
        "array": "a list",
        "string": "text (write it in quotes)",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
    }
)
_OF_EVERY_OBJECT = ("apiVersion", "kind", "metadata", "status")


def read_schema(manifests: str) -> Mapping[str, Json] | None:
    """The schema of a RayService in KubeRay's manifests, where these are a file of this machine that has it."""
    try:
        content = FilePath(manifests).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError):
        return None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # it is a megabyte
    for document in re.split(r"^---\s*$", content, flags=re.MULTILINE):
        if _NAME not in document or "kind: CustomResourceDefinition" not in document:
            continue
        try:
            found = mapped(safe_yaml.read_document(document, loader))
        except yaml.YAMLError:
            return None
        if name_of(found) == _NAME:
            versions = listed(inner(found, "spec").get("versions"))
            schemas = [inner(v, "schema", "openAPIV3Schema") for v in versions if text(v, "name") == _VERSION]
            return next(iter(schemas), None)
    return None


def against(schema: Mapping[str, Json], ray_service: Mapping[str, Json]) -> Iterator[tuple[Path, str, str]]:
    """What of a RayService the schema does not allow: where, what, and how to fix it."""
    properties = mapped(schema.get("properties"))
    for key, value in ray_service.items():
        if key in properties and key not in _OF_EVERY_OBJECT:
            yield from _check(mapped(properties[key]), value, (key,))
        elif key not in _OF_EVERY_OBJECT:
            yield _unknown(key, properties, ())


def _check(schema: Mapping[str, Json], value: Json, path: Path) -> Iterator[tuple[Path, str, str]]:
    if value is None or not schema:
        return
    wrong = _wrong_type(schema, value)
    if wrong:
        yield path, f"{_named(path)} {wrong}", "write it as KubeRay's API reference does"
    elif isinstance(value, dict):
        yield from _check_object(schema, value, path)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _check(mapped(schema.get("items")), item, (*path, number))
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices and not wrong:
        yield path, f"KubeRay does not take {value!r}", f"take one of {', '.join(map(str, choices))}"


def _check_object(schema: Mapping[str, Json], value: Mapping[str, Json], path: Path) -> Iterator[tuple[Path, str, str]]:
    properties, others = mapped(schema.get("properties")), schema.get("additionalProperties")
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        others = True
    required = schema.get("required")
    for key in required if isinstance(required, list) else []:
        if isinstance(key, str) and value.get(key) is None:
            yield path, f"{key} is missing", f"give it {key}"
    for key, below in value.items():
        if key in properties:
            yield from _check(mapped(properties[key]), below, (*path, key))
        elif isinstance(others, dict):
            yield from _check(others, below, (*path, key))
        elif not others and (properties or schema.get("type") == "object"):
            yield _unknown(key, properties, path)


def _unknown(key: str, known: Mapping[str, Json], path: Path) -> tuple[Path, str, str]:
    close = difflib.get_close_matches(str(key), list(known), n=1)
    fix = f"write {close[0]}" if close else f"remove {key}, or install a KubeRay that knows it"
    return (*path, key), f"the installed KubeRay does not know the field {key}", fix


def _wrong_type(schema: Mapping[str, Json], value: Json) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "" if isinstance(value, str | int) and not isinstance(value, bool) else "is neither number nor text"
    types: dict[str, tuple[type, ...]] = {
        "object": (dict,),
        "array": (list,),
        "string": (str,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
    }
    wanted = text(schema, "type")
    allowed = types.get(wanted)
    if allowed is None or (isinstance(value, allowed) and (wanted == "boolean" or not isinstance(value, bool))):
        return ""
    return f"must be {_WORDS[wanted]}"


def _named(path: Path) -> str:
    """The field for people, for an item of a list with the field that has the list."""
    last = path[-1]
    return last if isinstance(last, str) else f"item {last + 1} of {path[-2]}"
