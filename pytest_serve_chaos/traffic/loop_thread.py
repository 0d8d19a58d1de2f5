"""A thread with an event loop of its own, which runs until another thread stops it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from pytest_serve_chaos import clock


class LoopThread:
    """Runs an event loop in a thread of its own.

    Args:
        name: Of the thread.
        work: Runs the loop, in that thread. Its coroutine awaits what `enter` returns, and ends then.

    Attributes:
        ready: Set by the coroutine when it has begun, and in any case when the thread ends.
        crash: The error that ended the thread; None as long as there is none.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.ready = threading.Event()
        self.crash: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Future[float] | None = None

    @property
    def was_started(self) -> bool:
        """Whether it runs, or has run."""
        return self._thread.ident is not None

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Starts the thread, once."""
        self._thread.start()

    def enter(self) -> asyncio.Future[float]:
        """Called in the loop, before anything else: resolved when it shall stop, with the moment that was asked for."""
        self._loop = asyncio.get_running_loop()
        self._stopped = self._loop.create_future()
        return self._stopped

    def call(self, function: Callable[[float], None], at: float) -> None:
        """Calls a function with a moment, in the loop; does nothing if there is no loop, or none any more."""
        if self._loop is not None:
            # The loop is closed already where its work broke down.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function, at)

    def stop(self) -> None:
        """Asks the loop to stop now. May be called twice."""
        self.call(self._stop_at, clock.now())

    def join(self, timeout: float) -> bool:
        """Waits for the end of the thread, for so many seconds; whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.crash = error
        finally:
            self.ready.set()

    def _stop_at(self, moment: float) -> None:
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(moment)
