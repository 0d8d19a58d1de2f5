"""Of which processes it is recorded what they use, while an experiment looks for leaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_serve_chaos.cluster.haproxy import Generation
from pytest_serve_chaos.model import Component, Identity, Role

_ROLES: tuple[Role, ...] = ("gcs", "raylet", "controller", "proxy", "replica")
"""The first process of a node only waits for the others, and Redis is no part of Ray."""


def watched(components: Iterable[Component], haproxies: Iterable[Generation]) -> Iterator[tuple[str, Identity, int]]:
    """What each process is for people, which one it is, and its PID.

    Args:
        components: Who is alive.
        haproxies: The HAProxy processes.
    """
    for component in components:
        if component.role in _ROLES and component.pid is not None:
            yield component.name, component.identity, component.pid
    for one in haproxies:
        yield f"haproxy on {one.node}", one.process, one.pid
