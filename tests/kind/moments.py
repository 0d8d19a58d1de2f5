"""A pytest plugin that holds a run on Kubernetes at a moment of its fault, for somebody who brings it to its end."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_serve_chaos.faults.healing import Healing
from tests.local.moments import HELD, held, hold_at

__all__ = ["held"]


def _heal(self: Healing) -> None:
    """Heals, and notes that it did."""
    if self.at is None:
        hold_at("healing")
    _HEAL(self)
    Path(os.environ[HELD], "healed").touch()


_HEAL = Healing.heal


def pytest_configure() -> None:
    """Notices that a fault is healed."""
    Healing.heal = _heal  # type: ignore[method-assign]
