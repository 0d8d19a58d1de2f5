"""Which nodes, replicas and proxies of a cluster are well now, by processes or pods and by what Serve says."""

from __future__ import annotations

from pytest_serve_chaos.cluster.serve_config import CANARY
from pytest_serve_chaos.cluster.total_loss import Healthy
from pytest_serve_chaos.model import MANAGER_FROZEN, NOT_READY, Component, Topology
from pytest_serve_chaos.observe.listing import listed_as, proxy_states
from pytest_serve_chaos.observe.observer import Report

_ILL = ("frozen", "Terminating", NOT_READY, MANAGER_FROZEN)
"""The states of nodes, replicas and proxies that live and serve nobody, or go."""
_HEALTHY = "HEALTHY"
"""Serve's word for a proxy to which it wants requests to be sent."""


def healthy(topology: Topology, report: Report) -> Healthy:
    """What is well. Where Serve does not answer, that is each process of a replica or proxy on a node that is well."""
    nodes = frozenset(one.node for one in (*topology.of("head"), *topology.of("worker")) if one.state not in _ILL)
    living = [one for one in topology.of("replica") if one.state not in _ILL and one.node in nodes]
    names = {one.deployment or "" for one in topology.of("replica")}
    if report.serve is not None:
        names |= {name for name in report.serve.targets if not name.startswith(CANARY)}
    replicas = {name: _running(name, living, topology, report) for name in sorted(names)}
    machines = {one.node: one.machine for one in (*topology.of("head"), *topology.of("worker")) if one.machine}
    return Healthy(nodes, replicas, _taking_requests(nodes, topology, report), machines)


def _taking_requests(nodes: frozenset[str], topology: Topology, report: Report) -> tuple[Component, ...]:
    states = proxy_states(topology, report)
    living = (one for one in topology.of("proxy") if one.state not in _ILL and one.node in nodes)
    return tuple(one for one in living if not states or states.get(one.node) == _HEALTHY)


def _running(deployment: str, living: list[Component], topology: Topology, report: Report) -> tuple[Component, ...]:
    own = [one for one in living if one.deployment == deployment]
    if report.serve is None:
        return tuple(own)
    running = {one.identity for one in listed_as(topology, report, deployment, "RUNNING")}
    return tuple(one for one in own if one.identity in running)
