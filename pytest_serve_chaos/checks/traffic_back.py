"""When requests were answered promptly again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis.words import duration, limit
from pytest_serve_chaos.checks import window
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.model import Expectations


@dataclass(frozen=True, slots=True)
class TrafficBack:
    """Traffic was back that many seconds after the fault at the latest."""

    allowed: float
    name: ClassVar[str] = "traffic_back"
    on_requests: ClassVar[bool] = True

    def needs(self, seen: Observation) -> Iterator[str]:
        """It needs requests."""
        yield from window.none_sent(seen.record, seen.measurement)

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed if it came back later; unknown while it still had time."""
        yield from map(Unknown, window.doubts(seen.record, seen.measurement))
        back = seen.measurement.traffic_back
        yield from map(Unknown, window.too_far_apart(seen.record, self.name, self.allowed, back or 0.0))
        if back is None:
            yield self._not_back(min(seen.measurement.observed, seen.measurement.traffic_observed))
        elif back > window.certainly_longer_than(seen.record, self.allowed):
            yield Missed(f"traffic was back {duration(back)} after the fault. Allowed: {limit(self.allowed)}.")

    def _not_back(self, observed: float) -> Objection:
        allowed = f"Allowed: {limit(self.allowed)}."
        if observed >= self.allowed:
            return Missed(f"traffic never came back in {duration(observed)} of observation. {allowed}")
        return Unknown(
            f"traffic was not back when the observation ended, {duration(observed)} after the fault. {allowed}"
        )


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `traffic_back`, if it is demanded."""
    if expected.traffic_back is not None:
        yield TrafficBack(expected.traffic_back)
