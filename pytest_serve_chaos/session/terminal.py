"""Lines on the terminal while tests run."""

from __future__ import annotations

from contextlib import suppress

import pytest

from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.printable import printable
from pytest_serve_chaos.report.terminal import header_line
from pytest_serve_chaos.settings import Settings


class Terminal:
    """The terminal of the run; its lines are seen whatever pytest captures."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._said_header = False

    def say(self, text: str) -> None:
        """Prints a line of progress."""
        self._show(f"serve-chaos: {text}")

    def say_header(self, rig: Rig) -> None:
        """Prints, for the first cluster of the run, what it is and what is sent to it."""
        if not self._said_header:
            self._said_header = True
            self._show(header_line(rig.cluster.description, self._settings.schedule, self._settings.seed))

    def _show(self, line: str) -> None:
        line = printable(line)
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if reporter is None:
            return
        with suppress(OSError, ValueError):  # the terminal may be lost, and this line is the least that matters then
            if capture is None:
                reporter.write_line(line)
                return
            with capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                reporter.write_line(line)
