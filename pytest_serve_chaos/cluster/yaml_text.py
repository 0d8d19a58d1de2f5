"""Reads files that should be YAML, and says in one line what is wrong with those that are not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from pytest_serve_chaos.errors import SettingsError

RENDER = "render the file first: envsubst, helm template, or kustomize build"
"""The way out for a file with templates."""
_MOST_BYTES = 50_000_000
"""Of a file; more is not a file of configuration."""

_HAS_TEMPLATES = re.compile(r"\{\{|\{%|\$\{")


def read_text(path: Path, what: str) -> str:
    """The text of a file.

    Args:
        path: The file.
        what: What it is, for the message: ``the Serve config file``.

    Raises:
        SettingsError: It cannot be read, or is in another encoding than UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise SettingsError(
                f"{what} {path} has more than {_MOST_BYTES // 1_000_000} MB", fix=["give a file of YAML"]
            )
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{what} {path} cannot be read: {error}", checked=["its encoding"], fix=["save it as UTF-8"]
        ) from error
    except OSError as error:
        raise SettingsError(
            f"{what} {path} cannot be read: {error.strerror or error}", fix=["give the path of a file that exists"]
        ) from error


def problem(error: yaml.YAMLError, before: int = 0) -> str:
    """What is wrong with a YAML text, and where, without the line itself: it may be that of a Secret.

    Args:
        error: What the reader raised.
        before: How many lines are before the text in its file.
    """
    said, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if isinstance(error, yaml.reader.ReaderError):
        said = f"{error.reason}: #x{ord(error.character) if isinstance(error.character, str) else error.character:04x}"
    place = f" in line {before + mark.line + 1}" if mark is not None else ""
    return f"{(said or type(error).__name__).removeprefix('but ')}{place}"


def ways_out(text: str, way_out: str) -> list[str]:
    """How to make YAML of a text that is not: `way_out`, and before it what helps if it has templates."""
    return [*([f"{RENDER}: it has templates"] if _HAS_TEMPLATES.search(text) else []), way_out]


def _below(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (key, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def repeated_keys(text: str) -> list[str]:
    """The keys that a mapping of the text has twice, a sentence each: the last one counts.

    Args:
        text: What `read_documents` has taken.
    """
    found: list[str] = []
    for root in yaml.compose_all(text, Loader=yaml.SafeLoader):
        if root is not None:
            found += _repeated(root, set())
    return found


def _repeated(node: yaml.Node, seen: set[int]) -> Iterator[str]:
    if id(node) in seen:
        return
    seen.add(id(node))
    first: dict[str, int] = {}
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            continue
        line = key.start_mark.line + 1
        if key.value in first:
            yield f"{key.value} is there twice, in lines {first[key.value]} and {line}: the last one counts"
        first[key.value] = line
    for below in _below(node):
        yield from _repeated(below, seen)
