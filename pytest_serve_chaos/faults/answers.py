"""How often components have answered the requests of a test."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pytest_serve_chaos.cluster.capabilities import HAS_PROXY_ENDPOINTS
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Component, Request
from pytest_serve_chaos.observe.handles import requests_logged


def answers_of(rig: Rig, victims: Collection[Component], *, since: float) -> int:
    """How many good answers they gave since then to the traffic that is judged live; see `answers_to`."""
    return answers_to(rig, rig.traffic.source, victims, since=since)


def answers_to(rig: Rig, source: str | None, victims: Collection[Component], *, since: float, app: str = "") -> int:
    """How many good answers requests scheduled since then got from these replicas and proxies.

    Where no answer names a replica of a deployment (the child of another), their logs say how many requests they had,
    those of all traffic.

    Args:
        rig: Where.
        source: Of the traffic whose requests count. None: those of all that was sent.
        victims: The replicas and proxies; others answer nothing.
        since: Monotonic seconds.
        app: To which these requests went, if there are several; "": to any.
    """
    answered = sum(map(_by(victims), (r for r in _good(rig, since, source) if not app or r.app == app)))
    steady_since = rig.traffic.steady_since
    named = {name.rpartition("#")[0] for r in _good(rig, steady_since, source) for name in r.replicas}
    silent = [
        c
        for c in victims
        if c.role == "replica"
        and c.replica
        and c.deployment not in named
        and app in ("", (c.deployment or "").partition("#")[0])
    ]
    return answered or len(requests_logged(rig.cluster, silent, since))


def only_probed(rig: Rig, victims: Collection[Component], *, since: float) -> bool:
    """Whether none of the requests that are judged is known to have gone through these, but probes have.

    Where each proxy has an address of its own, persistent connections go to it, wherever the user's URL leads. On a
    shared address they show where that leads to.
    """
    if rig.cluster.capability(HAS_PROXY_ENDPOINTS) is None:
        return False
    by_victims = [r for r in _good(rig, since, rig.traffic.source) if _by(victims)(r)]
    names = {c.replica for c in victims if c.role == "replica"}
    judged = any(not r.kept and not names.isdisjoint(r.replicas) for r in by_victims)
    return not judged and any(r.kept for r in by_victims)


def _good(rig: Rig, since: float, source: str | None) -> list[Request]:
    return [r for r in rig.history.requests_since(since, source) if not r.lost]


def _by(victims: Collection[Component]) -> Callable[[Request], bool]:
    """Whether one of these answered a request."""
    names = {c.replica for c in victims if c.role == "replica" and c.replica}
    proxies = {c.name for c in victims if c.role == "proxy"}
    return lambda request: request.path in proxies or not names.isdisjoint(request.replicas)
