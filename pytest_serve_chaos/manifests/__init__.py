"""The Kubernetes manifests as package data: valid YAML files, and the merge patch that adapts them to a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import TypeAlias, cast

import yaml

from pytest_serve_chaos.model import Json

_NOT_PLAIN = re.compile(r"[-+.]?[0-9][-+.:\w]*|[yYnN]")

Manifest: TypeAlias = "dict[str, Json]"
"""One Kubernetes object as plain data."""


def text(name: str) -> str:
    """The text of a manifest file of this package, for example ``kind-config.yaml``."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def load(name: str) -> tuple[Manifest, ...]:
    """The objects of a manifest file of this package."""
    return tuple(cast("Manifest", document) for document in yaml.safe_load_all(text(name)) if document)


def dump(documents: tuple[Manifest, ...]) -> str:
    """Writes objects as YAML, one document each."""
    return yaml.dump_all(documents, Dumper=_PlainDumper, sort_keys=False)


def merge(base: Mapping[str, Json], patch: Mapping[str, Json]) -> Manifest:
    """Applies a JSON merge patch (RFC 7386) and leaves both arguments as they are.

    Objects are merged key by key, null removes a key, anything else (a list, too) replaces what was there.
    """
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = value
    return merged


class _PlainDumper(yaml.SafeDumper):
    """Writes for people, and for a reader that knows more numbers than ours.

    Values that occur twice are written out in full: Kubernetes' own reader takes aliases, people do not. Texts of
    several lines are blocks. Kubernetes reads 0123456789, 1e3 and y as numbers and a truth, so such texts are quoted.
    """

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_text(self, data: str) -> yaml.ScalarNode:
        """A text in the style that it needs."""
        style = "|" if "\n" in data else "'" if _NOT_PLAIN.fullmatch(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_PlainDumper.add_representer(str, _PlainDumper.represent_text)
