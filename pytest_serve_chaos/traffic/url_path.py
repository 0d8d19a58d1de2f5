"""Paths of URLs: whether one leads to the same place for everybody who reads it."""

from __future__ import annotations

import re
from urllib.parse import unquote

_HARMLESS = re.compile(r"(?:/(?![./])[^/%\\;\x00-\x1f]*)*/?")
"""What needs no second look: no segment begins with a dot, or is empty, and nothing is encoded."""
_ENCODED_AT_MOST = 4
"""How often something may be encoded, one around the other, by an honest client."""


def leads_elsewhere(path: str) -> str:
    """What in a path some server may take for a step up or sideways; "" where it leads to one place.

    Servers differ in what they decode, and when, before they take ``..`` for a step up.

    Args:
        path: It may have a query.
    """
    text = path.partition("?")[0]
    if _HARMLESS.fullmatch(text):
        return ""
    for _ in range(_ENCODED_AT_MOST):
        for segment in text.replace("\\", "/").split("/"):
            if segment.partition(";")[0] in (".", ".."):
                return f"the segment {segment!r}"
        if re.search(r"[\\\x00-\x1f]", text):
            return "a backslash or a control character"
        text, before = unquote(text), text
        if text == before:
            return ""
    return "what is encoded again and again"


def has_empty_segment(path: str) -> bool:
    """Whether a path, which may have a query, has ``//`` in it, encoded or not; some servers leave that out."""
    text = path.partition("?")[0]
    for _ in range(_ENCODED_AT_MOST):
        if "//" in text:
            return True
        text = unquote(text)
    return False
