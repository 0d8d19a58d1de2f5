"""How long requests were lost or waited too long without a pause."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis.words import duration, latency, limit, number
from pytest_serve_chaos.checks import window
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.model import Expectations, Measurement


@dataclass(frozen=True, slots=True)
class LongestOutage:
    """No outage was longer than that many seconds."""

    allowed: float
    name: ClassVar[str] = "longest_outage"
    on_requests: ClassVar[bool] = True

    def needs(self, seen: Observation) -> Iterator[str]:
        """It needs requests."""
        yield from window.none_sent(seen.record, seen.measurement)

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed if one was longer, however short the observation was."""
        yield from map(Unknown, window.doubts(seen.record, seen.measurement))
        longest = seen.measurement.longest_outage or 0.0
        yield from map(Unknown, window.too_far_apart(seen.record, self.name, self.allowed, longest))
        if any(outage.end is None for outage in seen.measurement.outages):
            yield Unknown("requests were still lost or late when the traffic ended, so the outage may be longer")
        if longest > window.certainly_longer_than(seen.record, self.allowed):
            yield Missed(f"{_outages(seen.measurement, longest)}. Allowed: {limit(self.allowed)}.")


def _outages(measurement: Measurement, longest: float) -> str:
    others = len(measurement.outages) - 1
    more = f", and {number(others, 'shorter one')} came with it" if others else ""
    worst = max(measurement.outages, key=lambda o: math.inf if o.end is None else o.end - o.start)
    waited = f" (requests that wait longer than {latency(measurement.slow_after or 0.0)} count)" if worst.late else ""
    return f"the longest outage lasted {duration(longest)}{waited}{more}"


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `longest_outage`, if it is demanded."""
    if expected.longest_outage is not None:
        yield LongestOutage(expected.longest_outage)
