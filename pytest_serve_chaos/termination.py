"""Signals that end a run: the first becomes Ctrl-C, and none disturbs the end of the run itself."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import pytest

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""With SIGTERM CI systems and `timeout` end a run; SIGHUP comes when its terminal, or ssh, is lost."""


def end_in_order(config: pytest.Config) -> None:
    """Makes the first of these signals a Ctrl-C, and has the others do nothing: else what was broken would stay so.

    A signal for which somebody else has a handler, or that is ignored (`nohup`), is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    taken = [one for one in _SIGNALS if signal.getsignal(one) is signal.SIG_DFL]
    for one in taken:
        signal.signal(one, _interrupt)
    config.add_cleanup(lambda: _give_back(taken))


def ignore_from_now_on() -> None:
    """Makes these signals do nothing more: the run ends, and that is what they ask for."""
    if threading.current_thread() is threading.main_thread():
        _ignore()


def _interrupt(number: int, frame: FrameType | None) -> None:
    _ignore()
    signal.default_int_handler(number, frame)


def _ignore() -> None:
    for one in _SIGNALS:
        if signal.getsignal(one) is _interrupt:
            signal.signal(one, _nothing)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Unlike SIG_IGN, this is not inherited by the programs that are run."""


def _give_back(taken: list[signal.Signals]) -> None:
    for one in taken:
        signal.signal(one, signal.SIG_DFL)
