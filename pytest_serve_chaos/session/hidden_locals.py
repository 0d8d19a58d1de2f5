"""Keeps the variables of the plugin's own functions out of tracebacks: headers, bodies and configs are among them.

``-l`` and ``--tb=long`` show the variables and the arguments of every function on the way to an error, and JUnit files
have them too. Those of tests stay.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from _pytest._code.code import ExceptionChainRepr, ReprEntry, ReprExceptionInfo, ReprTraceback

_OURS = Path(__file__).resolve().parents[1]
_TESTS = _OURS / "suite"
_INSTALLED = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")})


class HiddenLocals:
    """Changes every report before anybody else sees it."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Of a test."""
        report = yield
        hide_locals(report.longrepr)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Of a module that cannot be imported."""
        report = yield
        hide_locals(report.longrepr)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: object) -> None:
        """Of an error in a plugin."""
        hide_locals(excrepr)


def hide_locals(shown: object) -> None:
    """Removes variables and arguments of the plugin's functions, and of the libraries that they call.

    Args:
        shown: What pytest shows of an exception.
    """
    for traceback in _tracebacks(shown):
        below = False
        for entry in traceback.reprentries:
            if isinstance(entry, ReprEntry) and entry.reprfileloc is not None:
                ours = _is_ours(entry.reprfileloc.path)
                below = below or ours
                if ours or (below and _is_below(entry.reprfileloc.path, _INSTALLED)):
                    entry.reprlocals = entry.reprfuncargs = None


def _tracebacks(shown: object) -> Iterator[ReprTraceback]:
    if isinstance(shown, ExceptionChainRepr):
        yield from (traceback for traceback, *_ in shown.chain)
    elif isinstance(shown, ReprExceptionInfo):
        yield shown.reprtraceback


def _is_ours(file: str) -> bool:
    """Whether it is a module of the plugin, or no file: Python generates the constructor of a dataclass."""
    return file.startswith("<") or (_is_below(file, (_OURS,)) and not _is_below(file, (_TESTS,)))


def _is_below(file: str, directories: tuple[Path, ...]) -> bool:
    path = Path(file).resolve()
    return any(path.is_relative_to(directory) for directory in directories)
