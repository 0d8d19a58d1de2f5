"""An experiment as one SVG, drawn without a browser, for issues and pages that show pictures but no programs."""

from __future__ import annotations

from pytest_serve_chaos.report.picture.timeline_svg import timeline_svg

__all__ = ["timeline_svg"]
