"""A kind of request as a user describes it, and the messages that are made of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json
from pytest_serve_chaos.traffic.request import Message
from pytest_serve_chaos.traffic.url_path import leads_elsewhere

Body: TypeAlias = "bytes | str | Mapping[str, Json] | Sequence[Json]"
"""Bytes are sent as they are; a mapping or a list is sent as JSON."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A method, and the name of a header: `token` of RFC 9110, section 5.6.2."""

_FIELD = re.compile(r"\$(\$\{[^}]*\})|\$\{\s*(\w+)\s*(?:%\s*([1-9]\d*)\s*)?\}|(\$\{[^}]*\})")
"""``$${...}``, which stands for ``${...}``; ``${n}`` or ``${n % 10}``; and what only looks like one."""

_FIELDS = ("n", "seed")
_JSON = "application/json"

_Fill: TypeAlias = Callable[[int, int], str]
"""Makes a text for the request of that number, in a run with that seed."""


@dataclass(frozen=True, slots=True)
class RequestKind:
    """One kind of request. The settings of the traffic provide what it leaves out.

    In `path`, in the values of `headers` and in a `body` that is not bytes, ``${n}`` stands for the number of the
    request, ``${n % 10}`` for its remainder by 10, and ``${seed}`` for the seed of the run. ``$${n}`` stands for the
    text ``${n}``.

    Attributes:
        path: With the query. If it does not begin with the route of its app, that is put before it.
        method: The HTTP method. None: POST where it has a body and the traffic's method is GET.
        headers: In addition to those of the traffic.
        body: What is sent with it.
        weight: How often it is sent, relative to the others. None for all of them: they are sent in order.
        status: The HTTP status, or those, of a good answer. None: 200 to 299.
        name: What reports and verdicts call it. Several may have the same name, and count together.
        app: The app that it asks. None: the one whose route its path has; each app, if it has no path.

    Raises:
        SettingsError: A value cannot be used.
    """

    path: str | None = field(default=None, repr=False)
    method: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Body | None = field(default=None, repr=False)
    weight: float | None = None
    status: int | Sequence[int] | None = None
    name: str = ""
    app: str | None = None

    def __post_init__(self) -> None:
        for check in (_check_path, _check_method, _check_headers, _check_weight, _check_status, _check_names):
            check(self)
        _body_text(self.body)
        for text in self._texts():
            _check_fields(text)

    @property
    def statuses(self) -> frozenset[int]:
        """The statuses of a good answer; none for 200 to 299."""
        if self.status is None:
            return frozenset()
        return frozenset([self.status] if isinstance(self.status, int) else self.status)

    def _texts(self) -> Sequence[str]:
        body = _body_text(self.body)
        return [self.path or "", *self.headers.values(), *([body] if isinstance(body, str) else [])]


class Maker:
    """Makes the messages of one kind of request.

    Args:
        kind: The kind, whose path is where it is sent.
        seed: Of the run.
        app: The app that is asked, where traffic goes to several.
    """

    def __init__(self, kind: RequestKind, *, seed: int, app: str = "") -> None:
        self.kind = kind
        self.app = app
        self._seed = seed
        headers = dict(kind.headers)
        if kind.body is not None and not isinstance(kind.body, (bytes, str)):
            known = {name.lower() for name in headers}
            headers = headers if "content-type" in known else {**headers, "content-type": _JSON}
        body = _body_text(kind.body)
        self._path = _filled(kind.path or "")
        self._headers = {name: _filled(value) for name, value in headers.items()}
        self._body: _Fill | bytes | None = _filled(body) if isinstance(body, str) else body
        differ = any("${" in text for text in kind._texts())
        self._always = None if differ else self._make(0)

    def message(self, number: int) -> Message:
        """The message of the request of that number; the same object each time if it is always the same."""
        return self._always or self._make(number)

    def _make(self, number: int) -> Message:
        body = self._body
        return Message(
            self._path(number, self._seed),
            self.kind.method or "GET",
            {name: fill(number, self._seed) for name, fill in self._headers.items()},
            body(number, self._seed).encode() if callable(body) else body,
            self.kind.statuses,
            self.app,
            self.kind.name,
        )


def _body_text(body: Body | None) -> str | bytes | None:
    """The text of a body, in which fields are filled in; bytes are left alone."""
    if isinstance(body, str) and not body.isascii():
        try:
            body.encode()
        except UnicodeEncodeError as error:
            raise SettingsError(
                f"requests: body cannot be UTF-8: {error.reason}", fix=["give bytes, which are sent as they are"]
            ) from None
    if body is None or isinstance(body, (bytes, str)):
        return body
    if not isinstance(body, (Mapping, list, tuple)):
        raise _wrong("body", body, "bytes, a text, or a mapping or list, which is sent as JSON")
    try:
        return json.dumps(body, allow_nan=False)
    except (TypeError, ValueError) as error:
        fix = "write dates in quotes, and NaN as null: JSON has neither"
        raise SettingsError(f"requests: body cannot be JSON: {error}", fix=[fix]) from None


def _filled(text: str) -> _Fill:
    if "${" not in text:
        return lambda number, seed: text

    def fill(number: int, seed: int) -> str:
        def value(found: re.Match[str]) -> str:
            if found[1] is not None:
                return found[1]
            given = number if found[2] == "n" else seed
            return str(given if found[3] is None else given % int(found[3]))

        return _FIELD.sub(value, text)

    return fill


def _check_fields(text: str) -> None:
    for found in _FIELD.finditer(text):
        if found[1] is None and found[2] not in _FIELDS:
            raise SettingsError(
                f"requests: there is no {found[0]!r}",
                fix=["write ${n}, ${n % 10} or ${seed}", f"or ${found[0]} for the text {found[0]}"],
            )


def _check_path(kind: RequestKind) -> None:
    path = kind.path
    if path is None:
        return
    if not isinstance(path, str) or not path.startswith("/") or re.search(r"[\x00-\x20\x7f#]", _FIELD.sub("0", path)):
        raise _wrong("path", path, "a path that begins with /, without spaces and without #")
    odd = leads_elsewhere(_FIELD.sub("0", path))
    if odd:
        raise SettingsError(
            f"requests: the path {path!r:.100} has {odd}, which some servers take for a way up",
            checked=["the path, decoded; it begins with the route of its app"],
            fix=["use a path, and a route_prefix, without . and .. as segments"],
        )


def _check_method(kind: RequestKind) -> None:
    if kind.method is not None and not (isinstance(kind.method, str) and _TOKEN.fullmatch(kind.method)):
        raise _wrong("method", kind.method, "an HTTP method, as POST")


def _check_headers(kind: RequestKind) -> None:
    if not isinstance(kind.headers, Mapping):
        raise SettingsError("requests: headers is not a mapping of names to values", fix=['write {"x-tenant": "a"}'])
    for name, value in kind.headers.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise _wrong("the name of a header", name, "a name as x-tenant")
        if not isinstance(value, str) or re.search(r"[\r\n\x00]", value) or not _is_latin(value):
            raise SettingsError(  # without the value, which may be secret
                f"requests: the value of the header {name} is not a text in one line",
                fix=["write it as a text of Latin-1 characters, without line breaks"],
            )


def _is_latin(value: str) -> bool:
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _check_weight(kind: RequestKind) -> None:
    weight = kind.weight
    if weight is None:
        return
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not (math.isfinite(weight) and weight > 0):
        raise _wrong("weight", weight, "a number above 0")


def _check_status(kind: RequestKind) -> None:
    status = kind.status
    if status is None:
        return
    each = [status] if isinstance(status, int) else status
    is_list = isinstance(each, (list, tuple, set, frozenset)) and len(each) > 0
    if not is_list or not all(type(one) is int and 200 <= one <= 599 for one in each):
        raise _wrong("status", status, "an HTTP status from 200 to 599, or a list of them")


def _check_names(kind: RequestKind) -> None:
    if not isinstance(kind.name, str):
        raise _wrong("name", kind.name, "a text")
    if kind.app is not None and not (isinstance(kind.app, str) and kind.app):
        raise _wrong("app", kind.app, "the name of an app")


def _wrong(what: str, value: object, must: str) -> SettingsError:
    return SettingsError(f"requests: {what} is {value!r:.60}, and must be {must}")
