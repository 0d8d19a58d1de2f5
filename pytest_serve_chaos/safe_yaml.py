"""Reads YAML that others wrote, as data: what is wrong with it is one kind of error, and none takes all memory."""

from __future__ import annotations

from typing import TypeAlias, cast

import yaml

from pytest_serve_chaos.model import Json

Loader: TypeAlias = "type[yaml.SafeLoader | yaml.CSafeLoader]"
"""Makes data of a text, and nothing else; the second one is in C, and not everywhere."""

_MOST_ADDED = 1_000_000
"""Characters that aliases may add to a text, as far as they stand for more than is written there."""

_OF_A_VALUE = 16
"""Characters as which a value counts in addition to its own."""

_MOST_DEEP = 100
"""How deep values may be nested; what Kubernetes and Serve take has some ten levels, and schemas some forty."""


def read_documents(text: str, loader: Loader = yaml.SafeLoader) -> list[Json]:
    """What the documents of a YAML text say, as data; an empty document is None.

    Args:
        text: The text.
        loader: Makes data of it.

    Raises:
        yaml.YAMLError: It is not YAML, or `check_size` refuses it.
    """
    check_size(text, loader)
    try:
        return list(yaml.load_all(text, Loader=loader))
    except yaml.YAMLError:
        raise
    except Exception as error:  # of a date with a month 13, or a text that is tagged as a number
        raise yaml.constructor.ConstructorError(
            None, None, f"found a value that is not what it is written as ({type(error).__name__})", None
        ) from None


def read_document(text: str, loader: Loader = yaml.SafeLoader) -> Json:
    """The same for a text with one document; None where it has none.

    Raises:
        yaml.YAMLError: It is not YAML, has several documents, or `check_size` refuses it.
    """
    found = read_documents(text, loader)
    if len(found) > 1:
        raise yaml.composer.ComposerError(None, None, "found another document", None)
    return found[0] if found else None


def check_size(text: str, loader: Loader = yaml.SafeLoader) -> None:
    """Refuses what would never end to be read: aliases that multiply each other, or lead back to themselves, and depth.

    It builds nothing, so it takes no more memory than the text.

    Raises:
        yaml.YAMLError: The text is one of these, or not YAML.
    """
    sizes = _Sizes()
    for event in yaml.parse(text, Loader=loader):
        sizes.take(event)


class _Sizes:
    """How much each value of a text stands for, by the events of a parser, and how much aliases add to it."""

    def __init__(self) -> None:
        self._open: list[tuple[str | None, int]] = [(None, 0)]
        self._anchored: dict[str, int | None] = {}  # None while it is being counted
        self._added = 0

    def take(self, event: yaml.Event) -> None:
        """Counts one more event."""
        match event:
            case yaml.DocumentStartEvent():
                self._anchored.clear()
            case yaml.CollectionStartEvent(anchor=anchor):
                if len(self._open) > _MOST_DEEP:
                    raise _refused(f"found values that are nested more than {_MOST_DEEP} deep", event)
                self._open.append((anchor, _OF_A_VALUE))
                self._anchor(anchor, None)
            case yaml.CollectionEndEvent():
                anchor, size = self._open.pop()
                self._anchor(anchor, size)
                self._count(size)
            case yaml.ScalarEvent(anchor=anchor, value=value):
                size = _OF_A_VALUE + len(value)
                self._anchor(anchor, size)
                self._count(size)
            case yaml.AliasEvent(anchor=anchor):
                self._count(self._size_of_alias(anchor or "", event))

    def _anchor(self, anchor: str | None, size: int | None) -> None:
        if anchor is not None:
            self._anchored[anchor] = size

    def _count(self, size: int) -> None:
        anchor, so_far = self._open[-1]
        self._open[-1] = (anchor, so_far + size)

    def _size_of_alias(self, anchor: str, event: yaml.Event) -> int:
        size = self._anchored.get(anchor, 0)
        if size is None:
            raise _refused("found an alias that leads back to itself", event)
        self._added += size
        if self._added > _MOST_ADDED:
            raise _refused("found aliases of aliases that stand for too many values", event)
        return size


def _refused(what: str, event: yaml.Event) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, cast("yaml.Mark | None", event.start_mark))
