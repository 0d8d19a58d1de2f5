"""Which Ray can require a token of those who connect to it."""

from __future__ import annotations

from pytest_serve_chaos.model import minor_version

FIRST_WITH_TOKENS = (2, 52)
"""The first Ray that knows RAY_AUTH_MODE=token."""


def has_tokens(ray_version: str) -> bool:
    """Whether that version of Ray, such as ``2.60.0``, can require a token."""
    return minor_version(ray_version) >= FIRST_WITH_TOKENS
