"""What is shown of a URL: not the credentials in it."""

from __future__ import annotations

import re

_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_URL = re.compile(r"\bhttps?://[^\s'\"<>]+")
_SHOWN = ("ref", "version")
"""Parameters whose values are shown: KubeRay's manifests have them."""


def masked(url: str) -> str:
    """A URL, or a path, without the user and the values of the query: ``https://...@host/path?token=...``.

    A text that is no URL, and has no ``?``, stays as it is.
    """
    rest, mark, query = _USER.sub("...@", url).partition("?")
    return rest + mark + "&".join(map(_masked_parameter, query.split("&")))


def with_masked_urls(text: str) -> str:
    """A text for people in which each URL is masked."""
    return _URL.sub(lambda found: masked(found[0]), text)


def _masked_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if not parameter or (equals and name in _SHOWN):
        return parameter
    return f"{name}=..." if equals else "..."
