"""Redis and the Ray nodes of a local cluster are ended by its supervisor, and kept down as long as a test wants."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_serve_chaos.cluster.local.link import SupervisorLink
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
