"""Reads YAML that others wrote, as data: what is wrong with it is one kind of error, and none takes all memory."""

from __future__ import annotations

import yaml

from pytest_serve_chaos.model import Json

_MOST_ADDED = 1_000_000
"""Characters that aliases may add to a text, as far as they stand for more than is written there."""

_OF_A_VALUE = 16
"""Characters as which a value counts in addition to its own."""

_MOST_DEEP = 100
"""How deep values may be nested; what Kubernetes and Serve take has some ten levels, and schemas some forty."""


def read_documents(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> list[Json]:
    """What the documents of a YAML text say, as data; an empty document is None.

    Args:
        text: The text.
        loader: Makes data of it; it must not make anything else.

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


def read_document(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Json:
    """The same for a text with one document; None where it has none.

    Raises:
        yaml.YAMLError: It is not YAML, has several documents, or `check_size` refuses it.
    """
    found = read_documents(text, loader)
    if len(found) > 1:
        raise yaml.composer.ComposerError(None, None, "found another document", None)
    return found[0] if found else None


def check_size(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> None:
    """Refuses what would never end to be read: aliases that multiply each other, or lead back to themselves, and depth.

    It builds nothing, so it takes no more memory than the text.

    Raises:
        yaml.YAMLError: The text is one of these, or not YAML.
    """
    sizes: dict[str, int | None] = {}  # None while it is being counted
    open_ones: list[tuple[str | None, int]] = [(None, 0)]
    added = 0
    for event in yaml.parse(text, Loader=loader):
        anchor: str | None = getattr(event, "anchor", None)
        if isinstance(event, yaml.DocumentStartEvent):
            sizes.clear()
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(open_ones) > _MOST_DEEP:
                raise _refused(f"found values that are nested more than {_MOST_DEEP} deep", event)
            open_ones.append((anchor, _OF_A_VALUE))
            sizes |= {anchor: None} if anchor is not None else {}
        elif isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent, yaml.CollectionEndEvent)):
            size: int | None = _OF_A_VALUE + len(getattr(event, "value", ""))
            if isinstance(event, yaml.AliasEvent):
                size = sizes.get(anchor or "", 0)
                if size is None:
                    raise _refused("found an alias that leads back to itself", event)
                added += size
                if added > _MOST_ADDED:
                    raise _refused("found aliases of aliases that stand for too many values", event)
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, size = open_ones.pop()
            if anchor is not None and not isinstance(event, yaml.AliasEvent):
                sizes[anchor] = size
            above, sum_of_it = open_ones[-1]
            open_ones[-1] = (above, sum_of_it + size)


def _refused(what: str, event: yaml.Event) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, event.start_mark)
