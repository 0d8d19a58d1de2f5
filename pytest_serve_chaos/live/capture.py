"""When pytest captures what is written, nobody else writes to the terminal: then a block may be there."""

from __future__ import annotations

from functools import wraps
from typing import Protocol

import pytest


class Yields(Protocol):
    """What is on the terminal only while nobody else writes there."""

    def allow(self, allowed: bool) -> None:
        """Notes whether it may be there from now on; where not, it is gone on return."""


def follow(config: pytest.Config, block: Yields) -> None:
    """Takes a block away whenever pytest stops to capture, and brings it back when pytest goes on.

    pytest and its plugins write to the terminal in no other way while a test runs: results, lines of live logging, a
    debugger, `capsys.disabled()`. pytest has no hook for this, so the methods of its capture manager are wrapped.
    """
    manager = config.pluginmanager.get_plugin("capturemanager")
    assert manager is not None
    suspend, resume, stop = (
        manager.suspend_global_capture,
        manager.resume_global_capture,
        manager.stop_global_capturing,
    )

    captures = True

    @wraps(suspend)
    def suspend_without_block(in_: bool = False) -> None:
        block.allow(False)
        suspend(in_)

    @wraps(resume)
    def resume_with_block() -> None:
        resume()
        block.allow(captures)

    @wraps(stop)
    def stop_without_block() -> None:
        nonlocal captures
        captures = False  # for good: pytest ends
        block.allow(False)
        stop()

    manager.suspend_global_capture = suspend_without_block
    manager.resume_global_capture = resume_with_block
    manager.stop_global_capturing = stop_without_block
