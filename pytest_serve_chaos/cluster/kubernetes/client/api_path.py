"""Paths at an API server: each is made of checked segments, and checked again before it is sent."""

from __future__ import annotations

import re

from pytest_serve_chaos.errors import SafetyError
from pytest_serve_chaos.traffic.url_path import has_empty_segment, leads_elsewhere

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_PASSED_ON = re.compile(r"(?P<own>/api/v1/namespaces/[^/]+/(?:pods|services)/[^/]+/proxy)(?P<theirs>/.*)?", re.DOTALL)
"""A path that the API server passes on to a pod or a Service: only the first part is its own."""


def api_path(*segments: str) -> str:
    """The path that has these segments, each of which is one name.

    Raises:
        SafetyError: One of them is not a name, so the path could lead elsewhere.
    """
    for segment in segments:
        if not _SEGMENT.fullmatch(segment):
            raise SafetyError(
                f"{segment!r} is not a name that a path at the API server can have",
                checked=["letters, digits and -._: only, a letter or a digit first"],
                fix=["see where that name comes from: no object of Kubernetes can have it"],
            )
    return "".join(f"/{segment}" for segment in segments)


def proxy_path(namespace: str, kind: str, name: str, port: int) -> str:
    """Where the API server passes requests on to one port of a pod or Service.

    Args:
        namespace: The namespace.
        kind: ``pods`` or ``services``.
        name: The pod or Service.
        port: The port.

    Raises:
        SafetyError: One of them is not a name.
    """
    return api_path("api", "v1", "namespaces", namespace, kind, f"{name}:{port}", "proxy")


def why_refused(path: str) -> str:
    """Why a path must not be sent to an API server, by anybody; "" if it may.

    Args:
        path: The path as it is sent, without the server's own base and without the query.
    """
    found = _PASSED_ON.fullmatch(path)
    own, theirs = (found["own"], found["theirs"] or "") if found else (path, "")
    for segment in own.removeprefix("/").removesuffix("/").split("/"):
        if segment and not _SEGMENT.fullmatch(segment):
            return f"the segment {segment!r} is not a name"
    if has_empty_segment(path):
        return "it has an empty segment"
    odd = leads_elsewhere(theirs)
    return f"it has {odd}, which may lead out of the pod or Service" if odd else ""


def check_path(path: str) -> None:
    """Refuses a path that could lead to another object than it names. Arguments: see `why_refused`.

    Raises:
        SafetyError: It could.
    """
    reason = why_refused(path)
    if reason:
        raise SafetyError(
            f"refused: {path[:200]!r} is not sent to the API server: {reason}",
            checked=["the path, decoded"],
            fix=["use a route_prefix, and a path of requests, without '.', '..', '//' and what encodes them"],
        )
