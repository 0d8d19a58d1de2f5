"""Adds the backend `fake` to a run: ``pytest -p pytest_serve_chaos.testing.plugin --serve-chaos-backend=fake``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_serve_chaos.backends import Backend


def pytest_serve_chaos_backends() -> Sequence[Backend]:
    """The hook: returns the backend."""
    from pytest_serve_chaos.testing.backend import FAKE

    return [FAKE]
