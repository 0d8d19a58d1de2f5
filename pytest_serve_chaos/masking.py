"""What is shown of a URL, and of a log line: not the credentials in it."""

from __future__ import annotations

import re

_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_URL = re.compile(r"\bhttps?://[^\s'\"<>]+")
_SHOWN = ("ref", "version")
"""Parameters whose values are shown: KubeRay's manifests have them."""


_NAMED = re.compile(
    r"""(?i)\b([\w.-]*(?:token(?!s)|secret|passw(?:or)?d|api[-_]?key|access[-_]?key|private[-_]?key|credential)s?[\w-]*["']?\s*[=:]\s*)"""
    r"""(?:"[^"]*"|'[^']*'|[^\s,;&"'}\])]+)"""
)
"""``password=...``, ``"api_key": "..."``: a name, and a value that is not shown."""
_FLAG = re.compile(r"""(?i)(--[\w-]*(?:token|secret|password|key)[= ])\S+""")
_SCHEME = re.compile(
    r"(?i)\b(authorization[\"']?\s*[=:]\s*[\"']?(?:\w+\s+)?|bearer\s+|basic\s+(?=[\w+/]{8,}))[\w.~+/=-]{6,}"
)
_KNOWN_FORMS = re.compile(
    r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|xox[abprs]-[\w-]{10,}|hf_\w{20,}|sk-[\w-]{20,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
"""Keys of AWS, GitHub, Slack, Hugging Face and OpenAI, and JSON Web Tokens."""


def masked(url: str) -> str:
    """A URL, or a path, without the user, the values of the query and the fragment: ``https://...@host/path?token=...``.

    A text that is no URL, and has neither ``?`` nor ``#``, stays as it is.
    """
    rest, hash_mark, fragment = _USER.sub("...@", url).partition("#")
    rest, mark, query = rest.partition("?")
    return rest + mark + "&".join(map(_masked_parameter, query.split("&"))) + hash_mark + ("..." if fragment else "")


def with_masked_urls(text: str) -> str:
    """A text for people in which each URL is masked."""
    return _URL.sub(lambda found: masked(found[0]), text)


def with_masked_secrets(text: str) -> str:
    """A log line without what looks like a secret: values by their names, credentials of URLs, keys of known forms."""
    for pattern in (_SCHEME, _NAMED, _FLAG):
        text = pattern.sub(r"\1...", text)
    return _KNOWN_FORMS.sub("...", with_masked_urls(_USER.sub("...@", text)))


def _masked_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if not parameter or (equals and name in _SHOWN):
        return parameter
    return f"{name}=..." if equals else "..."
