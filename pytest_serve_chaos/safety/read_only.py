"""The last line of defence of a dry run on an external cluster: no request that changes something is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from pytest_serve_chaos.errors import SafetyError

Permit: TypeAlias = Callable[..., None]
"""Lets a request pass, by its method, its path and what else there is to judge it by, or raises `SafetyError`."""

_READS = ("GET", "HEAD", "OPTIONS")
_EXEC = "EXEC"
_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
"""Asks what this user may do; it is a POST that changes nothing."""


def read_only(permit: Permit) -> Permit:
    """A guard that lets nothing pass but what reads, and that only where another guard lets it pass.

    A program in a pod passes, since those that look at processes and logs do: which programs run is decided before.

    Args:
        permit: The other guard.
    """

    def ask(method: str, path: str, /, *others: object) -> None:
        if method not in (*_READS, _EXEC) and path != _REVIEW:
            raise SafetyError(f"refused, because this is a dry run, which changes nothing: {method} {path}")
        permit(method, path, *others)

    return ask
