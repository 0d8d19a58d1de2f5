"""Watches what processes use before a fault and after recovery: what is back need not be well."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType

from pytest_serve_chaos.analysis.growth import LEAST_LOOKS
from pytest_serve_chaos.analysis.words import limit
from pytest_serve_chaos.cluster.capabilities import SHOWS_USAGE
from pytest_serve_chaos.events import Phase, PhaseBegan, Remark
from pytest_serve_chaos.faults.rig import Rig
from pytest_serve_chaos.model import Expectations
from pytest_serve_chaos.observe.usage import UsageWatch, period
from pytest_serve_chaos.progress import say_how_long

_LOOKS_BEFORE = 30
"""Looks at each process before the fault, at most: they cost a run as much time as those after it."""


def seconds_before(rig: Rig, expected: Expectations) -> float:
    """Seconds from steady state to the fault in which processes show how they are without it.

    Args:
        rig: The cluster under test.
        expected: Says for how long they are watched after recovery.
    """
    seen = rig.cluster.capability(SHOWS_USAGE) is not None
    return min(_LOOKS_BEFORE * rig.waits.usage_every, expected.watched_for / 3) if seen else 0.0


class LeakWatch:
    """What processes use in one experiment, unless it asks for no watch. A context manager.

    Args:
        rig: The cluster under test, and what is recorded about it.
        expected: Says for how long they are watched.
    """

    def __init__(self, rig: Rig, expected: Expectations) -> None:
        self._rig = rig
        self._expected = expected
        self._every = period(expected.watched_for, rig.waits.usage_every)
        self._shows = rig.cluster.capability(SHOWS_USAGE)
        self._watch = UsageWatch(
            rig.history,
            self._shows,
            lambda: rig.watcher.topology.components,
            every=period(expected.window, rig.waits.usage_every),
            asked=bool(self.seconds),
        )

    def __enter__(self) -> LeakWatch:
        if self._expected.watch_for != 0:
            self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._watch.stop()

    @property
    def seconds(self) -> float:
        """For how long the experiment goes on after recovery, for nothing but that watch."""
        return 0.0 if self._shows is None else self._expected.watched_for

    def not_shown(self) -> Iterator[str]:
        """Why leaks cannot be judged here, with the way out."""
        if self._expected.leaks is None:
            return
        if self._shows is None:
            yield (
                f"leaks={self._expected.leaks} cannot be judged: {self._unseen}. Leave leaks= out here, or run the test"
                " on another backend, such as local"
            )
        yield from self._too_short()

    def _too_short(self) -> Iterator[str]:
        least = LEAST_LOOKS * self._every
        if self._expected.watched_for < least:
            yield (
                f"watch_for={limit(self._expected.watched_for)} cannot tell a leak from a warm-up, which takes"
                f" {LEAST_LOOKS} looks at each process, {limit(self._every)} apart: watch for {limit(least)} or longer"
            )

    def after_recovery(self) -> None:
        """Watches for as long as the experiment asks for."""
        if self._shows is None and self._expected.watched_for:
            self._rig.log.add(Remark(f"leaks were not looked for: {self._unseen}"))
        if not self.seconds:
            return
        for reason in self._too_short():
            self._rig.log.add(Remark(reason))
        say_how_long(self._rig.progress, f"watching {limit(self.seconds)} for leaks", self.seconds)
        self._watch.every = self._every
        self._rig.log.add(PhaseBegan.of(Phase.GROWTH))
        time.sleep(self.seconds)

    @property
    def _unseen(self) -> str:
        backend = self._rig.cluster.description.backend
        return f"the {backend} backend does not see what processes use (ShowsUsage)"
