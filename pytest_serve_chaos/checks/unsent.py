"""Whether the load generator sent all requests of its schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis.words import limit_percent
from pytest_serve_chaos.checks.base import Check, Objection, Observation, Unknown
from pytest_serve_chaos.model import Expectations, Measurement

MOST_NOT_SENT = 0.001
"""The share of scheduled requests that may go unsent."""


@dataclass(frozen=True, slots=True)
class AllSent:
    """No more than a share of the requests went unsent because too many were in flight."""

    most: float = MOST_NOT_SENT
    name: ClassVar[str] = "all_sent"
    on_requests: ClassVar[bool] = False

    def needs(self, seen: Observation) -> Iterator[str]:
        """It needs nothing."""
        yield from ()

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Unknown if too many were not sent."""
        measurement = seen.measurement
        if measurement.not_sent > self.most * measurement.scheduled:
            yield Unknown(f"{not_sent(measurement)} (limit {limit_percent(self.most)}): too many were in flight")


def not_sent(measurement: Measurement) -> str:
    """How many requests were not sent, as a clause."""
    return f"the load generator did not send {measurement.not_sent} of {measurement.scheduled} requests"


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check, which every experiment has."""
    yield AllSent()
