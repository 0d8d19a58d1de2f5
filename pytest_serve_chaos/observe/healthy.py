"""Which nodes, replicas and proxies of a cluster are well now, by processes or pods and by what Serve says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pytest_serve_chaos.cluster.serve_config import CANARY
from pytest_serve_chaos.cluster.total_loss import Healthy
from pytest_serve_chaos.model import MANAGER_FROZEN, NOT_READY, Component, Identity, Topology
from pytest_serve_chaos.observe.listing import listed_as, proxy_states
from pytest_serve_chaos.observe.observer import Report

_ILL = ("frozen", "Terminating", NOT_READY, MANAGER_FROZEN)
"""The states of nodes, replicas and proxies that live and serve nobody, or go."""
_HEALTHY = "HEALTHY"
"""Serve's word for a proxy to which it wants requests to be sent."""


def healthy(topology: Topology, report: Report, broken: Collection[Identity] = ()) -> Healthy:
    """What is well.

    While Serve does not answer, its last answer counts: a process that starts meanwhile serves nobody. If it has never
    answered, each process of a replica or proxy on a node that is well counts.

    Args:
        topology: Who is alive.
        report: What Ray and Serve said.
        broken: Whom a fault that is not healed has hit. They are not well, whatever is seen of them, and a node is not
            whose raylet is broken.
    """
    if report.serve is None and report.last_serve is not None:
        report = replace(report, serve=report.last_serve)
    well = replace(topology, components=tuple(one for one in topology.components if _is_well(one, broken)))
    ray_nodes = (*well.of("head"), *well.of("worker"))
    silent = {one.node for one in topology.of("raylet")} - {one.node for one in well.of("raylet")}
    nodes = frozenset(one.node for one in ray_nodes) - silent
    living = [one for one in well.of("replica") if one.node in nodes]
    names = {one.deployment or "" for one in topology.of("replica")}
    if report.serve is not None:
        names |= {name for name in report.serve.targets if not name.startswith(CANARY)}
    replicas = {name: _running(name, living, topology, report) for name in sorted(names)}
    states = proxy_states(topology, report)
    proxies = [one for one in well.of("proxy") if one.node in nodes]
    taking = tuple(one for one in proxies if not states or states.get(one.node) == _HEALTHY)
    return Healthy(nodes, replicas, taking, _machines(topology))


def _is_well(one: Component, broken: Collection[Identity]) -> bool:
    return one.state not in _ILL and one.identity not in broken


def _machines(topology: Topology) -> dict[str, str]:
    """Ray node -> the machine under it, of those that are not well, too."""
    return {one.node: one.machine for one in (*topology.of("head"), *topology.of("worker")) if one.machine}


def _running(deployment: str, living: list[Component], topology: Topology, report: Report) -> tuple[Component, ...]:
    own = [one for one in living if one.deployment == deployment]
    if report.serve is None:
        return tuple(own)
    running = {one.identity for one in listed_as(topology, report, deployment, "RUNNING")}
    return tuple(one for one in own if one.identity in running)
