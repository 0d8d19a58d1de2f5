"""Which of Serve's rows belongs to which living replica: Serve still lists what died a moment ago."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from pytest_serve_chaos.cluster.rest import ReplicaRow, autoscaled
from pytest_serve_chaos.model import Component, Topology
from pytest_serve_chaos.observe.observer import Report


def running(topology: Topology, report: Report) -> Counter[str]:
    """``app#Deployment`` -> its replicas that Serve calls RUNNING and that are alive.

    A row without PID and actor id cannot be compared with anybody, and counts.
    """
    nodes = _nodes(topology, report)
    living = topology.of("replica")
    return Counter(
        _deployment(row)
        for row in (report.serve.replicas if report.serve is not None else ())
        if row.state == "RUNNING"
        and (_nameless(row) or any(c.deployment == _deployment(row) and _same(row, c, nodes) for c in living))
    )


def not_listed(
    topology: Topology, report: Report, deployment: str, *, states: Collection[str] = ()
) -> tuple[Component, ...]:
    """The living replicas of a deployment that Serve does not list; rows without PID and actor id may be anybody's.

    Args:
        topology: Who is alive.
        report: What Serve said; it must have answered.
        deployment: ``app#Deployment``.
        states: Rows in other states do not count; empty: all do.
    """
    nodes = _nodes(topology, report)
    rows = _rows(report, deployment, states)
    left = [c for c in topology.of("replica", deployment=deployment) if not any(_same(row, c, nodes) for row in rows)]
    return tuple(left[sum(map(_nameless, rows)) :])


def listed_as(topology: Topology, report: Report, deployment: str, state: str) -> tuple[Component, ...]:
    """The living replicas of a deployment that Serve lists in that state."""
    nodes = _nodes(topology, report)
    rows = _rows(report, deployment, (state,))
    return tuple(c for c in topology.of("replica", deployment=deployment) if any(_same(row, c, nodes) for row in rows))


def in_service(topology: Topology, report: Report) -> tuple[Component, ...]:
    """The living replicas, without those of deployments that Serve scales which it starts or stops just now.

    Where Serve does not answer, nobody can tell them apart.
    """
    scaled = {} if report.serve is None else autoscaled(report.serve)
    passing = [c.identity for name in scaled for c in not_listed(topology, report, name, states=("RUNNING",))]
    return tuple(c for c in topology.of("replica") if c.identity not in passing)


def proxy_states(topology: Topology, report: Report) -> Mapping[str, str]:
    """Node -> what Serve says of its proxy; empty where Serve says nothing of proxies."""
    nodes = _nodes(topology, report)
    said = {} if report.serve is None else report.serve.proxies
    return {nodes.get(node_id, node_id): state for node_id, state in said.items()}


def _rows(report: Report, deployment: str, states: Collection[str]) -> Sequence[ReplicaRow]:
    rows = report.serve.replicas if report.serve is not None else ()
    return [row for row in rows if _deployment(row) == deployment and (not states or row.state in states)]


def _nodes(topology: Topology, report: Report) -> Mapping[str, str]:
    """Ray's node id -> the node's name, as far as actors show it."""
    names = {c.actor_id: c.node for c in topology.components if c.actor_id}
    return {a.node_id: names[a.actor_id] for a in report.actors or () if a.node_id and a.actor_id in names}


def _same(row: ReplicaRow, replica: Component, nodes: Mapping[str, str]) -> bool:
    if row.actor_id and replica.actor_id:
        return row.actor_id == replica.actor_id
    # PIDs repeat across pods.
    node = nodes.get(row.node_id or "", replica.node)
    return row.pid is not None and row.pid == replica.pid and node == replica.node


def _nameless(row: ReplicaRow) -> bool:
    """Whether it does not say whose it is: so is a row until the replica's actor has started (Ray 2.60)."""
    return row.actor_id is None and row.pid is None


def _deployment(row: ReplicaRow) -> str:
    return f"{row.app}#{row.deployment}"
