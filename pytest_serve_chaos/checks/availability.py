"""How many requests were answered well and in time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from pytest_serve_chaos.analysis.measure import sent_in_window
from pytest_serve_chaos.analysis.statistics import lower_bound, requests_needed
from pytest_serve_chaos.analysis.words import counted, limit, limit_percent, number, percent
from pytest_serve_chaos.checks import window
from pytest_serve_chaos.checks.base import Check, Missed, Objection, Observation, Unknown
from pytest_serve_chaos.model import Expectations, Measurement

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Availability:
    """At least that share of the requests was answered well and in time.

    Attributes:
        share: 0 to 1.
        confidence: None judges by the share itself; 0.95 by the lower bound of its 95 % interval.
    """

    share: float
    confidence: float | None = None
    name: ClassVar[str] = "availability"
    on_requests: ClassVar[bool] = True

    def needs(self, seen: Observation) -> Iterator[str]:
        """Requests in all of the window."""
        yield from window.not_all_of_it(seen.record, seen.measurement)

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed by the share, or by its lower bound; unknown on too few requests."""
        yield from map(Unknown, window.none_after_the_hit(seen.record))
        yield from map(Unknown, self._too_few(seen))
        needed, sent = self._needed(), seen.measurement.sent or 0
        if needed is None or sent >= needed:
            yield from map(Missed, self._too_many_lost(seen.measurement, sent, bounded=needed is not None))

    def _needed(self) -> int | None:
        """How many requests the demand needs; None: no number shows an availability of 1."""
        return None if self.share >= 1 else requests_needed(self.share, self.confidence)

    def _too_few(self, seen: Observation) -> Iterator[str]:
        measurement, needed = seen.measurement, self._needed()
        # Where an outage ended after the window, `measurement.sent` has more than the window.
        sent, seconds = sent_in_window(seen.record), seen.expectations.window
        if needed is None:
            if not measurement.lost and not measurement.late:
                yield (
                    f"no number of requests shows an availability of 100 %; {sent} without loss show "
                    f"{percent(lower_bound(0, sent))}: demand that, or lost_beyond_in_flight=0"
                )
        elif sent < needed:
            yield (
                f"too few requests: {sent} in the {limit(seconds)} after the fault. An availability of "
                f"{limit_percent(self.share)} is judged on {needed} or more: {math.ceil(needed / seconds)} "
                "requests/s, or a longer window."
            )

    def _too_many_lost(self, measurement: Measurement, sent: int, *, bounded: bool) -> Iterator[str]:
        low, high = measurement.interval or (0.0, 1.0)
        away = (measurement.lost or 0) + (measurement.late or 0)
        # Whole numbers: 1 - 28 / 400 is a little less than 0.93 in floats.
        allowed = 1 - Fraction(str(self.share))
        if Fraction(away) > allowed * sent:
            yield (
                f"{_what_was_lost(measurement)}: {percent((sent - away) / sent)} available "
                f"(95 % interval {percent(low)} to {percent(high)}). Allowed: {limit_percent(float(allowed))} lost"
                f"{' or late' if measurement.late else ''}."
            )
        elif self.confidence is not None and bounded:
            bound = lower_bound(away, sent, self.confidence)
            if bound < self.share - _ROUNDING:
                yield (
                    f"{_what_was_lost(measurement)}: more than {percent(bound)} available at "
                    f"{limit_percent(self.confidence)} confidence. Demanded: {limit_percent(self.share)}."
                )


@dataclass(frozen=True, slots=True)
class LostBeyondInFlight:
    """No more requests were lost than that, apart from those that were in flight when the fault hit."""

    allowed: int
    name: ClassVar[str] = "lost_beyond_in_flight"
    on_requests: ClassVar[bool] = True

    def needs(self, seen: Observation) -> Iterator[str]:
        """It needs requests."""
        yield from window.none_sent(seen.record, seen.measurement)

    def judge(self, seen: Observation) -> Iterator[Objection]:
        """Missed if more were lost, however short the observation was."""
        yield from map(Unknown, window.doubts(seen.record, seen.measurement))
        beyond, in_flight = seen.measurement.lost_beyond_in_flight, seen.measurement.in_flight
        if beyond is not None and beyond > self.allowed:
            yield Missed(
                f"{number(beyond, 'request')} lost beyond the {in_flight} that were "
                f"in flight when the fault hit. Allowed: {self.allowed}."
            )


def _what_was_lost(measurement: Measurement) -> str:
    late = f" and {measurement.late} answered too late" if measurement.late else ""
    errors = f" ({counted(measurement.errors)}{_in_flight(measurement)})" if measurement.errors else ""
    seconds = limit(round(measurement.seconds or 0.0, 1))
    return f"{measurement.lost} of {measurement.sent} requests lost{late} in the {seconds} after the fault{errors}"


def _in_flight(measurement: Measurement) -> str:
    """How many of the lost ones no cluster can save: who misses a share by them alone should demand something else."""
    if not measurement.in_flight:
        return ""
    many = "all" if measurement.in_flight == measurement.lost else str(measurement.in_flight)
    return f"; {many} in flight when it hit"


def demanded(expected: Expectations) -> Iterator[Check]:
    """The check for `availability`, if it is demanded."""
    if expected.availability is not None:
        yield Availability(expected.availability, expected.confidence)


def demanded_beyond_in_flight(expected: Expectations) -> Iterator[Check]:
    """The check for `lost_beyond_in_flight`, if it is demanded."""
    if expected.lost_beyond_in_flight is not None:
        yield LostBeyondInFlight(expected.lost_beyond_in_flight)
