"""`report.html`: one file that shows a run, without a network."""

from __future__ import annotations

from pytest_serve_chaos.report.page.document import page

__all__ = ["page"]
