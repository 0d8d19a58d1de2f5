"""The lines of a YAML text, so that a message about a value can say where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from pytest_serve_chaos import safe_yaml
from pytest_serve_chaos.model import Json

Path: TypeAlias = "tuple[str | int, ...]"
"""The keys and indices that lead to a value."""

_NAMES = ("name", "groupName")
"""By what a person finds an item of a list."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Where the values of one document stand.

    Attributes:
        of: The line of each value, by its path; the document itself is ().
        inside: For a value that is a text of several lines, the line before its first.
    """

    of: Mapping[Path, int] = field(default_factory=dict, repr=False)
    inside: Mapping[Path, int] = field(default_factory=dict, repr=False)

    def line(self, path: Path) -> int | None:
        """The line of that value, or else of what holds it; None where nothing is known."""
        while path and path not in self.of:
            path = path[:-1]
        return self.of.get(path)

    def below(self, *path: str | int) -> Lines:
        """Those of a part of the document."""
        length = len(path)
        cut = [{p[length:]: n for p, n in one.items() if p[:length] == path} for one in (self.of, self.inside)]
        return Lines(*cut)

    def shifted(self, lines: int) -> Lines:
        """The same for a text that begins so many lines further down in another."""
        moved = [{path: number + lines for path, number in one.items()} for one in (self.of, self.inside)]
        return Lines(*moved)


def documents(text: str) -> list[Lines]:
    """The lines of each document of a text that is known to be YAML; empty documents count."""
    return [_lines(node) for node in yaml.compose_all(text, Loader=yaml.SafeLoader)]


def document(text: str) -> Lines:
    """Those of a text with one document; none where it is not YAML."""
    try:
        safe_yaml.check_size(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return Lines()
    return _lines(node)


def shown(path: Path, value: Json = None) -> str:
    """A path for people: ``spec.containers[ray-worker].env``; `value` is that of the document, for names of items."""
    words = ""
    for key in path:
        if isinstance(key, str):
            words += f".{key}" if words else key
            value = value.get(key) if isinstance(value, dict) else None
        else:
            value = value[key] if isinstance(value, list) and key < len(value) else None
            words += f"[{_name(value, key)}]"
    return words


def _name(item: Json, number: int) -> str:
    found = [item[key] for key in _NAMES if isinstance(item.get(key), str)] if isinstance(item, dict) else []
    return str(found[0]) if found else str(number)


def _lines(node: yaml.Node | None) -> Lines:
    of: dict[Path, int] = {}
    inside: dict[Path, int] = {}
    for path, found, line in _walk(node, (), (), None):
        of.setdefault(path, line)
        if isinstance(found, yaml.ScalarNode) and found.style in ("|", ">"):
            inside[path] = found.start_mark.line + 1
    return Lines(of, inside)


def _walk(
    node: yaml.Node | None, path: Path, above: Sequence[yaml.Node], line: int | None
) -> Iterator[tuple[Path, yaml.Node, int]]:
    if node is None or node in above:  # an alias of what it is in
        return
    yield path, node, node.start_mark.line + 1 if line is None else line
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield from _walk(value, (*path, key.value), (*above, node), key.start_mark.line + 1)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _walk(item, (*path, number), (*above, node), None)
