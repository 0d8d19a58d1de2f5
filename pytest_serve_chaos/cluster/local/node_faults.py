"""Faults of whole Ray nodes: the processes of their sessions are killed, or stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.cluster.local.unit_kills import UnitKills
from pytest_serve_chaos.errors import CommandFailed
from pytest_serve_chaos.model import Evidence


class NodeKills:
    """Takes Ray nodes down. Has the capability `KillsNodes`.

    Args:
        units: Ends what the supervisor runs.
    """

    def __init__(self, units: UnitKills) -> None:
        self._units = units

    def kill_node(self, name: str, *, how: Literal["kill", "stop"], hold: bool) -> Sequence[Evidence]:
        """Ends every process of the node's session; returns when none is left.

        Raises:
            CommandFailed: The supervisor refused it.
        """
        return self._units.kill(name, how, hold=hold)

    def restore_node(self, name: str) -> None:
        """Ends a hold: the node may be started again now."""
        self._units.restore(name)


class NodeFreezes:
    """Stops the processes of Ray nodes. Has the capability `FreezesNodes`.

    Args:
        link: The way to the supervisor.
    """

    def __init__(self, link: SupervisorLink) -> None:
        self._link = link

    def freeze_node(self, name: str) -> Sequence[Evidence]:
        """Stops every process of the node's session.

        Raises:
            CommandFailed: Some of them could not be stopped, or there are none.
        """
        answer = self._link.command("freeze", name=name)
        stopped = answer["processes"]
        assert isinstance(stopped, list)
        states = [str(p["state"]) for p in stopped if isinstance(p, dict)]
        if not states or any(state != "T" for state in states):
            raise CommandFailed(f"{name} could not be frozen", checked=[f"states of its processes: {states}"])
        return (Evidence(clock.now(), "victim", f"all {len(states)} processes of {name} are stopped (state T)"),)

    def thaw_node(self, name: str) -> None:
        """Resumes every process of the node."""
        self._link.command("thaw", name=name)
