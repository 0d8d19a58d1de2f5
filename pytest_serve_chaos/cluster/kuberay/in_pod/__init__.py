"""Short programs that run inside of a Ray pod by exec, each a process of its own; here they are text."""

from __future__ import annotations

import base64
import zlib
from importlib import resources

GONE = 3
"""The exit status of `signal_process` where the process is gone."""

NO_DIRECTORY = 4
"""The exit status of `set_flag` where the container has no directory for flags."""


def source(name: str) -> str:
    """The source text of the program of that name, for ``python -c``."""
    return resources.files(__package__).joinpath(f"{name}.py").read_text(encoding="utf-8")


def packed(name: str) -> str:
    """The same in less text: it travels in a URL, of which some proxies take no more than 8 KB."""
    text = base64.b64encode(zlib.compress(source(name).encode(), 9)).decode()
    return f"import base64, zlib; exec(zlib.decompress(base64.b64decode({text!r})))"
