"""What the terminal shows while tests run: lines that stay, and on a terminal for people a block that goes."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.printable import printable
from pytest_serve_chaos.report.terminal import header_line
from pytest_serve_chaos.settings import Settings

if TYPE_CHECKING:
    from pytest_serve_chaos.live.block import LiveBlock, Watched


class Terminal:
    """The terminal of the run; its lines are seen whatever pytest captures.

    It is the `Progress` of all that runs, and a `LiveProgress` where it has a block.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._said_header = False
        self._one_line = threading.RLock()
        self._block = _block_of(config, settings)

    def __call__(self, line: str) -> None:
        """Prints a line of progress."""
        self.say(line)

    def say(self, text: str) -> None:
        """Prints a line of progress."""
        self._show(f"serve-chaos: {text}")

    def say_header(self, rig: Rig) -> None:
        """Prints, for the first cluster of the run, what it is and what is sent to it."""
        if not self._said_header:
            self._said_header = True
            self._show(header_line(rig.cluster.description, self._settings.schedule, self._settings.seed))

    @property
    def is_live(self) -> bool:
        """Whether it shows how things are at the moment."""
        return self._block is not None

    def at_the_moment(self, text: str) -> None:
        """Shows how things are, until they change or a line is printed."""
        if self._block is not None:
            self._block.at_the_moment(text)

    def expect(self, seconds: float) -> None:
        """Shows how much of that time is left, from now on."""
        if self._block is not None:
            self._block.expect(seconds)

    @contextlib.contextmanager
    def showing(self, test: str, rig: Callable[[], Rig | None]) -> Iterator[None]:
        """Shows a test while it runs, where that can be shown.

        Args:
            test: Its name.
            rig: Returns what it runs on, once that is there.
        """
        if self._block is None:
            yield
            return

        def look() -> Watched | None:
            there = rig()
            return None if there is None else _watched(there)

        self._block.begin(test, look)
        try:
            yield
        finally:
            self._block.end()

    def _show(self, line: str) -> None:
        self.at_the_moment("")
        line = printable(line)
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        if reporter is None:
            return
        # Two threads may have something to say; and the terminal may be lost, when this line is the least that matters.
        with self._one_line, suppress(OSError, ValueError):
            if capture is None:
                reporter.write_line(line)
                return
            with capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                reporter.write_line(line)


def _watched(rig: Rig) -> Watched:
    from pytest_serve_chaos.live.block import Watched

    return Watched(rig.history, rig.traffic.slowness.after, rig.health.lacking())


def _block_of(config: pytest.Config, settings: Settings) -> LiveBlock | None:
    """The block, on a terminal for people, where pytest captures all that others write: None elsewhere."""
    if settings.dry_run or not _is_for_people(config):
        return None
    from pytest_serve_chaos.live.block import LiveBlock
    from pytest_serve_chaos.live.capture import follow
    from pytest_serve_chaos.live.screen import LinesBelow

    descriptor = os.dup(sys.stdout.fileno())  # pytest puts a file under the one that there is while it captures
    block = LiveBlock(LinesBelow(descriptor))

    def end() -> None:
        block.end()
        os.close(descriptor)

    config.add_cleanup(end)
    follow(config, block)
    return block


def _is_for_people(config: pytest.Config) -> bool:
    """Whether somebody watches the run on a terminal that can move its cursor, and wants to see more than lines."""
    try:
        is_terminal = os.isatty(sys.stdout.fileno()) and sys.stdout.encoding.lower() in ("utf-8", "utf8")
    except (AttributeError, OSError, ValueError):  # what stands in for it has no descriptor
        return False
    plain = any(os.environ.get(name) for name in ("NO_COLOR", "CI", "BUILD_NUMBER"))
    can_move = os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
    captures = config.getoption("capture", "no") == "fd" and config.pluginmanager.has_plugin("capturemanager")
    return is_terminal and can_move and captures and not plain and config.getoption("color", "auto") != "no"
