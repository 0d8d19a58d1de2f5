"""A deadline for what the Kubernetes client does without one, such as to run a program for credentials."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

CREDENTIALS_WITHIN = 15.0
"""Seconds; the program for credentials may ask a server for them, and may wait for somebody to log in."""


class _Call(threading.Thread, Generic[T]):
    """A call in a thread of its own, which does not keep this process alive."""

    def __init__(self, function: Callable[[], T]) -> None:
        super().__init__(name="serve-chaos-credentials", daemon=True)
        self._function = function
        self.given: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.given.append(self._function())
        except BaseException as error:
            self.error = error


def within(seconds: float, function: Callable[[], T]) -> T:
    """Calls a function, and waits for it no longer than that; what it raises is raised here.

    If it takes longer, the programs that it has started are killed, and it may go on without anybody.

    Raises:
        TimeoutError: It took longer.
    """
    call = _Call(function)
    call.start()
    call.join(seconds)
    if call.is_alive():
        _kill_programs_of(call.native_id)
        raise TimeoutError(f"no answer in {seconds:g} s")
    if call.error is not None:
        raise call.error
    return call.given[0]


def _kill_programs_of(thread: int | None) -> None:
    """Kills what a thread of this process has started, with all that these programs have started."""
    for pid in _descendants(Path(f"/proc/self/task/{thread}")):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _descendants(task: Path) -> list[int]:
    """The processes below a thread, parents first; none where the kernel does not tell."""
    try:
        children = [int(pid) for pid in (task / "children").read_text().split()]
    except OSError:
        return []
    below = [pid for child in children for one in _threads(child) for pid in _descendants(one)]
    return [*children, *below]


def _threads(pid: int) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(Path(f"/proc/{pid}/task").iterdir())
    return []
