"""Looks for what backends need: programs and packages. Each probe says what it found, or raises."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from collections.abc import Callable, Sequence

from pytest_serve_chaos.backends.base import Finding
from pytest_serve_chaos.errors import MissingDependency, ServeChaosError

_ANSWER = 20.0


def finding(what: str, probe: Callable[[], str]) -> Finding:
    """What a probe found, or the error that it raised with its first two remedies."""
    try:
        return Finding(what, probe())
    except ServeChaosError as error:
        return Finding(what, error.what, False, "; ".join(error.fix[:2]))


def package(name: str, extra: str) -> str:
    """The version of a Python package, which an extra of this one installs.

    Raises:
        MissingDependency: It is not installed.
    """
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingDependency(
            f"the Python package {name} is not installed", fix=[f"pip install 'pytest-serve-chaos[{extra}]'"]
        ) from error


def program(name: str, *arguments: str) -> str:
    """The first line that a program prints, and where it is.

    Raises:
        MissingDependency: It is not on the PATH, or fails.
    """
    path = shutil.which(name)
    if path is None:
        raise MissingDependency("not on the PATH", fix=[f"install {name}", "or use the backend `local`"])
    try:
        said = run([path, *arguments])
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines() or [""]
        raise MissingDependency(f"it does not answer: {reason[-1][:160]}", fix=[f"see what `{name}` says"]) from error
    return f"{said.strip().splitlines()[0] if said.strip() else ''} ({path})"


def run(command: Sequence[str]) -> str:
    """What a command prints; it raises what `subprocess` raises, also after 20 s."""
    ended = subprocess.run(
        list(command), check=True, capture_output=True, text=True, timeout=_ANSWER, start_new_session=True
    )
    return ended.stdout
