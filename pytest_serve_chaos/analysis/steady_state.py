"""The steady state before the fault: which requests show it, what is usual in it, and what waits too long by that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pytest_serve_chaos.analysis.outages import spacing
from pytest_serve_chaos.analysis.statistics import latency, latency_of
from pytest_serve_chaos.model import Expectations, Latency, Request, Slowness

STEADY_SECONDS = 3.0
"""Seconds before the fault whose latency is the steady state's, where the history does not say which they are."""

_MARGIN = 2.0
"""Seconds beyond the usual latency after which a request is away at the latest, unless the user says otherwise: where
outages of many seconds are allowed, a user has still gone after a few."""

_LEAST_MARGIN = 0.05
_ENOUGH = 100
"""Requests that show their p99."""
LEAST_REQUESTS = 3
"""Requests by which what is usual is judged at least: of a part with fewer in the steady seconds, earlier ones too."""


@dataclass(frozen=True, slots=True)
class SteadyState:
    """What the requests of the steady seconds show.

    Attributes:
        requests: Those requests on fresh connections that had ended when the fault came.
        expectations: What is demanded.
        uneven: Whether requests are not evenly spaced.
        is_part: Whether they are those of one part only.
    """

    requests: tuple[Request, ...]
    expectations: Expectations
    uneven: bool = False
    is_part: bool = False

    @property
    def latency(self) -> Latency | None:
        """Their latency; None where nothing was sent."""
        return latency(self.requests)

    @property
    def slowness(self) -> Slowness:
        """What waits too long in this experiment."""
        if self.is_part and self.expectations.slow_after is None and all(request.lost for request in self.requests):
            return Slowness()  # nobody knows what is usual for these, so only what is lost counts
        return slowness_of(self.requests, self.expectations, uneven=self.uneven)


def steady_requests(
    fresh: Sequence[Request], until: float, *, confirmed: float | None, is_part: bool
) -> tuple[Request, ...]:
    """The requests of the steady seconds that had ended by the fault.

    Those since the steady state was confirmed; where the history does not say when that was, those of the last three
    seconds before the fault. Warming up is not part of it, unless there are too few of a part.

    Args:
        fresh: The requests on fresh connections, in order of their scheduled times.
        until: The moment of the fault, monotonic seconds.
        confirmed: When the steady state was confirmed; None: unknown.
        is_part: Whether the requests are those of one part only.
    """
    ended = [r for r in fresh if r.scheduled < until and r.finished <= until]
    if confirmed is not None:
        steady = tuple(r for r in ended if r.scheduled >= confirmed)
        return tuple(ended[-LEAST_REQUESTS:]) if is_part and len(steady) < LEAST_REQUESTS else steady
    seconds = max(STEADY_SECONDS, (LEAST_REQUESTS + 0.5) * spacing(ended))
    return tuple(r for r in ended if r.finished >= until - seconds)


def slowness_of(steady: Sequence[Request], expected: Expectations, *, uneven: bool = False) -> Slowness:
    """What waits too long, by what is demanded and by the requests of the steady seconds.

    Args:
        steady: These requests.
        expected: What is demanded.
        uneven: Whether requests are not evenly spaced.
    """
    # As if all had been sent on time: see `on_time`, whose new requests would cost most of the time here.
    good = [(_end_on_time(r), r.scheduled) for r in steady if not r.lost]
    usual = latency_of(end - scheduled for end, scheduled in good)
    gaps = [later - earlier for earlier, later in pairwise(sorted(end for end, _ in good))]
    typical, most = (0.0, 0.0) if usual is None else (usual.p50, usual.p99)
    margin = _MARGIN
    if expected.longest_outage is not None:
        margin = max(_LEAST_MARGIN, min(_MARGIN, expected.longest_outage / 2))
    # A few requests hardly ever meet the slowest one in a hundred, so what varies may vary more than they show.
    margin += (most - typical) * max(0.0, 1 - len(good) / _ENOUGH)
    after = most + margin if expected.slow_after is None else expected.slow_after
    return Slowness(after, typical, most, max(gaps, default=math.inf), uneven=uneven)


def on_time(request: Request) -> Request:
    """A request as if the generator had sent it when it was due: that it did not says nothing of the app."""
    return replace(request, sent=request.scheduled, finished=_end_on_time(request))


def _end_on_time(request: Request) -> float:
    return max(request.scheduled, request.finished - request.lag)
