"""The block that shows a test while it runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_serve_chaos import clock
from pytest_serve_chaos.history import History
from pytest_serve_chaos.live.figures import RequestFigures
from pytest_serve_chaos.live.frame import View, frame, seconds_shown
from pytest_serve_chaos.live.screen import LinesBelow
from pytest_serve_chaos.live.story import Story
from pytest_serve_chaos.watch_thread import WatchThread

_EVERY = 0.5
"""Seconds between two frames, if they cost next to nothing."""

_SHARE = 0.04
"""Of one processor that frames may take, so that load generators in this process are not late."""

_FEWEST_ROWS = 10
"""Of a window in which there is still room for pytest's own lines."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What a block shows.

    Attributes:
        history: Of the run.
        late_after: Seconds after which an answer is late.
        lacking: How many fewer there are than there should be, of the replicas of each deployment and of ``workers``.
    """

    history: History
    late_after: float
    lacking: Mapping[str, int]


class LiveBlock:
    """A block below pytest's output, which is there from `begin` to `end` while it is `allowed`.

    Args:
        screen: Where it is shown.

    Attributes:
        allowed: Whether nobody else writes to the terminal now.
    """

    def __init__(self, screen: LinesBelow) -> None:
        self._screen = screen
        self._lock = threading.RLock()  # a signal may meet its owner in the middle, and the end of the run needs it
        self._allowed = False
        self._test: _Test | None = None
        self._thread: WatchThread | None = None
        self._lines: list[str] = []
        self._columns = 0
        self._lost = False

    def begin(self, test: str, look: Callable[[], Watched | None]) -> None:
        """Begins to show a test.

        Args:
            test: Its name.
            look: Returns what is shown, once there is a cluster.
        """
        self.end()
        with self._lock:
            self._test, self._lines = _Test(test, look), []
        self._thread = WatchThread("serve-chaos-live", self._turn, again_after=10 * _EVERY)
        self._thread.start()

    def end(self) -> None:
        """Ends it; nothing of it stays on the terminal."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stopped.set()
        with self._lock:
            self._test = None
            self._clear()
        if thread is not None:
            thread.join(10.0)

    def allow(self, allowed: bool) -> None:
        """Notes whether it may be on the terminal from now on; where not, it is gone on return."""
        with self._lock:
            self._allowed = allowed
            if not allowed:
                self._clear()
            elif self._test is not None:
                self._show_again()

    def at_the_moment(self, text: str) -> None:
        """Shows how things are from now on, until they change, or another phase of the experiment begins."""
        test = self._test  # other threads begin and end it
        if test is not None:
            test.doing = _Doing(text, clock.now())

    def expect(self, seconds: float) -> None:
        """Shows how much of that time is left, from now on."""
        test = self._test
        if test is not None:
            test.ends = clock.now() + seconds

    def _turn(self) -> float:
        begun = clock.now()
        with self._lock:
            if self._test is not None and self._allowed:
                size = self._screen.size
                self._lines = frame(self._test.view(size.columns), size.columns)
                self._show(size)
        return max(_EVERY, (clock.now() - begun) / _SHARE)

    def _show(self, size: os.terminal_size) -> None:
        if size.lines < _FEWEST_ROWS:
            self._clear()
        elif not self._lost and self._screen.takes_more:
            self._columns = size.columns
            self._attempt(lambda: self._screen.show(self._lines))

    def _show_again(self) -> None:
        """Shows what was there before somebody else wrote; nothing if the window is not the same any more."""
        size = self._screen.size
        if size.columns == self._columns:
            self._show(size)

    def _clear(self) -> None:
        if not self._lost:
            self._attempt(self._screen.clear)

    def _attempt(self, change: Callable[[], None]) -> None:
        try:
            change()
        except (OSError, ValueError):  # the terminal is gone, and pytest may go on without
            self._lost = True


@dataclass(frozen=True, slots=True)
class _Doing:
    """How things were at a moment, in words."""

    text: str
    at: float


class _Test:
    """What is known of the test that is shown."""

    def __init__(self, name: str, look: Callable[[], Watched | None]) -> None:
        self.doing = _Doing("", 0.0)
        self.ends: float | None = None
        self._name = name
        self._look = look
        self._story = Story(clock.now())
        self._figures = RequestFigures(self._story.begun)
        self._told: int | None = None

    def view(self, columns: int) -> View:
        """What there is to show now, in a window of that width."""
        now, watched = clock.now(), self._look()
        missing = []
        if watched is not None:
            self._take_in(watched, now)
            missing = [(one.component.name, now - one.since) for one in self._story.missing(watched.lacking)]
        begun = self._story.begun
        return View(
            test=self._name,
            elapsed=now - begun,
            expected=None if self.ends is None else self.ends - begun,
            phase=self._story.phase,
            doing=self.doing.text if self.doing.at >= self._story.entered else "",
            all=self._figures.all,
            last=self._figures.last(seconds_shown(columns), now) if self._figures.all.sent else (),
            missing=missing,
        )

    def _take_in(self, watched: Watched, now: float) -> None:
        events = watched.history.events
        if self._told is None:  # what was before is not of this test
            self._told = next((n for n, event in enumerate(events) if event.at >= self._story.begun), len(events))
        if self._story.tell(events[self._told :]):
            self._figures = RequestFigures(self._story.begun)
        self._told = len(events)
        self._figures.look(watched.history, now, watched.late_after)
