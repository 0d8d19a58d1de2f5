"""The parts of a Serve cluster in the process table: it needs no head, no GCS and no controller to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pytest_serve_chaos.cluster.local import processes
from pytest_serve_chaos.cluster.local.processes import Process
from pytest_serve_chaos.cluster.titles import part_of
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
        found = []
        for process in processes.in_sessions(sessions.keys(), known=self._known):
            component = self._known.get((process.pid, process.started))
            if component is None:
                component = _component(process, sessions[process.session])
                if component is None:
                    continue
                self._known[(process.pid, process.started)] = component
            found.append(component if component.state == _state(process) else replace(component, state=_state(process)))
        return tuple(found)


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
