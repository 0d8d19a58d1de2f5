"""Writes to the history what the processes of a cluster use in an experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_serve_chaos import clock
from pytest_serve_chaos.cluster.capabilities import ShowsUsage
from pytest_serve_chaos.errors import in_one_line
from pytest_serve_chaos.events import Note, UsageSeen
from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import Component
from pytest_serve_chaos.watch_thread import WatchThread

_MOST_SAMPLES = 120
"""Samples of one experiment: in a long one they are farther apart, so that histories stay small."""


class UsageWatch:
    """A thread that writes what processes use.

    Args:
        history: Where it writes.
        shows: What it asks; None: nobody knows, and it does nothing.
        components: Returns who is alive.
        every: Seconds from one sample to the next.
        asked: Whether the test or a setting asks for it. Only then a failure is noted.

    Attributes:
        every: The same, from the next sample on.
    """

    def __init__(
        self,
        history: History,
        shows: ShowsUsage | None,
        components: Callable[[], Sequence[Component]],
        *,
        every: float,
        asked: bool,
    ) -> None:
        self._history = history
        self._shows = shows
        self._components = components
        self.every = every
        self._asked = asked
        self._noted = ""
        self._thread = WatchThread("serve-chaos-usage", self._turn, again_after=every, met=self._failed)

    def start(self) -> None:
        """Begins to watch."""
        if self._shows is not None:
            self._thread.start()

    def stop(self) -> None:
        """Ends the watch."""
        self._thread.stopped.set()
        self._thread.join(10.0)

    def _turn(self) -> float:
        begun = clock.now()
        if self._shows is not None:
            seen = self._shows.usage(self._components())
            if seen:
                self._history.add(UsageSeen.of(begun, seen))
        return max(0.0, begun + self.every - clock.now())

    def _failed(self, error: Exception) -> None:
        """Writes down, once for each text in turn, that a look failed."""
        text = in_one_line(error)
        if self._asked and text != self._noted:
            self._noted = text
            self._history.add(Note(f"what processes use cannot be seen: {text}"))


def period(watched_for: float, least: float) -> float:
    """Seconds from one sample to the next.

    Args:
        watched_for: Seconds for which processes are watched.
        least: The shortest period.
    """
    return max(least, watched_for / _MOST_SAMPLES)
