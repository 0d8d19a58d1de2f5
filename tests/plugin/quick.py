"""Shorter waits, for a fake cluster in which all happens within a second; and what pytest inside need not import."""

from __future__ import annotations

from types import ModuleType

# pytester forgets what was imported inside a run: what traffic needs would be read from disk anew for each.
import httpcore  # noqa: F401

from pytest_serve_chaos import steady
from pytest_serve_chaos.faults import injection
from pytest_serve_chaos.observe import watcher
from pytest_serve_chaos.traffic import generator  # noqa: F401

SHORTER: tuple[tuple[ModuleType, str, float], ...] = (
    (steady, "STABLE_FOR", 0.4),
    (steady, "_LATEST", 0.4),
    (watcher, "_ASK_EVERY", 0.1),
    (injection, "_QUIET", 0.4),
    (injection, "_NO_CHANGE", 0.8),
)
"""Module, name and seconds."""

CONFTEST = """
from tests.plugin.quick import SHORTER

for module, name, seconds in SHORTER:
    setattr(module, name, seconds)
"""
"""The same for a run in a process of its own: the beginning of its conftest.py."""
