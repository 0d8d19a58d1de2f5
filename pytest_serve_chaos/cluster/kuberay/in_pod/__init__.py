"""Short programs that run inside of a Ray pod by exec, each a process of its own; here they are text."""

from __future__ import annotations

from importlib import resources


def source(name: str) -> str:
    """The source text of the program of that name, for ``python -c``."""
    return resources.files(__package__).joinpath(f"{name}.py").read_text(encoding="utf-8")
