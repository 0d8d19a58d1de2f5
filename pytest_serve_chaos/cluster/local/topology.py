"""Who is alive in a local cluster, from the supervisor's reports and the process table."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_serve_chaos.cluster.base import NodeInfo
from pytest_serve_chaos.cluster.haproxy import HAProxies
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.plan import Plan, node_name
from pytest_serve_chaos.cluster.local.table import Table
from pytest_serve_chaos.model import Component, Identity


class ProcessTopology:
    """The nodes, and what lives in their sessions.

    Args:
        plan: What the supervisor runs.
        layout: Its addresses and ports.
        link: The way to the supervisor.
    """

    def __init__(self, plan: Plan, layout: Layout, link: SupervisorLink) -> None:
        self._workers = plan.workers
        self._layout = layout
        self._link = link
        self._table = Table(haproxy=plan.ingress == "haproxy")
        self._proxies: Mapping[int, Identity] = {}

    def nodes(self) -> tuple[NodeInfo, ...]:
        """The nodes that should be there, head first, as the supervisor reports them."""
        units = self._link.units()
        found = []
        for index in range(self._workers + 1):
            unit = units.get(node_name(index))
            alive = unit is not None and unit.state == "up"
            identity = unit.identity if unit is not None and alive else None
            found.append(NodeInfo(node_name(index), self._layout.address(index), alive, identity))
        return tuple(found)

    def components(self) -> tuple[Component, ...]:
        """What lives in the sessions of the nodes and of Redis, from the process table."""
        found = self._table.components(self._link.sessions())
        proxies = {c.pid: c.identity for c in found if c.role == "proxy" and c.serving is None and c.pid is not None}
        self._proxies = proxies | {g.pid: g.proxy for g in self.haproxies.generations if g.proxy is not None}
        return found

    @property
    def haproxies(self) -> HAProxies:
        """Which processes are proxies, if HAProxy takes the requests."""
        return self._table.haproxies

    def proxies(self) -> Mapping[int, Identity]:
        """PIDs of the processes that accept connections -> the proxies to which they belong, as last seen."""
        return self._proxies
