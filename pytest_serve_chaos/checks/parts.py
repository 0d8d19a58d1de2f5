"""Whether too many of an app's requests, or of those of one name, were lost, even if there are only few of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from pytest_serve_chaos.analysis.statistics import availability_interval, requests_needed
from pytest_serve_chaos.analysis.words import limit, limit_percent
from pytest_serve_chaos.checks import window
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation
from pytest_serve_chaos.model import Expectations

_CERTAIN = 0.99
"""The confidence with which the share of good answers must be below what is demanded."""


@dataclass(frozen=True, slots=True)
class CertainlyAvailable:
    """Where there are too few requests to show that share (0 to 1): no more were lost than by chance."""

    share: float
    confidence: float | None = None
    name: ClassVar[str] = "availability"
    on_requests: ClassVar[bool] = True

    def needs(self, seen: Observation) -> Iterator[str]:
        """It needs requests."""
        yield from window.none_sent(seen.record, seen.measurement)

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed if so many were lost or late that it cannot be chance."""
        sent = seen.measurement.sent or 0
        away = (seen.measurement.lost or 0) + (seen.measurement.late or 0)
        if self.share < 1 and sent >= requests_needed(self.share, self.confidence):
            return  # there are enough, so `Availability` judges them
        # One loss is among those that a high share allows, and it is one of the few requests of some part.
        if away > 1 and availability_interval(away, sent, _CERTAIN)[1] < self.share:
            seconds = limit(round(seen.measurement.seconds or 0.0, 1))
            yield Missed(
                f"{away} of {sent} requests lost or late in the {seconds} after the fault. "
                f"Allowed: {limit_percent(float(1 - Fraction(str(self.share))))}."
            )


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `availability`, if it is demanded."""
    if expected.availability is not None:
        yield CertainlyAvailable(expected.availability, expected.confidence)
