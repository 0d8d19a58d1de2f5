"""When each request of an open-loop stream is due."""

from __future__ import annotations

import math
import random
import threading
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from pytest_serve_chaos.schedule import Schedule, check_rate


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A schedule with constant spacing. Each due time is computed from its number, so that lateness never adds up.

    Attributes:
        start: When the first request is due, in monotonic seconds.
        rate: Requests per second.

    Raises:
        SettingsError: The rate is not above zero.
    """

    start: float
    rate: float

    def __post_init__(self) -> None:
        check_rate(self.rate, name="rate")

    def due(self, index: int) -> float:
        """When request `index` (from 0) is due, in monotonic seconds."""
        return self.start + index / self.rate

    def due_by(self, moment: float) -> int:
        """How many requests are due at `moment` or before it."""
        count = max(0, math.floor((moment - self.start) * self.rate) + 1)
        # The product above may be off by one rounding error, so `due` has the last word.
        while count > 0 and self.due(count - 1) > moment:
            count -= 1
        while self.due(count) <= moment:
            count += 1
        return count


class _Segment(NamedTuple):
    """From `begins` on a rate holds; `before` is the number of requests that are due until then, on average."""

    begins: float
    before: float
    rate: float


class Timetable:
    """When each request of a `Schedule` is due. Its numbers may be asked for from any thread.

    A request is due when its place is reached by the number of requests that the rates make due on average. The place
    of request n of constant arrivals is n; of Poisson arrivals it is the sum of n + 1 random steps with a mean of 1,
    drawn in order from a generator with the seed of the run. So a due time depends on the number of the request, the
    seed and the stages alone; lateness never adds up.

    The rate of the first stage holds until `begin_stages`, and then for as long as the stage lasts.

    Args:
        start: When traffic begins, in monotonic seconds.
        schedule: The rates.
        seed: Of Poisson arrivals.
    """

    def __init__(self, start: float, schedule: Schedule, seed: object = 0) -> None:
        self.schedule = schedule
        self._segments: tuple[_Segment, ...] = (_Segment(start, 0.0, schedule.first),)
        self._random = random.Random(str(seed))
        self._places = array("d")  # a list would need four times as much, and hours of traffic have millions
        self._drawing = threading.Lock()

    def begin_stages(self, at: float) -> None:
        """Lets the stages begin at that moment: the rate of the first ends when it has lasted from then on.

        What was due before stays so.
        """
        (segment,) = self._segments[:1]
        segments, ends = [segment], at
        for stage, following in zip(self.schedule.stages, self.schedule.stages[1:], strict=False):
            ends += stage.lasts
            before = segment.before + (ends - segment.begins) * segment.rate
            segment = _Segment(ends, before, following.rate)
            segments.append(segment)
        self._segments = tuple(segments)

    def due(self, index: int) -> float:
        """When request `index` (from 0) is due, in monotonic seconds."""
        return self._moment(self._place(index))

    def due_by(self, moment: float) -> int:
        """How many requests are due at `moment` or before it."""
        segments = self._segments
        segment = segments[max(0, bisect_right(segments, moment, key=lambda one: one.begins) - 1)]
        count = self._count(segment.before + (moment - segment.begins) * segment.rate)
        while count > 0 and self.due(count - 1) > moment:
            count -= 1
        while self.due(count) <= moment:
            count += 1
        return count

    def _moment(self, place: float) -> float:
        segments = self._segments
        number = bisect_right(segments, place, key=lambda one: one.before) - 1
        begins, before, rate = segments[number]
        due = begins + (place - before) / rate
        # Rounding must not put it behind what comes after it.
        return due if number + 1 == len(segments) else min(due, segments[number + 1].begins)

    def _place(self, index: int) -> float:
        if self.schedule.arrivals == "constant":
            return float(index)
        if index >= len(self._places):
            with self._drawing:
                while index >= len(self._places):
                    self._draw()
        return self._places[index]

    def _count(self, place: float) -> int:
        """How many places there are up to that one, the least that it can be."""
        if self.schedule.arrivals == "constant":
            return max(0, math.floor(place) + 1)
        with self._drawing:
            while not self._places or self._places[-1] <= place:
                self._draw()
            return bisect_right(self._places, place)

    def _draw(self) -> None:
        self._places.append((self._places[-1] if self._places else 0.0) + self._random.expovariate(1.0))
