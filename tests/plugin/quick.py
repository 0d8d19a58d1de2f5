"""How long tests wait for a fake cluster, whose life is quick; and what pytest inside need not import anew."""

from __future__ import annotations

from types import ModuleType

# pytester forgets what was imported inside a run: what traffic needs would be read from disk anew for each.
import httpcore  # noqa: F401

from pytest_serve_chaos import experiment, final_check, load, steady
from pytest_serve_chaos.faults import injection
from pytest_serve_chaos.observe import watcher
from pytest_serve_chaos.traffic import generator  # noqa: F401

WAITS: tuple[tuple[ModuleType, str, float], ...] = (
    (steady, "STABLE_FOR", 0.4),
    (steady, "_LATEST", 0.4),
    (watcher, "_ASK_EVERY", 0.1),
    (injection, "_QUIET", 0.4),
    (injection, "_NO_CHANGE", 0.8),
    # A machine that is busy for a minute is no reason for another verdict.
    (load, "STEADY_WITHIN", 180.0),
    (final_check, "_WHOLE_WITHIN", 5.0),
    (experiment, "_PERSISTENT_UNTIL", 0.0),
    (load, "_JUDGED_FOR", 0.0),
)
"""Module, name and seconds."""

CONFTEST = """
from tests.plugin.quick import WAITS

for module, name, seconds in WAITS:
    setattr(module, name, seconds)
"""
"""The same for a run in a process of its own: the beginning of its conftest.py."""
