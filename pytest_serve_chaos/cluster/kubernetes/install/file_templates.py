"""Templates that nobody has rendered: ``${IMAGE}``, ``$IMAGE``, ``{{ .Values.image }}``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pytest_serve_chaos.cluster.kubernetes.install.file_objects import FileObject
from pytest_serve_chaos.cluster.problems import Problem
from pytest_serve_chaos.cluster.yaml_lines import Path
from pytest_serve_chaos.cluster.yaml_text import RENDER
from pytest_serve_chaos.model import Json

_BRACED = r"\$\{\{?\s*[A-Za-z_][^{}]*\}?\}|\{\{.*?\}\}|\{%.*?%\}"
_BARE = r"\$[A-Z_][A-Z0-9_]*"
_ANYWHERE = re.compile(rf"{_BRACED}|(?:^|(?<=[/:@-])){_BARE}(?=$|[/:.@-])")
_WHOLE = re.compile(rf"^\s*(?:{_BRACED}|{_BARE})\s*$")
_HELM = r"\{\{-?\s*(?:\.Values|\.Release|\.Chart|\$|include |template |toYaml ).*?\}\}"
_OF_HELM = re.compile(_HELM)
_NAMED = r"\$\{[A-Z_][A-Z0-9_]*\}"
_NOTES = re.compile(rf"{_HELM}|{_NAMED}|^\s*{_BARE}\s*$")
"""In annotations: tools that read these have templates of their own, and of none of them is this the syntax."""
_IN_TEXT = re.compile(rf"{_NAMED}|^\s*(?:{_BRACED}|{_BARE})\s*$")

_PATTERNS: Mapping[str, re.Pattern[str] | None] = {
    # A shell has variables of its own.
    **dict.fromkeys(("command", "args", "exec", "rayStartParams", "entrypoint"), _OF_HELM),
    "annotations": _NOTES,
    # What others read may have any syntax, unless there is nothing but a template.
    **dict.fromkeys(("data", "stringData", "binaryData"), _WHOLE),
    "serveConfigV2": None,  # looked at as what it says
}
_IN_SERVE_CONFIG: Mapping[str, re.Pattern[str] | None] = {
    # What apps read: a chat template is full of braces.
    **dict.fromkeys(("args", "user_config"), _IN_TEXT),
    # Ray itself takes ${NAME} from the environment of its node: PATH: "${PATH}:/opt/bin".
    "env_vars": _WHOLE,
}
_TEXT = 200
"""Characters; a longer value, or one of several lines, is a text that may speak of templates."""
FIX = RENDER


def templates(objects: Sequence[FileObject]) -> Iterator[Problem]:
    """All values of the objects that are, or contain, templates."""
    for item in objects:
        for path, found in _in_value(item.manifest, _PATTERNS):
            yield item.problem(path, f"{found} is a template, and not a value", FIX)


def in_serve_config(config: Mapping[str, Json]) -> Iterator[tuple[Path, str]]:
    """The same in a Serve config: where, and what."""
    for path, found in _in_value(dict(config), _IN_SERVE_CONFIG):
        yield path, f"{found} is a template, and not a value"


def is_template(value: str) -> bool:
    """Whether a value, which nobody else has a syntax for, is or contains a template."""
    return any(_found(value, _ANYWHERE))


def _in_value(
    value: Json,
    patterns: Mapping[str, re.Pattern[str] | None],
    path: Path = (),
    pattern: re.Pattern[str] | None = _ANYWHERE,
) -> Iterator[tuple[Path, str]]:
    if pattern is None:
        return
    if isinstance(value, dict):
        for key, below in value.items():
            yield from ((path, found) for found in _found(str(key), pattern))
            yield from _in_value(below, patterns, (*path, key), patterns.get(key, pattern))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from _in_value(below, patterns, (*path, number), pattern)
    elif isinstance(value, str):
        yield from ((path, found) for found in _found(value, pattern))


def _found(value: str, pattern: re.Pattern[str]) -> Iterator[str]:
    is_text = pattern is not _NOTES and ("\n" in value.strip() or len(value) > _TEXT)
    match = (_OF_HELM if is_text else pattern).search(value)
    if match is not None:
        yield match[0].strip()
