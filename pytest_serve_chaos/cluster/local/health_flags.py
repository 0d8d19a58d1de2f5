"""Makes the health check of one replica fail, where the app reads our flag."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pytest_serve_chaos.model import Component


class HealthFlags:
    """Sets flags for replicas. Has the capability `SetsHealthFlags`.

    Args:
        directory: Where the apps look for flags: a file for each PID.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def set_health_flag(self, replica: Component, mode: Literal["raise", "hang"]) -> None:
        """Writes the flag that the replica's health check reads."""
        self._flag(replica).write_text(mode)

    def clear_health_flag(self, replica: Component) -> None:
        """Removes the flag."""
        self._flag(replica).unlink(missing_ok=True)

    def _flag(self, replica: Component) -> Path:
        return self._directory / str(replica.pid)
