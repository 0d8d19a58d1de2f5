"""Who is alive in a local cluster, from the supervisor's reports and the process table."""

from __future__ import annotations

from pytest_serve_chaos.cluster.base import NodeInfo
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.plan import Plan, node_name
from pytest_serve_chaos.cluster.local.table import Table
from pytest_serve_chaos.model import Component


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
        self._table = Table()
        self._proxies: frozenset[int] = frozenset()

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
        self._proxies = frozenset(c.pid for c in found if c.role == "proxy" and c.pid is not None)
        return found

    def proxy_pids(self) -> frozenset[int]:
        """The PIDs of the proxies that `components` found last."""
        return self._proxies
