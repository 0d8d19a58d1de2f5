"""The last line of defence of a dry run on an external cluster: no request that changes something is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from pytest_serve_chaos.cluster.kubernetes import in_pod
from pytest_serve_chaos.cluster.kubernetes.client.access import EXEC
from pytest_serve_chaos.errors import SafetyError

Permit: TypeAlias = Callable[..., None]
"""Lets a request pass, by its method, its path and what else there is to judge it by, or raises `SafetyError`."""

_READS = ("GET", "HEAD", "OPTIONS")
_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
"""Asks what this user may do; it is a POST that changes nothing."""


def read_only(permit: Permit) -> Permit:
    """A guard that lets nothing pass but what reads, and that only where another guard lets it pass.

    Of the programs in pods those pass that look at processes and logs, word for word.

    Args:
        permit: The other guard.
    """

    def ask(method: str, path: str, /, *others: object) -> None:
        allowed = _only_looks(*others) if method == EXEC else method in _READS or path == _REVIEW
        if not allowed:
            raise SafetyError(f"refused, because this is a dry run, which changes nothing: {method} {path}")
        permit(method, path, *others)

    return ask


def _only_looks(command: object = None) -> bool:
    return isinstance(command, tuple) and in_pod.looks(command)
