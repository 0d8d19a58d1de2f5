"""Who is alive in a local cluster, from the supervisor's reports and the process table.

The process table needs no head, no GCS and no controller to answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pytest_serve_chaos.cluster.base import NodeInfo
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.plan import Plan, node_name
from pytest_serve_chaos.cluster.local.processes import Process
from pytest_serve_chaos.cluster.process_titles import part_of
from pytest_serve_chaos.model import HEAD, Component, Role


class Table:
    """Looks into the process table again and again, and remembers what cannot change: the role of a process."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Component] = {}

    def components(self, sessions: Mapping[int, str]) -> tuple[Component, ...]:
        """What lives in the sessions of the nodes and of Redis.

        Args:
            sessions: Session id -> name of the node, or ``redis``.
        """
        seen = {process.pid: process for process in processes.in_sessions(sessions.keys(), known=self._known)}
        parts = {pid: self._part(process, sessions[process.session]) for pid, process in seen.items()}
        found = []
        for pid, part in parts.items():
            process = seen[pid]
            if part is None or _same_part(part, parts.get(process.parent)):
                continue
            self._known[(pid, process.started)] = part
            found.append(part if part.state == _state(process) else replace(part, state=_state(process)))
        return tuple(found)

    def _part(self, process: Process, node: str) -> Component | None:
        return self._known.get((process.pid, process.started)) or _component(process, node)


def _same_part(part: Component, parent: Component | None) -> bool:
    """Whether a process is only a fork of its parent, so far: a raylet's, say, that is about to become a worker."""
    return parent is not None and (part.role, part.deployment) == (parent.role, parent.deployment)


def _component(process: Process, node: str) -> Component | None:
    if process.pid == process.session:
        role: Role = "redis" if node == "redis" else "head" if node == HEAD else "worker"
        return Component(role, node, process.identity, process.pid, state=_state(process))
    part = part_of(process.command)
    if part is None:
        return None
    role, deployment = part
    return Component(role, node, process.identity, process.pid, deployment=deployment, state=_state(process))


def _state(process: Process) -> str:
    return "frozen" if process.state == "T" else "running"


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
