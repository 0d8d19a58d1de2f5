"""Results as people and programs read them. What a plugin needs to add a report is here."""

from __future__ import annotations

from pytest_serve_chaos.report.base import Outcomes, Reporter

__all__ = ["Outcomes", "Reporter"]
