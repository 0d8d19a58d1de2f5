"""What a backend needs, and whether it is here: one finding per line, with how to fix what is missing."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from pytest_serve_chaos.backends.base import Backend, Finding
from pytest_serve_chaos.backends.probes import finding
from pytest_serve_chaos.backends.registry import BUILT_IN, Backends
from pytest_serve_chaos.errors import MissingDependency, ServeChaosError
from pytest_serve_chaos.options import option
from pytest_serve_chaos.schedule import Schedule
from pytest_serve_chaos.settings import Settings, resolve
from pytest_serve_chaos.traffic.sockets import in_flight_possible, open_files_for

_LEAST_PYTHON, _MOST_PYTHON = (3, 10), (3, 14)


def examine(
    name: str, given: Mapping[str, str], environ: Mapping[str, str], backends: Backends = BUILT_IN
) -> tuple[Finding, ...]:
    """What a backend needs, and whether it is here.

    Args:
        name: The backend's.
        given: Settings by name, as on the command line of pytest; those that it does not use do not count.
        environ: The environment, which may have settings too.
        backends: All backends.
    """
    backend = backends[name]
    used = {row.name for row in backend.options}
    values = {"backend": name, **{setting: value for setting, value in given.items() if setting in used}}
    settings = resolve(CommandLine(values), environ, backends, partial=True)
    return (
        finding("Python", _python),
        finding("open files", lambda: _open_files(settings.schedule, settings.request_timeout)),
        *_findings(backend, settings),
        *_lacking(backend, settings),
    )


def _findings(backend: Backend, settings: Settings) -> Iterator[Finding]:
    try:
        yield from backend.doctor(settings)
    except ServeChaosError as error:
        yield Finding(backend.name, error.what, False, "; ".join(error.fix[:2]))


def _lacking(backend: Backend, settings: Settings) -> Iterator[Finding]:
    for row in backend.options:
        if row.required and row.doctor and settings.by_default(row.name):
            usage = f"{row.doctor_flag} {row.kind.metavar}"
            yield Finding(row.doctor_flag, f"not given: {row.help}", False, usage)


class CommandLine:
    """Settings from a command line that is not pytest's, as `settings.resolve` takes them.

    Args:
        values: By the names of the settings.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {f"serve_chaos_{name}": value for name, value in values.items()}
        self.rootpath = Path.cwd()
        self.inipath: Path | None = None

    def getoption(self, name: str, /) -> object:
        """The value that was given; None if none was."""
        return self._values.get(name)

    def getini(self, name: str, /) -> object:
        """None: there is no configuration file."""
        del name
        return None


def _python() -> str:
    if not _LEAST_PYTHON <= sys.version_info[:2] <= _MOST_PYTHON:
        raise MissingDependency(f"{platform.python_version()} is not one of 3.10 to 3.14", fix=["use one of those"])
    return platform.python_version()


def _open_files(schedule: Schedule, timeout: float) -> str:
    needed, possible = in_flight_possible(schedule, timeout)
    load = f"{schedule.words} with a timeout of {timeout:g} s"
    if needed > possible:
        raise MissingDependency(
            f"for {possible} requests in flight; if an app hangs, {load} are {needed}, and those beyond are not sent",
            fix=[
                f"ulimit -n {open_files_for(needed)}",
                f"or a lower {option('rate').flag} or {option('request_timeout').flag}",
            ],
        )
    return f"for {possible} requests in flight; if an app hangs, {load} are {needed}"
