"""Backends: where clusters come from. What a plugin needs to add one is here."""

from __future__ import annotations

from pytest_serve_chaos.backends.base import Backend, Finding, Leftover, Repair
from pytest_serve_chaos.options import Option

__all__ = ["Backend", "Finding", "Leftover", "Option", "Repair"]
