"""The units of a run, Redis and the Ray nodes, each with what must be there before it may start."""

from __future__ import annotations

import socket
from functools import partial

from pytest_serve_chaos.cluster.local.commands import node_command, redis_command, temp_directory
from pytest_serve_chaos.cluster.local.layout import Layout
from pytest_serve_chaos.cluster.local.plan import HEAD_INDEX, Plan, node_name
from pytest_serve_chaos.cluster.local.unit import Unit


class Units:
    """All units of one run.

    Args:
        plan: What the run has.
        layout: Its addresses and ports.

    Attributes:
        by_name: Each unit by its name.
    """

    def __init__(self, plan: Plan, layout: Layout) -> None:
        self._plan = plan
        self._layout = layout
        self.by_name = {unit.name: unit for unit in self._made()}

    def _made(self) -> list[Unit]:
        delay = self._plan.restart_delay
        units = []
        if self._plan.redis_server is not None:
            units.append(Unit(redis_command(self._plan), delay, lambda: True))
        for index in range(self._plan.workers + 1):
            ready = self._head_may_start if index == HEAD_INDEX else partial(self._worker_may_start, index)
            units.append(Unit(node_command(self._plan, self._layout, index), delay, ready))
        return units

    def _head_may_start(self) -> bool:
        if self._plan.redis_server is not None and not _listens(self._layout.serve_host, self._layout.redis_port):
            return False
        # `ray start` refuses a second head while the file with the first one's address is there.
        (temp_directory(self._plan, HEAD_INDEX) / "ray_current_cluster").unlink(missing_ok=True)
        return True

    def _worker_may_start(self, index: int) -> bool:
        if not _listens(self._layout.address(HEAD_INDEX), self._layout.gcs_port):
            return False
        return not (self._plan.one_directory and self._another_starts(index))

    def _another_starts(self, index: int) -> bool:
        """Whether another node has no raylet yet: in one directory the two may choose the same names for sockets."""
        return any(
            self.by_name[node_name(other)].state == "up"
            and not _listens(self._layout.address(other), self._layout.node_ports(other).node_manager)
            for other in range(self._plan.workers + 1)
            if other != index
        )


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((host, port)) == 0
