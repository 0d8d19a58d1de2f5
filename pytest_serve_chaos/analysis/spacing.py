"""How far the judged requests are apart: an outage that is shorter may not show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from pytest_serve_chaos.analysis.outages import spacing
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.events import TrafficBegan
from pytest_serve_chaos.model import Request
from pytest_serve_chaos.schedule import Pattern, Schedule

TIE = 1e-6
"""Seconds that two equal moments may differ by: a history's file has microseconds, and sums of floats have errors."""


@dataclass(frozen=True, slots=True)
class Spacing:
    """How far the judged requests are apart.

    Attributes:
        requests: These requests, in order of their scheduled times.
        asked: The moment of the fault, monotonic seconds; minus infinity where there was none.
        uneven: Their schedule, where they are not evenly spaced; None where they are, or the history does not say.
        stage_time: When the fault came, in seconds since the stages of the traffic began; 0.0 where there are none.
        is_part: Whether they are those of one part only.
    """

    requests: tuple[Request, ...]
    asked: float
    uneven: Schedule | None
    stage_time: float
    is_part: bool

    @property
    def apart(self) -> float:
        """Seconds between two requests; where these are not evenly spaced, the most that there were since the fault."""
        usual, even = spacing(self.requests), self.uneven is None
        if even and not self.is_part:
            return usual
        # Of what is chosen by weight no two are ever twice as far apart as on average; what comes in order from a file
        # may come in blocks.
        return usual if even and self.most_apart < 2 * usual else self.most_apart

    @property
    def most_apart(self) -> float:
        """The most seconds between two requests since the fault: a single lost one may look like so long an outage."""
        due = [request.scheduled for request in self.requests]
        return max((b - a for a, b in pairwise(due) if b > self.asked), default=0.0)

    @property
    def widest(self) -> float:
        """Seconds that two requests were apart at most: those of a part are a choice of all, so not evenly spaced."""
        return max(self.apart, self.most_apart) if self.is_part else self.apart


def uneven_schedule(began: Iterable[TrafficBegan], source: str, share: float) -> Schedule | None:
    """The schedule of the judged requests if they are not evenly spaced; None if they are, or nothing says it.

    Args:
        began: Which traffic began, in order of time.
        source: Whose requests are judged.
        share: The share (0 to 1) of these that the judged ones are.
    """
    own = [event for event in began if event.source == source]
    if not own or own[-1].rate is None:
        return None
    try:
        schedule = Schedule.of(own[-1].stages or own[-1].rate or 0.0, cast("Pattern", own[-1].arrivals))
    except SettingsError:  # what a newer version wrote
        return None
    return None if schedule.even else schedule.of_share(share)


def stage_time(asked: float | None, begun: Iterable[float]) -> float:
    """When the fault came, in seconds since the stages began; 0.0 where there is neither.

    Args:
        asked: The moment of the fault, monotonic seconds.
        begun: When stages of the judged traffic began; the last ones count.
    """
    stages = list(begun)
    return 0.0 if asked is None or not stages else max(0.0, asked - stages[-1])
