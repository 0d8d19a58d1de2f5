"""Who is alive in a local cluster, from the supervisor's reports and the process table.

The process table needs no head, no GCS and no controller to answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypeAlias

from pytest_serve_chaos.cluster.base import NodeInfo
from pytest_serve_chaos.cluster.haproxy import HAProxies, Seen
from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.plan import Plan, node_name
from pytest_serve_chaos.cluster.local.processes import Process
from pytest_serve_chaos.cluster.process_titles import part_of
from pytest_serve_chaos.model import HEAD, Component, Identity, Role

_Part: TypeAlias = Component | Seen


class Table:
    """Looks into the process table again and again, and remembers what cannot change: the role of a process.

    Args:
        haproxy: Whether HAProxy takes the requests.

    Attributes:
        haproxies: Which processes are proxies then.
    """

    def __init__(self, *, haproxy: bool = False) -> None:
        self._known: dict[tuple[int, int], _Part] = {}
        self.haproxies = HAProxies(expected=haproxy)

    def components(self, sessions: Mapping[int, str]) -> tuple[Component, ...]:
        """What lives in the sessions of the nodes and of Redis.

        Args:
            sessions: Session id -> name of the node, or ``redis``.
        """
        found = self._look(sessions)
        if self._lost_haproxy(found):
            # One generation of HAProxy ends as soon as the next is there. Who was read before the one came, and the
            # other after it went, has seen neither; a second look sees the next.
            found = self._look(sessions)
        proxies = self.haproxies.proxies(one for one in found if isinstance(one, Seen))
        fallback = self.haproxies.used
        others = (one for one in found if isinstance(one, Component) and not (fallback and one.role == "proxy"))
        return (*others, *proxies)

    def _look(self, sessions: Mapping[int, str]) -> list[_Part]:
        seen = {process.pid: process for process in processes.in_sessions(sessions.keys(), known=self._known)}
        parts = {pid: self._part(process, sessions[process.session]) for pid, process in seen.items()}
        found: list[_Part] = []
        for pid, part in parts.items():
            process = seen[pid]
            if part is None or _same_part(part, parts.get(process.parent)):
                continue
            self._known[(pid, process.started)] = part
            found.append(_now(part, process))
        return found

    def _lost_haproxy(self, found: Collection[_Part]) -> bool:
        """Whether a HAProxy that took requests is gone, while its manager is there."""
        there = {one.identity for one in found}
        had = self.haproxies.generations
        return any(one.serves and one.process not in there and one.proxy in there for one in had)

    def _part(self, process: Process, node: str) -> _Part | None:
        return self._known.get((process.pid, process.started)) or _part(process, node)


def _same_part(part: _Part, parent: _Part | None) -> bool:
    """Whether a process is only a fork of its parent, so far: a raylet's, say, that is about to become a worker."""
    return parent is not None and _kind(part) == _kind(parent)


def _kind(part: _Part) -> tuple[str, str | None]:
    return (part.part, None) if isinstance(part, Seen) else (part.role, part.deployment)


def _part(process: Process, node: str) -> _Part | None:
    if process.pid == process.session:
        role: Role = "redis" if node == "redis" else "head" if node == HEAD else "worker"
        return Component(role, node, process.identity, process.pid, state=_state(process))
    found = part_of(process.command)
    if found is None:
        return None
    part, deployment = found
    if part == "manager" or part == "haproxy":
        one = process
        return Seen(node, one.identity, one.pid, one.parent, one.started, part, one.state == "T", one.command)
    return Component(part, node, process.identity, process.pid, deployment=deployment, state=_state(process))


def _now(part: _Part, process: Process) -> _Part:
    """What is known of the process, with its state and its parent of now."""
    if isinstance(part, Seen):
        return replace(part, frozen=process.state == "T", parent=process.parent)
    return part if part.state == _state(process) else replace(part, state=_state(process))


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
        self._table = Table(haproxy=plan.ingress == "haproxy")
        self._proxies: Mapping[int, Identity] = {}

    @property
    def sees_processes(self) -> bool:
        """Always: a GCS that has just begun again says that actors live whose processes are gone."""
        return True

    def unseen(self) -> tuple[str, ...]:
        """Nothing: the process table always answers."""
        return ()

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
