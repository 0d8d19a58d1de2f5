"""Which nodes and replicas of a cluster are well now, by processes or pods and by what Serve says."""

from __future__ import annotations

from pytest_serve_chaos.cluster.serve_config import CANARY
from pytest_serve_chaos.cluster.total_loss import Healthy
from pytest_serve_chaos.model import NOT_READY, Component, Topology
from pytest_serve_chaos.observe.listing import listed_as
from pytest_serve_chaos.observe.observer import Report

_ILL = ("frozen", "Terminating", NOT_READY)
"""The states of nodes and replicas that live and serve nobody, or go."""


def healthy(topology: Topology, report: Report) -> Healthy:
    """What is well. Where Serve does not answer, that is every replica whose process runs on a node that is well."""
    nodes = frozenset(one.node for one in (*topology.of("head"), *topology.of("worker")) if one.state not in _ILL)
    living = [one for one in topology.of("replica") if one.state not in _ILL and one.node in nodes]
    names = {one.deployment or "" for one in topology.of("replica")}
    if report.serve is not None:
        names |= {name for name in report.serve.targets if not name.startswith(CANARY)}
    return Healthy(nodes, {name: _running(name, living, topology, report) for name in sorted(names)})


def _running(deployment: str, living: list[Component], topology: Topology, report: Report) -> tuple[Component, ...]:
    own = [one for one in living if one.deployment == deployment]
    if report.serve is None:
        return tuple(own)
    running = {one.identity for one in listed_as(topology, report, deployment, "RUNNING")}
    return tuple(one for one in own if one.identity in running)
