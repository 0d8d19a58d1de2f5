"""What became of the requests of the last minute, second by second, and of all before in sums."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from pytest_serve_chaos.history import History
from pytest_serve_chaos.model import UNFINISHED, Request

_SECONDS = 120
"""Seconds that are kept one by one, and those before whose requests have not all ended."""

_LATE_BY = 5.0
"""Seconds by which a request may be noted after it was due."""


@dataclass(slots=True)
class Second:
    """The requests that were due in one second.

    Attributes:
        sent: How many.
        lost: How many of them had no good answer.
        late: How many had a good answer too late.
        in_flight: How many have not ended.
        slowest: The longest time that a good answer took, in seconds.
    """

    sent: int = 0
    lost: int = 0
    late: int = 0
    in_flight: int = 0
    slowest: float = 0.0

    def add(self, request: Request, late_after: float) -> None:
        """Counts a request."""
        self.sent += 1
        if request.error == UNFINISHED:
            self.in_flight += 1
        elif request.lost:
            self.lost += 1
        else:
            self.late += request.latency > late_after
            self.slowest = max(self.slowest, request.latency)

    def add_all(self, other: Second) -> None:
        """Counts those of another second as well."""
        self.sent += other.sent
        self.lost += other.lost
        self.late += other.late
        self.in_flight += other.in_flight
        self.slowest = max(self.slowest, other.slowest)


@dataclass(slots=True)
class RequestFigures:
    """The requests on fresh connections since some moment. Each look reads only what may have changed since the last.

    Attributes:
        begin: That moment, monotonic seconds.
    """

    begin: float
    _earlier: Second = field(default_factory=Second)
    _seconds: dict[int, Second] = field(default_factory=dict)

    def look(self, history: History, now: float, late_after: float) -> None:
        """Reads what became of the requests.

        Args:
            history: Where they are.
            now: Monotonic seconds.
            late_after: Seconds after which an answer is late.
        """
        waiting = [number for number, second in self._seconds.items() if second.in_flight]
        since = max(self.begin, min([now - _LATE_BY, *map(float, waiting)]))
        first = math.floor(since)
        requests = history.requests_since(max(self.begin, float(first)), with_pending=True)
        self._seconds = {number: second for number, second in self._seconds.items() if number < first}
        self._count(requests, late_after)
        old = [number for number, second in self._seconds.items() if number < now - _SECONDS and not second.in_flight]
        for number in old:
            self._earlier.add_all(self._seconds.pop(number))

    def _count(self, requests: Iterable[Request], late_after: float) -> None:
        for request in requests:
            if not request.kept:
                self._seconds.setdefault(math.floor(request.scheduled), Second()).add(request, late_after)

    @property
    def all(self) -> Second:
        """All of them."""
        total = Second()
        for second in (self._earlier, *self._seconds.values()):
            total.add_all(second)
        return total

    def last(self, seconds: int, now: float) -> list[Second]:
        """Those of the last so many seconds, the oldest first; none before there were requests."""
        newest = math.floor(now)
        first = max(newest - seconds + 1, min(self._seconds, default=newest))
        return [self._seconds.get(number, Second()) for number in range(first, newest + 1)]
