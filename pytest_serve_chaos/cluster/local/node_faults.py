"""Faults of whole Ray nodes, and of Redis, which the supervisor runs in the same way.

The processes of a session are killed and kept down as long as a test wants, or stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.local.link import SupervisorLink
from pytest_serve_chaos.errors import CommandFailed
from pytest_serve_chaos.model import Evidence

_PATIENCE = 15.0
"""Seconds beyond the termination grace, within which the supervisor says that nothing is left."""


class UnitKills:
    """Ends what the supervisor runs: a Ray node, or Redis.

    Args:
        link: The way to the supervisor.
        grace: Seconds between SIGTERM and SIGKILL for what is stopped gracefully.
    """

    def __init__(self, link: SupervisorLink, grace: float) -> None:
        self._link = link
        self._grace = grace

    def kill(self, name: str, how: str, *, hold: bool) -> Sequence[Evidence]:
        """Ends every process of its session; returns when none is left.

        Args:
            name: ``head``, ``worker-1``, ..., or ``redis``.
            how: ``kill`` or ``stop``.
            hold: Whether it stays down until `restore`.

        Returns:
            No sign where nothing of it was running.

        Raises:
            CommandFailed: The supervisor refused it.
        """
        answer = self._link.command("end", timeout=self._grace + _PATIENCE, name=name, how=how, hold=hold)
        killed = answer["killed"]
        assert isinstance(killed, list)
        if not killed:
            return ()
        at = answer["at"]
        assert isinstance(at, float)
        return (Evidence(at, "victim", f"none of the {len(killed)} processes of {name} is left"),)

    def restore(self, name: str) -> None:
        """Ends a hold: the supervisor may start it again now."""
        self._link.command("restore", name=name)


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

    def freeze_node(self, name: str, *, lasts: float | None = None) -> Sequence[Evidence]:
        """Stops every process of the node's session.

        Args:
            name: ``head``, ``worker-1``, ...
            lasts: Seconds that they are to stand still.

        Raises:
            CommandFailed: Some of them could not be stopped, or there are none.
        """
        answer = self._link.command("freeze", name=name, lasts=lasts)
        stopped = answer["processes"]
        assert isinstance(stopped, list)
        states = [str(p["state"]) for p in stopped if isinstance(p, dict)]
        if not states or any(state != "T" for state in states):
            raise CommandFailed(f"{name} could not be frozen", checked=[f"states of its processes: {states}"])
        return (Evidence(clock.now(), "victim", f"all {len(states)} processes of {name} are stopped (state T)"),)

    def thaw_node(self, name: str) -> None:
        """Resumes every process of the node."""
        self._link.command("thaw", name=name)
