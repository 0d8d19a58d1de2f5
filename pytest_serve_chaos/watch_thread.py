"""A thread that watches, turn after turn: no error ends it, and if it ends all the same, it says so."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pytest_serve_chaos.errors import in_one_line


class WatchThread:
    """Takes turns until it is stopped. A watch that ended in silence would make every recovery look like none.

    Args:
        name: Of the thread.
        turn: One turn; returns the seconds until the next. Whatever exception it raises, the next turn comes.
        again_after: Seconds until the next turn after an exception.
        met: Called with each exception of a turn.
        first_after: Seconds until the first turn.

    Attributes:
        stopped: Set when nothing more is wanted.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], float],
        *,
        again_after: float,
        met: Callable[[Exception], None] = lambda _: None,
        first_after: float = 0.0,
    ) -> None:
        self.stopped = threading.Event()
        self._turn = turn
        self._again_after = again_after
        self._met = met
        self._first_after = first_after
        self._why = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def join(self, timeout: float) -> None:
        """Waits until it has ended, for so many seconds at the most; it need not have been started."""
        if self._thread.ident is not None:
            self._thread.join(timeout)

    @property
    def dead(self) -> str:
        """Why it ended although nobody stopped it, in words; "" while it runs, before it began, and once stopped."""
        if self._thread.ident is None or self._thread.is_alive() or self.stopped.is_set():
            return ""
        return f"the thread {self._thread.name} ended" + (f": {self._why}" if self._why else "")

    def _run(self) -> None:
        try:
            self.stopped.wait(self._first_after)
            while not self.stopped.is_set():
                self.stopped.wait(self._one_turn())
        except BaseException as error:
            self._why = in_one_line(error)

    def _one_turn(self) -> float:
        try:
            return self._turn()
        except Exception as error:
            self._met(error)
            return self._again_after
