"""Signals that end a run: the first becomes Ctrl-C, and none keeps the run from healing what it broke."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from pytest_serve_chaos import clock

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

HEALED_WITHIN = 10.0
"""Seconds after the first signal in which further ones do nothing, unless what heals at once is healed before."""

THE_SAME = 1.0
"""Seconds in which a second signal is the first one again: some programs send it to a process and to its group."""

PUT_OFF = 0.02
PUT_OFF_AT_MOST = 2.0
"""Seconds after which a signal that came at a bad moment is sent again, and seconds in which that is done."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""CI systems and `timeout` send SIGTERM; SIGHUP comes when the terminal, or ssh, is lost; Ctrl-C and Ctrl-\\ send the
others."""


class EndingSignals:
    """What the signals do that end a run.

    The first is a Ctrl-C. Those that follow do nothing until `healed` was called, for ten seconds at most; then each is
    a Ctrl-C again. From the end of the run on, which is what all of them ask for, only a Ctrl-C does anything: it
    breaks off the step in hand, and the next one begins.
    """

    def __init__(self) -> None:
        self._came: float | None = None
        self._first: float | None = None
        self._healed = False
        self._ending = False
        self._can_be_broken_off = True

    def install(self, config: pytest.Config) -> None:
        """Handles them until the end of pytest.

        One that is ignored (`nohup`), or for which somebody else has a handler, is left alone.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        before = {one: signal.getsignal(one) for one in _SIGNALS}
        taken = {one: there for one, there in before.items() if there in (signal.SIG_DFL, signal.default_int_handler)}

        def give_back() -> None:
            for one, there in taken.items():
                signal.signal(one, there)

        for one in taken:
            signal.signal(one, self.handle)
        config.add_cleanup(give_back)
        config.pluginmanager.register(_NoticesLostInterrupts(self), "serve_chaos_lost_interrupts")

    def lost(self) -> None:
        """Python has ignored the KeyboardInterrupt of the first signal: it comes again, and is the first again."""
        _send_again(signal.SIGINT)
        self._first = None

    def healed(self) -> None:
        """What heals at once is healed, so that a second signal may end what the run does now."""
        self._healed = True

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """The run ends; nothing interrupts that but a Ctrl-C in a `step`."""
        self._ending, self._can_be_broken_off = True, False
        try:
            yield
        finally:
            self._can_be_broken_off = True

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """One of the things that are done at the end, which the user can break off."""
        self._can_be_broken_off = True
        try:
            yield
        finally:
            self._can_be_broken_off = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        does_nothing = self._ending and not (self._can_be_broken_off and number == signal.SIGINT)
        if self._first is None:
            if not does_nothing and self._is_put_off(number, frame):
                return
            self._first = clock.now()
        elif clock.now() - self._first < (THE_SAME if self._healed else HEALED_WITHIN):
            return
        if does_nothing:
            return
        signal.default_int_handler(number, frame)

    def _is_put_off(self, number: int, frame: FrameType | None) -> bool:
        """Whether this is a bad moment for a KeyboardInterrupt, and the signal comes again soon."""
        now = clock.now()
        if self._came is None:
            self._came = now
        if now - self._came >= PUT_OFF_AT_MOST or not _is_bad_moment(frame):
            return False
        _send_again(number)
        return True


class _NoticesLostInterrupts:
    """Python ignores a KeyboardInterrupt in what nobody calls, such as the callback of a weak reference."""

    def __init__(self, signals: EndingSignals) -> None:
        self._signals = signals

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Begins to notice them; not before, because pytest's own hook for what is ignored must be there already."""
        before = sys.unraisablehook

        def notice(ignored: UnraisableHookArgs) -> None:
            if issubclass(ignored.exc_type, KeyboardInterrupt):
                self._signals.lost()
            else:
                before(ignored)

        def give_back() -> None:
            sys.unraisablehook = before

        sys.unraisablehook = notice
        session.config.add_cleanup(give_back)


def _is_bad_moment(frame: FrameType | None) -> bool:
    """Whether a KeyboardInterrupt could get lost, or break what handles it.

    Python ignores it in a finalizer, and in a callback of its imports. In code that a dataclass generates during an
    import, and in other code that `exec` runs from a string, it makes Python kill itself with SIGINT after an orderly
    end. If the instruction has no line, pytest 9.2 cannot print where it came (TypeError in `TracebackEntry.lineno`).
    """
    while frame is not None:
        code = frame.f_code
        is_of_exec = code.co_filename == "<string>" and frame.f_back is not None
        if frame.f_lineno is None or code.co_name == "__del__" or is_of_exec:
            return True
        if code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    timer = threading.Timer(PUT_OFF, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()
