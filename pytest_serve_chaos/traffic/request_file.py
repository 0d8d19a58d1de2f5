"""Reads a file of requests: JSON lines, or a list in YAML; every error names the line."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.traffic.request_kind import RequestKind

_YAML = (".yaml", ".yml")
_BODIES = ("body", "body_file", "body_base64")
KEYS = (*(field.name for field in fields(RequestKind)), "body_file", "body_base64")
"""What a request of a file can say."""


def read_requests(path: Path) -> tuple[RequestKind, ...]:
    """The requests of a file.

    Args:
        path: It is YAML if its name ends in ``.yaml`` or ``.yml``, and has a JSON object in each line otherwise.
            The files that it names are relative to its directory.

    Raises:
        SettingsError: It cannot be read, or a request in it cannot be used.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the file of requests {path} cannot be read: {error}", fix=["save it as UTF-8"]) from error
    items = _yaml_items(text, path) if path.suffix in _YAML else _json_lines(text, path)
    found = tuple(_request(item, line, path) for line, item in items)
    if not found:
        raise SettingsError(f"the file of requests {path} has no requests", fix=['write one in a line: {"path": "/"}'])
    return found


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line, object_pairs_hook=_once)
        except RecursionError:
            raise _wrong(path, number, "it is nested too deeply", fix=["write a JSON object in each line"]) from None
        except SettingsError as error:
            raise _wrong(path, number, error.what, fix=list(error.fix)) from None
        except ValueError as error:
            raise _wrong(path, number, f"it is not JSON: {error}", fix=["write a JSON object in each line"]) from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object that has no key twice."""
    keys = [key for key, _ in pairs]
    for key in (key for n, key in enumerate(keys) if key in keys[:n]):
        raise SettingsError(f"it has {key!r} twice", fix=[f"give {key} once"])
    return dict(pairs)


def _yaml_items(text: str, path: Path) -> Iterator[tuple[int, object]]:
    import yaml

    from pytest_serve_chaos import safe_yaml

    loader = yaml.SafeLoader(text)
    try:
        safe_yaml.check_size(text)
        root = loader.get_single_node()
        if root is None:
            return
        if not isinstance(root, yaml.SequenceNode):
            raise _wrong(path, root.start_mark.line + 1, "it is not a list", fix=["begin each request with '- '"])
        for node in root.value:
            line = node.start_mark.line + 1
            if isinstance(node, yaml.MappingNode):
                keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
                for key in (key for n, key in enumerate(keys) if key in keys[:n]):
                    raise _wrong(path, line, f"it has {key!r} twice", fix=[f"give {key} once"])
            yield line, loader.construct_object(node, deep=True)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = str(error.problem).removeprefix("but ")
        fix = ["correct the YAML: a list in one document"]
        raise _wrong(path, 1 if mark is None else mark.line + 1, f"it is not YAML: {problem}", fix=fix) from None
    except yaml.YAMLError as error:
        raise SettingsError(
            f"the file of requests {path} is not YAML: {error}", fix=["correct the YAML: a list in one document"]
        ) from None
    except (ValueError, TypeError, AttributeError) as error:  # of a date with a month 13
        fix = ["write dates and numbers that exist, or put them into quotes"]
        raise _wrong(path, 1, f"a value is not what it is written as ({type(error).__name__})", fix=fix) from None
    finally:
        loader.dispose()


def _request(item: object, line: int, path: Path) -> RequestKind:
    if not isinstance(item, Mapping):
        fix = ["write a JSON object in each line, or a list in a file that ends in .yaml"]
        raise _wrong(path, line, f"a request is {item!r:.60}, and not a mapping", fix=fix)
    for key in item:
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, 1)
            fix = [f"write {close[0]}"] if close else [f"a request has {', '.join(KEYS)}"]
            raise _wrong(path, line, f"a request has no {key!r}", fix=fix)
    given = [key for key in _BODIES if item.get(key) is not None]
    if len(given) > 1:
        raise _wrong(path, line, f"it has {' and '.join(given)}", fix=["give one of them"])
    values: dict[str, object] = {key: value for key, value in item.items() if key not in _BODIES and value is not None}
    if isinstance(values.get("headers"), Mapping):
        values["headers"] = {key: _header(value) for key, value in dict(item["headers"]).items()}
    try:
        if given:
            values["body"] = _body(given[0], item[given[0]], path)
        return RequestKind(**values)  # type: ignore[arg-type]
    except SettingsError as error:
        what = error.what.removeprefix("requests: ")
        raise SettingsError(f"{path}: line {line}: {what}", checked=error.checked, fix=error.fix) from None


def _header(value: object) -> object:
    """YAML takes ``x-tenant: 5`` for a number."""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _body(key: str, value: object, path: Path) -> object:
    if key == "body":
        return value
    if not isinstance(value, str):
        raise SettingsError(f"{key} is {value!r:.60}, and must be a text")
    if key == "body_file":
        file = path.parent / Path(value).expanduser()
        try:
            return file.read_bytes()
        except OSError as error:
            raise SettingsError(
                f"body_file {value} cannot be read: {error.strerror}",
                checked=[str(file)],
                fix=["give a path that is relative to the file of requests"],
            ) from None
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise SettingsError(
            f"body_base64 is not base64: {error}", fix=["write what `base64 -w0 FILE` prints", "or give body_file"]
        ) from None


def _wrong(path: Path, line: int, what: str, *, fix: list[str]) -> SettingsError:
    return SettingsError(f"{path}: line {line}: {what}", fix=fix)
