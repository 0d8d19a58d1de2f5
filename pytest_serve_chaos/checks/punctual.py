"""Whether the load generator sent requests when they were due."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis.words import latency
from pytest_serve_chaos.checks.base import Objection, Observation


@dataclass(frozen=True, slots=True)
class Punctual:
    """The generator was not later than that many seconds (99th percentile): else its figures are its own doing."""

    latest: float
    name: ClassVar[str] = "punctual"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """A generator that was punctual."""
        lag = seen.measurement.send_lag_p99
        if lag > self.latest:
            yield (
                f"the load generator was late: 1 % of its requests were sent {latency(lag)} or more "
                f"after their time (limit {latency(self.latest)}); send fewer, or leave it more CPU"
            )

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Demands nothing more."""
        yield from ()
