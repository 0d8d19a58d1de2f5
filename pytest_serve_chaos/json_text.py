"""Reads JSON that others wrote: whatever is wrong with it, it is a `ValueError`."""

from __future__ import annotations

import json

from pytest_serve_chaos.model import Json


def read_json(text: str | bytes) -> Json:
    """What a JSON text says.

    Raises:
        ValueError: It is not JSON, or is nested more deeply than Python reads.
    """
    try:
        found: Json = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found
