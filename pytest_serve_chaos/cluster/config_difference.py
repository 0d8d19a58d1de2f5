"""How two Serve configs differ, in words: what changes, and nothing of what stays.

Texts may be secret, so only those are shown that say which code it is, and where.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pytest_serve_chaos.model import Json

_ABSENT = object()
_SHOWN = ("import_path", "name", "route_prefix")


def difference(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[str]:
    """What is otherwise in the second config, a line each: ``applications.app.import_path: "a:app" -> "b:app"``.

    What has a name, as applications and deployments have, is found by it.
    """
    return list(_differences("", before, after))


def _differences(path: str, before: object, after: object) -> Iterator[str]:
    one, other = _by_key(before), _by_key(after)
    if one is None or other is None:
        if before != after:
            yield f"{path}: {_shown(path, before)} -> {_shown(path, after)}"
        return
    for key in dict.fromkeys((*one, *other)):
        below = f"{path}.{key}" if path else str(key)
        yield from _differences(below, one.get(key, _ABSENT), other.get(key, _ABSENT))


def _by_key(value: object) -> Mapping[str, object] | None:
    """A mapping, or a list whose items all have names of their own; None for anything else."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, list) or not value:
        return None
    names = [item.get("name") if isinstance(item, Mapping) else None for item in value]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return None
    return dict(zip(map(str, names), value, strict=True))


def _shown(path: str, value: object) -> str:
    return "nothing" if value is _ABSENT else json.dumps(_without_texts(path.rpartition(".")[2], value), default=str)


def _without_texts(key: str, value: object) -> object:
    """A value with every text replaced but those of some keys."""
    if isinstance(value, str):
        return value if key in _SHOWN else "..."
    if isinstance(value, Mapping):
        return {str(name): _without_texts(str(name), one) for name, one in value.items()}
    return [_without_texts(key, one) for one in value] if isinstance(value, list) else value
