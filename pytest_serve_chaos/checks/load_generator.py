"""Whether the load generator sent all requests of its schedule, and when they were due."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pytest_serve_chaos.analysis.machine import at_work
from pytest_serve_chaos.analysis.record import Record
from pytest_serve_chaos.analysis.words import latency, limit_percent
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
                f"{_meanwhile(seen.record)}"
            )

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Demands nothing more."""
        yield from ()


def _meanwhile(record: Record) -> str:
    """Who used the processors while the latest request waited to be sent, as the end of a sentence."""
    sent = [(r.scheduled, r.sent) for r in record.fresh if r.sent is not None and r.scheduled >= (record.asked or 0.0)]
    if not sent:
        return ""
    used = at_work(record.machine, *max(sent, key=lambda times: times[1] - times[0]))
    return f" ({used})" if used else ""


def not_sent(measurement: Measurement) -> str:
    """How many requests were not sent, as a clause."""
    return f"the load generator did not send {measurement.not_sent} of {measurement.scheduled} requests"


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check, which every experiment has."""
    yield AllSent()
