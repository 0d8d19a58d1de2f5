"""Whether processes that came through a fault use more and more from then on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis.growth import LEAST_SAMPLES, QUEUE
from pytest_serve_chaos.analysis.words import number
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation
from pytest_serve_chaos.model import Expectations


@dataclass(frozen=True, slots=True)
class Leaks:
    """No more than so many processes leak since the fault."""

    most: int
    name: ClassVar[str] = "leaks"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """That processes were watched after recovery, often enough."""
        watched = seen.record.watched
        unknown = "so it is unknown whether anything leaks"
        if watched is None:
            yield f"no process was watched after recovery, {unknown}"
        elif not watched.shows_growth:
            times = number(watched.samples, "time")
            yield f"processes were seen {times} after recovery, {unknown}: that takes {LEAST_SAMPLES}"
        elif not watched.processes:
            yield f"no process was there all the time that they were watched after recovery, {unknown}"

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed if more leak."""
        watched = seen.record.watched
        leaks = () if watched is None else watched.leaks
        if watched is not None and len(leaks) > self.most:
            found = "; ".join(leaks)
            text = f"{number(len(leaks), 'process leaks', 'processes leak')} since the fault: {found}"
            # Nobody uses more because others keep the processors busy, but who waits for one may have a longer queue.
            surely = {trend.process for trend in watched.trends if trend.is_leak and trend.figure != QUEUE}
            yield Missed(text, whatever_the_load=len(surely) > self.most)


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `leaks`, if it is demanded."""
    if expected.leaks is not None:
        yield Leaks(expected.leaks)
