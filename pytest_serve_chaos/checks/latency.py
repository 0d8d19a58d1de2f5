"""How much longer answers took during the fault than before."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis import statistics
from pytest_serve_chaos.analysis.spacing import TIE
from pytest_serve_chaos.analysis.steady_state import on_time
from pytest_serve_chaos.analysis.words import latency
from pytest_serve_chaos.checks import window
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.model import Expectations


@dataclass(frozen=True, slots=True)
class LatencyRatio:
    """The p99 latency during the fault was at most that many times the one before."""

    allowed: float
    name: ClassVar[str] = "p99_ratio"
    on_requests: ClassVar[bool] = True

    def needs(self, seen: Observation) -> Iterator[str]:
        """Requests in all of the window, and a p99 of the steady state."""
        yield from window.not_all_of_it(seen.record, seen.measurement)
        before = seen.measurement.before
        if not seen.measurement.sent:
            return
        if before is None:
            yield "no requests were sent before the fault, so there is no p99 to compare with"
        elif math.isinf(before.p99):
            yield "more than 1 % of the requests were lost before the fault, so there is no p99 to compare with"

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed if it was more."""
        yield from map(Unknown, window.none_after_the_hit(seen.record))
        before, during = seen.measurement.before, seen.measurement.during
        if before is None or during is None:
            return
        if math.isinf(during.p99):
            yield Missed(
                f"the p99 latency went from {latency(before.p99)} to infinity, because more than 1 % of the"
                f" requests in the window were lost. Allowed: {self.allowed:g} times."
            )
        elif during.p99 > self.allowed * before.p99 + TIE:
            most = self.allowed * before.p99 + TIE
            if _without_lag(seen) <= most:
                yield Unknown(
                    f"the p99 latency went from {latency(before.p99)} to {latency(during.p99)}, more than "
                    f"{self.allowed:g} times as long, but only because the load generator sent late"
                )
                return
            ratio = f", {during.p99 / before.p99:.1f} times as long" if before.p99 else ""
            yield Missed(
                f"the p99 latency went from {latency(before.p99)} to {latency(during.p99)}{ratio}. "
                f"Allowed: {self.allowed:g} times."
            )


def _without_lag(seen: Observation) -> float:
    """The p99 latency after the fault from when requests were sent: that they were sent late is not the app's doing."""
    found = statistics.latency(on_time(request) for request in seen.requests)
    return 0.0 if found is None else found.p99


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `p99_ratio`, if it is demanded."""
    if expected.p99_ratio is not None:
        yield LatencyRatio(expected.p99_ratio)
