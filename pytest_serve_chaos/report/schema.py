"""What `summary.json` has: a JSON Schema, with a description of each field and the unit of each number."""

from __future__ import annotations

import json
from importlib import resources

from pytest_serve_chaos.model import Json


def summary_schema() -> dict[str, Json]:
    """The schema (draft 2020-12) of the documents that this version writes."""
    file = resources.files("pytest_serve_chaos.report") / "assets" / "summary.schema.json"
    found: dict[str, Json] = json.loads(file.read_text(encoding="utf-8"))
    return found
